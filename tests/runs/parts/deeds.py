"""A benchmark whose tasks ask for deeds that leave a mark outside of every world: what is done twice shows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from trellis.benchmarks.benchmark import Cheat, Grader, Score
from trellis.environments.environment import Environment
from trellis.models.messages import Message, Text, user
from trellis.scaffolds.episode import Episode
from trellis.scaffolds.scaffold import ScaffoldOptions
from trellis.scaffolds.task import Submission, Task
from trellis.tools.tool import Output, tool


class Deeds:
    name = "deeds"
    version = "1"
    judge: str | None = None

    def __init__(self, count: int = 4) -> None:
        self._count = count

    def splits(self) -> Sequence[str]:
        return ("sample",)

    def tasks(self, split: str) -> Iterable[Task]:
        for number in range(self._count):
            yield Task(f"deed-{number}", (Text(f"t{number}"),), None, tools=(f"{__file__}:deed",))

    async def collect(self, task: Task, environment: Environment | None, answer: str) -> Submission:
        return Submission(answer)

    async def score(self, task: Task, submission: Submission, grader: Grader) -> Score:
        return Score(1.0, success=True)

    async def oracle(self, task: Task) -> Submission:
        return Submission("done")

    def cheats(self, task: Task) -> Sequence[Cheat]:
        return ()

    def metrics(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return {}


@tool
async def deed(environment: Environment, key: str = "") -> str | Output:
    """Do it.

    Args:
        key: What is done.
    """
    with Path(os.environ["DEEDS"]).open("a") as file:
        file.write(f"{key}\n")
    return f"{key} is done"


class Doer(ScaffoldOptions):
    """Asks for two deeds at a time, as often as its option says, in one conversation."""

    name: ClassVar[str] = "doer"

    rounds: int = 2

    async def solve(self, episode: Episode) -> None:
        (said,) = episode.task.prompt
        assert isinstance(said, Text)
        messages: list[Message] = []
        for number in range(self.rounds):
            keys = [f"{said.text}r{number}{letter}" for letter in "ab"]
            messages.append(user(f'Call the tool `deed` twice at once, with "{keys[0]}" and with "{keys[1]}".'))
            while messages[-1].role != "assistant":
                reply = await episode.generate(messages)
                messages.append(reply.message)
                for call in reply.tool_calls:
                    messages.append((await episode.act(call)).message)
        await episode.submit("done")
