RENT = {"start": "2024-01-10", "every": "month", "amount": "800", "category": "Home", "note": "rent"}


def test_what_is_due_is_booked_once(client):
    assert client.post("/api/recurring", RENT).status == 201
    assert client.post("/api/recurring/run", {"until": "2024-03-09"}).json == {"booked": 2}
    assert client.post("/api/recurring/run", {"until": "2024-03-10"}).json == {"booked": 1}
    dates = [item["date"] for item in client.get("/api/expenses").json["items"]]
    assert dates == ["2024-03-10", "2024-02-10", "2024-01-10"]


def test_stopping(client):
    made = client.post("/api/recurring", RENT).json
    assert client.get("/api/recurring").json["items"] == [made]
    assert client.delete(f"/api/recurring/{made['id']}").status == 204
    assert client.post("/api/recurring/run", {"until": "2024-03-10"}).json == {"booked": 0}


def test_wrong_distance(client):
    assert client.post("/api/recurring", {**RENT, "every": "hour"}).json["fields"] == {
        "every": "must be one of week, month, year"
    }
