"""CSV in and out."""

import csv
import io

from tally.categories import categories_of
from tally.dates import parse_date
from tally.expenses import expenses_of, matches
from tally.http import HttpError, Response, json_response
from tally.money import format_amount, parse_amount

COLUMNS = ("date", "amount", "category", "note")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Exchange:
    def __init__(self, storage):
        self._storage = storage

    def routes(self, router):
        router.add("GET", "/api/export.csv", self.export)
        router.add("POST", "/api/import", self.take_in)

    def export(self, request):
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        for row in expenses_of(self._storage, request.user):
            if matches(row, request.query):
                writer.writerow([row["day"], format_amount(row["cents"]), harmless(row["category"]), harmless(row["note"])])
        disposition = ("Content-Disposition", 'attachment; filename="tally.csv"')
        return Response(200, out.getvalue().encode(), "text/csv; charset=utf-8", [disposition])

    def take_in(self, request):
        """Book each line of a CSV once: a line that equals an expense that is already there is left out."""
        try:
            reader = csv.DictReader(io.StringIO(request.body.decode("utf-8-sig"), newline=""))
            lines = list(reader)
        except (UnicodeDecodeError, csv.Error):
            raise HttpError(400, "this is not a CSV file in UTF-8") from None
        missing = [column for column in COLUMNS[:3] if column not in (reader.fieldnames or ())]
        if missing:
            raise HttpError(400, f"these columns are missing: {', '.join(missing)}")
        imported, duplicates, errors = 0, 0, []
        with self._storage.transaction() as storage:
            names = {row["name"].lower(): row["id"] for row in categories_of(storage, request.user)}
            known = {
                (row["day"], row["cents"], row["category_id"], row["note"])
                for row in expenses_of(storage, request.user)
            }
            for number, line in enumerate(lines, start=1):
                try:
                    key = read_line(line, names)
                except ValueError as error:
                    errors.append({"row": number, "error": str(error)})
                    continue
                if key in known:
                    duplicates += 1
                    continue
                known.add(key)
                day, cents, category_id, note = key
                storage.insert(
                    "expenses",
                    user_id=request.user["id"],
                    category_id=category_id,
                    day=day.isoformat(),
                    cents=cents,
                    note=note,
                )
                imported += 1
        return json_response({"imported": imported, "duplicates": duplicates, "errors": errors})


def read_line(line, category_ids):
    """(day, cents, category id, note) of one line. Raises ValueError."""
    values = {column: (line.get(column) or "").strip() for column in COLUMNS}
    for column, parse in (("date", parse_date), ("amount", parse_amount)):
        try:
            values[column] = parse(values[column])
        except ValueError as error:
            raise ValueError(f"{column} {error}") from None
    category_id = category_ids.get(values["category"].lower())
    if category_id is None:
        raise ValueError("category is not one of yours")
    if len(values["note"]) > 200:
        raise ValueError("note must have at most 200 characters")
    return values["date"], values["amount"], category_id, values["note"]


def harmless(text):
    """Text that a spreadsheet would run as a formula is marked as text."""
    return "'" + text if text.startswith(FORMULA_STARTS) else text
