"""The cache of replies: what makes two questions one, what is kept, and what damage does."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trellis.models.cache import Cached, ReplyCache, contents, default_folder
from trellis.models.messages import (
    Audio,
    Image,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    system,
    user,
)
from trellis.models.model import (
    Compacts,
    CountsTokens,
    GenerateConfig,
    HasWindow,
    ModelFault,
    Priced,
    Reply,
    ToolSpec,
    Usage,
)
from trellis.models.wrapper import wrap


class Counting:
    """Answers by what `say` makes, and counts how often it is asked."""

    def __init__(self, say: Any = None, name: str = "test/counting") -> None:
        self.name = name
        self.asked = 0
        self._say = say or (lambda number: Reply(assistant(f"answer {number}"), usage=Usage(10, output=2)))

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        self.asked += 1
        said: Reply = self._say(self.asked)
        await asyncio.sleep(0.01)
        return said


def cached(model: Any, folder: Path, **options: Any) -> Cached:
    return wrap(Cached, model, ReplyCache(folder), options)


RESULT = ToolResult("c1", "shell", (Text("fine"), Image(b"\x89PNG", "image/png")), data={"duration_s": 0.1})
ASKED: list[Message] = [
    system("You are careful."),
    user("Look.", Image(b"one", "image/png")),
    Message("assistant", (Reasoning("hm", {"provider": "p", "item": {"sig": "a"}}), ToolCall("c1", "shell", {"x": 1}))),
    RESULT.message,
]
SHELL = ToolSpec("shell", "Runs.", {"type": "object", "properties": {"x": {"type": "integer"}}})
CONFIG = GenerateConfig(seed=7, temperature=0.5)


async def test_the_same_question_is_answered_once(tmp_path: Path) -> None:
    first = Reply(
        Message("assistant", (Reasoning("", {"provider": "p", "item": {"x": [1]}}), Text("é\ud800"), ToolCall("a", "t"),
                              Audio(b"\0\1", "audio/wav"))),
        "tool_calls", Usage(1, 2, 3, 4, 5, 1, 7, 8, 9), 0.125, 3.0, 1.0, "flex", retries=2, throttles=1,
        dropped=("1 thing",),
    )  # fmt: skip
    model = Counting(lambda number: first)
    once = await cached(model, tmp_path).generate(ASKED, tools=[SHELL], config=CONFIG)
    assert once.message == first.message
    assert not once.cached
    again = await cached(model, tmp_path).generate(ASKED, tools=[SHELL], config=CONFIG)
    assert model.asked == 1
    assert again == replace(first, latency_s=again.latency_s, waited_s=again.waited_s, retries=0, throttles=0,
                            cached=True)  # fmt: skip
    assert again.latency_s < 1, "the time of the first is not charged again"
    assert contents(tmp_path).replies == 1


def _other(index: int, part: int, **changes: Any) -> list[Message]:
    message = ASKED[index]
    parts = tuple(replace(p, **changes) if n == part else p for n, p in enumerate(message.parts))
    return [*ASKED[:index], Message(message.role, parts), *ASKED[index + 1 :]]


@pytest.mark.parametrize(
    "other",
    [
        {"messages": ASKED[:-1]},
        {"messages": [user("You are careful."), *ASKED[1:]]},
        {"messages": _other(1, 1, data=b"two")},
        {"messages": _other(1, 1, media_type="image/webp")},
        {"messages": _other(2, 0, raw={"provider": "p", "item": {"sig": "b"}})},
        {"messages": _other(2, 1, id="c2")},
        {"messages": _other(2, 1, arguments={"x": 2})},
        {"messages": _other(3, 0, is_error=True)},
        {"messages": _other(3, 0, parts=(Text("fine"), Image(b"\x89PNH", "image/png")))},
        {"tools": []},
        {"tools": [replace(SHELL, description="Runs it.")]},
        {"config": replace(CONFIG, seed=8)},
        {"config": replace(CONFIG, temperature=0.6)},
        {"config": replace(CONFIG, response_schema={"type": "object"})},
        {"config": replace(CONFIG, reasoning_effort="low")},
        {"name": "test/other"},
        {"options": {"base_url": "http://b"}},
        {"options": {"base_url": "http://a", "temperature": 1}},
        {"ambient": "http://c"},
    ],
    ids=str,
)
def test_everything_that_matters_makes_another_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    def key(messages: Any = ASKED, tools: Any = (SHELL,), config: Any = CONFIG, name: str = "test/counting",
            options: Any = None, ambient: str = "") -> str:  # fmt: skip
        if ambient:
            monkeypatch.setenv("OPENAI_BASE_URL", ambient)
            options = {}
        options = {"base_url": "http://a"} if options is None else options
        return cached(Counting(name=name), tmp_path, **options).key(messages, tools, config)

    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert key() == key()
    assert key(**other) != key()


def test_what_does_not_matter_does_not(tmp_path: Path) -> None:
    plain = cached(Counting(), tmp_path, base_url="http://a").key(ASKED, [SHELL], CONFIG)
    patient = cached(Counting(), tmp_path, base_url="http://a", timeout_s=7, max_concurrency=3, stream=False,
                     batch=True, prices="x.toml")  # fmt: skip
    assert patient.key(ASKED, [SHELL], CONFIG) == plain
    slower = _other(3, 0, data={"duration_s": 0.2})  # a fact that no model is told
    assert patient.key(slower, [SHELL], CONFIG) == plain


@pytest.mark.parametrize("stop_reason", ["length", "refusal"])
async def test_only_whole_answers_are_kept(tmp_path: Path, stop_reason: Any) -> None:
    model = Counting(lambda number: Reply(assistant("half"), stop_reason))
    for _ in range(2):
        assert not (await cached(model, tmp_path).generate(ASKED)).cached
    assert model.asked == 2
    empty = Counting(lambda number: Reply(assistant(" ")))
    for _ in range(2):
        await cached(empty, tmp_path).generate(ASKED[:1])
    assert empty.asked == 2
    assert contents(tmp_path).replies == 0


async def test_who_asks_at_the_same_time_asks_once(tmp_path: Path) -> None:
    model = Counting()
    both = cached(model, tmp_path)
    replies = await asyncio.gather(*(both.generate(ASKED, config=CONFIG) for _ in range(20)))
    assert model.asked == 1
    assert {reply.text for reply in replies} == {"answer 1"}
    assert sum(reply.cached for reply in replies) == 19
    assert all(reply.waited_s > 0 for reply in replies if reply.cached), "somebody else's call is not on their time"
    assert both._cache._turns == {}


async def test_a_failure_is_not_kept_and_the_next_in_turn_asks(tmp_path: Path) -> None:
    def say(number: int) -> Reply:
        if number == 1:
            raise ModelFault("overloaded")
        return Reply(assistant("fine"))

    model = Counting(say)
    both = cached(model, tmp_path)
    replies = await asyncio.gather(*(both.generate(ASKED) for _ in range(5)), return_exceptions=True)
    assert [type(reply) for reply in replies] == [ModelFault, *[Reply] * 4]
    assert model.asked == 2


async def test_one_who_is_cancelled_holds_nobody_up(tmp_path: Path) -> None:
    model = Counting()
    both = cached(model, tmp_path)
    first = asyncio.create_task(both.generate(ASKED))
    second = asyncio.create_task(both.generate(ASKED))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).text == "answer 2"
    assert model.asked == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "other", "folder"])
async def test_a_damaged_entry_is_ignored_and_replaced(tmp_path: Path, damage: str) -> None:
    model = Counting()
    await cached(model, tmp_path).generate(ASKED)
    (file,) = tmp_path.glob("*/*.json")
    whole = file.read_bytes()
    match damage:
        case "cut":
            file.write_bytes(whole[: len(whole) // 2])
        case "empty":
            file.write_bytes(b"")
        case "changed":
            file.write_bytes(whole.replace(b"answer 1", b"answer 9"))
        case "other":
            file.write_bytes(b'{"sha256": "x", "reply": []}')
        case "folder":
            file.unlink()
            file.mkdir()
    assert (await cached(model, tmp_path).generate(ASKED)).text == "answer 2"
    again = await cached(model, tmp_path).generate(ASKED)
    assert again.text == ("answer 3" if damage == "folder" else "answer 2"), "a disk that takes nothing does no harm"


def _keep(folder: Path, number: int) -> None:
    cache = ReplyCache(folder)
    for _ in range(50):
        cache.keep("a" * 64, Reply(assistant(f"{number}" * 10_000)))
        found = cache.load("a" * 64)
        assert found is not None
        assert len(set(found.text)) == 1


def test_several_processes_use_one_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_keep, args=(tmp_path, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert [file.name for file in tmp_path.rglob("*.*")] == [f"{'a' * 64}.json"], "no drafts are left"


async def test_it_can_what_the_model_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trellis.models.catalog import load

    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    model = load("openai/gpt-5-mini", {})
    both = cached(model, tmp_path)
    for protocol in (HasWindow, CountsTokens, Compacts, Priced):
        assert isinstance(both, protocol) == isinstance(model, protocol)
        assert not isinstance(cached(Counting(), tmp_path), protocol)
    assert isinstance(both, HasWindow)
    assert isinstance(model, HasWindow)
    assert both.context_tokens == model.context_tokens


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRELLIS_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "replies"
    monkeypatch.delenv("TRELLIS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "trellis" / "replies"
