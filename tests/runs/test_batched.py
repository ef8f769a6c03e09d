"""A run whose calls wait in batches, killed and resumed: what it has paid for is found again, and asked once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from trellis.models.model import Usage

from ..wire import anthropic_wire, openai_wire
from ..wire.batch_wire import AnthropicBatches, OpenAIBatches
from ..wire.loopback import Fault, Loopback
from .test_served import DEADLINE_S, TASKS, ended

pytestmark = [pytest.mark.wire, pytest.mark.kill]

KINDS: dict[str, Any] = {"openai/gpt-5-mini": OpenAIBatches, "anthropic/claude-haiku-4-5": AnthropicBatches}


async def trellis(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "trellis.runs.cli", *arguments, cwd=folder,
        env={**os.environ, "OPENAI_API_KEY": openai_wire.KEY, "ANTHROPIC_API_KEY": anthropic_wire.KEY,
             "NO_PROXY": "127.0.0.1", "TRELLIS_CACHE": str(folder / "cache")},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize("model", KINDS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_killed_and_resumed(tmp_path: Path, model: str, number: signal.Signals) -> None:
    server = KINDS[model](looks=1_000_000)
    server.fates.extend(["answered", "expired"])
    async with Loopback(server.handle).serve() as loopback:
        process = await trellis(
            tmp_path, "run", "hle:sample", "--model", model, "-M", f"base_url={loopback.url}", "-M", "batch=true",
            "-M", "batch_poll_s=0.05", "-M", "batch_wait_s=1", "-M", "batch_size=30", "--max-time", "0.5",
        )  # fmt: skip
        async with asyncio.timeout(DEADLINE_S):
            while len(list((tmp_path / "cache").rglob("*.json"))) < 2:
                await asyncio.sleep(0.02)
        await asyncio.sleep(1)  # longer than an episode may work: waiting in a batch is not work
        process.send_signal(number)
        killed = await ended(process)
        assert killed.status == (130 if number == signal.SIGINT else -signal.SIGKILL)
        assert f"{model}: 2 batches under way, 0 of {TASKS} calls answered\n" in killed.err
        assert len(server.asked) == TASKS, "all questions at once: nobody had to say how many episodes run at a time"
        for batch in server.batches.values():
            batch.looks = 1
        server.looks = 1
        (run,) = (tmp_path / "runs").iterdir()
        ran = await ended(await trellis(tmp_path, "resume", str(run), "--json"))
    assert ran.status == 0, ran.err
    assert ran.document["outcomes"] == {"completed": TASKS}
    lost = server.batches[list(server.batches)[1]].lost()
    assert {id_ for id_, count in server.asked.items() if count == 2} == lost
    assert max(server.asked.values()) == 2
    assert len(server.batches) == 3
    assert not list((tmp_path / "cache").rglob("*.json")), "nothing waits any more"

    results = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    for result in results:
        if result["outcome"] == "completed":
            log = (run / result["path"] / "trajectory.jsonl").read_text().splitlines()
            events = [event for event in map(json.loads, log) if event["branch"] == "main"]
            (done,) = [event for event in events if event["kind"] == "generate.done"]
            assert Usage(**done["usage"]) == Usage(**result["usage"])
            assert (done["tier"], done["cost_usd"]) == ("batch", result["cost_usd"])


async def test_what_is_used_is_the_sum_of_the_calls_whatever_way_they_took(tmp_path: Path) -> None:
    """Batched calls of which half expire, then half of the same from the cache, then new ones directly and retried."""
    server = OpenAIBatches()
    server.fates.append("expired")
    loopback = Loopback(server.handle)
    cache = ("--cache", str(tmp_path / "replies"), "--json")
    async with loopback.serve():
        plain = ("run", "hle:sample", "--model", "openai/gpt-5-mini", "-M", f"base_url={loopback.url}")
        batched = (*plain, "-M", "batch=true", "-M", "batch_poll_s=0.05", "-M", "batch_wait_s=1")
        first = await ended(await trellis(tmp_path, *batched, "--limit", "6", *cache))
        asked = len(loopback.requests)
        loopback.faults.extend([Fault(status=429), Fault(status=500), Fault("reset")])
        both = await ended(await trellis(tmp_path, *plain, "-M", "retry_max_wait_s=0.1", "--limit", "10", *cache))
    assert (first.status, both.status) == (0, 0), first.err + both.err
    assert len(loopback.requests) - asked == 4 + 3, "four new questions, and three attempts that failed"

    for ran, cached, batches, retries in ((first, 0, 6, 3), (both, 6, 6, 3)):
        run = Path(ran.document["run"])
        results = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
        done = []
        for result in results:
            log = (run / result["path"] / "trajectory.jsonl").read_text().splitlines()
            mine = [e for e in map(json.loads, log) if e["kind"] == "generate.done" and e["branch"] == "main"]
            assert sum((Usage(**e["usage"]) for e in mine), Usage()) == Usage(**result["usage"])
            assert sum(e["cost_usd"] for e in mine) == pytest.approx(result["cost_usd"])
            assert sum(e["cost_usd"] for e in mine if e.get("cached")) == pytest.approx(result["calls"]["saved_usd"])
            done += mine
        assert sum(bool(e.get("cached")) for e in done) == cached
        assert sum(e.get("tier") == "batch" for e in done) == batches
        assert sum(e.get("retries", 0) for e in done) == retries
        row = ran.document["agents"][0]
        assert row["cost_usd"] == pytest.approx(sum(e["cost_usd"] for e in done))
        assert row["tokens"] * len(done) == pytest.approx(sum(Usage(**e["usage"]).total for e in done))
