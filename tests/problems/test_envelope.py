"""Client envelopes F_m(w) = min_θ f_m(w, θ): exact fine-tuning, the gradient formula, and constants by search."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from fedconv.problems.base import Constants
from fedconv.problems.envelopes.base import EnvelopeConstants, EnvelopeProblem
from fedconv.problems.envelopes.geman_mcclure import build_random as geman_mcclure
from fedconv.problems.envelopes.huber import Huber
from fedconv.problems.envelopes.huber import build_random as huber
from fedconv.problems.envelopes.least_squares import LeastSquares
from fedconv.problems.envelopes.least_squares import build_random as least_squares
from fedconv.problems.envelopes.quadratic import EnvelopeQuadratic, saddle
from fedconv.problems.envelopes.representation import Representation
from fedconv.problems.envelopes.representation import build_random as representation
from fedconv.problems.errors import InputError

ZOO: dict[str, Callable[[], EnvelopeProblem]] = {
    "least_squares": lambda: least_squares(n=4, d_u=3, d_v=2, rows=5),
    "rank_deficient": lambda: least_squares(n=3, d_u=3, d_v=3, rows=4, rank=1, seed=1),
    "vacuous": lambda: least_squares(n=3, d_u=2, d_v=3, rows=2, seed=2),
    "no_personal_part": lambda: least_squares(n=3, d_u=2, d_v=0, rows=3, seed=3),
    "huber": lambda: huber(n=3, d_u=2, rows=4, lam=0.5),
    "geman_mcclure": lambda: geman_mcclure(n=3, d_u=2, d_v=2, rows=3),
    "geman_mcclure_steep": lambda: geman_mcclure(n=3, d_u=2, d_v=3, rows=3, scale=6.0, nu=0.01, seed=4),
    "geman_mcclure_fitted": lambda: geman_mcclure(n=3, d_u=2, d_v=2, rows=3, spread=0.0),
    "representation": lambda: representation(n=3, features=2, inputs=2, rows=5),
    "representation_alike": lambda: representation(n=3, features=2, inputs=2, rows=5, overpersonalized=True),
    "saddle": lambda: saddle(curvature=1.0, cross=1.0, mu_v=0.4),
    "quadratic": lambda: quadratic(),
}


def quadratic() -> EnvelopeQuadratic:
    rng = np.random.default_rng(5)
    A, B = (x @ x.swapaxes(1, 2) + 0.2 * np.eye(2) for x in rng.standard_normal((2, 3, 2, 2)))
    C = 0.1 * rng.standard_normal((3, 2, 2))
    return EnvelopeQuadratic(A=A, B=B, C=C, a=rng.standard_normal((3, 2)), b=rng.standard_normal((3, 2)))


@pytest.fixture(scope="module", params=ZOO)
def problem(request: pytest.FixtureRequest) -> EnvelopeProblem:
    return ZOO[request.param]()


def points(problem: EnvelopeProblem, count: int, seed: int = 0, scale: float = 1.5) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(scale * rng.standard_normal((count, problem.n, problem.d_u)))


# ---- fine-tuning ----------------------------------------------------------------------------------------------


def test_fine_tuning_is_stationary_to_rounding(problem: EnvelopeProblem) -> None:
    u = points(problem, 20, scale=3.0)
    everyone = problem.everyone()
    theta = problem.fine_tune(u, everyone)
    assert theta.shape == (20, problem.n, problem.d_v)
    slope = problem.grad_v(u, theta, everyone)
    if isinstance(problem, Huber):  # 0 lies in the subdifferential: the smooth part is −λ sign θ, or at most λ at 0
        smooth, lam = theta - problem._misfit(u, everyone), problem.lam.expand_as(theta)
        assert torch.where(
            theta == 0, smooth.abs() <= lam * (1 + 1e-12), (smooth + lam * theta.sign()).abs() < 1e-12
        ).all()
        return
    if slope.numel():
        terms = float(problem.grad_v(u, 0 * theta, everyone).norm()) + problem.constants.L_v.value * float(theta.norm())
        assert float(slope.abs().amax()) <= 1e-14 * terms


def test_fine_tuning_against_another_solver(problem: EnvelopeProblem) -> None:
    """Per client by scipy, for Huber in p − q with p, q ≥ 0, where the problem is smooth."""
    if problem.d_v == 0:
        return
    u = points(problem, 2, seed=1)
    everyone = problem.everyone()
    stated = problem.envelope(u, everyone)
    split = isinstance(problem, Huber)
    for place in np.ndindex(2, problem.n):
        at, client = u[place][None], torch.tensor([place[1]])

        def loss(x: np.ndarray, at: Tensor = at, client: Tensor = client) -> tuple[float, np.ndarray]:
            t = torch.from_numpy(x.copy())
            if not split:
                return float(problem.value(at, t[None], client)), problem.grad_v(at, t[None], client)[0].numpy()
            assert isinstance(problem, Huber)
            p, q = t[: problem.d_v], t[problem.d_v :]
            r, lam = problem._misfit(at, client)[0], problem.lam[client][0]
            slope = (p - q - r).numpy()
            value = 0.5 * (slope**2).sum() + float((lam * (p + q)).sum())
            return value, np.concatenate([slope, -slope]) + np.tile(lam.numpy(), 2)

        x = np.zeros(problem.d_v * (1 + split))
        bounds = [(0, None)] * len(x) if split else None
        found = minimize(loss, x, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-10})
        size = 1 + abs(float(stated[place]))
        assert float(stated[place]) == pytest.approx(found.fun, abs=1e-9 * size)
        assert float(stated[place]) <= found.fun + 1e-13 * size


def test_fine_tuning_from_a_start_moves_as_little_as_possible(problem: EnvelopeProblem) -> None:
    u, everyone = points(problem, 5, seed=2), problem.everyone()
    v = torch.from_numpy(np.random.default_rng(3).standard_normal((5, problem.n, problem.d_v)))
    theta, least = problem.fine_tune(u, everyone, v), problem.fine_tune(u, everyone)
    distance = problem.fine_tuning_distance(u, v, everyone)
    torch.testing.assert_close((theta - v).norm(dim=-1), distance, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(problem.value(u, theta, everyone), problem.envelope(u, everyone), rtol=1e-10, atol=1e-12)
    assert (least.norm(dim=-1) <= theta.norm(dim=-1) * (1 + 1e-12) + 1e-12).all()
    if not isinstance(problem, LeastSquares):  # the minimiser is unique
        torch.testing.assert_close(theta, least, rtol=1e-12, atol=1e-12)
        return
    along = v - theta  # orthogonal to what leaves the loss, the kernel of B
    other = torch.from_numpy(np.random.default_rng(4).standard_normal(tuple(v.shape)))
    flat = other - (torch.linalg.pinv(problem.B) @ problem.B @ other[..., None])[..., 0]
    assert float((along * flat).sum(-1).abs().amax() if v.numel() else 0.0) <= 1e-10
    torch.testing.assert_close(problem.value(u, theta + flat, everyone), problem.value(u, theta, everyone))


# ---- Theorem 1: the gradient formula and its curvature -------------------------------------------------------------


def test_envelope_is_the_loss_at_the_fine_tuned_point(problem: EnvelopeProblem) -> None:
    u, everyone = points(problem, 6), problem.everyone()
    theta = problem.fine_tune(u, everyone)
    torch.testing.assert_close(problem.envelope(u, everyone), problem.value(u, theta, everyone), rtol=1e-11, atol=1e-12)
    gradient = problem.envelope_grad(u, everyone)
    torch.testing.assert_close(gradient, problem.grad_u(u, theta, everyone), rtol=1e-10, atol=1e-11)
    common = u[:, :1].expand_as(u)
    torch.testing.assert_close(problem.mean_envelope(u[:, 0]), problem.envelope(common, everyone).mean(-1))
    torch.testing.assert_close(problem.mean_envelope_grad(u[:, 0]), problem.envelope_grad(common, everyone).mean(-2))


def slopes(problem: EnvelopeProblem, u: Tensor, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Central differences of a function of u at ``(..., k, d_u)``, ``(..., k, d_u)`` on the last axis."""
    step, out = 1e-5, []
    for j in range(problem.d_u):
        ends = []
        for sign in (1, -1):
            moved = u.clone()
            moved[..., j] += sign * step
            ends.append(function(moved, problem.everyone()))
        out.append((ends[0] - ends[1]) / (2 * step))
    return torch.stack(out, dim=-1)


