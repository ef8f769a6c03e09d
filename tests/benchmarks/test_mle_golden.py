"""Leaderboard rules, metrics, reports and aggregation against outputs of the original mle-bench code."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from trellis.benchmarks.mle import metrics
from trellis.benchmarks.mle.aggregate import over_seeds, pass_at_k, percentages, seeds, totals
from trellis.benchmarks.mle.competition import Competition, load
from trellis.benchmarks.mle.grade import INVALID, VALID, grade, validate
from trellis.benchmarks.mle.medals import thresholds

pytestmark = pytest.mark.golden

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
if not GOLDEN.is_dir():
    pytest.skip(f"no reference outputs at {GOLDEN}", allow_module_level=True)

FLAGS = ("gold_medal", "silver_medal", "bronze_medal", "above_median")


def golden(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((GOLDEN / f"mlebench_{name}.json").read_text())
    return content


def number(value: Any) -> float:
    return math.nan if value in ("NaN", None) else float(value)


def same(found: float, expected: Any) -> bool:
    return found == pytest.approx(number(expected), abs=1e-9, nan_ok=True)


def test_medals_and_thresholds() -> None:
    data = golden("rank")
    assert len(data["cases"]) > 400
    for case in data["cases"]:
        if "expected_error" in case:
            with pytest.raises(IndexError):
                thresholds(data["leaderboards"][case["leaderboard"]])
            continue
        limits = thresholds([number(score) for score in data["leaderboards"][case["leaderboard"]]])
        standing = limits.stand(None if case["score"] is None else number(case["score"]))
        expected = case["expected"]
        assert {flag: getattr(standing, flag) for flag in FLAGS} == {flag: expected[flag] for flag in FLAGS}, case
        assert limits.lower_is_better is expected["is_lower_better"]
        for medal in ("gold", "silver", "bronze", "median"):
            assert same(getattr(limits, medal), expected[f"{medal}_threshold"]), case


def test_totals() -> None:
    for case in golden("aggregate")["cases"]:
        assert totals(case["reports"]) == case["expected"]


def test_seeds() -> None:
    for case in golden("seeds")["cases"]:
        arguments = {"count": case["num_seeds"], "pad_missing": case["pad_missing"]}
        if "expected_error" in case:
            with pytest.raises(ValueError) as error:
                seeds(case["competition_ids"], case["reports_in_order"], **arguments)
            assert case["error_contains"] in str(error.value)
            continue
        dealt = seeds(case["competition_ids"], case["reports_in_order"], **arguments)
        expected = case["expected"]
        assert [{"total_competitions": len(reports), **percentages(reports)} for reports in dealt] == [
            pytest.approx(metrics, abs=1e-9) for metrics in expected["per_seed"]
        ]
        assert len(dealt) == expected["average"]["num_seeds_averaged"]
        found = over_seeds(dealt)
        assert found.keys() == expected["average"]["metrics"].keys()
        for name, values in expected["average"]["metrics"].items():
            assert found[name] == pytest.approx(values, abs=1e-9), name


def test_pass_at_k() -> None:
    for case in json.loads((GOLDEN / "pass_at_k.json").read_text())["cases"]:
        found = [pass_at_k(case["n"], correct, case["k"]) for correct in case["correct_per_problem"]]
        assert found == pytest.approx(case["expected_per_problem"], abs=1e-9)


def table(columns: dict[str, list[Any]]) -> pd.DataFrame:
    return pd.DataFrame({name: [math.nan if v == "NaN" else v for v in values] for name, values in columns.items()})


@pytest.mark.parametrize("metric", ["accuracy", "auroc"])
def test_metrics_of_one_column(metric: str) -> None:
    for case in golden("metrics")[metric]:
        answers, submission = table(case["answers"]), table(case["submission"])
        arguments = {"id": case.get("id", "id"), "target": case.get("target", "t")}
        if "expected" in case:
            assert same(getattr(metrics, metric)(submission, answers, **arguments), case["expected"]), case
        else:
            with pytest.raises(metrics.InvalidSubmission):
                getattr(metrics, metric)(submission, answers, **arguments)


def test_multiclass_log_loss() -> None:
    for case in golden("metrics")["multiclass_log_loss"]:
        answers, submission = table(case["answers"]), table(case["submission"])
        classes = [name for name in answers.columns if name != "id"]
        arguments = {"classes": classes, "apply_softmax": case["apply_softmax"]}
        if "expected" in case:
            assert same(metrics.multiclass_log_loss(submission, answers, **arguments), case["expected"]), case
        else:
            with pytest.raises(metrics.InvalidSubmission):
                metrics.multiclass_log_loss(submission, answers, **arguments)


def test_precision_at_k() -> None:
    data = golden("metrics")
    for case in data["average_precision_at_k"]:
        assert same(metrics.average_precision_at_k(case["actual"], case["predicted"], case["k"]), case["expected"])
    for case in data["mean_average_precision_at_k"]:
        assert same(metrics.mean_average_precision_at_k(case["actual"], case["predicted"], case["k"]), case["expected"])


def test_masks() -> None:
    data = golden("metrics")
    for case in data["dice"]:
        both_empty = number(case["both_empty_value"])
        assert same(metrics.dice(case["predicted"], case["true"], both_empty=both_empty), case["expected"])
    for case in data["rle"]:
        if "mask" in case:
            text = metrics.rle_encode(case["mask"])
            assert text == case["expected_rle"]
            assert metrics.rle_decode(text, case["height"], case["width"]).tolist() == case["mask"]
        else:
            with pytest.raises(metrics.InvalidSubmission):
                metrics.rle_decode(case["rle"], case["height"], case["width"])


@pytest.fixture
def toy(tmp_path: Path) -> Competition:
    """The competition of the reference outputs: accuracy of one column."""
    data = golden("grade_csv")
    folder, private = tmp_path / "toy", tmp_path / "data" / "toy" / "prepared" / "private"
    folder.mkdir()
    private.mkdir(parents=True)
    (private / "answers.csv").write_text(data["answers_csv"])
    (folder / "leaderboard.csv").write_text("\n".join(["score", *map(str, data["leaderboard_scores"])]))
    (folder / "config.yaml").write_text(
        "{id: toy, name: Toy, competition_type: simple, preparer: 'toy.prepare:prepare',"
        " dataset: {answers: toy/prepared/private/answers.csv, sample_submission: toy/prepared/public/sample.csv},"
        " grader: {name: accuracy, grade_fn: 'toy.grade:grade'}}"
    )
    (folder / "grade.py").write_text(
        "from trellis.benchmarks.mle.metrics import accuracy\n"
        "def grade(submission, answers):\n"
        "    return accuracy(submission, answers, id='PassengerId', target='Transported')\n"
    )
    return load(folder, tmp_path / "data")


def test_reports_on_submission_files(toy: Competition) -> None:
    cases = golden("grade_csv")["cases"]
    assert len(cases) > 20
    for case in cases:
        content = None if case["content"] is None else case["content"].encode()
        if content is None and case["expected_report"]["submission_exists"]:
            content = b""  # the reference notes an empty file as no content
        report = grade(toy, content, case["file_name"])
        expected = dict(case["expected_report"])
        assert {name: getattr(report, name) for name in expected} == pytest.approx(expected), case
        verdict = validate(toy, content, case["file_name"])
        assert verdict == report.message
        assert verdict == VALID if case["validate"]["valid"] else verdict.startswith(INVALID)
        if not case["validate"]["valid"]:
            assert (
                verdict.partition("\n")[0].replace(case["file_name"], "<PATH>")
                == (case["validate"]["message"].partition("\n")[0])
            )
