"""The world stands still while its files are captured.

Part of the guest (see main.py): Python 3.8, standard library only.
"""
# Plain calls: pathlib would cost a container an import.
# ruff: noqa: PTH123

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from trellis.environments.guest.processes import ProcessEntry, living_descendants, process_table, send_signal

if TYPE_CHECKING:
    from trellis.environments.guest.bash import Shell
    from trellis.environments.guest.launcher import Launcher
    from trellis.environments.guest.streams import Loop

STOP_S = 2.0
STEP_S = 2.0
"""How long a shell may take to change its folder."""
SHOWN_COMMAND = 200

# A shell that waits for its next command leaves its folder, and returns to it under the name that it knew it by; one
# that could not return stays.
STEP_ASIDE = b"""\
if [[ ${PWD-} -ef . && -x . ]]; then
  __trellis_here=$PWD __trellis_before=${OLDPWD-}
  \\builtin cd /
fi
"""
STEP_BACK = b"""\
if [[ ${__trellis_here-} ]]; then
  \\builtin cd -L -- "$__trellis_here"
  if [[ $__trellis_before ]]; then OLDPWD=$__trellis_before; else \\builtin unset -v OLDPWD; fi
  \\builtin unset -v __trellis_here __trellis_before
fi
"""


class Pause:
    """Stops everything in the world but the guest, and lets it go on."""

    def __init__(self, loop: Loop, launcher: Launcher, shells: Mapping[int, Shell]) -> None:
        self._loop = loop
        self._launcher = launcher
        self._shells = shells
        self.active = False
        self._stopped = False
        self._end_wanted: Callable[[], None] | None = None

    def begin(self, aside: bool, begun: Callable[[], None]) -> None:
        """Call `begun` when all have stopped. With `aside`, Trellis's own processes and the shells that wait for a
        command have left their folders before that, until the end."""
        self.active = True
        self._stopped = False
        self._begun = begun

        def all_known() -> None:
            if aside:
                os.chdir("/")
                self._tell_shells(STEP_ASIDE, self._stop)
            else:
                self._stop()

        self.when_known(all_known)

    def end(self, workdir: str, ended: Callable[[], None]) -> None:
        """Call `ended` when all go on; also what was stopped before. This may be wanted while they are still being
        stopped."""

        def in_place() -> None:
            self.active = False
            ended()

        if self.active and not self._stopped:
            self._end_wanted = lambda: self.end(workdir, ended)
            return
        signal_all(signal.SIGCONT)
        with suppress(OSError):  # the world may have removed it
            os.chdir(workdir)
        self._tell_shells(STEP_BACK, in_place)

    def when_known(self, call: Callable[[], None], tries: int = 50) -> None:
        """Call when commands that are just being started have said who they are."""
        if tries and self._launcher.starting():
            self._loop.after(0.001, lambda: self.when_known(call, tries - 1))
        else:
            call()

    def own(self) -> list[int]:
        """The pids of Trellis's processes, which never open a file of the world and keep it open."""
        return [pid for pid in (os.getpid(), self._launcher.warm_pid, *self._launcher.supervisors()) if pid]

    def running(self) -> list[str]:
        """What runs in the world, one line each, but for Trellis's processes and shells that wait for a command."""
        left_out = {*self.own(), *(shell.idle_bash for shell in self._shells.values())}
        return [
            f"process {entry.pid}: {_command(entry.pid)}"
            for entry in others()
            if entry.pid not in left_out and entry.state not in "ZX"
        ]

    def _stop(self) -> None:
        deadline = time.monotonic() + STOP_S
        signal_all(signal.SIGSTOP)
        while time.monotonic() < deadline and any(entry.state in "RS" for entry in others()):
            time.sleep(0.001)
            signal_all(signal.SIGSTOP)  # where it is not one call for all, forks escape it
        self._stopped = True
        self._begun()
        if self._end_wanted is not None:
            end, self._end_wanted = self._end_wanted, None
            end()

    def _tell_shells(self, script: bytes, told: Callable[[], None]) -> None:
        waiting = [shell for shell in self._shells.values() if shell.idle_bash]
        left = len(waiting)

        def one_told() -> None:
            nonlocal left
            left -= 1
            if not left:
                told()

        for shell in waiting:
            shell.run_quietly(script, STEP_S, one_told)
        if not waiting:
            told()


def others() -> list[ProcessEntry]:
    """Every process of the world but the guest."""
    if os.getpid() == 1:
        return [entry for entry in process_table() if entry.pid != 1]
    return living_descendants(os.getpid())


def signal_all(number: int) -> None:
    if os.getpid() == 1:
        with suppress(ProcessLookupError):
            os.kill(-1, number)  # everything in this world, this process excepted
    else:
        for entry in others():
            send_signal(entry.pid, number)


def _command(pid: int) -> str:
    """Its command line, on one line; its name in brackets where there is none."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            line = file.read(4096).rstrip(b"\0").replace(b"\0", b" ")
        if not line:
            with open(f"/proc/{pid}/comm", "rb") as file:
                line = b"[" + file.read().strip() + b"]"
    except OSError:
        line = b"[ended]"
    text = " ".join(line.decode("utf-8", "replace").split())
    return text if len(text) <= SHOWN_COMMAND else text[:SHOWN_COMMAND] + "..."
