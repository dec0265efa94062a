"""The engines give the reference's numbers: same cohorts, same noise, every measure, to 1e-12."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedconv.analysis.exact import expectations, tree_expectations
from fedconv.analysis.theorems import THEOREMS
from fedconv.analysis.theorems.split.facts import of_experiment
from fedconv.analysis.tuning.one_run import tune
from fedconv.core.run import Experiment
from fedconv.core.streams import Streams
from fedconv.methods.split import Algorithm, FedAlt, FedAvg, FedSim, LocalOnly, State, reference
from fedconv.methods.split import compiled_engine as fused
from fedconv.methods.split import torch_engine as eager
from fedconv.methods.split.reference import Draws
from fedconv.methods.split.torch_engine import LEVELS
from fedconv.problem_file.settings import settings_from
from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError
from fedconv.problems.noise import LAWS, Noise
from fedconv.problems.registry import FAMILIES, build_problem
from fedconv.problems.split.full_personalization import FullPersonalization
from fedconv.problems.split.quadratic import Quadratic
from fedconv.problems.split.residuals import Residuals
from fedconv.problems.split.trigonometric import Trigonometric

ENGINES: dict[str, Callable[..., dict[str, np.ndarray]]] = {
    "eager": eager.simulate_block,
    "fused": fused.simulate_block,
}
EXAMPLES = [
    pytest.param({"family": family.name, **example}, id=f"{family.name}-{number}")
    for family in FAMILIES.values()
    for number, example in enumerate(family.examples)
]
GAUSSIAN = Noise("gaussian", 0.5, 0.7)
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Case:
    """One setting, run by any of the three implementations."""

    problem: Problem
    algorithm: Algorithm
    noise: Noise = GAUSSIAN
    T: int = 3
    seed: int = 5

    def start(self) -> State:
        rng = np.random.default_rng(self.seed)
        u, v = rng.normal(size=self.problem.d_u), rng.normal(size=(self.problem.n, self.problem.d_v))
        return State(torch.from_numpy(u), torch.from_numpy(v))

    def run(self, simulate: Callable[..., dict[str, np.ndarray]], level: str, replicates: Any = (0, 7)) -> Any:
        streams, chosen = Streams(self.seed), np.array(replicates, dtype=np.int64)
        with np.errstate(all="ignore"):
            return simulate(self.problem, self.algorithm, self.noise, self.start(), self.T, streams, chosen, level)


def silenced(noise: Noise, problem: Problem) -> Noise:
    """The noise without a block that the problem does not have."""
    sigma_u, sigma_v = noise.sigma_u if problem.d_u else 0.0, noise.sigma_v if problem.d_v else 0.0
    return Noise("zero") if sigma_u == sigma_v == 0 else Noise(noise.law, sigma_u, sigma_v, dependence=noise.dependence)


def algorithm(name: str, m: int, tau_u: int = 3, tau_v: int = 2) -> Algorithm:
    if name == "fedalt":
        return FedAlt(m, 0.11, 0.07, tau_u=tau_u, tau_v=tau_v)
    if name == "fedsim":
        return FedSim(m, 0.11, 0.07, tau_u=tau_u, tau_v=tau_u)
    if name == "fedavg":
        return FedAvg(m, 0.11, 0.0, tau_u=tau_u, tau_v=0)
    return LocalOnly(m, 0.0, 0.07, tau_u=0, tau_v=tau_v)


def assert_agree(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    """Equal to 1e-12 of each measure's size: its largest value in the run, for the differences and products of
    gradients (L6, L7, diversity) the size of what they are made of."""
    assert set(got) == set(want)
    largest = {key: np.abs(values).max(initial=0.0) for key, values in want.items()}
    gradients = sum(largest.get(key, 0.0) for key in ("grad_u_sq", "diversity", "diversity_virtual"))
    products = max((size for key, size in largest.items() if key.startswith("l7")), default=0.0)
    for key, values in want.items():
        if key == "cohort":
            assert np.array_equal(got[key], values)
            continue
        size = largest[key]
        if key.startswith(("grad_u", "diversity", "l6")):
            size = max(size, gradients)
        if key.startswith("l7"):
            size = max(products, gradients)
        assert got[key].shape == values.shape, key
        assert got[key].dtype == np.float64, key
        assert np.isfinite(values).all(), key
        error = np.abs(got[key] - values).max(initial=0.0)
        assert error <= TOLERANCE * size, f"{key}: off by {error:.3g} at size {size:.3g}"


def small_trigonometric(n: int = 4, d_u: int = 3, d_v: int = 2, seed: int = 0) -> Trigonometric:
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(n, d_u))
    return Trigonometric(
        a=rng.uniform(0.5, 1.5, d_u),
        b=rng.uniform(0.5, 1.5, d_v),
        kappa=rng.normal(size=min(d_u, d_v)),
        h=h - h.mean(0) if n > 1 else np.zeros((n, d_u)),
        s=rng.normal(size=(n, d_v)),
    )


def built(spec: dict[str, Any], engine: str) -> Problem:
    problem = build_problem(spec)
    if engine == "fused" and problem.kernel() is None:
        pytest.skip("no kernel: this family always runs eagerly")
    return problem


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["fedalt", "fedsim", "fedavg", "local"])
@pytest.mark.parametrize("spec", EXAMPLES)
def test_engine_agrees_with_the_reference_on_every_example(spec: dict[str, Any], name: str, engine: str) -> None:
    problem = built(spec, engine)
    case = Case(problem, algorithm(name, max(1, problem.n // 2)), silenced(GAUSSIAN, problem))
    assert_agree(case.run(ENGINES[engine], "proof"), case.run(reference.simulate_block, "proof"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
@pytest.mark.parametrize("dependence", ["independent", "full", -0.6, -1.0])
@pytest.mark.parametrize("law", LAWS)
def test_laws_and_dependence(law: Any, dependence: Any, name: str, engine: str) -> None:
    noise = Noise() if law == "zero" else Noise(law, 0.5, 0.7, dependence=dependence, spike_probability=0.3)
    for d_u, d_v in ((3, 2), (1, 3)):
        case = Case(small_trigonometric(d_u=d_u, d_v=d_v), algorithm(name, 2), noise)
        assert_agree(case.run(ENGINES[engine], "proof"), case.run(reference.simulate_block, "proof"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
@pytest.mark.parametrize(("sigma_u", "sigma_v"), [(0.5, 0.0), (0.0, 0.7)])
@pytest.mark.parametrize("dependence", ["independent", "full", -0.6, -1.0])
def test_noise_in_one_block_only(sigma_u: float, sigma_v: float, dependence: Any, name: str, engine: str) -> None:
    case = Case(small_trigonometric(), algorithm(name, 2), Noise("gaussian", sigma_u, sigma_v, dependence=dependence))
    assert_agree(case.run(ENGINES[engine], "proof"), case.run(reference.simulate_block, "proof"))


@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
@pytest.mark.parametrize("dependence", [-1.0, -0.5, 0.5])
@pytest.mark.parametrize(("d_u", "d_v"), [(2, 2), (1, 2), (2, 1)])
def test_correlated_noise_has_the_exact_expectations(d_u: int, d_v: int, dependence: float, name: str) -> None:
    """Moments and enumeration of all coins agree, and the runs' mean with both; FedSim feels the correlation."""
    problem = Quadratic(A=[np.eye(d_u)], B=[np.eye(d_v)], C=[0.5 * np.eye(d_u, d_v)], a=np.ones((1, d_u)),
                        b=np.ones((1, d_v)))  # fmt: skip

    def experiment(value: Any) -> Experiment:
        coins = Noise("rademacher", 0.5, 0.7, dependence=value)
        start = State(torch.ones(d_u, dtype=torch.float64), torch.ones(1, d_v, dtype=torch.float64))
        return Experiment(problem, algorithm(name, 1, 1, 1), coins, start, 3, 0, "coins")

    keys = ("F", "grad_u_sq", "grad_v_sq")
    moments = expectations(experiment(dependence))
    tree = tree_expectations(experiment(dependence))
    for key in keys:
        np.testing.assert_allclose(moments[key].values, tree[key].values, rtol=1e-12)
    drawn = fused.simulate_block(problem, experiment(0).algorithm, experiment(dependence).noise, experiment(0).start, 3,
                                 Streams(3), np.arange(20_000), "stationarity")  # fmt: skip
    for key in keys:
        spread = drawn[key].std(axis=0) / np.sqrt(20_000)
        assert (np.abs(drawn[key].mean(axis=0) - moments[key].values[0]) <= 5.5 * spread + 1e-12).all(), key
    other = expectations(experiment("independent"))
    assert np.array_equal(other["F"].values, moments["F"].values) == (name == "fedalt")


