"""A run from its plan to its report, whether it is new, resumed or scored again."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trellis.environments.environment import Snapshot
from trellis.environments.pool import Pool
from trellis.models.human import Human
from trellis.models.wrapper import innermost
from trellis.runs.approval import Approvals, need_terminal
from trellis.runs.attempt import RunContext
from trellis.runs.errors import RunStopped, UsageError
from trellis.runs.executor import Interrupted, Watcher, execute
from trellis.runs.experiment import Experiment
from trellis.runs.folder import RunFolder, set_aside
from trellis.runs.metering import Meter, recorded_usd
from trellis.runs.plan import Cell, Plan, make_plan
from trellis.runs.progress import watching
from trellis.runs.results import Key, Result
from trellis.runs.summary import Summary, in_order, summarize
from trellis.runs.waiting import BATCH_JOBS, only_wait, tell
from trellis.runs.worlds import settle
from trellis.scaffolds.world import recorded_snapshots
from trellis.trajectories.disk import log_in
from trellis.trajectories.log import LogError, StorageFault


@dataclass(frozen=True)
class Ended:
    """How a run, or a part of it, came to its end."""

    folder: RunFolder
    summary: Summary
    status: int
    """Exit status: 0 done, 1 an episode ended in a fault or the run had to stop, 130 interrupted."""
    message: str = ""
    """One line for the user, where there is something to be said."""


def start(experiment: Experiment, runs_dir: Path, *, quiet: bool = False, embedded: bool = False) -> Ended:
    """Carry out an experiment in a new folder.

    Raises:
        UsageError: the experiment is wrong, or the folder cannot be written; nothing is left behind.
    """
    plan = make_plan(experiment)
    need_terminal(experiment.approval)
    settled, notice = asyncio.run(settle(experiment, plan, embedded=embedded))
    if notice:
        print(notice, file=sys.stderr)
    if settled != experiment:
        plan = plan.under(settled)
    return go_on(RunFolder.create(runs_dir, settled), plan, quiet=quiet)


def resume(folder: RunFolder, plan: Plan, *, afresh: bool = False, quiet: bool = False) -> Ended:
    """Go on with a run; with `afresh`, begin the episodes anew that cannot go on from their logs.

    Raises:
        UsageError: another process works on it, its world is not to be had any more, or a log is damaged.
    """
    need_terminal(plan.experiment.approval)
    with folder.locked():
        asyncio.run(settle(plan.experiment, plan))
        if afresh:
            _begin_anew(folder, plan)
    return go_on(folder, plan, quiet=quiet)


def _begin_anew(folder: RunFolder, plan: Plan) -> None:
    """Set the logs of episodes aside that are stuck."""
    results = folder.results()
    for key in _unfinished(folder, plan):
        if key in results and results[key].stuck:
            for log in _logs(folder, [key]):
                set_aside(log)
            try:
                folder.record(replace(results[key], outcome="cancelled", fault="", stuck=False))  # once
            except StorageFault as fault:
                raise UsageError(str(fault)) from None


def go_on(folder: RunFolder, plan: Plan, *, quiet: bool = False) -> Ended:
    """Attempt every episode that has no final outcome yet.

    Raises:
        UsageError: another process works on the run, or the log of an episode that is to go on is damaged.
    """
    with folder.locked():
        before = folder.results()
        final = [before[key] for key in plan.keys if key in before and before[key].final]
        cells = [cell for cell in plan.cells if cell.key not in before or not before[cell.key].final]
        status, message = 0, ""
        try:
            with watching(plan.keys, final, quiet=quiet) as watcher:
                pool = _pool(folder, plan.experiment)
                turn = asyncio.Lock()
                approvals = Approvals(plan.experiment.approval, folder.path, watcher.aside, turn)
                for human in (model for model in map(innermost, plan.models) if isinstance(model, Human)):
                    human.share_terminal(watcher.aside, turn)
                with _telling_damage():
                    meter = _meter(folder, plan, final)
                storage = folder.storage(fsync=plan.experiment.fsync)
                storage.sweep()
                run = RunContext(folder, plan.experiment, meter, pool, provenance(), approvals, storage)
                work = execute(cells, run, jobs=_jobs(plan), watcher=watcher)
                asyncio.run(_leaving_nothing(work, folder, plan, pool, cells, watcher))
        except Interrupted:
            status, message = 130, f"interrupted; go on with: trellis resume {folder.path}"
        except RunStopped as stop:
            status, message = 1, f"{stop}; go on with: trellis resume {folder.path}"
    summary = summary_of(folder, plan)
    return Ended(folder, summary, status or int(summary.faults > 0), message)


def summary_of(folder: RunFolder, plan: Plan) -> Summary:
    """The summary of what has ended so far, in the order of the plan; also written as `summary.json`."""
    benchmarks = {label: planned.benchmark for label, planned in plan.benchmarks.items()}
    summary = summarize(in_order(plan.experiment, folder.results().values()), benchmarks, len(plan.cells))
    folder.write("summary.json", json.dumps(summary.to_json(), indent=1) + "\n")
    return summary


def provenance() -> dict[str, Any]:
    """What ran: versions, and the commit of the folder the run was started from."""
    from importlib.metadata import distributions

    packages = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    commit = _git("rev-parse", "HEAD")
    return {
        "python": sys.version.split()[0],
        "platform": sys.platform,
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
        "git": {"commit": commit, "dirty": bool(_git("status", "--porcelain"))} if commit else None,
    }


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(("git", *arguments), capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


async def _leaving_nothing(
    work: Awaitable[None], folder: RunFolder, plan: Plan, pool: Pool, cells: Sequence[Cell], watcher: Watcher
) -> None:
    """Remove what an earlier, killed process of this run left behind, and what this one leaves: worlds, connections.
    Only the snapshots stay that episodes without an end may need."""
    from trellis.environments.kinds import reap
    from trellis.models import catalog

    label = folder.id
    await reap(label, sparing=_needed(folder, plan))
    pool.expect(cell.environment for cell in cells if cell.environment is not None and cell.agent.acts)
    telling = asyncio.create_task(tell(plan.models, watcher))
    try:
        await work
    finally:
        telling.cancel()
        await pool.close()
        for model in plan.models:
            await catalog.close(model)
        await reap(label, sparing=_needed(folder, plan))


def _needed(folder: RunFolder, plan: Plan) -> list[Snapshot]:
    """The snapshots from which episodes that have not ended yet can be gone on with."""
    logs = _logs(folder, _unfinished(folder, plan))
    return [snapshot for log in logs for snapshot in recorded_snapshots(log)]


def _unfinished(folder: RunFolder, plan: Plan) -> list[Key]:
    results = folder.results()
    return [key for key in plan.keys if key not in results or not results[key].final]


def _logs(folder: RunFolder, keys: Iterable[Key]) -> list[Path]:
    """Those that there are."""
    return [log for key in keys if (log := log_in(folder.path / folder.episode(key)))]


def _meter(folder: RunFolder, plan: Plan, final: Sequence[Result]) -> Meter:
    """Starts from what the run has cost already, also for episodes that are unfinished or were begun anew."""
    done = {result.key for result in final}
    logs = _logs(folder, (key for key in plan.keys if key not in done))
    logs += [log for key in plan.keys for log in folder.logs_set_aside(key)]
    spent_usd = sum(result.paid_usd for result in final) + recorded_usd(logs)
    experiment = plan.experiment
    return Meter(experiment.max_cost_usd, spent_usd, must_price=experiment.budget.cost_usd is not None)


@contextmanager
def _telling_damage() -> Iterator[None]:
    try:
        yield
    except LogError as error:
        raise UsageError(
            f"{error}; nothing was changed (to begin this episode anew, move its folder out of the run)"
        ) from None


def _pool(folder: RunFolder, experiment: Experiment) -> Pool:
    starts = experiment.starts or max(2, os.cpu_count() or 1)
    return Pool(starts=starts, warm=experiment.warm, label=f"{folder.id}/warm")


def _jobs(plan: Plan) -> int:
    if any(isinstance(innermost(model), Human) for model in plan.models):
        usual = 1  # nobody thinks of two tasks at a time
    else:
        usual = BATCH_JOBS if only_wait(plan) else os.cpu_count() or 1
    return plan.experiment.jobs or usual
