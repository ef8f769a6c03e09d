"""Untrusted text and numbers, made fit to be shown."""

from __future__ import annotations

from trellis.models.carry import counted
from trellis.models.terminal import visible as visible
from trellis.runs.stats import Interval
from trellis.scaffolds.budget import Calls

UNKNOWN = "–"


def plural(count: int, noun: str) -> str:
    """ "1 task", "2 tasks"."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def line(text: str, limit: int = 200) -> str:
    """`text` on one line of at most `limit` characters, fit to be printed."""
    flat = " ".join(visible(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def number(value: float | None, digits: int = 3) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def interval(value: Interval | None, digits: int = 3, *, signed: bool = False) -> str:
    """ "0.512 [0.400, 0.610]"."""
    if value is None:
        return UNKNOWN
    sign = "+" if signed else ""
    shown = f"{value.value:{sign}.{digits}f}"
    if value.low is None or value.high is None:
        return shown
    return f"{shown} [{value.low:{sign}.{digits}f}, {value.high:{sign}.{digits}f}]"


def rate(value: Interval | None) -> str:
    """ "85% [70%, 95%]"."""
    if value is None:
        return UNKNOWN
    if value.low is None or value.high is None:
        return f"{value.value:.0%}"
    return f"{value.value:.0%} [{value.low:.0%}, {value.high:.0%}]"


def metric(value: float | None) -> str:
    """A benchmark's own number: "1,250", "0.4137"."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.2f}"


def count(value: float | None) -> str:
    """ "950", "12.3k", "4.5M"."""
    if value is None:
        return UNKNOWN
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}" if value == int(value) or value >= 100 else f"{value:.1f}"


def usd(value: float | None) -> str:
    if value is None:
        return "unpriced"
    if 0 < value < 0.00005:
        return "<$0.0001"  # it did cost something
    return f"${value:.2f}" if value >= 1 or value == 0 else f"${value:.4f}"


def calls(value: Calls) -> list[tuple[str, str]]:
    """What there is to be told of calls: "throttled (429)", "12". Nothing where all went well."""
    told = [
        ("calls tried again", f"{value.retries:,}" if value.retries else ""),
        ("of them throttled (429)", f"{value.throttles:,}" if value.throttles else ""),
        ("waited for the provider", seconds(value.waited_s) if value.waited_s >= 1 else ""),
        ("spared by the reply cache", usd(value.saved_usd) if value.saved_usd else ""),
        *((f"left behind: {kind}", f"{number:,}") for kind, number in map(counted, value.dropped)),
    ]
    return [(what, amount) for what, amount in told if amount]


def seconds(value: float | None) -> str:
    """ "0.4 s", "38 s", "4 m 10 s", "2 h 5 m"."""
    if value is None:
        return UNKNOWN
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} m"


def p_value(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
