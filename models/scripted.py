"""A strict double for a model: it says what it was told to say, in order, and objects to anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from trellis.models.messages import Message, Text, ToolCall
from trellis.models.model import GenerateConfig, Reply, ToolSpec, Usage
from trellis.models.tokens import estimate_message, estimate_tool

Line: TypeAlias = "str | Message | Reply | ToolCall | Sequence[ToolCall] | BaseException"
"""One scripted answer: a text, a whole message or reply, tool calls, or an exception to raise."""
ScriptItem: TypeAlias = "Line | Callable[[Sequence[Message], Sequence[ToolSpec], GenerateConfig], Line]"
"""An answer, or a function that makes one from what the model was asked."""


class UnexpectedCall(AssertionError):
    """The model was asked once more than the script foresaw."""


@dataclass(frozen=True, slots=True)
class Call:
    """What the model was asked."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    config: GenerateConfig


class Scripted:
    """A model that answers from `replies`, one a call.

    Usage is estimated (`tokens.estimate_usage`), so that token budgets work; a scripted `Reply` keeps its own. The
    price of a scripted reply is 0 USD, which is known.

        model = Scripted(["Hello", ToolCall("1", "shell", {"command": "ls"}), ModelFault("overloaded")])
    """

    def __init__(self, replies: Iterable[ScriptItem], name: str = "scripted") -> None:
        self.name = name
        self.calls: list[Call] = []
        self._replies = list(replies)
        self._meter = _Meter()

    def __repr__(self) -> str:
        return f"Scripted({self.name!r}, {len(self.calls)} of {len(self._replies)} replies given)"

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        """The next scripted reply.

        Raises:
            UnexpectedCall: all replies have been given.
            BaseException: whatever the script says.
        """
        if len(self.calls) >= len(self._replies):
            raise UnexpectedCall(f"{self.name} was asked again after all {len(self._replies)} scripted replies")
        item = self._replies[len(self.calls)]
        self.calls.append(Call(tuple(messages), tuple(tools), config))
        line = item(messages, tools, config) if callable(item) else item
        if isinstance(line, BaseException):
            raise line
        if isinstance(line, Reply):
            return line
        message = _message(line)
        usage = Usage(
            input=self._meter.count(messages) + sum(map(estimate_tool, tools)), output=estimate_message(message)
        )
        return Reply(message, "tool_calls" if message.tool_calls else "stop", usage, cost_usd=0.0)

    def assert_complete(self) -> None:
        """Raises AssertionError if scripted replies are left that nobody asked for."""
        if left := len(self._replies) - len(self.calls):
            raise AssertionError(f"{self.name}: {left} of {len(self._replies)} scripted replies were never asked for")


def _message(line: str | Message | ToolCall | Sequence[ToolCall]) -> Message:
    match line:
        case Message():
            return line
        case str():
            return Message("assistant", (Text(line),))
        case ToolCall():
            return Message("assistant", (line,))
        case _:
            return Message("assistant", tuple(line))


class _Meter:
    """Estimates the tokens of a conversation that grows at its end without counting its beginning again."""

    def __init__(self) -> None:
        self._counted: list[Message] = []
        self._tokens = 0

    def count(self, messages: Sequence[Message]) -> int:
        known = len(self._counted)
        if known and list(messages[:known]) == self._counted:
            new = messages[known:]
        else:
            self._counted, self._tokens, new = [], 0, messages
        self._counted.extend(new)
        self._tokens += sum(map(estimate_message, new))
        return self._tokens
