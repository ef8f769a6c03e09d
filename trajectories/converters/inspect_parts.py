"""Messages, tools, usage and scores as Inspect's logs (version 2) write them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from trellis.models.messages import Audio, Document, Image, Media, Message, Reasoning, Text, ToolCall, ToolResult, Video
from trellis.models.model import Reply, ToolSpec, Usage
from trellis.trajectories.converters import lost, telling
from trellis.trajectories.converters.converter import Losses
from trellis.trajectories.converters.pieces import dumped, without_none
from trellis.trajectories.trajectory import Act

MEDIA = "sounds and films of types that Inspect does not know"
SCHEMAS = "schemas of tools as they were (told in Inspect's own way)"
ORDER = "replies with words after calls (these are told apart)"
_ATTACHED_FROM = 100
"""Characters: longer texts in events are attachments, as Inspect makes them."""
_NAMES = ("id", "uuid", "span_id", "parent_id", "anchor_id", "from_anchor", "name")
"""Members of events that others refer to."""
_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
_VIDEO = {"video/mp4": "mp4", "video/mpeg": "mpeg", "video/quicktime": "mov"}
_STOPS = {"stop": "stop", "tool_calls": "tool_calls", "length": "max_tokens", "refusal": "content_filter"}
_SCHEMAS = ("items", "additionalProperties")
_SCHEMA = (
    "type", "format", "description", "default", "enum", "required", "pattern", "minLength", "maxLength", "minimum",
    "maximum", "examples",
)  # fmt: skip


class Attachments:
    """Long texts of a sample, each written once to `file` as a member of a JSON object."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._known: set[str] = set()

    def __call__(self, value: Any) -> Any:
        """`value` with its long texts replaced by references."""
        match value:
            case str() if len(value) > _ATTACHED_FROM:
                return self._attached(value)
            case Mapping():
                return {name: inner if name in _NAMES else self(inner) for name, inner in value.items()}
            case list() | tuple():
                return [self(inner) for inner in value]
        return value

    def pictures(self, value: Any) -> Any:
        """`value` with the data URIs in it replaced by references."""
        match value:
            case str() if value.startswith("data:"):
                return self._attached(value)
            case Mapping():
                return {name: inner if name == "text" else self.pictures(inner) for name, inner in value.items()}
            case list() | tuple():
                return [self.pictures(inner) for inner in value]
        return value

    def _attached(self, text: str) -> str:
        name = telling.digest(text)[:32]
        if name not in self._known:
            self._file.write(f"{',' if self._known else ''}{dumped(name)}:{dumped(text)}\n")
            self._known.add(name)
        return f"attachment://{name}"


