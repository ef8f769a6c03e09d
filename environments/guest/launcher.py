"""How the guest starts commands: under supervisors, as programs or as forks of a warm interpreter (see warm.py).

Part of the guest (see guest.py): Python 3.8, standard library only.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Callable

from trellis.environments.guest.streams import CHUNK_BYTES, Loop, Process
from trellis.environments.guest.supervisor import CannotStart, refuse, spawn, start_supervised


class Launcher:
    def __init__(self, loop: Loop, warm: socket.socket | None) -> None:
        self._loop = loop
        self._warm = warm
        self._warm_is_ready = False
        self._held: list[Callable[[], None]] = []
        """Scripts that came before the warm interpreter said whether it is there: it does so within milliseconds, and
        at worst after the time that loading its modules takes, which a cold script would spend as well."""
        self.warm_env: dict[str, str] = {}
        """The variables that an interpreter reads when it starts: others than these need a new one."""
        if warm is not None:
            loop.watch(warm.fileno(), self._hear_warm)

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
        report, write = os.pipe()
        script = self._warm is not None and self._is_script(argv, env)
        if script and not self._warm_is_ready:
            held = {target: os.dup(fd) for target, fd in files.items()}
            process = Process(self._loop, report, ended)
            self._held.append(lambda: self._start_held(process, argv, env, cwd, held, write))
            return process
        try:
            self._start(script, argv, env, cwd, files, write)
        except OSError:
            os.close(report)
            raise
        finally:
            os.close(write)
        return Process(self._loop, report, ended)

    def _start_held(
        self, process: Process, argv: list[str], env: dict[str, str], cwd: str, files: dict[int, int], report: int
    ) -> None:
        try:
            if process.wanted:
                self._start(self._warm is not None, argv, env, cwd, files, report)
        except OSError as error:
            refuse(report, files[2], CannotStart(argv[0], error, 126))
        finally:
            for fd in (*files.values(), report):
                os.close(fd)

    def _start(
        self, script: bool, argv: list[str], env: dict[str, str], cwd: str, files: dict[int, int], report: int
    ) -> None:
        if not (script and self._start_warm(argv, env, cwd, files, report)):
            start_supervised(report, files, lambda: spawn(argv, env, cwd))

    def _start_warm(self, argv: list[str], env: dict[str, str], cwd: str, files: dict[int, int], report: int) -> bool:
        request = {"argv": argv, "env": env, "cwd": cwd, "targets": list(files)}
        descriptors = array.array("i", [report, *files.values()])
        try:
            self._warm.sendmsg(  # type: ignore[union-attr]
                [json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
            )
        except OSError:
            return False  # it is gone, or the request is too long for it
        return True

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
        self._warm_is_ready = bool(self._warm.recv(CHUNK_BYTES))
        if not self._warm_is_ready:
            self._loop.forget(self._warm.detach())
            self._warm = None
        held, self._held = self._held, []
        for start in held:
            start()
