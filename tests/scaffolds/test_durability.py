"""What a log that ends anywhere must not change: what is asked again, what was refused, which submission counts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from trellis.environments.environment import Environment
from trellis.models.messages import Message, Text, assistant, user
from trellis.models.model import GenerateConfig, Reply, ToolSpec, Usage
from trellis.scaffolds.episode import Budget, Episode, LimitReached
from trellis.scaffolds.task import Submission, Task


class Counting:
    """Answers with the seed, the later the earlier it was asked."""

    name = "test/counting"

    def __init__(self) -> None:
        self.seeds: list[int | None] = []

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        self.seeds.append(config.seed)
        for _ in range(100 // len(self.seeds)):  # turns of the loop, whatever the time
            await asyncio.sleep(0)
        return Reply(assistant(str(config.seed)), usage=Usage(input=10, output=2), cost_usd=0.5)


async def collect(_: Environment | None, answer: str) -> Submission:
    return Submission(answer)


@asynccontextmanager
async def episode(folder: Path, model: Counting, budget: Budget | None = None) -> AsyncIterator[Episode]:
    async with Episode.open(
        folder, task=Task("t", (Text("?"),)), tools=(), models={"main": model}, seed=1, budget=budget or Budget(),
        collect=collect, label="test/durability", environment=None, header={"episode": "e1"},
    ) as opened:  # fmt: skip
        yield opened


async def ask(branch: Episode) -> str:
    return (await branch.generate([user("?")])).text


def lines(folder: Path) -> list[bytes]:
    return (folder / "trajectory.jsonl").read_bytes().splitlines(keepends=True)


def cut(folder: Path, count: int) -> None:
    (folder / "trajectory.jsonl").write_bytes(b"".join(lines(folder)[:count]))


async def test_calls_side_by_side_are_matched_wherever_the_log_ends(tmp_path: Path) -> None:
    async def vote(opened: Episode) -> list[str]:
        return list(await asyncio.gather(*(ask(opened) for _ in range(4))))

    async with episode(tmp_path, Counting()) as opened:
        votes = await vote(opened)
    whole = lines(tmp_path)
    assert len(set(votes)) == 4
    done = [number for number, line in enumerate(whole) if b'"generate.done"' in line]
    assert [b'"begun":3' in whole[number] for number in done] == [False, False, False, True]  # the first came last
    for count in range(1, len(whole) + 1):
        (tmp_path / "trajectory.jsonl").write_bytes(b"".join(whole[:count]))
        model = Counting()
        async with episode(tmp_path, model) as opened:
            assert await vote(opened) == votes, count
        assert len(model.seeds) == 4 - sum(number < count for number in done)
        again = [line for line in lines(tmp_path) if b'"generate.begun"' in line]
        assert len(again) == 4  # a call that was cut off is not begun a second time


async def in_order(first: Callable[[], Awaitable[str]], second: Callable[[], Awaitable[str]], live: bool) -> list[str]:
    """Side by side; when it is live, the second goes through before the first begins."""
    ready = asyncio.Event()

    async def wait() -> str:
        if live:
            await ready.wait()
        return await first()

    async def go() -> str:
        try:
            return await second()
        finally:
            ready.set()

    return list(await asyncio.gather(wait(), go()))


@pytest.mark.parametrize("budget", [{"steps": 2}, {"tokens": 24}, {"cost_usd": 1.0}])
@pytest.mark.parametrize("told", [True, False])
async def test_a_limit_stays_where_it_was_whichever_branch_comes_first(
    tmp_path: Path, budget: dict[str, float], told: bool
) -> None:
    async def work(opened: Episode) -> list[str]:
        async with opened.branch("a") as a, opened.branch("b") as b:

            async def refused() -> str:
                try:
                    return await ask(a)
                except LimitReached as limit:
                    return limit.limit

            async def twice() -> str:
                return await ask(b) + await ask(b)

            return await in_order(refused, twice, live=not opened.resumed)

    async with episode(tmp_path, Counting(), Budget(**budget)) as opened:  # type: ignore[arg-type]
        first = await work(opened)
    assert first[0] == next(iter(budget))
    assert b'"generate.limit"' in lines(tmp_path)[-1]
    if not told:  # it was killed before that was written: what the other branch spent is spent all the same
        cut(tmp_path, len(lines(tmp_path)) - 1)
    model = Counting()
    async with episode(tmp_path, model, Budget(**budget)) as opened:  # type: ignore[arg-type]
        assert await work(opened) == first
    assert model.seeds == []


async def test_the_last_submission_in_the_log_counts(tmp_path: Path) -> None:
    async def work(opened: Episode) -> Submission:
        async with opened.branch("a") as a, opened.branch("b") as b:

            async def hand_in(branch: Episode) -> str:
                return (await branch.submit(branch.name)).answer

            await in_order(lambda: hand_in(a), lambda: hand_in(b), live=not opened.resumed)
            assert (a.handed_in, b.handed_in) == (Submission("main/a"), Submission("main/b"))
        return await opened.finish()

    async with episode(tmp_path, Counting()) as opened:
        assert await work(opened) == Submission("main/a")
    async with episode(tmp_path, Counting()) as opened:
        assert await work(opened) == Submission("main/a")
