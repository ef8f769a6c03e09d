"""`anthropic/*`: Anthropic's models through the Messages API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, field_validator

from trellis.models.anthropic import wire
from trellis.models.anthropic.batches import MessageBatches
from trellis.models.anthropic.family import binds_thinking, nearest_effort
from trellis.models.anthropic.prefix import Block, Ttl, set_breakpoints
from trellis.models.anthropic.streams import MessagesAssembler
from trellis.models.batch import Batcher, BatchOptions
from trellis.models.carry import most
from trellis.models.client import Answer, Check, ClientOptions, Endpoint
from trellis.models.connected import Connected
from trellis.models.failures import Declined
from trellis.models.keys import Key
from trellis.models.messages import Message, Text
from trellis.models.model import GenerateConfig, ModelRequestError, Reply, StopReason, TokenCount, ToolSpec, Usage
from trellis.models.options import parse_options
from trellis.models.parts import without_voice
from trellis.models.retry import TransientError

_STOP_REASONS: Mapping[str, StopReason] = {
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
_COMPACTION = "compact-2026-09-04"
"""The beta of compaction on demand; its blocks need it too when they come back."""
_BINDING = "thinking-binding-controls-2026-08-01"
"""The beta with which Anthropic says what thinking it did not show to the model."""
_MOST_PAUSES = 10
"""How often in a row the server may pause a long turn before it is taken as it is."""


class MessagesOptions(ClientOptions):
    """Options of all clients of Anthropic's models."""

    max_output_tokens: int = Field(default=16_384, gt=0)
    """For calls that do not say; Anthropic requires a number, and thinking counts towards it."""
    thinking: Literal["adaptive", "between_tools", "disabled"] | int | None = None
    """A number is a fixed budget of thinking tokens (1,024 or more; older models); the model decides by default."""
    thinking_display: Literal["summarized", "omitted"] | None = None
    """Whether thinking can be read; the model decides by default. Its signature comes either way."""
    cache: bool = True
    """Have the conversation so far cached: reading it again costs a tenth or less."""
    cache_ttl: Ttl = "5m"
    """How long the cache holds after its last use. An hour's costs more to write."""
    service_tier: Literal["auto", "standard_only"] | None = None
    """Whether to use priority capacity where the account has some; it has its own prices."""

    @field_validator("thinking")
    @classmethod
    def _large_enough(cls, thinking: Any) -> Any:
        if isinstance(thinking, int) and thinking < 1024:
            raise ValueError("a budget of thinking tokens is 1024 or more")
        return thinking


