"""What happens when a provider misbehaves: real SDKs, real sockets, injected faults."""

from __future__ import annotations

import socket
import traceback
from typing import Any

import pytest

from trellis.models.catalog import close, load
from trellis.models.messages import user
from trellis.models.model import ContextOverflow, ModelFault, ModelRequestError

from .conftest import CLIENTS, FAST, PROVIDERS, Connect
from .loopback import JSON, Fault
from .talk import PING

pytestmark = [pytest.mark.wire, pytest.mark.chaos]

LONG = [user("Count from 1 to 60, separated by spaces, without any other words.")]
PASSING = {
    "429": Fault(status=429),
    "429 with Retry-After": Fault(status=429, headers={"retry-after": "0"}),
    "408": Fault(status=408),
    "409": Fault(status=409),
    "500": Fault(status=500),
    "503": Fault(status=503),
    "529": Fault(status=529),
    "reset": Fault("reset"),
    "stall": Fault("stall"),
    "cut JSON": Fault("cut_json"),
    "cut body": Fault("cut_body"),
    "HTML": Fault("not_json"),
    "reset within": Fault("reset_within"),
    "stall within": Fault("stall_within"),
}
STREAM_ALONE = {
    "cut at once": Fault("cut_within", part=0.0),
    "cut within": Fault("cut_within"),
    "cut before the end": Fault("cut_within", part=0.9),
    "torn within": Fault("torn_within"),
}
NAMES = ("stall", "stall within")
"""Faults for which a deadline must be short."""


def error_event(provider: str, kind: str, message: str = "said the server") -> JSON:
    """An error in the middle of a stream, as the provider writes it."""
    if provider in ("anthropic", "bedrock", "vertex"):
        return {"type": "error", "error": {"type": kind, "message": message}}
    if provider in ("openai", "azure"):
        return {"type": "error", "code": kind, "message": message, "param": None, "sequence_number": 99}
    return {"error": {"type": kind, "code": kind, "message": message}}


def impatient(fault: str, stream: bool) -> dict[str, Any]:
    if fault not in NAMES:
        return {"stream": stream}
    return {"stream": True, "stall_timeout_s": 0.4} if stream else {"stream": False, "timeout_s": 0.8}


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "in one piece"])
@pytest.mark.parametrize("provider", CLIENTS)
async def test_passing_fault_is_tried_again(connect: Connect, provider: str, stream: bool, fault: str) -> None:
    wire = await connect(provider)
    wire.loopback.faults.append(PASSING[fault])
    reply = await wire.load(**impatient(fault, stream)).generate([PING])
    assert reply.text == "pong"
    if fault not in NAMES:  # on a busy machine a short deadline may pass once more
        assert len(wire.loopback.requests) == 2, "one fault, one more attempt: the SDK's own retries must be off"
        assert reply.retries == 1
    assert 0 < reply.waited_s < reply.latency_s
    first, second = (request.body for request in wire.loopback.requests[:2])
    assert first == second


@pytest.mark.parametrize("fault", STREAM_ALONE)
@pytest.mark.parametrize("provider", CLIENTS)
async def test_half_a_stream_is_not_an_answer(connect: Connect, provider: str, fault: str) -> None:
    wire = await connect(provider)
    wire.loopback.faults.append(STREAM_ALONE[fault])
    reply = await wire.load().generate(LONG)
    assert reply.text.split() == [str(n + 1) for n in range(60)]
    assert len(wire.loopback.requests) == 2


@pytest.mark.parametrize("kind", ["reset_after", "slow", "duplicate"])
@pytest.mark.parametrize("provider", CLIENTS)
async def test_a_whole_stream_is_an_answer(connect: Connect, provider: str, kind: Any) -> None:
    """A reset after the end, and bytes that trickle in, do no harm. Events that come twice are ignored where they can
    be told, and are a damaged stream elsewhere."""
    wire = await connect(provider)
    wire.loopback.faults.append(Fault(kind))
    reply = await wire.load().generate(LONG)
    assert reply.text.split() == [str(n + 1) for n in range(60)]
    told = kind != "duplicate" or provider in ("openai", "azure")
    assert len(wire.loopback.requests) == (1 if told else 2)


