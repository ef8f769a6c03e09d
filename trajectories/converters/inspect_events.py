"""The events of a sample of Inspect's, in order: calls of models and tools, on the branches that its spans are."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from trellis.models.messages import Image, Message, Text, ToolResult
from trellis.trajectories.converters import document, parts
from trellis.trajectories.converters.inspect_messages import FORMAT, Messages, usage_of
from trellis.trajectories.converters.line import Asked, Line
from trellis.trajectories.converters.native import Writer
from trellis.trajectories.recorded import GRADER

KEPT = {
    "info",
    "error",
    "input",
    "approval",
    "score_edit",
    "sample_limit",
    "interrupt",
    "logger",
    "compaction",
    "checkpoint",
    "anchor",
}
"""Kinds of events that become notes."""
_TOLD = {"sample_init", "score", "span_end", "branch", "subtask", "step"}
"""Kinds that say what the sample says too, or what the others say."""
_LOST = {"state": "changes of the state", "store": "changes of the sample's store", "sandbox": "calls of the sandbox"}


class Events:
    """The events of a sample."""

    def __init__(self, sample: Mapping[str, Any], messages: Messages, place: str) -> None:
        listed = sample.get("events")
        if listed is None:
            listed = document.mapping(sample.get("transcript")).get("events")
        self.items = document.objects(listed, f"{place}.events")
        self.asked = any(event.get("event") == "model" for event in self)
        self.forks = {document.word(e.get("span_id")): e for e in self.items if e.get("event") == "branch"}
        """By the span that begins as a replay of another one's beginning."""
        called = {document.word(event.get("id")) for event in self if event.get("event") == "tool"}
        self.decisions: dict[str, Mapping[str, Any]] = {}
        """The last on each call of a tool, by the call's id."""
        for event in self:
            if event.get("event") == "approval" and (id := _decided_on(event)) in called:
                self.decisions[id] = event

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._flat(self.items)

    def _flat(self, items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Early logs keep what a tool or a subtask did inside its event."""
        for event in items:
            yield event
            inner = event.get("events")
            if isinstance(inner, list):
                yield from self._flat([each for each in inner if isinstance(each, dict)])


class Walk:
    """Writes a sample, event by event."""

    def __init__(self, writer: Writer, messages: Messages, *, ours: bool) -> None:
        """`ours`: our own exporter wrote it."""
        self._writer = writer
        self._ours = ours
        self._messages = messages
        self._branches: dict[str, str] = {}
        """By span."""
        self._agents: set[str] = set()
        """Spans of agents, and those in them."""
        self._anchors: dict[str, tuple[str, int]] = {}
        """A branch, and how many of its acts were done, where others fork from it."""
        self._scoring = 0
        """Early logs: how many scorers are at work."""
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        """Calls of tools that ended after what was logged behind them began."""

    # --- a sample with its events ---

    def events(self, events: Events) -> None:
        for number, event in enumerate(events):
            at = document.when(event.get("timestamp"))
            self._ended(at)
            match event.get("event"):
                case "span_begin":
                    self._span(event, events)
                case "step":
                    if event.get("type") == "scorer":
                        self._scoring += 1 if event.get("action") == "begin" else -1
                case "model":
                    self._writer.at(at)
                    self._model(event, number)
                case "tool":
                    self._tool(event, number, at, events.decisions)
                case "approval" if _decided_on(event) in events.decisions:
                    pass  # it is told with the call
                case "anchor":
                    line = self._line(event)
                    self._anchors[document.word(event.get("anchor_id"))] = line.name, line.acts
                    if not self._ours:
                        self._note(event, "anchor")
                case "compaction" if self._ours:
                    pass  # the call says it too
                case kind if isinstance(kind, str) and kind in KEPT:
                    self._writer.at(at)
                    self._note(event, kind)
                case kind if isinstance(kind, str) and kind in _LOST:
                    self._writer.losses.add(_LOST[kind])
                case kind if not isinstance(kind, str) or kind not in _TOLD:
                    self._writer.losses.add("events of a kind that is not known")
        self._ended(None)

    def _span(self, event: Mapping[str, Any], events: Events) -> None:
        """An agent in an agent is a branch, and so is a span that forks from another; a scorer is the grader's."""
        id, parent, kind = (document.word(event.get(name)) for name in ("id", "parent_id", "type"))
        inside = parent in self._agents
        branch = self._branches.get(parent, "main")
        if kind in ("scorer", "scorers"):
            branch = GRADER
        elif branch != GRADER and ((kind == "agent" and inside) or (id and id in events.forks)):
            fork = events.forks.get(id, {})
            origin, position = self._anchors.get(document.word(fork.get("from_anchor")), (branch, None))
            if self._ours:
                position = document.integer(document.mapping(fork.get("metadata")).get("position"))
            branch = self._writer.free_name(branch, document.word(event.get("name")) or "agent")
            self._writer.line(branch, origin, position)
        self._branches[id] = branch
        if inside or kind == "agent":
            self._agents.add(id)

    def _line(self, event: Mapping[str, Any]) -> Line:
        branch = GRADER if self._scoring > 0 else self._branches.get(document.word(event.get("span_id")), "main")
        return self._writer.line(branch)

    def _model(self, event: Mapping[str, Any], number: int) -> None:
        losses, output = self._writer.losses, document.mapping(event.get("output"))
        place = f"events[{number}]"
        choices = document.sequence(output.get("choices"))
        choice = document.mapping(choices[0]) if choices else {}
        losses.add("raw calls of the provider", int(bool(event.get("call"))))
        losses.add("further choices of a reply", max(0, len(choices) - 1))
        losses.add("lists of log probabilities", int(bool(choice.get("logprobs"))))
        if not choice and not self._ours:
            self._line(event).note("imported.failed", model=document.word(event.get("model")),
                                   error=document.text(event.get("error"))[:20_000])  # fmt: skip
            return
        refs = event.get("input_refs")
        sent = (
            self._messages.many(event.get("input"), f"{place}.input")
            if refs is None
            else self._messages.referred(refs, f"{place}.input_refs")
        )
        taken = document.number(output.get("time"))
        began = document.when(event.get("timestamp"))
        ended = document.when(event.get("completed")) or (began + taken if began and taken and taken > 0 else None)
        told = document.mapping(output.get("usage"))
        own = document.mapping(event.get("metadata")) if self._ours else {}
        config = document.mapping(own.get("config")) or _config(
            document.mapping(event.get("config")), event.get("tool_choice")
        )
        asked: Asked = {
            "model": document.word(event.get("model")),
            "tools": parts.tool_specs(event.get("tools")),
            "config": parts.config(config),
            "role": document.word(event.get("role")) or "main",
            "kind": "compact" if own.get("kind") == "compact" else "generate",
        }
        if not choice:
            overflow = "" if event.get("pending") is True else document.text(event.get("error"))
            self._line(event).unanswered(overflow, messages=sent, **asked)
            return
        rare = {"retries": event.get("retries"), "cached": event.get("cache") == "read"}
        self._line(event).reply(
            self._messages.one(document.an_object(choice.get("message"), f"{place}.output.choices[0].message"), place),
            messages=sent,
            usage=usage_of(told),
            cost_usd=document.cost(told.get("total_cost")),
            stop_reason=parts.stop_reason(choice.get("stop_reason")),
            ended_at=ended,
            remembered=False,
            **asked,
            rare=parts.rare(document.mapping(own.get("reply")) or rare),
        )

    def _note(self, event: Mapping[str, Any], kind: str) -> None:
        """As it is; what our own exporter made of a note is that note again."""
        told = document.without(event, "event", "uuid", "span_id", "timestamp", "working_start", "pending")
        told, own = self._messages.resolved(told), document.word(event.get("source"))
        if kind != "info" or not own.startswith("trellis."):
            self._line(event).note(f"imported.{kind}", **told)
        else:
            self._line(event).note_of_ours(own.removeprefix("trellis."), document.mapping(told.get("data")))

    def _tool(
        self, event: Mapping[str, Any], number: int, at: float | None, decisions: Mapping[str, Mapping[str, Any]]
    ) -> None:
        line, id = self._line(event), document.word(event.get("id"))
        call = line.take(id, in_order=False)
        own = call is None
        if call is None:
            arguments = self._messages.resolved(document.mapping(event.get("arguments")))
            name = document.word(event.get("function")) or "unnamed"
            call = parts.tool_call(FORMAT, id or line.made_up_id(), name, arguments)
        error = document.mapping(event.get("error"))
        shown = self._messages.content(self._messages.resolved(event.get("result")))
        if error and not shown:
            shown = [Text(document.text(error.get("message")))]
        metadata = document.mapping(event.get("metadata"))
        own_words = metadata if self._ours else {}
        facts, handed_in = document.mapping(own_words.get("data")), own_words.get("handed_in")
        kept = document.without(
            {
                "error": None if facts else error,
                "metadata": document.without(metadata, *own_words),
                "truncated": event.get("truncated"),
                "agent": event.get("agent"),
            }
        )
        fit = tuple(part for part in shown if isinstance(part, Text | Image))
        data = {**facts, **({"imported": kept} if kept else {})}
        result = ToolResult(call.id, call.name, fit, bool(error), data)
        decision = decisions.get(id)

        def write(result: ToolResult | None, ended_at: float | None = None) -> None:
            if decision is not None:
                allowed = decision.get("decision") in ("approve", "modify")
                by, why = document.word(decision.get("approver")), document.text(decision.get("explanation"))
                line.decided(call, allowed, by, why)
            line.act(call, result, ended_at=ended_at, own=own, handed_in=handed_in, changed=own_words)

        cut_off = event.get("pending") is True or (event.get("failed") is True and error.get("type") == "cancelled")
        ended = None if cut_off else document.when(event.get("completed"))
        if ended is None or at is None or ended <= at:
            self._writer.at(at)
            write(None if cut_off else result)
        else:
            heapq.heappush(self._later, (ended, number, lambda: write(result, ended)))

    def _ended(self, at: float | None) -> None:
        """Write what the tools gave that had ended by then; None: all of it."""
        while self._later and (at is None or self._later[0][0] <= at):
            heapq.heappop(self._later)[2]()

    # --- a sample without them ---

    def conversation(self, messages: list[Message], output: Mapping[str, Any]) -> None:
        line = self._writer.line()
        for message in messages:
            if message.role == "assistant":
                line.reply(message, model=document.word(output.get("model")))
                continue
            result = message.parts[0] if message.role == "tool" else None
            if isinstance(result, ToolResult):
                call = line.take(result.call_id)
                if call is None:
                    line.note("imported.observation", tool=result.name, text=result.text)
                    continue
                line.act(call, ToolResult(call.id, call.name, result.parts, result.is_error))
            line.say(message)


def _decided_on(approval: Mapping[str, Any]) -> str:
    """The id of the call."""
    return document.word(document.mapping(approval.get("call")).get("id"))


def _config(config: Mapping[str, Any], tool_choice: Any) -> dict[str, Any]:
    """What Inspect says of a call's settings, by the names that they have here."""
    choice = document.mapping(tool_choice).get("name") if isinstance(tool_choice, dict) else tool_choice
    schema = document.mapping(document.mapping(config.get("response_schema")).get("json_schema"))
    return {
        "temperature": config.get("temperature"),
        "max_output_tokens": config.get("max_tokens"),
        "reasoning_effort": config.get("reasoning_effort"),
        "tool_choice": {"any": "required", "auto": None}.get(word, word) if (word := document.word(choice)) else None,
        "response_schema": schema,
        "seed": config.get("seed"),
    }
