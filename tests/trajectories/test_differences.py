"""What is different between two requests, as people read it."""

from typing import Any

from trellis.models.messages import Image, Message, Reasoning, Text, ToolCall, ToolResult, assistant, system, user
from trellis.models.model import ToolSpec
from trellis.trajectories.differences import Difference, differences, shown
from trellis.trajectories.source import Request

SHELL = ToolSpec("shell", "Run a command.", {"type": "object", "properties": {"command": {"type": "string"}}})


def request(*messages: Message, tools: tuple[ToolSpec, ...] = (SHELL,), role: str = "main", **config: Any) -> Request:
    return Request(role, messages, tools, config)


def told(was: Request, now: Request) -> list[tuple[str, str]]:
    return [(each.what, each.how) for each in differences(was, now)]


TALK = (system("s"), user("one"), assistant("two"), user("three"), assistant("four"))


def test_the_same_is_no_difference() -> None:
    assert differences(request(*TALK, seed=1), request(*TALK, seed=1)) == []


def test_messages_that_come_go_and_move() -> None:
    s, one, two, three, four = TALK
    assert told(request(*TALK), request(s, one, user("more"), two, three, four)) == [("message 3 of 6, user", "added")]
    assert told(request(*TALK), request(s, one, three, four)) == [("message 3 of 5, assistant as recorded", "removed")]
    assert told(request(*TALK), request(s, three, one, two, four)) == [
        ("message 2 of 5, user (it was message 4 of 5)", "moved")
    ]
    assert told(request(*TALK), request(s, one, two, user("3"), four)) == [("message 4 of 5, user", "changed")]
    assert told(request(*TALK), request(*TALK[:3])) == [
        ("message 4 of 5, user as recorded", "removed"), ("message 5 of 5, assistant as recorded", "removed"),
    ]  # fmt: skip
    assert told(request(one, two), request(user("x"), two)) == [("message 1 of 2, user", "changed")]
    assert sorted(told(request(one), request(system("one")))) == [
        ("message 1 of 1, system", "added"), ("message 1 of 1, user as recorded", "removed"),
    ]  # fmt: skip


def test_a_word_in_a_long_text_stands_out() -> None:
    words = [f"word{number}" for number in range(400)]
    text = "\n".join(["first", " ".join(words), "last"])
    (found,) = differences(request(user(text)), request(user(text.replace("word200", "other"))))
    assert 6 <= len(found.lines) <= 8
    assert max(map(len, found.lines)) <= 122
    assert any(line.startswith("-") and "word200" in line for line in found.lines)
    assert any(line.startswith("+") and "other" in line for line in found.lines)


def test_a_conversation_of_thousands_is_compared_at_once() -> None:
    talk = [user(f"message {number} " + "x" * 100) for number in range(4000)]
    edited = [*talk[:1000], user("in between"), *talk[1000:2000], user("another"), *talk[2001:]]
    assert told(request(*talk), request(*edited)) == [
        ("message 1001 of 4001, user", "added"), ("message 2002 of 4001, user", "changed"),
    ]  # fmt: skip


def test_a_line_without_end_is_compared_at_once() -> None:
    (found,) = differences(request(user("x" * 5_000_000)), request(user("x" * 2_000_000 + "y" + "x" * 2_999_999)))
    assert found.how == "changed"
    assert len(found.lines) < 20


def test_parts_that_are_no_text() -> None:
    call = ToolCall("c1", "shell", {"command": "ls\npwd", "timeout_s": 5})
    was = assistant(Reasoning("hm"), Text("I look."), call)
    now = assistant(Reasoning("hm"), Text("I look."), ToolCall("c1", "shell", {"command": "ls\nid", "timeout_s": 5}))
    assert [line for line in differences(request(was), request(now))[0].lines if line[0] in "+-"] == ["-  pwd", "+  id"]
    result = ToolResult("c1", "shell", (Text("a"), Image(b"12", "image/png")))
    other = ToolResult("c1", "shell", (Text("a"), Image(b"123", "image/png")), is_error=True)
    assert differences(request(result.message), request(other.message))[0].lines == (
        "@@ -1,3 +1,3 @@",
        "-[result of shell, c1]",
        "+[result of shell, c1, an error]",
        " a",
        "-[image/png, 2 bytes, 6b51d431df5d]",
        "+[image/png, 3 bytes, a665a4592042]",
    )


def test_what_cannot_be_read_differs_all_the_same() -> None:
    was = assistant(Text("hi", raw={"provider": "p", "item": {"id": 1}}))
    now = assistant(Text("hi", raw={"provider": "p", "item": {"id": 2}}))
    (found,) = differences(request(was), request(now))
    assert ('-          "id": 1' in found.lines, found.how) == (True, "changed")


def test_tools() -> None:
    schema = {"type": "object", "properties": {"command": {"type": "string", "maxLength": 9}}}
    changed = ToolSpec("shell", "Run it.", schema)
    found = {each.what: each for each in differences(request(user("a")), request(user("a"), tools=(changed,)))}
    assert found["tool shell: description"].lines == ("-Run a command.", "+Run it.")
    assert '+      "maxLength": 9,' in found["tool shell: schema"].lines
    submit = ToolSpec("submit", "Hand in.", {})
    assert differences(request(), request(tools=(SHELL, submit))) == [
        Difference("tool submit", "added", ("+Hand in.",))
    ]
    assert told(request(tools=(SHELL, submit)), request(tools=(submit,))) == [("tool shell", "removed")]
    assert differences(request(tools=(SHELL, submit)), request(tools=(submit, SHELL))) == [
        Difference("order of the tools", "changed", ("-shell, submit", "+submit, shell"))
    ]


def test_settings_and_role() -> None:
    found = differences(request(temperature=0.5, seed=1), request(role="review", temperature=0.7, voice="x"))
    assert found == [
        Difference("role", "changed", ("-main", "+review")),
        Difference("setting temperature", "changed", ("-0.5", "+0.7")),
        Difference("setting seed", "removed", ("-1",)),
        Difference("setting voice", "added", ("+x",)),
    ]


def test_other_effects() -> None:
    was = {"kind": "tool_call", "id": "1", "name": "shell", "arguments": {"command": "ls", "timeout_s": 5}}
    now = {"kind": "tool_call", "id": "1", "name": "python", "arguments": {"code": "1", "timeout_s": 6}}
    assert [(each.what, each.how) for each in differences(was, now)] == [
        ("tool", "changed"), ("argument timeout_s", "changed"), ("argument code", "added"),
        ("argument command", "removed"),
    ]  # fmt: skip
    assert differences({"answer": "a"}, {"answer": "b"}) == [Difference("answer", "changed", ("-a", "+b"))]
    assert shown(was) == ["tool: shell", "argument command: ls", "argument timeout_s: 5", "call: 1"]
