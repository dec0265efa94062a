"""Slopes on logarithmic axes: exact on powers, honest intervals, errors in a sentence."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedconv.analysis.claims.slopes import Slope, slope
from fedconv.problems.errors import InputError

X = np.array([4.0, 8.0, 16.0, 64.0])


@pytest.mark.parametrize("power", [-0.5, 0.0, 2.0, -2 / 3])
def test_a_power_law_is_found_exactly(power: float) -> None:
    found = slope(X, 3.0 * X[None, :] ** power)
    assert found.value == pytest.approx(power, abs=1e-12)
    assert (found.low, found.high) == (found.value, found.value)
    assert found.window == (4.0, 64.0)


def test_the_fit_is_least_squares_on_logs_of_means() -> None:
    samples = np.random.default_rng(3).gamma(2.0, size=(7, 4))
    expected = np.polyfit(np.log(X), np.log(samples.mean(0)), 1)[0]
    assert slope(X, samples).value == pytest.approx(expected, rel=1e-12)
    scaled = slope(100 * X, 1e-8 * samples)
    assert scaled.value == pytest.approx(expected, rel=1e-10)
    assert scaled.high - scaled.low == pytest.approx(slope(X, samples).high - slope(X, samples).low, rel=1e-9)


def test_the_interval_is_the_jackknife_written_as_a_loop() -> None:
    samples = np.random.default_rng(5).gamma(4.0, size=(9, 4)) / X
    each = [np.polyfit(np.log(X), np.log(np.delete(samples, r, 0).mean(0)), 1)[0] for r in range(9)]
    reach = 2.306004135204166 * math.sqrt(8 / 9 * sum((e - np.mean(each)) ** 2 for e in each))  # t of 8, 97.5 %
    found = slope(X, samples)
    assert found.low == pytest.approx(found.value - reach, rel=1e-9)
    assert found.high == pytest.approx(found.value + reach, rel=1e-9)


def test_noise_that_a_row_shares_cancels() -> None:
    rng = np.random.default_rng(0)
    common = rng.gamma(3.0, size=(20, 1))
    together = slope(X, common * X**-0.5)
    assert together.high - together.low < 1e-12
    apart = slope(X, rng.gamma(3.0, size=(20, 4)) * X**-0.5)
    assert apart.high - apart.low > 0.1


@pytest.mark.parametrize("error", [0.05, 0.3])
def test_the_interval_misses_as_often_as_it_says(error: float) -> None:
    rng = np.random.default_rng(11)
    trials = 1500
    missed = sum(not slope(X, rng.gamma(2.0, size=(24, 4)) * X**-0.5, error).encloses(-0.5) for _ in range(trials))
    spread = math.sqrt(error * (1 - error) * trials)
    assert abs(missed - error * trials) < 4 * spread + 0.01 * trials


def test_replicates_that_leave_it_open_give_no_limits() -> None:
    found = slope(X, np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    assert found == Slope(found.value, -math.inf, math.inf, (4.0, 64.0))
    assert found.value == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "samples", "error", "sentence"),
    [
        ([1.0, 1.0], np.ones((2, 2)), 0.05, r"x must hold at least two different positive numbers; got \[1\.0, 1\.0\]"),
        ([0.0, 1.0], np.ones((2, 2)), 0.05, "x must hold at least two different positive"),
        ([[1.0, 2.0]], np.ones((2, 2)), 0.05, "x must hold"),
        ([1.0, 2.0], np.ones(2), 0.05, r"samples must have the shape \(replicates, 2\); got \(2,\)"),
        ([1.0, 2.0], np.ones((0, 2)), 0.05, r"samples must have the shape \(replicates, 2\); got \(0, 2\)"),
        ([1.0, 2.0], [[1.0, np.inf]], 0.05, "samples must be finite; got inf for replicate 0 at x = 2"),
        ([1.0, 2.0], [[1.0, -1.0]], 0.05, "samples must have positive means, for their logarithms; got -1 at x = 2"),
        ([1.0, 2.0], np.ones((2, 2)), 1.0, r"error must lie in \(0, 1\); got 1\.0"),
    ],
)
def test_bad_input_gets_a_sentence(x: list[float], samples: np.ndarray, error: float, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        slope(np.array(x), np.asarray(samples), error)
