"""What kinds of environment have in common in capturing worlds: standing still, anonymous forks, differences."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Self, TypeVar

from trellis.environments.capture.changes import changes, different_files
from trellis.environments.capture.patch import Changed
from trellis.environments.channel import Channel, ChannelEnvironment
from trellis.environments.environment import (
    Changes,
    EnvironmentFault,
    EnvironmentSpec,
    OnEvent,
    Snapshot,
    ignore,
)

FREEZE_TIMEOUT_S = 30.0

T = TypeVar("T")


class ForkingEnvironment(ChannelEnvironment, ABC):
    """A world that can be captured: a kind says how a snapshot is made, how a world starts from one and how it ends."""

    def __init__(self, spec: EnvironmentSpec, channel: Channel, workdir: str, on_event: OnEvent = ignore) -> None:
        super().__init__(spec, channel, workdir, on_event)
        self._capturing = asyncio.Lock()
        """Held by whoever needs this world to stand still, or not to end."""
        self._closing: asyncio.Task[None] | None = None

    @abstractmethod
    async def _snapshot(self, shells: Mapping[str, str]) -> Snapshot:
        """Capture the files; `shells` belongs into the data. Nobody else does meanwhile, and this is not cancelled."""

    @abstractmethod
    async def _fork_from(self, snapshot: Snapshot) -> Self: ...

    @abstractmethod
    async def _close(self) -> None:
        """End the world and leave nothing. Called once."""

    async def snapshot(self) -> Snapshot:
        async with self._capturing:
            shells = await self.shell_states()
            return await finished(self._snapshot(shells), undo=Snapshot.release)

    async def fork(self, snapshot: Snapshot | None = None) -> Self:
        if snapshot is not None:
            return await self._fork_from(snapshot)
        passing = await self.snapshot()
        try:
            fork = await self._fork_from(passing)
        except BaseException:
            await finished(passing.release())
            raise
        try:
            await finished(passing.release())
        except BaseException:
            await finished(fork.close())
            raise
        return fork

    async def diff(self, snapshot: Snapshot) -> Changes:
        return await asyncio.to_thread(changes, await self._different_files(snapshot))

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close_when_captured(), name="close a world")
        await asyncio.shield(self._closing)

    async def _close_when_captured(self) -> None:
        async with self._capturing:
            await self._close()

    async def _different_files(self, snapshot: Snapshot) -> list[Changed]:
        """By comparing with a fork; a kind that can see the files from outside knows a shorter way."""
        fork = await self._fork_from(snapshot)
        try:
            return await different_files(fork, self)
        finally:
            await finished(fork.close())

    @asynccontextmanager
    async def still(self, *, aside: bool = False) -> AsyncIterator[Mapping[str, Any]]:
        """Nothing runs in the world meanwhile; for whoever has `_capturing`. With `aside`, Trellis's own processes and
        idle shells have left the folders that they were in. Gives the pids of the former (`own`) and what was
        `running`, one line each.

        Raises:
            EnvironmentFault: the world is gone.
        """
        assert self._capturing.locked(), "the end of one would be the end of another"
        try:
            yield (await self.channel.request("freeze", timeout_s=FREEZE_TIMEOUT_S, aside=aside)).header
        finally:
            with suppress(EnvironmentFault):  # it is gone, as whoever needs it next is told; what was captured stays
                await finished(self.channel.request("thaw", timeout_s=FREEZE_TIMEOUT_S))


async def finished(work: Coroutine[Any, Any, T], undo: Callable[[T], Coroutine[Any, Any, Any]] | None = None) -> T:
    """`await` that does not leave things half done: whoever is cancelled meanwhile is so only at the end, when `undo`
    has taken back what nobody gets."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _ended(task)
        if undo is not None and not task.cancelled() and task.exception() is None:
            await _ended(asyncio.create_task(undo(task.result())))
        raise


async def _ended(task: asyncio.Task[Any]) -> None:
    """However often whoever waits is cancelled; what the task raises is nobody's."""
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
