"""A model around another one, which can do whatever that one can do besides (`HasWindow`, `CountsTokens`, ...)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import cache
from typing import Any, TypeVar, cast

from trellis.models.messages import Message
from trellis.models.model import (
    Compacts,
    CountsTokens,
    GenerateConfig,
    HasWindow,
    Model,
    Priced,
    Reply,
    TokenCount,
    ToolSpec,
)


class Wrapper:
    """Passes everything on. What changes it overrides `around` (or `generate`), and is made with `wrap`."""

    def __init__(self, inner: Model) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        return self.inner.name

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        return await self.around(
            messages, tools, config, lambda: self.inner.generate(messages, tools=tools, config=config)
        )

    async def around(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        config: GenerateConfig,
        ask: Callable[[], Awaitable[Reply]],
    ) -> Reply:
        """What happens around every call that is paid for: answers, and the provider's compaction."""
        return await ask()

    async def close(self) -> None:
        if release := getattr(self.inner, "close", None):
            await release()


class _Window(Wrapper):
    @property
    def context_tokens(self) -> int | None:
        return cast(HasWindow, self.inner).context_tokens

    @property
    def max_output_tokens(self) -> int | None:
        return cast(HasWindow, self.inner).max_output_tokens


class _Counting(Wrapper):
    async def count_tokens(self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = ()) -> TokenCount:
        return await cast(CountsTokens, self.inner).count_tokens(messages, tools=tools)


class _Compacting(Wrapper):
    async def compact(self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = ()) -> Reply:
        inner = cast(Compacts, self.inner)
        return await self.around(messages, tools, GenerateConfig(), lambda: inner.compact(messages, tools=tools))


class _Pricing(Wrapper):
    def worst_case_usd(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> float | None:
        return cast(Priced, self.inner).worst_case_usd(messages, tools=tools, config=config)


_CAPABILITIES: tuple[tuple[Any, type[Wrapper]], ...] = (
    (HasWindow, _Window),
    (CountsTokens, _Counting),
    (Compacts, _Compacting),
    (Priced, _Pricing),
)

W = TypeVar("W", bound=Wrapper)


def wrap(kind: type[W], inner: Model, *arguments: Any) -> W:
    """`kind(inner, *arguments)`, with the capabilities that `inner` has."""
    mixins = tuple(mixin for protocol, mixin in _CAPABILITIES if isinstance(inner, protocol))
    return cast(W, _class(cast(Hashable, kind), mixins)(inner, *arguments))


@cache
def _class(kind: Hashable, mixins: tuple[type[Wrapper], ...]) -> Callable[..., Wrapper]:
    assert isinstance(kind, type)
    bases = mixins if kind is Wrapper and mixins else (kind, *mixins)
    return type(kind.__name__, bases, {"__module__": kind.__module__})


def innermost(model: Model) -> Model:
    """The model that all wrappers are around."""
    while isinstance(model, Wrapper):
        model = model.inner
    return model
