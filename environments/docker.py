"""`docker`: a container as the world.

The guest is the container's main process, fed over one attached connection; no `docker exec`, so a command costs what
it costs in the container. Calls of the SDK block, so they run in threads of their own, each with a deadline.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import io
import os
import socket
import tarfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from trellis.environments.base_image import base_image_name
from trellis.environments.channel import Channel, ChannelEnvironment, snapshot_data
from trellis.environments.environment import EnvironmentFault, EnvironmentSpec, EnvironmentUnavailable, Snapshot
from trellis.environments.launch import INTERPRETER_ENV, SYSTEM_PATH
from trellis.environments.program import guest_program
from trellis.environments.store import in_use, process_start

LABEL, OWNER = "trellis.label", "trellis.owner"
WORKDIR = "/work"
CALL_TIMEOUT_S = 120.0
COMMIT_TIMEOUT_S = 600.0
DISK_CHECK_S = 15.0
LOG_BYTES = 4000

T = TypeVar("T")

_threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="docker")
_client: Any = None


def client() -> Any:
    """The low-level client of the engine that DOCKER_HOST names, or of the local one.

    Raises:
        EnvironmentUnavailable: there is no SDK, or no engine answers.
    """
    global _client
    if _client is None:
        try:
            import docker
            from docker.utils import kwargs_from_env
        except ImportError:
            raise EnvironmentUnavailable("docker needs the Python package `docker`: pip install docker") from None
        try:
            _knock(kwargs_from_env().get("base_url") or "unix:///var/run/docker.sock")
            _client = docker.APIClient(**kwargs_from_env(), version="auto", timeout=int(CALL_TIMEOUT_S))
            atexit.register(_client.close)
        except (docker.errors.DockerException, OSError) as error:
            raise EnvironmentUnavailable(
                f"no Docker engine answers (is it running, may this user reach it?): {_first_line(error)}"
            ) from None
    return _client


def _knock(url: str) -> None:
    """Raises OSError where nobody listens: the SDK would leave its socket open then."""
    scheme, _, path = url.partition("://")
    if scheme.endswith("unix"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CALL_TIMEOUT_S)
            probe.connect("/" + path.lstrip("/"))


async def call(what: str, function: Callable[[], T], timeout_s: float = CALL_TIMEOUT_S) -> T:
    """Run a blocking call of the SDK.

    Raises:
        EnvironmentFault: it failed or did not come back in time.
    """
    try:
        async with asyncio.timeout(timeout_s + 10):
            return await asyncio.get_running_loop().run_in_executor(_threads, function)
    except TimeoutError:
        raise EnvironmentFault(f"docker did not {what} within {timeout_s:g} s") from None
    except EnvironmentFault:
        raise
    except Exception as error:
        if not _is_of_the_engine(error):
            raise
        raise EnvironmentFault(f"docker could not {what}: {_first_line(error)}") from error


def _is_of_the_engine(error: Exception) -> bool:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    return isinstance(error, DockerException | RequestException | OSError)


def _first_line(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error).strip().partition("\n")[0]


class _Demultiplexer:
    """The container's standard output; its standard error is kept as the log."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._output = bytearray()
        self._log = bytearray()

    async def readexactly(self, n: int, /) -> bytes:
        while len(self._output) < n:
            header = await self._stream.readexactly(8)
            data = await self._stream.readexactly(int.from_bytes(header[4:], "big"))
            if header[0] == 1:
                self._output += data
            else:
                self._log = (self._log + data)[-LOG_BYTES:]
        data = bytes(self._output[:n])
        del self._output[:n]
        return data

    def log(self) -> str:
        return self._log.decode("utf-8", "replace")


class DockerEnvironment(ChannelEnvironment):
    def __init__(
        self, spec: EnvironmentSpec, label: str, container: str, workdir: str, stream: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        reader = _Demultiplexer(stream)
        super().__init__(spec, Channel(f"container {container[:12]}", reader, writer, reader.log), workdir)
        self._label = label
        self._container = container
        self._disk_watch = asyncio.create_task(self._watch_disk(), name="watch the disk of a container")
        self._closing: asyncio.Task[None] | None = None

    async def snapshot(self) -> Snapshot:
        def commit() -> str:
            image = client().commit(self._container, conf={"Labels": _labels(self._label)})
            return str(image["Id"])

        image = await call("commit a container", commit, COMMIT_TIMEOUT_S)
        return Snapshot("docker", image, {"image": image})

    async def fork(self, snapshot: Snapshot | None = None) -> DockerEnvironment:
        return await start(self.spec, label=self._label, snapshot=snapshot or await self.snapshot())

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="close a container")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._disk_watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._disk_watch
        await self.channel.close()
        await _remove_container(self._container)

    async def _watch_disk(self) -> None:
        limit_kb = self.spec.resources.disk_mb << 10
        while True:
            await asyncio.sleep(DISK_CHECK_S)
            with contextlib.suppress(EnvironmentFault):
                used = (await self.exec(["du", "-sxkc", self.workdir, "/tmp", "/home"], timeout_s=60)).stdout.split()
                if len(used) > 1 and int(used[-2]) > limit_kb:
                    await self.channel.request("kill_all")


