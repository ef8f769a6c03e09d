"""The web page and the printable month."""

from html import escape
from pathlib import Path

from tally.dates import Month
from tally.expenses import expenses_of
from tally.http import HttpError, Response
from tally.money import format_amount
from tally.reports import month_report

WEB = Path(__file__).parent / "web"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


class Pages:
    def __init__(self, storage):
        self._storage = storage

    def routes(self, router):
        router.add("GET", "/", self.home, public=True)
        router.add("GET", "/static/{name}", self.static, public=True)
        router.add("GET", "/print/{month}", self.printable)

    def home(self, request):
        return page_file("index.html")

    def static(self, request, name):
        return page_file(name)

    def printable(self, request, month):
        try:
            month = Month.parse(month)
        except ValueError as error:
            raise HttpError(404, f"the month {error}") from None
        expenses = [row for row in expenses_of(self._storage, request.user) if row["day"] in month]
        report = month_report(month, expenses)
        lines = "\n".join(
            f"<tr><td>{row['day']}</td><td>{escape(row['category'])}</td><td class=note>{escape(row['note'])}</td>"
            f"<td class=amount>{format_amount(row['cents'])}</td></tr>"
            for row in expenses
        )
        return html_page(
            f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Tally: {month.title}</title>
<link rel="stylesheet" href="/static/style.css"></head>
<body><h1>{month.title}</h1>
<nav><a id="previous" href="/print/{month.previous()}">{month.previous().title}</a>
<a id="next" href="/print/{month.next()}">{month.next().title}</a></nav>
<p>Expenses of {escape(request.user["name"])}: <b id="total">{report["total"]}</b></p>
<table><thead><tr><th>Date<th>Category<th>Note<th>Amount</tr></thead>
<tbody>
{lines}
</tbody></table></body></html>
"""
        )


def html_page(text):
    return Response(200, text.encode(), "text/html; charset=utf-8")


def page_file(name):
    path = WEB / name
    if path.suffix not in TYPES or path.parent != WEB or not path.is_file():
        raise HttpError(404, "there is no such file")
    return Response(200, path.read_bytes(), f"{TYPES[path.suffix]}; charset=utf-8", [("Cache-Control", "no-cache")])
