"""Amounts of money: whole cents inside, text such as "12.50" outside. Never floats."""

import re

MAX_CENTS = 100_000_000

_AMOUNT = re.compile(r"([+-]?)(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d{1,2}))?")


def parse_amount(text):
    """Cents of "12.5", "-3" or "1,250.00". Raises ValueError."""
    match = _AMOUNT.fullmatch(str(text).strip())
    if match is None:
        raise ValueError("must be an amount such as 12.50")
    sign, whole, fraction = match.groups()
    cents = int(whole.replace(",", "")) * 100 + int((fraction or "0").ljust(2, "0"))
    if cents > MAX_CENTS:
        raise ValueError("is too large")
    return -cents if sign == "-" else cents


def format_amount(cents):
    sign = "-" if cents < 0 else ""
    whole, rest = divmod(abs(cents), 100)
    return f"{sign}{whole}.{rest:02d}"


def divide(cents, count):
    """The share of one in `count`, rounded to the nearest cent, halves away from zero."""
    share = (2 * abs(cents) + count) // (2 * count)
    return -share if cents < 0 else share


def percent(part, whole):
    """How many percent of `whole` are `part`, to one decimal; 0 of nothing."""
    return round(100 * part / whole, 1) if whole else 0.0


def share_out(cents, weights):
    """Split an amount by weights so that the shares add up to it again.

    Everybody gets the rounded-down share; the cents left over go to the largest remainders, the first person first.
    """
    total = sum(weights)
    shares = [cents * weight // total for weight in weights]
    remainders = [cents * weight % total for weight in weights]
    left_over = cents - sum(shares)
    for index in sorted(range(len(weights)), key=lambda i: -remainders[i])[:left_over]:
        shares[index] += 1
    return shares


def settle(balances):
    """Who pays whom how much, so that everybody is even: [(debtor, creditor, cents)].

    `balances` maps a name to what it is owed (positive) or owes (negative); the sum is 0.
    """
    owed = sorted(((cents, name) for name, cents in balances.items() if cents > 0), reverse=True)
    owing = sorted((cents, name) for name, cents in balances.items() if cents < 0)
    transfers = []
    while owed and owing:
        (credit, creditor), (debt, debtor) = owed.pop(0), owing.pop(0)
        cents = min(credit, -debt)
        transfers.append((debtor, creditor, cents))
        if credit > cents:
            owed.insert(0, (credit - cents, creditor))
        if -debt > cents:
            owing.insert(0, (debt + cents, debtor))
    return transfers
