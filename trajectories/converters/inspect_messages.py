"""Inspect's messages, contents, usage and attachments, read into ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from trellis.models.messages import Image, Message, Part, Reasoning, Role, Text, ToolCall, ToolResult
from trellis.models.model import Usage
from trellis.trajectories.converters import document, parts
from trellis.trajectories.converters.converter import ConversionError, Losses

FORMAT = "inspect"
MAX_REFERRED = 100_000
"""Messages that one call may refer to."""
MAX_ATTACHED_BYTES = 2 * 1024 * 1024 * 1024
"""Of all attachments of a sample, as often as they are referred to."""
_ATTACHED = ("attachment://", "tc://")


class Messages:
    """The messages of a sample. The same one is the same object, however often a log repeats it."""

    def __init__(self, sample: Mapping[str, Any], model: str) -> None:
        self.losses = Losses()
        self._provider = model.partition("/")[0]
        old = document.mapping(document.mapping(sample.get("transcript")).get("content"))
        self._attachments = {**old, **document.mapping(sample.get("attachments"))}
        self._attached = 0
        pool = document.mapping(sample.get("events_data")).get("messages", sample.get("message_pool"))
        self._pool = document.sequence(pool)
        self._known: dict[str, Message] = {}
        self._made = 0

    def resolved(self, value: Any) -> Any:
        """A value with its attachments in place."""
        if isinstance(value, str):
            prefix = next((prefix for prefix in _ATTACHED if value.startswith(prefix)), None)
            found = self._attachments.get(value.removeprefix(prefix)) if prefix else None
            if not isinstance(found, str):
                return value
            self._attached += len(found)
            if self._attached > MAX_ATTACHED_BYTES:
                raise ConversionError(f"attachments: more than {MAX_ATTACHED_BYTES // 1024**3} GB, put in their places")
            return found
        if isinstance(value, dict):
            return {name: self.resolved(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.resolved(inner) for inner in value]
        return value

    def many(self, items: Any, place: str) -> list[Message]:
        """Raises ConversionError: not messages."""
        return [self.one(item, f"{place}[{number}]") for number, item in enumerate(document.objects(items, place))]

    def referred(self, refs: Any, place: str) -> list[Message]:
        """Messages of the pool, by ranges `[start, end)`. Raises ConversionError: no such range."""
        found: list[Message] = []
        for number, ref in enumerate(document.a_list(refs, place)):
            match ref:
                case [int(start), int(end)] if 0 <= start <= end <= len(self._pooled):
                    if len(found) + end - start > MAX_REFERRED:
                        raise ConversionError(f"{place}: more than {MAX_REFERRED:,} messages")
                    found += self._pooled[start:end]
                case _:
                    raise ConversionError(
                        f"{place}[{number}]: no range of the {len(self._pooled)} messages of the pool"
                    )
        return found

    @cached_property
    def _pooled(self) -> list[Message]:
        return self.many(self._pool, "the pool of messages")

    def one(self, item: Mapping[str, Any], place: str) -> Message:
        key = json.dumps(document.without(item, "id", "source", "model", "metadata"), sort_keys=True)
        if key not in self._known:
            self._known[key] = self._message(self.resolved(dict(item)), place)
        return self._known[key]

    def _message(self, item: Mapping[str, Any], place: str) -> Message:
        roles: Mapping[Any, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
        role = roles.get(item["role"]) if isinstance(item.get("role"), str) else None
        if role is None:
            raise ConversionError(f"{place}: a message of role {item.get('role')!r}")
        said = self.content(item.get("content"))
        if role == "assistant":
            return Message(role, (*said, *map(self.call, document.sequence(item.get("tool_calls")))))
        if role != "tool":
            return Message(role, tuple(said))
        error = document.mapping(item.get("error")) or document.without({"message": item.get("tool_error")})
        said = said or ([Text(document.text(error.get("message")))] if error else [])
        name = document.word(item.get("function")) or "unnamed"
        name = "shell" if name.lower() in parts.SHELLS else name
        fit = tuple(part for part in said if isinstance(part, Text | Image))
        return Message("tool", (ToolResult(document.word(item.get("tool_call_id")), name, fit, bool(error)),))

    def call(self, item: Any) -> ToolCall:
        item = document.mapping(item)
        id = document.word(item.get("id"))
        if not id:
            self._made += 1
            id = f"call-{self._made}"
        name, arguments = document.word(item.get("function")) or "unnamed", item.get("arguments")
        if not arguments and item.get("parse_error"):
            return ToolCall(id, name, {}, document.text(item["parse_error"]))
        return parts.tool_call(FORMAT, id, name, arguments)

    def content(self, value: Any) -> list[Part]:
        """A text, or a list of contents."""
        if not isinstance(value, list):
            return [Text(document.text(value))] if value not in (None, "") else []
        return [self._part(document.mapping(item) or {"type": "text", "text": item}) for item in value]

    def _part(self, item: Mapping[str, Any]) -> Part:
        kind = item.get("type")
        match kind:
            case "text":
                return Text(document.text(item.get("text")))
            case "reasoning":
                return self._reasoning(item)
            case "image" | "audio" | "video" | "document":
                return parts.media(item.get(kind), self.losses, kind)
            case _:
                self.losses.add("contents of a kind that only Inspect has (kept as JSON)")
                return Text(document.text(item))

    def _reasoning(self, item: Mapping[str, Any]) -> Reasoning:
        """With what its provider signed, in the provider's own form."""
        said, summary = document.text(item.get("reasoning")), document.text(item.get("summary"))
        signature, hidden = item.get("signature"), item.get("redacted") is True
        shown = summary if hidden else said or summary
        if self._provider == "anthropic" and (signature or hidden):
            block = {"type": "redacted_thinking", "data": said} if hidden else {"type": "thinking", "thinking": said,
                                                                                "signature": signature}  # fmt: skip
            return Reasoning(shown, {"provider": "anthropic", "item": block})
        if signature or hidden:
            return Reasoning(shown, {"provider": self._provider, "item": document.without(item)})
        return Reasoning(shown)

    def answer(self, output: Any) -> str:
        """What the sample's output says at last."""
        output = document.mapping(output)
        if output.get("completion"):
            return document.text(self.resolved(output["completion"]))
        choices = document.sequence(output.get("choices"))
        message = document.mapping(document.mapping(choices[0]).get("message")) if choices else {}
        said = self.content(self.resolved(message.get("content")))
        return "\n".join(part.text for part in said if isinstance(part, Text))

    def usage_of_all(self, value: Any) -> tuple[Usage, float | None]:
        """The tokens of all models together."""
        each = [usage for usage in document.mapping(value).values() if isinstance(usage, dict)]
        costs = [document.cost(usage.get("total_cost")) for usage in each]
        known = [cost for cost in costs if cost is not None]
        return sum(map(usage_of, each), Usage()), sum(known) if known and len(known) == len(costs) else None


def usage_of(value: Any) -> Usage:
    """Inspect's classes do not overlap, as ours do not."""
    value = document.mapping(value)
    return Usage(
        input=document.count(value.get("input_tokens")),
        cache_read=document.count(value.get("input_tokens_cache_read")),
        cache_write=document.count(value.get("input_tokens_cache_write")),
        output=document.count(value.get("output_tokens")),
        reasoning=document.count(value.get("reasoning_tokens")),
    )
