"""What `offline/tabular` understands of what it is shown: the task's files, columns and metric."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["label", "probability", "value"]


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    pattern: str
    kind: Kind
    """What a submission holds: labels, probabilities, or values."""
    function: str
    """The function of sklearn.metrics that computes it."""
    expression: str
    """Python, given `y` and the held-out predictions `oof`."""
    lower_is_better: bool = False


METRICS = (
    Metric(
        "quadratic weighted kappa",
        r"quadratic(?:ally)?[- ]weighted[- ]kappa|\bqwk\b",
        "label",
        "cohen_kappa_score",
        'cohen_kappa_score(y, oof, weights="quadratic")',
    ),
    Metric(
        "log loss",
        r"log(?:arithmic)?[- ]?loss|cross[- ]entropy",
        "probability",
        "log_loss",
        "log_loss(y, oof)",
        True,
    ),
    Metric(
        "AUC",
        r"\bau-?(?:ro)?c\b|\broc\b|area under the (?:roc|receiver)",
        "probability",
        "roc_auc_score",
        "roc_auc_score(y, oof)",
    ),
    Metric(
        "RMSLE",
        r"\brmsle\b|root mean squared? log",
        "value",
        "mean_squared_log_error",
        "mean_squared_log_error(y, oof) ** 0.5",
        True,
    ),
    Metric(
        "RMSE",
        r"\brmse\b|root[- ]mean[- ]squared?[- ]error",
        "value",
        "mean_squared_error",
        "mean_squared_error(y, oof) ** 0.5",
        True,
    ),
    Metric(
        "MAE",
        r"\bmae\b|mean absolute error",
        "value",
        "mean_absolute_error",
        "mean_absolute_error(y, oof)",
        True,
    ),
    Metric("R2", r"\br2\b|r²|\br\^2\b|coefficient of determination", "value", "r2_score", "r2_score(y, oof)"),
    Metric(
        "macro F1",
        r"macro[- ](?:averaged[- ])?f-?1|f-?1[^.\n]{0,20}macro|f1_macro",
        "label",
        "f1_score",
        'f1_score(y, oof, average="macro")',
    ),
    Metric("F1", r"\bf-?1\b", "label", "f1_score", "f1_score(y, oof)"),
    Metric(
        "balanced accuracy",
        r"balanced[- ]accuracy",
        "label",
        "balanced_accuracy_score",
        "balanced_accuracy_score(y, oof)",
    ),
    Metric(
        "accuracy", r"accuracy|correctly (?:classified|predicted)", "label", "accuracy_score", "accuracy_score(y, oof)"
    ),
)
"""The first of these whose pattern is found where the text speaks of the evaluation."""

_BY_NAME = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True, slots=True)
class Table:
    path: str
    columns: tuple[str, ...]
    """The columns that were shown; `complete` tells whether these are all."""
    complete: bool = True
    has_text: bool = False
    has_missing: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    metric: Metric
    tables: Mapping[str, Table] = field(default_factory=dict)
    """By role: "train", "test", "sample"."""
    submission: str = "submission/submission.csv"

    def path(self, role: str) -> str:
        default = {"train": "train.csv", "test": "test.csv", "sample": "sample_submission.csv"}[role]
        return self.tables[role].path if role in self.tables else f"input/{default}"

    def columns(self, role: str) -> tuple[str, ...]:
        return self.tables[role].columns if role in self.tables else ()

    @property
    def id_column(self) -> str | None:
        return next(iter(self.columns("sample")), None)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The columns that a submission must fill."""
        return self.columns("sample")[1:]

    @property
    def target(self) -> str | None:
        """The column to predict: the sample submission names it, or it is what train has and test has not."""
        train, test = self.columns("train"), self.columns("test")
        if len(self.outputs) == 1 and self.outputs[0] in train:
            return self.outputs[0]
        extra = [column for column in train if column not in test]
        return extra[0] if len(extra) == 1 and test else None

    @property
    def many_outputs(self) -> bool:
        return len(self.outputs) > 1

    @property
    def known_columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(c for table in self.tables.values() for c in table.columns))

    @property
    def has_text(self) -> bool:
        return "train" in self.tables and self.tables["train"].has_text

    @property
    def has_missing(self) -> bool:
        return "train" in self.tables and self.tables["train"].has_missing

    @property
    def is_wide(self) -> bool:
        """Many columns of the same kind, such as pixels."""
        train = self.tables.get("train")
        return train is not None and (not train.complete or len(train.columns) > 40)


