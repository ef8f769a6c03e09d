"""The MLE-bench adapter: competitions as tasks, their graders as scores."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from trellis.benchmarks.benchmark import Cheat, Grader, GraderFault, Score
from trellis.benchmarks.mle import grade, instructions
from trellis.benchmarks.mle.aggregate import nothing, percentages
from trellis.benchmarks.mle.cheats import CHEATS
from trellis.benchmarks.mle.collect import collect
from trellis.benchmarks.mle.competition import Competition, CompetitionError, load
from trellis.benchmarks.mle.prepare import ensure_prepared
from trellis.environments.environment import Environment, EnvironmentSpec, Files
from trellis.models.messages import Text
from trellis.scaffolds.task import Submission, Task

HERE = Path(__file__).parent
SUBMISSION = "submission/submission.csv"
HIDDEN = ("sklearn/datasets/data", "trellis/benchmarks")
"""The originals of bundled data; and the code that makes the answers, where Trellis is installed beside libraries."""
PRELOAD = (
    "numpy",
    "pandas",
    "sklearn.ensemble",
    "sklearn.pipeline",
    "sklearn.impute",
    "sklearn.compose",
    "sklearn.linear_model",
    "sklearn.svm",
    "sklearn.neighbors",
    "sklearn.model_selection",
)


class Mle:
    """MLE-bench (Chan et al. 2024). The split `sample` ships with Trellis; `competitions` may be any folder of
    competitions in the official package format, for example of an mle-bench checkout."""

    name = "mle"
    version = "1"
    judge: str | None = None

    def __init__(
        self,
        competitions: Path | None = None,
        data_dir: Path | None = None,
        splits: Path | None = None,
        verify: bool = True,
    ) -> None:
        """`data_dir` holds `<id>/raw` and `<id>/prepared` (default: below `$TRELLIS_CACHE` or `~/.cache/trellis`);
        `splits` is a folder of files with an id per line; `verify=False` skips the checksums.

        Raises:
            ValueError: one of the folders does not exist.
        """
        self._competitions = _folder("competitions", competitions) or HERE / "competitions"
        self._data_dir = _folder("data_dir", data_dir) or default_data_dir()
        self._splits = _folder("splits", splits) or (None if competitions else HERE / "splits")
        self._verify = verify
        self.competition = cache(self._load)
        """A competition by id, with its data prepared. Raises CompetitionError."""

    def splits(self) -> Sequence[str]:
        """The names of the split files, and `all`."""
        named = {path.stem for path in self._splits.iterdir() if path.is_file()} if self._splits else set()
        return [*sorted(named - {"all"}), "all"]

    def ids(self, split: str) -> list[str]:
        """The competitions of a split. Raises ValueError for an unknown split."""
        if split not in self.splits():
            raise ValueError(f"unknown split {split!r} of mle; known: {', '.join(self.splits())}")
        if split == "all" or self._splits is None:
            return sorted(path.parent.name for path in self._competitions.glob("*/config.yaml"))
        file = next(path for path in self._splits.iterdir() if path.stem == split)
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]

    def tasks(self, split: str) -> Iterable[Task]:
        """Data are prepared as the tasks are iterated over. Raises ValueError."""
        return self._tasks(self.ids(split))

    async def collect(self, task: Task, environment: Environment | None, answer: str) -> Submission:
        if environment is None:
            return Submission(answer)
        return await collect(environment, SUBMISSION, answer, grade.size_cap_bytes(self._graded(task.id)))

    async def score(self, task: Task, submission: Submission, grader: Grader) -> Score:
        """The share of the leaderboard that is beaten or tied; any medal is a success."""
        refused = submission.files.get("refused.txt", b"").decode()
        report = await asyncio.to_thread(self.grade, task.id, submission.files.get("submission.csv"))
        return Score(
            value=report.share_beaten,
            success=report.any_medal,
            valid=report.valid_submission,
            explanation=refused or report.message,
            evidence=report.to_json(),
            flags=(refused.partition(":")[0],) if refused else (),
        )

    def grade(self, id: str, content: bytes | None) -> grade.Report:
        """MLE-bench's report on a submission file. Raises GraderFault."""
        return grade.grade(self._graded(id), content)

    def validate(self, id: str, content: bytes | None) -> str:
        """Whether a submission is valid, and what is wrong with it, without a word on its score."""
        return grade.validate(self._graded(id), content)

    async def oracle(self, task: Task) -> Submission:
        gold = self.competition(task.id).gold_submission
        return Submission(files={"submission.csv": await asyncio.to_thread(gold.read_bytes)})

    def cheats(self, task: Task) -> Sequence[Cheat]:
        return CHEATS

    def metrics(self, scores: Sequence[Score]) -> Mapping[str, float]:
        """MLE-bench's percentages over all episodes, from 0 to 100; a score without a report counts as nothing made."""
        return percentages([score.evidence or nothing("") for score in scores]) if scores else {}

    def _tasks(self, ids: Sequence[str]) -> Iterator[Task]:
        for id in ids:
            competition = self.competition(id)
            yield Task(
                id=id,
                prompt=(Text(instructions.prompt(competition, SUBMISSION)),),
                environment=EnvironmentSpec(
                    files=(Files(str(competition.public), "input"),),
                    setup="mkdir -p submission working",
                    hidden=HIDDEN,
                    preload=PRELOAD,
                ),
                facts={
                    "kind": "ml",
                    "submission": SUBMISSION,
                    "metric": competition.config.grader.name,
                    "lower_is_better": competition.thresholds.lower_is_better,
                },
            )

    def _graded(self, id: str) -> Competition:
        try:
            return self.competition(id)
        except CompetitionError as error:
            raise GraderFault(str(error)) from error

    def _load(self, id: str) -> Competition:
        folder = self._competitions / id
        if not (folder / "config.yaml").is_file():
            raise CompetitionError(f"there is no competition {id!r} in {self._competitions}")
        competition = load(folder, self._data_dir)
        ensure_prepared(competition, verify=self._verify)
        return competition


def _folder(option: str, path: Path | None) -> Path | None:
    folder = path and path.expanduser().resolve()
    if folder and not folder.is_dir():
        raise ValueError(f"{option}={path}: there is no such folder")
    return folder


def default_data_dir() -> Path:
    root = Path(os.environ.get("TRELLIS_CACHE") or "~/.cache/trellis")
    return root.expanduser().resolve() / "mle"
