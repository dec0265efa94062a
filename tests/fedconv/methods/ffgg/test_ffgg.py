"""FFGG's runs: against a slow reference, by exact expectations, and whatever must not matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedconv.core.resume import run_to_store
from fedconv.core.run import Experiment, run
from fedconv.core.store import load
from fedconv.core.streams import Streams
from fedconv.methods.ffgg import reference
from fedconv.methods.ffgg import rounds as simulate
from fedconv.methods.ffgg.experiment import FFGGExperiment
from fedconv.methods.ffgg.method import FFGG, Asynchrony, Byzantine, FineTuning
from fedconv.methods.ffgg.schedule import arrivals
from fedconv.methods.ffgg.variables import VARIABLES
from fedconv.methods.split import FedAlt, State
from fedconv.problems.envelopes.least_squares import LeastSquares
from fedconv.problems.noise import Noise

TOLERANCE = 1e-12


def least_squares(
    n: int = 4, d_u: int = 3, d_v: int = 2, rows: int = 5, *, seed: int = 0, gap: float = 1.0
) -> LeastSquares:
    """c_m = A_m w + B_m θ_m + gap · noise; B_0 has rank 1 where it can."""
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(n, rows, d_u)) / np.sqrt(rows), rng.normal(size=(n, rows, d_v)) / np.sqrt(rows)
    if d_v > 1:
        B[0] = np.outer(B[0, :, 0], np.ones(d_v))
    w, theta = rng.normal(size=d_u), rng.normal(size=(n, d_v))
    c = np.einsum("nij,j->ni", A, w) + np.einsum("nij,nj->ni", B, theta) + gap * rng.normal(size=(n, rows))
    return LeastSquares(A=A, B=B, c=c)


def orthogonal(M: int) -> LeastSquares:
    """F_m = ½ w_m² (no personal part): the clients' gradients are orthogonal, w★ = 0."""
    return LeastSquares(A=np.eye(M)[:, None, :], B=np.zeros((M, 1, 0)), c=np.zeros((M, 1)))


def start_of(problem: Any, seed: int = 1) -> State:
    rng = np.random.default_rng(seed)
    return State(
        torch.from_numpy(rng.normal(size=problem.d_u)), torch.from_numpy(rng.normal(size=(problem.n, problem.d_v)))
    )


def experiment(problem: Any, method: FFGG, T: int = 6, seed: int = 5) -> FFGGExperiment:
    return FFGGExperiment(problem, method, start_of(problem), T, seed)


def blocks(trial: FFGGExperiment, replicates: Any = (0, 3), level: str = "proof") -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        return trial.block(Streams(trial.seed), np.array(replicates, dtype=np.int64), level, "eager")


def cohorts_of(got: dict[str, np.ndarray], r: int, T: int, n: int) -> list[list[int]]:
    if "cohort" not in got:
        return [list(range(n))] * T
    return [np.flatnonzero(got["cohort"][r, k]).tolist() for k in range(T)]


def assert_agree(got: dict[str, np.ndarray], want: dict[str, np.ndarray], r: int) -> None:
    """Equal to 1e-12 of each variable's largest value, or of what it is a difference of."""
    F, slope = np.abs(want["F"]).max(), max(want["grad_sq"].max(), want["update_sq"].max())
    scale = {"F_gap": F, "descent_excess": F, "local_gap": F, "virtual_gap": F, "stale_gap": F, "issued_gap": F,
             "bias_sq": slope, "grad_sq": slope, "aggregation_error_sq": slope, "spread": slope}  # fmt: skip
    for key, values in want.items():
        if key == "smooth_ratio":
            counted = got[key][r] > 0
            assert counted.any()
            np.testing.assert_allclose(got[key][r][counted], values[counted], rtol=1e-9)
            continue
        size = max(np.abs(values).max(initial=0.0), scale.get(key, 0.0))
        error = np.abs(got[key][r] - values).max(initial=0.0)
        assert error <= TOLERANCE * size, f"{key}: off by {error:.3g} at size {size:.3g}"


