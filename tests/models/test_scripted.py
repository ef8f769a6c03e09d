from __future__ import annotations

import pytest

from trellis.models.messages import Message, ToolCall, assistant, system, user
from trellis.models.model import GenerateConfig, ModelFault, Reply, ToolSpec, Usage
from trellis.models.scripted import Scripted, UnexpectedCall
from trellis.models.tokens import estimate_usage

TOOL = ToolSpec("shell", "Run a command.", {"type": "object", "properties": {}})
LS = ToolCall("1", "shell", {"command": "ls"})


async def test_every_kind_of_reply() -> None:
    whole = Reply(assistant("whole"), "length", Usage(1, 2, 3, 4), cost_usd=0.5)
    model = Scripted(["text", assistant("message"), whole, LS, [LS, LS], lambda m, t, c: f"{len(m)} {len(t)} {c.seed}"])

    async def ask() -> Reply:
        return await model.generate([user("Hi")], tools=[TOOL], config=GenerateConfig(seed=7))

    replies = [await ask() for _ in range(6)]
    assert [reply.text for reply in replies] == ["text", "message", "whole", "", "", "1 1 7"]
    assert [reply.stop_reason for reply in replies] == ["stop", "stop", "length", "tool_calls", "tool_calls", "stop"]
    assert replies[2] is whole
    assert replies[4].tool_calls == (LS, LS)
    model.assert_complete()


async def test_raises_what_it_is_told_to() -> None:
    fault = ModelFault("overloaded")
    model = Scripted([fault, lambda m, t, c: fault, "then fine"])
    for _ in range(2):
        with pytest.raises(ModelFault, match="overloaded"):
            await model.generate([user("Hi")])
    assert (await model.generate([user("Hi")])).text == "then fine"


async def test_strict() -> None:
    model = Scripted(["one", "two"], name="double")
    await model.generate([user("Hi")])
    with pytest.raises(AssertionError, match="double: 1 of 2 scripted replies were never asked for"):
        model.assert_complete()
    await model.generate([user("Hi")])
    model.assert_complete()
    with pytest.raises(UnexpectedCall, match="after all 2 scripted replies"):
        await model.generate([user("Hi")])


async def test_records_what_it_was_asked() -> None:
    model = Scripted(["a", "b"])
    messages = [user("Hi")]
    config = GenerateConfig(temperature=0.0)
    messages.append((await model.generate(messages, tools=[TOOL], config=config)).message)
    await model.generate(messages)
    assert model.calls[0].messages == (user("Hi"),)
    assert (model.calls[0].tools, model.calls[0].config) == ((TOOL,), config)
    assert model.calls[1].messages == (user("Hi"), assistant("a"))


async def test_usage_grows_with_the_conversation_and_survives_another_one() -> None:
    """The running count equals a fresh one, also when conversations alternate or are cut."""
    model = Scripted(lambda m, t, c: "x" * len(m) for _ in range(12))
    long: list[Message] = [system("s" * 40)]
    short = [user("other" * 9)]
    for round_ in range(4):
        for conversation in (long, short, long[: round_ + 1]):
            reply = await model.generate(conversation, tools=[TOOL])
            assert reply.usage == estimate_usage(conversation, reply.message, [TOOL])
        long.append(user("more " * round_))
