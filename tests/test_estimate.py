"""Estimated constants against problems whose constants are exact, and against Hessians written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.estimate import Visited, advise_inputs, estimate, sentences, visited
from analysis.theorems.regime import PAPER
from fedconv.algorithms import FedAlt, State
from fedconv.minibatch import MiniBatch
from fedconv.run import Experiment, run
from problems.base import Problem
from problems.curvature import block_norms
from problems.data import synthetic
from problems.errors import InputError
from problems.modules import ModuleProblem
from problems.noise import Noise
from problems.registry import build_problem
from problems.torch_model import MLP

QUADRATIC = {"family": "quadratic", "n": 4, "d_u": 30, "d_v": 12, "coupling": 0.6}
WAVES = {
    "family": "trigonometric", "n": 6, "d_u": 3, "d_v": 2, "L_u": 1.0, "L_v": 2.0, "chi": 0.4, "delta": 1.3,
    "spread": 0.8,
}  # fmt: skip
RESIDUALS = {"family": "residuals", "n": 4, "d_u": 3, "d_v": 2}


def scattered(problem: Problem, count: int, scale: float = 1.0, replicates: int = 1) -> Visited:
    rng = np.random.default_rng(0)
    u = torch.from_numpy(scale * rng.normal(size=(replicates, count, problem.d_u)))
    return Visited(u, torch.from_numpy(scale * rng.normal(size=(replicates, count, problem.n, problem.d_v))))


def model(n: int = 4) -> ModuleProblem:
    return ModuleProblem(MLP((5, 4, 3), seed=2), synthetic(n=n, inputs=5, seed=1, rows=12), personal="layers.1")


def test_norms_of_a_quadratic_are_its_constants() -> None:
    problem = build_problem(QUADRATIC)
    found = estimate(problem, scattered(problem, 1))
    for name in ("L_u", "L_v", "L_uv"):
        want, got = getattr(problem.constants, name).value, getattr(found, name)
        assert got.low <= want * (1 + 1e-9)
        assert want <= got.high * (1 + 1e-9)
        assert got.largest == pytest.approx(want, rel=1e-6)
    assert found.constants.grade == "estimated"
    assert found.constants.chi == pytest.approx(problem.constants.chi, rel=1e-6)


def test_the_dials_of_trigonometric_coupling_are_approached_from_below() -> None:
    problem = build_problem(WAVES)
    found = estimate(problem, scattered(problem, 400, 2.0))
    c = problem.constants
    for got, want, reached in (
        (found.L_u.largest, c.L_u.value, 0.99),
        (found.L_v.largest, c.L_v.value, 0.98),
        (found.L_uv.largest, c.L_uv.value, 0.99),
        (found.delta.largest, c.delta.value, 0.6),  # the largest diversity asks for one phase in all coordinates
    ):
        assert reached * want <= got <= want * (1 + 1e-9)


def test_a_diversity_that_is_the_same_everywhere_is_found() -> None:
    problem = build_problem({"family": "sharp", "kind": "sampling", "n": 3, "delta": 2.0})
    assert problem.constants.delta.grade == "exact"
    found = estimate(problem, scattered(problem, 3, replicates=2))
    for got in (found.delta.largest, found.delta.value, found.delta.low, found.delta.high):
        assert got == pytest.approx(2.0, rel=1e-9)


def test_proved_upper_bounds_are_not_exceeded() -> None:
    problem = build_problem(RESIDUALS)
    found, c = estimate(problem, scattered(problem, 200)).constants, problem.constants
    assert 0.2 * c.L_u.value <= found.L_u.value <= c.L_u.value
    assert 0.2 * c.L_v.value <= found.L_v.value <= c.L_v.value
    assert found.L_uv.value <= c.L_uv.value
    assert found.delta.value <= c.delta.value


def test_a_modules_blocks_are_those_of_its_written_out_hessians() -> None:
    problem = model()
    rng = np.random.default_rng(3)
    u, v = (torch.from_numpy(rng.normal(size=(problem.n, d))) for d in (problem.d_u, problem.d_v))
    found = block_norms(problem, u, v)
    for i in range(problem.n):
        X, y = problem.rows.of(i)

        def loss(w: Tensor, X: Tensor = X, y: Tensor = y) -> Tensor:
            W0, b0, W1, b1 = torch.split(w, [20, 4, 12, 3])
            scores = torch.tanh(X @ W0.reshape(4, 5).T + b0) @ W1.reshape(3, 4).T + b1
            return torch.nn.functional.cross_entropy(scores, y)

        hessian = torch.autograd.functional.hessian(loss, torch.cat([u[i], v[i]]))
        blocks = (hessian[:24, :24], hessian[24:, 24:], hessian[:24, 24:])  # type: ignore[index]
        for got, block in zip((found.L_u[i], found.L_v[i], found.L_uv[i]), blocks, strict=True):
            assert float(got) == pytest.approx(float(torch.linalg.matrix_norm(block, 2)), rel=1e-8)


class Undifferentiable(Problem):
    """A quadratic whose gradients torch cannot follow: blocks come from central differences."""

    def __init__(self, inner: Problem) -> None:
        self.inner = inner
        self.n, self.d_u, self.d_v = inner.n, inner.d_u, inner.d_v

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self.inner.value(u, v, clients)

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        with torch.no_grad():
            return self.inner.grad_u(u.detach(), v.detach(), clients) * torch.ones(1, dtype=torch.float64)

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        with torch.no_grad():
            return self.inner.grad_v(u.detach(), v.detach(), clients)

    def _constants(self) -> Any:
        return self.inner.constants

    def to(self, device: torch.device | str) -> Problem:
        return self


def test_gradients_without_derivatives_are_differenced_and_said_to_be() -> None:
    inner = build_problem({"family": "quadratic", "n": 3, "d_u": 4, "d_v": 3, "coupling": 0.6})
    hidden = Undifferentiable(inner)
    found = estimate(hidden, scattered(hidden, 1))
    for name in ("L_u", "L_v", "L_uv"):
        assert getattr(found, name).largest == pytest.approx(getattr(inner.constants, name).value, rel=1e-5)


def test_lanczos_intervals_cover_the_norm_when_steps_are_few() -> None:
    problem = build_problem(QUADRATIC)
    points = scattered(problem, 1)
    wants = {name: getattr(problem.constants, name).value for name in ("L_u", "L_v", "L_uv")}
    inside = 0
    for seed in range(20):
        found = estimate(problem, points, steps=10, seed=seed)
        inside += all(
            getattr(found, k).low <= x * (1 + 1e-9) <= getattr(found, k).high * (1 + 2e-9) for k, x in wants.items()
        )
    assert inside >= 19  # each at 95 per cent at least; the theorem is far from tight
    assert found.L_u.high > found.L_u.low


def test_diversity_is_covered_at_every_point_for_a_given_rho() -> None:
    problem = model()
    points = scattered(problem, 10)
    u = points.u[:, :, None].expand(-1, -1, problem.n, -1)
    each = problem.grad_u(u, points.v, problem.everyone())
    mean = each.mean(-2)
    diversity = (each - mean[..., None, :]).square().sum(-1).mean(-1)
    for rho in (0.0, 0.5, 2.0):
        c = estimate(problem, points, rho=rho).constants
        allowed = c.delta.value**2 + c.rho.value**2 * mean.square().sum(-1)
        assert (diversity <= allowed * (1 + 1e-12)).all()
        assert float((diversity / allowed).max()) == pytest.approx(1.0, rel=1e-9)


def test_sigma_of_mini_batches_is_that_of_single_rows_over_b() -> None:
    problem = model()
    points = scattered(problem, 2, replicates=3)
    found = estimate(problem, points, noise=MiniBatch(batch=4))
    assert found.sigma_u is not None
    worst, squares = 0.0, []
    for r, p, i in np.ndindex(3, 2, problem.n):
        X, y = problem.rows.of(i)
        u, v = points.u[r, p], points.v[r, p, i]
        first = ModuleProblem(MLP((5, 4, 3)), [(X[:1], y[:1])], personal="layers.1")
        shares = torch.tensor([(j + 0.5) / 12 for j in range(12)], dtype=torch.float64)
        each = torch.stack(
            [problem.batch_grad_u(u[None], v[None], torch.tensor([i]), s.reshape(1, 1))[0] for s in shares]
        )
        torch.testing.assert_close(each[0], first.grad_u(u[None], v[None], torch.tensor([0]))[0], rtol=1e-9, atol=1e-12)
        squares.append(float((each - each.mean(0)).square().sum(-1).mean()) / 4)
        worst = max(worst, squares[-1])
    assert found.sigma_u.largest == pytest.approx(worst**0.5, rel=1e-9)
    assert found.sigma_u.value == pytest.approx(np.mean(squares) ** 0.5, rel=1e-9)
    assert 0 <= found.sigma_u.low <= found.sigma_u.value <= found.sigma_u.high
    stated = estimate(problem, points, noise=Noise("gaussian", 0.3, 0.2))
    assert stated.sigma_u is not None
    assert stated.sigma_u.largest == 0.3


def test_visited_points_are_those_of_the_run() -> None:
    problem = build_problem(WAVES)
    start = State(torch.zeros(3, dtype=torch.float64), torch.ones(6, 2, dtype=torch.float64))
    trial = Experiment(problem, FedAlt(2, 0.1, 0.1, tau_u=1, tau_v=1), Noise("gaussian", 0.1, 0.1), start, 8)
    points = visited(trial, points=3, replicates=2)
    assert points.u.shape == (2, 3, 3)
    assert torch.equal(points.u[:, 0], torch.zeros(2, 3, dtype=torch.float64))
    np.testing.assert_array_equal(points.v[:, 2], run(trial, 2, engine="eager")["v_final"].values)
    half = Experiment(problem, trial.algorithm, trial.noise, start, 4)
    np.testing.assert_array_equal(points.u[:, 1], run(half, 2, engine="eager")["u_final"].values)


def test_the_regime_is_the_comparisons_own() -> None:
    problem = model()
    found = estimate(problem, scattered(problem, 2, replicates=2), noise=MiniBatch(batch=2))
    for m in (1, 3):
        inputs = found.inputs(m, tau=2)
        _, _, condition = PAPER.evaluate(inputs)
        assert found.regime(m, tau=2)["paper"] == ("fedalt" if condition < 0 else "fedsim")
    assert len(sentences(found.regime(1))) == 3
    silent = estimate(problem, scattered(problem, 1))
    assert silent.regime(4)["tuned"] == "no difference"
    with pytest.raises(InputError, match="m must lie between 1 and n = 4; got 5"):
        found.inputs(5)


def test_advice_from_a_model_alone() -> None:
    problem = model()
    found = advise_inputs(problem, batch=3, T=6)
    assert found["grade"] == "estimated"
    assert found["L_u"] >= 0.9 * problem.constants.L_u.value
    assert found["sigma_u"] > 0
    assert found["gap0"] == pytest.approx(float(problem.objective(*problem.start())))
    low, high = found["intervals"]["L_u"]
    assert low <= found["L_u"] <= high
    assert advise_inputs(problem, batch=3, T=6)["delta"] == found["delta"]
    shared = ModuleProblem(MLP((5, 3)), synthetic(n=3, inputs=5, rows=6))
    assert advise_inputs(shared, T=3)["chi"] == 0.0


def test_what_is_refused() -> None:
    problem = model()
    points = scattered(problem, 1)
    with pytest.raises(InputError, match="rho must be a finite number >= 0; got -1"):
        estimate(problem, points, rho=-1.0)
    with pytest.raises(InputError, match=r"points must have u \(R, P, 24\)"):
        estimate(problem, Visited(points.u[..., 1:], points.v))
    waves = build_problem(WAVES)
    with pytest.raises(InputError, match="mini-batches need a problem with rows; got the family 'trigonometric'"):
        estimate(waves, scattered(waves, 1), noise=MiniBatch())
    far = State(*problem.start())
    wild = Experiment(problem, FedAlt(4, 1e200, 1e200, tau_u=3, tau_v=3), Noise(law="zero"), far, 4)
    with pytest.raises(InputError, match="the run must stay finite"):
        visited(wild)
