"""What a recipe stands for exactly, as plain data: for the header of a trajectory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from trellis.environments import built
from trellis.environments.content import source_digest
from trellis.environments.environment import EnvironmentFault, EnvironmentSpec
from trellis.environments.kinds import resolve_kind


async def describe(spec: EnvironmentSpec) -> dict[str, Any]:
    """Everything that can be known of a world before it starts: names with the hashes of what they stand for. What
    cannot be found has None for a hash; the start of the world then says what is wrong with it."""
    phase = built.setup_phase(spec)
    with suppress(EnvironmentFault):
        spec = replace(spec, kind=await resolve_kind(spec))
    return {
        "kind": spec.kind,
        **await _origin(spec),
        "files": [
            {"source": entry.source, "target": entry.target, "sha256": await _digest(entry.source)}
            for entry in spec.files
        ],
        "setup": spec.setup,
        "setup_network": {"network": phase.network, "allow": list(phase.allow)},
        "network": {"network": spec.network, "allow": list(spec.allow)},
        "resources": asdict(spec.resources),
        "runtime": spec.runtime,
        "env": dict(spec.env),
        "hidden": list(spec.hidden),
        "preload": list(spec.preload),
    }


async def _digest(source: str) -> str | None:
    try:
        return await asyncio.to_thread(source_digest, source)
    except EnvironmentFault:
        return None


async def _origin(spec: EnvironmentSpec) -> dict[str, Any]:
    """The image, the Dockerfile or the Compose file."""
    if spec.kind != "docker":
        return {"image": spec.image}
    from trellis.environments.docker import compose
    from trellis.environments.docker.dockerfile import Build

    if spec.dockerfile:
        return {"dockerfile": await _build(Build(spec.dockerfile), spec)}
    if not spec.compose:
        return {"image": await _image(spec.image)}
    file = Path(spec.compose)
    try:
        project = await asyncio.to_thread(compose.read, spec.compose, spec.service)
        services = {
            service.name: {"build": await _build(service.build, spec)}
            if service.build is not None
            else {"image": await _image(service.image)}
            for service in (project.agent, *project.beside)
        }
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    except (EnvironmentFault, OSError):
        return {"compose": {"file": str(file), "sha256": None}}
    return {"compose": {"file": str(file), "sha256": sha256, "service": project.agent.name, "services": services}}


async def _image(name: str) -> Mapping[str, Any]:
    """Its id, and the digest under which a registry has it, if it came from one."""
    from trellis.environments.docker import images

    try:
        image = await images.find(name)
    except EnvironmentFault:
        return {"name": name, "id": None, "digests": []}
    return {"name": image.name, "id": image.id, "digests": list(image.facts.get("RepoDigests") or ())}


async def _build(build: Any, spec: EnvironmentSpec) -> Mapping[str, Any]:
    from trellis.environments.docker import dockerfile

    network = built.setup_phase(spec).network

    def look() -> Mapping[str, Any]:
        recipe = dockerfile.read(build, network)
        bases = dict(recipe.bases)
        return {"file": build.name, "sha256": recipe.content, "from": bases, "key": recipe.key(network)}

    try:
        return await asyncio.to_thread(look)
    except (EnvironmentFault, OSError):
        return {"file": build.name, "sha256": None}
