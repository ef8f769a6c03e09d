"""Anthropic's Messages API: what is sent, and what is made of the answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trellis.models.anthropic.family import binds_thinking, nearest_effort
from trellis.models.conformance import LOOKUP, solid_png
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
    assistant,
    system,
    user,
    without_raw,
)
from trellis.models.model import (
    Compacts,
    ContextOverflow,
    CountsTokens,
    Effort,
    GenerateConfig,
    Model,
    ModelRequestError,
    Reply,
)

from .conftest import Connect
from .talk import ASK, NEW, refused, sent, through_json, turn

pytestmark = pytest.mark.wire


# --- requests ---


async def test_turns(connect: Connect) -> None:
    """Results of parallel calls stand together, blank text is left out, a late system message is the user's."""
    wire = await connect("anthropic")
    model = wire.load(cache=False)
    calls = [ToolCall(f"call:{n}", "lookup", {"key": "x"}) for n in range(2)]
    await model.generate(
        [
            system("One."),
            system("Two."),
            user("Go."),
            assistant(" \n", *calls),
            *(ToolResult(call.id, "lookup", (Text(""),), is_error=n == 1).message for n, call in enumerate(calls)),
            system("Hurry."),
        ],
        tools=[LOOKUP],
    )
    body = sent(wire)
    assert [block["text"] for block in body["system"]] == ["One.", "Two."]
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "x0-call_3a_0", "content": []},
        {"type": "tool_result", "tool_use_id": "x0-call_3a_1", "content": [], "is_error": True},
        {"type": "text", "text": "Hurry."},
    ]
    assert "cache_control" not in json.dumps(body)


