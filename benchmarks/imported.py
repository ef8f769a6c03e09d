"""The task of an episode that was made elsewhere: what its agent was told, in a world of ours. Nothing here can score
it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from trellis.benchmarks.benchmark import Cheat, Grader, Score
from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.scaffolds.task import Submission, Task
from trellis.trajectories.log import LogError
from trellis.trajectories.trajectory import Trajectory

TOOLS = ("shell", "edit", "submit")


class Imported:
    name = "imported"
    version = "1"
    judge: str | None = None

    def __init__(self, trajectory: str) -> None:
        """`trajectory`: the path of the imported log."""
        self._path = Path(trajectory)

    def splits(self) -> Sequence[str]:
        return ("sample",)

    def tasks(self, split: str) -> Iterable[Task]:
        if split not in self.splits():
            raise ValueError(f"unknown split {split!r}; there is: sample")
        try:
            with Trajectory(self._path) as trajectory:
                if not len(trajectory):
                    raise ValueError(f"{self._path} has no step, and so no prompt")
                told = trajectory.conversation(trajectory.step(1))
                task = trajectory.header["episode"]["task"]
        except (OSError, LogError) as error:
            raise ValueError(str(error)) from None
        prompt = next((message.parts for message in told if message.role == "user"), ())
        return [Task(task, prompt, EnvironmentSpec(), tools=TOOLS)]

    async def collect(self, task: Task, environment: Environment | None, answer: str) -> Submission:
        return Submission(answer)

    async def score(self, task: Task, submission: Submission, grader: Grader) -> Score | None:
        return None

    async def oracle(self, task: Task) -> Submission:
        raise ValueError("an imported trajectory has no gold submission")

    def cheats(self, task: Task) -> Sequence[Cheat]:
        return ()

    def metrics(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return {}
