"""Floors: rounding never refutes a true theorem, hides no small false one, and a run refutes wrong constants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedconv.analysis.exact import exact_trace
from fedconv.analysis.theorems import FA, FS, Theorem
from fedconv.analysis.theorems.split import facts as module
from fedconv.analysis.theorems.split.facts import of_experiment, of_trace
from fedconv.analysis.verdicts.verify import bounds, judge, verify
from fedconv.core.run import Experiment, run
from fedconv.methods.split import FedAlt, FedSim, State
from fedconv.problems.base import Constant, Grade
from fedconv.problems.noise import Noise
from fedconv.problems.registry import build_problem

FAMILIES = (
    {"family": "trigonometric", "n": 4, "d_u": 3, "d_v": 2, "delta": 1.0, "spread": 0.5, "chi": 0.3},
    {"family": "trigonometric", "n": 4, "d_u": 3, "d_v": 0, "L_v": 0.0, "chi": 0.0, "delta": 1.0, "spread": 0.0},
    {"family": "trigonometric", "n": 1, "d_u": 3, "d_v": 2, "delta": 0.0, "spread": 0.0},
    {"family": "quadratic", "n": 4, "d_u": 3, "d_v": 2, "coupling": 0.3},
    {"family": "quadratic", "n": 1, "d_u": 3, "d_v": 2},
)


def bounds_of(cls) -> list[Theorem]:
    return bounds("fedalt" if cls is FedAlt else "fedsim")


def assume(problem: Any, **constants: Constant) -> None:
    """Let a problem state these constants in place of its own."""
    problem.__dict__["constants"] = replace(problem.constants, **constants)


def near(table, cls, away, eta=0.5, T=10, tau=1, seed=0):
    """A run from the minimiser moved by ``away`` in a random direction, everybody taking part, no noise."""
    problem: Any = build_problem(table)
    u, v = problem.minimiser()
    rng = torch.Generator().manual_seed(seed)
    start = State(*(x + away * torch.randn(x.shape, generator=rng, dtype=torch.float64) for x in (u, v)))
    algorithm = cls(problem.n, 1.0, 1.0, tau_u=tau, tau_v=tau if problem.d_v or cls is FedSim else 0)
    return Experiment(problem, algorithm, Noise("zero"), start, T).with_eta(eta)


@pytest.mark.parametrize("table", FAMILIES)
@pytest.mark.parametrize("cls", [FedAlt, FedSim])
def test_no_true_theorem_is_violated_at_or_near_the_optimum(table, cls):
    for k, away in enumerate((0.0, 1e-16, 1e-13, 1e-9, 1e-7)):
        for eta, T in ((0.5, 3), (0.1, 50), (1e-3, 10)):
            for result in verify(near(table, cls, away, eta, T, tau=1 + k % 2, seed=k), bounds_of(cls)):
                assert result.verdict.status != "violated", (away, eta, result.theorem, result.verdict.reason)


@pytest.mark.parametrize(("cls", "one"), [(FedAlt, FA), (FedSim, FS)])
def test_a_small_true_violation_beats_the_floor(cls, one, monkeypatch):
    """Half the gap from 1e-6 away: left sides of 1e-12. Floors 10⁴ times as high would hide it."""
    table = {"family": "trigonometric", "n": 1, "d_u": 1, "d_v": 0, "L_v": 0.0, "chi": 0.0, "spread": 0.0, "delta": 0.0}
    experiment = near(table, cls, 1e-6, eta=1.0, T=1)
    weak = one.mutate(one.mutant("gap1"))
    verdict = verify(experiment, [weak])[0].verdict
    assert verdict.status == "violated"
    assert verdict.measured < 1e-11
    assert verify(experiment, [one])[0].verdict.status == "holds"
    for name in ("OBJECTIVE", "GRADIENT"):
        monkeypatch.setattr(module, name, 1e4 * getattr(module, name))
        monkeypatch.setattr("fedconv.analysis.verdicts.check.OBJECTIVE", module.OBJECTIVE)
    assert verify(experiment, [weak])[0].verdict.status != "violated"


def test_the_floor_of_gradients_alone_is_small(monkeypatch):
    """Slopes u ± 1 at u = 1e-10: terms of size 1 that cancel. A left side of 1e-20; 10⁴ times the floor hides half."""
    one = [[[1.0]], [[1.0]]]
    table = {"family": "quadratic_arrays", "A": one, "B": [[], []], "C": [[[]], [[]]], "a": [[1.0], [-1.0]]}
    problem = build_problem(table | {"b": [[], []]})
    start = State(torch.full((1,), 1e-10, dtype=torch.float64), torch.zeros(2, 0, dtype=torch.float64))
    experiment = Experiment(problem, FedAlt(2, 1.0, 0.0, tau_u=1, tau_v=0), Noise("zero"), start, 1).with_eta(1.0)
    weak = FA.mutate(FA.mutant("gap1"))
    assert verify(experiment, [weak])[0].verdict.status == "violated"
    assert verify(experiment, [FA])[0].verdict.status == "holds"
    monkeypatch.setattr(module, "GRADIENT", 1e4 * module.GRADIENT)
    assert verify(experiment, [weak])[0].verdict.status != "violated"


def test_a_recorded_run_carries_the_sizes_of_its_terms():
    experiment = near(FAMILIES[0], FedAlt, 1e-3)
    trace = run(experiment, 1)
    assert of_trace(trace) == of_experiment(experiment)
    assert of_trace(trace).scale > 1
    del trace.attrs["magnitudes"]
    assert of_trace(trace).slopes[0] < of_experiment(experiment).slopes[0]


# ---- constants that a run refutes -------------------------------------------------------------------------------


def moved(table, noise=0.3, T=20, m=2, **constants):
    """A run far from the optimum on a problem whose constants are what is given."""
    problem = build_problem(table)
    assume(problem, **{k: Constant(x, "exact") for k, x in constants.items()})
    start = State(
        torch.ones(problem.d_u, dtype=torch.float64), torch.zeros(problem.n, problem.d_v, dtype=torch.float64)
    )
    algorithm = FedAlt(m, 1.0, 1.0, tau_u=1, tau_v=1)
    return Experiment(
        problem, algorithm, Noise("gaussian", noise, noise) if noise else Noise("zero"), start, T
    ).with_eta(0.1)


@pytest.mark.parametrize("exact", [False, True])
def test_a_run_below_F_star_or_beyond_delta_refutes_the_constant(exact):
    table = dict(FAMILIES[3] if exact else FAMILIES[0])
    plain = moved(table)
    F = run(plain, 4)["F"].values
    star = float(F[0, 0]) - 1e-3 * abs(float(F[0, 0]))
    cases: list[tuple[dict[str, Any], str]]
    cases = [({"F_star": star}, "refutes F_star ="), ({"delta": 1e-3, "rho": 0.0}, "refutes δ = 0.001 with ρ = 0")]
    for constants, words in cases:
        experiment = moved(table, **constants)
        assert (exact_trace(experiment) is not None) == exact
        for result in (verify(experiment, [FA], max_replicates=4)[0], judge(run(experiment, 4), [FA])[0]):
            assert result.verdict.status == "premises_unmet"
            assert words in result.verdict.reason
            assert "round " in result.verdict.reason
    estimated = moved(table, delta=1e-3, rho=0.0)
    assume(estimated.problem, delta=Constant(1e-3, "estimated"))
    assert "refutes" not in verify(estimated, [FA], max_replicates=4)[0].verdict.reason


@pytest.mark.parametrize("table", FAMILIES)
def test_true_constants_are_never_refuted(table):
    """Attained ones included: the diversity of equal Hessians is δ² at every point, and F★ is met at the minimiser."""
    runs = [near(table, FedAlt, 0.0), near(table, FedAlt, 1e-9)]
    for experiment in runs + ([moved(table, m=1)] if table["d_v"] else []):
        for result in verify(experiment, bounds_of(FedAlt), max_replicates=4):
            assert "refutes" not in result.verdict.reason


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("wrong", "words"), [(("L_u", "L_uv"), "refute L_u = "), (("L_v", "L_vu"), "refute L_v = ")])
def test_gradients_along_the_path_refute_lipschitz_constants(exact, wrong, words):
    """On exact routes too; the step sizes are those of the true constants, and estimated ones are not refuted."""
    table = dict(FAMILIES[3] if exact else FAMILIES[0])
    plain = moved(table)
    known = plain.problem.constants
    grades: tuple[Grade, ...] = ("exact", "estimated")
    for grade in grades:
        small = {k: Constant(getattr(known, k).value / 20, grade) for k in wrong}
        assume(plain.problem, **small)
        assert (exact_trace(plain) is not None) == exact
        verdict = verify(plain, [FA], max_replicates=4)[0].verdict
        assert (words in verdict.reason) == (grade == "exact")
        if grade == "exact":
            assert verdict.status == "premises_unmet"
            assert any("changes by" in x and "rounds " in x for x in verdict.premises)


def test_an_attained_lipschitz_constant_is_not_refuted_and_one_just_below_is():
    """A single Hessian L on u: the change of the gradient is L‖Δu‖ on every path, but for rounding."""
    from fedconv.analysis.verdicts.refuted import refuted_slopes

    table = {"family": "quadratic_arrays", "A": [[[2.0]]], "B": [[]], "C": [[[]]], "a": [[0.3]], "b": [[]]}
    for away in (1.0, 1e-6, 1e-12, 0.0):
        problem = build_problem(table)
        start = State(torch.full((1,), 0.15 + away, dtype=torch.float64), torch.zeros(1, 0, dtype=torch.float64))
        experiment = Experiment(problem, FedAlt(1, 0.1, 0.0, tau_u=1, tau_v=0), Noise("zero"), start, 50)
        assert refuted_slopes(experiment, of_experiment(experiment)) == []
        assume(problem, L_u=Constant(2.0 - 1e-6, "exact"))
        assert bool(refuted_slopes(experiment, of_experiment(experiment))) == (away >= 1e-6)


def test_a_round_that_is_not_finite_refutes_nothing():
    from fedconv.analysis.verdicts.refuted import refuted

    experiment = moved(FAMILIES[0])
    trace = run(experiment, 2)
    for name in ("F", "diversity", "diversity_virtual"):
        trace[name][:, 3] = np.nan
        trace[name][:, 4] = -np.inf
    assert refuted(trace, of_experiment(experiment)) == []
