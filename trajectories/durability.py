"""How much an episode's log outlives: the process always, the machine's power where it is asked for."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trellis.trajectories.chain import StorageFault


@dataclass(frozen=True, slots=True)
class Storage:
    """How the log of an episode is kept."""

    fsync: bool = False
    """An effect's result is used only when its events and blobs are on stable storage; otherwise, when the operating
    system has them."""
    shared: Path | None = None
    """A folder in which the episodes of a run share their blobs by hard links; None: each keeps its own."""

    def sweep(self) -> int:
        """Remove what no episode links to any more from the shared folder: nobody has to count. Returns how many."""
        shared = self.shared
        entries = list(os.scandir(shared)) if shared is not None and shared.is_dir() else []
        unused = [Path(entry) for entry in entries if entry.stat().st_nlink == 1]
        for path in unused:
            path.unlink(missing_ok=True)
        return len(unused)


class GroupCommit:
    """Brings what was written to stable storage, in a thread. Many wait for one commit: it covers what was written
    before it began, and who comes while it runs waits for the next."""

    def __init__(self, what: Path, commit: Callable[[], None]) -> None:
        """`commit` raises OSError where the disk refuses; `what` is for the message."""
        self._what = what
        self._commit = commit
        self._lock = threading.Lock()
        self._closed = False
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._failed: StorageFault | None = None

    async def settled(self) -> None:
        """Wait until everything that was written before this call is on stable storage.

        Raises:
            StorageFault: the disk refused, now or before: what it kept is unknown from then on.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running))
        await asyncio.shield(self._next)

    def close(self) -> None:
        """Wait for a commit that is under way. Nothing is committed any more."""
        with self._lock:
            self._closed = True

    async def _after(self, running: asyncio.Task[None] | None) -> None:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None  # from here on, who comes has written too late for this one
        if self._failed is not None:
            raise self._failed
        try:
            await asyncio.to_thread(self._one)
        except OSError as error:
            self._failed = StorageFault(self._what, error)
            raise self._failed from None

    def _one(self) -> None:
        with self._lock:
            if not self._closed:
                self._commit()
