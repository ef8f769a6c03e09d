"""The limiter against a model of a server, in time that passes only when everybody waits."""

from __future__ import annotations

import asyncio
import gc
import math
import selectors
import threading
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from trellis.models.limiter import Limiter, Paused, limiter_of
from trellis.models.model import ModelFault
from trellis.models.retry import RetryPolicy, TransientError, with_retries


class _Skipping(selectors.SelectSelector):
    """Passes over the time in which nothing happens."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits, and nothing will ever happen"
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now


def in_virtual_time(main: Callable[[], Awaitable[Any]]) -> Any:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())  # type: ignore[arg-type]


def limiter() -> Limiter:
    return Limiter(asyncio.get_running_loop().time)


class Server:
    """Takes so many calls at a time and turns the others away, as 429."""

    def __init__(self, capacity: int, random: Random, retry_after_s: float | None = None) -> None:
        self.capacity = capacity
        self.under_way = self.served = self.refused = 0
        self._random = random
        self._retry_after_s = retry_after_s

    async def call(self) -> None:
        if self.under_way >= self.capacity:
            self.refused += 1
            await asyncio.sleep(0.01)
            raise TransientError("busy", self._retry_after_s, status=429)
        self.under_way += 1
        try:
            await asyncio.sleep(self._random.uniform(0.5, 1.5))
        finally:
            self.under_way -= 1
        self.served += 1


@pytest.mark.parametrize(("capacity", "seed"), [(1, 1), (2, 2), (5, 3), (13, 4), (40, 5), (60, 6)])
def test_converges_near_the_capacity_and_everybody_is_served(capacity: int, seed: int) -> None:
    async def main() -> None:
        server, ours = Server(capacity, Random(seed)), limiter()
        seen: list[float] = []
        policy = RetryPolicy(budget_s=1e9, initial_wait_s=0.5, max_wait_s=4.0)

        async def worker(calls: int) -> None:
            for _ in range(calls):
                await with_retries(server.call, policy, "m", ours)
                seen.append(ours.limit)

        calls = 20
        await asyncio.gather(*(worker(calls) for _ in range(2 * capacity + 20)))
        total = calls * (2 * capacity + 20)
        assert server.served == total, "nobody starves"
        settled = seen[total // 4 : -capacity - 20]  # while there is more to do than fits
        assert max(settled) <= capacity + 2, "once it knows the capacity, it goes beyond it by one"
        assert capacity / 3 <= sum(settled) / len(settled)
        assert server.refused <= total * (1.5 / capacity + 0.1), "about one try in a round"
        assert ours.under_way == 0

    in_virtual_time(main)


def test_without_refusals_the_limit_grows_to_the_ceiling() -> None:
    async def main() -> None:
        server, ours = Server(10_000, Random(1)), limiter()
        policy = RetryPolicy(max_concurrency=100)
        peak = 0

        async def call() -> None:
            nonlocal peak
            peak = max(peak, ours.under_way)
            await server.call()

        await asyncio.gather(*(with_retries(call, policy, "m", ours) for _ in range(2000)))
        assert peak == 100
        assert math.floor(ours.limit) == 100

    in_virtual_time(main)


def test_one_decrease_for_a_burst() -> None:
    async def main() -> None:
        ours = limiter()
        together = asyncio.Event()

        async def refused() -> None:
            async with ours.place(ours.ticket()) as place:
                await together.wait()
                place.crowded()

        calls = [asyncio.create_task(refused()) for _ in range(16)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ours.under_way == 16
        together.set()
        await asyncio.gather(*calls)
        assert ours.limit == 8.0
        async with ours.place(ours.ticket()) as place:
            place.crowded()
        assert ours.limit == 1.0, "half of what was under way, and one at least"

    in_virtual_time(main)


def test_order_is_that_of_the_tickets() -> None:
    async def main() -> None:
        ours = limiter()
        order: list[int] = []
        early = ours.ticket()

        async def caller(ticket: int) -> None:
            async with ours.place(ticket, ceiling=1):
                order.append(ticket)
                await asyncio.sleep(1)

        callers = [asyncio.create_task(caller(ours.ticket())) for _ in range(5)]
        await asyncio.sleep(0.5)
        await asyncio.gather(caller(early), *callers)
        assert order == [1, 0, 2, 3, 4, 5], "who tries again is served before those who came later"

    in_virtual_time(main)


def test_a_pause_is_everybodys() -> None:
    async def main() -> None:
        ours, loop = limiter(), asyncio.get_running_loop()
        began: list[float] = []

        async def caller() -> None:
            async with ours.place(ours.ticket(), ceiling=2) as place:
                began.append(loop.time())
                await asyncio.sleep(1)
                if len(began) == 2:
                    place.crowded(retry_after_s=30)

        await asyncio.gather(*(caller() for _ in range(6)))
        assert began[:2] == [0, 0]
        assert began[2:] == [pytest.approx(t) for t in (31, 32, 32, 33)], "one at a time at first, after the pause"

    in_virtual_time(main)


def test_a_pause_that_is_too_long_ends_the_waiting() -> None:
    async def main() -> None:
        ours, loop = limiter(), asyncio.get_running_loop()
        ours.pause(3600)
        with pytest.raises(ModelFault, match=r"^m: the provider asks everybody .* another 3600 s"):
            await with_retries(Server(1, Random(1)).call, RetryPolicy(budget_s=600), "m", ours)
        with pytest.raises(Paused):
            async with ours.place(ours.ticket(), patience_s=10):
                pass
        assert loop.time() == 0, "at once"
        assert ours.under_way == 0

    in_virtual_time(main)


def test_queueing_does_not_spend_the_retry_budget() -> None:
    async def main() -> None:
        policy = RetryPolicy(budget_s=5, initial_wait_s=1, max_concurrency=1)
        ours, failed = limiter(), set()

        async def call(number: int) -> None:
            await asyncio.sleep(2)
            if number not in failed:
                failed.add(number)
                raise TransientError("broken", status=500)

        tried = await asyncio.gather(*(with_retries(lambda n=n: call(n), policy, "m", ours) for n in range(50)))  # type: ignore[misc]
        assert [t.retries for t in tried] == [1] * 50
        assert max(t.waited_s for t in tried) >= 0

    in_virtual_time(main)


def test_who_is_cancelled_gives_the_place_back() -> None:
    async def main() -> None:
        ours = limiter()

        async def caller() -> str:
            async with ours.place(ours.ticket(), ceiling=1):
                await asyncio.sleep(10)
                return "served"

        first, second, third = (asyncio.create_task(caller()) for _ in range(3))
        await asyncio.sleep(1)
        second.cancel()  # it waits
        first.cancel()  # it is under way; in the same moment its place goes to the third
        await asyncio.sleep(0)
        fourth = asyncio.create_task(caller())
        third_is_next = asyncio.create_task(caller())
        third_is_next.cancel()
        assert await third == await fourth == "served"
        assert ours.under_way == 0

    in_virtual_time(main)


@settings(deadline=None, max_examples=30, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 2**32))
def test_cancellation_at_any_moment_loses_no_place(seed: int) -> None:
    async def main() -> None:
        random, ours = Random(seed), limiter()

        async def caller() -> None:
            async with ours.place(ours.ticket(), ceiling=3) as place:
                await asyncio.sleep(random.random())
                if random.random() < 0.2:
                    place.crowded(random.random())

        tasks = [asyncio.create_task(caller()) for _ in range(40)]
        for task in random.sample(tasks, 20):
            await asyncio.sleep(random.random() / 4)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert ours.under_way == 0
        assert not ours._queue
        async with ours.place(ours.ticket()):
            pass

    in_virtual_time(main)


def test_threads_with_loops_of_their_own_share_it() -> None:
    ours, lock = Limiter(), threading.Lock()
    now = peak = 0

    async def call() -> None:
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(peak, now)
        await asyncio.sleep(0.001)
        with lock:
            now -= 1

    async def several() -> None:
        policy = RetryPolicy(max_concurrency=3)
        await asyncio.gather(*(with_retries(call, policy, "m", ours) for _ in range(50)))

    threads = [threading.Thread(target=lambda: asyncio.run(several())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (peak <= 3, now, ours.under_way) == (True, 0, 0)


def test_a_waiter_whose_loop_is_gone_holds_nobody_up() -> None:
    ours = Limiter()
    gone = asyncio.new_event_loop()

    async def enter() -> None:
        async with ours.place(ours.ticket(), ceiling=1):
            await asyncio.sleep(0)

    async def hold() -> None:
        async with ours.place(ours.ticket(), ceiling=1):
            waiting = gone.create_task(enter())
            await asyncio.to_thread(gone.run_until_complete, asyncio.sleep(0.01))
            waiting.remove_done_callback(print)
            gone.close()
            kept.append(waiting)

    kept: list[asyncio.Task[None]] = []
    asyncio.run(hold())
    asyncio.run(asyncio.wait_for(enter(), 30))
    assert ours.under_way == 0
    for task in kept:
        coroutine: Any = task.get_coro()
        coroutine.close()
        quiet: Any = task
        quiet._log_destroy_pending = False  # it was meant to be left behind


def test_one_for_each_key_and_address() -> None:
    one = limiter_of("http://a", "key")
    assert limiter_of("http://a", "key") is one
    assert limiter_of("http://a", "other") is not one
    assert limiter_of("http://b", "key") is not one
    one.pause(1e6)
    del one
    gc.collect()
    assert limiter_of("http://a", "key").paused_s == 0, "it goes with its last user"
