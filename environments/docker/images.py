"""The image of a world: as it is, built from a Dockerfile, and with files and set-up baked in, each made once.

What is made is called `trellis-built:<key>`. The key is a hash of all that went into it, so that another content is
another image and the second start costs a start only; forks then commit what the world itself changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from trellis.environments import built
from trellis.environments.content import digest, files_digest
from trellis.environments.docker import container, dockerfile
from trellis.environments.docker.dockerfile import BUILDING, Build, mark_of
from trellis.environments.docker.engine import (
    BUILT,
    COMMIT_TIMEOUT_S,
    LABEL,
    OWNER,
    call,
    client,
    create,
    find_image,
    remove_container,
)
from trellis.environments.environment import EnvironmentSpec

REPOSITORY = "trellis-built"
VERSION = 1
"""Goes up when the same recipe is to give another image."""


@dataclass(frozen=True, slots=True)
class Image:
    facts: Mapping[str, Any]
    """What the engine knows about it."""
    name: str
    """What to call it in messages: its tag, or the Dockerfile it was built from."""

    @property
    def id(self) -> str:
        return str(self.facts["Id"])


class World(Protocol):
    """What set-up needs of a world."""

    async def set_up(self) -> None: ...

    async def settle(self) -> None:
        """End every command, so that files are whole."""
        ...

    async def close(self) -> None: ...


Enter = Callable[[EnvironmentSpec, str, str, Image], Awaitable[World]]
"""Start a container and enter it: spec, label, container, image."""


class ImageCache:
    """The images called `trellis-built`; see built.Cache."""

    what = "built image"

    async def has(self, key: str) -> bool:
        from docker.errors import ImageNotFound

        def look() -> bool:  # by its name: a list of one image costs as much as that of all
            try:
                client().inspect_image(tag_of(key))
            except ImageNotFound:
                return False
            return True

        return await call("inspect an image", look)

    async def find(self) -> list[built.Built]:
        return await call("list images", _find)

    async def remove(self, key: str) -> bool:
        from docker.errors import APIError, ImageNotFound

        def remove() -> bool:
            try:
                client().remove_image(tag_of(key))
            except ImageNotFound:
                return True
            except APIError as error:
                if error.status_code != 409:
                    raise
                return False  # a container runs on it, or an image builds on it
            return True

        return await call("remove an image", remove)


def tag_of(key: str) -> str:
    return f"{REPOSITORY}:{key}"


async def prepare(spec: EnvironmentSpec, label: str, ground: Image, enter: Enter) -> Image:
    """`ground` with everything on it that comes before the agent: files and set-up; built if need be.

    Raises:
        EnvironmentFault: a file cannot be read, or set-up failed.
    """
    if not (spec.files or spec.setup):
        return ground
    key = await call("read files", lambda: _key(spec, ground.id), built.BUILD_TIMEOUT_S)
    await built.ensure(ImageCache(), key, label, lambda: _bake(spec, label, ground, tag_of(key), enter))
    return Image((await find(tag_of(key))).facts, ground.name)


async def find(image: str) -> Image:
    name = dockerfile.base_image(image)
    return Image(await call("inspect an image", lambda: find_image(name)), name)


async def ready(image: str, build: Build | None, spec: EnvironmentSpec, label: str) -> Image:
    """An image that is here, or one that is built if need be.

    Raises:
        EnvironmentUnavailable: it is not here.
        EnvironmentFault: building it failed.
    """
    return await _built(build, spec, label) if build is not None else await find(image)


async def _built(build: Build, spec: EnvironmentSpec, label: str) -> Image:
    network = built.setup_phase(spec).network

    def look() -> tuple[dockerfile.Recipe, str]:
        recipe = dockerfile.read(build, network)
        return recipe, recipe.key(network)

    recipe, key = await call("read a Dockerfile", look, built.BUILD_TIMEOUT_S)
    marks = {BUILT: key, BUILDING: mark_of(key), LABEL: "", OWNER: ""}

    def in_thread() -> None:
        dockerfile.make(recipe, tag_of(key), marks, network, spec.resources)

    async def make() -> None:
        await call("build an image", in_thread, dockerfile.BUILD_TIMEOUT_S, lambda: dockerfile.stop(marks[BUILDING]))

    await built.ensure(ImageCache(), key, label, make)
    return Image((await find(tag_of(key))).facts, f"built from {build.name}")


def _key(spec: EnvironmentSpec, ground: str) -> str:
    phase = built.setup_phase(spec)
    setup = [spec.setup, dict(spec.env), phase.network, list(phase.allow)] if spec.setup else []
    return digest("image", VERSION, ground, files_digest(spec.files), setup)[:32]


async def _bake(spec: EnvironmentSpec, label: str, ground: Image, tag: str, enter: Enter) -> None:
    """Put the files into a container, run the set-up in it, and keep it as an image."""
    phase = built.setup_phase(spec)
    made = await create("create a container", lambda: container.create(phase, label, ground.facts), remove_container)
    world = None
    try:
        if spec.files:
            await container.copy_in(spec.files, made, ground.facts)
        if spec.setup:
            world = await enter(phase, label, made, ground)
            await world.set_up()
            await world.settle()
        await call("commit a container", lambda: _commit(made, tag, ground.facts["Config"]), COMMIT_TIMEOUT_S)
    finally:
        if world is not None:
            await world.close()
        await remove_container(made)


def _commit(made: str, tag: str, config: Mapping[str, Any]) -> None:
    """As an image like the one before: the guest is in none, and it has no owner whose death would remove it."""
    repository, _, key = tag.partition(":")
    own = {"Entrypoint": config.get("Entrypoint") or [], "Cmd": config.get("Cmd") or ["bash"]}
    client(COMMIT_TIMEOUT_S).commit(made, repository, key, conf={**own, "Labels": {BUILT: key, LABEL: "", OWNER: ""}})


def _find() -> list[built.Built]:
    """Their sizes are what they add to the largest image that they build on."""
    from docker.errors import ImageNotFound

    named = {image["Id"]: image["RepoTags"] or () for image in client().images()}
    tags = {image: own for image, own in named.items() if any(tag.startswith(f"{REPOSITORY}:") for tag in own)}
    facts = {}
    for image in named:
        with contextlib.suppress(ImageNotFound):  # somebody removed it meanwhile
            facts[image] = client().inspect_image(image)
    layers = {image: tuple(known["RootFS"].get("Layers") or ()) for image, known in facts.items()}
    found = []
    for image in facts.keys() & tags.keys():
        below = [
            facts[other]["Size"]
            for other, its in layers.items()
            if other != image and len(its) < len(layers[image]) and layers[image][: len(its)] == its
        ]
        size = facts[image]["Size"] - max(below, default=0)
        for name in (tag for tag in tags[image] if tag.startswith(f"{REPOSITORY}:")):
            key = name.partition(":")[2]
            began = datetime.fromisoformat(facts[image]["Created"]).timestamp()
            found.append(built.Built(key, name, size, built.last_used(key, began)))
    return found
