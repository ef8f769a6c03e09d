"""One episode from its first step to its score."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from trellis.environments.describe import describe
from trellis.environments.pool import Pool
from trellis.models.model import Usage
from trellis.runs.approval import Approvals
from trellis.runs.experiment import Experiment
from trellis.runs.folder import RunFolder
from trellis.runs.grading import EpisodeGrader
from trellis.runs.metering import Meter
from trellis.runs.plan import Cell
from trellis.runs.reopening import settings_of
from trellis.runs.results import Outcome, Result, finite
from trellis.scaffolds.budget import Calls
from trellis.scaffolds.episode import Episode, LimitReached, Refused
from trellis.scaffolds.scaffold import Scaffold
from trellis.scaffolds.task import Submission, submission_from_json, submission_to_json
from trellis.trajectories.blobs import Blobs
from trellis.trajectories.disk import replacing
from trellis.trajectories.durability import Storage
from trellis.trajectories.log import StorageFault
from trellis.trajectories.redaction import Redaction


@dataclass(frozen=True)
class RunContext:
    """What all episodes of a run have in common."""

    folder: RunFolder
    experiment: Experiment
    meter: Meter
    pool: Pool
    """Starts the worlds of all episodes and graders."""
    provenance: Mapping[str, Any]
    """Versions and commit, for the header of every trajectory."""
    approvals: Approvals
    storage: Storage
    """How logs are kept."""


class Attempt:
    """Opens an episode's folder (again, after a fault or a kill: it then goes on from its log) and sees it through."""

    def __init__(self, cell: Cell, run: RunContext) -> None:
        self.cell = cell
        self.budget = run.experiment.budget.open()
        self._run = run
        self._path = run.folder.episode(cell.key)
        self._judge: tuple[Usage, float | None, Calls] = (Usage(), 0.0, Calls())
        self._started_at = now()

    async def run(self) -> Result:
        """Solve, collect, keep the submission, score.

        Raises:
            EnvironmentFault, ModelFault, GraderFault: the machinery broke; trying again may help.
            ModelRequestError, RunStopped: the run cannot go on.
        """
        cell, planned = self.cell, self.cell.planned
        folder = self._run.folder.path / self._path
        judge = {"judge": planned.judge} if planned.judge else {}
        fork = cell.agent.fork
        label = f"{self._run.folder.id}/{sha256(str(cell.key).encode()).hexdigest()[:12]}"
        async with Episode.open(
            folder,
            task=cell.task,
            tools=cell.tools(),
            models=self._run.meter.over({**cell.agent.models, **judge}),
            seed=cell.seed,
            budget=self.budget,
            collect=partial(planned.benchmark.collect, cell.task),
            label=label,
            environment=cell.environment,
            header=await self._header(),
            start_world=self._run.pool.start,
            approve=self._run.approvals.of(cell.key),
            toolsets=cell.toolsets(),
            source=fork.source(cell.epoch) if fork else None,
            record_changes=self._run.experiment.record_changes,
            storage=self._run.storage,
        ) as episode:
            outcome, limit = await solve(cell.agent.scaffold(planned.benchmark), episode)
            submission = await episode.finish()
            spent = {"time_s": round(self.budget.worked_s, 3), "wall_s": round(self.budget.clock(), 3)}
            store_submission(folder, submission, self._run.storage)
            grader = EpisodeGrader(episode, self._run.experiment.environment.of, label, self._run.pool.start)
            try:
                score = await planned.benchmark.score(cell.task, submission, grader)
            finally:
                self._judge = (grader.judge_usage, grader.judge_cost_usd, grader.calls)
                await grader.close()
        return self.result(outcome, limit=limit, score=finite(score), head=episode.head, **spent)

    def result(self, outcome: Outcome, **more: Any) -> Result:
        """A result with what is known so far."""
        judge_usage, judge_cost_usd, judge_calls = self._judge
        return Result(
            **{
                "key": self.cell.key,
                "seed": self.cell.seed,
                "outcome": outcome,
                "path": str(self._path),
                "steps": self.budget.spent_steps,
                "usage": self.budget.spent_usage,
                "cost_usd": self.budget.spent_cost_usd,
                "judge_usage": judge_usage,
                "judge_cost_usd": judge_cost_usd,
                "calls": self.budget.calls + judge_calls,
                "time_s": round(self.budget.worked_s, 3),
                "wall_s": round(self.budget.clock(), 3),
                "started_at": self._started_at,
                "ended_at": now(),
                **more,
            }
        )

    async def _header(self) -> dict[str, Any]:
        cell, choice = self.cell, self.cell.agent.choice
        benchmark = cell.planned.benchmark
        return {
            "episode": {**cell.key._asdict(), "seed": cell.seed},
            "benchmark": {"name": cell.planned.label, "version": benchmark.version,
                          "options": cell.planned.choice.options},
            "scaffold": {"name": choice.scaffold, "options": choice.options},
            "models": {role: model.name for role, model in cell.agent.models.items()},
            "model_options": choice.model_options,
            "environment": cell.environment and await describe(cell.environment),
            "budget": self._run.experiment.budget.model_dump(exclude_none=True),
            "experiment": settings_of(self._run.experiment, cell),
            **({"fork": cell.agent.fork.lineage()} if cell.agent.fork else {}),
            **self._run.provenance,
        }  # fmt: skip


async def solve(scaffold: Scaffold, episode: Episode) -> tuple[Outcome, str]:
    """Attempt the episode: how that ended, and which limit was reached. What is neither limit nor refusal is raised."""
    try:
        await scaffold.solve(episode)
    except (LimitReached, Refused, BaseExceptionGroup) as ending:
        causes = [e for e in leaves(ending) if not isinstance(e, asyncio.CancelledError)]
        for cause in causes:
            if not isinstance(cause, LimitReached | Refused):
                raise
        limits = [cause.limit for cause in causes if isinstance(cause, LimitReached)]
        return ("limit", limits[0]) if limits else ("refused", "")
    return "completed", ""


def store_submission(folder: Path, submission: Submission, storage: Storage) -> None:
    """Keep what was handed in, so that it can be scored again: `submission.json`, its files beside it as blobs.

    Raises:
        StorageFault: the disk refuses.
    """
    redact, path = Redaction(), folder / "submission.json"
    blobs = Blobs(folder / "blobs", redact, storage)
    content = submission_to_json(submission, blobs.store)
    try:
        blobs.sync()
        with replacing(path) as draft:
            draft.write(redact(json.dumps(content, indent=1)).encode())
    except OSError as error:
        raise StorageFault(path, error) from None


def load_submission(folder: Path) -> Submission:
    """Raises OSError, ValueError or KeyError: there is none, or it is damaged."""
    content = json.loads((folder / "submission.json").read_text("utf-8"))
    return submission_from_json(content, Blobs(folder / "blobs").load)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in an exception group, however deep; an exception that is no group is its own leaf."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
