"""What a container is refused and how much it may use, and how the host keeps count of its disk."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from trellis.environments.channel import ChannelEnvironment
from trellis.environments.docker.engine import client
from trellis.environments.environment import EnvironmentFault, EnvironmentSpec, EnvironmentUnavailable
from trellis.environments.usage import Usage, regular_files
from trellis.environments.watch import EVERYTHING, Watch, allowance, limit_of, stop_commands, watch_disk

OVERHEAD_PIDS = 16
"""Our own processes in a world: the guest, supervisors."""
OOM_SCORE_ADJ = 200
"""When the host runs out of memory, worlds go before what else runs there; inside, this cannot be lowered again."""
SIZED_DRIVERS = ("btrfs", "zfs")
COUNT_INSIDE_S = 5.0


@functools.cache
def engine_info() -> Mapping[str, Any]:
    """What the engine says about itself, asked once."""
    facts: Mapping[str, Any] = client().info()
    return facts


def host_config(spec: EnvironmentSpec, engine: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the SDK's `create_host_config`; `engine` are its `engine_info`.

    The engine's own masked paths and system call filter stay in force, and nothing of the host is mounted.

    Raises:
        EnvironmentUnavailable: the engine has no such runtime.
    """
    from docker.types import LogConfig, Ulimit

    resources = spec.resources
    memory = resources.memory_mb << 20
    limits = {"core": 0, "nofile": 16384, "fsize": resources.disk_mb << 20}
    return {
        "auto_remove": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": resources.pids + OVERHEAD_PIDS,
        "mem_limit": memory,
        "memswap_limit": memory,
        "nano_cpus": int(min(resources.cpus, os.cpu_count() or 1) * 1e9),
        "oom_score_adj": OOM_SCORE_ADJ,
        "tmpfs": {"/dev/shm": f"size={memory // 2},nr_inodes={resources.inodes},mode=1777"},
        "network_mode": "bridge" if spec.network == "full" else "none",
        "ipc_mode": "private",
        "ulimits": [Ulimit(name=name, soft=value, hard=value) for name, value in limits.items()],
        "log_config": LogConfig(type="none"),
        **_runtime(spec.runtime, engine),
        **_storage(resources.disk_mb, engine),
    }


def _runtime(name: str, engine: Mapping[str, Any]) -> dict[str, Any]:
    if not name:
        return {}
    known = sorted(engine.get("Runtimes") or {})
    if name not in known:
        raise EnvironmentUnavailable(
            f"this engine has no runtime {name!r}, only {', '.join(known)}: install it and name it in the engine's "
            "daemon.json"
        )
    return {"runtime": name}


def _storage(disk_mb: int, engine: Mapping[str, Any]) -> dict[str, Any]:
    """A limit by the engine's own storage driver, where it has one."""
    return {"storage_opt": {"size": f"{disk_mb}m"}} if limits_size(engine, _mounts()) else {}


def limits_size(engine: Mapping[str, Any], mounts: Iterable[str]) -> bool:
    """Can this engine limit the size of a container's layer? `mounts` are lines as in /proc/mounts."""
    driver = engine.get("Driver")
    if driver in SIZED_DRIVERS:
        return True
    backing = dict(map(tuple, engine.get("DriverStatus") or ())).get("Backing Filesystem")
    if driver != "overlay2" or backing != "xfs":
        return False
    root = Path(engine.get("DockerRootDir") or "/var/lib/docker")
    found = [
        (len(folder), set(options.split(",")))
        for folder, options in (line.split()[1:4:2] for line in mounts)
        if root.is_relative_to(folder)
    ]
    return bool(found) and bool(max(found, key=lambda entry: entry[0])[1] & {"pquota", "prjquota"})


