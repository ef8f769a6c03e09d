def test_the_last_day_belongs_to_the_month(ada):
    ada.spend("2024-02-29", "800.00", "Home", "rent")
    ada.spend("2024-02-28", "10.00")
    report = ada.get("/api/reports/month?month=2024-02").json
    assert (report["total"], report["count"]) == ("810.00", 2)
    assert report["largest"]["note"] == "rent"


def test_in_every_report(ada):
    ada.spend("2023-12-31", "5.00")
    assert ada.get("/api/reports/year?year=2023").json["months"][11]["total"] == "5.00"
    assert '<b id="total">5.00</b>' in ada.get("/print/2023-12").text


def test_but_not_its_neighbours(ada):
    ada.spend("2024-01-31", "1.00")
    ada.spend("2024-02-01", "2.00")
    ada.spend("2024-03-01", "4.00")
    assert ada.get("/api/reports/month?month=2024-02").json["total"] == "2.00"
