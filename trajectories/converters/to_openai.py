"""OpenAI's fine-tuning data: JSONL, one conversation a line, with its tools.

A line is what one model saw and answered: the messages, with `weight` 1 on the replies to be learnt and 0 on those that
are only context. Each branch is a line; where a conversation was shortened or began anew, a further line begins. No
reply is to be learnt twice: in a line that repeats what another says, it has the weight 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trellis.models.messages import Media, Message, Reasoning, ToolCall, ToolResult
from trellis.trajectories.converters import lost, telling
from trellis.trajectories.converters.converter import Losses
from trellis.trajectories.converters.lost import CUT, HEADER, JUDGED, MEDIA, NOTES, OUTCOME, USES
from trellis.trajectories.converters.pieces import dumped, whole
from trellis.trajectories.converters.telling import Told
from trellis.trajectories.recorded import GRADER
from trellis.trajectories.trajectory import Branch, Step

FORMAT = "openai"
PLACE = "training.jsonl"
REASONING = "reasoning of the model"
PICTURES = "images in tool results (OpenAI takes them from users only)"
MALFORMED = "replies with tool calls whose arguments are no JSON (context only)"
FAILED = "replies whose tool calls failed (context only, as asked)"
NOT_DONE = "tool calls without a result (a line says so)"
COPIED = "replies that stand in a further line as context only"
FACTS = "token counts, costs, times and settings of calls"
RESULTS = "facts of tool results"
EMPTY = "lines without a reply to be learnt"
LOSSES = (
    REASONING, MEDIA, PICTURES, MALFORMED, FAILED, NOT_DONE, CUT, JUDGED, COPIED, FACTS, RESULTS, USES, NOTES, OUTCOME,
    HEADER, EMPTY,
)  # fmt: skip
_NO_RESULT = "(no result)"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which episodes and steps are to be learnt from."""

    min_score: float | None = None
    """Only episodes whose score is known and at least this."""
    outcomes: tuple[str, ...] = ()
    """Only these outcomes; empty: all."""
    mask_failed: bool = False
    """A reply all of whose tool calls failed is context, not to be learnt."""

    def takes(self, told: Told) -> bool:
        score = told.outcome.score
        if self.min_score is not None and (score is None or score["value"] < self.min_score):
            return False
        return not self.outcomes or told.outcome.outcome in self.outcomes


def write(episodes: Iterable[Told], path: Path, losses: Losses, choice: Choice | None = None) -> tuple[int, int]:
    """Returns how many of the episodes were taken, and how many lines they gave."""
    choice, taken, lines = choice or Choice(), 0, 0
    with whole(path) as draft, draft.open("w", encoding="utf-8") as file:
        for told in episodes:
            if choice.takes(told):
                taken += 1
                for line in _Lines(told, losses, choice).all():
                    file.write(line + "\n")
                    lines += 1
    return taken, lines


@dataclass(slots=True)
class _Line:
    """A conversation in the making."""

    tools: str
    messages: list[tuple[Message, bool]] = field(default_factory=list)
    """Each with whether it is a reply to be learnt."""
    last: str = ""
    """The name of the reply at its end; empty: it ends with none."""


