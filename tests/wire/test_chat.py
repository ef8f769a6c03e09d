"""Chat Completions as servers of all kinds speak them, and at Azure."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from trellis.models.conformance import LOOKUP, one_page_pdf, sine_wav, solid_png
from trellis.models.messages import (
    Document,
    Reasoning,
    Text,
    ToolResult,
    Video,
    system,
    user,
)
from trellis.models.model import ContextOverflow, GenerateConfig, ModelFault, ModelRequestError

from .azure_wire import API_VERSION
from .conftest import Connect, Wire
from .loopback import JSON, Fault, Response
from .talk import ASK, PING, sent, through_json

pytestmark = pytest.mark.wire


def answering(wire: Wire, message: JSON, finish: str | None = "stop", **more: Any) -> None:
    """The next answer is this one."""
    choice = {"index": 0, "message": message, "finish_reason": finish}
    wire.loopback.faults.append(Fault(status=200, body={"choices": [choice], **more}))


# --- servers of all kinds ---


async def test_usage_in_a_stream_is_asked_for_until_it_is_rejected(connect: Connect) -> None:
    wire = await connect("openai-compatible")
    reply = await wire.load().generate([PING])
    assert sent(wire)["stream_options"] == {"include_usage": True}
    assert reply.usage.input == wire.loopback.responses[0].body["usage"]["prompt_tokens"]

    wire = await connect("openai-compatible", knows_usage=False)
    model = wire.load()
    for _ in range(2):
        assert (await model.generate([PING])).usage.input > 0, "estimated"
    assert ["stream_options" in request.body for request in wire.loopback.requests] == [True, False, False]


async def test_a_rejection_of_something_else_is_told(connect: Connect) -> None:
    wire = await connect("openai-compatible")
    wire.loopback.faults.append(Fault(status=400, body={"error": {"message": "no such thing"}}))
    with pytest.raises(ModelRequestError, match="no such thing"):
        await wire.load().generate([PING])
    assert len(wire.loopback.requests) == 1


async def test_an_answer_in_one_piece_though_a_stream_was_asked_for(connect: Connect) -> None:
    wire = await connect("openai-compatible")
    answering(wire, {"content": "whole"})
    assert (await wire.load().generate([PING])).text == "whole"


async def test_a_stream_under_another_name(connect: Connect) -> None:
    """Some servers call their streams text."""
    wire = await connect("openai-compatible")
    chunk: JSON = {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
    named = Response({}, headers={"content-type": "text/plain"}, events=[chunk, "[DONE]"])
    wire.loopback._handle = lambda request: named
    assert (await wire.load().generate([PING])).text == "hi"


async def test_an_error_under_200(connect: Connect) -> None:
    wire = await connect("openai-compatible")
    for error in ({"message": "busy", "code": 503}, {"message": "busy", "type": "server_error"}, "busy"):
        wire.loopback.faults.append(Fault(status=200, body={"error": error}))
    wire.loopback.faults.append(Fault(status=200, body={"object": "error", "message": "busy", "code": 500}))
    answering(wire, {"content": "half"}, "error")
    assert (await wire.load().generate([PING])).retries == 5


@pytest.mark.parametrize("provider", ["openai", "openai-compatible", "azure", "azure chat", "anthropic"])
async def test_who_does_not_speak_says_so(connect: Connect, provider: str) -> None:
    wire = await connect(provider)
    with pytest.raises(ModelRequestError, match="does not speak; leave out the voice"):
        await wire.load().generate([PING], config=GenerateConfig(voice="alloy"))
    assert not wire.loopback.requests


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_the_limit_has_the_name_that_the_server_knows(connect: Connect, field: str) -> None:
    wire = await connect("openai-compatible")
    reply = await wire.load(max_tokens_field=field, max_output_tokens=3).generate([user("Count from 1 to 9.")])
    assert sent(wire)[field] == 3
    assert reply.stop_reason == "length"


@pytest.mark.parametrize(
    ("finish", "message", "stop"),
    [
        ("stop", {"tool_calls": [{"id": "1", "function": {"name": "lookup", "arguments": "{}"}}]}, "tool_calls"),
        (None, {"content": "x"}, "stop"),
        ("eos_token", {"content": "x"}, "stop"),
        ("length", {"content": "x"}, "length"),
        ("content_filter", {"content": ""}, "refusal"),
        ("stop", {"content": None, "refusal": "no"}, "refusal"),
    ],
)
async def test_why_an_answer_ended(connect: Connect, finish: str | None, message: JSON, stop: str) -> None:
    wire = await connect("openai-compatible")
    answering(wire, message, finish)
    assert (await wire.load().generate([PING])).stop_reason == stop


async def test_reasoning_details_go_back_as_they_came(connect: Connect) -> None:
    wire = await connect("openai-compatible")
    details = [{"type": "reasoning.text", "text": "Hm.", "signature": "s", "index": 0}]
    answering(wire, {"content": "x", "reasoning": "Hm.", "reasoning_details": details})
    model = wire.load()
    reply = await model.generate([PING])
    assert reply.message.parts[0] == Reasoning("Hm.", reply.message.parts[0].raw)
    wire.loopback.faults.append(Fault(status=422))
    with pytest.raises(ModelRequestError):
        await model.generate([PING, through_json(reply.message), PING])
    assert sent(wire)["messages"][1]["reasoning_details"] == details
    assert sent(wire)["messages"][1]["reasoning"] == "Hm."


async def test_what_a_call_has_besides_goes_back(connect: Connect) -> None:
    """Gemini's compatible server wants its thought signatures."""
    wire = await connect("openai-compatible")
    signed = {"extra_content": {"google": {"thought_signature": "s"}}}
    call = {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": "{}"}, **signed}
    answering(wire, {"content": None, "tool_calls": [call]}, "tool_calls")
    model = wire.load()
    reply = await model.generate([ASK], tools=[LOOKUP])
    result = ToolResult("c1", "lookup", (Text("w"),)).message
    await model.generate([ASK, through_json(reply.message), result], tools=[LOOKUP])
    assert sent(wire)["messages"][1]["tool_calls"] == [call]


async def test_ids_that_a_server_numbers_anew_differ(connect: Connect) -> None:
    wire = await connect("openai-compatible")
    call = {"id": "call_0", "type": "function", "function": {"name": "lookup", "arguments": "{}"}}
    model = wire.load()
    messages = [ASK]
    for _ in range(2):
        answering(wire, {"content": None, "tool_calls": [call]}, "tool_calls")
        reply = await model.generate(messages, tools=[LOOKUP])
        messages += [reply.message, ToolResult("call_0", "lookup", (Text("w"),)).message]
    await model.generate(messages, tools=[LOOKUP])
    said = sent(wire)["messages"]
    made = [call["id"] for message in said for call in message.get("tool_calls", ())]
    answered = [message["tool_call_id"] for message in said if message["role"] == "tool"]
    assert made == answered
    assert len(set(made)) == 2


async def test_media(connect: Connect) -> None:
    wire = await connect("openai-compatible")
    words = Document("grüße".encode(), "text/markdown")
    await wire.load().generate([user("Look.", solid_png((1, 2, 3)), one_page_pdf("x"), words, sine_wav(0))])
    content = sent(wire)["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url", "file", "text", "input_audio"]
    assert content[2]["file"]["filename"] == "document.pdf"
    assert content[3]["text"] == "grüße"
    with pytest.raises(ModelRequestError, match="cannot send a part of type Video"):
        await wire.load().generate([user(Video(b"x", "video/mp4"))])


async def test_usage_by_class(connect: Connect) -> None:
    wire = await connect("openai-compatible")
    details = {"cached_tokens": 20, "cache_write_tokens": 5, "audio_tokens": 10}
    written = {"reasoning_tokens": 4, "audio_tokens": 6}
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 30,
        "prompt_tokens_details": details,
        "completion_tokens_details": written,
    }
    answering(wire, {"content": "x"}, usage=usage)
    used = (await wire.load().generate([PING])).usage
    assert (used.input, used.cache_read, used.cache_write, used.audio_input) == (65, 20, 5, 10)
    assert (used.output, used.reasoning, used.audio_output) == (24, 4, 6)
    assert used.total == 130


