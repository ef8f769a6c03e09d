"""Calls of the Docker engine: what fails, what takes long, and what is cancelled on its way."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from trellis.environments import content, describe
from trellis.environments.docker import container, dockerfile, engine, images, isolation, snapshots
from trellis.environments.docker.compose import Project, Service
from trellis.environments.docker.dockerfile import BUILDING
from trellis.environments.docker.services import Services
from trellis.environments.docker.world import DockerEnvironment
from trellis.environments.environment import EnvironmentFault, EnvironmentSpec, Resources, ignore

LABEL = f"test-{os.getpid()}/engine"
FROM_BASE = "ARG TRELLIS_BASE\nFROM $TRELLIS_BASE\n"
docker_needed = pytest.mark.docker

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


# --- an engine that is slow or answers nonsense ---


@asynccontextmanager
async def engine_that(answers: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """`answers` is given the first line of each request."""

    serving: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving[asyncio.current_task()] = writer
        try:
            while request := (await reader.readuntil(b"\r\n\r\n")).decode():
                lengths = [line for line in request.splitlines() if line.lower().startswith("content-length:")]
                await reader.readexactly(sum(int(line.partition(":")[2]) for line in lengths))
                await answers(request.splitlines()[0], writer)
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "engine")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine")
    clients: dict[float, Any] = {}
    monkeypatch.setattr(engine, "_clients", clients)
    try:
        yield
    finally:
        for each in clients.values():
            each.close()
        server.close()
        for writer in serving.values():
            writer.close()
        await asyncio.gather(*filter(None, serving))


def reply(writer: asyncio.StreamWriter, body: str, status: str = "200 OK") -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write((head + body).encode())


ATTACH = {
    "nothing": ("", "docker could not attach to a container"),
    "an error": ("HTTP/1.1 404 Not Found\r\n\r\n", "could not attach to a container: HTTP/1.1 404 Not Found"),
    "nonsense": ("\r\n\r\n", "docker could not attach to a container"),
    "too much": ("x" * 1_000_000, "docker could not attach to a container"),
    "silence": (None, "docker could not attach to a container: no answer"),
}


@docker_needed
@pytest.mark.parametrize("case", ATTACH)
async def test_an_engine_that_does_not_attach(
    docker: None, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, message = ATTACH[case]
    monkeypatch.setattr(engine, "CALL_TIMEOUT_S", 2.0)

    async def answers(request: str, writer: asyncio.StreamWriter) -> None:
        if request.startswith("GET /version"):
            reply(writer, '{"ApiVersion": "1.41"}')
        elif said is not None:
            writer.write(said.encode())
            writer.close()

    async with engine_that(answers, tmp_path, monkeypatch):
        await engine.call("connect", engine.client)
        with pytest.raises(EnvironmentFault, match=message):
            await engine.attach("some-container")


async def test_a_removal_that_is_under_way_is_looked_at_until_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's own wait for it can last for ever, and this one's does."""
    asked = []

    async def answers(request: str, writer: asyncio.StreamWriter) -> None:
        asked.append(request.split()[0])
        if request.startswith("GET /version"):
            reply(writer, '{"ApiVersion": "1.41"}')
        elif request.startswith("DELETE"):
            reply(writer, '{"message": "removal is already in progress"}', "409 Conflict")
        elif len(asked) > 4:
            reply(writer, '{"message": "no such container"}', "404 Not Found")
        else:
            reply(writer, "{}")

    async with engine_that(answers, tmp_path, monkeypatch):
        await engine.remove_container("some-container")
    assert asked == ["GET", "DELETE", "GET", "GET", "GET"]


