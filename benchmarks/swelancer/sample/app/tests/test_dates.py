from datetime import date

import pytest

from tally.dates import Month, add_months, last_months, parse_date, repeat


def test_dates_are_read():
    assert parse_date("2024-02-29") == date(2024, 2, 29)
    for text in ("2023-02-29", "29.2.2024", "2024-2-9", "", "2024-13-01"):
        with pytest.raises(ValueError):
            parse_date(text)


def test_months():
    month = Month.parse("2024-02")
    assert (month.first, month.last) == (date(2024, 2, 1), date(2024, 2, 29))
    assert date(2024, 2, 14) in month
    assert date(2024, 3, 1) not in month
    assert str(month.next()) == "2024-03"
    assert str(Month(2024, 12).next()) == "2025-01"
    assert str(month.previous()) == "2024-01"
    assert month.title == "February 2024"


def test_last_months():
    assert [str(m) for m in last_months(Month(2024, 5), 3)] == ["2024-03", "2024-04", "2024-05"]


def test_adding_months():
    assert add_months(date(2024, 11, 15), 3) == date(2025, 2, 15)
    assert add_months(date(2024, 1, 31), 1) == date(2024, 2, 29)


def test_repeating():
    assert repeat(date(2024, 1, 1), "week", date(2024, 1, 15)) == [date(2024, 1, 1), date(2024, 1, 8), date(2024, 1, 15)]
    assert repeat(date(2024, 1, 10), "month", date(2024, 3, 9)) == [date(2024, 1, 10), date(2024, 2, 10)]
    assert repeat(date(2024, 1, 1), "year", date(2023, 1, 1)) == []
