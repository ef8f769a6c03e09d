"""The deadline of a call as a whole, and of the silences in it."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Deadline:
    """Raises `TimeoutError` in the block that it guards: `timeout_s` after the beginning, or when nothing was `heard`
    for `silence_s`.

    One timer, moved with every sign of life: a thousand streams at a time cost little.
    """

    def __init__(self, timeout_s: float, silence_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time() + timeout_s
        self.silence_s = silence_s
        self._timeout = asyncio.timeout_at(self._next())

    async def __aenter__(self) -> Deadline:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._timeout.__aexit__(kind, error, trace)

    @property
    def is_over(self) -> bool:
        """Is it the end of the whole call, not of a silence?"""
        return self._loop.time() >= self._last

    def heard(self) -> None:
        """A sign of life."""
        self._timeout.reschedule(self._next())

    def _next(self) -> float:
        return min(self._last, self._loop.time() + self.silence_s)
