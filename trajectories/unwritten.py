"""What a recorder writes to where nothing is to be kept: a log that goes nowhere, and blobs in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trellis.trajectories.blobs import Blobs
from trellis.trajectories.log import Event, Log
from trellis.trajectories.redaction import Redaction


class NoLog(Log):
    """Numbers its events, and forgets them."""

    def __init__(self) -> None:
        self.path = Path("no log")
        self.redact = Redaction()
        self.cut = 0
        self._next, self._chain = 0, b""

    def history(self) -> Iterator[Event]:
        return iter(())

    def append(self, kind: str, branch: str, at: float, members: str = "", **data: Any) -> int:
        self._next += 1
        return self._next - 1

    def close(self) -> None:
        return None


class HeldBlobs(Blobs):
    """Held as long as the episode is."""

    def __init__(self, redact: Redaction) -> None:
        self._redact = redact
        self._held: dict[str, bytes] = {}

    def close(self) -> None:
        return None

    def store(self, data: bytes) -> str:
        data = self._clean(data)
        name = hashlib.sha256(data).hexdigest()
        self._held[name] = data
        return name

    def load(self, name: str) -> bytes:
        """Raises FileNotFoundError: it was never stored."""
        try:
            return self._held[name]
        except KeyError:
            raise FileNotFoundError(name) from None
