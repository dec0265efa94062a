"""Dials: a trigonometric problem with requested L_u, L_v, χ, δ and spread of the personal optima, exactly.

What is attainable, derived here from the constants of :class:`fedconv.problems.split.trigonometric.Trigonometric`. With
κ = χ√(L_uL_v) and w = 1 for even n, 1 − 1/n² for odd n (the largest variance of n signs):

- κ ≤ min(L_u, L_v), as √(a²+κ²) = L_u and √(b²+κ²+2bκ|sin s|) = L_v with a, b ≥ 0; and κ < L_v where
  the spread is positive, as b = 0 leaves the personal optimum of that coordinate free;
- δ ≥ κ√w, what one coupled coordinate forces: sin v_i = ±1 for half of the clients each; n = 1 forces δ = 0;
- spread ≤ (π/2)√(d_v w): the s_ik stay within a half circle, where their distances are those of the angles;
- no u or no v: χ = 0; no u: L_u = δ = 0; no v: L_v = spread = 0;
- any dial that is not 0 lies between 1e-100 and 1e100.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from fedconv.problems.errors import InputError
from fedconv.problems.split.trigonometric import Trigonometric

EXACTNESS = 1e-12
"""Relative error within which a built problem has the requested constants."""
SMALLEST, LARGEST = 1e-100, 1e100
"""Where a dial that is not 0 must lie: between them the squares of float64 numbers keep their digits."""


def trigonometric(
    *,
    n: int,
    d_u: int,
    d_v: int,
    L_u: float = 1.0,
    L_v: float = 1.0,
    chi: float = 0.5,
    delta: float = 1.0,
    spread: float = 1.0,
    seed: int = 0,
) -> Trigonometric:
    """The problem with n clients, dimensions d_u and d_v and exactly the requested constants (to 1e-12 relative).

    F_i(u,v) = Σ_k a_k(1−cos u_k) + ⟨h_i,u⟩ + Σ_k b_k(1−cos(v_k−s_ik)) + Σ_k κ_k sin u_k sin v_k, where
    ``spread`` is √((1/n) Σ_i ‖s_i − s̄‖²), s_i being client i's personal optimum at u = 0 (see
    :func:`personal_spread`). Every coordinate of u has the smoothness L_u and every one of v the smoothness L_v.
    The first coupled coordinate has κ_1 = χ√(L_uL_v); the others a common κ_k ≤ κ_1, equal to κ_1 unless δ is too
    small for that; δ beyond what the couplings make comes from the h_i. Directions come from ``seed``.

    Raises InputError naming the dial and its attainable range where the request is impossible.
    """
    _check_sizes(n, d_u, d_v, seed)
    _check_numbers(L_u=L_u, L_v=L_v, chi=chi, delta=delta, spread=spread)
    _check_block("L_u", L_u, d_u, "d_u")
    _check_block("L_v", L_v, d_v, "d_v")
    kappa_1 = _coupling(d_u, d_v, L_u, L_v, chi, spread)
    rng_h, rng_s = np.random.default_rng(seed).spawn(2)
    kappa = _couplings(n, d_u, d_v, kappa_1, delta)
    h = _shared_pull(rng_h, n, d_u, kappa, delta)
    s = _personal_optima(rng_s, n, d_v, spread)
    a = np.sqrt((L_u - _pad(kappa, d_u)) * (L_u + _pad(kappa, d_u)))
    b = _personal_amplitude(L_v, _pad(kappa, d_v), s)
    problem = Trigonometric(a=a, b=b, kappa=kappa, h=h, s=s)
    constants = problem.constants
    built = {
        "L_u": (constants.L_u.value, L_u),
        "L_v": (constants.L_v.value, L_v),
        "chi": (constants.chi, chi),
        "delta": (constants.delta.value, delta),
        "spread": (personal_spread(problem), spread),
    }
    for name, (got, wanted) in built.items():
        if not abs(got - wanted) <= EXACTNESS * wanted:
            raise InputError(
                f"{name} = {wanted} cannot be met to a relative {EXACTNESS} in float64 beside the other "
                f"dials; got {got}"
            )
    return problem


def personal_spread(problem: Trigonometric) -> float:
    """√((1/n) Σ_i ‖s_i − s̄‖²): how far apart the clients' personal optima at u = 0 lie (root mean square)."""
    s = problem.s.cpu().numpy()
    return math.sqrt(float(np.square(s - s.mean(0)).sum(1).mean()))


