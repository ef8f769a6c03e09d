"""The table of docs/models.md, cell by cell: what it says is possible is done, what it says is not is tried."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from trellis.models import conformance
from trellis.models.conformance import LOOKUP
from trellis.models.messages import (
    Message,
    Reasoning,
    Text,
    ToolResult,
    message_from_json,
    message_to_json,
    user,
)
from trellis.models.model import ContextOverflow, HasWindow, Model, ModelRequestError

from .conftest import CLIENTS, Connect, Wire
from .loopback import Fault
from .talk import ASK, PING

pytestmark = [pytest.mark.wire, pytest.mark.conformance]

MARKS = {"yes": True, "no": False}


def asking(check: conformance.Check) -> Callable[[Wire], Awaitable[None]]:
    async def ask(wire: Wire) -> None:
        await check(wire.load())

    return ask


async def calls_in_parallel(wire: Wire) -> None:
    await conformance.tool_round_trip(wire.load())
    await conformance.parallel_calls(wire.load())


async def stalls(wire: Wire) -> None:
    wire.loopback.faults.append(Fault("stall_within"))
    assert (await wire.load(stall_timeout_s=0.5).generate([PING])).text == "pong"
    assert len(wire.loopback.requests) > 1


async def one_turn(model: Model) -> list[Message]:
    """A turn with a call, as a trajectory keeps it."""
    reply = await model.generate([ASK], tools=[LOOKUP])
    results = [ToolResult(call.id, call.name, (Text("zebra"),)).message for call in reply.tool_calls]
    return [message_from_json(json.loads(json.dumps(message_to_json(m)))) for m in [ASK, reply.message, *results]]


async def reasoning(wire: Wire) -> None:
    """The servers reject it where it is missing or changed."""
    model = wire.load()
    history = await one_turn(model)
    assert any(isinstance(part, Reasoning) and part.raw for part in history[1].parts)
    assert (await model.generate(history, tools=[LOOKUP])).text == "zebra"
    said = json.dumps(wire.loopback.requests[-1].body)
    assert '"thinking"' in said or '"encrypted_content"' in said or '"reasoning_content"' in said


async def refusal(wire: Wire) -> None:
    await conformance.refusal(wire.load(), "REFUSE THIS")


async def overflow(wire: Wire) -> None:
    servers: list[Any] = [wire.server, getattr(wire.server, "responses", None), getattr(wire.server, "chat", None)]
    for server in servers:
        if hasattr(server, "window"):
            server.window = 200
    with pytest.raises(ContextOverflow, match="longer than the model's context window; send less"):
        await wire.load().generate([user("word " * 2000)])
    assert len(wire.loopback.requests) == 1


async def cache(wire: Wire) -> None:
    model = wire.load()
    reply = await model.generate(await one_turn(model), tools=[LOOKUP])
    assert reply.usage.cache_read > 0


async def tier(wire: Wire) -> None:
    if wire.load().name.startswith("anthropic/"):  # nobody can ask for it there, but it is told
        wire.server.script.append({"usage": {"input_tokens": 9, "output_tokens": 9, "service_tier": "priority"}})
        assert (await wire.load().generate([PING])).tier == "priority"
    else:
        assert (await wire.load(service_tier="flex").generate([PING])).tier == "flex"


async def price(wire: Wire) -> None:
    assert ((await wire.load().generate([PING])).cost_usd or 0) > 0


async def window(wire: Wire) -> None:
    model = wire.load()
    assert isinstance(model, HasWindow)
    assert (model.context_tokens or 0) > (model.max_output_tokens or 0) > 0


FEATURES: Mapping[str, Callable[[Wire], Awaitable[None]]] = {
    "long replies, streamed": asking(conformance.long_reply),
    "a stall is noticed": stalls,
    "tool calls, several at a time": calls_in_parallel,
    "a call forced or forbidden": asking(conformance.forced_tool),
    "structured output": asking(conformance.structured_output),
    "images": asking(conformance.image_input),
    "images in tool results": asking(conformance.image_result),
    "documents (PDF)": asking(conformance.document_input),
    "sounds in": asking(conformance.sound_input),
    "speech out": asking(conformance.speech),
    "reasoning goes back unchanged": reasoning,
    "histories of other providers": asking(conformance.foreign_history),
    "refusals are replies": refusal,
    "too long a conversation is told": overflow,
    "cache reads are counted": cache,
    "service tier is told": tier,
    "list price": price,
    "window known": window,
    "counts tokens": asking(conformance.counting),
    "compacts": asking(conformance.compaction),
}


def table() -> Mapping[str, Mapping[str, str]]:
    """The cells by feature and column."""
    lines = (Path(__file__).parents[2] / "docs/models.md").read_text("utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("| feature |"))
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[start:]]
    end = next(n for n, line in enumerate(lines[start:]) if not line.startswith("|"))
    head, _, *body = rows[:end]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in body}


def test_the_table_is_complete() -> None:
    rows = table()
    assert list(rows) == list(FEATURES)
    for row in rows.values():
        assert set(CLIENTS) <= set(row), "a column for every client"
        assert set(row.values()) <= set(MARKS)


@pytest.mark.parametrize(("feature", "column"), [(f, c) for f, row in table().items() for c in row])
async def test_cell(connect: Connect, feature: str, column: str) -> None:
    if column not in CLIENTS:
        pytest.skip(f"needs the extra {column}")
    wire = await connect(column)
    if MARKS[table()[feature][column]]:
        await FEATURES[feature](wire)
        return
    with pytest.raises((AssertionError, ModelRequestError, ValueError)):
        await FEATURES[feature](wire)
