"""How the guest starts commands: below supervisors, as programs or as forks of a warm interpreter (see warm.py).

Supervisors are kept for the next command, so that a command costs no fork of this interpreter.

Part of the guest (see main.py): Python 3.8, standard library only.
"""
# Plain calls: pathlib would cost a container an import.
# ruff: noqa: PTH110

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress

from trellis.environments.guest.streams import CHUNK_BYTES, Loop, Process
from trellis.environments.guest.supervisor import CannotStart, refuse, request, serve, spawn, start_supervised

KEPT = 4
"""Supervisors that wait for commands."""


class Launcher:
    def __init__(self, loop: Loop, warm: socket.socket | None) -> None:
        self._loop = loop
        self._idle: list[_Supervisor] = []
        self._warm = warm
        self.warm_pid = 0
        """The warm interpreter, once it is ready."""
        self._processes: list[Process] = []
        self._supervisors: list[int] = []
        self._held: list[Callable[[], None]] = []
        """Scripts that came before the warm interpreter said whether it is there: it does so within milliseconds, and
        at worst after the time that loading its modules takes, which a cold script would spend as well."""
        self.warm_env: dict[str, str] = {}
        """The variables that an interpreter reads when it starts: others than these need a new one."""
        if warm is not None:
            loop.watch(warm.fileno(), self._hear_warm)

    def prepare(self) -> None:
        """Have a supervisor ready for the first command."""
        with suppress(OSError):
            self._idle.append(self._new_supervisor())

    def start(
        self,
        argv: list[str],
        env: dict[str, str],
        cwd: str,
        files: dict[int, int],
        ended: Callable[[int], None],
    ) -> Process:
        """Begin a command with `files`, which stay the caller's to close.

        Raises:
            OSError: no process or file descriptor is left for it.
        """
        process = Process(self._loop, ended)
        self._forget_ended()
        self._processes.append(process)
        if self._warm is None or not self._is_script(argv, env):
            self._start(process, argv, env, cwd, files)
        elif self.warm_pid:
            self._start_script(process, argv, env, cwd, files)
        else:
            held = {target: os.dup(fd) for target, fd in files.items()}
            self._held.append(lambda: self._start_held(process, argv, env, cwd, held))
        return process

    def supervisors(self) -> list[int]:
        """Their pids; one may live a moment longer than its command."""
        self._forget_ended()
        return [*self._supervisors, *(process.supervisor for process in self._processes)]

    def starting(self) -> bool:
        """Is there a command that has not said its pid yet?"""
        return any(process.running and not process.supervisor for process in self._processes)

    def all_killed(self) -> None:
        """All in the world has just been killed. What ran has ended, and what comes next is not handed to those that
        are still dying."""
        for supervisor in self._idle:
            supervisor.dismiss()
        self._idle.clear()
        for process in list(self._processes):
            process.end(signal.SIGKILL)
        self._lose_warm()

    def _forget_ended(self) -> None:
        self._supervisors = [pid for pid in self._supervisors if os.path.exists(f"/proc/{pid}")]
        self._processes = [
            process for process in self._processes if process.running or os.path.exists(f"/proc/{process.supervisor}")
        ]

    def _new_supervisor(self) -> _Supervisor:
        supervisor = _Supervisor(self._loop, self._idle)
        self._supervisors.append(supervisor.pid)
        return supervisor

    def _start(self, process: Process, argv: list[str], env: dict[str, str], cwd: str, files: dict[int, int]) -> None:
        supervisor = self._idle.pop() if self._idle else self._new_supervisor()
        if supervisor.run(process, argv, env, cwd, files):
            return
        report, write = os.pipe()  # too much for one message
        try:
            start_supervised(write, files, lambda: spawn(argv, env, cwd, {}))
        except OSError:
            os.close(report)
            raise
        finally:
            os.close(write)
        _Report(self._loop, report, process)

    def _start_script(
        self, process: Process, argv: list[str], env: dict[str, str], cwd: str, files: dict[int, int]
    ) -> None:
        if self._warm is None:
            self._start(process, argv, env, cwd, files)
            return
        report, write = os.pipe()
        asked = request(self._warm, argv, env, cwd, files, write)
        os.close(write)
        if asked:
            _Report(self._loop, report, process)
        else:  # it is gone, or the request is too long for it
            os.close(report)
            self._start(process, argv, env, cwd, files)

    def _start_held(
        self, process: Process, argv: list[str], env: dict[str, str], cwd: str, files: dict[int, int]
    ) -> None:
        try:
            if process.wanted:
                self._start_script(process, argv, env, cwd, files)
            else:
                process.end(signal.SIGKILL)
        except OSError as error:
            process.end(refuse(files[2], CannotStart(argv[0], error, 126)))
        finally:
            for fd in files.values():
                os.close(fd)

    def _is_script(self, argv: list[str], env: dict[str, str]) -> bool:
        """May a fork of the warm interpreter run it, with nothing to tell the difference by?"""
        return (
            len(argv) > 1
            and argv[0] in ("python", "python3")
            and not argv[1].startswith("-")
            and self.warm_env == {name: env[name] for name in env if name in self.warm_env or name[:6] == "PYTHON"}
        )

    def _hear_warm(self) -> None:
        if self._warm is None:
            return
        self.warm_pid = int(self._warm.recv(CHUNK_BYTES) or b"0")
        if self.warm_pid:
            self._start_all_held()
        else:
            self._lose_warm()

    def _lose_warm(self) -> None:
        if self._warm is not None:
            self._loop.forget(self._warm.detach())
        self._warm, self.warm_pid = None, 0
        self._start_all_held()

    def _start_all_held(self) -> None:
        held, self._held = self._held, []
        for start in held:
            start()


