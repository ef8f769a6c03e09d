"""mini-swe-agent: `.traj.json` of version 1 (actions in fenced blocks) and 2 (tool calls); bare lists of messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trellis.models.messages import Message, Part, Reasoning, Role, Text, ToolCall, ToolResult
from trellis.models.model import Usage
from trellis.trajectories.converters import document, parts
from trellis.trajectories.converters.converter import ConversionError
from trellis.trajectories.converters.line import result_of
from trellis.trajectories.converters.native import Identity, Source, Target, Writer

FORMAT = "mini-swe-agent"
_FENCES = ("```mswea_bash_command", "```bash", "```sh")
_MARKER = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
PAYLOADS = "raw replies of the provider"


def fits(value: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(value.get("messages"), list) and (
            str(value.get("trajectory_format", "")).startswith(FORMAT)
            or "mini_version" in document.mapping(value.get("info"))
        )
    return (
        isinstance(value, list) and bool(value) and all(isinstance(item, dict) and "role" in item for item in value[:3])
    )


def read(source: Source, target: Target) -> None:
    data = source.document if isinstance(source.document, dict) else {"messages": source.document}
    info = document.mapping(data.get("info"))
    config, stats = document.mapping(info.get("config")), document.mapping(info.get("model_stats"))
    model = document.word(document.mapping(config.get("model")).get("model_name"))
    environment = document.mapping(config.get("environment"))
    identity = Identity(
        FORMAT,
        task=document.word(data.get("instance_id") or info.get("instance_id")) or source.stem,
        agent=FORMAT,
        version=document.word(data.get("trajectory_format")).removeprefix(f"{FORMAT}-"),
        models={"main": model} if model else {},
        outcome=document.word(info.get("exit_status")),
        more={
            "agent_version": document.word(info.get("mini_version")),
            "environment": document.without(environment, "env"),
            "config": document.without(document.mapping(config.get("agent"))),
            "info": document.without(info, "config", "model_stats", "submission", "exit_status", "mini_version"),
        },
    )
    messages = document.objects(data.get("messages"), "messages")
    with target.episode(identity) as writer:
        _Walk(writer, model).messages(messages)
        writer.messages = len(messages)
        writer.total(Usage(), document.cost(stats.get("instance_cost")))
        writer.submit_text(document.text(info.get("submission")))


class _Walk:
    """Goes through the messages in order."""

    def __init__(self, writer: Writer, model: str) -> None:
        self._writer = writer
        self._line = writer.line()
        self._model = model

    def messages(self, messages: list[dict[str, Any]]) -> None:
        for number, item in enumerate(messages):
            extra = document.mapping(item.get("extra"))
            role = item.get("role")
            if role == "assistant" or item.get("object") == "response":
                self._reply(item, extra)
            elif item.get("type") == "function_call_output":
                self._observation(item.get("call_id"), item.get("output"), extra, role="tool")
            elif role == "tool":
                self._observation(item.get("tool_call_id"), item.get("content"), extra, role="tool")
            elif role == "exit":
                self._line.note("imported.exit", content=document.text(item.get("content")), extra=_kept(extra))
            elif role in ("system", "user", "developer"):
                self._said(item, extra, "user" if role == "user" else "system")
            else:
                raise ConversionError(f"messages[{number}]: a message of role {role!r}")

    def _said(self, item: Mapping[str, Any], extra: Mapping[str, Any], role: Role) -> None:
        if response := document.mapping(extra.get("response")):
            self._unparsed(response, extra)  # the reply had no usable action, and only its complaint was kept
        elif role == "user" and self._line.pending and "interrupt_type" not in extra:
            self._observation(None, item.get("content"), extra, role="user")
            return
        self._line.say(Message(role, tuple(parts.content(item.get("content"), self._writer.losses))))

    def _reply(self, item: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
        response = document.mapping(extra.get("response")) or (item if item.get("object") == "response" else {})
        made = self._made(item, extra)
        self._line.reply(
            Message("assistant", tuple(made)),
            model=document.word(response.get("model")) or self._model,
            usage=parts.openai_usage(response.get("usage")),
            cost_usd=document.cost(extra.get("cost")),
            stop_reason=_stop(response),
            ended_at=document.when(extra.get("timestamp")),
        )
        self._writer.losses.add(PAYLOADS, int(bool(response)))

    def _unparsed(self, response: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
        item = response if response.get("object") == "response" else _choice(response).get("message")
        self._line.reply(
            Message("assistant", tuple(self._made(document.mapping(item), {}, acts=False))),
            model=document.word(response.get("model")) or self._model,
            usage=parts.openai_usage(response.get("usage")),
            cost_usd=document.cost(extra.get("cost")),
            stop_reason=_stop(response),
            remembered=False,
        )
        self._line.pending = []  # they were not carried out
        self._writer.messages -= 1
        self._writer.losses.add(PAYLOADS)

    def _made(self, item: Mapping[str, Any], extra: Mapping[str, Any], *, acts: bool = True) -> list[Part]:
        """The parts of a reply; what it does in text only becomes a call."""
        if item.get("object") == "response":
            return self._responses(item)
        made = [*parts.reasoning(item), *parts.content(item.get("content"), self._writer.losses)]
        calls = parts.openai_calls(FORMAT, item, self._line.made_up_id)
        if not calls and acts:
            calls = [self._shell(command) for command in _commands(item, extra)]
        return [*made, *calls]

    def _responses(self, item: Mapping[str, Any]) -> list[Part]:
        made: list[Part] = []
        for output in document.objects(item.get("output"), "output"):
            match output.get("type"):
                case "function_call":
                    id = document.word(output.get("call_id") or output.get("id")) or self._line.made_up_id()
                    name = document.word(output.get("name")) or "unnamed"
                    made.append(parts.tool_call(FORMAT, id, name, output.get("arguments")))
                case "reasoning":
                    shown = [document.text(document.mapping(part).get("text"))
                             for part in document.sequence(output.get("summary"))]  # fmt: skip
                    made.append(Reasoning("\n".join(shown), {"provider": "openai", "item": output}))
                case "message":
                    made += parts.content(output.get("content"), self._writer.losses)
        return made

    def _shell(self, command: str) -> ToolCall:
        return parts.tool_call(FORMAT, self._line.made_up_id(), "bash", {"command": command})

    def _observation(self, call_id: Any, content: Any, extra: Mapping[str, Any], *, role: Role) -> None:
        line, seen = self._line, parts.content(content, self._writer.losses)
        shown = "\n".join(part.text for part in seen if isinstance(part, Text))
        call = line.take(document.word(call_id))
        if call is None:
            self._writer.losses.add("results of no tool call (kept as messages)")
            line.say(Message("user", tuple(seen)))
            return
        output, code = _output(shown)
        if code is None and _MARKER in str(call.arguments.get("command")):
            output = f"{_MARKER}\n{output}"  # mini-swe-agent keeps what comes after this line of the output
        if isinstance(extra.get("raw_output"), str):
            output = extra["raw_output"]
        if extra.get("returncode") is not None:
            code = document.number(extra["returncode"])
        failed = bool(extra.get("exception_info"))
        result = result_of(call, output, is_error=failed,
                           exit_code=None if code is None else int(code), imported=_kept(extra) or None)  # fmt: skip
        line.act(call, result, ended_at=document.when(extra.get("timestamp")))
        self._writer.losses.add(parts.AS_USER, int(role == "user"))
        line.say(Message("tool", (ToolResult(call.id, call.name, tuple(seen), failed),)))  # type: ignore[arg-type]


def _kept(extra: Mapping[str, Any]) -> dict[str, Any]:
    return document.without(extra, "raw_output", "returncode", "timestamp", "response", "actions", "cost")


def _commands(item: Mapping[str, Any], extra: Mapping[str, Any]) -> list[str]:
    """What a reply in text does: as recorded, or the one fenced block in it."""
    if isinstance(extra.get("actions"), list):
        actions = [document.mapping(action).get("command") for action in extra["actions"]]
        return [action for action in actions if isinstance(action, str)]
    found = _fenced(document.text(item.get("content")))
    return found if len(found) == 1 else []


def _fenced(text: str) -> list[str]:
    """The commands in fenced blocks."""
    found: list[str] = []
    block: list[str] | None = None
    for line in text.split("\n"):
        if block is None:
            if line.strip() in _FENCES:
                block = []
        elif line.strip() == "```":
            found.append("\n".join(block).strip())
            block = None
        else:
            block.append(line)
    return found


def _output(shown: str) -> tuple[str, float | None]:
    """The output and the exit code in an observation as the usual template writes it; else the observation itself."""
    head, code = shown.lstrip(), None
    if head.startswith("<returncode>"):
        inner, _, head = head[len("<returncode>") :].partition("</returncode>")
        try:
            code = float(int(inner.strip()[:10]))
        except ValueError:
            code = None
    opened, closed = head.find("<output>"), head.rfind("</output>")
    if code is None or opened < 0 or closed < opened:
        return shown, code
    return head[opened + len("<output>") : closed].removeprefix("\n").removesuffix("\n"), code


def _choice(response: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = document.sequence(response.get("choices"))
    return document.mapping(choices[0]) if choices else {}


def _stop(response: Mapping[str, Any]) -> Any:
    return parts.stop_reason(_choice(response).get("finish_reason"))
