"""What a request's JSON may hold. All that is wrong is reported at once, field by field."""

from tally.dates import parse_date
from tally.http import HttpError
from tally.money import parse_amount


class Form:
    """Reads fields from a JSON object; `check()` raises HttpError 400 if any was wrong."""

    def __init__(self, data):
        self.data = data
        self.errors = {}

    def check(self):
        if self.errors:
            raise HttpError(400, "some fields are not right", fields=self.errors)

    def _read(self, field, convert, default):
        if field not in self.data or self.data[field] is None:
            if default is REQUIRED:
                self.errors[field] = "is missing"
                return None
            return default
        try:
            return convert(self.data[field])
        except ValueError as error:
            self.errors[field] = str(error)
            return None

    def text(self, field, *, longest, default=None, shortest=0):
        def convert(value):
            if not isinstance(value, str):
                raise ValueError("must be text")
            value = value.strip()
            if len(value) < shortest:
                raise ValueError(f"must have at least {shortest} characters" if value else "must not be empty")
            if len(value) > longest:
                raise ValueError(f"must have at most {longest} characters")
            return value

        return self._read(field, convert, REQUIRED if default is None else default)

    def amount(self, field, *, default=None, positive=False):
        def convert(value):
            if isinstance(value, bool) or not isinstance(value, (str, int)):
                raise ValueError('must be an amount such as "12.50"')
            cents = parse_amount(value)
            if positive and cents <= 0:
                raise ValueError("must be more than 0")
            return cents

        return self._read(field, convert, REQUIRED if default is None else default)

    def date(self, field, default=None):
        return self._read(field, parse_date, REQUIRED if default is None else default)

    def number(self, field, *, least, most, default=None):
        def convert(value):
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError("must be a whole number")
            if not least <= value <= most:
                raise ValueError(f"must lie between {least} and {most}")
            return value

        return self._read(field, convert, REQUIRED if default is None else default)

    def choice(self, field, options, default=None):
        def convert(value):
            if value not in options:
                raise ValueError(f"must be one of {', '.join(options)}")
            return value

        return self._read(field, convert, REQUIRED if default is None else default)

    def rows(self, field, most=50):
        """A list of JSON objects, as one form each."""

        def convert(value):
            if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
                raise ValueError("must be a list of objects")
            if not 1 <= len(value) <= most:
                raise ValueError(f"must have 1 to {most} entries")
            return [Form(row) for row in value]

        return self._read(field, convert, REQUIRED) or []


REQUIRED = object()


def from_query(query, field, parse, default=None):
    """A value from the query string, or the default where it is missing or empty. Raises HttpError 400."""
    text = query.get(field, "")
    if not text:
        return default
    try:
        return parse(text)
    except ValueError as error:
        raise HttpError(400, f"{field} {error}", fields={field: str(error)}) from None
