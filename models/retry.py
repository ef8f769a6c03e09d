"""Trying again: what a provider may fail at for a while, for how long, and how patiently."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, Generic, TypeVar

from trellis.models.limiter import Limiter, Paused
from trellis.models.limits import retry_after_s
from trellis.models.model import ModelFault

if TYPE_CHECKING:
    from tenacity import RetryCallState

__all__ = ["RetryPolicy", "TransientError", "Tried", "passes", "retry_after_s", "with_retries"]

T = TypeVar("T")

_PASSING_STATUS = frozenset({408, 409, 425, 429})
"""Client errors that pass: timeout, conflict, too early, rate limit. All server errors do (529: overloaded)."""
_TOO_MANY = 429
_CROWDED = frozenset({_TOO_MANY, 529})
"""Fewer calls at a time help against these."""

_jitter = SystemRandom()
"""Not the global generator: waiting must not disturb anybody's seed."""


class TransientError(Exception):
    """The provider could not serve the request now; the same request may succeed later. One line, no secrets."""

    def __init__(self, message: str, retry_after_s: float | None = None, status: int | None = None) -> None:
        """`status`: of the HTTP answer, or what it would have been for an error that came under another."""
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.status = status


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how patiently to try again. Times in seconds."""

    budget_s: float = 600.0
    """No attempt begins later than this after the first one began. Queueing for a place does not count."""
    initial_wait_s: float = 1.0
    """Upper bound of the first wait; it doubles with every further attempt."""
    max_wait_s: float = 60.0
    """Upper bound of one wait, unless the provider asks for a longer one (Retry-After)."""
    max_concurrency: int | None = None
    """Calls at a time with one key at most, however well the provider takes them."""

    def wait_s(self, attempt: int, retry_after_s: float | None) -> float:
        """Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015); after what was asked for, if
        the provider said how long to wait, so that all who were told the same do not come back at once."""
        ceiling = min(self.max_wait_s, self.initial_wait_s * 2.0 ** min(attempt - 1, 60))
        return (retry_after_s or 0.0) + _jitter.uniform(0, ceiling)


@dataclass(frozen=True, slots=True)
class Tried(Generic[T]):
    """What came of trying until it worked."""

    value: T
    retries: int
    """Attempts that failed."""
    throttles: int
    """How many of them the provider turned away for asking too often."""
    waited_s: float
    """From the beginning until the attempt that succeeded began: queueing, back-off and the failed attempts."""


def passes(status: int) -> bool:
    """Whether an HTTP error of this status may go away by itself."""
    return status in _PASSING_STATUS or status >= 500


async def with_retries(
    attempt: Callable[[], Awaitable[T]], policy: RetryPolicy, name: str, limiter: Limiter | None = None
) -> Tried[T]:
    """Await `attempt()` until it succeeds; each attempt takes a place of the `limiter`.

    Only `TransientError` is tried again; every other exception passes through.

    Raises:
        ModelFault: the budget is spent, or the provider asks to wait for longer than is left of it.
    """
    from tenacity import AsyncRetrying, RetryError, retry_if_exception_type

    limiter = limiter or Limiter()
    ticket, ceiling = limiter.ticket(), policy.max_concurrency or math.inf
    started = began = time.monotonic()
    queued_s, throttles = 0.0, 0

    def spent_s() -> float:
        return time.monotonic() - started - queued_s

    async def timed() -> T:
        nonlocal began, queued_s, throttles
        asked = time.monotonic()
        async with limiter.place(ticket, ceiling=ceiling, patience_s=policy.budget_s - spent_s()) as place:
            began = time.monotonic()
            queued_s += began - asked
            try:
                return await attempt()
            except TransientError as error:
                throttles += error.status == _TOO_MANY
                if error.status in _CROWDED:
                    place.crowded(error.retry_after_s)
                raise

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.retry_after_s if isinstance(error, TransientError) else None
        return policy.wait_s(state.attempt_number, asked_s)

    def stop(state: RetryCallState) -> bool:
        return spent_s() + state.upcoming_sleep >= policy.budget_s

    retrying = AsyncRetrying(retry=retry_if_exception_type(TransientError), wait=wait, stop=stop)
    try:
        value: T = await retrying(timed)
    except RetryError as error:
        last = error.last_attempt
        raise ModelFault(
            f"{name}: gave up after {last.attempt_number} attempts in {time.monotonic() - started:.0f} s "
            f"(budget {policy.budget_s:g} s): {last.exception()}"
        ) from None
    except Paused as paused:
        raise ModelFault(
            f"{name}: the provider asks everybody with this key to wait for another {paused.left_s:.0f} s, longer than "
            f"is left of the retry budget of {policy.budget_s:g} s"
        ) from None
    failed: int = retrying.statistics["attempt_number"] - 1
    return Tried(value, failed, throttles, began - started)
