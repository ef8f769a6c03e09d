"""What following the files of a workdir adds to an act: a command that changes a file, in workspaces of several sizes.

    python tests/performance/changes.py [KIND ...]

The same command is timed with and without a look after it, in turn; the first look comes once per world.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from trellis.environments import kinds
from trellis.environments.environment import Environment, EnvironmentSpec, Files, Kind, TellsChanges

ROUNDS = 40
LABEL = f"performance-{os.getpid()}"


def workspace(folder: Path, files: int) -> None:
    for number in range(files):
        path = folder / f"package_{number // 50}" / f"module_{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"value = {number}\n" * 100)


async def timed_ms(world: Environment, *, look: bool) -> float:
    assert isinstance(world, TellsChanges)
    begun = time.perf_counter()
    await world.exec("echo x >> package_0/module_0.py")
    if look:
        assert (await world.changed_files()) is not None
    taken = time.perf_counter() - begun
    if not look:
        await world.changed_files()
    return taken * 1000


async def measure(kind: Kind, files: int, folder: Path) -> None:
    world = await EnvironmentSpec(kind=kind, files=(Files(str(folder), "."),)).start(label=LABEL)
    try:
        assert isinstance(world, TellsChanges)
        begun = time.perf_counter()
        await world.changed_files()
        first = (time.perf_counter() - begun) * 1000
        begun = time.perf_counter()
        for _ in range(1000):
            await world.changed_files()  # nothing was done in the world
        idle_us = (time.perf_counter() - begun) * 1000
        plain, looked = [], []
        for _ in range(ROUNDS):
            plain.append(await timed_ms(world, look=False))
            looked.append(await timed_ms(world, look=True))
        added = median(looked) - median(plain)
        print(f"{kind:8} {files:6,} files: command {median(plain):6.2f} ms, look {added:+7.2f} ms, "
              f"first look {first:6.1f} ms, unused world {idle_us:.2f} us", flush=True)  # fmt: skip
    finally:
        await world.close()


async def main() -> None:
    chosen: list[Kind] = sys.argv[1:] or ["local", "sandbox", "docker"]  # type: ignore[assignment]
    for files in (50, 1_000, 5_000, 9_500):
        with tempfile.TemporaryDirectory() as folder:
            workspace(Path(folder), files)
            for kind in chosen:
                await measure(kind, files, Path(folder))
    await kinds.reap(LABEL)


if __name__ == "__main__":
    asyncio.run(main())
