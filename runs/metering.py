"""What a run has cost so far, and the cap on it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from trellis.models.messages import Message
from trellis.models.model import GenerateConfig, Model, Reply, ToolSpec
from trellis.runs.errors import RunStopped


class Meter:
    """Adds up the cost of every model call of a run, judges included, and stops the run at its cap."""

    def __init__(self, cap_usd: float | None, spent_usd: float = 0.0) -> None:
        self.cap_usd = cap_usd
        self.spent_usd = spent_usd
        self._unpriced = ""

    def check(self) -> None:
        """Raises RunStopped: the cap is reached, or cannot be kept."""
        if self.cap_usd is None:
            return
        if self._unpriced:
            raise RunStopped(f"the price of {self._unpriced} is unknown, so --max-cost-usd cannot be kept")
        if self.spent_usd >= self.cap_usd:
            raise RunStopped(
                f"stopped at the cost cap: ${self.spent_usd:.4f} of ${self.cap_usd:g} spent; "
                "resume with a larger --max-cost-usd"
            )

    def add(self, model: str, cost_usd: float | None) -> None:
        if cost_usd is None:
            self._unpriced = model
        else:
            self.spent_usd += cost_usd

    def over(self, models: Mapping[str, Model]) -> dict[str, Model]:
        return {role: Metered(model, self) for role, model in models.items()}


class Metered:
    """A model whose calls are metered."""

    def __init__(self, model: Model, meter: Meter) -> None:
        self._model = model
        self._meter = meter

    @property
    def name(self) -> str:
        return self._model.name

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        self._meter.check()
        reply = await self._model.generate(messages, tools=tools, config=config)
        self._meter.add(self.name, reply.cost_usd)
        return reply


def recorded_usd(logs: Iterable[Path]) -> float:
    """What the model calls in these trajectories cost, as far as prices were known; a torn line counts nothing."""
    total = 0.0
    for log in logs:
        if not log.exists():
            continue
        for line in log.read_bytes().splitlines():
            if b'"generate.done"' in line:
                try:
                    total += json.loads(line).get("cost_usd") or 0.0
                except ValueError:
                    continue
    return total
