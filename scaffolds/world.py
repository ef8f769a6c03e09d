"""The world of one branch: an environment that is started when it is first needed, and can be rebuilt.

What a branch did in its world is known from the log: where it was forked from, every tool call since, and the
snapshots that were taken on the way. So a world that was lost with a killed process is made again, from the last
snapshot that is still there, by performing the recorded calls that came after it; and only if something that is not
recorded needs it: an episode that is answered wholly from its log starts no environment at all.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from trellis.environments import store
from trellis.environments.environment import Environment, EnvironmentFault, Snapshot
from trellis.models.messages import Image, Text, ToolCall, ToolResult
from trellis.tools.tool import Output, Remembers, Tool, ToolError, ToolOfSet
from trellis.trajectories.log import LogError, encode
from trellis.trajectories.normalise import compare_results
from trellis.trajectories.reading import tells_of
from trellis.trajectories.recorded import unpack
from trellis.trajectories.recorder import Recorder
from trellis.trajectories.redaction import Redaction
from trellis.trajectories.trajectory import Trajectory

Start = Callable[[Snapshot | None, str], Awaitable[Environment]]
"""`start(snapshot, branch)`: the branch is where the log tells of what happens in it unasked."""
CHECKPOINT_S = 30.0
"""So long tools must have worked in a world since its last snapshot before another is taken: what a kill costs at most,
beside the call that it cut off. Cheap calls are sooner repeated than captured, however many they are."""
CHECKPOINT_SHARE = 20
"""And so many times as long as the last one took, so that snapshots cost a twentieth of the time at most."""
SHOWN_CHARS = 120


class Diverged(EnvironmentFault):
    """A world cannot be rebuilt: a recorded call that was made again gave another result, and would again."""


class NoEnvironment:
    """What a tool gets in a task without a world: whatever it asks for is the model's mistake."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ToolError("this task has no environment: answer without commands or files")

    async def snapshot(self) -> None:
        return None

    async def close(self) -> None:
        return None


async def perform(tools: Mapping[str, Tool], call: ToolCall, environment: Environment) -> tuple[ToolResult, Output]:
    """Use a tool. The one place that turns the model's mistakes into results.

    Raises:
        EnvironmentFault: the world broke.
    """
    try:
        if call.malformed:
            raise ToolError(f"the arguments of {call.name} are not a JSON object: {call.malformed[:200]}")
        if call.name not in tools:
            raise ToolError(f"there is no tool {call.name!r}; there are: {', '.join(tools) or 'none'}")
        output = await tools[call.name](environment, **call.arguments)
    except ToolError as mistake:
        output = Output(str(mistake), is_error=True)
    except TypeError as mistake:
        if mistake.__traceback__ is None or mistake.__traceback__.tb_next is not None:
            raise  # raised inside the tool: our own bug
        output = Output(f"wrong arguments for {call.name}: {mistake}", is_error=True)
    parts: tuple[Text | Image, ...] = output.images
    if output.text or not parts:
        parts = (Text(output.text), *parts)
    return ToolResult(call.id, call.name, parts, output.is_error, output.data), output


def as_logged(result: ToolResult, redact: Redaction) -> ToolResult:
    """A result with its texts as a log keeps them: without secrets."""
    parts = (
        replace(part, text=json.loads(redact(encode(part.text)))) if isinstance(part, Text) else part
        for part in result.parts
    )
    return replace(result, parts=tuple(parts))


@dataclass(slots=True)
class WorldSnapshot:
    """A world after its first `position` calls. The files behind it are captured, or rebuilt when first needed."""

    world: World = field(repr=False)
    position: int
    captured: Snapshot | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    async def files(self) -> Snapshot | None:
        """What to start a fork from; None means: from the task's own recipe."""
        async with self._lock:
            if self.captured is None:
                self.captured = await self.world.rebuild(self.position)
            return self.captured


@dataclass(frozen=True, slots=True)
class Capture:
    """A snapshot that was taken of a branch's world, in this process or one before it. It may be gone."""

    snapshot: Snapshot
    whole: bool
    """Nothing ran then, and no tool knew anything of the world that is not in it: the branch can go on from it."""
    checkpoint: bool
    """Nothing else begins from it."""


