"""OpenHands V0: a list of events (actions and observations), as its user interface and `--save-trajectory` write it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trellis.models.messages import Image, Message, Part, Text, ToolCall, ToolResult
from trellis.models.model import ToolSpec, Usage
from trellis.trajectories.converters import document, parts
from trellis.trajectories.converters.native import Identity, Source, Target, Writer

FORMAT = "openhands"
MACHINERY = {"system", "change_agent_state", "recall", "condensation", "condensation_request", "loop_recovery", "null",
             "start", "pause", "resume", "stop", "push", "send_pr"}  # fmt: skip
"""Actions that no model decided on, whoever their source is."""


def fits(value: Any) -> bool:
    events = value.get("trajectory") if isinstance(value, dict) and "history" not in value else value
    return (
        isinstance(events, list)
        and bool(events)
        and all(
            isinstance(event, dict) and ("action" in event or "observation" in event) and "source" in event
            for event in events[:3]
        )
    )


def read(source: Source, target: Target) -> None:
    data = source.document
    events = document.objects(data["trajectory"] if isinstance(data, dict) else data, "events")
    models = {model: None for event in events if (model := document.word(_response(event).get("model")))}
    system = next((document.mapping(event.get("args")) for event in events if event.get("action") == "system"), {})
    ended = next((event["action"] for event in reversed(events) if event.get("action") in ("finish", "reject")), "")
    identity = Identity(
        FORMAT,
        task=source.stem,
        agent=document.word(system.get("agent_class")) or FORMAT,
        version="V0",
        models={"main": next(iter(models))} if models else {},
        outcome=ended,
        more={"agent_version": document.word(system.get("openhands_version"))},
    )
    with target.episode(identity) as writer:
        _Walk(writer, parts.tool_specs(system.get("tools"))).events(events)


class _Walk:
    """Goes through the events in order."""

    def __init__(self, writer: Writer, tools: tuple[ToolSpec, ...]) -> None:
        self._writer = writer
        self._line = writer.line()
        self._tools = tools
        self._calls: dict[tuple[str, str], ToolCall] = {}
        """Those without a result, by the id of the action, and by their own."""
        self._replies: set[str] = set()
        self._spent = 0.0

    def events(self, events: list[dict[str, Any]]) -> None:
        metrics: Mapping[str, Any] = {}
        for event in events:
            at = document.when(event.get("timestamp"))
            metrics = document.mapping(event.get("llm_metrics")) or metrics
            if "observation" in event and "action" not in event:
                self._observation(event, at)
            elif document.word(event.get("action")) in MACHINERY:
                self._writer.at(at)
                self._machinery(event)
            elif event.get("source") == "agent":
                self._action(event, at)
            else:
                self._writer.at(at)
                self._said(event)
        total = document.mapping(metrics.get("accumulated_token_usage"))
        self._writer.total(parts.openai_usage({**total, "cache_read_input_tokens": total.get("cache_read_tokens"),
                                               "cache_creation_input_tokens": total.get("cache_write_tokens")}),
                           document.cost(metrics.get("accumulated_cost")))  # fmt: skip

    def _machinery(self, event: Mapping[str, Any]) -> None:
        args = document.mapping(event.get("args"))
        if event["action"] == "system":
            self._line.say(Message("system", (Text(document.text(args.get("content"))),)))
            return
        if event["action"] == "condensation":
            self._writer.losses.add("condensations of the conversation (it is kept whole)")
        self._line.note("imported.event", action=event["action"], source=document.text(event.get("source")), args=args)

    def _said(self, event: Mapping[str, Any]) -> None:
        """By a user, or whoever else is not the agent."""
        args = document.mapping(event.get("args"))
        if event.get("action") != "message":
            self._line.note("imported.event", action=document.text(event.get("action")),
                            source=document.text(event.get("source")), args=args)  # fmt: skip
            return
        shown: list[Part] = [Text(document.text(args.get("content") or event.get("message")))]
        shown += [parts.media(url, self._writer.losses) for url in document.sequence(args.get("image_urls"))]
        self._line.say(Message("user", tuple(shown)))

    def _action(self, event: Mapping[str, Any], at: float | None) -> None:
        """What the agent does next is a step: a reply of the model with one call, or with none (a message)."""
        args, response = document.mapping(event.get("args")), _response(event)
        call = self._call(event, args)
        id = document.word(response.get("id"))
        again = bool(id) and id in self._replies
        self._replies.add(id)
        if again:
            self._writer.losses.add("replies with several tool calls (split, one step for each)")
        usage = Usage() if again else parts.openai_usage(response.get("usage"))
        self._line.reply(
            Message("assistant", (*self._thought(event, args, {} if again else response), *([call] if call else []))),
            model=document.word(response.get("model")),
            usage=usage,
            cost_usd=None if again else self._cost(event),
            tools=self._tools,
            ended_at=at,
        )
        self._writer.losses.add("raw replies of the provider", int(bool(response) and not again))
        if call:
            self._calls["action", document.word(event.get("id"))] = self._calls["call", call.id] = call

    def _thought(self, event: Mapping[str, Any], args: Mapping[str, Any], response: Mapping[str, Any]) -> list[Part]:
        choices = document.sequence(response.get("choices"))
        message = document.mapping(document.mapping(choices[0]).get("message")) if choices else {}
        said = parts.content(message.get("content"), self._writer.losses)
        if not said:
            thought = args.get("content") if event.get("action") == "message" else args.get("thought")
            said = parts.content(thought, self._writer.losses)
        return [*parts.reasoning(message), *said]

    def _call(self, event: Mapping[str, Any], args: Mapping[str, Any]) -> ToolCall | None:
        """As the model made it, where that was kept; else the action itself."""
        metadata, action = document.mapping(event.get("tool_call_metadata")), document.word(event.get("action"))
        id = document.word(metadata.get("tool_call_id"))
        if id:
            for choice in document.sequence(_response(event).get("choices")):
                message = document.mapping(document.mapping(choice).get("message"))
                for call in parts.openai_calls(FORMAT, message, str):
                    if call.id == id:
                        return call
            name = document.word(metadata.get("function_name")) or action
            return parts.tool_call(FORMAT, id, name, document.without(args, "thought"))
        if action == "message":
            return None
        return parts.tool_call(FORMAT, self._line.made_up_id(), action or "unnamed", document.without(args, "thought"))

    def _cost(self, event: Mapping[str, Any]) -> float | None:
        """What the reply added to the costs so far."""
        spent = document.cost(document.mapping(event.get("llm_metrics")).get("accumulated_cost"))
        if spent is None:
            return None
        added, self._spent = max(0.0, spent - self._spent), max(spent, self._spent)
        return added

    def _observation(self, event: Mapping[str, Any], at: float | None) -> None:
        extras, kind = document.mapping(event.get("extras")), document.text(event.get("observation"))
        id = document.word(document.mapping(event.get("tool_call_metadata")).get("tool_call_id"))
        call = self._calls.pop(("action", document.word(event.get("cause"))), None) or self._calls.get(("call", id))
        pending = self._line.take(call.id, in_order=False) if call else None
        if call is None or pending is None:
            if kind not in ("null", "agent_state_changed"):
                self._line.note("imported.event", observation=kind, content=document.text(event.get("content")),
                                extras=extras)  # fmt: skip
            return
        metadata = document.mapping(extras.get("metadata"))
        code = document.number(metadata.get("exit_code", extras.get("exit_code")))
        shown: list[Text | Image] = [Text(document.text(event.get("content")))]
        for name in ("screenshot", "set_of_marks"):
            picture = parts.data_uri(document.text(extras.get(name)))
            if picture is not None and picture[0].startswith("image/"):
                shown.append(Image(picture[1], picture[0]))
        result = ToolResult(call.id, call.name, tuple(shown), kind == "error",
                            document.without({"exit_code": None if code is None else int(code),
                                              "imported": {"observation": kind, **_small(extras)}}))  # fmt: skip
        self._line.act(pending, result, ended_at=at)
        self._line.say(Message("tool", (ToolResult(call.id, call.name, tuple(shown), kind == "error"),)))


def _small(extras: Mapping[str, Any]) -> dict[str, Any]:
    """What an observation tells besides its content, but for what repeats it."""
    repeated = ("formatted_output_and_error", "screenshot", "set_of_marks", "axtree_object", "dom_object",
                "new_content", "old_content", "diff")  # fmt: skip
    return document.without(extras, *repeated)


def _response(event: Mapping[str, Any]) -> Mapping[str, Any]:
    return document.mapping(document.mapping(event.get("tool_call_metadata")).get("model_response"))
