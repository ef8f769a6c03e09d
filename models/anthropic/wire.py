"""Conversations as the Messages API takes them, and its answers as messages.

Every block of an answer is kept as it came and goes back unchanged, thinking and its signature byte for byte. History
from another provider is carried by its neutral view.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from trellis.models.anthropic.prefix import Block, Prefix, Turn
from trellis.models.carry import CallIds, dropped, line, told_apart
from trellis.models.messages import Audio, Document, Image, Media, Message, Part, Reasoning, Text, ToolCall, ToolResult
from trellis.models.model import ModelRequestError, ToolSpec, Usage
from trellis.models.parts import parse_arguments, raw_item, unsupported

PROVIDER = "anthropic"
"""Of all items, also of those that came by way of Amazon or Google: signatures hold on every platform."""
_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_SHORTENED = "(The beginning of this conversation is left out.)"
_NOT_SHOWN = " that Anthropic did not show to this model"
_UNREAD = {
    "model_binding_mismatch": " that this model cannot read",
    "prefix_binding_mismatch": " before which the conversation was edited",
    "organization_binding_mismatch": " of another account",
}
_THINKING = ("thinking", "redacted_thinking")

_Said = tuple[Literal["user", "assistant"], list[tuple[Block, Part]]]
"""A turn, with the part that each of its blocks was."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a request says."""

    system: list[Block]
    tools: list[Block]
    turns: list[Turn]
    dropped: tuple[str, ...]
    """See `Reply.dropped`."""
    thought_elsewhere: int
    """Blocks of thinking of other models of Anthropic, which this one may or may not read."""
    prefix: Prefix | None
    """Of all of it, where thinking is bound to what stands before it."""

    @property
    def is_compacted(self) -> bool:
        return any(block["type"] == "compaction" for _, blocks in self.turns for block in blocks)

    @property
    def began_without_thinking(self) -> bool:
        """Is it in the middle of a reply, between calls and results, that did not begin with thinking?"""
        reply: list[Block] = []
        for role, blocks in self.turns:
            if role == "user" and any(block["type"] != "tool_result" for block in blocks):
                reply = []
            elif role == "assistant":
                reply = reply or blocks
        return bool(reply) and reply[0]["type"] not in _THINKING


def conversation(
    name: str, model: str, messages: Sequence[Message], tools: Sequence[ToolSpec], *, bound: bool
) -> Conversation:
    """The system prompt, the tools, and turns in which all results of a turn's calls stand together at the beginning.

    A system message after the beginning becomes the user's: not every model takes one there. `name` is our name of the
    model, `model` Anthropic's. `bound`: see `family.binds_thinking`; thinking before which the conversation was edited
    is left out.

    Raises:
        ModelRequestError: a part that Anthropic does not take.
    """
    to_block = _ToBlock(name, keep_blank=bound)
    system: list[Block] = []
    turns: list[_Said] = []
    for message in told_apart(messages, PROVIDER):
        blocks = [(block, part) for part in message.parts if (block := to_block(part)) is not None]
        if message.role == "system" and not turns:
            system += [_only_text(name, block, part) for block, part in blocks]
        else:
            turns.append(("assistant" if message.role == "assistant" else "user", blocks))
    specs = [
        {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)} for tool in tools
    ]
    prefix = Prefix(system, specs) if bound else None
    kept, edited = _joined(_begun_by_the_user(turns), prefix)
    lines = dropped(messages, PROVIDER)
    if to_block.unsigned:
        lines += (line(to_block.unsigned, "thinking block") + " that broke off before a signature",)
    if edited:
        lines += (line(edited, "signed thinking block") + " before which the conversation was edited",)
    elsewhere = sum(
        block["type"] in _THINKING and _remembered(part, "model") not in (None, model)
        for _, said in turns
        for block, part in said
    )
    return Conversation(system, specs, kept, lines, elsewhere, prefix)


def _begun_by_the_user(turns: Sequence[_Said]) -> list[_Said]:
    """Turns without empty ones. What another provider compacted may begin with the assistant; Anthropic's may too."""
    said = [turn for turn in turns if turn[1]]
    if said and said[0][0] == "assistant" and said[0][1][0][0]["type"] != "compaction":
        said.insert(0, ("user", [({"type": "text", "text": _SHORTENED}, Text(_SHORTENED))]))
    return said


def _joined(turns: Sequence[_Said], prefix: Prefix | None) -> tuple[list[Turn], int]:
    """Turns, neighbours of one role joined; and how many blocks of thinking were left out."""
    joined: list[Turn] = []
    edited = 0
    for role, group in groupby(turns, key=lambda turn: turn[0]):
        content = [pair for _, pairs in group for pair in pairs]
        if role == "user":
            content.sort(key=lambda pair: pair[0]["type"] != "tool_result")
        blocks = []
        for block, part in content:
            if prefix is not None:
                written = _remembered(part, "prefix")
                if block["type"] in _THINKING and written not in (None, prefix.digest()):
                    edited += 1
                    continue
                if block["type"] == "compaction" and written:
                    prefix.stand_for(written)
                else:
                    prefix.add(role, block)
            blocks.append(block)
        if joined and blocks and joined[-1][0] == role:  # the turn between them was nothing but such thinking
            joined[-1][1].extend(blocks)
        elif blocks:
            joined.append((role, blocks))
    return joined, edited


