"""SWE-agent: `.traj` of all versions, with attempts of its retrying agents, and demonstrations (`history` alone)."""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trellis.models.messages import Message, Role, ToolCall, ToolResult
from trellis.models.model import Usage
from trellis.trajectories.converters import document, parts
from trellis.trajectories.converters.converter import ConversionError
from trellis.trajectories.converters.line import Line, result_of
from trellis.trajectories.converters.native import Identity, Source, Target, Writer

FORMAT = "swe-agent"
COMMANDS = {"open", "goto", "scroll_up", "scroll_down", "create", "edit", "insert", "append", "search_dir",
            "search_file", "find_file", "filemap", "submit", "skip", "view_image", "str_replace_editor", "undo_edit",
            "set_cursors", "exit_forfeit", "debug_start", "debug_add_breakpoint", "debug_continue", "debug_step",
            "debug_exec", "debug_stop", "connect_start", "connect_sendline", "connect_exec", "connect_stop",
            "decompile", "disassemble"}  # fmt: skip
"""Programs that SWE-agent puts into its worlds: no other world knows them. What else an action runs is for a shell."""


def fits(value: Any) -> bool:
    if not isinstance(value, dict) or "trajectory_format" in value:
        return False
    attempts = value.get("attempts")
    if isinstance(attempts, list) and attempts and isinstance(attempts[0], dict):
        value = attempts[0]
    steps, history = value.get("trajectory"), value.get("history")
    if isinstance(steps, list) and steps:
        return isinstance(steps[0], dict) and "action" in steps[0] and "observation" in steps[0]
    return isinstance(history, list) and bool(history) and isinstance(history[0], dict) and "role" in history[0]


def read(source: Source, target: Target) -> None:
    data: dict[str, Any] = source.document
    attempts = document.objects(data.get("attempts"), "attempts")
    info = document.mapping(data.get("info"))
    config = _config(data) or next(filter(None, map(_config, attempts)), {})
    agent = document.mapping(config.get("agent"))
    problem = document.mapping(config.get("problem_statement"))
    model = document.word(document.mapping(agent.get("model")).get("name"))
    world = document.mapping(config.get("env"))
    identity = Identity(
        FORMAT,
        task=document.word(problem.get("id")) or source.stem,
        agent=FORMAT,
        version=_version(data, attempts),
        models={"main": model} if model else {},
        outcome=document.word(info.get("exit_status")),
        more={
            "agent_version": document.word(info.get("swe_agent_version")),
            "environment": {
                "name": document.word(data.get("environment")),
                "image": document.word(document.mapping(world.get("deployment")).get("image")),
                "repo": document.without(document.mapping(world.get("repo"))),
            },
            "problem": document.text(problem.get("text"))[:20_000],
            "info": document.without(info, "model_stats", "submission", "exit_status"),
        },
    )
    with target.episode(identity) as writer:
        if attempts:
            for number, attempt in enumerate(attempts):
                line = writer.line(f"main/attempt-{number}")
                _attempt(writer, line, attempt, f"attempts[{number}].", model)
                told = document.mapping(attempt.get("info"))
                line.note("imported.attempt", number=number, best=info.get("best_attempt_idx") == number,
                          info=document.without(told))  # fmt: skip
        else:
            _attempt(writer, writer.line(), data, "", model)
        writer.messages = (
            sum(len(document.sequence(each.get("history"))) for each in attempts or [data]) or writer.messages
        )
        stats = document.mapping(info.get("model_stats"))
        usage = Usage(document.count(stats.get("tokens_sent")), output=document.count(stats.get("tokens_received")))
        writer.total(usage, document.cost(stats.get("instance_cost")))
        writer.submit_text(document.text(info.get("submission")))
        writer.losses.add("settings of the agent (replay_config)", int(bool(config)))


def _config(data: Mapping[str, Any]) -> dict[str, Any]:
    """`replay_config`, a JSON text or an object."""
    config = data.get("replay_config")
    if isinstance(config, str):
        config = document.parse(config.encode("utf-8", "replace"), "replay_config")
    return document.mapping(config)


