"""Models whose calls wait in batches: what is told of them, and how many episodes it takes to fill one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from trellis.models.batch import Batching
from trellis.models.model import Model
from trellis.models.wrapper import innermost
from trellis.runs.executor import Watcher
from trellis.runs.plan import Plan

LOOK_S = 1.0
BATCH_JOBS = 1000
"""Episodes at a time where all that they do is wait."""


async def tell(models: Sequence[Model], watcher: Watcher) -> None:
    """Tell the watcher, whenever it changes, what waits; without an end."""
    told = ""
    while True:
        lines = (inner.waiting for inner in map(innermost, models) if isinstance(inner, Batching))
        line = "; ".join(filter(None, lines))
        if line != told:
            watcher.waits(line)
            told = line
        await asyncio.sleep(LOOK_S)


def only_wait(plan: Plan) -> bool:
    """Do all episodes ask in batches, and start no worlds?"""
    agents = [cell.agent.choice for cell in plan.cells]
    return all(agent.model_options.get("batch") is True for agent in agents) and not any(
        cell.environment for cell in plan.cells
    )
