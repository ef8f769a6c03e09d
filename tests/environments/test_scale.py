"""Many commands in one world, many worlds on one machine, and output without end."""

from __future__ import annotations

import asyncio
import os
import resource

import pytest

from trellis.environments.conformance.base import gone
from trellis.environments.environment import Environment, EnvironmentSpec, Kind
from trellis.environments.guest.streams import OUTPUT_CAP_BYTES, SPILL_CAP_BYTES
from trellis.environments.pool import Pool

LABEL = f"test-{os.getpid()}/scale"
SPARE_KB = 100_000


def peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def test_a_hundred_commands_at_once(kind: Kind) -> None:
    world = await EnvironmentSpec(kind=kind).start(label=LABEL)

    async def one(number: int) -> tuple[bytes, bytes, int]:
        result = await world.exec(f"sleep 0.5; echo out{number}; echo err{number} >&2; exit {number % 7}", timeout_s=60)
        return result.stdout, result.stderr, result.exit_code

    async with asyncio.timeout(60):
        found = await asyncio.gather(*map(one, range(100)))
    assert found == [(b"out%d\n" % n, b"err%d\n" % n, n % 7) for n in range(100)]
    assert (await world.exec("echo next")).stdout == b"next\n"
    await world.close()


async def test_gigabytes_neither_fill_memory_nor_block(kind: Kind) -> None:
    world = await EnvironmentSpec(kind=kind).start(label=LABEL)
    before_kb = peak_kb()
    flood = asyncio.create_task(world.exec("yes 'a line of output' | head -c 1G; echo the end", timeout_s=150))
    await asyncio.sleep(0.3)
    assert (await world.exec("echo meanwhile", timeout_s=20)).stdout == b"meanwhile\n"
    result = await flood
    assert result.ok
    assert len(result.stdout) < OUTPUT_CAP_BYTES + 100
    assert result.stdout.endswith(b"the end\n")
    assert b"bytes cut" in result.stdout
    (whole,) = result.spilled
    kept = int((await world.exec(["stat", "-c", "%s", whole])).stdout)
    assert SPILL_CAP_BYTES - (1 << 20) < kept < SPILL_CAP_BYTES + 100
    assert (await world.exec(["tail", "-n", "1", whole])).stdout == b"[... the rest was not kept ...]\n"
    assert peak_kb() - before_kb < SPARE_KB
    await world.close()


async def test_output_without_end_is_ended(kind: Kind) -> None:
    world = await EnvironmentSpec(kind=kind).start(label=LABEL)
    result = await world.exec(f"exec -a endless-{os.getpid()} yes & yes >&2", timeout_s=1.0)
    assert result.timed_out
    assert len(result.stdout) + len(result.stderr) < 2 * OUTPUT_CAP_BYTES + 1000
    assert await gone(world, f"endless-{os.getpid()}")
    await world.close()


@pytest.mark.slow
@pytest.mark.usefixtures("sandbox")
async def test_two_hundred_worlds_on_one_machine() -> None:
    """Half sandboxes, half local: what limits them is descriptors and processes, and there are enough."""
    pool = Pool(starts=4)
    specs = [EnvironmentSpec(kind="sandbox" if number % 2 else "local") for number in range(200)]
    worlds = await asyncio.gather(*(pool.start(spec, label=LABEL) for spec in specs))

    async def use(number: int, world: Environment) -> bytes:
        await world.write_file("mine", str(number).encode())
        return (await world.exec("cat mine", timeout_s=60)).stdout

    assert await asyncio.gather(*(use(*each) for each in enumerate(worlds))) == [b"%d" % n for n in range(200)]
    await asyncio.gather(*(world.close() for world in worlds))
    await pool.close()
