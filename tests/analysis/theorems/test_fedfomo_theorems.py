"""FedFomo's statements: formulas typed a second time, premises, every false version caught, and clusters recovered."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from fedconv.analysis.pages import mathml
from fedconv.analysis.theorems.fedfomo import METHOD, STATEMENTS
from fedconv.analysis.theorems.fedfomo.catching import (
    ALONE,
    CATCHING,
    CLOSE,
    CLOSE_HALF,
    CONCAVE,
    EFFICIENT,
    FINITE,
    WELL,
    Instance,
)  # fmt: skip
from fedconv.analysis.theorems.fedfomo.facts import of_experiment, of_trace
from fedconv.analysis.theorems.registry import methods, statement
from fedconv.analysis.theorems.statement import StatementInputs
from fedconv.analysis.verdicts.statement_verify import fitting_statements, judge_statements, verify_statements
from fedconv.core.run import run
from fedconv.methods.fedfomo.experiment import FedFomoExperiment
from fedconv.methods.fedfomo.method import FedFomo
from fedconv.methods.split import State
from fedconv.problem_file.settings import settings_from
from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.registry import FAMILIES, build_problem
from fedconv.problems.targets.base import QuadraticTargets
from fedconv.problems.targets.clusters import build, build_samples

PAIRS = [(key, mutant.key) for key, one in STATEMENTS.items() for mutant in one.mutants]


def experiment_of(file: Instance, name: str = "test") -> FedFomoExperiment:
    settings = settings_from(file, name)
    found = settings.runnable(settings.algorithms[0])
    assert isinstance(found, FedFomoExperiment)
    return found


# ---- every false version ---------------------------------------------------------------------------------------

ROOT = math.sqrt(2)
RATIOS: dict[tuple[str, str], float] = {
    ("FOMO-P1", "half"): 2,
    ("FOMO-P1-convex", "reversed"): 2,
    ("FOMO-P2ii", "linear"): (1 + ROOT) / 2,
    ("FOMO-1-monotone", "keeps"): 4,
    ("FOMO-2", "half"): 2,
    ("FOMO-P3", "best"): (1 + ROOT) / 2,
    ("FOMO-3", "no_kappa"): 13 / 9,
    ("FOMO-3", "half"): 2,
    ("FOMO-3-measured", "half"): 2,
    ("FOMO-3-finite", "no_nu"): 2,
    ("FOMO-3-finite", "one_nu"): 4 / 3,
    ("FOMO-4ii", "half"): 4 / 3,
    ("FOMO-4ii-own", "alone"): 11 / 7,
    ("FOMO-4ii-own", "half"): 55 / 49,
    ("FOMO-4ii-path", "alone"): 11 / 7,
    ("FOMO-4iii-rate", "square"): 2,
}
"""Left over right side of the false versions at their instances."""


def test_every_mutant_has_an_instance_and_every_statement_a_mutant():
    assert set(CATCHING) == set(PAIRS)
    assert len(PAIRS) == len(set(PAIRS))
    assert all(one.mutants for one in STATEMENTS.values())
    assert set(RATIOS) <= set(PAIRS)


@pytest.mark.parametrize(("key", "mutant"), PAIRS)
def test_mutant_is_violated_and_the_theorem_is_not(key, mutant):
    experiment = experiment_of(CATCHING[key, mutant], f"{key}:{mutant}")
    true = STATEMENTS[key]
    weak = true.mutate(true.mutant(mutant))
    caught, kept = (x.verdict for x in verify_statements(experiment, [weak, true], max_replicates=64))
    assert caught.status == "violated", caught.reason
    assert kept.status in ("holds", "premises_unmet"), kept.reason
    assert kept.status == "holds" or true.mutant(mutant).without
    if (key, mutant) in RATIOS:
        assert caught.tightness == pytest.approx(RATIOS[key, mutant], rel=2e-6)


EQUALITIES = [
    ("FOMO-P1", ALONE, 1e-9),
    ("FOMO-P2ii", EFFICIENT, 1e-9),
    ("FOMO-1", ALONE, 1e-9),
    ("FOMO-2", CONCAVE, 1e-9),
    ("FOMO-P3", EFFICIENT, 1e-9),
    ("FOMO-P3-own", ALONE, 1e-9),
    ("FOMO-3", ALONE, 1e-9),
    ("FOMO-3-measured", ALONE, 1e-9),
    ("FOMO-3-finite", FINITE, 1e-9),
    ("FOMO-4ii", CLOSE, 2e-6),
    ("FOMO-4ii-own", CLOSE_HALF, 2e-6),
    ("FOMO-4ii-path", CLOSE_HALF, 2e-6),
]
"""Statements with instances at which both sides are equal, or (Theorem 4) equal as candidates come close."""


@pytest.mark.parametrize(("key", "file", "near"), EQUALITIES)
def test_sharp_instances_attain_the_bound(key, file, near):
    verdict = verify_statements(experiment_of(file), [STATEMENTS[key]])[0].verdict
    assert verdict.status == "holds", verdict.reason
    assert verdict.tightness == pytest.approx(1.0, abs=near)


# ---- formulas a second time ------------------------------------------------------------------------------------

R, T, N = 3, 6, 4
VALUES = {"n": 4.0, "m": 4.0, "T": float(T), "tau": 2.0, "gamma": 0.3, "L": 1.7, "lam": 0.6, "M_c": 3.0, "a": 1.1,
          "z": 0.2, "R": 1.3, "rho": 0.55, "noise": 1e-15, "noise_w": 1e-15}  # fmt: skip


def made_up() -> xr.Dataset:
    """Positive numbers in every variable that a statement reads; errors that shrink; everybody mixes from round 1."""
    rng = np.random.default_rng(4)
    names = {v for s in STATEMENTS.values() for x in s.measured for v in x.variables} | {
        "secant_error", "secant_distance_sq", "secant_gain", "secant_slope", "linear_probe", "linear_own",
        "linear_probe_sq", "linear_own_sq", "simplex_probe", "simplex_own", "promised", "decrease", "best_gain",
        "own_gain", "promised_ratio", "own_trained_gain", "efficient", "efficient_count", "own_share", "spread", "nu",
        "candidates", "population_decrease", "wrong_weights", "wrong_weights_own", "far_weight", "far_weight_loose",
        "shortfall", "decrease_half",
    }  # fmt: skip
    points = {"loss", "trained_loss", "grad_sq", "error"}
    data: dict[str, Any] = {}
    for name in sorted(names - points - {"mixed"}):
        data[name] = (("replicate", "round", "client"), rng.uniform(0.1, 2, (R, T, N)))
    for name in points:
        data[name] = (("replicate", "point", "client"), rng.uniform(0.5, 2, (R, T + 1, N)))
    data["shortfall"] = (("replicate", "round", "client"), rng.normal(size=(R, T, N)))
    data["decrease"] = (("replicate", "round", "client"), rng.normal(size=(R, T, N)))
    data["candidates"] = (("replicate", "round", "client"), rng.integers(1, 4, (R, T, N)).astype(float))
    mixed = np.ones((R, T, N), dtype=bool)
    mixed[:, 0] = False
    data["mixed"] = (("replicate", "round", "client"), mixed)
    data["infimum"] = (("client",), np.array([0.1, 0.0, -0.2, 0.3]))
    return xr.Dataset(data)


def flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(R, -1)


def plain(key: str, t: dict[str, np.ndarray], x: dict[str, float]) -> tuple[Any, Any]:
    """(lhs, rhs) without sympy, ``(R, K)``."""
    g, L, lam, rho, z, apart, M = (x[k] for k in ("gamma", "L", "lam", "rho", "z", "R", "M_c"))
    low, e, loss = t["infimum"], t["error"], t["loss"]
    near = t["mixed"] & (t["nearest"] < e[:, :-1])
    C, r = np.where(near, t["candidates"], 1.0), np.where(near, t["nearest"] / e[:, :-1], 0.0)
    now, then = np.where(near, e[:, :-1], 0.0), np.where(near, e[:, 1:], 0.0)
    E0, late = e[:, 0].max(1), np.arange(T)[None, :]
    q = 1 - (1 - rho**2) / (2 * M - 1 + rho)
    t0 = np.maximum(np.ceil(np.log(E0 * (1 + rho) / apart) / -np.log(q)), 0)[:, None]
    star = (apart - (1 - rho) * z) / (1 + rho)
    u = (1 - rho) * (1 - z / star)
    q4 = 1 - u**2 / (u + 2 * (M - 1))
    t4 = np.maximum(np.ceil(np.log(E0 / star) / -np.log(q4)), 0)[:, None]
    cross, rise = t["cross_weight"].max(2), np.maximum(-t["decrease"], 0)
    gap0 = loss[:, 0] - low
    return {
        "FOMO-P1": (flat(t["secant_error"]), L / 2 * flat(t["secant_distance_sq"])),
        "FOMO-P1-convex": (flat(t["secant_gain"]), flat(t["secant_slope"])),
        "FOMO-P2i": (flat(t["linear_probe"]), flat(t["linear_own"])),
        "FOMO-P2ii": (flat(t["simplex_probe"]), flat(t["simplex_own"])),
        "FOMO-1": (flat(t["promised"]), flat(t["decrease"])),
        "FOMO-1-sum": (flat(t["promised"]), flat(t["promised_ratio"])),
        "FOMO-1-monotone": (flat(loss[:, 1:] - low), flat(loss[:, :-1] - low)),
        "FOMO-2": (flat(t["promised"]), flat(t["decrease"] + lam / 2 * t["spread"])),
        "FOMO-2-safe": (flat(np.where(t["shortfall"] <= 0, rise, 0)), np.zeros((R, T * N))),
        "FOMO-P3": (flat(t["efficient"]), flat(t["promised"])),
        "FOMO-P3-own": (flat(t["own_gain"] * t["own_share"]), flat(t["decrease"])),
        "FOMO-3": ((t["grad_sq"][:, :-1] * t["own_share"]).sum(1) / 2, gap0 / (g * (2 - g * L))),
        "FOMO-3-measured": (t["promised"].sum(1), gap0),
        "FOMO-3-finite": (flat(t["promised"]), flat(t["population_decrease"] + 2 * t["nu"])),
        "FOMO-4i": (flat(t["wrong_weights"]), np.zeros((R, T * N))),
        "FOMO-4i-far": (flat(t["far_weight"]), np.zeros((R, T * N))),
        "FOMO-4ii": (flat(then), flat((1 - (1 - r) ** 2 / (1 - r + 2 * (C - 1))) * now)),
        "FOMO-4ii-own": (flat(then), flat((1 - (1 - rho**2) / (2 * C - 1 + rho)) * now)),
        "FOMO-4ii-path": (e[:, -1], q ** t["mixed"].sum(1) * e[:, 0]),
        "FOMO-4iii": (np.where(late >= t0 + 1, cross, 0), np.zeros((R, T))),
        "FOMO-4iii-rate": (
            np.where(late >= t0 + 1, e[:, 1:].max(2), 0), rho * np.where(late >= t0 + 1, e[:, :-1].max(2), 0),
        ),
        "FOMO-4iv": (np.where(late >= t4 + 1, cross, 0), np.zeros((R, T))),
    }[key]  # fmt: skip


@pytest.mark.parametrize("key", STATEMENTS)
def test_formulas_typed_a_second_time(key):
    """Both sides are those of the round (and client) that breaks the statement most, else comes nearest to it."""
    one, trace = STATEMENTS[key], made_up()
    sides = one.evaluate(StatementInputs(VALUES, {}, "exact"), trace)
    left, right = plain(key, {str(k): v.values for k, v in trace.items()}, VALUES)
    gap = np.abs(left - right) if one.kind == "equality" else left - right
    with np.errstate(all="ignore"):
        nearest = np.nan_to_num(left / right, nan=0.0, posinf=0.0, neginf=0.0).argmax(1)
    worst = np.where((gap > 1e-9 * np.abs(right)).any(1), gap.argmax(1), nearest)
    rows = np.arange(R)
    np.testing.assert_allclose(sides.lhs, left[rows, worst], rtol=1e-12)
    np.testing.assert_allclose(sides.rhs, right[rows, worst], rtol=1e-12)
    assert sides.floor >= 0


def test_largest_step():
    found = STATEMENTS["FOMO-3"].largest_step(StatementInputs(VALUES, {}, "exact"))
    assert found == pytest.approx(2 / 1.7, rel=1e-11)


# ---- random problems: nothing is violated ----------------------------------------------------------------------


def check(problem: Problem, method: FedFomo, T: int, seed: int, noise: Noise | None = None) -> set[str]:
    """The statements that hold; none may be violated."""
    rng = np.random.default_rng(seed)
    u, v = rng.normal(size=problem.d_u), 2 * rng.normal(size=(problem.n, problem.d_v))
    start = State(torch.from_numpy(u), torch.from_numpy(v))
    trial = FedFomoExperiment(problem, method, start, T, noise or Noise("zero"), seed)
    found = verify_statements(trial, max_replicates=4)
    for result in found:
        assert result.verdict.status != "violated", (result.theorem, result.verdict.reason, result.inputs.values)
    return {x.theorem for x in found if x.verdict.status == "holds"}


COMMON = {
    "tau": st.integers(1, 3),
    "downloads": st.integers(0, 5),
    "norm": st.sampled_from(["euclidean", "euclidean", "l1", "squared", "none"]),
    "epsilon": st.sampled_from([0.0, 0.6]),
}


@settings(max_examples=25)
@given(
    n=st.integers(2, 6),
    groups=st.integers(1, 2),
    bias=st.sampled_from([0.0, 0.3, 1.5]),
    within=st.sampled_from([0.0, 0.4]),
    gamma=st.sampled_from([0.05, 0.5, 1.0, 1.7]),
    common=st.fixed_dictionaries(COMMON),
    everybody=st.booleans(),
    noisy=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_clusters_break_nothing(n, groups, bias, within, gamma, common, everybody, noisy, seed):
    problem = build(n=n, groups=groups, bias=bias, within=within, separation=1.0 + seed % 7, seed=seed)
    method = FedFomo(n if everybody else n - 1, gamma, **common)
    held = check(problem, method, 12, seed, Noise("gaussian", sigma_v=0.5) if noisy else None)
    assert {"FOMO-P1", "FOMO-P2i", "FOMO-P2ii", "FOMO-P3", "FOMO-1", "FOMO-1-monotone", "FOMO-2"} <= held
    if common["norm"] == "euclidean":
        assert "FOMO-4i" in held


@pytest.mark.parametrize("seed", range(6))
def test_runs_down_to_rounding_break_nothing(seed):
    """Long after convergence, where distances and gains are rounding errors."""
    held = check(build(n=3, within=0.5 * (seed % 2), bias=0.2 * (seed // 3), seed=seed), FedFomo(3, 0.7, 2), 50, seed)
    assert {"FOMO-4i", "FOMO-4ii", "FOMO-3-measured"} <= held


@settings(max_examples=25)
@given(d=st.integers(1, 3), common=st.fixed_dictionaries(COMMON), seed=st.integers(0, 10**6))
def test_quadratics_of_any_sign_break_nothing(d, common, seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    A, H = rng.normal(size=(n, d, d)), rng.normal(size=(n, d, d))
    if seed % 3 == 0:
        H = H @ H.swapaxes(1, 2) / d
    problem = QuadraticTargets(
        A=A @ A.swapaxes(1, 2) / d, b=rng.normal(size=(n, d)), H=H + H.swapaxes(1, 2), c=rng.normal(size=(n, d))
    )
    held = check(problem, FedFomo(n, 0.3, **common), 8, seed)
    assert {"FOMO-P1", "FOMO-P2i", "FOMO-P2ii", "FOMO-P3", "FOMO-2", "FOMO-2-safe"} <= held


@pytest.mark.parametrize(
    "family",
    ["trigonometric", "least_squares", "quadratic", "residuals", "huber", "cluster_samples", "double_well"],
)
def test_other_problems_break_nothing(family):
    for example in FAMILIES[family].examples[:2]:
        problem = build_problem({"family": family, **example})
        for seed in range(3):
            held = check(problem, FedFomo(problem.n, 0.2, 2, downloads=2), 10, seed)
            assert {"FOMO-P2i", "FOMO-P2ii", "FOMO-P3"} <= held


def test_finite_validation_splits_break_nothing():
    for seed in range(4):
        problem = build_samples(n=4, samples=3, validation=2, deviation=2.0, seed=seed)
        held = check(problem, FedFomo(4, 0.6, 2, downloads=3), 10, seed)
        assert "FOMO-3-finite" in held


# ---- the cluster experiment ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bias", "key"), [(0.0, "FOMO-4iii"), (0.4, "FOMO-4iv")])
def test_clusters_are_told_apart_at_the_explicit_round(bias, key):
    """Theorem 4 of the theory page: weights across clusters are exactly 0 from t_0 on, and occur before."""
    problem = build(n=6, groups=2, bias=bias, separation=4.0, d_v=3)
    starts = np.random.default_rng(0).normal(size=(7, 6, 3)) * 6
    one, before = STATEMENTS[key], 0
    for start in starts:
        state = State(torch.zeros(0, dtype=torch.float64), torch.from_numpy(start))
        trial = FedFomoExperiment(problem, FedFomo(6, 0.6, downloads=5), state, 120 if bias else 50)
        assert trial.deterministic
        trace, inputs = run(trial, 1), of_experiment(trial)
        sides = one.evaluate(inputs, trace)
        assert one.unmet(inputs, sides.values) == []
        t_0 = int(np.max(sides.values["t_0"]))
        weights = trace["cross_weight"].values[0]
        assert (weights[1 + t_0 :] == 0).all()
        before += int((weights[: 1 + t_0] > 0).any())
    assert before >= 5, "the clusters are not told apart from the beginning"


def test_different_optima_end_as_local_training():
    """No noise and all optima distinct: clients come to ignore each other, even inside a cluster."""
    problem = build(n=6, within=0.2, separation=3.0)
    start = State(torch.zeros(0, dtype=torch.float64), torch.zeros(6, 2, dtype=torch.float64))
    weight = run(FedFomoExperiment(problem, FedFomo(6, 0.3, downloads=5), start, 60), 1)["weight"].values[0, -1]
    assert np.array_equal(weight, np.eye(6))


def test_noise_makes_clients_share_until_nothing_is_better():
    """Noisy training: clusters share at first and end far below training alone; as only what is better is taken in, all
    candidates are rejected most of the time later on."""
    problem = build(n=6, separation=6.0)
    start = State(torch.zeros(0, dtype=torch.float64), torch.zeros(6, 2, dtype=torch.float64))
    noise = Noise("gaussian", sigma_v=1.0)
    trace = run(FedFomoExperiment(problem, FedFomo(6, 0.3, 2, downloads=5), start, 60, noise), 8)
    weight, same = trace["weight"].values, np.arange(6)[:, None] % 2 == np.arange(6)[None] % 2
    early = weight[:, 1:4].mean((0, 1))
    assert early[same & ~np.eye(6, dtype=bool)].min() > 0.1
    assert weight[:, 5:][..., ~same].max() == 0
    assert trace["loss"].values[:, -1].mean() < 0.05 * trace["local_loss"].values[:, -20:].mean()
    assert (trace["total"].values[:, -20:] == 0).mean() > 0.5


# ---- premises and words ----------------------------------------------------------------------------------------


def test_inputs_of_traces_are_those_of_experiments():
    for file in (ALONE, EFFICIENT, CONCAVE, WELL, FINITE):
        trial = experiment_of(file)
        before, after = of_experiment(trial), of_trace(run(trial, 1))
        assert before.flags == after.flags
        assert before.grade == after.grade == ("upper" if file is WELL else "exact")
        for name, value in before.values.items():
            assert after.values[name] == pytest.approx(value, rel=1e-9, nan_ok=True), name
        for result in judge_statements(run(trial, 1)):
            assert result.verdict.status != "violated", (result.theorem, result.verdict.reason)


def test_statements_fit_their_kind_of_run():
    def keys(**settings: Any) -> set[str]:
        problem = build(n=3, groups=1)
        start = State(torch.zeros(0, dtype=torch.float64), torch.ones(3, 2, dtype=torch.float64))
        trial = FedFomoExperiment(problem, FedFomo(3, 0.3, **settings), start, 3)
        return {s.key for s in fitting_statements(METHOD, of_experiment(trial))}

    assert "FOMO-4ii" in keys()
    assert "FOMO-3-finite" not in keys()
    assert not {"FOMO-4ii", "FOMO-4iii"} & keys(norm="squared")
    assert not {"FOMO-P2i", "FOMO-P3", "FOMO-3"} & keys(margin=1.0)
    assert "FOMO-2-safe" in keys(margin=1.0)


def test_a_horizon_before_t_0_is_a_premise_that_fails():
    file = CATCHING["FOMO-4iii", "now"] | {"run": {"T": 4}}
    verdict = verify_statements(experiment_of(file), [STATEMENTS["FOMO-4iii"]])[0].verdict
    assert verdict.status == "premises_unmet"
    assert "t_0/(T−1) < 1 fails" in verdict.reason


def test_a_trace_without_measures_is_refused():
    with pytest.raises(InputError, match="need a trace of level 'stationarity' or 'proof'; got 'none'"):
        of_trace(run(experiment_of(ALONE), 1, level="none"))


def test_registered():
    assert methods()["fedfomo"] is METHOD
    assert statement("FOMO-3:half").mutant_of == "FOMO-3"
    for one in STATEMENTS.values():
        assert mathml.statement(one).startswith("<math")
        assert one.latex()["statement"]
