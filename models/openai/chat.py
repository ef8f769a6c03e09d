"""Messages as Chat Completions has them, and back.

Servers that speak this format differ in detail, so little is asked and much accepted: usage and call ids may be missing
(they are then estimated and made up), arguments may be objects, content may come in pieces.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trellis.models.carry import CallIds, told_apart
from trellis.models.messages import Audio, Document, Image, Message, Part, Reasoning, Text, ToolCall, ToolResult
from trellis.models.model import GenerateConfig, StopReason, ToolSpec, Usage
from trellis.models.openai.content import file, input_audio, json_schema
from trellis.models.openai.family import nearest_effort
from trellis.models.parts import data_url, parse_arguments, raw_item, unsupported
from trellis.models.retry import TransientError

_REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_details")
"""Where servers put readable or opaque reasoning: DeepSeek and vLLM, Ollama and newer vLLM, OpenRouter."""
_LONGEST_ID = 40
"""OpenAI's limit for ids of calls in this format; other servers allow more."""
_EXPIRY_MARGIN_S = 60.0
"""A sound is referred to only if the server keeps it for so long at least."""


@dataclass(frozen=True, slots=True)
class Chat:
    """The conversion for one model."""

    owner: str
    """The model's name; errors begin with it."""
    provider: str
    """Whose items these are."""
    system_role: Literal["developer", "system"] = "system"
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    replay_reasoning: bool = True
    known_as: str | None = None
    """The name by which a model of OpenAI is known; None for all others."""

    def request(
        self, model: str, messages: Sequence[Message], tools: Sequence[ToolSpec], config: GenerateConfig
    ) -> dict[str, Any]:
        """All of a request but how it is streamed."""
        request: dict[str, Any] = {"model": model, "messages": self.messages(messages)}
        if tools:
            request["tools"] = [{"type": "function", "function": tool.to_json()} for tool in tools]
        if config.tool_choice:
            request["tool_choice"] = _tool_choice(config.tool_choice)
        if config.temperature is not None:
            request["temperature"] = config.temperature
        if config.max_output_tokens is not None:
            request[self.max_tokens_field] = config.max_output_tokens
        effort = nearest_effort(self.known_as, config.reasoning_effort) if self.known_as else config.reasoning_effort
        if effort is not None:
            request["reasoning_effort"] = effort
        if config.response_schema is not None:
            schema = json_schema(config.response_schema)
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        return request

    def messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        ids = CallIds(_LONGEST_ID)
        sent: list[dict[str, Any]] = []
        shown: list[dict[str, Any]] = []  # images of tool results: a tool message is text alone, a user message follows
        for message in told_apart(messages, self.provider):
            if message.role == "tool":
                results = [part for part in message.parts if isinstance(part, ToolResult)]
                said = [{"tool_call_id": ids.result(result.call_id), "content": result.text} for result in results]
                sent.extend({"role": "tool", **result} for result in said)
                shown.extend(content for result in results for content in self._images(result))
                continue
            if shown:
                sent.append({"role": "user", "content": shown})
                shown = []
            if message.role == "assistant":
                sent.append(self._assistant(message, ids))
            else:
                role = self.system_role if message.role == "system" else message.role
                sent.append({"role": role, "content": self._contents(message.parts)})
        return [*sent, {"role": "user", "content": shown}] if shown else sent

    def parts(self, message: Mapping[str, Any], turn: int) -> list[Part]:
        """The parts of an answer's message; `turn` is where in the conversation it stands."""
        parts: list[Part] = []
        if reasoning := {name: message[name] for name in _REASONING_FIELDS if message.get(name)}:
            readable = next((value for value in reasoning.values() if isinstance(value, str)), "")
            parts.append(Reasoning(readable, {"provider": self.provider, "item": reasoning}))
        if (audio := message.get("audio")) and audio.get("data"):
            parts += self._speech(audio)
        if text := _text(message.get("content")) or message.get("refusal"):
            parts.append(Text(text))
        # A made-up id must be unique in its conversation, and the same when the conversation is replayed.
        calls = message.get("tool_calls") or ()
        return parts + [self._tool_call(item, f"call_{turn}_{number}") for number, item in enumerate(calls)]

    # --- to the wire ---

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
            case Document(data, media_type) if media_type.startswith("text/"):
                # Files are PDF alone here; OpenAI advises to send the words of others ("File inputs").
                return {"type": "text", "text": data.decode("utf-8", "replace")}
            case Document():
                return {"type": "file", "file": file(part)}
            case Audio() if (content := input_audio(part)) is not None:
                return content
        raise unsupported(self.owner, part)

    def _images(self, result: ToolResult) -> list[dict[str, Any]]:
        images = [self._content(part) for part in result.parts if isinstance(part, Image)]
        return [{"type": "text", "text": f"Images of {result.name} ({result.call_id}):"}, *images] if images else []

    def _assistant(self, message: Message, ids: CallIds) -> dict[str, Any]:
        heard = next((item for part in message.parts if (item := self._heard(part))), None)
        spoken = [part for part in message.parts if isinstance(part, Text)]
        if heard:  # its words are in it
            spoken = [part for part in spoken if raw_item(part, self.provider) is None]
        text = "\n".join(part.text for part in spoken)
        sent: dict[str, Any] = {"role": "assistant", "content": text}
        if calls := [self._call(call, ids) for call in message.tool_calls]:
            sent |= {"content": text or None, "tool_calls": calls}
        if heard:
            sent |= {"content": text or None, "audio": {"id": heard["id"]}}
        if self.replay_reasoning:
            for part in message.parts:
                if isinstance(part, Reasoning):
                    sent.update(raw_item(part, self.provider) or {})
        return sent

    def _heard(self, part: Part) -> Mapping[str, Any] | None:
        """Of a sound that the server made and still has, what it called it."""
        item = raw_item(part, self.provider) if isinstance(part, Audio) else None
        return item if item and item.get("expires_at", 0) > time.time() + _EXPIRY_MARGIN_S else None

    def _call(self, call: ToolCall, ids: CallIds) -> dict[str, Any]:
        if (item := raw_item(call, self.provider)) is not None:
            return {**item, "id": ids.call(call.id, own=True)}
        arguments = call.malformed or json.dumps(dict(call.arguments))
        return {"id": ids.call(call.id), "type": "function", "function": {"name": call.name, "arguments": arguments}}

    # --- from the wire ---

    def _speech(self, audio: Mapping[str, Any]) -> list[Part]:
        """A sound and its words, marked by their item: where the sound is referred to, they are not said again."""
        named = {name: audio[name] for name in ("id", "expires_at") if name in audio}
        sound = Audio(
            base64.b64decode(audio["data"]),
            audio.get("media_type", "audio/wav"),
            {"provider": self.provider, "item": named},
        )
        words = audio.get("transcript") or ""
        return [sound, Text(words, {"provider": self.provider, "item": {"type": "transcript"}})] if words else [sound]

    def _tool_call(self, item: Mapping[str, Any], made_up_id: str) -> ToolCall:
        function = item.get("function") or {}
        written = function.get("arguments")
        arguments, malformed = parse_arguments(written)
        as_specified = item.get("id") and isinstance(written, str)
        raw = {"provider": self.provider, "item": item} if as_specified else None
        return ToolCall(item.get("id") or made_up_id, str(function.get("name", "")), arguments, malformed, raw)


