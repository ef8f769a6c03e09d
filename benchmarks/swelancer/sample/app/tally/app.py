"""Puts everything together: a WSGI application over one SQLite file."""

import sys
import time
import traceback
from datetime import date

from tally.accounts import Accounts
from tally.categories import Categories
from tally.exchange import Exchange
from tally.expenses import Expenses
from tally.http import HttpError, Request, Router
from tally.pages import Pages
from tally.recurring import Recurring
from tally.reports import Reports
from tally.sharing import Sharing
from tally.storage import Storage

HASH_ITERATIONS = 60_000


def create_app(database, *, clock=time.time, today=date.today, iterations=HASH_ITERATIONS):
    """The application; `clock` and `today` tell the time, `iterations` is the cost of a password's hash."""
    storage = Storage(database)
    accounts = Accounts(storage, clock, iterations)
    router = Router()
    for part in (
        accounts,
        Categories(storage),
        Expenses(storage),
        Recurring(storage),
        Reports(storage, today),
        Exchange(storage),
        Sharing(),
        Pages(storage),
    ):
        part.routes(router)

    def answer(environ):
        request = Request.from_environ(environ)
        handler, arguments, public = router.find(request.method, request.path)
        if not public:
            request.user = accounts.identify(request)
            if request.user is None:
                raise HttpError(401, "please sign in")
        return handler(request, **arguments)

    def application(environ, start_response):
        try:
            response = answer(environ)
        except HttpError as error:
            response = error.response()
        except Exception:
            traceback.print_exc(file=sys.stderr)
            response = HttpError(500, "something went wrong").response()
        return response.send(start_response)

    return application
