"""What became of each episode, and the file that says so: `results.jsonl`, one line per finished episode.

Lines are only ever appended; of several lines about one episode (it was resumed, or scored again) the last one counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from trellis.benchmarks.benchmark import Score
from trellis.models.model import Usage
from trellis.scaffolds.budget import Calls
from trellis.trajectories.disk import sync
from trellis.trajectories.redaction import Redaction

Outcome: TypeAlias = Literal["completed", "limit", "refused", "fault", "cancelled"]
OUTCOMES: tuple[Outcome, ...] = ("completed", "limit", "refused", "fault", "cancelled")
SCORED: frozenset[Outcome] = frozenset(("completed", "limit", "refused"))
"""Outcomes that are final and scored. A fault is the machinery's, never the agent's: it has no score."""


class Key(NamedTuple):
    """Which episode of a run."""

    benchmark: str
    task: str
    agent: str
    epoch: int

    def __str__(self) -> str:
        return f"{self.benchmark} {self.task} {self.agent} #{self.epoch}"


@dataclass(frozen=True, slots=True)
class Result:
    """One episode that ended. `time_s` is the time the agent worked, `wall_s` includes waiting on the provider.

    Costs are None where a price is unknown, never 0. `path` is the episode's folder, relative to the run's.
    """

    key: Key
    seed: int
    outcome: Outcome
    path: str
    score: Score | None = None
    limit: str = ""
    fault: str = ""
    stuck: bool = False
    """After a fault: going on from its log would end there again; it can only be begun anew."""
    retries: int = 0
    steps: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = 0.0
    judge_usage: Usage = field(default_factory=Usage)
    judge_cost_usd: float | None = 0.0
    calls: Calls = field(default_factory=Calls)
    """Retries, throttles and waiting, the judge's calls included."""
    time_s: float = 0.0
    wall_s: float = 0.0
    started_at: str = ""
    ended_at: str = ""
    head: str = ""
    """The chain value of the last event of its trajectory when it had ended; empty where that was not kept."""

    @property
    def paid_usd(self) -> float:
        """What it cost as far as prices are known, without what came from a cache of replies."""
        return (self.cost_usd or 0.0) + (self.judge_cost_usd or 0.0) - self.calls.saved_usd

    @property
    def final(self) -> bool:
        return self.outcome in SCORED

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        return {**self.key._asdict(), **{name: value for name, value in data.items() if name != "key"}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """Raises KeyError or TypeError where it is not a result."""
        rest = {name: value for name, value in data.items() if name not in Key._fields}
        score = rest.pop("score")
        calls = rest.pop("calls", {})  # lines of earlier versions have none
        return cls(
            key=Key(*(data[name] for name in Key._fields)),
            score=score and Score(**{**score, "flags": tuple(score["flags"])}),
            calls=Calls(**{**calls, "dropped": tuple(calls.get("dropped", ()))}),
            **{**rest, "usage": Usage(**rest["usage"]), "judge_usage": Usage(**rest["judge_usage"])},
        )


def total_usd(costs: Iterable[float | None]) -> float | None:
    """The sum, unknown as soon as one of them is."""
    known = list(costs)
    return None if None in known else sum(cost for cost in known if cost is not None)


def read(path: Path) -> dict[Key, Result]:
    """The last word on each episode, in the order of the file. A torn last line is left out.

    Raises:
        ValueError: a damaged line, with its number.
    """
    results: dict[Key, Result] = {}
    if not path.exists():
        return results
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            result = Result.from_json(json.loads(line))
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path}, line {number}: not a result") from None
        results[result.key] = result
    return results


def append(path: Path, result: Result) -> None:
    """Add one line, without secrets, and wait until the disk has it; a torn last line left by a killed process is cut
    first."""
    line = Redaction()(json.dumps(result.to_json(), default=str, allow_nan=False)).encode() + b"\n"
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if size and file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if not size:
        sync([path.parent])


def finite(score: Score | None) -> Score | None:
    """The score with its evidence as plain JSON: numbers that are not finite become text."""
    if score is None:
        return None

    def plain(value: Any) -> Any:
        match value:
            case float() if value != value or value in (float("inf"), float("-inf")):
                return str(value)
            case Mapping():
                return {str(k): plain(v) for k, v in value.items()}
            case list() | tuple() | set() | frozenset():
                return [plain(item) for item in value]
            case None | bool() | int() | float() | str():
                return value
        return str(value)

    return replace(score, evidence=plain(score.evidence))
