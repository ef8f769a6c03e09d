"""Totals over graded submissions, and over seeds: MLE-bench's headline is the share of competitions with a medal.

A report is the mapping that `Report.to_json` gives; only its flags are read here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

ReportFlags: TypeAlias = Mapping[str, Any]

MEDALS = ("gold_medal", "silver_medal", "bronze_medal")
PERCENTAGES = {
    "submission_exists_percentage": ("submission_exists",),
    "valid_submissions_percentage": ("valid_submission",),
    "above_median_percentage": ("above_median",),
    "gold_medal_percentage": ("gold_medal",),
    "silver_medal_percentage": ("silver_medal",),
    "bronze_medal_percentage": ("bronze_medal",),
    "any_medal_percentage": MEDALS,
}
"""Name of a percentage -> the flags of which one must be true for a report to count."""


def totals(reports: Sequence[ReportFlags]) -> dict[str, int]:
    """How many runs there were, and how many handed in, were valid, won medals and beat the median."""

    def count(*flags: str) -> int:
        return sum(any(report[flag] for flag in flags) for report in reports)

    return {
        "total_runs": len(reports),
        "total_runs_with_submissions": count("submission_exists"),
        "total_valid_submissions": count("valid_submission"),
        "total_medals": count(*MEDALS),
        "total_gold_medals": count("gold_medal"),
        "total_silver_medals": count("silver_medal"),
        "total_bronze_medals": count("bronze_medal"),
        "total_above_median": count("above_median"),
    }


def percentages(reports: Sequence[ReportFlags]) -> dict[str, float]:
    """Each of `PERCENTAGES`, from 0 to 100, over at least one report."""
    return {
        name: 100 * sum(any(report[flag] for flag in flags) for report in reports) / len(reports)
        for name, flags in PERCENTAGES.items()
    }


def seeds(
    competitions: Sequence[str], reports: Iterable[ReportFlags], *, count: int = -1, pad_missing: bool = False
) -> list[list[ReportFlags]]:
    """Deal reports into seeds of exactly one report per competition; the order of the reports is the order of seeds.

    There are as many seeds as the competition with the fewest reports has. With `pad_missing` there are as many as
    the one with the most has, and a gap is a report of which nothing is true. `count` asks for so many, -1 for all.

    Raises:
        ValueError: no complete seed, fewer than asked for, or a competition without reports that may not be padded.
    """
    by_competition: dict[str, list[ReportFlags]] = {competition: [] for competition in competitions}
    for report in reports:
        if report["competition_id"] in by_competition:
            by_competition[report["competition_id"]].append(report)
    missing = [competition for competition, found in by_competition.items() if not found]
    if missing and not pad_missing:
        raise ValueError(f"Missing reports for competitions: {', '.join(missing)}; cannot build complete seeds.")
    available = (max if pad_missing else min)((len(found) for found in by_competition.values()), default=0)
    if available == 0:
        raise ValueError("No complete seeds available.")
    if count > available:
        raise ValueError(f"Requested {count} seeds, but only {available} complete seeds available.")
    return [
        [found[seed] if seed < len(found) else nothing(competition) for competition, found in by_competition.items()]
        for seed in range(available if count < 0 else count)
    ]


def nothing(competition: str) -> ReportFlags:
    """The report of an attempt that was never made."""
    return {
        "competition_id": competition,
        "submission_exists": False,
        "valid_submission": False,
        "above_median": False,
        **dict.fromkeys(MEDALS, False),
    }


def over_seeds(seed_reports: Sequence[Sequence[ReportFlags]]) -> dict[str, dict[str, float]]:
    """Mean, standard error (sample SD / sqrt(n), 0 for one seed) and normal 95 % interval of each percentage."""
    per_seed = [{"total_competitions": float(len(reports)), **percentages(reports)} for reports in seed_reports]
    return {name: _mean_with_error([metrics[name] for metrics in per_seed]) for name in per_seed[0]}


def pass_at_k(attempts: int, successes: int, k: int) -> float:
    """Chance that at least one of `k` attempts drawn from `attempts` succeeded: 1 - C(n-c, k) / C(n, k).

    Source: Chen et al. 2021, equation 1.
    """
    return 1.0 - math.comb(attempts - successes, k) / math.comb(attempts, k)


def _mean_with_error(values: Sequence[float]) -> dict[str, float]:
    mean = statistics.fmean(values)
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return {"mean": mean, "ci_lower": mean - 1.96 * error, "ci_upper": mean + 1.96 * error, "standard_error": error}
