"""Trajectories side by side, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from trellis.runs import text
from trellis.runs.diffing import Bar, Comparison, Divergence, Side, folded, priced, row_of, same_task, waterfalls
from trellis.runs.step_text import DIFF, Look, coloured, head, quoted
from trellis.trajectories.aligning import Mark, Pair

SIGNS = {"same": "=", "reply": "≈", "result": "≈", "changed": "~", "only_a": "<", "only_b": ">"}
MEANT = {
    "same": "the same",
    "reply": "the same done, another reply",
    "result": "the same done, another result",
    "changed": "changed",
}
SHOWN_ROWS, SHOWN_BARS, DIFF_CHARS = 120, 40, 4_000
"""Unless all is asked for."""
_COLOURS = {"~": "yellow", "≈": "yellow", "<": "red", ">": "green"}
_BAR, _COST = 40, 16
"""Characters of full bars."""


def lines(sides: Sequence[Side], comparisons: Sequence[Comparison], look: Look) -> Iterator[str]:
    for each in sides:
        name, *rest = head(each.about)
        yield f"{each.label}  {name}"
        yield from (f"   {line}" for line in rest)
    tasks = "the same task" if same_task(sides) else "these are different tasks"
    yield tasks
    for comparison in comparisons:
        yield ""
        yield from _comparison(comparison, look)
    yield ""
    yield from _waterfalls(sides, look)


def _comparison(comparison: Comparison, look: Look) -> Iterator[str]:
    a, b = comparison.a.label, comparison.b.label
    counts = comparison.counts
    told = [f"{counts[row]} {meaning}" for row, meaning in MEANT.items() if counts[row]]
    told += [f"{counts[row]} only in {label}" for row, label in (("only_a", a), ("only_b", b)) if counts[row]]
    yield click.style(f"{a} and {b}", bold=True) + f": {', '.join(told) or 'no steps'}"
    yield from _first(comparison.first, a, b, look)
    shown = 0
    rows = sum(len(line.pairs) for line in comparison.lines)
    for line in comparison.lines:
        if line.name:
            yield f"  {text.line(line.name)}"
        yield f"      {a:>6} {b:>6}"
        for pairs in ([pair] for pair in line.pairs) if look.whole else folded(line):
            if shown >= SHOWN_ROWS and not look.whole:
                yield f"  ... and {rows - shown:,} more rows: --full shows all, --html FILE makes a page"
                return
            shown += len(pairs)
            yield from _row(pairs, a, b, look)


def _row(pairs: Sequence[Pair], a: str, b: str, look: Look) -> Iterator[str]:
    first, last = pairs[0], pairs[-1]
    if len(pairs) > 1:
        numbers = [f"{getattr(first, s).number}-{getattr(last, s).number}" for s in ("a", "b")]
        yield f"    = {numbers[0]:>6} {numbers[1]:>6}  {len(pairs)} steps the same"
        return
    row = row_of(first)
    mark = first.a or first.b
    assert mark is not None
    numbers = ["" if each is None else str(each.number) for each in (first.a, first.b)]
    what = f" [{row}]" if row in ("reply", "result") else ""
    begin = f"    {SIGNS[row]} {numbers[0]:>6} {numbers[1]:>6}  "
    room = max(20, look.columns - len(begin) - len(what))
    line = begin + text.line(mark.title, room) + what
    colour = _COLOURS.get(SIGNS[row])
    yield click.style(line, fg=colour) if colour else line
    yield from (f"{' ' * len(begin)}{told}" for told in _files(first, a, b))


def _files(pair: Pair, a: str, b: str) -> Iterator[str]:
    files = [(label, mark.files) for label, mark in ((a, pair.a), (b, pair.b)) if mark is not None]
    if len({names for _, names in files}) == 1:
        files = [("", files[0][1])]
    yield from (f"changed{label and f' by {label}'}: {_names(names)}" for label, names in files if names)


def _names(files: Sequence[str], most: int = 4) -> str:
    more = f" and {len(files) - most} more" if len(files) > most else ""
    return ", ".join(text.line(name, 80) for name in files[:most]) + more


def _first(first: Divergence | None, a: str, b: str, look: Look) -> Iterator[str]:
    if first is None:
        yield "  no step differs"
        return
    where = [f"{label}'s step {_place(mark)}" for label, mark in ((a, first.pair.a), (b, first.pair.b)) if mark]
    what = "only one of them makes it" if first.what == "step" else f"the {first.what} differs"
    yield f"  first divergence: {' and '.join(where)}: {what}"
    if first.diff:
        whole = Look(look.columns, look.whole)
        yield from coloured(quoted(DIFF, first.diff, whole, limit=DIFF_CHARS))
    elif mark := first.pair.a or first.pair.b:
        yield from quoted(DIFF, mark.title, look)


def _place(mark: Mark) -> str:
    return f"{mark.number} ({text.line(mark.branch)}:{mark.turn})"


def _waterfalls(sides: Sequence[Side], look: Look) -> Iterator[str]:
    by_cost = priced(sides)
    rows = SHOWN_BARS if not look.whole else max((len(each.marks) for each in sides), default=1) or 1
    for each, bars in zip(sides, waterfalls(sides, rows), strict=True):
        yield f"{each.label}: when each step was, and what it {'cost' if by_cost else 'took in tokens'}"
        yield from (_bar(bar, by_cost=by_cost) for bar in bars)


def _bar(bar: Bar, *, by_cost: bool) -> str:
    steps = str(bar.first) if bar.first == bar.last else f"{bar.first}-{bar.last}"
    start = min(_BAR - 1, int(bar.start * _BAR))
    time = " " * start + "█" * max(1, round(bar.length * _BAR))
    amount = text.usd(bar.cost_usd) if by_cost else text.count(bar.tokens)
    when = f"{steps:>11} │{time[:_BAR]:<{_BAR}}│ {text.seconds(bar.seconds):>9}"
    return f"{when}  {'▒' * round(bar.share * _COST):<{_COST}} {amount}"
