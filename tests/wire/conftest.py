from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from trellis.models.catalog import close, load
from trellis.models.model import Model

from . import anthropic_wire, chat_wire, openai_wire
from .loopback import Loopback

FAST = {"retry_initial_wait_s": 0.001, "retry_max_wait_s": 0.01, "retry_budget_s": 30.0, "timeout_s": 20.0}


@dataclass
class Wire:
    """A provider on the loopback interface."""

    server: Any
    loopback: Loopback
    load: Callable[..., Model]


Connect = Callable[..., Any]

PROVIDERS = {
    "openai": ("openai/gpt-5-mini", openai_wire.ResponsesServer),
    "anthropic": ("anthropic/claude-haiku-4-5", anthropic_wire.MessagesServer),
    "openai-compatible": ("openai-compatible/some/model", chat_wire.ChatServer),
}


@pytest.fixture
async def connect(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """`await connect("anthropic")`: a server, and `load(**options)` for models that talk to it."""
    monkeypatch.setenv("OPENAI_API_KEY", openai_wire.KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", anthropic_wire.KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with AsyncExitStack() as stack:

        async def start(provider: str, **server_options: Any) -> Wire:
            name, kind = PROVIDERS[provider]
            server = kind(**server_options)
            loopback = await stack.enter_async_context(Loopback(server.handle).serve())

            def make(**options: Any) -> Model:
                model = load(options.pop("model", name), {"base_url": loopback.url, **FAST, **options})
                stack.push_async_callback(close, model)
                return model

            return Wire(server, loopback, make)

        yield start
