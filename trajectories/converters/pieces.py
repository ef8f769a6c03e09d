"""JSON written piece by piece, so that a document may be larger than what fits into memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file so that it is there whole or not at all; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def document(path: Path) -> Iterator[Pieces]:
    """A file with one JSON object, open for its members."""
    with whole(path) as draft, draft.open("w", encoding="utf-8") as file:
        pieces = Pieces(file)
        with pieces.object():
            yield pieces
        file.write("\n")


class Pieces:
    """One JSON document in the making: `with pieces.object(): pieces.put(1, "one")`."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._first = True

    def put(self, value: Any, name: str | None = None) -> None:
        """A member of the object that is open (`name`), or the next item of the array."""
        self._begin(name)
        self._file.write(dumped(value))

    def members(self, **values: Any) -> None:
        """Members of the object that is open, without those that are None."""
        for name, value in values.items():
            if value is not None:
                self.put(value, name)

    def copied(self, name: str, members: TextIO) -> None:
        """A member that is an object, with members that were written to another file meanwhile."""
        members.seek(0)
        self._begin(name)
        self._file.write("{")
        shutil.copyfileobj(members, self._file)
        self._file.write("}")

    @contextmanager
    def object(self, name: str | None = None) -> Iterator[None]:
        with self._inside("{}", name):
            yield

    @contextmanager
    def array(self, name: str | None = None) -> Iterator[None]:
        with self._inside("[]", name):
            yield

    @contextmanager
    def _inside(self, brackets: str, name: str | None) -> Iterator[None]:
        self._begin(name)
        self._file.write(brackets[0])
        self._first = True
        yield
        self._file.write(brackets[1])
        self._first = False

    def _begin(self, name: str | None) -> None:
        if not self._first:
            self._file.write(",\n")
        self._first = False
        if name is not None:
            self._file.write(f"{json.dumps(name)}:")


def dumped(value: Any) -> str:
    """A value on one line. Half of a surrogate pair, which no UTF-8 file can hold, becomes an escape."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text


def without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
