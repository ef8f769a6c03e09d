"""What a journal and an answer are worth: everything that was asked for was done, and nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from trellis.benchmarks.browser.exercises import Deed, Exercise

Entry = Mapping[str, Any]
LARGEST_JOURNAL_BYTES = 4 << 20
NEEDED = {"page": "path", "data": "path", "deed": "body", "refused": "name"}
"""The kinds of entry that the server writes, and what each has."""


class Unreadable(ValueError):
    """The journal is not as the server writes it."""


def read_journal(data: bytes) -> list[Entry]:
    """Raises Unreadable."""
    if len(data) > LARGEST_JOURNAL_BYTES:
        raise Unreadable("the journal is larger than any honest one")
    entries = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            entry = json.loads(line)
            fits = _fits(entry)
        except (ValueError, KeyError, TypeError, RecursionError):
            fits = False
        if not fits:
            raise Unreadable(f"line {number} of the journal is none of the server's")
        entries.append(entry)
    return entries


def _fits(entry: Any) -> bool:
    """Raises ValueError, KeyError or TypeError for much of what does not."""
    json.dumps(entry, ensure_ascii=False).encode()  # half of a surrogate pair is no character
    needed = entry[NEEDED[entry["kind"]]]
    return (entry["kind"] == "deed" or isinstance(needed, str)) and isinstance(entry.get("query") or {}, dict)


def shortcomings(exercise: Exercise, journal: Sequence[Entry], answer: str) -> list[str]:
    """What is missing or wrong, one line each; nothing for full marks."""
    out = [problem for deed in exercise.deeds if (problem := _deed_problem(deed, list(_bodies(journal, deed.name))))]
    out += [f"{name} was done, and must not be" for name in exercise.never if any(_bodies(journal, name))]
    seen = set(_places(journal))
    out += [f"never looked at {place}" for place in exercise.visited if place not in seen]
    if exercise.answer and _plain(answer) != _plain(exercise.answer):
        out.append("the answer is wrong" if answer.strip() else "there is no answer")
    return out


def _deed_problem(deed: Deed, bodies: list[Any]) -> str:
    if not bodies:
        return f"{deed.name} was not done"
    if deed.rule == "once" and len(bodies) > 1:
        return f"{deed.name} was done {len(bodies)} times"
    if bodies[-1] != dict(deed.body):
        return f"{deed.name} was done otherwise than asked for"
    return ""


def _bodies(journal: Iterable[Entry], name: str) -> Iterable[Any]:
    return (entry["body"] for entry in journal if entry["kind"] == "deed" and entry.get("name") == name)


def _places(journal: Iterable[Entry]) -> Iterable[str]:
    for entry in journal:
        if entry["kind"] in ("page", "data") and entry.get("status", 200) == 200:
            query = entry.get("query") or {}
            yield entry["path"]
            if query:
                yield f"{entry['path']}?{urlencode(query)}"


def _plain(answer: str) -> str:
    return " ".join(answer.split()).strip(" .").casefold()
