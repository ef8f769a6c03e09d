"""A bash whose state lasts between commands.

Part of the guest (see program.py): Python 3.8, standard library only.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from trellis.environments.guest.processes import exit_code
from trellis.environments.guest.shell_command import Command
from trellis.environments.guest.shell_state import LONGEST_ANSWER_BYTES, pack, question, unpack
from trellis.environments.guest.streams import CHUNK_BYTES, Capture, Loop, Process, memory_file, pipe
from trellis.environments.guest.terminal import Terminal

if TYPE_CHECKING:
    Answer = Callable[..., None]
    Launch = Callable[[list[str], dict[int, int], Callable[[int], None]], Process]

STATE_TIMEOUT_S = 10.0
NOT_BEGUN = {"timed_out": False, "restarted": False, "waiting": False, "duration_s": 0.0, "spilled": ()}
NOT_TAKEN = b"[the shell of the snapshot could not be taken over, or not wholly]\n"
SCRIPT_FD, OUTPUT_FD, DONE_FD, TERMINAL_FD = 6, 7, 8, 9
SCRIPT = f"/proc/self/fd/{SCRIPT_FD}"

# Bash reads one constant line per command from a pipe of its own; the command itself lies in a memory file, which is
# sourced, so syntax errors and open quotes end with it. The shell is interactive so that SIGINT brings it back to its
# next line with all its state, and its own standard error is nowhere, so `set -x` does not trace these lines.
SHELL = ("bash", "--norc", "--noprofile", "--noediting", "-i", "+m")
SHELL_SETUP = b"PS1= PS2=; unset PS1 PS2 HISTFILE MAILCHECK; set +o history +H\n"
SHELL_FALSE, SHELL_STATUS = b"\\builtin false&&\\builtin :\n", b"(\\builtin exit %d)&&\\builtin :\n"
"""They set `$?`; what stands before `&&` may fail under any option and trap."""
_SOURCE = b". " + SCRIPT.encode()
_OURS_CLOSED = b"%d>&- %d>&- %d>&-" % (OUTPUT_FD, DONE_FD, TERMINAL_FD)
SHELL_RUN = _SOURCE + b" </dev/null 2>&%d %s\n" % (OUTPUT_FD, _OURS_CLOSED)
SHELL_CONVERSE = _SOURCE + b" <&%d 2>&%d %s\n" % (TERMINAL_FD, OUTPUT_FD, _OURS_CLOSED)
SHELL_LEARN = _SOURCE + b" </dev/null %s\n" % _OURS_CLOSED
SHELL_QUIETLY = _SOURCE + b" </dev/null >/dev/null 2>&1 %s\n" % _OURS_CLOSED
SHELL_TELL = b"(%s) </dev/null >/dev/null %s||\\builtin :\n" % (_SOURCE, _OURS_CLOSED)
SHELL_DONE = b"\\builtin printf '\\n%%s %%s\\n' %d \"$?\" >&%d\n"
"""Whatever else is written there (a program can open what bash holds open) stands on lines of its own."""
LONGEST_DONE_BYTES = 32


class Shell:
    """A bash whose state lasts. One command at a time; the host sees to that."""

    def __init__(
        self,
        loop: Loop,
        launch: Launch,
        spill_path: Callable[[], str],
        env: Mapping[str, str],
        workdir: str,
        state: bytes = b"",
    ) -> None:
        """`state` is that of another shell (see shell_state.py), which this one takes over when it first starts."""
        self._loop = loop
        self._launch = launch
        self._spill_path = spill_path
        self._env, self._workdir = env, workdir
        self._state = state
        self._process: Process | None = None
        self._terminal: Terminal | None = None
        self._command: Command | None = None
        self._last: Command | None = None
        """The host's last one; the others are of our own."""
        self._status = 0
        """`$?` of the next command."""
        self._answer: Answer | None = None
        self._asked_s = 0.0
        self._notice = b""
        self._coming = False
        """Has the host asked for a command that has not begun yet?"""
        self._lost = False
        """Has a bash ended without the host knowing?"""

    # --- what the host may ask ---

    def run(self, script: bytes, timeout_s: float, answer: Answer, *, interactive: bool) -> None:
        """Run a command; a bash is started for it if there is none."""
        if self._busy and self._command is self._last:
            answer({"refused": "a command that has not ended waits for input"})
            return
        self._coming = True

        def begin() -> None:
            if not self._coming:
                answer({**NOT_BEGUN, "exit_code": 128 + signal.SIGKILL})
                return
            self._coming = False
            self._await(answer)
            status = SHELL_FALSE if self._status == 1 else SHELL_STATUS % self._status if self._status else b""
            converse = interactive and self._terminal is not None
            self._last = self._begin(status + (SHELL_CONVERSE if converse else SHELL_RUN), script, self._host_s_ended)
            self._last.limit(timeout_s)
            if converse:
                self._last.watch(self._waits)

        self._when_ready(begin, answer)

    def send(self, data: bytes, timeout_s: float, answer: Answer) -> None:
        """Give input to the command that waits for it; no data is the end of input."""
        command = self._go_on(answer)
        if command is not None and self._terminal is not None:
            command.limit(timeout_s)
            if data:
                self._terminal.feed(data)
            else:
                self._terminal.end()
            command.watch(self._waits)

    def wait(self, timeout_s: float, answer: Answer) -> None:
        """Let the command that waits for input go on by itself for a while; it is not ended."""
        command = self._go_on(answer)
        if command is not None:
            command.pause(timeout_s, self._waits)

    def interrupt(self, answer: Answer) -> None:
        """End the command that waits for input."""
        command = self._go_on(answer)
        if command is not None:
            command.interrupt(timed_out=False)

    def cancel(self) -> None:
        """End the command that runs, or do not begin the one that was asked for; nobody wants to know how."""
        self._coming = False
        if self._last is not None:
            self._last.interrupt(timed_out=True)

    def tell_state(self, answer: Answer) -> None:
        """The state of this shell between commands, as the payload; nothing if there is a command, or none is told."""
        if self._process is None or not self._process.pid or self._state:
            answer({}, self._state)
        elif self._busy or self._coming:
            answer({})
        else:

            def told(_: Command, __: int, last: bool) -> None:
                size = 0 if last else os.fstat(self._script).st_size
                told = os.pread(self._script, size, 0) if 0 < size <= LONGEST_ANSWER_BYTES else b""
                answer({}, pack(told, self._workdir))

            self._begin(SHELL_TELL, question(SCRIPT, self._env), told).limit(STATE_TIMEOUT_S)

    @property
    def idle_bash(self) -> int:
        """The pid of the bash if it waits for a command, else 0."""
        idle = self._process is not None and not self._busy and not self._coming
        return self._bash.pid if idle else 0

    def run_quietly(self, script: bytes, timeout_s: float, ended: Callable[[], None]) -> None:
        """Run something of ours in an idle bash: it prints nothing, and the host's commands do not notice."""
        self._begin(SHELL_QUIETLY, script, lambda *_: ended()).limit(timeout_s)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()

    # --- one command ---

    @property
    def _busy(self) -> bool:
        return self._command is not None and not self._command.ended

    @property
    def _bash(self) -> Process:
        assert self._process is not None
        return self._process

    def _begin(self, lines: bytes, script: bytes, ended: Callable[[Command, int, bool], None]) -> Command:
        number = int.from_bytes(os.urandom(7), "big")  # nobody else says that this command is done
        done = SHELL_DONE % (number, DONE_FD)
        self._command = Command(
            self._loop, self._bash, self._output, self._terminal, number, lambda: self._write(done), ended
        )
        os.ftruncate(self._script, 0)
        os.pwrite(self._script, script, 0)
        self._write(lines + done)
        return self._command

    def _await(self, answer: Answer) -> None:
        self._answer, self._asked_s = answer, time.monotonic()

    def _go_on(self, answer: Answer) -> Command | None:
        """The command that waits, which will answer here; None if there is nothing to be done with it any more."""
        if self._last is None or self._answer is not None or (self._last.ended and self._last.told):
            answer({"refused": "no command waits for input"})
            return None
        self._await(answer)
        if not self._last.ended:
            return self._last
        self._tell()  # meanwhile it ended by itself
        return None

    def _waits(self) -> None:
        self._tell(waiting=True)

    def _host_s_ended(self, _: Command, code: int, last: bool) -> None:
        if self._terminal is not None:
            self._terminal.clear()
        self._status = 0 if last else code
        if last and self._answer is None:
            self._notice += self._output.take(last=True)[0]
        self._tell()

    def _tell(self, *, waiting: bool = False) -> None:
        """Answer the host, if it asked: what the command has printed since the last time, and how it stands."""
        if self._answer is None or self._last is None:
            return
        answer, self._answer = self._answer, None
        restarted, self._lost = self._lost, False
        output, spilled = self._output.take(last=self._process is None)
        output, self._notice = self._notice + output, b""
        self._last.told = not waiting
        facts = {
            "exit_code": -1 if waiting else self._last.code,
            "timed_out": self._last.timed_out,
            "restarted": restarted,
            "waiting": waiting,
            "duration_s": time.monotonic() - self._asked_s,
            "spilled": spilled,
        }
        answer(facts, output)

    # --- the bash ---

    def _when_ready(self, then: Callable[[], None], answer: Answer) -> None:
        """Go on when there is a bash that can be interrupted, and that has taken over the state it was given."""
        if self._busy:  # with a question of ours
            self._loop.after(0.01, lambda: self._when_ready(then, answer))
            return
        try:
            if self._process is None:
                self._start()
        except OSError as error:
            self._refuse(error, answer)
            return
        self._when_known(then, answer)

    def _when_known(self, then: Callable[[], None], answer: Answer) -> None:
        if self._process is None:
            self._refuse(OSError(errno.ENOENT, "there is no bash"), answer)
        elif not self._process.pid:
            self._loop.after(0.001, lambda: self._when_known(then, answer))
        elif self._state:
            self._take_over(then, answer)
        else:
            then()

    def _take_over(self, then: Callable[[], None], answer: Answer) -> None:
        """A state that ends the bash is given up: a new one begins without it."""
        state, self._state = self._state, b""

        def taken(command: Command, _: int, last: bool) -> None:
            if last or command.timed_out:
                self._notice = NOT_TAKEN
            if last:
                self._lost = False
                self._output.take(last=True)
                self._when_ready(then, answer)
            else:
                then()

        try:
            script = unpack(state, self._workdir)
        except ValueError:
            self._notice = NOT_TAKEN
            then()
        else:
            self._begin(SHELL_LEARN, script, taken).limit(STATE_TIMEOUT_S)

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
            with suppress(OSError):  # without a terminal, commands get empty input
                self._terminal = terminal = Terminal(self._loop, lambda data: self._output.add(data))
                ours.callback(terminal.close)
                files[TERMINAL_FD] = terminal.slave
            self._process = self._launch(list(SHELL), files, self._ended)
            ours.pop_all()
        self._output = Capture(self._loop, output, self._spill_path)
        self._done_buffer = b""
        self._loop.watch(done, lambda: self._done_readable(done))
        self._write(SHELL_SETUP)

    def _refuse(self, error: OSError, answer: Answer) -> None:
        self._coming = False
        answer({**NOT_BEGUN, "exit_code": 126}, f"the shell cannot be started: {error.strerror}\n".encode())

    def note(self, text: bytes) -> None:
        """Add a remark of ours to the output of the command that runs."""
        if self._answer is not None:
            self._output.add(text)

    def _write(self, lines: bytes) -> None:
        with suppress(BrokenPipeError):  # bash is gone: its end is reported elsewhere
            os.write(self._lines, lines)

    def _done_readable(self, done: int) -> None:
        data = os.read(done, CHUNK_BYTES)
        if not data:
            self._loop.forget(done)
        *lines, rest = (self._done_buffer + data).split(b"\n")
        self._done_buffer = rest[:LONGEST_DONE_BYTES]
        for line in lines:
            number, _, code = line.partition(b" ")
            if self._command is not None and number == b"%d" % self._command.number and code.isdigit():
                self._command.done(int(code[:3]))

    def _ended(self, status: int) -> None:
        self._process, self._lost = None, True
        os.close(self._lines)
        os.close(self._script)
        if self._terminal is not None:
            self._terminal.close()
            self._terminal = None
        if self._busy and self._command is not None:
            self._command.end(exit_code(status)[0], last=True)
        else:
            self._output.take(last=True)
