"""The adapter: gold scores full, nothing scores nothing, the bugs are there, and only a patch crosses."""

import dataclasses
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from trellis.benchmarks.benchmark import GraderFault, Score, Submission, Task
from trellis.benchmarks.swelancer import SweLancer
from trellis.benchmarks.swelancer.grading import Grading
from trellis.benchmarks.swelancer.hidden_tests import HiddenTests, expected_tests
from trellis.benchmarks.swelancer.repository import Repository, sample_issues
from trellis.benchmarks.swelancer.trees import File, apply_patch, diff, read_tar
from trellis.environments.environment import EnvironmentSpec

REPOSITORIES = {issue.id: Repository(issue) for issue in sample_issues()}
IC = [name for name in REPOSITORIES if name.startswith("ic-")]
ALL = list(REPOSITORIES)
WITH_BROWSER = [name for name in IC if any(expected_tests(REPOSITORIES[name].folder.tests).values())]
EASY = "ic-1007"

README = File(b"# Tally\n")


def model_patch(patch: bytes) -> Submission:
    return Submission(files={"model.patch": patch})


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.browser) if n in WITH_BROWSER else n for n in ALL])
async def test_gold_scores_full(name: str, benchmark: SweLancer, tasks: dict[str, Task], worlds: Any) -> None:
    task = tasks[name]
    score = await benchmark.score(task, await benchmark.oracle(task), worlds)
    assert (score.value, score.success, score.valid, score.flags) == (1.0, True, True, ()), score.explanation
    assert score.evidence["earned_usd"] == score.evidence["available_usd"] == task.facts["price_usd"]
    skipped = [test for test, outcome in score.evidence.get("tests", {}).items() if outcome == "skipped"]
    if skipped:
        assert "browser part skipped, the HTTP part decided: no " in score.explanation
        pytest.skip(f"the browser's part of {name}: {score.evidence['reasons'][skipped[0]]}")


@pytest.mark.parametrize("name", IC)
async def test_the_bug_is_there(name: str, benchmark: SweLancer, tasks: dict[str, Task], worlds: Any) -> None:
    patch = diff(REPOSITORIES[name].buggy, {**REPOSITORIES[name].buggy, "README.md": README})
    score = await benchmark.score(tasks[name], model_patch(patch), worlds)
    assert (score.value, score.valid, score.evidence["earned_usd"]) == (0.0, True, 0.0)
    outcomes = score.evidence["tests"]
    assert "failed" in outcomes.values()
    assert "missing" not in outcomes.values()
    assert re.search(r"; failed: test_\w+", score.explanation)
    failed = [test for test, outcome in outcomes.items() if outcome == "failed"]
    assert "test_clicking" not in " ".join(failed), "the HTTP part has to show the bug without a browser"


async def test_nothing_scores_nothing(benchmark: SweLancer, tasks: dict[str, Task], worlds: Any) -> None:
    for task in tasks.values():
        for submission in (Submission(), Submission(answer="done"), model_patch(b"\n")):
            score = await benchmark.score(task, submission, worlds)
            assert (score.value, score.valid) == (0.0, False)
            assert score.evidence["available_usd"] == task.facts["price_usd"]


async def test_what_does_not_apply(benchmark: SweLancer, tasks: dict[str, Task], worlds: Any) -> None:
    for patch, complaint in (
        (b"please fix it", "this is not a patch"),
        (REPOSITORIES["ic-1012"].gold, "the patch does not apply: error: patch failed: tally/expenses.py"),
        (b"--- a/../../etc/x\n+++ b/../../etc/x\n@@ -0,0 +1 @@\n+x\n", "the patch does not apply: error: invalid path"),
    ):
        score = await benchmark.score(tasks[EASY], model_patch(patch), worlds)
        assert (score.value, score.valid) == (0.0, False)
        assert complaint in score.explanation


# --- the agent's world ---


async def test_the_repository_is_sealed(tasks: dict[str, Task], worlds: Any) -> None:
    async with worlds.agent(tasks[EASY]) as world:
        said = await world.exec(
            "git log --all --format=%s; git for-each-ref --format='%(refname)'; git remote; git reflog --all;"
            "git fsck --unreachable --no-reflogs --no-progress; git status --porcelain; git stash list;"
            "ls -A .git/hooks;"
            "find .git -name logs -o -name packed-refs -o -name '*.pack'; git config --get-regexp '^(user|remote)'"
        )
        assert said.stdout.decode().split() == ["Tally", "refs/heads/main"], said.text
        blobs = await world.exec(
            "git cat-file --batch-all-objects --batch-check='%(objecttype)' | sort | uniq -c; git ls-files | wc -l"
        )
        counts = blobs.stdout.decode().split()
        assert counts[3] == "commit"
        assert counts[2] == "1"
        assert int(counts[0]) <= int(counts[-1]), "a version of a file that is not checked out"