# ---- against the reference ----------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [0.0, 1.0])
@pytest.mark.parametrize(("m", "tau"), [(4, 1), (4, 3), (2, 1), (2, 3), (1, 1)])
def test_exact_fine_tuning_agrees_with_the_reference(m: int, tau: int, gap: float) -> None:
    problem = least_squares(gap=gap)
    trial = experiment(problem, FFGG(m, 0.3, tau))
    got = blocks(trial)
    assert (got["bias_sq"] == 0).all()
    for r in range(2):
        cohorts = cohorts_of(got, r, trial.T, problem.n)
        assert all(len(S) == m for S in cohorts)
        want = reference.synchronous(problem, trial.start, 0.3, cohorts, tau=tau)
        assert set(got) == set(want) | {"bias_sq", "fine_tuning_sq", "fine_tuning_start_sq"} | (
            {"cohort"} if m < 4 else set()
        )
        assert_agree(got, want, r)


@pytest.mark.parametrize(
    "how",
    [
        FineTuning("steps", steps=0),
        FineTuning("steps", steps=1),
        FineTuning("steps", steps=4, warm=False),
        FineTuning("tolerance", tolerance=0.05),
        FineTuning("tolerance", tolerance=0.3, warm=False),
    ],
)
@pytest.mark.parametrize("m", [4, 2])
def test_inexact_fine_tuning_agrees_with_the_reference(how: FineTuning, m: int) -> None:
    problem = least_squares()
    trial = experiment(problem, FFGG(m, 0.2, fine_tuning=how))
    got = blocks(trial)
    for r in range(2):
        want = reference.tuned(problem, trial.start, 0.2, cohorts_of(got, r, trial.T, problem.n), how)
        assert set(want) < set(got)
        assert_agree(got, want, r)
    start = trial.start
    away = [reference.Clients(problem).distance(i, start.u.numpy(), start.v[i].numpy()) ** 2 for i in range(4)]
    assert got["fine_tuning_start_sq"] == pytest.approx(np.full(2, np.mean(away)), rel=TOLERANCE)


@pytest.mark.parametrize(
    "how",
    [
        Asynchrony("constant", tau_max=3),
        Asynchrony("heavy_tailed", tau_max=5, tail=1.2, slow=4.0),
        Asynchrony("uniform", tau_max=5, assignment="per_client"),
        Asynchrony("adversarial", tau_max=4, assignment="cyclic"),
    ],
)
def test_asynchrony_agrees_with_the_reference(how: Asynchrony) -> None:
    problem = least_squares()
    trial = experiment(problem, FFGG(1, 0.1, asynchrony=how), T=14)
    got = blocks(trial)
    for r in range(2):
        issued = np.arange(trial.T) - got["delay"][r]
        applied = list(zip(got["applied_client"][r].tolist(), issued.tolist(), strict=True))
        want = reference.asynchronous(problem, trial.start, 0.1, applied)
        assert set(want) < set(got)
        assert_agree(got, want, r)
    schedule = arrivals(how, 4, trial.T, Streams(trial.seed), np.array([0, 3]))
    assert np.array_equal(schedule.client, got["applied_client"])
    assert ("virtual_time" in got) == (how.law != "adversarial")


@st.composite
def trials(draw: st.DrawFn) -> FFGGExperiment:
    n, d_u, d_v = draw(st.integers(1, 6)), draw(st.sampled_from([1, 2, 5, 17])), draw(st.sampled_from([0, 1, 3]))
    problem = least_squares(n, d_u, d_v, rows=4, seed=draw(st.integers(0, 1000)), gap=draw(st.sampled_from([0.0, 1.0])))
    kind = draw(st.sampled_from(["exact", "local", "steps", "tolerance", "async"]))
    m = 1 if kind == "async" else draw(st.integers(1, n))
    method = FFGG(m, 0.1, draw(st.integers(2, 4)) if kind == "local" else 1)
    if kind == "steps":
        method = FFGG(m, 0.1, fine_tuning=FineTuning("steps", steps=draw(st.integers(0, 3)), warm=draw(st.booleans())))
    elif kind == "tolerance":
        method = FFGG(m, 0.1, fine_tuning=FineTuning("tolerance", tolerance=0.1, warm=draw(st.booleans())))
    elif kind == "async":
        assignment = draw(st.sampled_from(["random", "per_client"]))
        method = FFGG(1, 0.05, asynchrony=Asynchrony("uniform", tau_max=n + 2, assignment=assignment))
    return experiment(problem, method, T=draw(st.integers(1, 5)), seed=draw(st.integers(0, 100)))


