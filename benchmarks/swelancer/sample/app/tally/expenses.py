"""Expenses: entering, changing, finding."""

from urllib.parse import urlencode

from tally.categories import find_category
from tally.dates import parse_date
from tally.http import HttpError, json_response, no_content, whole_number
from tally.money import format_amount, parse_amount
from tally.validation import Form, from_query

PER_PAGE = 20

SELECT = (
    "SELECT expenses.*, categories.name AS category FROM expenses"
    " JOIN categories ON categories.id = expenses.category_id"
)


class Expenses:
    def __init__(self, storage):
        self._storage = storage

    def routes(self, router):
        router.add("GET", "/api/expenses", self.find)
        router.add("POST", "/api/expenses", self.create)
        router.add("GET", "/api/expenses/{id}", self.show)
        router.add("PATCH", "/api/expenses/{id}", self.change)
        router.add("DELETE", "/api/expenses/{id}", self.remove)

    def find(self, request):
        rows = [row for row in expenses_of(self._storage, request.user) if matches(row, request.query)]
        rows = arrange(rows, request.query.get("sort", "date"), request.query.get("order", "desc"))
        page = max(1, whole_number(request.query.get("page", "1"), "page"))
        per_page = min(100, max(1, whole_number(request.query.get("per_page", str(PER_PAGE)), "per_page")))
        start = (page - 1) * per_page
        following = None
        if page * per_page < len(rows):
            following = "/api/expenses?" + urlencode({**request.query, "page": page + 1})
        return json_response(
            {
                "items": [as_json(row) for row in rows[start : start + per_page]],
                "total": len(rows),
                "sum": format_amount(sum(row["cents"] for row in rows)),
                "page": page,
                "next": following,
            }
        )

    def create(self, request):
        form = Form(request.json())
        values = {
            "day": form.date("date"),
            "cents": form.amount("amount"),
            "note": form.text("note", longest=200, default=""),
            "category_id": self._category(form, request.user),
        }
        form.check()
        row_id = self._storage.insert(
            "expenses", **{**values, "day": values["day"].isoformat()}, user_id=request.user["id"]
        )
        return json_response(as_json(self._own(request.user, row_id)), 201)

    def show(self, request, id):
        return json_response(as_json(self._own(request.user, whole_number(id, "the id"))))

    def change(self, request, id):
        row = self._own(request.user, whole_number(id, "the id"))
        form = Form(request.json())
        values = {
            "day": form.date("date", default=parse_date(row["day"])),
            "cents": form.amount("amount", default=row["cents"]),
            "note": form.text("note", longest=200, default=row["note"]),
            "category_id": self._category(form, request.user) if "category" in form.data else row["category_id"],
        }
        form.check()
        self._storage.update("expenses", row["id"], **{**values, "day": values["day"].isoformat()})
        return json_response(as_json(self._own(request.user, row["id"])))

    def remove(self, request, id):
        row = self._own(request.user, whole_number(id, "the id"))
        self._storage.delete("expenses", id=row["id"])
        return no_content()

    def _own(self, user, row_id):
        row = self._storage.one(SELECT + " WHERE expenses.id = ? AND expenses.user_id = ?", row_id, user["id"])
        if row is None:
            raise HttpError(404, "there is no such expense")
        return row

    def _category(self, form, user):
        name = form.text("category", longest=40)
        category = find_category(self._storage, user, name) if name is not None else None
        if name is not None and category is None:
            form.errors["category"] = "is not one of your categories"
        return category and category["id"]


def expenses_of(storage, user):
    """All expenses of a user, oldest first, each with its day as a date."""
    rows = storage.all(SELECT + " WHERE expenses.user_id = ? ORDER BY expenses.day, expenses.id", user["id"])
    return [{**row, "day": parse_date(row["day"])} for row in rows]


def matches(row, query):
    since, until = from_query(query, "from", parse_date), from_query(query, "to", parse_date)
    least, most = from_query(query, "min", parse_amount), from_query(query, "max", parse_amount)
    words = query.get("q", "").lower().split()
    return (
        (since is None or row["day"] >= since)
        and (until is None or row["day"] <= until)
        and (least is None or row["cents"] >= least)
        and (most is None or row["cents"] <= most)
        and (not query.get("category") or row["category"].lower() == query["category"].strip().lower())
        and all(word in row["note"].lower() for word in words)
    )


def arrange(rows, sort, order):
    """Sorted by date or amount; expenses that are equal in that stay in the order in which they were entered."""
    keys = {"date": "day", "amount": "cents"}
    if sort not in keys:
        raise HttpError(400, "sort must be date or amount", fields={"sort": "must be date or amount"})
    if order not in ("asc", "desc"):
        raise HttpError(400, "order must be asc or desc", fields={"order": "must be asc or desc"})
    return sorted(rows, key=lambda row: row[keys[sort]], reverse=order == "desc")


def as_json(row):
    return {
        "id": row["id"],
        "date": str(row["day"]),
        "amount": format_amount(row["cents"]),
        "category": row["category"],
        "note": row["note"],
    }
