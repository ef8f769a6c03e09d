"""The sample's files, and the official formats that they follow."""

import csv
import dataclasses
import io
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from trellis.benchmarks.swelancer import SweLancer
from trellis.benchmarks.swelancer.dataset import CURRENT, OLDER, Issue, IssueFolder, read_tasks, unescape
from trellis.benchmarks.swelancer.hidden_tests import expected_tests
from trellis.benchmarks.swelancer.repository import SAMPLE, SEAL, VARIABLES, Repository, sample_issues
from trellis.benchmarks.swelancer.trees import PatchError, Tree, apply_patch, diff, read_tar, touched, write_tree

ISSUES = sample_issues()
IC = [issue for issue in ISSUES if issue.variant == "ic_swe"]
MANAGERS = [issue for issue in ISSUES if issue.variant == "swe_manager"]


def visible_tests(tree: Tree, folder: Path) -> subprocess.CompletedProcess[str]:
    write_tree(tree, folder)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    environment = {**os.environ, **VARIABLES}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_enough_of_each_kind() -> None:
    assert len(IC) >= 12
    assert len(MANAGERS) == 4
    assert min(issue.price_usd for issue in IC) <= 100
    assert max(issue.price_usd for issue in IC) >= 1000
    assert sum(any(expected_tests(Repository(issue).folder.tests).values()) for issue in IC) >= 3


def test_the_visible_tests_pass_on_the_clean_application(tmp_path: Path) -> None:
    result = visible_tests(Repository(IC[0]).clean, tmp_path)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("issue", ISSUES, ids=lambda issue: issue.id)
def test_each_bug_comes_and_goes(issue: Issue) -> None:
    repository = Repository(issue)
    assert repository.buggy != repository.clean
    assert apply_patch(repository.buggy, repository.gold) == repository.clean
    assert not [path for path in touched(repository.gold) if path.startswith("tests/")]
    data = repository.folder.data
    assert (data["title"], data["price"]) == (repository.issue.title, repository.issue.price_usd)
    assert data["html_description"] == repository.issue.description


def test_most_bugs_pass_the_visible_tests(tmp_path: Path) -> None:
    caught = {i.id for i in IC if visible_tests(Repository(i).buggy, tmp_path / i.id).returncode}
    assert caught == {"ic-1019", "ic-1023", "ic-1031", "ic-1038", "ic-1044"}


def test_the_commit_id_is_that_of_the_clean_application(tmp_path: Path) -> None:
    write_tree(Repository(IC[0]).clean, tmp_path)
    subprocess.run(["bash", "-c", SEAL], cwd=tmp_path, check=True, timeout=60)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert {IssueFolder(SAMPLE / "issues" / i.id).commit_id for i in ISSUES} == {head.stdout.strip()}


def test_nothing_that_an_agent_gets_is_secret(benchmark: SweLancer) -> None:
    for task in benchmark.tasks("sample"):
        assert task.environment is not None
        (files,) = task.environment.files
        names = {path.name for path in Path(files.source).rglob("*")}
        assert names.isdisjoint({"bug_reintroduce.patch", "test.py", "swelancer_tasks.csv", ".git"})
        told = task.text + task.environment.setup + str(task.facts)
        assert "correct_proposal" not in told
        assert str(SAMPLE) not in told
    for issue in MANAGERS:
        ids = [p["id"] for p in issue.manager["game"]["all_formal_proposals"]]
        assert ids == list(range(len(ids)))
        assert len(ids) in (4, 5)
        assert issue.right_proposal in ids
    assert len({issue.right_proposal for issue in MANAGERS}) == 4


def test_the_prompt_says_what_is_needed(benchmark: SweLancer) -> None:
    for task in benchmark.tasks("sample"):
        assert re.search(r"\$\d[\d,]*\.00", task.text)
        assert "`submit`" in task.text
        if task.facts["variant"] == "ic_swe":
            assert task.facts["test_command"] in task.text
        else:
            assert "### Proposal 3" in task.text
            assert "`manager_decisions.json`" in task.text


def test_wrong_names() -> None:
    with pytest.raises(ValueError, match="no split 'diamond'; it has sample"):
        SweLancer().tasks("diamond")
    with pytest.raises(ValueError, match="test_runs=0"):
        SweLancer(test_runs=0)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRELLIS_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"cannot write to .*; set TRELLIS_CACHE"):
        SweLancer().tasks("sample")


# --- the official formats ---


def test_the_sample_has_the_current_columns() -> None:
    with (SAMPLE / "swelancer_tasks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CURRENT
    assert {row["set"] for row in rows} == {"sample"}
    assert all("\n" not in row["description"] and "\\n" in row["description"] for row in rows)
    assert all(issue.folders == (issue.id,) for issue in IC)
    assert all("\n" in issue.description for issue in ISSUES)


def test_the_older_generation(shared: Path) -> None:
    issues = read_tasks(shared / "data" / "swelancer" / "swelancer_tasks_lite.csv")
    assert Counter(issue.variant for issue in issues) == {"ic_swe": 61, "swe_manager": 113}
    assert all(issue.prompt and issue.prompt[0]["role"] == "user" for issue in issues)
    assert all(issue.right_proposal >= 0 and issue.title for issue in issues if issue.variant == "swe_manager")
    first = next(issue for issue in issues if issue.id == "18641_837")
    assert (first.price_usd, first.folders, first.cwd) == (1000.0, ("18641_837",), "/app/expensify")


def test_the_official_issue_folders(shared: Path) -> None:
    folders = [IssueFolder(path) for path in (shared / "data" / "swelancer" / "issues").iterdir()]
    assert len(folders) == 198
    for folder in folders:
        assert re.fullmatch("[0-9a-f]{40}|", folder.commit_id)
        assert folder.data["title"]
        assert folder.data["price"] > 0
        assert folder.bug_patch


def test_official_patches_are_read(shared: Path) -> None:
    folder = IssueFolder(shared / "data" / "swelancer" / "issues" / "12155_1")
    assert touched(folder.bug_patch) == ("src/hooks/useHtmlPaste/index.ts", "src/libs/Parser.ts")


def rows_as_csv(columns: tuple[str, ...], **values: str) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    writer.writerow({name: values.get(name, "") for name in columns})
    return out.getvalue()


def test_both_generations_say_the_same(tmp_path: Path) -> None:
    common = {"question_id": "7_1", "variant": "ic_swe", "price": "250.0", "acceptable_folders": "['7_1']"}
    (tmp_path / "a.csv").write_text(rows_as_csv(CURRENT, title="Caf\\xe9 \\u2013 \\n", set="diamond", **common))
    (tmp_path / "b.csv").write_text(rows_as_csv(OLDER, prompt="[{'role': 'user', 'content': 'x'}]", **common))
    (current,), (older,) = read_tasks(tmp_path / "a.csv"), read_tasks(tmp_path / "b.csv")
    assert (current.title, current.split) == ("Café – \n", "diamond")
    assert older == dataclasses.replace(current, title="", split="", prompt=[{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"variant": "boss"}, "row 2 .7_1.: variant must be one of ic_swe, swe_manager, not 'boss'"),
        ({"price": "much"}, "row 2 .7_1.: could not convert"),
        ({"variant": "swe_manager", "manager_data": "{}"}, "row 2"),
        ({"acceptable_folders": "['"}, "row 2"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, values: dict[str, str], complaint: str) -> None:
    row = {"question_id": "7_1", "variant": "ic_swe", "price": "1", "acceptable_folders": "[]", **values}
    (tmp_path / "tasks.csv").write_text(rows_as_csv(CURRENT, **row))
    with pytest.raises(ValueError, match=complaint):
        read_tasks(tmp_path / "tasks.csv")


def test_some_other_csv(tmp_path: Path) -> None:
    (tmp_path / "tasks.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="not a SWE-Lancer task list: no column question_id"):
        read_tasks(tmp_path / "tasks.csv")


@pytest.mark.parametrize(
    ("escaped", "text"),
    [("a\\nb", "a\nb"), ("caf\\xe9", "café"), ("\\u2014", "—"), ("→ ok", "→ ok"), ("C:\\users", "C:\\users"), ("", "")],
)
def test_escapes(escaped: str, text: str) -> None:
    assert unescape(escaped) == text


# --- trees ---


def test_equal_trees_have_no_patch() -> None:
    clean = Repository(IC[0]).clean
    assert diff(clean, dict(clean)) == b""
    assert touched(b"") == ()


def test_what_is_no_patch() -> None:
    with pytest.raises(PatchError):
        touched(b"print('hello')\n")
    with pytest.raises(PatchError):
        apply_patch(Repository(IC[0]).clean, Repository(IC[0]).folder.bug_patch.replace(b"self.first", b"self.fist"))
    with pytest.raises(PatchError, match="not a tar archive"):
        read_tar(b"x" * 2000)
