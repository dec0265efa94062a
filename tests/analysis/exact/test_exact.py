"""Exact expectations: moments, trees and samples agree, and the lemmas hold in the exact numbers."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from fedconv.analysis.exact import applies, as_quadratic, exact_trace, expectations, tree_expectations
from fedconv.analysis.exact.tree import count_leaves
from fedconv.analysis.theorems import FA
from fedconv.analysis.theorems.split.facts import of_experiment
from fedconv.analysis.verdicts import verify as verify_module
from fedconv.core.run import Experiment, run
from fedconv.core.trace import VARIABLES, read
from fedconv.methods.split import Algorithm, FedAlt, FedAvg, FedSim, LocalNoise, LocalOnly, State, Tally
from fedconv.problem_file.settings import settings_from
from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.registry import build_problem
from fedconv.problems.split.full_personalization import FullPersonalization
from fedconv.problems.split.quadratic import Quadratic, build_random
from fedconv.problems.split.trigonometric import Trigonometric

TOLERANCE = 1e-12
TWO_POINT = Noise("rademacher", 0.5, 0.7)
SHARED_DRAWS = Noise("rademacher", 0.5, 0.7, dependence="full")


def quadratic(n: int = 3, d_u: int = 1, d_v: int = 1, **dials: Any) -> Quadratic:
    return build_random(n=n, d_u=d_u, d_v=d_v, **{"L_u": 1.3, "L_v": 0.8, "coupling": 0.7, "seed": 4, **dials})


def trigonometric(n: int = 2) -> Trigonometric:
    rng = np.random.default_rng(2)
    h = rng.normal(size=(n, 1))
    return Trigonometric(a=[1.1], b=[0.9], kappa=[0.8], h=h - h.mean(0), s=rng.normal(size=(n, 1)))


def algorithm(name: str, m: int, tau: int = 2) -> Algorithm:
    if name == "fedalt":
        return FedAlt(m, 0.35, 0.45, tau_u=tau, tau_v=tau)
    if name == "fedsim":
        return FedSim(m, 0.35, 0.45, tau_u=tau, tau_v=tau)
    if name == "fedavg":
        return FedAvg(m, 0.35, 0.0, tau_u=tau, tau_v=0)
    return LocalOnly(m, 0.0, 0.45, tau_u=0, tau_v=tau)


def experiment(problem: Problem, algorithm: Algorithm, noise: Noise, T: int) -> Experiment:
    rng = np.random.default_rng(1)
    u, v = rng.normal(size=problem.d_u), rng.normal(size=(problem.n, problem.d_v))
    return Experiment(problem, algorithm, noise, State(torch.from_numpy(u), torch.from_numpy(v)), T, seed=3)


def as_long_as_affordable(problem: Problem, algorithm: Algorithm, noise: Noise, leaves: int = 70_000) -> Experiment:
    """As many rounds, at most 4, as a tree of that many leaves allows."""
    fits = [T for T in range(1, 5) if count_leaves(experiment(problem, algorithm, noise, T), "proof") <= leaves]
    return experiment(problem, algorithm, noise, max(fits))


def assert_equal(got: xr.Dataset, want: xr.Dataset) -> None:
    """Every variable to 1e-12 of its largest value, or of 1 where it is smaller."""
    assert set(got) == set(want)
    for key in want:
        error = np.abs(got[key].values - want[key].values).max(initial=0.0)
        assert got[key].dims == want[key].dims, key
        assert error <= TOLERANCE * max(1.0, np.abs(want[key].values).max(initial=0.0)), f"{key}: off by {error:.3g}"


def assert_sampled(exact: xr.Dataset, sampled: xr.Dataset, z: float = 5.0) -> None:
    """The sample means lie within z standard errors; where nothing varies they are equal to 1e-12."""
    count = sampled.sizes["replicate"]
    assert count >= 512
    for key in VARIABLES:
        if key not in exact or "replicate" not in exact[key].dims:
            continue
        values = sampled[key].values
        error = np.abs(values.mean(axis=0) - exact[key].values[0])
        allowed = z * values.std(axis=0, ddof=1) / math.sqrt(count)
        size = max(1.0, np.abs(values).max(initial=0.0))
        assert (error <= allowed + TOLERANCE * size).all(), f"{key}: {error} exceeds {allowed}"


# ---- moments against the tree ------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [TWO_POINT, SHARED_DRAWS], ids=["independent", "full"])
@pytest.mark.parametrize("tau", [1, 2])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
def test_moments_equal_the_tree(name: str, n: int, m: int, tau: int, noise: Noise) -> None:
    case = as_long_as_affordable(quadratic(n), algorithm(name, m, tau), noise)
    assert_equal(expectations(case, "proof"), tree_expectations(case, level="proof"))
    assert_equal(expectations(case), tree_expectations(case))


@pytest.mark.parametrize("name", ["fedalt", "fedsim", "fedavg", "local"])
def test_cohorts_alone_equal_the_tree(name: str) -> None:
    """Without noise the cohorts of several rounds and larger blocks fit into a tree."""
    case = experiment(quadratic(5, 3, 2), algorithm(name, 2), Noise("zero"), T=4)
    assert count_leaves(case, "proof") == 10**4
    assert_equal(expectations(case, "proof"), tree_expectations(case, level="proof"))


@pytest.mark.parametrize("name", ["fedavg", "local"])
def test_one_block_algorithms_equal_the_tree(name: str) -> None:
    case = as_long_as_affordable(quadratic(3), algorithm(name, 2), TWO_POINT)
    assert case.T >= 2
    assert_equal(expectations(case, "proof"), tree_expectations(case, level="proof"))


@pytest.mark.parametrize("sigmas", [(0.5, 0.0), (0.0, 0.7), (0.5, 0.7)])
@pytest.mark.parametrize(("d_u", "d_v"), [(2, 1), (1, 2), (1, 0), (0, 1)])
@pytest.mark.parametrize("dependence", ["independent", "full"])
@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
def test_blocks_of_unequal_length_equal_the_tree(
    name: str, dependence: Any, d_u: int, d_v: int, sigmas: tuple[float, float]
) -> None:
    noise = Noise("rademacher", sigmas[0] * (d_u > 0), sigmas[1] * (d_v > 0), dependence=dependence)
    case = as_long_as_affordable(quadratic(2, d_u, d_v), algorithm(name, 1, 1), noise)
    assert case.T >= 2
    assert_equal(expectations(case, "proof"), tree_expectations(case, level="proof"))


def test_spikes_have_three_points_and_only_variances_enter() -> None:
    problem, method = quadratic(2), algorithm("fedalt", 1, 1)
    case = as_long_as_affordable(problem, method, Noise("spikes", 0.5, 0.7, spike_probability=0.3))
    assert count_leaves(case, "proof") == (2 * 3**2) ** case.T * 3**2
    assert_equal(tree_expectations(case, level="proof"), expectations(case, "proof"))
    for noise in (TWO_POINT, Noise("gaussian", 0.5, 0.7), Noise("student_t", 0.5, 0.7)):
        assert expectations(experiment(problem, method, noise, case.T), "proof").equals(expectations(case, "proof"))


def test_shared_draws_change_fedsim_only() -> None:
    for name, changes in (("fedsim", True), ("fedalt", False)):
        traces = [
            expectations(experiment(quadratic(), algorithm(name, 2), noise, 3)) for noise in (TWO_POINT, SHARED_DRAWS)
        ]
        assert traces[0].equals(traces[1]) != changes


@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
def test_full_personalization_is_a_quadratic(name: str) -> None:
    base = {"family": "quadratic", "n": 2, "d_u": 0, "d_v": 1}
    problem = build_problem({"family": "full_personalization", "lam": 0.6, "base": base})
    case = as_long_as_affordable(problem, algorithm(name, 1, 1), TWO_POINT)
    assert_equal(expectations(case, "proof"), tree_expectations(case, level="proof"))


def test_stochastic_gradient_descent_in_closed_form() -> None:
    """u⁺ = (1 − γL)u − γξ: E F(u^t) = ½L (r^{2t} u² + γ²σ² (1 − r^{2t})/(1 − r²)) with r = 1 − γL."""
    L, gamma, sigma, T = 1.7, 0.3, 0.9, 200
    problem = Quadratic(A=[[[L]]], B=np.zeros((1, 0, 0)), C=np.zeros((1, 1, 0)), a=[[0.0]], b=np.zeros((1, 0)))
    case = experiment(problem, FedAvg(1, gamma, 0.0, tau_u=1, tau_v=0), Noise("gaussian", sigma, 0.0), T)
    square, t = (1 - gamma * L) ** 2, np.arange(T)
    u_sq = square**t * float(case.start.u[0]) ** 2 + (gamma * sigma) ** 2 * (1 - square**t) / (1 - square)
    np.testing.assert_allclose(expectations(case)["F"].values[0], 0.5 * L * u_sq, rtol=TOLERANCE)


# ---- against samples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [Noise("gaussian", 0.6, 0.8), Noise("gaussian", 0.6, 0.8, dependence="full")])
@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
def test_moments_agree_with_samples(name: str, noise: Noise) -> None:
    case = experiment(quadratic(7, 4, 3), algorithm(name, 3, 3), noise, T=8)
    assert_sampled(expectations(case, "proof"), run(case, 768, level="proof", engine="eager"))


@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
def test_moments_agree_with_samples_of_the_fused_engine(name: str) -> None:
    """That engine has local steps of its own: here nothing but the problem is shared."""
    case = experiment(quadratic(6, 3, 3, indefinite=0.3), algorithm(name, 4, 2), Noise("student_t", 0.6, 0.8), 6)
    assert_sampled(expectations(case, "proof"), run(case, 768, level="proof", engine="fused"))


@pytest.mark.parametrize("noise", [TWO_POINT, SHARED_DRAWS], ids=["independent", "full"])
@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
def test_tree_agrees_with_samples_of_a_trigonometric_problem(name: str, noise: Noise) -> None:
    case = as_long_as_affordable(trigonometric(), algorithm(name, 1, 1), noise)
    assert case.T >= 2
    assert_sampled(tree_expectations(case, level="proof"), run(case, 2048, level="proof", engine="eager"))


# ---- lemmas in the exact numbers ---------------------------------------------------------------------------


def lemma_cases() -> list[Any]:
    tiny = (trigonometric, lambda n: quadratic(n, 1, 1))
    cases = [
        pytest.param(as_long_as_affordable(make(3), algorithm(name, 2, 1), noise), True, id=f"{label}-{name}-{law}")
        for make, label in zip(tiny, ("trigonometric", "quadratic"), strict=True)
        for name in ("fedalt", "fedsim")
        for law, noise in (("independent", TWO_POINT), ("full", SHARED_DRAWS))
    ]
    return cases + [
        pytest.param(experiment(quadratic(9, 4, 3), algorithm(name, m, 3), SHARED_DRAWS, 30), False, id=f"{name}-{m}")
        for name in ("fedalt", "fedsim")
        for m in (1, 4, 9)
    ]


@pytest.mark.parametrize(("case", "tiny"), lemma_cases())
def test_L6_and_L7_hold(case: Experiment, tiny: bool) -> None:
    trace = tree_expectations(case, level="proof") if tiny else expectations(case, "proof")
    gap, bound = trace["l6_gap_sq"].values, trace["l6_bound"].values
    assert (gap <= bound * (1 + TOLERANCE)).all()
    assert case.algorithm.m == case.problem.n or (gap > 0.001 * bound).all()
    sampled, full = trace["l7_sampled"].values, trace["l7_full"].values
    assert np.abs(sampled - full).max() <= TOLERANCE * max(1.0, np.abs(full).max())
    apart = np.abs(trace["l7_real_sampled"].values - trace["l7_real_full"].values).max()
    assert (apart <= TOLERANCE) if case.algorithm.m == case.problem.n else (apart > 1e-4)


@pytest.mark.parametrize("noise", [Noise("zero"), TWO_POINT, SHARED_DRAWS], ids=["zero", "independent", "full"])
@pytest.mark.parametrize("make", [trigonometric, quadratic])
@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
@pytest.mark.parametrize("m", [1, 2])
def test_gap_of_L7_with_the_real_iterate(name: str, m: int, make: Any, noise: Noise) -> None:
    """c p E (1/n) Σ ⟨x̂_i − mean, y_i − ȳ⟩ with x̂_i = ∇_uF_i(u, ṽ_i) − ∇_uF_i(u, v_i): here every client runs."""
    problem = make(3)
    case = experiment(problem, algorithm(name, m, 1), noise, 1)
    n, clients = problem.n, problem.everyone()
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=2 * n))).reshape(-1, n, 2)
    if noise.dependence == "full" and name == "fedsim":
        signs[..., 1] = signs[..., 0]
    draws = torch.from_numpy(signs)[..., None, None]
    given = LocalNoise(noise.sigma_u * draws[:, :, 0], noise.sigma_v * draws[:, :, 1])
    u = case.start.u.expand(len(signs), n, -1)
    v = case.start.v.expand(len(signs), -1, -1)
    tally = Tally()
    _, virtual = case.algorithm.local(problem, u, v, clients, given, tally)
    change = problem.grad_u(u, virtual, clients) - problem.grad_u(u, v, clients)
    y = torch.as_tensor(tally.y_u)
    inner = ((change - change.mean(1, keepdim=True)) * (y - y.mean(1, keepdim=True))).sum(-1).mean()
    expected = (n - m) / (m * (n - 1)) * m / n * float(inner)
    assert abs(expected) > 1e-4
    traces = [tree_expectations(case, level="proof")]
    if isinstance(problem, Quadratic):
        traces.append(expectations(case, "proof"))
    for trace in traces:
        found = float(trace["l7_real_sampled"][0, 0] - trace["l7_real_full"][0, 0])
        assert found == pytest.approx(expected, abs=TOLERANCE)


# ---- deterministic and diverging runs ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fedalt", "fedsim", "fedavg", "local"])
def test_deterministic_runs_are_their_own_expectation(name: str) -> None:
    case = experiment(quadratic(4, 3, 2), algorithm(name, 4, 3), Noise("zero"), T=20)
    once = run(case, 1, level="proof", engine="eager").drop_vars("cohort")
    assert tree_expectations(case, level="proof").equals(once)
    exact = expectations(case, "proof")
    assert_equal(exact, once)
    assert float(exact["l6_gap_sq"].max()) == 0.0


def test_small_gradients_keep_their_digits() -> None:
    """Near the minimum ‖∇_uF‖² is far below the rounding of F: mean and covariance are kept apart for that."""
    case = experiment(quadratic(3, 2, 2), algorithm("fedalt", 3, 1), Noise("zero"), T=400)
    sampled = run(case, 1, engine="eager")["grad_u_sq"].values
    assert sampled[0, -1] < 1e-16
    np.testing.assert_allclose(expectations(case)["grad_u_sq"].values, sampled, rtol=1e-5)


@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
def test_a_diverging_recursion_gives_inf_or_nan(name: str) -> None:
    case = experiment(quadratic(3, 2, 2), algorithm(name, 2, 3), TWO_POINT, T=400).with_eta(40.0)
    trace = expectations(case, "proof")
    assert trace.attrs["diverged"] == 1
    assert not np.isfinite(trace["F_final"].values).any()
    assert np.isfinite(trace["F"].values[:, :3]).all()


# ---- what comes out, and what is refused -------------------------------------------------------------------


@pytest.mark.parametrize("level", ["stationarity", "proof"])
@pytest.mark.parametrize("name", ["fedalt", "fedsim", "fedavg", "local"])
@pytest.mark.parametrize("compute", [expectations, tree_expectations])
def test_the_trace_is_that_of_a_run_without_cohorts(compute: Any, name: str, level: str) -> None:
    case = experiment(quadratic(2), algorithm(name, 1, 1), TWO_POINT, T=2)
    trace, sampled = compute(case, level=level), run(case, 1, level=level)
    assert set(trace) == set(sampled) - {"cohort"}
    for key in trace:
        assert trace[key].dims == sampled[key].dims
        assert trace[key].shape == sampled[key].shape
        assert trace[key].attrs == sampled[key].attrs
    assert (trace.attrs["engine"], trace.attrs["level"], trace.attrs["diverged"]) == ("exact", level, 0)
    assert read(trace, "algorithm") == case.algorithm.to_dict()


def test_a_theorem_reads_the_exact_trace() -> None:
    case = experiment(quadratic(4, 2, 2), algorithm("fedalt", 2), TWO_POINT, T=5).with_eta(0.2)
    values = FA.evaluate(
        of_experiment(case).values | {"delta": 1.0}, {"alpha": 1.0, "theta": 1.0, "theta_v": 1.0, "omega": 1.0}
    )
    (exact,), sampled = FA.lhs(expectations(case), values), FA.lhs(run(case, 512, engine="eager"), values)
    assert abs(exact - sampled.mean()) <= 5 * sampled.std(ddof=1) / math.sqrt(len(sampled))


def test_applies_says_why_not() -> None:
    def why(problem: Problem, T: int = 3) -> str | None:
        return applies(experiment(problem, algorithm("fedalt", 1), TWO_POINT, T))

    assert why(quadratic()) is None
    assert "family trigonometric" in str(why(trigonometric()))
    rng = np.random.default_rng(0)
    base = Trigonometric(a=[], b=[1.0], kappa=[], h=np.zeros((2, 0)), s=rng.normal(size=(2, 1)))
    personalized = FullPersonalization(base=base, lam=1.0)
    assert "family full_personalization" in str(why(personalized))
    assert as_quadratic(personalized) is None
    assert "at most 3000 numbers in (u, V); this problem has 3501" in str(why(quadratic(3500)))
    assert "operations" in str(why(quadratic(1000), T=10**6))
    with pytest.raises(InputError, match="need a quadratic problem"):
        expectations(experiment(trigonometric(), algorithm("fedalt", 1), TWO_POINT, 2))


def test_a_tree_says_how_large_it_would_be() -> None:
    case = experiment(quadratic(3), algorithm("fedsim", 2, 1), TWO_POINT, T=2)
    leaves = (3 * 2**4) ** 2 * 2**2
    assert count_leaves(case, "proof") == leaves
    assert count_leaves(case) == (3 * 2**4) ** 2
    assert tree_expectations(case, leaves, "proof").attrs["engine_reason"] == f"enumeration of {leaves} outcomes"
    with pytest.raises(InputError, match=f"at most {leaves - 1} leaves; this one has {leaves}"):
        tree_expectations(case, leaves - 1, "proof")
    huge = experiment(quadratic(3), algorithm("fedsim", 2, 1), TWO_POINT, T=10_000)
    with pytest.raises(InputError, match="about 1e16812"):
        tree_expectations(huge)
    with pytest.raises(InputError, match=r"rademacher, spikes or zero; got 'gaussian'"):
        tree_expectations(experiment(quadratic(2), algorithm("fedalt", 1), Noise("gaussian", 1.0, 1.0), 1))


@pytest.mark.parametrize("compute", [expectations, tree_expectations])
def test_an_unknown_level_is_refused(compute: Any) -> None:
    with pytest.raises(InputError, match="level must be one of stationarity, proof; got 'none'"):
        compute(experiment(quadratic(2), algorithm("fedalt", 1, 1), TWO_POINT, 1), level="none")


def test_exact_trace_takes_moments_then_a_small_tree() -> None:
    def reason(problem: Problem, noise: Noise, T: int) -> str | None:
        trace = exact_trace(experiment(problem, algorithm("fedalt", 1, 1), noise, T))
        return None if trace is None else trace.attrs["engine_reason"]

    assert reason(quadratic(2), Noise("gaussian", 1.0, 1.0), 50) == "moments of an affine recursion"
    assert reason(trigonometric(), TWO_POINT, 3) == "enumeration of 1024 outcomes"
    assert reason(trigonometric(), Noise("zero"), 10) == "enumeration of 1024 outcomes"
    assert reason(trigonometric(), TWO_POINT, 50) is None
    assert reason(trigonometric(), Noise("gaussian", 1.0, 1.0), 1) is None


def test_the_best_step_needs_no_pilots_where_expectations_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> float:
        raise AssertionError("pilots were drawn")

    monkeypatch.setattr(verify_module, "pilot_diversity", never)
    spec = {
        "problem": {"family": "quadratic", "n": 4, "d_u": 2, "d_v": 2, "coupling": 0.6},
        "noise": {"law": "gaussian", "sigma_u": 0.3, "sigma_v": 0.3},
        "algorithm": {"name": "fedalt", "m": 2, "tau": 2, "eta": "best"},
        "run": {"T": 30},
    }
    settings = settings_from(spec, "test")
    experiment = settings.experiment(settings.algorithms[0], 0.1)
    assert 0 < verify_module.resolve_step(experiment, FA, "best") <= verify_module.resolve_step(experiment, FA, "max")