class _Lines:
    def __init__(self, told: Told, losses: Losses, choice: Choice) -> None:
        self._trajectory = told.trajectory
        self._losses = losses
        self._choice = choice

    def all(self) -> Iterator[str]:
        trajectory, losses = self._trajectory, self._losses
        for branch in trajectory.branches.values():
            if branch.name != GRADER:
                for line in self._lines(branch):
                    written = self._written(line)
                    if written is not None:
                        yield written
        losses.add(JUDGED, trajectory.judged)
        losses.add(FACTS, len(trajectory))
        losses.add(NOTES, telling.notes_in(trajectory))
        losses.add(OUTCOME, sum(1 for _ in trajectory.notes("submit")))
        losses.add(HEADER, lost.facts_of(trajectory.header))

    def _lines(self, branch: Branch) -> Iterator[_Line]:
        line: _Line | None = None
        length = 0
        for number in branch.steps:
            step = self._trajectory.step(number)
            replied = line is not None and bool(line.last) and step.names[:1] == (line.last,)
            if line is None or step.kept != length or step.tools != line.tools or (line.last and not replied):
                if line is not None:
                    yield line
                said = self._trajectory.conversation(step)
                self._losses.add(COPIED, sum(message.role == "assistant" for message in said))
                line = _Line(step.tools, [(message, False) for message in said])
            else:
                line.messages += [(message, False) for message in step.given[int(replied) :]]
            length = step.kept + len(step.given)
            self._reply(line, step)
        if line is not None:
            yield line

    def _reply(self, line: _Line, step: Step) -> None:
        losses = self._losses
        acts = {act.call.id: act for act in step.acts}
        calls = step.reply.tool_calls if step.reply else ()
        losses.add(RESULTS, sum(lost.has_facts(act) or _failed(act.result) for act in step.acts))
        losses.add(USES, len(acts.keys() - {call.id for call in calls}))
        line.last = step.answer
        if step.reply is None:
            losses.add(CUT)
            return
        failed = bool(calls) and all(_failed(acts[call.id].result) if call.id in acts else True for call in calls)
        malformed = any(call.malformed for call in calls)
        masked = self._choice.mask_failed and failed
        losses.add(MALFORMED, int(malformed))
        losses.add(FAILED, int(masked and not malformed))
        line.messages.append((step.reply.message, step.kind == "generate" and not malformed and not masked))

    # --- as OpenAI takes it ---

    def _written(self, line: _Line) -> str | None:
        """The line as JSON; None: nothing in it is to be learnt. What comes after the last reply teaches nothing."""
        replies = [number for number, (_, learnt) in enumerate(line.messages) if learnt]
        if not replies:
            self._losses.add(EMPTY)
            return None
        messages: list[dict[str, Any]] = []
        unanswered: list[ToolCall] = []
        for message, learnt in line.messages[: replies[-1] + 1]:
            results = [part for part in message.parts if isinstance(part, ToolResult)]
            if not results:
                messages += self._no_results(unanswered)
                unanswered = list(message.tool_calls)
            for result in results:
                messages.append(self._result(result))
                unanswered = [call for call in unanswered if call.id != result.call_id]
            if message.role == "assistant":
                messages.append(self._assistant(message, learnt))
            elif not results:
                messages.append({"role": message.role, "content": telling.openai_content(message, self._left_out)})
        out: dict[str, Any] = {"messages": messages}
        if specs := self._trajectory.tools(line.tools):
            out |= {"tools": [telling.openai_tool(spec) for spec in specs], "parallel_tool_calls": _parallel(line)}
        return dumped(out)

    def _assistant(self, message: Message, learnt: bool) -> dict[str, Any]:
        self._losses.add(REASONING, sum(isinstance(part, Reasoning) for part in message.parts))
        self._losses.add(MEDIA, sum(isinstance(part, Media) for part in message.parts))
        made: dict[str, Any] = {"role": "assistant"}
        text, calls = telling.text_of(message), message.tool_calls
        if text or not calls:
            made["content"] = text
        if calls:
            made["tool_calls"] = [telling.openai_call(call) for call in calls]
        return {**made, "weight": int(learnt)}

    def _result(self, result: ToolResult) -> dict[str, Any]:
        self._losses.add(PICTURES, sum(isinstance(part, Media) for part in result.parts))
        return {"role": "tool", "tool_call_id": result.call_id, "content": result.text}

    def _no_results(self, calls: list[ToolCall]) -> list[dict[str, Any]]:
        """Each call must have a result, or OpenAI refuses the line; only those of the last reply need none."""
        self._losses.add(NOT_DONE, len(calls))
        return [{"role": "tool", "tool_call_id": call.id, "content": _NO_RESULT} for call in calls]

    def _left_out(self, _: Media) -> None:
        self._losses.add(MEDIA)


def _failed(result: ToolResult | None) -> bool:
    """A call that was cut off, a mistake of the model, or a command that did not end with 0."""
    if result is None or result.is_error:
        return True
    return bool(result.data.get("exit_code")) or bool(result.data.get("timed_out"))


def _parallel(line: _Line) -> bool:
    return any(len(message.tool_calls) > 1 for message, _ in line.messages)