def sign_variance(n: int) -> float:
    """The largest variance of n numbers ±1: 1 for even n, 1 − 1/n² for odd n (0 for one client)."""
    return 1.0 if n % 2 == 0 else 1.0 - 1.0 / n**2


def chi_range(*, L_u: float, L_v: float) -> tuple[float, float]:
    """The attainable χ: from 0 to min(√(L_u/L_v), √(L_v/L_u)) (both blocks present, L_u, L_v > 0)."""
    return 0.0, math.sqrt(min(L_u, L_v) / max(L_u, L_v))


def delta_range(*, n: int, L_u: float, L_v: float, chi: float) -> tuple[float, float]:
    """The attainable δ: from χ√(L_uL_v w) to ∞, and 0 alone for one client (both blocks present)."""
    if n == 1:
        return 0.0, 0.0
    return chi * math.sqrt(L_u) * math.sqrt(L_v) * math.sqrt(sign_variance(n)), math.inf


def spread_range(*, n: int, d_v: int) -> tuple[float, float]:
    """The attainable spread: from 0 to (π/2)√(d_v w)."""
    return 0.0, 0.5 * math.pi * math.sqrt(d_v * sign_variance(n))


def _check_sizes(n: int, d_u: int, d_v: int, seed: int) -> None:
    for name, value, least in (("n", n, 1), ("d_u", d_u, 0), ("d_v", d_v, 0), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"{name} must be an integer >= {least}; got {value}")
    if d_u + d_v == 0:
        raise InputError("d_u and d_v must not both be 0; got d_u=0, d_v=0")


def _check_numbers(**dials: float) -> None:
    for name, value in dials.items():
        if not (value == 0 or SMALLEST <= value <= LARGEST):
            raise InputError(f"{name} must be 0 or lie in [{SMALLEST}, {LARGEST}]; got {value}")


def _check_block(name: str, value: float, d: int, dimension: str) -> None:
    if (d == 0) != (value == 0):
        expected = "be 0" if d == 0 else "exceed 0"
        raise InputError(f"{name} must {expected} where {dimension} = {d}; got {value}")


def _coupling(d_u: int, d_v: int, L_u: float, L_v: float, chi: float, spread: float) -> float:
    """κ_1 = χ√(L_uL_v), or the sentence that says why χ is impossible."""
    if chi == 0:
        return 0.0
    if min(d_u, d_v) == 0:
        raise InputError(f"chi must be 0 where d_u = 0 or d_v = 0; got {chi} with d_u={d_u}, d_v={d_v}")
    top = chi_range(L_u=L_u, L_v=L_v)[1]
    if chi > top * (1 + EXACTNESS):
        raise InputError(
            f"chi must lie in [0, {top!r}], as chi·sqrt(L_u·L_v) is at most L_u and L_v; got {chi} with "
            f"L_u={L_u}, L_v={L_v}"
        )
    kappa = min(chi * math.sqrt(L_u) * math.sqrt(L_v), L_u, L_v)
    if spread > 0 and kappa >= L_v * (1 - EXACTNESS):
        raise InputError(
            f"chi must lie in [0, {top!r}) where spread > 0, as chi·sqrt(L_u·L_v) = L_v leaves personal optima "
            f"free; got {chi} with L_u={L_u}, L_v={L_v}, spread={spread}"
        )
    return kappa


def _couplings(n: int, d_u: int, d_v: int, kappa_1: float, delta: float) -> np.ndarray:
    """κ ``(min(d_u, d_v),)``: κ_1, then a common value as near to κ_1 as Σ_k κ_k² w ≤ δ² lets it be."""
    if delta > 0 and (d_u == 0 or n == 1):
        raise InputError(f"delta must be 0 where d_u = 0 or n = 1; got {delta} with n={n}, d_u={d_u}")
    least = kappa_1 * math.sqrt(sign_variance(n))
    if delta < least * (1 - EXACTNESS):
        raise InputError(
            f"delta must lie in [{least!r}, inf), as chi·sqrt(L_u·L_v) = {kappa_1} forces that much "
            f"diversity between {n} clients; got {delta}"
        )
    kappa = np.full(min(d_u, d_v), kappa_1)
    if kappa.size > 1 and least > 0:
        excess = (delta / least - 1.0) * (delta / least + 1.0)
        kappa[1:] *= math.sqrt(min(1.0, max(0.0, excess) / (kappa.size - 1)))
    return kappa


