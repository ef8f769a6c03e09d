CSV = "date,amount,category,note\r\n2024-02-03,12.50,Food,bread\r\n"


def test_with_a_byte_order_mark(ada):
    reply = ada.post("/api/import", "\ufeff" + CSV)
    assert (reply.status, reply.json) == (200, {"imported": 1, "duplicates": 0, "errors": []})
    assert ada.get("/api/expenses").json["items"][0]["note"] == "bread"


def test_without_one(ada):
    assert ada.post("/api/import", CSV).json == {"imported": 1, "duplicates": 0, "errors": []}


def test_both_are_the_same_file(ada):
    ada.post("/api/import", CSV)
    assert ada.post("/api/import", "\ufeff" + CSV).json == {"imported": 0, "duplicates": 1, "errors": []}


def test_columns_that_are_really_missing(ada):
    reply = ada.post("/api/import", "\ufeffamount,category\n1,Food\n")
    assert (reply.status, reply.json) == (400, {"error": "these columns are missing: date"})
