"""`human`: somebody at the terminal takes the place of the model, as a baseline."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from trellis.models.human_arguments import problem_of, value_of
from trellis.models.messages import (
    Media,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    message_to_json,
)
from trellis.models.model import GenerateConfig, ModelRequestError, Reply, ToolSpec
from trellis.models.terminal import at_terminal, behind, columns, forget_typed, read_line, visible
from trellis.models.tokens import estimate_usage

_FENCE = '"""'
_HELP = (
    f"TEXT answers with that line · {_FENCE} begins a text of several lines, {_FENCE} ends it · "
    "/TOOL uses a tool · /? lists the tools"
)


class _TheEnd(Exception):
    """The input has ended."""


class Human:
    """Somebody at the terminal. One question at a time, whatever runs beside it.

    Usage is estimated. A human has no list price: the cost is the time taken at `usd_per_hour`, 0 by default. That time
    is the baseline's work and counts against its time budget; waiting until the terminal is free does not.
    """

    name = "human"

    def __init__(self, usd_per_hour: float = 0.0) -> None:
        """Raises ModelRequestError: there is no terminal."""
        if not at_terminal():
            raise ModelRequestError(
                "human answers at a terminal, and there is none (standard input and error): run this in one"
            )
        self._usd_per_hour = usd_per_hour
        self._aside: Callable[[], AbstractContextManager[None]] = nullcontext
        self._turn = asyncio.Lock()
        self._shown: set[str] = set()
        """Beginnings of conversations that were shown, by digest."""
        self._pictures: Path | None = None

    def share_terminal(self, aside: Callable[[], AbstractContextManager[None]], turn: asyncio.Lock) -> None:
        """Within `aside()` nothing else is drawn; who holds `turn` has the terminal."""
        self._aside, self._turn = aside, turn

    async def close(self) -> None:
        if self._pictures:
            shutil.rmtree(self._pictures, ignore_errors=True)
            self._pictures = None

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        """See `Model.generate`. The end of the input interrupts the process, as Ctrl-C does."""
        asked = time.monotonic()
        async with self._turn:
            began = time.monotonic()
            with self._aside():
                try:
                    message = await self._answer(messages, tools, config)
                except _TheEnd:
                    signal.raise_signal(signal.SIGINT)
                    await asyncio.sleep(3600)  # until whoever handles the signal ends this
                    raise ModelRequestError("human: the input has ended") from None
            now = time.monotonic()
        cost_usd = (now - began) / 3600 * self._usd_per_hour
        usage = estimate_usage(messages, message, tools)
        waiting = (now - asked, began - asked)
        return Reply(message, "tool_calls" if message.tool_calls else "stop", usage, cost_usd, *waiting)

    # --- to the human ---

    async def _answer(self, messages: Sequence[Message], tools: Sequence[ToolSpec], config: GenerateConfig) -> Message:
        _say(self._described(messages, tools))
        forget_typed()
        offered = {tool.name: tool for tool in tools} if config.tool_choice != "none" else {}
        while True:
            answer = await self._entry(offered, f"call_human_{len(messages)}")
            if problem := _unfit(answer, config):
                _say(problem)
            elif answer:
                return assistant(answer)

    def _described(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> str:
        """What is new since the last call. Whatever others wrote is made visible and stands behind a bar: it can
        neither steer the terminal nor pass for a question."""
        lines = ["", "─── your turn ───"]
        for message in self._new(messages):
            for part in message.parts:
                lines += self._part(message.role, part)
        if tools:
            lines.append(f"tools: {', '.join(visible(tool.name) for tool in tools)}")
        short = " · ! COMMAND runs it in the shell" if any(tool.name == "shell" for tool in tools) else ""
        return "\n".join([*lines, _HELP + short])

    def _new(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Those after the longest beginning that was shown already, and after the human's own last answer."""
        digest, first = hashlib.sha256(), 0
        for number, message in enumerate(messages, 1):
            content = message_to_json(message, lambda data: hashlib.sha256(data).hexdigest())
            digest.update(json.dumps(content, sort_keys=True, default=str).encode())
            if (name := digest.hexdigest()) in self._shown:
                first = number
            self._shown.add(name)
        if first == len(messages):  # the same question again: another attempt at it
            return messages
        return messages[first + (first > 0 and messages[first].role == "assistant") :]

    def _part(self, role: str, part: Part) -> list[str]:
        match part:
            case Text(text):
                return [f"{role}:", *_barred(text)]
            case Reasoning():
                return []
            case ToolCall():
                given = part.malformed or json.dumps(dict(part.arguments), ensure_ascii=False)
                return [f"{role} used {visible(part.name)}:", *_barred(given)]
            case ToolResult():
                head = f"result of {visible(part.name)}{' (an error)' if part.is_error else ''}:"
                return [head, *_barred(part.text), *(line for p in part.parts if isinstance(p, Media)
                                                     for line in self._part(role, p))]  # fmt: skip
            case Media():
                return [f"{role}: {visible(part.media_type)}, to be opened at {self._saved(part)}"]

    def _saved(self, medium: Media) -> Path:
        """A file that shows the medium, until the model is closed."""
        if self._pictures is None:
            self._pictures = Path(tempfile.mkdtemp(prefix="trellis-human-"))
        kind = "".join(c for c in medium.media_type.rpartition("/")[2] if c.isalnum())[:12]
        path = self._pictures / f"{hashlib.sha256(medium.data).hexdigest()[:12]}.{kind or 'bin'}"
        path.write_bytes(medium.data)
        return path

    # --- from the human ---

    async def _entry(self, tools: dict[str, ToolSpec], call_id: str) -> str | ToolCall:
        """One answer; empty where there is none yet."""
        line = await _typed("> ")
        word, _, rest = line.strip().partition(" ")
        if word == "/?":
            _say("\n".join(_listed(tool) for tool in tools.values()) or "no tools")
            return ""
        if word.startswith("!") and "shell" in tools:
            command = line.strip()[1:].strip()
            return ToolCall(call_id, "shell", {"command": command}) if command else ""
        if word.startswith("/"):
            if word[1:] not in tools:
                _say(f"there is no tool {visible(word[1:])!r}; there are: {', '.join(map(visible, tools)) or 'none'}")
                return ""
            arguments = await _arguments(tools[word[1:]], rest.strip())
            return "" if arguments is None else ToolCall(call_id, word[1:], arguments)
        return await _rest_of(line)


def _listed(tool: ToolSpec) -> str:
    return f"/{visible(tool.name)}\n" + "\n".join(_barred(tool.description))


def _barred(text: str) -> list[str]:
    return behind("  | ", text, columns())


def _unfit(answer: str | ToolCall, config: GenerateConfig) -> str:
    """Why this is not what was asked for; empty if it is, or if nothing was said."""
    wanted = config.tool_choice
    if not answer or isinstance(answer, ToolCall):
        wrong = isinstance(answer, ToolCall) and wanted not in (None, "none", "required", answer.name)
        return f"the tool {visible(str(wanted))} must be used now" if wrong else ""
    if wanted not in (None, "none"):
        return (
            "a tool must be used now" if wanted == "required" else f"the tool {visible(str(wanted))} must be used now"
        )
    if config.response_schema is not None:
        try:
            value = json.loads(answer)
        except ValueError as error:
            return f"this must be JSON: {error}"
        if problem := problem_of(value, config.response_schema):
            schema = json.dumps(dict(config.response_schema), ensure_ascii=False)
            return f"{problem}; the answer must fit {visible(schema)}"
    return ""


async def _arguments(tool: ToolSpec, given: str) -> dict[str, Any] | None:
    """The arguments of a call: as JSON behind the tool's name, or asked for one by one. None: it is given up."""
    schema = tool.parameters
    properties: dict[str, Any] = dict(schema.get("properties", {}))
    required = set(schema.get("required", ()))
    if given:
        try:
            value = json.loads(given)
        except ValueError as error:
            _say(f"behind the name of a tool stand its arguments as a JSON object, or nothing: {error}")
            return None
        if problem := problem_of(value, {"type": "object", **schema}):
            _say(problem)
            return None
        return dict(value)
    arguments: dict[str, Any] = {}
    for name in sorted(properties, key=lambda name: name not in required):
        said = " ".join(visible(str(properties[name].get("description", ""))).split())
        how = "required" if name in required else "may be left empty"
        _say(f"{visible(name)} ({how}): {said}")
        while True:
            text = await _rest_of(await _typed(f"  {visible(name)}> "))
            if not text and name not in required:
                break
            arguments[name], problem = value_of(text, properties[name])
            if not problem:
                break
            _say(f"  {problem}")
    return arguments


async def _rest_of(line: str) -> str:
    """A text that may go on over several lines."""
    if not line.strip().startswith(_FENCE):
        return line.strip()
    lines = [line.strip().removeprefix(_FENCE)]
    while not lines[-1].rstrip().endswith(_FENCE) or (len(lines) == 1 and not lines[0]):
        lines.append(await _typed("… "))
    lines[-1] = lines[-1].rstrip().removesuffix(_FENCE)
    return "\n".join(lines[not lines[0] :]).removesuffix("\n")


async def _typed(prompt: str) -> str:
    line = await read_line(prompt)
    if line is None:
        raise _TheEnd
    return line


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