@given(trials())
def test_blocks_and_levels_do_not_matter(trial: FFGGExperiment) -> None:
    """Bit for bit: replicates computed together or apart, measured or not."""
    together = blocks(trial, range(5))
    apart = [blocks(trial, part) for part in ((0,), (1, 2), (3, 4))]
    for key, values in together.items():
        assert np.array_equal(values, np.concatenate([part[key] for part in apart])), key
    for level in ("none", "stationarity"):
        less = blocks(trial, range(5), level)
        assert set(less) < set(together) | {"w"}
        for key, values in less.items():
            assert np.array_equal(values, together[key]), key


@given(trials())
def test_bookkeeping_of_every_trial(trial: FFGGExperiment) -> None:
    """F and its gradient at the iterates, the step from one to the next, and lemma-level measurements."""
    got, problem, c = blocks(trial), trial.problem, trial.problem.envelope_constants
    w = torch.from_numpy(got["w"])
    assert torch.equal(w[:, 0], trial.start.u.expand(2, -1))
    assert np.array_equal(got["w"][:, -1], got["u_final"])
    np.testing.assert_allclose(got["F"], problem.mean_envelope(w).numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        got["grad_sq"], problem.mean_envelope_grad(w).square().sum(-1).numpy(), rtol=1e-9, atol=1e-25
    )
    moved = np.square(np.diff(got["w"], axis=1)).sum(-1)
    np.testing.assert_allclose(moved, trial.algorithm.gamma**2 * got["update_sq"], rtol=1e-9, atol=1e-28)
    assert (got["smooth_ratio"] <= c.L_F.value * (1 + 1e-9)).all()
    assert (got["descent_excess"] <= 1e-13 * (1 + got["F"].max())).all()
    assert (got["F_gap"] >= -1e-13 * (1 + got["F"].max())).all()


# ---- what FFGG is -------------------------------------------------------------------------------------------


def test_full_participation_is_gradient_descent_on_F() -> None:
    problem = least_squares()
    w, got = start_of(problem).u, blocks(experiment(problem, FFGG(4, 0.4), T=20))
    for k in range(21):
        np.testing.assert_allclose(got["w"][0, k], w.numpy(), rtol=1e-12)
        w = w - 0.4 * problem.mean_envelope_grad(w)
    assert (np.diff(got["F_gap"][0]) < 0).all()