class MessagesModel(Connected):
    """A model that is reached through the Messages API, on whichever platform. Close it after use."""

    _options: MessagesOptions

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        """See `Model.generate`. Models since Claude Opus 4.7 take no temperature."""
        conversation = self._conversation(messages, tools)
        request = self._request(conversation, self._options.complete(config))
        return await self._converse(request, conversation, config.seed)

    def _conversation(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> wire.Conversation:
        return wire.conversation(self.name, self._model, messages, tools, bound=binds_thinking(self._model))

    async def _converse(self, request: dict[str, Any], conversation: wire.Conversation, seed: int | None) -> Reply:
        """Ask until the turn has ended: a server may pause a long one, and goes on where it is sent back."""
        blocks: list[Block] = []
        total: Reply | None = None
        dropped = conversation.dropped
        for _ in range(_MOST_PAUSES):
            going_on: list[dict[str, Any]] = [{"role": "assistant", "content": blocks}] if blocks else []
            asked = {**request, "messages": [*request["messages"], *going_on]}
            answer = await (self._batcher.send(asked, seed) if self._batcher else self._send(asked))
            reply = answer.refusal() if answer.declined else self._reply(answer, conversation)
            total = reply if total is None else _together(total, reply)
            dropped = most(dropped, wire.unread(answer.body))
            blocks += answer.body.get("content") or ()
            if answer.body.get("stop_reason") != "pause_turn":
                break
        assert total is not None
        return replace(total, dropped=dropped)

    async def _send(self, request: dict[str, Any], check: Check = lambda body: None) -> Answer:
        return await self._endpoint.send(lambda client: self._call(client, "create", request), MessagesAssembler, check)

    def _call(self, client: Any, method: str, request: dict[str, Any]) -> AbstractAsyncContextManager[Any]:
        """Send a request by the SDK's method of that name."""
        made: AbstractAsyncContextManager[Any] = getattr(client.messages.with_streaming_response, method)(**request)
        return made

    # --- to the wire ---

    def _request(self, conversation: wire.Conversation, config: GenerateConfig) -> dict[str, Any]:
        without_voice(self.name, config)
        request = self._said(conversation, config) | {
            "max_tokens": config.max_output_tokens,
            "stream": self._options.stream,
        }
        if self._options.service_tier:
            request["service_tier"] = self._options.service_tier
        if config.temperature is not None:
            request["extra_body"] = {"temperature": config.temperature}  # the SDK knows newer models only
        budget = (request.get("thinking") or {}).get("budget_tokens", 0)
        if budget >= request["max_tokens"]:
            raise ModelRequestError(
                f"{self.name}: max_output_tokens ({request['max_tokens']}) includes the thinking: "
                f"it must be larger than the thinking budget ({budget})"
            )
        return request

    def _said(self, conversation: wire.Conversation, config: GenerateConfig) -> dict[str, Any]:
        """What a request says to the model: all that counts as input."""
        if self._options.cache:
            set_breakpoints(conversation.system, conversation.tools, conversation.turns, self._options.cache_ttl)
        request: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": role, "content": blocks} for role, blocks in conversation.turns],
        }
        if conversation.system:
            request["system"] = conversation.system
        if conversation.tools:
            request["tools"] = conversation.tools
        if config.tool_choice:
            request["tool_choice"] = self._tool_choice(config.tool_choice)
        if thinking := self._thinking(conversation):
            request["thinking"] = thinking
        output: dict[str, Any] = {}
        if effort := nearest_effort(self._model, config.reasoning_effort):
            output["effort"] = effort
        if config.response_schema is not None:
            output["format"] = {"type": "json_schema", "schema": self._schema(config.response_schema)}
        if output:
            request["output_config"] = output
        if betas := self._betas(conversation):
            request["extra_headers"] = {"anthropic-beta": ",".join(betas)}
        return request

    def _betas(self, conversation: wire.Conversation) -> list[str]:
        """The betas that a conversation needs."""
        return [_COMPACTION] if conversation.is_compacted else []

    def _schema(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """A schema as Anthropic takes it, by the SDK: every object is closed, and limits that Anthropic cannot enforce
        (of numbers, lengths and patterns) are told to the model in the description."""
        from anthropic import transform_schema

        try:
            return transform_schema(dict(schema))
        except (ValueError, AssertionError) as error:
            raise ModelRequestError(f"{self.name}: Anthropic cannot follow this schema: {error}") from None

    def _tool_choice(self, choice: str) -> dict[str, Any]:
        if choice == "none":
            return {"type": "none"}
        if self._options.thinking not in (None, "disabled", "between_tools"):
            raise ModelRequestError(
                f"{self.name}: Anthropic does not force a tool ({choice!r}) while the model thinks; "
                "leave the choice to the model, or set -M thinking=disabled"
            )
        return {"type": "any"} if choice == "required" else {"type": "tool", "name": choice}

    def _thinking(self, conversation: wire.Conversation) -> dict[str, Any] | None:
        thinking, display = self._options.thinking, self._options.thinking_display
        if isinstance(thinking, int):
            # With a fixed budget a reply must begin with thinking; one that another model began does not.
            if conversation.began_without_thinking:
                return None
            chosen: dict[str, Any] = {"type": "enabled", "budget_tokens": thinking}
        elif thinking or display:
            chosen = {"type": thinking or "adaptive"}
        else:
            return None
        return chosen | ({"display": display} if display and chosen["type"] in ("enabled", "adaptive") else {})

    # --- from the wire ---

    def _reply(self, answer: Answer, conversation: wire.Conversation) -> Reply:
        body = answer.body
        stop_reason = _STOP_REASONS.get(body.get("stop_reason") or "", "stop")
        parts = wire.parts(body.get("content") or (), self._model, conversation.prefix)
        if stop_reason == "refusal":  # what was begun is worthless, calls above all; what was said may explain it
            said = (body.get("stop_details") or {}).get("explanation") or "(the request was declined)"
            spoken = tuple(part for part in parts if isinstance(part, Text) and part.text.strip())
            parts = spoken or (Text(self._endpoint.one_line(said)),)
        used = wire.usage(body.get("usage") or {}, self._options.cache_ttl)
        tier = (body.get("usage") or {}).get("service_tier") or "standard"
        tier = "" if tier == "standard" else tier
        return answer.reply(Message("assistant", parts), stop_reason, used, self._cost(used, tier), tier)

    @property
    def _cached_for(self) -> Literal["shortest", "1h"]:
        return "1h" if self._options.cache and self._options.cache_ttl == "1h" else "shortest"

    def _cost(self, used: Usage, tier: str) -> float | None:
        return self._options.price_list.cost_usd(self.name, used, tier)


def _together(first: Reply, second: Reply) -> Reply:
    """Two pieces of one turn."""
    costs = (first.cost_usd, second.cost_usd)
    return replace(
        second,
        message=Message("assistant", first.message.parts + second.message.parts),
        usage=first.usage + second.usage,
        cost_usd=None if costs[0] is None or costs[1] is None else costs[0] + costs[1],
        latency_s=first.latency_s + second.latency_s,
        waited_s=first.waited_s + second.waited_s,
        retries=first.retries + second.retries,
        throttles=first.throttles + second.throttles,
    )


class CountingModel(MessagesModel):
    """A model on a platform that also counts tokens, and shortens conversations itself."""

    async def count_tokens(self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = ()) -> TokenCount:
        """See `CountsTokens`."""
        conversation = self._conversation(messages, tools)
        request = self._said(conversation, self._options.complete(GenerateConfig()))
        answer = await self._endpoint.send(lambda client: self._call(client, "count_tokens", request), check=_is_count)
        return TokenCount(int(answer.body["input_tokens"]), "provider")

    async def compact(self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = ()) -> Reply:
        """See `Compacts`. The summary is the reply's text; its block goes back to Anthropic signed."""
        conversation = self._conversation(messages, tools)
        request = self._request(conversation, self._options.complete(GenerateConfig()))
        betas = dict.fromkeys([_COMPACTION, *self._betas(conversation)])
        request["extra_headers"] = {"anthropic-beta": ",".join(betas)}
        request["extra_body"] = {"compaction": {"type": "summarize"}}
        answer = await self._send(request, _is_compaction)
        if answer.declined:
            raise ModelRequestError(f"{self.name}: the conversation cannot be compacted ({answer.declined})")
        return replace(self._reply(answer, conversation), dropped=conversation.dropped)


def _is_count(body: Mapping[str, Any]) -> None:
    if not isinstance(body.get("input_tokens"), int):
        raise TransientError("the answer has no count")


def _is_compaction(body: Mapping[str, Any]) -> None:
    if body.get("stop_reason") == "refusal":
        raise Declined((body.get("stop_details") or {}).get("explanation") or "declined")
    if not any(block.get("type") == "compaction" and block.get("content") for block in body.get("content") or ()):
        raise TransientError("the answer has no summary")


class AnthropicOptions(MessagesOptions, BatchOptions):
    """Options of `anthropic/*`."""


class Anthropic(CountingModel):
    """A model of Anthropic on its own platform."""

    def __init__(self, model: str, **options: Any) -> None:
        """`model` is Anthropic's name for it; for `options` see `AnthropicOptions`.

        Raises:
            ValueError: an unknown or impossible option.
            ModelRequestError: there is no key.
        """
        name = f"{wire.PROVIDER}/{model}"
        parsed = parse_options(AnthropicOptions, options, name)
        key = Key.read(name, parsed.api_key_env or "ANTHROPIC_API_KEY")
        endpoint = Endpoint(name, "anthropic", "AsyncAnthropic", key, parsed)
        super().__init__(name, model, parsed, endpoint)
        if parsed.batch:
            self._batcher = Batcher(name, MessageBatches(endpoint), parsed)

    def _betas(self, conversation: wire.Conversation) -> list[str]:
        """Each model reads its own thinking and that of some others; the rest is passed over without a word, unless
        one asks."""
        return super()._betas(conversation) + ([_BINDING] if conversation.thought_elsewhere else [])
