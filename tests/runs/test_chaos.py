"""Two hundred episodes while three models' calls out of ten fail, in every way a connection can."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, get_args

import pytest

from trellis.models.model import Usage

from ..wire import anthropic_wire, chat_wire, openai_wire
from ..wire.loopback import JSON, Fault, Instead, Loopback, Request, Whole, Within
from .test_served import ended

pytestmark = [pytest.mark.wire, pytest.mark.chaos, pytest.mark.slow]

DEEDS = Path(__file__).parent / "parts" / "deeds.py"
TASKS = 50
RATE = 0.3
SEED = 4

KINDS = (*get_args(Instead), *get_args(Within), *get_args(Whole))
STATUS = (408, 409, 425, 429, 500, 502, 503, 504, 529)
HEADERS: tuple[dict[str, str], ...] = ({}, {"retry-after": "0"}, {"retry-after-ms": "20"})

AGENTS = {
    "openai": ("openai/gpt-5-mini", openai_wire.ResponsesServer, ""),
    "anthropic": ("anthropic/claude-haiku-4-5", anthropic_wire.MessagesServer, ""),
    "chat": ("openai-compatible/some/model", chat_wire.ChatServer, ""),
    "whole": ("openai-compatible/some/model", chat_wire.ChatServer, "stream = false"),
}
WITHOUT = {
    "openai": (),
    "anthropic": ("duplicate",),  # a message that begins twice is damaged: it is thrown away and asked again
    "chat": ("duplicate",),  # nothing numbers the events: what comes twice cannot be told from what is said twice
    "whole": ("duplicate", "cut_within", "torn_within", "error_within"),  # of streams alone
}
"""Kinds that do not go with an agent's protocol."""


@dataclass
class Chance:
    """Fails calls at random: the same ones, in the same ways, whatever the order in which they come."""

    kinds: Sequence[Any]
    met: Counter[str] = field(default_factory=Counter)
    _attempts: Counter[str] = field(default_factory=Counter)

    def __call__(self, request: Request) -> Fault | None:
        name = hashlib.sha256(json.dumps(request.body, sort_keys=True).encode()).hexdigest()
        self._attempts[name] += 1
        random = Random(f"{SEED} {name} {self._attempts[name]}")
        if random.random() >= RATE:
            return None
        kinds = [kind for kind in self.kinds for _ in range(1 if "stall" in kind else 6)]  # a stall takes its time
        part = random.uniform(0.1, 0.6)
        fault = Fault(random.choice(kinds), random.choice(STATUS), random.choice(HEADERS), part=part)
        self.met[fault.kind] += 1
        return fault


def experiment(urls: dict[str, str]) -> str:
    agents = [
        f"""
[[agents]]
name = "{agent}"
scaffold = "{DEEDS}:Doer"
options = {{rounds = 1}}
model = "{name}"
[agents.model_options]
base_url = "{urls[agent]}"
timeout_s = 12
retry_initial_wait_s = 0.01
retry_max_wait_s = 0.2
{more}
"""
        for agent, (name, _, more) in AGENTS.items()
    ]
    head = 'name = "chaos"\njobs = 40\nretries = 0\n'
    return f'{head}benchmarks = [{{name = "{DEEDS}:Deeds", options = {{count = {TASKS}}}}}]\n{"".join(agents)}'


def served(body: JSON) -> Usage:
    """What a whole reply that was delivered says it used, by the providers' own words."""
    used = body["usage"]
    if "prompt_tokens" in used:
        return Usage(input=used["prompt_tokens"], output=used["completion_tokens"])
    if "input_tokens_details" in used:
        read = used["input_tokens_details"]["cached_tokens"]
        reasoning = used["output_tokens_details"]["reasoning_tokens"]
        return Usage(used["input_tokens"] - read, read, output=used["output_tokens"], reasoning=reasoning)
    return Usage(
        used["input_tokens"],
        used["cache_read_input_tokens"],
        used["cache_creation_input_tokens"],
        output=used["output_tokens"],
        reasoning=used["output_tokens_details"]["thinking_tokens"],
    )


def total(usages: Any) -> Usage:
    return sum(usages, Usage())


async def test_200_episodes_of_which_every_call_may_fail(tmp_path: Path) -> None:
    loopbacks, chances = {}, {}
    async with AsyncExitStack() as stack:
        for agent, (_, kind, _) in AGENTS.items():
            loopback = Loopback(kind().handle)
            chances[agent] = Chance([kind for kind in KINDS if kind not in WITHOUT[agent]])
            loopback.chance = chances[agent]
            loopbacks[agent] = await stack.enter_async_context(loopback.serve())
        file = tmp_path / "chaos.toml"
        file.write_text(experiment({agent: loopback.url for agent, loopback in loopbacks.items()}))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "trellis.runs.cli", "run", str(file), "--json", cwd=tmp_path,
            env={**os.environ, "OPENAI_API_KEY": openai_wire.KEY, "ANTHROPIC_API_KEY": anthropic_wire.KEY,
                 "NO_PROXY": "127.0.0.1", "DEEDS": str(tmp_path / "deeds")},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        ran = await ended(process)

    assert (ran.status, ran.err) == (0, "")
    assert ran.document["outcomes"] == {"completed": TASKS * len(AGENTS)}
    run = Path(ran.document["run"])
    results = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    logs = {result["path"]: _events(run / result["path"]) for result in results}

    # what was paid for, what the episodes say, and what the run says are one
    for agent, loopback in loopbacks.items():
        asked = total(served(response.body) for response in loopback.responses if response.status == 200)
        said = total(Usage(**result["usage"]) for result in results if result["agent"] == agent)
        assert said == asked, agent
        assert len(loopback.responses) == sum(result["steps"] for result in results if result["agent"] == agent)
        row = next(row for row in ran.document["agents"] if row["agent"] == agent)
        assert row["tokens"] * TASKS == pytest.approx(said.total)
    for result in results:
        done = [event for event in logs[result["path"]] if event["kind"] == "generate.done"]
        assert total(Usage(**event["usage"]) for event in done) == Usage(**result["usage"])
        assert result["steps"] == len(done) == 2

    # every deed was done once for each call on record, and no call is on record twice
    asked_for = [
        (path, event["what"]["id"], event["what"]["arguments"]["key"])
        for path, events in logs.items()
        for event in events
        if event["kind"] == "act.begun"
    ]
    assert len({(path, id_) for path, id_, _ in asked_for}) == len(asked_for) == 2 * len(results)
    assert Counter((tmp_path / "deeds").read_text().split()) == Counter(key for *_, key in asked_for)

    # and it was chaos
    calls = sum(len(loopback.requests) for loopback in loopbacks.values())
    met = sum((chance.met for chance in chances.values()), Counter())
    assert 0.25 < met.total() / calls < 0.35
    assert met.keys() == set(KINDS)
    failed = sum(count for kind, count in met.items() if kind not in get_args(Whole))
    retries = sum(e.get("retries", 0) for log in logs.values() for e in log if e["kind"] == "generate.done")
    # A connection that is reset after an answer may take the next request with it, which then has not been heard.
    assert failed <= retries <= failed + met["reset_after"]


def _events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "trajectory.jsonl").read_text().splitlines()]
