"""Accuracy and calibration as Humanity's Last Exam reports them (Phan et al. 2025, arXiv:2501.14249, and the
evaluation code published with it)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

BIN = 100
"""Questions in a bin of the calibration error."""

Norm = Literal["1", "2", "max"]


def accuracy(correct: int, questions: int) -> float:
    """Percent of all questions, judged or not, rounded to two decimals.

    Raises:
        ValueError: there are no questions.
    """
    if questions == 0:
        raise ValueError("accuracy is not defined without questions")
    return round(100 * correct / questions, 2)


def half_width(accuracy_percent: float, questions: int) -> float:
    """Half the 95 % Wald interval in percentage points, from the rounded accuracy, rounded to two decimals."""
    return round(1.96 * math.sqrt(accuracy_percent * (100 - accuracy_percent) / questions), 2)


def calibration_error(
    confidences_percent: Sequence[float],
    correct: Sequence[bool],
    *,
    mode: Literal["faithful", "fixed"] = "fixed",
    norm: Norm = "2",
) -> float:
    """How far stated confidence and accuracy lie apart, from 0 to 1, over bins of 100 answers of similar confidence.

    The bins follow one another in order of confidence; the last one takes the rest. `norm` combines their gaps:
    weighted mean ("1"), weighted root mean square ("2", the published one), or the largest ("max"). The published
    code leaves the last bin out, and so does `faithful`, for comparison with published figures; `fixed` counts every
    bin, and takes a single one for fewer than 200 answers.

    Raises:
        ValueError: no answers, or in `faithful` mode fewer than 100.
    """
    total = len(confidences_percent)
    if total == 0 or (mode == "faithful" and total < BIN):
        raise ValueError(
            f"the {mode} calibration error needs {1 if mode == 'fixed' else BIN} answers, there are {total}"
        )
    ordered = sorted(zip(confidences_percent, correct, strict=True), key=lambda pair: pair[0])
    starts = [BIN * n for n in range(max(1, total // BIN))]
    ends = [*starts[1:], total]
    counted = len(starts) - (mode == "faithful")
    gaps = [
        ((end - start) / total, _gap(ordered[start:end]))
        for start, end in list(zip(starts, ends, strict=True))[:counted]
    ]
    match norm:
        case "1":
            return sum(weight * gap for weight, gap in gaps)
        case "2":
            return math.sqrt(sum(weight * gap**2 for weight, gap in gaps))
        case "max":
            return max((gap for _, gap in gaps), default=0.0)


def _gap(answers: Sequence[tuple[float, bool]]) -> float:
    """Between mean confidence and accuracy of a bin."""
    return abs(math.fsum(confidence / 100 - right for confidence, right in answers)) / len(answers)
