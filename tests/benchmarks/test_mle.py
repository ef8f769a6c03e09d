"""The adapter: what tasks say, what submissions are worth, what is taken out of a world."""

import json
import math
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from trellis.benchmarks.benchmark import GraderFault, Score
from trellis.benchmarks.mle import Mle
from trellis.benchmarks.mle.grade import VALID, size_cap_bytes
from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.models.messages import Message
from trellis.models.model import GenerateConfig, Reply
from trellis.scaffolds.task import Submission, Task

SAMPLE = (
    "clinic-no-shows",
    "disease-progression",
    "noisy-digits",
    "pump-faults",
    "repair-bills",
    "tasting-panel",
)


class NoGrader:
    """Scoring a table needs no world and asks no model."""

    async def start(self, spec: EnvironmentSpec) -> Environment:
        raise AssertionError("not needed")

    async def judge(self, messages: Sequence[Message], *, config: GenerateConfig = GenerateConfig()) -> Reply:
        raise AssertionError("not needed")


@pytest.fixture(scope="module")
def mle(tmp_path_factory: pytest.TempPathFactory) -> Mle:
    return Mle(data_dir=tmp_path_factory.mktemp("mle"))


@pytest.fixture(scope="module")
def tasks(mle: Mle) -> dict[str, Task]:
    return {task.id: task for task in mle.tasks("sample")}


async def score(mle: Mle, task: Task, content: bytes | None) -> Score:
    files = {} if content is None else {"submission.csv": content}
    return await mle.score(task, Submission(files=files), NoGrader())


def sample_rows(mle: Mle, id: str) -> list[list[str]]:
    text = mle.competition(id).sample_submission.read_text()
    return [line.split(",") for line in text.splitlines()]


def as_csv(rows: list[list[str]]) -> bytes:
    return "".join(",".join(row) + "\n" for row in rows).encode()


def test_the_sample_has_its_tasks_in_a_fixed_order(tasks: dict[str, Task]) -> None:
    assert tuple(tasks) == SAMPLE


@pytest.mark.parametrize("id", SAMPLE)
def test_a_task_tells_all_that_is_needed_and_nothing_secret(mle: Mle, tasks: dict[str, Task], id: str) -> None:
    task = tasks[id]
    for path in ("input/train.csv", "input/test.csv", "input/sample_submission.csv", "submission/submission.csv"):
        assert path in task.text
    lower = mle.competition(id).config.grader.name in ("rmse", "rmsle")
    assert ("Lower is better" in task.text, task.facts["lower_is_better"]) == (lower, lower)
    assert task.facts["kind"] == "ml"
    assert task.facts["submission"] == "submission/submission.csv"
    json.dumps(dict(task.facts))
    assert task.environment is not None
    assert task.environment.network == "none"
    (files,) = task.environment.files
    given = {path.name for path in Path(files.source).rglob("*")}
    assert given == {"train.csv", "test.csv", "sample_submission.csv", "description.md"}


@pytest.mark.parametrize("id", SAMPLE)
async def test_the_oracle_scores_full_and_nothing_scores_nothing(mle: Mle, tasks: dict[str, Task], id: str) -> None:
    gold = await mle.score(tasks[id], await mle.oracle(tasks[id]), NoGrader())
    assert (gold.value, gold.success, gold.valid, gold.flags) == (1.0, True, True, ())
    assert gold.evidence["gold_medal"] is True
    nothing = await score(mle, tasks[id], None)
    assert (nothing.value, nothing.success, nothing.valid) == (0.0, False, False)
    assert nothing.evidence["submission_exists"] is False
    json.dumps([gold.evidence, nothing.evidence], allow_nan=False)


@pytest.mark.parametrize("id", SAMPLE)
async def test_the_sample_submission_is_valid_and_poor(mle: Mle, tasks: dict[str, Task], id: str) -> None:
    poor = await score(mle, tasks[id], mle.competition(id).sample_submission.read_bytes())
    assert poor.valid
    assert not poor.success
    assert poor.value < 0.15


@pytest.mark.parametrize("id", SAMPLE)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\x80\x04\x95pickle.",
        b"a,b\n1,2\n",
        b'"open quote\n1,2',
        b"\xff\xfe\x00",
        b"id\n" * 5,
        b"," * 99_999,
    ],
)
async def test_unreadable_or_strange_files_are_invalid(
    mle: Mle, tasks: dict[str, Task], id: str, content: bytes
) -> None:
    result = await score(mle, tasks[id], content)
    assert (result.value, result.valid, result.success) == (0.0, False, False)
    assert result.explanation.startswith("Submission invalid!")


