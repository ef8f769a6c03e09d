"""Recorded replay: the program as it is now over what was recorded. Nothing is asked, started or written, and the first
request that is another one is the answer."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

from trellis.environments.environment import Environment
from trellis.models.messages import Message, ToolCall, user
from trellis.models.model import GenerateConfig, Reply, ToolSpec
from trellis.runs.attempt import solve
from trellis.runs.errors import UsageError
from trellis.runs.options import build
from trellis.runs.registry import anchored, is_reference
from trellis.runs.reopening import Reopened, reopen
from trellis.scaffolds.approval import Decision
from trellis.scaffolds.baselines import Noop
from trellis.scaffolds.episode import Episode
from trellis.scaffolds.scaffold import Scaffold
from trellis.trajectories.blobs import is_name
from trellis.trajectories.differences import Difference, differences, shown
from trellis.trajectories.log import Event, LogError
from trellis.trajectories.recorded import ASKS, GRADER, Recorded
from trellis.trajectories.source import Asked, ReplayMismatch, Request, Source
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
class Change:
    """The first thing that the program asks for and did not, or did and does not."""

    kind: str
    """Of the effect: `generate`, `compact`, `act`, `submit`, `branch`, ..."""
    how: Literal["changed", "new", "gone"]
    """Another request; one where none of its kind is recorded; one that is recorded and no longer made."""
    branch: str
    step: int
    """Number of the step that it is, or that it follows; 0: before the first of its branch."""
    turn: int
    """That step's place in its branch."""
    event: int | None
    """The recorded event; of a new request what is recorded in its place, None: nothing more."""
    request: tuple[str, ...]
    """What is asked for, where it is new or gone."""
    differences: tuple[Difference, ...] = ()
    instead_of: str = ""
    """Of a new request: the kind of the effect that is recorded in its place."""

    @property
    def same_until(self) -> int:
        """The last step with which nothing is wrong: from where a fork tells what comes of the change."""
        return self.step if self.how == "new" else max(0, self.step - 1)

    def to_json(self) -> dict[str, Any]:
        different = [{"what": d.what, "how": d.how, "diff": list(d.lines)} for d in self.differences]
        return {
            "kind": self.kind, "how": self.how, "branch": self.branch, "step": self.step, "turn": self.turn,
            "event": self.event, "request": list(self.request), "differences": different,
            "instead_of": self.instead_of,
        }  # fmt: skip


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
            source = _source(trajectory, strict=folder is None)
            again, scaffold = _reopened(trajectory, variant)
            header = _header(trajectory.header, target) if target else {"episode": trajectory.header["episode"]}
            _finish(_carry_out(trajectory, source, again, scaffold, folder, header))
            change, notes = _first_change(trajectory, source, strict=folder is None)
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


def _finish(work: Any) -> None:
    """Run to the end, also where an event loop runs in this thread; the thread's own loop is left as it is."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(work)
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
    else:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(_finish, work).result()


async def _carry_out(
    trajectory: Trajectory,
    source: Source,
    again: Reopened,
    scaffold: Scaffold,
    folder: Path | None,
    header: Mapping[str, Any],
) -> None:
    cell = again.cell
    kinds = {entry.kind for entry in trajectory.file.entries}
    opened = Episode.open(
        folder,
        task=cell.task,
        tools=cell.tools(),
        models={role: RecordedModel(name) for role, name in {"main": "none", **again.models}.items()},
        seed=cell.seed,
        budget=again.experiment.budget.open(),
        collect=partial(cell.planned.benchmark.collect, cell.task),
        label="recorded",
        environment=cell.environment,
        header=header,
        start_world=_no_world,
        approve=_nobody_to_ask if "approval.begun" in kinds else None,
        toolsets=[RecordedTools(name) for name in _toolsets(trajectory)],
        source=source,
    )
    try:
        async with opened as episode:
            await solve(scaffold, episode)
            await episode.finish()
    except Exception:
        if not source.mismatches:  # what comes of a request that was not answered is no error of its own
            raise


# --- what stands for models, servers, people and worlds: the source answers for them, and nobody else does ---


class RecordedModel:
    """A model of which only the name is left."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        _unreachable(self.name)

    async def compact(self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = ()) -> Reply:
        _unreachable(self.name)


class RecordedTools:
    """A server of which only the name is left."""

    in_world = False

    def __init__(self, name: str) -> None:
        self.name = name

    async def discover(self, environment: Environment) -> Sequence[ToolSpec]:
        _unreachable(self.name)

    async def call(self, environment: Environment, tool: str, arguments: Mapping[str, Any]) -> NoReturn:
        _unreachable(self.name)

    async def close(self) -> None:
        return None


async def _no_world(*_: Any, **__: Any) -> NoReturn:
    _unreachable("a world")


async def _nobody_to_ask(call: ToolCall, branch: str) -> Decision:
    _unreachable("somebody who approves")


def _unreachable(what: str) -> NoReturn:
    raise AssertionError(f"{what} was asked for something, and the source should have answered")


def _source(trajectory: Trajectory, *, strict: bool) -> Source:
    events = trajectory.file.events(range(1, len(trajectory.file)))
    fork = trajectory.header.get("fork")
    if not isinstance(fork, Mapping):
        return Source(Recorded(events, trajectory.blobs.load), strict, alone=True)
    of_fork = RecordedFork(events, trajectory.blobs.load)
    variation = f"fork/{trajectory.header['episode']['epoch']}"
    message = user(fork["message"]) if fork.get("message") else None
    return Source(of_fork, strict, variation, message, of_fork.branch, alone=True)


