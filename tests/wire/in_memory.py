"""The clients of all providers with the real SDKs, and the strict servers behind them, without sockets between: for
tests of many conversations."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx2

from trellis.models.anthropic.client import CountingModel, MessagesOptions
from trellis.models.client import ClientOptions, Endpoint
from trellis.models.keys import Key
from trellis.models.messages import Message
from trellis.models.model import GenerateConfig, Model, Reply, ToolSpec
from trellis.models.openai.chat import Chat
from trellis.models.openai.chat_model import ChatModel
from trellis.models.openai.compatible import PROVIDER, CompatibleOptions
from trellis.models.openai.responses import ResponsesModel, ResponsesOptions

from . import anthropic_wire, openai_content
from .anthropic_wire import MessagesServer
from .chat_wire import ChatServer
from .loopback import Request, Response
from .openai_wire import ResponsesServer

ADDRESS = "http://server/v1"
OPENAI, OLD_CLAUDE, NEW_CLAUDE, CHAT, SLOPPY = "openai", "old claude", "new claude", "chat", "sloppy chat"


def endpoint(name: str, sdk: str, key: str, options: ClientOptions, handle: Callable[[Request], Response]) -> Endpoint:
    def answer(request: httpx2.Request) -> httpx2.Response:
        headers = {**request.headers, "authorization": f"Bearer {key}"}
        path = request.url.path.removeprefix("/v1") if sdk == "openai" else request.url.path
        answered = handle(Request(path, headers, json.loads(request.content)))
        return httpx2.Response(answered.status, json=answered.body, headers=dict(answered.headers))

    client = {"openai": "AsyncOpenAI", "anthropic": "AsyncAnthropic"}[sdk]
    arguments = {"api_key": key, "http_client": httpx2.AsyncClient(transport=httpx2.MockTransport(answer))}
    return Endpoint(name, sdk, client, Key("KEY", key), options, arguments=arguments)


def models() -> dict[str, Model]:
    """Fresh clients, each with a server of its own that remembers what it said."""
    common: dict[str, Any] = {"stream": False, "retry_budget_s": 0}
    openai = ResponsesOptions(base_url=ADDRESS, **common)
    claude = MessagesOptions(base_url="http://server", **common)
    chat = CompatibleOptions(base_url=ADDRESS, **common)
    made: dict[str, Model] = {
        OPENAI: ResponsesModel(
            "openai/gpt-5.4", "gpt-5.4", "gpt-5.4", openai,
            endpoint("openai/gpt-5.4", "openai", openai_content.KEY, openai, ResponsesServer().handle),
        )
    }  # fmt: skip
    for kind, name, preserve in ((OLD_CLAUDE, "claude-opus-4-6", False), (NEW_CLAUDE, "claude-opus-5-5", True)):
        server = MessagesServer(preserve=preserve)
        made[kind] = CountingModel(
            f"anthropic/{name}", name, claude,
            endpoint(f"anthropic/{name}", "anthropic", anthropic_wire.KEY, claude, server.handle),
        )  # fmt: skip
    for kind in (CHAT, SLOPPY):
        name = f"{PROVIDER}/{kind}"
        chats = endpoint(name, "openai", "none", chat, ChatServer(sloppy=kind == SLOPPY).handle)
        made[kind] = ChatModel(name, kind, chat, chats, Chat(name, PROVIDER))
    return made


class Moving:
    """A model that is whichever of the providers' it was last told to be; those that compact do it for the others."""

    name = "test/moving"

    def __init__(self, claude: str = NEW_CLAUDE) -> None:
        self.of = models()
        self.claude = claude
        self.at = OPENAI
        self.compacts = OPENAI

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        return await self.of[self.at].generate(messages, tools=tools, config=config)

    async def compact(self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = ()) -> Reply:
        model: Any = self.of[self.compacts]
        reply: Reply = await model.compact(messages, tools=tools)
        return reply
