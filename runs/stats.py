"""What can honestly be said about means and differences, in the standard library alone.

Tasks are the unit: episodes of one task share its difficulty, so intervals resample tasks with their epochs
(Miller 2024, "Adding Error Bars to Evals", arXiv:2411.00640). Everything is deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from random import Random
from statistics import NormalDist, fmean, variance

LEVEL = 0.95
ALPHA = 1 - LEVEL
RESAMPLES = 4000
EXACT_UP_TO = 14
"""Sign tests enumerate all 2^n assignments up to this n, and draw `RESAMPLES` of them above it."""

ByTask = Mapping[str, Sequence[float]]
"""Task -> the values of its epochs."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval; the bounds are None where the data cannot tell (fewer than two tasks)."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Agent A minus agent B over the tasks (and epochs) that both have scored episodes of.

    `p_value` asks about tasks like these (signs of whole tasks are flipped); `p_these_tasks` about these very tasks
    (signs of paired episodes are flipped). Both are two-sided.
    """

    difference: Interval
    tasks: int
    episodes: int
    wins: int
    losses: int
    p_value: float
    p_these_tasks: float

    @property
    def ties(self) -> int:
        return self.tasks - self.wins - self.losses


def mean_of_tasks(values: ByTask) -> float:
    return fmean(fmean(epochs) for epochs in values.values())


def mean_interval(values: ByTask) -> Interval:
    """The mean over tasks; its interval is a percentile bootstrap over tasks (Efron & Tibshirani 1993, 13.3)."""
    means = [fmean(epochs) for epochs in values.values()]
    value = fmean(means)
    if len(means) < 2:
        return Interval(value)
    random = Random(0)
    n = len(means)
    resampled = sorted(sum(random.choices(means, k=n)) / n for _ in range(RESAMPLES))
    tail = round(RESAMPLES * ALPHA / 2)
    return Interval(value, resampled[tail], resampled[-tail - 1])


def rate_interval(values: ByTask) -> Interval:
    """A share of successes with Wilson's interval (1927), its sample size divided by the design effect of clustering by
    task (Kish 1965); where the effect cannot be estimated, each task counts as one observation."""
    episodes = sum(len(epochs) for epochs in values.values())
    tasks = len(values)
    rate = mean_of_tasks(values)
    spread = rate * (1 - rate) / episodes
    if spread > 0 and tasks > 1:
        clustered = variance([fmean(epochs) for epochs in values.values()]) / tasks
        effective = episodes / min(max(1.0, clustered / spread), episodes / tasks)
    else:
        effective = float(tasks)
    z = NormalDist().inv_cdf(1 - ALPHA / 2)
    centre = (rate + z * z / (2 * effective)) / (1 + z * z / effective)
    half = z / (1 + z * z / effective) * math.sqrt(rate * (1 - rate) / effective + (z / (2 * effective)) ** 2)
    return Interval(rate, max(0.0, centre - half), min(1.0, centre + half))


def paired_difference(a: Mapping[str, Mapping[int, float]], b: Mapping[str, Mapping[int, float]]) -> Difference | None:
    """Compare two agents; both map task -> epoch -> score. None where they have no episode in common."""
    pairs = {
        task: [epochs[e] - b[task][e] for e in sorted(epochs) if e in b[task]]
        for task, epochs in a.items()
        if task in b
    }
    pairs = {task: differences for task, differences in pairs.items() if differences}
    if not pairs:
        return None
    by_task = [fmean(differences) for differences in pairs.values()]
    weighted = [d / len(differences) for differences in pairs.values() for d in differences]
    return Difference(
        difference=mean_interval(pairs),
        tasks=len(pairs),
        episodes=len(weighted),
        wins=sum(d > 1e-12 for d in by_task),
        losses=sum(d < -1e-12 for d in by_task),
        p_value=sign_flip_p(by_task),
        p_these_tasks=sign_flip_p(weighted),
    )


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p-value of the sum under random signs (Fisher 1935): exact up to `EXACT_UP_TO` differences that are not
    zero, otherwise from draws, as (1 + as extreme) / (1 + drawn) (Phipson & Smyth 2010)."""
    moving = [abs(d) for d in differences if abs(d) > 1e-12]
    if not moving:
        return 1.0
    observed = abs(sum(differences)) - 1e-9
    if len(moving) <= EXACT_UP_TO:
        sums: list[float] = [0.0]
        for d in moving:
            sums = [s + sign for s in sums for sign in (d, -d)]
        return fmean(abs(s) >= observed for s in sums)
    random = Random(0)
    n = len(moving)
    draws = (sum(map(mul, moving, random.choices((1.0, -1.0), k=n))) for _ in range(RESAMPLES))
    extreme: int = sum(abs(total) >= observed for total in draws)
    return (1 + extreme) / (1 + RESAMPLES)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for being one of several (Holm 1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted
