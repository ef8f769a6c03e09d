"""What a conversation must be like for providers to take it, stated once for those who edit histories and for tests.

Clients repair what they can: neighbouring turns of one role are joined, empty texts are left out, a late system message
is said in the place that the provider has for it. What is listed here no client can repair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from trellis.models.messages import Message, Part, Reasoning, Role, Text, ToolCall, ToolResult, without_raw

_NOT_IN: Mapping[Role, tuple[type[Part], ...]] = {
    "system": (Reasoning, ToolCall, ToolResult),
    "user": (Reasoning, ToolCall, ToolResult),
    "assistant": (ToolResult,),
}


def problems(messages: Sequence[Message]) -> list[str]:
    """Why no provider would take the conversation, one line for each reason; an empty list if it is legal.

    - It begins with the system's messages, if any, and then the user's (or what stands for the past: a compaction).
    - Every message says something, except that a reply may be empty.
    - Every tool call is answered by exactly one result before anything else is said, and every result answers one.
    - Reasoning and calls are the assistant's, results the tools'.
    - It does not end with what the assistant said.
    """
    found: list[str] = []
    turns = [message for message in messages if message.role != "system"]
    if not turns:
        return ["there is nothing to answer: no message but the system's"]
    if turns[0].role == "tool" or (turns[0].role == "assistant" and not stands_for_past(turns[0])):
        found.append(f"the first turn is the {turns[0].role}'s, not the user's")
    if turns[-1].role == "assistant":
        found.append("the last turn is the assistant's: there is nothing to answer")
    open_calls: Counter[str] = Counter()
    for number, message in enumerate(messages):
        where = f"message {number} ({message.role})"
        if message.role != "assistant" and _says_nothing(message):
            found.append(f"{where} says nothing")
        if message.role == "tool":
            found += _answer(message, open_calls, where)
            continue
        found += _unanswered(open_calls, f"before {where}")
        found += [
            f"{where} has a part of type {type(part).__name__}"
            for part in message.parts
            if isinstance(part, _NOT_IN[message.role])
        ]
        open_calls = Counter(call.id for call in message.tool_calls)
        found += [f"{where} has two calls with the id {name}" for name, times in open_calls.items() if times > 1]
    return found + _unanswered(open_calls, "at the end")


def edit_problems(before: Sequence[Message], after: Sequence[Message]) -> list[str]:
    """Why `after` is not a legal edit of the legal conversation `before`, one line for each reason.

    Besides what `problems` says of it: a reply is kept whole, with all of its provider's items, or is reduced to its
    neutral view as a whole, or is left out with the results of its calls. Providers want reasoning together with what
    it led to, and tool calls together with the reasoning before them. Replies keep their order.
    """
    replies = [message for message in before if message.role == "assistant"]
    found, at = problems(after), 0
    for number, message in enumerate(after):
        if message.role != "assistant" or stands_for_past(message) or not _has_items(message):
            continue
        place = next((n for n in range(at, len(replies)) if replies[n] == message), None)
        if place is not None:
            at = place + 1
        elif message in replies:
            found.append(f"message {number} (assistant) has changed its place")
        else:
            found.append(f"message {number} (assistant) is a part of a reply: keep it whole, or without any raw items")
    return found


def neutral(message: Message) -> Message:
    """A reply reduced to what every provider takes, also the one it came from: without items and without reasoning."""
    kept = tuple(part for part in message.parts if not isinstance(part, Reasoning))
    return without_raw(Message(message.role, kept))


def stands_for_past(message: Message) -> bool:
    """Is this what a provider's compaction made of the messages before it?"""
    return message.role == "assistant" and any(_item_type(part).startswith("compaction") for part in message.parts)


def _says_nothing(message: Message) -> bool:
    return all(isinstance(part, Text) and not part.text.strip() for part in message.parts)


def keeps_user(message: Message) -> bool:
    """Does a compaction say itself what the user said, as OpenAI's do?"""
    items = ((getattr(part, "raw", None) or {}).get("item") for part in message.parts)
    return any(isinstance(item, Mapping) and item.get("role") == "user" for item in items)


def _item_type(part: Part) -> str:
    item = (getattr(part, "raw", None) or {}).get("item")
    return str(item.get("type") or "") if isinstance(item, Mapping) else ""


def _has_items(message: Message) -> bool:
    return any(getattr(part, "raw", None) for part in message.parts)


def _answer(message: Message, open_calls: Counter[str], where: str) -> list[str]:
    """Strike the calls that a message of results answers."""
    found = []
    for part in message.parts:
        if not isinstance(part, ToolResult):
            found.append(f"{where} has a part of type {type(part).__name__}")
        elif not open_calls[part.call_id]:
            found.append(f"{where} answers the call {part.call_id}, which is not open")
        else:
            open_calls[part.call_id] -= 1
    return found


def _unanswered(open_calls: Counter[str], where: str) -> list[str]:
    return [f"the call {name} has no result {where}" for name, times in open_calls.items() if times]
