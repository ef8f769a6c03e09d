"""`openai-compatible/*`: any server that speaks OpenAI's Chat Completions, such as vLLM, Ollama or a gateway.

Such servers differ in detail, so this client asks for little and accepts much: usage and call ids may be missing (they
are then estimated and made up), arguments may be objects, content may come in pieces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trellis.models.client import (
    Answer,
    ClientOptions,
    Endpoint,
    data_url,
    parse_arguments,
    raw_item,
    unsupported,
)
from trellis.models.keys import Key
from trellis.models.listed import Listed
from trellis.models.messages import Image, Message, Part, Reasoning, Text, ToolCall, ToolResult
from trellis.models.model import GenerateConfig, Reply, StopReason, ToolSpec, Usage
from trellis.models.openai.responses import json_schema
from trellis.models.openai.streams import ChatAssembler
from trellis.models.options import parse_options
from trellis.models.retry import TransientError
from trellis.models.tokens import estimate_usage

PROVIDER = "openai-compatible"
_REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_details")
"""Where servers put readable or opaque reasoning: DeepSeek and vLLM, Ollama and newer vLLM, OpenRouter."""


class CompatibleOptions(ClientOptions):
    """Options of `openai-compatible/*`; `base_url` is required."""

    base_url: str
    """Where the server listens, for example http://localhost:8000/v1."""
    replay_reasoning: bool = True
    """Send reasoning back in the field in which it came; some servers want it, some reject it."""


class OpenAICompatible(Listed):
    """A model behind a server that speaks Chat Completions. Close it after use: `await model.close()`."""

    _options: CompatibleOptions

    def __init__(self, model: str, **options: Any) -> None:
        """`model` is the server's name for it; for `options` see `CompatibleOptions`. A key is sent only if
        `api_key_env` names one.

        Raises:
            ValueError: an unknown, missing or impossible option.
            ModelRequestError: the variable that `api_key_env` names is not set.
        """
        self.name = f"{PROVIDER}/{model}"
        self._model = model
        self._options = parse_options(CompatibleOptions, options, self.name)
        env = self._options.api_key_env
        key = Key.read(self.name, env) if env else Key("api_key_env", "")
        self._endpoint = Endpoint(self.name, "openai", "AsyncOpenAI", key, self._options)

    def __repr__(self) -> str:
        return f"OpenAICompatible({self._model!r})"  # not the address: it may contain a password

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
        """See `Model.generate`. The cost is unknown but with `-M prices=FILE`: these servers have no price list."""
        request = self._request(messages, tools, self._options.complete(config))
        answer = await self._endpoint.send(
            lambda client: client.chat.completions.with_streaming_response.create(**request), ChatAssembler, _check
        )
        return answer.refusal() if answer.declined else self._reply(answer, messages, tools)

    # --- to the wire ---

    def _request(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], config: GenerateConfig
    ) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self._model, "messages": self._messages(messages)}
        if self._options.stream:
            request |= {"stream": True, "stream_options": {"include_usage": True}}
        if tools:
            request["tools"] = [{"type": "function", "function": tool.to_json()} for tool in tools]
        if config.tool_choice:
            request["tool_choice"] = _tool_choice(config.tool_choice)
        if config.temperature is not None:
            request["temperature"] = config.temperature
        if config.max_output_tokens is not None:
            request["max_tokens"] = config.max_output_tokens
        if config.reasoning_effort is not None:
            request["reasoning_effort"] = config.reasoning_effort
        if config.response_schema is not None:
            schema = json_schema(config.response_schema)
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        return request

    def _messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        shown: list[dict[str, Any]] = []  # images of tool results: a tool message is text alone, a user message follows
        for message in messages:
            if message.role == "tool":
                results = [part for part in message.parts if isinstance(part, ToolResult)]
                sent.extend({"role": "tool", "tool_call_id": r.call_id, "content": r.text} for r in results)
                shown.extend(content for result in results for content in self._images(result))
                continue
            if shown:
                sent.append({"role": "user", "content": shown})
                shown = []
            if message.role == "assistant":
                sent.append(self._assistant(message))
            else:
                sent.append({"role": message.role, "content": self._contents(message.parts)})
        return [*sent, {"role": "user", "content": shown}] if shown else sent

    def _contents(self, parts: Sequence[Part]) -> Any:
        if all(isinstance(part, Text) for part in parts):
            return "\n".join(part.text for part in parts if isinstance(part, Text))
        return [self._content(part) for part in parts]

    def _content(self, part: Part) -> dict[str, Any]:
        match part:
            case Text(text):
                return {"type": "text", "text": text}
            case Image():
                return {"type": "image_url", "image_url": {"url": data_url(part)}}
        raise unsupported(self.name, part)

    def _images(self, result: ToolResult) -> list[dict[str, Any]]:
        images = [self._content(part) for part in result.parts if isinstance(part, Image)]
        return [{"type": "text", "text": f"Images of {result.name} ({result.call_id}):"}, *images] if images else []

    def _assistant(self, message: Message) -> dict[str, Any]:
        sent: dict[str, Any] = {"role": "assistant", "content": message.text}
        if calls := [_call(call) for call in message.tool_calls]:
            sent |= {"content": message.text or None, "tool_calls": calls}
        if self._options.replay_reasoning:
            for part in message.parts:
                if isinstance(part, Reasoning):
                    sent.update(raw_item(part, PROVIDER) or {})
        return sent

    # --- from the wire ---

    def _reply(self, answer: Answer, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Reply:
        choice = answer.body["choices"][0]
        message = Message("assistant", tuple(_parts(choice["message"], turn=len(messages))))
        counted = _usage(answer.body.get("usage"))
        cost = self._options.price_list.cost_usd(self.name, counted) if counted else None
        usage = counted or estimate_usage(messages, message, tools)
        return answer.reply(message, _stop_reason(choice, message), usage, cost)


def _tool_choice(choice: str) -> Any:
    return choice if choice in ("none", "required") else {"type": "function", "function": {"name": choice}}


def _call(call: ToolCall) -> dict[str, Any]:
    if (item := raw_item(call, PROVIDER)) is not None:
        return dict(item)
    arguments = call.malformed or json.dumps(dict(call.arguments))
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _check(body: Mapping[str, Any]) -> None:
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0].get("message"), dict):
        raise TransientError("the answer has no choices (the server broke, or this is not a Chat Completions server)")


