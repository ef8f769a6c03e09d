"""Money that several calls at a time may spend, and never more of it together than there is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class CapReached(Exception):
    """No call may begin any more: what is spent, and what the next call may cost at most, exceed the cap."""

    def __init__(self, cap_usd: float, spent_usd: float, worst_usd: float | None) -> None:
        super().__init__(f"${spent_usd:.4f} of ${cap_usd:g} spent")
        self.cap_usd = cap_usd
        self.spent_usd = spent_usd
        self.worst_usd = worst_usd
        """None: the cap itself is reached."""


class Purse:
    """What is spent of a cap, and what is held back for calls under way. For one event loop at a time."""

    def __init__(self, cap_usd: float | None, spent_usd: float = 0.0) -> None:
        self.cap_usd = cap_usd
        self.spent_usd = spent_usd
        self.held_usd = 0.0
        self.ahead_usd: Callable[[], float] = lambda: 0.0
        """What is spent as well, and will be told to `settle` in time."""
        self._turn = asyncio.Lock()
        self._change = asyncio.Event()

    async def hold(self, worst_usd: float | None) -> float:
        """Set aside what a call may cost at most, and return that, for `settle`. Waits while only calls under way stand
        in the way: they may cost less than was held back for them. Where the most is unknown (None), nothing is.

        Raises:
            CapReached: it does not fit.
        """
        if self.cap_usd is None:
            return 0.0
        async with self._turn:  # in order, so that a dear call is not passed over for ever by cheap ones
            while not self._fits(worst_usd or 0.0):
                if not self.held_usd:
                    raise CapReached(self.cap_usd, self.spent_usd, None if self.spent else worst_usd)
                self._change.clear()
                await self._change.wait()
        self.held_usd += worst_usd or 0.0
        return worst_usd or 0.0

    def settle(self, held_usd: float, cost_usd: float = 0.0) -> None:
        """A call that something was held back for has ended, and cost so much."""
        self.held_usd -= held_usd
        if self.held_usd < 1e-12:  # what rounding left over
            self.held_usd = 0.0
        self.spent_usd += cost_usd
        self._change.set()

    @property
    def spent(self) -> bool:
        """Is the cap reached?"""
        return self.cap_usd is not None and self.spent_usd >= self.cap_usd

    def _fits(self, worst_usd: float) -> bool:
        assert self.cap_usd is not None
        spent_usd = self.spent_usd + self.ahead_usd()
        room = self.cap_usd * (1 + 1e-9) - spent_usd - self.held_usd
        return spent_usd < self.cap_usd and worst_usd <= room
