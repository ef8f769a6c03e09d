"""What a provider said goes back to it unchanged, and only to it; the servers reject anything else."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from trellis.models.catalog import close, load
from trellis.models.conformance import LOOKUP
from trellis.models.messages import (
    Audio,
    Message,
    Reasoning,
    Text,
    ToolResult,
    message_from_json,
    message_to_json,
    system,
    user,
    without_raw,
)
from trellis.models.model import GenerateConfig, Model, ModelRequestError

from .conftest import FAST, PROVIDERS, Connect
from .loopback import Fault, Loopback
from .openai_wire import KEY, ResponsesServer
from .talk import ASK, through_json

pytestmark = pytest.mark.wire


async def first_turn(model: Model) -> list[Message]:
    reply = await model.generate([ASK], tools=[LOOKUP])
    results = [ToolResult(call.id, call.name, (Text("zebra"),)).message for call in reply.tool_calls]
    return [ASK, reply.message, *results]


def with_part(message: Message, number: int, **changes: str) -> Message:
    """The message with members of one part's own item changed."""
    data = message_to_json(message)
    data["parts"][number]["raw"]["item"] |= changes
    return message_from_json(data)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_items_survive_the_log_and_go_back_unchanged(connect: Connect, provider: str) -> None:
    wire = await connect(provider)
    model = wire.load()
    history = [through_json(message) for message in await first_turn(model)]
    reply = await model.generate(history, tools=[LOOKUP])
    assert reply.text == "zebra"
    assert isinstance(reply.message.parts[0], Audio if provider == "openai audio" else Reasoning)


async def test_openai_reasoning_goes_back_encrypted(connect: Connect) -> None:
    wire = await connect("openai")
    model = wire.load()
    await model.generate(await first_turn(model), tools=[LOOKUP])
    sent = wire.loopback.requests[1].body["input"]
    assert [item["type"] for item in sent] == ["message", "reasoning", "function_call", "function_call_output"]
    assert sent[1:3] == [wire.server.emitted[item["id"]] for item in sent[1:3]]
    assert sent[1]["encrypted_content"]


async def test_changed_openai_reasoning_is_rejected(connect: Connect) -> None:
    model = (await connect("openai")).load()
    ask, said, result = await first_turn(model)
    with pytest.raises(ModelRequestError, match="could not be verified"):
        await model.generate([ask, with_part(said, 0, encrypted_content="forged"), result], tools=[LOOKUP])
    with pytest.raises(ModelRequestError, match="without its required 'reasoning' item"):
        await model.generate([ask, Message("assistant", said.parts[1:]), result], tools=[LOOKUP])


async def test_changed_anthropic_signature_is_rejected(connect: Connect) -> None:
    model = (await connect("anthropic")).load()
    ask, said, result = await first_turn(model)
    with pytest.raises(ModelRequestError, match="Invalid `signature`"):
        await model.generate([ask, with_part(said, 0, signature="forged"), result], tools=[LOOKUP])
    with pytest.raises(ModelRequestError, match="Invalid `signature`"):
        await model.generate([ask, with_part(said, 0, thinking="Hm, otherwise."), result], tools=[LOOKUP])
    with pytest.raises(ModelRequestError, match="Expected `thinking`"):
        await model.generate([ask, Message("assistant", said.parts[2:]), result], tools=[LOOKUP])


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_unanswered_and_unasked_tool_calls_are_rejected(connect: Connect, provider: str) -> None:
    model = (await connect(provider)).load()
    ask, said, result = await first_turn(model)
    with pytest.raises(ModelRequestError, match="HTTP 400"):
        await model.generate([ask, said, user("Go on.")], tools=[LOOKUP])
    with pytest.raises(ModelRequestError, match="HTTP 400"):
        await model.generate([ask, result], tools=[LOOKUP])


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_unknown_parameters_are_rejected_by_the_servers(connect: Connect, provider: str) -> None:
    """The servers' strictness is what the other tests lean on."""
    wire = await connect(provider)
    await wire.load().generate([ASK])
    request = wire.loopback.requests[0]
    response = wire.server.handle(replace(request, body={**request.body, "temprature": 1}))
    assert response.status == 400
    assert "temprature" in response.body["error"]["message"]


async def test_reasoning_that_led_nowhere_is_left_out(connect: Connect) -> None:
    """An answer cut off while reasoning ends in reasoning, which OpenAI does not take back."""
    wire = await connect("openai")
    item = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "x"}
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": [item]}
    wire.loopback.faults.append(Fault(status=200, body=cut))
    model = wire.load()
    reply = await model.generate([ASK])
    assert reply.stop_reason == "length"
    again = await model.generate([ASK, reply.message, user("Answer with the one word: pong")])
    assert again.text == "pong"


async def test_a_conversation_moves_between_all_providers(connect: Connect) -> None:
    """Each leg goes on with what the ones before it said and did; nothing of another provider's items is sent."""
    wires = {provider: await connect(provider) for provider in PROVIDERS}
    messages = [system("You are terse.")]
    for provider in ("openai", "anthropic", "openai-compatible", "anthropic", "openai"):
        wire = wires[provider]
        model = wire.load()
        messages.append(ASK)
        reply = await model.generate(messages, tools=[LOOKUP])
        messages += [reply.message, ToolResult(reply.tool_calls[0].id, "lookup", (Text(f"word-{provider}"),)).message]
        reply = await model.generate(messages, tools=[LOOKUP])
        messages.append(reply.message)
        assert f"word-{provider}" in reply.text
    last = json.dumps(wires["openai"].loopback.requests[-1].body)
    assert "word-anthropic" in last
    assert "signature" not in last
    kept = json.dumps(wires["anthropic"].loopback.requests[-1].body)
    assert kept.count('"type": "thinking"') == 3, "its own three replies so far, and nobody else's"


