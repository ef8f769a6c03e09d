"""Whatever is left out of whatever conversation: it stays legal, becomes shorter, and keeps what must stay."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from trellis.models.conformance import solid_png
from trellis.models.legality import edit_problems, problems
from trellis.models.messages import Message, Reasoning, Text, ToolCall, ToolResult, assistant, system, user
from trellis.models.tokens import estimate_message
from trellis.scaffolds.trimming import Plan, exchanges, plan, without_results

PICTURE = solid_png((255, 0, 0), 600)
HEAD = [system("Be terse."), user("The task.", PICTURE)]
RAW = {"provider": "p", "item": {"type": "tool_use"}}
THOUGHT = Reasoning("Hm.", {"provider": "p", "item": {"type": "thinking", "signature": "s"}})


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Exchanges with parallel calls, results in one message or in several, nudges, and late system messages."""
    messages = list(HEAD)
    for number in range(draw(st.integers(0, 8))):
        names = [f"c{number}-{n}" for n in range(draw(st.integers(0, 3)))]
        calls = [ToolCall(name, "look", {"at": "x" * draw(st.sampled_from([1, 400]))}, raw=RAW) for name in names]
        messages.append(assistant(THOUGHT, f"Reply {number}.", *calls))
        results = [draw(_results(name)) for name in names]
        together = bool(results) and draw(st.booleans())
        messages += [Message("tool", tuple(results))] if together else [result.message for result in results]
        if not results or draw(st.booleans()):
            messages.append(user("Go on."))
        if draw(st.integers(0, 6)) == 0:
            messages.append(system("Late advice."))
    return messages


@st.composite
def _results(draw: st.DrawFn, name: str) -> ToolResult:
    text = Text(draw(st.sampled_from(["", "ok", "many words here\n" * 10, "4.25,17\n" * 400])))
    pictures = [PICTURE] * draw(st.integers(0, 2))
    return ToolResult(name, "look", (text, *pictures), draw(st.booleans()), {"exit_code": 1})


def size(message: Message) -> float:
    return estimate_message(message)


def total(messages: Sequence[Message]) -> float:
    return sum(map(size, messages))


@settings(deadline=None)
@given(conversations(), st.floats(0, 1), st.floats(0, 1))
def test_trimming(messages: list[Message], share: float, must: float) -> None:
    enough = share * total(messages)
    trim = plan(messages, 2, enough, size, at_least=must * enough)
    shorter, notice = trim.apply(messages)
    assert trim == plan(messages, 2, enough, size, at_least=must * enough)
    assert Plan.from_json(trim.to_json()).apply(messages)[0] == shorter
    assert trim.saved >= 0
    if shorter == messages:
        assert trim == Plan(exchanges=(2, 2)) or not exchanges(messages, 2)
        return
    assert total(shorter) < total(messages)
    assert abs(total(messages) - total(shorter) - trim.saved) <= 25
    assert shorter[:2] == HEAD
    assert all(message in shorter for message in messages if message.role == "system")
    assert (notice in shorter) == (notice is not None)
    end = [user("And?")]
    assert problems([*shorter, *end]) == []
    assert edit_problems([*messages, *end], [*shorter, *end]) == []
    latest = exchanges(messages, 2)[-1]
    assert messages[latest] in shorter


@given(conversations(), st.floats(0, 1))
def test_it_saves_enough_if_old_exchanges_have_it(messages: list[Message], share: float) -> None:
    starts = exchanges(messages, 2)
    if len(starts) < 2:
        return
    old = total([message for message in messages[2 : starts[-1]] if message.role != "system"])
    enough = share * (old - 25)
    assert plan(messages, 2, enough, size).saved >= min(enough, old - 25) - 0.01


@given(conversations())
def test_results_go_before_exchanges_and_old_before_new(messages: list[Message]) -> None:
    starts = exchanges(messages, 2)
    if not starts:
        return
    worth = [place for place, m in enumerate(messages) if m.role == "tool" and 2 * size(without_results(m)) <= size(m)]
    trim = plan(messages, 2, 1, size)
    if old := [place for place in worth if place < starts[-1]]:
        assert (trim.results, trim.exchanges) == ((old[0],), (2, 2))
    else:
        assert trim.results == ()


@given(conversations())
def test_shortening_again_changes_nothing(messages: list[Message]) -> None:
    once = [without_results(message) for message in messages]
    assert [without_results(message) for message in once] == once
    assert plan(once, 2, 1e9, size).results == ()


def test_images_count() -> None:
    results = [ToolResult(f"c{n}", "look", (Text("seen"), PICTURE)) for n in range(2)]
    said = [assistant(ToolCall(f"c{n}", "look", {})) for n in range(2)]
    messages = [*HEAD, said[0], results[0].message, said[1], results[1].message]
    trim = plan(messages, 2, 100, size)
    assert trim.results == (3,)
    assert trim.saved > 400
    shorter, _ = trim.apply(messages)
    assert "[4 characters and 1 image were here" in shorter[3].text
    assert shorter[5] is messages[5]