@pytest.mark.parametrize("id", SAMPLE)
@pytest.mark.parametrize("cell", ["", "NaN", "inf", "-inf", "=1+1", "__import__('os')", "1e400"])
async def test_one_bad_cell_makes_a_submission_invalid(mle: Mle, tasks: dict[str, Task], id: str, cell: str) -> None:
    rows = sample_rows(mle, id)
    rows[3][1] = cell
    result = await score(mle, tasks[id], as_csv(rows))
    assert (result.value, result.valid) == (0.0, False)


async def test_ids_are_matched_not_positions(mle: Mle, tasks: dict[str, Task]) -> None:
    id = "disease-progression"
    header, *rows = mle.competition(id).answers.read_text().splitlines()
    shuffled = "\n".join([header, *reversed(rows)]).encode()
    assert (await score(mle, tasks[id], shuffled)).value == 1.0
    ids, values = zip(*(row.split(",") for row in rows), strict=True)
    permuted = [header.split(","), *([i, v] for i, v in zip(ids, reversed(values), strict=True))]
    assert (await score(mle, tasks[id], as_csv(permuted))).value < 0.1
    repeated = [header.split(","), *([ids[0], v] for v in values)]
    assert not (await score(mle, tasks[id], as_csv(repeated))).valid


async def test_a_submission_far_beyond_any_sane_size_is_not_read(mle: Mle, tasks: dict[str, Task]) -> None:
    cap = size_cap_bytes(mle.competition("noisy-digits"))
    result = await score(mle, tasks["noisy-digits"], b"id,digit\n" + b"1,1\n" * (cap // 4))
    assert not result.valid
    assert f"at most {cap}" in result.explanation


async def test_a_score_that_is_not_a_number_is_valid_and_wins_nothing(tmp_path: Path, mle: Mle) -> None:
    other = copy_of_sample(tmp_path, "disease-progression")
    (other / "grade.py").write_text("def grade(submission, answers):\n    return float('nan')\n")
    strange = Mle(competitions=tmp_path / "competitions", data_dir=tmp_path)
    (task,) = strange.tasks("all")
    result = await score(strange, task, strange.competition(task.id).sample_submission.read_bytes())
    assert (result.value, result.success, result.valid) == (0.0, False, True)
    assert result.evidence["score"] is None
    assert math.isnan(strange.grade(task.id, b"x\n1\n").score or 0)


def copy_of_sample(tmp_path: Path, id: str) -> Path:
    import shutil

    folder = tmp_path / "competitions" / id
    shutil.copytree(Path(sys.modules[Mle.__module__].__file__ or "").parent / "competitions" / id, folder)
    return folder


async def test_a_broken_grader_is_a_fault_and_never_a_zero(tmp_path: Path) -> None:
    folder = copy_of_sample(tmp_path, "disease-progression")
    broken = Mle(competitions=tmp_path / "competitions", data_dir=tmp_path)
    (task,) = broken.tasks("all")
    good = broken.competition(task.id).sample_submission.read_bytes()
    assert (await score(broken, task, good)).valid

    broken.competition(task.id).answers.rename(tmp_path / "answers.csv")
    with pytest.raises(GraderFault, match="answers"):
        await score(broken, task, good)
    (tmp_path / "answers.csv").rename(broken.competition(task.id).answers)

    for source, complaint in (
        ("def grade(submission, answers):\n    return 1 / 0\n", "ZeroDivisionError"),
        ("import no_such_package\n", "no_such_package"),
        ("def other(): ...\n", "no function 'grade'"),
    ):
        (folder / "grade.py").write_text(source)
        fresh = Mle(competitions=tmp_path / "competitions", data_dir=tmp_path)
        with pytest.raises(GraderFault, match=complaint):
            await score(fresh, task, good)


def test_validation_tells_nothing_of_the_score(mle: Mle) -> None:
    competition = mle.competition("repair-bills")
    poor, perfect = competition.sample_submission.read_bytes(), competition.answers.read_bytes()
    assert mle.validate("repair-bills", poor) == mle.validate("repair-bills", perfect) == VALID
    assert "at least 0" in mle.validate("repair-bills", perfect.replace(b"\n2,", b"\n2,-"))


async def test_metrics_are_percentages_of_all_episodes(mle: Mle, tasks: dict[str, Task]) -> None:
    task = tasks["disease-progression"]
    gold = await mle.score(task, await mle.oracle(task), NoGrader())
    poor = await score(mle, task, mle.competition(task.id).sample_submission.read_bytes())
    found = mle.metrics([gold, poor, await score(mle, task, b"junk"), await score(mle, task, None)])
    assert found["any_medal_percentage"] == found["gold_medal_percentage"] == found["above_median_percentage"] == 25.0
    assert found["valid_submissions_percentage"] == 50.0
    assert found["submission_exists_percentage"] == 75.0
    assert mle.metrics([]) == {}


def test_unknown_names_are_one_clear_line(mle: Mle, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown split 'smaple' of mle; known: sample, all"):
        mle.tasks("smaple")
    with pytest.raises(ValueError, match="there is no such folder"):
        Mle(competitions=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="there is no competition 'titanic'"):
        mle.competition("titanic")


# --- collecting, in a real world --------------------------------------------------------------------------------------


@pytest.fixture
async def world(tasks: dict[str, Task]) -> AsyncIterator[Environment]:
    spec = tasks["noisy-digits"].environment
    assert spec is not None
    environment = await replace(spec, kind="local", hidden=(), preload=()).start(label="test/mle")
    yield environment
    await environment.close()


async def test_the_world_holds_the_public_files_only(world: Environment) -> None:
    listing = await world.exec("find . -type f | sort")
    assert listing.text.split() == [
        "./input/description.md",
        "./input/sample_submission.csv",
        "./input/test.csv",
        "./input/train.csv",
    ]
    assert (await world.exec("head -n 1 input/test.csv")).text.count("digit") == 0


async def test_an_honest_script_is_scored(mle: Mle, tasks: dict[str, Task], world: Environment) -> None:
    script = """
import pandas as pd
from sklearn.svm import SVC
train, test = pd.read_csv("input/train.csv"), pd.read_csv("input/test.csv")
model = SVC().fit(train.drop(columns=["id", "digit"]), train["digit"])
answers = pd.DataFrame({"id": test["id"], "digit": model.predict(test.drop(columns="id"))})
answers.to_csv("submission/submission.csv", index=False)
"""
    await world.write_file("solve.py", script.encode())
    done = await world.exec(
        ["python3", "solve.py"], env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    )
    assert done.ok, done.text
    task = tasks["noisy-digits"]
    submission = await mle.collect(task, world, "done")
    result = await mle.score(task, submission, NoGrader())
    assert result.valid
    assert 0.5 < result.value < 1.0
    assert 0.7 < result.evidence["score"] < 0.95


@pytest.mark.parametrize(
    ("script", "flag"),
    [
        ("true", ""),
        ("truncate -s 4G submission/submission.csv", "oversized"),
        ("ln -s /etc/passwd submission/submission.csv", "symlink"),
        ("rmdir submission && ln -s /etc submission", "symlink"),
        ("mkfifo submission/submission.csv", "irregular"),
        ("mkdir submission/submission.csv", "irregular"),
        ("rmdir submission && touch submission", ""),
    ],
)
async def test_only_a_regular_file_is_taken(
    mle: Mle, tasks: dict[str, Task], world: Environment, script: str, flag: str
) -> None:
    assert (await world.exec(script)).ok
    task = tasks["noisy-digits"]
    submission = await mle.collect(task, world, "my answer")
    assert "submission.csv" not in submission.files
    result = await mle.score(task, submission, NoGrader())
    assert (result.value, result.valid) == (0.0, False)
    assert result.flags == ((flag,) if flag else ())


async def test_without_a_file_only_the_words_are_left(mle: Mle, tasks: dict[str, Task], world: Environment) -> None:
    assert (await mle.collect(tasks["noisy-digits"], world, "")).empty
    assert await mle.collect(tasks["noisy-digits"], None, "words") == Submission("words")


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_the_module_grades_and_validates_files(mle: Mle, tmp_path: Path) -> None:
    answers = mle.competition("pump-faults").answers
    data_dir = answers.parents[3]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trellis.benchmarks.mle", "--data-dir", str(data_dir), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert json.loads(run("grade", "pump-faults", str(answers)).stdout)["score"] == 1.0
    assert run("validate", "pump-faults", str(answers)).stdout.strip() == VALID
    wrong = run("validate", "no-such-one", str(answers))
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: there is no competition")
    assert len(wrong.stderr.splitlines()) == 1