def _version(data: Mapping[str, Any], attempts: list[dict[str, Any]]) -> str:
    """Of the format, as far as it shows: 1.1 has the messages that were sent, before it came 1.0 and 0.x."""
    steps = document.sequence((attempts[0] if attempts else data).get("trajectory"))
    first = document.mapping(steps[0]) if steps else {}
    if not steps:
        return "demonstration"
    return "1.1" if "query" in first else "1.0" if isinstance(first.get("state"), dict) else "0"


def _attempt(writer: Writer, line: Line, data: Mapping[str, Any], place: str, model: str) -> None:
    steps = document.objects(data.get("trajectory"), f"{place}trajectory")
    history = document.objects(data.get("history"), f"{place}history")
    walk = _Walk(writer, line, history, f"{place}history", model)
    if steps:
        for number, step in enumerate(steps):
            walk.step(step, f"{place}trajectory[{number}]")
        walk.rest()
    elif history:
        walk.alone()
    else:
        raise ConversionError(f"{place}trajectory: no steps, and no history either")


class _Walk:
    """Goes through one attempt in order."""

    def __init__(self, writer: Writer, line: Line, history: list[dict[str, Any]], place: str, model: str) -> None:
        self._writer = writer
        self._line = line
        self._history = history
        self._place = place
        self._model = model
        self._next = 0
        """The first item of the history that no step has reached."""
        self._known: dict[str, Message] = {}
        self._said: defaultdict[str, list[Message]] = defaultdict(list)
        """The replies so far, by their text."""
        self._names: dict[str, str] = {}
        """Of the tools that calls are of, by the calls' ids."""
        self._replies: defaultdict[str, deque[int]] = defaultdict(deque)
        """Where in the history each reply stands, by its text."""
        for number, item in enumerate(history):
            if _is_reply(item):
                self._replies[_text(item.get("content"))].append(number)

    def step(self, step: Mapping[str, Any], place: str) -> None:
        """A step of `trajectory`, with the item of the history that is its reply, where there is one."""
        said = document.text(step.get("response"))
        item = self._reach(said)
        sent = None
        if step.get("query"):
            sent = self._sent([each for each in document.objects(step["query"], f"{place}.query") if each])
        calls = self._calls(item or {}, step)
        words = parts.content((item or {}).get("content") or said or step.get("thought"), self._writer.losses)
        message = Message("assistant", (*parts.reasoning(item or step), *words, *calls))
        self._said[said].append(message)
        extra = document.mapping(step.get("extra_info"))
        self._line.reply(message, messages=sent, remembered=item is not None or not self._history,
                         model=document.word(extra.get("model")) or self._model,
                         cost_usd=document.cost(extra.get("cost_usd")))  # fmt: skip
        observation, seconds = document.text(step.get("observation")), document.number(step.get("execution_time"))
        if calls:
            call = self._line.take(calls[0].id) or calls[0]
            told = document.without({"state": _state(step.get("state")), "extra_info": extra})
            code = document.integer(document.mapping(extra.get("exit_codes")).get(call.id))
            result = result_of(call, observation, exit_code=code, duration_s=seconds, imported=told or None)
            self._line.act(call, result, took_s=seconds)
            if not self._history:
                self._line.say(replace(result, data={}).message)
        elif observation or extra:
            self._line.note("imported.observation", text=observation, extra_info=extra)

    def rest(self) -> None:
        """What the history holds after the last step's reply: what came of it."""
        self._say(len(self._history))

    def alone(self) -> None:
        """There is nothing but the history."""
        for number, item in enumerate(self._history):
            if _is_reply(item):
                said = [*parts.reasoning(item), *parts.content(item.get("content"), self._writer.losses)]
                self._line.reply(Message("assistant", (*said, *self._calls(item, item))), model=self._model)
                continue
            pending = None if item.get("is_demo") else self._line.take(_id_of(item))
            message = self._message(item, self._before(), f"{self._place}[{number}]")
            if pending is not None:
                self._line.act(pending, result_of(pending, message.text))
            self._line.say(message)

    def _calls(self, item: Mapping[str, Any], step: Mapping[str, Any]) -> list[ToolCall]:
        """As the model made them; an action in text is one call."""
        calls = parts.openai_calls(FORMAT, item, self._line.made_up_id)
        self._names |= {call.id: call.name for call in calls}
        action = document.text(step.get("action"))
        first = action.split(maxsplit=1)
        if calls or not first:
            return calls
        name = first[0] if first[0] in COMMANDS else "bash"
        arguments = {} if action.strip() == name else {"command": action}
        return [parts.tool_call(FORMAT, self._line.made_up_id(), name, arguments)]

    def _reach(self, said: str) -> dict[str, Any] | None:
        """The next reply of this text in the history; the conversation is then what stands before it. None: it was not
        kept there (the model was asked again)."""
        places = self._replies.get(said)
        while places and places[0] < self._next:
            places.popleft()
        if not places:
            later = (n for n in range(self._next, len(self._history)) if _is_reply(self._history[n]))
            self._say(next(later, len(self._history)))
            return None
        number = places.popleft()
        self._say(number)
        self._next = number + 1
        return self._history[number]

    def _say(self, end: int) -> None:
        for number in range(self._next, end):
            item = self._history[number]
            message = self._message(item, self._before(), f"{self._place}[{number}]")
            call = self._line.take(_id_of(item), in_order=False) if message.role == "tool" else None
            if call is not None:  # a step tells only the first
                self._line.act(call, result_of(call, message.text))
            self._line.say(message)
        self._next = max(self._next, end)

    def _before(self) -> Message | None:
        return self._line.conversation[-1] if self._line.conversation else None

    def _sent(self, items: list[dict[str, Any]]) -> list[Message]:
        """What a step says that was sent: its replies are those of the steps before."""
        sent: list[Message] = []
        used: Counter[str] = Counter()
        for item in items:
            said = _text(item.get("content"))
            if _is_reply(item) and used[said] < len(self._said[said]):
                sent.append(self._said[said][used[said]])
                used[said] += 1
            else:
                sent.append(self._message(item, sent[-1] if sent else None, "query"))
        return sent

    def _message(self, item: dict[str, Any], before: Message | None, place: str) -> Message:
        """The same item is the same message, however often it was sent. What the user says after a reply that acted in
        text is what came of that."""
        call = before.tool_calls[0] if before is not None and before.tool_calls else None
        key = json.dumps([item, call and call.id], sort_keys=True)
        if key not in self._known:
            self._known[key] = self._made(item, call, place)
        return self._known[key]

    def _made(self, item: dict[str, Any], call: ToolCall | None, place: str) -> Message:
        roles: dict[Any, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant",
                                  "tool": "tool"}  # fmt: skip
        role = roles.get(item["role"]) if isinstance(item.get("role"), str) else None
        if role is None:
            raise ConversionError(f"{place}: a message of role {item.get('role')!r}")
        said = tuple(parts.content(item.get("content"), self._writer.losses))
        if role == "assistant":
            calls = parts.openai_calls(FORMAT, item, self._line.made_up_id)
            return Message("assistant", (*parts.reasoning(item), *said, *calls))
        if role == "user" and call is not None and not item.get("is_demo"):
            self._writer.losses.add(parts.AS_USER)
            role = "tool"
        if role == "tool":
            id = _id_of(item) or (call.id if call else "")
            name = self._names.get(id) or (call.name if call else "unnamed")
            return Message("tool", (ToolResult(id, name, said),))  # type: ignore[arg-type]
        return Message(role, said)


def _text(content: Any) -> str:
    """The words of a message, which a step tells as its response."""
    if not isinstance(content, list):
        return document.text(content)
    return "\n".join(document.text(part["text"]) for part in content if isinstance(part, dict) and "text" in part)


def _is_reply(item: Mapping[str, Any]) -> bool:
    return item.get("role") == "assistant" and not item.get("is_demo")


def _id_of(item: Mapping[str, Any]) -> str:
    ids = item.get("tool_call_ids")
    return document.word(ids[0]) if isinstance(ids, list) and ids else document.word(item.get("tool_call_id"))


def _state(state: Any) -> dict[str, Any]:
    """An object, or (before 1.0) a JSON text."""
    if isinstance(state, str) and state.strip():
        try:
            state = document.parse(state.encode("utf-8", "replace"), "state")
        except ConversionError:
            return {"text": state}
    return document.mapping(state)
