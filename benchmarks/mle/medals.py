"""MLE-bench's rules for a leaderboard: its direction, the scores that win a medal, and where a score stands.

A leaderboard is the list of its scores from best to worst; the order is trusted and never sorted again.
Source: Chan et al. 2024 (MLE-bench), section 2.2, and the progression system it takes from Kaggle.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a score stands. Medals exclude each other; without a score every one of them is False."""

    gold_medal: bool
    silver_medal: bool
    bronze_medal: bool
    above_median: bool

    @property
    def any_medal(self) -> bool:
        return self.gold_medal or self.silver_medal or self.bronze_medal


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The scores that must be met for each medal, and the median that must be beaten."""

    gold: float
    silver: float
    bronze: float
    median: float
    lower_is_better: bool

    def stand(self, score: float | None) -> Standing:
        """A tie with a threshold wins the medal; a tie with the median is not above it. NaN wins nothing."""
        if score is None:
            return Standing(False, False, False, False)
        gold, silver, bronze = (
            not_worse(score, t, self.lower_is_better) for t in (self.gold, self.silver, self.bronze)
        )
        return Standing(
            gold_medal=gold,
            silver_medal=silver and not gold,
            bronze_medal=bronze and not silver and not gold,
            above_median=score < self.median if self.lower_is_better else score > self.median,
        )


def lower_is_better(leaderboard: Sequence[float]) -> bool:
    """Do scores rise from the first row to the last? Equal ends mean that higher is better."""
    return leaderboard[0] < leaderboard[-1]


def medal_positions(entries: int) -> tuple[int, int, int]:
    """The last places, counted from 1, that win gold, silver and bronze among this many entries."""
    if entries < 100:
        return max(1, int(0.1 * entries)), max(1, int(0.2 * entries)), max(1, int(0.4 * entries))
    if entries < 250:
        return 10, int(0.2 * entries), int(0.4 * entries)
    gold = 10 + int(0.002 * entries)
    if entries < 1000:
        return gold, 50, 100
    return gold, int(0.05 * entries), int(0.1 * entries)


def thresholds(leaderboard: Sequence[float]) -> Thresholds:
    """Raises IndexError for an empty leaderboard. Rows without a score (NaN) do not count for the median."""
    gold, silver, bronze = (leaderboard[place - 1] for place in medal_positions(len(leaderboard)))
    median = statistics.median([score for score in leaderboard if not math.isnan(score)] or [math.nan])
    return Thresholds(gold, silver, bronze, median, lower_is_better(leaderboard))


def share_beaten(leaderboard: Sequence[float], score: float | None) -> float:
    """The share of entries, from 0 to 1, that a score beats or ties. Without a score, or with NaN, it is 0."""
    if score is None or math.isnan(score):
        return 0.0
    lower = lower_is_better(leaderboard)
    return sum(math.isnan(entry) or not_worse(score, entry, lower) for entry in leaderboard) / len(leaderboard)


def not_worse(score: float, other: float, lower: bool) -> bool:
    """Is `score` at least as good as `other`? Never true of NaN."""
    return score <= other if lower else score >= other
