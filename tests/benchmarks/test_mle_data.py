"""The data and leaderboards of the sample, and folders of competitions in the official format."""

import csv
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from trellis.benchmarks.mle import Mle
from trellis.benchmarks.mle.competition import CompetitionError, load
from trellis.benchmarks.mle.make_leaderboards import Standings
from trellis.benchmarks.mle.prepare import checksums, ensure_prepared

COMPETITIONS = Path(sys.modules[Mle.__module__].__file__ or "").parent / "competitions"
SAMPLE = sorted(path.name for path in COMPETITIONS.iterdir() if (path / "config.yaml").exists())


@pytest.fixture(scope="module")
def mle(tmp_path_factory: pytest.TempPathFactory) -> Mle:
    return Mle(data_dir=tmp_path_factory.mktemp("mle"))


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


@pytest.mark.parametrize("id", SAMPLE)
def test_preparing_twice_gives_the_same_bytes(mle: Mle, tmp_path: Path, id: str) -> None:
    first = mle.competition(id)
    second = load(COMPETITIONS / id, tmp_path)
    ensure_prepared(second)
    assert checksums(first.prepared) == checksums(second.prepared)
    assert set(checksums(first.prepared)["private"]) == {"answers.csv"}


@pytest.mark.parametrize("id", SAMPLE)
def test_test_rows_carry_no_label_and_share_nothing_with_training_rows(mle: Mle, id: str) -> None:
    competition = mle.competition(id)
    train, test = (rows_of(competition.public / f"{name}.csv") for name in ("train", "test"))
    answers = rows_of(competition.answers)
    assert train[0][:-1] == test[0]
    assert answers[0] == ["id", train[0][-1]]
    assert [row[0] for row in test] == [row[0] for row in answers]
    assert not {tuple(row[1:-1]) for row in train[1:]} & {tuple(row[1:]) for row in test[1:]}
    assert 300 <= len(train) + len(test) - 2 <= 1800


@pytest.mark.parametrize("id", SAMPLE)
def test_leaderboards_are_long_sorted_and_labelled(mle: Mle, id: str) -> None:
    competition = mle.competition(id)
    header, *rows = rows_of(COMPETITIONS / id / "leaderboard.csv")
    assert header == ["score", "team"]
    scores = [float(score) for score, _ in rows]
    assert 100 <= len(rows) < 250
    assert len({team for _, team in rows}) == len(rows)
    assert scores == sorted(scores, reverse=not competition.thresholds.lower_is_better)
    assert len(set(scores)) > len(scores) / 2
    assert "machine-made" in competition.description


@pytest.mark.parametrize("id", SAMPLE)
def test_leaderboard_entries_can_be_made_again(mle: Mle, id: str) -> None:
    """A few quick entries, from their names alone. Other versions of the libraries may differ in the last digits."""
    standings = Standings(mle.competition(id))
    committed = {team: float(score) for score, team in rows_of(COMPETITIONS / id / "leaderboard.csv")[1:]}
    entries = standings.entries()
    assert {entry.team for entry in entries} == committed.keys()
    quick = ("constant", "tree |", "15 neighbours |", "ridge |", "naive Bayes |")
    some = [entry for entry in entries if entry.team.startswith(quick)][::3]
    assert len(some) >= 4
    for team, score in standings.scores(some).items():
        assert score == pytest.approx(committed[team], rel=0.01, abs=0.005), team


def test_a_wrong_checksum_is_one_clear_line(tmp_path: Path) -> None:
    mle = Mle(data_dir=tmp_path)
    answers = mle.competition("tasting-panel").answers
    answers.write_text(answers.read_text().replace(",4\n", ",5\n", 1))
    with pytest.raises(CompetitionError, match=r"private/answers\.csv .* delete the folder") as error:
        Mle(data_dir=tmp_path).competition("tasting-panel")
    assert "\n" not in str(error.value)
    assert Mle(data_dir=tmp_path, verify=False).competition("tasting-panel").answers == answers


def test_an_unwritable_cache_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "tasting-panel").touch()
    with pytest.raises(CompetitionError, match="TRELLIS_CACHE"):
        Mle(data_dir=tmp_path).competition("tasting-panel")


