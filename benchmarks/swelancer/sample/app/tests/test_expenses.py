import pytest


@pytest.fixture
def some(client):
    client.spend("2024-02-03", "12.50", note="market")
    client.spend("2024-02-10", "800", "Home", note="rent")
    client.spend("2024-03-01", "7.20", note="coffee beans")
    client.spend("2024-01-20", "64.00", "Travel", note="train")
    return client


def notes(client, query=""):
    return [item["note"] for item in client.get(f"/api/expenses?{query}").json["items"]]


def test_an_expense_is_kept(client):
    made = client.spend("2024-02-03", "12.5", "food", " market ")
    assert made == {"id": 1, "date": "2024-02-03", "amount": "12.50", "category": "Food", "note": "market"}
    assert client.get("/api/expenses/1").json == made


def test_what_is_wrong_is_said_field_by_field(client):
    answer = client.post("/api/expenses", {"date": "2024-02-30", "amount": "lots", "category": "Food"})
    assert answer.status == 400
    assert answer.json["fields"] == {
        "date": "is not a day of the calendar",
        "amount": "must be an amount such as 12.50",
    }
    assert "category" in client.post("/api/expenses", {"date": "2024-02-03", "amount": "1", "category": "X"}).json["fields"]


def test_change_and_delete(client):
    client.spend("2024-02-03", "12.50", note="market")
    changed = client.patch("/api/expenses/1", {"amount": "13.00", "category": "Fun"}).json
    assert (changed["amount"], changed["category"], changed["note"]) == ("13.00", "Fun", "market")
    assert client.delete("/api/expenses/1").status == 204
    assert client.get("/api/expenses/1").status == 404


def test_newest_first(some):
    assert notes(some) == ["coffee beans", "rent", "market", "train"]
    assert notes(some, "sort=amount&order=asc") == ["coffee beans", "market", "train", "rent"]


def test_filters(some):
    assert notes(some, "from=2024-02-01&to=2024-02-20") == ["rent", "market"]
    assert notes(some, "category=travel") == ["train"]
    assert notes(some, "min=10&max=100") == ["market", "train"]
    assert notes(some, "q=beans+coffee") == ["coffee beans"]
    assert some.get("/api/expenses?from=yesterday").status == 400


def test_pages(some):
    first = some.get("/api/expenses?per_page=2").json
    assert (len(first["items"]), first["total"], first["sum"]) == (2, 4, "883.70")
    second = some.get(first["next"]).json
    assert [item["note"] for item in second["items"]] == ["market", "train"]
    assert second["next"] is None


def test_wrong_addresses(client):
    assert client.get("/api/expenses/abc").status == 400
    assert client.get("/api/nothing").status == 404
    answer = client.delete("/api/expenses")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, POST")
