"""The two ends of every scale: the gold submission, and none. Every adapter is tested with both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from trellis.scaffolds.episode import Episode
from trellis.scaffolds.task import Submission, Task


class Oracle:
    """Hands in the gold submission, which only the benchmark can give: it must score full marks."""

    name: ClassVar[str] = "oracle"

    def __init__(self, gold: Callable[[Task], Awaitable[Submission]]) -> None:
        self._gold = gold

    async def solve(self, episode: Episode) -> None:
        episode.hand_in(await self._gold(episode.task))


class Noop:
    """Does nothing and hands in nothing: it must score nothing."""

    name: ClassVar[str] = "noop"

    async def solve(self, episode: Episode) -> None:
        return None
