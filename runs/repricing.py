"""What a run would have cost at other prices, computed from the usage in its logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from trellis.models.model import Usage
from trellis.models.prices import Prices
from trellis.runs.folder import RunFolder
from trellis.runs.results import Result, total_usd
from trellis.trajectories.disk import LOG, log_in
from trellis.trajectories.log import read


@dataclass(frozen=True, slots=True)
class Call:
    """A model call that was answered, as its log has it."""

    model: str
    usage: Usage
    tier: str
    cost_usd: float | None
    cached: bool
    judge: bool

    def again(self, prices: Prices) -> float | None:
        """What it costs at these prices; what they do not tell stays as it was recorded (offline models cost 0)."""
        cost = prices.cost_usd(self.model, self.usage, self.tier)
        return self.cost_usd if cost is None else cost


@dataclass
class Change:
    """What became of the costs of one agent on one benchmark. Of agent and judge, in USD."""

    calls: int = 0
    old: list[float | None] = field(default_factory=list)
    new: list[float | None] = field(default_factory=list)
    old_judge: list[float | None] = field(default_factory=list)
    new_judge: list[float | None] = field(default_factory=list)
    unpriced: Counter[str] = field(default_factory=Counter)
    """Calls without a price by model."""

    def add(self, calls: Iterable[Call], prices: Prices, before: Result, after: Result) -> None:
        for call in calls:
            self.calls += 1
            if call.again(prices) is None:
                self.unpriced[call.model] += 1
        self.old.append(before.cost_usd)
        self.new.append(after.cost_usd)
        self.old_judge.append(before.judge_cost_usd)
        self.new_judge.append(after.judge_cost_usd)


def reprice(folder: RunFolder, prices: Prices) -> dict[tuple[str, str], Change]:
    """Write the new costs of every episode to the run's results, as new lines, and return what changed, by benchmark
    and agent.

    Raises:
        LogError: a log is damaged.
        OSError: a log is gone.
    """
    priced = []
    for result in folder.results().values():
        calls = calls_of(folder.path / result.path, result)
        priced.append((result, _priced(result, calls, prices), calls))
    changes: dict[tuple[str, str], Change] = {}
    for before, after, calls in priced:  # nothing is written before every log could be read
        changes.setdefault((before.key.benchmark, before.key.agent), Change()).add(calls, prices, before, after)
        if after != before:
            folder.record(after)
    return changes


def calls_of(folder: Path, result: Result) -> list[Call]:
    """The agent's calls, and those of the judge whose score counts: it may have scored again, in a log of its own."""
    if not result.steps and log_in(folder) is None:
        return []  # it was cancelled before it began
    first = list(_calls(folder / LOG))
    own = [call for call in first if not call.judge]
    again = sorted(folder.glob("scored-*"), key=lambda path: (len(path.name), path.name))
    logs = (log for path in again if (log := log_in(path)))
    judged = [[call for call in calls if call.judge] for calls in (first, *map(_calls, logs))]
    for calls in reversed(judged):
        if sum((call.usage for call in calls), Usage()) == result.judge_usage:
            return [*own, *calls]
    return [*own, *judged[0]]


def _priced(result: Result, calls: Iterable[Call], prices: Prices) -> Result:
    costs: dict[bool, list[float | None]] = {False: [], True: []}
    saved_usd = 0.0
    for call in calls:
        cost = call.again(prices)
        costs[call.judge].append(cost)
        saved_usd += cost or 0.0 if call.cached else 0.0
    return replace(
        result,
        cost_usd=total_usd(costs[False]),
        judge_cost_usd=total_usd(costs[True]),
        calls=replace(result.calls, saved_usd=saved_usd),
    )


def _calls(path: Path) -> Iterator[Call]:
    models: dict[int, str] = {}
    for event in read(path):
        if event["kind"] in ("generate.begun", "compact.begun"):
            models[event["seq"]] = event["model"]
        elif event["kind"] in ("generate.done", "compact.done") and "usage" in event:  # else it was too long
            yield Call(
                model=models[event["begun"]],
                usage=Usage(**event["usage"]),
                tier=event.get("tier", ""),
                cost_usd=event["cost_usd"],
                cached=event.get("cached", False),
                judge=event["branch"] == "grader",
            )


def to_json(changes: Mapping[tuple[str, str], Change]) -> list[dict[str, object]]:
    return [
        {
            "benchmark": benchmark,
            "agent": agent,
            "calls": change.calls,
            "old_usd": total_usd(change.old),
            "new_usd": total_usd(change.new),
            "old_judge_usd": total_usd(change.old_judge),
            "new_judge_usd": total_usd(change.new_judge),
            "unpriced": dict(change.unpriced),
        }
        for (benchmark, agent), change in changes.items()
    ]
