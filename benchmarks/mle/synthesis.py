"""What the preparers of the sample competitions share: dealing rows into train and test, and writing them.

Rounding comes before writing and lines end in "\\n", so that the bytes are the same on every machine and with every
version of numpy and pandas: the checksums rely on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def deal(
    rows: pd.DataFrame, *, target: str, guess: Any, test_rows: int, seed: int, public: Path, private: Path
) -> None:
    """Shuffle the rows, number them from 1 as `id`, and write `train.csv`, `test.csv`, `sample_submission.csv` (`guess`
    in every row) and the private `answers.csv`."""
    order = np.random.default_rng(seed).permutation(len(rows))
    table = rows.iloc[order].reset_index(drop=True)
    table.insert(0, "id", range(1, len(table) + 1))
    test, train = table.iloc[:test_rows], table.iloc[test_rows:]
    write_csv(train, public / "train.csv")
    write_csv(test.drop(columns=target), public / "test.csv")
    write_csv(test[["id"]].assign(**{target: guess}), public / "sample_submission.csv")
    write_csv(test[["id", target]], private / "answers.csv")


def write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, lineterminator="\n", float_format="%.6g", encoding="utf-8")


def drop_out(values: Any, missing: Any) -> Any:
    """The values with holes where `missing` is true."""
    return pd.Series(values).mask(np.asarray(missing))


def logistic(values: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(values)))
