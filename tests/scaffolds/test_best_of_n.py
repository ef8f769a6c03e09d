"""Best of N: attempts in forks of the world, and which of them is handed in."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.models.messages import Text, ToolCall
from trellis.models.scripted import Line, Scripted
from trellis.scaffolds.best_of_n import BestOfN
from trellis.scaffolds.episode import Budget, Episode, LimitReached
from trellis.scaffolds.reported import passed_share, reported_metric
from trellis.scaffolds.task import Submission, Task
from trellis.tools import catalog
from trellis.trajectories.log import read

SPEC = EnvironmentSpec(kind="local")
ML = {"kind": "ml", "submission": "out.txt", "lower_is_better": True}


async def collect(environment: Environment | None, answer: str) -> Submission:
    assert environment is not None
    try:
        return Submission(answer, {"out.txt": await environment.read_file("out.txt")})
    except FileNotFoundError:
        return Submission()


@asynccontextmanager
async def episode(folder: Path, model: Scripted, budget: Budget, facts: dict[str, Any]) -> AsyncIterator[Episode]:
    async with Episode.open(
        folder,
        task=Task("t", (Text("Do it."),), environment=SPEC, facts=facts),
        tools=catalog.make(["shell", "submit"]),
        models={"main": model},
        seed=7,
        budget=budget,
        collect=collect,
        label=f"test/{folder.name}",
        environment=SPEC,
        header={"episode": "e1"},
    ) as opened:
        yield opened


def shell(command: str) -> ToolCall:
    return ToolCall("c", "shell", {"command": command})


SUBMIT = ToolCall("s", "submit", {})


def wrote(text: str, metric: float | None = None) -> ToolCall:
    report = "" if metric is None else f"; echo 'Validation metric: {metric}'"
    return shell(f"test ! -e out.txt && printf '{text}' > out.txt{report}")


async def handed_in(
    folder: Path, replies: Sequence[Line], facts: dict[str, Any], n: int = 3, steps: int | None = None
) -> bytes | None:
    async with episode(folder, model := Scripted(replies), Budget(steps=steps), facts) as opened:
        await BestOfN(n=n).solve(opened)
        submission = await opened.finish()
    model.assert_complete()
    return submission.files.get("out.txt")


async def test_the_attempt_with_the_best_reported_metric_is_handed_in(tmp_path: Path) -> None:
    replies = [wrote("a", 3), SUBMIT, wrote("b", 1), SUBMIT, wrote("c", 2), SUBMIT]
    assert await handed_in(tmp_path, replies, ML) == b"b"


async def test_an_attempt_that_leaves_nothing_is_never_the_best(tmp_path: Path) -> None:
    replies = [shell("echo Validation metric: 0.1"), SUBMIT, wrote("b", 5), SUBMIT]
    assert await handed_in(tmp_path, replies, ML, n=2) == b"b"


async def test_the_budget_is_shared_equally(tmp_path: Path) -> None:
    replies = [wrote("a", 3), shell("true"), wrote("b", 1), shell("true"), wrote("c", 2), shell("true")]
    assert await handed_in(tmp_path, replies, ML, steps=7) == b"b"


async def test_attempts_at_a_repository_go_by_its_visible_tests(tmp_path: Path) -> None:
    facts = {"kind": "repository", "test_command": "cat out.txt"}
    replies = [wrote("1 failed, 2 passed"), SUBMIT, wrote("3 passed"), SUBMIT, wrote("3 failed"), SUBMIT]
    assert await handed_in(tmp_path, replies, facts) == b"3 passed"


async def test_one_attempt_where_nothing_tells_good_from_bad(tmp_path: Path) -> None:
    assert await handed_in(tmp_path, [wrote("a"), shell("true"), SUBMIT], {"kind": "other"}, steps=3) == b"a"


async def test_a_spent_budget_leaves_the_best_so_far(tmp_path: Path) -> None:
    model = Scripted([wrote("a", 1), SUBMIT, wrote("b", 0.5)])
    budget = Budget(steps=3)
    async with episode(tmp_path, model, budget, ML) as opened:
        with pytest.raises(LimitReached):
            await BestOfN(n=2, max_steps=2).solve(opened)
        submission = await opened.finish()
    assert submission.files["out.txt"] == b"a"
    notes = [e["data"] for e in read(tmp_path / "trajectory.jsonl") if e["kind"] == "note.attempt"]
    assert [note["score"] for note in notes] == [-1.0, None]


@pytest.mark.parametrize(
    ("output", "metric"),
    [
        ("Validation metric: 0.5\nValidation metric: 0.75\nTest rows: 3", 0.75),
        ("5-fold CV score = -1.5e-3", -0.0015),
        ("OOF rmse: .25", 0.25),
        ("Validation metric: nan", None),
        ("accuracy of the invalidation: 3", None),
    ],
)
def test_the_metric_is_the_last_that_was_reported(output: str, metric: float | None) -> None:
    assert reported_metric(output) == metric


@pytest.mark.parametrize(
    ("output", "share"),
    [
        ("=== 1 failed, 3 passed in 0.1s ===", 0.75),
        ("=== 2 errors in 0.1s ===", 0.0),
        ("..F.\nRan 4 tests in 0.1s\n\nFAILED (failures=1)", 0.75),
        ("Ran 4 tests in 0.1s\n\nOK", 1.0),
        ("command not found", None),
        ("", None),
    ],
)
def test_the_share_of_tests_that_passed(output: str, share: float | None) -> None:
    assert passed_share(output) == share
