"""Statistics against values that are known from elsewhere, or follow by hand."""

from random import Random
from statistics import NormalDist, fmean

import pytest

from trellis.runs.stats import (
    Interval,
    holm,
    mean_interval,
    paired_difference,
    rate_interval,
    sign_flip_p,
)


def test_epochs_count_inside_their_task() -> None:
    assert mean_interval({"a": [0.0, 0.0, 0.0, 0.0], "b": [1.0]}).value == 0.5


def test_one_task_has_no_interval() -> None:
    assert mean_interval({"a": [0.1, 0.9]}) == Interval(0.5)


def test_bootstrap_of_a_mean_agrees_with_the_normal_approximation() -> None:
    random = Random(5)
    values = [random.gauss(0.5, 0.1) for _ in range(400)]
    found = mean_interval({str(i): [value] for i, value in enumerate(values)})
    centre, spread = fmean(values), 0.1 / 400**0.5
    z = NormalDist().inv_cdf(0.975)
    assert found.low == pytest.approx(centre - z * spread, abs=0.001)
    assert found.high == pytest.approx(centre + z * spread, abs=0.001)


def test_bootstrap_resamples_tasks_and_not_episodes() -> None:
    """Ten identical epochs per task must not make the interval narrower."""
    once = mean_interval({str(i): [i / 10] for i in range(10)})
    tenfold = mean_interval({str(i): [i / 10] * 10 for i in range(10)})
    assert tenfold.low == pytest.approx(once.low)
    assert tenfold.high == pytest.approx(once.high)


def test_wilson_without_clusters() -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I: 81 of 263 and 15 of 148."""
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        found = rate_interval({str(i): [float(i < successes)] for i in range(n)})
        assert found.value == pytest.approx(successes / n)
        assert found.low == pytest.approx(low, abs=0.0006)
        assert found.high == pytest.approx(high, abs=0.0006)


def test_wilson_at_the_ends() -> None:
    """0 of 20 gives an upper bound of 0.1611 (Newcombe 1998); certainty is never claimed."""
    none = rate_interval({str(i): [0.0] for i in range(20)})
    every = rate_interval({str(i): [1.0] for i in range(20)})
    assert [none.low, none.high] == pytest.approx([0.0, 0.1611], abs=0.0001)
    assert [every.low, every.high] == pytest.approx([1 - 0.1611, 1.0], abs=0.0001)


def test_repeating_a_sure_success_adds_no_certainty_about_other_tasks() -> None:
    once = rate_interval({str(i): [float(i < 5)] for i in range(10)})
    tenfold = rate_interval({str(i): [float(i < 5)] * 10 for i in range(10)})
    assert tenfold.low == pytest.approx(once.low)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0, 1.0, 1.0, 1.0, 1.0], 2 / 32),
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 2 / 64),
        ([1.0, 2.0, 3.0, -1.0], 6 / 16),  # sums of 5 or more: 7, and 5 in two ways; and all negated
        ([0.0, 0.0, 0.0], 1.0),
        ([0.0, 1.0, 0.0], 1.0),
        ([], 1.0),
    ],
)
def test_exact_sign_flips(differences: list[float], p: float) -> None:
    assert sign_flip_p(differences) == p


def test_drawn_sign_flips_come_close_to_the_exact_value() -> None:
    """Darwin's maize (Fisher 1935, The Design of Experiments): 15 differences, exactly 1726 of 32768 as extreme."""
    differences = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sign_flip_p([float(d) for d in differences]) == pytest.approx(1726 / 32768, abs=0.01)
    assert sign_flip_p([float(d) for d in differences]) == sign_flip_p([float(d) for d in differences])


def test_holm() -> None:
    """The example of Holm's procedure that R's p.adjust gives for these values."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_only_what_both_have_is_compared() -> None:
    a = {"x": {1: 1.0, 2: 0.5}, "y": {1: 0.4}, "only a": {1: 0.0}}
    b = {"x": {2: 0.25, 3: 1.0}, "y": {1: 0.4}, "only b": {1: 1.0}}
    found = paired_difference(a, b)
    assert found is not None
    assert (found.tasks, found.episodes, found.wins, found.ties, found.losses) == (2, 2, 1, 1, 0)
    assert found.difference.value == 0.125
    assert paired_difference({"x": {1: 1.0}}, {"y": {1: 1.0}}) is None


def test_swapping_agents_mirrors_the_comparison() -> None:
    random = Random(2)
    a, b = ({str(t): {e: random.random() for e in range(3)} for t in range(8)} for _ in range(2))
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there is not None
    assert back is not None
    assert there.difference.value == pytest.approx(-back.difference.value)
    assert (there.p_value, there.p_these_tasks) == (back.p_value, back.p_these_tasks)


def test_false_alarms_are_as_rare_as_promised() -> None:
    """500 comparisons of equals at 5 %: the number of alarms is binomial, 25 on average."""
    random = Random(11)
    alarms = sum(sign_flip_p([random.gauss(0, 1) for _ in range(10)]) < 0.05 for _ in range(500))
    assert 10 <= alarms <= 42
