"""Make the leaderboards of the sample competitions: `python -m trellis.benchmarks.mle.make_leaderboards [ID ...]`.

Fits the declared population (`population.py`) on the public training data of each competition and scores its
predictions with the competition's own grader on the private answers. Takes some minutes; the results are committed.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from trellis.benchmarks.mle.competition import Competition, load
from trellis.benchmarks.mle.population import Entry, population, predictions
from trellis.benchmarks.mle.prepare import ensure_prepared

HERE = Path(__file__).parent / "competitions"
LOWER_IS_BETTER = {"rmse", "rmsle"}


@dataclass(frozen=True)
class Standings:
    """A competition with its population, ready to be scored."""

    competition: Competition

    @property
    def metric(self) -> str:
        return self.competition.config.grader.name

    def entries(self) -> list[Entry]:
        return population(self.metric, pixels=self.competition.id == "noisy-digits")

    def scores(self, entries: Iterable[Entry]) -> dict[str, float]:
        """Team -> score, rounded as MLE-bench rounds it."""
        train = pd.read_csv(self.competition.public / "train.csv")
        test = pd.read_csv(self.competition.public / "test.csv")
        answers = pd.read_csv(self.competition.answers)
        target = train.columns[-1]
        scores = {}
        for entry in entries:
            predicted = predictions(entry, self.metric, train, test, target)
            submission = pd.DataFrame({"id": test["id"], target: predicted})
            scores[entry.team] = round(float(self.competition.grade(submission, answers)), 5)
        return scores


def write(path: Path, scores: dict[str, float], *, lower_is_better: bool) -> None:
    """Rows from best to worst; ties by name."""
    rows = sorted(scores.items(), key=lambda item: (item[1] if lower_is_better else -item[1], item[0]))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["score", "team"])
        writer.writerows((score, team) for team, score in rows)


def main(ids: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as data_dir:
        for folder in sorted(HERE / id for id in ids) if ids else sorted(HERE.iterdir()):
            competition = load(folder, Path(data_dir))
            ensure_prepared(competition)
            standings = Standings(competition)
            scores = standings.scores(standings.entries())
            write(folder / "leaderboard.csv", scores, lower_is_better=standings.metric in LOWER_IS_BETTER)
            print(f"{competition.id}: {len(scores)} entries", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
