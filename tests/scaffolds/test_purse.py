"""Money: nothing that runs at the same time passes a cap together."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from trellis.scaffolds.purse import CapReached, Purse


async def test_ten_at_a_time_cannot_pass_the_cap_together() -> None:
    purse, begun = Purse(1.0), 0

    async def call() -> None:
        nonlocal begun
        held = await purse.hold(0.3)
        begun += 1
        await asyncio.sleep(0)
        purse.settle(held, 0.3)

    ended = await asyncio.gather(*(call() for _ in range(10)), return_exceptions=True)
    assert begun == 3
    assert sum(isinstance(e, CapReached) for e in ended) == 7
    assert purse.spent_usd == pytest.approx(0.9)


async def test_who_is_only_held_up_by_others_waits() -> None:
    """The worst case of the first leaves no room; what it costs does."""
    purse = Purse(1.0)
    first = await purse.hold(0.9)
    second = asyncio.create_task(purse.hold(0.9))
    await asyncio.sleep(0)
    assert not second.done()
    purse.settle(first, 0.01)
    assert await second == 0.9


async def test_what_is_given_back_is_there_for_others() -> None:
    purse = Purse(1.0)
    held = await purse.hold(1.0)
    waiting = asyncio.create_task(purse.hold(1.0))
    cancelled = asyncio.create_task(purse.hold(1.0))
    await asyncio.sleep(0)
    cancelled.cancel()
    purse.settle(held)
    assert await waiting == 1.0
    assert purse.spent_usd == 0


async def test_unknown_worst_case_goes_on_until_the_cap_is_reached() -> None:
    purse = Purse(1.0)
    for _ in range(4):
        purse.settle(await purse.hold(None), 0.3)
    with pytest.raises(CapReached) as reached:
        await purse.hold(None)
    assert reached.value.worst_usd is None
    assert purse.spent_usd == pytest.approx(1.2)


async def test_without_a_cap_nothing_is_held() -> None:
    purse = Purse(None)
    purse.settle(await purse.hold(1e9), 1e9)
    assert await purse.hold(1e9) == 0


@settings(deadline=None, max_examples=100, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 2**32), cap=st.floats(0.1, 10))
async def test_the_cap_holds_whatever_happens(seed: int, cap: float) -> None:
    random, purse = Random(seed), Purse(cap)

    async def caller() -> None:
        for _ in range(5):
            worst = random.uniform(0, 2)
            held = await purse.hold(worst)
            try:
                for _ in range(random.randrange(4)):
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                purse.settle(held)
                raise
            purse.settle(held, random.uniform(0, worst))
            assert purse.spent_usd + purse.held_usd <= cap * (1 + 1e-6)

    tasks = [asyncio.create_task(caller()) for _ in range(8)]
    for task in random.sample(tasks, 3):
        await asyncio.sleep(0)
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(e is None or isinstance(e, CapReached | asyncio.CancelledError) for e in ended)
    assert purse.held_usd == 0
    assert purse.spent_usd <= cap * (1 + 1e-6)