# --- Azure ---


@pytest.mark.parametrize(("name", "path"), [("azure", "responses"), ("azure chat", "deployments/d/chat/completions")])
async def test_azure_addresses(connect: Connect, name: str, path: str) -> None:
    wire = await connect(name)
    reply = await wire.load(model="azure/d").generate([system("Be terse."), PING])
    request = wire.loopback.requests[0]
    assert request.path == f"/openai/{path}"
    assert request.query == {"api-version": [API_VERSION]}
    assert request.body["model"] == "d"
    assert "authorization" not in request.headers
    assert (reply.text, reply.cost_usd) == ("pong", None)


@pytest.mark.parametrize(
    ("deployed", "role", "limit"),
    [
        (None, "developer", "max_completion_tokens"),
        ("gpt-5-mini", "developer", "max_completion_tokens"),
        ("gpt-4.1", "system", "max_tokens"),
    ],
)
async def test_azure_deploys_models_under_other_names(
    connect: Connect, deployed: str | None, role: str, limit: str
) -> None:
    """A name that is not known is taken for a new model's."""
    chat = await connect("azure chat")
    options = {"deployed": deployed, "max_output_tokens": 20, "reasoning_effort": "none"}
    await chat.load(model="azure/d", **options).generate([system("Be terse."), PING])
    assert sent(chat)["messages"][0]["role"] == role
    assert sent(chat)[limit] == 20
    nearest = {"gpt-5-mini": "minimal", "gpt-4.1": None}.get(deployed or "", "none")
    assert sent(chat).get("reasoning_effort") == nearest


