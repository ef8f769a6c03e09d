"""What an episode was and what it came to, from its trajectory and the results of its run where they are near."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trellis.models.model import Usage
from trellis.runs import text
from trellis.runs.errors import UsageError
from trellis.runs.folder import RunFolder
from trellis.runs.results import Result, total_usd
from trellis.trajectories.trajectory import Trajectory


@dataclass(frozen=True)
class Overview:
    path: Path
    benchmark: str
    task: str
    agent: str
    epoch: int | None
    models: tuple[str, ...]
    steps: int
    acts: int
    usage: Usage
    cost_usd: float | None
    """Of the agent's own calls; None where a price is unknown."""
    time_s: float
    """From the first event to the last, on the episode's clock."""
    outcome: str
    """Empty: the episode has not ended, or its run is not near."""
    score: float | None
    success: bool | None

    @property
    def name(self) -> str:
        """ "mle:sample titanic · react · epoch 1"."""
        epoch = "" if self.epoch is None else f" · epoch {self.epoch}"
        return f"{' '.join(filter(None, (self.benchmark, self.task))) or self.path} · {self.agent or 'agent'}{epoch}"

    @property
    def ended(self) -> str:
        """ "completed, score 0.870 (success)"."""
        score = "" if self.score is None else f"score {text.number(self.score)}"
        success = {None: "", True: " (success)", False: " (no success)"}[self.success]
        return ", ".join(filter(None, (self.outcome, score + success))) or "no result"

    @property
    def totals(self) -> str:
        """ "12 steps, 24 tool calls · 26.7k tokens · $0.00 · 6.5 s"."""
        counts = f"{text.plural(self.steps, 'step')}, {text.plural(self.acts, 'tool call')}"
        amounts = (f"{text.count(self.usage.total)} tokens", text.usd(self.cost_usd), text.seconds(self.time_s))
        return " · ".join((counts, *amounts))

    def to_json(self) -> dict[str, Any]:
        return {
            "trajectory": str(self.path),
            "benchmark": self.benchmark,
            "task": self.task,
            "agent": self.agent,
            "epoch": self.epoch,
            "models": list(self.models),
            "steps": self.steps,
            "acts": self.acts,
            "usage": self.usage.to_json(),
            "cost_usd": self.cost_usd,
            "time_s": round(self.time_s, 3),
            "outcome": self.outcome or None,
            "score": self.score,
            "success": self.success,
        }


def overview(trajectory: Trajectory, spent: Iterable[tuple[Usage, float | None]] | None = None) -> Overview:
    """`spent`: tokens and cost of each reply, where they are known already.

    Raises:
        LogError: the trajectory is damaged.
    """
    episode = trajectory.header.get("episode")
    said: dict[str, Any] = episode if isinstance(episode, dict) else {}
    models = trajectory.header.get("models")
    if spent is None:
        spent = ((step.reply.usage, step.reply.cost_usd) for step in trajectory.steps() if step.reply)
    usage, costs = Usage(), []
    for used, cost_usd in spent:
        usage += used
        costs.append(cost_usd)
    entries = trajectory.file.entries
    outcome, score, success = _came_to(trajectory)
    return Overview(
        path=trajectory.path,
        benchmark=str(said.get("benchmark", "")),
        task=str(said.get("task", "")),
        agent=str(said.get("agent", "")),
        epoch=said.get("epoch"),
        models=tuple(map(str, models.values())) if isinstance(models, dict) else (),
        steps=len(trajectory),
        acts=sum(len(branch.acts) for branch in trajectory.branches.values()),
        usage=usage,
        cost_usd=total_usd(costs),
        time_s=entries[-1].at - entries[0].at,
        outcome=outcome,
        score=score,
        success=success,
    )


def _came_to(trajectory: Trajectory) -> tuple[str, float | None, bool | None]:
    """Outcome, score and success: of the run's results, or as another framework said."""
    if result := result_of(trajectory.path):
        score = result.score
        return (result.outcome, score.value, score.success) if score else (result.outcome, None, None)
    imported = trajectory.header.get("imported") or {}
    said = imported.get("score")
    return str(imported.get("outcome") or ""), said if isinstance(said, int | float) else None, None


def result_of(log: Path) -> Result | None:
    """What became of the episode of this log, where it lies in its run's folder."""
    folder = log.resolve().parent
    if len(folder.parents) < 5:
        return None
    try:
        run = RunFolder(folder.parents[4])
        return next((found for found in run.results().values() if run.path / found.path == folder), None)
    except UsageError:
        return None
