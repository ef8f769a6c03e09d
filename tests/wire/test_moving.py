"""A conversation that moves between providers in the middle of an episode: what is left behind is in the log, and is
told once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trellis.environments.environment import Environment
from trellis.models.conformance import LOOKUP
from trellis.models.messages import Message, Text, ToolResult
from trellis.models.model import Model
from trellis.runs import text
from trellis.runs.results import Key, Result
from trellis.runs.summary import summarize
from trellis.scaffolds.budget import Budget
from trellis.scaffolds.episode import Episode
from trellis.scaffolds.task import Submission, Task
from trellis.trajectories.log import read

from .conftest import Connect
from .talk import ASK

pytestmark = pytest.mark.wire


@asynccontextmanager
async def episode(folder: Path, models: Mapping[str, Model]) -> AsyncIterator[Episode]:
    async def collect(environment: Environment | None, answer: str) -> Submission:
        return Submission(answer)

    async with Episode.open(
        folder,
        task=Task("t", (Text("Look."),)),
        tools=(),
        models=models,
        seed=1,
        budget=Budget(),
        collect=collect,
        label="test/moving",
        environment=None,
        header={"episode": "e1"},
    ) as opened:
        yield opened


async def turns(opened: Episode, roles: list[str]) -> list[tuple[str, ...]]:
    """A conversation in which each role does a turn with a call of a tool: what each reply left behind."""
    messages: list[Message] = []
    left = []
    for role in roles:
        messages.append(ASK)
        reply = await opened.generate(messages, tools=[LOOKUP], role=role)
        result = ToolResult(reply.tool_calls[0].id, "lookup", (Text("zebra"),))
        messages += [reply.message, result.message]
        answer = await opened.generate(messages, tools=[LOOKUP], role=role)
        messages.append(answer.message)
        left += [reply.dropped, answer.dropped]
    return left


async def test_what_is_left_behind_is_in_the_log_and_told_once(connect: Connect, tmp_path: Path) -> None:
    wires = {"main": await connect("anthropic"), "other": await connect("openai")}
    models = {role: wire.load() for role, wire in wires.items()}
    thinking = ("2 signed thinking blocks of anthropic", "2 redacted thinking blocks of anthropic")
    encrypted = ("2 encrypted reasoning items of openai", "2 item ids of openai")
    async with episode(tmp_path, models) as opened:
        left = await turns(opened, ["main", "other", "main"])
        assert left == [(), (), thinking, thinking, encrypted, encrypted]
        calls = opened.budget.calls
    assert calls.dropped == thinking + encrypted
    done: list[Mapping[str, Any]] = [e for e in read(tmp_path / "trajectory.jsonl") if e["kind"] == "generate.done"]
    assert [tuple(event.get("dropped", ())) for event in done] == left

    async with episode(tmp_path, {"main": Silent(), "other": Silent()}) as again:
        assert await turns(again, ["main", "other", "main"]) == left, "from the log, without asking anybody"
        assert again.budget.calls.dropped == calls.dropped

    result = Result(Key("b", "t", "a", 1), seed=1, outcome="completed", path="x", calls=calls)
    assert Result.from_json(json.loads(json.dumps(result.to_json()))) == result
    (row,) = summarize([result, replace(result, key=Key("b", "t", "a", 2))], {}).rows
    told = dict(text.calls(row.calls))
    assert told["left behind: signed thinking blocks of anthropic"] == "2"
    assert len([what for what in told if what.startswith("left behind")]) == 4


class Silent:
    name = "silent"

    async def generate(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("nobody is asked")
