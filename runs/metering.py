"""What a run has cost so far, and the cap on it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from trellis.models.messages import Message
from trellis.models.model import GenerateConfig, Model, Priced, Reply, ToolSpec
from trellis.models.wrapper import Wrapper, wrap
from trellis.runs.errors import RunStopped
from trellis.scaffolds.purse import CapReached, Purse
from trellis.trajectories.log import read


class Meter:
    """Adds up the cost of every model call of a run, judges included, and stops the run before the call that might
    exceed its cap. What came from a cache of replies costs nothing."""

    def __init__(self, cap_usd: float | None, spent_usd: float = 0.0, *, must_price: bool = False) -> None:
        """`must_price`: an unknown price stops the run also without a cap of its own, for its episodes have one."""
        self.purse = Purse(cap_usd, spent_usd)
        self._must_price = must_price or cap_usd is not None
        self._unpriced = ""

    @property
    def cap_usd(self) -> float | None:
        return self.purse.cap_usd

    @property
    def spent_usd(self) -> float:
        return self.purse.spent_usd

    def check(self) -> None:
        """Raises RunStopped: the cap is reached, or cannot be kept."""
        if self._unpriced:
            raise RunStopped(f"the price of {self._unpriced} is unknown, so the cost cap cannot be kept")
        if self.purse.spent:
            raise RunStopped(_stopped(CapReached(self.cap_usd or 0.0, self.spent_usd, None)))

    async def hold(self, worst_usd: float | None) -> float:
        """Set aside what a call may cost at most. Raises RunStopped: as `check`, or it does not fit."""
        self.check()
        try:
            return await self.purse.hold(worst_usd)
        except CapReached as reached:
            raise RunStopped(_stopped(reached)) from None

    def settle(self, model: str, held_usd: float, reply: Reply) -> None:
        paid = 0.0 if reply.cached else reply.cost_usd
        if paid is None and self._must_price:
            self._unpriced = model
        self.purse.settle(held_usd, paid or 0.0)

    def over(self, models: Mapping[str, Model]) -> dict[str, Model]:
        return {role: wrap(Metered, model, self) for role, model in models.items()}


class Metered(Wrapper):
    """A model whose calls are metered. Made by `Meter.over`."""

    def __init__(self, inner: Model, meter: Meter) -> None:
        super().__init__(inner)
        self._meter = meter

    async def around(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        config: GenerateConfig,
        ask: Callable[[], Awaitable[Reply]],
    ) -> Reply:
        capped, worst_usd = self._meter.cap_usd is not None, None
        if capped and isinstance(self.inner, Priced):
            worst_usd = self.inner.worst_case_usd(messages, tools=tools, config=config)
        asked = time.monotonic()
        held_usd = await self._meter.hold(worst_usd)
        waited_s = time.monotonic() - asked  # for other episodes' calls, so it is not on this one's time
        try:
            reply = await ask()
        except BaseException:
            self._meter.purse.settle(held_usd)
            raise
        self._meter.settle(self.name, held_usd, reply)
        if not capped:
            return reply
        return replace(reply, latency_s=reply.latency_s + waited_s, waited_s=reply.waited_s + waited_s)


def recorded_usd(logs: Iterable[Path]) -> float:
    """What the model calls in these trajectories cost, as far as prices were known; what came from a cache counts
    nothing. A trajectory that is not there costs nothing. Raises LogError: one is damaged."""
    total = 0.0
    for log in logs:
        with suppress(FileNotFoundError):
            for event in read(log):
                if event["kind"] in ("generate.done", "compact.done") and not event.get("cached"):
                    total += event.get("cost_usd") or 0.0
    return total


def _stopped(reached: CapReached) -> str:
    spent = f"${reached.spent_usd:.4f} of ${reached.cap_usd:g} spent"
    if reached.worst_usd is None:
        return f"stopped at the cost cap: {spent}; resume with a larger --max-cost-usd"
    return (
        f"stopped before the cost cap: {spent}, and the next call may cost up to ${reached.worst_usd:.4f}; "
        "resume with a larger --max-cost-usd, or begin again with shorter replies (-M max_output_tokens=N)"
    )