def test_clients_send_the_gradient_at_their_fine_tuned_parameters() -> None:
    problem = least_squares()
    w = start_of(problem).u.expand(4, -1)
    theta = problem.fine_tune(w, problem.everyone())
    sent = problem.grad_u(w, theta, problem.everyone())
    torch.testing.assert_close(problem.envelope_grad(w, problem.everyone()), sent, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("m", [4, 2])
def test_many_fine_tuning_steps_are_exact_fine_tuning(m: int) -> None:
    problem = least_squares()
    exact = blocks(experiment(problem, FFGG(m, 0.3)))
    for how in (FineTuning("steps", steps=2000), FineTuning("tolerance", tolerance=1e-14, warm=False)):
        got = blocks(experiment(problem, FFGG(m, 0.3, fine_tuning=how)))
        np.testing.assert_allclose(got["w"], exact["w"], rtol=1e-11, atol=1e-13)
        assert got["fine_tuning_sq"].max() < 1e-24
        assert got["bias_sq"].max() < 1e-24


def test_warm_starts_remove_the_floor_and_cold_ones_keep_it() -> None:
    problem = least_squares(gap=0.0)
    last = {
        warm: blocks(experiment(problem, FFGG(4, 0.1, fine_tuning=FineTuning("steps", steps=1, warm=warm)), T=1000))
        for warm in (True, False)
    }
    assert last[True]["grad_sq"][0, -1] < 1e-16
    assert last[False]["grad_sq"][0, -1] > 1e-3


def test_the_same_cohorts_as_fedalt() -> None:
    problem = least_squares()
    start = start_of(problem)
    alt = Experiment(problem, FedAlt(2, 0.1, 0.1, tau_u=1, tau_v=1), Noise(), start, 8, seed=3)
    ours = FFGGExperiment(problem, FFGG(2, 0.1), start, 8, seed=3)
    assert np.array_equal(run(alt, 5)["cohort"], run(ours, 5)["cohort"])


class Enumerated(Streams):
    """Replicate r meets the r-th of all sequences of single clients."""

    def cohorts(self, replicates: np.ndarray, t: int, n: int, m: int, *rest: Any) -> np.ndarray:
        assert m == 1
        first = replicates // n**t % n
        others = np.array([[i for i in range(n) if i != a] for a in first], dtype=np.int64).reshape(len(first), n - 1)
        return np.concatenate([first[:, None], others], axis=1)


@pytest.mark.parametrize("M", [2, 3, 4])
def test_orthogonal_clients_lose_one_part_in_M_a_round(M: int) -> None:
    """Theorem 3(f) as an equality: E‖w^T − w★‖² = (1 − 1/M)^T ‖w^0 − w★‖² for m = 1, γ = 1, by enumeration."""
    T = 4
    start = State(torch.from_numpy(np.arange(1.0, M + 1)), torch.zeros(M, 0, dtype=torch.float64))
    got = simulate.simulate_block(orthogonal(M), FFGG(1, 1.0), start, T, Enumerated(0), np.arange(M**T), "proof")
    expected = (1 - 1 / M) ** np.arange(T + 1) * np.square(np.arange(1, M + 1)).sum()
    np.testing.assert_allclose(got["dist_sq"].mean(0), expected, rtol=1e-13)


def test_second_moments_are_those_of_the_recursion() -> None:
    """Any overpersonalized least squares: S ← (1/n) Σ_m (I − γH_m) S (I − γH_m) against all n^T sequences."""
    problem, T, gamma = least_squares(3, gap=0.0), 5, 0.7
    got = simulate.simulate_block(
        problem, FFGG(1, gamma), start_of(problem), T, Enumerated(0), np.arange(3**T), "proof"
    )
    eye = torch.eye(3, dtype=torch.float64)
    at, away = torch.eye(3, dtype=torch.float64)[:, None, :], torch.zeros(3, 1, 3, dtype=torch.float64)
    clients = torch.arange(3)
    columns = [
        problem.envelope_grad(at[j].expand(3, 3), clients) - problem.envelope_grad(away[j].expand(3, 3), clients)
        for j in range(3)
    ]
    steps = eye - gamma * torch.stack(columns, dim=-1)
    error = start_of(problem).u - problem.nearest_minimiser(start_of(problem).u)
    S = torch.outer(error, error)
    for k in range(T + 1):
        assert got["dist_sq"][:, k].mean() == pytest.approx(float(S.trace()), rel=1e-11)
        S = (steps @ S @ steps.mT).mean(0)


def test_local_steps_keep_the_two_quadratics_away_from_the_optimum() -> None:
    """F_1 = (a/2)(w − 1)², F_2 = (b/2)(w + 1)²: the server stops at (A − B)/(A + B), A = 1 − (1 − γa)^τ."""
    a, b, gamma, tau = 1.0, 0.1, 0.5, 8
    root = np.sqrt([a, b])
    problem = LeastSquares(A=root[:, None, None], B=np.zeros((2, 1, 0)), c=(root * [1, -1])[:, None])
    start = State(torch.zeros(1, dtype=torch.float64), torch.zeros(2, 0, dtype=torch.float64))
    got = blocks(FFGGExperiment(problem, FFGG(2, gamma, tau), start, 400), (0,))
    A, B = 1 - (1 - gamma * a) ** tau, 1 - (1 - gamma * b) ** tau
    assert got["u_final"][0, 0] == pytest.approx((A - B) / (A + B), rel=1e-12)
    assert got["dist_sq"][0, -1] == pytest.approx(((A - B) / (A + B) - (a - b) / (a + b)) ** 2, rel=1e-10)


def test_a_delay_of_three_breaks_gradient_descents_step() -> None:
    """F = ½w², γ = 1/L, delay 3: a false version of Theorem 6; the run goes on and grows."""
    problem = LeastSquares(A=[[[1.0]]], B=np.zeros((1, 1, 0)), c=[[0.0]])
    start = State(torch.ones(1, dtype=torch.float64), torch.zeros(1, 0, dtype=torch.float64))
    trial = FFGGExperiment(problem, FFGG(1, 1.0, asynchrony=Asynchrony(tau_max=3)), start, 60)
    assert trial.deterministic
    got = blocks(trial, (0,))
    assert got["stale_gap"].mean() / (1 / (2 * 60)) > 1e8


# ---- traces -------------------------------------------------------------------------------------------------

EVERY_KIND = [
    FFGG(4, 0.2),
    FFGG(2, 0.2, 3),
    FFGG(3, 0.2, fine_tuning=FineTuning("steps", steps=2)),
    FFGG(1, 0.05, asynchrony=Asynchrony("uniform", tau_max=4)),
    FFGG(4, 0.2, byzantine=Byzantine(1, attack="sign_flip", aggregator="trimmed_mean")),
]


@pytest.mark.parametrize("method", EVERY_KIND, ids=range(len(EVERY_KIND)))
def test_traces_are_stored_and_continued(method: FFGG, tmp_path: Any) -> None:
    trial = experiment(least_squares(), method)
    whole = run_to_store(trial, 18, tmp_path / "run.zarr", level="proof")
    again = run(trial, 18, level="proof", workers=2)
    assert load(tmp_path / "run.zarr").identical(whole)
    assert again.identical(whole)
    for key, variable in whole.data_vars.items():
        assert variable.dims == VARIABLES[str(key)].dims
        assert variable.attrs["long_name"]
        assert variable.attrs["units"]
    assert whole.sizes["point"] == trial.T + 1
    assert whole.sizes["round"] == trial.T
    assert whole.attrs["diverged"] == 0
    assert whole.attrs["engine"] == "eager"


@pytest.mark.parametrize("method", EVERY_KIND, ids=range(len(EVERY_KIND)))
def test_a_run_that_diverges_is_kept(method: FFGG) -> None:
    trial = experiment(least_squares(), method, T=40).with_gamma(1e40)
    trace = run(trial, 2, level="proof")
    assert trace.attrs["diverged"] == 2
    assert not np.isfinite(trace["F_final"]).any()
    assert np.isfinite(trace["F"][:, 0]).all()


def test_a_tolerance_below_rounding_ends() -> None:
    """Slow divergence and a tolerance that nobody can reach: fine-tuning stops at rounding, and its record says so."""
    how = FineTuning("tolerance", tolerance=1e-300)
    trace = run(experiment(least_squares(), FFGG(4, 3.0, fine_tuning=how), T=60), 1)
    assert trace["F"][0, -1] > 1e6 * trace["F"][0, 0]
    assert (trace["fine_tuning_steps"] < 9_000).all()
    assert (trace["fine_tuning_grad"] > 1e-300).all()


def test_a_start_at_the_optimum_stays_there() -> None:
    problem = least_squares(gap=0.0)
    u, v = problem.minimiser()
    trace = run(FFGGExperiment(problem, FFGG(2, 0.3), State(u, v), 5), 3, level="proof")
    assert trace["dist_sq"].max() < 1e-24
    assert (trace["smooth_ratio"] == 0).all(), "steps within rounding say nothing about curvature"
    assert trace["fine_tuning_start_sq"].max() < 1e-24
