"""Changes of files in a world: all of a set or none of it, and each can be taken back."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, NoReturn
from weakref import WeakKeyDictionary

from trellis.environments.environment import Environment
from trellis.tools.tool import ToolError

LARGEST_BYTES = 16 * 1024 * 1024
"""A larger file is not read as a whole."""

HISTORY_BYTES = 64 * 1024 * 1024
"""What may be kept of the contents of changed files in one world; the oldest changes go first."""

_FACTS = r"""
for path in "$@"; do
    if [ -d "$path" ]; then kind=folder; elif [ -e "$path" ]; then kind=file; else kind=none; fi
    folder=${path%/*}
    while [ -n "$folder" ] && [ ! -d "$folder" ]; do folder=${folder%/*}; done
    link=; [ -L "$path" ] && link=$(readlink -f -- "$path")
    printf '%s\0' "$kind" "$(stat -L -c '%s %a' -- "$path" 2> /dev/null || echo '0 0')" "${folder:-/}" "$link"
done
"""

_REMOVE = r"""
rm -f -- "$0" || exit 1
folder=${0%/*}
while [ "$folder" != "$1" ] && rmdir -- "$folder" 2> /dev/null; do folder=${folder%/*}; done
exit 0
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a path without reading what lies there. Links are followed, but for `link`."""

    path: str
    """Absolute, without `.` and `..`."""
    kind: Literal["file", "folder", "none"]
    size: int
    mode: int
    """Permission bits."""
    folder: str
    """The nearest folder above it that is there."""
    link: str
    """Where the path leads if it is a symlink itself; else empty."""


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one file; None stands for no file."""

    facts: Facts
    """As they were before it."""
    before: bytes | None
    after: bytes | None
    mode: int | None = None
    """Permission bits for a file that is made; None leaves them to the world."""

    @property
    def size(self) -> int:
        """Of both contents, in bytes."""
        return len(self.before or b"") + len(self.after or b"")


@dataclass(slots=True)
class _Made:
    """A change that was made, and what tells whether the file is still as it left it."""

    change: Change
    digest: bytes | None


@dataclass(slots=True)
class _History:
    made: list[_Made] = field(default_factory=list)

    def add(self, change: Change) -> None:
        self.made.append(_Made(change, _digest(change.after)))
        held = sum(entry.change.size for entry in self.made)
        while held > HISTORY_BYTES and len(self.made) > 1:
            held -= self.made.pop(0).change.size


_HISTORIES: WeakKeyDictionary[Environment, _History] = WeakKeyDictionary()
"""What was changed in a world hangs on that world: tools that are made apart share it."""


def remembers(environment: Environment) -> bool:
    """Is there a change that could be taken back?"""
    return bool(_HISTORIES.get(environment, _History()).made)


def absolute(environment: Environment, path: str) -> str:
    """Read and written is the same file: `..` goes up in the name, also behind a link."""
    return posixpath.normpath(posixpath.join(environment.workdir, path))


async def facts(environment: Environment, paths: Sequence[str]) -> list[Facts]:
    """One command for all of them."""
    absolutes = [absolute(environment, path) for path in paths]
    result = await environment.exec(["bash", "-c", _FACTS, "facts", *absolutes], timeout_s=60)
    fields = result.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]
    if not result.ok or len(fields) != 4 * len(paths):
        raise ToolError(f"the files cannot be looked at: {result.text.strip()[:300] or 'no answer'}")
    found = []
    for number, path in enumerate(absolutes):
        kind, numbers, folder, link = fields[4 * number : 4 * number + 4]
        size, mode = numbers.split()
        found.append(Facts(path, kind, int(size), int(mode, 8), folder, link))  # type: ignore[arg-type]
    return found


async def read(environment: Environment, path: str, known: Facts | None = None) -> bytes:
    """The content of a file.

    Raises:
        ToolError: there is none, or it is too large.
    """
    if known is not None and known.kind == "file" and known.size > LARGEST_BYTES:
        raise ToolError(
            f"{path} is too large for this tool ({known.size:,} bytes, at most {LARGEST_BYTES:,}): "
            "change it with a command (sed, python3), look at parts of it with view and view_range"
        )
    try:
        return await environment.read_file(absolute(environment, path))
    except OSError as error:
        refuse(path, error)


async def carry_out(environment: Environment, changes: Sequence[Change]) -> None:
    """Make all changes, or none: where one fails, those before it are taken back.

    Raises:
        ToolError: one failed; says which, and what could not be taken back.
    """
    begun: list[Change] = []
    try:
        for change in changes:
            begun.append(change)
            await _make(environment, change)
    except OSError as error:
        stuck = [c.facts.path for c in reversed(begun) if not await _taken_back(environment, c)]
        problem = about(begun[-1].facts.path, error)
        if stuck:
            raise ToolError(f"{problem}. What it held before could not be written back: {', '.join(stuck)}") from None
        raise ToolError(f"{problem}. Nothing was changed") from None
    history = _HISTORIES.setdefault(environment, _History())
    for change in changes:
        history.add(change)


async def take_back(environment: Environment, path: str) -> Change:
    """Take back the last change that was made here to a file; returns that change.

    Raises:
        ToolError: there is none, or the file is not as it was left.
    """
    (now,) = await facts(environment, [path])
    history = _HISTORIES.get(environment, _History())
    names = {now.path, now.link} - {""}
    mine = [n for n, entry in enumerate(history.made) if {entry.change.facts.path, entry.change.facts.link} & names]
    if not mine:
        raise ToolError(f"there is no change of {path} to take back")
    entry = history.made[mine[-1]]
    current = await read(environment, path, now) if now.kind == "file" else None
    if _digest(current) != entry.digest:
        raise ToolError(
            f"{path} was changed by something else since: taking back the change made here would lose that. View it "
            "and edit it instead"
        )
    try:
        await _make(environment, _reversed(entry.change))
    except OSError as error:
        refuse(path, error)
    del history.made[mine[-1]]
    return entry.change


def about(path: str, error: OSError) -> str:
    """What is wrong with a file, and what to do."""
    match error:
        case FileNotFoundError():
            advice = "does not exist: view the folder to see what is there"
        case IsADirectoryError():
            advice = "is a folder: name a file in it"
        case NotADirectoryError():
            advice = "lies below something that is no folder"
        case PermissionError():
            advice = "may not be read or written by you"
        case _:
            advice = f"cannot be used: {error.strerror or error}"
    return f"{path} {advice}"


def refuse(path: str, error: OSError) -> NoReturn:
    raise ToolError(about(path, error)) from None


async def _make(environment: Environment, change: Change) -> None:
    path = change.facts.path
    if change.after is None:
        folder = change.facts.folder
        if change.facts.link:  # it was made through a link that led nowhere
            path, folder = change.facts.link, posixpath.dirname(change.facts.link)
        result = await environment.exec(["bash", "-c", _REMOVE, path, folder], timeout_s=60)
        if not result.ok:
            raise OSError(None, result.text.strip()[:300] or "it cannot be removed")
        return
    await environment.write_file(path, change.after)
    if change.before is None and change.mode is not None:
        result = await environment.exec(["chmod", f"{change.mode:o}", path], timeout_s=60)
        if not result.ok:
            raise OSError(None, result.text.strip()[:300] or "its mode cannot be set")


async def _taken_back(environment: Environment, change: Change) -> bool:
    with suppress(OSError):
        await _make(environment, _reversed(change))
    try:
        now: bytes | None = await environment.read_file(change.facts.path)
    except OSError:
        now = None
    return now == change.before


def _reversed(change: Change) -> Change:
    """A file that was removed comes back with its mode; one that was made goes, and the folders made for it."""
    return Change(change.facts, change.after, change.before, change.facts.mode)


def _digest(data: bytes | None) -> bytes | None:
    return None if data is None else hashlib.sha256(data).digest()
