"""The metrics of competitions, and the checks that come before them.

Every function that takes tables raises `InvalidSubmission` with one line if the submission is not what was asked for,
so that a competition's `grade.py` is a few lines. Formulas are scikit-learn's where it has the metric.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class InvalidSubmission(Exception):
    """What was handed in is not what was asked for. The message is what a validity check tells."""


def aligned(
    submission: pd.DataFrame, answers: pd.DataFrame, *, id: str = "id", target: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The true and the predicted values of one column, matched by id. Further columns are allowed.

    Raises:
        InvalidSubmission: another number of rows, a missing column, or other ids than the answers have.
    """
    if len(submission) != len(answers):
        raise InvalidSubmission("Submission must have the same length as the answers.")
    for column in (target, id):
        if column not in submission.columns:
            raise InvalidSubmission(f"Submission must have a `{column}` column")
    ours, theirs = answers.sort_values(id), _sorted(submission, id)
    if list(ours[id]) != list(theirs[id]):
        raise InvalidSubmission(f"Submission and Answers `{id}`'s do not match")
    return ours[target].to_numpy(), theirs[target].to_numpy()


def numeric(values: np.ndarray[Any, Any], what: str, low: float = -math.inf, high: float = math.inf) -> Any:
    """The values as finite floats within bounds. Booleans count as 0 and 1, text never as a number.

    Raises:
        InvalidSubmission: some value is not.
    """
    import numpy as np

    if values.dtype.kind not in "biuf":
        raise InvalidSubmission(f"`{what}` must hold numbers only")
    numbers = values.astype(float)
    if not np.isfinite(numbers).all():
        raise InvalidSubmission(f"`{what}` holds empty or infinite values")
    if (numbers < low).any():
        raise InvalidSubmission(f"`{what}` must be at least {low:g}")
    if (numbers > high).any():
        raise InvalidSubmission(f"`{what}` must be at most {high:g}")
    return numbers


def labels(values: np.ndarray[Any, Any], known: Sequence[Any], what: str) -> np.ndarray[Any, Any]:
    """The values, each of which is one of the known labels.

    Raises:
        InvalidSubmission: some value is not; the message names one.
    """
    strange = next((value for value in values.tolist() if value not in known), None)
    if strange is not None:
        raise InvalidSubmission(f"`{what}` holds {str(strange)[:40]!r}; known: {', '.join(map(str, known))[:200]}")
    return values


def accuracy(submission: pd.DataFrame, answers: pd.DataFrame, *, id: str = "id", target: str) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(*aligned(submission, answers, id=id, target=target)))


def auroc(submission: pd.DataFrame, answers: pd.DataFrame, *, id: str = "id", target: str) -> float:
    """Area under the ROC curve of scores between 0 and 1; NaN if the answers hold a single class."""
    from sklearn.metrics import roc_auc_score

    truth, predicted = aligned(submission, answers, id=id, target=target)
    scores = numeric(predicted, target, 0.0, 1.0)
    return float(roc_auc_score(truth, scores)) if len(set(truth.tolist())) > 1 else math.nan


def log_loss(submission: pd.DataFrame, answers: pd.DataFrame, *, id: str = "id", target: str) -> float:
    """Mean negative log-likelihood of a 0/1 target given the predicted probability of 1."""
    import numpy as np

    truth, predicted = aligned(submission, answers, id=id, target=target)
    chance = numeric(predicted, target, 0.0, 1.0)
    return cross_entropy(np.column_stack([1 - truth, truth]), np.column_stack([1 - chance, chance]))


def multiclass_log_loss(
    submission: pd.DataFrame,
    answers: pd.DataFrame,
    *,
    id: str = "id",
    classes: Sequence[str],
    apply_softmax: bool = False,
) -> float:
    """Log loss of a probability column per class; the answers hold 1 in the true class's column.

    With `apply_softmax` the columns are logits, unless every row is one-hot already.
    """
    import numpy as np

    columns = [aligned(submission, answers, id=id, target=name) for name in classes]
    truth = np.column_stack([true for true, _ in columns])
    chances = np.column_stack([numeric(predicted, name) for (_, predicted), name in zip(columns, classes, strict=True)])
    one_hot = np.isin(chances, (0, 1)).all() and (chances.sum(axis=1) == 1).all()
    if apply_softmax and not one_hot:
        powers = np.exp(chances - chances.max(axis=1, keepdims=True))
        chances = powers / powers.sum(axis=1, keepdims=True)
    elif chances.min() < 0 or chances.max() > 1:
        raise InvalidSubmission("probabilities must lie between 0 and 1")
    return cross_entropy(truth, chances)


def cross_entropy(truth: np.ndarray[Any, Any], chances: np.ndarray[Any, Any]) -> float:
    """Mean over rows of -log of the true class's probability, clipped to the machine epsilon.

    Rows whose sum is not 1, but for rounding, are scaled to it: certainty in every class at once must not pay.
    """
    import numpy as np

    epsilon = np.finfo(float).eps
    clipped = np.clip(chances, epsilon, 1 - epsilon)
    sums = clipped.sum(axis=1, keepdims=True)
    scaled = clipped / np.where(abs(sums - 1) < 1e-3, 1.0, sums)
    return float(-(truth * np.log(scaled)).sum(axis=1).mean())


