"""What a provider's headers say of its limits: how long to wait before asking again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_REMAINING = re.compile(r"(anthropic-ratelimit-[a-z-]+)-remaining|x-ratelimit-remaining-([a-z-]+)")
"""`anthropic-ratelimit-requests-remaining` with `-reset` (a time, RFC 3339); `x-ratelimit-remaining-tokens` with
`x-ratelimit-reset-tokens` (a duration, "6m0s")."""
_NAMES = re.compile(r"retry-after|anthropic-ratelimit-|x-ratelimit-")
_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|µs|ns|[dhms]))+")
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|[dhms])")


def of_limits(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of an answer's headers that are of use here."""
    return {name.lower(): value for name, value in headers.items() if _NAMES.match(name.lower())}


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """What a provider that turned a request away asks for: `retry-after-ms`, or `Retry-After` in seconds or as a date
    (RFC 9110, 10.2.3); where it has neither, the time until the limit that is used up is reset."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit_s)
        except (KeyError, ValueError):
            continue
    try:
        due = parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError):
        return exhausted_s(headers, now)
    return _until(due, now)


def exhausted_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """The time until every limit is reset of which the headers say that nothing remains; None if none is used up."""
    waits = []
    for name, left in headers.items():
        found = _REMAINING.fullmatch(name.lower())
        if found and left.strip() == "0":
            reset = f"{found[1]}-reset" if found[1] else f"x-ratelimit-reset-{found[2]}"
            waits.append(_reset_s(headers.get(reset, ""), now))
    known = [wait for wait in waits if wait is not None]
    return max(known) if known else None


def _reset_s(text: str, now: datetime | None) -> float | None:
    """Seconds until a reset that is given as a time, as a duration ("1h2m3.5s", "20ms"), or as plain seconds."""
    text = text.strip()
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _PIECE.findall(text))
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return _until(datetime.fromisoformat(text), now)
    except ValueError:
        return None


def _until(due: datetime, now: datetime | None) -> float:
    due = due if due.tzinfo else due.replace(tzinfo=UTC)
    return max(0.0, (due - (now or datetime.now(UTC))).total_seconds())