def check(body: Mapping[str, Any]) -> None:
    """Raises TransientError for a body that is none of Chat Completions."""
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0].get("message"), dict):
        raise TransientError("the answer has no choices (the server broke, or this is not a Chat Completions server)")
    if choices[0].get("finish_reason") == "error":  # OpenRouter
        raise TransientError("the answer broke off with an error")


def usage_of(usage: Any) -> Usage | None:
    """None where a server reports none. Images are counted as text, at whose price OpenAI's models here read them."""
    if not isinstance(usage, dict) or not usage.get("prompt_tokens"):
        return None
    read_of, written_of = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    read, write = read_of.get("cached_tokens") or 0, read_of.get("cache_write_tokens") or 0
    heard, spoken = read_of.get("audio_tokens") or 0, written_of.get("audio_tokens") or 0
    return Usage(
        input=max(0, usage["prompt_tokens"] - read - write - heard),
        cache_read=read,
        cache_write=write,
        output=max(0, (usage.get("completion_tokens") or 0) - spoken),
        reasoning=written_of.get("reasoning_tokens") or 0,
        audio_input=heard,
        audio_output=spoken,
    )


def stop_reason(choice: Mapping[str, Any], message: Message) -> StopReason:
    """Why the answer ended; tool calls count also where a server gives another reason for them."""
    if choice.get("finish_reason") == "length":
        return "length"
    if choice.get("finish_reason") == "content_filter" or choice["message"].get("refusal"):
        return "refusal"
    return "tool_calls" if message.tool_calls else "stop"


def _tool_choice(choice: str) -> Any:
    return choice if choice in ("none", "required") else {"type": "function", "function": {"name": choice}}


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(piece.get("text") or "" for piece in content if isinstance(piece, dict))
    return str(content or "")
