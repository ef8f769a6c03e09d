"""The comparison table, on a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import IO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from trellis.runs import text
from trellis.runs.summary import Comparison, Row, Summary, metric_names

WIDE = 132
"""Columns of output that is not a terminal."""


def console(file: IO[str]) -> Console:
    """Colours on a terminal unless NO_COLOR is set; a fixed width elsewhere."""
    width = None if file.isatty() else int(os.environ.get("COLUMNS", WIDE))
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


NARROW = 118
"""On fewer columns than this an interval goes below its value, so that nothing is cut off."""


def comparison(summary: Summary, width: int = WIDE) -> RenderableType:
    """A table per benchmark, then how its agents compare."""
    fit = _below if width < NARROW else str
    parts: list[RenderableType] = []
    for benchmark in dict.fromkeys(row.benchmark for row in summary.rows):
        of_benchmark = [row for row in summary.rows if row.benchmark == benchmark]
        parts.append(_rows(benchmark, of_benchmark, fit))
        if names := metric_names(of_benchmark):
            parts.append(_own_metrics(names, of_benchmark))
        if told := list(dict.fromkeys(what for row in of_benchmark for what, _ in text.calls(row.calls))):
            parts.append(_calls(told, of_benchmark))
        pairs = [c for c in summary.comparisons if c.benchmark == benchmark]
        if pairs:
            parts.append(_pairs(pairs, fit))
    return Group(*parts)


def simple(columns: Mapping[str, str], rows: Iterable[Iterable[str]]) -> RenderableType:
    """A plain table: column names with their justification ("left" or "right"), and rows of untrusted text."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name, justify in columns.items():
        table.add_column(Text(text.visible(name)), justify="right" if justify == "right" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(text.visible(cell)) for cell in row))
    return table


def _below(value: str) -> str:
    """ "0.40 [0.2, 0.6]" on two lines."""
    return value.replace(" [", "\n[")


def _rows(benchmark: str, rows: list[Row], fit: Callable[[str], str]) -> RenderableType:
    title = (
        f"{benchmark}: {text.plural(max(row.tasks for row in rows), 'task')}, "
        f"{text.plural(max(row.episodes for row in rows), 'episode')} per agent"
    )
    table = Table(
        title=text.visible(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False,
        collapse_padding=True,
    )  # fmt: skip
    columns: dict[str, Callable[[Row], RenderableType]] = {
        "score [95 %]": lambda row: fit(text.interval(row.score)),
        "success [95 %]": lambda row: fit(text.rate(row.success_rate)),
        "steps": lambda row: text.count(row.steps),
        "tokens": lambda row: text.count(row.tokens),
        "cost": lambda row: text.usd(row.cost_usd),
        "time": lambda row: text.seconds(row.time_s),
        "limits": lambda row: str(row.outcomes.get("limit", 0)),
        "faults": lambda row: _alarm(row.outcomes.get("fault", 0)),
        "flags": lambda row: _alarm(row.flagged),
    }
    if fit is _below:  # what is dispensable on a narrow terminal; the report has it
        del columns["limits"]
        if not any(row.flagged for row in rows):
            del columns["flags"]
    table.add_column("agent", overflow="fold", min_width=12)
    for name in columns:
        table.add_column(fit(name), justify="right", no_wrap=True)
    best = max((row.score.value for row in rows if row.score), default=None)
    for row in rows:
        style = "bold" if row.score and row.score.value == best and len(rows) > 1 else ""
        table.add_row(Text(text.visible(row.agent)), *(cell(row) for cell in columns.values()), style=style)
    return table


def _own_metrics(names: list[str], rows: list[Row]) -> RenderableType:
    """What the benchmark itself reports: a line per metric, a column per agent."""
    columns = {"metric": "left", **{row.agent: "right" for row in rows}}
    return simple(
        columns, ([name.replace("_", " "), *(text.metric(row.metrics.get(name)) for row in rows)] for name in names)
    )


def _calls(told: list[str], rows: list[Row]) -> RenderableType:
    """What the provider made of the calls, where there is something to be told: a line for each, a column per agent."""
    columns = {"calls of the model": "left", **{row.agent: "right" for row in rows}}
    amounts = [dict(text.calls(row.calls)) for row in rows]
    return simple(columns, ([what, *(amount.get(what, "0") for amount in amounts)] for what in told))


def _alarm(count: int) -> Text:
    return Text(str(count), "bold red" if count else "dim")


def _pairs(comparisons: list[Comparison], fit: Callable[[str], str]) -> RenderableType:
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, title="paired by task", title_justify="left", title_style="bold",
        collapse_padding=True,
    )  # fmt: skip
    table.add_column("A against B", overflow="fold")
    for name in ("A - B [95 %]", "won", "tied", "lost", "p", "p these\ntasks"):
        table.add_column(fit(name), justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for c in comparisons:
        table.add_row(
            Text(text.visible(f"{c.a} against {c.b}")),
            fit(text.interval(c.result.difference, signed=True)),
            str(c.result.wins),
            str(c.result.ties),
            str(c.result.losses),
            text.p_value(c.p_value),
            text.p_value(c.p_these_tasks),
            Text(text.visible(c.verdict), "" if c.verdict.startswith("no ") else "bold green"),
        )
    return table
