"""Least squares with personal parts: Theorems 1(d) and 2 of the page on FFGG, their false versions, the dials."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from fedconv.problems.envelopes.gap_dials import overpersonalized, personal_spread
from fedconv.problems.envelopes.least_squares import LeastSquares, build_random
from fedconv.problems.errors import InputError
from fedconv.problems.registry import build_problem


@st.composite
def problems(draw: st.DrawFn, personal: bool = False) -> LeastSquares:
    """Small problems with integer or normal entries, repeated rows and clients, B_m of any rank (each its own)."""
    n, d_u = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    rows, d_v = draw(st.integers(1, 4)), draw(st.integers(1 if personal else 0, 3))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    whole = draw(st.booleans())
    A, c = rng.standard_normal((n, rows, d_u)), rng.standard_normal((n, rows))
    if whole:
        A, c = rng.integers(-2, 3, A.shape).astype(float), rng.integers(-2, 3, c.shape).astype(float)
    B = np.zeros((n, rows, d_v))
    for i in range(n):
        rank = draw(st.integers(0, min(rows, d_v)))
        left, right = rng.standard_normal((rows, rank)), rng.standard_normal((rank, d_v))
        B[i] = left @ right if not whole else rng.integers(-1, 2, (rows, rank)) @ rng.integers(-1, 2, (rank, d_v))
    if n > 1 and draw(st.booleans()):
        A[1], c[1], B[1] = A[0], c[0], B[0]
    scale = draw(st.sampled_from([1.0, 1e-4, 1e3]))
    return LeastSquares(A=scale * A, B=B, c=c)


def arrays(problem: LeastSquares) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return problem.A.numpy(), problem.B.numpy(), problem.c.numpy()


def separate_infima(problem: LeastSquares) -> tuple[float, np.ndarray]:
    """(F★, inf f_m) by plain least squares in (w, θ_1..θ_n) and in each (w, θ_m), without any projector."""
    A, B, c = arrays(problem)
    n, rows, d_u = A.shape
    d_v = B.shape[2]
    system = np.zeros((n * rows, d_u + n * d_v))
    system[:, :d_u] = A.reshape(n * rows, d_u)
    for i in range(n):
        system[i * rows : (i + 1) * rows, d_u + i * d_v : d_u + (i + 1) * d_v] = B[i]

    def least(matrix: np.ndarray, target: np.ndarray) -> float:
        size = np.linalg.norm(matrix, axis=0)
        matrix = matrix / np.where(size > 0, size, 1.0)  # columns in units of their own
        return 0.5 * float(((matrix @ np.linalg.lstsq(matrix, target, rcond=1e-11)[0] - target) ** 2).sum())

    return least(system, c.reshape(-1)) / n, np.array([least(np.hstack([A[i], B[i]]), c[i]) for i in range(n)])


# ---- Theorem 1(d) --------------------------------------------------------------------------------------------------


@given(problems())
def test_theorem_1d_closed_forms(problem: LeastSquares) -> None:
    A, B, c = arrays(problem)
    P = np.eye(A.shape[1]) - B @ np.linalg.pinv(B, rcond=1e-10)
    H = A.swapaxes(1, 2) @ P @ A
    e = problem.envelope_constants
    size = np.linalg.norm(A, 2, axis=(1, 2)) ** 2
    np.testing.assert_allclose(e.L_m, np.linalg.eigvalsh(H)[:, -1], rtol=1e-9, atol=1e-11 * size.max())
    assert (e.L_m <= size * (1 + 1e-12)).all()
    values = np.linalg.eigvalsh(H.mean(0))
    assert e.L.value == pytest.approx(values[-1], rel=1e-9, abs=1e-11 * size.max())
    if e.mu.value > 0:
        assert np.abs(values / e.mu.value - 1).min() <= 1e-6
        assert (values[values > 1e-9 * values[-1]] >= e.mu.value * (1 - 1e-6)).all()
    assert e.L.value <= e.L_m.mean() * (1 + 1e-12) + 1e-300
    u = torch.from_numpy(np.random.default_rng(0).standard_normal((3, problem.n, problem.d_u)))
    r = (P @ ((A @ u.numpy()[..., None])[..., 0] - c)[..., None])[..., 0]
    scale = 1 + np.abs(A).max() ** 2 + np.abs(c).max() ** 2
    got = problem.envelope(u, problem.everyone()).numpy()
    np.testing.assert_allclose(got, 0.5 * (r**2).sum(-1), rtol=0, atol=1e-10 * scale)
    wanted = (A.swapaxes(1, 2) @ r[..., None])[..., 0]
    got = problem.envelope_grad(u, problem.everyone()).numpy()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-10 * scale)


def test_the_projector_by_normal_equations_is_caught() -> None:
    """(BᵀB)⁻¹ does not exist for a rank-deficient B; the inverse of its rounding gives another P."""
    problem = build_random(n=3, d_u=3, d_v=3, rows=5, rank=2, seed=5)  # for other seeds LAPACK itself refuses
    A, B, c = arrays(problem)
    false_P = np.eye(5) - B @ np.linalg.inv(B.swapaxes(1, 2) @ B) @ B.swapaxes(1, 2)
    u = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 3)))
    r = (false_P @ ((A @ u.numpy()[..., None])[..., 0] - c)[..., None])[..., 0]
    false = 0.5 * (r**2).sum(-1)
    right = problem.envelope(u, problem.everyone()).numpy()
    assert np.abs(false / right - 1).max() > 0.1
    theta = problem.fine_tune(u, problem.everyone())
    np.testing.assert_allclose(problem.value(u, theta, problem.everyone()).numpy(), right, rtol=1e-12)


# ---- Theorem 2 -------------------------------------------------------------------------------------------------------


@given(problems())
def test_theorem_2_gap_by_both_formulas_and_by_separate_solvers(problem: LeastSquares) -> None:
    e, of = problem.envelope_constants, problem.projected
    F_star, inf_m = separate_infima(problem)
    scale = float((problem.c**2).sum())
    np.testing.assert_allclose(e.inf_m, inf_m, rtol=0, atol=1e-10 * scale)
    assert e.F_star.value == pytest.approx(F_star, abs=1e-10 * scale)
    assert of.gap_projection == pytest.approx(F_star - inf_m.mean(), abs=1e-10 * scale)
    assert of.gap_distance == pytest.approx(of.gap_projection, rel=1e-7, abs=1e-11 * scale)
    assert e.G.value >= 0
    # (a): G = 0 iff the minimiser of F minimises every F_m
    w = problem.minimiser()[0]
    excess = problem.envelope(w.expand(problem.n, -1), problem.everyone()).numpy() - e.inf_m
    assert e.overpersonalized == (e.G.value == 0) == bool((excess <= 1e-12 * scale).all())
    # (d)
    g = problem.envelope_grad(w.expand(problem.n, -1), problem.everyone())
    assert float(g.square().sum(-1).mean()) == pytest.approx(
        e.zeta_sq.value, rel=1e-6, abs=1e-11 * scale * e.L_max.value
    )
    assert e.zeta_sq.value <= 2 * e.L_max.value * e.G.value * (1 + 1e-9)
    weakest = [np.linalg.svd(R, compute_uv=False) for R in of.R]
    mu_0 = min((float(s[s > 1e-9 * s[0]].min()) ** 2 for s in weakest if s[0] > 0), default=0.0)
    assert e.zeta_sq.value >= 2 * mu_0 * e.G.value * (1 - 1e-9)


@given(problems(), st.integers(0, 10**6))
def test_theorem_2c_consistent_data(problem: LeastSquares, seed: int) -> None:
    rng = np.random.default_rng([seed, 1])
    A, B, _ = arrays(problem)
    w, theta = rng.standard_normal(problem.d_u), rng.standard_normal((problem.n, problem.d_v, 1))
    e = LeastSquares(A=A, B=B, c=A @ w + (B @ theta)[..., 0]).envelope_constants
    assert e.overpersonalized
    assert e.G.value == 0
    assert e.F_star.value <= 1e-18 * (1 + np.abs(A).max() ** 2)
    assert e.zeta_sq.value == 0


@given(problems(), st.integers(0, 10**6))
def test_theorem_2c_every_target_iff_the_ranks_add_up(problem: LeastSquares, seed: int) -> None:
    A, B, _ = arrays(problem)
    of = problem.projected
    stacked = int((np.linalg.svd(of.R.reshape(-1, problem.d_u), compute_uv=False) > 1e-10 * np.abs(A).max()).sum())
    c = np.random.default_rng([seed, 1]).standard_normal(problem.c.shape)  # not the numbers of A
    got = LeastSquares(A=A, B=B, c=c).envelope_constants.overpersonalized
    assert got == (stacked == of.rank_R.sum())  # generic targets miss the smaller space with probability 1


@given(problems(personal=True))
def test_vacuous_problems_are_flagged(problem: LeastSquares) -> None:
    e, of = problem.envelope_constants, problem.projected
    assert e.vacuous == (not of.rank_R.any())
    if (of.rank_B == problem.c.shape[1]).all():
        assert e.vacuous
    if e.vacuous:
        values = [c.value for c in (e.L, e.L_max, e.mu, e.L_F, e.G, e.zeta_sq, e.B_sq)]
        assert values == [0.0] * 7
        u = torch.from_numpy(np.random.default_rng(0).standard_normal((problem.n, problem.d_u)))
        assert not problem.envelope_grad(u, problem.everyone()).any()
    assume(not e.vacuous)
    assert e.L.value > 0 < e.mu.value


def test_a_relative_rank_tolerance_would_see_full_rank_in_rounding() -> None:
    """range(A_m) ⊂ range(B_m) with rank B_m < rows: P_mA_m = 0, but its computed value is noise of full rank."""
    rng = np.random.default_rng(1)
    B = rng.standard_normal((3, 6, 3))
    A = B @ rng.standard_normal((3, 3, 2))
    c = rng.standard_normal((3, 6))
    noise = A - B @ (np.linalg.pinv(B) @ A)
    assert noise.any()
    assert np.linalg.matrix_rank(noise).max() > 0  # what the usual relative tolerance decides
    e = LeastSquares(A=A, B=B, c=c).envelope_constants
    assert e.vacuous
    assert e.overpersonalized
    assert e.F_star.value > 0.1


def test_q_replaced_by_P_c_is_caught() -> None:
    """Identical clients with rows > d + p: G = 0, while ½‖(I − Π)Pc‖²/n is F★ > 0."""
    one = build_random(n=1, d_u=2, d_v=1, rows=6, seed=4)
    A, B, c = (np.repeat(x, 3, axis=0) for x in arrays(one))
    problem = LeastSquares(A=A, B=B, c=c)
    of = problem.projected
    stack = of.R.reshape(-1, 2)
    Pc = of.p.reshape(-1)
    false = 0.5 * float(((Pc - stack @ np.linalg.lstsq(stack, Pc, rcond=None)[0]) ** 2).sum()) / 3
    assert problem.envelope_constants.G.value == 0
    assert problem.envelope_constants.overpersonalized
    assert false == pytest.approx(problem.envelope_constants.F_star.value, rel=1e-12)
    assert false > 0.1


def test_sum_of_ranks_at_most_d_does_not_suffice() -> None:
    """Two clients share one row and want different targets: Σ rank(P_mA_m) = 2 ≤ d = 3, yet G = 1/2."""
    row = [[1.0, 2.0, -2.0]]
    problem = LeastSquares(A=[row, row], B=np.zeros((2, 1, 1)), c=[[1.0], [-1.0]])
    assert problem.projected.rank_R.sum() == 2 <= problem.d_u
    assert problem.envelope_constants.G.value == pytest.approx(0.5, rel=1e-12)


@given(problems())
def test_theorem_7b_formula_of_B(problem: LeastSquares) -> None:
    """(1/n) Σ ‖a_m − ā‖² ≤ B²‖∇F‖², attained along the best direction (found by a generalised eigenproblem)."""
    e, R = problem.envelope_constants, problem.projected.R
    assume(not e.vacuous)
    assume(e.L.value / e.mu.value < 1e6)
    H = R.swapaxes(1, 2) @ R
    mean = H.mean(0)
    values, vectors = np.linalg.eigh(mean)
    basis = vectors[:, values > 0.5 * e.mu.value]
    top = np.einsum("ia,nij,njk,kb->ab", basis, H, H, basis) / problem.n
    root = np.linalg.inv(basis.T @ mean @ basis)
    best = float(np.linalg.eigvalsh(root @ top @ root)[-1]) - 1
    assert e.B_sq.value == pytest.approx(best, rel=1e-6, abs=1e-6)
    assert e.B_sq.value <= (e.L_max.value / e.mu.value - 1) * (1 + 1e-9) + 1e-9


# ---- instances of the page -------------------------------------------------------------------------------------------


def test_orthogonal_clients() -> None:
    problem = LeastSquares(A=np.eye(4)[:, None, :], B=np.zeros((4, 1, 0)), c=np.zeros((4, 1)))
    e = problem.envelope_constants
    assert (e.L_max.value, e.L.value, e.mu.value, e.G.value) == pytest.approx((1.0, 0.25, 0.25, 0.0), rel=1e-12)
    assert e.B_sq.value == pytest.approx(3.0, rel=1e-12)
    u = torch.tensor([[0.5, -1.0, 2.0, 3.0]], dtype=torch.float64).expand(4, 4)
    torch.testing.assert_close(problem.envelope(u, problem.everyone()), 0.5 * u[0].square())


def test_two_quadratics() -> None:
    a, b = 1.0, 0.1
    A = [[[math.sqrt(a)]], [[math.sqrt(b)]]]
    problem = LeastSquares(A=A, B=np.zeros((2, 1, 1)), c=[[math.sqrt(a)], [-math.sqrt(b)]])
    e, w = problem.envelope_constants, (a - b) / (a + b)
    assert float(problem.minimiser()[0]) == pytest.approx(w, rel=1e-12)
    assert e.G.value == pytest.approx((a * (w - 1) ** 2 + b * (w + 1) ** 2) / 4, rel=1e-12)
    assert e.zeta_sq.value == pytest.approx((a * (w - 1)) ** 2, rel=1e-12)
    assert not e.overpersonalized


def test_zero_clients_of_theorem_7b() -> None:
    """n − 2f clients with F_m = 0 and f with ½w²: B² = (n − 2f)/f among the n − f honest ones."""
    problem = LeastSquares(
        A=np.array([0.0, 0, 0, 0, 1, 1, 1])[:, None, None], B=np.zeros((7, 1, 0)), c=np.zeros((7, 1))
    )
    e = problem.envelope_constants
    assert e.overpersonalized
    assert e.B_sq.value == pytest.approx(4 / 3, rel=1e-12)


# ---- dials -----------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(1, 6),
    st.data(),
    st.integers(0, 10**6),
)
def test_dials_are_hit_exactly(n: int, d_u: int, d_v: int, rows: int, data: Any, seed: int) -> None:
    rank = data.draw(st.integers(0, min(d_v, rows - 1)))
    k = rows - rank
    variety = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    count = min(n * k if variety else k, d_u)
    room = n * min(k, d_u) > count
    G = data.draw(st.sampled_from([0.0, 1e-6, 0.3, 50.0])) if room else 0.0
    condition = data.draw(st.sampled_from([1.0, 3.0, 1e3])) if count > 1 else 1.0
    condition_v = data.draw(st.sampled_from([1.0, 10.0])) if rank > 1 else 1.0
    spread = data.draw(st.sampled_from([0.0, 0.2, 7.0])) if rank and n > 1 else 0.0
    L = data.draw(st.sampled_from([0.1, 1.0, 20.0]))
    dials = {"G": G, "L": L, "condition": condition, "spread": spread, "condition_v": condition_v, "variety": variety}
    problem = overpersonalized(n=n, d_u=d_u, d_v=d_v, rows=rows, rank=rank, L_v=2.0, seed=seed, **dials)
    e = problem.envelope_constants
    assert e.overpersonalized == (G == 0)
    assert (e.G.value == 0) == (G == 0)
    assert e.G.value == pytest.approx(G, rel=1e-9)
    assert e.L.value == pytest.approx(L, rel=1e-9)
    assert e.mu.value == pytest.approx(L / condition, rel=1e-9)
    assert (problem.projected.rank_B == rank).all()
    assert personal_spread(problem) == pytest.approx(spread, rel=1e-9, abs=1e-12 * math.sqrt(d_u + G))
    assert float(problem.minimiser()[0].norm()) == pytest.approx(1.0, rel=1e-9)
    if rank:
        assert e.L_theta.value == pytest.approx(2.0, rel=1e-9)
        assert e.mu_v.value == pytest.approx(2.0 / condition_v, rel=1e-9)
    assert not e.vacuous
    if variety == 0:
        np.testing.assert_allclose(e.L_m, L, rtol=1e-9)
        assert e.B_sq.value <= 1e-9
    F_star, inf_m = separate_infima(problem)
    assert F_star - inf_m.mean() == pytest.approx(G, rel=1e-6, abs=1e-12 * float((problem.c**2).sum()))


def test_one_dial_at_a_time() -> None:
    """G, spread and coupling leave the envelopes' Hessians; spread and coupling leave F altogether."""
    base = {"n": 4, "d_u": 3, "d_v": 3, "rows": 5, "rank": 2}
    plain = overpersonalized(**base)
    u = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 3)))
    for change in ({"spread": 4.0}, {"coupling": 3.0}, {"G": 0.5}):
        other = overpersonalized(**base | change)
        np.testing.assert_allclose(other.envelope_constants.L_m, plain.envelope_constants.L_m, rtol=1e-9)
        if "G" not in change:
            torch.testing.assert_close(other.mean_envelope(u), plain.mean_envelope(u), rtol=1e-9, atol=1e-12)
    B_sq = [overpersonalized(**base, variety=x).envelope_constants.B_sq.value for x in (0.0, 0.1, 1.0)]
    assert B_sq[0] < 1e-9 < B_sq[1] < B_sq[2]
    assert overpersonalized(**base, coupling=3.0).envelope_constants.L_uv.value == pytest.approx(3.0, rel=1e-9)
    assert overpersonalized(**base, coupling=0.0).envelope_constants.L_uv.value <= 1e-12


