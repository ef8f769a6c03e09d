"""`Walk`: a scripted agent that does each task of the benchmark in the real browser, through the real episode.

    trellis run browser:sample --scaffold trellis.benchmarks.browser.walk:Walk

It knows what to do but not where it is: elements are found in what the tool shows. So it proves for every task that the
pages, the tool and the checker work together, which a stored submission cannot.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from trellis.benchmarks.browser.benchmark import HOME
from trellis.benchmarks.browser.exercises import BY_ID
from trellis.scaffolds.episode import Episode
from trellis.scaffolds.scaffold import ScaffoldOptions


class Lost(Exception):
    """The page is not as the walk expects it."""


class Walk(ScaffoldOptions):
    name: ClassVar[str] = "walk"

    async def solve(self, episode: Episode) -> None:
        """Raises Lost: a task cannot be done as it used to be, which is a bug of ours."""
        exercise = BY_ID[episode.task.id]
        eyes = _Eyes(episode)
        await eyes.use("navigate", url=f"{HOME}/{exercise.id}/")
        for step in exercise.walk:
            arguments = dict(step.arguments)
            if step.target:
                arguments["ref"] = await eyes.find(step.target)
            if step.to:
                arguments["to"] = await eyes.find(step.to)
            await eyes.use(step.action, **arguments)
        await episode.use("submit", answer=exercise.answer)


class _Eyes:
    """Uses the browser, and remembers what it showed."""

    def __init__(self, episode: Episode) -> None:
        self._episode = episode
        self._shown = ""

    async def use(self, action: str, **arguments: Any) -> None:
        result = await self._episode.use("browser", action=action, **arguments)
        if result.is_error:
            raise Lost(f"{self._episode.task.id}: {action} {arguments}: {result.text}")
        if "snapshot" in result.data:
            self._shown = result.text

    async def find(self, target: str) -> str:
        """The reference of an element, after a new look if what was shown last does not have it."""
        found = _reference(self._shown, target)
        if found is None:
            await self.use("snapshot")
            found = _reference(self._shown, target)
        if found is None:
            raise Lost(f"{self._episode.task.id}: there is no {target} in\n{self._shown}")
        return found


def _reference(shown: str, target: str) -> str | None:
    lines = [line for line in shown.splitlines() if not line.startswith("- ")]
    at = 0
    for words in target.split(" >> "):
        at = next((n for n in range(at, len(lines)) if words in lines[n]), -1)
        if at < 0:
            return None
    found = re.search(r"\[(e\d+)\]", lines[at].partition(words)[2])
    return found[1] if found else None
