import re


def test_back_from_january(ada):
    text = ada.get("/print/2024-01").text
    assert re.search(r'<a id="previous" href="/print/2023-12">\s*December 2023\s*</a>', text)


def test_the_other_months(ada):
    assert 'href="/print/2024-01"' in ada.get("/print/2024-02").text
    assert 'href="/print/2025-01"' in ada.get("/print/2024-12").text
    assert 'href="/print/2024-11"' in ada.get("/print/2024-12").text


def test_the_trend_over_new_year(ada):
    ada.spend("2023-12-10", "30.00")
    items = ada.get("/api/reports/trend?month=2024-01&months=3").json["items"]
    assert [(i["month"], i["total"], i["change"]) for i in items] == [
        ("2023-11", "0.00", "0.00"), ("2023-12", "30.00", "30.00"), ("2024-01", "0.00", "-30.00")
    ]


def test_clicking_back(page):
    page.goto("/print/2024-02")
    for title in ("January 2024", "December 2023", "November 2023"):
        page.locator("#previous").click()
        page.locator("h1", has_text=title).wait_for()
    page.locator("#next").click()
    page.locator("h1", has_text="December 2023").wait_for()