def _shared_pull(rng: np.random.Generator, n: int, d_u: int, kappa: np.ndarray, delta: float) -> np.ndarray:
    """h ``(n, d_u)`` with Σ_i h_i = 0 that completes the diversity to δ²: a random direction times the root of
    an increasing function."""
    direction = rng.standard_normal((n, d_u))
    direction -= direction.mean(0)
    coupled = float(np.square(kappa).sum()) * sign_variance(n)
    if delta == 0 or delta**2 <= coupled * (1 + 4 * np.finfo(float).eps):
        return np.zeros((n, d_u))
    direction *= delta / math.sqrt(float(np.square(direction).sum(1).mean()))  # at scale 1 alone it makes δ
    scaled = _pad(kappa, d_u) / delta
    scale = _root(lambda x: _diversity_sq(x * direction / delta, scaled) - 1.0, 0.0, 1.0)
    return scale * direction


def _diversity_sq(h: np.ndarray, kappa: np.ndarray) -> float:
    """Σ_k of the largest variance over i of h_ik + κ_k x_i, x ∈ {−1,1}ⁿ, for h ``(n, d)`` of mean 0 and κ ``(d,)``.

    The best x is 1 for the clients of largest h_ik: with j of them, of sum T_j, the variance is
    (1/n) Σ_i h_ik² + 4κ_kT_j/n + κ_k²(1 − (2j/n − 1)²).
    """
    n = h.shape[0]
    top = np.cumsum(np.sort(h, axis=0)[::-1], axis=0)
    balance = 1.0 - (2.0 * np.arange(1, n + 1) / n - 1.0) ** 2
    gain = (4.0 / n) * kappa * top + np.square(kappa) * balance[:, None]
    return float((np.square(h).mean(0) + np.maximum(gain.max(0), 0.0)).sum())


def _personal_optima(rng: np.random.Generator, n: int, d_v: int, spread: float) -> np.ndarray:
    """s ``(n, d_v)`` in [−π/2, π/2] with root mean square distance ``spread`` from its mean.

    z: half of the clients positive, half negative (one more for odd n), mean 0 and largest absolute value π/2;
    e = (π/2) sign z. Small spreads are λz; beyond them z + λ(e − z), whose variance grows with λ because
    E[ze] − E[z²] = E[|z|(π/2 − |z|)] ≥ 0 and it is convex.
    """
    top = spread_range(n=n, d_v=d_v)[1]
    if spread > top * (1 + EXACTNESS):
        raise InputError(
            f"spread must lie in [0, {top!r}], as the personal optima of n={n} clients in d_v={d_v} "
            f"coordinates stay within a half circle; got {spread}"
        )
    if spread == 0:
        return np.zeros((n, d_v))
    size = rng.uniform(0.2, 1.0, (n, d_v))
    positive = rng.permuted(np.tile(np.arange(n)[:, None] < n // 2, (1, d_v)), axis=0)
    z = np.where(positive, size / (size * positive).sum(0), -size / (size * ~positive).sum(0))
    z *= 0.5 * math.pi / np.abs(z).max(0)
    corner = 0.5 * math.pi * np.where(positive, 1.0, -1.0)
    inner = _total_deviation(z)
    if spread <= inner:
        return z * (spread / inner)
    if spread >= _total_deviation(corner):
        return corner
    scale = _root(lambda x: _total_deviation(z + x * (corner - z)) / spread - 1.0, 0.0, 1.0)
    return z + scale * (corner - z)


def _total_deviation(s: np.ndarray) -> float:
    return math.sqrt(float(np.square(s - s.mean(0)).sum(1).mean()))


def _personal_amplitude(L_v: float, kappa: np.ndarray, s: np.ndarray) -> np.ndarray:
    """b ``(d_v,)`` with b² + κ² + 2bκσ = L_v², σ_k = max_i |sin s_ik|: (L_v²−κ²)/(κσ + √(κ²σ² + L_v²−κ²))."""
    across = kappa * np.abs(np.sin(s)).max(0)
    rest = (L_v - kappa) * (L_v + kappa)
    below = across + np.sqrt(np.square(across) + rest)
    return np.divide(rest, below, out=np.zeros_like(rest), where=below > 0)


def _pad(kappa: np.ndarray, d: int) -> np.ndarray:
    """κ for d coordinates: 0 behind the coupled ones."""
    return np.concatenate([kappa, np.zeros(d - kappa.size)])


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """The root of an increasing function with function(low) ≤ 0 ≤ function(high) up to rounding."""
    if function(low) >= 0:
        return low
    if function(high) <= 0:
        return high
    root, _ = brentq(function, low, high, xtol=1e-300, rtol=4 * np.finfo(float).eps, full_output=True)
    return float(root)
