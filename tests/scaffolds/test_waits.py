from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellis.models.messages import Text, assistant, user
from trellis.models.model import GenerateConfig, Reply, Usage
from trellis.scaffolds.budget import Budget, LimitReached
from trellis.scaffolds.episode import Episode
from trellis.scaffolds.task import Submission, Task
from trellis.scaffolds.waits import Waits

spans = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)).map(lambda s: (s[0], s[0] + s[1])), max_size=20)


@given(spans=spans, moment=st.integers(0, 70), order=st.randoms(use_true_random=False))
def test_each_moment_counts_once(spans: list[tuple[int, int]], moment: int, order: object) -> None:
    waits = Waits()
    for start, end in spans:
        waits.add(start, end)
    moments = {second for start, end in spans for second in range(start, end)}
    assert waits.total_s == len(moments)
    assert waits.since(moment) == len({second for second in moments if second >= moment})
    shuffled = sorted(spans, key=lambda _: order.random())  # type: ignore[attr-defined]
    again = Waits()
    for start, end in shuffled:
        again.add(start, end)
    assert again.total_s == waits.total_s


class Slow:
    """A model whose calls wait before they are answered; each says how long it waited."""

    name = "test/slow"

    async def generate(self, messages: object, *, tools: object = (), config: GenerateConfig | None = None) -> Reply:
        await asyncio.sleep(0.2)
        return Reply(assistant(Text("hm")), usage=Usage(1), cost_usd=0.1, latency_s=0.2, waited_s=0.2, throttles=1)


async def nothing(_: object, __: str) -> Submission:
    return Submission()


def opened(folder: Path, budget: Budget, model: object = None) -> object:
    task = Task("t", (Text("Think."),))
    return Episode.open(
        folder, task=task, tools=(), models={"main": model or Slow()}, seed=1, budget=budget, collect=nothing,  # type: ignore[dict-item]
        label="test", environment=None, header={"episode": {"task": "t"}},
    )  # fmt: skip


async def three_branches(episode: Episode) -> None:
    async def think(name: str) -> None:
        async with episode.branch(name) as branch:
            await branch.generate([user("Think.")])

    await asyncio.gather(think("a"), think("b"), think("c"))


async def test_branches_that_wait_together_do_not_give_time_away(tmp_path: Path) -> None:
    budget = Budget(time_s=100.0)
    async with opened(tmp_path, budget) as episode:  # type: ignore[attr-defined]
        await three_branches(episode)
        assert 0.15 <= budget.waited_s <= budget.clock() + 0.01, "no more than passed"
        assert budget.calls.waited_s == pytest.approx(0.6)
        assert budget.calls.throttles == 3
        waited_s = budget.waited_s
    again = Budget(time_s=100.0)
    async with opened(tmp_path, again) as episode:  # type: ignore[attr-defined]
        await three_branches(episode)
        assert again.waited_s == pytest.approx(waited_s, abs=1e-3), "a resume comes to the same"
        assert again.calls == budget.calls


class Dear(Slow):
    name = "test/dear"

    def worst_case_usd(self, messages: object, *, tools: object = (), config: object = None) -> float | None:
        return 0.4


async def test_branches_do_not_pass_the_cost_together(tmp_path: Path) -> None:
    budget = Budget(cost_usd=0.75)  # 0.4 at most, 0.1 in truth: three one after the other, and a fourth
    async with opened(tmp_path, budget, Dear()) as episode:  # type: ignore[attr-defined]
        await three_branches(episode)
        await episode.generate([user("Think.")])
        with pytest.raises(LimitReached, match=r"cost_usd limit of 0\.75"):
            await episode.generate([user("Think.")])
        assert budget.spent_cost_usd == pytest.approx(0.4)
        assert budget.spent_steps == 4
