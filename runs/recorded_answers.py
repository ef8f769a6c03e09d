"""A recorded program is carried out: only what was recorded answers it. What stands for models, servers, people and
worlds is never reached."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from trellis.environments.environment import Environment
from trellis.models.messages import Message, ToolCall
from trellis.models.model import GenerateConfig, Reply, ToolSpec
from trellis.runs.attempt import solve
from trellis.runs.reopening import Reopened
from trellis.scaffolds.approval import Decision
from trellis.scaffolds.episode import Episode
from trellis.scaffolds.scaffold import Scaffold
from trellis.trajectories.log import Event
from trellis.trajectories.recorded import ASKS, Recorded
from trellis.trajectories.source import Source
from trellis.trajectories.trajectory import Trajectory


def finish(work: Any) -> None:
    """Run to the end, also where an event loop runs in this thread; the thread's own loop is left as it is."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(work)
    else:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(finish, work).result()


async def carry_out(
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
        toolsets=[RecordedTools(name) for name in toolsets_of(trajectory)],
        source=source,
    )
    try:
        async with opened as episode:
            await solve(scaffold, episode)
            await episode.finish()
    except Exception:
        if not source.mismatches:  # what comes of a request that was not answered is no error of its own
            raise


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


def source_of(trajectory: Trajectory, *, strict: bool) -> Source:
    events = trajectory.file.events(range(1, len(trajectory.file)))
    if "fork" not in trajectory.header:
        return Source(Recorded(events, trajectory.blobs.load), strict, alone=True)
    seeded_anew = f"fork/{trajectory.header['episode']['epoch']}"
    return Source(RecordedFork(events, trajectory.blobs.load), strict, seeded_anew, alone=True)


class RecordedFork(Recorded):
    """What a fork recorded. From where it went on by itself its calls were seeded anew, as they are when its program is
    run again."""

    def __init__(self, events: Iterable[Event], load: Callable[[str], bytes]) -> None:
        self._kept: Counter[str] = Counter()
        super().__init__(map(self._seen, events), load)

    def _seen(self, event: Event) -> Event:
        kind, ended, _ = event["kind"].partition(".done")
        if ended and "source" in event:
            self._kept[event["branch"]] += kind in ASKS
        return event

    def calls(self, branch: str) -> int:
        return self._kept[branch]


def toolsets_of(trajectory: Trajectory) -> list[str]:
    notes = [trajectory.note(seq) for seq, e in enumerate(trajectory.file.entries) if e.kind == "discover.begun"]
    return list(dict.fromkeys(note.data["what"]["toolset"] for note in notes))
