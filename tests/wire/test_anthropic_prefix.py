"""What hangs on the beginning of a request to Anthropic: thinking that goes back, and the cache."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest

from trellis.models import conformance
from trellis.models.conformance import LOOKUP
from trellis.models.legality import edit_problems, neutral
from trellis.models.messages import (
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    system,
    user,
)
from trellis.models.model import (
    GenerateConfig,
    ToolSpec,
)

from .anthropic_cache import hashes, size
from .conftest import Connect
from .talk import ASK, ASK_THREE, NEW, sent, turn

pytestmark = pytest.mark.wire


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


@pytest.mark.parametrize("seed", range(12))
async def test_newer_models_take_every_legal_edit(connect: Connect, seed: int) -> None:
    """Results shortened, exchanges left out, replies reduced to their neutral view, another prompt: again and again in
    one conversation that goes on between the edits."""
    random = Random(seed)
    model = (await connect("anthropic", preserve=True)).load(model=NEW)
    messages = [system("You are terse."), user("Hello.")]
    for _ in range(4):
        for ask in random.choices([ASK, ASK_THREE], k=2):
            messages = await turn(model, await turn(model, messages, ask))
        before = list(messages)
        for place, message in enumerate(messages):
            if message.role == "tool" and random.random() < 0.2:
                results = [part for part in message.parts if isinstance(part, ToolResult)]
                messages[place] = replace(results[0], parts=(Text("(removed)"),)).message
            elif message.role == "assistant" and random.random() < 0.1:
                messages[place] = neutral(message)
            elif message.role == "system" and random.random() < 0.2:
                messages[place] = system(f"You are {random.random()}.")
        asks = [place for place, message in enumerate(messages) if message.role == "user" and place > 1]
        if random.random() < 0.5:
            first = random.randrange(len(asks) - 1)
            del messages[asks[first] : asks[first + 1]]
        assert edit_problems(before, [*messages, ASK]) == []


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


async def test_thinking_that_another_model_cannot_read(connect: Connect) -> None:
    """Anthropic passes it over without a word unless it is asked, which it is when a conversation changes models."""
    wire = await connect("anthropic", private="claude-fable-5")
    messages = await turn(wire.load(model="anthropic/claude-fable-5"), [], ASK)
    reply = await wire.load().generate(messages, tools=[LOOKUP])
    assert reply.dropped == ("1 signed thinking block that this model cannot read",)
    others = await turn(wire.load(), [], ASK)
    assert (await wire.load(model="anthropic/claude-fable-5").generate(others, tools=[LOOKUP])).dropped == ()
    assert "thinking-binding-controls" in wire.loopback.requests[-1].headers["anthropic-beta"]
    await wire.load().generate(others, tools=[LOOKUP])
    assert "anthropic-beta" not in wire.loopback.requests[-1].headers


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
