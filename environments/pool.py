"""Starting worlds: only so many at a time, whatever runs already, and some ahead of their use."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from trellis.environments.environment import Environment, EnvironmentFault, EnvironmentSpec, OnEvent, Snapshot, ignore

PROBE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class _Warm:
    """A world that is being started, or has been, for whoever needs it first."""

    spec: EnvironmentSpec
    starting: asyncio.Task[Environment]


class Pool:
    """Starts worlds as `EnvironmentSpec.start` does, and holds `warm` of those that are expected ready.

    What is expected is said by `expect`; a world goes to the first `start` that asks for just its recipe, new from the
    recipe and not from a snapshot. A world that broke while it waited is replaced by a start when it is asked for.
    """

    def __init__(self, *, starts: int, warm: int = 0, label: str = "warm") -> None:
        """At most `starts` worlds start at a time; warm ones carry `label` until they are taken."""
        self._slots = asyncio.Semaphore(starts)
        self._warm = warm
        self._label = label
        self._expected: deque[EnvironmentSpec] = deque()
        self._ready: list[_Warm] = []
        self._closed = False

    def expect(self, specs: Iterable[EnvironmentSpec]) -> None:
        """These are going to be asked for, in about this order."""
        self._expected.extend(specs)
        self._refill()

    async def start(
        self, spec: EnvironmentSpec, /, *, label: str, snapshot: Snapshot | None = None, on_event: OnEvent = ignore
    ) -> Environment:
        """See EnvironmentSpec.start."""
        if snapshot is None and (taken := await self._take(spec)) is not None:
            try:
                await taken.adopt(label, on_event)
            except BaseException:
                await taken.close()
                raise
            return taken
        async with self._slots:
            return await spec.start(label=label, snapshot=snapshot, on_event=on_event)

    async def close(self) -> None:
        """Close the worlds nobody took."""
        self._closed = True
        ready, self._ready = self._ready, []
        for warm in ready:
            warm.starting.cancel()
        for error in await asyncio.gather(*map(_discard, ready), return_exceptions=True):
            if error is not None:
                raise error

    async def _take(self, spec: EnvironmentSpec) -> Environment | None:
        """A living warm world of this recipe, if there is one."""
        was_expected = False
        while (warm := next((warm for warm in self._ready if warm.spec == spec), None)) is not None:
            was_expected = True
            self._ready.remove(warm)
            self._refill()
            try:
                world = await asyncio.shield(warm.starting)
                if (await world.exec(["true"], timeout_s=PROBE_TIMEOUT_S)).ok:
                    return world
            except asyncio.CancelledError:
                self._ready.append(warm)  # somebody else may need it
                if self._closed:
                    await self.close()
                raise
            except EnvironmentFault:
                pass
            await _discard(warm)
        if not was_expected:
            with suppress(ValueError):
                self._expected.remove(spec)
        self._refill()
        return None

    def _refill(self) -> None:
        while not self._closed and self._expected and len(self._ready) < self._warm:
            spec = self._expected.popleft()
            self._ready.append(_Warm(spec, asyncio.create_task(self._start_warm(spec), name="start a warm world")))

    async def _start_warm(self, spec: EnvironmentSpec) -> Environment:
        async with self._slots:
            return await spec.start(label=self._label)


async def _discard(warm: _Warm) -> None:
    with suppress(asyncio.CancelledError, EnvironmentFault):
        await (await warm.starting).close()
