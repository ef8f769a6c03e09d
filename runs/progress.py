"""How a run is getting on, on standard error: a live table on a terminal, elsewhere a line per finished episode."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from statistics import fmean

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trellis.runs import text
from trellis.runs.attempt import Attempt
from trellis.runs.executor import Watcher
from trellis.runs.results import Key, Result, total_usd
from trellis.runs.table import console

REFRESH_PER_S = 4


@contextmanager
def watching(keys: Sequence[Key], before: Sequence[Result], *, quiet: bool = False) -> Iterator[Watcher]:
    """A watcher for the episodes `keys` of which `before` have ended already."""
    if quiet:
        yield Lines(len(keys), len(before), silent=True)
    elif sys.stderr.isatty():
        board = Board(keys, before)
        with board.drawn():
            yield board
    else:
        yield Lines(len(keys), len(before))


class Lines:
    """One line per finished episode."""

    def __init__(self, total: int, done: int, *, silent: bool = False) -> None:
        self._total = total
        self._done = done
        self._silent = silent

    def begun(self, attempt: Attempt) -> None:
        return None

    def ended(self, result: Result) -> None:
        if result.outcome == "cancelled":
            return  # it goes on with a resume; that the run stopped, and why, is said once for all of them
        self._done += 1
        if self._silent:
            return
        what = f"score {result.score.value:.3f}" if result.score else text.line(result.fault, 120)
        where = text.line(str(result.key))
        print(f"[{self._done}/{self._total}] {where}: {result.outcome} {what}".rstrip(), file=sys.stderr, flush=True)

    def waits(self, line: str) -> None:
        if line and not self._silent:
            print(text.line(line), file=sys.stderr, flush=True)

    def aside(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass
class _Tally:
    """What is known of one agent on one benchmark."""

    total: int
    ended: list[Result]
    running: dict[Key, Attempt]


class Board:
    """The live table."""

    def __init__(self, keys: Sequence[Key], before: Sequence[Result]) -> None:
        self._tallies: dict[tuple[str, str], _Tally] = {}
        for key in keys:
            self._tally(key).total += 1
        for result in before:
            self._tally(result.key).ended.append(result)
        self._left = len(keys) - len(before)
        self._finished = 0
        self._waiting = ""
        self._began = time.monotonic()
        self._live = self._new_live()

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Within it the table stands at the bottom of the terminal."""
        self._live.start()
        try:
            yield
        finally:
            self._live.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        self._live.transient = True  # the table goes, and comes again below what is written meanwhile
        self._live.stop()
        try:
            yield
        finally:
            self._live = self._new_live()
            self._live.start()

    def begun(self, attempt: Attempt) -> None:
        self._tally(attempt.cell.key).running[attempt.cell.key] = attempt

    def ended(self, result: Result) -> None:
        tally = self._tally(result.key)
        tally.running.pop(result.key, None)
        tally.ended.append(result)
        self._finished += 1

    def waits(self, line: str) -> None:
        self._waiting = line

    def render(self) -> RenderableType:
        caption = Text("\n".join(filter(None, (self._eta(), text.line(self._waiting)))))
        table = Table(box=SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
        table.add_column("benchmark")
        table.add_column("agent", overflow="fold")
        for name in ("done", "running", "faults", "score so far", "steps", "cost"):
            table.add_column(name, justify="right", no_wrap=True)
        for (benchmark, agent), tally in self._tallies.items():
            scores = [r.score.value for r in tally.ended if r.score]
            faults = sum(r.outcome == "fault" for r in tally.ended)
            budgets = [attempt.budget for attempt in tally.running.values()]
            costs = [r.cost_usd for r in tally.ended] + [budget.spent_cost_usd for budget in budgets]
            table.add_row(
                Text(text.visible(benchmark)),
                Text(text.visible(agent)),
                Text(f"{len(tally.ended)}/{tally.total}", "green" if len(tally.ended) == tally.total else ""),
                str(len(tally.running) or ""),
                Text(str(faults or ""), "bold red"),
                text.number(fmean(scores) if scores else None),
                text.count(sum(r.steps for r in tally.ended) + sum(budget.spent_steps for budget in budgets)),
                text.usd(total_usd(costs)),
            )
        return table

    def _new_live(self) -> Live:
        return Live(get_renderable=self.render, console=console(sys.stderr), refresh_per_second=REFRESH_PER_S)

    def _eta(self) -> str:
        elapsed = time.monotonic() - self._began
        unfinished = self._left - self._finished
        if not self._finished or not unfinished:
            return f"{text.seconds(elapsed)} elapsed"
        left = elapsed / self._finished * unfinished
        return f"{text.seconds(elapsed)} elapsed, about {text.seconds(left)} to go"

    def _tally(self, key: Key) -> _Tally:
        return self._tallies.setdefault((key.benchmark, key.agent), _Tally(0, [], {}))