async def test_options(connect: Connect) -> None:
    wire = await connect("anthropic")
    await wire.load(thinking="2048").generate([ASK])
    await wire.load(thinking="adaptive", thinking_display="omitted", max_output_tokens=99).generate([ASK])
    await wire.load(temperature=0.5, service_tier="standard_only", stream=False).generate([ASK])
    first, second, third = (request.body for request in wire.loopback.requests)
    assert first["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert (second["thinking"], second["max_tokens"]) == ({"type": "adaptive", "display": "omitted"}, 99)
    assert (third["temperature"], third["service_tier"], third["stream"]) == (0.5, "standard_only", False)


@pytest.mark.parametrize(
    ("model", "wish", "asked"),
    [
        ("claude-opus-5-5", "minimal", "low"),
        ("claude-opus-5-5", "xhigh", "xhigh"),
        ("claude-haiku-9", "none", "low"),
        ("claude-opus-4-6", "xhigh", "max"),
        ("claude-opus-4-5-20251101", "max", "high"),
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", "medium", "medium"),
        ("claude-haiku-4-5", "high", None),
        ("claude-sonnet-4-20250514", "high", None),
        ("claude-opus-4-1@20250805", "low", None),
        ("claude-3-7-sonnet-20250219", "low", None),
    ],
)
def test_the_nearest_effort_that_a_model_knows(model: str, wish: Effort, asked: Effort | None) -> None:
    assert nearest_effort(model, wish) == asked
    assert nearest_effort(model, None) is None


async def test_effort_is_left_out_where_a_model_knows_none(connect: Connect) -> None:
    wire = await connect("anthropic")
    await wire.load(reasoning_effort="high").generate([ASK])
    await wire.load(model=NEW, reasoning_effort="minimal").generate([ASK])
    assert "output_config" not in sent(wire, 0)
    assert sent(wire)["output_config"] == {"effort": "low"}


@pytest.mark.parametrize(
    ("model", "binds"),
    [
        ("claude-3-7-sonnet-20250219", False),
        ("claude-opus-4-8", False),
        ("claude-sonnet-4@20250514", False),
        ("claude-opus-5", False),
        ("us.anthropic.claude-opus-5-20260724-v1:0", False),
        ("claude-fable-5", False),
        ("claude-fable-5-1", True),
        ("anthropic.claude-opus-5-5-20260922-v1:0", True),
        ("claude-haiku-5-5", True),
        ("claude-sonnet-6", True),
    ],
)
def test_newer_models_bind_thinking_to_what_stands_before_it(model: str, binds: bool) -> None:
    assert binds_thinking(model) == binds


async def test_temperature_is_the_models_affair(connect: Connect) -> None:
    """Older models take one; newer ones say in one line that they do not."""
    wire = await connect("anthropic")
    with pytest.raises(ModelRequestError, match=r"claude-opus-5-5.*`temperature` is deprecated") as caught:
        await wire.load(model=NEW, temperature=0.5).generate([ASK])
    assert "\n" not in str(caught.value)


async def test_a_tool_is_not_forced_while_thinking(connect: Connect) -> None:
    wire = await connect("anthropic")
    config = GenerateConfig(tool_choice="lookup")
    with pytest.raises(ModelRequestError, match=r"does not force a tool \('lookup'\) .* -M thinking=disabled"):
        await wire.load(thinking=2048).generate([ASK], tools=[LOOKUP], config=config)
    assert not wire.loopback.requests
    reply = await wire.load(thinking="disabled").generate([ASK], tools=[LOOKUP], config=config)
    assert [call.name for call in reply.tool_calls] == ["lookup"]
    body = {**sent(wire), "thinking": {"type": "adaptive"}}
    assert "Thinking may not be enabled" in refused(wire, body)


async def test_the_thinking_budget_is_within_the_output(connect: Connect) -> None:
    wire = await connect("anthropic")
    with pytest.raises(ModelRequestError, match=r"max_output_tokens \(2048\) .* thinking budget \(2048\)"):
        await wire.load(thinking=2048, max_output_tokens=2048).generate([ASK])
    with pytest.raises(ValueError, match="1024 or more"):
        wire.load(thinking=1000)
    await wire.load(thinking=2048).generate([ASK])
    assert "must be greater than" in refused(wire, {**sent(wire), "max_tokens": 2048})


async def test_documents_and_pictures(connect: Connect) -> None:
    wire = await connect("anthropic")
    model = wire.load()
    pdf = Document(b"%PDF-1.7 ...", "application/pdf")
    note = Document("Grüße.".encode(), "text/markdown")
    await model.generate([user(pdf, note, solid_png((255, 0, 0)), "Which colour has the picture?")])
    read, text, picture, _ = sent(wire)["messages"][0]["content"]
    assert read["source"]["media_type"] == "application/pdf"
    assert text["source"] == {"type": "text", "media_type": "text/plain", "data": "Grüße."}
    assert picture["source"]["media_type"] == "image/png"


async def test_schemas_are_made_such_as_anthropic_takes(connect: Connect) -> None:
    """Open objects are closed; limits that Anthropic cannot enforce are told to the model."""
    wire = await connect("anthropic")
    inhabitants = {"type": "integer", "minimum": 1}
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "inhabitants": inhabitants}}
    reply = await wire.load().generate([ASK], config=GenerateConfig(response_schema=schema))
    assert json.loads(reply.text).keys() == {"city", "inhabitants"}
    made = sent(wire)["output_config"]["format"]["schema"]
    assert made["additionalProperties"] is False
    assert "minimum: 1" in made["properties"]["inhabitants"]["description"]
    assert "is not supported" in refused(wire, {**sent(wire), "output_config": {"format": {"schema": inhabitants}}})
    with pytest.raises(ModelRequestError, match="cannot follow this schema"):
        await wire.load().generate([ASK], config=GenerateConfig(response_schema={}))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (Image(b"BM", "image/bmp"), "no image of type image/bmp; it takes image/jpeg, "),
        (Document(b"PK", "application/zip"), "no document of type application/zip; it takes application/pdf"),
        (Audio(b"RIFF", "audio/wav"), "cannot send a part of type Audio"),
    ],
)
async def test_media_that_anthropic_does_not_take(connect: Connect, part: Part, said: str) -> None:
    wire = await connect("anthropic")
    with pytest.raises(ModelRequestError, match=said):
        await wire.load().generate([user("Look.", part)])
    assert not wire.loopback.requests


# --- answers ---


async def test_counting_is_what_is_billed(connect: Connect) -> None:
    model = (await connect("anthropic")).load(thinking=2048)
    result = ToolResult("c1", "lookup", (Text("zebra"),)).message
    messages = [system("You are terse."), ASK, assistant(ToolCall("c1", "lookup", {"key": "alpha"})), result]
    reply = await model.generate(messages, tools=[LOOKUP])
    assert isinstance(model, CountsTokens)
    count = await model.count_tokens(messages, tools=[LOOKUP])
    assert (count.tokens, count.method) == (reply.usage.total_input, "provider")


