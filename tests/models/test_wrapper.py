from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest

from trellis.models.messages import Message, user
from trellis.models.model import (
    Compacts,
    CountsTokens,
    GenerateConfig,
    HasWindow,
    Priced,
    Reply,
    TokenCount,
    ToolSpec,
)
from trellis.models.scripted import Scripted
from trellis.models.wrapper import Wrapper, wrap

ASK = [user("Hello")]


class Able(Scripted):
    context_tokens = 100
    max_output_tokens = 10

    async def count_tokens(self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = ()) -> TokenCount:
        return TokenCount(7, "provider")

    async def compact(self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = ()) -> Reply:
        return await self.generate(messages, tools=tools)

    def worst_case_usd(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> float | None:
        return 0.5


class Counting(Wrapper):
    def __init__(self, inner: Scripted, log: list[str]) -> None:
        super().__init__(inner)
        self.log = log

    async def around(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        config: GenerateConfig,
        ask: Callable[[], Awaitable[Reply]],
    ) -> Reply:
        self.log.append("before")
        return await ask()


async def test_capabilities_of_the_inner_model_are_there() -> None:
    log: list[str] = []
    model = wrap(Counting, Able(["one", "two"], "test/able"), log)
    outer = wrap(Wrapper, model)
    assert outer.name == "test/able"
    assert isinstance(outer, HasWindow)
    assert (outer.context_tokens, outer.max_output_tokens) == (100, 10)
    assert isinstance(outer, CountsTokens)
    assert await outer.count_tokens(ASK) == TokenCount(7, "provider")
    assert isinstance(outer, Priced)
    assert outer.worst_case_usd(ASK) == 0.5
    assert isinstance(outer, Compacts)
    assert (await outer.generate(ASK)).text == "one"
    assert (await outer.compact(ASK)).text == "two"
    assert log == ["before", "before"], "a compaction is paid for like an answer"


@pytest.mark.parametrize("protocol", [HasWindow, CountsTokens, Compacts, Priced])
async def test_and_others_are_not(protocol: type) -> None:
    model = wrap(Counting, Scripted(["one"]), [])
    assert not isinstance(model, protocol)
    assert isinstance(model, Counting)
    assert (await model.generate(ASK)).text == "one"
