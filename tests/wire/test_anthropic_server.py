"""The loopback server for Anthropic is as strict as it claims; other tests lean on that."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trellis.models.conformance import solid_png
from trellis.models.messages import (
    Image,
    user,
)
from trellis.models.model import (
    ModelRequestError,
)

from .anthropic_talk import ASK, refused, sent, turn
from .conftest import Connect
from .loopback import JSON

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
