"""What single families of envelope problems add: separate solvers, bounds that only they have, bad tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from fedconv.problems.envelopes.geman_mcclure import GemanMcClure
from fedconv.problems.envelopes.geman_mcclure import build_random as geman_mcclure
from fedconv.problems.envelopes.huber import Huber, nearest
from fedconv.problems.envelopes.huber import build_random as huber
from fedconv.problems.envelopes.representation import Representation
from fedconv.problems.envelopes.representation import build_random as representation
from fedconv.problems.errors import InputError
from fedconv.problems.registry import build_problem


def points(problem: Representation, count: int, seed: int = 0, scale: float = 1.5) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(scale * rng.standard_normal((count, problem.n, problem.d_u)))


def test_huber_minimum_by_a_separate_solver() -> None:
    problem = huber(n=3, d_u=2, rows=4, lam=0.3)
    A, c, lam = problem._rows
    rows = len(c)

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        w, p, q = x[:2], x[2 : 2 + rows], x[2 + rows :]
        r = A @ w - c - p + q
        gradient = np.concatenate([A.T @ r, lam - r, lam + r])
        return float(0.5 * r @ r + lam @ (p + q)) / 3, gradient / 3

    bounds = [(None, None)] * 2 + [(0, None)] * 2 * rows
    options = {"ftol": 1e-16, "gtol": 1e-11, "maxiter": 2000, "maxfun": 40000}
    found = minimize(loss, np.zeros(2 + 2 * rows), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    assert problem.constants.F_star.value == pytest.approx(found.fun, abs=1e-9)
    assert problem.constants.F_star.value <= found.fun + 1e-13


def test_huber_nearest_of_many_minimisers() -> None:
    """Rows beyond their kinks in balance, ±: the minimisers fill a polygon; the nearest by a general solver."""
    A = np.array([[1.0, 0.0], [-1.0, 0.0], [0.3, 1.0], [-0.3, -1.0]])
    c = np.array([-2.0, -2.0, -3.0, -1.0])
    lam = np.array([0.5, 0.5, 0.7, 0.7])
    problem = Huber(A=A[:, None], c=c[:, None], lam=lam[:, None])
    inner = problem.minimiser()[0].numpy()
    for u in np.random.default_rng(0).normal(scale=6.0, size=(12, 2)):
        got = nearest(A, c, lam, inner, u)
        G = [{"type": "ineq", "fun": lambda w, i=i: A[i] @ w - c[i] - lam[i]} for i in range(4)]
        wanted = minimize(lambda w, u=u: ((w - u) ** 2).sum(), inner, constraints=G, method="SLSQP", tol=1e-14).x
        assert float(problem.mean_envelope(torch.from_numpy(got))) == pytest.approx(problem.constants.F_star.value)
        assert np.linalg.norm(got - u) == pytest.approx(np.linalg.norm(wanted - u), abs=1e-6)


def test_representation_meets_only_bounded_heads() -> None:
    problem = representation(n=3, features=2, inputs=2, rows=5, nu=0.3)
    u = points(problem, 500, scale=4.0)
    length = problem.y.norm(dim=1)
    theta = problem.fine_tune(u, problem.everyone())
    assert (theta.norm(dim=-1) <= length / (2 * math.sqrt(0.3)) * (1 + 1e-12)).all()
    reach = math.sqrt(5) * length / 0.3
    v = torch.zeros_like(theta)
    for step in range(30):  # inner steps with the shared part changing all the time
        u = points(problem, 500, seed=step, scale=4.0)
        v = v - problem.grad_v(u, v, problem.everyone()) / problem.envelope_constants.L_theta.value
        assert (v.norm(dim=-1) <= reach * (1 + 1e-12)).all()
    bound = problem.envelope_constants.L_uv.value
    direction = torch.from_numpy(np.random.default_rng(1).standard_normal(v.shape))
    for share in (0.3, 1.0):  # ‖∇_w f(w, θ) − ∇_w f(w, θ')‖ ≤ L_uv‖θ − θ'‖ on the ball
        one, other = (share * reach[:, None] * x / x.norm(dim=-1, keepdim=True) for x in (direction, direction.flip(0)))
        change = problem.grad_u(u, one, problem.everyone()) - problem.grad_u(u, other, problem.everyone())
        assert (change.norm(dim=-1) <= bound * (one - other).norm(dim=-1)).all()


def test_geman_mcclure_fits_where_one_w_does() -> None:
    problem = geman_mcclure(n=3, d_u=2, d_v=2, rows=3, spread=0.0)
    e = problem.envelope_constants
    assert e.overpersonalized
    assert e.F_star.grade == "exact"
    point = problem.minimiser()
    assert point is not None
    assert float(problem.objective(*point)) <= 1e-28
    assert geman_mcclure(n=3, d_u=2, d_v=2, rows=3).minimiser() is None


BAD: list[tuple[dict[str, Any], str]] = [
    ({"family": "huber_arrays", "A": [[[1.0]]], "c": [[0.0]], "lam": [[0.0]]}, r"problem\.lam must exceed 0; got 0\.0"),
    (
        {"family": "least_squares", "n": 2, "d_u": 1, "d_v": 2, "rank": 3},
        r"problem\.rank must lie in 0\.\.2, .*; got 3",
    ),
    ({"family": "least_squares", "n": 2, "d_u": 0, "d_v": 0}, r"problem\.d_u \+ d_v must be at least 1; got 0"),
    (
        {"family": "least_squares_arrays", "A": [[[1.0]]], "B": [[[1.0]]], "c": [[1.0, 2.0]]},
        r"problem\.A must have shape \(1, 2, any\); got \(1, 1, 1\)",
    ),
    (
        {"family": "least_squares_arrays", "A": [[[1.0]], [[1e-15]]], "B": [[[]], [[]]], "c": [[1.0], [2.0]]},
        r"problem\.A must not differ so much in scale .*; got a singular value 1e-15 ",
    ),
    (
        {"family": "geman_mcclure", "n": 2, "d_u": 1, "d_v": 1, "nu": 0.0},
        r"problem\.nu: expected a finite number > 0; got 0\.0",
    ),
    (
        {"family": "representation", "n": 2, "features": 0},
        r"problem\.features: expected an integer >= 1; got 0",
    ),
    (
        {"family": "envelope_quadratic", "A": [[[1.0]]], "B": [[[0.0]]], "C": [[[0.0]]], "a": [[0.0]], "b": [[0.0]]},
        r"problem\.B must hold positive definite matrices; got the eigenvalue 0",
    ),
    ({"family": "saddle", "n": 100}, r"problem\.n must be at least 101, for F to be bounded below .*; got 100"),
    (
        {"family": "representation", "n": 9, "features": 10**6, "inputs": 10**6},
        r"problem: must hold at most \d+ numbers",
    ),
]


@pytest.mark.parametrize(("table", "sentence"), BAD)
def test_a_bad_table_gets_one_sentence(table: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match="^" + sentence) as error:
        build_problem(table)
    assert "\n" not in str(error.value)


def test_log_cosh_and_newton_far_out() -> None:
    problem = GemanMcClure(A=[[[1.0]]], c=[[0.0]], D=[[[1.0]]], B=[[[30.0]]], e=[[2e3]], nu=1e-3)
    u = torch.tensor([[0.0]], dtype=torch.float64)
    theta = problem.fine_tune(u, problem.everyone())
    rounding = 30.0 * 2e3 * np.finfo(float).eps  # of Bᵀ tanh(Bθ − e)
    assert float(problem.grad_v(u, theta, problem.everyone()).abs()) <= rounding
    assert math.isfinite(float(problem.envelope(u, problem.everyone())))
