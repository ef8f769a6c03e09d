"""`trellis run` as a user has it, against a server of the user's own: with a wrong key, with the right one, and with a
server that dies in the middle and comes back. The server counts what it is asked."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ..wire.chat_wire import ChatServer
from ..wire.loopback import Fault, Loopback, Request, Response
from .conftest import Ran

pytestmark = [pytest.mark.wire]

KEY = "sk-test-0123456789abcdef"
DEADLINE_S = 120
TASKS = 53


class Server:
    """Speaks Chat Completions to whoever has the key, and falls silent after `answers` answers."""

    def __init__(self, answers: int | None = None) -> None:
        self._strict = ChatServer()
        self._left = answers
        self.loopback = Loopback(self._handle)

    def _handle(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            said = request.headers.get("authorization", "").removeprefix("Bearer ")
            error = {"message": f"Incorrect API key provided: {said}.", "code": "invalid_api_key"}
            return Response({"error": error}, 401)
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self.loopback.faults.extend([Fault("stall")] * 1000)
        return self._strict.handle(request)

    @property
    def port(self) -> int:
        return urlsplit(self.loopback.url).port or 0

    @property
    def answered(self) -> Counter[str]:
        """How often each question was answered."""
        exchanges = zip(self._heard, self.loopback.responses, strict=True)
        return Counter(
            json.dumps(request.body["messages"]) for request, response in exchanges if response.status == 200
        )

    @property
    def _heard(self) -> list[Request]:
        return self.loopback.requests[: len(self.loopback.responses)]


async def trellis(folder: Path, *arguments: str, key: str = KEY) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "trellis.runs.cli", *arguments,
        cwd=folder, env={**os.environ, "MY_KEY": key, "NO_PROXY": "127.0.0.1"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


async def ended(process: asyncio.subprocess.Process) -> Ran:
    async with asyncio.timeout(DEADLINE_S):
        out, err = await process.communicate()
    return Ran(process.returncode or 0, out.decode(), err.decode())


def questions(server: Server, *more: str) -> list[str]:
    return [
        "run", "hle:sample", "--model", "openai-compatible/some/model", "-M", f"base_url={server.loopback.url}",
        "-M", "api_key_env=MY_KEY", "--jobs", "4", "--json", *more,
    ]  # fmt: skip


async def recorded(folder: Path, count: int) -> None:
    """Until so many episodes are completed."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            files = list((folder / "runs").glob("*/results.jsonl"))
            if files and files[0].read_text().count('"completed"') >= count:
                return
            await asyncio.sleep(0.02)


async def test_a_wrong_key_is_one_line_and_the_run_goes_on_with_the_right_one(tmp_path: Path) -> None:
    server = Server()
    async with server.loopback.serve():
        ran = await ended(await trellis(tmp_path, *questions(server), key="sk-wrong-0123456789"))
        run = ran.document["run"]
        assert ran.status == 1
        assert ran.complaint == (
            "openai-compatible/some/model: the key was not accepted; check MY_KEY "
            f"(HTTP 401: Incorrect API key provided: [key].); go on with: trellis resume {run}"
        )
        assert len(server.loopback.requests) <= 4, "one for each episode that was under way, and none again"
        assert "completed" not in ran.document["outcomes"]

        plain = await ended(await trellis(tmp_path, "resume", run, key="sk-wrong-0123456789"))
        assert (plain.status, plain.err.count("\n")) == (1, 1), "nor is there a line for every episode without --json"

        asked_in_vain = len(server.loopback.requests)
        again = await ended(await trellis(tmp_path, "resume", run, "--json"))
        assert again.status == 0, again.err
        assert again.document["outcomes"] == {"completed": TASKS}
        assert set(server.answered.values()) == {1}
        assert len(server.loopback.requests) - asked_in_vain == TASKS
        for file in Path(run).rglob("*"):
            assert file.is_dir() or (KEY.encode() not in file.read_bytes() and b"sk-wrong" not in file.read_bytes())


async def test_a_server_that_dies_and_a_run_that_gives_up(tmp_path: Path) -> None:
    server = Server(answers=17)
    async with server.loopback.serve():
        hasty = ("-M", "retry_budget_s=0.2", "-M", "retry_max_wait_s=0.1", "--retries", "0")
        process = await trellis(tmp_path, *questions(server, *hasty))
        await recorded(tmp_path, 17)
    ran = await ended(process)
    assert ran.status == 1
    assert ran.document["outcomes"] == {"completed": 17, "fault": TASKS - 17}
    assert ran.complaint.endswith(f"try again with: trellis resume {ran.document['run']}")
    later = Server()
    async with later.loopback.serve(server.port):
        again = await ended(await trellis(tmp_path, "resume", ran.document["run"], "--json"))
    assert again.status == 0, again.err
    assert again.document["outcomes"] == {"completed": TASKS}
    both = server.answered + later.answered
    assert (len(both), set(both.values())) == (TASKS, {1})


async def test_a_server_that_dies_and_comes_back_while_the_run_waits(tmp_path: Path) -> None:
    server = Server(answers=17)
    async with server.loopback.serve():
        process = await trellis(tmp_path, *questions(server, "-M", "retry_max_wait_s=0.2"))
        await recorded(tmp_path, 17)
    later = Server()
    async with later.loopback.serve(server.port):
        ran = await ended(process)
    assert (ran.status, ran.err) == (0, "")
    assert ran.document["outcomes"] == {"completed": TASKS}
    both = server.answered + later.answered
    assert (len(both), set(both.values())) == (TASKS, {1})


async def test_what_was_asked_before_is_answered_from_the_cache(tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('[models."openai-compatible/some/model"]\ninput = 1.0\noutput = 2.0\n')
    server = Server()
    async with server.loopback.serve():
        few = ("-M", f"prices={prices}", "--limit", "5", "--epochs", "2", "--cache", str(tmp_path / "replies"))
        first = await ended(await trellis(tmp_path, *questions(server, *few)))
        assert first.status == 0, first.err
        assert len(server.loopback.requests) == 10, "each epoch is a sample of its own"
        # with another key, no time, and no money: nobody is asked
        again = await ended(await trellis(
            tmp_path, *questions(server, *few, "-M", "timeout_s=7", "--max-cost-usd", "0.01"), key="sk-wrong"
        ))  # fmt: skip
        assert again.status == 0, again.err
        assert len(server.loopback.requests) == 10
        more = await ended(await trellis(tmp_path, *questions(server, *few, "--seed", "1")))
        assert (more.status, len(server.loopback.requests)) == (0, 20)
    assert again.document["agents"][0]["cost_usd"] == first.document["agents"][0]["cost_usd"] > 0
    assert again.document["agents"][0]["tokens"] == first.document["agents"][0]["tokens"]
    for ran, share in ((first, 0), (again, 1)):
        results = [json.loads(line) for line in (Path(ran.document["run"]) / "results.jsonl").read_text().splitlines()]
        assert sum(r["calls"]["saved_usd"] for r in results) == pytest.approx(
            share * sum(r["cost_usd"] for r in results)
        )
    shown = await ended(await trellis(tmp_path, "resume", again.document["run"], "--json"))
    assert (shown.status, shown.document["outcomes"]) == (0, {"completed": 10})
