"""Calls that wait in batches: each gets its own answer at half the price, and none is paid for twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trellis.models.catalog import close, load
from trellis.models.conformance import CHECKS
from trellis.models.messages import user
from trellis.models.model import GenerateConfig, Model, ModelFault, ModelRequestError, Reply
from trellis.models.prices import cost_usd

from . import anthropic_wire, openai_wire
from .batch_wire import AnthropicBatches, Batches, OpenAIBatches
from .conftest import FAST
from .loopback import Fault, Loopback, Request

pytestmark = [pytest.mark.wire]

PROVIDERS: dict[str, tuple[str, Callable[..., Any]]] = {
    "openai": ("openai/gpt-5-mini", OpenAIBatches),
    "anthropic": ("anthropic/claude-haiku-4-5", AnthropicBatches),
}
QUICK = {**FAST, "batch": True, "batch_wait_s": 0.05, "batch_poll_s": 0.01}


@dataclass
class Bench:
    server: Batches
    loopback: Loopback
    load: Callable[..., Model]


@pytest.fixture(params=PROVIDERS)
async def bench(request: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Bench]:
    monkeypatch.setenv("OPENAI_API_KEY", openai_wire.KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", anthropic_wire.KEY)
    monkeypatch.setenv("TRELLIS_CACHE", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    name, kind = PROVIDERS[request.param]
    server = kind()
    async with AsyncExitStack() as stack:
        loopback = await stack.enter_async_context(Loopback(server.handle).serve())

        def make(**options: Any) -> Model:
            model = load(name, {"base_url": loopback.url, **QUICK, **options})
            stack.push_async_callback(close, model)
            return model

        yield Bench(server, loopback, make)


def asked(word: str) -> list[Any]:
    return [user(f"Answer with the one word: {word}")]


async def ask(model: Model, word: str, seed: int | None = 1) -> Reply:
    return await model.generate(asked(word), config=GenerateConfig(seed=seed))


def kept(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "batches").rglob("*.*"))


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


async def test_what_is_asked_together_goes_together(bench: Bench, tmp_path: Path) -> None:
    model = bench.load()
    words = [f"word{number}" for number in range(20)]
    replies = await asyncio.gather(*(ask(model, word) for word in words))
    assert [reply.text for reply in replies] == words
    assert [len(batch.requests) for batch in bench.server.batches.values()] == [20]
    direct = await ask(bench.load(batch=False), words[0])
    for reply in replies:
        assert (reply.tier, reply.retries) == ("batch", 0)
        assert reply.waited_s == reply.latency_s > 0, "none of it is the agent's time"
    assert (direct.tier, direct.usage.total) == ("", replies[0].usage.total)
    full = cost_usd(model.name, replies[0].usage)
    assert full
    assert replies[0].cost_usd == pytest.approx(full / 2)
    assert kept(tmp_path) == [], "all has been handed out"


async def test_a_full_batch_does_not_wait_for_more(bench: Bench) -> None:
    model = bench.load(batch_size=8, batch_wait_s=600)
    assert len(await asyncio.gather(*(ask(model, f"word{number}") for number in range(16)))) == 16
    assert [len(batch.requests) for batch in bench.server.batches.values()] == [8, 8]


@pytest.mark.parametrize("check", CHECKS)
async def test_conformance(bench: Bench, check: str) -> None:
    await CHECKS[check](bench.load())
    assert bench.server.batches or check == "name"


async def test_each_error_is_its_own(bench: Bench) -> None:
    """One request is wrong, one is declined, and the others are answered."""
    model = bench.load()
    wrong = GenerateConfig(seed=1, max_output_tokens=1 if "openai" in model.name else 100_000_000, tool_choice="x")
    answers = await asyncio.gather(
        ask(model, "fine"),
        model.generate(asked("wrong"), config=wrong),
        model.generate([user("REFUSE THIS")], config=GenerateConfig(seed=1)),
        return_exceptions=True,
    )
    assert isinstance(answers[0], Reply)
    assert answers[0].text == "fine"
    assert isinstance(answers[1], ModelRequestError), answers[1]
    assert isinstance(answers[2], Reply)
    assert answers[2].stop_reason == "refusal"
    assert len(bench.server.batches) == 1


@pytest.mark.parametrize("fate", ["expired", "cancelled", "broken"])
async def test_what_was_not_answered_goes_into_another_batch(bench: Bench, fate: Any) -> None:
    bench.server.fates.append(fate)
    model = bench.load()
    words = [f"word{number}" for number in range(6)]
    replies = await asyncio.gather(*(ask(model, word) for word in words))
    assert [reply.text for reply in replies] == words
    assert sorted(reply.retries for reply in replies) == [0, 0, 0, 1, 1, 1]
    assert [len(batch.requests) for batch in bench.server.batches.values()] == [6, 3]


async def test_a_request_that_no_batch_answers_is_a_fault(bench: Bench, tmp_path: Path) -> None:
    bench.server.fates.extend(["expired"] * 10)
    with pytest.raises(ModelFault, match="3 batches did not answer it: "):
        await ask(bench.load(), "lost")
    assert len(bench.server.batches) == 3
    assert kept(tmp_path) == []


async def test_a_run_that_died_attaches_to_what_it_has_paid_for(bench: Bench, tmp_path: Path) -> None:
    bench.server.looks = 1_000_000
    first = bench.load()
    calls = [asyncio.create_task(ask(first, word)) for word in ("one", "two", "three")]
    await until(lambda: kept(tmp_path))
    for call in calls:
        call.cancel()
    await close(first)
    (batch,) = bench.server.batches.values()
    batch.looks = 2

    second = bench.load()
    assert (await ask(second, "two")).text == "two"
    third = bench.load()  # two is handed out, the others are still to be had
    assert [r.text for r in await asyncio.gather(ask(third, "one"), ask(third, "three"))] == ["one", "three"]
    assert set(bench.server.asked.values()) == {1}
    assert len(bench.server.batches) == 1
    assert kept(tmp_path) == []
    bench.server.looks = 1
    assert (await ask(third, "one")).text == "one"
    assert len(bench.server.batches) == 2, "whoever asks again after the answer asks anew"


async def test_who_is_cancelled_leaves_the_batch_alone(bench: Bench) -> None:
    bench.server.looks = 1_000_000
    model = bench.load()
    calls = [asyncio.create_task(ask(model, word)) for word in ("one", "two")]
    await until(lambda: bench.server.batches)
    calls[0].cancel()
    (batch,) = bench.server.batches.values()
    batch.looks = 1
    assert (await calls[1]).text == "two"
    assert (await ask(model, "one")).text == "one"
    assert len(bench.server.batches) == 1, "the episode that comes again finds what was paid for"


async def test_who_is_cancelled_before_it_was_sent_costs_nothing(bench: Bench) -> None:
    model = bench.load(batch_wait_s=0.3)
    calls = [asyncio.create_task(ask(model, word)) for word in ("one", "two")]
    await until(lambda: model.waiting)  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    calls[0].cancel()
    assert (await calls[1]).text == "two"
    assert [len(batch.requests) for batch in bench.server.batches.values()] == [1]


async def test_samples_stay_samples(bench: Bench) -> None:
    model = bench.load()
    await asyncio.gather(*(ask(model, "same", seed) for seed in (1, 1, 2, None, None)))
    assert [len(batch.requests) for batch in bench.server.batches.values()] == [4], "one for each seed, and without one"


async def test_a_batch_that_is_gone(bench: Bench, tmp_path: Path) -> None:
    bench.server.looks = 1_000_000
    first = bench.load()
    call = asyncio.create_task(ask(first, "one"))
    await until(lambda: kept(tmp_path))
    call.cancel()
    await close(first)
    bench.server.batches.clear()
    bench.server.looks = 1
    assert (await ask(bench.load(), "one")).text == "one"


async def test_damaged_notes_are_passed_over(bench: Bench, tmp_path: Path) -> None:
    bench.server.looks = 1_000_000
    first = bench.load()
    call = asyncio.create_task(ask(first, "one"))
    await until(lambda: kept(tmp_path))
    call.cancel()
    await close(first)
    for file in kept(tmp_path):
        file.write_text("{")
    bench.server.looks = 1
    assert (await ask(bench.load(), "one")).text == "one"


async def test_one_line_says_what_waits(bench: Bench) -> None:
    bench.server.looks = 1_000_000
    model: Any = bench.load()
    assert model.waiting == ""
    calls = [asyncio.create_task(ask(model, word)) for word in ("one", "two")]
    await until(lambda: model.waiting)
    assert model.waiting == f"{model.name}: 2 calls are collected" or "1 batch under way" in model.waiting
    await until(lambda: bench.server.batches and "under way" in model.waiting)
    assert model.waiting == f"{model.name}: 1 batch under way, 0 of 2 calls answered"
    next(iter(bench.server.batches.values())).looks = 0
    await asyncio.gather(*calls)
    assert model.waiting == ""


async def test_a_wrong_key_stops_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "sk-wrong-0123456789")
    model = bench.load()
    answers = await asyncio.gather(ask(model, "one"), ask(model, "two"), return_exceptions=True)
    assert {type(answer) for answer in answers} == {ModelRequestError}
    assert all("the key was not accepted" in str(answer) for answer in answers)
    assert len(bench.loopback.requests) == 1


@pytest.mark.parametrize("bench", ["openai"], indirect=True)
async def test_a_batch_for_which_there_is_no_room_comes_again(bench: Bench) -> None:
    bench.server.fates.append("full")
    reply = await ask(bench.load(), "later")
    assert (reply.text, reply.retries) == ("later", 1)


@pytest.mark.parametrize("bench", ["openai"], indirect=True)
async def test_a_batch_that_is_wrong_does_not(bench: Bench) -> None:
    bench.server.fates.append("failed")
    with pytest.raises(ModelRequestError, match="Line 1 is wrong"):
        await ask(bench.load(), "wrong")
    assert len(bench.server.batches) == 1


@pytest.mark.parametrize("bench", ["openai"], indirect=True)
async def test_a_batch_whose_making_was_not_heard_of_is_not_made_twice(bench: Bench) -> None:
    lost = iter([Fault("reset_within")])

    def chance(request: Request) -> Fault | None:
        return next(lost, None) if (request.method, request.path) == ("POST", "/batches") else None

    bench.loopback.chance = chance
    assert (await ask(bench.load(), "once")).text == "once"
    assert next(lost, None) is None
    assert len(bench.server.batches) == 1
