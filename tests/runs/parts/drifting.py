"""Agents that cannot go on from their logs: one whose world answers differently each time, and breaks once; one that
says something else each time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from trellis.environments.environment import EnvironmentFault
from trellis.models.messages import user
from trellis.scaffolds.episode import Episode
from trellis.scaffolds.scaffold import ScaffoldOptions


class Drifting(ScaffoldOptions):
    name: ClassVar[str] = "drifting"

    async def solve(self, episode: Episode) -> None:
        drift, broken = Path(os.environ["DRIFT"]), Path(os.environ["DRIFT"] + ".broken")
        await episode.generate([user(*episode.task.prompt)])
        await episode.use("shell", command=f"echo x >> {drift}; wc -l < {drift}")
        if not broken.exists():
            broken.touch()
            raise EnvironmentFault("the world broke")
        await episode.submit((await episode.use("shell", command="echo 10")).text)


class Changing(ScaffoldOptions):
    name: ClassVar[str] = "changing"

    async def solve(self, episode: Episode) -> None:
        await episode.generate([user(*episode.task.prompt), user(os.environ["SAYS"])])
        if "BREAKS" in os.environ:
            raise EnvironmentFault("the world broke")
        await episode.submit("10")
