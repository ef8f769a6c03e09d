"""A scaffold that does what its options say: commands in the episode's world, and in forks of it."""

from __future__ import annotations

from typing import ClassVar

from trellis.models.messages import ToolCall, user
from trellis.scaffolds.episode import Episode
from trellis.scaffolds.scaffold import ScaffoldOptions


class Commands(ScaffoldOptions):
    name: ClassVar[str] = "commands"

    first: tuple[str, ...] = ()
    """Run in the world itself, one step each."""
    forked: tuple[str, ...] = ()
    """Then each in a fork of its own, and what it wrote is handed in."""

    strange: bool = False
    """Between the two, what is never done: a tool that is none, arguments that are none."""

    async def solve(self, episode: Episode) -> None:
        for command in self.first:
            await episode.generate([user("What next?")])
            await episode.use("shell", command=command)
        if self.strange:
            await episode.act(ToolCall("c1", "telephone", {"number": 1}))
            await episode.act(ToolCall("c2", "shell", malformed="{"))
        start = await episode.snapshot()
        for number, command in enumerate(self.forked):
            async with episode.branch(f"fork-{number}", at=start) as branch:
                await branch.generate([user("And here?")])
                await branch.use("shell", command=command)
                await branch.submit(f"fork {number}")
