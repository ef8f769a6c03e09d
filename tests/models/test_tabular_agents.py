"""`offline/tabular` at work: the shipped scaffolds with it, real scripts and a real world."""

import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from trellis.environments.environment import Environment, EnvironmentSpec, Files
from trellis.models.messages import Text
from trellis.models.offline.tabular import Tabular
from trellis.scaffolds.best_of_n import BestOfN
from trellis.scaffolds.episode import Budget, Episode
from trellis.scaffolds.react import ReAct
from trellis.scaffolds.scaffold import Scaffold
from trellis.scaffolds.task import Submission, Task
from trellis.scaffolds.tree.search import Tree
from trellis.tools import catalog
from trellis.trajectories.log import read

TASK = """\
Predict `price` of the houses in `input/test.csv`; learn it from `input/train.csv`. Hand in predictions for every test
row as `submission/submission.csv`, in the format of `input/sample_submission.csv`. Metric: root mean squared error."""
FACTS = {"kind": "ml", "submission": "submission/submission.csv", "lower_is_better": True}
ROWS, TRAINING_ROWS = 260, 200


def price(rng: random.Random, size: float, age: float, street: str) -> float:
    return 3 * size * (1.5 if street == "north" else 1) + 200 * math.sin(age / 8) + rng.gauss(0, 15)


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = random.Random(11)
    folder = tmp_path_factory.mktemp("houses")
    (folder / "input").mkdir()
    rows = []
    for key in range(ROWS):
        size, age, street = rng.uniform(30, 200), rng.uniform(0, 60), rng.choice(["north", "south", "hill"])
        shown = "" if rng.random() < 0.1 else f"{size:.2f}"
        rows.append((f"{key},{shown},{age:.2f},{street}", price(rng, size, age, street)))
    train = "\n".join(f"{row},{target:.2f}" for row, target in rows[:TRAINING_ROWS])
    test = "\n".join(row for row, _ in rows[TRAINING_ROWS:])
    (folder / "input/train.csv").write_text(f"id,size,age,street,price\n{train}\n")
    (folder / "input/test.csv").write_text(f"id,size,age,street\n{test}\n")
    (folder / "input/sample_submission.csv").write_text("id,price\n" + "".join(f"{k},0\n" for k in range(200, ROWS)))
    (folder / "answers.txt").write_text("\n".join(f"{target}" for _, target in rows[TRAINING_ROWS:]))
    return folder


async def collect(environment: Environment | None, answer: str) -> Submission:
    assert environment is not None
    try:
        return Submission(answer, {"submission.csv": await environment.read_file("submission/submission.csv")})
    except FileNotFoundError:
        return Submission(answer)


@asynccontextmanager
async def episode(folder: Path, houses: Path, model: Tabular, seed: int, steps: int) -> AsyncIterator[Episode]:
    spec = EnvironmentSpec(
        kind="local", files=(Files(str(houses / "input"), "input"),), preload=("numpy", "pandas", "sklearn.ensemble")
    )
    async with Episode.open(
        folder,
        task=Task("houses", (Text(TASK),), environment=spec, facts=FACTS),
        tools=catalog.make(["shell", "python", "submit"]),
        models={"main": model},
        seed=seed,
        budget=Budget(steps=steps),
        collect=collect,
        label=f"test/{folder.name}",
        environment=spec,
        header={"episode": f"{seed}"},
    ) as opened:
        yield opened


async def attempt(folder: Path, houses: Path, scaffold: Scaffold, model: Tabular, seed: int = 1) -> Submission:
    async with episode(folder, houses, model, seed, steps=14) as opened:
        await scaffold.solve(opened)
        return await opened.finish()


def rmse(houses: Path, submission: Submission) -> float:
    lines = submission.files["submission.csv"].decode().splitlines()
    assert lines[0] == "id,price"
    answers = [float(line) for line in (houses / "answers.txt").read_text().splitlines()]
    errors = [float(line.split(",")[1]) - answer for line, answer in zip(lines[1:], answers, strict=True)]
    return math.sqrt(sum(error**2 for error in errors) / len(errors))


def tree_of(folder: Path) -> list[dict[str, Any]]:
    notes = (event["data"] for event in read(folder / "trajectory.jsonl") if event["kind"] == "note.node")
    return [{key: value for key, value in note.items() if key != "exec_time_s"} for note in notes]


@pytest.mark.parametrize("scaffold", [ReAct(), BestOfN(n=2)], ids=["react", "best_of_n"])
async def test_with_tools_it_hands_in_better_than_the_mean(tmp_path: Path, houses: Path, scaffold: Scaffold) -> None:
    submission = await attempt(tmp_path, houses, scaffold, Tabular(max_scripts=4))
    assert rmse(houses, submission) < 140  # the training mean has one of 232


async def test_a_tree_search_is_reproduced_by_its_seed_and_ends_better_than_it_began(
    tmp_path: Path, houses: Path
) -> None:
    search = Tree(num_drafts=2, debug_prob=1, parallel=2)
    first = await attempt(tmp_path / "a", houses, search, Tabular(bug_rate=0.4))
    again = await attempt(tmp_path / "b", houses, search, Tabular(bug_rate=0.4))
    assert first == again
    assert tree_of(tmp_path / "a") == tree_of(tmp_path / "b")

    metrics = [node["metric"] for node in tree_of(tmp_path / "a")]
    good = [metric for metric in metrics if metric is not None]
    assert len(good) < len(metrics) == 7
    assert min(good) < good[0]
    assert rmse(houses, first) < 140
