import pytest

from tally.money import divide, format_amount, parse_amount, percent, settle, share_out


@pytest.mark.parametrize(
    ("text", "cents"), [("12.50", 1250), ("12.5", 1250), ("3", 300), ("-3", -300), ("1,250.00", 125000), (" 7.05 ", 705)]
)
def test_amounts_are_read(text, cents):
    assert parse_amount(text) == cents


@pytest.mark.parametrize("text", ["", "twelve", "1.234", "1,25", "--2", "12.", ".5", "99999999"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ValueError):
        parse_amount(text)


@pytest.mark.parametrize(("cents", "text"), [(0, "0.00"), (5, "0.05"), (1250, "12.50"), (-325, "-3.25"), (-1999, "-19.99")])
def test_amounts_are_written(cents, text):
    assert format_amount(cents) == text


def test_division_rounds_to_the_nearest_cent():
    assert [divide(100, 3), divide(200, 3), divide(5, 2), divide(-5, 2)] == [33, 67, 3, -3]


def test_percent():
    assert percent(25, 200) == 12.5
    assert percent(1, 0) == 0.0


def test_equal_shares():
    assert share_out(900, [1, 1, 1]) == [300, 300, 300]


def test_settling():
    assert settle({"a": 300, "b": -100, "c": -200}) == [("c", "a", 200), ("b", "a", 100)]
    assert settle({"a": 0, "b": 0}) == []
