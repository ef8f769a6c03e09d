"""How far the worlds of a run do the same when they are asked to do the same again, task by task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trellis.runs.reexecution import Again


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of replaying one trajectory."""

    path: Path
    task: str
    calls: Sequence[Again]
    fault: str = ""
    """The world broke: it is not known what the rest would have come to."""
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> Counter[str]:
        """Calls by verdict."""
        return Counter(call.verdict for call in self.calls)

    @property
    def same(self) -> bool:
        return not self.fault and not self.counts["different"]

    def to_json(self) -> dict[str, Any]:
        return {
            "trajectory": str(self.path), "task": self.task, "same": self.same, "fault": self.fault,
            "notes": list(self.notes), "counts": dict(self.counts), "calls": [call.to_json() for call in self.calls],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Determinism:
    """Of one task. Shares are of the calls that were made again; None: there were none."""

    task: str
    episodes: int
    same: int
    """Episodes in which nothing was different."""
    calls: int
    exact: float | None
    """Share of calls whose observation was equal to the letter."""
    score: float | None
    """Share of calls that were equal, exactly or after normalising."""

    def to_json(self) -> Mapping[str, Any]:
        return {name: getattr(self, name) for name in ("task", "episodes", "same", "calls", "exact", "score")}


def by_task(verified: Iterable[Verified]) -> list[Determinism]:
    """In the order in which tasks first appear."""
    tasks: dict[str, list[Verified]] = {}
    for each in verified:
        tasks.setdefault(each.task, []).append(each)
    return [_of(task, episodes) for task, episodes in tasks.items()]


def _of(task: str, episodes: Sequence[Verified]) -> Determinism:
    counts = sum((episode.counts for episode in episodes), Counter[str]())
    made = counts["equal"] + counts["normalised"] + counts["different"]
    exact = counts["equal"] / made if made else None
    score = (counts["equal"] + counts["normalised"]) / made if made else None
    return Determinism(task, len(episodes), sum(episode.same for episode in episodes), made, exact, score)
