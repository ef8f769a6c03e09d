"""The process table, and ending whole trees of processes.

Part of the guest (see main.py): Python 3.8, standard library only.
"""
# Plain calls: this runs at every command.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

KILL_S = 5.0
"""How long a process tree may take to die before the answer is given anyway."""

PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 4, 15, 36

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def call_oneself(name: bytes) -> None:
    """What process lists show, and `pkill` and `killall` look for: who ends their own `python3` means no guest."""
    _libc.prctl(PR_SET_NAME, name)


class ProcessEntry:
    """One line of the process table."""

    __slots__ = ("parent", "pid", "state")

    def __init__(self, pid: int, state: str, parent: int) -> None:
        self.pid, self.state, self.parent = pid, state, parent


def process_table() -> Iterator[ProcessEntry]:
    """All processes that can be seen."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b") ")[2].split()
            except OSError:
                continue  # it ended meanwhile
            if fields:
                yield ProcessEntry(int(name), fields[0].decode(), int(fields[1]))


def children(pid: int) -> list[int]:
    """The pids of a process's children, without going through the whole table where the kernel lists them."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return [entry.pid for entry in process_table() if entry.parent == pid]


def living_descendants(root: int, chosen: Callable[[ProcessEntry], bool] = lambda _: True) -> list[ProcessEntry]:
    """The living processes below `root`; where `chosen` says no, the whole subtree is left out."""
    below: dict[int, list[ProcessEntry]] = {}
    for entry in process_table():
        below.setdefault(entry.parent, []).append(entry)
    found, queue = [], [root]
    while queue:
        for entry in below.get(queue.pop(), ()):
            if chosen(entry):
                found.append(entry)
                queue.append(entry.pid)
    return [entry for entry in found if entry.state not in "ZX"]


def send_signal(pid: int, number: int) -> None:
    if pid <= 0:
        raise ValueError("that would be a whole group of processes")
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill_descendants(root: int, chosen: Callable[[ProcessEntry], bool] = lambda _: True) -> None:
    """Stop them all first, so that none can fork while the others die, then kill them; about `KILL_S` at most."""
    deadline, rounds = time.monotonic() + KILL_S, itertools.count()
    while True:
        alive = living_descendants(root, chosen)
        in_time = time.monotonic() < deadline
        running = [entry for entry in alive if entry.state not in "Tt"] if next(rounds) < 20 and in_time else []
        for entry in running or alive:
            send_signal(entry.pid, signal.SIGSTOP if running else signal.SIGKILL)
        reap()
        if not alive or not in_time:  # on a machine so slow, what was only stopped must not stay
            return
        time.sleep(0.001)


def reap() -> None:
    """Collect whatever has ended below this process."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def exit_code(status: int) -> tuple[int, int | None]:
    """The shell's convention, and the signal if there was one."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status), os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None
