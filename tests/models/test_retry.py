from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellis.models.model import ModelFault, ModelRequestError
from trellis.models.retry import RetryPolicy, TransientError, passes, retry_after_s, with_retries

QUICK = RetryPolicy(budget_s=20.0, initial_wait_s=0.001, max_wait_s=0.002)
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


class Flaky:
    """Fails as often as it has errors, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.attempts = 0

    async def __call__(self) -> str:
        self.attempts += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


async def test_no_fault_no_wait() -> None:
    attempt = Flaky()
    tried = await with_retries(attempt, QUICK, "m")
    assert (tried.value, tried.retries, tried.throttles, attempt.attempts) == ("answer", 0, 0, 1)


async def test_tries_again_until_it_works() -> None:
    attempt = Flaky(TransientError("busy", status=503), TransientError("busy", 0.05, status=429))
    tried = await with_retries(attempt, QUICK, "m")
    assert (tried.value, tried.retries, tried.throttles, attempt.attempts) == ("answer", 2, 1, 3)
    assert tried.waited_s >= 0.05


@pytest.mark.parametrize("error", [ModelRequestError("wrong"), KeyError("bug")])
async def test_other_errors_pass_through(error: Exception) -> None:
    attempt = Flaky(error)
    with pytest.raises(type(error)):
        await with_retries(attempt, QUICK, "m")
    assert attempt.attempts == 1


async def test_budget_ends_it_before_a_wait_that_would_exceed_it() -> None:
    attempt = Flaky(TransientError("busy", retry_after_s=60))
    with pytest.raises(ModelFault, match=r"m: gave up after 1 attempts in 0 s \(budget 20 s\): busy"):
        await with_retries(attempt, QUICK, "m")


async def test_waiting_does_not_disturb_anybodys_seed() -> None:
    random.seed(1)
    expected = random.random()
    random.seed(1)
    await with_retries(Flaky(TransientError("busy")), QUICK, "m")
    assert random.random() == expected


@given(attempt=st.integers(1, 2000), asked=st.none() | st.floats(0, 1000))
def test_full_jitter_after_what_was_asked_for(attempt: int, asked: float | None) -> None:
    policy = RetryPolicy(initial_wait_s=1.0, max_wait_s=60.0)
    wait_s = policy.wait_s(attempt, asked) - (asked or 0.0)
    assert -1e-9 <= wait_s <= min(60.0, 2.0 ** min(attempt - 1, 60)) + 1e-9


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_passing(status: int) -> None:
    assert passes(status)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_lasting(status: int) -> None:
    assert not passes(status)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"X-RateLimit-Remaining-Requests": "0", "x-ratelimit-reset-requests": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "12"}, 12.0),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "soon"}, None),
        (
            {
                "anthropic-ratelimit-requests-remaining": "7",
                "anthropic-ratelimit-requests-reset": "2026-11-23T13:00:00Z",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-23T12:00:40Z",
                "anthropic-ratelimit-output-tokens-remaining": "0",
                "anthropic-ratelimit-output-tokens-reset": "2026-11-23T12:00:20Z",
            },
            40.0,
        ),
        (
            {
                "retry-after": "3",
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-11-23T13:00:00Z",
            },
            3.0,
        ),
    ],
)
def test_retry_after(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(headers, NOW) == wait_s
