"""ATIF, the Agent Trajectory Interchange Format of Harbor's RFC 0001, versions 1.0 to 1.7."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

from trellis.models.messages import Image, Message, Part, Reasoning, Text, ToolCall, ToolResult, message_to_json
from trellis.models.model import Effort, Usage
from trellis.trajectories.converters import document, parts
from trellis.trajectories.converters.converter import ConversionError
from trellis.trajectories.converters.line import Asked, Line
from trellis.trajectories.converters.native import Identity, Source, Target, Writer
from trellis.trajectories.recorded import RARE

FORMAT = "atif"
MAX_IMAGE_BYTES = 64 * 1024 * 1024
_PREFIX = "ATIF-v"
_OURS = ("step", "stop_reason", "config", "kind", "role", "kept", "overflow", "usage", "latency_s", "waited_s", *RARE,
         "is_error", "cut_off", "data", "output", "handed_in", "ended_at", "changes", "more_changes", "malformed",
         "notes", "call_id", "name", "empty")  # fmt: skip
"""Members of `extra` that our own exporter writes, and that have a place here."""


def fits(value: Any) -> bool:
    return isinstance(value, dict) and str(value.get("schema_version", "")).startswith(_PREFIX)


def read(source: Source, target: Target) -> None:
    data: dict[str, Any] = source.document
    version = document.word(data.get("schema_version")).removeprefix(_PREFIX)
    if not version.startswith("1."):
        raise ConversionError(f"schema_version: ATIF {version!r}; versions 1.0 to 1.7 are read")
    agent = document.an_object(data.get("agent"), "agent")
    extra = document.mapping(data.get("extra"))
    model = document.word(agent.get("model_name"))
    own = document.mapping(extra.get("trellis"))
    header = document.mapping(own.get("header"))
    episode, benchmark = document.mapping(header.get("episode")), document.mapping(header.get("benchmark"))
    identity = Identity(
        FORMAT,
        benchmark=document.word(benchmark.get("name")),
        benchmark_version=document.word(benchmark.get("version")),
        epoch=max(1, document.count(episode.get("epoch"))),
        outcome=document.word(own.get("outcome")),
        score=document.number(document.mapping(own.get("score")).get("value")),
        task=document.word(episode.get("task") or extra.get("task") or extra.get("task_id") or extra.get("task_name"))
        or source.stem,
        agent=document.word(agent.get("name")) or FORMAT,
        version=version,
        models=_models(header, model),
        more={
            "agent_version": document.word(agent.get("version")),
            "session_id": document.word(data.get("session_id")),
            "trajectory_id": document.word(data.get("trajectory_id")),
            "agent": document.mapping(agent.get("extra")),
            "notes": document.text(data.get("notes")),
            "continued": document.text(data.get("continued_trajectory_ref")),
            "extra": document.without(extra, "trellis"),
            "trellis": document.without(own, "outcome", "notes", "total"),
        },
    )
    with target.episode(identity) as writer:
        _Walk(writer, source.path.parent).trajectory(data, writer.line(), "")


def _models(header: Mapping[str, Any], model: str) -> dict[str, str]:
    named = {role: document.word(name) for role, name in document.mapping(header.get("models")).items()}
    return named or ({"main": model} if model else {})


class _Walk:
    """Goes through a trajectory and those of its subagents."""

    def __init__(self, writer: Writer, folder: Path) -> None:
        self._writer = writer
        self._folder = folder
        self._branches = {"main": "main"}
        """By the names that our own exporter gives them."""

    def trajectory(self, data: Mapping[str, Any], line: Line, place: str) -> None:
        agent = document.mapping(data.get("agent"))
        own = document.mapping(data.get("extra")).get("trellis")
        walk = _Steps(self._writer, line, self._folder, agent, ours=isinstance(own, dict))
        inner = document.objects(data.get("subagent_trajectories"), f"{place}subagent_trajectories")
        waiting = {document.word(each.get("trajectory_id") or each.get("session_id")) or f"subagent-{number}": number
                   for number, each in enumerate(inner)}  # fmt: skip

        def delegate(name: str) -> None:
            number = waiting.pop(name)
            each = inner[number]
            own = document.mapping(each.get("extra")).get("trellis")
            told = document.mapping(own)
            origin = self._branches.get(document.word(told.get("origin")), line.name)
            branch = self._writer.line(
                self._writer.free_name(line.name, name), origin, document.integer(told.get("position"))
            )
            self._branches[document.word(told.get("branch"))] = branch.name
            if own is None:
                branch.note("imported.subagent", **document.without(each, "steps", "subagent_trajectories"))
            self.trajectory(each, branch, f"{place}subagent_trajectories[{number}].")

        walk.notes(document.sequence(document.mapping(own).get("notes")))
        for number, step in enumerate(document.objects(data.get("steps"), f"{place}steps")):
            for name in walk.step(step, f"{place}steps[{number}]"):
                if name in waiting:
                    delegate(name)
                else:
                    self._writer.losses.add("trajectories of subagents in other files")
        for name in list(waiting):
            delegate(name)
        final = document.mapping(data.get("final_metrics"))
        if line.name == "main" and final:
            cached = document.count(final.get("total_cached_tokens"))
            usage = Usage(max(0, document.count(final.get("total_prompt_tokens")) - cached), cached,
                          output=document.count(final.get("total_completion_tokens")))  # fmt: skip
            self._writer.total(usage, document.cost(final.get("total_cost_usd")))


class _Steps:
    """The steps of one trajectory, in order."""

    def __init__(self, writer: Writer, line: Line, folder: Path, agent: Mapping[str, Any], *, ours: bool) -> None:
        """`ours`: our own exporter wrote it, and `extra` says what has a place here."""
        self._ours = ours
        self._writer = writer
        self._line = line
        self._folder = folder
        self._decisions: dict[str, Mapping[str, Any]] = {}
        """On calls that have not come back yet, by their ids."""
        self._model = document.word(agent.get("model_name"))
        self._tools = parts.tool_specs(agent.get("tool_definitions"))

    def step(self, step: Mapping[str, Any], place: str) -> list[str]:
        """Returns the subagents that its observation names."""
        self._writer.at(document.when(step.get("timestamp")))
        said = self._content(step.get("message"), place)
        calls: list[ToolCall] = []
        match step.get("source"):
            case "system" if step.get("observation"):  # what the system did, and not what it said to the model
                if not self._ours:
                    self._line.note("imported.event", text="\n".join(p.text for p in said if isinstance(p, Text)))
            case "system" | "user":
                if said:
                    self._line.say(Message(step["source"], tuple(said)))
            case "agent":
                calls = self._agent(step, said)
            case other:
                raise ConversionError(f"{place}.source: {other!r} is none of system, user and agent")
        own, more = self._extra(step)
        if more:
            self._line.note("imported.extra", step=document.count(step.get("step_id")), extra=more)
        notes = list(map(document.mapping, document.sequence(own.get("notes"))))
        self.notes(note for note in notes if note.get("kind") == "approval")
        named = self._observed(step, calls, place)
        self.notes(note for note in notes if note.get("kind") != "approval")
        return named

    def _extra(self, item: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """What our own exporter says there, and what else stands there."""
        extra = document.mapping(item.get("extra"))
        return (extra, document.without(extra, *_OURS)) if self._ours else ({}, document.without(extra))

    def notes(self, items: Iterable[Any]) -> None:
        """As our own exporter writes them."""
        for item in map(document.mapping, items):
            kind, data = document.word(item.get("kind")), document.mapping(item.get("data"))
            if kind == "approval" and (answer := document.mapping(data.get("answer"))):
                self._decisions[document.word(document.mapping(data.get("what")).get("id"))] = answer
            elif kind:
                self._line.note_of_ours(kind, data)

    def _agent(self, step: Mapping[str, Any], said: list[Part]) -> list[ToolCall]:
        calls = [
            parts.tool_call(
                FORMAT,
                document.word(call.get("tool_call_id")) or self._line.made_up_id(),
                document.word(call.get("function_name")) or "unnamed",
                self._extra(call)[0].get("malformed") or call.get("arguments"),
            )
            for call in map(document.mapping, document.sequence(step.get("tool_calls")))
        ]
        thought = document.text(step.get("reasoning_content"))
        message = Message("assistant", (*([Reasoning(thought)] if thought else []), *said, *calls))
        if step.get("is_copied_context") is True:
            self._writer.losses.add("replies copied from a trajectory before (kept as context, they are no steps)")
            self._line.pending = []
            self._line.say(message)
            return []
        if step.get("llm_call_count") == 0:
            self._own(calls, message)
            return calls
        metrics, effort = document.mapping(step.get("metrics")), step.get("reasoning_effort")
        extra, (measured, more) = self._extra(step)[0], self._extra(metrics)
        began = document.when(step.get("timestamp"))
        asked: Asked = {
            "model": document.word(step.get("model_name")) or self._model,
            "tools": self._tools,
            "config": parts.config({**document.mapping(extra.get("config")), "reasoning_effort": effort}),
            "role": document.word(extra.get("role")) or "main",
            "kind": "compact" if extra.get("kind") == "compact" else "generate",
        }
        if extra.get("cut_off") is True or extra.get("overflow"):
            self._line.unanswered(document.text(extra.get("overflow")), **asked)
            return []
        self._line.reply(
            message,
            usage=_own_usage(measured["usage"]) if "usage" in measured else _usage(metrics),
            cost_usd=document.cost(metrics.get("cost_usd")),
            stop_reason=parts.stop_reason(extra.get("stop_reason")),
            ended_at=None if began is None else began + (document.number(measured.get("latency_s")) or 0.0),
            **asked,
            rare=parts.rare(measured),
        )
        losses = self._writer.losses
        losses.add(
            "reasoning efforts that are none of ours", int(effort is not None and effort not in get_args(Effort))
        )
        for name, what in (("prompt_token_ids", "lists of token ids"), ("completion_token_ids", "lists of token ids"),
                           ("logprobs", "lists of log probabilities")):  # fmt: skip
            losses.add(what, int(bool(metrics.get(name))))
        if more:
            self._line.note("imported.metrics", extra=more)
        return calls

    def _own(self, calls: list[ToolCall], message: Message) -> None:
        """What no model decided on: the agent's program acted, or spoke, by itself."""
        self._line.pending = list(calls)
        if message.text:
            self._line.note("imported.message", **message_to_json(message))

    def _observed(self, step: Mapping[str, Any], calls: list[ToolCall], place: str) -> list[str]:
        observation = document.mapping(step.get("observation"))
        named: list[str] = []
        for number, result in enumerate(document.objects(observation.get("results"), f"{place}.observation.results")):
            refs = [document.mapping(ref) for ref in document.sequence(result.get("subagent_trajectory_ref"))]
            named += [document.word(ref.get("trajectory_id") or ref.get("session_id")) for ref in refs]
            shown = self._content(result.get("content"), f"{place}.observation.results[{number}]")
            id = document.word(result.get("source_call_id"))
            call = self._line.take(id, in_order=not id) if calls else None
            fit = tuple(part for part in shown if isinstance(part, Text | Image))
            own = self._extra(result)[0]
            id = id or document.word(own.get("call_id"))
            if call is not None:
                self._came_back(call, fit, result, refs, said=step.get("llm_call_count") != 0)
            elif id and step.get("is_copied_context") is True:
                name = document.word(own.get("name")) or _name_of(id, step)
                self._line.say(ToolResult(id, name, fit, own.get("is_error") is True).message)
            elif not (self._ours and refs):
                self._line.note("imported.observation", text="\n".join(p.text for p in shown if isinstance(p, Text)))
        return named

    def _came_back(
        self, call: ToolCall, shown: tuple[Text | Image, ...], result: Mapping[str, Any], refs: list[Any], *, said: bool
    ) -> None:
        """With what our own exporter says besides."""
        extra, more = self._extra(result)
        kept = document.without({"subagents": refs, "extra": more})
        data = {**document.mapping(extra.get("data")), **({"imported": kept} if kept else {})}
        seen = ToolResult(call.id, call.name, shown, extra.get("is_error") is True, data)
        whole = tuple(self._content(extra["output"], "output")) if "output" in extra else shown
        cut_off = extra.get("cut_off") is True
        if decision := self._decisions.pop(call.id, None):
            self._line.decided(call, decision.get("allowed") is True, document.word(decision.get("by")),
                               document.text(decision.get("reason")))  # fmt: skip
        self._line.act(
            call,
            None if cut_off else replace(seen, parts=tuple(part for part in whole if isinstance(part, Text | Image))),
            ended_at=document.when(extra.get("ended_at")),
            own=not said,
            handed_in=extra.get("handed_in"),
            changed=extra,
        )
        if said and not cut_off:
            self._line.say(seen.message)

    def _content(self, value: Any, place: str) -> list[Part]:
        """A text, or since 1.6 a list of texts and images."""
        if not isinstance(value, list):
            return [Text(document.text(value))] if value else []
        found: list[Part] = []
        for item in document.objects(value, f"{place}.message"):
            image = document.mapping(item.get("source"))
            if item.get("type") == "image" and image:
                found.append(self._image(image))
            else:
                found.append(Text(document.text(item.get("text"))))
        return found

    def _image(self, image: Mapping[str, Any]) -> Part:
        """In the file itself, or in one beside it."""
        path = document.text(image.get("path"))
        if not path or path.startswith("data:"):
            return parts.media(path or image.get("url"), self._writer.losses)
        data = _beside(self._folder, path)
        if data is None:
            self._writer.losses.add("images in files that are not beside the trajectory")
            return Text(f"[image: {path[:2000]}]")
        return Image(data, document.word(image.get("media_type")) or "image/png")


