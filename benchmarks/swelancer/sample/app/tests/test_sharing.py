def test_share(client):
    people = [{"name": "ada"}, {"name": "bob", "weight": 2}]
    assert client.post("/api/share", {"amount": "30", "people": people}).json == {
        "shares": [{"name": "ada", "amount": "10.00"}, {"name": "bob", "amount": "20.00"}]
    }


def test_settle(client):
    paid = [{"name": "ada", "amount": "30"}, {"name": "bob", "amount": "10"}]
    assert client.post("/api/settle", {"paid": paid}).json == {
        "each": "20.00",
        "transfers": [{"from": "bob", "to": "ada", "amount": "10.00"}],
    }
