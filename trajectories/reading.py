"""A log read by parts: where each event lies is found without parsing it, and any event is parsed alone.

Every line begins with the same members in the same order (`Log.append` writes them so), which makes a table of contents
as cheap as finding the ends of lines. A packed log has that table in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from trellis.trajectories import disk
from trellis.trajectories.chain import SCHEMA, Damaged, Event, schema_of
from trellis.trajectories.migrations import migrate

if TYPE_CHECKING:
    from trellis.trajectories.packing import Pack

_STRING = rb'"((?:[^"\\]|\\.)*)"'
_HEAD = re.compile(
    rb'\{"seq":(\d+),"at":([-+.\deE]+),"branch":' + _STRING + rb',"kind":' + _STRING +
    rb'(?:,"begun":(\d+)|,"hash":"([0-9a-f]+)")?'
)  # fmt: skip
_HEAD_BYTES = 4096
"""Enough of a line to read its head in."""


class Entry(NamedTuple):
    """Where an event lies, and what its line begins with."""

    offset: int
    length: int
    at: float
    branch: str
    kind: str
    begun: int | None
    """Of an event `*.done`: the `seq` of the event that began."""
    hash: str
    """Of an event `message` or `tools`: its name."""


def head_of(line: bytes) -> bytes | None:
    """What an event's line begins with; None: it is not one."""
    head = _HEAD.match(line, 0, _HEAD_BYTES)
    return head and head[0]


class EventFile:
    """The events of a log by their `seq`. A log that is still being written grows under it: see `refresh`."""

    def __init__(self, path: Path) -> None:
        """Open the log at `path`, plain or packed, whichever of the two there is.

        Raises:
            LogError: a line that is no event, a gap in `seq`, or a schema that is not known.
            OSError: it cannot be read.
        """
        self.path = disk.existing(path)
        self.entries: list[Entry] = []
        self.schema = ""
        """As written in the log; its events are read as the present schema has them."""
        self._texts: dict[bytes, str] = {}
        """Names of branches and kinds, which come again and again."""
        self._end = 0
        self._file: _Plain | Pack
        if disk.is_packed(self.path):
            from trellis.trajectories.packing import Pack

            self._file = Pack(self.path)
        else:
            self._file = _Plain(self.path)
        try:
            self.refresh()
        except BaseException:
            self._file.close()
            raise

    def refresh(self) -> bool:
        """Find what was appended since; was there anything? A torn last line is left for later. Raises LogError."""
        before = len(self.entries)
        for length, head in self._file.index():
            self.entries.append(self._entry(length, head))
            self._end += length
        if self.entries and not self.schema:
            self.schema = SCHEMA  # so that the header comes as it is written
            self.schema = schema_of(self.event(0), self.path)
        return len(self.entries) > before

    def __len__(self) -> int:
        return len(self.entries)

    def event(self, seq: int) -> Event:
        """Raises IndexError (there is none), LogError (damaged)."""
        entry = self.entries[seq]
        return self._parse(self._file.read(entry.offset, entry.length), seq)

    def events(self, seqs: Iterable[int] | None = None) -> Iterator[Event]:
        """All events in order, or those of `seqs`, one at a time."""
        for seq in range(len(self.entries)) if seqs is None else seqs:
            yield self.event(seq)

    def close(self) -> None:
        self._file.close()

    def _entry(self, length: int, line: bytes) -> Entry:
        seq = len(self.entries)
        head = _HEAD.match(line, 0, _HEAD_BYTES)
        if head is None:
            raise Damaged(self.path, seq + 1, "not an event")
        number, at, branch, kind, begun, name = head.groups()
        if int(number) != seq:
            raise Damaged(self.path, seq + 1, f"event {number.decode()} stands where {seq} should")
        try:
            return Entry(
                self._end,
                length,
                float(at),
                self._texts.get(branch) or self._text(branch),
                self._texts.get(kind) or self._text(kind),
                int(begun) if begun else None,
                name.decode() if name else "",
            )
        except ValueError:
            raise Damaged(self.path, seq + 1, "not an event") from None

    def _text(self, raw: bytes) -> str:
        text: str = json.loads(b'"' + raw + b'"')
        self._texts[raw] = text
        return text

    def _parse(self, line: bytes, seq: int) -> Event:
        try:
            event: Event = json.loads(line)
            event.pop("chain", None)
            return event if self.schema == SCHEMA else migrate(event, self.schema)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Damaged(self.path, seq + 1, "not an event") from None


def tells_of(log: Path, kind: str) -> bool:
    """Does a log hold an event of this kind?

    Raises:
        LogError: it is damaged.
        OSError: it cannot be read.
    """
    with closing(EventFile(log)) as file:
        return any(entry.kind == kind for entry in file.entries)


class _Plain:
    """A log that is not packed."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        self._end = 0

    def index(self) -> Iterator[tuple[int, bytes]]:
        """Length and text of each whole line that was not there before."""
        self._file.seek(self._end)
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            self._end += len(line)
            yield len(line), line

    def read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)

    def close(self) -> None:
        self._file.close()