@pytest.mark.parametrize("name", ["azure", "azure chat"])
async def test_azure_errors_are_one_line(connect: Connect, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    wire = await connect(name)
    filtered = {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation"},
    }
    wire.loopback.faults.append(Fault(status=400, body={"error": filtered}))
    reply = await wire.load().generate([PING])
    assert reply.stop_reason == "refusal"
    assert "content management policy" in reply.text
    with pytest.raises(ModelRequestError, match="unknown model or address"):
        await wire.load(api_version="2020-01-01").generate([PING])
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "wrong-key-0123456789")
    with pytest.raises(ModelRequestError, match="the key was not accepted; check AZURE_OPENAI_API_KEY") as caught:
        await wire.load().generate([PING])
    assert "wrong-key" not in str(caught.value)


async def test_azure_needs_an_address_and_a_version() -> None:
    from trellis.models.catalog import load

    with pytest.raises(ValueError, match="azure/x: base_url: Field required; api_version: Field required"):
        load("azure/x", {})


# --- the server ---


async def test_the_server_rejects_what_openai_rejects(connect: Connect) -> None:
    wire = await connect("openai audio")
    await wire.load().generate([PING])
    good = sent(wire)
    call = {"id": "1", "type": "function", "function": {"name": "x", "arguments": "{}"}}
    wrong: dict[str, JSON] = {
        "Unknown parameter": {"temprature": 1},
        "only allowed when 'stream' is enabled": {"stream": False},
        "Invalid message with role robot": {"messages": [{"role": "robot", "content": "x"}]},
        "did not have response messages": {
            "messages": [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "user", "content": "x"}]
        },
        "must follow a message with 'tool_calls'": {
            "messages": [{"role": "tool", "tool_call_id": "1", "content": "x"}]
        },
        "expected a string, got null": {"messages": [{"role": "assistant", "content": None}]},
        "was not found; it has expired": {
            "messages": [{"role": "assistant", "content": None, "audio": {"id": "audio_x"}}]
        },
        "does not support 'wav' when stream=true": {"audio": {"voice": "alloy", "format": "wav"}},
        "goes with the modality": {"modalities": ["text"]},
    }
    for said, change in wrong.items():
        response = wire.server.handle(replace(wire.loopback.requests[0], body={**good, **change}))
        assert response.status == 400
        assert said in response.body["error"]["message"]


async def test_a_damaged_event_is_tried_again(connect: Connect) -> None:
    """One that has not the members that its kind has."""
    for provider, event in (
        ("openai", {"type": "response.completed"}),
        ("openai-compatible", {"choices": [{"index": 0, "delta": {"tool_calls": [3]}}]}),
    ):
        wire = await connect(provider)
        handle = wire.loopback._handle
        answers = iter([Response({}, events=[event])])
        wire.loopback._handle = lambda request, handle=handle, answers=answers: next(answers, None) or handle(request)
        reply = await wire.load().generate([PING])
        assert (reply.text, reply.retries) == ("pong", 1)


async def test_a_stream_that_is_none(connect: Connect) -> None:
    wire = await connect("openai-compatible")
    wire.loopback._handle = lambda request: Response({}, events=[base64.b64encode(b"noise").decode()])
    with pytest.raises(ModelFault, match="the stream is damaged"):
        await wire.load(retry_budget_s=0.0).generate([PING])


async def test_an_overflow_without_a_code(connect: Connect) -> None:
    wire = await connect("openai-compatible", window=100)
    with pytest.raises(ContextOverflow):
        await wire.load().generate([user("word " * 900)])
