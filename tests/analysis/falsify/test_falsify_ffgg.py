"""The falsifier on FFGG's statements: rounding is told from violations, and its files are made small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

from fedconv.analysis.falsify.quick_verdict import verify_weakened
from fedconv.analysis.falsify.shrink import shrink
from fedconv.analysis.falsify.shrink.arrays import STEPS
from fedconv.analysis.falsify.statements.target import Target
from fedconv.analysis.theorems.ffgg import STATEMENTS
from fedconv.analysis.theorems.statement import Weakened, rhs
from fedconv.analysis.verdicts.statement_verify import verify_statements
from fedconv.problem_file.settings import settings_from
from fedconv.problems.errors import InputError


def true(key: str) -> Target:
    return Target(STATEMENTS[key], STATEMENTS[key])


def scalar(n: int, c: float = 0.0, **more: Any) -> dict[str, Any]:
    """n clients ½(w − c_m)² with targets c and −c by turns, from w = 1."""
    problem = {"family": "least_squares_arrays", "A": [[[1.0]]] * n, "B": [[[0.0]]] * n,
               "c": [[c if m % 2 == 0 else -c] for m in range(n)]}  # fmt: skip
    file = {
        "problem": problem,
        "start": {"kind": "point", "u": [1.0], "v": [[0.0]] * n},
        "algorithm": {"name": "ffgg", "m": n, "gamma": 1.0},
        "run": {"T": 1},
    }
    return {k: {**x, **more.get(k, {})} for k, x in file.items()}


# ---- the numbers -----------------------------------------------------------------------------------------------

ROUNDING = {
    "FFGG-3f": scalar(2, start={"u": [2.0]}, algorithm={"m": 1}),
    "FFGG-3f-step": scalar(2, start={"u": [2.0]}, algorithm={"m": 1}),
    "FFGG-5a-LS": scalar(2, algorithm={"tau": 2}, start={"u": [0.1]}),
}
"""Runs that end in w★, where the rate is 0 but rounds to below 0."""


INEXACT = {
    "FFGG-4-bias": ([[1.0], [0.0]], [[-1.0], [3.0]], 2),
    "FFGG-4-grad": ([[1.0], [0.1]], [[-1.0], [2.0]], 1),
}
"""A, B and K of one client whose one personal coordinate is found exactly: what is left from w = 0 is rounding."""


@pytest.mark.parametrize("key", list(INEXACT))
def test_what_is_left_of_an_exact_solution_is_rounding(key):
    A, B, K = INEXACT[key]
    file = {
        "problem": {"family": "least_squares_arrays", "A": [A], "B": [B], "c": [[0.0, 0.0]]},
        "start": {"kind": "point", "u": [0.0], "v": [[0.5]]},
        "algorithm": {"name": "ffgg", "m": 1, "gamma": 0.3},
        "run": {"T": 2},
        "fine_tuning": {"mode": "steps", "steps": K},
    }
    score = true(key).judge_file(file)
    assert not score.violated
    assert score.tightness <= 1 + 1e-9


CONCAVE = scalar(10, algorithm={"gamma": 0.1}) | {
    "problem": {"family": "envelope_quadratic", "A": [[[1.0]]] * 10, "B": [[[1.0]]] * 10,
                "C": [[[2.0]]] + [[[0.0]]] * 9, "a": [[0.0]] * 10, "b": [[0.0]] * 10}
}  # fmt: skip


def test_a_concave_client_is_none_of_theorem_1d():
    """F_1'' = 1 − 2² = −3 beside clients of curvature 1: L_max = 1, as upper curvature, and ∇F_1 is 3-Lipschitz."""
    assert not true("FFGG-1d").judge_file(CONCAVE).violated


def test_two_infinite_sides_are_no_violation():
    """A client unbounded below: G = ∞ on both sides of FFGG-2b."""
    assert not true("FFGG-2b").judge_file(CONCAVE).violated


@pytest.mark.parametrize("key", list(ROUNDING))
def test_rounding_is_no_violation_and_is_reported(key):
    file = ROUNDING[key]
    for u in np.linspace(0.1, 3.0, 30):
        moved = {**file, "start": {**file["start"], "u": [float(u)]}}
        score = true(key).judge_file(moved)
        assert not score.violated
        assert score.verdict is not None
        assert score.within_floor or score.verdict.measured <= score.verdict.bound


def test_a_small_true_violation_is_one():
    """½w² at γ = 1, T = 1: FFGG-3b is an equality; a bound smaller by 1e-7 is not rounding."""
    one = STATEMENTS["FFGG-3b"]
    weak = one.mutate(Weakened("little", "a little less", {rhs: one.definitions[rhs] * sp.Float(1 - 1e-7)}))
    assert Target(weak, one).judge_file(scalar(1)).violated
    assert not true("FFGG-3b").judge_file(scalar(1)).violated


# ---- what it leaves behind -------------------------------------------------------------------------------------


def test_shrinking_leaves_what_the_violation_needs():
    file = scalar(6, 0.7, run={"T": 40}, algorithm={"gamma": 0.98765})
    file |= {"byzantine": {"f": 2, "attack": "sign_flip", "aggregator": "median", "strength": 3.0}}

    def violates(one: dict[str, Any]) -> bool:
        return len(one["problem"]["A"]) >= 3 and one["byzantine"]["f"] >= 1 and one["run"]["T"] >= 2

    small = shrink(file, violates, 200, STEPS)
    assert small["problem"] == {
        "family": "least_squares_arrays", "A": [[[1.0]]] * 3, "B": [[[0.0]]] * 3, "c": [[0.0]] * 3
    }  # fmt: skip
    assert small["start"] == {"kind": "point", "u": [0.0], "v": [[0.0]] * 3}
    assert small["algorithm"] == {"name": "ffgg", "m": 3, "gamma": 1.0}
    assert small["run"] == {"T": 2}
    assert small["byzantine"] == {"f": 1, "attack": "zero", "aggregator": "median"}


@pytest.mark.parametrize(
    ("eta", "status", "tightness"), [("max", "violated", 2), (1.0, "violated", 2), (0.1, "holds", 0.362)]
)
def test_verify_weakened_takes_statements(eta, status, tightness):
    """½w², one step: mean gap (1 + (1−γ)²)/4 against half of 1/(4γ)."""
    file = scalar(1) | {"algorithm": {"name": "ffgg", "m": 1, "eta": eta}, "verify": {"theorems": ["FFGG-3b"]}}
    (weak,) = verify_weakened(settings_from(file, "one"), mutant="half")
    assert weak.theorem == "FFGG-3b:half"
    assert weak.verdict.status == status
    assert weak.verdict.tightness == pytest.approx(tightness)


def test_a_mutant_without_a_premise_is_about_runs_that_the_theorem_is_not_about():
    file = scalar(2, 1.0, start={"u": [0.0]}, algorithm={"m": 1, "gamma": 0.5}) | {"verify": {"theorems": ["FFGG-3f"]}}
    settings = settings_from(file, "conflict")
    (weak,) = verify_weakened(settings, mutant="not_over")
    assert weak.verdict.status == "violated"
    with pytest.raises(InputError, match=r"--mutant must be a mutant of a theorem of conflict: FFGG-3f has L, twice"):
        verify_weakened(settings, mutant="half")
    assert [r.verdict.status for r in verify_statements(settings.runnable(settings.algorithms[0]))].count(
        "violated"
    ) == 0
