"""What commands, starts and forks cost in each kind of environment, beside what the machine itself takes for them.

    python tests/performance/environments.py [--json] [KIND ...]

Everything is measured in one run, floors included, because machines drift. Targets are those of DESIGN section 11.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from floors import Engine, LiveBash, beside_ms, engine, make_workspace, median_ms, overlay_mount_ms, plain_ms

from trellis.environments import kinds
from trellis.environments.docker.base_image import base_image_name
from trellis.environments.environment import Environment, EnvironmentSpec, Files, Kind
from trellis.environments.pool import Pool

COMMANDS, STARTS = 200, 10
LABEL = f"performance-{os.getpid()}"
MODULES = ("numpy", "sklearn.ensemble")
SCRIPT = "import numpy, sklearn.ensemble; print(numpy.arange(3).sum())"
WRITE_200_MB = "mkdir -p d && for i in $(seq 50); do head -c 4000000 /dev/urandom | split -b 40000 -a 3 - d/$i-; done"


@dataclass(frozen=True)
class Row:
    kind: str
    what: str
    cost_ms: float
    floor: str
    floor_ms: float | None
    target: str = ""

    @property
    def beside(self) -> str:
        if self.floor_ms is None:
            return "-"
        return f"{self.cost_ms - self.floor_ms:+8.2f} ms  {self.cost_ms / self.floor_ms:6.2f}x"


async def commands(kind: Kind, world: Environment, docker: Engine | None) -> list[Row]:
    """Beside a live bash that runs the same over a pipe, measured in between."""
    shell, bash = await world.open_shell(), LiveBash()
    measured = {
        "shell: builtin": (lambda: shell.run("true"), "true"),
        "shell: program": (lambda: shell.run("/bin/true"), "/bin/true"),
        "exec: program": (lambda: world.exec(["/bin/true"]), "/bin/true"),
        "exec: bash -c": (lambda: world.exec("true"), "bash -c true"),
    }
    rows = []
    for what, (run, line) in measured.items():
        cost_ms, floor_ms = await beside_ms(run, lambda line=line: bash.run(line), COMMANDS)  # type: ignore[misc, arg-type]
        rows.append(Row(kind, what, cost_ms, f"live bash: {line}", floor_ms, "+1 ms"))
    if docker is not None:
        floor_ms = plain_ms(lambda: docker.exec("/bin/true"), 20)
        rows.append(Row(kind, "exec: program", rows[2].cost_ms, "docker exec C /bin/true", floor_ms))
    bash.close()
    return rows


async def scripts(kind: Kind, world: Environment) -> list[Row]:
    """Beside the same script's own work, timed inside a process that has imported everything."""
    await world.write_file("script.py", SCRIPT.encode())
    await world.exec(["python3", "script.py"])  # waits for the warm interpreter
    timed = f"import time\n{SCRIPT}\nbegan = time.perf_counter()\n{SCRIPT}\nprint(time.perf_counter() - began)"
    own_ms = float((await world.exec(["python3", "-c", timed])).stdout.split()[-1]) * 1000
    cost_ms = await median_ms(lambda: world.exec(["python3", "script.py"]), STARTS)
    return [Row(kind, "python script with sklearn", cost_ms, "its own work, all imported", own_ms, "+20 ms (sandbox)")]


async def starts(kind: Kind, spec: EnvironmentSpec) -> list[Row]:
    async def cold() -> None:
        await (await spec.start(label=LABEL)).close()

    pool = Pool(starts=2, warm=STARTS, label=LABEL)
    pool.expect([spec] * STARTS)
    await asyncio.gather(*(warm.starting for warm in pool._ready))
    taken: list[Environment] = []

    async def warm() -> None:
        taken.append(await pool.start(spec, label=LABEL))

    warm_ms = await median_ms(warm, STARTS)
    for world in taken:
        await world.close()
    await pool.close()
    cold_ms = await median_ms(cold, STARTS)
    return [
        Row(kind, "start and close", cold_ms, "", None),
        Row(kind, "start from the warm pool", warm_ms, "start and close", cold_ms),
    ]


async def forks(kind: Kind, workspace: Path, mount_ms: float | None, docker: Engine | None) -> list[Row]:
    """Of 200 MB in 5,000 files that were given, and of as much that the world wrote itself."""
    rows = []
    for what, files, script in (
        ("fork: 200 MB given", (Files(str(workspace), "."),), ""),
        ("fork: 200 MB written", (), WRITE_200_MB),
    ):
        world = await EnvironmentSpec(kind=kind, files=files).start(label=LABEL)
        if script:
            await world.exec(script, timeout_s=300)
        made: list[Environment] = []

        async def fork(world: Environment = world, made: list[Environment] = made) -> None:
            made.append(await world.fork())

        times = STARTS if kind == "sandbox" else 5
        floor, floor_ms, target = "plain overlay mount", mount_ms, "50 ms"
        if docker is None:
            cost_ms = await median_ms(fork, times)
        else:
            floor, target = "docker commit + run", "no more than the floor"
            container: str = world._container  # type: ignore[attr-defined]
            cost_ms, floor_ms = await beside_ms(fork, lambda: docker.commit_and_start(container), times)  # noqa: B023
        rows.append(
            Row(kind, what, cost_ms, floor, floor_ms, target) if kind != "local" else Row(kind, what, cost_ms, "", None)
        )
        for each in (*made, world):
            await each.close()
    return rows


async def of(kind: Kind, workspace: Path, mount_ms: float | None) -> list[Row]:
    spec = EnvironmentSpec(kind=kind, preload=MODULES)
    with ExitStack() as stack:
        docker = stack.enter_context(engine(base_image_name())) if kind == "docker" else None
        world = await spec.start(label=LABEL)
        rows = [*await commands(kind, world, docker), *await scripts(kind, world)]
        await world.close()
        rows += await starts(kind, EnvironmentSpec(kind=kind))
        rows += await forks(kind, workspace, mount_ms, docker)
    await kinds.reap(LABEL)
    return rows


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("kinds", nargs="*", default=["local", "sandbox", "docker"])
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    available = {facts.kind: facts for facts in await kinds.doctor()}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="workspace-", dir="/var/tmp") as folder:
        make_workspace(Path(folder))
        mount_ms = overlay_mount_ms(Path(folder), STARTS)
        for kind in chosen.kinds:
            if available[kind].available:
                rows += await of(kind, Path(folder), mount_ms)
            elif not chosen.json:
                print(f"{kind} is not to be had here: {available[kind].reason}")
    if chosen.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return
    print(f"{'':8} {'':28} {'median':>10}   {'beside the floor':22} {'floor':28} {'ms':>8}   target")
    for row in rows:
        floor_ms = "" if row.floor_ms is None else f"{row.floor_ms:8.2f}"
        cost, floor = f"{row.cost_ms:7.2f} ms", f"{row.floor:28} {floor_ms:>8}"
        print(f"{row.kind:8} {row.what:28} {cost}   {row.beside:22} {floor}   {row.target}")


if __name__ == "__main__":
    asyncio.run(main())
