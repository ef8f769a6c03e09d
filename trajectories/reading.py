"""A log read by parts: where each event lies is found without parsing it, and any event is parsed alone.

Every line begins with the same members in the same order (`Log.append` writes them so), which makes a table of contents
as cheap as finding the ends of lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, NamedTuple

from trellis.trajectories.log import Event, LogError

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


class EventFile:
    """The events of a log by their `seq`. A log that is still being written grows under it: see `refresh`."""

    def __init__(self, path: Path) -> None:
        """Open the log at `path`.

        Raises:
            LogError: a line that is no event, or a gap in `seq`.
            OSError: it cannot be read.
        """
        self.path = path
        self.entries: list[Entry] = []
        self._file: BinaryIO = path.open("rb")
        self._end = 0
        try:
            self.refresh()
        except BaseException:
            self._file.close()
            raise

    def refresh(self) -> bool:
        """Find what was appended since; was there anything? A torn last line is left for later. Raises LogError."""
        self._file.seek(self._end)
        before = len(self.entries)
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            self.entries.append(self._entry(line))
            self._end += len(line)
        return len(self.entries) > before

    def __len__(self) -> int:
        return len(self.entries)

    def event(self, seq: int) -> Event:
        """Raises IndexError (there is none), LogError (damaged)."""
        entry = self.entries[seq]
        self._file.seek(entry.offset)
        return self._parse(self._file.read(entry.length), seq)

    def events(self, seqs: Sequence[int] | None = None) -> Iterator[Event]:
        """All events in order, or those of `seqs`, one at a time."""
        for seq in range(len(self.entries)) if seqs is None else seqs:
            yield self.event(seq)

    def close(self) -> None:
        self._file.close()

    def _entry(self, line: bytes) -> Entry:
        seq = len(self.entries)
        head = _HEAD.match(line, 0, _HEAD_BYTES)
        if head is None:
            raise LogError(f"{self.path}, line {seq + 1}: not an event")
        if int(head[1]) != seq:
            raise LogError(f"{self.path}, line {seq + 1}: event {head[1].decode()} stands where {seq} should")
        branch, kind = (json.loads(b'"' + text + b'"') for text in (head[3], head[4]))
        begun = int(head[5]) if head[5] else None
        return Entry(self._end, len(line), float(head[2]), branch, kind, begun, (head[6] or b"").decode())

    def _parse(self, line: bytes, seq: int) -> Event:
        try:
            event: Event = json.loads(line)
        except ValueError:
            raise LogError(f"{self.path}, line {seq + 1}: not an event") from None
        return event


def tells_of(log: Path, kind: str) -> bool:
    """Does a log hold an event of this kind?

    Raises:
        LogError: it is damaged.
        OSError: it cannot be read.
    """
    with closing(EventFile(log)) as file:
        return any(entry.kind == kind for entry in file.entries)
