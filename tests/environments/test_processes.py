"""Streams between a world and the host: that nothing of them stays."""

from __future__ import annotations

import asyncio
import os
import resource

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


async def test_what_the_world_has_no_room_for_ends_at_once_even_if_nobody_waits() -> None:
    world = await EnvironmentSpec(kind="local").start(label=LABEL)
    guest = int((await world.exec("ps -o ppid= $PPID")).stdout)
    before = resource.prlimit(guest, resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    process = await world.open_process(["true"])
    assert await process.read() == b""
    await process.write(bytes(4 << 20))
    ended = await process.wait()
    assert (ended.exit_code, ended.stderr) == (126, b"true cannot be started: Too many open files\n")
    opening = asyncio.create_task(world.open_process(["true"]))
    await asyncio.sleep(0)
    opening.cancel()
    done, _ = await asyncio.wait([opening], timeout=60)
    assert done == {opening}
    assert opening.cancelled()
    resource.prlimit(guest, resource.RLIMIT_NOFILE, before)
    process = await world.open_process(["echo", "room"])
    assert await everything(process) == b"room\n"
    await world.close()
