"""What a run says about itself: the validation score that a solution printed, the visible tests that passed.

This is all that a search may go by. The benchmark's own score is never shown to it.
"""

from __future__ import annotations

import math
import re

_METRIC = re.compile(
    r"\b(?:validation|cross[- ]validation|cv|oof|out[- ]of[- ]fold)\b[^\n:=]*[:=]\s*"
    r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)",
    re.IGNORECASE,
)
_PYTEST = re.compile(r"\b(\d+) (passed|failed|errors?)\b")
_UNITTEST_RAN = re.compile(r"^Ran (\d+) tests?\b", re.MULTILINE)
_UNITTEST_BAD = re.compile(r"\b(?:failures|errors)=(\d+)")


def reported_metric(output: str) -> float | None:
    """The last "Validation metric: 0.83" (or "CV score = ...") in an output; None if there is none."""
    found = [float(match[1]) for match in _METRIC.finditer(output)]
    return found[-1] if found and math.isfinite(found[-1]) else None


def passed_share(output: str) -> float | None:
    """The share of tests that passed, by the closing lines of pytest or unittest; None if neither is there."""
    lines = output.strip().splitlines()[-5:]
    counts = {word.rstrip("s"): int(number) for number, word in _PYTEST.findall("\n".join(lines))}
    if counts:
        return counts.get("passed", 0) / sum(counts.values()) if sum(counts.values()) else None
    if ran := _UNITTEST_RAN.search(output):
        total, bad = int(ran[1]), sum(map(int, _UNITTEST_BAD.findall(lines[-1])))
        return (total - bad) / total if total else None
    return None