def test_gradient_is_that_of_finite_differences(problem: EnvelopeProblem) -> None:
    u = points(problem, 6, seed=6)
    gradient = problem.envelope_grad(u, problem.everyone())
    size = 1 + float(gradient.abs().amax()) + float(problem.envelope(u, problem.everyone()).abs().amax())
    curvature = problem.envelope_constants.L_F.value  # a kink of the gradient costs up to curvature times the step
    slack = 1e-8 * size * (1 + (1e3 * curvature if isinstance(problem, Huber) else 0.0))
    torch.testing.assert_close(slopes(problem, u, problem.envelope), gradient, rtol=0, atol=slack)


def test_a_gradient_at_a_stale_theta_is_caught() -> None:
    problem = ZOO["geman_mcclure"]()
    u = points(problem, 6, seed=6)
    stale = problem.grad_u(u, problem.fine_tune(u + 0.3, problem.everyone()), problem.everyone())
    assert float((slopes(problem, u, problem.envelope) - stale).abs().amax()) > 1e-2


def test_theorem_1a_descent(problem: EnvelopeProblem) -> None:
    e, everyone = problem.envelope_constants, problem.everyone()
    for scale in (1e-2, 0.5, 3.0):
        u, move = points(problem, 300, seed=7), points(problem, 300, seed=8, scale=scale)
        rise = problem.envelope(u + move, everyone) - problem.envelope(u, everyone)
        linear = (problem.envelope_grad(u, everyone) * move).sum(-1)
        square = move.square().sum(-1)
        noise = 1e-13 * (
            1 + problem.envelope(u, everyone).abs().amax() + problem.envelope(u + move, everyone).abs().amax()
        )
        assert (rise <= linear + 0.5 * e.L_block.value * square * (1 + 1e-9) + noise).all()
        assert (rise <= linear + 0.5 * torch.from_numpy(e.L_m) * square * (1 + 1e-9) + noise).all()
        common, along = u[:, :1].expand_as(u), move[:, :1].expand_as(u)
        mean_rise = (problem.envelope(common + along, everyone) - problem.envelope(common, everyone)).mean(-1)
        mean_linear = (problem.mean_envelope_grad(u[:, 0]) * move[:, 0]).sum(-1)
        assert (mean_rise <= mean_linear + 0.5 * e.L.value * square[:, 0] * (1 + 1e-9) + noise).all()
        growth = problem.envelope_constants
        if growth.convex:
            assert (rise >= linear - noise).all()


