"""Trajectories side by side, as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trellis.runs.diff_text import MEANT, SIGNS
from trellis.runs.diffing import Bar, Comparison, Side, difference, folded, priced, row_of, same_task, waterfalls
from trellis.runs.errors import UsageError
from trellis.tools.clip import clip
from trellis.trajectories.aligning import Mark

DETAILED = 300
"""How many rows of a page have their differences in it."""
DIFF_CHARS = 6_000
"""Of one difference."""


@dataclass(frozen=True)
class Cell:
    """A step in its column."""

    mark: Mark
    bar: Bar


@dataclass(frozen=True)
class Row:
    kind: str
    sign: str
    cells: tuple[Cell | None, Cell | None]
    diff: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """Rows under one heading: a branch, and in it rows one by one or folded."""

    name: str
    parts: tuple[tuple[Row, ...], ...]


@dataclass(frozen=True)
class Section:
    comparison: Comparison
    first: tuple[str, ...]
    blocks: tuple[Block, ...]


def write(path: Path, sides: Sequence[Side], comparisons: Sequence[Comparison]) -> None:
    """Raises UsageError: the file cannot be written."""
    try:
        path.write_text(render(sides, comparisons), "utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def render(sides: Sequence[Side], comparisons: Sequence[Comparison]) -> str:
    from trellis.runs.report import page

    rows = max((len(side.marks) for side in sides), default=1) or 1
    bars = {
        side.label: {bar.first: bar for bar in each} for side, each in zip(sides, waterfalls(sides, rows), strict=True)
    }
    return page(
        "diff.html.j2",
        sides=sides,
        same_task=same_task(sides),
        by_cost=priced(sides),
        meant=MEANT,
        sections=[_section(comparison, bars) for comparison in comparisons],
    )


def _section(comparison: Comparison, bars: dict[str, dict[int, Bar]]) -> Section:
    a, b = comparison.a, comparison.b
    room = DETAILED
    blocks = []
    for line in comparison.lines:
        parts = []
        for pairs in folded(line):
            rows = []
            for pair in pairs:
                left_cell, right_cell = (
                    Cell(mark, bars[side.label][mark.number]) if mark else None
                    for side, mark in ((a, pair.a), (b, pair.b))
                )
                detailed = room > 0 and bool(pair.differs)
                room -= detailed
                kind = row_of(pair)
                diff = _lines(difference(a, b, pair)) if detailed else ()
                rows.append(Row(kind, SIGNS[kind], (left_cell, right_cell), diff))
            parts.append(tuple(rows))
        blocks.append(Block(line.name, tuple(parts)))
    return Section(comparison, _lines(comparison.first.diff) if comparison.first else (), tuple(blocks))


def _lines(diff: str) -> tuple[str, ...]:
    return tuple(clip(diff, DIFF_CHARS).rstrip("\n").split("\n")) if diff else ()
