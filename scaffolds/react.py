"""ReAct: one conversation with tools, from the task to the hand-in."""

from __future__ import annotations

from typing import ClassVar

from trellis.models.messages import system, user
from trellis.scaffolds.burst import react_burst
from trellis.scaffolds.context import ContextOptions
from trellis.scaffolds.episode import Episode

PROMPT = """\
You are an engineer working alone on a task. Think before you act, then use the tools; each result comes back to you.
Check your work by running it. When it is done, hand it in with the submit tool: nothing can be changed afterwards."""

QUESTION_PROMPT = "Answer the question that follows."


class ReAct(ContextOptions):
    name: ClassVar[str] = "react"

    prompt: str = ""
    """System prompt; empty means the built-in one for the kind of task."""

    async def solve(self, episode: Episode) -> None:
        default = PROMPT if episode.task.environment else QUESTION_PROMPT
        await react_burst(episode, [system(self.prompt or default), user(*episode.task.prompt)], self)
