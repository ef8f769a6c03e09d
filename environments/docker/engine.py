"""The Docker engine: its client, calls with deadlines, one attached connection per container, and what is left over.

Calls of the SDK block, so they run in threads of their own.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from trellis.environments.docker.base_image import base_image_name
from trellis.environments.environment import EnvironmentFault, EnvironmentUnavailable
from trellis.environments.leftovers import Leftover, What
from trellis.environments.store import in_use, process_start

LABEL, OWNER, BUILT = "trellis.label", "trellis.owner", "trellis.built"
CALL_TIMEOUT_S = 120.0
COMMIT_TIMEOUT_S = 600.0
REMOVAL_POLL_S = 0.05
STOP_POLL_S = 0.1
LOG_BYTES = 4000

T = TypeVar("T")

_threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="docker")
_threads_for_long = ThreadPoolExecutor(max_workers=32, thread_name_prefix="docker, long")
"""For builds, copies and commits: they must not keep a container from being removed."""
_clients: dict[float, Any] = {}


def client(timeout_s: float = CALL_TIMEOUT_S) -> Any:
    """The low-level client of the engine that DOCKER_HOST names, or of the local one; it waits so long for an answer.

    Raises:
        EnvironmentUnavailable: there is no SDK, or no engine answers.
    """
    if timeout_s not in _clients:
        try:
            import docker
            from docker.utils import kwargs_from_env
        except ImportError:
            raise EnvironmentUnavailable("docker needs the Python package `docker`: pip install docker") from None
        try:
            _knock(kwargs_from_env().get("base_url") or "unix:///var/run/docker.sock")
            made = docker.APIClient(**kwargs_from_env(), version="auto", timeout=int(timeout_s))
            atexit.register(made.close)
            _clients[timeout_s] = made
        except (docker.errors.DockerException, OSError) as error:
            raise EnvironmentUnavailable(
                f"no Docker engine answers (is it running, may this user reach it?): {_first_line(error)}"
            ) from None
    return _clients[timeout_s]


def _knock(url: str) -> None:
    """Raises OSError where nobody listens: the SDK would leave its socket open then."""
    scheme, _, path = url.partition("://")
    if scheme.endswith("unix"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CALL_TIMEOUT_S)
            probe.connect("/" + path.lstrip("/"))


async def call(
    what: str, function: Callable[[], T], timeout_s: float = CALL_TIMEOUT_S, stop: Callable[[], None] | None = None
) -> T:
    """Run a blocking call of the SDK. It goes on when its time is up or whoever waits is cancelled; unless it can be
    told to `stop`, again and again until it has ended, which is then waited for.

    Raises:
        EnvironmentFault: it failed or did not come back in time.
    """
    running = (_threads if timeout_s <= CALL_TIMEOUT_S else _threads_for_long).submit(function)
    try:
        async with asyncio.timeout(timeout_s + 10):
            return await asyncio.wrap_future(running)
    except TimeoutError:
        raise EnvironmentFault(f"docker did not {what} within {timeout_s:g} s") from None
    except EnvironmentFault:
        raise
    except Exception as error:
        if not _is_of_the_engine(error):
            raise
        raise EnvironmentFault(f"docker could not {what}: {_first_line(error)}") from error
    finally:
        while stop is not None and not running.done():
            with contextlib.suppress(EnvironmentFault):  # the engine is gone, and so will be the call
                await call("stop", stop)
            await asyncio.sleep(STOP_POLL_S)


async def create(what: str, function: Callable[[], str], remove: Callable[[str], Awaitable[None]]) -> str:
    """A `call` that makes something, of which nothing stays if whoever waits is cancelled; its id."""
    making = asyncio.create_task(call(what, function))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        with contextlib.suppress(EnvironmentFault):
            await remove(await making)
        raise


def _is_of_the_engine(error: Exception) -> bool:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    return isinstance(error, DockerException | RequestException | OSError)


def _first_line(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error).strip().partition("\n")[0]


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


def scratch_folder() -> str | None:
    """For archives on their way to the engine: on a disk, where there is one, rather than in memory."""
    return "/var/tmp" if Path("/var/tmp").is_dir() else None


def labels(label: str) -> dict[str, str]:
    return {LABEL: label, OWNER: f"{os.getpid()} {process_start(os.getpid())}"}


async def attach(container: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The container's three streams as one connection.

    By hand: the SDK would hand out the socket of a response that it goes on to own.

    Raises:
        EnvironmentFault: the engine did not do it.
    """
    writer = None
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            stream, writer = await _connect()
            writer.write(
                f"POST /v{client().api_version}/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1 "
                "HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode()
            )
            head = await stream.readuntil(b"\r\n\r\n")
        if head.split(maxsplit=2)[1] not in (b"101", b"200"):
            raise ValueError(head.partition(b"\r\n")[0].decode("utf-8", "replace"))
    except BaseException as error:
        if writer is not None:
            writer.close()
        if isinstance(error, OSError | EOFError | ValueError | IndexError | asyncio.LimitOverrunError):
            raise EnvironmentFault(f"docker could not attach to a container: {str(error) or 'no answer'}") from error
        raise
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


class Demultiplexer:
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


async def remove_container(container: str) -> None:
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
            _until_removed(container)  # it ended and is being removed already

    await call("remove a container", remove)


def _until_removed(container: str) -> None:
    """Look again and again: the engine's own wait for a removal can miss it, and then lasts for ever."""
    from docker.errors import NotFound

    deadline = time.monotonic() + CALL_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            client().inspect_container(container)
        except NotFound:
            return
        time.sleep(REMOVAL_POLL_S)
    raise EnvironmentFault(f"docker did not remove container {container[:12]} within {CALL_TIMEOUT_S:g} s")


async def remove_network(network: str) -> None:
    """Return when it is gone, whoever removes it."""
    from docker.errors import NotFound

    def remove() -> None:
        with contextlib.suppress(NotFound):
            client().remove_network(network)

    await call("remove a network", remove)


async def labelled(label: str, *, dead_only: bool) -> list[Leftover]:
    """Containers, networks and snapshots whose label is `label` or begins with `label/` (all for "") and whose owner is
    dead, or, unless `dead_only`, this process; in an order in which they can be removed."""

    def ours(marks: Mapping[str, str]) -> bool:
        if not marks.get(OWNER):  # images that were built for later starts have no owner
            return False
        found = marks.get(LABEL, "")
        pid, _, began = marks[OWNER].partition(" ")
        free = not in_use(int(pid), began, dead_only=dead_only)
        return free and (not label or found == label or found.startswith(f"{label}/"))

    def find() -> list[Leftover]:
        by_owner = {"label": OWNER}
        listed: tuple[tuple[What, Any], ...] = (
            ("container", client().containers(all=True, filters=by_owner)),
            ("network", client().networks(filters=by_owner)),
            ("snapshot", client().images(all=True, filters=by_owner)),
        )
        return [
            Leftover(what, "engine", found["Id"], found["Labels"].get(LABEL, ""))
            for what, some in listed
            for found in some
            if ours(found["Labels"] or {})
        ]

    return await call("list what has a label", find)


async def remove_image(image: str) -> None:
    from docker.errors import APIError

    def remove() -> None:
        with contextlib.suppress(APIError):  # gone already, or a later snapshot of another label builds on it
            client().remove_image(image, force=True)

    await call("remove an image", remove)