def test_theorem_1b_and_1c_lipschitz(problem: EnvelopeProblem) -> None:
    e, everyone = problem.envelope_constants, problem.everyone()
    worst = 0.0
    for scale in (1e-3, 0.3, 3.0):
        u, move = points(problem, 400, seed=9), points(problem, 400, seed=10, scale=scale)
        change = problem.envelope_grad(u + move, everyone) - problem.envelope_grad(u, everyone)
        noise = 1e-12 * (1 + float(problem.envelope_grad(u, everyone).abs().amax()))
        assert (change.norm(dim=-1) <= e.L_F.value * (1 + 1e-9) * move.norm(dim=-1) + noise).all()
        worst = max(worst, float((change.norm(dim=-1) / move.norm(dim=-1)).amax()))
        if e.mu_v.value > 0 and not isinstance(problem, LeastSquares | Representation):
            shift = problem.fine_tune(u + move, everyone) - problem.fine_tune(u, everyone)
            bound = e.L_uv.value / e.mu_v.value * move.norm(dim=-1)
            assert (shift.norm(dim=-1) <= bound * (1 + 1e-9) + noise).all()
    if e.L_F.grade == "exact" and problem.d_u == 2:
        assert worst >= 0.9 * e.L_F.value


def test_without_convexity_the_gradient_is_not_L_u_lipschitz() -> None:
    """The page's instance f = 0.05w² + wθ + 0.05θ²: a factor 99. (100 more clients keep F bounded below.)"""
    problem = saddle()
    e = problem.envelope_constants
    assert problem.n == 101
    ends = torch.tensor([[1.0], [0.0]], dtype=torch.float64)[:, None, :]
    g = problem.envelope_grad(ends, torch.tensor([0]))
    ratio = float((g[0] - g[1]).norm()) / e.L_block.value
    assert ratio == pytest.approx(99.0, rel=1e-12)
    assert ratio <= e.L_F.value / e.L_block.value * (1 + 1e-12)
    assert e.L_F.value == pytest.approx(10.0, rel=1e-12)  # max(L_u, ell_u + L_uv²/mu_v) with ell_u = 0
    assert math.isinf(e.G.value)
    assert not e.convex


