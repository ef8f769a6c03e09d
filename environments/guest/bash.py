"""A bash whose state lasts between commands.

Part of the guest (see guest.py): Python 3.8, standard library only.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from trellis.environments.guest.processes import (
    KILL_S,
    ProcessEntry,
    children,
    exit_code,
    living_descendants,
    send_signal,
)
from trellis.environments.guest.streams import CHUNK_BYTES, Capture, Loop, Process, memory_file, pipe

if TYPE_CHECKING:
    Answer = Callable[..., None]
    Launch = Callable[[list[str], dict[int, int], Callable[[int], None]], Process]

INTERRUPT_S = 2.0
"""How long an interrupted shell may take to come back before it is killed and replaced."""
SCRIPT_FD, OUTPUT_FD, DONE_FD = 6, 7, 8

# Bash reads one constant line per command from a pipe of its own; the command itself lies in a memory file, which is
# sourced, so syntax errors and open quotes end with it. The shell is interactive so that SIGINT brings it back to its
# next line with all its state, and its own standard error is nowhere, so `set -x` does not trace these lines.
SHELL = ("bash", "--norc", "--noprofile", "--noediting", "-i", "+m")
SHELL_SETUP = b"PS1= PS2=; unset PS1 PS2 HISTFILE MAILCHECK; set +o history +H\n"
SHELL_RUN = b". /proc/self/fd/%d </dev/null 2>&%d %d>&- %d>&-\n" % (SCRIPT_FD, OUTPUT_FD, OUTPUT_FD, DONE_FD)
SHELL_RUN_QUIETLY = b". /proc/self/fd/%d </dev/null >/dev/null 2>&1 %d>&- %d>&-\n" % (SCRIPT_FD, OUTPUT_FD, DONE_FD)
SHELL_DONE = b"\\builtin printf '%%s %%s\\n' %d \"$?\" >&%d\n"


class Shell:
    """A bash whose state lasts. One command at a time; the host sees to that."""

    def __init__(self, loop: Loop, launch: Launch, spill_path: Callable[[], str]) -> None:
        self._loop = loop
        self._launch = launch
        self._spill_path = spill_path
        self._serial = itertools.count(1)
        self._number = 0
        self._answer: Answer | None = None
        self._command_waits = False
        """For the bash to say its pid."""
        self._process: Process | None = None
        self._told_of_end = True
        self._restarted = False

    @property
    def idle_bash(self) -> int:
        """The pid of the bash if it waits for a command, else 0."""
        idle = self._process is not None and self._answer is None and not self._command_waits
        return self._bash.pid if idle else 0

    def run(
        self, command: bytes, timeout_s: float, answer: Answer, *, started: bool = False, quiet: bool = False
    ) -> None:
        """Run a command; a bash is started for it if there is none. With `quiet`, what it prints is thrown away, and
        what background jobs printed is kept for the next command."""
        self._command_waits = False
        if self._process is None:
            try:
                if started:
                    raise OSError(errno.ENOENT, "there is no bash")
                self._start()
            except OSError as error:
                self._refuse(error, answer)
                return
        if not self._bash.pid:  # what has no number cannot be interrupted
            self._command_waits = True
            self._loop.after(0.001, lambda: self.run(command, timeout_s, answer, started=True, quiet=quiet))
            return
        self._answer, self._timed_out, self._finishing, self._quiet = answer, False, False, quiet
        self._began_s = time.monotonic()
        self._older = {*children(self._bash.pid), *children(self._bash.supervisor)}
        self._interrupted: dict[int, int] = {}
        self._number = number = next(self._serial)
        os.ftruncate(self._script, 0)
        os.pwrite(self._script, command, 0)
        self._write((SHELL_RUN_QUIETLY if quiet else SHELL_RUN) + SHELL_DONE % (number, DONE_FD))
        self._loop.after(timeout_s, lambda: self._interrupt(number))

    @property
    def _bash(self) -> Process:
        assert self._process is not None
        return self._process

    def _start(self) -> None:
        with ExitStack() as ours, ExitStack() as passed:
            lines, self._lines = pipe(passed, ours)
            output, output_write = pipe(ours, passed)
            done, done_write = pipe(ours, passed)
            self._script = memory_file(b"")
            ours.callback(os.close, self._script)
            null = os.open(os.devnull, os.O_RDWR)
            passed.callback(os.close, null)
            files = {0: lines, 1: output_write, 2: null, OUTPUT_FD: output_write}
            files.update({SCRIPT_FD: self._script, DONE_FD: done_write})
            self._process = self._launch(list(SHELL), files, self._ended)
            ours.pop_all()
        self._restarted, self._told_of_end = not self._told_of_end, False
        self._output = Capture(self._loop, output, self._spill_path)
        self._done_buffer = b""
        self._loop.watch(done, lambda: self._done_readable(done))
        self._write(SHELL_SETUP)

    def _refuse(self, error: OSError, answer: Answer) -> None:
        facts = {"exit_code": 126, "timed_out": False, "restarted": False, "duration_s": 0.0, "spilled": []}
        answer(facts, f"the shell cannot be started: {error.strerror}\n".encode())

    def interrupt(self) -> None:
        self._interrupt(self._number)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _write(self, lines: bytes) -> None:
        with suppress(BrokenPipeError):  # bash is gone: its end is reported elsewhere
            os.write(self._lines, lines)

    def _interrupt(self, number: int) -> None:
        """Like Ctrl-C, until the shell is back at its next line; in the end, kill it."""
        if self._answer is None or number != self._number or self._finishing:
            return
        if not self._timed_out:
            self._timed_out, self._give_up_at = True, time.monotonic() + INTERRUPT_S
        if time.monotonic() > self._give_up_at:
            self._bash.kill()
            return
        bash = self._bash.pid
        send_signal(bash, signal.SIGSTOP)  # what it runs dies first: bash must not go on to the next command
        for entry in self._started_by_command():
            self._interrupted[entry.pid] = times = self._interrupted.get(entry.pid, 0) + 1
            send_signal(entry.pid, signal.SIGINT if times < 3 else signal.SIGKILL)
        send_signal(bash, signal.SIGINT)
        self._write(SHELL_DONE % (number, DONE_FD))  # the interrupt may have swallowed the first one
        self._loop.after(0.02, lambda: send_signal(bash, signal.SIGCONT))
        self._loop.after(0.06, lambda: self._interrupt(number))

    def _started_by_command(self) -> list[ProcessEntry]:
        """Jobs from before the command, and all below them, are left out."""
        if self._process is None:
            return []
        bash = self._process.pid

        def is_new(entry: ProcessEntry) -> bool:
            return entry.pid != bash and entry.pid not in self._older

        return living_descendants(bash, is_new) + living_descendants(self._process.supervisor, is_new)

    def _done_readable(self, done: int) -> None:
        data = os.read(done, CHUNK_BYTES)
        if not data:
            self._loop.forget(done)
        *lines, self._done_buffer = (self._done_buffer + data).split(b"\n")
        for line in lines:
            number, _, code = line.partition(b" ")
            if number == b"%d" % self._number and not self._finishing:
                self._finishing = True
                self._finish(self._number, int(code))

    def _finish(self, number: int, code: int) -> None:
        if self._answer is None or number != self._number:
            return
        if self._timed_out:
            code = 128 + signal.SIGKILL
            stragglers = self._started_by_command()
            for entry in stragglers:
                send_signal(entry.pid, signal.SIGKILL)
            if stragglers and time.monotonic() < self._give_up_at + KILL_S:
                self._loop.after(0.01, lambda: self._finish(number, code))
                return
        self._give_answer(code)

    def _ended(self, status: int) -> None:
        self._process = None
        os.close(self._lines)
        os.close(self._script)
        if self._answer is not None:
            self._restarted = self._told_of_end = not self._quiet
            self._give_answer(exit_code(status)[0], last=True)
        else:
            self._output.take(last=True)

    def _give_answer(self, code: int, *, last: bool = False) -> None:
        if self._answer is None:
            return
        answer, self._answer = self._answer, None
        if self._quiet and not last:
            answer({"exit_code": code})
            return
        restarted, self._restarted = self._restarted, False
        output, spilled = self._output.take(last=last)
        answer(
            {
                "exit_code": code,
                "timed_out": self._timed_out,
                "restarted": restarted,
                "duration_s": time.monotonic() - self._began_s,
                "spilled": spilled,
            },
            output,
        )