def _beside(folder: Path, name: str) -> bytes | None:
    """What a file below `folder` holds; None where there is none, or it is too large. A name never leads out of it."""
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file() or path.stat().st_size > MAX_IMAGE_BYTES:
            return None
        return path.read_bytes()
    except (OSError, ValueError):
        return None


def _name_of(id: str, step: Mapping[str, Any]) -> str:
    """Of the tool that a copied step called."""
    calls = map(document.mapping, document.sequence(step.get("tool_calls")))
    return next(
        (document.word(call.get("function_name")) for call in calls if call.get("tool_call_id") == id), "unnamed"
    )


def _own_usage(usage: Any) -> Usage:
    return Usage(**{each.name: document.count(document.mapping(usage).get(each.name)) for each in fields(Usage)})


def _usage(metrics: Mapping[str, Any]) -> Usage:
    """Tokens from a cache are part of the prompt there; what was written to one stands in `extra`, if anywhere."""
    extra = document.mapping(metrics.get("extra"))
    total, cached = document.count(metrics.get("prompt_tokens")), document.count(metrics.get("cached_tokens"))
    written = min(document.count(extra.get("cache_creation_input_tokens")), max(0, total - cached))
    return Usage(
        input=max(0, total - cached - written),
        cache_read=cached,
        cache_write=written,
        output=document.count(metrics.get("completion_tokens")),
        reasoning=document.count(extra.get("reasoning_tokens")),
    )