async def test_the_visible_tests_run_in_it(benchmark: SweLancer, tasks: dict[str, Task], worlds: Any) -> None:
    task = tasks[EASY]
    async with worlds.agent(task) as world:
        result = await world.exec(task.facts["test_command"], timeout_s=60)
        assert result.exit_code == 0, result.text
        assert re.search(rb"\d\d passed", result.stdout)
        assert (await benchmark.collect(task, world, "")).empty, "running the tests is no change"


async def test_the_working_tree_is_what_counts(tasks: dict[str, Task], hand_in: Any) -> None:
    """Committed, stashed or with a broken repository: what lies in the folder is handed in, and all of it."""
    script = """
echo 'x = 1' >tally/new.py; printf '\\0\\1\\2' >tally/web/icon.bin; chmod +x tally/new.py; rm tests/test_dates.py
sed -i 's/day < self.last/day <= self.last/' tally/dates.py; mkdir -p tally/__pycache__; touch tally/__pycache__/a.pyc
"""
    for more in (
        "",
        "git add -A; git -c user.name=a -c user.email=a commit -qm b",
        "rm -rf .git",
        "git checkout -q -b c",
    ):
        submission = await hand_in(tasks[EASY], script + more)
        after = apply_patch(REPOSITORIES[EASY].buggy, submission.files["model.patch"])
        assert after["tally/new.py"] == File(b"x = 1\n", executable=True)
        assert after["tally/web/icon.bin"] == File(b"\0\1\2")
        assert b"day <= self.last" in after["tally/dates.py"].data
        assert "tests/test_dates.py" not in after
        assert len(after) == len(REPOSITORIES[EASY].buggy) + 1


async def test_odd_files_do_no_harm(tasks: dict[str, Task], hand_in: Any) -> None:
    submission = await hand_in(
        tasks[EASY],
        "ln -s /etc/passwd tally/link; mkfifo pipe; head -c 3000000 /dev/zero >big; mkdir -p a/.git; echo x >a/.git/y;"
        "printf x >$'odd\\nname'; printf x >$'\\xff'; echo '* filter=x' >.gitattributes; printf 'a\\r\\n' >crlf;"
        "git config diff.external /bin/false; git config core.autocrlf true; git config alias.add '!false'",
    )
    after = apply_patch(REPOSITORIES[EASY].buggy, submission.files["model.patch"])
    new = set(after) - set(REPOSITORIES[EASY].buggy)
    assert new == {"odd\nname", "\udcff", ".gitattributes", "crlf"}
    assert after["crlf"].data == b"a\r\n"


def test_paths_of_an_archive_stay_inside() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("./ok.py", "/etc/passwd", "../up.py", "a/../../up.py", "a/.git/config", "./."):
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    assert set(read_tar(out.getvalue())) == {"ok.py"}


async def test_a_managers_decision_is_collected(benchmark: SweLancer, tasks: dict[str, Task], hand_in: Any) -> None:
    task = tasks["manager-2018"]
    assert (await hand_in(task, "true")).empty
    assert (await hand_in(task, "mkdir manager_decisions.json")).empty
    submission = await hand_in(task, "echo '{\"selected_proposal_id\": 3}' >manager_decisions.json")
    assert json.loads(submission.files["manager_decisions.json"]) == {"selected_proposal_id": 3}
    assert await benchmark.collect(task, None, "3") == Submission("3")


# --- grading ---


async def test_new_tests_are_welcome(benchmark: SweLancer, tasks: dict[str, Task], worlds: Any) -> None:
    repository = REPOSITORIES[EASY]
    fixed = {**repository.clean, "tests/test_last_day.py": File(b"def test_it(): assert True\n")}
    score = await benchmark.score(tasks[EASY], model_patch(diff(repository.buggy, fixed)), worlds)
    assert (score.value, score.flags) == (1.0, ())


