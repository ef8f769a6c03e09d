"""Limits of a provider: counted, waited for, and shared by all who use its key."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from trellis.models.limiter import Limiter
from trellis.models.model import ModelFault

from .conftest import PROVIDERS, Connect
from .loopback import Fault, Request, Response
from .talk import PING

pytestmark = [pytest.mark.wire, pytest.mark.chaos]


def limiter(model: Any) -> Limiter:
    found: Limiter = model._endpoint._limiter
    return found


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_retries_and_throttles_are_counted(connect: Connect, provider: str) -> None:
    wire = await connect(provider)
    wire.loopback.faults.extend([Fault(status=429), Fault(status=500), Fault(status=429), Fault(status=529)])
    model = wire.load()
    reply = await model.generate([PING])
    assert (reply.retries, reply.throttles) == (4, 2)
    assert 0 < reply.waited_s <= reply.latency_s
    again = await model.generate([PING])
    assert (again.retries, again.throttles) == (0, 0)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_clients_with_one_key_wait_together(connect: Connect, provider: str) -> None:
    """Another client of the same key is not let through either, and gives up at once: its budget is shorter."""
    wire = await connect(provider)
    first, second = wire.load(), wire.load(retry_budget_s=0.05)
    wire.loopback.faults.append(Fault(status=429, headers={"retry-after": "20"}))
    asked = asyncio.create_task(first.generate([PING]))
    while not limiter(first).paused_s:
        await asyncio.sleep(0.005)
    with pytest.raises(ModelFault, match="asks everybody with this key to wait"):
        await second.generate([PING])
    assert len(wire.loopback.requests) == 1
    asked.cancel()


async def test_an_exhausted_limit_is_waited_for_before_the_next_call(connect: Connect) -> None:
    wire = await connect("openai-compatible")
    model = wire.load(retry_max_wait_s=500.0, retry_budget_s=50.0)
    used_up = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}
    choice = {"message": {"role": "assistant", "content": "pong"}, "finish_reason": "stop"}
    wire.loopback.faults.append(Fault(status=200, headers=used_up, body={"choices": [choice]}))
    assert (await model.generate([PING])).text == "pong"
    assert 50 < limiter(model).paused_s <= 360
    with pytest.raises(ModelFault, match="asks everybody with this key to wait"):
        await model.generate([PING])
    assert len(wire.loopback.requests) == 1
    wire = await connect("openai-compatible")
    wire.loopback.faults.append(Fault(status=200, headers=used_up, body={"choices": [choice]}))
    model = wire.load(retry_max_wait_s=5.0)
    await model.generate([PING])
    assert limiter(model).paused_s <= 5, "what nobody was turned away for is believed for so long only"


async def test_ceiling(connect: Connect) -> None:
    wire = await connect("openai-compatible")
    one, two = (wire.load(max_concurrency=1) for _ in range(2))
    handle, at_a_time = wire.loopback._handle, []

    def counted(request: Request) -> Response:
        at_a_time.append(limiter(two).under_way)
        answer: Response = handle(request)
        return answer

    wire.loopback._handle = counted
    replies = await asyncio.gather(*(model.generate([PING]) for model in (one, two) * 5))
    assert all(reply.text == "pong" for reply in replies)
    assert at_a_time == [1] * 10
