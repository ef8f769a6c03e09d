"""Recorded replay: the program as it is now over what was recorded. Nothing is asked, started or written, and the first
request that is another one is the answer."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trellis.runs.errors import UsageError
from trellis.runs.options import build
from trellis.runs.recorded_answers import carry_out, finish, source_of
from trellis.runs.recorded_changes import Change, first_change
from trellis.runs.registry import anchored, is_reference
from trellis.runs.reopening import Reopened, reopen, settings_of
from trellis.scaffolds.baselines import Noop
from trellis.scaffolds.scaffold import Scaffold
from trellis.trajectories.blobs import is_name
from trellis.trajectories.log import LogError
from trellis.trajectories.recorded import ASKS
from trellis.trajectories.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Variant:
    """What is replayed instead of the recorded scaffold with its recorded options."""

    scaffold: str | type | None = None
    """A name as on the command line, or a class."""
    options: Mapping[str, Any] | None = None
    """On top of the recorded options."""
    folder: Path | None = None
    """What the scaffold's file is relative to; None: the current folder."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """How a recorded replay came out."""

    path: Path
    steps: int
    """Calls of models that were answered."""
    acts: int
    ms: float
    change: Change | None = None
    """None: the program asks for the same."""
    notes: tuple[str, ...] = ()
    """What else is to be known, one line each."""

    def to_json(self) -> dict[str, Any]:
        return {
            "trajectory": str(self.path), "same": self.change is None, "steps": self.steps, "acts": self.acts,
            "ms": round(self.ms, 1), "change": self.change and self.change.to_json(), "notes": list(self.notes),
        }  # fmt: skip


def replay(path: Path, variant: Variant = Variant()) -> Replayed:
    """Run the program of a trajectory over it. Also from within a running event loop.

    Raises:
        UsageError: what the trajectory names is not here, or it cannot be read.
        Exception: the program's own error.
    """
    return _replay(path, variant, folder=None)


def rerecord(path: Path, target: Path, variant: Variant = Variant()) -> Replayed:
    """Write the trajectory that the program makes now of the recorded answers to `target`, a file `*.jsonl`; what is
    too large for it goes into `blobs` beside it. Model and world have answered before, so they need not be asked again
    as long as the program makes the same tool calls. If it does not, nothing is written, and the outcome has a change.

    What tells of the machine it was recorded on, and would age, is left out of the header.

    Raises:
        UsageError: as `replay`; or the target is no such file, or belongs to a run.
        Exception: the program's own error.
    """
    from tempfile import TemporaryDirectory

    if target.suffix != ".jsonl":
        raise UsageError(f"{target}: a trajectory is written to a file that ends with .jsonl")
    if any(folder.name == "episodes" and (folder.parent / "experiment.toml").exists() for folder in target.parents):
        raise UsageError(f"{target} belongs to a run, which stays as it was: write to another file")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".trellis-", dir=target.parent) as made:
        outcome = _replay(path, variant, folder=Path(made), target=target)
        if outcome.change is None:
            for blob in Path(made).glob("blobs/*"):
                (target.parent / "blobs").mkdir(exist_ok=True)
                blob.replace(target.parent / "blobs" / blob.name)
            Path(made, "trajectory.jsonl").replace(target)
    return outcome


def _replay(path: Path, variant: Variant, *, folder: Path | None, target: Path | None = None) -> Replayed:
    began = time.perf_counter()
    try:
        with _opened(path) as trajectory:
            source = source_of(trajectory, strict=folder is None)
            again, scaffold = _reopened(trajectory, variant)
            header = {"episode": trajectory.header["episode"]}
            if target:
                header = _header(_varied(trajectory.header, variant, again), target)
            finish(carry_out(trajectory, source, again, scaffold, folder, header))
            change, notes = first_change(trajectory, source, strict=folder is None)
    except FileNotFoundError as error:
        name = Path(str(error.filename or error)).name
        if not is_name(name):
            raise
        blob = trajectory.path.parent / "blobs" / name
        raise UsageError(f"{path}: {blob} is missing: copy the folder blobs along with the trajectory") from None
    except LogError as error:
        raise UsageError(str(error)) from None
    ms = (time.perf_counter() - began) * 1000
    answered = source.recorded.taken - Counter(mismatch.kind for mismatch in source.mismatches if mismatch.recorded)
    steps = sum(answered[kind] for kind in ASKS)
    return Replayed(path, steps, answered["act"], ms, change, (*again.differs, *notes))


def _opened(path: Path) -> Trajectory:
    try:
        return Trajectory(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _reopened(trajectory: Trajectory, variant: Variant) -> tuple[Reopened, Scaffold]:
    header, options = trajectory.header, dict(variant.options or {})
    recorded = _recorded_options(header)
    agent: dict[str, Any] = {"options": {**recorded, **options}}
    if isinstance(variant.scaffold, str):
        agent["scaffold"] = anchored(variant.scaffold, (variant.folder or Path.cwd()).resolve())
    elif variant.scaffold is not None:
        agent = {"scaffold": Noop.name, "options": {}}
    again = reopen(header, with_models=False, changes={"agent": agent}, path=trajectory.path)
    if isinstance(variant.scaffold, type):
        name = f"scaffold {variant.scaffold.__qualname__}"
        scaffold: Scaffold = build(variant.scaffold, {**recorded, **options}, name)
        return again, scaffold
    return again, again.cell.agent.scaffold(again.cell.planned.benchmark)


def _recorded_options(header: Mapping[str, Any]) -> dict[str, Any]:
    scaffold = header.get("scaffold")
    return dict(scaffold["options"]) if isinstance(scaffold, Mapping) else {}


def _varied(header: Mapping[str, Any], variant: Variant, again: Reopened) -> Mapping[str, Any]:
    """The header of what a variant makes, so that it is the same when it is replayed by itself. A class has no name to
    be found by."""
    if isinstance(variant.scaffold, type) or not (variant.scaffold or variant.options):
        return header
    choice = again.experiment.agents[0]
    varied = {"scaffold": {"name": choice.scaffold, "options": choice.options}}
    if "experiment" in header:
        varied["experiment"] = settings_of(again.experiment, again.cell)
    return {**header, **varied}


def _header(header: Mapping[str, Any], target: Path) -> dict[str, Any]:
    """What reopening needs, with the paths of files relative to where the trajectory will lie."""
    kept = ("episode", "benchmark", "scaffold", "models", "model_options", "budget", "experiment", "imported", "fork")
    found = {name: header[name] for name in kept if name in header}
    for name, unwanted in (("experiment", "cache"), ("fork", "trajectory")):
        if name in found:
            found[name] = {member: value for member, value in found[name].items() if member != unwanted}
    if world := header.get("environment"):
        found["environment"] = {"kind": world["kind"]}
    relative: dict[str, Any] = _relative(found, target.resolve().parent)
    return relative


def _relative(value: Any, folder: Path) -> Any:
    """Plain data in which the files of references (`/home/me/agent.py:Agent`) are relative to `folder`."""
    if isinstance(value, Mapping):
        return {name: _relative(inner, folder) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_relative(inner, folder) for inner in value]
    if isinstance(value, str) and is_reference(value) and value.startswith("/"):
        file, colon, rest = value.partition(":")
        return f"{os.path.relpath(file, folder)}{colon}{rest}"
    return value
