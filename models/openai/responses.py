"""`openai/*`: OpenAI's models through the Responses API, without state on the server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from trellis.models.batch import Batcher, BatchOptions
from trellis.models.carry import dropped
from trellis.models.client import Answer, ClientOptions, Endpoint
from trellis.models.connected import Connected
from trellis.models.keys import Key
from trellis.models.messages import Message
from trellis.models.model import GenerateConfig, Reply, TokenCount, ToolSpec
from trellis.models.openai import items
from trellis.models.openai.batches import ResponsesBatches
from trellis.models.openai.content import json_schema
from trellis.models.openai.family import instructing_role, nearest_effort, reasons
from trellis.models.openai.streams import ResponsesAssembler
from trellis.models.options import parse_options
from trellis.models.parts import without_voice
from trellis.models.retry import TransientError

PROVIDER = "openai"


class ResponsesOptions(ClientOptions):
    """Options of all clients of the Responses API."""

    reasoning_summary: Literal["auto", "concise", "detailed"] | None = None
    """Ask for a readable summary of the reasoning; OpenAI gives it to verified organisations only."""
    service_tier: Literal["auto", "default", "flex", "priority", "fast", "ultrafast"] | None = None
    """How fast and at which prices; the project's settings decide by default. Flex is cheaper and slower."""
    prompt_cache_key: str | None = None
    """Requests with the same key are sent where the same beginning was read before; OpenAI advises to reuse one for
    what begins alike, and not for more than about 15 requests a minute. By default every conversation with OpenAI has
    its own, made from its tools and the beginning up to the first thing that the user said; at Azure none."""
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    """How long a beginning that was read is kept at most; OpenAI decides by default."""


class OpenAIOptions(ResponsesOptions, BatchOptions):
    """Options of `openai/*`."""


