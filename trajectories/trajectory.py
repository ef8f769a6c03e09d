"""A trajectory as people think of it: branches, steps, tool calls and their results, read from the log when asked for.

trajectory = Trajectory(Path("runs/…/trajectory.jsonl"))
for step in trajectory.steps():
    print(step.number, step.branch, step.reply.text, [act.result.text for act in step.acts])
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from trellis.models.messages import Message, ToolCall, ToolResult, part_from_json
from trellis.models.model import Reply, ToolSpec
from trellis.trajectories.blobs import Blobs
from trellis.trajectories.disk import LOG
from trellis.trajectories.log import Event, LogError
from trellis.trajectories.reading import EventFile
from trellis.trajectories.recorded import ASKS, GRADER, message_of, reply_from_event, unpack


@dataclass(frozen=True, slots=True)
class Act:
    """A tool call and what came of it."""

    seq: int
    """Of the event that begins it."""
    branch: str
    call: ToolCall
    result: ToolResult | None
    """None: cut off before its end."""
    begun_at: float
    ended_at: float | None
    """Seconds on the episode's clock."""
    handed_in: str | None = None
    """The answer, where this call submitted the work."""
    changes: Sequence[Mapping[str, Any]] = ()
    """The files that it changed, where that was recorded: `path`, `kind` (added, modified, deleted), `mode`, `size`,
    `sha256`, `text` (its content is kept as the blob `sha256`). See files.py."""
    more_changes: int = 0
    """How many more it changed: too many to be listed."""
    followed: bool = False
    """Is it recorded which files it changed? Where it is not, `changes` is empty whatever it did."""


@dataclass(frozen=True, slots=True)
class Note:
    """What happened besides replies and tool calls: a scaffold's own event (`node`), a submission (`submit`), a
    decision on a tool call (`approval`), a denial of the network (`environment.denied`). `data` of an effect is
    `{"what": request, "answer": answer or None}`."""

    seq: int
    branch: str
    kind: str
    at: float
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One reply of a model and everything it set off."""

    number: int
    """1, 2, 3, ... over all branches, in the order in which the calls began. Calls of a judge are not counted: 0."""
    branch: str
    turn: int
    """1, 2, 3, ... in its branch."""
    kind: str
    """`generate`, or `compact` (the provider shortened the conversation)."""
    seq: int
    """Of the event that begins the call."""
    done: int | None
    """Of the event that ends it; None: cut off."""
    role: str
    model: str
    config: Mapping[str, Any]
    tools: str
    """The name of the tools on offer: see `Trajectory.tools`."""
    kept: int
    """How many messages of the branch's call before stand before `given`."""
    given: tuple[Message, ...]
    """The messages that this call sent and the branch's call before it did not."""
    names: tuple[str, ...]
    """The names of `given`: a message that is said again has the same name."""
    reply: Reply | None
    """None: cut off, or the conversation was too long."""
    answer: str
    """The name of the reply's message; empty where there is no reply."""
    overflow: str
    begun_at: float
    ended_at: float | None
    acts: tuple[Act, ...]
    notes: tuple[Note, ...]


@dataclass(slots=True)
class Branch:
    """A line of effects. `opening` are the acts before its first step."""

    name: str
    parent: str | None
    """The branch in whose world it began, after `position` of that world's acts; None: the task's own world, or
    unknown."""
    position: int = 0
    seq: int = 0
    steps: list[int] = field(default_factory=list)
    """Numbers of its steps."""
    opening: list[int] = field(default_factory=list)
    """`seq` of acts and notes before its first step."""
    acts: list[int] = field(default_factory=list)
    """`seq` of all its acts, in order. `position` counts those of them that `Trajectory.performed` gives."""


@dataclass(slots=True)
class _Ask:
    seq: int
    branch: str
    turn: int
    kind: str
    number: int
    inner: list[int] = field(default_factory=list)
    """`seq` of the acts and notes that the reply set off."""


