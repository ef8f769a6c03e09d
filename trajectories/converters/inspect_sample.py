"""An episode as a sample of one of Inspect's logs: its messages in a pool, its events in the spans of its branches."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from trellis.models.messages import Message, Text, ToolCall
from trellis.models.model import Usage
from trellis.trajectories.converters import inspect_parts as parts
from trellis.trajectories.converters import lost, telling
from trellis.trajectories.converters.converter import Losses
from trellis.trajectories.converters.pieces import Pieces, without_none
from trellis.trajectories.converters.telling import Told
from trellis.trajectories.recorded import GRADER
from trellis.trajectories.trajectory import Act, Branch, Note, Step

_LIMITS = {"steps": "turn", "tokens": "token", "time": "working", "cost": "cost", "context": "context"}
_INPUT_SHOWN = 2000
QUIET = parts.Parts(Losses())
"""For what is told a second time: what is lost of it is counted already."""


class Sample:
    """One episode on its way into the archive."""

    def __init__(self, told: Told, losses: Losses) -> None:
        self.id = told.task or "task"
        self._told = told
        self._trajectory = told.trajectory
        self._losses = losses
        self._parts = parts.Parts(losses)
        self._zero = told.clock_zero.timestamp()
        self._pool: dict[str, tuple[int, int]] = {}
        """Where in the pool a message lies, by its name."""
        self._sent: dict[int, list[tuple[int, int]]] = {}
        """What each call sent, as ranges of the pool, by the `seq` of its beginning."""
        self._tools: dict[str, list[dict[str, Any]]] = {}
        self.usage: dict[str, tuple[Usage, float | None]] = {}
        self.summary: dict[str, Any] = {}

    def write(self, file: TextIO) -> None:
        told, pieces = self._told, Pieces(file)
        handed_in = told.submission()
        answer = handed_in[0] if handed_in else None
        score = told.outcome.score
        scorer = (told.benchmark or "trajectory").partition(":")[0]
        scores = {scorer: parts.score_of(score, answer or None)} if score is not None else None
        with tempfile.TemporaryFile("w+", encoding="utf-8") as aside, pieces.object():
            attach = parts.Attachments(aside)
            asked = self._input()
            shared = without_none(
                id=self.id, epoch=told.epoch, input=asked, target="", metadata={}, scores=scores,
                started_at=self._time(0.0), completed_at=self._time(told.ended_at),
                total_time=told.outcome.wall_s if told.outcome.wall_s is not None else told.ended_at,
                working_time=told.outcome.time_s if told.outcome.time_s is not None else told.ended_at,
                uuid=telling.digest(told.id or str(told.trajectory.path))[:22],
                turn_count=len(self._trajectory),
            )  # fmt: skip
            metadata = {"trellis": self._metadata()}
            pieces.members(**{**shared, "metadata": metadata, "input": attach.pictures(asked)})
            messages = self._conversation(pieces, attach)
            with pieces.object("events_data"):
                self._pooled(pieces, attach)
                pieces.put([], "calls")
            with pieces.array("events"):
                for event in self._events(scores):
                    pieces.put(attach(event))
            pieces.members(
                store={},
                model_usage={model: self._parts.usage(*totals) for model, totals in self.usage.items()},
                error=_fault(told.outcome.fault) if told.outcome.fault else None,
                limit=self._limit(),
            )
            pieces.copied("attachments", aside)
        self.summary = without_none(
            **{**shared, "input": _short(asked), "metadata": {}},
            model_usage={model: QUIET.usage(*totals) for model, totals in self.usage.items()},
            error=told.outcome.fault or None,
            limit=(self._limit() or {}).get("type"),
            completed=not told.outcome.fault,
            message_count=messages,
        )

    # --- messages ---

    def _input(self) -> str | list[dict[str, Any]]:
        """What the task told the agent."""
        if not len(self._trajectory):
            return ""
        step = self._trajectory.step(1)
        asked = [(name, m) for name, m in zip(step.names, step.given, strict=True) if m.role == "user"]
        if len(asked) == 1 and all(isinstance(part, Text) for part in asked[0][1].parts):
            return telling.text_of(asked[0][1])
        return [made for name, message in asked for made in QUIET.messages(message, name)]

    def _conversation(self, pieces: Pieces, attach: parts.Attachments) -> int:
        """The conversation as it was at the end, and the last reply; returns the number of messages."""
        trajectory, count = self._trajectory, 0
        spoken = telling.spoken(trajectory)
        last = trajectory.step(spoken.steps[-1]) if spoken.steps else None
        with pieces.array("messages"):
            said: list[tuple[str, Message]] = []
            if last is not None:
                said = [(f"m{n}", message) for n, message in enumerate(trajectory.conversation(last))]
                if last.reply is not None:
                    said.append((last.answer, last.reply.message))
                said += [(f"{last.answer}-{n}", act.result.message) for n, act in enumerate(last.acts) if act.result]
            for name, message in said:
                for made in QUIET.messages(message, name, last.model if last else ""):
                    pieces.put(attach.pictures(made))
                    count += 1
        empty = {"model": self._told.model, "choices": []}
        output = QUIET.output(last.reply, last.answer, last.model) if last is not None and last.reply else empty
        pieces.put(attach.pictures(output), "output")
        return count

    def _pooled(self, pieces: Pieces, attach: parts.Attachments) -> None:
        """Every message that was ever sent, once; and of each call, which of them it sent."""
        size = 0
        with pieces.array("messages"):
            for branch in self._trajectory.branches.values():
                sent: list[str] = []
                ranges: list[tuple[int, int]] = []
                steps = _steps(self._told, branch)
                for step in steps:
                    for name, message in zip(step.names, step.given, strict=True):
                        if name in self._pool:
                            continue
                        told = self._parts if message.role in ("system", "user") else QUIET  # the rest is in events
                        made = told.messages(message, name, step.model if message.role == "assistant" else "")
                        for each in made:
                            pieces.put(attach(each))
                        self._pool[name] = (size, size + len(made))
                        size += len(made)
                    if step.kept != len(sent):
                        del sent[step.kept :]
                        ranges = joined(self._pool[name] for name in sent)
                    sent += step.names
                    ranges = joined((*ranges, *(self._pool[name] for name in step.names)))
                    self._sent[step.seq] = ranges

    # --- events ---

    def _events(self, scores: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
        told, trajectory = self._told, self._trajectory
        end = told.ended_at
        yield self._event("sample_init", 0.0, sample={"input": self._input(), "target": "", "id": self.id}, state={})
        yield self._span("solvers", None, "solvers", "solvers", 0.0)
        yield from self._branches()
        if told.outcome.limit:
            limit = self._limit()
            yield self._event("sample_limit", end, span_id="solvers", type=limit["type"] if limit else "custom",
                              message=f"limit: {told.outcome.limit}", limit=limit and limit["limit"])  # fmt: skip
        if told.outcome.fault:
            yield self._event("error", end, span_id="solvers", error=_fault(told.outcome.fault))
        yield self._event("span_end", end, id="solvers", span_id="solvers")
        if scores is None and not trajectory.judged:
            return
        yield self._span("scorers", None, "scorers", "scorers", end)
        for step in trajectory.judgements():
            yield from self._step(step, "scorers")
        for name, score in (scores or {}).items():
            yield self._event("score", end, span_id="scorers", score=score, target="", scorer=name)
        yield self._event("span_end", end, id="scorers", span_id="scorers")

    def _branches(self) -> Iterator[dict[str, Any]]:
        """What happened on all branches, in the order in which it began."""
        trajectory = self._trajectory
        entries = trajectory.file.entries
        items: list[tuple[int, Branch, int]] = []  # seq, branch, and the step's number: 0 none, -1 the branch begins
        above: dict[str, str] = {}
        for name, children in telling.within(trajectory).items():
            above |= {child.name: name for child in children}
        for branch in trajectory.branches.values():
            if branch.name == GRADER:
                continue
            items.append((branch.seq, branch, -1))
            items += [(seq, branch, 0) for seq in branch.opening]
            items += [(trajectory.begun(number), branch, number) for number in branch.steps]
        items.sort(key=lambda item: item[0])
        last: dict[str, int] = {}
        for place, (_, branch, _) in enumerate(items):
            inside: str | None = branch.name
            while inside is not None:
                last[inside] = place
                inside = above.get(inside)
        ends: defaultdict[int, list[str]] = defaultdict(list)
        for name, place in last.items():
            ends[place].insert(0, name)  # the innermost first: it was met after the one that holds it
        for place, (seq, branch, number) in enumerate(items):
            at = entries[seq].at
            if number < 0:
                yield from self._begins(branch, above.get(branch.name), at)
            elif number:
                yield from self._step(trajectory.step(number), branch.name)
            elif entries[seq].kind == "act.begun":
                yield self._act(trajectory.act(seq), branch.name)
            else:
                yield from self._note(trajectory.note(seq), branch.name)
            for name in ends[place]:
                yield self._event("span_end", at, id=name, span_id=name)

    def _begins(self, branch: Branch, above: str | None, at: float) -> Iterator[dict[str, Any]]:
        if above is None:
            name = self._told.header.get("scaffold", {}).get("name") or self._told.agent or "agent"
            yield self._span(branch.name, "solvers", "agent", name, at)
            return
        anchor = f"{branch.name}@{branch.position}"
        origin = branch.parent if branch.parent in self._trajectory.branches else above
        yield self._event("anchor", at, span_id=origin, anchor_id=anchor, source="trellis")
        yield self._span(branch.name, above, "agent", branch.name.rpartition("/")[2], at)
        yield self._event("branch", at, span_id=branch.name, from_anchor=anchor, metadata={"position": branch.position})

    def _step(self, step: Step, span: str) -> Iterator[dict[str, Any]]:
        reply = step.reply
        if step.kind == "compact":
            yield self._event("compaction", step.begun_at, span_id=span, type="summary", source="provider")
        if step.tools not in self._tools:
            specs = self._trajectory.tools(step.tools)
            self._tools[step.tools] = made = [parts.tool_info(spec) for spec in specs]
            changed = (one["parameters"] != spec.parameters for one, spec in zip(made, specs, strict=True))
            self._losses.add(parts.SCHEMAS, sum(changed))
        ended = step.ended_at
        yield self._event(
            "model", step.begun_at, span_id=span, uuid=f"{step.seq}", model=step.model or "unknown",
            role=step.role if step.role != "main" else None, input=[], input_refs=self._sent[step.seq],
            tools=self._tools[step.tools], tool_choice=parts.tool_choice(step.config.get("tool_choice")),
            config=parts.config_of(step.config),
            output=self._parts.output(reply, step.answer, step.model) if reply else {"model": step.model},
            retries=reply.retries if reply and reply.retries else None, error=_broken(step),
            cache="read" if reply and reply.cached else None, completed=None if ended is None else self._time(ended),
            working_time=None if reply is None else max(0.0, reply.latency_s - reply.waited_s),
            pending=True if step.done is None else None,
            metadata=without_none(step=step.number, kind=step.kind if step.kind != "generate" else None,
                                  config=step.config or None, reply=(reply and telling.rare(reply)) or None),
        )  # fmt: skip
        if reply is not None:
            usage, cost_usd = self.usage.get(step.model, (Usage(), 0.0))
            paid = None if cost_usd is None or reply.cost_usd is None else cost_usd + reply.cost_usd
            self.usage[step.model] = (usage + reply.usage, paid)
        for act in step.acts:
            yield self._act(act, span)
        for note in step.notes:
            yield from self._note(note, span)

    def _act(self, act: Act, span: str) -> dict[str, Any]:
        ended = act.ended_at
        return self._event(
            "tool", act.begun_at, span_id=span, uuid=f"{act.seq}", id=act.call.id,
            function=act.call.name, type="function", arguments=dict(act.call.arguments), **self._parts.result(act),
            completed=None if ended is None else self._time(ended),
            working_time=None if ended is None else ended - act.begun_at,
            pending=True if ended is None else None,
            metadata=without_none(data=dict(act.result.data) if act.result else None, handed_in=act.handed_in,
                                  **lost.changes(act, self._losses)) or None,
        )  # fmt: skip

    def _note(self, note: Note, span: str) -> Iterator[dict[str, Any]]:
        if note.kind == "approval" and (answer := note.data.get("answer")):
            what = note.data["what"]
            call = ToolCall(what["id"], what["name"], what["arguments"])
            yield self._event(
                "approval", note.at, span_id=span, message="", call=parts.tool_call(call),
                approver=str(answer.get("by", "")), decision="approve" if answer.get("allowed") else "reject",
                explanation=str(answer.get("reason", "")) or None,
            )  # fmt: skip
            return
        yield self._event("info", note.at, span_id=span, source=f"trellis.{note.kind}", 
                          data=lost.note_data(self._told, note, self._losses))  # fmt: skip

    def _span(self, id: str, parent: str | None, type: str, name: str, at: float) -> dict[str, Any]:
        return self._event("span_begin", at, id=id, parent_id=parent, type=type, name=name, span_id=id)

    def _event(self, event: str, at: float, **members: Any) -> dict[str, Any]:
        return without_none(event=event, timestamp=self._time(at), working_start=at, **members)

    # --- the rest ---

    def _time(self, at: float) -> str:
        return telling.iso(self._zero + at)

    def _limit(self) -> dict[str, Any] | None:
        limit = self._told.outcome.limit
        if not limit:
            return None
        return {
            "type": _LIMITS.get(limit, "custom"),
            "limit": float(self._told.header.get("budget", {}).get(limit) or 0),
        }

    def _metadata(self) -> dict[str, Any]:
        told, outcome = self._told, self._told.outcome
        return without_none(
            header=told.header,
            outcome=outcome.outcome or None,
            limit=outcome.limit or None,
        )


def _steps(told: Told, branch: Branch) -> Iterator[Step]:
    if branch.name == GRADER:
        return told.trajectory.judgements()
    return (told.trajectory.step(number) for number in branch.steps)


def joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges with those that touch made one."""
    made: list[tuple[int, int]] = []
    for start, end in ranges:
        if made and made[-1][1] == start:
            made[-1] = (made[-1][0], end)
        else:
            made.append((start, end))
    return made


def _broken(step: Step) -> str | None:
    if step.overflow:
        return step.overflow
    return "the call was cut off" if step.done is None else None


def _fault(text: str) -> dict[str, str]:
    return {"message": text, "traceback": text, "traceback_ansi": text}


def _short(asked: str | Sequence[Mapping[str, Any]]) -> str:
    text = asked if isinstance(asked, str) else json.dumps(asked)
    return text[:_INPUT_SHOWN]
