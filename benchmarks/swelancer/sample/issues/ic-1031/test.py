import pytest


@pytest.mark.parametrize("amount", ["-3.25", "-0.05", "-12.00", "-0.99", "3.25", "0.00"])
def test_amounts_come_back_as_they_were_typed(ada, amount):
    made = ada.spend("2024-02-03", amount)
    assert made["amount"] == amount
    assert ada.get(f"/api/expenses/{made['id']}").json["amount"] == amount
    assert f"2024-02-03,{amount},Food," in ada.get("/api/export.csv").text


def test_an_overrun_budget(ada):
    ada.patch(f"/api/categories/{ada.categories()['Fun']}", {"budget": "10.00"})
    ada.spend("2024-02-03", "12.35", "Fun")
    assert ada.get("/api/reports/budgets?month=2024-02").json["items"][0]["left"] == "-2.35"
