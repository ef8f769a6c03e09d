"""The services of a Compose file that run beside a world, on a private network of their own with no way out."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from functools import partial

from trellis.environments.docker import container, images
from trellis.environments.docker.compose import Condition, Project, Service
from trellis.environments.docker.engine import (
    LABEL,
    call,
    client,
    create,
    labels,
    remove_container,
    remove_network,
)
from trellis.environments.docker.images import Image
from trellis.environments.docker.isolation import engine_info, host_config, host_folders, processes_of
from trellis.environments.environment import EnvironmentFault, EnvironmentSpec, OnEvent
from trellis.environments.usage import Usage
from trellis.environments.watch import Watch, facts_of, limit_of

READY_TIMEOUT_S = 300.0
"""How long a service may take until those that depend on it can start."""
POLL_S = 0.1
LOG_LINES = 30
DISK_CHECK_S = 15.0
SUBNET_TRIES = 20


class Services:
    """What runs beside one world."""

    def __init__(self, project: Project, spec: EnvironmentSpec, label: str, on_event: OnEvent) -> None:
        self.on_event = on_event
        """Is told "limit.disk", with the name of the service."""
        self.project = project
        self.network = ""
        self._spec = spec
        self._label = label
        self._containers: dict[str, str] = {}
        self._images: dict[str, Image] = {}
        self._watches: dict[str, Watch] = {}
        """Of the services whose files can be read from here."""
        self._disk_watch: asyncio.Task[None] | None = None

    async def start(self, captured: Mapping[str, str] | None = None) -> None:
        """Start all, each when what it depends on is ready; from the images of a snapshot, if given. What was started
        before an error is removed by `close`.

        Raises:
            EnvironmentFault: one did not become what others depend on; the end of its log is in the message.
        """
        for service in self.project.beside:  # building may take long: before anything runs
            if captured is not None:
                self._images[service.name] = await images.find(captured[service.name])
            else:
                self._images[service.name] = await images.ready(service.image, service.build, self._spec, self._label)
        self.network = await create("create a network", lambda: _create_network(self._label), remove_network)
        for service in self.project.beside:
            await self._wait_for(service.depends_on)
            await self._start(service)
        self._disk_watch = asyncio.create_task(self._watch_disk(), name="watch the disks of services")
        await self._wait_for({s.name: "service_started" for s in self.project.beside})
        await self._wait_for(self.project.agent.depends_on)

    async def _start(self, service: Service) -> None:
        image = self._images[service.name]
        made = await create("create a container", lambda: self._create(service, image), remove_container)
        self._containers[service.name] = made
        await call(f"start service {service.name}", lambda: client().start(made))
        running = await call("inspect a container", lambda: client().inspect_container(made))
        if trees := host_folders(running):
            limit, kill = limit_of(self._spec.resources), partial(self._kill, service.name)
            self._watches[service.name] = Watch(trees, lambda: processes_of(running), limit, kill)

    def _create(self, service: Service, image: Image) -> str:
        from docker.types import LogConfig

        host = host_config(self._spec, engine_info())
        logged = LogConfig(type="json-file", config={"max-size": "1m", "max-file": "1"})
        host.update(container.private(self.network), auto_remove=False, log_config=logged, init=service.init)
        made = client().create_container(
            image.id,
            command=None if service.command is None else list(service.command),
            entrypoint=None if service.entrypoint is None else list(service.entrypoint),
            hostname=service.name,
            user=service.user or None,
            working_dir=service.working_dir or None,
            environment=dict(service.environment),
            healthcheck=None if service.healthcheck is None else dict(service.healthcheck),
            labels=labels(self._label),
            host_config=client().create_host_config(**host),
            networking_config=container.aliased(self.network, service.name),
        )
        return str(made["Id"])

    async def _wait_for(self, conditions: Mapping[str, Condition]) -> None:
        for name, condition in conditions.items():
            try:
                async with asyncio.timeout(READY_TIMEOUT_S):
                    while not await self._fulfils(name, condition):
                        await asyncio.sleep(POLL_S)
            except TimeoutError:
                await self._fail(name, f"was not ready within {READY_TIMEOUT_S:g} s ({condition})")

    async def _fulfils(self, name: str, condition: Condition) -> bool:
        facts = await call("inspect a container", lambda: client().inspect_container(self._containers[name]))
        state = facts["State"]
        ended, status = not state["Running"], state["ExitCode"]
        if condition == "service_completed_successfully":
            if ended and status != 0:
                await self._fail(name, f"ended with {status}")
            return ended
        if ended and not (condition == "service_started" and status == 0):
            await self._fail(name, f"ended with {status}")
        if condition == "service_started":
            return True
        health = state.get("Health", {}).get("Status", "none")
        if health == "none":
            await self._fail(name, "has no healthcheck, but others wait until it is healthy")
        if health == "unhealthy":
            said = [entry["Output"].strip() for entry in state["Health"]["Log"][-1:]]
            await self._fail(name, f"is unhealthy: {' '.join(said)[-500:]}")
        return bool(health == "healthy")

    async def _fail(self, name: str, what: str) -> None:
        def log() -> bytes:
            said: bytes = client().logs(self._containers[name], tail=LOG_LINES)
            return said

        text = (await call("read a log", log)).decode("utf-8", "replace").strip()
        tail = f"; the end of its log: {text[-2000:]}" if text else ""
        raise EnvironmentFault(f"{self.project.file}: service {name} {what}{tail}")

    async def _kill(self, name: str, used: Usage) -> None:
        """A service that writes more than a world may is killed."""
        self.on_event("limit.disk", {"service": name, **facts_of(used, self._spec.resources)})
        with contextlib.suppress(EnvironmentFault):  # it ended meanwhile
            await call("kill a container", lambda: client().kill(self._containers[name]))

    async def _watch_disk(self) -> None:
        """Hold those to their limit whose files cannot be read from here; the engine does not count their volumes."""

        def sizes() -> dict[str, int]:
            running = client().containers(size=True, filters={"label": f"{LABEL}={self._label}"})
            return {found["Id"]: found.get("SizeRw", 0) for found in running}

        unwatched = {name: made for name, made in self._containers.items() if name not in self._watches}
        while unwatched:
            await asyncio.sleep(DISK_CHECK_S)
            with contextlib.suppress(EnvironmentFault):
                found = await call("look at the disks of services", sizes)
                for name, made in unwatched.items():
                    used = Usage(found.get(made, 0))
                    if used.exceeds(limit_of(self._spec.resources)):
                        await self._kill(name, used)

    # --- snapshots ---

    @property
    def containers(self) -> Mapping[str, str]:
        """service -> container"""
        return self._containers

    def left_out(self) -> tuple[str, ...]:
        """What no snapshot captures, one line each."""
        volumes = [
            f"service {name}: {path} (a volume of its image)"
            for name, image in self._images.items()
            for path in image.facts["Config"].get("Volumes") or ()
        ]
        return (*(f"processes of service {name}, which is started again" for name in self._containers), *volumes)

    async def close(self) -> None:
        """Safe to call twice."""
        for watch in self._watches.values():
            watch.close()
        if self._disk_watch is not None:
            self._disk_watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._disk_watch
        removing = (remove_container(made) for made in self._containers.values())
        removed = await asyncio.gather(*removing, return_exceptions=True)
        self._containers.clear()
        try:
            for error in removed:
                if error is not None:
                    raise error
        finally:
            if self.network:
                await remove_network(self.network)
                self.network = ""


def _create_network(label: str) -> str:
    """No way out (`internal`), and no address of the host's on it. A small subnet of a range that is for tests of
    networks, because an engine has few of its own."""
    from docker.errors import APIError
    from docker.types import IPAMConfig, IPAMPool

    for attempt in range(SUBNET_TRIES):
        number = secrets.randbelow(2 << 10)
        subnet = f"198.{18 + (number >> 10)}.{(number >> 2) & 255}.{(number & 3) << 6}/26"
        try:
            network = client().create_network(
                f"trellis-{secrets.token_hex(6)}",
                driver="bridge",
                internal=True,
                options={"com.docker.network.bridge.inhibit_ipv4": "true"},
                ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)]),
                labels=labels(label),
            )
            return str(network["Id"])
        except APIError as error:
            if "overlap" not in str(error).lower() or attempt == SUBNET_TRIES - 1:
                raise
    raise AssertionError("the loop returns or raises")
