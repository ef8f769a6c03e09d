"""A cache of replies: what was asked before, in every respect, is answered again without asking anybody."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trellis.models.messages import Message, message_from_json, message_to_json
from trellis.models.model import GenerateConfig, Model, Reply, ToolSpec, Usage
from trellis.models.user_folder import user_folder, write_whole
from trellis.models.wrapper import Wrapper

_FORMAT = 1
_ANSWERS = ("stop", "tool_calls")
"""Stop reasons of replies that are whole and are answers: a refusal or half a reply may turn out better next time."""
_WITHOUT_EFFECT = frozenset(
    {
        "api_key_env",
        "batch",
        "batch_poll_s",
        "batch_size",
        "batch_wait_s",
        "connect_timeout_s",
        "max_concurrency",
        "prices",
        "retry_budget_s",
        "retry_initial_wait_s",
        "retry_max_wait_s",
        "stall_timeout_s",
        "stream",
        "timeout_s",
    }
)
"""Options of clients that say how to ask and not what: replies are the same with any of them."""
_AMBIENT = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL")
"""What the SDKs take from the environment as the address."""


def default_folder() -> Path:
    """Where replies are kept unless a folder is named."""
    return user_folder("replies")


class ReplyCache:
    """Replies in a folder, each in a file named by the hash of all that was asked. Any number of processes may use it;
    callers of this object who ask for the same at the same time take turns, so that only the first one asks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._turns: dict[str, asyncio.Lock] = {}
        self._callers: Counter[str] = Counter()

    def load(self, key: str) -> Reply | None:
        """What is kept under `key`; None if there is nothing, or it is damaged."""
        try:
            document = json.loads(self._path(key).read_bytes())
            if document["sha256"] != _digest(document["reply"]):
                return None
            return _reply(document["reply"])
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def keep(self, key: str, reply: Reply) -> None:
        """Keep a reply if it is a whole answer. A disk that takes nothing costs a reply that is asked for again."""
        if reply.stop_reason not in _ANSWERS or not (reply.text.strip() or reply.tool_calls):
            return
        content = _content(reply)
        document = {"sha256": _digest(content), "reply": content}
        try:
            write_whole(self._path(key), json.dumps(document).encode())
        except OSError:
            return

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Within it, nobody else of this object asks for the same."""
        lock = self._turns.setdefault(key, asyncio.Lock())
        self._callers[key] += 1
        try:
            async with lock:
                yield
        finally:
            self._callers[key] -= 1
            if not self._callers[key]:
                del self._callers[key], self._turns[key]

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


class Cached(Wrapper):
    """A model whose answers are kept. Made with `wrap(Cached, model, cache, options)`.

    What a provider compacts is asked for each time: it is no answer to the agent.
    """

    def __init__(self, inner: Model, cache: ReplyCache, options: Mapping[str, Any]) -> None:
        """`options`: those that the model was made with."""
        super().__init__(inner)
        self._cache = cache
        told = {name: value for name, value in options.items() if name not in _WITHOUT_EFFECT}
        ambient = {name: os.environ[name] for name in _AMBIENT if name in os.environ and "base_url" not in told}
        self._identity = [_FORMAT, inner.name, told, ambient]

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        """See `Model.generate`. `config.seed` is a part of the question: an episode derives it from the seed of the
        run, task, epoch, branch and number of the call, so that repeated samples stay samples."""
        started = time.monotonic()
        key = self.key(messages, tools, config)
        async with self._cache.turn(key):
            waited_s = time.monotonic() - started  # for somebody else's answer, which may be long in coming
            reply = self._cache.load(key)
            if reply is None:
                reply = await super().generate(messages, tools=tools, config=config)
                self._cache.keep(key, reply)
            return replace(reply, latency_s=reply.latency_s + waited_s, waited_s=reply.waited_s + waited_s)

    def key(self, messages: Sequence[Message], tools: Sequence[ToolSpec], config: GenerateConfig) -> str:
        """The hash of all that makes up a question."""
        asked = [
            self._identity,
            [_asked(message) for message in messages],
            [tool.to_json() for tool in tools],
            config.to_json(),
        ]
        return _digest(asked)


def _asked(message: Message) -> dict[str, Any]:
    """A message as far as a model is told of it."""
    content = message_to_json(message, lambda data: hashlib.sha256(data).hexdigest())
    for part in content["parts"]:
        part.pop("data", None)  # facts about a tool result that no model sees, such as how long it took
    return content


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _content(reply: Reply) -> dict[str, Any]:
    return {
        "message": message_to_json(reply.message),
        "stop_reason": reply.stop_reason,
        "usage": reply.usage.to_json(),
        "cost_usd": reply.cost_usd,
        "tier": reply.tier,
        "dropped": list(reply.dropped),
    }


def _reply(content: Mapping[str, Any]) -> Reply:
    return Reply(
        message_from_json(content["message"]),
        content["stop_reason"],
        Usage(**content["usage"]),
        content["cost_usd"],
        tier=content["tier"],
        cached=True,
        dropped=tuple(content["dropped"]),
    )


@dataclass(frozen=True, slots=True)
class Contents:
    replies: int
    bytes: int


def contents(folder: Path) -> Contents:
    """How much a cache holds."""
    sizes = [file.stat().st_size for file in folder.glob("??/*.json")]
    return Contents(len(sizes), sum(sizes))
