"""The patch format of `apply_patch`, read into values:

*** Begin Patch
*** Add File: path            every line of the file follows, with + before it
*** Delete File: path
*** Update File: path         may be followed by:  *** Move to: new path
@@ a line of the file         optional, may be repeated: the change lies below this line
 a line that stays
-a line that goes
+a line that comes
*** End of File               optional: the change lies at the end of the file
*** End Patch
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from trellis.tools.tool import ToolError

BEGIN, END, END_OF_FILE = "*** Begin Patch", "*** End Patch", "*** End of File"
_HEADER = re.compile(r"\*\*\* (Add File|Delete File|Update File|Move to):\s*(.*?)\s*")
_LINE_NUMBERS = re.compile(r"@@ -\d+(,\d+)? \+\d+(,\d+)? @@")
_UNIFIED = ("diff --git ", "--- ", "Index: ")


@dataclass(frozen=True, slots=True)
class Hunk:
    """One change. The lines have no line ends."""

    number: int
    """Counted from 1 in its file."""
    below: tuple[str, ...]
    """Lines of the file that it lies below, from the outermost inwards."""
    lines: tuple[tuple[str, str], ...]
    """Pairs of sign (" ", "-", "+") and text."""
    at_end: bool = False

    @property
    def old(self) -> list[str]:
        return [text for sign, text in self.lines if sign != "+"]

    @property
    def lead(self) -> int:
        """How many lines stay before the first change."""
        return next(number for number, (sign, _) in enumerate(self.lines) if sign != " ")

    @property
    def inserts(self) -> bool:
        """Does it begin with a new line?"""
        return self.lines[self.lead][0] == "+"


@dataclass(frozen=True, slots=True)
class Add:
    path: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delete:
    path: str


@dataclass(frozen=True, slots=True)
class Update:
    path: str
    hunks: tuple[Hunk, ...]
    move_to: str = ""


Section = Add | Delete | Update


def parse(patch: str) -> list[Section]:
    """The sections of a patch, in order.

    Raises:
        ToolError: it is not in this format; says which line is wrong and what would be right.
    """
    lines = patch.strip().replace("\r\n", "\n").split("\n")
    if lines[0].rstrip() != BEGIN:
        if lines[0].startswith(_UNIFIED):
            raise ToolError(
                f"this is a unified diff: write it as `{BEGIN}`, `*** Update File: path`, `@@`, lines that begin with "
                f"a space, - or +, and `{END}`; or apply it with `git apply` in a shell"
            )
        raise ToolError(f"the first line of a patch is `{BEGIN}`, not {lines[0][:80]!r}")
    if lines[-1].rstrip() != END or len(lines) == 1:
        raise ToolError(f"the last line of a patch is `{END}`, not {lines[-1][:80]!r}")
    reader = _Reader(lines[:-1])
    sections = []
    while not reader.ended:
        sections.append(reader.section())
    if not sections:
        raise ToolError("the patch is empty: it needs `*** Update File: path`, `*** Add File: path` or "
                        "`*** Delete File: path`")  # fmt: skip
    return sections


class _Reader:
    """Goes over the lines from the second one on."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._at = 1

    @property
    def ended(self) -> bool:
        while self._at < len(self._lines) and not self._lines[self._at].strip():
            self._at += 1
        return self._at == len(self._lines)

    def section(self) -> Section:
        kind, path = self._header()
        if kind == "Add File":
            return Add(path, tuple(self._added()))
        if kind == "Delete File":
            return Delete(path)
        if kind == "Move to":
            raise self._wrong("`*** Move to:` comes right after `*** Update File: path`", self._at - 1)
        move_to = ""
        if self._at < len(self._lines) and self._lines[self._at].startswith("*** Move to:"):
            _, move_to = self._header()
        hunks = list[Hunk]()
        while self._in_section():
            hunks.append(self._hunk(len(hunks) + 1))
        if not hunks and not move_to:
            raise self._wrong(f"nothing is changed in {path}: a section has at least one hunk", self._at - 1)
        return Update(path, tuple(hunks), move_to)

    def _header(self) -> tuple[str, str]:
        line = self._lines[self._at]
        found = _HEADER.fullmatch(line)
        if found is None:
            raise self._wrong(
                "here begins a file: `*** Update File: path`, `*** Add File: path` or `*** Delete File: path`"
            )
        if not found[2] or "\0" in found[2]:
            raise self._wrong("the path of the file is missing, or holds a NUL")
        self._at += 1
        return found[1], found[2]

    def _in_section(self) -> bool:
        """Are there more lines before the next file? Blank ones at its end belong to nobody."""
        at = self._at
        while at < len(self._lines) and not self._lines[at]:
            at += 1
        if at == len(self._lines) or _HEADER.fullmatch(self._lines[at]):
            self._at = at
            return False
        return True

    def _added(self) -> list[str]:
        added = []
        while self._in_section():
            line = self._lines[self._at]
            if not line.startswith("+"):
                raise self._wrong("every line of an added file begins with +")
            added.append(line[1:])
            self._at += 1
        return added

    def _hunk(self, number: int) -> Hunk:
        below = list[str]()
        while self._at < len(self._lines) and (line := self._lines[self._at]).startswith("@@"):
            if _LINE_NUMBERS.match(line):
                raise self._wrong("line numbers are no part of this format: write `@@`, or `@@` and a line of the file")
            if text := line[2:].strip().removesuffix(" @@"):
                below.append(text)
            self._at += 1
        lines = list[tuple[str, str]]()
        at_end = False
        while self._in_section() and not (line := self._lines[self._at]).startswith("@@"):
            self._at += 1
            if line.rstrip() == END_OF_FILE:
                at_end = True
                break
            if line and line[0] not in " -+":
                raise self._wrong("a line of a hunk begins with a space (it stays), - (it goes) or +", self._at - 1)
            lines.append((line[:1] or " ", line[1:]))
        if self._at < len(self._lines) and self._lines[self._at].startswith("@@"):
            while lines and lines[-1] == (" ", "") and not self._lines[self._at - 1]:
                lines.pop()  # a blank line that sets two hunks apart
        if not any(sign != " " for sign, _ in lines):
            raise self._wrong("the hunk that ends here changes nothing: it has neither - nor + lines", self._at - 1)
        return Hunk(number, tuple(below), tuple(lines), at_end)

    def _wrong(self, what: str, at: int | None = None) -> ToolError:
        at = min(self._at if at is None else at, len(self._lines) - 1)
        return ToolError(f"line {at + 1} of the patch, {self._lines[at][:80]!r}: {what}")