@pytest.mark.parametrize("provider", ["openai", "openai-compatible"])
async def test_neutral_view_alone_is_enough(connect: Connect, provider: str) -> None:
    """Anthropic wants its own tool calls with the thinking before them; for others' calls see `foreign_history`."""
    model = (await connect(provider)).load()
    history = [without_raw(message) for message in await first_turn(model)]
    assert (await model.generate(history, tools=[LOOKUP])).text == "zebra"


@pytest.mark.parametrize("provider", ["openai", "openai-compatible"])
@pytest.mark.parametrize("written", ['{"key": "alp', "[1]", '{"a":' * 150 + "1" + "}" * 150, '{"a":' + "[" * 5000],
                         ids=["broken off", "no object", "deep", "deeper"])  # fmt: skip
async def test_malformed_arguments_are_kept(connect: Connect, provider: str, written: str) -> None:
    """So are those that whoever reads the log could not read: nested too deeply."""
    wire = await connect(provider)
    call = {"type": "function_call", "call_id": "c1", "name": "lookup", "arguments": written}
    chat = {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": written}}
    bodies: dict[str, dict[str, Any]] = {
        "openai": {"status": "completed", "output": [call]},
        "openai-compatible": {"choices": [{"message": {"role": "assistant", "tool_calls": [chat]}}]},
    }
    wire.loopback.faults.append(Fault(status=200, body=bodies[provider]))
    reply = await wire.load().generate([ASK], tools=[LOOKUP])
    (got,) = reply.tool_calls
    assert (got.arguments, got.malformed) == ({}, written)


async def test_usage_by_class_and_cost(connect: Connect) -> None:
    """Classes do not overlap: OpenAI counts cached tokens among the input, Anthropic does not."""
    for provider in ("openai", "anthropic"):
        wire = await connect(provider)
        model = wire.load()
        reply = await model.generate(await first_turn(model), tools=[LOOKUP])
        assert reply.usage.cache_read > 0
        assert reply.usage.input + reply.usage.cache_write > 0
        stated = wire.loopback.responses[1].body["usage"]
        total_in = stated["input_tokens"]
        if provider == "anthropic":
            total_in += stated["cache_read_input_tokens"] + stated["cache_creation_input_tokens"]
        assert reply.usage.total - reply.usage.output == total_in
        assert reply.cost_usd is not None
        assert reply.cost_usd > 0


async def test_unknown_price_is_none(connect: Connect) -> None:
    assert (await (await connect("openai")).load(model="openai/gpt-99").generate([ASK])).cost_usd is None
    assert (await (await connect("openai-compatible")).load().generate([ASK])).cost_usd is None


async def test_options_fill_in_what_a_call_leaves_open(connect: Connect) -> None:
    wire = await connect("openai")
    model = wire.load(temperature="0.5", max_output_tokens="100", reasoning_effort="low", reasoning_summary="auto")
    await model.generate([ASK])
    await model.generate([ASK], config=GenerateConfig(temperature=0.0, max_output_tokens=50, reasoning_effort="high"))
    by_option, by_call = (request.body for request in wire.loopback.requests)
    assert (by_option["temperature"], by_option["max_output_tokens"]) == (0.5, 100)
    assert by_option["reasoning"] == {"effort": "low", "summary": "auto"}
    assert (by_call["temperature"], by_call["max_output_tokens"], by_call["reasoning"]["effort"]) == (0.0, 50, "high")


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "required": ["a"],
                "additionalProperties": False,
            },
            True,
        ),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}, False),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, False),
    ],
)
async def test_strict_schema_where_possible(connect: Connect, schema: dict[str, Any], strict: bool) -> None:
    wire = await connect("openai")
    await wire.load().generate([ASK], config=GenerateConfig(response_schema=schema))
    assert wire.loopback.requests[0].body["text"]["format"]["strict"] is strict


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_compatible_reasoning_goes_back_where_it_came_from(connect: Connect, field: str) -> None:
    wire = await connect("openai-compatible", reasoning_field=field)
    reply = await wire.load().generate([ASK])
    assert isinstance(reply.message.parts[0], Reasoning)
    assert reply.message.parts[0].text == "Hm."
    for replay in (True, False):
        wire.loopback.faults.append(Fault(status=422))
        with pytest.raises(ModelRequestError):
            await wire.load(replay_reasoning=replay).generate([ASK, reply.message, ASK])
        assert (field in wire.loopback.requests[-1].body["messages"][1]) is replay


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_concurrent_calls_do_not_mix(connect: Connect, provider: str) -> None:
    model = (await connect(provider)).load()
    asked = [model.generate([user(f"Answer with the one word: w{n}")]) for n in range(40)]
    assert [reply.text for reply in await asyncio.gather(*asked)] == [f"w{n}" for n in range(40)]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_model_outlives_its_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that belong to a loop that is gone are not used again; nobody can close them any more."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    started, stop = threading.Event(), threading.Event()
    loopback = Loopback(ResponsesServer().handle)

    async def serve() -> None:
        async with loopback.serve():
            started.set()
            await asyncio.to_thread(stop.wait, 60)

    server = threading.Thread(target=lambda: asyncio.run(serve()))
    server.start()
    try:
        assert started.wait(30)
        model = load("openai/gpt-5", {"base_url": loopback.url, **FAST})

        async def ask(last: bool) -> str:
            reply = await model.generate([user("Answer with the one word: pong")])
            if last:
                await close(model)
            return reply.text

        assert asyncio.run(ask(last=False)) == asyncio.run(ask(last=True)) == "pong"
    finally:
        stop.set()
        server.join(30)
        gc.collect()
