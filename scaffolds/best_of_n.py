"""Best of N: independent short attempts, each a ReAct conversation in a fork of the world; the best is handed in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from trellis.models.messages import ToolResult, system, user
from trellis.scaffolds.burst import react_burst
from trellis.scaffolds.context import ContextOptions
from trellis.scaffolds.episode import ContextFull, Episode, LimitReached
from trellis.scaffolds.reported import passed_share, reported_metric
from trellis.scaffolds.task import Submission

PROMPT = """\
You are an engineer working alone on a task, with tools. Think before you act; the result of each tool call comes back
to you. Check your work by running it. When it is done, hand it in with the submit tool."""

TEST_TIMEOUT_S = 600.0


class BestOfN(ContextOptions):
    name: ClassVar[str] = "best_of_n"

    n: int = Field(default=4, ge=1)
    """Attempts. Only one is made, with the whole budget, where a task offers nothing to tell good from bad by: neither
    a validation metric nor visible tests."""
    max_steps: int | None = Field(default=None, ge=1)
    """Steps of one attempt; None: an equal share of the episode's budget."""
    prompt: str = PROMPT
    """System prompt of every attempt."""

    async def solve(self, episode: Episode) -> None:
        n = self.n if _comparable(episode) else 1
        left = episode.budget.steps_left
        share = self.max_steps or (None if left is None else max(1, left // n))
        best: Attempt | None = None
        for number in range(n):
            attempt = await self._attempt(episode, number, share)
            if not attempt.submission.empty and (best is None or attempt.score > best.score):
                best = attempt
            if best is not None:
                episode.hand_in(best.submission)
            if attempt.limit is not None:
                raise attempt.limit

    async def _attempt(self, episode: Episode, number: int, max_steps: int | None) -> Attempt:
        """One attempt: what it hands in, or leaves behind when its steps are used up, and how good it seems. One that
        a spent budget cuts short counts least."""
        messages = [system(self.prompt), user(*episode.task.prompt)]
        results: list[ToolResult] = []
        score, limit = float("-inf"), None
        async with episode.branch(f"attempt-{number}") as branch:
            try:
                with suppress(ContextFull):  # the next attempt begins with an empty context
                    await react_burst(branch, messages, self, max_steps, results)
                score = await _seeming(branch, results)
            except LimitReached as reached:
                limit = reached
            submission = branch.handed_in or await branch.submit()
        episode.note("attempt", number=number, branch=branch.name, score=_finite(score), empty=submission.empty)
        return Attempt(score, submission, limit)


@dataclass(frozen=True, slots=True)
class Attempt:
    score: float
    """How good it seems; higher is better, and minus infinity is unknown."""
    submission: Submission
    limit: LimitReached | None
    """The budget that was spent in it."""


def _comparable(episode: Episode) -> bool:
    facts = episode.task.facts
    return "test_command" in facts or facts.get("kind") == "ml" or "metric" in facts


async def _seeming(branch: Episode, results: Sequence[ToolResult]) -> float:
    """How good an attempt seems; higher is better. The last validation metric it printed, or else the share of visible
    tests that pass in what it left behind."""
    facts = branch.task.facts
    if "test_command" in facts:
        result = await branch.use("shell", command=facts["test_command"], timeout_s=TEST_TIMEOUT_S)
        share = passed_share(result.text)
        return share if share is not None else float(result.data.get("exit_code") == 0)
    reported = [metric for result in results if (metric := reported_metric(result.text)) is not None]
    if not reported:
        return float("-inf")
    return -reported[-1] if facts.get("lower_is_better") else reported[-1]


def _finite(score: float) -> float | None:
    return score if math.isfinite(score) else None
