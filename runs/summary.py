"""What a run (or several) says: one row per agent and benchmark, and how the agents compare."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

from trellis.benchmarks.benchmark import Benchmark, Score
from trellis.runs.experiment import Experiment
from trellis.runs.results import OUTCOMES, Result, total_usd
from trellis.runs.stats import (
    ALPHA,
    ByTask,
    Difference,
    Interval,
    holm,
    mean_interval,
    paired_difference,
    rate_interval,
)
from trellis.scaffolds.budget import Calls


@dataclass(frozen=True)
class Row:
    """One agent on one benchmark. Means are over scored episodes; what was never scored is in `outcomes`."""

    benchmark: str
    agent: str
    episodes: int
    tasks: int
    outcomes: Mapping[str, int]
    score: Interval | None
    success_rate: Interval | None
    steps: float | None
    """Mean per scored episode."""
    tokens: float | None
    """Mean per scored episode."""
    time_s: float | None
    """Mean per scored episode."""
    cost_usd: float | None
    """Of all episodes, judge included; None where a price is unknown."""
    calls: Calls
    """Retries, throttles and waiting of all episodes, judge included."""
    flagged: int
    """Scored episodes whose score carries a flag."""
    metrics: Mapping[str, float]
    """The benchmark's own, as for one pass over its tasks."""


@dataclass(frozen=True)
class Comparison:
    """Agent `a` against agent `b` on one benchmark; p-values are adjusted for the number of comparisons on it."""

    benchmark: str
    a: str
    b: str
    result: Difference
    p_value: float
    p_these_tasks: float

    @property
    def verdict(self) -> str:
        better = self.a if self.result.difference.value > 0 else self.b
        if self.p_value < ALPHA:
            return f"{better} better"
        if self.p_these_tasks < ALPHA:
            return f"{better} better on these tasks"
        return "no difference shown"


@dataclass(frozen=True)
class Summary:
    episodes: int
    """How many the experiment asks for."""
    outcomes: Mapping[str, int]
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def cost_usd(self) -> float | None:
        return total_usd(row.cost_usd for row in self.rows)

    @property
    def calls(self) -> Calls:
        return sum((row.calls for row in self.rows), Calls())

    @property
    def faults(self) -> int:
        return self.outcomes.get("fault", 0)

    def metrics(self) -> dict[str, float | None]:
        """`score` and `success_rate` over everything; with one row alone also the benchmark's own metrics."""
        scored = [row for row in self.rows if row.score and row.success_rate]
        overall: dict[str, float | None] = {
            "score": fmean(row.score.value for row in scored if row.score) if scored else None,
            "success_rate": fmean(row.success_rate.value for row in scored if row.success_rate) if scored else None,
        }
        return overall | (dict(self.rows[0].metrics) if len(self.rows) == 1 else {})

    def to_json(self) -> dict[str, Any]:
        return {
            "episodes": self.episodes,
            "outcomes": dict(self.outcomes),
            "metrics": self.metrics(),
            "cost_usd": self.cost_usd,
            "calls": asdict(self.calls),
            "agents": [_row_to_json(row) for row in self.rows],
            "comparisons": [{**asdict(c), "verdict": c.verdict} for c in self.comparisons],
        }


def summarize(results: Iterable[Result], benchmarks: Mapping[str, Benchmark], expected: int | None = None) -> Summary:
    """Rows in the order in which agents first appear; `benchmarks` (by label) adds their own metrics."""
    everything = list(results)
    groups: defaultdict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in everything:
        groups[result.key.benchmark, result.key.agent].append(result)
    labels = list(dict.fromkeys(benchmark for benchmark, _ in groups))
    rows = [
        _row(benchmark, agent, group, benchmarks.get(benchmark))
        for label in labels
        for (benchmark, agent), group in groups.items()
        if benchmark == label
    ]
    comparisons = [c for label in labels for c in _compare(label, [r for r in everything if r.key.benchmark == label])]
    return Summary(
        episodes=len(everything) if expected is None else expected,
        outcomes=_count(everything),
        rows=tuple(rows),
        comparisons=tuple(comparisons),
    )


def in_order(experiment: Experiment, results: Iterable[Result]) -> list[Result]:
    """Results as the experiment lists agents and benchmarks: independent of who finished first."""
    agents = {agent.name: index for index, agent in enumerate(experiment.agents)}
    benchmarks = {benchmark.label: index for index, benchmark in enumerate(experiment.benchmarks)}

    def place(result: Result) -> tuple[int, int, str, int]:
        key = result.key
        return agents[key.agent], benchmarks[key.benchmark], key.task, key.epoch

    return sorted(results, key=place)


def metric_names(rows: Iterable[Row]) -> list[str]:
    """The benchmark's own metrics, in the order in which it gives them."""
    return list(dict.fromkeys(name for row in rows for name in row.metrics))


def _row(label: str, agent: str, results: Sequence[Result], benchmark: Benchmark | None) -> Row:
    scored = [r for r in results if r.final and r.score is not None]
    return Row(
        benchmark=label,
        agent=agent,
        episodes=len(results),
        tasks=len({r.key.task for r in results}),
        outcomes=_count(results),
        score=mean_interval(_by_task(scored, lambda s: s.value)) if scored else None,
        success_rate=rate_interval(_by_task(scored, lambda s: float(s.success))) if scored else None,
        steps=fmean(r.steps for r in scored) if scored else None,
        tokens=fmean(r.usage.total for r in scored) if scored else None,
        time_s=fmean(r.time_s for r in scored) if scored else None,
        cost_usd=total_usd(cost for r in results for cost in (r.cost_usd, r.judge_cost_usd)),
        calls=sum((r.calls for r in results), Calls()),
        flagged=sum(bool(r.score and r.score.flags) for r in scored),
        metrics=_own_metrics(scored, benchmark) if benchmark else {},
    )


def _own_metrics(scored: Sequence[Result], benchmark: Benchmark) -> dict[str, float]:
    """Totals such as earned dollars are of one pass over the tasks: each epoch's are computed, then averaged."""
    by_epoch: defaultdict[int, list[Score]] = defaultdict(list)
    for result in scored:
        if result.score is not None:
            by_epoch[result.key.epoch].append(result.score)
    collected: defaultdict[str, list[float]] = defaultdict(list)
    for scores in by_epoch.values():
        for name, value in benchmark.metrics(scores).items():
            collected[name].append(value)
    return {name: fmean(values) for name, values in collected.items()}


def _by_task(results: Iterable[Result], of: Any) -> ByTask:
    values: defaultdict[str, list[float]] = defaultdict(list)
    for result in results:
        values[result.key.task].append(of(result.score))
    return values


def _compare(label: str, results: Sequence[Result]) -> list[Comparison]:
    scores: defaultdict[str, defaultdict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for result in results:
        if result.final and result.score is not None:
            scores[result.key.agent][result.key.task][result.key.epoch] = result.score.value
    found = [
        (a, b, difference)
        for a, b in combinations(scores, 2)
        if (difference := paired_difference(scores[a], scores[b])) is not None
    ]
    adjusted = zip(holm([d.p_value for *_, d in found]), holm([d.p_these_tasks for *_, d in found]), strict=True)
    return [Comparison(label, a, b, d, p, q) for (a, b, d), (p, q) in zip(found, adjusted, strict=True)]


def _count(results: Iterable[Result]) -> dict[str, int]:
    counts = Counter(result.outcome for result in results)
    return {outcome: counts[outcome] for outcome in OUTCOMES if counts[outcome]}


def _row_to_json(row: Row) -> dict[str, Any]:
    data = asdict(row)
    score, rate = row.score, row.success_rate
    data["metrics"] = {"score": score and score.value, "success_rate": rate and rate.value, **row.metrics}
    data["score_interval"] = score and [score.low, score.high]
    data["success_rate_interval"] = rate and [rate.low, rate.high]
    del data["score"], data["success_rate"]
    return data