def rmse(submission: pd.DataFrame, answers: pd.DataFrame, *, id: str = "id", target: str) -> float:
    """Root of the mean squared error."""
    truth, predicted = aligned(submission, answers, id=id, target=target)
    return float(((truth - numeric(predicted, target)) ** 2).mean() ** 0.5)


def rmsle(submission: pd.DataFrame, answers: pd.DataFrame, *, id: str = "id", target: str) -> float:
    """Root of the mean squared error of log(1 + value); predictions must not be negative."""
    import numpy as np

    truth, predicted = aligned(submission, answers, id=id, target=target)
    return float(((np.log1p(truth) - np.log1p(numeric(predicted, target, 0.0))) ** 2).mean() ** 0.5)


def mae(submission: pd.DataFrame, answers: pd.DataFrame, *, id: str = "id", target: str) -> float:
    """Mean absolute error."""
    truth, predicted = aligned(submission, answers, id=id, target=target)
    return float(abs(truth - numeric(predicted, target)).mean())


def f1_macro(submission: pd.DataFrame, answers: pd.DataFrame, *, id: str = "id", target: str) -> float:
    """Mean over the classes of the answers of their F1; a class that is never predicted counts 0."""
    from sklearn.metrics import f1_score

    truth, predicted = aligned(submission, answers, id=id, target=target)
    classes = sorted(set(truth.tolist()))
    labels(predicted, classes, target)
    return float(f1_score(truth, predicted, labels=classes, average="macro", zero_division=0))


def quadratic_weighted_kappa(
    submission: pd.DataFrame, answers: pd.DataFrame, *, id: str = "id", target: str, classes: Sequence[int]
) -> float:
    """Cohen's kappa of integer grades with squared distances as weights: 1 is perfect, 0 is chance."""
    from sklearn.metrics import cohen_kappa_score

    truth, predicted = aligned(submission, answers, id=id, target=target)
    grades = labels(numeric(predicted, target), classes, target).astype(int)
    return float(cohen_kappa_score(truth, grades, labels=list(classes), weights="quadratic"))


def average_precision_at_k(actual: Sequence[Any], predicted: Sequence[Any], k: int) -> float:
    """Precision summed over the ranks of the hits among the first `k`, divided by min(number of actual, k).

    A value counts as a hit once, where it first occurs. Nothing actual gives 0.
    """
    if not actual:
        return 0.0
    hits, total = 0, 0.0
    for rank, value in enumerate(predicted[:k], start=1):
        if value in actual and value not in predicted[: rank - 1]:
            hits += 1
            total += hits / rank
    return total / min(len(actual), k)


def mean_average_precision_at_k(actual: Sequence[Sequence[Any]], predicted: Sequence[Sequence[Any]], k: int) -> float:
    """The mean of `average_precision_at_k` over rows."""
    pairs = list(zip(actual, predicted, strict=True))
    return sum(average_precision_at_k(a, p, k) for a, p in pairs) / len(pairs)


def dice(predicted: Any, true: Any, *, both_empty: float = math.nan) -> float:
    """Twice the overlap of two masks of 0 and 1, divided by the sum of their sizes."""
    import numpy as np

    first, second = np.asarray(predicted, dtype=bool), np.asarray(true, dtype=bool)
    if first.shape != second.shape:
        raise InvalidSubmission(f"masks of different shapes: {first.shape} and {second.shape}")
    size = int(first.sum() + second.sum())
    return 2 * int((first & second).sum()) / size if size else both_empty


def rle_encode(mask: Any) -> str:
    """Run lengths of a mask as "start length start length ...": from 1, down the columns, left to right."""
    import numpy as np

    pixels = np.concatenate([[0], np.asarray(mask, dtype=int).flatten(order="F"), [0]])
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    edges[1::2] -= edges[::2]
    return " ".join(map(str, edges))


def rle_decode(text: str, height: int, width: int) -> np.ndarray[Any, Any]:
    """The mask that `rle_encode` wrote; blank text is an empty mask.

    Raises:
        InvalidSubmission: odd or non-numeric fields, or runs that are empty, unsorted, overlapping or out of the image.
    """
    import numpy as np

    try:
        fields = [int(field) for field in text.split()]
    except ValueError:
        raise InvalidSubmission(f"run lengths must be whole numbers: {text[:40]!r}") from None
    if len(fields) % 2:
        raise InvalidSubmission("run lengths must come in pairs of start and length")
    pixels = np.zeros(height * width, dtype=np.uint8)
    end = 1
    for start, length in zip(fields[::2], fields[1::2], strict=True):
        if start < end or length < 1 or start + length - 1 > pixels.size:
            raise InvalidSubmission(f"run {start} {length} is empty, unsorted, overlapping or outside the image")
        end = start + length
        pixels[start - 1 : end - 1] = 1
    return pixels.reshape((height, width), order="F")


def _sorted(submission: pd.DataFrame, id: str) -> pd.DataFrame:
    try:
        return submission.sort_values(id)
    except TypeError:
        raise InvalidSubmission(f"`{id}` mixes text and numbers") from None
