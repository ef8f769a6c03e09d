"""What happens to a conversation that moves to another provider: what is left behind, and what its calls are named.

A part that came from a provider keeps the provider's own item beside its neutral view. It goes back to that provider
unchanged; any other gets the neutral view, and what only the item said is lost: signatures, encrypted reasoning, ids.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

from trellis.models.messages import Audio, Message, Part, Reasoning, Role, Text, ToolCall


def dropped(messages: Iterable[Message], provider: str) -> tuple[str, ...]:
    """What of a conversation a client does not send that carries the items of `provider` alone: one line per kind,
    such as "2 signed thinking blocks of anthropic", in the order in which they occur."""
    kinds = Counter(kind for message in messages for part in message.parts if (kind := _left_behind(part, provider)))
    return tuple(line(number, *kind) for kind, number in kinds.items())


def line(number: int, kind: str, owner: str = "") -> str:
    """A line of `Reply.dropped`."""
    return f"{number} {kind}{'s' if number > 1 else ''}{f' of {owner}' if owner else ''}"


_LINE = re.compile(r"(\d+) (.*?)(s?)((?: of| that| before).*)?")


def counted(said: str) -> tuple[str, int]:
    """A line of `Reply.dropped` as its kind, in the plural, and the number: "item ids of openai", 3."""
    found = _LINE.fullmatch(said)
    return (f"{found[2]}s{found[4] or ''}", int(found[1])) if found else (said, 1)


def most(*dropped: Iterable[str]) -> tuple[str, ...]:
    """The lines of several replies together. Each reply says all that was left behind of its conversation, so of each
    kind the largest number holds, not the sum."""
    largest: dict[str, tuple[int, str]] = {}
    for said in (said for lines in dropped for said in lines):
        kind, number = counted(said)
        if number > largest.get(kind, (0, ""))[0]:
            largest[kind] = (number, said)
    return tuple(said for _, said in largest.values())


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
            return "compaction signature", owner
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


def told_apart(messages: Iterable[Message], provider: str) -> Iterator[Message]:
    """The messages, with the user's words as the user's: a compaction of another provider may be a reply that holds
    them beside what only that provider can read."""
    for message in messages:
        for role, parts in groupby(message.parts, key=lambda part: _said_by(part, message.role, provider)):
            yield Message(role, tuple(parts))
        if not message.parts:
            yield message


def _said_by(part: Part, role: Role, provider: str) -> Role:
    raw = getattr(part, "raw", None) or {}
    item = raw.get("item")
    foreign = role == "assistant" and raw.get("provider") != provider and isinstance(item, dict)
    return "user" if foreign and item and item.get("role") == "user" else role


_MARK = re.compile(r"[xy]\d+-")


class CallIds:
    """The ids of a conversation's tool calls as a provider takes them: letters, digits, "_" and "-", none used twice.

    Ids that are fine stay as they are. The others are rewritten so that two different calls never get the same id, and
    a call always gets the same one while its conversation grows. Ask in the order of the conversation.
    """

    def __init__(self, longest: int | None = None) -> None:
        """`longest`: how many characters the provider allows."""
        self._longest = longest
        self._times: Counter[str] = Counter()
        self._used: set[str] = set()
        self._latest: dict[str, str] = {}

    def call(self, call_id: str, *, own: bool = False) -> str:
        """The id of the next call; `own` if the provider itself gave it, whatever it is made of. A repeated id is
        another call: some servers number theirs anew in every reply."""
        name = call_id if own else portable_id(call_id, self._times[call_id], self._longest)
        while name in self._used:
            self._times[call_id] += 1
            name = portable_id(call_id, self._times[call_id], self._longest)
        self._used.add(name)
        self._latest[call_id] = name
        return name

    def result(self, call_id: str) -> str:
        """The id to which a result refers: the latest call of that id."""
        return self._latest.get(call_id) or portable_id(call_id, 0, self._longest)


def portable_id(call_id: str, repetition: int = 0, longest: int | None = None) -> str:
    """The id of a call in letters, digits, "_" and "-". Different calls get different ids: rewritten ones begin with a
    mark, and an id that happens to begin with one is rewritten too; one that is too long becomes a digest."""
    fits = longest is None or len(call_id) <= longest
    if fits and not repetition and re.fullmatch(r"[a-zA-Z0-9_-]+", call_id) and not _MARK.match(call_id):
        return call_id
    name = f"x{repetition}-" + re.sub(r"[^a-zA-Z0-9-]", lambda found: f"_{ord(found[0]):x}_", call_id)
    if longest is None or len(name) <= longest:
        return name
    mark = f"y{repetition}-"
    return mark + hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[: longest - len(mark)]