def _remembered(part: Part, what: Literal["prefix", "model"]) -> str | None:
    """What a part remembers beside its item: the model that wrote it, or what stood before it (a digest of all for
    thinking, of the conversation alone for a compaction)."""
    return (getattr(part, "raw", None) or {}).get(what)


class _ToBlock:
    """Parts as blocks, in the order of a conversation; None for what is not sent."""

    def __init__(self, name: str, *, keep_blank: bool) -> None:
        self._name = name
        self._keep_blank = keep_blank
        self._ids = CallIds()
        self.unsigned = 0
        """Blocks of thinking without a signature, which Anthropic does not take back."""

    def __call__(self, part: Part) -> Block | None:
        if (item := raw_item(part, PROVIDER)) is not None:
            return self._own(part, item)
        match part:
            case Text(text):
                return {"type": "text", "text": text} if text.strip() else None  # Anthropic rejects blank text
            case Image():
                return {"type": "image", "source": self._source(part, _IMAGES)}
            case Document() if part.media_type.startswith("text/"):
                data = part.data.decode("utf-8", "replace")
                return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": data}}
            case Document():
                return {"type": "document", "source": self._source(part, ("application/pdf",))}
            case ToolCall():
                id_ = self._ids.call(part.id)
                return {"type": "tool_use", "id": id_, "name": part.name, "input": dict(part.arguments)}
            case ToolResult():
                return self._result(part)
            case Reasoning():
                return None  # another provider's: it means nothing here
            case Audio() if part.raw is not None:
                return None  # a reply's speech, whose words stand beside it
        raise unsupported(self._name, part)

    def _own(self, part: Part, item: Mapping[str, Any]) -> Block | None:
        kind = item.get("type")
        if kind == "tool_use" and isinstance(part, ToolCall):
            return {**item, "id": self._ids.call(part.id, own=True)}
        if kind == "text":  # its own blank texts come back too, but only models that check what was said want them
            keep = item["text"] and (self._keep_blank or item["text"].strip())
            return dict(item) if keep else None
        if kind == "thinking" and not item.get("signature"):
            self.unsigned += 1
            return None
        return dict(item)

    def _result(self, part: ToolResult) -> Block:
        content = [block for inner in part.parts if (block := self(inner)) is not None]
        block = {"type": "tool_result", "tool_use_id": self._ids.result(part.call_id), "content": content}
        return block | ({"is_error": True} if part.is_error else {})

    def _source(self, medium: Media, known: Sequence[str]) -> dict[str, Any]:
        if medium.media_type not in known:
            kind = type(medium).__name__.lower()
            raise ModelRequestError(
                f"{self._name}: Anthropic takes no {kind} of type {medium.media_type}; it takes {', '.join(known)}"
            )
        data = base64.b64encode(medium.data).decode()
        return {"type": "base64", "media_type": medium.media_type, "data": data}


def _only_text(name: str, block: Block, part: Part) -> Block:
    if block["type"] != "text":
        raise unsupported(name, part)
    return block


# --- from the wire ---


def parts(blocks: Sequence[Mapping[str, Any]], model: str, prefix: Prefix | None) -> tuple[Part, ...]:
    """The blocks of an answer as parts. Thinking remembers which model wrote it, and what stood before it where that
    matters; `prefix` is that of the request."""
    made = []
    for block in blocks:
        raw: dict[str, Any] = {"provider": PROVIDER, "item": block}
        if block.get("type") in _THINKING:
            raw["model"] = model
        if prefix is not None and block.get("type") in (*_THINKING, "compaction"):
            raw["prefix"] = prefix.said if block["type"] == "compaction" else prefix.digest()
        part = _part(block, raw)
        made.append(part)
        if prefix is not None and (again := _ToBlock("", keep_blank=True)(part)) is not None:
            prefix.add("assistant", again)
    return tuple(made)


def _part(block: Mapping[str, Any], raw: dict[str, Any]) -> Text | ToolCall | Reasoning:
    match block.get("type"):
        case "text":
            return Text(block["text"], raw)
        case "compaction":
            return Text(str(block.get("content") or ""), raw)
        case "tool_use":
            arguments, malformed = parse_arguments(block.get("input"))
            item = {**block, "input": arguments} if malformed else block
            return ToolCall(str(block["id"]), str(block["name"]), arguments, malformed, {**raw, "item": item})
        case _:
            return Reasoning(str(block.get("thinking") or ""), raw)  # thinking, redacted or not, or unknown


def unread(body: Mapping[str, Any]) -> tuple[str, ...]:
    """What Anthropic says that it did not show to the model, as lines of `Reply.dropped`."""
    reasons = Counter(
        str(entry.get("reason"))
        for entry in body.get("input_transformations") or ()
        if entry.get("type") == "thinking_dropped"
    )
    return tuple(
        line(number, "signed thinking block") + _UNREAD.get(why, _NOT_SHOWN) for why, number in reasons.items()
    )


def usage(used: Mapping[str, Any], ttl: str) -> Usage:
    """The classes of tokens; `ttl` is that of the cache, for answers that do not say."""
    written = used.get("cache_creation_input_tokens") or 0
    split = used.get("cache_creation") or {}
    for_hour = split.get("ephemeral_1h_input_tokens") if split else written if ttl == "1h" else 0
    return Usage(
        input=used.get("input_tokens") or 0,
        cache_read=used.get("cache_read_input_tokens") or 0,
        cache_write=max(0, written - (for_hour or 0)),
        cache_write_1h=for_hour or 0,
        output=used.get("output_tokens") or 0,
        reasoning=(used.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
    )
