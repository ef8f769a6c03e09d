"""Disk limits: one thread per process watches what all its worlds have written, and says at once when one has too much.

Counting a world's files costs in proportion to them; asking a file system how much of it is free costs nothing. So the
free space is read many times a second, and a world is counted only when so much has gone since its last count that it
could be over its limit, whoever took it. A world far below its limit is hardly ever counted, and one near it often, but
never for more than a fifth of the time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from trellis.environments.channel import ChannelEnvironment
from trellis.environments.environment import EnvironmentFault, Resources
from trellis.environments.usage import Usage, count

POLL_S = 0.05
REST = 4.0
"""How many times as long as its count took a world is then left alone."""
SLOW_S, SLOW_REST = 10.0, 50.0
"""What is deleted hides what is written meanwhile. So while anything is written, each world is counted now and then."""
LEEWAY = Usage(1 << 20, 64)
"""What a world that was stopped may write before it is stopped again: it must be able to clean up."""
EVERYTHING = Usage(sys.maxsize, sys.maxsize)
"""What a world that was stopped may have until it is known how much is left: whoever deletes it must not be stopped."""

OBEY_S = 5.0
"""By when a world that is told to stop must have done so."""

Processes = Callable[[], Iterable[int]]
Over = Callable[[Usage], Awaitable[None]]


class Watch:
    """One world under watch. `over` is awaited in the event loop that began this, once for each time that the world is
    found above its limit and has written more since the last time."""

    def __init__(self, trees: Sequence[Path], processes: Processes, limit: Usage, over: Over) -> None:
        self._trees, self._processes, self._limit, self._over = trees, processes, limit, over
        self._loop = asyncio.get_running_loop()
        self._disk = _watcher.disk_of(trees[0])
        self._allowed = limit
        self._used = Usage()
        self._spent_before = self._disk.spent
        self._took_s, self._counted_at_s = 0.0, time.monotonic()
        self._telling: Future[None] | None = None
        self._settled = False
        _watcher.add(self)

    def close(self) -> None:
        _watcher.remove(self)

    @property
    def disk(self) -> Disk:
        return self._disk

    def look(self) -> None:
        """Count if need be; called by the watcher's thread."""
        if self._telling is None and self._disk.spent is self._spent_before:
            return
        if self._telling is not None:
            if not self._telling.done():
                return
            if not self._settled:  # what was killed ends its last system call
                self._settled = True
                return
            self._telling, self._settled = None, False
            self._count(None)
            self._allowed = allowance(self._used, self._limit, EVERYTHING)
        if self._is_due():
            self._count(self._allowed)
            if self._used.exceeds(self._allowed):
                self._tell()
            else:
                self._allowed = allowance(self._used, self._limit, self._allowed)

    def _is_due(self) -> bool:
        spent, room = self._disk.spent - self._spent_before, self._allowed - self._used
        near = spent.bytes >= room.bytes or spent.inodes >= room.inodes
        rest_s = REST * self._took_s if near else max(SLOW_S, SLOW_REST * self._took_s)
        return spent != Usage() and time.monotonic() - self._counted_at_s >= rest_s

    def _count(self, stop_above: Usage | None) -> None:
        began_s = time.monotonic()
        self._spent_before = self._disk.spent
        self._used = count(self._trees, self._processes(), stop_above=stop_above)
        self._counted_at_s = time.monotonic()
        self._took_s = self._counted_at_s - began_s

    def _tell(self) -> None:
        async def tell() -> None:
            await self._over(self._used)

        telling = tell()
        try:
            self._telling = asyncio.run_coroutine_threadsafe(telling, self._loop)
        except RuntimeError:  # its event loop is closed: nobody uses that world any more
            telling.close()
            self.close()


def allowance(used: Usage, limit: Usage, before: Usage) -> Usage:
    """The limit; a little above what is used where that is over it, but no more than was allowed before."""
    return Usage(
        max(limit.bytes, min(before.bytes, used.bytes + LEEWAY.bytes)) if used.bytes > limit.bytes else limit.bytes,
        max(limit.inodes, min(before.inodes, used.inodes + LEEWAY.inodes))
        if used.inodes > limit.inodes
        else limit.inodes,
    )


class Disk:
    """How much has gone from one file system since this process first looked; what was freed is not taken off."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._free = self._read()
        self.spent = Usage()

    def look(self) -> None:
        free = self._read()
        if free != self._free:
            gone = self._free - free
            self.spent += Usage(max(0, gone.bytes), max(0, gone.inodes))
            self._free = free

    def _read(self) -> Usage:
        facts = os.statvfs(self._path)
        return Usage(facts.f_bfree * facts.f_frsize, facts.f_ffree)


class _Watcher:
    """The thread; it runs while there is something to watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()
        self._disks: dict[int, Disk] = {}
        self._thread: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock, self._watches, self._disks, self._thread = threading.Lock(), set(), {}, None

    def disk_of(self, path: Path) -> Disk:
        device = path.stat().st_dev
        with self._lock:
            if device not in self._disks:
                same = [parent for parent in path.parents if parent.stat().st_dev == device]
                self._disks[device] = Disk(same[-1])  # what does not vanish with one world
            return self._disks[device]

    def add(self, watch: Watch) -> None:
        with self._lock:
            self._watches.add(watch)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watch the disks of worlds", daemon=True)
                self._thread.start()

    def remove(self, watch: Watch) -> None:
        with self._lock:
            self._watches.discard(watch)

    def _run(self) -> None:
        while True:
            time.sleep(POLL_S)
            with self._lock:
                watches = list(self._watches)
                if not watches:
                    self._thread = None
                    self._disks.clear()
                    return
            for disk in {watch.disk for watch in watches}:
                with suppress(OSError):
                    disk.look()
            for watch in watches:
                try:
                    watch.look()
                except Exception:  # the others must still be watched
                    watch.close()
                    logging.getLogger(__name__).exception("a world is not held to its disk limit any more")


_watcher = _Watcher()


def watch_disk(world: ChannelEnvironment, trees: Sequence[Path], processes: Processes) -> Watch:
    """Hold a world to `Resources.disk_mb` and `inodes`; see `stop_commands` for what happens above either."""
    return Watch(trees, processes, limit_of(world.spec.resources), lambda used: stop_commands(world, used, processes))


def facts_of(used: Usage, resources: Resources) -> dict[str, int]:
    """Of the event "limit.disk"."""
    limits = {"disk_mb": resources.disk_mb, "inodes": resources.inodes}
    return {"used_mb": used.bytes >> 20, "used_inodes": used.inodes, **limits}


def limit_of(resources: Resources) -> Usage:
    return Usage(resources.disk_mb << 20, resources.inodes)


async def stop_commands(world: ChannelEnvironment, used: Usage, processes: Processes = tuple) -> None:
    """Kill everything that runs in a world which is over its limit. Those who wait for a command are told why on its
    standard error, and the world reports "limit.disk". If it does not obey, all its `processes` are killed: a fault."""
    resources = world.spec.resources
    world.channel.on_event("limit.disk", facts_of(used, resources))
    if used.inodes > resources.inodes:
        limit = f"its limit of {resources.inodes} files and folders"
    else:
        limit = f"its disk limit of {resources.disk_mb} MB"
    why = f"killed: this environment is over {limit}; delete what you do not need before you write more\n"
    try:
        async with asyncio.timeout(OBEY_S):
            await world.channel.request("kill_all", why=why)
    except TimeoutError:
        for process in processes():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
    except EnvironmentFault:
        pass  # it is gone already
