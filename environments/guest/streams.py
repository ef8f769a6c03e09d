"""The guest's event loop: readable file descriptors, timers, captured output and supervised processes.

Part of the guest (see program.py): Python 3.8, standard library only.
"""
# Plain calls: pathlib would cost a container an import.
# ruff: noqa: PTH123

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from trellis.environments.guest.processes import KILL_S, reap, send_signal

OUTPUT_CAP_BYTES = 1 << 20
"""What one stream of one command may send to the host; beyond it, the middle is cut."""
SPILL_CAP_BYTES = 256 << 20
"""How much of such a stream is kept in a file of the world."""
HALF_BYTES = OUTPUT_CAP_BYTES // 2
CHUNK_BYTES = 1 << 16
DRAIN_S = 1.0
"""How long a stream is read on after its command ended, while something else keeps it full."""


def memory_file(data: bytes) -> int:
    fd = os.memfd_create("trellis")
    write_all(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def pipe(reading: ExitStack, writing: ExitStack) -> tuple[int, int]:
    """The ends of a new pipe, each to be closed by the stack it belongs to."""
    read, write = os.pipe()
    reading.callback(os.close, read)
    writing.callback(os.close, write)
    return read, write


class Timer:
    """A call to come; cancelled, it holds on to nothing until its time."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def cancel(self) -> None:
        self.call = _nothing


def _nothing() -> None:
    pass


class Loop:
    """Readable file descriptors and timers, in one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._wake, wake = os.pipe()
        for fd in (self._wake, wake):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.watch(self._wake, self._woken)

    def watch(self, fd: int, readable: Callable[[], object]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, readable)

    def watch_writable(self, fd: int, writable: Callable[[], object]) -> None:
        self._selector.register(fd, selectors.EVENT_WRITE, writable)

    def unwatch(self, fd: int) -> None:
        self._selector.unregister(fd)

    def forget(self, fd: int) -> None:
        self._selector.unregister(fd)
        os.close(fd)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(call)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._count), timer))
        return timer

    def run_once(self) -> None:
        wait = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        for key, _ in self._selector.select(wait):
            registered = self._selector.get_map().get(key.fd)
            if (
                registered is not None and registered.data is key.data
            ):  # an earlier one of this round may have closed it
                key.data()
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2].call()

    def _woken(self) -> None:
        os.read(self._wake, CHUNK_BYTES)
        reap()


class Capture:
    """Collects one output stream: whole up to the cap, then its head and tail, with the whole in a file."""

    def __init__(self, loop: Loop, fd: int, spill_path: Callable[[], str]) -> None:
        self._loop, self._fd, self._spill_path = loop, fd, spill_path
        self._open, self._wanted = True, True
        self._clear()
        os.set_blocking(fd, False)
        loop.watch(fd, self._readable)

    @property
    def received(self) -> int:
        """How many bytes came since the last time."""
        return self._total

    def add(self, data: bytes) -> None:
        """As if it had been printed: what came by another way, or a remark of ours."""
        if self._wanted:
            self._keep(data)

    def take(self, *, last: bool = False) -> tuple[bytes, list[str]]:
        """What came since the last time, and the file with the whole if that was too much.

        After the last time, what still comes is thrown away: a process that outlives its command can go on printing.
        """
        deadline = time.monotonic() + DRAIN_S
        while self._open and self._readable() and time.monotonic() < deadline:
            pass
        data, spilled = bytes(self._head), []
        if self._cut:
            tail = self._tail[-HALF_BYTES:]
            left_out = self._total - len(self._head) - len(tail)
            data += b"\n[... %d bytes cut ...]\n" % left_out + tail
        if self._spill is not None:
            if self._total > SPILL_CAP_BYTES:
                self._write_spill(b"\n[... the rest was not kept ...]\n")
            with suppress(OSError):  # what it had not written yet may find the disk full
                self._spill.close()
            spilled = [self._spill.name]
        self._clear()
        self._wanted = not last
        return data, spilled

    def _clear(self) -> None:
        self._head, self._tail = bytearray(), bytearray()
        self._total, self._cut = 0, False
        self._spill: Any = None

    def _readable(self) -> bool:
        try:
            data = os.read(self._fd, CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._loop.forget(self._fd)
            self._open = False
        elif self._wanted:
            self._keep(data)
        return bool(data)

    def _keep(self, data: bytes) -> None:
        self._total += len(data)
        if self._total <= OUTPUT_CAP_BYTES:
            self._head += data
            return
        if not self._cut:
            self._begin_to_cut()
        self._tail += data
        if len(self._tail) > 2 * HALF_BYTES:
            del self._tail[:-HALF_BYTES]
        if self._spill is not None and self._total <= SPILL_CAP_BYTES:
            self._write_spill(data)

    def _begin_to_cut(self) -> None:
        self._cut = True
        with suppress(OSError):
            self._spill = open(self._spill_path(), "wb")  # noqa: SIM115
            self._write_spill(self._head)
        self._tail = self._head[HALF_BYTES:]
        del self._head[HALF_BYTES:]

    def _write_spill(self, data: bytes | bytearray) -> None:
        with suppress(OSError):  # a full disk must not cost the head and the tail
            self._spill.write(data)


class Process:
    """A supervised command: its pids once known, and one call when it has ended."""

    def __init__(self, loop: Loop, ended: Callable[[int], None]) -> None:
        self._loop, self._ended = loop, ended
        self._kill_wanted = False
        self._status: int | None = None
        self.pid = 0
        self.supervisor = 0

    @property
    def running(self) -> bool:
        return self._status is None

    @property
    def wanted(self) -> bool:
        """Not to be killed as soon as it begins?"""
        return self.running and not self._kill_wanted

    def kill(self) -> None:
        """Kill the whole tree; `ended` is called within `KILL_S` even if that fails."""
        if not self.running:
            return
        self._kill_wanted = True
        self._tell_supervisor()
        self._loop.after(KILL_S + 1, lambda: self.end(signal.SIGKILL))

    def signal(self, number: int) -> None:
        """Send a signal to the command itself; one that has not begun yet gets it when it does."""
        if not self.running:
            return
        if self.pid:
            send_signal(self.pid, number)
        else:
            self._loop.after(0.001, lambda: self.signal(number))

    def begun(self, pid: int, supervisor: int) -> None:
        self.pid, self.supervisor = pid, supervisor
        if self._kill_wanted:
            self._tell_supervisor()

    def end(self, status: int) -> None:
        if self._status is None:
            self._status = status
            self._ended(status)

    def _tell_supervisor(self) -> None:
        if self.supervisor:
            send_signal(self.supervisor, signal.SIGTERM)
            send_signal(self.supervisor, signal.SIGCONT)  # somebody in the world may have stopped it
