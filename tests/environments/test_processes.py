"""Streams between a world and the host: that nothing of them stays."""

from __future__ import annotations

import asyncio
import os

from trellis.environments.conformance.processes import everything
from trellis.environments.environment import EnvironmentSpec, Kind

LABEL = f"test-{os.getpid()}/processes"


async def test_many_leave_nothing_behind(kind: Kind) -> None:
    world = await EnvironmentSpec(kind=kind).start(label=LABEL)

    async def one(number: int) -> bytes:
        process = await world.open_process(["echo", str(number)])
        output = await everything(process)
        await process.wait()
        await process.close()
        return output

    for _ in range(3):
        assert await asyncio.gather(*map(one, range(20))) == [b"%d\n" % number for number in range(20)]
    await asyncio.sleep(0.2)
    assert world.channel._streams == {}  # type: ignore[attr-defined]
    await world.close()