def _parts(message: Mapping[str, Any], turn: int) -> list[Part]:
    parts: list[Part] = []
    if reasoning := {name: message[name] for name in _REASONING_FIELDS if message.get(name)}:
        readable = next((value for value in reasoning.values() if isinstance(value, str)), "")
        parts.append(Reasoning(readable, {"provider": PROVIDER, "item": reasoning}))
    if text := _text(message.get("content")) or message.get("refusal"):
        parts.append(Text(text))
    # A made-up id must be unique in its conversation, and the same when the conversation is replayed.
    calls = message.get("tool_calls") or ()
    parts += (_tool_call(item, made_up_id=f"call_{turn}_{number}") for number, item in enumerate(calls))
    return parts


def _tool_call(item: Mapping[str, Any], made_up_id: str) -> ToolCall:
    function = item.get("function") or {}
    written = function.get("arguments")
    arguments, malformed = parse_arguments(written)
    as_specified = item.get("id") and isinstance(written, str)
    raw = {"provider": PROVIDER, "item": item} if as_specified else None
    return ToolCall(item.get("id") or made_up_id, str(function.get("name", "")), arguments, malformed, raw)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(piece.get("text") or "" for piece in content if isinstance(piece, dict))
    return str(content or "")


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict) or not usage.get("prompt_tokens"):
        return None
    details = usage.get("prompt_tokens_details") or {}
    read, write = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    return Usage(
        input=max(0, usage["prompt_tokens"] - read - write),
        cache_read=read,
        cache_write=write,
        output=usage.get("completion_tokens") or 0,
        reasoning=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0,
    )


def _stop_reason(choice: Mapping[str, Any], message: Message) -> StopReason:
    if choice.get("finish_reason") == "length":
        return "length"
    if choice.get("finish_reason") == "content_filter" or choice["message"].get("refusal"):
        return "refusal"
    return "tool_calls" if message.tool_calls else "stop"
