"""One command in a shell, from its beginning to its end: what it started, whether it waits for input or had its time.

Part of the guest (see program.py): Python 3.8, standard library only.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from trellis.environments.guest.processes import (
    KILL_S,
    ProcessEntry,
    children,
    living_descendants,
    send_signal,
)
from trellis.environments.guest.streams import Capture, Loop, Process, Timer
from trellis.environments.guest.terminal import Terminal
from trellis.environments.guest.waiting import NO, PERHAPS, SURELY, in_background, used_ticks, waits_for

INTERRUPT_S = 2.0
"""How long an interrupted shell may take to come back before it is killed and replaced."""
FIRST_LOOK_S, LONGEST_PAUSE_S = 0.05, 0.4
"""After how much silence a command is looked at for whether it waits for input, and how rarely at most."""
LOOKS_COST = 50
"""The time between two looks is so many times what a look takes: looking costs two per cent at most."""
PERHAPS_S = 0.25
"""How long nothing at all must happen before what perhaps waits for input is taken to do so."""


class Command:
    """A command that has begun."""

    def __init__(
        self,
        loop: Loop,
        bash: Process,
        output: Capture,
        terminal: Terminal | None,
        number: int,
        remind: Callable[[], None],
        ended: Callable[[Command, int, bool], None],
    ) -> None:
        """`remind` has bash report again under `number` that it is done; `ended` is called once, with the exit code
        and whether the bash has ended too."""
        self.number = number
        self.code: int | None = None
        self.timed_out = False
        self.told = False
        """Does the host know that it has ended?"""
        self._loop, self._bash, self._output, self._terminal = loop, bash, output, terminal
        self._remind, self._on_end = remind, ended
        self._older = {*children(bash.pid), *children(bash.supervisor)} - {bash.pid}
        self._turn = 0
        self._timer = Timer(lambda: None)
        self._interrupted: dict[int, int] = {}
        self._give_up_at: float | None = None
        self._finishing = False

    @property
    def ended(self) -> bool:
        return self.code is not None

    def limit(self, timeout_s: float) -> None:
        """Interrupt the command then, unless it has ended, waits for input, or went on otherwise."""
        self.pause(timeout_s, lambda: self.interrupt(timed_out=True))

    def pause(self, seconds: float, then: Callable[[], None]) -> None:
        """Call `then` after that time, unless the command has ended or went on otherwise."""
        self._turn += 1
        self._timer.cancel()
        self._timer = self._loop.after(seconds, then)

    # --- waiting ---

    def watch(self, waits: Callable[[], None]) -> None:
        """Call `waits` once, when something waits for input from the terminal; the limit is lifted then."""
        turn, seen, silent_since, ticks = self._turn, self._output.received, time.monotonic(), -1

        def look(pause_s: float) -> None:
            nonlocal seen, silent_since, ticks
            if turn != self._turn or self.ended or self._give_up_at is not None:
                return
            began_s = time.monotonic()
            if self._output.received != seen:
                seen, silent_since, ticks, pause_s = self._output.received, began_s, -1, FIRST_LOOK_S
            else:
                found, used = self._look()
                quiet = used == ticks >= 0 and began_s - silent_since > PERHAPS_S
                if found == SURELY or (found == PERHAPS and quiet):
                    self._turn += 1
                    self._timer.cancel()
                    waits()
                    return
                ticks = used
                pause_s = min(1.5 * pause_s, LONGEST_PAUSE_S)
            pause_s = max(pause_s, LOOKS_COST * (time.monotonic() - began_s))
            self._loop.after(pause_s, lambda: look(pause_s))

        self._loop.after(FIRST_LOOK_S, lambda: look(FIRST_LOOK_S))

    def _look(self) -> tuple[int, int]:
        """Does anything wait for input, and how much processor time has the command had (-2: it is computing)?"""
        if self._terminal is None or self._terminal.unread:
            return NO, -2
        if waits_for(self._bash.pid, self._terminal.identity) == SURELY:
            return SURELY, 0
        found, used, running = NO, 0, False
        for entry in self._started():
            running = running or entry.state in "RD"
            used += used_ticks(entry.pid)
            waits = waits_for(entry.pid, self._terminal.identity)
            if waits > found and not in_background(entry.pid):
                found = waits
        return found, -2 if running else used

    # --- ending ---

    def interrupt(self, *, timed_out: bool) -> None:
        """Like Ctrl-C, until the shell is back at its next line; in the end, kill it."""
        if self.ended or self._give_up_at is not None:
            return
        self.timed_out = timed_out
        self._give_up_at = time.monotonic() + INTERRUPT_S
        self._press()

    def _press(self) -> None:
        if self.ended or self._finishing or self._give_up_at is None:
            return
        if time.monotonic() > self._give_up_at:
            self._bash.kill()
            return
        bash = self._bash.pid
        send_signal(bash, signal.SIGSTOP)  # what it runs dies first: bash must not go on to the next command
        for entry in self._started():
            self._interrupted[entry.pid] = times = self._interrupted.get(entry.pid, 0) + 1
            send_signal(entry.pid, signal.SIGINT if times < 3 else signal.SIGKILL)
        send_signal(bash, signal.SIGINT)
        self._remind()  # the interrupt may have swallowed the first one
        self._loop.after(0.02, lambda: send_signal(bash, signal.SIGCONT))
        self._loop.after(0.06, self._press)

    def done(self, code: int) -> None:
        """Bash says that it is back at its next line."""
        if not self._finishing:
            self._finishing = True
            self._finish(code)

    def _finish(self, code: int) -> None:
        if self.ended:
            return
        if self._give_up_at is not None:
            code = 128 + (signal.SIGKILL if self.timed_out else signal.SIGINT)
            stragglers = self._started()
            for entry in stragglers:
                send_signal(entry.pid, signal.SIGKILL)
            if stragglers and time.monotonic() < self._give_up_at + KILL_S:
                self._loop.after(0.01, lambda: self._finish(code))
                return
        self.end(code, last=False)

    def end(self, code: int, *, last: bool) -> None:
        if not self.ended:
            self.code = code
            self._timer.cancel()
            self._on_end(self, code, last)

    def _started(self) -> list[ProcessEntry]:
        """Jobs from before the command, and all below them, are left out."""
        found = living_descendants(self._bash.supervisor, lambda entry: entry.pid not in self._older)
        return [entry for entry in found if entry.pid != self._bash.pid]