class RecordedFork(Recorded):
    """What a fork recorded. From where it went on by itself its calls were seeded anew, and there it was told what
    there was to say: that is the same when its program is run again."""

    def __init__(self, events: Iterable[Event], load: Callable[[str], bytes]) -> None:
        self.branch = "main"
        """On which it was forked."""
        self._kept: Counter[str] = Counter()
        super().__init__(map(self._seen, events), load)

    def _seen(self, event: Event) -> Event:
        kind, ended, _ = event["kind"].partition(".done")
        if ended and "source" in event:
            self.branch = event["branch"]
            self._kept[self.branch] += kind in ASKS
        return event

    def calls(self, branch: str) -> int:
        return self._kept[branch]


# --- the program ---


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


def _toolsets(trajectory: Trajectory) -> list[str]:
    notes = [trajectory.note(seq) for seq, e in enumerate(trajectory.file.entries) if e.kind == "discover.begun"]
    return list(dict.fromkeys(note.data["what"]["toolset"] for note in notes))


# --- what changed ---


def _first_change(trajectory: Trajectory, source: Source, *, strict: bool) -> tuple[Change | None, list[str]]:
    """The earliest in the order of the record, and whatever else is to be said."""
    changes: list[Change] = []
    left = [event for event in source.recorded.left() if event["branch"] != GRADER]
    for mismatch in source.mismatches:
        cut = source.recorded.cut_off.get((mismatch.kind, mismatch.branch))
        recorded = mismatch.recorded or cut
        here = [event for event in left if event["branch"] == mismatch.branch]
        if recorded is None or (here and here[0]["seq"] < recorded["seq"]):
            changes.append(_new(trajectory, mismatch, here[0] if here else None))
            continue
        different = differences(_recorded(trajectory, recorded), mismatch.asked)
        if different or mismatch.recorded:
            changes.append(_changed(trajectory, recorded, mismatch, different, here))
    left = left if strict else []
    if changes:
        first = min(changes, key=lambda change: (change.event is None, change.event or 0))
        before = [event for event in left if event["seq"] < (first.event or 0) and event["branch"] != first.branch]
        return first, [f"not asked for before that: {_where(trajectory, event)}" for event in before[:3]]
    if source.mismatches:
        return None, ["the record was cut off in the last call that is asked for"]
    return (_gone(trajectory, left[0]) if left else None), []


def _changed(
    trajectory: Trajectory, recorded: Event, mismatch: ReplayMismatch, different: list[Difference], left: list[Event]
) -> Change:
    """Another request; where it is the very one that comes later in the record, the one before it is gone."""
    for event in [event for event in left if event["kind"] == recorded["kind"]][:8]:
        if all(d.what == "setting seed" for d in differences(_recorded(trajectory, event), mismatch.asked)):
            return _gone(trajectory, recorded)
    step, turn = _place(trajectory, recorded)
    return Change(mismatch.kind, "changed", mismatch.branch, step, turn, recorded["seq"], (), tuple(different))


def _new(trajectory: Trajectory, mismatch: ReplayMismatch, instead_of: Event | None) -> Change:
    """A request for which nothing is recorded, or something of another kind."""
    steps = trajectory.branches[mismatch.branch].steps if mismatch.branch in trajectory.branches else []
    kind, event = "", None
    if instead_of is not None:
        kind, event = instead_of["kind"].removesuffix(".begun"), int(instead_of["seq"])
        steps = [number for number in steps if trajectory.step(number).seq < event]
    last, turn = (steps[-1], len(steps)) if steps else (0, 0)
    request = tuple(shown(mismatch.asked))
    return Change(mismatch.kind, "new", mismatch.branch, last, turn, event, request, instead_of=kind)


def _gone(trajectory: Trajectory, recorded: Event) -> Change:
    step, turn = _place(trajectory, recorded)
    request = tuple(shown(_recorded(trajectory, recorded)))
    kind = recorded["kind"].removesuffix(".begun")
    return Change(kind, "gone", recorded["branch"], step, turn, recorded["seq"], request)


def _where(trajectory: Trajectory, recorded: Event) -> str:
    step, turn = _place(trajectory, recorded)
    place = f"step {step} ({recorded['branch']}:{turn})" if step else f"branch {recorded['branch']}"
    return f"{recorded['kind'].removesuffix('.begun')} of {place}, event {recorded['seq']}"


def _place(trajectory: Trajectory, recorded: Event) -> tuple[int, int]:
    step = trajectory.step_of(recorded["seq"])
    return (step.number, step.turn) if step else (0, 0)


def _recorded(trajectory: Trajectory, event: Event) -> Asked:
    """What a recorded event asked for."""
    kind = event["kind"].removesuffix(".begun")
    if kind in ASKS:
        step = trajectory.step_of(event["seq"])
        assert step is not None
        messages = tuple(trajectory.conversation(step))
        return Request(step.role, messages, trajectory.tools(step.tools), step.config)
    if "what" in event:
        what: Mapping[str, Any] = trajectory.note(event["seq"]).data["what"]
        return what
    return {name: value for name, value in event.items() if name not in ("seq", "at", "branch", "kind")}


# --- what a trajectory that is kept says of itself ---


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
