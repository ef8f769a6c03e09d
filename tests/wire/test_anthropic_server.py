"""The loopback server for Anthropic is as strict as it claims; other tests lean on that."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trellis.models.anthropic import wire
from trellis.models.anthropic.prefix import set_breakpoints
from trellis.models.conformance import LOOKUP, solid_png
from trellis.models.legality import neutral, problems
from trellis.models.messages import Image, Message, Part, Reasoning, Text, ToolCall, ToolResult, system, user
from trellis.models.model import ModelRequestError

from .anthropic_wire import MessagesServer
from .conftest import Connect
from .loopback import JSON
from .talk import ASK, refused, sent, turn

pytestmark = pytest.mark.wire


def change(body: JSON, turn: int, place: int, **members: Any) -> JSON:
    body = json.loads(json.dumps(body))
    body["messages"][turn]["content"][place] |= members
    return body


async def test_the_server_rejects_what_anthropic_rejects(connect: Connect) -> None:
    wire = await connect("anthropic")
    model = wire.load()
    await turn(model, await turn(model, [], ASK))
    good = sent(wire)
    assert wire.server.handle(wire.loopback.requests[-1]).status == 200
    turns = good["messages"]
    for body, said in [
        ({**good, "temprature": 1}, "Extra inputs are not permitted"),
        (change(good, 1, 0, thinking="Hm, otherwise."), "Invalid `signature`"),
        (change(good, 1, 1, data="forged"), "Invalid `data`"),
        ({**good, "messages": turns[1:]}, "roles must alternate"),
        ({**good, "messages": turns[:2]}, "without tool_result"),
        ({**good, "messages": [*turns[:2], turns[0]]}, "tool_result at the beginning"),
        ({**good, "messages": [*turns, turns[1], turns[2]]}, "ids must be unique"),
        (change(good, 0, 0, text=""), "non-empty"),
        (change(good, 0, 0, text=" "), "non-whitespace"),
        ({**good, "tools": [*good["tools"], *good["tools"]]}, "names must be unique"),
        ({**good, "tools": [{**good["tools"][0], "input_schema": {}}]}, "Input should be 'object'"),
        ({**good, "tool_choice": {"type": "tool", "name": "x"}}, "not found in provided tools"),
    ]:
        assert said in refused(wire, body)
    cut = json.loads(json.dumps(good))
    cut["messages"][1]["content"] = cut["messages"][1]["content"][2:]
    assert "Expected `thinking`" in refused(wire, cut)
    marked = json.loads(json.dumps(good))
    marked["messages"][0]["content"] = [{**turns[0]["content"][0], "cache_control": {"type": "ephemeral"}}] * 5
    assert "A maximum of 4 blocks with cache_control" in refused(wire, marked)
    mixed = json.loads(json.dumps(good))
    mixed["messages"][2]["content"][-1]["cache_control"] = {"type": "ephemeral", "ttl": "1h"}
    assert "must not come after" in refused(wire, mixed)


async def test_the_server_rejects_pictures_that_are_too_large_or_too_many(connect: Connect) -> None:
    wire = await connect("anthropic")
    model = wire.load()
    small = solid_png((255, 0, 0))
    for parts, said in [
        ([small] * 101, "Too many images"),
        ([solid_png((255, 0, 0), 2001)] + [small] * 20, "2000 pixels"),
        ([Image(small.data, "image/jpeg")], "does not match"),
        ([Image(small.data + bytes(4 << 20), "image/png")], "exceeds 5 MB"),
        ([Image(small.data + bytes(3 << 20), "image/png")] * 9, "too large"),
    ]:
        with pytest.raises(ModelRequestError, match=said):
            await model.generate([user("Look.", *parts)])


# --- what is legal is taken ---

BLOCKS = MessagesServer().blocks
TEXTS = st.text("ab \n", max_size=3)
RAWS = st.sampled_from([None, {"provider": "openai", "item": {"type": "message", "id": "m"}}])


@st.composite
def replies(draw: st.DrawFn) -> Message:
    """A reply of Anthropic's, of another provider's, or a neutral one, with calls or without."""
    parts: list[Part] = []
    own = draw(st.booleans())
    if own:
        thought = BLOCKS.thinking(draw(TEXTS))
        parts.append(Reasoning(thought["thinking"], {"provider": "anthropic", "item": thought}))
    elif draw(st.booleans()):
        parts.append(Reasoning("Hm.", {"provider": "openai", "item": {"type": "reasoning", "encrypted_content": "e"}}))
    parts += [Text(text, draw(RAWS)) for text in draw(st.lists(TEXTS, max_size=2))]
    for name in draw(st.lists(st.sampled_from(["a", "a:b", "a/b", "x0-a", "ö"]), max_size=3, unique=True)):
        id_ = f"toolu_{len(parts)}"
        item = {"type": "tool_use", "id": id_, "name": "lookup", "input": {}}
        call = ToolCall(id_, "lookup", {}, "", {"provider": "anthropic", "item": item})
        parts.append(call if own else ToolCall(name, "lookup", {}))
    return Message("assistant", tuple(parts))


@st.composite
def histories(draw: st.DrawFn) -> list[Message]:
    messages = [system("S")] if draw(st.booleans()) else []
    messages.append(user("Go.", draw(TEXTS)))
    for reply in draw(st.lists(replies(), max_size=4)):
        messages.append(reply)
        messages += [ToolResult(call.id, "lookup", (Text(draw(TEXTS)),)).message for call in reply.tool_calls]
        if not reply.tool_calls or draw(st.booleans()):
            messages.append(user("And?", draw(TEXTS)))
        if draw(st.booleans()):
            messages.append(system("Hurry."))
    return messages


@settings(deadline=None, max_examples=150)
@given(histories(), st.booleans())
def test_what_is_legal_is_taken(messages: list[Message], edited: bool) -> None:
    """The conversion alone, for many histories; what it makes goes to the server as it would be sent."""
    if edited:
        messages = [neutral(message) if message.role == "assistant" else message for message in messages]
    assert problems(messages) == []
    said = wire.conversation("m", "claude-haiku-4-5", messages, [LOOKUP], bound=False)
    set_breakpoints(said.system, said.tools, said.turns, "5m")
    server = MessagesServer()
    server.blocks.signed = BLOCKS.signed
    turns = [{"role": role, "content": blocks} for role, blocks in said.turns]
    body = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": turns, "system": said.system, "tools": said.tools}
    server.answer(json.loads(json.dumps(body)), [])
