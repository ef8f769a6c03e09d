"""What batches are under way, on disk: so that a run that was killed finds those that it has paid for."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from trellis.models.user_folder import write_whole

_KEPT_S = 28 * 86_400.0
"""Results can be had for 29 days (Anthropic) or 30 (OpenAI); what is older is forgotten."""


class Ledger:
    """Which request waits in which batch: a file for each batch with the ids of its requests, and one, which only
    grows, with those of which the answers have been handed out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._batch_of: dict[str, str] = {}
        self._open: dict[str, set[str]] = {}
        """Requests by batch whose answers are still to be handed out."""
        for file in sorted(folder.glob("*.json")) if folder.is_dir() else ():
            self._read(file)

    def batch_of(self, request: str) -> str | None:
        return self._batch_of.get(request)

    def requests(self, batch: str) -> frozenset[str]:
        return frozenset(self._open.get(batch, ()))

    def began(self, batch: str, requests: Sequence[str]) -> None:
        document = {"batch": batch, "at": time.time(), "requests": list(requests)}
        with suppress(OSError):  # it is under way all the same; only a run that is killed would not find it
            write_whole(self._file(batch), json.dumps(document).encode())
        self._note(batch, requests)

    def delivered(self, request: str) -> None:
        batch = self._batch_of.pop(request, None)
        if batch is None:
            return
        self._open[batch].discard(request)
        if not self._open[batch]:
            self.forget(batch)
            return
        with suppress(OSError), self._file(batch, ".delivered").open("a") as file:
            file.write(f"{request}\n")

    def forget(self, batch: str) -> None:
        for request in self._open.pop(batch, ()):
            self._batch_of.pop(request, None)
        for suffix in (".json", ".delivered"):
            self._file(batch, suffix).unlink(missing_ok=True)

    def _read(self, file: Path) -> None:
        try:
            document = json.loads(file.read_bytes())
            batch, at, requests = document["batch"], float(document["at"]), list(document["requests"])
        except (OSError, ValueError, LookupError, TypeError):
            return
        if time.time() - at > _KEPT_S:
            self._open[batch] = set()
            self.forget(batch)
            return
        delivered: set[str] = set()
        with suppress(OSError):
            delivered.update(self._file(batch, ".delivered").read_text().split())
        self._note(batch, [request for request in requests if request not in delivered])

    def _note(self, batch: str, requests: Sequence[str]) -> None:
        self._open[batch] = set(requests)
        self._batch_of |= dict.fromkeys(requests, batch)

    def _file(self, batch: str, suffix: str = ".json") -> Path:
        return self._folder / f"{hashlib.sha256(batch.encode()).hexdigest()[:32]}{suffix}"