class _Supervisor:
    """The guest's end of a supervisor that runs one command after the other (supervisor.serve)."""

    def __init__(self, loop: Loop, idle: list[_Supervisor]) -> None:
        self._loop, self._idle = loop, idle
        self._process: Process | None = None
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                child = os.fork()
            except OSError:
                self._socket.close()
                raise
            if child == 0:
                serve(theirs.fileno())
        self.pid = child
        loop.watch(self._socket.fileno(), self._hear)

    def run(self, process: Process, argv: list[str], env: dict[str, str], cwd: str, files: dict[int, int]) -> bool:
        """False if it cannot; it is not to be used again then."""
        if not request(self._socket, argv, env, cwd, files):
            self.dismiss()
            return False
        self._process = process
        return True

    def _hear(self) -> None:
        try:
            data = self._socket.recv(CHUNK_BYTES)
        except OSError:  # it died before it read what it was asked
            data = b""
        if data:
            message = json.loads(data)
            process = self._process
            if "status" in message:
                self._process = None
                self._after(stays=message["stays"])
            if process is not None:
                _pass_on(process, message)
        else:
            self._died()

    def _after(self, *, stays: bool) -> None:
        if stays and len(self._idle) < KEPT:
            self._idle.append(self)
        else:
            self.dismiss()

    def _died(self) -> None:
        """Somebody in the world killed it, and perhaps all of them: none that waits is trusted with a command."""
        for other in {self, *self._idle}:
            other.dismiss()
        self._idle.clear()
        if self._process is not None:
            self._process.end(signal.SIGKILL)

    def dismiss(self) -> None:
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()


class _Report:
    """Hears from a supervisor that runs one command only."""

    def __init__(self, loop: Loop, report: int, process: Process) -> None:
        self._loop, self._report, self._process = loop, report, process
        self._buffer = b""
        loop.watch(report, self._readable)

    def _readable(self) -> None:
        data = os.read(self._report, CHUNK_BYTES)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            _pass_on(self._process, json.loads(line))
        if not data:
            self._loop.forget(self._report)
            self._process.end(signal.SIGKILL)  # somebody in the world killed the supervisor


def _pass_on(process: Process, message: Mapping[str, int]) -> None:
    if "pid" in message:
        process.begun(message["pid"], message["supervisor"])
    else:
        process.end(message["status"])
