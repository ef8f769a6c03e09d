"""Grading one submission: the bytes that an agent handed in, against the private answers.

The bytes are read as CSV and never as anything else. Whatever a metric raises because of them makes the submission
invalid; that a metric cannot even grade the gold submission is the grader's own fault, and never a zero.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from trellis.benchmarks.benchmark import GraderFault
from trellis.benchmarks.mle.competition import MISSING_EXTRA, Competition, CompetitionError
from trellis.benchmarks.mle.medals import share_beaten
from trellis.benchmarks.mle.metrics import InvalidSubmission

if TYPE_CHECKING:
    import pandas as pd

VALID = "Submission is valid."
INVALID = "Submission invalid!"
SMALLEST_CAP_BYTES = 1_000_000
LARGEST_CAP_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Report:
    """MLE-bench's competition report. `score` is None without a valid submission."""

    competition_id: str
    score: float | None
    gold_threshold: float
    silver_threshold: float
    bronze_threshold: float
    median_threshold: float
    any_medal: bool
    gold_medal: bool
    silver_medal: bool
    bronze_medal: bool
    above_median: bool
    submission_exists: bool
    valid_submission: bool
    is_lower_better: bool
    message: str
    """What the validity check says."""
    share_beaten: float
    """Share of the leaderboard that is beaten or tied."""

    def to_json(self) -> dict[str, Any]:
        """A score that is no finite number, which JSON cannot hold, is None here; it counts as valid all the same."""
        report = asdict(self)
        if self.score is not None and not math.isfinite(self.score):
            report["score"] = None
        return report


def grade(competition: Competition, content: bytes | None, name: str = "submission.csv") -> Report:
    """The report on a submission file's content (None: there is no file).

    Raises:
        GraderFault: the grader cannot work: its package, the answers or the metric are broken.
    """
    score, message = _score(competition, content, name)
    limits = competition.thresholds
    standing = limits.stand(score)
    return Report(
        competition_id=competition.id,
        score=score,
        gold_threshold=limits.gold,
        silver_threshold=limits.silver,
        bronze_threshold=limits.bronze,
        median_threshold=limits.median,
        any_medal=standing.any_medal,
        gold_medal=standing.gold_medal,
        silver_medal=standing.silver_medal,
        bronze_medal=standing.bronze_medal,
        above_median=standing.above_median,
        submission_exists=content is not None and _is_csv(name),
        valid_submission=score is not None,
        is_lower_better=limits.lower_is_better,
        message=message,
        share_beaten=share_beaten(competition.leaderboard, score),
    )


def validate(competition: Competition, content: bytes | None, name: str = "submission.csv") -> str:
    """Is a submission valid? The metric is computed and thrown away: nothing of the score is in the answer."""
    return _score(competition, content, name)[1]


def size_cap_bytes(competition: Competition) -> int:
    """No honest submission is larger: fifty times the gold one, from 1 MB to 100 MB."""
    return min(LARGEST_CAP_BYTES, max(SMALLEST_CAP_BYTES, 50 * competition.gold_submission.stat().st_size))


def _score(competition: Competition, content: bytes | None, name: str) -> tuple[float | None, str]:
    """The score, rounded to five decimals, and the verdict on validity."""
    if content is None:
        return None, f"{INVALID} Submission file {name} does not exist."
    if not _is_csv(name):
        return None, f"{INVALID} Submission file must be a CSV file."
    try:
        return round(_measure(competition, content), 5), VALID
    except InvalidSubmission as error:
        problem = str(error)
    except CompetitionError as error:
        raise GraderFault(str(error)) from error
    except Exception as error:
        _check_grader(competition, error)
        problem = f"{type(error).__name__}: {error}"
    return (
        None,
        f"{INVALID} The attempt to grade the submission has resulted in the following error message:\n{problem}",
    )


def _measure(competition: Competition, content: bytes) -> float:
    answers = _answers(competition)
    if len(content) > (cap := size_cap_bytes(competition)):
        raise InvalidSubmission(f"Submission has {len(content)} bytes; at most {cap} are read.")
    try:
        width = _width(content)
        if width > (most := 100 + 10 * _width(competition.gold_submission.read_bytes())):
            raise InvalidSubmission(f"Submission has {width} columns; at most {most} are read.")
        submission = _read_csv(content)
    except (InvalidSubmission, GraderFault):
        raise
    except Exception as error:  # the parsers' errors are of many types, and nothing but the content is at fault
        raise InvalidSubmission(f"Submission is not a readable CSV file: {str(error)[:200]}") from None
    return float(competition.grade(submission, answers))


def _width(content: bytes) -> int:
    """How many columns a table has, from its first two rows: pandas would spend a minute on a million of them."""
    rows = csv.reader(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline=""))
    return max((len(row) for row in itertools.islice(filter(None, rows), 2)), default=0)


def _check_grader(competition: Competition, error: Exception) -> None:
    """Raises GraderFault if the metric fails on the gold submission too."""
    try:
        competition.grade(_read_csv(competition.gold_submission.read_bytes()), _answers(competition))
    except Exception:
        raise GraderFault(f"the grader of {competition.id} fails: {type(error).__name__}: {error}") from error


def _answers(competition: Competition) -> pd.DataFrame:
    try:
        return _read_csv(competition.answers.read_bytes())
    except FileNotFoundError:
        raise GraderFault(f"the answers of {competition.id} are not at {competition.answers}") from None


def _read_csv(content: bytes) -> pd.DataFrame:
    """An empty file is an empty table. Decimal numbers are read exactly, as they were written."""
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise GraderFault(MISSING_EXTRA) from None
    if not content.strip():
        return pd.DataFrame()
    exact = {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
    return pd.read_csv(io.BytesIO(content), low_memory=False, **exact)


def _is_csv(name: str) -> bool:
    return PurePath(name).suffix.lower() == ".csv"
