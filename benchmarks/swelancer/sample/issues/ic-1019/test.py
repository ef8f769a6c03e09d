import pytest


@pytest.mark.parametrize(
    ("spent", "left", "state"),
    [("79.99", "20.01", "ok"), ("80.00", "20.00", "near"), ("100.00", "0.00", "near"), ("100.01", "-0.01", "over")],
)
def test_states(ada, spent, left, state):
    ada.patch(f"/api/categories/{ada.categories()['Fun']}", {"budget": "100.00"})
    ada.spend("2024-02-03", spent, "Fun")
    (line,) = ada.get("/api/reports/budgets?month=2024-02").json["items"]
    assert line == {"category": "Fun", "budget": "100.00", "spent": spent, "left": left, "state": state}
