"""What a conversation, and an edit of one, must be like."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trellis.models.legality import edit_problems, neutral, problems
from trellis.models.messages import Message, Reasoning, Text, ToolCall, ToolResult, assistant, system, user

THOUGHT = Reasoning("Hm.", {"provider": "anthropic", "item": {"type": "thinking", "signature": "s"}})
CALLS = [ToolCall(f"c{n}", "t", raw={"provider": "anthropic", "item": {"type": "tool_use"}}) for n in range(2)]
PAST = assistant(Text("The past.", {"provider": "anthropic", "item": {"type": "compaction"}}))


def result(call: ToolCall) -> Message:
    return ToolResult(call.id, call.name, (Text("done"),)).message


LEGAL = [system("S"), user("Go."), assistant(THOUGHT, *CALLS), *map(result, CALLS), assistant(), user("And?")]


@pytest.mark.parametrize("messages", [LEGAL, LEGAL[:-2], [system("S"), PAST, user("Go on.")], [*LEGAL, system("!")]])
def test_legal(messages: list[Message]) -> None:
    assert problems(messages) == []


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([system("S")], "nothing to answer"),
        (LEGAL[2:], "the first turn is the assistant's"),
        (LEGAL[3:], "the first turn is the tool's"),
        (LEGAL[:-1], "the last turn is the assistant's"),
        ([*LEGAL, user()], "message 7 (user) says nothing"),
        ([*LEGAL, user(" ", "")], "message 7 (user) says nothing"),
        ([*LEGAL[:4], LEGAL[6]], "the call c1 has no result before message 4 (user)"),
        (LEGAL[:4], "the call c1 has no result at the end"),
        ([*LEGAL[:5], LEGAL[4]], "answers the call c1, which is not open"),
        ([user("Go."), assistant(CALLS[0], CALLS[0]), result(CALLS[0])], "two calls with the id c0"),
        ([user("Go.", THOUGHT)], "has a part of type Reasoning"),
        ([user("Go."), Message("tool", (Text("x"),))], "has a part of type Text"),
    ],
)
def test_illegal(messages: list[Message], said: str) -> None:
    assert any(said in problem for problem in problems(messages)), problems(messages)


def test_edits_keep_replies_whole() -> None:
    reply = LEGAL[2]
    trimmed = [*LEGAL[:3], replace(LEGAL[3], parts=(ToolResult("c0", "t", (Text("..."),)),)), *LEGAL[4:]]
    assert edit_problems(LEGAL, trimmed) == []
    assert edit_problems(LEGAL, [LEGAL[0], LEGAL[1], neutral(reply), *LEGAL[3:]]) == []
    assert edit_problems(LEGAL, [LEGAL[0], LEGAL[1], LEGAL[-1]]) == []
    assert edit_problems(LEGAL, [LEGAL[0], PAST, LEGAL[-1]]) == []
    cut = [*LEGAL[:2], Message("assistant", reply.parts[1:]), *LEGAL[3:]]
    assert "a part of a reply" in edit_problems(LEGAL, cut)[0]
    assert "no result" in edit_problems(LEGAL, [*LEGAL[:3], LEGAL[4], *LEGAL[5:]])[0]


def test_replies_keep_their_order() -> None:
    replies = [assistant(replace(THOUGHT, text=f"{n}"), Text("Yes.")) for n in range(2)]
    before = [user("a"), replies[0], user("b"), replies[1], user("c")]
    after = [user("a"), replies[1], user("b"), replies[0], user("c")]
    assert "has changed its place" in edit_problems(before, after)[0]