class ResponsesModel(Connected):
    """A model that is reached through the Responses API. Close it after use: `await model.close()`."""

    _options: ResponsesOptions

    def __init__(self, name: str, wire: str, known_as: str, options: ResponsesOptions, endpoint: Endpoint) -> None:
        """`wire` is the model's name in requests, `known_as` the name by which its abilities are known."""
        super().__init__(name, wire, options, endpoint)
        self._known_as = known_as
        self._provider = name.partition("/")[0]
        self._items = items.Items(name, self._provider, instructing_role(known_as))

    @property
    def _dearest_tier(self) -> str:
        asked = self._options.service_tier or "default"
        return "" if asked in ("auto", "default", "flex") else asked

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        """See `Model.generate`."""
        request = self._request(messages, tools, self._options.complete(config))
        if self._batcher:
            answer = await self._batcher.send(request, config.seed, self._check)
        else:
            answer = await self._endpoint.send(
                lambda client: client.responses.with_streaming_response.create(**request),
                ResponsesAssembler,
                self._check,
            )
        return replace(self._reply(answer), dropped=dropped(messages, self._provider))

    async def count_tokens(self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = ()) -> TokenCount:
        """See `CountsTokens.count_tokens`."""
        request = self._said(messages, tools)
        answer = await self._endpoint.send(
            lambda client: client.responses.input_tokens.with_streaming_response.count(**request), None, _check_count
        )
        return TokenCount(answer.body["input_tokens"], "provider")

    async def compact(self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = ()) -> Reply:
        """See `Compacts.compact`. OpenAI keeps what the user said and turns the rest into one encrypted item."""
        beginning = _instructions(messages)
        request: dict[str, Any] = {"model": self._model, "input": self._items.of(messages[len(beginning) :])}
        if beginning:
            request["instructions"] = "\n\n".join(message.text for message in beginning)
        if self._options.service_tier not in (None, "ultrafast"):
            request["service_tier"] = self._options.service_tier
        answer = await self._endpoint.send(
            lambda client: client.responses.with_streaming_response.compact(**request), None, _check_compaction
        )
        return replace(self._reply(answer), dropped=dropped(messages, self._provider))

    def _check(self, body: Mapping[str, Any]) -> None:
        """A response can fail although HTTP says 200."""
        if body.get("status") not in (None, "completed", "incomplete"):
            said = {"code": "server_error", "message": f"the response's status is {body['status']}"}
            raise self._endpoint.failure(body.get("error") or said)

    def _said(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> dict[str, Any]:
        """What a request says to the model: all that counts as input."""
        said: dict[str, Any] = {"model": self._model, "input": self._items.of(messages)}
        if tools:
            said |= {"tools": [items.tool(tool) for tool in tools], "parallel_tool_calls": True}
        return said

    def _request(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], config: GenerateConfig
    ) -> dict[str, Any]:
        without_voice(self.name, config)
        options = self._options
        request = self._said(messages, tools) | {"store": False, "stream": options.stream}
        key = options.prompt_cache_key
        if key is None and self._provider == PROVIDER:  # not every version of Azure's interface knows it
            key = _cache_key(messages, request.get("tools"))
        optional = {
            "prompt_cache_key": key,
            "prompt_cache_retention": options.prompt_cache_retention,
            "service_tier": options.service_tier,
            "temperature": config.temperature,
            "max_output_tokens": config.max_output_tokens,
            "tool_choice": config.tool_choice and items.tool_choice(config.tool_choice),
        }
        request |= {name: value for name, value in optional.items() if value is not None}
        if reasons(self._known_as):
            request["include"] = ["reasoning.encrypted_content"]
            effort = nearest_effort(self._known_as, config.reasoning_effort)
            reasoning = {"effort": effort, "summary": options.reasoning_summary}
            if wished := {name: value for name, value in reasoning.items() if value}:
                request["reasoning"] = wished
        if config.response_schema is not None:
            request["text"] = {"format": {"type": "json_schema", **json_schema(config.response_schema)}}
        return request

    def _reply(self, answer: Answer) -> Reply:
        if answer.declined:
            return answer.refusal()
        parts = tuple(self._items.part(item) for item in answer.body.get("output") or ())
        usage, tier = items.usage_of(answer.body.get("usage") or {}), items.tier(answer.body)
        cost = self._options.price_list.cost_usd(self.name, usage, tier)
        return answer.reply(Message("assistant", parts), items.stop_reason(answer.body, parts), usage, cost, tier)


class OpenAI(ResponsesModel):
    """A model of OpenAI. Close it after use: `await model.close()`."""

    def __init__(self, model: str, **options: Any) -> None:
        """`model` is OpenAI's name for it; for `options` see `OpenAIOptions`.

        Raises:
            ValueError: an unknown or impossible option.
            ModelRequestError: there is no key.
        """
        name = f"{PROVIDER}/{model}"
        parsed = parse_options(OpenAIOptions, options, name)
        key = Key.read(name, parsed.api_key_env or "OPENAI_API_KEY")
        endpoint = Endpoint(name, "openai", "AsyncOpenAI", key, parsed)
        super().__init__(name, model, model, parsed, endpoint)
        if parsed.batch:
            self._batcher = Batcher(name, ResponsesBatches(endpoint), parsed)


def _cache_key(messages: Sequence[Message], tools: Any) -> str:
    """A key that stays the same while a conversation grows."""
    first = next((n for n, message in enumerate(messages) if message.role == "user"), len(messages))
    beginning = json.dumps([tools, [message.text for message in messages[: first + 1]]])
    return hashlib.sha256(beginning.encode()).hexdigest()[:32]


def _instructions(messages: Sequence[Message]) -> Sequence[Message]:
    """The system messages at the beginning, which a compaction leaves alone."""
    end = 0
    while end < len(messages) and messages[end].role == "system":
        end += 1
    return messages[:end]


def _check_count(body: Mapping[str, Any]) -> None:
    if not isinstance(body.get("input_tokens"), int):
        raise TransientError("the answer has no number of tokens")


def _check_compaction(body: Mapping[str, Any]) -> None:
    if not any(item.get("type") == "compaction" for item in body.get("output") or ()):
        raise TransientError("the answer has no compaction")
