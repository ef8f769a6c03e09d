"""Does a process wait for input from a terminal? The kernel knows: it says in which system call each thread sleeps.

Part of the guest (see program.py): Python 3.8, standard library only.
"""
# Plain calls: this runs again and again while a command is silent.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import os
import re
import struct

NO, PERHAPS, SURELY = range(3)
"""`PERHAPS` is one of several threads, or waits for other things as well: a client that passes its input on, say."""

READ, POLL, SELECT, EPOLL = range(4)
CALLS = {
    "x86_64": {
        0: READ, 19: READ, 275: READ, 7: POLL, 271: POLL, 23: SELECT, 270: SELECT, 232: EPOLL, 281: EPOLL, 441: EPOLL,
    },
    "aarch64": {63: READ, 65: READ, 76: READ, 73: POLL, 72: SELECT, 22: EPOLL, 441: EPOLL},
}.get(os.uname().machine, {})  # fmt: skip
WAITS_IN = {
    "n_tty_read": SURELY,
    "wait_woken": SURELY,
    "do_select": PERHAPS,
    "do_sys_poll": PERHAPS,
    "ep_poll": PERHAPS,
}
"""Where the kernel does not tell the system call: the function in which it sleeps."""
POLLIN = 1
WATCHED_FDS = 256
IGNORED_BY_JOBS = 0b110
"""SIGINT and SIGQUIT: bash has them ignored by what it starts in the background."""
_FDINFO = re.compile(rb"tfd:\s*(\d+) events:\s*([0-9a-f]+)")
_IGNORED = re.compile(rb"SigIgn:\s*([0-9a-f]+)")


def identity(fd_or_path: int | str) -> tuple[int, int]:
    """What tells a terminal apart from all others, by whichever name it was opened."""
    found = os.stat(fd_or_path)  # noqa: PTH116
    return found.st_dev, found.st_ino


def waits_for(pid: int, terminal: tuple[int, int]) -> int:
    """Does a process wait for input from `terminal`? NO, PERHAPS or SURELY; what cannot be looked into does not."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        found = max((_thread_waits(pid, thread, terminal) for thread in threads), default=NO)
    except (OSError, ValueError, OverflowError):  # it ended meanwhile, or hands the kernel addresses that lead nowhere
        return NO
    return min(found, PERHAPS) if len(threads) > 1 else found


def in_background(pid: int) -> bool:
    """Was it started with `&`?"""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            ignored = _IGNORED.search(file.read())
    except OSError:
        return True
    return ignored is not None and int(ignored[1], 16) & IGNORED_BY_JOBS == IGNORED_BY_JOBS


def used_ticks(pid: int) -> int:
    """The processor time a process has had."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _thread_waits(pid: int, thread: str, terminal: tuple[int, int]) -> int:
    try:
        with open(f"/proc/{pid}/task/{thread}/syscall", "rb") as file:
            words = file.read().split()
    except OSError:
        return _by_function(pid, thread, terminal)
    if len(words) < 7 or not CALLS:
        return NO if CALLS or words[:1] == [b"running"] else _by_function(pid, thread, terminal)
    call, first, second = CALLS.get(int(words[0])), int(words[1], 16), int(words[2], 16)
    if call == READ:
        return SURELY if _is(pid, first, terminal) else NO
    if call is None:
        return NO
    watched = {POLL: _polled, SELECT: _selected, EPOLL: _epolled}[call](pid, first, second)
    if not any(_is(pid, fd, terminal) for fd in watched):
        return NO
    return SURELY if len(watched) == 1 else PERHAPS


def _by_function(pid: int, thread: str, terminal: tuple[int, int]) -> int:
    if not _is(pid, 0, terminal):
        return NO
    with open(f"/proc/{pid}/task/{thread}/wchan") as file:
        return WAITS_IN.get(file.read(), NO)


def _is(pid: int, fd: int, terminal: tuple[int, int]) -> bool:
    try:
        return identity(f"/proc/{pid}/fd/{fd}") == terminal
    except OSError:
        return False


def _memory(pid: int, address: int, size: int) -> bytes:
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        return os.pread(fd, size, address)
    finally:
        os.close(fd)


def _polled(pid: int, address: int, count: int) -> list[int]:
    data = _memory(pid, address, min(count, WATCHED_FDS) * 8) if count else b""
    entries = struct.iter_unpack("=ihh", data[: len(data) // 8 * 8])
    return [fd for fd, events, _ in entries if fd >= 0 and events & POLLIN]


def _selected(pid: int, count: int, address: int) -> list[int]:
    if not address:
        return []
    bits = int.from_bytes(_memory(pid, address, (min(count, WATCHED_FDS) + 7) // 8), "little")
    return [fd for fd in range(min(count, WATCHED_FDS)) if bits >> fd & 1]


def _epolled(pid: int, epoll: int, _: int) -> list[int]:
    with open(f"/proc/{pid}/fdinfo/{epoll}", "rb") as file:
        return [int(fd) for fd, events in _FDINFO.findall(file.read()) if int(events, 16) & POLLIN]
