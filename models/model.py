"""What answers: the protocol of a model, its value types and its exceptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, runtime_checkable

from trellis.models.messages import Message, ToolCall

StopReason = Literal["stop", "tool_calls", "length", "refusal"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How hard to reason; a client takes the nearest that its provider knows."""


class ModelFault(Exception):
    """The provider broke or kept refusing to serve after all retries. Never scored; the episode is retried."""


class ModelRequestError(Exception):
    """The request can never succeed as it is (wrong key, unknown model, bad parameter): no retry. One clear line."""


class ContextOverflow(ModelRequestError):
    """The conversation does not fit into the model's context window. Shortened, it may be asked again."""


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
    reasoning_effort: Effort | None = None
    tool_choice: str | None = None
    """None: the model decides. "none", "required", or the name of a tool that must be called."""
    response_schema: Mapping[str, Any] | None = None
    """JSON Schema that the reply's text must satisfy (structured output)."""
    voice: str | None = None
    """Answer in speech, with this voice (models that speak): the reply has an `Audio` part and its words as text."""
    seed: int | None = None
    """Set by the episode for each call; offline policies draw all their randomness from it, providers ignore it."""

    def to_json(self) -> dict[str, Any]:
        """Only what is set."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens by class, as they are billed. The classes do not overlap, except that `reasoning` is the part of `output`
    spent on it."""

    input: int = 0
    """Text, and whatever the provider does not count apart."""
    cache_read: int = 0
    cache_write: int = 0
    """Written to a cache of the provider's shortest life (Anthropic: five minutes)."""
    cache_write_1h: int = 0
    output: int = 0
    """Text, reasoning included."""
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    image_input: int = 0

    @property
    def total_input(self) -> int:
        """What the model read."""
        return (
            self.input + self.cache_read + self.cache_write + self.cache_write_1h + self.audio_input + self.image_input
        )

    @property
    def total_output(self) -> int:
        """What the model wrote."""
        return self.output + self.audio_output

    @property
    def total(self) -> int:
        return self.total_input + self.total_output

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def to_json(self) -> dict[str, int]:
        """The classes that were used; `Usage(**json)` is the inverse."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name))}


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
    tier: str = ""
    """The provider's service tier where it is not the standard one ("batch", "flex", "priority"): it has its own
    prices."""
    retries: int = 0
    """Attempts that failed before this answer."""
    throttles: int = 0
    """How many of them the provider turned away for asking too often (HTTP 429)."""
    cached: bool = False
    """It came from a cache of replies: `usage` and `cost_usd` are those of the first time, and nobody paid again."""
    dropped: tuple[str, ...] = ()
    """What of the conversation could not be carried to this provider, one line each ("2 signed thinking blocks of
    anthropic"). It is in the log."""

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
            ContextOverflow: the conversation is too long for this model.
        """
        ...


@dataclass(frozen=True, slots=True)
class TokenCount:
    tokens: int
    method: str
    """How it was found: "provider", the name of a vocabulary ("o200k_base"), or "estimate"."""


# --- what some models can do besides ---


@runtime_checkable
class HasWindow(Protocol):
    """A model that knows how much fits into it."""

    @property
    def context_tokens(self) -> int | None:
        """Size of the context window, input and output together; None where unknown."""
        ...

    @property
    def max_output_tokens(self) -> int | None:
        """The longest reply it can give; None where unknown."""
        ...


@runtime_checkable
class CountsTokens(Protocol):
    """A model whose provider counts tokens without answering."""

    async def count_tokens(self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = ()) -> TokenCount:
        """Raises as `Model.generate` does."""
        ...


@runtime_checkable
class Compacts(Protocol):
    """A model whose provider shortens a conversation itself."""

    async def compact(self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = ()) -> Reply:
        """A reply whose message stands for all of `messages` but the system messages at their beginning.

        Raises as `Model.generate` does.
        """
        ...


@runtime_checkable
class Priced(Protocol):
    """A model that knows what a call may cost at most."""

    def worst_case_usd(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> float | None:
        """The price of the input as estimated, and of the longest reply that the call allows; None where a price or
        the longest reply is unknown."""
        ...