def read(task: str, data: str) -> Reading:
    """Read the task's text, and whatever was shown of the data (a preview, or the output of `head`)."""
    tables = {**_tables(task), **_tables(data)}
    by_role = {role: table for table in tables.values() if (role := _role(table.path))}
    return Reading(_metric(task), by_role, _submission(task))


def _metric(task: str) -> Metric:
    """The metric named nearest after the first mention of how submissions are judged; accuracy if none is named."""
    places = [match.start() for match in re.finditer(r"evaluat|metric|scored|judged", task, re.IGNORECASE)]
    for text in (*(task[place : place + 400] for place in places), task):
        found = ((re.search(m.pattern, text, re.IGNORECASE), m) for m in METRICS)
        named = [(match.start(), order, m) for order, (match, m) in enumerate(found) if match]
        if named:
            return min(named)[2]
    return _BY_NAME["accuracy"]


def _submission(task: str) -> str:
    named = re.findall(r"[\w./-]*submission[\w./-]*\.csv", task)
    paths = [path.removeprefix("./") for path in named if "sample" not in path.lower()]
    return next((path for path in paths if "/" in path), paths[0] if paths else "submission/submission.csv")


def _role(path: str) -> str:
    name = path.rpartition("/")[2].lower()
    if "sample" in name or "submission" in name:
        return "sample"
    return next((role for role in ("train", "test") if role in name), "")


# --- tables as they are shown -----------------------------------------------------------------------------------------

_PREVIEW = re.compile(
    r"^-> (?P<path>\S+\.csv) has [\d,]+ rows and (?P<count>\d+) columns\.\n(?P<body>.*?)(?=\n\n|\n-> |\Z)",
    re.MULTILINE | re.DOTALL,
)
_HEAD = re.compile(
    r"^==> (?P<path>\S+\.csv) <==\n(?P<header>[^\n]+)\n?(?P<rows>.*?)(?=\n*^==> |\n\n|\Z)", re.MULTILINE | re.DOTALL
)


def _tables(shown: str) -> dict[str, Table]:
    tables = {match["path"]: _from_head(match) for match in _HEAD.finditer(shown)}
    return tables | {match["path"]: _from_preview(match) for match in _PREVIEW.finditer(shown)}


def _from_preview(match: re.Match[str]) -> Table:
    body = match["body"]
    if listed := re.search(r"The columns are: (.*)", body):
        names = [name for name in listed[1].split(", ") if not name.startswith("... ")]
    else:
        names = re.findall(r"^(.+?) \((?:text|integer|float|empty)\b", body, re.MULTILINE)
    return Table(
        match["path"],
        tuple(names),
        complete=len(names) == int(match["count"]),
        has_text=bool(re.search(r" \(text,", body)),
        has_missing=bool(re.search(r", \d+ missing\)", body)),
    )


def _from_head(match: re.Match[str]) -> Table:
    columns = tuple(name.strip().strip('"') for name in match["header"].split(","))
    values = [row.split(",") for row in match["rows"].splitlines()]
    cells = [cell for row in values if len(row) == len(columns) for cell in row[1:]]
    return Table(
        match["path"],
        columns,
        has_text=any(re.search(r"[A-Za-z]{2}", cell) for cell in cells),
        has_missing="" in cells,
    )
