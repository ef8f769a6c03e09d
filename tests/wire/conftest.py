from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import pytest

from trellis.models.catalog import close, load
from trellis.models.model import Model

from . import anthropic_wire, azure_wire, chat_wire, openai_wire, voice
from .loopback import Loopback

FAST = {"retry_initial_wait_s": 0.001, "retry_max_wait_s": 0.01, "retry_budget_s": 30.0, "timeout_s": 20.0}


@dataclass
class Wire:
    """A provider on the loopback interface."""

    server: Any
    loopback: Loopback
    load: Callable[..., Model]


@dataclass(frozen=True)
class Provider:
    model: str
    server: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the model."""
    environment: Mapping[str, str] = field(default_factory=dict)


Connect = Callable[..., Any]


def _audio_server(**options: Any) -> chat_wire.ChatServer:
    return chat_wire.ChatServer(**{"keyed": True, "voices": voice.Voices(), **options})


PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider("openai/gpt-5-mini", openai_wire.ResponsesServer),
    "anthropic": Provider("anthropic/claude-haiku-4-5", anthropic_wire.MessagesServer),
    "openai-compatible": Provider("openai-compatible/some/model", chat_wire.ChatServer),
    "openai audio": Provider("openai/gpt-audio", _audio_server, {"voice": "alloy"}),
    "azure": Provider("azure/gpt-5-mini", azure_wire.AzureServer, {"api_version": azure_wire.API_VERSION}),
    "azure chat": Provider(
        "azure/gpt-5-mini", azure_wire.AzureServer, {"api_version": azure_wire.API_VERSION, "api": "chat"}
    ),
}


HAS_CLOUDS = bool(find_spec("botocore")) and bool(find_spec("google.auth"))
"""Are the extras `bedrock` and `vertex` installed?"""


def _clouds() -> Mapping[str, Provider]:
    if not HAS_CLOUDS:
        return {}
    from . import cloud_wire

    bedrock = {**cloud_wire.environment("bedrock"), "AWS_CONFIG_FILE": "/dev/null"}
    bedrock["AWS_SHARED_CREDENTIALS_FILE"] = "/dev/null"
    vertex = {**cloud_wire.environment("vertex"), "NO_GCE_CHECK": "true"}
    return {
        "bedrock": Provider(
            "bedrock/eu.anthropic.claude-haiku-4-5-20251001-v1:0", cloud_wire.BedrockServer, environment=bedrock
        ),
        "vertex": Provider(
            "vertex/claude-haiku-4-5@20251001", cloud_wire.VertexServer, {"api_key_env": "VERTEX_TOKEN"}, vertex
        ),
    }


CLIENTS: Mapping[str, Provider] = {**PROVIDERS, **_clouds()}
"""All of them: the platforms too, whose requests look different."""


@pytest.fixture
async def connect(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """`await connect("anthropic")`: a server, and `load(**options)` for models that talk to it."""
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.setenv(name, openai_wire.KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", anthropic_wire.KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with AsyncExitStack() as stack:

        async def start(name: str, **server_options: Any) -> Wire:
            provider = CLIENTS[name]
            for variable, value in provider.environment.items():
                monkeypatch.setenv(variable, value)
            server = provider.server(**server_options)
            loopback = await stack.enter_async_context(Loopback(server.handle).serve())

            def make(**options: Any) -> Model:
                options = {"base_url": loopback.url, **FAST, **provider.options, **options}
                model = load(options.pop("model", provider.model), options)
                stack.push_async_callback(close, model)
                return model

            return Wire(server, loopback, make)

        yield start
