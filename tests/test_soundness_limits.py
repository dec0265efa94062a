"""The bench of confidence limits: it agrees with the library's decisions, and it can fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
from soundness import limits_bench
from soundness.laws import LAWS
from soundness.limits_bench import Seen, measure

from fedconv.analysis.verdicts.limits import Bets

LAW = {law.name: law for law in LAWS}


@pytest.mark.parametrize("law", LAWS, ids=[law.name for law in LAWS])
def test_laws_have_their_mean_and_range(law: limits_bench.Law) -> None:
    samples = law.draw(np.random.default_rng(0), (100, 20_000))
    assert samples.min() >= law.low
    assert samples.max() <= law.high
    assert abs(samples.mean() - law.mean) <= 6 * samples.std() / math.sqrt(samples.size)


@pytest.mark.parametrize(
    "name", ["exponential", "rare 1 of [0, 1]", "outlier of 1000 in [-1, 5]", "normal", "constant"]
)
def test_a_small_bench_finds_no_proved_limit_above_its_error(name: str) -> None:
    seen = list(measure(LAW[name], 0.05, 256, 200, seed=1, checked=4))
    assert seen
    assert not [one for one in seen if one.fails]


def test_a_limit_above_its_error_fails_unless_it_is_called_approximate() -> None:
    assert Seen("betting, lower", "", 0.05, 200, 1000, True).fails
    approximate = Seen("Student, upper", "", 0.05, 200, 1000, False)
    assert approximate.exceeds
    assert not approximate.fails
    assert not Seen("betting, lower", "", 0.05, 50, 1000, True).fails


def test_bets_that_are_too_bold_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares that add up to more than one: wealth out of nothing."""
    bold = Bets(limits_bench.BOLD.sizes, 20 * limits_bench.BOLD.shares)
    monkeypatch.setattr(limits_bench, "BOLD", bold)
    monkeypatch.setattr("fedconv.analysis.verdicts.limits.BOLD", bold)
    seen = list(measure(LAW["rare 1 of [0, 1]"], 0.05, 4096, 300, seed=1, checked=1))
    assert [one.kind for one in seen if one.fails] == ["betting, upper"]


def test_limits_that_differ_from_the_library_s_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_bench, "replicates_for_skewness", lambda samples: np.zeros(len(samples)))
    with pytest.raises(AssertionError):
        list(measure(LAW["lognormal(1)"], 0.05, 64, 200, seed=1, checked=60))
