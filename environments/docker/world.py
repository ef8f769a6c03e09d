"""`docker`: a container as the world.

The guest is the container's main process, fed over one attached connection; no `docker exec`, so a command costs what
it costs in the container.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trellis.environments.channel import Channel, snapshot_data
from trellis.environments.docker import snapshots
from trellis.environments.docker.base_image import base_image_name
from trellis.environments.docker.engine import (
    Demultiplexer,
    attach,
    call,
    client,
    find_image,
    labels,
    remove_container,
)
from trellis.environments.egress import PORTAL
from trellis.environments.environment import EnvironmentFault, EnvironmentSpec, OnEvent, Snapshot, ignore
from trellis.environments.forking import ForkingEnvironment, finished
from trellis.environments.guest.program import guest_program
from trellis.environments.variables import INTERPRETER_ENV, SYSTEM_PATH

WORKDIR = "/work"
DISK_CHECK_S = 15.0


class DockerEnvironment(ForkingEnvironment):
    def __init__(
        self, spec: EnvironmentSpec, label: str, container: str, workdir: str, stream: asyncio.StreamReader,
        writer: asyncio.StreamWriter, on_event: OnEvent,
    ) -> None:  # fmt: skip
        reader = Demultiplexer(stream)
        channel = Channel(f"container {container[:12]}", reader, writer, reader.log)
        super().__init__(spec, channel, workdir, on_event)
        self._label = label
        self._container = container
        self.origin = ""
        """The image of the snapshot that this world was started from."""
        self._disk_watch = asyncio.create_task(self._watch_disk(), name="watch the disk of a container")
        self._closing: asyncio.Task[None] | None = None

    async def snapshot(self) -> Snapshot:
        shells = await self.shell_states()
        running = (await self.channel.request("running")).header["running"]
        image = await finished(snapshots.commit(self._container, self._label))
        return Snapshot("docker", image, {"image": image, "shells": shells}, left_out=tuple(running))

    async def _fork_from(self, snapshot: Snapshot) -> DockerEnvironment:
        return await start(self.spec, label=self._label, snapshot=snapshot, on_event=self.channel.on_event)

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="close a container")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._disk_watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._disk_watch
        await self.hang_up()
        await remove_container(self._container)
        if self.origin:
            await snapshots.drop(self.origin)

    async def _watch_disk(self) -> None:
        limit_kb = self.spec.resources.disk_mb << 10
        while True:
            await asyncio.sleep(DISK_CHECK_S)
            with contextlib.suppress(EnvironmentFault):
                used = (await self.exec(["du", "-sxkc", self.workdir, "/tmp", "/home"], timeout_s=60)).stdout.split()
                if len(used) > 1 and int(used[-2]) > limit_kb:
                    await self.channel.request("kill_all")


async def start(
    spec: EnvironmentSpec, *, label: str, snapshot: Snapshot | None = None, on_event: OnEvent = ignore
) -> DockerEnvironment:
    """See EnvironmentSpec.start."""
    image = snapshot_data(snapshot, "docker")["image"] if snapshot is not None else spec.image or base_image_name()
    facts = await call("inspect an image", lambda: find_image(image))
    workdir = facts["Config"].get("WorkingDir") or WORKDIR
    container = await call("create a container", lambda: _create(spec, label, facts["Id"], workdir))
    world = None
    try:
        if snapshot is None and spec.files:
            owner = facts["Config"].get("User") or "0"
            await call("copy files", lambda: client().put_archive(container, workdir, _archive(spec, workdir, owner)))
        stream, writer = await attach(container)
        try:
            await call("start a container", lambda: _start(container, image))
        except BaseException:
            writer.close()
            raise
        world = DockerEnvironment(spec, label, container, workdir, stream, writer, on_event)
        if snapshot is not None:
            world.origin, world.shell_state_of_snapshot = image, snapshot.data.get("shells", {})
        await world.greet(_command_env(facts, spec), "/tmp")
        if snapshot is None:
            await _check_bash(world, image)
            if spec.setup:
                await world.set_up()
    except BaseException:
        await (world.close() if world is not None else remove_container(container))
        raise
    return world


async def release(snapshot: Snapshot) -> None:
    """See Snapshot.release."""
    await snapshots.release(snapshot_data(snapshot, "docker")["image"])


def _create(spec: EnvironmentSpec, label: str, image: str, workdir: str) -> str:
    from docker.types import LogConfig, Ulimit

    resources = spec.resources
    memory = resources.memory_mb << 20
    limits = {"core": 0, "nofile": 16384, "fsize": resources.disk_mb << 20}
    host = client().create_host_config(
        auto_remove=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        pids_limit=resources.pids + 16,
        mem_limit=memory,
        memswap_limit=memory,
        nano_cpus=int(min(resources.cpus, os.cpu_count() or 1) * 1e9),
        shm_size=memory // 2,
        network_mode="bridge" if spec.network == "full" else "none",
        dns=[str(PORTAL)] if spec.allow else None,
        sysctls={"net.ipv4.ip_unprivileged_port_start": "0"} if spec.allow else None,
        ipc_mode="private",
        ulimits=[Ulimit(name=name, soft=value, hard=value) for name, value in limits.items()],
        log_config=LogConfig(type="none"),
    )
    container = client().create_container(
        image,
        command=["-I", "-S", "-c", guest_program()],
        entrypoint=["python3"],
        hostname="trellis",
        working_dir=workdir,
        stdin_open=True,  # attached and open once: when this process dies, the guest sees the end of its input
        environment={},
        labels=labels(label),
        host_config=host,
    )
    return str(container["Id"])


def _start(container: str, image: str) -> None:
    from docker.errors import APIError

    try:
        client().start(container)
    except APIError as error:
        if "executable file not found" in str(error):
            raise EnvironmentFault(f"the image {image} has no python3, which a world needs") from None
        raise


async def _check_bash(world: DockerEnvironment, image: str) -> None:
    if not (await world.exec(["bash", "-c", ":"], timeout_s=60)).ok:
        raise EnvironmentFault(f"the image {image} has no bash, which a world needs")


def _command_env(image: Mapping[str, Any], spec: EnvironmentSpec) -> dict[str, str]:
    """The image's own variables, below what is the same in every world."""
    declared = dict(entry.partition("=")[::2] for entry in image["Config"].get("Env") or ())
    user = image["Config"].get("User") or "root"
    home = "/root" if user in ("root", "0") else f"/home/{user}"
    return {
        "PATH": SYSTEM_PATH, "HOME": home, "USER": user, "TMPDIR": "/tmp", "SHELL": "/bin/bash", **INTERPRETER_ENV,
        **declared,
    }  # fmt: skip


def _archive(spec: EnvironmentSpec, workdir: str, owner: str) -> bytes:
    """The files of a spec as a tar for `put_archive`."""
    uid = 0 if owner in ("root", "0") else 1000

    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = uid
        entry.uname = entry.gname = ""
        entry.mode |= 0o700 if entry.isdir() else 0o600
        return entry

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for files in spec.files:
            target = os.path.normpath(files.target)
            if target.startswith(("/", "..")):
                raise EnvironmentFault(f"the target of a file must be inside the workdir: {files.target}")
            for parent in reversed(Path(target).parents[:-1]):
                folder = tarfile.TarInfo(str(parent))
                folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(owned(folder))
            tar.add(files.source, target, filter=owned)
    return buffer.getvalue()
