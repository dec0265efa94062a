"""Dials for least squares with a shared and a personal part: the gap G and what may differ while it stays, exactly.

The clients' rows are built in two groups of directions: ``rank`` of them, where B_m acts, and k = rows − rank others,
in which P_mA_m lives. The stacked P_mA_m get their singular values (L and the condition number), the targets get a
consistent part (one w°, one θ_m° per client) and a part that no shared w fits (the gap). Derived here from
Theorem 2(b) of the theory page on FFGG.
"""

from __future__ import annotations

import math

import numpy as np

from fedconv.problems.envelopes.least_squares import LeastSquares
from fedconv.problems.errors import InputError
from fedconv.problems.validation import Count, Fraction, NotNegative, Positive, Size

EXACTNESS = 1e-9
"""Relative error within which a built problem has the requested dials."""
RESOLVED = 1e-9
"""Least √(2nG) beside the norm of the targets that float64 tells from an overpersonalized problem."""


def overpersonalized(
    *,
    n: Count,
    d_u: Count,
    d_v: Size,
    rows: Count = 6,
    rank: Size | None = None,
    G: NotNegative = 0.0,
    L: Positive = 1.0,
    condition: Positive = 10.0,
    variety: Fraction = 1.0,
    spread: NotNegative = 1.0,
    distance: NotNegative = 1.0,
    coupling: NotNegative = 1.0,
    L_v: Positive = 1.0,
    condition_v: Positive = 1.0,
    seed: Size = 0,
) -> LeastSquares:
    """Random least squares with exactly these constants (to 1e-9, relatively).

    G: the personalization gap; 0 is overpersonalized. L and condition = L/mu: of F, the eigenvalues of H̄ between them
    in geometric progression. variety in [0, 1]: how much the clients' Hessians H_m differ, from not at all (B_sq = 0,
    L_max = L) to independent draws (B_sq need not grow evenly in between). rank: of every B_m (default
    min(d_v, rows − 1)); below rows, as rank = rows is vacuous. spread: √((1/n) Σ ‖θ_m★ − θ̄★‖²) at the shared
    minimiser, the heterogeneity that personal parts absorb at no change of F. distance: norm of the shared minimiser
    nearest to 0. coupling: ‖B_mB_m⁺A_m‖, what the personal part can undo of the shared one. L_v = ‖B_m‖² and
    condition_v = L_v/mu_v for every client. (coupling and L_v mean nothing at rank 0.)

    Raises InputError naming the dial where the request is impossible: G > 0 needs n·min(rows − rank, d_u) to exceed the
    rank of H̄, which is d_u or, if that is less, n·(rows − rank) (rows − rank where variety = 0); condition must be 1
    where that rank is 1, condition_v where rank is 0 or 1, spread 0 where rank = 0 or n = 1.
    """
    rank = min(d_v, rows - 1) if rank is None else rank
    _check(n, d_u, d_v, rows, rank, seed)
    k = rows - rank
    count = min(n * k if variety > 0 else k, d_u)  # positive eigenvalues of H̄
    if not 0 <= variety <= 1:
        raise InputError(f"variety must lie in [0, 1]; got {variety}")
    _check_dials(n, min(k, d_u), count, rank, G=G, condition=condition, spread=spread, condition_v=condition_v)
    for name, value in (("L", L), ("L_v", L_v)):
        if not 1e-100 <= value <= 1e100:
            raise InputError(f"{name} must lie in [1e-100, 1e100]; got {value}")
    for name, value in (("G", G), ("spread", spread), ("distance", distance), ("coupling", coupling)):
        if not (value == 0 or 1e-100 <= value <= 1e100):
            raise InputError(f"{name} must be 0 or lie in [1e-100, 1e100]; got {value}")
    directions, personal, shared, targets = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4))

    # P_mA_m in coordinates of its k directions, with the wanted singular values over all clients
    own_rows, (turn, _, back) = shared.standard_normal((n, k, d_u)), _svd(shared.standard_normal((k, d_u)))
    rows_drawn = math.sqrt(variety) * own_rows + math.sqrt((1 - variety) * max(k, d_u)) * (turn @ back)
    left, _, right = _svd(rows_drawn.reshape(n * k, d_u))
    left, right = left[:, :count], right[:count]
    R = ((left * np.sqrt(n * L * _progression(condition, count))) @ right).reshape(n, k, d_u)
    w = right.T @ _unit(shared.standard_normal(count)) * distance
    missed = _missed(targets, R, left, n, G)

    # B_m = (its directions) · (singular values) · (rows of an orthogonal matrix), θ_m° in its row space
    inner = math.sqrt(L_v) * np.sqrt(_progression(condition_v, rank))
    own = np.linalg.qr(personal.standard_normal((n, d_v, max(rank, 1))))[0][..., :rank]
    theta = _heads(personal, own, spread)
    K = personal.standard_normal((n, rank, d_u))
    if rank:
        K *= (coupling / np.linalg.norm(K, 2, axis=(1, 2)))[:, None, None]
    basis = np.linalg.qr(directions.standard_normal((n, rows, rows)))[0]
    inside, outside = basis[..., :rank], basis[..., rank:]
    A = inside @ K + outside @ R
    B = (inside * inner) @ own.swapaxes(1, 2)
    c = A @ w + (B @ theta[..., None])[..., 0] + (outside @ missed[..., None])[..., 0]
    if G > 0 and math.sqrt(2 * n * G) < RESOLVED * float(np.linalg.norm(c)):
        least = (RESOLVED * float(np.linalg.norm(c))) ** 2 / (2 * n)
        raise InputError(
            f"G must be 0 or at least {least:.3g}, for float64 to tell it from 0 beside the targets; got {G}"
        )
    problem = LeastSquares(A=A, B=B, c=c)
    _confirm(problem, G=G, L=L, condition=condition, spread=spread, distance=distance)
    return problem


