"""`anthropic/*`: Anthropic's models through the Messages API.

Every block of an answer is kept as it came and goes back unchanged, thinking and its signature byte for byte. History
from another provider is carried by its neutral view.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

from pydantic import Field

from trellis.models.client import Answer, ClientOptions, Endpoint, raw_item, unsupported
from trellis.models.keys import Key
from trellis.models.messages import Document, Image, Media, Message, Part, Reasoning, Text, ToolCall, ToolResult
from trellis.models.model import GenerateConfig, ModelRequestError, Reply, StopReason, ToolSpec, Usage
from trellis.models.options import parse_options
from trellis.models.prices import cost_usd

PROVIDER = "anthropic"
_STOP_REASONS: Mapping[str, StopReason] = {
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


class AnthropicOptions(ClientOptions):
    """Options of `anthropic/*`."""

    max_output_tokens: int = Field(default=16_384, gt=0)
    """For calls that do not say; Anthropic requires a number, and thinking counts towards it."""
    thinking: Literal["adaptive", "disabled"] | int | None = None
    """A number is a fixed budget of thinking tokens (1,024 or more); the model decides by default."""
    cache: bool = True
    """Cache the conversation so far for five minutes: reading it again costs a tenth or less."""


class Anthropic:
    """A model of Anthropic. Close it after use: `await model.close()`."""

    def __init__(self, model: str, **options: Any) -> None:
        """`model` is Anthropic's name for it; for `options` see `AnthropicOptions`.

        Raises:
            ValueError: an unknown or impossible option.
            ModelRequestError: there is no key.
        """
        self.name = f"{PROVIDER}/{model}"
        self._model = model
        self._options = parse_options(AnthropicOptions, options, self.name)
        key = Key.read(self.name, self._options.api_key_env or "ANTHROPIC_API_KEY")
        self._endpoint = Endpoint(self.name, "anthropic", "AsyncAnthropic", key, self._options)

    def __repr__(self) -> str:
        return f"Anthropic({self._model!r})"

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        """See `Model.generate`. Anthropic's interface takes no temperature: asking for one is an error."""
        request = self._request(messages, tools, self._options.complete(config))
        answer = await self._endpoint.send(lambda client: client.messages.with_streaming_response.create(**request))
        return answer.refusal() if answer.declined else self._reply(answer)

    # --- to the wire ---

    def _request(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], config: GenerateConfig
    ) -> dict[str, Any]:
        if config.temperature is not None:
            raise ModelRequestError(f"{self.name}: Anthropic's Messages API takes no temperature; leave it out")
        system, turns = self._conversation(messages)
        request: dict[str, Any] = {
            "model": self._model,
            "max_tokens": config.max_output_tokens,
            "messages": turns,
        }
        if system:
            request["system"] = system
        if self._options.cache:
            request["cache_control"] = {"type": "ephemeral"}
        if tools:
            request["tools"] = [_tool(tool) for tool in tools]
        if config.tool_choice:
            request["tool_choice"] = _tool_choice(config.tool_choice)
        if self._options.thinking is not None:
            request["thinking"] = _thinking(self._options.thinking)
        output: dict[str, Any] = {}
        if config.reasoning_effort is not None:
            output["effort"] = "low" if config.reasoning_effort == "minimal" else config.reasoning_effort
        if config.response_schema is not None:
            output["format"] = {"type": "json_schema", "schema": dict(config.response_schema)}
        if output:
            request["output_config"] = output
        return request

    def _conversation(self, messages: Sequence[Message]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The system prompt, and turns in which all results of a turn's tool calls stand together at the beginning.

        A system message after the beginning becomes the user's: not every model takes one there.
        """
        system: list[dict[str, Any]] = []
        turns: list[tuple[str, list[dict[str, Any]]]] = []
        for message in messages:
            blocks = [block for part in message.parts if (block := self._block(part)) is not None]
            if message.role == "system" and not turns:
                system.extend(blocks)
            else:
                turns.append(("assistant" if message.role == "assistant" else "user", blocks))
        merged = []
        for role, group in groupby(turns, key=lambda turn: turn[0]):
            content = [block for _, blocks in group for block in blocks]
            if role == "user":
                content.sort(key=lambda block: block["type"] != "tool_result")
            if content:
                merged.append({"role": role, "content": content})
        return system, merged

    def _block(self, part: Part) -> dict[str, Any] | None:
        if (item := raw_item(part, PROVIDER)) is not None:
            return None if item.get("text") == "" else dict(item)
        match part:
            case Text(text):
                return {"type": "text", "text": text} if text else None  # Anthropic rejects empty text
            case Image():
                return {"type": "image", "source": _source(part)}
            case Document():
                return {"type": "document", "source": _source(part)}
            case ToolCall():
                return {"type": "tool_use", "id": _id(part.id), "name": part.name, "input": dict(part.arguments)}
            case ToolResult():
                content = [block for inner in part.parts if (block := self._block(inner)) is not None]
                block = {"type": "tool_result", "tool_use_id": _id(part.call_id), "content": content}
                return block | ({"is_error": True} if part.is_error else {})
            case Reasoning():
                return None  # another provider's: it means nothing here
        raise unsupported(self.name, part)

    # --- from the wire ---

    def _reply(self, answer: Answer) -> Reply:
        body = answer.body
        parts = tuple(_part(block) for block in body.get("content") or ())
        stop_reason = _STOP_REASONS.get(body.get("stop_reason") or "", "stop")
        if not parts and stop_reason == "refusal":
            said = (body.get("stop_details") or {}).get("explanation")
            parts = (Text(self._endpoint.one_line(said or "(the request was declined)")),)
        usage = _usage(body.get("usage") or {})
        standard = (body.get("usage") or {}).get("service_tier") in (None, "standard")
        cost = cost_usd(self.name, usage) if standard else None
        return answer.reply(Message("assistant", parts), stop_reason, usage, cost)


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}


def _tool_choice(choice: str) -> dict[str, Any]:
    if choice in ("none", "required"):
        return {"type": "any" if choice == "required" else "none"}
    return {"type": "tool", "name": choice}


def _thinking(thinking: str | int) -> dict[str, Any]:
    if isinstance(thinking, int):
        return {"type": "enabled", "budget_tokens": thinking}
    return {"type": thinking}


def _source(medium: Media) -> dict[str, Any]:
    data = base64.b64encode(medium.data).decode()
    return {"type": "base64", "media_type": medium.media_type, "data": data}


def _id(call_id: str) -> str:
    """A call's id in the characters that Anthropic takes; ids of its own calls stay as they are."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", call_id)


def _part(block: Mapping[str, Any]) -> Part:
    raw = {"provider": PROVIDER, "item": block}
    match block.get("type"):
        case "text":
            return Text(block["text"], raw)
        case "tool_use":
            return ToolCall(str(block["id"]), str(block["name"]), block.get("input") or {}, raw=raw)
        case _:
            return Reasoning(str(block.get("thinking") or ""), raw)  # thinking, redacted or not, or unknown


def _usage(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        input=usage.get("input_tokens") or 0,
        cache_read=usage.get("cache_read_input_tokens") or 0,
        cache_write=usage.get("cache_creation_input_tokens") or 0,
        output=usage.get("output_tokens") or 0,
        reasoning=(usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
    )
