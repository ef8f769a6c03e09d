"""What kinds of environment have in common in capturing worlds: standing still, anonymous forks, differences."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

from trellis.environments.capture.changes import changes, different_files
from trellis.environments.capture.patch import Changed
from trellis.environments.channel import ChannelEnvironment
from trellis.environments.environment import Changes, Snapshot

T = TypeVar("T")


class ForkingEnvironment(ChannelEnvironment, ABC):
    """A world that can be captured: a kind says how a snapshot is made, and how a world starts from one."""

    @abstractmethod
    async def snapshot(self) -> Snapshot: ...

    @abstractmethod
    async def _fork_from(self, snapshot: Snapshot) -> Self: ...

    @abstractmethod
    async def close(self) -> None: ...

    async def fork(self, snapshot: Snapshot | None = None) -> Self:
        if snapshot is not None:
            return await self._fork_from(snapshot)
        passing = await self.snapshot()
        try:
            return await self._fork_from(passing)
        finally:
            await finished(passing.release())

    async def diff(self, snapshot: Snapshot) -> Changes:
        return changes(await self._different_files(snapshot))

    async def _different_files(self, snapshot: Snapshot) -> list[Changed]:
        """By comparing with a fork; a kind that can see the files from outside knows a shorter way."""
        fork = await self._fork_from(snapshot)
        try:
            return await different_files(fork, self)
        finally:
            await finished(fork.close())

    @asynccontextmanager
    async def still(self, *, aside: bool = False) -> AsyncIterator[Mapping[str, Any]]:
        """Nothing runs in the world meanwhile. With `aside`, Trellis's own processes and idle shells have left the
        folders that they were in. Gives the pids of the former (`own`) and what was `running`, one line each.

        Raises:
            EnvironmentFault: the world is gone.
        """
        try:
            yield (await self.channel.request("freeze", aside=aside)).header
        finally:
            await finished(self.channel.request("thaw"))


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """`await` that does not leave things half done: whoever is cancelled meanwhile is so only at the end."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody will ask for it
        raise