def personal_spread(problem: LeastSquares) -> float:
    """√((1/n) Σ ‖θ_m★ − θ̄★‖²), the θ_m★ of least norm at the shared minimiser of least norm."""
    theta = problem.minimiser()[1].cpu().numpy()
    return math.sqrt(float(((theta - theta.mean(0)) ** 2).sum(1).mean()))


def _progression(condition: float, count: int) -> np.ndarray:
    """``count`` numbers from 1 down to 1/condition, in geometric progression."""
    return condition ** -np.linspace(0.0, 1.0, count) if count > 1 else np.ones(count)


def _svd(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.linalg.svd(matrix, full_matrices=False)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def _missed(rng: np.random.Generator, R: np.ndarray, left: np.ndarray, n: int, G: float) -> np.ndarray:
    """Targets ``(n, k)`` in the ranges of the R_m, orthogonal to that of their stack, of square norm 2nG."""
    k = R.shape[1]
    if G == 0:
        return np.zeros((n, k))
    z = (R @ rng.standard_normal((n, R.shape[2], 1)))[..., 0].reshape(n * k)
    for _ in range(2):
        z = z - left @ (left.T @ z)
    return (math.sqrt(2 * n * G) * _unit(z)).reshape(n, k)


def _heads(rng: np.random.Generator, own: np.ndarray, spread: float) -> np.ndarray:
    """θ° ``(n, d_v)`` in the row spaces of the B_m, with root mean square distance ``spread`` from their mean."""
    theta = (own @ rng.standard_normal((*own.shape[::2], 1)))[..., 0]
    if spread == 0:
        return np.zeros_like(theta)
    return theta * (spread / math.sqrt(float(((theta - theta.mean(0)) ** 2).sum(1).mean())))


def _check(n: int, d_u: int, d_v: int, rows: int, rank: int, seed: int) -> None:
    for name, value, least in (("n", n, 1), ("d_u", d_u, 1), ("d_v", d_v, 0), ("rows", rows, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"{name} must be an integer >= {least}; got {value}")
    most = min(d_v, rows - 1)
    if not 0 <= rank <= most:
        raise InputError(
            f"rank must lie in 0..{most}, at most d_v and below rows (rank = rows makes every F_m constant); got {rank}"
        )


def _check_dials(
    n: int, each: int, count: int, rank: int, *, G: float, condition: float, spread: float, condition_v: float
) -> None:
    if G > 0 and n * each == count:
        raise InputError(
            f"G must be 0 where n·min(rows - rank, d_u) is the rank of the mean Hessian, as one shared w then fits all "
            f"targets; got {G} with n={n} and {n * each} = {count}"
        )
    for name, value, positive in (("condition", condition, count), ("condition_v", condition_v, rank)):
        if not 1 <= value <= 1e10:
            raise InputError(f"{name} must lie in [1, 1e10]; got {value}")
        if value > 1 and positive <= 1:
            raise InputError(f"{name} must be 1 where there is at most one positive eigenvalue; got {value}")
    if spread > 0 and (rank == 0 or n == 1):
        raise InputError(f"spread must be 0 where B_m = 0 or n = 1; got {spread} with rank={rank}, n={n}")


def _confirm(problem: LeastSquares, **wanted: float) -> None:
    """An InputError where rounding keeps a dial from its value: dials of very different scales."""
    e = problem.envelope_constants
    got = {
        "G": e.G.value,
        "L": e.L.value,
        "condition": e.L.value / e.mu.value,
        "spread": personal_spread(problem),
        "distance": float(np.linalg.norm(problem.projected.w_star)),
    }
    for name, value in wanted.items():
        slack = EXACTNESS * (value if value else float(np.linalg.norm(problem.c.numpy())))
        if not abs(got[name] - value) <= slack:
            raise InputError(
                f"{name} = {value} cannot be met to a relative {EXACTNESS} in float64 beside the other dials; got "
                f"{got[name]}"
            )
