"""Which kinds of world this machine can provide, and the removal of what is left of old ones."""

from __future__ import annotations

import asyncio
import functools
import importlib
import sys
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from trellis.environments import store
from trellis.environments.built import Cache
from trellis.environments.environment import EnvironmentFault, EnvironmentSpec, EnvironmentUnavailable, Kind, Snapshot

MODULES = {
    "sandbox": "trellis.environments.sandbox.world",
    "docker": "trellis.environments.docker.world",
    "local": "trellis.environments.local",
}
"""Where `start` and `release` of our own kinds are."""
ENTRY_POINTS = "trellis.environments"
"""The group in which installed packages name the modules of theirs."""
PROBE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class KindFacts:
    """Whether a kind of world can be had here; if not, one line says why and what to do, and else what it lacks."""

    kind: str
    available: bool
    reason: str = ""


def places() -> dict[str, str]:
    """The module with `start` and `release` of every kind of world: those of installed packages, and ours."""
    return _of_packages(tuple(sys.path)) | MODULES


@functools.cache
def _of_packages(search_path: tuple[str, ...]) -> dict[str, str]:
    """Asked once for a search path, because it reads what every installed package says of itself."""
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}


def modules_of_packages() -> list[Any]:
    """The modules of the kinds that are not ours."""
    return [module_of(kind) for kind in places() if kind not in MODULES]


def module_of(kind: str) -> Any:
    """
    Raises:
        EnvironmentUnavailable: there is no such kind.
    """
    place = MODULES.get(kind) or places().get(kind)
    if place is None:
        raise EnvironmentUnavailable(
            f"there is no kind of world called {kind!r} (known: {', '.join(sorted(places()))})"
        )
    return importlib.import_module(place)


async def resolve_kind(spec: EnvironmentSpec) -> str:
    """The kind to start: `auto` takes docker if an engine and the image are there, else sandbox; never local.

    Raises:
        EnvironmentUnavailable: only docker can provide it, and it is not here or not asked for.
    """
    wanted = "from a Dockerfile" if spec.dockerfile else "from a Compose file" if spec.compose else ""
    wanted = wanted or (f"with runtime {spec.runtime}" if spec.runtime else "")
    if spec.kind != "auto":
        if wanted and spec.kind != "docker":
            raise EnvironmentUnavailable(f"a world {wanted} needs docker, not {spec.kind}")
        return spec.kind
    if not wanted:
        return "sandbox" if await _docker_reason(spec.image) else "docker"
    from trellis.environments.docker import engine

    try:
        await engine.call("connect", engine.client)
    except EnvironmentFault as fault:
        raise EnvironmentUnavailable(f"a world {wanted} needs docker: {fault}") from None
    return "docker"


async def doctor() -> list[KindFacts]:
    """Try each kind."""
    docker = await _docker_reason("")
    sandbox, local = await _reason_not_to_start("sandbox"), await _reason_not_to_start("local")
    return [
        KindFacts("docker", not docker, docker or await _docker_weaknesses()),
        KindFacts("sandbox", not sandbox, sandbox or _sandbox_weaknesses()),
        KindFacts("local", not local, local or "no isolation: for trusted code"),
    ]


async def reap(label: str, *, dead_only: bool = False, sparing: Collection[Snapshot] = ()) -> int:
    """Remove worlds and snapshots labelled `label` or `label/...` (every label for ""); how many there were.

    Those of dead processes and of this one; with `dead_only`, not of this one. What belongs to another process that
    lives is always left alone, so two runs may use the same label, and so are the snapshots of `sparing`. Worlds that
    still run lose their files: close them first.

    Raises:
        EnvironmentFault: the engine could not remove its part.
    """
    from trellis.environments import built, leftovers

    if not dead_only:
        built.let_go(label)
    spared = {id for snapshot in sparing for id in held_by(snapshot)}
    found = [left for left in await leftovers.find(label, dead_only=dead_only) if left.id not in spared]
    await leftovers.remove(found)
    return len(found)


async def caches() -> list[Cache]:
    """Where this machine keeps what was built for later starts."""
    found: list[Cache] = []
    with suppress(EnvironmentUnavailable):
        from trellis.environments.docker import engine
        from trellis.environments.docker.images import ImageCache

        await engine.call("connect", engine.client)
        found.append(ImageCache())
    if sys.platform.startswith("linux"):
        with suppress(EnvironmentUnavailable):
            from trellis.environments.sandbox.built_layers import LayerCache

            store.store_folder()
            found.append(LayerCache())
    return found


async def engine_facts() -> dict[str, str]:
    """What the Docker engine says about itself; empty where there is none. `seccomp` is empty if it filters nothing."""
    from trellis.environments.docker import engine

    try:
        info = await engine.call("tell about itself", lambda: engine.client().info())
    except EnvironmentFault:
        return {}
    options = [option for option in info.get("SecurityOptions") or () if option.startswith("name=seccomp")]
    return {
        "version": str(info.get("ServerVersion")),
        "storage driver": str(info.get("Driver")),
        "cgroups": f"v{info.get('CgroupVersion', '1')}",
        "runtimes": " ".join(sorted(info.get("Runtimes") or ())),
        "seccomp": ", ".join(options).removeprefix("name=seccomp,"),
    }


async def release(snapshot: Snapshot) -> None:
    """See Snapshot.release."""
    await module_of(snapshot.kind).release(snapshot)


async def exists(snapshot: Snapshot) -> bool:
    """See Snapshot.exists. A kind that cannot tell has none."""
    with suppress(EnvironmentUnavailable):
        if ask := getattr(module_of(snapshot.kind), "exists", None):
            return bool(await ask(snapshot))
    return False


def held_by(snapshot: Snapshot) -> Collection[str]:
    """What a snapshot needs of all that is left on this machine: the ids of leftovers."""
    with suppress(EnvironmentUnavailable):
        if ask := getattr(module_of(snapshot.kind), "held_by", None):
            ids: Collection[str] = ask(snapshot)
            return ids
    return (snapshot.id,)


async def _docker_reason(image: str) -> str:
    """Why there is no docker world; empty if there is."""
    from trellis.environments.docker import engine
    from trellis.environments.docker.dockerfile import base_image

    try:
        await engine.call("inspect an image", lambda: engine.find_image(base_image(image)))
    except EnvironmentFault as fault:
        return str(fault)
    return ""


async def _docker_weaknesses() -> str:
    from trellis.environments.docker import engine, isolation

    facts = await engine.call("tell about itself", isolation.engine_info)
    return "; ".join(isolation.weaknesses(facts))


def _sandbox_weaknesses() -> str:
    from trellis.environments.sandbox import cgroups

    lacking = cgroups.missing()
    return f"{', '.join(lacking)}: limited per process only, for want of control groups" if lacking else ""


async def _reason_not_to_start(kind: Kind) -> str:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            world = await EnvironmentSpec(kind=kind).start(label="doctor")
            await world.close()
    except EnvironmentFault as fault:
        return str(fault)
    except TimeoutError:
        return f"it did not start within {PROBE_TIMEOUT_S:g} s"
    return ""
