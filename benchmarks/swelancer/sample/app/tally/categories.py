"""What expenses are for, each with a monthly budget if one is wanted."""

from tally.http import HttpError, json_response, no_content, whole_number
from tally.money import format_amount
from tally.validation import Form

DEFAULT_CATEGORIES = ("Food", "Home", "Travel", "Fun")


class Categories:
    def __init__(self, storage):
        self._storage = storage

    def routes(self, router):
        router.add("GET", "/api/categories", self.list)
        router.add("POST", "/api/categories", self.create)
        router.add("PATCH", "/api/categories/{id}", self.change)
        router.add("DELETE", "/api/categories/{id}", self.remove)

    def list(self, request):
        return json_response({"items": [as_json(row) for row in categories_of(self._storage, request.user)]})

    def create(self, request):
        form = Form(request.json())
        name = form.text("name", shortest=1, longest=40)
        budget = form.amount("budget", default=NO_BUDGET, positive=True)
        form.check()
        with self._storage.transaction() as storage:
            self._refuse_twice(request.user, name)
            budget = None if budget is NO_BUDGET else budget
            row_id = storage.insert("categories", user_id=request.user["id"], name=name, budget=budget)
        return json_response(as_json(self._own(request.user, row_id)), 201)

    def change(self, request, id):
        category = self._own(request.user, whole_number(id, "the id"))
        form = Form(request.json())
        name = form.text("name", shortest=1, longest=40, default=category["name"])
        budget = form.amount("budget", default=NO_BUDGET, positive=True)
        form.check()
        if "budget" not in form.data:
            budget = category["budget"]
        with self._storage.transaction() as storage:
            self._refuse_twice(request.user, name, but=category["id"])
            storage.update("categories", category["id"], name=name, budget=None if budget is NO_BUDGET else budget)
        return json_response(as_json(self._own(request.user, category["id"])))

    def remove(self, request, id):
        """A category with expenses goes only if they are moved to another one."""
        category = self._own(request.user, whole_number(id, "the id"))
        with self._storage.transaction() as storage:
            if "move_to" in request.query:
                target = self._own(request.user, whole_number(request.query["move_to"], "move_to"))
                for table in ("expenses", "recurring"):
                    for row in storage.all(f"SELECT id FROM {table} WHERE category_id = ?", category["id"]):
                        storage.update(table, row["id"], category_id=target["id"])
            elif any(storage.one(f"SELECT id FROM {t} WHERE category_id = ?", category["id"]) for t in ("expenses", "recurring")):
                raise HttpError(409, "this category is in use; say where its expenses go with move_to")
            storage.delete("categories", id=category["id"])
        return no_content()

    def _own(self, user, row_id):
        row = self._storage.one("SELECT * FROM categories WHERE id = ? AND user_id = ?", row_id, user["id"])
        if row is None:
            raise HttpError(404, "there is no such category")
        return row

    def _refuse_twice(self, user, name, but=None):
        for row in categories_of(self._storage, user):
            if row["name"].lower() == name.lower() and row["id"] != but:
                raise HttpError(409, "there is a category of this name")


NO_BUDGET = object()


def categories_of(storage, user):
    return storage.all("SELECT * FROM categories WHERE user_id = ? ORDER BY name", user["id"])


def find_category(storage, user, name):
    """The user's category of that name, in any case, or None."""
    wanted = name.strip().lower()
    return next((row for row in categories_of(storage, user) if row["name"].lower() == wanted), None)


def as_json(row):
    budget = None if row["budget"] is None else format_amount(row["budget"])
    return {"id": row["id"], "name": row["name"], "budget": budget}