async def compacted(model: Model, messages: list[Message]) -> Reply:
    assert isinstance(model, Compacts)
    return await model.compact(messages, tools=[LOOKUP])


async def test_compaction_stands_for_the_past(connect: Connect) -> None:
    wire = await connect("anthropic")
    model = wire.load()
    messages = await turn(model, await turn(model, [system("You are terse.")], ASK))
    summary = await compacted(model, [*messages, user("Go on.")])
    assert (summary.stop_reason, summary.text) == ("stop", "A summary of 5 turns.")
    assert summary.usage.output > 0
    shorter = [messages[0], through_json(summary.message), user("Answer with the one word: pong")]
    assert (await model.generate(shorter, tools=[LOOKUP])).text == "pong"
    assert sent(wire)["messages"][0]["content"][0]["type"] == "compaction"
    forged = json.loads(json.dumps(sent(wire)))
    assert "beta is missing" in refused(wire, forged, **{"anthropic-beta": ""})
    forged["messages"][0]["content"][0]["content"] = "Something else."
    assert "does not verify" in refused(wire, forged)


async def test_turns_kept_after_a_compaction_keep_their_thinking(connect: Connect) -> None:
    """What was compacted counts as if it still stood there, as long as prompt and tools are the same."""
    wire = await connect("anthropic", preserve=True)
    model = wire.load(model=NEW)
    past = await turn(model, await turn(model, [system("You are terse.")], ASK))
    kept = (await turn(model, await turn(model, past, ASK)))[len(past) :]
    summary = through_json((await compacted(model, [*past, kept[0]])).message)
    messages = [past[0], summary, *kept[1:], ASK]
    reply = await model.generate(messages, tools=[LOOKUP])
    assert reply.dropped == ()
    assert json.dumps(sent(wire)).count('"type": "thinking"') == 2
    other = [system("You are verbose."), *messages[1:]]
    assert (await model.generate(other, tools=[LOOKUP])).dropped


async def test_a_compaction_may_be_declined(connect: Connect) -> None:
    wire = await connect("anthropic")
    details = {"type": "refusal", "category": "cyber", "explanation": "Not that."}
    wire.server.script.append({"content": [], "stop_reason": "refusal", "stop_details": details})
    with pytest.raises(ModelRequestError, match=r"cannot be compacted \(Not that\.\)"):
        await compacted(wire.load(), [ASK])


async def test_a_paused_turn_goes_on(connect: Connect) -> None:
    wire = await connect("anthropic")
    begun = [wire.server.blocks.thinking("A long search."), {"type": "text", "text": "So far: 1.", "citations": None}]
    wire.server.script.append({"content": begun, "stop_reason": "pause_turn"})
    reply = await wire.load().generate([user("Answer with the one word: pong")])
    assert sent(wire)["messages"][1] == {"role": "assistant", "content": begun}
    assert (reply.text, reply.stop_reason) == ("So far: 1.\npong", "stop")
    outputs = [response.body["usage"]["output_tokens"] for response in wire.loopback.responses]
    assert reply.usage.output == sum(outputs)


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded"])
async def test_too_long_replies(connect: Connect, reason: str) -> None:
    wire = await connect("anthropic")
    wire.server.script.append({"stop_reason": reason})
    assert (await wire.load().generate([ASK])).stop_reason == "length"


async def test_a_refusal_in_the_middle_calls_nothing(connect: Connect) -> None:
    wire = await connect("anthropic")
    call = {"type": "tool_use", "id": "toolu_1", "name": "lookup", "input": '{"k'}
    said = {"type": "text", "text": "First I will", "citations": None}
    for content, text in (([said, call], "First I will"), ([call], "(the request was declined)")):
        wire.server.script.append({"content": content, "stop_reason": "refusal"})
        reply = await wire.load().generate([ASK], tools=[LOOKUP])
        assert (reply.stop_reason, reply.text, reply.tool_calls) == ("refusal", text, ())


async def test_priority_has_its_own_prices(connect: Connect) -> None:
    wire = await connect("anthropic")
    used = {"input_tokens": 5, "output_tokens": 5, "service_tier": "priority"}
    wire.server.script.append({"usage": used})
    assert (await wire.load().generate([ASK])).tier == "priority"
    assert (await wire.load().generate([ASK])).tier == ""


