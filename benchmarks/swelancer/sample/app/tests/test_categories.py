def test_everybody_starts_with_some(client):
    assert [c["name"] for c in client.get("/api/categories").json["items"]] == ["Food", "Fun", "Home", "Travel"]


def test_create_and_change(client):
    made = client.post("/api/categories", {"name": "Garden", "budget": "50"}).json
    assert made["budget"] == "50.00"
    changed = client.patch(f"/api/categories/{made['id']}", {"name": "Plants"}).json
    assert (changed["name"], changed["budget"]) == ("Plants", "50.00")
    assert client.patch(f"/api/categories/{made['id']}", {"budget": None}).json["budget"] is None


def test_names_are_unique(client):
    assert client.post("/api/categories", {"name": "food"}).status == 409


def test_a_used_category_stays_unless_its_expenses_move(client):
    food, fun = client.get("/api/categories").json["items"][:2]
    expense = client.spend("2024-02-03", "4.00")
    assert client.delete(f"/api/categories/{food['id']}").status == 409
    assert client.delete(f"/api/categories/{food['id']}?move_to={fun['id']}").status == 204
    assert client.get(f"/api/expenses/{expense['id']}").json["category"] == "Fun"
