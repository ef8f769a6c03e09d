"""Messages as the items of the Responses API, and back.

Every item of an answer is kept as it came and goes back unchanged, encrypted reasoning included. History from another
provider is carried by its neutral view.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trellis.models.carry import CallIds, told_apart
from trellis.models.messages import Audio, Document, Image, Message, Part, Reasoning, Text, ToolCall, ToolResult
from trellis.models.model import StopReason, ToolSpec, Usage
from trellis.models.openai.content import file, input_audio
from trellis.models.parts import data_url, parse_arguments, raw_item, unsupported

_LONGEST_ID = 64
""""Invalid 'input[n].call_id': string too long. Expected a string with maximum length 64" (OpenAI's own answer, as in
issue 14355 of openai/codex)."""


@dataclass(frozen=True, slots=True)
class Items:
    """The conversion for one model."""

    owner: str
    """The model's name; errors begin with it."""
    provider: str
    """Whose items these are. Encrypted items of one service mean nothing to another, though both are OpenAI's."""
    system_role: Literal["developer", "system"]

    def of(self, messages: Iterable[Message]) -> list[dict[str, Any]]:
        ids = CallIds(_LONGEST_ID)
        return [item for message in told_apart(messages, self.provider) for item in self._items(message, ids)]

    def part(self, item: Mapping[str, Any]) -> Part:
        """The part of a reply that an item is."""
        raw = {"provider": self.provider, "item": item}
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

    def _items(self, message: Message, ids: CallIds) -> list[dict[str, Any]]:
        match message.role:
            case "system" | "user":
                role = self.system_role if message.role == "system" else "user"
                return [{"type": "message", "role": role, "content": [self._content(part) for part in message.parts]}]
            case "assistant":
                return [item for part in self._with_consequence(message.parts) if (item := self._said(part, ids))]
            case "tool":
                return [self._result(part, ids) for part in message.parts if isinstance(part, ToolResult)]

    def _content(self, part: Part) -> dict[str, Any]:
        match part:
            case Text(text):
                return {"type": "input_text", "text": text}
            case Image():
                return {"type": "input_image", "image_url": data_url(part), "detail": "auto"}
            case Document():
                return {"type": "input_file", **file(part)}
            case Audio() if (content := input_audio(part)) is not None:
                return content
        raise unsupported(self.owner, part)

    def _result(self, result: ToolResult, ids: CallIds) -> dict[str, Any]:
        output: Any = result.text
        if any(isinstance(part, Image) for part in result.parts):
            output = [self._content(part) for part in result.parts]
        return {"type": "function_call_output", "call_id": ids.result(result.call_id), "output": output}

    def _said(self, part: Part, ids: CallIds) -> dict[str, Any] | None:
        if (item := raw_item(part, self.provider)) is not None:
            called = {"call_id": ids.call(part.id, own=True)} if isinstance(part, ToolCall) else {}
            return {**item, **called}
        match part:
            case Text(text) if text:
                return {"type": "message", "role": "assistant", "content": text}
            case ToolCall():
                arguments = part.malformed or json.dumps(dict(part.arguments))
                id_ = ids.call(part.id)
                return {"type": "function_call", "call_id": id_, "name": part.name, "arguments": arguments}
        return None  # another provider's reasoning; a sound, whose words stand beside it as text

    def _with_consequence(self, parts: Sequence[Part]) -> Sequence[Part]:
        """Without the reasoning at the end: OpenAI rejects reasoning that is not followed by what it led to, which is
        how an answer ends that was cut off while reasoning."""
        end = len(parts)
        while end and (raw_item(parts[end - 1], self.provider) or {}).get("type") == "reasoning":
            end -= 1
        return parts[:end]


def tool(spec: ToolSpec) -> dict[str, Any]:
    # Strict would forbid optional arguments, and it is the default.
    return {"type": "function", **spec.to_json(), "strict": False}


def tool_choice(choice: str) -> Any:
    return choice if choice in ("none", "required") else {"type": "function", "name": choice}


def usage_of(usage: Mapping[str, Any]) -> Usage:
    details = usage.get("input_tokens_details") or {}
    read, write = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    return Usage(
        input=max(0, (usage.get("input_tokens") or 0) - read - write),
        cache_read=read,
        cache_write=write,
        output=usage.get("output_tokens") or 0,
        reasoning=(usage.get("output_tokens_details") or {}).get("reasoning_tokens") or 0,
    )


def stop_reason(body: Mapping[str, Any], parts: Sequence[Part]) -> StopReason:
    if body.get("status") == "incomplete":
        reason = (body.get("incomplete_details") or {}).get("reason")
        return "refusal" if reason == "content_filter" else "length"
    said = [item for item in body.get("output") or () if item.get("role") == "assistant"]
    if any(content.get("type") == "refusal" for item in said for content in item.get("content") or ()):
        return "refusal"
    return "tool_calls" if any(isinstance(part, ToolCall) for part in parts) else "stop"


def tier(body: Mapping[str, Any]) -> str:
    """The service tier of an answer, where it is not the standard one."""
    named = body.get("service_tier")
    return "" if named in (None, "auto", "default") else str(named)
