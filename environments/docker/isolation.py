"""What a container is refused and how much it may use: the host's part of its configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from trellis.environments.environment import EnvironmentSpec, EnvironmentUnavailable

OVERHEAD_PIDS = 16
"""Our own processes in a world: the guest, supervisors."""


def host_config(spec: EnvironmentSpec, engine: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the SDK's `create_host_config`; `engine` is what the engine says about itself (`info`).

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
        "shm_size": memory // 2,
        "network_mode": "bridge" if spec.network == "full" else "none",
        "ipc_mode": "private",
        "ulimits": [Ulimit(name=name, soft=value, hard=value) for name, value in limits.items()],
        "log_config": LogConfig(type="none"),
        **_runtime(spec.runtime, engine),
    }


def _runtime(name: str, engine: Mapping[str, Any]) -> dict[str, Any]:
    if not name:
        return {}
    known = sorted(engine.get("Runtimes") or {})
    if name not in known:
        raise EnvironmentUnavailable(f"this engine has no runtime {name!r}, only {', '.join(known)}")
    return {"runtime": name}
