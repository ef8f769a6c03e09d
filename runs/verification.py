"""Verified replay of one trajectory or of many: opened, replayed, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trellis.environments.environment import EnvironmentFault, EnvironmentSpec
from trellis.environments.kinds import resolve_kind
from trellis.runs.determinism import Verified
from trellis.runs.errors import UsageError
from trellis.runs.finding import find_step
from trellis.runs.reexecution import Again, Bounds, Reexecution
from trellis.runs.reopening import Reopened, reopen
from trellis.runs.text import plural
from trellis.trajectories.log import LogError
from trellis.trajectories.trajectory import Trajectory

OnCall = Callable[[Path, Again], None]
OnEnd = Callable[[Verified], None]


@dataclass(frozen=True)
class Wanted:
    """How a replay is to go."""

    stop_at_first: bool = False
    upto: str | None = None
    """A step, as `finding.find_step` takes it."""
    branch: str | None = None
    environment: Mapping[str, Any] | None = None
    """Settings of the experiment's environment that are to be others (`kind`, `image`)."""


async def verify(paths: Sequence[Path], wanted: Wanted, *, jobs: int, on_call: OnCall, on_end: OnEnd) -> list[Verified]:
    """Replay trajectories, `jobs` at a time; in the order of `paths`.

    Raises:
        UsageError: one of them cannot be opened again, or is not as it should be.
    """
    turn = asyncio.Semaphore(jobs)

    async def one(path: Path) -> Verified:
        async with turn:
            verified = await _verify(path, wanted, on_call)
            on_end(verified)
            return verified

    tasks = [asyncio.create_task(one(path)) for path in paths]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # they leave no world behind


async def _verify(path: Path, wanted: Wanted, on_call: OnCall) -> Verified:
    try:
        with Trajectory(path) as trajectory:
            again = _reopen(trajectory, wanted)
            spec, notes = await _world(trajectory, again, wanted)
            upto = find_step(trajectory, wanted.upto).number if wanted.upto else None
            if wanted.branch is not None and wanted.branch not in trajectory.branches:
                known = ", ".join(trajectory.branches)
                raise UsageError(f"{path} has no branch {wanted.branch!r}; it has {known}")
            replay = Reexecution(trajectory, again, spec, Bounds(upto, wanted.branch))
            calls: list[Again] = []
            task: str = trajectory.header["episode"]["task"]
            fault = ""
            try:
                async with aclosing(replay.calls()) as made:
                    async for call in made:
                        calls.append(call)
                        on_call(path, call)
                        if wanted.stop_at_first and call.verdict == "different":
                            break
            except EnvironmentFault as error:
                fault = str(error)
            if replay.not_compared:
                about = plural(replay.not_compared, "call")
                notes = (*notes, f"which files {about} changed was not recorded (or cannot be told here): not compared")
            return Verified(path, task, calls, fault, notes)
    except LogError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{error.filename or path}: {error.strerror}") from None


def _reopen(trajectory: Trajectory, wanted: Wanted) -> Reopened:
    changes = None
    if wanted.environment:
        old = reopen(trajectory.header, with_models=False, path=trajectory.path).experiment
        written = old.model_dump(mode="json", exclude_defaults=True).get("environment", {})
        changes = {"environment": {**written, **wanted.environment}}
    return reopen(trajectory.header, with_models=False, changes=changes, path=trajectory.path)


async def _world(
    trajectory: Trajectory, again: Reopened, wanted: Wanted
) -> tuple[EnvironmentSpec | None, tuple[str, ...]]:
    """The recipe of its worlds, of the kind that it had, and what is to be said of it."""
    spec = again.cell.environment
    if spec is None:
        return None, again.differs
    recorded = (trajectory.header.get("environment") or {}).get("kind")
    if recorded and not (wanted.environment or {}).get("kind"):
        spec = replace(spec, kind=recorded)
    try:
        kind = await resolve_kind(spec)
    except EnvironmentFault as fault:
        raise UsageError(f"{trajectory.path}: {fault} (another kind: --env KIND)") from None
    other = (f"recorded in {recorded}, replayed in {kind}",) if recorded and recorded != kind else ()
    return replace(spec, kind=kind), (*again.differs, *other)
