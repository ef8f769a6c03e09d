"""What a command, a start and a fork cost in each kind of environment, beside what the machine can do.

    python tests/performance/environments.py [--json] [KIND ...]

The yardstick is a live bash fed over a pipe, measured in the same run; targets are those of DESIGN section 11.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from trellis.environments import kinds
from trellis.environments.environment import EnvironmentSpec, Files

COMMANDS, STARTS = 200, 10
LABEL = f"performance-{os.getpid()}"
YARDSTICK = "a live bash over a pipe"
COMPARABLE = ("shell: builtin", "shell: program", "exec: program", "exec: bash")
SCRIPT = "import numpy, sklearn.ensemble; print(numpy.arange(3).sum())"


class Bash:
    """The yardstick: write a line, read until the sentinel."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, command: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho done\n".encode())
        self._process.stdin.flush()
        while self._process.stdout.readline() != b"done\n":
            pass

    def close(self) -> None:
        self._process.communicate()


async def median_ms(action: Callable[[], Awaitable[object]], times: int) -> float:
    measured = []
    for _ in range(times):
        began = time.perf_counter()
        await action()
        measured.append((time.perf_counter() - began) * 1000)
    return statistics.median(measured)


async def yardstick() -> dict[str, float]:
    bash = Bash()

    async def builtin() -> None:
        bash.run("true")

    async def program() -> None:
        bash.run("/bin/true")

    found = {"builtin": await median_ms(builtin, COMMANDS), "program": await median_ms(program, COMMANDS)}
    bash.close()
    return found


async def of(kind: str, workspace: Path) -> dict[str, float]:
    spec = EnvironmentSpec(kind=kind, preload=("numpy", "sklearn.ensemble"))  # type: ignore[arg-type]
    world = await spec.start(label=LABEL)
    shell = await world.open_shell()
    await world.write_file("script.py", SCRIPT.encode())
    await world.exec(["python3", "script.py"])  # waits for the warm interpreter

    async def start_and_close() -> None:
        await (await spec.start(label=LABEL)).close()

    found = {
        "shell: builtin": await median_ms(lambda: shell.run("true"), COMMANDS),
        "shell: program": await median_ms(lambda: shell.run("/bin/true"), COMMANDS),
        "exec: program": await median_ms(lambda: world.exec(["/bin/true"]), COMMANDS),
        "exec: bash": await median_ms(lambda: world.exec("true"), COMMANDS),
        "python script, sklearn imported": await median_ms(lambda: world.exec(["python3", "script.py"]), STARTS),
        "start and close": await median_ms(start_and_close, STARTS),
    }
    await world.close()
    full = await EnvironmentSpec(kind=kind, files=(Files(str(workspace), "."),)).start(label=LABEL)  # type: ignore[arg-type]
    forks = []

    async def fork() -> None:
        forks.append(await full.fork())

    await fork()
    found["fork of 200 MB, 5,000 files"] = await median_ms(fork, 3 if kind == "local" else STARTS)
    for each in (*forks, full):
        await each.close()
    await kinds.reap(LABEL)
    return found


def make_workspace(folder: Path) -> None:
    for number in range(5000):
        place = folder / f"d{number % 50}"
        place.mkdir(exist_ok=True)
        (place / f"{number}.bin").write_bytes(os.urandom(40_000))


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("kinds", nargs="*", default=["local", "sandbox", "docker"])
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    available = {facts.kind: facts for facts in await kinds.doctor()}
    base = await yardstick()
    results: dict[str, dict[str, float]] = {YARDSTICK: base}
    with tempfile.TemporaryDirectory(prefix="workspace-", dir="/var/tmp") as folder:
        make_workspace(Path(folder))
        for kind in chosen.kinds:
            if not available[kind].available:
                print(f"{kind} is not to be had here: {available[kind].reason}")
                continue
            results[kind] = await of(kind, Path(folder))
    if chosen.json:
        print(json.dumps(results))
        return
    print(f"a live bash over a pipe: builtin {base['builtin']:.3f} ms, program {base['program']:.3f} ms")
    for kind in [kind for kind in results if kind != YARDSTICK]:
        print(kind)
        for what, cost_ms in results[kind].items():
            yard = "builtin" if "builtin" in what else "program"
            beside = f"{cost_ms - base[yard]:+9.3f} ms beside a live bash" if what in COMPARABLE else ""
            print(f"  {what:36} {cost_ms:9.3f} ms {beside}")


if __name__ == "__main__":
    asyncio.run(main())
