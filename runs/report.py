"""The HTML report of a run: one self-contained file, nothing fetched, everything untrusted escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from trellis.runs import text
from trellis.runs.experiment import Experiment
from trellis.runs.folder import RunFolder
from trellis.runs.results import OUTCOMES, Result
from trellis.runs.stats import Interval
from trellis.runs.summary import Summary, in_order, metric_names

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Square:
    """A task and an agent in the matrix: mean score of its epochs, and their episodes."""

    value: float | None
    episodes: tuple[Result, ...]

    @property
    def flagged(self) -> bool:
        return any(r.score is not None and r.score.flags for r in self.episodes)

    @property
    def faults(self) -> int:
        return sum(r.outcome == "fault" for r in self.episodes)

    @property
    def title(self) -> str:
        return "; ".join(f"epoch {r.key.epoch}: {_in_words(r)}" for r in self.episodes)


@dataclass(frozen=True)
class Matrix:
    benchmark: str
    agents: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Square, ...]], ...]


def write_report(folder: RunFolder, summary: Summary) -> Path:
    """Write `report.html` into the run's folder and return its path."""
    experiment = folder.experiment()
    results = in_order(experiment, folder.results().values())
    return folder.write("report.html", render(folder.id, experiment, results, summary))


def render(run: str, experiment: Experiment, results: Sequence[Result], summary: Summary) -> str:
    """The page; links in it are relative to the run's folder."""
    return page(
        "report.html.j2",
        run=run,
        title=experiment.name or run,
        experiment=experiment,
        toml=experiment.to_toml(),
        summary=summary,
        scored=[row for row in summary.rows if row.score],
        tables=[(b, [r for r in summary.rows if r.benchmark == b], [c for c in summary.comparisons if c.benchmark == b])
                for b in dict.fromkeys(row.benchmark for row in summary.rows)],
        matrices=list(_matrices(results)),
        results=results,
        outcomes=OUTCOMES,
        started=min((r.started_at for r in results), default=""),
        ended=max((r.ended_at for r in results), default=""),
        metric_names=metric_names,
        bar=_bar,
        span=_span,
    )  # fmt: skip


def page(template: str, **values: Any) -> str:
    """A page made from a template of this package."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # Whatever is printed passes through here first: steering characters are shown, then autoescape does the rest.
    environment.finalize = lambda value: text.visible(value) if type(value) is str else value
    environment.filters |= {
        "number": text.number, "interval": text.interval, "rate": text.rate, "count": text.count, "usd": text.usd,
        "seconds": text.seconds, "p": text.p_value, "link": _link, "words": _in_words, "shade": _shade,
        "moment": _moment, "metric": text.metric, "calls": text.calls,
    }  # fmt: skip
    return environment.from_string((TEMPLATES / template).read_text("utf-8")).render(**values)


def _matrices(results: Iterable[Result]) -> Iterable[Matrix]:
    squares: dict[str, dict[str, dict[str, list[Result]]]] = {}
    agents: dict[str, dict[str, None]] = {}
    for result in results:
        key = result.key
        squares.setdefault(key.benchmark, {}).setdefault(key.task, {}).setdefault(key.agent, []).append(result)
        agents.setdefault(key.benchmark, {})[key.agent] = None
    for benchmark, tasks in squares.items():
        rows = tuple(
            (task, tuple(_square(by_agent.get(agent, ())) for agent in agents[benchmark]))
            for task, by_agent in sorted(tasks.items())
        )
        yield Matrix(benchmark, tuple(agents[benchmark]), rows)


def _square(results: Sequence[Result]) -> Square:
    scores = [r.score.value for r in results if r.final and r.score is not None]
    return Square(fmean(scores) if scores else None, tuple(results))


def _in_words(result: Result) -> str:
    if result.score is None:
        return f"{result.outcome}: {result.fault}" if result.fault else result.outcome
    return f"{result.score.value:.3f}, {result.outcome}" + (f" ({result.limit})" if result.limit else "")


def _link(path: str) -> str:
    """A relative link, safe in an attribute whatever the names of folders are."""
    return quote(f"./{path}/")


def _moment(stamp: str) -> str:
    """ "2026-11-23T20:03:00+00:00" as "2026-11-23 20:03:00 UTC"."""
    return stamp.replace("T", " ").replace("+00:00", " UTC") or text.UNKNOWN


def _shade(value: float | None) -> str:
    """How strongly a score colours its square, as a CSS percentage; scores outside 0 to 1 are cut."""
    return "0%" if value is None else f"{100 * min(1.0, max(0.0, value)):.0f}%"


def _bar(value: Interval, low: float = 0.0, high: float = 1.0) -> Mapping[str, Any]:
    """Where an interval lies on an axis from `low` to `high`, in percent of its width."""

    def at(x: float) -> float:
        return round(100 * min(1.0, max(0.0, (x - low) / (high - low))), 2)

    start = value.value if value.low is None else value.low
    end = value.value if value.high is None else value.high
    return {"value": at(value.value), "start": at(start), "end": at(end), "zero": at(0.0)}


def _span(intervals: Iterable[Interval]) -> float:
    """The half-width of an axis around zero on which all of them fit."""
    bounds = [abs(b) for i in intervals for b in (i.value, i.low, i.high) if b is not None]
    return max([*bounds, 0.05]) * 1.05
