"""A competition in MLE-bench's package format: a folder with `config.yaml`, `description.md`, `prepare.py`, `grade.py`,
`leaderboard.csv` and `checksums.yaml`, and a data folder with `raw/` and `prepared/{public,private}/`.

The Python files are data of the competition, not packages: they are loaded by their path, so an id may hold dashes
and a folder of competitions may lie anywhere.
"""

from __future__ import annotations

import csv
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from trellis.benchmarks.mle.medals import Thresholds, thresholds


class CompetitionError(ValueError):
    """A competition's package or data are not as they should be. One line: what, where, what would be right."""


class DatasetConfig(BaseModel):
    """Files of the data, relative to the data folder."""

    answers: Path
    sample_submission: Path
    gold_submission: Path | None = None
    """A submission that scores best; the answers themselves where they have the right form."""


class GraderConfig(BaseModel):
    name: str
    """The metric's name."""
    grade_fn: str
    """ "module:function"; the module's last part is a file of the competition's folder."""


class CompetitionConfig(BaseModel):
    """`config.yaml`. Further keys of the official files (prizes, kernels ...) are left alone."""

    model_config = ConfigDict(extra="ignore")

    id: str
    name: str
    competition_type: Literal["simple", "code"]
    awards_medals: bool = True
    """For information: medals are awarded in every competition."""
    description: Path | None = None
    dataset: DatasetConfig
    grader: GraderConfig
    preparer: str
    """ "module:function", called with exactly (raw, public, private)."""


@dataclass(frozen=True)
class Competition:
    """One competition: its package folder, its configuration, and where its data lie or will lie."""

    folder: Path
    config: CompetitionConfig
    data_dir: Path

    @property
    def id(self) -> str:
        return self.config.id

    @property
    def raw(self) -> Path:
        return self.data_dir / self.id / "raw"

    @property
    def prepared(self) -> Path:
        return self.data_dir / self.id / "prepared"

    @property
    def public(self) -> Path:
        """What an agent gets."""
        return self.prepared / "public"

    @property
    def private(self) -> Path:
        """What no agent may reach."""
        return self.prepared / "private"

    @property
    def answers(self) -> Path:
        return self.data_dir / self.config.dataset.answers

    @property
    def sample_submission(self) -> Path:
        return self.data_dir / self.config.dataset.sample_submission

    @property
    def gold_submission(self) -> Path:
        return self.data_dir / (self.config.dataset.gold_submission or self.config.dataset.answers)

    @cached_property
    def description(self) -> str:
        name = self.config.description.name if self.config.description else "description.md"
        return _text(self.folder / name)

    @cached_property
    def leaderboard(self) -> list[float]:
        """The scores from best to worst, in the order of the file; NaN where a row has none."""
        path = self.folder / "leaderboard.csv"
        rows = list(csv.DictReader(_text(path).splitlines()))
        if not rows or "score" not in rows[0]:
            raise CompetitionError(f"{path}: expected rows with a column `score`")
        try:
            return [float(row["score"]) if row["score"] else math.nan for row in rows]
        except ValueError as error:
            raise CompetitionError(f"{path}: {error}") from None

    @cached_property
    def thresholds(self) -> Thresholds:
        return thresholds(self.leaderboard)

    @cached_property
    def grade(self) -> Callable[[Any, Any], float]:
        """`grade(submission, answers)`: two tables to a score."""
        return self._function(self.config.grader.grade_fn)

    @cached_property
    def prepare(self) -> Callable[[Path, Path, Path], Any]:
        return self._function(self.config.preparer)

    def _function(self, place: str) -> Callable[..., Any]:
        module_name, _, name = place.partition(":")
        path = self.folder / f"{module_name.rpartition('.')[2]}.py"
        if not path.is_file():
            raise CompetitionError(f"competition {self.id}: {place!r} needs {path}, which does not exist")
        spec = importlib.util.spec_from_file_location(f"competition_{self.id}_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except ModuleNotFoundError as error:
            raise missing_package(error, str(path)) from None
        try:
            function: Callable[..., Any] = getattr(module, name)
        except AttributeError:
            raise CompetitionError(f"{path} has no function {name!r}") from None
        return function


def load(folder: Path, data_dir: Path) -> Competition:
    """Raises CompetitionError: no such competition, or its `config.yaml` is broken."""
    path = folder / "config.yaml"
    try:
        config = CompetitionConfig.model_validate(read_yaml(path))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise CompetitionError(f"{path}: {problems}") from None
    if config.id != folder.name:
        raise CompetitionError(f"{path}: id is {config.id!r}, but the folder is {folder.name!r}")
    return Competition(folder, config, data_dir)


def read_yaml(path: Path) -> Any:
    """Raises CompetitionError: the file is missing or is not YAML."""
    try:
        import yaml
    except ModuleNotFoundError:
        raise CompetitionError(MISSING_EXTRA) from None
    try:
        return yaml.safe_load(_text(path))
    except yaml.YAMLError as error:
        raise CompetitionError(f"{path}: {' '.join(str(error).split())}") from None


MISSING_EXTRA = "MLE-bench needs pandas, scikit-learn and PyYAML: pip install 'trellis-agents[mle]'"


def missing_package(error: ModuleNotFoundError, who: str) -> CompetitionError:
    """What to install, in one line."""
    package = (error.name or "").partition(".")[0]
    if package in ("numpy", "pandas", "sklearn", "yaml"):
        return CompetitionError(MISSING_EXTRA)
    return CompetitionError(f"{who} needs the package {package!r}, which is not installed")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CompetitionError(f"{path} does not exist") from None
