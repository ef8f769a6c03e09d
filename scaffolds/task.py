"""What an agent is given and what it hands in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trellis.environments.environment import EnvironmentSpec
from trellis.models.messages import Part


@dataclass(frozen=True, slots=True)
class Task:
    """One problem: what the agent is told, and the recipe of its world. Nothing in it is secret."""

    id: str
    prompt: tuple[Part, ...]
    environment: EnvironmentSpec | None = None
    """None for a task without a world (a question to be answered)."""
    tools: tuple[str, ...] = ("shell", "edit", "python", "submit")
    """Names of the tools the benchmark offers unless the experiment says otherwise."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What a scaffold may use beyond the prompt, by documented key; JSON only. Keys in use: `kind` ("ml", "repository",
    "question", "browser"), `test_command` (visible tests of a repository), `submission` (path of the file to hand in),
    `metric` and `lower_is_better` (what a tree search should optimise)."""
    answer: Any = None
    """The type of the answer that `submit` takes, as pydantic knows types: `int`, `Literal["A", "B"]`, a `BaseModel`.
    What does not fit comes back to the model, and the episode goes on. None is free text."""

    @property
    def text(self) -> str:
        return "\n".join(getattr(part, "text", "") for part in self.prompt).strip()


@dataclass(frozen=True, slots=True)
class Submission:
    """What the agent hands in: an answer, files, or both. Empty when it handed in nothing."""

    answer: str = ""
    """Where the task gives it a type: a text as it is, all else as JSON without spaces and with sorted keys."""
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Artefacts by name ("submission.csv", "model.patch")."""

    @property
    def empty(self) -> bool:
        return not self.answer and not self.files


def submission_to_json(submission: Submission, store: Callable[[bytes], str]) -> dict[str, Any]:
    return {
        "answer": submission.answer,
        "files": {name: store(data) for name, data in submission.files.items()},
    }


def submission_from_json(data: Mapping[str, Any], load: Callable[[str], bytes]) -> Submission:
    return Submission(data["answer"], {name: load(blob) for name, blob in data["files"].items()})
