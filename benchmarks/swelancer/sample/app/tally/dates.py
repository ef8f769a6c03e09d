"""Days, months and repeating dates."""

import calendar
import re
from dataclasses import dataclass
from datetime import date, timedelta


def parse_date(text):
    """A day such as "2024-02-29". Raises ValueError."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(text)):
        raise ValueError("must be a date such as 2024-02-29")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("is not a day of the calendar") from None


@dataclass(frozen=True, order=True)
class Month:
    year: int
    number: int

    @classmethod
    def parse(cls, text):
        """A month such as "2024-02". Raises ValueError."""
        match = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", str(text))
        if match is None or match[1] == "0000":
            raise ValueError("must be a month such as 2024-02")
        return cls(int(match[1]), int(match[2]))

    @property
    def first(self):
        return date(self.year, self.number, 1)

    @property
    def last(self):
        return date(self.year, self.number, calendar.monthrange(self.year, self.number)[1])

    @property
    def title(self):
        return f"{calendar.month_name[self.number]} {self.year}"

    def __contains__(self, day):
        return self.first <= day <= self.last

    def __str__(self):
        return f"{self.year:04d}-{self.number:02d}"

    def next(self):
        return Month(self.year + 1, 1) if self.number == 12 else Month(self.year, self.number + 1)

    def previous(self):
        return Month(self.year - 1, 12) if self.number == 1 else Month(self.year, self.number - 1)


def last_months(month, count):
    """`count` months that end with `month`, oldest first."""
    months = [month]
    while len(months) < count:
        months.insert(0, months[0].previous())
    return months


def add_months(day, count):
    """The same day `count` months later; the last of the month where that month is too short."""
    years, index = divmod(day.month - 1 + count, 12)
    year, number = day.year + years, index + 1
    return date(year, number, min(day.day, calendar.monthrange(year, number)[1]))


def repeat(start, every, until):
    """All days from `start` to `until` (included) at a weekly, monthly or yearly distance from `start`."""
    days = []
    while True:
        count = len(days)
        if every == "week":
            day = start + timedelta(weeks=count)
        else:
            day = add_months(start, count * (12 if every == "year" else 1))
        if day > until:
            return days
        days.append(day)
