"""A small benchmark, model and scaffolds of our own, named on command lines as `path/to/sums.py:Name`.

The model's calls leave a mark in the file `$SUMS_MARKS`, so that tests can count what was really asked.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import ClassVar

from trellis.benchmarks.benchmark import Cheat, Grader, GraderFault, Score
from trellis.environments.environment import Environment, EnvironmentFault, EnvironmentSpec
from trellis.models.messages import Message, Text, ToolCall, user
from trellis.models.model import GenerateConfig, ModelFault, ModelRequestError, Reply, ToolSpec, Usage
from trellis.scaffolds.episode import Episode, Refused
from trellis.scaffolds.scaffold import ScaffoldOptions
from trellis.scaffolds.task import Submission, Task


class Sums:
    """Questions without a world in split `plain`, the same with a world in split `world`."""

    name = "sums"
    version = "1"
    judge: str | None = None

    def __init__(self, count: int = 4, break_grader: bool = False) -> None:
        self._count = count
        self._break_grader = break_grader

    def splits(self) -> Sequence[str]:
        return ("plain", "world", "sample")

    def tasks(self, split: str) -> Iterable[Task]:
        if split not in self.splits():
            raise ValueError(f"unknown split {split!r}; there are: {', '.join(self.splits())}")
        world = EnvironmentSpec() if split == "world" else None
        for i in range(self._count):
            yield Task(f"sum-{i}", (Text(f"What is {i} + 10?"),), world, tools=("shell", "submit"), facts={"i": i})

    async def collect(self, task: Task, environment: Environment | None, answer: str) -> Submission:
        if environment is None:
            return Submission(answer)
        steps = await environment.exec("cat steps.txt 2>/dev/null | wc -l")
        return Submission(answer, {"steps": steps.stdout.strip()})

    async def score(self, task: Task, submission: Submission, grader: Grader) -> Score:
        if self._break_grader or os.environ.get("SUMS_BREAK_GRADER"):
            raise GraderFault("the grader fell over")
        if submission.empty:
            return Score(0.0, success=False, valid=False, explanation="nothing handed in")
        right = str(task.facts["i"] + 10)
        value = 1.0 if submission.answer == right else 0.25
        flags = ("boasts",) if "!" in submission.answer else ()
        steps = submission.files.get("steps", b"").decode()
        return Score(value, success=value == 1.0, explanation=submission.answer, evidence={"steps": steps}, flags=flags)

    async def oracle(self, task: Task) -> Submission:
        return Submission(str(task.facts["i"] + 10))

    def cheats(self, task: Task) -> Sequence[Cheat]:
        return ()

    def metrics(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return {"points": sum(score.value for score in scores)}


class TypedSums(Sums):
    """The same questions, whose answer is a number."""

    def tasks(self, split: str) -> Iterable[Task]:
        return [replace(task, answer=int) for task in super().tasks(split)]


class Submitter:
    """Hands in by the tool: first in words, then, if that did not end the task, as a number."""

    name = "test/submitter"

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        said = next(m for m in messages if m.role == "user").text
        total = sum(map(int, re.findall(r"\d+", said)))
        again = messages[-1].role == "tool"
        call = ToolCall(f"c{len(messages)}", "submit", {"answer": total if again else f"It is {total}."})
        return Reply(Message("assistant", (call,)), stop_reason="tool_calls")


class Adder:
    """Adds, and errs now and then: a function of the seed alone."""

    name = "test/adder"

    def __init__(
        self, error_rate: float = 0.3, delay_s: float = 0.0, cost_usd: float | None = 0.01, mark: str = ""
    ) -> None:
        self._error_rate = error_rate
        self._delay_s = delay_s
        self._cost_usd = cost_usd
        self._mark = mark

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        if marks := os.environ.get("SUMS_MARKS"):
            with Path(marks).open("a") as file:
                file.write(f"{self._mark} {config.seed}\n")
        await asyncio.sleep(self._delay_s)
        numbers = map(int, re.findall(r"\d+", next(m for m in messages if m.role == "user").text))
        wrong = Random(config.seed).random() < self._error_rate
        text = Text(str(sum(numbers) + wrong))
        return Reply(Message("assistant", (text,)), usage=Usage(input=10, output=2), cost_usd=self._cost_usd)


class Asker(ScaffoldOptions):
    """Asks several times, hands in the answer given most often; in a world it writes a line per step."""

    name: ClassVar[str] = "asker"

    votes: int = 3
    """How often it asks."""

    async def solve(self, episode: Episode) -> None:
        answers: list[str] = []
        for step in range(self.votes):
            reply = await episode.generate([user(*episode.task.prompt, f"Vote {step}.".replace(str(step), "x" * step))])
            answers.append(reply.text)
            if episode.task.environment:
                await episode.act(ToolCall(f"c{step}", "shell", {"command": f"echo {step} >> steps.txt"}))
        await episode.submit(max(sorted(set(answers)), key=answers.count))


class Boaster(ScaffoldOptions):
    """Hands in with an exclamation mark, which the benchmark flags."""

    name: ClassVar[str] = "boaster"

    async def solve(self, episode: Episode) -> None:
        reply = await episode.generate([user(*episode.task.prompt)])
        await episode.submit(reply.text + "!")


class Troubled(ScaffoldOptions):
    """Ends as its option says."""

    name: ClassVar[str] = "troubled"

    trouble: str = "bug"
    """bug, world, model, key, refusal or endless; "group-..." raises it inside an exception group."""
    heal_file: str = ""
    """With this file there, nothing goes wrong any more."""

    async def solve(self, episode: Episode) -> None:
        if self.heal_file and Path(self.heal_file).exists():
            await episode.submit("healed")
            return
        try:
            await self._trouble(episode)
        except Exception as error:
            if self.trouble.startswith("group-"):
                raise ExceptionGroup("several", [error]) from None
            raise

    async def _trouble(self, episode: Episode) -> None:
        match self.trouble.removeprefix("group-"):
            case "bug":
                raise IndexError("list index out of range")
            case "world":
                raise EnvironmentFault("the container died: out of memory")
            case "model":
                raise ModelFault("overloaded, after 5 retries")
            case "key":
                raise ModelRequestError("OPENAI_API_KEY is wrong: 401 invalid key")
            case "refusal":
                raise Refused("I would rather not")
            case "endless":
                while True:
                    await episode.generate([user(*episode.task.prompt)])


class Priceless(Adder):
    """Its price is not known."""

    def __init__(self) -> None:
        super().__init__(cost_usd=None)


class Stubborn(ScaffoldOptions):
    """Does not let itself be cancelled."""

    name: ClassVar[str] = "stubborn"

    async def solve(self, episode: Episode) -> None:
        await episode.generate([user(*episode.task.prompt)])
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue
