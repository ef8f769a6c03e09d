"""OpenAI's Responses API: what is sent, what is made of the answers, and that the server is as strict as OpenAI's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trellis.models.conformance import LOOKUP, one_page_pdf, sine_wav, solid_png
from trellis.models.messages import (
    Audio,
    Document,
    Image,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    Video,
    assistant,
    system,
    user,
)
from trellis.models.model import (
    Compacts,
    ContextOverflow,
    CountsTokens,
    Effort,
    GenerateConfig,
    HasWindow,
    Model,
    ModelRequestError,
    Priced,
    ToolSpec,
)
from trellis.models.openai.family import instructing_role, nearest_effort, reasons, speaks

from .conftest import Connect, Wire
from .loopback import JSON, Fault
from .talk import ASK, PING, sent, through_json

pytestmark = pytest.mark.wire


async def past(model: Model) -> list[Message]:
    reply = await model.generate([system("Be terse."), ASK], tools=[LOOKUP])
    results = [ToolResult(call.id, call.name, (Text("zebra"),)).message for call in reply.tool_calls]
    return [system("Be terse."), ASK, through_json(reply.message), *results]


# --- requests ---


@pytest.mark.parametrize(("model", "role"), [("gpt-5-mini", "developer"), ("gpt-4.1", "system")])
async def test_instructions_have_the_role_that_the_model_knows(connect: Connect, model: str, role: str) -> None:
    wire = await connect("openai")
    await wire.load(model=f"openai/{model}").generate([system("Be terse."), PING, system("Hurry.")])
    assert [item["role"] for item in sent(wire)["input"]] == [role, "user", role]
    assert ("include" in sent(wire)) is (role == "developer")


EFFORTS: list[tuple[str, Effort, Effort | None]] = [
    ("gpt-5-mini", "none", "minimal"),
    ("gpt-5-mini", "max", "high"),
    ("gpt-5-2025-08-07", "minimal", "minimal"),
    ("gpt-5.1", "minimal", "low"),
    ("gpt-5.1-2025-11-13", "none", "none"),
    ("gpt-5.1", "xhigh", "high"),
    ("gpt-5.1-chat-latest", "low", "medium"),
    ("gpt-5.1-codex", "none", "low"),
    ("gpt-5.1-codex-max", "max", "xhigh"),
    ("gpt-5.2", "max", "xhigh"),
    ("gpt-5.2-pro", "low", "medium"),
    ("gpt-5-pro", "low", "high"),
    ("gpt-5.6-sol", "max", "max"),
    ("o3", "none", "low"),
    ("o4-mini", "xhigh", "high"),
    ("gpt-7", "max", "max"),
    ("gpt-4o", "high", None),
    ("gpt-5-chat-latest", "high", None),
]


@pytest.mark.parametrize(("model", "wish", "asked"), EFFORTS)
def test_the_nearest_effort_that_a_model_knows(model: str, wish: Effort, asked: Effort | None) -> None:
    assert nearest_effort(model, wish) == asked
    assert nearest_effort(model, None) is None


def test_families() -> None:
    assert [reasons(name) for name in ("gpt-4o", "chatgpt-4o-latest", "gpt-5", "o3", "gpt-6-astra")] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert instructing_role("gpt-3.5-turbo") == "system"
    names = ("gpt-audio", "gpt-audio-mini", "gpt-4o-audio-preview", "gpt-4o-mini-audio-preview-2024-12-17", "gpt-4o")
    assert [speaks(name) for name in names] == [True, True, True, True, False]


@pytest.mark.parametrize("model", ["gpt-5-mini", "gpt-5.1", "gpt-4.1"])
@pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high", "xhigh", "max"])
async def test_no_effort_is_rejected(connect: Connect, model: str, effort: Effort) -> None:
    """The server knows what each of these models takes."""
    wire = await connect("openai")
    config = GenerateConfig(reasoning_effort=effort)
    assert (await wire.load(model=f"openai/{model}").generate([PING], config=config)).text == "pong"


async def test_a_conversation_keeps_its_cache_key(connect: Connect) -> None:
    wire = await connect("openai")
    model = wire.load(prompt_cache_retention="24h")
    history = await past(model)
    await model.generate(history, tools=[LOOKUP])
    await model.generate([system("Be terse."), PING], tools=[LOOKUP])
    first, second, other = (request.body["prompt_cache_key"] for request in wire.loopback.requests)
    assert first == second != other
    assert sent(wire)["prompt_cache_retention"] == "24h"
    await wire.load(prompt_cache_key="mine").generate([PING])
    assert sent(wire)["prompt_cache_key"] == "mine"
    azure = await connect("azure")
    await azure.load().generate([PING])
    assert "prompt_cache_key" not in sent(azure)


async def test_what_is_sent_before_stays_the_same(connect: Connect) -> None:
    """Else nothing of it would be read from the cache."""
    wire = await connect("openai")
    model = wire.load()
    history = await past(model)
    await model.generate(history, tools=[LOOKUP])
    before, after = sent(wire, 0), sent(wire, 1)
    assert after["input"][: len(before["input"])] == before["input"]
    assert after["tools"] == before["tools"]


async def test_media(connect: Connect) -> None:
    wire = await connect("openai")
    words = Document(b"hello", "text/plain")
    parts: list[Part] = [solid_png((255, 0, 0)), one_page_pdf("x"), words, sine_wav(0), Audio(b"ID3", "audio/mpeg")]
    await wire.load().generate([user("Look.", *parts)])
    content = sent(wire)["input"][0]["content"]
    kinds = ["input_text", "input_image", "input_file", "input_file", "input_audio", "input_audio"]
    assert [part["type"] for part in content] == kinds
    assert [part["filename"] for part in content[2:4]] == ["document.pdf", "document.txt"]
    assert [part["input_audio"]["format"] for part in content[4:]] == ["wav", "mp3"]


@pytest.mark.parametrize("part", [Video(b"x", "video/mp4"), Audio(b"x", "audio/flac")])
async def test_media_that_openai_does_not_take(connect: Connect, part: Part) -> None:
    wire = await connect("openai")
    with pytest.raises(ModelRequestError, match="cannot send a part of type"):
        await wire.load().generate([user(part)])
    assert not wire.loopback.requests


async def test_ids_of_other_providers_fit_and_differ(connect: Connect) -> None:
    wire = await connect("openai")
    names = ["call:0/a", "call:0/a", "x" * 70, "x" * 71]
    messages = [user("Go.")]
    for name in names:
        messages += [assistant(ToolCall(name, "lookup", {})), ToolResult(name, "lookup", (Text("w"),)).message]
    await wire.load().generate(messages, tools=[LOOKUP])
    ids = [item["call_id"] for item in sent(wire)["input"] if item["type"] == "function_call"]
    assert len(set(ids)) == 4


# --- answers ---


@pytest.mark.parametrize("asked", ["flex", "priority", "fast", "default", "auto", None])
async def test_the_tier_of_a_reply_is_what_it_was_served_at(connect: Connect, asked: str | None) -> None:
    wire = await connect("openai")
    standard = await wire.load().generate([PING])
    reply = await wire.load(service_tier=asked).generate([PING])
    assert reply.tier == {"flex": "flex", "priority": "priority", "fast": "priority"}.get(asked or "", "")
    assert sent(wire).get("service_tier") == asked
    assert reply.cost_usd is not None
    assert standard.cost_usd is not None
    assert (reply.cost_usd == standard.cost_usd) is (reply.tier == "")


@pytest.mark.parametrize(
    ("reason", "stop"), [("max_output_tokens", "length"), ("content_filter", "refusal"), ("max_messages", "length")]
)
async def test_incomplete_responses(connect: Connect, reason: str, stop: str) -> None:
    wire = await connect("openai")
    body = {"status": "incomplete", "incomplete_details": {"reason": reason}, "output": []}
    wire.loopback.faults.append(Fault(status=200, body=body))
    assert (await wire.load().generate([PING])).stop_reason == stop


async def test_items_of_unknown_kinds_go_back(connect: Connect) -> None:
    wire = await connect("openai")
    item = {"id": "ws_1", "type": "web_search_call", "status": "completed"}
    wire.loopback.faults.append(Fault(status=200, body={"status": "completed", "output": [item]}))
    model = wire.load()
    reply = await model.generate([PING])
    with pytest.raises(ModelRequestError, match="Invalid value: 'web_search_call'"):
        await model.generate([PING, through_json(reply.message), PING])
    assert sent(wire)["input"][1] == item


# --- counting and compaction ---


async def test_counting_is_of_what_is_sent(connect: Connect) -> None:
    wire = await connect("openai")
    model = wire.load()
    history = await past(model)
    counted = await model.count_tokens(history, tools=[LOOKUP])
    reply = await model.generate(history, tools=[LOOKUP])
    assert (counted.tokens, counted.method) == (reply.usage.total_input, "provider")
    wire.loopback.faults.append(Fault(status=200, body={"object": "?"}))
    assert (await model.count_tokens(history, tools=[LOOKUP])).tokens == counted.tokens


async def test_a_compaction_goes_back_unchanged(connect: Connect) -> None:
    wire = await connect("openai")
    model = wire.load(service_tier="flex")
    compacted = await model.compact(await past(model), tools=[LOOKUP])
    asked = sent(wire)
    assert asked["instructions"] == "Be terse."
    assert [item["type"] for item in asked["input"]] == [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
    ]
    assert asked["service_tier"] == "flex"
    assert compacted.cost_usd is not None
    reply = await model.generate([system("Be terse."), through_json(compacted.message), PING])
    assert reply.text == "pong"
    made = wire.loopback.responses[1].body["output"]
    assert [item["type"] for item in made] == ["message", "compaction"]
    assert sent(wire)["input"][1:3] == made
    again = await model.compact([system("Be terse."), through_json(compacted.message), PING, reply.message, PING])
    assert (await model.generate([again.message, PING])).text == "pong"


async def test_a_compaction_that_is_none_is_tried_again(connect: Connect) -> None:
    wire = await connect("openai")
    model = wire.load()
    history = await past(model)
    wire.loopback.faults.append(Fault(status=200, body={"output": []}))
    assert isinstance((await model.compact(history)).message.parts[-1], Reasoning)


async def test_a_conversation_that_is_too_long_is_told_by_all_three(connect: Connect) -> None:
    wire = await connect("openai", window=300)
    model = wire.load()
    long = [user("word " * 2000)]
    for call in (model.generate, model.count_tokens, model.compact):
        with pytest.raises(ContextOverflow):
            await call(long)


async def test_abilities(connect: Connect) -> None:
    model = (await connect("openai")).load()
    for ability in (CountsTokens, Compacts, HasWindow, Priced):
        assert isinstance(model, ability)


# --- the server ---


def taken(wire: Wire, body: JSON) -> str:
    """What the server says to a body that is wrong."""
    response = wire.server.handle(replace(wire.loopback.requests[0], body=body))
    assert response.status >= 400, "the server took it"
    return str(response.body["error"]["message"])


async def test_the_server_rejects_what_openai_rejects(connect: Connect) -> None:
    wire = await connect("openai")
    await wire.load().generate([PING], tools=[LOOKUP])
    good = sent(wire)
    tool = good["tools"][0]
    wrong: dict[str, JSON] = {
        "Unknown parameter": {"temprature": 1},
        "this server keeps no state": {"store": True},
        "does not match pattern": {"tools": [{**tool, "name": "look up"}]},
        "schema must be of type 'object'": {"tools": [{**tool, "parameters": {"type": "array"}}]},
        "Missing required parameter: 'tools.strict'": {"tools": [{k: v for k, v in tool.items() if k != "strict"}]},
        "not found in 'tools'": {"tool_choice": {"type": "function", "name": "other"}},
        "is not supported with the 'gpt-5-mini' model": {"reasoning": {"effort": "xhigh"}},
        "expected a value >= 16": {"max_output_tokens": 8},
        "Invalid value: 'tool'": {"input": [{"type": "message", "role": "tool", "content": []}]},
    }
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wrong["'additionalProperties' must be"] = {
        "text": {"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": True}}
    }
    for said, change in wrong.items():
        assert said in taken(wire, {**good, **change})


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([Image(b"\x89PNG" + bytes(20 << 20), "image/png")], "too large"),
        ([Image(b"\x89PNG", "image/png")] * 501, "Too many images"),
        ([Image(b"\x89PNG" + bytes(13 << 20), "image/png")] * 4, "too many bytes"),
        ([Image(b"BM", "image/bmp")], "Unsupported image media type"),
    ],
)
async def test_pictures_that_are_too_large_or_too_many(connect: Connect, images: list[Image], said: str) -> None:
    wire = await connect("openai")
    with pytest.raises(ModelRequestError, match=said):
        await wire.load().generate([user("Look.", *images)])
    assert len(wire.loopback.requests) == 1


async def test_a_bad_tool_name_is_one_line(connect: Connect) -> None:
    wire = await connect("openai")
    tool = ToolSpec("look up", "", {"type": "object", "properties": {}})
    with pytest.raises(ModelRequestError, match=r"the request is wrong as it is \(HTTP 400: Invalid 'tools\[0\].name'"):
        await wire.load().generate([PING], tools=[tool])
