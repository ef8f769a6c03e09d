"""What happens to a conversation that moves to another provider: what is left behind, and what its calls are named.

A part that came from a provider keeps the provider's own item beside its neutral view. It goes back to that provider
unchanged; any other gets the neutral view, and what only the item said is lost: signatures, encrypted reasoning, ids.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from trellis.models.messages import Audio, Message, Part, Reasoning, Text, ToolCall


def dropped(messages: Iterable[Message], provider: str) -> tuple[str, ...]:
    """What of a conversation a client does not send that carries the items of `provider` alone: one line per kind,
    such as "2 signed thinking blocks of anthropic", in the order in which they occur."""
    kinds = Counter(kind for message in messages for part in message.parts if (kind := _left_behind(part, provider)))
    return tuple(line(number, *kind) for kind, number in kinds.items())


def line(number: int, kind: str, owner: str = "") -> str:
    """A line of `Reply.dropped`."""
    return f"{number} {kind}{'s' if number > 1 else ''}{f' of {owner}' if owner else ''}"


def _left_behind(part: Part, provider: str) -> tuple[str, str] | None:
    """The kind of what is lost with a part, and whose it was; None where nothing is."""
    raw = getattr(part, "raw", None)
    if not raw:
        return ("reasoning text", "") if isinstance(part, Reasoning) else None
    owner, item = raw.get("provider", ""), raw.get("item")
    if owner == provider:
        return None
    item = item if isinstance(item, dict) else {}
    match part:
        case Reasoning():
            return _reasoning(part, item), owner
        case Text() if item.get("type") == "compaction":
            return "signature under a compaction", owner
        case Audio():
            return "audio reference", owner
        case Text() if item.get("id"):
            return "item id", owner
        case ToolCall() if item.get("id", part.id) != part.id:
            return "item id", owner
    return None


def _reasoning(part: Reasoning, item: dict[str, object]) -> str:
    kind = str(item.get("type") or "reasoning")
    if kind == "thinking":
        return "signed thinking block" if item.get("signature") else "thinking block"
    if kind == "redacted_thinking":
        return "redacted thinking block"
    if kind == "reasoning":
        return "encrypted reasoning item" if item.get("encrypted_content") else "reasoning text"
    return f"{kind.replace('_', ' ')} item"


_MARK = re.compile(r"x\d+-")


class CallIds:
    """The ids of a conversation's tool calls as a provider takes them: letters, digits, "_" and "-", none used twice.

    Ids that are fine stay as they are. The others are rewritten so that two different calls never get the same id, and
    a call always gets the same one while its conversation grows. Ask in the order of the conversation.
    """

    def __init__(self) -> None:
        self._times: Counter[str] = Counter()

    def call(self, call_id: str) -> str:
        """The id of the next call. Some servers number their calls anew in every reply: a repeated id is another."""
        self._times[call_id] += 1
        return self.result(call_id)

    def result(self, call_id: str) -> str:
        """The id to which a result refers: the latest call of that id."""
        return portable_id(call_id, max(self._times[call_id] - 1, 0))


def portable_id(call_id: str, repetition: int = 0) -> str:
    """The id of a call in letters, digits, "_" and "-". Injective in both arguments: rewritten ids begin with a mark,
    and an id that happens to begin with one is rewritten too."""
    if not repetition and re.fullmatch(r"[a-zA-Z0-9_-]+", call_id) and not _MARK.match(call_id):
        return call_id
    return f"x{repetition}-" + re.sub(r"[^a-zA-Z0-9-]", lambda found: f"_{ord(found[0]):x}_", call_id)
