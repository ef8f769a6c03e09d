"""Fixed tasks and how they are scored: the protocol of a benchmark and its value types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.models.messages import Message
from trellis.models.model import GenerateConfig, Reply
from trellis.scaffolds.task import Submission, Task

__all__ = ["Benchmark", "Cheat", "Grader", "GraderFault", "Score", "Submission", "Task"]


class GraderFault(Exception):
    """The grader itself broke. A fault, retried: never a zero."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a submission is worth, with the evidence."""

    value: float
    """From 0 to 1."""
    success: bool
    valid: bool = True
    """False when there was nothing that could be scored (no submission, wrong format); `value` is then 0."""
    explanation: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """JSON: raw metric, medals, test outcomes, price."""
    flags: tuple[str, ...] = ()
    """Doubts about integrity, for example "edits-tests"; results with flags are shown apart."""


@dataclass(frozen=True, slots=True)
class Cheat:
    """A way to score without solving: a bash script run in the agent's world, then an answer handed in.

    It must score nothing. `flag` names the flag that the score must carry where the trick can be told from the
    submission; empty where it leaves no trace there.
    """

    name: str
    script: str = ""
    answer: str = ""
    flag: str = ""


class Grader(Protocol):
    """What scoring may reach: fresh sealed worlds, and a judge whose calls are recorded in branch `grader`."""

    async def start(self, spec: EnvironmentSpec) -> Environment:
        """A fresh world of the kind that the run uses. The grader closes it.

        Raises:
            EnvironmentFault: it could not be started.
        """
        ...

    async def judge(self, messages: Sequence[Message], *, config: GenerateConfig = GenerateConfig()) -> Reply:
        """Ask the run's judge model (`--judge`). Raises ModelFault."""
        ...


class Benchmark(Protocol):
    name: str
    version: str
    judge: str | None
    """Name of the default judge model, None if scoring asks no model."""

    def splits(self) -> Sequence[str]: ...

    def tasks(self, split: str) -> Iterable[Task]:
        """The tasks of a split in a fixed order. Raises ValueError for an unknown split, naming the known ones."""
        ...

    async def collect(self, task: Task, environment: Environment | None, answer: str) -> Submission:
        """Take the artefacts out of the agent's world at the moment it hands in; `answer` is what it said.

        `environment` is None for a task without a world. An empty submission is a legal outcome.
        """
        ...

    async def score(self, task: Task, submission: Submission, grader: Grader) -> Score | None:
        """What the submission is worth. Never sees the agent's world; what is missing counts as failed. None: nothing
        can score this task (its benchmark is elsewhere).

        Raises:
            GraderFault, EnvironmentFault, ModelFault: the grading machinery broke.
        """
        ...

    async def oracle(self, task: Task) -> Submission:
        """The gold submission: must score full marks."""
        ...

    def cheats(self, task: Task) -> Sequence[Cheat]:
        """Tricks that must score nothing."""
        ...

    def metrics(self, scores: Sequence[Score]) -> Mapping[str, float]:
        """The benchmark's own totals, beside `score` and `success_rate`, which every run reports."""
        ...
