def test_a_month_without_expenses(ada):
    reply = ada.get("/api/reports/month?month=2024-02")
    assert reply.status == 200
    assert reply.json == {
        "month": "2024-02", "total": "0.00", "count": 0, "average": "0.00", "largest": None, "categories": []
    }


def test_it_can_be_printed(ada):
    assert '<b id="total">0.00</b>' in ada.get("/print/2024-02").text


def test_the_average_of_others(ada):
    ada.spend("2024-02-03", "10.00")
    ada.spend("2024-02-04", "5.01")
    assert ada.get("/api/reports/month?month=2024-02").json["average"] == "7.51"


def test_the_page_greets_without_an_error(page):
    page.wait_for_function("document.getElementById('total').textContent !== ''")
    assert page.locator("#total").text_content() == "0.00"
    assert page.locator("#message").text_content() == ""
