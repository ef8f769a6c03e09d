"""Trying again: what a provider may fail at for a while, for how long, and how patiently."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import SystemRandom
from typing import TYPE_CHECKING, TypeVar

from trellis.models.model import ModelFault

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

_PASSING_STATUS = frozenset({408, 409, 425, 429})
"""Client errors that pass: timeout, conflict, too early, rate limit. All server errors do (529: overloaded)."""

_jitter = SystemRandom()
"""Not the global generator: waiting must not disturb anybody's seed."""


class TransientError(Exception):
    """The provider could not serve the request now; the same request may succeed later. One line, no secrets."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how patiently to try again. Times in seconds."""

    budget_s: float = 600.0
    """No attempt begins later than this after the first one began."""
    initial_wait_s: float = 1.0
    """Upper bound of the first wait; it doubles with every further attempt."""
    max_wait_s: float = 60.0
    """Upper bound of one wait, unless the provider asks for a longer one (Retry-After)."""

    def wait_s(self, attempt: int, retry_after_s: float | None) -> float:
        """Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015); after what was asked for, if
        the provider said how long to wait, so that all who were told the same do not come back at once."""
        ceiling = min(self.max_wait_s, self.initial_wait_s * 2.0 ** min(attempt - 1, 60))
        return (retry_after_s or 0.0) + _jitter.uniform(0, ceiling)


def passes(status: int) -> bool:
    """Whether an HTTP error of this status may go away by itself."""
    return status in _PASSING_STATUS or status >= 500


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """What the provider asks for: `retry-after-ms`, or `Retry-After` in seconds or as a date (RFC 9110, 10.2.3)."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit_s)
        except (KeyError, ValueError):
            continue
    try:
        due = parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    due = due if due.tzinfo else due.replace(tzinfo=UTC)
    return max(0.0, (due - (now or datetime.now(UTC))).total_seconds())


async def with_retries(attempt: Callable[[], Awaitable[T]], policy: RetryPolicy, name: str) -> tuple[T, float]:
    """Await `attempt()` until it succeeds; also returns the seconds that passed before the successful attempt began.

    Only `TransientError` is tried again; every other exception passes through.

    Raises:
        ModelFault: the budget is spent, or the provider asks to wait for longer than is left of it.
    """
    from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_before_delay

    started = began = time.monotonic()

    async def timed() -> T:
        nonlocal began
        began = time.monotonic()
        return await attempt()

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.retry_after_s if isinstance(error, TransientError) else None
        return policy.wait_s(state.attempt_number, asked_s)

    retrying = AsyncRetrying(
        retry=retry_if_exception_type(TransientError), wait=wait, stop=stop_before_delay(policy.budget_s)
    )
    try:
        return await retrying(timed), began - started
    except RetryError as error:
        last = error.last_attempt
        raise ModelFault(
            f"{name}: gave up after {last.attempt_number} attempts in {time.monotonic() - started:.0f} s "
            f"(budget {policy.budget_s:g} s): {last.exception()}"
        ) from None
