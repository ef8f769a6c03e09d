"""What the expenses add up to."""

import re

from tally.categories import categories_of
from tally.dates import Month, last_months
from tally.expenses import as_json, expenses_of
from tally.http import json_response
from tally.money import divide, format_amount, percent
from tally.validation import from_query

NEAR_PERCENT = 80


class Reports:
    def __init__(self, storage, today):
        self._storage = storage
        self._today = today

    def routes(self, router):
        router.add("GET", "/api/reports/month", self.month)
        router.add("GET", "/api/reports/year", self.year)
        router.add("GET", "/api/reports/budgets", self.budgets)
        router.add("GET", "/api/reports/trend", self.trend)

    def month(self, request):
        month = self._month(request)
        return json_response(month_report(month, expenses_of(self._storage, request.user)))

    def year(self, request):
        year = from_query(request.query, "year", parse_year, self._today().year)
        rows = expenses_of(self._storage, request.user)
        months = [Month(year, number) for number in range(1, 13)]
        totals = [total_of(month, rows) for month in months]
        return json_response(
            {
                "year": year,
                "total": format_amount(sum(totals)),
                "months": [{"month": str(m), "total": format_amount(t)} for m, t in zip(months, totals)],
            }
        )

    def budgets(self, request):
        month = self._month(request)
        rows = [row for row in expenses_of(self._storage, request.user) if row["day"] in month]
        lines = []
        for category in categories_of(self._storage, request.user):
            if category["budget"] is not None:
                spent = sum(row["cents"] for row in rows if row["category_id"] == category["id"])
                lines.append(budget_line(category["name"], category["budget"], spent))
        return json_response({"month": str(month), "items": lines})

    def trend(self, request):
        months = last_months(self._month(request), from_query(request.query, "months", parse_count, 6))
        rows = expenses_of(self._storage, request.user)
        totals = [total_of(month, rows) for month in months]
        before = [total_of(months[0].previous(), rows), *totals]
        return json_response(
            {
                "items": [
                    {"month": str(month), "total": format_amount(total), "change": format_amount(change(old, total))}
                    for month, total, old in zip(months, totals, before)
                ]
            }
        )

    def _month(self, request):
        today = self._today()
        return from_query(request.query, "month", Month.parse, Month(today.year, today.month))


def month_report(month, expenses):
    rows = [row for row in expenses if row["day"] in month]
    total, count = sum(row["cents"] for row in rows), len(rows)
    by_category = {}
    for row in rows:
        by_category[row["category"]] = by_category.get(row["category"], 0) + row["cents"]
    return {
        "month": str(month),
        "total": format_amount(total),
        "count": count,
        "average": format_amount(divide(total, count) if count else 0),
        "largest": as_json(max(rows, key=lambda row: row["cents"])) if rows else None,
        "categories": [
            {"name": name, "total": format_amount(cents), "percent": percent(cents, total)}
            for name, cents in sorted(by_category.items(), key=lambda item: (-item[1], item[0]))
        ],
    }


def total_of(month, rows):
    return sum(row["cents"] for row in rows if row["day"] in month)


def change(before, after):
    """How much more was spent than before; negative when it was less."""
    return after - before


def budget_line(name, budget, spent):
    """A budget that is used up is not yet overrun; from 80 percent on it is near."""
    state = "ok"
    if spent > budget:
        state = "over"
    elif spent * 100 >= budget * NEAR_PERCENT:
        state = "near"
    return {
        "category": name,
        "budget": format_amount(budget),
        "spent": format_amount(spent),
        "left": format_amount(budget - spent),
        "state": state,
    }


def parse_year(text):
    if not re.fullmatch(r"[1-9]\d{3}", text):
        raise ValueError("must be a year such as 2024")
    return int(text)


def parse_count(text):
    if not re.fullmatch(r"\d{1,2}", text) or not 1 <= int(text) <= 24:
        raise ValueError("must lie between 1 and 24")
    return int(text)
