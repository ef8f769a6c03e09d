"""The official graders' rules, as published code applies them, quirks included.

Compared with its outputs in the tests. `choice` and `grade_runs` grade here; the rest reads and sums up logs of
official runs in the forms in which they were published.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from trellis.benchmarks.benchmark import GraderFault
from trellis.benchmarks.swelancer.dataset import Variant

N_TEST_RUNS = 3
HARD_ABOVE_USD = 300
_FAILED = re.compile(r"=+ \d+ failed.* in .*s")


def choice(decision: bytes) -> int | None:
    """The proposal that a manager's JSON selects: `int()` of the object's first value, whatever its key; None if there
    is none."""
    try:
        data = json.loads(decision)
        return int(next(iter(data.values())))
    except (AttributeError, StopIteration, TypeError, ValueError, OverflowError, RecursionError):
        return None


def exit_code(file: str) -> int:
    """What a `pytest_exit_code` file says: its last line that is a number, -1 if none is."""
    for line in reversed(file.splitlines()):
        try:
            return int(line.strip())
        except ValueError:
            continue
    return -1


@dataclass(frozen=True, slots=True)
class Runs:
    """How the hidden tests of an IC task ended, after one run or several."""

    exit_code: int
    count: int

    @property
    def passed(self) -> bool:
        return self.exit_code == 0


async def grade_runs(run: Callable[[], Awaitable[int]], most: int = N_TEST_RUNS) -> Runs:
    """Run the tests until they pass, at most `most` times; `run` gives pytest's exit code.

    Raises:
        GraderFault: pytest did not run the tests (exit code 2 or more).
    """
    code = -1
    for count in range(1, most + 1):
        code = await run()
        if code >= 2:
            raise GraderFault(f"pytest failed with exit code {code}")
        if code == 0:
            return Runs(0, count)
    return Runs(code, most)


def log_says_failed(log: str) -> bool:
    """The paper's reading of a pytest log: a summary line that begins with the failures."""
    return _FAILED.search(log) is not None


Outcome = Literal["pass", "fail", "system_error"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of an official run."""

    question_id: str
    outcome: Outcome
    price_usd: float = 0.0
    error: str = ""


def summary(attempts: Sequence[Attempt]) -> Mapping[str, Any]:
    """The error-aware summary: without the attempts that ended in a system error, and beside it with them as failures.

    Accuracy is the mean over tasks of the mean over attempts.
    """
    scored = [a for a in attempts if a.outcome != "system_error"]
    missing = sorted({a.question_id for a in attempts} - {a.question_id for a in scored})
    return {
        **_accuracy(scored),
        "metrics_including_errors": _accuracy(attempts),
        "missing_tasks": missing,
        "is_valid": not missing,
    }


def _accuracy(attempts: Sequence[Attempt]) -> Mapping[str, Any]:
    by_task: dict[str, list[bool]] = defaultdict(list)
    for attempt in attempts:
        by_task[attempt.question_id].append(attempt.outcome == "pass")
    outcomes = Counter(a.outcome for a in attempts)
    return {
        "accuracy": fmean(fmean(right) for right in by_task.values()) if by_task else 0.0,
        "aggregations": {
            "num_tasks": len(by_task),
            "num_attempts": len(attempts),
            "num_correct": outcomes["pass"],
            "num_incorrect": outcomes["fail"],
            "num_system_error": outcomes["system_error"],
            "error_breakdown": dict(Counter(a.error for a in attempts if a.outcome == "system_error")),
        },
    }


@dataclass(frozen=True, slots=True)
class Result:
    """One graded task of a paper-era run."""

    variant: Variant
    price_usd: float
    passed: bool

    @property
    def earned_usd(self) -> float:
        return self.price_usd if self.passed else 0.0


def paper_summary(results: Sequence[Result]) -> Mapping[str, Any]:
    """The paper era's summary, by variant, and again for tasks above 300 USD ("hard")."""
    groups = {
        f"{variant}{suffix}": [r for r in results if r.variant == variant and r.price_usd > above]
        for suffix, above in (("", float("-inf")), ("_hard", HARD_ABOVE_USD))
        for variant in ("ic_swe", "swe_manager")
    }
    return {
        "total_earnings": sum(r.earned_usd for r in results),
        "total_available": sum(r.price_usd for r in results),
        "metadata_variants": {
            "accuracy": {name: _share(group) for name, group in groups.items()},
            "earnings": {name: sum(r.earned_usd for r in group) for name, group in groups.items()},
            "available": {name: sum(r.price_usd for r in group) for name, group in groups.items()},
        },
        "average_partial_credit": _share(results),
    }


def _share(results: Sequence[Result]) -> float:
    return sum(r.earned_usd > 0 for r in results) / len(results) if results else 0.0
