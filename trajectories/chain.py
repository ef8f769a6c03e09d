"""The chain that ties each event of a log to the one before it.

A line ends with a member `"chain"`: the SHA-256 of the chain value before it and of the line's own text without that
member, in hexadecimal, cut to 32 digits. Nobody can find another text for a given value of 128 bits (two texts with
the same value take 2^64 tries, which somebody who may write the log has no need of); the other 32 digits would only
make every line longer.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from trellis.trajectories import migrations

SCHEMA = migrations.SCHEMAS[-1]
Event: TypeAlias = dict[str, Any]

_DIGITS = 32
_TAIL = len(b',"chain":""}') + _DIGITS


class LogError(Exception):
    """The log cannot be used: damaged, of another schema, or held by another process. One line says which."""


class Damaged(LogError):
    """A line of a log is not what belongs there."""

    def __init__(self, path: Path, line: int, what: str) -> None:
        super().__init__(f"{path}, line {line}: {what}")
        self.line = line
        self.what = what


class StorageFault(LogError):
    """The disk does not take what is to be kept: it is full, say. What happened then cannot be recorded, so that
    nothing more may happen."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"cannot write to {path}: {error.strerror or error}")


def tied(before: bytes, text: bytes) -> tuple[bytes, bytes]:
    """The line for an event, and its chain value; `text` is the event as JSON, `before` the chain value of the event
    before it (of the first: nothing)."""
    value = sha256(before + text).hexdigest()[:_DIGITS].encode()
    return b'%b,"chain":"%b"}\n' % (text[:-1], value), value


class Follower:
    """Goes through a log line by line, and takes nothing that does not follow from what precedes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        """For messages."""
        self.count = 0
        """Lines that it has taken."""
        self.chain = b""
        """The chain value of the last of them; empty where the schema has none."""
        self.schema = ""
        """As written in the log."""

    def take(self, line: bytes) -> Event:
        """The event in a line, as the present schema has it, without its chain value.

        Raises:
            LogError: the line is no event, or not the one that belongs here, or the schema is unknown.
        """
        line = line.removesuffix(b"\n")
        try:
            event: Event = json.loads(line)
            seq, kind = event["seq"], event["kind"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._wrong("not an event") from None
        if seq != self.count:
            raise self._wrong(f"event {seq} stands where {self.count} should")
        if not self.count:
            self.schema = schema_of(event, self.path)
        if self.schema != migrations.UNCHAINED:
            self._follow(line)
        elif "chain" in event:
            raise self._wrong(f"it is chained, which {self.schema} has not: the schema in line 1 was changed")
        event.pop("chain", None)
        self.count += 1
        if self.schema != SCHEMA:
            try:
                return migrations.migrate(event, self.schema)
            except (KeyError, TypeError):
                raise Damaged(self.path, seq + 1, f"{kind!r} is not as {self.schema} has it") from None
        return event

    def whole(self, line: bytes) -> bool:
        """Is this, without an end, the line that belongs here?"""
        return self._value(line) is not None

    def _follow(self, line: bytes) -> None:
        value = self._value(line)
        if value is None:
            raise self._wrong("changed or damaged, or one before it is: its chain value does not follow")
        self.chain = value

    def _value(self, line: bytes) -> bytes | None:
        made, value = tied(self.chain, line[:-_TAIL] + b"}")
        return value if made[:-1] == line else None

    def _wrong(self, what: str) -> Damaged:
        return Damaged(self.path, self.count + 1, what)


def schema_of(first: Event, path: Path) -> str:
    """The schema that a log's first event names. Raises LogError: it is not one that this version reads."""
    schema = first.get("schema")
    if first.get("kind") != "header" or not isinstance(schema, str):
        raise LogError(f"{path}: not a trajectory: it does not begin with a header")
    if schema not in migrations.SCHEMAS:
        newer = schema.startswith(migrations.FAMILY)
        hint = "; it was written by a newer version of Trellis" if newer else ""
        raise LogError(f"{path}: schema {schema!r}; this version reads {SCHEMA!r} and older{hint}")
    return schema