@pytest.mark.parametrize("package", ["pandas", "sklearn", "yaml"])
def test_a_missing_package_is_one_clear_line(tmp_path: Path, package: str) -> None:
    code = (
        f"import sys; sys.modules['{package}'] = None\n"
        "from trellis.benchmarks.mle import Mle\n"
        "try:\n    list(Mle().tasks('sample'))\nexcept ValueError as error:\n    print(error)"
    )
    environment = {**os.environ, "TRELLIS_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert "pip install 'trellis-agents[mle]'" in only(done.stdout.splitlines()), done.stderr


def test_processes_that_prepare_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    code = "import sys; from trellis.benchmarks.mle import Mle; print(Mle().competition('tasting-panel').prepared)"
    environment = {**os.environ, "TRELLIS_CACHE": str(tmp_path)}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in running:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
        assert output.decode().strip() == str(tmp_path / "mle" / "tasting-panel" / "prepared")
    assert [path.name for path in (tmp_path / "mle" / "tasting-panel").iterdir()] == ["prepared"]


def test_a_killed_preparation_leaves_nothing_that_passes_for_data(tmp_path: Path) -> None:
    (tmp_path / "tasting-panel" / ".preparing-x" / "prepared" / "public").mkdir(parents=True)
    (tmp_path / "tasting-panel" / "prepared").mkdir()
    assert Mle(data_dir=tmp_path).competition("tasting-panel").answers.is_file()
    half = tmp_path / "pump-faults" / "prepared" / "private"
    half.mkdir(parents=True)
    (half / "answers.csv").touch()
    with pytest.raises(CompetitionError, match="not complete"):
        Mle(data_dir=tmp_path).competition("pump-faults")


# --- the official package format, outside the package -----------------------------------------------------------------

CONFIG = """
id: {id}
name: A competition of somebody's
competition_type: simple
awards_medals: false
prizes: $100
description: mlebench/competitions/{id}/description.md
dataset:
  answers: {id}/prepared/private/gold.csv
  sample_submission: {id}/prepared/public/sampleSubmission.csv
grader:
  name: mae
  grade_fn: mlebench.competitions.{id}.grade:grade
preparer: mlebench.competitions.{id}.prepare:prepare
"""
PREPARE = """
import shutil
def prepare(raw, public, private):
    shutil.copy(raw / "train.csv", public / "train.csv")
    (public / "sampleSubmission.csv").write_text("key,y\\n1,0\\n2,0\\n")
    (private / "gold.csv").write_text("key,y\\n1,5\\n2,7\\n")
"""
GRADE = """
from trellis.benchmarks.mle.metrics import mae
def grade(submission, answers):
    return mae(submission, answers, id="key", target="y")
"""


def write_official(root: Path, id: str = "some-old-challenge") -> tuple[Path, Path]:
    """A folder of competitions and a data folder, as an mle-bench checkout and its cache have them."""
    folder, raw = root / "competitions" / id, root / "data" / id / "raw"
    folder.mkdir(parents=True)
    raw.mkdir(parents=True)
    files = {"config.yaml": CONFIG.format(id=id), "description.md": "Predict y.", "prepare.py": PREPARE}
    files |= {"grade.py": GRADE, "leaderboard.csv": "scoreNullable,teamName,score\n,a,0.5\n,b,1\n,c,6\n"}
    tables = {
        "public": {"train.csv": "key,y\n3,4\n", "sampleSubmission.csv": "key,y\n1,0\n2,0\n"},
        "private": {"gold.csv": "key,y\n1,5\n2,7\n"},
    }
    files["checksums.yaml"] = "zip: 0123\n" + "".join(
        f"{part}:\n" + "".join(f"  {name}: {md5(text)}\n" for name, text in content.items())
        for part, content in tables.items()
    )
    for name, text in files.items():
        (folder / name).write_text(text)
    (raw / "train.csv").write_text("key,y\n3,4\n")
    return root / "competitions", root / "data"


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def only(items: Sequence[str]) -> str:
    (item,) = items
    return item


async def test_an_official_folder_works_as_it_is(tmp_path: Path) -> None:
    competitions, data_dir = write_official(tmp_path)
    (tmp_path / "low.txt").write_text("some-old-challenge\n")
    mle = Mle(competitions, data_dir, splits=None)
    assert mle.splits() == ["all"]
    (task,) = mle.tasks("all")
    assert "Predict y." in task.text
    assert task.facts["lower_is_better"] is True
    report = mle.grade(task.id, b"key,y\n2,7\n1,4\n")
    assert (report.score, report.gold_medal, report.any_medal) == (0.5, True, True)
    assert (await mle.oracle(task)).files["submission.csv"] == b"key,y\n1,5\n2,7\n"
    assert (data_dir / task.id / "prepared" / "public" / "description.md").read_text() == "Predict y."


def test_split_files_of_a_folder(tmp_path: Path) -> None:
    competitions, data_dir = write_official(tmp_path)
    splits = tmp_path / "splits"
    splits.mkdir()
    (splits / "low.txt").write_text("some-old-challenge\n\n")
    mle = Mle(competitions, data_dir, splits)
    assert mle.splits() == ["low", "all"]
    assert only(mle.ids("low")) == "some-old-challenge"


def test_missing_raw_data_are_named_with_their_place(tmp_path: Path) -> None:
    competitions, data_dir = write_official(tmp_path)
    (data_dir / "some-old-challenge" / "raw" / "train.csv").unlink()
    with pytest.raises(CompetitionError, match=r"train\.csv is missing; put the competition's raw data into"):
        Mle(competitions, data_dir).competition("some-old-challenge")
    assert not (data_dir / "some-old-challenge" / "prepared").exists()


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("config.yaml", "id: [", "while parsing"),
        ("config.yaml", "id: other", "name: Field required"),
        ("config.yaml", CONFIG.format(id="other-one"), "the folder is 'some-old-challenge'"),
        ("prepare.py", "import mlebench_helpers_not_here\n", "needs the package 'mlebench_helpers_not_here'"),
        ("checksums.yaml", "public: {train.csv: 0}\n", "does not have the checksum"),
    ],
)
def test_a_broken_package_is_one_clear_line(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    competitions, data_dir = write_official(tmp_path)
    (competitions / "some-old-challenge" / name).write_text(text)
    with pytest.raises(CompetitionError) as error:
        Mle(competitions, data_dir).competition("some-old-challenge")
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_leaderboard_needs_scores(tmp_path: Path) -> None:
    competitions, data_dir = write_official(tmp_path)
    (competitions / "some-old-challenge" / "leaderboard.csv").write_text("team\na\n")
    with pytest.raises(CompetitionError, match="column `score`"):
        _ = Mle(competitions, data_dir).competition("some-old-challenge").leaderboard