async def start(spec: EnvironmentSpec, *, label: str, snapshot: Snapshot | None = None) -> DockerEnvironment:
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
        stream, writer = await _attach(container)
        try:
            await call("start a container", lambda: _start(container, image))
        except BaseException:
            writer.close()
            raise
        world = DockerEnvironment(spec, label, container, workdir, stream, writer)
        await world.greet(_command_env(facts, spec), "/tmp")
        if snapshot is None:
            await _check_bash(world, image)
            if spec.setup:
                await world.set_up()
    except BaseException:
        await (world.close() if world is not None else _remove_container(container))
        raise
    return world


def find_image(image: str) -> Mapping[str, Any]:
    """What the engine knows about an image.

    Raises:
        EnvironmentUnavailable: it is not there.
    """
    from docker.errors import ImageNotFound

    try:
        facts: Mapping[str, Any] = client().inspect_image(image)
    except ImageNotFound:
        how = "trellis doctor --build-image" if image == base_image_name() else f"docker pull {image}"
        raise EnvironmentUnavailable(f"the Docker image {image} is not here: {how}") from None
    return facts


def _labels(label: str) -> dict[str, str]:
    return {LABEL: label, OWNER: f"{os.getpid()} {process_start(os.getpid())}"}


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
        labels=_labels(label),
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


async def _attach(container: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The container's three streams as one connection.

    By hand: the SDK would hand out the socket of a response that it goes on to own.
    """
    async with asyncio.timeout(CALL_TIMEOUT_S):
        stream, writer = await _connect()
        version = client().api_version
        writer.write(
            f"POST /v{version}/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\n"
            "Host: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode()
        )
        head = await stream.readuntil(b"\r\n\r\n")
    if head.split(maxsplit=2)[1] not in (b"101", b"200"):
        writer.close()
        raise EnvironmentFault(f"docker could not attach to a container: {head.splitlines()[0].decode()}")
    return stream, writer


async def _connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    from docker.utils import parse_host

    scheme, _, place = str(parse_host(os.environ.get("DOCKER_HOST"))).partition("://")
    if scheme == "http+unix":
        return await asyncio.open_unix_connection(place)
    if scheme == "http":
        host, _, port = place.partition(":")
        return await asyncio.open_connection(host, int(port))
    raise EnvironmentUnavailable("docker: only engines at unix:// or plain tcp:// addresses are supported")


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


async def _remove_container(container: str) -> None:
    """Return when it is gone, whoever removes it."""
    from docker.errors import APIError, NotFound

    def remove() -> None:
        try:
            client().remove_container(container, force=True, v=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409:
                raise
            with contextlib.suppress(NotFound):  # it ended and is being removed already
                client().wait(container, timeout=CALL_TIMEOUT_S, condition="removed")

    await call("remove a container", remove)


async def labelled(label: str, *, dead_only: bool) -> list[tuple[str, bool]]:
    """Containers and snapshots whose label is `label` or begins with `label/` (all for "") and whose owner is dead, or,
    unless `dead_only`, this process: id, and whether it is an image. Containers come first."""

    def ours(labels: Mapping[str, str] | None) -> bool:
        found = (labels or {}).get(LABEL, "")
        pid, _, began = (labels or {}).get(OWNER, "").partition(" ")
        free = not in_use(int(pid or 0), began, dead_only=dead_only)
        return free and (not label or found == label or found.startswith(f"{label}/"))

    def find() -> list[tuple[str, bool]]:
        by_owner = {"label": OWNER}
        containers = client().containers(all=True, filters=by_owner)
        images = client().images(all=True, filters=by_owner)
        return [
            (found["Id"], is_image)
            for is_image, some in ((False, containers), (True, images))
            for found in some
            if ours(found["Labels"])
        ]

    return await call("list containers", find)


async def reap(label: str, *, dead_only: bool) -> int:
    """Remove what is `labelled`; how many there were."""
    found = await labelled(label, dead_only=dead_only)
    for identity, is_image in found:
        if is_image:
            await _remove_image(identity)
        else:
            await _remove_container(identity)
    return len(found)


async def _remove_image(image: str) -> None:
    from docker.errors import APIError

    def remove() -> None:
        with contextlib.suppress(APIError):  # gone already, or a later snapshot of another label builds on it
            client().remove_image(image, force=True)

    await call("remove an image", remove)
