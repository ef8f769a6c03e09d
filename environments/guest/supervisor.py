"""Process trees inside a world: commands under supervisors that can find and kill all that came of them.

Part of the guest (see guest.py): Python 3.8, standard library only.
"""
# Plain calls: this runs at every command.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import ctypes
import fcntl
import itertools
import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NoReturn

KILL_S = 5.0
"""How long a process tree may take to die before the answer is given anyway."""

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
FIRST_PRIVATE_FD = 64
CHANGED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)
"""What the guest or Python itself handles in another way than a program expects to find it."""

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


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
    """Stop them all first, so that none can fork while the others die, then kill them; at most `KILL_S`."""
    deadline, rounds = time.monotonic() + KILL_S, itertools.count()
    while time.monotonic() < deadline:
        alive = living_descendants(root, chosen)
        if not alive:
            return
        running = [entry for entry in alive if entry.state not in "Tt"] if next(rounds) < 20 else []
        for entry in running or alive:
            send_signal(entry.pid, signal.SIGSTOP if running else signal.SIGKILL)
        reap()
        time.sleep(0.001)


def reap() -> None:
    """Collect whatever has ended below this process."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


class _Kill(BaseException):
    pass


def _raise_kill(*_: Any) -> NoReturn:
    raise _Kill


class CannotStart(Exception):
    """The command could not even begin; the exit code says why, as a shell's would."""

    def __init__(self, subject: str, error: OSError, code: int) -> None:
        super().__init__(f"{subject}: {error.strerror}\n")
        self.code = code


def start_supervised(report: int, files: dict[int, int], start: Callable[[], int]) -> None:
    """Begin a command with `files` under a supervisor, a new process that reports its pid and its end.

    `start` runs in the supervisor and returns the pid of the command. What the command leaves behind without a parent
    is adopted by the supervisor, so on SIGTERM the whole tree can be found and killed, wherever it hid. What outlives
    a command that ended by itself passes to the guest.
    """
    if os.fork() == 0:
        try:
            _supervise(report, files, start)
        except BaseException:
            traceback.print_exc()
        os._exit(70)


def _supervise(report: int, files: dict[int, int], start: Callable[[], int]) -> NoReturn:
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    report = _arrange(files, report)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    signal.signal(signal.SIGTERM, _raise_kill)
    try:
        pid = start()
    except CannotStart as reason:
        refuse(report, 2, reason)
        os._exit(0)
    _tell(report, {"supervisor": os.getpid(), "pid": pid})
    _be_killed_first(pid)
    _tell(report, {"status": _wait_for(pid)})
    os._exit(0)


def refuse(report: int, errors: int, reason: CannotStart) -> None:
    """Say on the command's own standard error why there is none, and report its end."""
    os.write(errors, str(reason).encode("utf-8", "surrogateescape"))
    _tell(report, {"status": reason.code << 8})


def _wait_for(pid: int) -> int:
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        while True:
            ended, status = os.waitpid(-1, 0)
            if ended == pid:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                return status
    except _Kill:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        kill_descendants(os.getpid())
        return signal.SIGKILL


def _arrange(files: dict[int, int], report: int) -> int:
    """Put `files` where the command expects them and close everything else; where the report went."""
    high = {target: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_PRIVATE_FD) for target, fd in files.items()}
    report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, FIRST_PRIVATE_FD)
    for target, fd in high.items():
        os.dup2(fd, target)
    kept = sorted([*files, report])
    for index, fd in enumerate(kept):
        os.closerange(fd + 1, kept[index + 1] if index + 1 < len(kept) else 4096)
    return report


def _be_killed_first(pid: int) -> None:
    """When memory runs out, the command goes before the guest: the world lives on."""
    with suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as file:
        file.write("500")


def spawn(argv: list[str], env: Mapping[str, str], cwd: str) -> int:
    """Start a program as a child in a session of its own; `start` of `start_supervised`.

    Raises:
        CannotStart: there is no such folder or program, or it may not be used.
    """
    try:
        os.chdir(cwd)
    except OSError as error:
        raise CannotStart(cwd, error, 126) from None
    os.environ["PATH"] = env.get("PATH", os.defpath)  # where posix_spawnp looks
    try:
        return os.posix_spawnp(argv[0], argv, env, setsid=True, setsigmask=(), setsigdef=CHANGED_SIGNALS)
    except NotImplementedError:  # an old C library
        return fork(lambda: os.execvpe(argv[0], argv, env))
    except OSError as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        raise CannotStart(argv[0], error, 127 if missing else 126) from None


def fork(body: Callable[[], Any]) -> int:
    """Run `body` in a child in a session of its own, which can be looked into like any program."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.closerange(FIRST_PRIVATE_FD, 4096)
        os.setsid()
        for number in CHANGED_SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        prctl(PR_SET_DUMPABLE, 1)
        body()
    except BaseException:
        traceback.print_exc()
    os._exit(70)


def _tell(fd: int, message: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):
        os.write(fd, json.dumps(message).encode() + b"\n")


def exit_code(status: int) -> tuple[int, int | None]:
    """The shell's convention, and the signal if there was one."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status), os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None
