"""Anthropic's models on the platforms of Amazon and Google."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

pytest.importorskip("boto3", reason="needs the extra bedrock")
pytest.importorskip("google.auth", reason="needs the extra vertex")

from trellis.models import conformance
from trellis.models.catalog import close, load
from trellis.models.messages import ToolResult, user
from trellis.models.model import Compacts, CountsTokens, HasWindow, Model, ModelFault, ModelRequestError, Priced

from . import cloud_wire
from .conftest import FAST, Wire
from .loopback import Fault, Loopback

pytestmark = pytest.mark.wire

MODELS = {
    "bedrock": "bedrock/eu.anthropic.claude-haiku-4-5-20251001-v1:0",
    "vertex": "vertex/claude-haiku-4-5@20251001",
}
PONG = user("Answer with the one word: pong")


class Clouds:
    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def connect(self, provider: str, **server_options: Any) -> Wire:
        kind = {"bedrock": cloud_wire.BedrockServer, "vertex": cloud_wire.VertexServer}[provider]
        server: Any = kind(**server_options)
        loopback = await self._stack.enter_async_context(Loopback(server.handle).serve())
        token = {"api_key_env": "VERTEX_TOKEN"} if provider == "vertex" else {}

        def make(**options: Any) -> Model:
            name = str(options.pop("model", MODELS[provider]))
            model = load(name, {"base_url": loopback.url, **FAST, **token, **options})
            self._stack.push_async_callback(close, model)
            return model

        return Wire(server, loopback, make)


@pytest.fixture
async def clouds(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> AsyncIterator[Clouds]:
    for name in ("AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE", "AWS_SESSION_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{tmp_path}/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{tmp_path}/credentials")
    monkeypatch.setenv("CLOUDSDK_CONFIG", f"{tmp_path}/gcloud")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for provider in MODELS:
        for name, value in cloud_wire.environment(provider).items():
            monkeypatch.setenv(name, value)
    from anthropic.lib.aws import _auth

    _auth._get_session.cache_clear()  # type: ignore[attr-defined]  # the SDK keeps the credentials that it has found
    async with AsyncExitStack() as stack:
        yield Clouds(stack)


@pytest.mark.conformance
@pytest.mark.parametrize("check", conformance.CHECKS)
@pytest.mark.parametrize("provider", MODELS)
async def test_conformance(clouds: Clouds, provider: str, check: str) -> None:
    wire = await clouds.connect(provider)
    await conformance.CHECKS[check](wire.load())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("provider", MODELS)
async def test_thinking_and_cache_survive(clouds: Clouds, provider: str, stream: bool) -> None:
    """Also between the platforms: signatures hold on all of them."""
    wire = await clouds.connect(provider)
    model = wire.load(stream=stream)
    ask = user('Call the tool `lookup` with the keys "alpha" and "beta", then answer with the words.')
    reply = await model.generate([ask], tools=[conformance.LOOKUP])
    results = [ToolResult(call.id, call.name, ()).message for call in reply.tool_calls]
    second = await model.generate([ask, reply.message, *results], tools=[conformance.LOOKUP])
    assert wire.loopback.requests[1].body["messages"][1]["content"] == wire.loopback.responses[0].body["content"]
    assert second.usage.cache_read > 0
    assert (second.cost_usd, second.dropped) == (None, ())


@pytest.mark.parametrize("provider", MODELS)
async def test_windows_are_anthropics_and_prices_are_not(clouds: Clouds, provider: str) -> None:
    model = (await clouds.connect(provider)).load()
    assert isinstance(model, HasWindow)
    assert (model.context_tokens, model.max_output_tokens) == (200_000, 64_000)
    unknown = (await clouds.connect(provider)).load(model=f"{provider}/some-model")
    assert (unknown.context_tokens, unknown.max_output_tokens) == (None, None)  # type: ignore[attr-defined]
    assert isinstance(model, Priced)
    assert model.worst_case_usd([PONG]) is None


async def test_a_conversation_moves_between_the_platforms(clouds: Clouds) -> None:
    amazon, google = await clouds.connect("bedrock"), await clouds.connect("vertex")
    google.server.blocks = amazon.server.blocks
    reply = await amazon.load().generate([PONG])
    again = await google.load().generate([PONG, reply.message, PONG])
    assert (again.text, again.dropped) == ("pong", ())


async def test_vertex_counts_and_compacts_and_bedrock_does_not(clouds: Clouds) -> None:
    google = (await clouds.connect("vertex")).load()
    assert isinstance(google, Compacts)
    assert (await google.compact([PONG])).text == "A summary of 1 turns."
    assert isinstance(google, CountsTokens)
    assert (await google.count_tokens([PONG])).method == "provider"
    amazon = (await clouds.connect("bedrock")).load()
    assert not isinstance(amazon, CountsTokens)
    assert not isinstance(amazon, Compacts)


@pytest.mark.parametrize("kind", ["reset", "cut_within", "torn_within", "reset_within", "duplicate", "slow"])
@pytest.mark.parametrize("provider", MODELS)
async def test_faults_within_a_stream(clouds: Clouds, provider: str, kind: str) -> None:
    wire = await clouds.connect(provider)
    wire.loopback.faults.append(Fault(kind))  # type: ignore[arg-type]
    assert (await wire.load().generate([PONG])).text == "pong"


async def test_bedrock_takes_a_bearer_token(clouds: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = await clouds.connect("bedrock", bearer="bedrock-token-123")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-token-123")
    assert (await wire.load().generate([PONG])).text == "pong"
    monkeypatch.setenv("OTHER", "wrong-token")
    with pytest.raises(ModelRequestError, match="may not do this; check the rights of OTHER"):
        await wire.load(api_key_env="OTHER").generate([PONG])


async def test_wrong_credentials(clouds: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    monkeypatch.setenv("VERTEX_TOKEN", "wrong")
    with pytest.raises(ModelRequestError, match=r"check the rights of the AWS credentials.*does not match"):
        await (await clouds.connect("bedrock")).load().generate([PONG])
    with pytest.raises(ModelRequestError, match="the key was not accepted; check VERTEX_TOKEN"):
        await (await clouds.connect("vertex")).load().generate([PONG])


async def test_missing_credentials_are_one_line(clouds: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    amazon, google = await clouds.connect("bedrock"), await clouds.connect("vertex")
    for model, said in [
        (amazon.load(region="eu-west-1"), "no AWS credentials; set AWS_ACCESS_KEY_ID"),
        (google.load(api_key_env=None), "no Google credentials; run `gcloud auth application-default login`"),
    ]:
        with pytest.raises(ModelRequestError, match=said) as caught:
            await model.generate([PONG])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("provider", "unset", "said"),
    [
        ("bedrock", "AWS_REGION", "no region; set AWS_REGION, or -M region="),
        ("vertex", "CLOUD_ML_REGION", "no region; set CLOUD_ML_REGION, or -M region="),
        ("vertex", "ANTHROPIC_VERTEX_PROJECT_ID", "no project; set ANTHROPIC_VERTEX_PROJECT_ID, or -M project="),
    ],
)
async def test_what_is_not_set(
    clouds: Clouds, monkeypatch: pytest.MonkeyPatch, provider: str, unset: str, said: str
) -> None:
    monkeypatch.delenv(unset)
    for name in ("AWS_DEFAULT_REGION", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ModelRequestError, match=said):
        (await clouds.connect(provider)).load()


@pytest.mark.parametrize(("provider", "module"), [("bedrock", "boto3"), ("vertex", "google.auth")])
async def test_a_missing_extra_is_one_line(
    clouds: Clouds, monkeypatch: pytest.MonkeyPatch, provider: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModelRequestError, match=rf"needs {module}; pip install 'trellis-agents\[{provider}\]'"):
        load(MODELS[provider], {})


async def test_an_unknown_profile_is_one_line(clouds: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(ModelRequestError, match=r"The config profile \(nobody\) could not be found"):
        (await clouds.connect("bedrock")).load(profile="nobody")


async def test_bedrock_says_in_a_stream_what_cannot_be_helped(clouds: Clouds) -> None:
    wire = await clouds.connect("bedrock")
    for kind, expected in (("validationException", ModelRequestError), ("throttlingException", ModelFault)):
        error = {"type": "error", "error": {"type": kind, "message": "said Amazon"}}
        frames = cloud_wire.Frames({}, headers={"content-type": "application/vnd.amazon.eventstream"}, events=[error])
        wire.loopback._handle = lambda request, frames=frames: frames  # type: ignore[misc]
        with pytest.raises(expected, match="said Amazon"):
            await wire.load(retry_budget_s=0.0).generate([PONG])