BAD: list[tuple[dict[str, Any], str]] = [
    ({"n": 2, "d_u": 4, "rows": 2, "G": 0.1, "rank": 0}, r"problem\.G must be 0 where .*; got 0\.1 with n=2 and 4 = 4"),
    ({"n": 2, "d_u": 1}, r"problem\.condition must be 1 where there is at most one positive eigenvalue; got 10\.0"),
    ({"n": 2, "d_u": 2, "condition": 0.5}, r"problem\.condition must lie in \[1, 1e10\]; got 0\.5"),
    ({"n": 2, "d_u": 2, "rank": 3}, r"problem\.rank must lie in 0\.\.2, .*; got 3"),
    ({"n": 2, "d_u": 2, "rank": 2, "rows": 2}, r"problem\.rank must lie in 0\.\.1, .*; got 2"),
    ({"n": 1, "d_u": 2}, r"problem\.spread must be 0 where B_m = 0 or n = 1; got 1\.0 with rank=2, n=1"),
    (
        {"n": 3, "d_u": 2, "rank": 1, "condition_v": 2.0},
        r"problem\.condition_v must be 1 where there is at most one positive ",
    ),
    ({"n": 3, "d_u": 2, "G": 1e-40}, r"problem\.G must be 0 or at least .*; got 1e-40"),
    ({"n": 3, "d_u": 2, "L": 1e-300}, r"problem\.L must lie in \[1e-100, 1e100\]; got 1e-300"),
    ({"n": 3, "d_u": 2, "variety": 1.5}, r"problem\.variety: expected a finite number >= 0 and <= 1; got 1\.5"),
    ({"n": 3, "d_u": 2, "G": -1.0}, r"problem\.G: expected a finite number >= 0; got -1\.0"),
]


@pytest.mark.parametrize(("table", "sentence"), BAD)
def test_impossible_dials_get_one_sentence(table: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match="^" + sentence) as error:
        build_problem({"family": "overpersonalized", "d_v": 2} | table)
    assert "\n" not in str(error.value)
