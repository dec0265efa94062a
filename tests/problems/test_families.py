"""The families' closed forms against enumeration, dense linear algebra and grids."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError
from fedconv.problems.registry import build_problem
from fedconv.problems.split.full_personalization import FullPersonalization
from fedconv.problems.split.quadratic import Quadratic, build_random
from fedconv.problems.split.residuals import ENUMERATED, STEEPEST, Residuals
from fedconv.problems.split.trigonometric import EXACT_WIDTH, Trigonometric

seeds = st.integers(0, 2**16)
sizes = st.integers(0, 3)


def waves(seed: int, n: int, d_u: int, d_v: int) -> Trigonometric:
    """Random amplitudes (some of them 0), couplings of both signs, shifts in and out of [−π, π]."""
    rng = np.random.default_rng(seed)
    h = rng.standard_normal((n, d_u))
    return Trigonometric(
        a=rng.exponential(size=d_u) * rng.integers(0, 2, d_u),
        b=rng.exponential(size=d_v) * (rng.random(d_v) < 0.8),
        kappa=rng.standard_normal(min(d_u, d_v)) * (rng.random(min(d_u, d_v)) < 0.8),
        h=h - h.mean(0),
        s=3 * rng.standard_normal((n, d_v)),
    )


def diversity(problem: Problem, u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(1/n) Σ_i ‖∇_uF_i − ∇_uF‖² and ‖∇_uF‖² at u ``(R, d_u)``, V ``(R, n, d_v)``."""
    each = problem.grad_u(u[:, None].expand(-1, problem.n, -1), v, problem.everyone())
    mean = each.mean(-2, keepdim=True)
    return (each - mean).square().sum(-1).mean(-1), mean[:, 0].square().sum(-1)


