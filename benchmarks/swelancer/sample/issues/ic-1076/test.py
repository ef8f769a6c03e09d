from decimal import Decimal

import pytest


def share(ada, amount, *weights):
    people = [{"name": f"p{i}", "weight": weight} for i, weight in enumerate(weights)]
    return [s["amount"] for s in ada.post("/api/share", {"amount": amount, "people": people}).json["shares"]]


@pytest.mark.parametrize(
    ("amount", "weights", "shares"),
    [
        ("10.00", (1, 1, 1), ["3.34", "3.33", "3.33"]),
        ("0.05", (1, 1), ["0.03", "0.02"]),
        ("100.00", (1, 2, 3), ["16.67", "33.33", "50.00"]),
        ("0.02", (1, 1, 1), ["0.01", "0.01", "0.00"]),
        ("1.00", (3, 3, 1), ["0.43", "0.43", "0.14"]),
        ("10.01", (1, 999, 1000), ["0.01", "5.00", "5.00"]),
    ],
)
def test_shares(ada, amount, weights, shares):
    assert share(ada, amount, *weights) == shares


def test_they_always_add_up(ada):
    for cents in (1, 7, 99, 100, 1234, 99999):
        amount = f"{cents // 100}.{cents % 100:02d}"
        for weights in ((1, 1, 1), (2, 3, 5, 7), (1, 10, 100), (6, 6, 6, 6, 6, 6, 7)):
            shares = [Decimal(s) for s in share(ada, amount, *weights)]
            assert sum(shares) == Decimal(amount)
            for weight, got in zip(weights, shares):
                assert abs(got - Decimal(amount) * weight / sum(weights)) < Decimal("0.01")
