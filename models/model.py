"""What answers: the protocol of a model, its value types and its exceptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol

from trellis.models.messages import Message, ToolCall

StopReason = Literal["stop", "tool_calls", "length", "refusal"]


class ModelFault(Exception):
    """The provider broke or kept refusing to serve after all retries. Never scored; the episode is retried."""


class ModelRequestError(Exception):
    """The request can never succeed as it is (wrong key, unknown model, bad parameter): no retry. One clear line."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a model is told of a tool. `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}


@dataclass(frozen=True, slots=True)
class GenerateConfig:
    """How to sample. What is None is left to the provider."""

    temperature: float | None = None
    max_output_tokens: int | None = None
    reasoning_effort: Literal["minimal", "low", "medium", "high"] | None = None
    tool_choice: str | None = None
    """None: the model decides. "none", "required", or the name of a tool that must be called."""
    response_schema: Mapping[str, Any] | None = None
    """JSON Schema that the reply's text must satisfy (structured output)."""
    seed: int | None = None
    """Set by the episode for each call; offline policies draw all their randomness from it, providers ignore it."""

    def to_json(self) -> dict[str, Any]:
        """Only what is set."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens by class; the classes do not overlap, except that `reasoning` is the part of `output` spent on it."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.input + self.cache_read + self.cache_write + self.output

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def to_json(self) -> dict[str, int]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `cost_usd` is None when the price is unknown, never 0. `waited_s` is the part of `latency_s` spent
    on back-off and rate limits; it is not charged to the agent's time."""

    message: Message
    stop_reason: StopReason = "stop"
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    latency_s: float = 0.0
    waited_s: float = 0.0

    @property
    def text(self) -> str:
        return self.message.text

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return self.message.tool_calls


class Model(Protocol):
    @property
    def name(self) -> str:
        """ "provider/model", for example "openai/gpt-5" or "offline/tabular"."""
        ...

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        """Answer a list of messages. A refusal is a reply with that stop reason, not an error.

        Raises:
            ModelFault: the provider could not serve the request, after all retries.
            ModelRequestError: the request can never succeed as it is.
        """
        ...
