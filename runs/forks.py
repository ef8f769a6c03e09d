"""Agents that do not begin at the beginning: they go on from a step of an episode that was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trellis.models.messages import Message, assistant, message_from_json, user, without_raw
from trellis.runs.errors import UsageError
from trellis.runs.finding import find_step
from trellis.runs.fork_choice import ForkChoice
from trellis.trajectories.forking import ForkPoint, cut_of, source_at
from trellis.trajectories.log import LogError
from trellis.trajectories.source import Source
from trellis.trajectories.trajectory import Step, Trajectory


@dataclass(frozen=True)
class Fork:
    """A fork that can be made: its trajectory is there, and so is the step."""

    choice: ForkChoice
    header: Mapping[str, Any]
    event: int
    """`seq` of the first event that is not kept."""

    @property
    def task(self) -> str:
        task: str = self.header["episode"]["task"]
        return task

    @property
    def seed(self) -> int:
        """What a scaffold draws at random continues as it would have; calls of models are seeded anew."""
        seed: int = self.header["episode"]["seed"]
        return seed

    def source(self, epoch: int) -> Source:
        """What the episode of this epoch is answered from."""
        with Trajectory(Path(self.choice.trajectory)) as trajectory:
            return source_at(trajectory, _point(self.choice, trajectory), variation=f"fork/{epoch}")

    def lineage(self) -> dict[str, Any]:
        """For the header of the new trajectory."""
        return {
            "trajectory": self.choice.trajectory,
            "episode": self.header["episode"],
            "at": self.choice.at,
            "event": self.event,
            "message": self.choice.message,
            "edited": self.choice.reply is not None,
        }


def find(choice: ForkChoice) -> Fork:
    """Raises UsageError: there is no such trajectory or step, or the reply is none."""
    try:
        with Trajectory(Path(choice.trajectory)) as trajectory:
            event = cut_of(trajectory, _point(choice, trajectory))
            return Fork(choice, trajectory.header, event)
    except (OSError, LogError, ValueError) as error:
        raise UsageError(f"cannot fork {choice.trajectory}: {error}") from None


def read_reply(path: Path) -> dict[str, Any]:
    """An edited reply from a file: a message as JSON, a step as `trellis show --json` prints it, or the reply's text.

    Raises:
        UsageError: it cannot be read, or it is JSON of something else.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"--edit {path}: {reason}") from None
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        return {"role": "assistant", "parts": [{"kind": "text", "text": text}]}
    message = data.get("reply", data)
    _message(message, f"--edit {path}")
    edited: dict[str, Any] = message
    return edited


def _message(data: Any, what: str) -> Message:
    try:
        message = message_from_json(data)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{what}: not a message; expected a reply as `trellis show --json` prints it") from None
    if message.role != "assistant":
        raise UsageError(f"{what}: the message is of role {message.role!r}, and a reply's is assistant")
    return assistant(*message.parts)


def _point(choice: ForkChoice, trajectory: Trajectory) -> ForkPoint:
    step = None if choice.at == "0" else find_step(trajectory, choice.at)
    if choice.reply is not None and step is None:
        raise UsageError("another reply stands for that of a step: name the step")
    reply = None if choice.reply is None else _edited(choice.reply, step)
    return ForkPoint(step, reply, user(choice.message) if choice.message else None)


def _edited(data: Any, step: Step | None) -> Message:
    """A provider is sent its own items unchanged: only a part that is as it was may keep the one that it came in."""
    recorded = step.reply.message.parts if step and step.reply else ()
    edited = _message(data, "reply")
    parts = zip(edited.parts, without_raw(edited).parts, strict=True)
    return assistant(*(part if part in recorded else bare for part, bare in parts))
