"""What an agent may do without asking: rules by tool and by what the call says, and the seam to whoever is asked.

A rule of patterns keeps an agent from mishaps, not from malice: `rm  -rf` with two spaces is another text. What holds
is the isolation of its world.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from trellis.models.messages import ToolCall

Action = Literal["allow", "deny", "ask"]


class Rule(BaseModel):
    """What happens to a tool call that it matches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: str = Field(default="*", min_length=1)
    """Glob over the tool's name."""
    pattern: str = "*"
    """Glob over what the call says: one of its texts must match as a whole (see `texts`)."""
    action: Action
    reason: str = ""
    """Told to the model where the call is denied."""

    def matches(self, call: ToolCall) -> bool:
        if not fnmatchcase(call.name, self.tool):
            return False
        return self.pattern == "*" or any(fnmatchcase(text, self.pattern) for text in texts(call))


@dataclass(frozen=True, slots=True)
class Decision:
    """May the call be made, and who says so."""

    allowed: bool
    reason: str = ""
    by: Literal["default", "rule", "user"] = "default"
    rule: int | None = None
    """Which rule matched, counted from 1."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def refusal(self) -> str:
        """What the model is told of a call that was not allowed."""
        who = "the user declined this call" if self.by == "user" else "this call is not allowed here"
        why = f": {self.reason.rstrip('.')}" if self.reason else ""
        return f"{who}{why}. Nothing was done: find another way, or go on without it."


class Approve(Protocol):
    """Decides on a tool call before it is made."""

    async def __call__(self, call: ToolCall, branch: str) -> Decision: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """Ordered rules, of which the first that matches counts; what none matches is allowed. An `Approve`."""

    rules: Sequence[Rule]
    ask: Approve | None = None
    """Decides where a rule says "ask"."""

    async def __call__(self, call: ToolCall, branch: str) -> Decision:
        for number, rule in enumerate(self.rules, 1):
            if not rule.matches(call):
                continue
            if rule.action != "ask":
                return Decision(rule.action == "allow", rule.reason, "rule", number)
            if self.ask is None:
                raise ValueError(f"rule {number} says ask, and there is nobody to be asked")
            answer = await self.ask(call, branch)
            return Decision(answer.allowed, answer.reason, answer.by, number)
        return Decision(True)


def texts(call: ToolCall) -> Iterator[str]:
    """What a pattern is matched against: each text in the arguments by itself, also inside lists and tables; every
    other value as JSON (`true`, `120`); arguments that are no JSON object, as the model wrote them."""
    if call.malformed:
        yield call.malformed
    yield from _texts(call.arguments)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from _texts(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from _texts(member)
    else:
        yield json.dumps(value)
