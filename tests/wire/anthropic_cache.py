"""Anthropic's cache: prefixes of requests, written and looked up where requests mark them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from .anthropic_blocks import Rejected, plain
from .loopback import JSON
from .openai_wire import digest

LOOK_BACK = 20
"""How many blocks before a mark are tried."""


def flat(body: JSON) -> list[tuple[JSON, JSON]]:
    """All that a request says, block by block, in the order in which it is hashed, each with what it stands in."""
    said: list[tuple[JSON, JSON]] = [({"in": "tools"}, tool) for tool in body.get("tools", ())]
    said += [({"in": "system"}, block) for block in body.get("system", ())]
    # What is set beside the messages is a part of each of their prefixes, but not of tools and system prompt.
    beside = {name: body[name] for name in ("tool_choice", "thinking") if name in body}
    return said + [({"in": m["role"], **beside}, block) for m in body["messages"] for block in m["content"]]


def size(body: JSON) -> int:
    """How many tokens a request has."""
    return sum(tokens(block) for _, block in flat(body))


def tokens(block: JSON) -> int:
    return 1 + len(json.dumps(plain(block), ensure_ascii=False)) // 4


def hashes(body: JSON) -> list[str]:
    """The hash of the prefix up to and with each block."""
    made, last = [], str(body["model"])
    for place, block in flat(body):
        last = digest(last, place, plain(block))
        made.append(last)
    return made


@dataclass
class Cache:
    minimum: int = 0
    """Shorter prefixes are not written, without an error."""
    written: dict[str, str] = field(default_factory=dict)
    """The life of each entry."""

    def check(self, body: JSON) -> None:
        marks = [mark for mark in _marks(body) if mark]
        if len(marks) > 4:
            raise Rejected(f"A maximum of 4 blocks with cache_control may be provided. Found {len(marks)}.")
        lives = [mark.get("ttl", "5m") for mark in marks]
        if "1h" in lives[lives.index("5m") :] if "5m" in lives else False:
            raise Rejected("a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block.")
        for _, block in flat(body):
            if "cache_control" in block and "thinking" in block.get("type", ""):
                raise Rejected("thinking: Extra inputs are not permitted: cache_control")

    def usage(self, body: JSON) -> JSON:
        """What is read, written and neither; and write it."""
        names, sizes, marks = hashes(body), [tokens(block) for _, block in flat(body)], _marks(body)
        ends = [n for n, mark in enumerate(marks) if mark and sum(sizes[: n + 1]) >= self.minimum]
        hits = [at for end in ends for at in range(end, max(end - LOOK_BACK, 0) - 1, -1) if names[at] in self.written]
        read_to = max(hits) + 1 if hits else 0
        wrote = {"5m": 0, "1h": 0}
        begin = read_to
        for end in ends:
            life = (marks[end] or {}).get("ttl", "5m")
            if end >= begin:
                wrote[life] += sum(sizes[begin : end + 1])
                begin = end + 1
            self.written[names[end]] = life
        return {
            "input_tokens": sum(sizes[begin:]),
            "cache_read_input_tokens": sum(sizes[:read_to]),
            "cache_creation_input_tokens": sum(wrote.values()),
            "cache_creation": {f"ephemeral_{life}_input_tokens": size for life, size in wrote.items()},
        }


def _marks(body: JSON) -> list[JSON | None]:
    """The mark of each block."""
    found: list[JSON | None] = [block.get("cache_control") for _, block in flat(body)]
    if body.get("cache_control"):  # automatic: on the last block that can have one
        found[-1] = body["cache_control"]
    return found
