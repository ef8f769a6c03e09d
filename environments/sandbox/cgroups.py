"""Control groups for worlds, where this user may make them: version 1 or 2."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from trellis.environments.environment import Resources

ROOT = Path("/sys/fs/cgroup")
OVERHEAD_PIDS = 16
"""Our own processes in a world: the guest, its parent, supervisors."""
PERIOD_US = 100_000


def create(name: str, resources: Resources) -> tuple[tuple[str, ...], bool]:
    """Make the groups of one world; their folders, and whether memory is among what they limit.

    Whoever may not make them gets none: process limits must do (see jail.set_limits).
    """
    memory = resources.memory_mb << 20
    quota = int(resources.cpus * PERIOD_US)
    pids = resources.pids + OVERHEAD_PIDS
    if (ROOT / "cgroup.controllers").exists():
        return _create_v2(name, {"memory.max": memory, "memory.swap.max": 0, "pids.max": pids,
                                 "cpu.max": f"{quota} {PERIOD_US}"})  # fmt: skip
    settings = {
        "memory": {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory},  # with swap
        "pids": {"pids.max": pids},
        "cpu": {"cpu.cfs_period_us": PERIOD_US, "cpu.cfs_quota_us": quota},
    }
    made = []
    for controller, values in settings.items():
        group = ROOT / controller / "trellis" / name
        if os.access(ROOT / controller, os.W_OK) and (ROOT / controller / "cgroup.procs").exists() and _make(group):
            if all(_set(group / file, value) for file, value in values.items() if "memsw" not in file):
                _set(group / "memory.memsw.limit_in_bytes", memory)
                made.append(group)
            else:
                group.rmdir()
    return tuple(map(str, made)), any(group.parts[4] == "memory" for group in made)


def missing() -> list[str]:
    """What no group of this user can limit, if anything; then only limits per process hold."""
    wanted = ("memory", "pids", "cpu")
    if (ROOT / "cgroup.controllers").exists():
        there = (ROOT / "cgroup.controllers").read_text().split()
        mine = os.access(ROOT / "cgroup.subtree_control", os.W_OK)
        return [controller for controller in wanted if not mine or controller not in there]
    return [
        controller
        for controller in wanted
        if not (os.access(ROOT / controller, os.W_OK) and (ROOT / controller / "cgroup.procs").exists())
    ]


def processes(groups: Sequence[str]) -> list[int]:
    """Those in a world's groups, numbered as this process sees them; none where there are no groups."""
    for group in groups:
        with contextlib.suppress(OSError):
            return [pid for pid in map(int, Path(group, "cgroup.procs").read_text().split()) if pid > 0]
    return []


def _create_v2(name: str, values: dict[str, object]) -> tuple[tuple[str, ...], bool]:
    parent = ROOT / "trellis"
    group = parent / name
    wanted = ("memory", "pids", "cpu")
    if not os.access(ROOT / "cgroup.subtree_control", os.W_OK):
        return (), False
    for folder in (ROOT, parent):
        for controller in wanted:
            _set(folder / "cgroup.subtree_control", f"+{controller}")
        if folder == ROOT and not _make(parent):
            return (), False
    if not _make(group):
        return (), False
    done = {file: _set(group / file, value) for file, value in values.items()}
    return (str(group),), done["memory.max"]


def _make(group: Path) -> bool:
    try:
        group.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return True


def _set(file: Path, value: object) -> bool:
    with contextlib.suppress(OSError):
        if file.exists():
            file.write_text(str(value))
            return True
    return False