async def test_edited_tests_are_told(benchmark: SweLancer, tasks: dict[str, Task], worlds: Any) -> None:
    repository = REPOSITORIES[EASY]
    fixed = {**repository.clean, "tests/test_dates.py": File(b"def test_it(): assert True\n")}
    score = await benchmark.score(tasks[EASY], model_patch(diff(repository.buggy, fixed)), worlds)
    assert (score.value, score.flags) == (1.0, ("edits-tests",))


async def test_an_unlucky_run_is_repeated(tasks: dict[str, Task], worlds: Any) -> None:
    """The application fails to start twice; the third run decides."""
    repository = REPOSITORIES[EASY]
    unlucky = b"""
import pathlib, sys
_log = pathlib.Path("starts")
_log.write_text(_log.read_text() + "x" if _log.exists() else "x")
if len(_log.read_text()) < 3:
    sys.exit("not today")
"""
    package = File(repository.clean["tally/__init__.py"].data + unlucky)
    patch = model_patch(diff(repository.buggy, {**repository.clean, "tally/__init__.py": package}))
    score = await SweLancer(test_runs=2).score(tasks[EASY], patch, worlds)
    assert (score.value, score.evidence["pytest_exit"], score.evidence["test_runs"]) == (0.0, 1, 2)
    assert "not today" in score.evidence["reasons"]["test_in_every_report"]
    score = await SweLancer().score(tasks[EASY], patch, worlds)
    assert (score.value, score.evidence["test_runs"]) == (1.0, 3)


@pytest.mark.parametrize("source", ["def test_a(:", "import nothing_of_this_name"])
async def test_tests_that_cannot_run_are_a_fault(source: str, worlds: Any, tmp_path: Path) -> None:
    """Hidden tests that pytest cannot read are the grader's fault, never a zero."""
    broken = tmp_path / "test.py"
    broken.write_text(source)

    class Swapped:
        async def start(self, spec: EnvironmentSpec) -> Any:
            files = [dataclasses.replace(f, source=str(broken)) if f.target == "test.py" else f for f in spec.files]
            return await worlds.start(dataclasses.replace(spec, files=tuple(files)))

        judge = worlds.judge

    repository = REPOSITORIES[EASY]
    with pytest.raises(GraderFault, match="pytest failed with exit code 2"):
        await Grading(repository, repository.gold, Swapped()).verdict()


async def test_a_world_without_a_browser(benchmark: SweLancer, tasks: dict[str, Task], worlds: Any) -> None:
    """The HTTP part decides then, and the explanation says so."""

    class Poor:
        async def start(self, spec: EnvironmentSpec) -> Any:
            return await worlds.start(dataclasses.replace(spec, hidden=("playwright",)))

        judge = worlds.judge

    task = tasks["ic-1089"]
    score = await benchmark.score(task, await benchmark.oracle(task), Poor())
    assert score.value == 1.0
    assert score.evidence["tests"]["test_clicking_back"] == "skipped"
    assert score.explanation == (
        "3 of 4 hidden tests passed in run 1; "
        "browser part skipped, the HTTP part decided: no Playwright in the grading world"
    )


def test_what_is_missing_counts_as_failed() -> None:
    tests = HiddenTests(None, None, REPOSITORIES["ic-1089"].folder.tests)  # type: ignore[arg-type]
    assert tests.failed() == []
    tests.note({"test.py::test_back_from_january": "passed", "test.py::test_the_other_months": "skipped"}, {})
    assert tests.outcomes == {
        "test_back_from_january": "passed",
        "test_the_other_months": "skipped",
        "test_the_trend_over_new_year": "missing",
        "test_clicking_back": "missing",
    }
    assert tests.failed() == ["test_the_other_months", "test_the_trend_over_new_year", "test_clicking_back"]


def test_metrics(benchmark: SweLancer) -> None:
    def score(variant: str, usd: float, solved: bool) -> Score:
        evidence = {"variant": variant, "available_usd": usd, "earned_usd": usd * solved}
        return Score(float(solved), solved, evidence=evidence)

    assert benchmark.metrics([]) == {"earned_usd": 0.0, "available_usd": 0.0}
    assert benchmark.metrics([score("ic_swe", 100.0, True), score("ic_swe", 300.0, False)]) == {
        "earned_usd": 100.0,
        "available_usd": 400.0,
        "earn_rate": 0.25,
        "ic_accuracy": 0.5,
    }
    assert benchmark.metrics([score("swe_manager", 50.0, True)])["manager_accuracy"] == 1.0