class Trajectory:
    """One episode on disk. Nothing is parsed before it is asked for, so that long ones open at once."""

    def __init__(self, path: Path) -> None:
        """`path`: a `trajectory.jsonl`, packed or not, or the folder that holds one.

        Raises:
            LogError: it is damaged, or not a trajectory.
            OSError: it cannot be read.
        """
        self.file = EventFile(path / LOG if path.is_dir() else path)
        self.path = self.file.path
        self.blobs = Blobs(self.path.parent / "blobs")
        self.branches: dict[str, Branch] = {}
        """In the order in which they began; `main` is first. A judge's branch is `grader`."""
        self._asks: list[_Ask] = []
        self._judged: list[_Ask] = []
        self._last: dict[str, _Ask] = {}
        self._ended: dict[int, int] = {}
        self._named: dict[str, int] = {}
        self._decided: dict[str, int] = {}
        """The decision on a branch's next act."""
        self._decision_on: dict[int, int] = {}
        self._seen = 0
        if not len(self.file) or self.file.entries[0].kind != "header":
            self.file.close()
            raise LogError(f"{self.path}: not a trajectory: it does not begin with a header")
        self.header: Event = self.file.event(0)
        self._take_in()

    def refresh(self) -> bool:
        """Take in what a live episode appended since; was there anything?"""
        grew = self.file.refresh()
        self._take_in()
        return grew

    def __len__(self) -> int:
        """The number of steps."""
        return len(self._asks)

    def step(self, number: int) -> Step:
        """Raises IndexError: there is no such step."""
        if not 1 <= number <= len(self._asks):
            raise IndexError(f"{self.path} has steps 1 to {len(self._asks)}; there is no step {number}")
        return self._step(self._asks[number - 1])

    def step_of(self, seq: int) -> Step | None:
        """The step that an event belongs to; None: it came before the first of its branch, or is a judge's."""
        numbers = [number for number in self.branches[self.file.entries[seq].branch].steps if number]
        after = bisect_right(numbers, seq, key=lambda number: self._asks[number - 1].seq)
        return self.step(numbers[after - 1]) if after else None

    def steps(self) -> Iterator[Step]:
        """The agent's steps, in order."""
        return (self._step(ask) for ask in self._asks[:])

    def judgements(self) -> Iterator[Step]:
        """The calls of a judge."""
        return (self._step(ask) for ask in self._judged[:])

    def inner(self, number: int) -> list[int]:
        """`seq` of the acts and notes that a step set off."""
        return list(self._asks[number - 1].inner)

    def begun(self, number: int) -> int:
        """The `seq` of the event with which a step begins."""
        return self._asks[number - 1].seq

    @property
    def judged(self) -> int:
        """The number of a judge's calls."""
        return len(self._judged)

    def ended(self, seq: int) -> int | None:
        """The `seq` of the event that ends the effect which begins with event `seq`; None: it was cut off."""
        return self._ended.get(seq)

    def last_event(self, step: Step) -> int:
        """The `seq` of the last event that belongs to a step."""
        inner = [act.seq for act in step.acts] + [note.seq for note in step.notes]
        ends = [self._ended[seq] for seq in inner if seq in self._ended]
        return max([step.seq, step.done or 0, *inner, *ends])

    def conversation(self, step: Step) -> list[Message]:
        """Everything that the call of this step sent."""
        return [self.message(name) for name in self.sent(step)]

    def sent(self, step: Step) -> list[str]:
        """The names of the messages that the call of this step sent."""
        begun = self.file.event(step.seq)
        parts: list[list[str]] = []
        keep = None
        while True:
            names = begun["messages"] if keep is None else begun["messages"][: max(0, keep - begun["keep"])]
            parts.append(names)
            keep = begun["keep"] if keep is None else min(keep, begun["keep"])
            if begun["after"] is None or not keep:
                break
            begun = self.file.event(begun["after"])
        return [name for names in reversed(parts) for name in names]

    def message(self, name: str) -> Message:
        """A message by its hash. Raises KeyError: it is not in the log."""
        return message_of(self.file.event(self._named[name]), self.blobs.load)

    def tools(self, name: str) -> tuple[ToolSpec, ...]:
        """The tools that were on offer; see `Step.tools`."""
        return tuple(ToolSpec(**spec) for spec in self.file.event(self._named[name])["specs"])

    def act(self, seq: int) -> Act:
        """The tool call that begins with event `seq`."""
        begun = self.file.event(seq)
        call = part_from_json(unpack(begun["what"], self.blobs.load))
        assert isinstance(call, ToolCall)
        done = self._ended.get(seq)
        if done is None:
            return Act(seq, begun["branch"], call, None, begun["at"], None)
        ended = self.file.event(done)
        answer = unpack(ended["answer"], self.blobs.load)
        result = part_from_json(answer["result"], self.blobs.load)
        assert isinstance(result, ToolResult)
        return Act(
            seq, begun["branch"], call, result, begun["at"], ended["at"], answer["handed_in"],
            answer.get("changes", ()), answer.get("more_changes", 0), "changes" in answer,
        )  # fmt: skip

    def performed(self, branch: str) -> list[int]:
        """`seq` of the acts of a branch that were done in its world: none that was denied or cut off."""
        return [seq for seq in self.branches[branch].acts if seq in self._ended and not self._denied(seq)]

    def note(self, seq: int) -> Note:
        event = self.file.event(seq)
        data = {name: value for name, value in event.items() if name not in ("seq", "at", "branch", "kind")}
        kind = event["kind"]
        if kind.startswith("note."):
            kind, data = kind.removeprefix("note."), data["data"]
        elif kind.endswith(".begun"):
            done = self._ended.get(seq)
            answer = None if done is None else unpack(self.file.event(done)["answer"], self.blobs.load)
            kind, data = kind.removesuffix(".begun"), {"what": unpack(event["what"], self.blobs.load), "answer": answer}
        return Note(seq, event["branch"], kind, event["at"], data)

    def notes(self, kind: str) -> Iterator[Note]:
        """What happened of this kind on any branch: a scaffold's own events, such as `node`, or `submit`."""
        kinds = (f"note.{kind}", f"{kind}.begun", kind)
        return (self.note(seq) for seq, entry in enumerate(self.file.entries) if entry.kind in kinds)

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- inside ---

    def _take_in(self) -> None:
        entries = self.file.entries
        for seq in range(self._seen, len(entries)):
            entry = entries[seq]
            branch = self.branches.get(entry.branch)
            if branch is None:
                branch = self.branches[entry.branch] = Branch(entry.branch, None, seq=seq)
            if entry.hash:
                self._named[entry.hash] = seq
            elif entry.begun is not None:
                self._ended[entry.begun] = seq
            elif entry.kind == "branch":
                event = self.file.event(seq)
                branch.parent, branch.position = event["origin"], event["position"]
            elif entry.kind.removesuffix(".begun") in ASKS:
                self._ask(seq, branch, entry.kind.removesuffix(".begun"))
            elif entry.kind != "header":
                if entry.kind == "act.begun":
                    branch.acts.append(seq)
                    if entry.branch in self._decided:
                        self._decision_on[seq] = self._decided.pop(entry.branch)
                elif entry.kind == "approval.begun":
                    self._decided[entry.branch] = seq
                ask = self._last.get(entry.branch)
                (ask.inner if ask else branch.opening).append(seq)
        self._seen = len(entries)

    def _denied(self, seq: int) -> bool:
        decision = self._decision_on.get(seq)
        answer = None if decision is None else self.note(decision).data["answer"]
        return answer is not None and not answer["allowed"]

    def _ask(self, seq: int, branch: Branch, kind: str) -> None:
        judged = branch.name == GRADER
        asks = self._judged if judged else self._asks
        ask = _Ask(seq, branch.name, len(branch.steps) + 1, kind, 0 if judged else len(asks) + 1)
        asks.append(ask)
        branch.steps.append(ask.number)
        self._last[branch.name] = ask

    def _step(self, ask: _Ask) -> Step:
        begun = self.file.event(ask.seq)
        done = self._ended.get(ask.seq)
        ended = self.file.event(done) if done is not None else None
        answered = ended is not None and "overflow" not in ended
        reply = reply_from_event(ended, self.message(ended["message"])) if ended is not None and answered else None
        acts = [seq for seq in ask.inner if self.file.entries[seq].kind == "act.begun"]
        notes = [seq for seq in ask.inner if self.file.entries[seq].kind != "act.begun"]
        return Step(
            number=ask.number,
            branch=ask.branch,
            turn=ask.turn,
            kind=ask.kind,
            seq=ask.seq,
            done=done,
            role=begun["role"],
            model=begun["model"],
            config=begun["config"],
            tools=begun["tools"],
            kept=begun["keep"],
            given=tuple(self.message(name) for name in begun["messages"]),
            names=tuple(begun["messages"]),
            reply=reply,
            answer=ended["message"] if ended is not None and answered else "",
            overflow=ended.get("overflow", "") if ended is not None else "",
            begun_at=begun["at"],
            ended_at=ended["at"] if ended is not None else None,
            acts=tuple(self.act(seq) for seq in acts),
            notes=tuple(self.note(seq) for seq in notes),
        )