@pytest.mark.parametrize("provider", CLIENTS)
async def test_an_error_in_a_stream_counts_like_any_other(connect: Connect, provider: str) -> None:
    wire = await connect(provider)
    overloaded = {
        "anthropic": "overloaded_error",
        "vertex": "overloaded_error",
        "bedrock": "serviceUnavailableException",
    }
    passing = error_event(provider, overloaded.get(provider, "server_error"))
    wire.loopback.faults.append(Fault("error_within", body=passing))
    assert (await wire.load().generate([PING])).text == "pong"
    assert len(wire.loopback.requests) == 2

    wrong = "validationException" if provider == "bedrock" else "invalid_request_error"
    wire.loopback.faults.append(Fault("error_within", body=error_event(provider, wrong)))
    with pytest.raises(ModelRequestError, match=f"{wrong}: said the server"):
        await wire.load().generate([PING])
    assert len(wire.loopback.requests) == 3, "it cannot be helped by asking again"

    too_long = error_event(provider, wrong, "prompt is too long: 210000 tokens > 200000 maximum")
    wire.loopback.faults.append(Fault("error_within", body=too_long))
    with pytest.raises(ContextOverflow, match="longer than the model's context window"):
        await wire.load().generate([PING])


@pytest.mark.parametrize("provider", ["openai", "openai-compatible", "openai audio", "azure", "azure chat"])
async def test_a_filter_in_a_stream_is_a_refusal(connect: Connect, provider: str) -> None:
    wire = await connect(provider)
    wire.loopback.faults.append(Fault("error_within", body=error_event(provider, "content_filter")))
    reply = await wire.load().generate([PING])
    assert (reply.stop_reason, reply.text) == ("refusal", "said the server")
    assert reply.latency_s > 0


async def test_a_stall_is_told_from_a_late_end(connect: Connect) -> None:
    wire = await connect("openai")
    wire.loopback.faults.append(Fault("stall_within"))
    with pytest.raises(ModelFault, match=r"nothing came for 0\.2 s"):
        await wire.load(stall_timeout_s=0.2, retry_budget_s=0.0).generate([PING])
    wire.loopback.faults.append(Fault("stall_within"))
    with pytest.raises(ModelFault, match=r"no answer within 0\.3 s"):
        await wire.load(stall_timeout_s=20, timeout_s=0.3, retry_budget_s=0.0).generate([PING])


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "in one piece"])
async def test_every_kind_of_fault_in_one_call(connect: Connect, stream: bool) -> None:
    wire = await connect("openai")
    wire.loopback.faults.extend(PASSING.values())
    deadline = {"stall_timeout_s": 0.4} if stream else {"timeout_s": 0.8}
    reply = await wire.load(stream=stream, **deadline).generate([PING])
    assert reply.text == "pong"
    assert len(wire.loopback.requests) > len(PASSING)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_waits_as_long_as_asked(connect: Connect, provider: str) -> None:
    wire = await connect(provider)
    wire.loopback.faults.append(Fault(status=429, headers={"retry-after-ms": "120"}))
    reply = await wire.load().generate([PING])
    assert reply.waited_s >= 0.12, "the wait that the provider asked for is counted as waiting"


