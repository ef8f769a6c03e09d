"""`openai/*`: OpenAI's models through the Responses API, without state on the server.

Every item of an answer is kept as it came and goes back unchanged, encrypted reasoning included. History from another
provider is carried by its neutral view.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

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
from trellis.models.messages import Document, Image, Message, Part, Reasoning, Text, ToolCall, ToolResult
from trellis.models.model import GenerateConfig, Reply, StopReason, ToolSpec, Usage
from trellis.models.openai.streams import ResponsesAssembler
from trellis.models.options import parse_options

PROVIDER = "openai"
_WITHOUT_REASONING = ("gpt-3.5", "gpt-4", "chatgpt-4")
"""Models that reject `include: reasoning.encrypted_content`."""


class OpenAIOptions(ClientOptions):
    """Options of `openai/*`."""

    reasoning_summary: Literal["auto", "concise", "detailed"] | None = None
    """Ask for a readable summary of the reasoning; OpenAI gives it to verified organisations only."""


class OpenAI(Listed):
    """A model of OpenAI. Close it after use: `await model.close()`."""

    _options: OpenAIOptions

    def __init__(self, model: str, **options: Any) -> None:
        """`model` is OpenAI's name for it; for `options` see `OpenAIOptions`.

        Raises:
            ValueError: an unknown or impossible option.
            ModelRequestError: there is no key.
        """
        self.name = f"{PROVIDER}/{model}"
        self._model = model
        self._options = parse_options(OpenAIOptions, options, self.name)
        key = Key.read(self.name, self._options.api_key_env or "OPENAI_API_KEY")
        self._endpoint = Endpoint(self.name, "openai", "AsyncOpenAI", key, self._options)

    def __repr__(self) -> str:
        return f"OpenAI({self._model!r})"

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
        """See `Model.generate`."""
        request = self._request(messages, tools, self._options.complete(config))
        answer = await self._endpoint.send(
            lambda client: client.responses.with_streaming_response.create(**request), ResponsesAssembler, self._check
        )
        return answer.refusal() if answer.declined else self._reply(answer)

    def _check(self, body: Mapping[str, Any]) -> None:
        """A response can fail although HTTP says 200."""
        if body.get("status") not in (None, "completed", "incomplete"):
            said = {"code": "server_error", "message": f"the response's status is {body['status']}"}
            raise self._endpoint.failure(body.get("error") or said)

    # --- to the wire ---

    def _request(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], config: GenerateConfig
    ) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self._model,
            "input": [item for message in messages for item in self._items(message)],
            "store": False,
            "stream": self._options.stream,
        }
        if not self._model.startswith(_WITHOUT_REASONING):
            request["include"] = ["reasoning.encrypted_content"]
        if tools:
            request["tools"] = [_tool(tool) for tool in tools]
            request["parallel_tool_calls"] = True
        if config.tool_choice:
            request["tool_choice"] = _tool_choice(config.tool_choice)
        if config.temperature is not None:
            request["temperature"] = config.temperature
        if config.max_output_tokens is not None:
            request["max_output_tokens"] = config.max_output_tokens
        reasoning = {"effort": config.reasoning_effort, "summary": self._options.reasoning_summary}
        if reasoning := {name: value for name, value in reasoning.items() if value}:
            request["reasoning"] = reasoning
        if config.response_schema is not None:
            request["text"] = {"format": {"type": "json_schema", **json_schema(config.response_schema)}}
        return request

    def _items(self, message: Message) -> list[dict[str, Any]]:
        match message.role:
            case "system" | "user":
                content = [self._content(part) for part in message.parts]
                return [{"type": "message", "role": message.role, "content": content}]
            case "assistant":
                return [item for part in _with_consequence(message.parts) if (item := _assistant_item(part))]
            case "tool":
                return [self._result(part) for part in message.parts if isinstance(part, ToolResult)]

    def _content(self, part: Part) -> dict[str, Any]:
        match part:
            case Text(text):
                return {"type": "input_text", "text": text}
            case Image():
                return {"type": "input_image", "image_url": data_url(part), "detail": "auto"}
            case Document():
                return {"type": "input_file", "filename": "document", "file_data": data_url(part)}
        raise unsupported(self.name, part)

    def _result(self, result: ToolResult) -> dict[str, Any]:
        output: Any = result.text
        if any(isinstance(part, Image) for part in result.parts):
            output = [self._content(part) for part in result.parts]
        return {"type": "function_call_output", "call_id": result.call_id, "output": output}

    # --- from the wire ---

    def _reply(self, answer: Answer) -> Reply:
        parts = tuple(_part(item) for item in answer.body.get("output") or ())
        usage = _usage(answer.body.get("usage") or {})
        tier = answer.body.get("service_tier") or "default"
        tier = "" if tier in ("auto", "default") else tier
        cost = self._options.price_list.cost_usd(self.name, usage, tier)
        return answer.reply(Message("assistant", parts), _stop_reason(answer.body, parts), usage, cost, tier)


def json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema as OpenAI takes it; strict (guaranteed) where the schema is within the subset that allows it."""
    return {"name": "reply", "schema": dict(schema), "strict": _allows_strict(schema)}


