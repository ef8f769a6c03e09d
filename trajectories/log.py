"""The trajectory on disk: an append-only file of events, one JSON object a line.

Every event has `seq` (0, 1, 2, ...), `at` (seconds on the episode's clock), `branch` and `kind`. An event is handed to
the operating system in one write before `append` returns, so it survives `kill -9`. A torn last line, which such a
kill can leave, is cut when the log is opened again; any other damage is an error that names the line.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from trellis.trajectories.redaction import Redaction

SCHEMA = "trellis-trajectory/1"
Event: TypeAlias = dict[str, Any]

encode = json.JSONEncoder(separators=(",", ":"), allow_nan=True).encode


class LogError(Exception):
    """The log cannot be used: damaged, of another schema, or held by another process. One line says which."""


class Log:
    """A trajectory opened for appending, by one process at a time."""

    def __init__(self, path: Path, redact: Redaction | None = None) -> None:
        """Open `path`, or make it with its folder.

        Raises:
            LogError: another process holds it, or it is damaged before its last line.
            OSError: the folder cannot be written.
        """
        self.path = path
        self.redact = redact or Redaction()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _cut_torn_tail(self._fd)
            self.history: list[Event] = list(read(path))
        except BlockingIOError:
            os.close(self._fd)
            raise LogError(f"{path} is being written by another process") from None
        except BaseException:
            os.close(self._fd)
            raise
        self._next = len(self.history)

    def append(self, kind: str, branch: str, at: float, **data: Any) -> int:
        """Write one event and return its `seq`. Raises OSError when the disk refuses; the log then ends torn."""
        seq = self._next
        line = encode({"seq": seq, "at": round(at, 4), "branch": branch, "kind": kind, **data})
        payload = (self.redact(line) + "\n").encode()
        written = os.write(self._fd, payload)
        while written < len(payload):
            written += os.write(self._fd, payload[written:])
        self._next += 1
        return seq

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read(path: Path) -> Iterator[Event]:
    """The events of a log in order, one at a time. A torn last line (a writer may be at work) is left out.

    Raises:
        LogError: a damaged line, a gap in `seq`, or another schema, with the number of the line.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                event = json.loads(line)
                seq, kind = event["seq"], event["kind"]
            except (ValueError, KeyError, TypeError):
                raise LogError(f"{path}, line {number}: not an event") from None
            if seq != number - 1:
                raise LogError(f"{path}, line {number}: event {seq} stands where {number - 1} should")
            if number == 1 and (kind != "header" or event.get("schema") != SCHEMA):
                raise LogError(f"{path}: schema {event.get('schema')!r}; this version reads {SCHEMA!r}")
            yield event


def _cut_torn_tail(fd: int) -> None:
    size = os.fstat(fd).st_size
    end = size
    while end > 0:
        start = max(0, end - 65536)
        chunk = os.pread(fd, end - start, start)
        newline = chunk.rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(fd, end)
