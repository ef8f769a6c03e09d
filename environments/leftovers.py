"""What worlds leave on a machine until it is removed, and its removal: by label, never what another process uses."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trellis.environments.environment import EnvironmentFault, EnvironmentUnavailable

What = Literal["container", "network", "snapshot", "build remains", "world", "lock"]


@dataclass(frozen=True, slots=True)
class Leftover:
    what: What
    place: str
    """"engine", "store", or the kind of another package."""
    id: str
    """The engine's, or the path of a file or folder."""
    label: str = ""


async def find(label: str, *, dead_only: bool) -> list[Leftover]:
    """What is labelled `label` or `label/...` (everything for "") and belongs to a dead process or, unless `dead_only`,
    to this one; in an order in which it can be removed.

    Raises:
        EnvironmentFault: the engine could not be asked.
    """
    from trellis.environments import store
    from trellis.environments.docker import engine
    from trellis.environments.kinds import modules_of_packages

    found: list[Leftover] = []
    for module in modules_of_packages():
        if ask := getattr(module, "leftovers", None):
            found += await ask(label, dead_only=dead_only)
    if sys.platform.startswith("linux"):
        with suppress(EnvironmentUnavailable):
            folders = await asyncio.to_thread(lambda: list(store.labelled(label, dead_only=dead_only)))
            found += [Leftover(_kind(folder), "store", str(folder), store.label_of(folder)) for folder in folders]
    with suppress(EnvironmentUnavailable):
        found += await engine.labelled(label, dead_only=dead_only)
    return found


async def find_unowned() -> list[Leftover]:
    """What is nobody's and is no use to anybody: parts of builds that failed or were killed, old locks."""
    from trellis.environments import built
    from trellis.environments.docker import dockerfile, engine
    from trellis.environments.docker.images import ImageCache
    from trellis.environments.sandbox.built_layers import LayerCache

    found: list[Leftover] = []
    try:
        known = {thing.key for thing in await ImageCache().find()}
    except EnvironmentUnavailable:  # which locks are those of images is not known then
        return []
    with suppress(EnvironmentUnavailable):
        remains = await engine.call("list images", dockerfile.remains)
        found = [Leftover("build remains", "engine", image) for image, key in remains if not built.being_built(key)]
    with suppress(EnvironmentUnavailable):
        known |= {thing.key for thing in await LayerCache().find()}
        found += [Leftover("lock", "store", str(path)) for path in built.forgotten(known)]
    return found


async def remove(leftovers: Sequence[Leftover]) -> None:
    """
    Raises:
        EnvironmentFault: the engine could not remove something; everything else is gone.
    """
    from trellis.environments import built, store
    from trellis.environments.docker import engine
    from trellis.environments.kinds import module_of

    async def remove_one(left: Leftover) -> None:
        if left.place not in ("engine", "store"):
            await module_of(left.place).remove(left)
        elif left.place == "store" and left.what == "lock":
            built.forget(Path(left.id))
        elif left.place == "store":
            await asyncio.to_thread(store.remove, Path(left.id))
        elif left.what == "container":
            await engine.remove_container(left.id)
        elif left.what == "network":
            await engine.remove_network(left.id)
        else:
            await engine.remove_image(left.id)

    faults = []
    for left in leftovers:
        try:
            await remove_one(left)
        except EnvironmentFault as fault:  # the others can go all the same
            faults.append(fault)
    if faults:
        raise faults[0]


def _kind(folder: Path) -> What:
    """Only a world has a log of its guest; a captured one has files alone."""
    return "world" if (folder / "guest.log").exists() else "snapshot"
