"""Sign-up, sign-in and sessions."""

import hashlib
import hmac
import secrets

from tally.categories import DEFAULT_CATEGORIES
from tally.http import HttpError, json_response, no_content
from tally.validation import Form

COOKIE = "tally_session"
SESSION_S = 14 * 24 * 3600
ATTEMPTS = 5
ATTEMPTS_S = 15 * 60


class Accounts:
    def __init__(self, storage, clock, iterations):
        self._storage = storage
        self._clock = clock
        self._iterations = iterations
        self._failures = {}

    def routes(self, router):
        router.add("POST", "/api/signup", self.sign_up, public=True)
        router.add("POST", "/api/login", self.sign_in, public=True)
        router.add("POST", "/api/logout", self.sign_out, public=True)
        router.add("GET", "/api/me", self.me)

    def identify(self, request):
        """The signed-in user, or None."""
        session = self._storage.one("SELECT * FROM sessions WHERE token = ?", request.cookies.get(COOKIE, ""))
        if session is None or session["expires"] <= self._clock():
            return None
        return self._storage.one("SELECT id, name FROM users WHERE id = ?", session["user_id"])

    def sign_up(self, request):
        form = Form(request.json())
        name = form.text("name", shortest=1, longest=40)
        password = form.text("password", shortest=8, longest=200)
        form.check()
        salt = secrets.token_bytes(16)
        with self._storage.transaction() as storage:
            if storage.one("SELECT id FROM users WHERE login = ?", login_of(name)):
                raise HttpError(409, "this name is taken")
            user_id = storage.insert(
                "users", name=name, login=login_of(name), salt=salt, hash=self._hash(password, salt)
            )
            for category in DEFAULT_CATEGORIES:
                storage.insert("categories", user_id=user_id, name=category)
        return json_response({"name": name}, 201, headers=[self._start_session(user_id)])

    def sign_in(self, request):
        form = Form(request.json())
        login = login_of(form.text("name", longest=200) or "")
        password = form.text("password", longest=200)
        form.check()
        self._refuse_guessing(login)
        user = self._storage.one("SELECT * FROM users WHERE login = ?", login)
        if user is None or not hmac.compare_digest(user["hash"], self._hash(password, user["salt"])):
            self._failures.setdefault(login, []).append(self._clock())
            raise HttpError(401, "name or password is wrong")
        self._failures.pop(login, None)
        return json_response({"name": user["name"]}, headers=[self._start_session(user["id"])])

    def sign_out(self, request):
        self._storage.delete("sessions", token=request.cookies.get(COOKIE, ""))
        return no_content([session_cookie("", 0)])

    def me(self, request):
        return json_response({"name": request.user["name"]})

    def _refuse_guessing(self, login):
        since = self._clock() - ATTEMPTS_S
        recent = [at for at in self._failures.get(login, []) if at > since]
        self._failures[login] = recent
        if len(recent) >= ATTEMPTS:
            raise HttpError(429, "too many attempts; try again later", headers=[("Retry-After", str(ATTEMPTS_S))])

    def _start_session(self, user_id):
        token = secrets.token_urlsafe(24)
        self._storage.insert("sessions", token=token, user_id=user_id, expires=self._clock() + SESSION_S)
        return session_cookie(token, SESSION_S)

    def _hash(self, password, salt):
        return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, self._iterations)


def login_of(name):
    """Names that differ in case or in outer spaces belong to the same person."""
    return name.strip().lower()


def session_cookie(token, max_age):
    return ("Set-Cookie", f"{COOKIE}={token}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax")