@pytest.mark.parametrize("dependence", [-1.0, -0.5, 0.5, "full"])
@pytest.mark.parametrize("key", ["FS", "FS*"])
def test_the_bounds_of_fedsim_hold_for_any_correlation(key: str, dependence: Any) -> None:
    """A2 allows any dependence of the two blocks: with exact expectations, at the sign that hurts and at the other."""
    for sign in (1.0, -1.0):
        problem = {"family": "quadratic_arrays", "A": [[[1.0]]], "B": [[[1.0]]], "C": [[[0.9 * sign]]],
                   "a": [[0.0]], "b": [[0.0]]}  # fmt: skip
        settings = settings_from(
            {"problem": problem, "noise": {"sigma_u": 1.0, "sigma_v": 1.0, "dependence": dependence},
             "start": {"kind": "optimum", "scale": 0.1}, "algorithm": {"name": "fedsim", "m": 1, "tau": 2, "eta": 0.2},
             "run": {"T": 50}}, "file"
        )  # fmt: skip
        one = settings.experiment(settings.algorithms[0], 0.2)
        theorem, inputs = THEOREMS[key], of_experiment(one)
        tuned = tune(theorem, inputs)
        assert tuned is not None
        values = theorem.evaluate(inputs.values, tuned.parameters)
        lhs = theorem.lhs(expectations(one), values)[0]
        assert 0 < lhs <= float(values["rhs"])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
