"""`docker`: a container as the world.

The guest is the container's main process, fed over one attached connection; no `docker exec`, so a command costs what
it costs in the container.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from trellis.environments.capture.forking import ForkingEnvironment
from trellis.environments.channel import Channel, snapshot_data
from trellis.environments.docker import compose, container, images, snapshots
from trellis.environments.docker.compose import Project
from trellis.environments.docker.dockerfile import Build
from trellis.environments.docker.engine import (
    Demultiplexer,
    attach,
    call,
    client,
    create,
    remove_container,
)
from trellis.environments.docker.images import Image
from trellis.environments.docker.isolation import DiskLimit
from trellis.environments.docker.services import Services
from trellis.environments.environment import EnvironmentFault, EnvironmentSpec, OnEvent, Snapshot, ignore
from trellis.environments.guest.program import guest_program, sent


class DockerEnvironment(ForkingEnvironment):
    def __init__(
        self, spec: EnvironmentSpec, label: str, container: Mapping[str, Any], workdir: str,
        stream: asyncio.StreamReader, writer: asyncio.StreamWriter, on_event: OnEvent, services: Services | None = None,
    ) -> None:  # fmt: skip
        reader = Demultiplexer(stream)
        channel = Channel(f"container {container['Id'][:12]}", reader, writer, reader.log)
        super().__init__(spec, channel, workdir, on_event)
        self._label = label
        self._container = str(container["Id"])
        self._services = services
        if services is not None:
            services.on_event = self._happened
        self._disk = DiskLimit(self, container)
        self.origin: tuple[str, ...] = ()
        """The images of the snapshot that this world was started from."""

    async def settle(self) -> None:
        """End every command, so that files are whole."""
        await self.channel.request("kill_all", why="")

    async def _snapshot(self, shells: Mapping[str, str]) -> Snapshot:
        running = (await self.channel.request("running")).header["running"]
        services = {} if self._services is None else self._services.containers
        containers = (self._container, *services.values())
        async with snapshots.paused(containers):
            image, *beside = await snapshots.commit(containers, self._label, self.spec.resources.disk_mb)
        running += () if self._services is None else self._services.left_out()
        data = {"image": image, "services": dict(zip(services, beside, strict=True)), "shells": shells}
        return Snapshot("docker", image, data, left_out=tuple(running))

    async def _fork_from(self, snapshot: Snapshot) -> DockerEnvironment:
        return await start(self.spec, label=self._label, snapshot=snapshot, on_event=self.channel.on_event)

    async def _close(self) -> None:
        await self._disk.close()
        try:
            await self.hang_up()
            await remove_container(self._container)
        finally:
            if self._services is not None:
                await self._services.close()
            for image in self.origin:
                await snapshots.drop(image)


async def start(
    spec: EnvironmentSpec, *, label: str, snapshot: Snapshot | None = None, on_event: OnEvent = ignore
) -> DockerEnvironment:
    """See EnvironmentSpec.start."""
    captured = None if snapshot is None else snapshot_data(snapshot, "docker")
    project = await project_of(spec)
    if project is not None:
        env = {**project.agent.environment, **spec.env}
        spec = replace(spec, env=env)
    if captured is not None:
        image = await images.find(captured["image"])
    else:
        own = project.agent.image if project else spec.image
        build = project.agent.build if project else _dockerfile(spec)
        ground = await images.ready(own, build, spec, label)
        image = await images.prepare(spec, label, ground, partial(_enter, on_event=on_event))
    services = None if project is None else Services(project, spec, label, on_event)
    try:
        network = alias = ""
        if services is not None and project is not None:
            await services.start(None if captured is None else captured["services"])
            network, alias = services.network, project.agent.name

        def new() -> str:
            return container.create(spec, label, image.facts, network, alias)

        made = await create("create a container", new, remove_container)
        world = await _enter(spec, label, made, image, on_event, services)
    except BaseException:
        if services is not None:
            await services.close()
        raise
    if captured is not None:
        world.origin, world.shell_state_of_snapshot = _images(captured), captured["shells"]
    return world


async def release(snapshot: Snapshot) -> None:
    """See Snapshot.release."""
    for image in _images(snapshot_data(snapshot, "docker")):
        await snapshots.release(image)


async def exists(snapshot: Snapshot) -> bool:
    """See Snapshot.exists."""
    for image in held_by(snapshot):
        if not await snapshots.kept(image):
            return False
    return True


def held_by(snapshot: Snapshot) -> tuple[str, ...]:
    """Its images, as leftovers are called."""
    return _images(snapshot_data(snapshot, "docker"))


def _images(captured: Mapping[str, Any]) -> tuple[str, ...]:
    return captured["image"], *captured["services"].values()


async def _enter(
    spec: EnvironmentSpec, label: str, made: str, image: Image, on_event: OnEvent, services: Services | None = None
) -> DockerEnvironment:
    """Start a container and greet its guest; what it came to is removed after an error."""
    world = None
    try:
        stream, writer = await attach(made)
        try:
            await call("start a container", lambda: container.start(made, image.name))
            writer.write(sent(guest_program()))
            running = await call("inspect a container", lambda: client().inspect_container(made))
        except BaseException:
            writer.close()
            raise
        workdir = container.workdir_of(image.facts)
        world = DockerEnvironment(spec, label, running, workdir, stream, writer, on_event, services)
        neighbours = [service.name for service in services.project.beside] if services is not None else []
        await world.greet(container.command_env(image.facts), "/tmp", neighbours=neighbours)
        if not (await world.exec(["bash", "-c", ":"], timeout_s=60)).ok:
            raise EnvironmentFault(f"the image {image.name} has no bash, which a world needs")
    except BaseException:
        await (world.close() if world is not None else remove_container(made))
        raise
    return world


async def project_of(spec: EnvironmentSpec) -> Project | None:
    """What the Compose file says, if there is one.

    Raises:
        EnvironmentFault: it is wrong, or the spec says two things at once.
    """
    if sum(map(bool, (spec.image, spec.dockerfile, spec.compose))) > 1:
        raise EnvironmentFault("a world has an image, a Dockerfile or a Compose file: one of them, not more")
    if spec.service and not spec.compose:
        raise EnvironmentFault(f"service {spec.service}: there is no Compose file")
    if not spec.compose:
        return None
    if spec.network == "full":
        raise EnvironmentFault(f'{spec.compose}: its services are on a private network, so network = "full" cannot be')
    return await call("read a Compose file", lambda: compose.read(spec.compose, spec.service))


def _dockerfile(spec: EnvironmentSpec) -> Build | None:
    return Build(spec.dockerfile) if spec.dockerfile else None
