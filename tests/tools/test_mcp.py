"""`mcp`: the tools of real servers, over stdio in worlds and on this machine, and over HTTP on loopback."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import os
import re
import runpy
import signal
import socket
import sys
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trellis.environments import kinds
from trellis.environments.environment import (
    Environment,
    EnvironmentFault,
    EnvironmentSpec,
    EnvironmentUnavailable,
    Files,
)
from trellis.tools.mcp import McpServer, McpTools
from trellis.tools.tool import Output, ToolError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mcp") is None, reason="the extra mcp is not installed")

HERE = Path(__file__).parent
SERVER, PLAIN = str(HERE / "mcp_server.py"), str(HERE / "mcp_plain_server.py")
LABEL = f"test-mcp-{os.getpid()}"
IN_WORLD = McpServer(name="t", command=("python3", "server.py"), timeout_s=20)
GONE = "The next call begins anew with it; what it held in memory is gone"


def plain_answer(method: str, params: dict[str, Any]) -> Any:
    """What mcp_plain_server.py answers."""
    names = runpy.run_path(PLAIN, run_name="plain")
    return names["answer"](method, params)


@asynccontextmanager
async def opened(server: McpServer) -> AsyncIterator[McpTools]:
    tools = McpTools(server)
    try:
        yield tools
    finally:
        await tools.close()


async def put(world: Environment, server: str = SERVER) -> None:
    await world.write_file("server.py", Path(server).read_bytes())


@pytest.fixture
async def tools(world: Environment) -> AsyncIterator[McpTools]:
    await put(world)
    async with opened(IN_WORLD) as tools:
        yield tools


async def test_a_world_that_was_closed_is_let_go() -> None:
    world = await EnvironmentSpec(kind="local").start(label=LABEL)
    await put(world)
    async with opened(IN_WORLD) as tools:
        assert (await tools.call(world, "t__echo", {"text": "a"})).text == "a"
        await world.close()
        held = weakref.ref(world)
        del world
        for _ in range(100):  # the connection ends in a task of its own
            gc.collect()
            if held() is None:
                break
            await asyncio.sleep(0.1)
        assert held() is None


async def test_what_a_server_offers(world: Environment, tools: McpTools) -> None:
    specs = {spec.name: spec for spec in await tools.discover(world)}
    assert list(specs)[:3] == ["t__echo", "t__names_with_dots_and_more", "t__count"]
    assert specs["t__echo"].description == "Say it again."
    assert specs["t__echo"].parameters["required"] == ["text"]
    assert specs["t__echo"].parameters["properties"]["text"] == {"title": "Text", "type": "string"}


async def test_calls_and_their_results(world: Environment, tools: McpTools) -> None:
    assert await tools.call(world, "t__echo", {"text": "ünïcödé ✓"}) == Output("ünïcödé ✓")
    assert (await tools.call(world, "t__echo", {"text": "a", "environment": "b"})).text == "ab"
    assert (await tools.call(world, "t__names_with_dots_and_more", {})).text == "reached"
    assert [(await tools.call(world, "t__count", {})).text for _ in range(3)] == ["1", "2", "3"]
    picture = await tools.call(world, "t__picture", {})
    assert (picture.text, [image.media_type for image in picture.images]) == ("", ["image/png"])
    assert picture.images[0].data.startswith(b"\x89PNG")
    broken = await tools.call(world, "t__broken_picture", {})
    assert (broken.text, broken.images) == ("[an image is a damaged PNG file: make it again]", ())
    parts = await tools.call(world, "t__parts", {})
    assert parts.text.splitlines() == [
        "a text", "[audio/wav, 5 bytes, which cannot be shown here]", "[notes: file:///notes.txt]", "inside",
    ]  # fmt: skip
    assert parts.data == {"structured": {"n": 1}}


async def test_a_server_in_a_world_acts_in_it(world: Environment, tools: McpTools) -> None:
    output = await tools.call(world, "t__write", {"path": "made.txt", "text": "by the server"})
    assert output.text == f"wrote {world.workdir}/made.txt"
    assert await world.read_file("made.txt") == b"by the server"


async def test_what_a_tool_says_went_wrong_is_an_error(world: Environment, tools: McpTools) -> None:
    refused = await tools.call(world, "t__refuse", {"reason": "not today"})
    assert refused.is_error
    assert refused.text.endswith("not today")
    wrong = await tools.call(world, "t__sleep", {"seconds": "long"})
    assert wrong.is_error
    assert "valid number" in wrong.text
    with pytest.raises(ToolError, match="the server t no longer offers t__nothing"):
        await tools.call(world, "t__nothing", {})


async def test_every_call_has_a_deadline(world: Environment) -> None:
    await put(world)
    async with opened(IN_WORLD.model_copy(update={"timeout_s": 4})) as tools:
        assert (await tools.call(world, "t__count", {})).text == "1"
        slow = asyncio.create_task(tools.call(world, "t__sleep", {"seconds": 60}))
        await asyncio.sleep(0)
        assert (await tools.call(world, "t__echo", {"text": "meanwhile"})).text == "meanwhile"
        with pytest.raises(ToolError, match="t__sleep: the server t did not answer within 4 s"):
            await slow
        assert (await tools.call(world, "t__count", {})).text == "2", "the same server"


async def test_a_server_that_dies_is_reported_and_started_again(world: Environment, tools: McpTools) -> None:
    await tools.call(world, "t__count", {})
    waiting = asyncio.create_task(tools.call(world, "t__sleep", {"seconds": 60}))
    await asyncio.sleep(0.1)
    with pytest.raises(ToolError) as caught:
        await tools.call(world, "t__crash", {"last_words": "out of luck"})
    assert re.match(r"t__crash: the server t ended: exit code 3:", str(caught.value))
    assert str(caught.value).endswith(f"out of luck. {GONE}")
    with pytest.raises(ToolError, match="t__sleep: the server t ended: exit code 3"):
        await waiting
    assert (await tools.call(world, "t__count", {})).text == "1"
    await world.exec(["kill", "-9", (await tools.call(world, "t__pid", {})).text])
    await asyncio.sleep(0.2)
    assert (await tools.call(world, "t__count", {})).text == "1", "died between calls: nobody has to know"


async def test_big_output_is_cut_and_kept(world: Environment, tools: McpTools) -> None:
    output = await tools.call(world, "t__big", {"size": 3_000_000})
    assert len(output.text) < 20_000
    assert output.text.endswith("x\nend")
    notice = re.search(r"the output is kept in (\S+) \.\.\.\]", output.text)
    assert notice is not None
    assert len(await world.read_file(notice[1])) == 3_000_000


async def test_forks_have_servers_of_their_own(world: Environment, tools: McpTools) -> None:
    assert (await tools.call(world, "t__count", {})).text == "1"
    fork = await world.fork()
    try:
        assert (await tools.call(fork, "t__count", {})).text == "1"
        assert (await tools.call(world, "t__count", {})).text == "2"
    finally:
        await fork.close()


async def test_closing_ends_the_server(world: Environment, tools: McpTools) -> None:
    pid = (await tools.call(world, "t__pid", {})).text
    runs = f"grep -q '^State:.[^ZX]' /proc/{pid}/status"
    assert (await world.exec(runs)).ok
    await tools.close()
    assert not (await world.exec(runs)).ok


async def test_a_world_that_is_gone_is_a_fault(world: Environment, tools: McpTools) -> None:
    await tools.call(world, "t__count", {})
    waiting = asyncio.create_task(tools.call(world, "t__sleep", {"seconds": 60}))
    await asyncio.sleep(0.1)
    await world.close()
    with pytest.raises(EnvironmentFault):
        await waiting
    with pytest.raises(EnvironmentFault):
        await tools.call(world, "t__count", {})


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("import sys; sys.exit('no licence')", "did not start: exit code 1: no licence"),
        ("import time; time.sleep(60)", "did not answer within 1 s"),
        ("print('hello')", "did not start: exit code 0"),
        ("while True: print('x' * 1000)", "did not answer within 1 s"),
        ("import sys\nwhile True: sys.stdout.write('x' * 1000000)", "sent a message of more than 64 MiB"),
    ],
)
async def test_a_server_that_does_not_start_is_a_fault_that_says_why(world: Environment, script: str, why: str) -> None:
    await world.write_file("server.py", script.encode())
    limit = 1 if why.endswith("1 s") else 30
    async with opened(IN_WORLD.model_copy(update={"start_timeout_s": limit})) as tools:
        with pytest.raises(EnvironmentFault) as caught:
            await tools.discover(world)
    assert str(caught.value).startswith("the MCP server t cannot be used: ")
    assert why in str(caught.value)


async def test_no_such_program(world: Environment) -> None:
    async with opened(McpServer(name="t", command=("no-such-program",))) as tools:
        with pytest.raises(EnvironmentFault, match=r"cannot be used: did not start: exit code 127: no-such-program: "):
            await tools.discover(world)
    async with opened(McpServer(name="t", command=("no-such-program",), where="host")) as tools:
        with pytest.raises(EnvironmentFault, match=r"did not start: no-such-program: No such file or directory"):
            await tools.discover(world)


@pytest.mark.docker
async def test_a_server_of_the_older_kind_in_a_container() -> None:
    try:
        world = await EnvironmentSpec(kind="docker", files=(Files(PLAIN, "server.py"),)).start(label=LABEL)
    except EnvironmentUnavailable as reason:
        pytest.skip(f"no docker: {reason}")
    try:
        async with opened(IN_WORLD) as tools:
            assert [spec.name for spec in await tools.discover(world)] == ["t__echo", "t__fail"], "two pages"
            assert await tools.call(world, "t__echo", {"text": "ünïcödé"}) == Output("ünïcödé")
            assert await tools.call(world, "t__fail", {}) == Output("failed", is_error=True)
    finally:
        await world.close()
        await kinds.reap(LABEL)


# --- outside the worlds ---


@pytest.fixture
async def local() -> AsyncIterator[Environment]:
    world = await EnvironmentSpec(kind="local").start(label=LABEL)
    yield world
    await world.close()


async def test_a_server_on_the_host(local: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    server = McpServer(name="h", command=(sys.executable, SERVER), where="host", env={"GIVEN": "1"})
    async with opened(server) as tools:
        assert (await tools.call(local, "h__count", {})).text == "1"
        fork = await local.fork()
        assert (await tools.call(fork, "h__count", {})).text == "2", "one server for all worlds"
        await fork.close()
        pid = int((await tools.call(local, "h__pid", {})).text)
        variables = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"GIVEN=1" in variables
        assert b"secret" not in variables
        os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.2)
        assert (await tools.call(local, "h__count", {})).text == "1"
        pid = int((await tools.call(local, "h__pid", {})).text)
    assert not Path(f"/proc/{pid}").exists()


@asynccontextmanager
async def http_server() -> AsyncIterator[tuple[str, Any]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, SERVER, "http", str(port), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                break
        yield f"http://127.0.0.1:{port}/mcp", process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_server_over_http(local: Environment) -> None:
    async with http_server() as (url, process), opened(McpServer(name="w", url=url, timeout_s=4)) as tools:
        assert "w__echo" in [spec.name for spec in await tools.discover(local)]
        assert (await tools.call(local, "w__echo", {"text": "ünïcödé ✓"})).text == "ünïcödé ✓"
        assert (await tools.call(local, "w__picture", {})).images
        assert (await tools.call(local, "w__refuse", {"reason": "no"})).is_error
        assert len((await tools.call(local, "w__big", {"size": 900_000})).text) < 20_000
        with pytest.raises(ToolError, match="did not answer within 4 s"):
            await tools.call(local, "w__sleep", {"seconds": 60})
        process.kill()
        await process.wait()
        with pytest.raises(ToolError, match="w__echo: the server w "):
            await tools.call(local, "w__echo", {"text": "x"})


async def test_a_session_that_the_server_forgot_is_begun_anew(local: Environment) -> None:
    """A server of the older kind, with sessions, behind plain HTTP."""
    sessions: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if request["method"] == "initialize":
                sessions.append(f"session-{len(sessions)}")
            elif self.headers.get("Mcp-Session-Id") not in sessions[-1:]:
                return self.reply(404 if "Mcp-Session-Id" in self.headers else 400, b"")
            if "id" not in request:
                return self.reply(202, b"")
            result = plain_answer(request["method"], request.get("params") or {})
            return self.reply(200, json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode())

        def do_GET(self) -> None:
            self.reply(405, b"")

        do_DELETE = do_GET

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if sessions:
                self.send_header("Mcp-Session-Id", sessions[-1])
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        async with opened(McpServer(name="w", url=f"http://127.0.0.1:{httpd.server_port}/mcp")) as tools:
            assert (await tools.call(local, "w__echo", {"text": "x"})).text == "x"
            sessions.append("another, as after a restart")
            with pytest.raises(ToolError, match="w__echo: the server w ended: Session terminated"):
                await tools.call(local, "w__echo", {"text": "x"})
            assert (await tools.call(local, "w__echo", {"text": "y"})).text == "y"
    finally:
        httpd.shutdown()
        httpd.server_close()


async def test_nobody_at_the_url(local: Environment) -> None:
    async with opened(McpServer(name="w", url="http://127.0.0.1:9/mcp", start_timeout_s=5)) as tools:
        with pytest.raises(EnvironmentFault, match="the MCP server w cannot be used: did not start: "):
            await tools.discover(local)


# --- names and settings ---


async def test_names_are_cut_and_stay_apart(local: Environment) -> None:
    tools = McpTools(McpServer(name="a-server-with-quite-a-long-name", command=("x",)))
    long = [tools._shown("a_tool_with_an_even_longer_name_that_goes_on_" + end) for end in ("one", "two")]
    assert all(len(name) == 64 and re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in long)
    assert long[0] != long[1]
    await put(local, PLAIN)
    await local.exec('sed -i \'s/("echo", "fail")/("a.b", "a b")/\' server.py')
    async with opened(IN_WORLD) as tools:
        with pytest.raises(EnvironmentFault, match="has several tools that would be called t__a_b"):
            await tools.discover(local)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"name": "a"}, "needs a command or a url, one of the two"),
        ({"name": "a", "command": ["x"], "url": "http://x"}, "needs a command or a url, one of the two"),
        ({"name": "a", "url": "http://x", "where": "world"}, "nothing is started: leave out `env` and `where`"),
        ({"name": "a b", "command": ["x"]}, "'a b' is no name: letters, digits"),
        ({"name": "a", "url": "ftp://x"}, "'ftp://x' is no URL: it begins with http"),
        ({"name": "a", "command": ["x"], "retries": 3}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        McpServer.model_validate(settings)
