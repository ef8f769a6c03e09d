import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from trellis.benchmarks.hle.metrics import accuracy, calibration_error, half_width

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "hle.json"


@pytest.mark.golden
@pytest.mark.skipif(not GOLDEN.exists(), reason=f"no reference outputs at {GOLDEN}")
def test_the_published_numbers() -> None:
    cases: list[dict[str, Any]] = json.loads(GOLDEN.read_text("utf-8"))["cases"]
    assert cases
    for case in cases:
        confidences, correct = case["confidence_percent"], [word == "yes" for word in case["correct"]]
        if "expected_error" in case:
            undefined = (
                partial(calibration_error, confidences, correct, mode="faithful")
                if case["n"]
                else partial(accuracy, 0, 0)
            )
            with pytest.raises(ValueError, match=r"not defined|needs 100 answers"):
                undefined()
            continue
        expected = case["expected"]
        percent = accuracy(sum(correct), case["n"])
        assert percent == expected["accuracy"]
        assert half_width(percent, case["n"]) == expected["confidence_half_width"]
        error = calibration_error(confidences, correct, mode="faithful")
        assert error == pytest.approx(expected["calib_err_unrounded_stable_order"], abs=1e-6)
        points = 1.0 if case["tie_sensitive"] else 1e-9
        assert 100 * round(error, 2) == pytest.approx(expected["calibration_error"], abs=points + 1e-9)
        if case["tie_sensitive"]:
            continue
        assert calibration_error(confidences, correct, mode="faithful", norm="1") == pytest.approx(
            expected["calib_err_p1"], abs=1e-6
        )
        assert calibration_error(confidences, correct, mode="faithful", norm="max") == pytest.approx(
            expected["calib_err_max"], abs=1e-6
        )


def test_fixed_counts_every_bin_and_few_answers() -> None:
    assert calibration_error([80, 60], [True, False]) == pytest.approx(0.2)
    assert calibration_error([100], [True]) == 0
    assert calibration_error([100] * 150, [False] * 150) == 1
    low, high = [10] * 100, [90] * 100
    answers = [False] * 100 + [True] * 50 + [False] * 50
    expected = (0.5 * 0.1**2 + 0.5 * 0.4**2) ** 0.5
    assert calibration_error(low + high, answers) == pytest.approx(expected)
    assert calibration_error(low + high, answers, mode="faithful") == pytest.approx((0.5 * 0.1**2) ** 0.5)
    assert calibration_error(low + high, answers, norm="max") == pytest.approx(0.4)
    assert calibration_error(low + high, answers, norm="1") == pytest.approx(0.25)


def test_the_last_bin_takes_the_rest() -> None:
    confidences = [0.0] * 100 + [100.0] * 199
    answers = [False] * 299
    assert calibration_error(confidences, answers, norm="1") == pytest.approx(199 / 299)


@pytest.mark.parametrize("mode", ["fixed", "faithful"])
def test_no_answers_have_no_calibration(mode: Any) -> None:
    with pytest.raises(ValueError, match="there are 0"):
        calibration_error([], [], mode=mode)


def test_confidences_and_verdicts_must_match() -> None:
    with pytest.raises(ValueError, match="zip"):
        calibration_error([50, 60], [True])
