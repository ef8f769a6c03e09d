"""Steps of trajectories side by side: a longest common subsequence of what they did."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellis.models.messages import Text, ToolCall, ToolResult, assistant
from trellis.models.model import Reply
from trellis.trajectories import aligning
from trellis.trajectories.aligning import Mark, align, common, mark_of
from trellis.trajectories.trajectory import Act, Step

elements = st.lists(st.integers(0, 3), max_size=14)


def length(a: Sequence[int], b: Sequence[int]) -> int:
    """Of a longest common subsequence, by the book."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(elements, elements)
def test_what_is_common_is_as_long_as_can_be(a: list[int], b: list[int]) -> None:
    pairs = common(a, b)
    assert all(a[i] == b[j] for i, j in pairs)
    assert pairs == sorted(set(pairs))
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs) == length(a, b)


def test_ten_thousand_steps_do_not_explode() -> None:
    a = list(range(10_000))
    b = [number if number % 3 else -number for number in a]
    assert len(common(a, b)) == sum(1 for number in a if number % 3) + 1
    assert len(common([1, 2] * 5_000, [2, 1] * 5_000)) == 9_999


def test_what_is_too_long_is_paired_at_its_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aligning, "TABLE_BITS", 8)
    assert common([1, 2, 3, 4, 5, 6, 7], [1, 9, 3, 4, 8, 6, 7]) == [(0, 0), (5, 5), (6, 6)]


def mark(number: int, said: str, *calls: tuple[str, dict[str, object], str]) -> Mark:
    made = [ToolCall(f"c{number}", name, arguments) for name, arguments, _ in calls]
    acts = tuple(
        Act(number, "main", call, ToolResult(call.id, call.name, (Text(came),)), 0.0, 1.0)
        for call, (_, _, came) in zip(made, calls, strict=True)
    )
    reply = Reply(assistant(said, *made))
    return mark_of(
        Step(
            number, "main", number, "generate", 0, 1, "main", "m", {}, "", 0, (), (), reply, "", "", 0.0, 0.5, acts, ()
        )
    )


def test_steps_of_other_scaffolds_are_told_by_what_they_did() -> None:
    a = [mark(1, "I look", ("shell", {"command": "ls -la"}, "x")), mark(2, "done", ("submit", {}, ""))]
    b = [
        mark(1, "Hm."),
        mark(2, "Let me look", ("execute_bash", {"cmd": "ls -la  \n"}, "x ")),
        mark(3, "ok", ("finish", {}, "")),
    ]
    rows = [(pair.row, pair.a and pair.a.number, pair.b and pair.b.number, pair.differs) for pair in align(a, b)]
    assert rows == [("only_b", None, 1, "step"), ("same", 1, 2, "reply"), ("same", 2, 3, "reply")]


def test_what_differs_between_two_steps() -> None:
    base = mark(1, "a", ("shell", {"command": "ls"}, "x"))
    others = {
        "": mark(1, "a", ("shell", {"command": "ls"}, "x\n")),
        "reply": mark(1, "b", ("shell", {"command": "ls"}, "x")),
        "call": mark(1, "a", ("shell", {"command": "ls -a"}, "x")),
        "result": mark(1, "a", ("shell", {"command": "ls"}, "y")),
    }
    for differs, other in others.items():
        (pair,) = align([base], [other])
        assert pair.differs == differs
    assert [pair.row for pair in align([base], [mark(1, "a", ("edit", {"path": "f"}, "x"))])] == ["only_a", "only_b"]