async def test_a_conversation_that_is_too_long(connect: Connect) -> None:
    wire = await connect("anthropic", window=400)
    with pytest.raises(ContextOverflow, match="prompt is too long"):
        await wire.load().generate([user("word " * 2000)])
    with pytest.raises(ContextOverflow, match="exceed context limit"):
        await wire.load().generate([ASK])
    await wire.load(max_output_tokens=100).generate([ASK])


# --- moving ---


async def test_what_is_left_behind_is_said(connect: Connect) -> None:
    wire = await connect("anthropic")
    model = wire.load()
    raw: dict[str, Any] = {"provider": "openai", "item": {"type": "reasoning", "id": "rs_1", "encrypted_content": "e"}}
    message = {"provider": "openai", "item": {"type": "message", "id": "msg_1"}}
    other = assistant(Reasoning("", raw), Text("Hello.", message))
    reply = await model.generate([user("Hello."), other, ASK], tools=[LOOKUP])
    assert reply.dropped == ("1 encrypted reasoning item of openai", "1 item id of openai")
    assert (await model.generate([ASK], tools=[LOOKUP])).dropped == ()


async def test_ids_of_other_providers_do_not_collide(connect: Connect) -> None:
    """`a:b` and `a/b` are different calls, and so are two calls that a server named `call_0` both."""
    wire = await connect("anthropic")
    calls = [ToolCall(name, "lookup", {"key": name}) for name in ("a:b", "a/b", "a_b")]
    results = [ToolResult(call.id, "lookup", (Text(f"of {call.id}"),)).message for call in calls]
    again = ToolCall("a:b", "lookup", {"key": "again"})
    messages = [ASK, assistant(*calls), *results, assistant(again), ToolResult("a:b", "lookup", (Text("2"),)).message]
    await wire.load().generate(messages, tools=[LOOKUP])
    blocks = [block for turn in sent(wire)["messages"] for block in turn["content"]]
    asked = [block["id"] for block in blocks if block["type"] == "tool_use"]
    answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    assert asked == answered
    assert len(set(asked)) == 4


async def test_what_another_provider_compacted(connect: Connect) -> None:
    """The user's words in it are the user's again; the user begins in any case."""
    wire = await connect("anthropic")
    words = {"provider": "openai", "item": {"type": "message", "role": "user", "content": []}}
    item = {"provider": "openai", "item": {"type": "compaction", "encrypted_content": "e"}}
    for past, roles in [
        (assistant(Text("Do it.", words), Reasoning("", item)), ["user"]),
        (
            assistant(Text("I did it.", {"provider": "elsewhere", "item": {"type": "compaction"}})),
            ["user", "assistant", "user"],
        ),
    ]:
        reply = await wire.load().generate([past, user("Answer with the one word: pong")])
        assert reply.text == "pong"
        assert len(reply.dropped) == 1
        assert [turn["role"] for turn in sent(wire)["messages"]] == roles


@pytest.mark.parametrize(("provider", "longest"), [("openai", 64), ("openai-compatible", 40)])
async def test_ids_fit_where_few_characters_are_allowed(connect: Connect, provider: str, longest: int) -> None:
    wire = await connect(provider)
    calls = [ToolCall(f"{'long' * 30}{n}", "lookup", {"key": "x"}) for n in range(2)]
    results = [ToolResult(call.id, "lookup", (Text(f"of {n}"),)).message for n, call in enumerate(calls)]
    assert (await wire.load().generate([ASK, assistant(*calls), *results], tools=[LOOKUP])).text == "of 0 of 1"
    if provider == "openai":
        ids = [item["call_id"] for item in sent(wire)["input"] if "call_id" in item]
    else:
        said = sent(wire)["messages"]
        ids = [call["id"] for turn in said for call in turn.get("tool_calls", ())]
        ids += [turn["tool_call_id"] for turn in said if turn["role"] == "tool"]
    assert ids[:2] == ids[2:]
    assert all(len(name) <= longest for name in ids)


async def test_the_neutral_view_of_a_reply_is_another_models(connect: Connect) -> None:
    """Newer models take a reply back without its thinking."""
    wire = await connect("anthropic", preserve=True)
    model = wire.load(model=NEW)
    history = [without_raw(message) for message in await turn(model, [], ASK)]
    assert (await model.generate(history, tools=[LOOKUP])).text.startswith("word")