def test_the_instance_of_theorem_4() -> None:
    """f = ½w² + L_uv wθ + (mu_v/2)θ² with L_uv = 0.05, mu_v = 0.01: F'' = 1 − 0.25."""
    e = saddle(curvature=1.0, cross=0.05, mu_v=0.01).envelope_constants
    got = [c.value for c in (e.L, e.L_max, e.mu, e.mu_v, e.L_theta, e.L_uv, e.L_block, e.L_F)]
    assert got == pytest.approx([0.75, 0.75, 0.75, 0.01, 0.01, 0.05, 1.0, 1.0], rel=1e-12)
    assert e.convex
    assert e.overpersonalized


# ---- the constants of each family ----------------------------------------------------------------------------------


def test_mu_and_B_by_search(problem: EnvelopeProblem) -> None:
    e = problem.envelope_constants
    found = problem.minimiser()
    u = points(problem, 400, seed=11)[:, 0]
    gap = problem.mean_envelope(u) - e.F_star.value
    grad_sq = problem.mean_envelope_grad(u).square().sum(-1)
    assert (gap >= -1e-12 * (1 + abs(e.F_star.value))).all()
    assert (grad_sq >= 2 * e.mu.value * gap * (1 - 1e-9) - 1e-12).all()
    assert (grad_sq <= 2 * e.L.value * gap * (1 + 1e-9) + 1e-12).all()
    if found is None:
        return
    g = problem.envelope_grad(u[:, None].expand(-1, problem.n, -1), problem.everyone())
    at_star = problem.envelope_grad(found[0].expand(problem.n, -1), problem.everyone())
    assert float(at_star.square().sum(-1).mean()) == pytest.approx(e.zeta_sq.value, rel=1e-9, abs=1e-14)
    assert float(at_star.mean(0).norm()) <= 1e-10 * (1 + e.L_max.value)
    a = g - at_star
    variance = (a - a.mean(-2, keepdim=True)).square().sum(-1).mean(-1)
    if math.isfinite(e.B_sq.value):
        assert (variance <= e.B_sq.value * grad_sq * (1 + 1e-9) + 1e-12).all()
    if e.convex and e.mu.value > 0:
        assert e.B_sq.value <= e.L_max.value / e.mu.value - 1 + 1e-9
    near = problem.nearest_minimiser(u[0])
    assert near is not None
    assert float(problem.mean_envelope(near)) == pytest.approx(e.F_star.value, abs=1e-12 * (1 + abs(e.F_star.value)))
    assert float((near - u[0]).norm()) <= float((found[0] - u[0]).norm()) * (1 + 1e-12) + 1e-12


