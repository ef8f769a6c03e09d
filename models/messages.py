"""What is said between a scaffold and a model: messages made of parts.

Every part has a neutral view. A part that came from a provider also keeps the provider's own item in `raw`
(`{"provider": name, "item": ...}`) and goes back to the same provider unchanged, signatures included.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

Role = Literal["system", "user", "assistant", "tool"]
Raw: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    raw: Raw | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """An image, a sound, a film or a document: bytes and their media type ("image/png", "application/pdf")."""

    data: bytes = field(repr=False)
    media_type: str
    raw: Raw | None = None


class Image(Media):
    __slots__ = ()


class Audio(Media):
    __slots__ = ()


class Video(Media):
    __slots__ = ()


class Document(Media):
    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A model's reasoning: readable text where the provider gives it, and its own item in `raw`."""

    text: str = ""
    raw: Raw | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One use of a tool. `malformed` holds what the model wrote where that was not a JSON object; `arguments` is empty
    then."""

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    malformed: str = ""
    raw: Raw | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came back from a tool call, also after an error of the model's making."""

    call_id: str
    name: str
    parts: tuple[Text | Image, ...] = ()
    is_error: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    """Facts for the scaffold (`exit_code`, `timed_out`, ...): in the log, never sent to a model."""

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def message(self) -> Message:
        return Message("tool", (self,))


Part: TypeAlias = Text | Image | Audio | Video | Document | Reasoning | ToolCall | ToolResult


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Message:
    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The text parts (and the texts of tool results), joined by newlines."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text | ToolResult))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(part for part in self.parts if isinstance(part, ToolCall))


def _message(role: Role, parts: tuple[str | Part, ...]) -> Message:
    return Message(role, tuple(Text(part) if isinstance(part, str) else part for part in parts))


def system(*parts: str | Part) -> Message:
    return _message("system", parts)


def user(*parts: str | Part) -> Message:
    return _message("user", parts)


def assistant(*parts: str | Part) -> Message:
    return _message("assistant", parts)


# --- as JSON ---

_MEDIA: dict[str, type[Media]] = {"image": Image, "audio": Audio, "video": Video, "document": Document}

Store: TypeAlias = Callable[[bytes], str]
"""Keeps bytes and returns the name under which `Load` finds them again."""
Load: TypeAlias = Callable[[str], bytes]


def message_to_json(message: Message, store: Store | None = None) -> dict[str, Any]:
    """A message as JSON. Media go to `store` and leave `{"blob": name}` behind; without one they become base64."""
    return {"role": message.role, "parts": [part_to_json(part, store) for part in message.parts]}


def message_from_json(data: Mapping[str, Any], load: Load | None = None) -> Message:
    """The inverse of `message_to_json`.

    Raises:
        ValueError: an unknown kind of part, or a blob without a `load` to find it.
    """
    return Message(data["role"], tuple(part_from_json(part, load) for part in data["parts"]))


def part_to_json(part: Part, store: Store | None = None) -> dict[str, Any]:
    out: dict[str, Any]
    match part:
        case Text(text, raw):
            out = {"kind": "text", "text": text, "raw": raw}
        case Reasoning(text, raw):
            out = {"kind": "reasoning", "text": text, "raw": raw}
        case Media(data, media_type, raw):
            out = {"kind": type(part).__name__.lower(), "media_type": media_type, "raw": raw}
            out |= {"blob": store(data)} if store else {"base64": base64.b64encode(data).decode()}
        case ToolCall(id_, name, arguments, malformed, raw):
            out = {"kind": "tool_call", "id": id_, "name": name, "arguments": dict(arguments), "raw": raw}
            if malformed:
                out["malformed"] = malformed
        case ToolResult(call_id, name, parts, is_error, facts):
            out = {
                "kind": "tool_result",
                "call_id": call_id,
                "name": name,
                "is_error": is_error,
                "data": dict(facts),
            }
            out["parts"] = [part_to_json(inner, store) for inner in parts]
    if out.get("raw", ...) is None:
        del out["raw"]
    return out


def part_from_json(data: Mapping[str, Any], load: Load | None = None) -> Part:
    kind, raw = data["kind"], data.get("raw")
    match kind:
        case "text":
            return Text(data["text"], raw)
        case "reasoning":
            return Reasoning(data["text"], raw)
        case "tool_call":
            return ToolCall(data["id"], data["name"], data["arguments"], data.get("malformed", ""), raw)
        case "tool_result":
            parts = tuple(part_from_json(inner, load) for inner in data["parts"])
            return ToolResult(data["call_id"], data["name"], parts, data["is_error"], data["data"])  # type: ignore[arg-type]
        case _ if kind in _MEDIA:
            if "base64" in data:
                content = base64.b64decode(data["base64"])
            elif load is not None:
                content = load(data["blob"])
            else:
                raise ValueError(f"a part refers to blob {data['blob']}, and there is no store to load it from")
            return _MEDIA[kind](content, data["media_type"], raw)  # type: ignore[return-value]
    raise ValueError(f"unknown kind of message part: {kind!r}")


def without_raw(message: Message) -> Message:
    """The neutral view alone: what can be carried from one provider to another."""
    return Message(message.role, tuple(p if isinstance(p, ToolResult) else replace(p, raw=None) for p in message.parts))