@pytest.mark.parametrize("level", LEVELS)
def test_every_level_records_what_the_reference_records(level: str, name: str, engine: str) -> None:
    case = Case(small_trigonometric(), algorithm(name, 2))
    got = case.run(ENGINES[engine], level)
    assert_agree(got, case.run(reference.simulate_block, level))
    assert ("grad_u_virtual_sq" in got) == (name == "fedalt" and level != "none")
    assert ("displacement" in got) == (level == "proof")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
@pytest.mark.parametrize(("n", "m"), [(4, 4), (4, 1), (1, 1)])
@pytest.mark.parametrize("tau", [1, 4])
def test_extreme_cohorts_and_single_steps(n: int, m: int, tau: int, name: str, engine: str) -> None:
    case = Case(small_trigonometric(n=n), algorithm(name, m, tau, tau))
    got, want = case.run(ENGINES[engine], "proof"), case.run(reference.simulate_block, "proof")
    assert_agree(got, want)
    if n == m:
        assert (got["cohort"]).all()
        assert (got["l6_gap_sq"] == 0).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["fedalt", "fedsim", "fedavg", "local"])
@pytest.mark.parametrize("spec", EXAMPLES[::4])
def test_what_is_measured_does_not_change_the_trajectory(spec: dict[str, Any], name: str, engine: str) -> None:
    problem = built(spec, engine)
    case = Case(problem, algorithm(name, max(1, problem.n // 2)), silenced(GAUSSIAN, problem), T=6)
    runs = [case.run(ENGINES[engine], level) for level in LEVELS]
    for other in runs[1:]:
        for key in ("u_final", "v_final", "F_final", "cohort"):
            assert np.array_equal(runs[0][key], other[key]), key


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
@pytest.mark.parametrize("spec", EXAMPLES[::4])
def test_replicates_computed_together_or_apart(spec: dict[str, Any], name: str, engine: str) -> None:
    problem = built(spec, engine)
    case = Case(problem, algorithm(name, max(1, problem.n // 2)), silenced(GAUSSIAN, problem), T=4)
    together = case.run(ENGINES[engine], "proof", range(5))
    apart = [case.run(ENGINES[engine], "proof", part) for part in ((0,), (1, 2), (3, 4))]
    for key, values in together.items():
        assert np.array_equal(values, np.concatenate([part[key] for part in apart])), key


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n = draw(st.integers(1, 5))
    d_u, d_v = draw(st.sampled_from([(1, 1), (2, 3), (3, 2), (5, 4), (0, 2), (2, 0), (17, 9)]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    family = draw(st.sampled_from(["trigonometric", "quadratic", "residuals", "personalized"]))
    problem: Problem
    if family == "trigonometric":
        problem = small_trigonometric(n, d_u, d_v, int(rng.integers(10**6)))
    elif family == "quadratic":
        A, B = rng.normal(size=(n, d_u, d_u)), rng.normal(size=(n, d_v, d_v))
        problem = Quadratic(
            A=A @ A.swapaxes(1, 2) + 5 * np.eye(d_u),
            B=B @ B.swapaxes(1, 2) + 5 * np.eye(d_v),
            C=0.1 * rng.normal(size=(n, d_u, d_v)),
            a=rng.normal(size=(n, d_u)),
            b=rng.normal(size=(n, d_v)),
        )
    elif family == "residuals":
        A, B = rng.normal(size=(n, 4, d_u)), rng.normal(size=(n, 4, d_v))
        problem = Residuals(A=A, B=B, c=rng.normal(size=(n, 4)))
    else:
        base = small_trigonometric(n, 0, max(d_v, 1), int(rng.integers(10**6)))
        problem = FullPersonalization(base=base, lam=0.6)
    m, tau = draw(st.integers(1, n)), draw(st.integers(1, 4))
    name = draw(st.sampled_from(["fedalt", "fedsim", "fedavg", "local"]))
    law = draw(st.sampled_from(LAWS[1:]))
    noise = Noise(law, 0.3, 0.4, dependence=draw(st.sampled_from(["independent", "full", -0.4, 0.7, -1])))
    step = 1.0 if family == "trigonometric" else 0.2
    chosen = algorithm(name, m, tau, draw(st.integers(1, 3)))
    scaled = type(chosen)(m, chosen.gamma_u * step, chosen.gamma_v * step, tau_u=chosen.tau_u, tau_v=chosen.tau_v)
    return Case(problem, scaled, silenced(noise, problem), T=2, seed=draw(st.integers(0, 1000)))


@given(cases(), st.sampled_from(LEVELS))
def test_engines_agree_on_drawn_settings(case: Case, level: str) -> None:
    want = case.run(reference.simulate_block, level)
    for simulate in ENGINES.values():
        assert_agree(case.run(simulate, level), want)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
def test_a_diverging_run_ends_and_shows(name: str, engine: str) -> None:
    """Steps far beyond the admissible ones: the quadratic's numbers overflow and stay overflowed."""
    problem = build_problem({"family": "quadratic", "n": 4, "d_u": 3, "d_v": 2, "coupling": 0.6})
    method = FedAlt if name == "fedalt" else FedSim
    case = Case(problem, method(2, 1e60, 1e60, tau_u=3, tau_v=3))
    got = case.run(ENGINES[engine], "proof")
    assert not np.isfinite(got["F_final"]).any()
    assert np.isfinite(got["F"][:, 0]).all()
    assert not np.isfinite(got["F"][:, -1]).any()


@pytest.mark.parametrize("engine", ENGINES)
def test_one_diverged_coordinate_is_not_hidden(engine: str) -> None:
    """The sine of an infinite coordinate is NaN, in the fast loops too."""
    problem = small_trigonometric(n=3, d_u=9, d_v=9)
    case = Case(problem, FedAlt(3, 0.1, 0.1, tau_u=2, tau_v=2))
    start = case.start()
    start.v[1, 8] = np.inf
    got = ENGINES[engine](
        problem, case.algorithm, case.noise, start, 2, Streams(0), np.array([0], dtype=np.int64), "stationarity"
    )
    assert np.isnan(got["F_final"]).all()
    assert np.isnan(got["F"]).all()
    assert np.isfinite(got["v_final"][0, 0, :8]).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_far_coordinates_keep_their_sines(engine: str) -> None:
    """Coordinates beyond the range of the fast sine are handed to the mathematics library."""
    plain = small_trigonometric(n=3)
    arrays = {key: getattr(plain, key).numpy() for key in ("a", "b", "kappa")}
    problem = Trigonometric(**arrays, h=np.zeros((3, 3)), s=np.zeros((3, 2)))
    case = Case(problem, FedSim(2, 0.1, 0.1, tau_u=2, tau_v=2), GAUSSIAN)
    start = case.start()
    start.u[0], start.v[1, 1] = 3e7, -5e8
    arguments = (problem, case.algorithm, case.noise, start, 1, Streams(0), np.array([0], dtype=np.int64))
    got, want = ENGINES[engine](*arguments, "stationarity"), reference.simulate_block(*arguments, "stationarity")
    for key in ("F", "grad_u_sq", "grad_v_sq", "diversity"):
        assert got[key] == pytest.approx(want[key], rel=TOLERANCE), key


def test_the_fused_engine_says_what_it_cannot_run() -> None:
    class Bare(Trigonometric):
        def kernel(self) -> None:  # type: ignore[override]
            return None

    class Renamed(FedAlt):
        pass

    plain = small_trigonometric()
    arrays = {key: getattr(plain, key).numpy() for key in ("a", "b", "kappa", "h", "s")}
    bare = Bare(**arrays)
    method = algorithm("fedalt", 2)
    assert fused.supported(plain, method) is None
    assert "has no compiled kernel" in str(fused.supported(bare, method))
    assert "has no compiled kernel" in str(fused.supported(plain, Renamed(2, 0.1, 0.1, tau_u=1, tau_v=1)))
    with pytest.raises(InputError, match="engine 'fused' cannot run this"):
        Case(bare, method).run(fused.simulate_block, "none")


def test_the_reference_by_hand() -> None:
    """F = ½u² + ½v² of one client, given noise: two personal steps, then one shared step, worked out by hand."""
    problem = Quadratic(A=[[[1.0]]], B=[[[1.0]]], C=[[[0.0]]], a=[[0.0]], b=[[0.0]])
    start = State(torch.tensor([2.0], dtype=torch.float64), torch.tensor([[4.0]], dtype=torch.float64))
    draws = Draws(np.array([[0]]), np.full((1, 1, 1, 1), 0.5), np.array([1.0, -1.0]).reshape(1, 1, 2, 1))
    method = FedAlt(1, 0.5, 0.25, tau_u=1, tau_v=2)
    got = reference.simulate_replicate(problem, method, start, draws, "proof")
    # v: 4 − ¼(4 + 1) = 2.75, then 2.75 − ¼(2.75 − 1) = 2.3125; u: 2 − ½(2 + 0.5) = 0.75
    assert got["v_final"] == pytest.approx(np.array([[2.3125]]))
    assert got["u_final"] == pytest.approx(np.array([0.75]))
    assert got["F"] == pytest.approx(np.array([10.0]))
    assert got["drift_v"] == pytest.approx(np.array([1.25**2]))
    assert got["displacement"] == pytest.approx(np.array([1.6875**2]))
    assert got["l7_sampled"] == pytest.approx(np.array([2.0 * 2.5]))
    assert got["l7_full"] == pytest.approx(np.array([4.0]))


def test_fedalt_and_fedsim_meet_the_same_cohorts() -> None:
    problem = small_trigonometric()
    cohorts = [
        Case(problem, algorithm(name, 2)).run(fused.simulate_block, "none")["cohort"] for name in ("fedalt", "fedsim")
    ]
    assert np.array_equal(*cohorts)
    assert (cohorts[0].sum(-1) == 2).all()