def _allows_strict(schema: Any) -> bool:
    """Strict mode wants every object closed and all its properties required (OpenAI, "Structured Outputs")."""
    if isinstance(schema, Mapping):
        if schema.get("type") == "object":
            properties = schema.get("properties", {})
            if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(properties):
                return False
        return all(_allows_strict(value) for value in schema.values())
    return all(map(_allows_strict, schema)) if isinstance(schema, list) else True


def _tool(tool: ToolSpec) -> dict[str, Any]:
    # Strict would forbid optional arguments, and it is the default.
    return {"type": "function", **tool.to_json(), "strict": False}


def _tool_choice(choice: str) -> Any:
    return choice if choice in ("none", "required") else {"type": "function", "name": choice}


def _with_consequence(parts: Sequence[Part]) -> Sequence[Part]:
    """Without the reasoning at the end: OpenAI rejects reasoning that is not followed by what it led to, which is how
    an answer ends that was cut off while reasoning."""
    end = len(parts)
    while end and isinstance(parts[end - 1], Reasoning):
        end -= 1
    return parts[:end]


def _assistant_item(part: Part) -> dict[str, Any] | None:
    if (item := raw_item(part, PROVIDER)) is not None:
        return dict(item)
    match part:
        case Text(text) if text:
            return {"type": "message", "role": "assistant", "content": text}
        case ToolCall():
            arguments = part.malformed or json.dumps(dict(part.arguments))
            return {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": arguments}
    return None


def _part(item: Mapping[str, Any]) -> Part:
    raw = {"provider": PROVIDER, "item": item}
    match item.get("type"):
        case "message":
            written = (content.get("text") or content.get("refusal") or "" for content in item.get("content") or ())
            return Text("\n".join(written), raw)
        case "function_call":
            arguments, malformed = parse_arguments(item.get("arguments"))
            return ToolCall(str(item["call_id"]), str(item["name"]), arguments, malformed, raw)
        case "reasoning":
            written = (piece.get("text", "") for piece in (item.get("content") or item.get("summary") or ()))
            return Reasoning("\n\n".join(written), raw)
        case _:
            return Reasoning("", raw)  # not ours to understand, but the provider wants it back


def _usage(usage: Mapping[str, Any]) -> Usage:
    details = usage.get("input_tokens_details") or {}
    read, write = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    return Usage(
        input=max(0, (usage.get("input_tokens") or 0) - read - write),
        cache_read=read,
        cache_write=write,
        output=usage.get("output_tokens") or 0,
        reasoning=(usage.get("output_tokens_details") or {}).get("reasoning_tokens") or 0,
    )


def _stop_reason(body: Mapping[str, Any], parts: Sequence[Part]) -> StopReason:
    if body.get("status") == "incomplete":
        reason = (body.get("incomplete_details") or {}).get("reason")
        return "refusal" if reason == "content_filter" else "length"
    contents = [content for item in body.get("output") or () for content in item.get("content") or ()]
    if any(content.get("type") == "refusal" for content in contents):
        return "refusal"
    return "tool_calls" if any(isinstance(part, ToolCall) for part in parts) else "stop"