def _mounts() -> list[str]:
    try:
        return Path("/proc/mounts").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def weaknesses(engine: Mapping[str, Any]) -> list[str]:
    """What this engine lacks of the isolation that worlds count on, one line each."""
    options = " ".join(engine.get("SecurityOptions") or ())
    lacks = {
        "system calls are not filtered (the engine runs without seccomp)": "name=seccomp" not in options
        or "profile=unconfined" in options,
        "memory is not limited": engine.get("MemoryLimit") is False,
        "swap is not limited": engine.get("SwapLimit") is False,
        "the number of processes is not limited": engine.get("PidsLimit") is False,
        "cpu is not limited": engine.get("CpuCfsQuota") is False,
    }
    return [text for text, lacking in lacks.items() if lacking]


# --- disk ----------------------------------------------------------------------------------------------------------


class DiskLimit:
    """Holds one container to its disk limit, counted by the host where the engine's files can be read from here."""

    def __init__(self, world: ChannelEnvironment, container: Mapping[str, Any]) -> None:
        """`container` is what the engine knows about it while it runs."""
        self._world = world
        self._watch: Watch | None = None
        self._inside: asyncio.Task[None] | None = None
        trees = host_folders(container)
        if trees:
            self._watch = watch_disk(world, trees, lambda: processes_of(container))
        else:
            self._inside = asyncio.create_task(self._count_inside(), name="count the disk of a container")

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
        if self._inside is not None:
            self._inside.cancel()
            with suppress(asyncio.CancelledError):
                await self._inside

    async def _count_inside(self) -> None:
        allowed = limit = limit_of(self._world.spec.resources)
        while True:
            await asyncio.sleep(COUNT_INSIDE_S)
            with suppress(EnvironmentFault, ValueError, IndexError):
                used = await self._used_inside()
                if used.exceeds(allowed):
                    await stop_commands(self._world, used)
                    allowed = EVERYTHING
                    used = await self._used_inside()
                allowed = allowance(used, limit, allowed)

    async def _used_inside(self) -> Usage:
        """Raises ValueError or IndexError where it could not be counted: the world may be full of processes."""
        places = [self._world.workdir, "/tmp", "/var/tmp", "/home", "/root"]
        blocks, inodes = [
            (await self._world.exec(["du", "-sxc", unit, *places], timeout_s=60)).stdout.split()[-2]
            for unit in ("-k", "--inodes")
        ]
        return Usage(int(blocks) << 10, int(inodes))


def check_holes(trees: Iterable[Path], disk_mb: int) -> None:
    """A commit writes the holes in files as zeros, so what takes nothing in the container may fill the host's disk.

    Raises:
        EnvironmentFault: the files are more than twice as long as the world's disk is large.
    """
    length = sum(facts.st_size for facts in regular_files(trees)) >> 20
    if length > 2 * disk_mb:
        raise EnvironmentFault(
            f"this container cannot be captured: with the holes in its files filled they take {length} MB, and its "
            f"disk limit is {disk_mb} MB"
        )


def host_folders(container: Mapping[str, Any]) -> list[Path]:
    """Where this machine keeps what a container writes; empty if that cannot be read from here."""
    upper = ((container.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir")
    volumes = [mount["Source"] for mount in container.get("Mounts") or () if mount.get("Type") == "volume"]
    hosts = container.get("HostsPath")  # it and its like lie outside the layers, and root inside can write them
    found = [Path(folder) for folder in (upper, *volumes, hosts and Path(hosts).parent) if folder]
    readable = all(os.access(folder, os.R_OK | os.X_OK) for folder in found)
    return found if upper and readable else []


def processes_of(container: Mapping[str, Any]) -> list[int]:
    """All that are in a container's control group, numbered as this process sees them.

    They may be killed for it, so nothing is taken for the container's that does not bear its name: its first process
    may be gone, and its number somebody else's.
    """
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{container['State']['Pid']}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            group = Path("/sys/fs/cgroup", controllers, path.lstrip("/"), "cgroup.procs")
            if controllers in ("", "pids") and container["Id"] in path and group.exists():
                return [number for number in map(int, group.read_text().split()) if number > 0]
    return []
