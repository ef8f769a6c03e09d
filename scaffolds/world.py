"""The world of one branch: an environment that is started when it is first needed, and can be rebuilt.

What a branch did in its world is known from the log: where it was forked from, and every tool call since. So a world
that was lost with a killed process is made again by performing the recorded calls, and only if something that is not
recorded needs it: an episode that is answered wholly from its log starts no environment at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from trellis.environments.environment import Environment, Snapshot
from trellis.models.messages import Image, Text, ToolCall, ToolResult
from trellis.tools.tool import Output, Tool, ToolError, ToolOfSet

Start = Callable[[Snapshot | None, str], Awaitable[Environment]]
"""`start(snapshot, branch)`: the branch is where the log tells of what happens in it unasked."""
Diverged = Callable[[str, ToolCall, ToolResult, ToolResult], None]
"""`diverged(branch, call, recorded, now)`: a call that was made again gave another result."""


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


class World:
    """The environment of one branch, started lazily, and the calls made in it."""

    def __init__(
        self,
        branch: str,
        tools: Mapping[str, Tool],
        start: Start,
        diverged: Diverged,
        origin: WorldSnapshot | None = None,
    ) -> None:
        self.branch = branch
        self._tools = tools
        self._start = start
        self._diverged = diverged
        self._origin = origin
        self._calls: list[tuple[ToolCall, ToolResult]] = []
        self._performed = 0
        self._environment: Environment | None = None
        self._snapshots: dict[int, WorldSnapshot] = {}
        self._lock = asyncio.Lock()

    @property
    def touched(self) -> bool:
        """Was anything done here, or in the world this one was forked from?"""
        return bool(self._calls) or (self._origin is not None and self._origin.world.touched)

    def remember(self, call: ToolCall, result: ToolResult, *, performed: bool) -> None:
        """A call of this branch, and whether this process performed it in the environment."""
        self._calls.append((call, result))
        if performed:
            self._performed = len(self._calls)

    async def environment(self) -> Environment:
        """The environment with every remembered call performed in it.

        Raises:
            EnvironmentFault: it could not be started.
        """
        async with self._lock:
            if self._environment is None:
                self._performed = 0
                origin = await self._origin.files() if self._origin else None
                self._environment = await self._start(origin, self.branch)
            await self._perform_up_to(len(self._calls), self._environment)
            return self._environment

    async def snapshot(self) -> WorldSnapshot:
        """This world as it is now. Free when nothing happened since the last one."""
        position = len(self._calls)
        if position not in self._snapshots:
            live = self._environment is not None and self._performed == position
            captured = await self._environment.snapshot() if live and self._environment else None
            self._snapshots[position] = WorldSnapshot(self, position, captured)
        return self._snapshots[position]

    def fork(self, branch: str, origin: WorldSnapshot) -> World:
        """A world of its own that begins where `origin` is."""
        return World(branch, self._tools, self._start, self._diverged, origin)

    async def rebuild(self, position: int) -> Snapshot | None:
        """Make the files after `position` calls again, in an environment of their own."""
        origin = await self._origin.files() if self._origin else None
        if position == 0 and origin is not None:
            return origin
        environment = await self._start(origin, self.branch)
        try:
            for call, recorded in self._calls[:position]:
                await self._again(call, recorded, environment)
            return await environment.snapshot()
        finally:
            await environment.close()

    async def close(self) -> None:
        if self._environment is not None:
            environment, self._environment = self._environment, None
            await environment.close()

    async def _perform_up_to(self, position: int, environment: Environment) -> None:
        for call, recorded in self._calls[self._performed : position]:
            await self._again(call, recorded, environment)
            self._performed += 1

    async def _again(self, call: ToolCall, recorded: ToolResult, environment: Environment) -> None:
        tool = self._tools.get(call.name)
        if isinstance(tool, ToolOfSet) and not tool.toolset.in_world:
            return  # what it did out there is done
        result, _ = await perform(self._tools, call, environment)
        if result.text != recorded.text:
            self._diverged(self.branch, call, recorded, result)


def no_environment(_: Snapshot | None, __: str) -> Any:
    """`Start` of a task without a world."""

    async def start() -> Any:
        return NoEnvironment()

    return start()
