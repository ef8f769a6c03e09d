"""What is lost when a conversation moves, and ids that no two calls share."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trellis.models.carry import CallIds, counted, dropped, line, most, portable_id
from trellis.models.messages import Audio, Part, Reasoning, Text, ToolCall, assistant, user

LEGAL = re.compile(r"[a-zA-Z0-9_-]+")


def of(provider: str, **item: Any) -> dict[str, Any]:
    return {"provider": provider, "item": item}


ITEMS: list[Part] = [
    Reasoning("Hm.", of("anthropic", type="thinking", thinking="Hm.", signature="s")),
    Reasoning("Hm.", of("anthropic", type="thinking", thinking="Hm.", signature="s")),
    Reasoning("", of("anthropic", type="redacted_thinking", data="d")),
    Text("The past.", of("anthropic", type="compaction", content="The past.", signature="s")),
    ToolCall("toolu_1", "t", raw=of("anthropic", type="tool_use", id="toolu_1")),
    Reasoning("", of("openai", type="reasoning", encrypted_content="e")),
    Reasoning("", of("openai", type="compaction", encrypted_content="e")),
    Text("Hello.", of("openai", type="message", id="msg_1")),
    ToolCall("call_1", "t", raw=of("openai", type="function_call", id="fc_1", call_id="call_1")),
    Audio(b"", "audio/wav", of("openai", id="audio_1")),
    Reasoning("Hm.", of("openai-compatible", reasoning_content="Hm.")),
    Reasoning("Hm."),
]


@pytest.mark.parametrize(
    ("provider", "lines"),
    [
        (
            "openai",
            (
                "2 signed thinking blocks of anthropic",
                "1 redacted thinking block of anthropic",
                "1 compaction signature of anthropic",
                "1 reasoning text of openai-compatible",
                "1 reasoning text",
            ),
        ),
        (
            "anthropic",
            (
                "1 encrypted reasoning item of openai",
                "1 compaction item of openai",
                "2 item ids of openai",
                "1 audio reference of openai",
                "1 reasoning text of openai-compatible",
                "1 reasoning text",
            ),
        ),
    ],
)
def test_one_line_for_each_kind(provider: str, lines: tuple[str, ...]) -> None:
    assert dropped([user("Hello."), assistant(*ITEMS)], provider) == lines


def test_nothing_is_lost_at_home() -> None:
    assert dropped([user("Hello."), assistant(*ITEMS[:5])], "anthropic") == ()


def test_of_each_kind_the_largest_number_holds() -> None:
    first = ("1 signed thinking block of anthropic", "2 item ids of openai", "1 reasoning text")
    second = ("3 signed thinking blocks of anthropic", "1 item id of openai")
    cut = "2 thinking blocks that broke off before a signature"
    together = ("3 signed thinking blocks of anthropic", "2 item ids of openai", "1 reasoning text", cut)
    assert most(first, second, (cut,)) == most(second, first, (cut,)) == together
    assert counted(line(1, "compaction signature", "anthropic")) == ("compaction signatures of anthropic", 1)
    assert most() == ()


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=6), st.integers(0, 12)), unique=True, max_size=30))
def test_ids_never_collide(calls: list[tuple[str, int]]) -> None:
    names = [portable_id(*call) for call in calls]
    assert len(set(names)) == len(names)
    assert all(LEGAL.fullmatch(name) for name in names)


@settings(deadline=None)
@given(st.lists(st.text("aA1_-x:/ö", max_size=4), unique=True, max_size=60))
def test_ids_of_few_characters_never_collide(ids: list[str]) -> None:
    names = [portable_id(name, times) for name in ids for times in range(3)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["toolu_01ABC", "call-7", "x", "fc_1", "x1"])
def test_ids_that_are_fine_stay(name: str) -> None:
    assert portable_id(name) == name


@settings(deadline=None)
@given(st.lists(st.text("aA1_-x:/ö", max_size=40), unique=True, max_size=30), st.integers(20, 64))
def test_long_ids_become_digests_that_fit(ids: list[str], longest: int) -> None:
    names = [portable_id(name, times, longest) for name in ids for times in range(3)]
    assert len(set(names)) == len(names)
    assert all(LEGAL.fullmatch(name) and len(name) <= longest for name in names)


CALLS = st.lists(st.tuples(st.text("ab:", min_size=1, max_size=2) | st.just("x0-a_3a_"), st.booleans()), max_size=12)


@settings(deadline=None)
@given(CALLS)
def test_repeated_ids_are_different_calls_and_stay_the_same_as_the_conversation_grows(
    calls: list[tuple[str, bool]],
) -> None:
    def named(count: int) -> list[str]:
        names, made = CallIds(), []
        for name, own in calls[:count]:
            made.append(names.call(name, own=own))
            assert names.result(name) == made[-1]
        return made

    whole = named(len(calls))
    assert len(set(whole)) == len(whole)
    for count in range(len(calls)):
        assert named(count) == whole[:count]


def test_a_providers_own_ids_stay_whatever_they_are_made_of() -> None:
    names = CallIds(10)
    assert names.call("call:1/with/slashes", own=True) == names.result("call:1/with/slashes") == "call:1/with/slashes"
