"""The first thing that a program asks for otherwise than was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trellis.trajectories.differences import Difference, differences, shown
from trellis.trajectories.log import Event
from trellis.trajectories.recorded import ASKS, GRADER
from trellis.trajectories.source import Asked, ReplayMismatch, Request, Source
from trellis.trajectories.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Change:
    """The first thing that the program asks for and did not, or did and does not."""

    kind: str
    """Of the effect: `generate`, `compact`, `act`, `submit`, `branch`, ..."""
    how: Literal["changed", "new", "gone"]
    """Another request; one where none of its kind is recorded; one that is recorded and no longer made."""
    branch: str
    step: int
    """Number of the step that it is, or that it follows; 0: before the first of its branch."""
    turn: int
    """That step's place in its branch."""
    event: int | None
    """The recorded event; of a new request what is recorded in its place, None: nothing more."""
    request: tuple[str, ...]
    """What is asked for, where it is new or gone."""
    differences: tuple[Difference, ...] = ()
    instead_of: str = ""
    """Of a new request: the kind of the effect that is recorded in its place."""

    @property
    def same_until(self) -> int:
        """The last step with which nothing is wrong: from where a fork tells what comes of the change."""
        return self.step if self.how == "new" else max(0, self.step - 1)

    def to_json(self) -> dict[str, Any]:
        different = [{"what": d.what, "how": d.how, "diff": list(d.lines)} for d in self.differences]
        return {
            "kind": self.kind, "how": self.how, "branch": self.branch, "step": self.step, "turn": self.turn,
            "event": self.event, "request": list(self.request), "differences": different,
            "instead_of": self.instead_of,
        }  # fmt: skip


def first_change(trajectory: Trajectory, source: Source, *, strict: bool) -> tuple[Change | None, list[str]]:
    """The earliest in the order of the record, and whatever else is to be said."""
    changes: list[Change] = []
    left = [event for event in source.recorded.left() if event["branch"] != GRADER]
    for mismatch in source.mismatches:
        cut = source.recorded.cut_off.get((mismatch.kind, mismatch.branch))
        recorded = mismatch.recorded or cut
        here = [event for event in left if event["branch"] == mismatch.branch]
        if recorded is None or (here and here[0]["seq"] < recorded["seq"]):
            changes.append(_new(trajectory, mismatch, here[0] if here else None))
            continue
        different = differences(_recorded(trajectory, recorded), mismatch.asked)
        if different or mismatch.recorded:
            changes.append(_changed(trajectory, recorded, mismatch, different, here))
    left = left if strict else []
    if changes:
        first = min(changes, key=lambda change: (change.event is None, change.event or 0))
        before = [event for event in left if event["seq"] < (first.event or 0) and event["branch"] != first.branch]
        return first, [f"not asked for before that: {_where(trajectory, event)}" for event in before[:3]]
    if source.mismatches:
        return None, ["the record was cut off in the last call that is asked for"]
    return (_gone(trajectory, left[0]) if left else None), []


def _changed(
    trajectory: Trajectory, recorded: Event, mismatch: ReplayMismatch, different: list[Difference], left: list[Event]
) -> Change:
    """Another request; where it is the very one that comes later in the record, the one before it is gone."""
    for event in [event for event in left if event["kind"] == recorded["kind"]][:8]:
        if all(d.what == "setting seed" for d in differences(_recorded(trajectory, event), mismatch.asked)):
            return _gone(trajectory, recorded)
    step, turn = _place(trajectory, recorded)
    return Change(mismatch.kind, "changed", mismatch.branch, step, turn, recorded["seq"], (), tuple(different))


def _new(trajectory: Trajectory, mismatch: ReplayMismatch, instead_of: Event | None) -> Change:
    """A request for which nothing is recorded, or something of another kind."""
    steps = trajectory.branches[mismatch.branch].steps if mismatch.branch in trajectory.branches else []
    kind, event = "", None
    if instead_of is not None:
        kind, event = instead_of["kind"].removesuffix(".begun"), int(instead_of["seq"])
        steps = [number for number in steps if trajectory.step(number).seq < event]
    last, turn = (steps[-1], len(steps)) if steps else (0, 0)
    request = tuple(shown(mismatch.asked))
    return Change(mismatch.kind, "new", mismatch.branch, last, turn, event, request, instead_of=kind)


def _gone(trajectory: Trajectory, recorded: Event) -> Change:
    step, turn = _place(trajectory, recorded)
    request = tuple(shown(_recorded(trajectory, recorded)))
    kind = recorded["kind"].removesuffix(".begun")
    return Change(kind, "gone", recorded["branch"], step, turn, recorded["seq"], request)


def _where(trajectory: Trajectory, recorded: Event) -> str:
    step, turn = _place(trajectory, recorded)
    place = f"step {step} ({recorded['branch']}:{turn})" if step else f"branch {recorded['branch']}"
    return f"{recorded['kind'].removesuffix('.begun')} of {place}, event {recorded['seq']}"


def _place(trajectory: Trajectory, recorded: Event) -> tuple[int, int]:
    step = trajectory.step_of(recorded["seq"])
    return (step.number, step.turn) if step else (0, 0)


def _recorded(trajectory: Trajectory, event: Event) -> Asked:
    """What a recorded event asked for."""
    kind = event["kind"].removesuffix(".begun")
    if kind in ASKS:
        step = trajectory.step_of(event["seq"])
        assert step is not None
        messages = tuple(trajectory.conversation(step))
        return Request(step.role, messages, trajectory.tools(step.tools), step.config)
    if "what" in event:
        what: Mapping[str, Any] = trajectory.note(event["seq"]).data["what"]
        return what
    return {name: value for name, value in event.items() if name not in ("seq", "at", "branch", "kind")}
