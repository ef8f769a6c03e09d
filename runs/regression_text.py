"""A recorded replay as text for people."""

from __future__ import annotations

from collections.abc import Iterator

from trellis.models.terminal import visible
from trellis.runs.recorded_changes import Change
from trellis.runs.regression import Replayed
from trellis.runs.text import plural

SHOWN = 40
"""How many lines of one difference are shown."""
_ASKED = {"generate": "the request to the model", "compact": "the request to compact the conversation"}
_MADE = {
    "generate": "call of the model",
    "compact": "compaction of the conversation",
    "act": "tool call",
    "submit": "submission",
    "handed_in": "submission of something kept",
    "approval": "question for approval",
    "discover": "question to a server of tools",
    "branch": "branch",
}


def lines(outcome: Replayed, name: str = "") -> Iterator[str]:
    """All of it, fit to be printed. `name` is how the trajectory is called, if not by its path."""
    change = outcome.change
    counted = f"{plural(outcome.steps, 'step')}, {plural(outcome.acts, 'tool call')}, {outcome.ms:.0f} ms"
    yield f"{visible(name or str(outcome.path))}: {'changed' if change else 'same'} ({counted})"
    if change:
        yield from (visible(line) for line in _change(change))
    for note in outcome.notes:
        yield f"note: {visible(note)}"


def _change(change: Change) -> Iterator[str]:
    where = f"branch {change.branch}"
    if change.step:
        where = f"step {change.step} ({change.branch}:{change.turn})"
    made = _MADE.get(change.kind, change.kind)
    match change.how:
        case "changed":
            asked = _ASKED.get(change.kind, f"the {made}")
            yield f"{where}: {asked} has changed (event {change.event})"
        case "new":
            after = f"after {where}" if change.step else where
            other = _MADE.get(change.instead_of, change.instead_of)
            if other:
                yield f"{after}: now a {made}, where the record goes on with a {other} (event {change.event})"
            else:
                yield f"{after}: now another {made}, and no more are recorded"
        case "gone":
            yield f"{where}: a recorded {made} is no longer made (event {change.event})"
    yield from _indented(change.request, "    ")
    for difference in change.differences:
        yield f"  {difference.what}: {difference.how}"
        yield from _indented(difference.lines, "    ")


def _indented(text: tuple[str, ...], margin: str) -> Iterator[str]:
    for line in text[:SHOWN]:
        yield f"{margin}{line}"
    if len(text) > SHOWN:
        yield f"{margin}... {plural(len(text) - SHOWN, 'more line')} (trellis replay --recorded --json has all)"
