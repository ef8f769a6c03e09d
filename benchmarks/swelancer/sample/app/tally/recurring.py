"""Expenses that repeat: entered once, booked whenever `run` is asked for."""

from tally.categories import find_category
from tally.dates import parse_date, repeat
from tally.http import HttpError, json_response, no_content, whole_number
from tally.money import format_amount
from tally.validation import Form

EVERY = ("week", "month", "year")
SELECT = (
    "SELECT recurring.*, categories.name AS category FROM recurring"
    " JOIN categories ON categories.id = recurring.category_id WHERE recurring.user_id = ?"
)


class Recurring:
    def __init__(self, storage):
        self._storage = storage

    def routes(self, router):
        router.add("GET", "/api/recurring", self.list)
        router.add("POST", "/api/recurring", self.create)
        router.add("POST", "/api/recurring/run", self.run)
        router.add("DELETE", "/api/recurring/{id}", self.remove)

    def list(self, request):
        rows = self._storage.all(SELECT + " ORDER BY recurring.id", request.user["id"])
        return json_response({"items": [as_json(row) for row in rows]})

    def create(self, request):
        form = Form(request.json())
        start = form.date("start")
        every = form.choice("every", EVERY)
        cents = form.amount("amount")
        note = form.text("note", longest=200, default="")
        name = form.text("category", longest=40)
        category = find_category(self._storage, request.user, name or "")
        if name is not None and category is None:
            form.errors["category"] = "is not one of your categories"
        form.check()
        row_id = self._storage.insert(
            "recurring",
            user_id=request.user["id"],
            category_id=category["id"],
            start=start.isoformat(),
            every=every,
            cents=cents,
            note=note,
        )
        return json_response(as_json(self._own(request.user, row_id)), 201)

    def run(self, request):
        """Book what is due until that day. What was booked before is not booked again, however often this runs."""
        form = Form(request.json())
        until = form.date("until")
        form.check()
        booked = 0
        with self._storage.transaction() as storage:
            for row in storage.all(SELECT, request.user["id"]):
                done = {r["day"] for r in storage.all("SELECT day FROM expenses WHERE recurring_id = ?", row["id"])}
                for day in repeat(parse_date(row["start"]), row["every"], until):
                    if day.isoformat() not in done:
                        self._book(row, day)
                        booked += 1
        return json_response({"booked": booked})

    def _book(self, row, day):
        self._storage.insert(
            "expenses",
            user_id=row["user_id"],
            category_id=row["category_id"],
            day=day.isoformat(),
            cents=row["cents"],
            note=row["note"],
            recurring_id=row["id"],
        )

    def remove(self, request, id):
        row = self._own(request.user, whole_number(id, "the id"))
        self._storage.delete("recurring", id=row["id"])
        return no_content()

    def _own(self, user, row_id):
        row = self._storage.one(SELECT + " AND recurring.id = ?", user["id"], row_id)
        if row is None:
            raise HttpError(404, "there is no such recurring expense")
        return row


def as_json(row):
    return {
        "id": row["id"],
        "start": row["start"],
        "every": row["every"],
        "amount": format_amount(row["cents"]),
        "category": row["category"],
        "note": row["note"],
    }
