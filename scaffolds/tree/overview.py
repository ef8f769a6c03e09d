"""Prints an overview of the data below a folder: the file tree, and what is in the tables and small texts.

Runs inside the task's world (it is sent there as a script), so it needs nothing but the standard library.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_CHARS = 6_000
MAX_ROWS_READ = 20_000
MAX_COLUMNS = 15
"""Columns named for each table once the overview of all columns would be too long."""
MAX_TEXT_LINES = 30

PACKAGES = (
    "numpy pandas scikit-learn=sklearn scipy statsmodels xgboost lightgbm catboost torch torchvision timm "
    "tensorflow transformers pillow=PIL opencv-python=cv2 nltk"
)


def overview(root: Path) -> str:
    """The overview with every column described, or a shorter one where that is too long."""
    for simple in (False, True):
        parts = [f"```\n{chr(10).join(tree(root))}\n```"]
        parts += [described for path in files(root) if (described := describe(path, root, simple))]
        text = "\n\n".join(parts)
        if len(text) <= MAX_CHARS:
            return text
    return f"{text[:MAX_CHARS]}\n... (cut)"


def files(root: Path) -> Iterator[Path]:
    for folder in (root, *sorted(path for path in root.rglob("*") if path.is_dir())):
        yield from _shown(folder)[0]


def _shown(folder: Path) -> tuple[list[Path], int]:
    """The files of a folder that the overview names, and how many more there are."""
    found = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    shown = found[: 4 if len(found) > 30 else 8]
    return shown, len(found) - len(shown)


def tree(folder: Path, indent: str = "") -> Iterator[str]:
    yield f"{indent}{folder.name or folder}/"
    shown, more = _shown(folder)
    for path in shown:
        yield f"{indent}    {path.name} ({_size(path)})"
    if more:
        yield f"{indent}    ... and {more} other files"
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        yield from tree(path, f"{indent}    ")


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size} bytes" if size < 10_000 else f"{size / 1000:.0f} kB" if size < 1e7 else f"{size / 1e6:.0f} MB"


def describe(path: Path, root: Path, simple: bool) -> str:
    name = path.relative_to(root.parent) if root.name else path
    if path.suffix == ".csv":
        return f"-> {name} {describe_table(path, simple)}"
    if path.suffix == ".json":
        return f"-> {name} holds:\n{describe_json(path)}"
    if path.suffix in {".txt", ".md", ".py"} and path.name != "description.md":
        text = path.read_text("utf-8", "replace")
        if len(text.splitlines()) < MAX_TEXT_LINES:
            return f"-> {name} reads:\n\n{text}"
    return ""


def describe_table(path: Path, simple: bool) -> str:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        rows = [row for _, row in zip(range(MAX_ROWS_READ), reader, strict=False) if len(row) == len(header)]
        count = len(rows) + sum(1 for _ in reader)
    title = f"has {count} rows and {len(header)} columns."
    if simple:
        names = header
        if len(header) > MAX_COLUMNS:
            names = [*header[: MAX_COLUMNS - 3], f"... {len(header) - MAX_COLUMNS} more ...", *header[-3:]]
        return f"{title}\nThe columns are: {', '.join(names)}"
    columns = zip(*rows, strict=True) if rows else ((),) * len(header)
    lines = (f"{name} ({describe_column(values)})" for name, values in zip(header, columns, strict=True))
    return "\n".join([title, "Here is some information about the columns:", *lines])


def describe_column(values: tuple[str, ...]) -> str:
    present = [value for value in values if value not in {"", "NA", "NaN", "nan", "null"}]
    missing = f", {len(values) - len(present)} missing" if len(present) < len(values) else ""
    distinct = sorted(set(present))
    try:
        numbers = [float(value) for value in present]
    except ValueError:
        if len(distinct) > 10:
            return f"text, {len(distinct)} different values, for example {json.dumps(distinct[:3])}{missing}"
        return f"text, values {json.dumps(distinct)}{missing}"
    if not numbers:
        return f"empty{missing}"
    whole = all(number.is_integer() for number in numbers)
    if whole and len(distinct) <= 10:
        return f"integer, values {sorted({int(number) for number in numbers})}{missing}"
    kind = "integer" if whole else "float"
    return f"{kind}, from {min(numbers):g} to {max(numbers):g}, {len(distinct)} different values{missing}"


def describe_json(path: Path) -> str:
    try:
        return _schema(json.loads(path.read_text("utf-8", "replace")[:1_000_000]))[:1_000]
    except ValueError:
        return "something that is not JSON as a whole"


def _schema(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_schema(inner)}" for key, inner in list(value.items())[:20]) + "}"
    if isinstance(value, list):
        return f"[{_schema(value[0]) if value else ''}, ...] ({len(value)} items)"
    return type(value).__name__


def installed() -> list[str]:
    names = (entry.partition("=") for entry in PACKAGES.split())
    return [name for name, _, module in names if importlib.util.find_spec(module or name)]


def main() -> None:
    sys.stdout.write(f"{', '.join(installed())}\n\n")
    sys.stdout.write(overview(Path("input") if Path("input").is_dir() else Path()) + "\n")


if __name__ == "__main__":
    main()
