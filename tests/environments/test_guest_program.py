"""The guest as a text: what a container of any image runs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from trellis.environments.channel import Channel, ChannelEnvironment
from trellis.environments.environment import EnvironmentFault, EnvironmentSpec
from trellis.environments.guest.main import FRAME
from trellis.environments.guest.program import guest_program

PYTHONS = sorted({str(path.resolve()) for path in [Path(sys.executable), Path("/usr/bin/python3")] if path.exists()})
OLDEST = sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python3"))


@pytest.mark.parametrize("python", [*PYTHONS, *map(str, OLDEST)])
async def test_it_runs_on_any_python(python: str, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs, (tmp_path / "log").open("wb") as log:
        guest = subprocess.Popen(
            [python, "-I", "-S", "-c", guest_program()],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=log,
            env={},
        )
    reader, writer = await asyncio.open_connection(sock=ours)
    channel = Channel("a guest", reader, writer, (tmp_path / "log").read_text)
    world = ChannelEnvironment(EnvironmentSpec(), channel, str(tmp_path))
    await world.greet({"PATH": os.environ["PATH"]}, str(tmp_path))
    shell = await world.open_shell()
    assert (await shell.run("echo hi; exit 3")).exit_code == 3
    assert (await world.exec("sleep 60", timeout_s=0.2)).timed_out
    assert len((await world.exec("seq 1 600000")).spilled) == 1
    await world.write_file("a/b", b"data")
    assert await world.read_file("a/b") == b"data"
    await channel.close()
    assert guest.wait(10) == 0


async def test_a_guest_that_dies_tells_everybody_why(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs, (tmp_path / "log").open("wb") as log:
        script = "import sys, time; sys.stdin.buffer.read(20); sys.exit('out of luck')"
        command = [sys.executable, "-I", "-c", script]
        guest = subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=log)
    reader, writer = await asyncio.open_connection(sock=ours)
    channel = Channel("a guest", reader, writer, (tmp_path / "log").read_text)
    waiting = [asyncio.create_task(channel.request("ping")) for _ in range(3)]
    for request in waiting:
        with pytest.raises(EnvironmentFault, match="a guest is gone; the end of its log: out of luck"):
            await request
    with pytest.raises(EnvironmentFault, match="out of luck"):
        await channel.request("ping")
    await channel.close()
    guest.wait(10)


async def test_a_guest_that_talks_nonsense_is_a_fault() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    channel = Channel("a guest", reader, writer, lambda: "")
    request = asyncio.create_task(channel.request("ping"))
    await asyncio.sleep(0.05)
    theirs.sendall(FRAME.pack(4, 0) + b"{{{{")
    with pytest.raises(EnvironmentFault, match="is gone"):
        await request
    theirs.close()
    await channel.close()


async def test_a_silent_guest_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trellis.environments.channel.GRACE_S", 0.1)
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    channel = Channel("a guest", reader, writer, lambda: "")
    with pytest.raises(EnvironmentFault, match=r"did not answer within 0\.2 s"):
        await channel.request("ping", timeout_s=0.1)
    theirs.close()
    await channel.close()


async def test_who_waits_for_a_silent_guest_is_told_when_it_is_closed() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    channel = Channel("a guest", reader, writer, lambda: "")
    waiting = [asyncio.create_task(action) for action in (channel.request("ping"), channel.stream(7).read())]
    await asyncio.sleep(0)
    await channel.close(timeout_s=0.1)
    await channel.close()
    done, _ = await asyncio.wait(waiting, timeout=60)
    assert [str(task.exception()) for task in waiting if task in done] == ["a guest is gone: closed"] * 2
    theirs.close()


async def test_what_fails_on_a_stream_from_inside_is_not_blamed_on_the_guest() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    channel = Channel("a guest", reader, writer, lambda: "")
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    channel.on_stream = lambda _, facts: facts["no such fact"]
    request = asyncio.create_task(channel.request("ping"))
    await asyncio.sleep(0)
    for frame in ({"stream": -1, "what": "opened", "facts": {}}, {"id": 1}):
        header = json.dumps(frame).encode()
        theirs.sendall(FRAME.pack(len(header), 0) + header)
    await request
    assert [type(failure) for failure in failures] == [KeyError]
    theirs.close()
    await channel.close()


async def test_a_failing_guest_is_a_fault_that_shows_why() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    channel = Channel("a guest", reader, writer, lambda: "")
    request = asyncio.create_task(channel.request("ping"))
    await asyncio.sleep(0.05)
    answer = json.dumps({"id": 1, "broken": "Traceback: our own bug"}).encode()
    theirs.sendall(FRAME.pack(len(answer), 0) + answer)
    with pytest.raises(EnvironmentFault, match="our own bug"):
        await request
    theirs.close()
    await channel.close()


def test_the_image_recipe_has_the_versions_of_the_constraints() -> None:
    root = Path(__file__).parents[2]
    pinned = {line.partition(" ;")[0] for line in (root / "constraints.txt").read_text().splitlines()}
    recipe = (root / "environments/docker/recipe/requirements.txt").read_text().split()
    assert not set(recipe) - pinned
    assert shutil.which("sh")
    subprocess.run(["sh", "-n", root / "environments/docker/recipe/debootstrap.sh"], check=True)