@docker_needed
async def test_a_commit_may_take_longer_than_other_calls(
    docker: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CALL_TIMEOUT_S", 1.0)
    monkeypatch.setattr(engine.client, "__defaults__", (1.0,))

    async def answers(request: str, writer: asyncio.StreamWriter) -> None:
        if request.startswith("GET /version"):
            reply(writer, '{"ApiVersion": "1.41"}')
        else:
            await asyncio.sleep(2 if "/commit" in request or "slow" in request else 0)
            reply(writer, '{"Id": "made"}')

    async with engine_that(answers, tmp_path, monkeypatch):
        assert await snapshots.commit(["some-container"], LABEL, 100) == ["made"]
        with pytest.raises(EnvironmentFault, match="timed out"):
            await engine.call("inspect a container", lambda: engine.client().inspect_container("slow"))


@docker_needed
async def test_of_captures_that_belong_together_all_stay_or_none(docker: None) -> None:
    label = f"{LABEL}/together"
    world = await EnvironmentSpec(kind="docker").start(label=label)
    assert isinstance(world, DockerEnvironment)
    with pytest.raises(EnvironmentFault, match="commit a container"):
        await snapshots.commit([world._container, "no-such-container"], label, 100)
    assert {left.what for left in await engine.labelled(label, dead_only=False)} == {"container"}
    await world.close()


# --- whoever waits is cancelled ---


async def test_what_is_made_for_somebody_who_has_gone_is_removed() -> None:
    begun, removed = threading.Event(), []

    def make() -> str:
        begun.set()
        time.sleep(0.5)
        return "made"

    async def remove(made: str) -> None:
        removed.append(made)

    making = asyncio.create_task(engine.create("make something", make, remove))
    await asyncio.to_thread(begun.wait)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert removed == ["made"]


@docker_needed
async def test_a_start_that_is_cancelled_leaves_no_container(docker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, create = threading.Event(), container.create

    def slow(*arguments: Any) -> str:
        begun.set()
        time.sleep(0.5)
        return create(*arguments)

    monkeypatch.setattr(container, "create", slow)
    starting = asyncio.create_task(EnvironmentSpec(kind="docker").start(label=f"{LABEL}/cancelled"))
    await asyncio.to_thread(begun.wait)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert await engine.labelled(f"{LABEL}/cancelled", dead_only=False) == []


@docker_needed
async def test_a_build_that_is_cancelled_has_ended(docker: None, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"{FROM_BASE}RUN sleep 3000.{os.getpid()}\n")
    recipe = dockerfile.read(dockerfile.Build(str(tmp_path)), "none")
    mark = dockerfile.mark_of(recipe.key("none"))

    async def steps() -> list[Any]:
        return await engine.call("ask", lambda: engine.client().containers(filters={"label": f"{BUILDING}={mark}"}))

    starting = asyncio.create_task(EnvironmentSpec(kind="docker", dockerfile=str(tmp_path)).start(label=LABEL))
    async with asyncio.timeout(60):
        while not await steps():
            assert not starting.done()
            await asyncio.sleep(0.1)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert await steps() == []
    assert not await images.ImageCache().has(recipe.key("none"))


async def test_one_service_that_cannot_be_removed_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    removed = []

    async def remove(made: str) -> None:
        if made == "first":
            raise EnvironmentFault("docker could not remove a container")
        await asyncio.sleep(0.1)
        removed.append(made)

    monkeypatch.setattr("trellis.environments.docker.services.remove_container", remove)
    monkeypatch.setattr("trellis.environments.docker.services.remove_network", remove)
    services = Services(Project("compose.yaml", Service("agent"), ()), EnvironmentSpec(), LABEL, ignore)
    services._containers, services.network = {"a": "first", "b": "second"}, "network"
    with pytest.raises(EnvironmentFault, match="could not remove"):
        await services.close()
    assert removed == ["second", "network"]


# --- snapshots ---


@docker_needed
async def test_holes_are_looked_for_while_nothing_can_be_written(docker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    label, paused, check_holes = f"{LABEL}/holes", list[bool](), isolation.check_holes

    def check(*arguments: Any) -> None:
        mine = {"label": f"{engine.LABEL}={label}"}
        paused.extend("Paused" in found["Status"] for found in engine.client().containers(filters=mine))
        check_holes(*arguments)

    monkeypatch.setattr(snapshots, "check_holes", check)
    world = await EnvironmentSpec(kind="docker", resources=Resources(disk_mb=20)).start(label=label)
    await world.exec("truncate -s 15M one two three")
    with pytest.raises(EnvironmentFault, match="cannot be captured"):
        await world.snapshot()
    assert (await world.exec("rm two; echo goes on")).stdout == b"goes on\n"
    await (await world.snapshot()).release()
    await world.close()
    assert paused == [True, True]


# --- builds ---


@docker_needed
async def test_what_a_build_prints_does_not_steer_the_terminal(
    docker: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    octal = r"\033]0;title\007\033[31;1mred\033[2J\033[?25l\rnext"
    (tmp_path / "Dockerfile").write_text(f"{FROM_BASE}RUN printf '{octal}\\n{os.getpid()}\\n'; exit 3\n")
    with pytest.raises(EnvironmentFault, match=f"the end of its output: rednext\n{os.getpid()}") as caught:
        await EnvironmentSpec(kind="docker", dockerfile=str(tmp_path)).start(label=LABEL)
    printed = capsys.readouterr().err
    assert "rednext\n" in printed
    for text in (printed, str(caught.value)):
        assert all(sign == "\n" or sign.isprintable() for sign in text)


@docker_needed
async def test_what_a_build_reads_is_not_read_in_the_event_loop(
    docker: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Dockerfile").write_text(f"{FROM_BASE}LABEL of={os.getpid()}\n")
    readers = set[threading.Thread]()

    def watched(*arguments: Any) -> str:
        readers.add(threading.current_thread())
        return content.tree_digest(*arguments)

    monkeypatch.setattr(dockerfile, "tree_digest", watched)
    spec = EnvironmentSpec(kind="docker", dockerfile=str(tmp_path))
    assert (await describe.describe(spec))["dockerfile"]["sha256"]
    await (await spec.start(label=LABEL)).close()
    assert readers
    assert threading.current_thread() not in readers
