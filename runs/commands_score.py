"""`trellis score`: what was handed in, scored again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import click

from trellis.benchmarks.benchmark import GraderFault, Submission
from trellis.environments.environment import EnvironmentFault
from trellis.models.model import ModelFault, ModelRequestError
from trellis.runs.attempt import load_submission, now
from trellis.runs.commands_run import show
from trellis.runs.conduct import Ended, summary_of
from trellis.runs.flags import as_json, runs_dir
from trellis.runs.folder import RunFolder, find
from trellis.runs.grading import EpisodeGrader
from trellis.runs.plan import Cell, Plan, make_plan
from trellis.runs.results import Result, finite
from trellis.scaffolds.budget import Budget
from trellis.scaffolds.episode import Episode
from trellis.trajectories.log import LogError


@click.command()
@click.argument("run", metavar="RUN")
@runs_dir
@as_json
def score(run: str, runs_dir: Path, as_json: bool) -> int:
    """Score a run again from its stored submissions, for example after a grader was mended.

    Only the scores change: new lines are added to results.jsonl, the old ones stay.
    """
    folder = find(run, runs_dir)
    plan = make_plan(folder.experiment(), only_to_score=True)
    try:
        with folder.locked():
            faults = asyncio.run(_score_all(folder, plan))
    except LogError as error:
        click.echo(error, err=True)
        return 1
    for fault in faults:
        click.echo(fault, err=True)
    return show(Ended(folder, summary_of(folder, plan), int(bool(faults))), as_json=as_json)


async def _score_all(folder: RunFolder, plan: Plan) -> list[str]:
    """Returns a line for each episode that could not be scored; it keeps the score it has."""
    faults = []
    results = folder.results()
    for cell in plan.cells:
        result = results.get(cell.key)
        if result is None or not result.final:
            continue
        try:
            submission = load_submission(folder.path / result.path)
            folder.record(await _score_again(folder, plan, cell, result, submission))
        except (OSError, ValueError, KeyError) as error:
            faults.append(f"{cell.key}: its submission cannot be read: {error}")
        except (GraderFault, EnvironmentFault, ModelFault, ModelRequestError) as error:
            faults.append(f"{cell.key}: {type(error).__name__}: {error}")
    return faults


async def _score_again(folder: RunFolder, plan: Plan, cell: Cell, result: Result, submission: Submission) -> Result:
    """Scored in an episode of its own, beside the first one, so that the judge's calls are recorded too."""
    base = folder.path / result.path
    number = 1 + sum(1 for _ in base.glob("scored-*"))
    label = f"{folder.id}/scored"

    async def nothing(_: object, __: str) -> Submission:
        return Submission()

    async with Episode.open(
        base / f"scored-{number}",
        task=cell.task,
        tools=(),
        models={"judge": cell.planned.judge} if cell.planned.judge else {},
        seed=cell.seed,
        budget=Budget(),
        collect=nothing,
        label=label,
        environment=None,
        header={"episode": {**cell.key._asdict(), "seed": cell.seed, "scored": number}},
        storage=folder.storage(fsync=plan.experiment.fsync),
    ) as episode:
        grader = EpisodeGrader(episode, plan.experiment.environment.of, label)
        try:
            again = await cell.planned.benchmark.score(cell.task, submission, grader)
        finally:
            await grader.close()
    return replace(
        result,
        score=finite(again),
        judge_usage=grader.judge_usage,
        judge_cost_usd=grader.judge_cost_usd,
        ended_at=now(),
    )
