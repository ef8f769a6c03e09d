"""Anthropic's Messages API: what is sent, what is made of the answers, and that the cache is hit."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from trellis.models import conformance
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
    message_from_json,
    message_to_json,
    system,
    user,
    without_raw,
)
from trellis.models.model import (
    Compacts,
    ContextOverflow,
    CountsTokens,
    GenerateConfig,
    Model,
    ModelRequestError,
    Reply,
    ToolSpec,
)

from .anthropic_cache import hashes, size
from .conftest import Connect, Wire
from .loopback import JSON, Request

pytestmark = pytest.mark.wire

ASK = user('Call the tool `lookup` with the key "alpha", then answer with the word that it returned.')
ASK_THREE = user('Call the tool `lookup` with the keys "a", "b" and "c", then answer with the words.')
NEW = "anthropic/claude-opus-5-5"


def through_json(message: Message) -> Message:
    """As the trajectory keeps it."""
    return message_from_json(json.loads(json.dumps(message_to_json(message))))


async def turn(model: Model, messages: list[Message], *said: Message) -> list[Message]:
    """The conversation after a reply and, where it calls tools, their results."""
    messages = [*messages, *said]
    reply = await model.generate(messages, tools=[LOOKUP])
    results = [ToolResult(call.id, call.name, (Text(f"word {call.id}"),)).message for call in reply.tool_calls]
    return [*messages, through_json(reply.message), *results]


def sent(wire: Wire, number: int = -1) -> JSON:
    return wire.loopback.requests[number].body


def refused(wire: Wire, body: JSON, **headers: str) -> str:
    """What the server says to a body that is wrong."""
    request: Request = wire.loopback.requests[-1]
    response = wire.server.handle(replace(request, body=body, headers={**request.headers, **headers}))
    assert response.status >= 400, "the server took it"
    return str(response.body["error"]["message"])


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
    await wire.load(thinking="2048").generate([ASK], config=GenerateConfig(reasoning_effort="minimal"))
    await wire.load(thinking="adaptive", thinking_display="omitted", max_output_tokens=99).generate([ASK])
    await wire.load(temperature=0.5, service_tier="standard_only", stream=False).generate([ASK])
    first, second, third = (request.body for request in wire.loopback.requests)
    assert first["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert first["output_config"] == {"effort": "low"}
    assert (second["thinking"], second["max_tokens"]) == ({"type": "adaptive", "display": "omitted"}, 99)
    assert (third["temperature"], third["service_tier"], third["stream"]) == (0.5, "standard_only", False)


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


# --- thinking ---


async def test_thinking_between_calls_goes_back_byte_for_byte(connect: Connect) -> None:
    wire = await connect("anthropic")
    model = wire.load()
    messages = await turn(model, [], ASK_THREE)
    answered = wire.loopback.responses[0].body["content"]
    kinds = ["thinking", "redacted_thinking", *["tool_use", "thinking"] * 2, "tool_use"]
    assert [block["type"] for block in answered] == kinds
    await turn(model, messages)
    assert sent(wire)["messages"][1]["content"] == answered
    await turn(wire.load(stream=False), messages)
    assert sent(wire)["messages"][1]["content"] == answered


async def test_what_was_cut_off(connect: Connect) -> None:
    """Thinking without its signature is not sent back; a call whose arguments broke off is a malformed call."""
    wire = await connect("anthropic")
    model = wire.load()
    begun = {"type": "thinking", "thinking": "Let me", "signature": ""}
    wire.server.script.append({"content": [begun], "stop_reason": "max_tokens"})
    reply = await model.generate([ASK])
    assert (reply.stop_reason, reply.message.parts) == ("length", (Reasoning("Let me", reply.message.parts[0].raw),))
    again = await model.generate([ASK, reply.message, user("Go on.")])
    assert [len(turn["content"]) for turn in sent(wire)["messages"]] == [2]
    assert again.dropped == ("1 thinking block that broke off before a signature",)

    call = {"type": "tool_use", "id": "toolu_1", "name": "lookup", "input": '{"key": "al'}
    wire.server.script.append({"content": [call], "stop_reason": "max_tokens"})
    reply = await model.generate([ASK], tools=[LOOKUP])
    assert (reply.stop_reason, reply.tool_calls[0].arguments, reply.tool_calls[0].malformed) == (
        "length", {}, '{"key": "al',
    )  # fmt: skip
    result = ToolResult("toolu_1", "lookup", (Text("The arguments are not JSON."),), is_error=True)
    await model.generate([ASK, reply.message, result.message], tools=[LOOKUP])
    assert sent(wire)["messages"][1]["content"] == [{**call, "input": {}}]


async def test_thinking_is_dropped_where_the_conversation_before_it_was_edited(connect: Connect) -> None:
    """Newer models reject thinking that does not follow what it followed; what comes later stays good."""
    wire = await connect("anthropic", preserve=True)
    model = wire.load(model=NEW)
    messages = [system("You are terse.")]
    for _ in range(3):
        messages = await turn(model, messages, ASK)
        messages = await turn(model, messages)
    assert (await model.generate([*messages, ASK], tools=[LOOKUP])).dropped == ()

    edited = list(messages)
    place = next(n for n, message in enumerate(messages) if message.role == "tool" and n > 5)
    edited[place] = ToolResult(messages[place - 1].tool_calls[0].id, "lookup", (Text("(trimmed)"),)).message
    reply = await model.generate([*edited, ASK], tools=[LOOKUP])
    (line,) = reply.dropped
    assert line.endswith("signed thinking blocks before which the conversation was edited")
    kept = json.dumps(sent(wire)).count('"type": "thinking"')
    assert 0 < kept < sum(isinstance(part, Reasoning) for message in messages for part in message.parts) / 2

    results = [ToolResult(call.id, call.name, (Text("w"),)).message for call in reply.tool_calls]
    await model.generate([*edited, ASK, reply.message, *results], tools=[LOOKUP])
    assert json.dumps(sent(wire)).count('"type": "thinking"') == kept + 1, "what was thought after the edit is kept"


async def test_other_tools_or_another_prompt_are_edits_too(connect: Connect) -> None:
    wire = await connect("anthropic", preserve=True)
    model = wire.load(model=NEW)
    messages = await turn(model, [system("You are terse.")], ASK)
    other = [system("You are verbose."), *messages[1:]]
    assert (await model.generate(other, tools=[LOOKUP])).dropped
    assert (await model.generate(messages, tools=[LOOKUP, replace(LOOKUP, name="look")])).dropped
    assert not (await model.generate(messages, tools=[LOOKUP])).dropped


async def test_older_models_get_all_thinking_back(connect: Connect) -> None:
    wire = await connect("anthropic")
    model = wire.load()
    messages = await turn(model, [], ASK)
    assert (await model.generate([user("Other."), *messages[1:]], tools=[LOOKUP])).dropped == ()
    assert sent(wire)["messages"][1]["content"][0]["type"] == "thinking"


async def test_a_budget_waits_for_a_reply_of_its_own(connect: Connect) -> None:
    """In the middle of a turn that another model began, the server would want thinking that there is not."""
    wire = await connect("anthropic")
    model = wire.load(thinking=2048)
    call = ToolCall("c1", "lookup", {"key": "alpha"})
    begun = [ASK, assistant(call), ToolResult("c1", "lookup", (Text("zebra"),)).message]
    await model.generate(begun, tools=[LOOKUP])
    assert "thinking" not in sent(wire)
    await model.generate([*begun, assistant("zebra"), ASK], tools=[LOOKUP])
    assert sent(wire)["thinking"]["type"] == "enabled"


@pytest.mark.conformance
@pytest.mark.parametrize("check", [name for name in conformance.CHECKS if name not in ("forced_tool", "length_stop")])
async def test_conformance_with_a_thinking_budget(connect: Connect, check: str) -> None:
    await conformance.CHECKS[check]((await connect("anthropic")).load(thinking=2048))


@pytest.mark.conformance
@pytest.mark.parametrize("check", conformance.CHECKS)
async def test_conformance_of_newer_models(connect: Connect, check: str) -> None:
    await conformance.CHECKS[check]((await connect("anthropic", preserve=True)).load(model=NEW))


# --- the cache ---


async def test_a_growing_conversation_is_always_read_from_the_cache(connect: Connect) -> None:
    """Each request begins with all of the one before, and all that was cached of that is read again: also after turns
    of more blocks than a mark looks back over."""
    wire = await connect("anthropic")
    model = wire.load()
    many = " and ".join(f'"k{n}"' for n in range(24))
    asks = [ASK, ASK_THREE, user(f"Call the tool `lookup` with the keys {many}.")]
    messages = [system("You are terse."), system("You use tools.")]
    for ask in [*asks, *asks]:
        messages = await turn(model, messages, ask)
        messages = await turn(model, messages)
    bodies = [request.body for request in wire.loopback.requests]
    usages = [response.body["usage"] for response in wire.loopback.responses]
    assert len(bodies) == 12
    for before, now, used in zip(bodies, bodies[1:], usages[1:], strict=False):
        assert hashes(now)[: len(hashes(before))] == hashes(before), "the prefix broke"
        marked = json.dumps(now).count("cache_control")
        assert 3 <= marked <= 4
        assert used["cache_read_input_tokens"] == size(before), "all of the request before is read"
        assert used["input_tokens"] == 0
        assert used["cache_creation_input_tokens"] == size(now) - size(before), "and only the rest is written"


async def test_attempts_and_tasks_share_what_they_have_in_common(connect: Connect) -> None:
    wire = await connect("anthropic")
    model = wire.load()
    for task in ("First task.", "First task.", "Second task."):
        await turn(model, await turn(model, [system("You are terse.")], user(task)), ASK)
    used = [response.body["usage"]["cache_read_input_tokens"] for response in wire.loopback.responses]
    whole = [size(request.body) for request in wire.loopback.requests]
    assert used[0] == 0
    assert used[2] == whole[0], "another attempt at the same task"
    assert 0 < used[4] < whole[0], "another task: tools and system prompt"


@pytest.mark.parametrize("tools", [[], [LOOKUP]])
@pytest.mark.parametrize("prompts", [[], [system("You are terse.")]])
async def test_marks_without_prompt_or_tools(connect: Connect, prompts: list[Message], tools: list[ToolSpec]) -> None:
    wire = await connect("anthropic")
    await wire.load().generate(
        [*prompts, ASK], tools=tools, config=GenerateConfig(tool_choice="none" if tools else None)
    )
    body = sent(wire)
    marked = [name for name in ("tools", "system") if "cache_control" in json.dumps(body.get(name))]
    assert marked == (["system"] if prompts else ["tools"] if tools else [])
    assert body["messages"][0]["content"][-1]["cache_control"] == {"type": "ephemeral"}


async def test_an_hours_cache_is_a_class_of_its_own(connect: Connect) -> None:
    wire = await connect("anthropic")
    model = wire.load(cache_ttl="1h")
    reply = await model.generate([system("You are terse."), user("Answer with the one word: pong")])
    assert sent(wire)["system"][-1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert (reply.usage.cache_write, reply.usage.cache_write_1h) == (0, size(sent(wire)))
    wire.server.script.append({"usage": {"input_tokens": 1, "cache_creation_input_tokens": 7, "output_tokens": 1}})
    reply = await model.generate([user("Answer with the one word: pong")])
    assert reply.usage.cache_write_1h == 7, "a platform that does not split them"


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


# --- the server is as strict as it claims ---


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
