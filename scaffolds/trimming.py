"""What can be left out of a conversation, oldest first, and how the model is told of it.

Only at legal boundaries: a result may be shortened, but stays with its call; a reply goes with all the results of its
calls, or stays whole. The system prompt, the task and the latest exchange stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trellis.models.legality import stands_for_past
from trellis.models.messages import Image, Message, Part, Text, ToolResult, user

_WORTH = 2.0
"""A result is left out if that makes its message so many times smaller: many edits for nothing spoil caches."""

Size = Callable[[Message], float]
"""Tokens of a message."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to leave out; places are those of messages."""

    results: tuple[int, ...] = ()
    """Messages whose tool results are left out."""
    exchanges: tuple[int, int] = (0, 0)
    """Messages from the first to before the second are left out."""
    saved: float = 0.0
    """Tokens."""

    def to_json(self) -> dict[str, Any]:
        return {"results": list(self.results), "exchanges": list(self.exchanges)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        first, end = data["exchanges"]
        return cls(tuple(data["results"]), (first, end))

    def apply(self, messages: Sequence[Message]) -> tuple[list[Message], Message | None]:
        """The conversation without it, and the message that says so, where there is one. Messages in which nothing
        changes are the same objects."""
        first, end = self.exchanges
        short = set(self.results)
        out = [without_results(m) if place in short else m for place, m in enumerate(messages)]
        if first == end:
            return out, None
        notice = user(f"[{end - first} earlier messages were here; they were removed to make room.]")
        stay = [message for message in messages[first:end] if message.role == "system"]
        return [*out[:first], notice, *stay, *out[end:]], notice


def plan(messages: Sequence[Message], begin: int, enough: float, size: Size, *, at_least: float = 0.0) -> Plan:
    """How to save `enough` tokens in what comes at and after `begin`, as far as that can be done.

    First the results of old tool calls go, the oldest first; if that is not enough whole exchanges, the oldest first.
    The results of the latest reply go only if less than `at_least` would be saved otherwise.
    """
    starts = exchanges(messages, begin)
    if not starts:
        return Plan()
    latest = starts[-1]
    saving = {place: gain for place in range(begin, len(messages)) if (gain := _gain(messages[place], size))}
    results, saved = _take([place for place in saving if place < latest], saving, enough)
    end = begin
    if saved < enough:
        for start in starts[1:]:
            gone = sum(size(message) for message in messages[begin:start] if message.role != "system")
            gone += sum(saving[place] for place in results if place >= start) - _NOTICE_TOKENS
            if gone > saved:
                end, saved = start, gone
            if saved >= enough:
                break
    results = [place for place in results if place >= end]
    if saved < at_least:
        more, gained = _take([place for place in saving if place >= latest], saving, at_least - saved)
        results, saved = [*results, *more], saved + gained
    return Plan(tuple(results), (begin, end), saved)


_NOTICE_TOKENS = 25


def exchanges(messages: Sequence[Message], begin: int) -> list[int]:
    """Where exchanges begin at or after `begin`: a reply, and what comes back until the next one."""
    said = range(begin, len(messages))
    return [place for place in said if messages[place].role == "assistant" and not stands_for_past(messages[place])]


def without_results(message: Message) -> Message:
    """The message with its results reduced to one line each."""
    return replace(
        message, parts=tuple(_short(part) if isinstance(part, ToolResult) else part for part in message.parts)
    )


def _take(places: Sequence[int], saving: Mapping[int, float], enough: float) -> tuple[list[int], float]:
    taken, saved = list[int](), 0.0
    for place in places:
        if saved >= enough:
            break
        taken.append(place)
        saved += saving[place]
    return taken, saved


def _gain(message: Message, size: Size) -> float:
    """What leaving its results out would save; 0 where it is not worth it."""
    if message.role != "tool":
        return 0.0
    before, after = size(message), size(without_results(message))
    return before - after if before >= _WORTH * after else 0.0


def _short(result: ToolResult) -> ToolResult:
    if result.data.keys() == {"removed"}:
        return result
    parts: Sequence[Part] = result.parts
    characters = sum(len(part.text) for part in parts if isinstance(part, Text))
    images = sum(isinstance(part, Image) for part in parts)
    what = [f"{characters:,} characters"] if characters or not images else []
    what += [f"{images} image{'s' if images > 1 else ''}"] if images else []
    said = f"[{' and '.join(what)} were here, removed to make room; use the tool again if you need them]"
    return replace(result, parts=(Text(said),), data={"removed": {"characters": characters, "images": images}})
