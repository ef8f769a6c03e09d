def test_export(client):
    client.spend("2024-02-03", "12.50", note='bread, "dark"')
    client.spend("2024-02-04", "3", note="=1+1")
    answer = client.get("/api/export.csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.text.splitlines() == [
        "date,amount,category,note",
        '2024-02-03,12.50,Food,"bread, ""dark"""',
        "2024-02-04,3.00,Food,'=1+1",
    ]


def test_import(client):
    client.spend("2024-02-03", "12.50", note="bread")
    answer = client.post(
        "/api/import",
        "date,amount,category,note\n2024-02-03,12.50,Food,bread\n2024-02-05,4.00,fun,\n2024-02-30,1,Food,\n",
    )
    assert answer.json == {
        "imported": 1,
        "duplicates": 1,
        "errors": [{"row": 3, "error": "date is not a day of the calendar"}],
    }
    assert client.get("/api/expenses").json["total"] == 2


def test_import_needs_its_columns(client):
    assert client.post("/api/import", "day,cost\n1,2\n").json == {
        "error": "these columns are missing: date, amount, category"
    }