async def test_asked_to_wait_longer_than_the_budget_gives_up_at_once(connect: Connect) -> None:
    wire = await connect("anthropic")
    wire.loopback.faults.append(Fault(status=429, headers={"retry-after": "3600"}))
    with pytest.raises(ModelFault, match="gave up after 1 attempts"):
        await wire.load().generate([PING])


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_spent_budget_is_a_fault_in_one_line(connect: Connect, provider: str) -> None:
    wire = await connect(provider)
    wire.loopback.faults.extend([Fault(status=503)] * 10_000)
    model = wire.load(retry_budget_s=0.1)
    with pytest.raises(ModelFault) as raised:
        await model.generate([PING])
    line = str(raised.value)
    assert line.startswith(f"{model.name}: gave up after {len(wire.loopback.requests)} attempts")
    assert "HTTP 503: injected" in line
    assert "\n" not in line


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_wrong_request_is_not_tried_again(connect: Connect, provider: str, status: int) -> None:
    wire = await connect(provider)
    said = {"error": {"type": "invalid_request_error", "message": "this is\n\x1b[31mwrong", "code": None}}
    wire.loopback.faults.append(Fault(status=status, body=said))
    model = wire.load()
    with pytest.raises(ModelRequestError) as raised:
        await model.generate([PING])
    line = str(raised.value)
    assert len(wire.loopback.requests) == 1
    assert line.startswith(f"{model.name}: ")
    assert line.endswith(f"(HTTP {status}: this is [31mwrong)")
    assert line.isprintable(), "one line without control characters"


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (400, "context_length_exceeded", "longer than the model's context window"),
        (429, "insufficient_quota", "check its plan and billing"),
        (404, "model_not_found", "check its name and the rights of OPENAI_API_KEY"),
    ],
)
async def test_known_codes_say_what_to_do(connect: Connect, status: int, code: str, advice: str) -> None:
    wire = await connect("openai")
    wire.loopback.faults.append(Fault(status=status, body={"error": {"code": code, "message": "no", "type": "x"}}))
    with pytest.raises(ModelRequestError, match=advice):
        await wire.load().generate([PING])
    assert len(wire.loopback.requests) == 1


@pytest.mark.parametrize(("provider", "env"), [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")])
async def test_wrong_key_is_named_and_never_shown(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, provider: str, env: str
) -> None:
    """The server quotes the key in its message, whole; none of it may be seen."""
    wire = await connect(provider)
    secret = "hunter2-0123456789-correct-horse"
    monkeypatch.setenv(env, secret)
    model = wire.load()
    with pytest.raises(ModelRequestError, match=f"the key was not accepted; check {env}") as raised:
        await model.generate([PING])
    assert secret in wire.loopback.requests[0].headers["authorization"]
    for shown in (
        str(raised.value),
        repr(raised.value),
        repr(model),
        "".join(traceback.format_exception(raised.value)),
    ):
        assert secret not in shown
    assert "[key]" in str(raised.value)


@pytest.mark.parametrize("quoted", ["sk-proj-********************wxyz", "sk-ant-api03-abcd"])
async def test_half_masked_keys_are_not_shown_either(connect: Connect, quoted: str) -> None:
    wire = await connect("openai")
    body = {"error": {"message": f"Incorrect API key provided: {quoted}. Find it elsewhere.", "code": None}}
    wire.loopback.faults.append(Fault(status=401, body=body))
    with pytest.raises(ModelRequestError, match=r"provided: \[key\]") as raised:
        await wire.load().generate([PING])
    assert quoted not in str(raised.value)


async def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    model = load("openai-compatible/m", {"base_url": f"http://127.0.0.1:{port}", **FAST, "retry_budget_s": 0.05})
    with pytest.raises(ModelFault, match="connection failed: "):
        await model.generate([PING])
    await close(model)


async def test_failure_under_http_200(connect: Connect) -> None:
    """The Responses API accepts a request and fails later."""
    wire = await connect("openai")

    def failed(code: str) -> Fault:
        return Fault(status=200, body={"status": "failed", "error": {"code": code, "message": "so it is"}})

    wire.loopback.faults.extend([failed("server_error"), failed("rate_limit_exceeded")])
    assert (await wire.load().generate([PING])).text == "pong"
    assert len(wire.loopback.requests) == 3

    wire.loopback.faults.append(failed("bio_policy"))
    assert (await wire.load().generate([PING])).stop_reason == "refusal"

    wire.loopback.faults.append(failed("invalid_image"))
    with pytest.raises(ModelRequestError, match="invalid_image: so it is"):
        await wire.load().generate([PING])


async def test_flagged_prompt_is_a_refusal(connect: Connect) -> None:
    wire = await connect("openai")
    wire.loopback.faults.append(Fault(status=400, body={"error": {"code": "invalid_prompt", "message": "flagged"}}))
    reply = await wire.load().generate([PING])
    assert (reply.stop_reason, reply.text) == ("refusal", "flagged")


async def test_not_a_chat_completions_server(connect: Connect) -> None:
    wire = await connect("openai-compatible")
    wire.loopback.faults.extend([Fault(status=200, body={"hello": "world"})] * 10_000)
    with pytest.raises(ModelFault, match="no choices"):
        await wire.load(retry_budget_s=0.05).generate([PING])
