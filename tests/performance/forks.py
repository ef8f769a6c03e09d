"""What snapshots and forks cost, beside what the kernel needs for the same.

    python tests/performance/forks.py [--json] [--depth N]

Everything is measured in one run: a plain overlay mount, forks of sandboxes with 5,000 files (200 MB) that were given
or that the world wrote itself, and commands and starts 3 and N forks deep. Targets are those of DESIGN section 11;
environments.py has the rows of the other kinds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from floors import make_workspace, median_ms, overlay_mount_ms

from trellis.environments import kinds
from trellis.environments.environment import Environment, EnvironmentSpec, Files

TIMES = 10
LABEL = f"forks-{os.getpid()}"
WRITE = """
import os
for number in range(5000):
    os.makedirs(f"d{number % 50}", exist_ok=True)
    with open(f"d{number % 50}/{number}.bin", "wb") as file:
        file.write(os.urandom(40_000))
"""


async def each_ms(make: Callable[[], Awaitable[Environment]], times: int = TIMES) -> float:
    """The median cost of making a world; closing it does not count."""
    made: list[Environment] = []

    async def one() -> None:
        made.append(await make())

    cost_ms = await median_ms(one, times)
    for world in made:
        await world.close()
    return cost_ms


async def sandbox(folder: Path, depth: int) -> dict[str, float]:
    floor_ms = overlay_mount_ms(folder, TIMES)
    found = {} if floor_ms is None else {"floor: mount an overlay": floor_ms}
    given = await EnvironmentSpec(kind="sandbox", files=(Files(str(folder), "."),)).start(label=LABEL)
    found["floor: start an empty world"] = await each_ms(lambda: EnvironmentSpec(kind="sandbox").start(label=LABEL))
    found["fork, files given"] = await each_ms(given.fork)
    await given.close()
    writer = await EnvironmentSpec(kind="sandbox").start(label=LABEL)
    first_ms = []
    for _ in range(3):
        await writer.exec(["python3", "-c", WRITE])
        first_ms.append(await _fork_ms(writer))
    found["fork, files just written by the world"] = sorted(first_ms)[1]
    await writer.exec("sleep 600 >/dev/null 2>&1 &")
    await writer.exec(["python3", "-c", WRITE])
    found["the same, while a process has its folder there"] = await _fork_ms(writer)
    await writer.close()
    found |= await _deep(depth)
    return found


async def _fork_ms(world: Environment) -> float:
    made = []

    async def one() -> None:
        made.append(await world.fork())

    cost_ms = await median_ms(one, 1)
    await made[0].close()
    return cost_ms


async def _deep(depth: int) -> dict[str, float]:
    world: Environment = await EnvironmentSpec(kind="sandbox").start(label=LABEL)
    at: dict[int, Environment] = {}
    for level in range(1, depth + 1):
        await world.exec(f"echo {level} > file{level % 50}; mkdir -p d{level % 9}; echo {level} > d{level % 9}/{level}")
        fork = await world.fork()
        if level - 1 not in at:
            await world.close()
        world = fork
        if level in (3, depth):
            at[level] = world
    look = "cat file* d*/* > /dev/null; find . > /dev/null; test -e no-such-file"
    found = {}
    for level, each in at.items():
        found[f"command, {level} forks deep"] = await median_ms(lambda each=each: each.exec(["true"]), 100)
        found[f"reading all files, {level} forks deep"] = await median_ms(lambda each=each: each.exec(look), 30)
        found[f"fork, {level} forks deep"] = await each_ms(each.fork)
    for what in ("command", "reading all files", "fork"):
        found[f"ratio {depth} to 3: {what}"] = found[f"{what}, {depth} forks deep"] / found[f"{what}, 3 forks deep"]
    for each in at.values():
        await each.close()
    return found


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true")
    options.add_argument("--depth", type=int, default=300)
    chosen = options.parse_args()
    (facts,) = [facts for facts in await kinds.doctor() if facts.kind == "sandbox"]
    if not facts.available:
        print(f"sandbox is not to be had here: {facts.reason}")
        return
    with tempfile.TemporaryDirectory(prefix="workspace-", dir="/var/tmp") as folder:
        make_workspace(Path(folder))
        found = await sandbox(Path(folder), chosen.depth)
    await kinds.reap(LABEL)
    if chosen.json:
        print(json.dumps(found))
        return
    for what, value in found.items():
        print(f"{what:50} {value:9.3f}{'' if what.startswith('ratio') else ' ms'}")


if __name__ == "__main__":
    asyncio.run(main())