def test_inf_m_and_G_by_search(problem: EnvelopeProblem) -> None:
    e = problem.envelope_constants
    for i in range(problem.n):
        if math.isinf(e.inf_m[i]):
            with pytest.raises(InputError, match="F must be bounded below"):
                problem.restrict([i])
            continue
        alone = problem.restrict([i])
        low = alone.mean_envelope(points(alone, 300, seed=12)[:, 0]).min()
        assert float(low) >= e.inf_m[i] - 1e-12
        if e.F_star.grade == "exact":
            assert alone.envelope_constants.F_star.value == pytest.approx(e.inf_m[i], abs=1e-10)
        assert alone.envelope_constants.G.value == 0 or alone.envelope_constants.G.grade == "upper"
    if e.G.grade == "exact" and e.F_star.grade == "exact" and math.isfinite(e.G.value):
        assert e.G.value == pytest.approx(e.F_star.value - e.inf_m.mean(), abs=1e-12)
    assert e.G.value >= e.F_star.value - e.inf_m.mean() - 1e-12
    assert e.overpersonalized == (e.G.value == 0)
    assert e.zeta_sq.value <= 2 * e.L_max.value * e.G.value * (1 + 1e-9) or math.isinf(e.G.value)


# ---- data, restriction, labels -----------------------------------------------------------------------------


def test_constants_round_trip(problem: EnvelopeProblem) -> None:
    e = problem.envelope_constants
    data = json.loads(json.dumps(e.to_dict(), allow_nan=False))
    again = EnvelopeConstants.from_dict(data)
    assert again == e
    np.testing.assert_array_equal(again.inf_m, e.inf_m)
    assert Constants.from_dict(problem.constants.to_dict()) == problem.constants


def test_restriction_and_leading_axes(problem: EnvelopeProblem) -> None:
    chosen = [problem.n - 1, 0] if not isinstance(problem, EnvelopeQuadratic) else [2, 1]
    part = problem.restrict(chosen)
    u = points(problem, 4)
    picked = torch.tensor(chosen)
    for method in ("envelope", "envelope_grad", "fine_tune"):
        full = getattr(problem, method)(u, problem.everyone())
        torch.testing.assert_close(getattr(part, method)(u[:, chosen], part.everyone()), full[:, chosen])
        stacked = getattr(problem, method)(u[None].expand(2, -1, -1, -1)[..., chosen, :], picked)
        torch.testing.assert_close(stacked[1], full[:, chosen], rtol=1e-12, atol=1e-13)
        index = picked.expand(4, len(chosen))
        torch.testing.assert_close(getattr(problem, method)(u[:, chosen], index), full[:, chosen])
    assert part.n == len(chosen)
    assert part.envelope_constants.L_max.value <= problem.envelope_constants.L_max.value * (1 + 1e-12)
    for bad, got in (([], "none"), ([0, 0], r"\[0, 0\]"), ([problem.n], rf"\[{problem.n}\]")):
        with pytest.raises(InputError, match=rf"^clients must .*got {got}$"):
            problem.restrict(bad)


def test_flipping_labels(problem: EnvelopeProblem) -> None:
    flipped = problem.flipped([0])
    if isinstance(problem, EnvelopeQuadratic):
        assert flipped is None
        return
    assert flipped is not None
    u = points(problem, 4)
    before, after = (x.envelope(u, x.everyone()) for x in (problem, flipped))
    torch.testing.assert_close(before[:, 1:], after[:, 1:], rtol=0, atol=0)
    mirrored = problem.envelope(-u, problem.everyone())  # f(w, θ; −c) = f(−w, −θ; c)
    torch.testing.assert_close(after[:, 0], mirrored[:, 0], rtol=1e-10, atol=1e-12)
    again = flipped.flipped([0])
    assert again is not None
    assert again.envelope_constants == problem.envelope_constants
    if isinstance(problem, Representation):  # a personal head absorbs the flip
        torch.testing.assert_close(before, after, rtol=1e-12, atol=0)
