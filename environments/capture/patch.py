"""Differences between files as a patch in git's format: text, binary files, modes and symbolic links."""

from __future__ import annotations

import base64
import difflib
import hashlib
import re
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

CONTEXT_LINES = 3
THOROUGH = 1_000_000
"""Old lines times new lines, up to which the shortest difference is looked for; beyond it, the whole middle of the file
is replaced."""
NO_FILE = "0" * 40
FILE_BYTES, PATCH_BYTES = 64 << 20, 256 << 20
"""How large a file, and all files together before and after, may be: those beyond it are not in the patch."""
BASE85_BYTES = 52
"""How many bytes a line of a binary patch holds."""

Edit = tuple[Literal["replace", "delete", "insert", "equal"], int, int, int, int]

_REFUSED = re.compile(r"(\.git|git~1)[ .]*(:.*)?", re.IGNORECASE | re.DOTALL)
_PLAIN = re.compile(rb"[!#-\[\]-~]+")
_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


@dataclass(frozen=True, slots=True)
class File:
    """What git knows of a file."""

    mode: int
    """0o100644, 0o100755 or 0o120000 (a symbolic link); of what git does not know, the type alone."""
    data: bytes = b""
    """The content, or where the link leads."""
    digest: str = ""
    """Stands for the content of a file that is too large for a patch."""

    @staticmethod
    def of(mode: int, data: bytes = b"", digest: str = "") -> File:
        """From the mode that the file system gives."""
        if stat.S_ISREG(mode):
            return File(0o100755 if mode & stat.S_IXUSR else 0o100644, data, digest)
        return File(stat.S_IFMT(mode), data)


@dataclass(frozen=True, slots=True)
class Changed:
    """A file that differs; None where there is none."""

    path: bytes
    before: File | None
    after: File | None

    @property
    def why_left_out(self) -> str:
        """Why no patch can carry all of it; empty if one can."""
        files = [file for file in (self.before, self.after) if file]
        if any(file.digest for file in files):
            return "too large for a patch"
        return "" if all(map(_known_to_git, files)) else "neither a file nor a symbolic link"


class Differences:
    """Files that differ, with no more of their content than a patch should hold."""

    def __init__(self) -> None:
        self.found: list[Changed] = []
        self._room = PATCH_BYTES

    def have_room(self, size: int) -> bool:
        """Is a file of this size to be added with its content? Else its digest stands for it."""
        return size <= min(FILE_BYTES, self._room)

    def add(self, path: bytes, before: File | None, after: File | None) -> None:
        """Nothing happens if they are the same."""
        if before != after:
            self._room -= sum(len(file.data) for file in (before, after) if file)
            self.found.append(Changed(path, before, after))


def refused(name: str) -> bool:
    """Does git refuse this name of a file or folder, because it could be that of a repository's own folder?"""
    return bool(_REFUSED.fullmatch(name))


def patch(changed: Iterable[Changed]) -> bytes:
    """What `git apply` needs to turn the files as they were into those that are, but for what is too large, pipes and
    the like."""
    return b"".join(piece for each in changed for piece in _pieces(each))


def _pieces(changed: Changed) -> Iterator[bytes]:
    before, after = (file if file and _known_to_git(file) else None for file in (changed.before, changed.after))
    if any(file and file.digest for file in (before, after)):
        return
    if before and after and before.mode >> 12 != after.mode >> 12:  # another type: git takes it for two changes
        yield from _one(changed.path, before, None)
        yield from _one(changed.path, None, after)
    elif before != after:
        yield from _one(changed.path, before, after)


def _known_to_git(file: File) -> bool:
    return file.mode >> 12 in (0o10, 0o12)


def _one(path: bytes, before: File | None, after: File | None) -> Iterator[bytes]:
    yield b"diff --git %s %s\n" % (_name(b"a/" + path), _name(b"b/" + path))
    if before is None and after is not None:
        yield b"new file mode %o\n" % after.mode
    elif after is None and before is not None:
        yield b"deleted file mode %o\n" % before.mode
    elif before is not None and after is not None and before.mode != after.mode:
        yield b"old mode %o\nnew mode %o\n" % (before.mode, after.mode)
    old, new = before.data if before else b"", after.data if after else b""
    if before and after and old == new:
        return
    yield f"index {_identity(before)}..{_identity(after)}\n".encode()
    if b"\0" in old or b"\0" in new:
        yield b"GIT binary patch\nliteral %d\n" % len(new)
        yield from _base85(zlib.compress(new))
        yield b"\n"
    elif old != new:
        yield b"--- %s\n" % (_name(b"a/" + path) if before else b"/dev/null")
        yield b"+++ %s\n" % (_name(b"b/" + path) if after else b"/dev/null")
        yield from _hunks(_lines(old), _lines(new))


def _name(path: bytes) -> bytes:
    """Quoted as in C if it has other than plain characters."""
    if _PLAIN.fullmatch(path):
        return path
    quoted = "".join(_ESCAPES.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in path)
    return f'"{quoted}"'.encode()


def _identity(file: File | None) -> str:
    """git's own, which it compares before it replaces a binary file."""
    if file is None:
        return NO_FILE
    return hashlib.sha1(b"blob %d\0" % len(file.data) + file.data, usedforsecurity=False).hexdigest()


def _base85(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), BASE85_BYTES):
        piece = data[start : start + BASE85_BYTES]
        size = len(piece) + (ord("A") - 1 if len(piece) <= 26 else ord("a") - 27)
        yield bytes([size]) + base64.b85encode(piece, pad=True) + b"\n"


def _lines(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def _hunks(old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[bytes]:
    for group in _Edits(old, new).get_grouped_opcodes(CONTEXT_LINES):
        ranges = (_range(group[0][1], group[-1][2]), _range(group[0][3], group[-1][4]))
        yield b"@@ -%s +%s @@\n" % ranges
        for what, old_start, old_end, new_start, new_end in group:
            if what == "equal":
                yield from _marked(b" ", old[old_start:old_end])
            else:
                yield from _marked(b"-", old[old_start:old_end])
                yield from _marked(b"+", new[new_start:new_end])


def _range(start: int, end: int) -> bytes:
    return b"%d,%d" % (start + (end > start), end - start)  # an empty range names the line before it


def _marked(mark: bytes, lines: Iterable[bytes]) -> Iterator[bytes]:
    for line in lines:
        yield mark + line
        if not line.endswith(b"\n"):
            yield b"\n\\ No newline at end of file\n"


class _Edits(difflib.SequenceMatcher[bytes]):
    """Only what lies between the equal beginning and the equal end is looked at closely."""

    def __init__(self, old: Sequence[bytes], new: Sequence[bytes]) -> None:
        super().__init__(None, (), ())
        self._old, self._new = old, new

    def get_opcodes(self) -> list[Edit]:
        old, new = self._old, self._new
        shorter = min(len(old), len(new))
        head = next((index for index in range(shorter) if old[index] != new[index]), shorter)
        tail = next((index for index in range(shorter - head) if old[-1 - index] != new[-1 - index]), shorter - head)
        old_end, new_end = len(old) - tail, len(new) - tail
        middle: list[Edit] = [("replace", 0, old_end - head, 0, new_end - head)]
        if (old_end - head) * (new_end - head) <= THOROUGH:
            middle = difflib.SequenceMatcher(None, old[head:old_end], new[head:new_end], autojunk=False).get_opcodes()
        edits: list[Edit] = [("equal", 0, head, 0, head)] if head else []
        edits += [(what, a + head, b + head, c + head, d + head) for what, a, b, c, d in middle]
        return edits + ([("equal", old_end, len(old), new_end, len(new))] if tail else [])
