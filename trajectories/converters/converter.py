"""What every converter between trajectories of Trellis and those of others shares: its errors, and what it loses.

Names of formats are the same in both directions: `atif`, `swe-agent`, `mini-swe-agent`, `openhands`, `aide`, `inspect`,
and those that are only written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trellis.models.model import Usage


class ConversionError(Exception):
    """It cannot be converted: not that format, damaged, or beyond a bound. One line says where and why."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that the other side has no place for."""

    what: str
    """What it is, in the plural: "states of the shell after a command"."""
    count: int

    def __str__(self) -> str:
        return f"{self.count:,} {self.what}"

    def to_json(self) -> dict[str, Any]:
        return {"what": self.what, "count": self.count}


class Losses:
    """What a conversion lost, counted by kind, in the order in which it was first met."""

    def __init__(self, losses: Iterable[Loss] = ()) -> None:
        self._counts: Counter[str] = Counter()
        for loss in losses:
            self.add(loss.what, loss.count)

    def add(self, what: str, count: int = 1) -> None:
        """`count` more of it; nothing where that is 0."""
        if count:
            self._counts[what] += count

    def __iter__(self) -> Iterator[Loss]:
        return (Loss(what, count) for what, count in self._counts.items())

    def __len__(self) -> int:
        return len(self._counts)

    def to_json(self) -> list[dict[str, Any]]:
        return [loss.to_json() for loss in self]


@dataclass(frozen=True, slots=True)
class Imported:
    """A foreign trajectory that now lies in a folder in our format, and what is in it."""

    format: str
    version: str
    """Of the format, as the file says or shows; empty: unknown."""
    path: Path
    """The episode's folder."""
    task: str
    agent: str
    epoch: int
    benchmark: str
    """Empty: unknown."""
    time_s: float
    """From its first event to its last."""
    outcome: str
    """As the other framework called it; empty: unknown."""
    score: float | None
    steps: int
    """Replies of a model; of OpenHands the agent's actions."""
    tool_calls: int
    messages: int
    """Messages of the conversation, as the file has them."""
    usage: Usage
    cost_usd: float | None
    losses: Losses = field(default_factory=Losses)

    def moved(self, path: Path) -> Imported:
        return replace(self, path=path)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "version": self.version,
            "path": str(self.path),
            "benchmark": self.benchmark,
            "task": self.task,
            "agent": self.agent,
            "epoch": self.epoch,
            "outcome": self.outcome,
            "score": self.score,
            "steps": self.steps,
            "tool_calls": self.tool_calls,
            "messages": self.messages,
            "time_s": round(self.time_s, 3),
            "usage": self.usage.to_json(),
            "cost_usd": self.cost_usd,
            "losses": self.losses.to_json(),
        }


def together(imported: Sequence[Imported]) -> tuple[Usage, float | None, Losses]:
    """Usage, costs and losses of several. Costs are unknown as soon as one of them is."""
    usage = sum((each.usage for each in imported), Usage())
    costs = [each.cost_usd for each in imported]
    cost_usd = None if None in costs else sum(cost for cost in costs if cost is not None)
    return usage, cost_usd, Losses(loss for each in imported for loss in each.losses)
