"""A verified replay, as people read it. What tools wrote is made visible, so that it cannot steer a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import unified_diff
from itertools import islice

from rich.console import RenderableType

from trellis.models.terminal import visible
from trellis.runs.determinism import Determinism, Verified
from trellis.runs.reexecution import Again
from trellis.runs.table import simple
from trellis.runs.text import line, plural

_MARKS = {"equal": "=", "normalised": "~", "different": "≠", "not replayed": "·"}
_CALL = 70
_DIFF_LINES = 20
_DIFF_CHARS = 20_000
"""Of each observation: a diff of more is not read."""


def call(again: Again) -> Iterator[str]:
    """A line for a call, and what there is to be said of it below."""
    where = f"{again.step:>5} {line(again.branch)}"
    yield f"{where:<20} {_MARKS[again.verdict]} {line(f'{again.name} {again.call}', _CALL)}"
    if again.verdict == "not replayed":
        yield f"        not replayed: {line(again.why)}"
    for forgiven in again.comparison.forgiven:
        examples = ", ".join(f"{line(was, 40)} → {line(now, 40)}" for was, now in forgiven.examples)
        yield f"        {forgiven.name}: {examples}"
    if again.verdict == "different":
        yield f"        {line(again.why)}"
        yield from (f"          {line(file)}" for file in again.files)
        yield from (f"          {text}" for text in _diff(again.recorded, again.now))


def _diff(recorded: str, now: str) -> Iterator[str]:
    if recorded == now:
        return
    was, is_now = (visible(text[:_DIFF_CHARS]).splitlines() for text in (recorded, now))
    diff = list(islice(unified_diff(was, is_now, "recorded", "now", lineterm="", n=1), _DIFF_LINES + 1))
    yield from diff[:_DIFF_LINES]
    if len(diff) > _DIFF_LINES:
        yield "..."


def summary(verified: Verified) -> Iterator[str]:
    """How a trajectory came out, in a line or two."""
    yield f"{line(str(verified.path), 400)}: {counted(verified)}"
    if verified.fault:
        yield f"  fault: {line(verified.fault, 400)}"
    yield from (f"  note: {line(note)}" for note in verified.notes)


def counted(verified: Verified) -> str:
    """ "25 calls: 24 equal, 1 normalised"."""
    counts = verified.counts
    parts = [f"{counts[name]} {name}" for name in _MARKS if counts[name]]
    fault = ", and then a fault" if verified.fault else ""
    return f"{plural(len(verified.calls), 'call')}: {', '.join(parts) or 'nothing to replay'}{fault}"


def table(tasks: Sequence[Determinism]) -> RenderableType:
    columns = {"task": "left", "episodes": "right", "same": "right", "calls": "right", "exact": "right",
               "determinism": "right"}  # fmt: skip
    return simple(columns, _rows(tasks))


def _rows(tasks: Iterable[Determinism]) -> Iterator[list[str]]:
    for task in tasks:
        yield [
            line(task.task),
            str(task.episodes),
            str(task.same),
            str(task.calls),
            _share(task.exact),
            _share(task.score),
        ]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
