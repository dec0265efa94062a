"""Sharp instances: quadratics on which Theorem FA (FedAlt) or FS (FedSim) comes closest to equality.

Each kind has a builder, a start and a closed-form tightness (left-hand side divided by bound) at τ = 1 and
γ_u = η/L_u, γ_v = η/L_v; all of them are derived here. With them a bound that is too small by a constant
(``ΔF₀`` for ``2ΔF₀``, half of S₁, no cδ²) is seen to be violated.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.errors import InputError
from fedconv.problems.split.quadratic import Quadratic

Kind = Literal["descent", "personal", "noise", "sampling", "coupled"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_TAKES: dict[str, tuple[str, ...]] = {
    "descent": (),
    "personal": ("n",),
    "noise": ("n",),
    "sampling": ("n", "delta"),
    "coupled": ("n", "chi", "L_v"),
}


def sharp(
    *,
    kind: str,
    L: float = 1.0,
    n: int | None = None,
    delta: float | None = None,
    chi: float | None = None,
    L_v: float | None = None,
) -> Quadratic:
    """The sharp instance of the given kind; see the builder of the same name for its formula and tightness.

    ``L``: the smoothness of the only block, or L_u of ``coupled``. Kinds take further: ``personal`` and
    ``noise`` n (default 1), ``sampling`` n (default 2) and delta (default 1), ``coupled`` n (default 1),
    chi (default 0.5) and L_v (default L). Raises InputError for an unknown kind, for an argument that the
    kind does not take and for values outside the builder's range.
    """
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    given = {"n": n, "delta": delta, "chi": chi, "L_v": L_v}
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in chosen:
        if name not in _TAKES[kind]:
            allowed = ", ".join(("L", *_TAKES[kind]))
            raise InputError(f"sharp kind {kind!r} takes {allowed} only; got {name}={chosen[name]}")
    builders = {"descent": descent, "personal": personal, "noise": noise, "sampling": sampling, "coupled": coupled}
    return builders[kind](L=L, **chosen)


def descent(*, L: float = 1.0) -> Quadratic:
    """F(u) = ½Lu², one client, one coordinate, no v: the descent term 2ΔF₀/(ηT) alone.

    FedAlt or FedSim from any u ≠ 0 without noise, T rounds: tightness (1 − (1−η)^{2T})/(2 − η), which is
    1 at η = 1 for every T, and at η → 0 tends to 0 for fixed T. Raises InputError unless L > 0.
    """
    _positive("L", L)
    return _quadratic(np.full((1, 1, 1), L), np.zeros((1, 0, 0)))


def personal(*, L: float = 1.0, n: int = 1) -> Quadratic:
    """F_i(v) = ½Lv², no u: the weight p = m/n of the personal part.

    FedAlt or FedSim with m of n clients from any V ≠ 0 without noise: each v_i is multiplied by 1−η with
    probability p, so with q = 1 − pη(2−η) the tightness is (1 − q^T)/(2 − η); at η = 1 it is
    1 − (1−p)^T → 1 as T → ∞ (and 1 at once for m = n). Raises InputError unless L > 0 and n ≥ 1.
    """
    _positive("L", L)
    _count("n", n, 1)
    return _quadratic(np.zeros((n, 0, 0)), np.full((n, 1, 1), L))


def noise(*, L: float = 1.0, n: int = 1) -> Quadratic:
    """F_i(u) = ½Lu², no v: the term ησ_u²/(mL).

    FedAlt or FedSim from the optimum with noise σ_u > 0 of any law: E u_t² = (ησ_u²/(mL²)) (1 − (1−η)^{2t})/(2−η),
    hence tightness [1 − (1/T)(1 − (1−η)^{2T})/(η(2−η))]/(2 − η) for every cohort size m, → 1/(2 − η) as
    T → ∞, and (T−1)/T at η = 1. Raises InputError unless L > 0 and n ≥ 1.
    """
    _positive("L", L)
    _count("n", n, 1)
    return _quadratic(np.full((n, 1, 1), L), np.zeros((n, 0, 0)))


def sampling(*, L: float = 1.0, n: int = 2, delta: float = 1.0) -> Quadratic:
    """F_i(u) = ½Lu² − s_iu, no v, with s equally spaced, mean 0 and (1/n) Σ s_i² = δ²: the term ηcδ²/L.

    Up to constants the F_i are ½L(u − s_i/L)². The diversity is δ² everywhere (ρ = 0). FedAlt or FedSim with
    m < n clients from the optimum u = 0 without noise: the server adds (η/L) times a mean of m of the s_i,
    of variance cδ² with c = (n−m)/(m(n−1)); the tightness is that of :func:`noise`.
    Raises InputError unless L > 0, n ≥ 2 and δ > 0.
    """
    _positive("L", L)
    _count("n", n, 2)
    _positive("delta", delta)
    line = np.linspace(-1.0, 1.0, n)
    line -= line.mean()
    s = line * (delta / math.sqrt(float(np.square(line).mean())))
    return Quadratic(
        A=np.full((n, 1, 1), L), B=np.zeros((n, 0, 0)), C=np.zeros((n, 1, 0)), a=s[:, None], b=np.zeros((n, 0))
    )


def coupled(*, L: float = 1.0, n: int = 1, chi: float = 0.5, L_v: float | None = None) -> Quadratic:
    """F_i(u,v) = ½L_uu² + χ√(L_uL_v) uv + ½L_vv² with L_u = L: the χ terms of the step-size conditions and of S₁.

    One client (δ = 0), FedSim, α = χ and η = 1/(1+χ), the largest admissible step: Theorem FS is an equality
    from (u, v) ∝ (1/√L_u, 1/√L_v) without noise for every T; and from the optimum with fully dependent noise of
    σ_u²/L_u = σ_v²/L_v its tightness is (T−1)/T. For smaller steps, with x = η(1+χ), both are
    those of :func:`descent` and :func:`noise` at η = x: the start and the noise lie along the top
    eigenvector of the Hessian in √L_u u, √L_v v, of eigenvalue 1+χ.

    n clients, m of them sampled, all equal: δ = ∞ (the diversity grows with the distances of the v_i), so theorems
    apply a posteriori; one round of FedAlt from equal v_i meets no diversity, see :func:`fedalt_round`.
    Raises InputError unless L > 0, L_v > 0, n ≥ 1 and 0 < χ ≤ 1 (F is bounded below for χ ≤ 1 only).
    """
    L_v = L if L_v is None else L_v
    _positive("L", L)
    _positive("L_v", L_v)
    _count("n", n, 1)
    _positive("chi", chi)
    if chi > 1:
        raise InputError(f"chi must be at most 1, as F is unbounded below beyond it; got {chi}")
    cross = chi * math.sqrt(L * L_v)
    return _quadratic(np.full((n, 1, 1), L), np.full((n, 1, 1), L_v), np.full((n, 1, 1), cross))


def start(kind: str, problem: Quadratic, *, noisy: bool = False) -> tuple[Tensor, Tensor]:
    """Where the run of a sharp instance begins: u ``(d_u,)`` and V ``(n, d_v)``.

    The optimum (the origin) for ``noise`` and ``sampling``, and for ``coupled`` with ``noisy``; otherwise
    the point with √L_u u = √L_v v_i = 1. Raises InputError for an unknown kind.
    """
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    u = torch.zeros(problem.d_u, dtype=torch.float64)
    v = torch.zeros((problem.n, problem.d_v), dtype=torch.float64)
    if kind in ("noise", "sampling") or noisy:
        return u, v
    constants = problem.constants
    if problem.d_u:
        u = u + constants.L_u.value**-0.5
    if problem.d_v:
        v = v + constants.L_v.value**-0.5
    return u, v


def descent_tightness(*, eta: float, T: int) -> float:
    """(1 − (1−η)^{2T})/(2 − η): :func:`descent`; :func:`coupled` under FedSim with η(1+χ) in place of η."""
    return (1.0 - (1.0 - eta) ** (2 * T)) / (2.0 - eta)


def personal_tightness(*, eta: float, T: int, p: float) -> float:
    """(1 − q^T)/(2 − η) with q = 1 − pη(2−η): :func:`personal`."""
    return (1.0 - (1.0 - p * eta * (2.0 - eta)) ** T) / (2.0 - eta)


def stationary_tightness(*, eta: float, T: int) -> float:
    """[1 − (1/T)(1 − (1−η)^{2T})/(η(2−η))]/(2 − η): :func:`noise` and :func:`sampling`; :func:`coupled` under
    FedSim with fully dependent noise and η(1+χ) in place of η."""
    return (1.0 - descent_tightness(eta=eta, T=T) / (eta * T)) / (2.0 - eta)


def fedalt_round(*, p: float, chi: float) -> tuple[float, float, tuple[float, float]]:
    """One noiseless round of FedAlt on :func:`coupled` from equal v_i, at the largest admissible step:
    (η, tightness, (√L_u u, √L_v v)), the start being the one of greatest tightness.

    With α = χ(1−p)/√p, Theorem FA admits η = 1/(1+α). In q = √(1−χ²) √L_u u and y = √L_v v + χ√L_u u the gap is
    ½(q² + y²), √L_u ∇_uF at the virtual point is √(1−χ²) q + χ(1−η) y and ∇_vF is √L_v y, so that the
    tightness is η times the larger eigenvalue of M = w wᵀ + p e eᵀ with w = (√(1−χ²), χ(1−η)), e = (0, 1).
    At p = 1 that is 1 (personal descent alone). Raises InputError unless 0 < p ≤ 1 and 0 < χ < 1.
    """
    if not 0 < p <= 1:
        raise InputError(f"p must lie in (0, 1]; got {p}")
    if not 0 < chi < 1:
        raise InputError(f"chi must lie in (0, 1); got {chi}")
    eta = 1.0 / (1.0 + chi * (1.0 - p) / math.sqrt(p))
    root = math.sqrt(1.0 - chi**2)
    w = np.array([root, chi * (1.0 - eta)])
    values, vectors = np.linalg.eigh(np.outer(w, w) + np.diag([0.0, p]))
    q, y = vectors[:, -1]
    u = q / root
    return eta, float(eta * values[-1]), (float(u), float(y - chi * u))


def _quadratic(A: np.ndarray, B: np.ndarray, C: np.ndarray | None = None) -> Quadratic:
    n, d_u, d_v = A.shape[0], A.shape[1], B.shape[1]
    cross = np.zeros((n, d_u, d_v)) if C is None else C
    return Quadratic(A=A, B=B, C=cross, a=np.zeros((n, d_u)), b=np.zeros((n, d_v)))


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} must be a finite number > 0; got {value}")


def _count(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{name} must be at least {least}; got {value}")
