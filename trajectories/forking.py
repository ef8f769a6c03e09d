"""Where a trajectory is forked: what of it is kept, and how an episode goes on from there.

A fork at a step keeps everything that had happened when all that the step set off was done, on every branch; what other
branches had under way then is asked again. It is a resume from there, by a program that may have been changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trellis.models.messages import Message
from trellis.trajectories.log import Event
from trellis.trajectories.recorded import Recorded
from trellis.trajectories.source import Source
from trellis.trajectories.trajectory import Step, Trajectory

_EDITED = "edited"


@dataclass(frozen=True, slots=True)
class ForkPoint:
    """After a step (None: before the first), perhaps with another reply than the recorded one, and with something to
    say to the model."""

    step: Step | None
    reply: Message | None = None
    """Instead of the step's: its tool calls are then made, and the recorded ones are not kept."""
    message: Message | None = None
    """Comes last in the next conversation, and stays in it."""


def source_at(trajectory: Trajectory, point: ForkPoint, *, variation: str = "") -> Source:
    """What a fork is answered from. Forks of the same point differ in `variation`, which seeds what is asked anew.

    Raises:
        ValueError: the reply of a step that has none is to be another.
    """
    cut = cut_of(trajectory, point)
    recorded = Recorded(_kept(trajectory, point, cut), trajectory.blobs.load)
    if point.reply is not None:
        recorded.messages[_EDITED] = point.reply
    branch = point.step.branch if point.step else "main"
    return Source(recorded, strict=False, variation=variation, message=point.message, branch=branch)


def cut_of(trajectory: Trajectory, point: ForkPoint) -> int:
    """The `seq` of the first event that is not kept."""
    step = point.step
    if step is None:
        return trajectory.step(1).seq if len(trajectory) else len(trajectory.file)
    if point.reply is not None:
        if step.done is None or step.reply is None:
            raise ValueError(f"step {step.number} has no reply that another could stand for")
        return step.done + 1
    return trajectory.last_event(step) + 1


def _kept(trajectory: Trajectory, point: ForkPoint, cut: int) -> Iterator[Event]:
    for event in trajectory.file.events(range(1, cut)):
        if point.reply is not None and point.step is not None and event["seq"] == point.step.done:
            stop = "tool_calls" if point.reply.tool_calls else "stop"
            yield {**event, "message": _EDITED, "stop_reason": stop}
        else:
            yield event
