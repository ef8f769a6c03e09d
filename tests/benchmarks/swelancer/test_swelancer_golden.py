"""The official graders' outputs, reproduced."""

import json
from pathlib import Path
from typing import Any

import pytest

from trellis.benchmarks.benchmark import GraderFault, Submission
from trellis.benchmarks.swelancer import SweLancer, official
from trellis.benchmarks.swelancer.official import Attempt, Result

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((shared / "golden" / "swelancer.json").read_text())
    return loaded


def rounded(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 9))


def test_manager_decisions(golden: dict[str, Any]) -> None:
    for case in golden["manager"]:
        content, expected = case["file_content"], case["expected"]
        selected = None if content is None else official.choice(content.encode())
        assert (selected is None) == (expected["earned"] is None), case
        assert float(selected == case["correct_id"]) == expected["score"], case


async def test_ic_runs(golden: dict[str, Any]) -> None:
    for case in golden["ic"]:
        files = iter(case["exit_code_file_contents"])
        ran: list[int] = []

        async def run(files: Any = files, ran: list[int] = ran) -> int:
            ran.append(official.exit_code(next(files)))
            return ran[-1]

        if "expected_error" in case:
            with pytest.raises(GraderFault, match=case["message"]):
                await official.grade_runs(run, case["n_test_runs"])
        else:
            runs = await official.grade_runs(run, case["n_test_runs"])
            expected = case["expected"]
            assert (float(runs.passed), runs.exit_code) == (expected["score"], expected["pytest_exit"]), case
            assert runs.count == expected["runs_executed"]
        assert len(ran) == case.get("runs_executed", case.get("expected", {}).get("runs_executed")), case


def test_summaries(golden: dict[str, Any]) -> None:
    for case in golden["summary"]:
        attempts = [Attempt(r["question_id"], r["outcome"], r["price"], r.get("error", "")) for r in case["rows"]]
        assert rounded(official.summary(attempts)) == rounded(case["expected"])
        earned = sum(a.price_usd for a in attempts if a.outcome == "pass")
        assert earned == case["expected_total_earned"]


def test_paper_era_summaries(golden: dict[str, Any]) -> None:
    for case in golden["legacy_summary"]:
        results = [Result(r["variant"], r["price"], r["passed"]) for r in case["rows"]]
        assert rounded(official.paper_summary(results)) == rounded(case["expected"])


def test_paper_era_logs(golden: dict[str, Any]) -> None:
    for case in golden["pytest_log_failed"]:
        assert official.log_says_failed(case["log"]) == case["expected"], case


@pytest.mark.parametrize("decision", [b"[" * 100_000, b"\xff", b'{"a": 1e999}', b'{"a": "' + b"9" * 5000 + b'"}'])
def test_hostile_decisions_select_nothing(decision: bytes) -> None:
    assert official.choice(decision) is None


async def test_manager_scores_follow(benchmark: SweLancer, tasks: dict[str, Any], worlds: Any) -> None:
    task = tasks["manager-2003"]
    for decision, value, valid in (
        (b'{"selected_proposal_id": 2}', 1.0, True),
        (b'{"whatever": "2", "more": 0}', 1.0, True),
        (b'{"selected_proposal_id": 3}', 0.0, True),
        (b"2", 0.0, False),
    ):
        score = await benchmark.score(task, Submission(files={"manager_decisions.json": decision}), worlds)
        assert (score.value, score.valid, score.success) == (value, valid, value == 1.0)
        assert score.evidence["earned_usd"] == value * 500
