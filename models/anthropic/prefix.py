"""Two things that hang on a request's beginning staying as it was: Anthropic's cache, and the thinking of its newer
models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Block = dict[str, Any]
Turn = tuple[Literal["user", "assistant"], list[Block]]
Ttl = Literal["5m", "1h"]


class Prefix:
    """A digest of all that a request says, block by block: system prompt and tools, then the conversation."""

    def __init__(self, system: Sequence[Block], tools: Sequence[Block]) -> None:
        self._frame = _digest("", [system, tools])
        self.said = ""
        """The conversation so far."""

    def add(self, role: str, block: Mapping[str, Any]) -> None:
        self.said = _digest(self.said, [role, block])

    def stand_for(self, said: str) -> None:
        """Go on as after the conversation `said`, which has been compacted: it counts as if it stood here."""
        self.said = said

    def digest(self) -> str:
        return _digest(self._frame, self.said)[:16]


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def _digest(before: str, value: Any) -> str:
    return hashlib.sha256(_canonical([before, value]).encode()).hexdigest()


def set_breakpoints(system: list[Block], tools: list[Block], turns: Sequence[Turn], ttl: Ttl) -> None:
    """Mark where the server writes its cache, and where it looks for what an earlier request wrote; in place.

    Four marks are allowed, and each finds what was written at most 20 blocks before it ("Prompt caching", Anthropic's
    documentation), which one turn with ten parallel calls exceeds. So the marks stand where earlier requests of the
    same conversation had theirs: at the end of tools and system prompt (shared by all tasks of an agent), of the first
    user turn (shared by all attempts at a task, and by branches), of the last but one (the end of the request before
    this one), and of the last. All have the same life: longer ones would have to stand before shorter ones.
    """
    mark = {"type": "ephemeral"} | ({"ttl": ttl} if ttl != "5m" else {})
    ends = [system or tools, *_user_turns(turns)]
    for blocks in {id(blocks): blocks for blocks in ends if blocks}.values():
        blocks[-1] = {**blocks[-1], "cache_control": mark}


def _user_turns(turns: Sequence[Turn]) -> list[list[Block]]:
    said = [blocks for role, blocks in turns if role == "user"]
    return [*said[:1], *said[-2:]]