class World:
    """The environment of one branch, started lazily, and the calls made in it."""

    def __init__(
        self,
        branch: str,
        tools: Mapping[str, Tool],
        start: Start,
        recorder: Recorder,
        origin: WorldSnapshot | None = None,
    ) -> None:
        self.branch = branch
        self._tools = tools
        self._start = start
        self._recorder = recorder
        self._origin = origin
        self._calls: list[tuple[ToolCall, ToolResult]] = []
        self._performed = 0
        self._environment: Environment | None = None
        self._snapshots: dict[int, WorldSnapshot] = {}
        self._captures: dict[int, Capture] = {}
        """By position."""
        for event in recorder.standing("snapshot", branch):
            if event.get("boot") != store.boot():  # nobody knows what of it the disk had when that ended
                continue
            with suppress(LogError):  # without its blob it is as good as gone
                snapshot = Snapshot.from_json(unpack(event["snapshot"], recorder.blobs.load))
                self._captures[event["position"]] = Capture(snapshot, event["whole"], event["checkpoint"])
        self._under_way = 0
        """Calls that were made, or are being made, and are not remembered yet: what they do is in the environment."""
        self._worked_s = 0.0
        """How long tools have worked in the environment since it was last captured, or began."""
        self._due_s = CHECKPOINT_S
        self._lock = asyncio.Lock()

    @property
    def touched(self) -> bool:
        """Was anything done here, or in the world this one was forked from?"""
        return bool(self._calls) or (self._origin is not None and self._origin.world.touched)

    async def perform(self, call: ToolCall) -> tuple[ToolResult, Output]:
        """Make a call that is not recorded. Raises EnvironmentFault."""
        environment = await self.environment()
        began = time.monotonic()
        self._under_way += 1
        try:
            return await perform(self._tools, call, environment)
        except BaseException:
            self._under_way -= 1
            raise
        finally:
            self._worked_s += time.monotonic() - began

    async def remember(self, call: ToolCall, result: ToolResult, *, performed: bool) -> None:
        """A call of this branch, and whether this process performed it in the environment."""
        self._calls.append((call, result))
        if performed:
            self._under_way -= 1
            self._performed = len(self._calls)
            if self._worked_s >= self._due_s:
                with suppress(EnvironmentFault):  # if the world is gone, the next call will say so
                    await self._take_checkpoint()

    async def environment(self) -> Environment:
        """The environment with every remembered call performed in it.

        Raises:
            EnvironmentFault: it could not be started.
            Diverged: it could not be made what it was.
        """
        async with self._lock:
            if self._environment is None:
                self._environment, self._performed = await self._start_before(len(self._calls))
                self._worked_s = 0.0
            await self._perform_up_to(len(self._calls), self._environment)
            return self._environment

    async def snapshot(self) -> WorldSnapshot:
        """This world as it is now. Free when nothing happened since the last one."""
        position = len(self._calls)
        if position not in self._snapshots:
            live = self._environment is not None and self._performed == position
            captured = await self._capture(self._environment, position) if live and self._environment else None
            self._snapshots[position] = WorldSnapshot(self, position, captured)
        return self._snapshots[position]

    def fork(self, branch: str, origin: WorldSnapshot) -> World:
        """A world of its own that begins where `origin` is."""
        return World(branch, self._tools, self._start, self._recorder, origin)

    async def rebuild(self, position: int) -> Snapshot | None:
        """The files after `position` calls: found again, or made again in an environment of their own."""
        known = self._captures.get(position)
        if known is not None and await known.snapshot.exists():
            return known.snapshot
        origin = await self._origin.files() if self._origin else None
        if position == 0 and origin is not None:
            return origin
        environment, performed = await self._start_before(position)
        try:
            for number in range(performed, position):
                await self._again(number, environment)
            return await self._capture(environment, position)
        finally:
            await environment.close()

    async def close(self, *, for_good: bool = False) -> None:
        """With `for_good`, nothing will happen in it any more: what was kept only to rebuild it goes as well."""
        if self._environment is not None:
            environment, self._environment = self._environment, None
            await environment.close()
        if for_good:
            await self._drop_checkpoints(len(self._calls) + 1)

    async def _start_before(self, position: int) -> tuple[Environment, int]:
        """A new environment that goes on from the last snapshot at or before `position` that is whole and still there,
        and how many calls are in it."""
        for at in sorted((at for at in self._captures if at <= position), reverse=True):
            capture = self._captures[at]
            if capture.whole and await capture.snapshot.exists():
                return await self._start(capture.snapshot, self.branch), at
        origin = await self._origin.files() if self._origin else None
        return await self._start(origin, self.branch), 0

    async def _perform_up_to(self, position: int, environment: Environment) -> None:
        while self._performed < position:
            began = time.monotonic()
            await self._again(self._performed, environment)
            self._worked_s += time.monotonic() - began
            self._performed += 1

    async def _again(self, number: int, environment: Environment) -> None:
        call, recorded = self._calls[number]
        tool = self._tools.get(call.name)
        if isinstance(tool, ToolOfSet) and not tool.toolset.in_world:
            return  # what it did out there is done
        result, _ = await perform(self._tools, call, environment)
        recorded, result = (as_logged(each, self._recorder.log.redact) for each in (recorded, result))
        why, comparison = compare_results(recorded, result, call)
        if why:
            self._recorder.event(
                "divergence", self.branch, call=call.id, tool=call.name, recorded=recorded.text, now=result.text
            )
            if self._recorder.goes_elsewhere:
                return
            if line := comparison.difference:
                was, is_now = line.recorded[:SHOWN_CHARS], line.now[:SHOWN_CHARS]
                why = f"line {line.line} was {was!r} and is {is_now!r}"
            raise Diverged(
                f"the world of branch {self.branch} cannot be rebuilt: call {number + 1} of it ({call.name}, "
                f"{call.id}) was answered differently this time; {why}"
            )

    async def _capture(self, environment: Environment, position: int, *, checkpoint: bool = False) -> Snapshot | None:
        """A snapshot that the log tells of, so that it is found again; a checkpoint only if it is whole."""
        known_elsewhere = self._known_elsewhere(environment)
        snapshot = await environment.snapshot()
        if snapshot is None:
            return None
        capture = Capture(snapshot, not (known_elsewhere or snapshot.left_out), checkpoint)
        if checkpoint and not capture.whole:
            await snapshot.release()
            return None
        self._captures[position] = capture
        self._recorder.tell(
            "snapshot", self.branch, position=position, whole=capture.whole, checkpoint=checkpoint,
            boot=store.boot(), snapshot=snapshot.to_json(),
        )  # fmt: skip
        return snapshot

    def _known_elsewhere(self, environment: Environment) -> bool:
        """Is there more to this world than a snapshot would hold: what a call is changing, what a tool knows of it?"""
        tools = (tool for tool in self._tools.values() if isinstance(tool, Remembers))
        return self._under_way > 0 or any(tool.remembers(environment) for tool in tools)

    async def _take_checkpoint(self) -> None:
        """Capture the world, so that it need not be rebuilt from its beginning; the checkpoints before go."""
        environment, position = self._environment, len(self._calls)
        if environment is None or position in self._captures or self._known_elsewhere(environment):
            return
        began = time.monotonic()
        taken = await self._capture(environment, position, checkpoint=True)
        self._worked_s, self._due_s = 0.0, max(CHECKPOINT_S, CHECKPOINT_SHARE * (time.monotonic() - began))
        if taken:
            await self._drop_checkpoints(position)
        else:
            self._due_s *= 2  # what runs will run for a while

    async def _drop_checkpoints(self, before: int) -> None:
        """But for those from which branches begin after all."""
        for position in [at for at, capture in self._captures.items() if capture.checkpoint and at < before]:
            if position not in self._snapshots:
                await self._captures.pop(position).snapshot.release()


def recorded_snapshots(log: Path) -> list[Snapshot]:
    """The snapshots that a trajectory tells of, whether they are still there or not; none where it cannot be read, for
    nobody could go on from them."""
    with suppress(LogError, OSError):
        if tells_of(log, "snapshot"):
            with Trajectory(log) as trajectory:
                seqs = [seq for seq, entry in enumerate(trajectory.file.entries) if entry.kind == "snapshot"]
                events = trajectory.file.events(seqs)
                return [Snapshot.from_json(unpack(event["snapshot"], trajectory.blobs.load)) for event in events]
    return []


def no_environment(_: Snapshot | None, __: str) -> Any:
    """`Start` of a task without a world."""

    async def start() -> Any:
        return NoEnvironment()

    return start()