class Parts:
    """Ours into Inspect's, counting what is lost."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses

    def messages(self, message: Message, name: str, model: str = "") -> list[dict[str, Any]]:
        """One of ours may be several of theirs: each result of a tool is a message there."""
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        if results:
            made = [self._result(result, f"{name}-{n}" if n else name) for n, result in enumerate(results)]
            rest = tuple(part for part in message.parts if not isinstance(part, ToolResult))
            return made + (self.messages(Message("user", rest), f"{name}-rest") if rest else [])
        calls_at = [isinstance(part, ToolCall) for part in message.parts]
        self._losses.add(ORDER, int(calls_at != sorted(calls_at)))
        return [self._said(message, name, model)]

    def _said(self, message: Message, name: str, model: str) -> dict[str, Any]:
        made: dict[str, Any] = {"id": name, "role": message.role, "content": self._content(message.parts)}
        if message.role == "assistant":
            made["source"] = "generate"
            made |= without_none(
                model=model or None, tool_calls=[tool_call(call) for call in message.tool_calls] or None
            )
        elif message.role == "user":
            made["source"] = "input"
        return made

    def output(self, reply: Reply, name: str, model: str) -> dict[str, Any]:
        message = self.messages(reply.message, name, model)[0]
        choice = {"message": message, "stop_reason": _STOPS[reply.stop_reason]}
        return {
            "model": model,
            "choices": [choice],
            "completion": telling.text_of(reply.message),
            "usage": self.usage(reply.usage, reply.cost_usd),
            "time": reply.latency_s,
        }

    def usage(self, usage: Usage, cost_usd: float | None) -> dict[str, Any]:
        self._losses.add(lost.CLASSES, int(lost.has_rare_classes(usage)))
        return without_none(
            input_tokens=usage.input + usage.audio_input + usage.image_input,
            output_tokens=usage.total_output,
            total_tokens=usage.total,
            input_tokens_cache_write=usage.cache_write + usage.cache_write_1h or None,
            input_tokens_cache_read=usage.cache_read or None,
            reasoning_tokens=usage.reasoning or None,
            total_cost=cost_usd,
        )

    def result(self, act: Act) -> dict[str, Any]:
        """What a tool event says of what came back."""
        result = act.result
        if result is None:
            return {"result": "", "error": {"type": "cancelled", "message": "the call was cut off"}, "failed": True}
        content = self._content(result.parts)
        return {"result": content, **({"error": _error(result)} if result.is_error else {})}

    def _result(self, result: ToolResult, name: str) -> dict[str, Any]:
        return without_none(
            id=name,
            role="tool",
            content=self._content(result.parts),
            tool_call_id=result.call_id,
            function=result.name,
            error=_error(result) if result.is_error else None,
        )

    def _content(self, parts: Sequence[Any]) -> str | list[dict[str, Any]]:
        made = [item for part in parts if (item := self._part(part)) is not None]
        return telling.text_or_parts(made)

    def _part(self, part: Any) -> dict[str, Any] | None:
        raw = getattr(part, "raw", None)
        if isinstance(part, Reasoning):
            return self._reasoning(part)
        if isinstance(part, ToolCall):
            self._losses.add(lost.UNSIGNED, int(raw is not None))
            return None
        self._losses.add(lost.UNSIGNED, int(raw is not None))
        if isinstance(part, Text):
            return {"type": "text", "text": part.text}
        assert isinstance(part, Media)
        return self._media(part)

    def _reasoning(self, part: Reasoning) -> dict[str, Any]:
        item = part.raw.get("item", {}) if part.raw else {}
        signed = item.get("signature") if isinstance(item, Mapping) else None
        redacted = item.get("data") if isinstance(item, Mapping) and item.get("type") == "redacted_thinking" else None
        self._losses.add(lost.UNSIGNED, int(part.raw is not None and not signed and not redacted))
        return without_none(type="reasoning", reasoning=redacted or part.text, signature=signed,
                            redacted=True if redacted else None)  # fmt: skip

    def _media(self, part: Media) -> dict[str, Any]:
        uri = f"data:{part.media_type};base64,{base64.b64encode(part.data).decode()}"
        match part:
            case Image():
                return {"type": "image", "image": uri}
            case Audio() if part.media_type in _AUDIO:
                return {"type": "audio", "audio": uri, "format": _AUDIO[part.media_type]}
            case Video() if part.media_type in _VIDEO:
                return {"type": "video", "video": uri, "format": _VIDEO[part.media_type]}
            case Document():
                return {"type": "document", "document": uri, "mime_type": part.media_type}
        self._losses.add(MEDIA)
        return {"type": "text", "text": f"[{part.media_type}]"}


def tool_call(call: ToolCall) -> dict[str, Any]:
    return without_none(id=call.id, function=call.name, arguments=dict(call.arguments), type="function",
                        parse_error=call.malformed or None)  # fmt: skip


def tool_info(spec: ToolSpec) -> dict[str, Any]:
    schema = _schema(spec.parameters)
    parameters = {"type": "object", "properties": schema.get("properties", {}), "required": schema.get("required", []),
                  "additionalProperties": schema.get("additionalProperties", False)}  # fmt: skip
    return {"name": spec.name, "description": spec.description, "parameters": parameters}


def tool_choice(choice: str | None) -> Any:
    match choice:
        case None:
            return "auto"
        case "none":
            return "none"
        case "required":
            return "any"
    return {"name": choice}


def config_of(config: Mapping[str, Any]) -> dict[str, Any]:
    effort = config.get("reasoning_effort")
    schema = config.get("response_schema")
    return without_none(
        temperature=config.get("temperature"),
        max_tokens=config.get("max_output_tokens"),
        seed=config.get("seed"),
        reasoning_effort="xhigh" if effort == "max" else effort,
        response_schema={"name": "response", "json_schema": _schema(schema)} if schema else None,
    )


def score_of(score: Mapping[str, Any], answer: str | None) -> dict[str, Any]:
    more = {name: score[name] for name in ("success", "valid", "flags", "evidence") if name in score}
    return without_none(value=score["value"], answer=answer, explanation=score.get("explanation"), metadata=more)


def _schema(schema: Any) -> dict[str, Any]:
    """A JSON Schema with what Inspect knows of it; its reader refuses what is no object."""
    if not isinstance(schema, Mapping):
        return {}
    made = {name: schema[name] for name in _SCHEMA if schema.get(name) is not None}
    for name in _SCHEMAS:
        if name in schema:
            made[name] = schema[name] if isinstance(schema[name], bool) and name != "items" else _schema(schema[name])
    if isinstance(properties := schema.get("properties"), Mapping):
        made["properties"] = {name: _schema(inner) for name, inner in properties.items()}
    if isinstance(choices := schema.get("anyOf") or schema.get("oneOf"), list):
        made["anyOf"] = [_schema(inner) for inner in choices]
    return made


def _error(result: ToolResult) -> dict[str, Any]:
    return {"type": "timeout" if result.data.get("timed_out") else "unknown", "message": result.text}