def points(problem: Problem, count: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    return (
        torch.from_numpy(scale * rng.standard_normal((count, problem.d_u))),
        torch.from_numpy(scale * rng.standard_normal((count, problem.n, problem.d_v))),
    )


# ---- trigonometric coupling ---------------------------------------------------------------------------------


@given(seed=seeds, n=st.integers(1, 7), d_u=sizes, d_v=sizes)
def test_thresholds_find_the_largest_variance_of_all_signs(seed: int, n: int, d_u: int, d_v: int) -> None:
    problem = waves(seed, n, d_u, d_v)
    kappa, h = np.zeros(d_u), problem.h.numpy()
    kappa[: len(problem.kappa)] = problem.kappa.numpy()
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    total = sum(np.var(h[:, k] + kappa[k] * signs, axis=1).max() for k in range(d_u))
    assert problem.constants.delta.value == pytest.approx(math.sqrt(total), rel=1e-12, abs=1e-15)


@given(seed=seeds, n=st.integers(1, 6), d_u=sizes, d_v=sizes)
def test_F_star_lies_below_a_grid_and_is_attained(seed: int, n: int, d_u: int, d_v: int) -> None:
    problem = waves(seed, n, d_u, d_v)
    a, b, kappa, s = (x.numpy() for x in (problem.a, problem.b, problem.kappa, problem.s))
    grid = np.linspace(-np.pi, np.pi, 20001)
    least = 0.0
    for k in range(len(kappa)):
        inner = np.hypot(b[k] * np.cos(s[:, k]), b[k] * np.sin(s[:, k]) - kappa[k] * np.sin(grid[:, None]))
        least += float((a[k] * (1 - np.cos(grid)) + (b[k] - inner).mean(1)).min())
    F_star = problem.constants.F_star
    scale = float(a.sum() + b.sum() + np.abs(kappa).sum())
    assert F_star.grade == "exact"
    assert F_star.value <= least + 1e-14 * scale
    u, v = problem.minimiser()
    assert 0 <= float(problem.objective(u, v)) - F_star.value <= EXACT_WIDTH * scale


def test_the_note_of_F_star_states_the_width() -> None:
    note = waves(1, 4, 3, 3).constants.F_star.note
    assert note.startswith("lower end of a certified enclosure of width ")
    assert 0 < float(note.split()[-1]) < EXACT_WIDTH


# ---- robust residuals ---------------------------------------------------------------------------------------


def test_the_loss_has_the_slopes_that_the_bounds_use() -> None:
    """φ' = r/(1+r²)², |φ'| ≤ 9/(16√3) at r = 1/√3; φ'' = (1 − 3r²)/(1+r²)³ in [−1/4, 1]."""
    r = torch.linspace(-20, 20, 400001, dtype=torch.float64, requires_grad=True)
    problem = Residuals(A=[[[1.0]]], B=np.zeros((1, 1, 0)), c=[[0.0]])
    slope = problem.grad_u(r[:, None, None], torch.zeros(1, 1, 0).double(), torch.tensor([0]))[:, 0, 0]
    (bend,) = torch.autograd.grad(slope.sum(), r)
    steepest = float(slope.detach().abs().max())
    assert steepest == pytest.approx(STEEPEST, rel=1e-8)
    assert steepest <= STEEPEST
    assert (float(bend.min()), float(bend.max())) == pytest.approx((-0.25, 1.0), abs=1e-7)


@pytest.mark.parametrize("rows", [1, 5, ENUMERATED, ENUMERATED + 1, 40])
def test_residual_diversity_stays_below_its_bound(rows: int) -> None:
    problem = build_problem({"family": "residuals", "n": 3, "d_u": 2, "d_v": 2, "rows": rows, "scale": 2.0})
    delta = problem.constants.delta.value
    for scale in (0.3, 1.0, 3.0, 30.0):
        found, _ = diversity(problem, *points(problem, 2000, scale))
        assert float(found.max()) <= delta**2


def test_enumeration_is_tighter_than_norms() -> None:
    rng = np.random.default_rng(0)
    A, c = rng.standard_normal((2, ENUMERATED, 3)), np.zeros((2, ENUMERATED))
    tight = Residuals(A=A, B=np.zeros((2, ENUMERATED, 0)), c=c).constants.delta.value
    A, c = np.pad(A, ((0, 0), (0, 1), (0, 0))), np.pad(c, ((0, 0), (0, 1)))  # one row of zeros more: not enumerated
    loose = Residuals(A=A, B=np.zeros((2, ENUMERATED + 1, 0)), c=c).constants.delta.value
    assert 0 < tight < loose


# ---- coupled quadratics -------------------------------------------------------------------------------------


def dense_minimum(problem: Quadratic) -> tuple[np.ndarray, np.ndarray]:
    """Hessian and linear part of F in (u, V) as one matrix and one vector."""
    n, d_u, d_v = problem.n, problem.d_u, problem.d_v
    H, g = np.zeros((d_u + n * d_v,) * 2), np.zeros(d_u + n * d_v)
    H[:d_u, :d_u], g[:d_u] = problem.A.numpy().mean(0), problem.a.numpy().mean(0)
    for i in range(n):
        rows = slice(d_u + i * d_v, d_u + (i + 1) * d_v)
        H[:d_u, rows], H[rows, rows] = problem.C[i].numpy() / n, problem.B[i].numpy() / n
        H[rows, :d_u], g[rows] = problem.C[i].numpy().T / n, problem.b[i].numpy() / n
    return H, g


@given(seed=seeds, n=st.integers(1, 6), d_u=sizes, d_v=sizes, coupling=st.floats(0, 0.99), below=st.floats(0, 0.99))
def test_random_quadratics_keep_their_promises(
    seed: int, n: int, d_u: int, d_v: int, coupling: float, below: float
) -> None:
    if d_u + d_v == 0:
        d_u = 1
    indefinite = below if n > 1 and d_u else 0.0
    problem = build_random(n=n, d_u=d_u, d_v=d_v, L_u=2.0, L_v=0.5, coupling=coupling, indefinite=indefinite, seed=seed)
    c = problem.constants
    assert c.L_u.value == (pytest.approx(2.0, rel=1e-12) if d_u else 0.0)
    assert c.L_v.value == (pytest.approx(0.5, rel=1e-12) if d_v else 0.0)
    if indefinite:
        assert np.linalg.eigvalsh(problem.A.numpy()).min() == pytest.approx(-2.0 * indefinite, rel=1e-9, abs=1e-9)
    H, g = dense_minimum(problem)
    z = np.linalg.solve(H, g)
    u, v = problem.minimiser()
    np.testing.assert_allclose(np.concatenate([u, v.reshape(-1)]), z, rtol=1e-8, atol=1e-8 * np.abs(z).max())
    assert c.F_star.value == pytest.approx(-0.5 * g @ z, rel=1e-9, abs=1e-12)
    assert float(problem.objective(u, v)) == pytest.approx(c.F_star.value, rel=1e-11, abs=1e-13)


def scalars(A: list[float], C: list[float], a: list[float], b: list[float]) -> Quadratic:
    """One coordinate each, B = 1."""
    n = len(A)
    one = [np.reshape(x, (n, 1, 1)) for x in (A, [1.0] * n, C)]
    return Quadratic(A=one[0], B=one[1], C=one[2], a=np.reshape(a, (n, 1)), b=np.reshape(b, (n, 1)))


def test_singular_hessians_are_welcome_where_F_is_bounded() -> None:
    """½(u + v)² − (u + v): least −½ along a line."""
    problem = scalars([1.0], [1.0], [1.0], [1.0])
    u, v = problem.minimiser()
    assert problem.constants.F_star.value == pytest.approx(-0.5)
    assert float(u + v) == pytest.approx(1.0)
    flat = Quadratic(A=np.zeros((2, 1, 1)), B=np.zeros((2, 1, 1)), C=np.zeros((2, 1, 1)), a=[[1], [-1]], b=[[0], [0]])
    assert flat.constants.F_star.value == 0.0
    assert flat.constants.delta.value == 1.0


def test_unbounded_quadratics_are_refused() -> None:
    with pytest.raises(InputError, match=r"has the eigenvalue -1\.625 < 0"):
        scalars([1.0, -1.0], [1.0, 1.5], [0.0, 0.0], [0.0, 0.0]).minimiser()
    with pytest.raises(InputError, match=r"B has the eigenvalue -0\.5 < 0"):
        Quadratic(A=np.ones((1, 1, 1)), B=[[[-0.5]]], C=np.zeros((1, 1, 1)), a=[[0.0]], b=[[0.0]])
    with pytest.raises(InputError, match="without curvature"):
        scalars([1.0], [1.0], [1.0], [0.0])
    with pytest.raises(InputError, match="some B_i has no curvature"):
        Quadratic(A=np.ones((1, 1, 1)), B=[[[0.0]]], C=np.zeros((1, 1, 1)), a=[[0.0]], b=[[1.0]])


def flat_problem(A: list[np.ndarray], C: np.ndarray | None = None, a: np.ndarray | None = None) -> Quadratic:
    n, d = len(A), len(A[0])
    C = np.zeros((n, d, 1)) if C is None else C
    a = np.zeros((n, d)) if a is None else a
    return Quadratic(A=np.array(A), B=np.ones((n, C.shape[2], C.shape[2])), C=C, a=a, b=np.zeros((n, C.shape[2])))


@pytest.mark.parametrize("kind", ["different A", "common minimiser", "singular mean", "own directions"])
def test_a_bounded_diversity_is_bounded_everywhere(kind: str) -> None:
    """Where ∇_uF fixes all ∇_uF_i − ∇_uF, the stated δ and ρ hold at every scale."""
    rng = np.random.default_rng(5)
    one, two = np.diag([1.0, 0.0, 0.0]), np.diag([3.0, 0.0, 0.0])
    if kind == "different A":
        problem = build_random(n=4, d_u=3, d_v=2, coupling=0.0, indefinite=0.5)
    elif kind == "common minimiser":
        A = build_random(n=4, d_u=3, d_v=0, coupling=0.0).A.numpy()
        problem = flat_problem(list(A))
    elif kind == "singular mean":  # one coordinate has no curvature at all
        problem = flat_problem([one, two], a=np.outer([1.0, -2.0], [1.0, 0.0, 0.0]))
    else:  # each client has curvature and coupling along one coordinate of its own
        A = [np.diag([1.0, 0.0]), np.diag([0.0, 1.0])]
        problem = flat_problem(A, C=0.5 * np.eye(2)[:, :, None], a=rng.standard_normal((2, 2)))
    delta, rho = problem.constants.delta, problem.constants.rho
    assert math.isfinite(delta.value)
    for scale in (0.01, 1.0, 1e4):
        found, gradient = diversity(problem, *points(problem, 500, scale))
        assert bool((found <= (delta.value**2 + rho.value**2 * gradient) * (1 + 1e-9) + 1e-18).all())
    if kind == "common minimiser":
        assert delta.value == 0.0
        assert rho.value > 0


@pytest.mark.parametrize("kind", ["coupled", "opposite curvature"])
def test_an_unbounded_diversity_is_said(kind: str) -> None:
    """A direction that leaves ∇_uF and moves the clients' gradients: δ = ∞, also for weak couplings."""
    if kind == "coupled":
        problem = scalars([1.0, 1.0], [1e-12, 1e-12], [0.0, 0.0], [0.0, 0.0])
    else:
        problem = flat_problem([np.diag([1.0, 1.0]), np.diag([1.0, -1.0])])
    assert problem.constants.delta.value == math.inf
    assert problem.constants.delta.grade == "exact"
    assert "a posteriori" in problem.constants.delta.note


# ---- full personalization -----------------------------------------------------------------------------------


def test_constants_of_full_personalization() -> None:
    lam = 0.7
    base = build_problem({"family": "quadratic", "n": 3, "d_u": 0, "d_v": 2, "L_v": 2.0})
    problem = FullPersonalization(base=base, lam=lam)
    c = problem.constants
    assert [float(x) for x in (c.L_u, c.L_uv, c.L_vu)] == [lam] * 3
    assert c.L_v.value == pytest.approx(2.7, rel=1e-12)
    assert c.chi == pytest.approx(math.sqrt(lam / 2.7), rel=1e-12)
    assert c.delta.value == math.inf
    found, _ = diversity(problem, *points(problem, 50, 2.0))
    _, v = points(problem, 50, 2.0)
    torch.testing.assert_close(found, lam**2 * v.var(1, correction=0).sum(-1), rtol=1e-12, atol=0)
    alone = FullPersonalization(base=build_problem({"family": "quadratic", "n": 1, "d_u": 0, "d_v": 2}), lam=lam)
    assert alone.constants.delta.value == 0.0


def test_F_star_of_full_personalization_by_a_plain_search() -> None:
    """Over trigonometric losses: a grid over u, and for each client a grid over v."""
    s = np.array([[0.3], [-1.2], [2.5]])
    base = Trigonometric(a=[], b=[1.4], kappa=[], h=np.zeros((3, 0)), s=s)
    problem = FullPersonalization(base=base, lam=0.6)
    u, v = np.linspace(-np.pi, np.pi, 2001), np.linspace(-9, 9, 9001)
    losses = [(1.4 * (1 - np.cos(v - x)) + 0.3 * (v - u[:, None]) ** 2).min(1) for (x,) in s]
    F_star = problem.constants.F_star
    assert F_star.grade == "exact"
    assert 0 <= np.mean(losses, axis=0).min() - F_star.value < 1e-5
    point = problem.minimiser()
    assert point is not None
    assert float(problem.objective(*point)) == pytest.approx(F_star.value, abs=1e-11)


def test_over_residuals_only_a_lower_bound_is_known() -> None:
    base = build_problem({"family": "residuals", "n": 2, "d_u": 0, "d_v": 2})
    problem = FullPersonalization(base=base, lam=1.0)
    assert (problem.constants.F_star.value, problem.constants.F_star.grade) == (0.0, "upper")
    assert problem.constants.L_v.grade == "upper"
    assert problem.minimiser() is None


@pytest.mark.parametrize("missing", ["u", "v"])
def test_arrays_may_leave_a_block_out(missing: str) -> None:
    table = {
        "A": [[[1.0]], [[2.0]]],
        "B": [[[1.0]], [[3.0]]],
        "C": [[[0.5]], [[0.5]]],
        "a": [[1.0], [0.0]],
        "b": [[1.0], [2.0]],
    }
    gone = {"u": ("A", "a"), "v": ("B", "b")}[missing]
    table |= {key: [[], []] for key in gone} | {"C": [[], []] if missing == "u" else [[[]], [[]]]}
    problem = build_problem({"family": "quadratic_arrays", **table})
    assert (problem.d_u, problem.d_v) == ((0, 1) if missing == "u" else (1, 0))
    assert problem.constants.L_u.value == (0.0 if missing == "u" else 2.0)
    assert problem.constants.F_star.value == pytest.approx(-(0.5 + 4 / 6) / 2 if missing == "u" else -1 / 4 / 1.5 / 2)
