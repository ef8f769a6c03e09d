"""Commands run below supervisors, which can find and kill all that came of them.

What a command leaves behind without a parent is adopted by its supervisor, so on SIGTERM the whole tree can be killed,
wherever it hid. What outlives a command that ended by itself passes to the guest.

Part of the guest (see main.py): Python 3.8, standard library only.
"""
# Plain calls: this runs at every command.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import array
import fcntl
import json
import os
import signal
import socket
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from trellis.environments.guest.processes import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    call_oneself,
    kill_descendants,
    prctl,
)

FIRST_PRIVATE_FD = 64
"""Below it are the descriptors that commands expect."""
REQUEST_BYTES = 1 << 20
DESCRIPTORS = 16
CHANGED_SIGNALS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGQUIT,
)  # fmt: skip
"""What the guest, Python itself, or however Trellis was started (`nohup`, `&` in a script) handles in another way than
a program expects to find it."""


class _Kill(BaseException):
    pass


def _raise_kill(*_: Any) -> NoReturn:
    raise _Kill


class CannotStart(Exception):
    """The command could not even begin; the exit code says why, as a shell's would."""

    def __init__(self, subject: str, error: OSError, code: int) -> None:
        super().__init__(f"{subject}: {error.strerror}\n")
        self.code = code


def start_supervised(report: int, files: Mapping[int, int], start: Callable[[], int]) -> None:
    """Begin one command with `files` under a supervisor of its own, which reports its pid and its end.

    `start` runs in the supervisor and returns the pid of the command, which inherits the supervisor's descriptors.
    """
    if os.fork() == 0:
        try:
            _become_supervisor()
            report = _arrange(files, report)
            _supervise(report, 2, start)
        except BaseException:
            traceback.print_exc()
        os._exit(70)


def serve(control: int) -> NoReturn:
    """Be the supervisor of one command after the other, as asked for on this socket, until it is closed.

    Told are a command's pid and its status, and with that whether this supervisor stays for another: where something
    outlived the command it goes, and the guest adopts what is left.
    """
    _become_supervisor()
    null = os.open(os.devnull, os.O_RDWR)
    requests = socket.socket(fileno=_arrange({0: null, 1: null, 2: null}, control))
    while True:
        request, descriptors = receive(requests)
        if not request:
            os._exit(0)
        while signal.sigtimedwait([signal.SIGTERM], 0):
            pass  # it was meant for the command before
        files = dict(zip(request["targets"], descriptors))  # noqa: B905  (Python 3.8)
        _supervise(requests.fileno(), files[2], partial(_spawn_and_close, request, files))


def _spawn_and_close(request: Mapping[str, Any], files: Mapping[int, int]) -> int:
    """The supervisor keeps nothing of its command: no descriptor open, no folder in use."""
    pid = spawn(request["argv"], request["env"], request["cwd"], files)
    for fd in files.values():
        os.close(fd)
    return pid


def _become_supervisor() -> None:
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    call_oneself(b"trellis")
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    signal.signal(signal.SIGTERM, _raise_kill)


def _supervise(report: int, errors: int, start: Callable[[], int]) -> None:
    """Begin a command, wait for it, tell; ends this process if anything is left of the command."""
    try:
        pid = start()
        os.chdir("/")  # the folder of the command is not to be held
    except CannotStart as reason:
        _tell(report, {"status": refuse(errors, reason), "stays": False})
        os._exit(0)
    _tell(report, {"supervisor": os.getpid(), "pid": pid})
    _be_killed_first(pid)
    status = _wait_for(pid)
    stays = not _has_children()
    _tell(report, {"status": status, "stays": stays})
    if not stays:
        os._exit(0)


def _be_killed_first(pid: int) -> None:
    """When memory runs out, the command goes before the guest: the world lives on."""
    with suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as file:
        file.write("500")


def refuse(errors: int, reason: CannotStart) -> int:
    """Say on the command's own standard error why there is none; the status."""
    os.write(errors, str(reason).encode("utf-8", "surrogateescape"))
    return reason.code << 8


def _wait_for(pid: int) -> int:
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        while True:
            ended, status = os.waitpid(-1, 0)
            if ended == pid:
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
                return status
    except _Kill:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        kill_descendants(os.getpid())
        return signal.SIGKILL


def _has_children() -> bool:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _arrange(files: Mapping[int, int], report: int) -> int:
    """Put `files` where the command expects them and close everything else; where the report went."""
    high = {target: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_PRIVATE_FD) for target, fd in files.items()}
    report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, FIRST_PRIVATE_FD)
    for target, fd in high.items():
        os.dup2(fd, target)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd != report and fd not in files:
            with suppress(OSError):
                os.close(fd)
    return report


def receive(requests: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A request and its descriptors, moved out of the way of those that a command expects; empty when the other side
    is gone."""
    numbers = array.array("i")
    message, ancillary, _, _ = requests.recvmsg(REQUEST_BYTES, socket.CMSG_SPACE(DESCRIPTORS * numbers.itemsize))
    for _, _, data in ancillary:
        numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    moved = []
    for fd in numbers:
        moved.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_PRIVATE_FD))
        os.close(fd)
    return (json.loads(message) if message else {}), moved


def request(
    requests: socket.socket, argv: list[str], env: Mapping[str, str], cwd: str, files: Mapping[int, int], *more: int
) -> bool:
    """Ask for a command, with the descriptors `more` and then those of `files`; False if that cannot be sent: nobody
    is there, or it is too long."""
    message = json.dumps({"argv": argv, "env": env, "cwd": cwd, "targets": list(files)}).encode()
    descriptors = array.array("i", [*more, *files.values()])
    try:
        requests.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    except OSError:
        return False
    return True


def spawn(argv: list[str], env: Mapping[str, str], cwd: str, files: Mapping[int, int]) -> int:
    """Start a program as a child in a session of its own, with `files`; its pid.

    Raises:
        CannotStart: there is no such folder or program, or it may not be used.
    """
    try:
        os.chdir(cwd)
    except OSError as error:
        raise CannotStart(cwd, error, 126) from None
    os.environ["PATH"] = env.get("PATH", os.defpath)  # where posix_spawnp looks
    actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in files.items()]
    try:
        return os.posix_spawnp(
            argv[0], argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=CHANGED_SIGNALS
        )
    except NotImplementedError:  # an old C library
        return fork(lambda: _execute(argv, env, files))
    except OSError as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        raise CannotStart(argv[0], error, 127 if missing else 126) from None


def _execute(argv: list[str], env: Mapping[str, str], files: Mapping[int, int]) -> None:
    for target, fd in files.items():
        os.dup2(fd, target)
    os.execvpe(argv[0], argv, env)


def fork(body: Callable[[], Any]) -> int:
    """Run `body` in a child in a session of its own, which can be looked into like any program."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for number in CHANGED_SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        prctl(PR_SET_DUMPABLE, 1)
        call_oneself(b"python3")
        body()
    except BaseException:
        traceback.print_exc()
    os._exit(70)


def _tell(fd: int, message: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):
        os.write(fd, json.dumps(message).encode() + b"\n")
