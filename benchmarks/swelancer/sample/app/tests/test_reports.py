def test_month(client):
    client.spend("2024-02-03", "10.00")
    client.spend("2024-02-10", "30.00", "Home", note="lamp")
    client.spend("2024-03-10", "99.00")
    report = client.get("/api/reports/month?month=2024-02").json
    assert (report["total"], report["count"], report["average"]) == ("40.00", 2, "20.00")
    assert report["largest"]["note"] == "lamp"
    assert report["categories"] == [
        {"name": "Home", "total": "30.00", "percent": 75.0},
        {"name": "Food", "total": "10.00", "percent": 25.0},
    ]


def test_a_month_without_expenses(client):
    report = client.get("/api/reports/month?month=2024-02").json
    assert report == {
        "month": "2024-02", "total": "0.00", "count": 0, "average": "0.00", "largest": None, "categories": []
    }


def test_year(client):
    client.spend("2024-01-10", "10.00")
    client.spend("2024-12-10", "20.00")
    report = client.get("/api/reports/year?year=2024").json
    assert report["total"] == "30.00"
    assert [m["total"] for m in report["months"]] == ["10.00"] + ["0.00"] * 10 + ["20.00"]


def test_budgets(client):
    ids = {c["name"]: c["id"] for c in client.get("/api/categories").json["items"]}
    for name in ("Food", "Fun", "Home"):
        client.patch(f"/api/categories/{ids[name]}", {"budget": "100.00"})
    client.spend("2024-02-03", "50.00", "Food")
    client.spend("2024-02-03", "100.00", "Fun")
    client.spend("2024-02-03", "120.00", "Home")
    lines = client.get("/api/reports/budgets?month=2024-02").json["items"]
    assert [(line["category"], line["left"], line["state"]) for line in lines] == [
        ("Food", "50.00", "ok"),
        ("Fun", "0.00", "near"),
        ("Home", "-20.00", "over"),
    ]


def test_trend(client):
    client.spend("2024-01-10", "10.00")
    client.spend("2024-02-10", "25.00")
    items = client.get("/api/reports/trend?month=2024-02&months=2").json["items"]
    assert items == [
        {"month": "2024-01", "total": "10.00", "change": "10.00"},
        {"month": "2024-02", "total": "25.00", "change": "15.00"},
    ]


def test_wrong_months_are_refused(client):
    for address in ("month?month=2024-13", "year?year=24", "trend?months=0", "budgets?month=May"):
        assert client.get(f"/api/reports/{address}").status == 400
