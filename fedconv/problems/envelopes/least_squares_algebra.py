"""Least squares after the personal part: projectors, ranks decided by absolute tolerances, the gap by two formulas.

For f_m = ½‖A_m w + B_m θ − c_m‖² with P_m = I − B_mB_m⁺: F_m(w) = ½‖P_m(A_m w − c_m)‖² (any rank of B_m). Source: the
theory page on FFGG, Theorems 1(d) and 2(b).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedconv.problems.envelopes.base import norms
from fedconv.problems.errors import InputError

ROUNDING = 1e-12
"""Singular values below this share of the scale they are measured by, times the larger dimension, count as zero."""
AMPLIFIED = 64 * np.finfo(float).eps
"""The same for a matrix that went through a computation of condition number κ: below AMPLIFIED·κ of the scale."""


@dataclass(frozen=True)
class Decomposition:
    """Thin singular value decompositions ``left @ diag(values) @ right`` with the columns, values and rows of what
    counts as zero set to zero; ``inverse`` holds 1/values there and 0 elsewhere."""

    left: np.ndarray
    values: np.ndarray
    right: np.ndarray
    inverse: np.ndarray

    @property
    def rank(self) -> np.ndarray:
        return (self.values > 0).sum(-1)

    @property
    def condition(self) -> np.ndarray:
        """Largest over least positive singular value; 1 where there is none."""
        return np.maximum(self.values.max(-1, initial=0.0) * self.inverse.max(-1, initial=0.0), 1.0)

    def pseudoinverse(self) -> np.ndarray:
        return (self.right.swapaxes(-1, -2) * self.inverse[..., None, :]) @ self.left.swapaxes(-1, -2)


def decompose(matrices: np.ndarray, tolerance: np.ndarray | float) -> Decomposition:
    """Of matrices ``(..., i, j)``, with singular values ≤ tolerance ``(...)`` counted as zero."""
    left, values, right = np.linalg.svd(matrices, full_matrices=False)
    kept = values > np.asarray(tolerance)[..., None]
    values = np.where(kept, values, 0.0)
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=kept)
    return Decomposition(left * kept[..., None, :], values, right * kept[..., :, None], inverse)


@dataclass(frozen=True)
class Projected:
    """F_m(w) = ½‖R_m w − p_m‖² with R = P_mA_m ``(n, rows, d_u)``, p = P_mc_m ``(n, rows)``, both in the same rows.

    pinv_B ``(n, d_v, rows)``: B_m⁺. kernel_B ``(n, d_v, d_v)``: projector on ker B_m. rank_B, rank_R ``(n,)``.
    mu_v: least positive eigenvalue of the B_mᵀB_m; 0 where all vanish. L_m ``(n,)`` = ‖R_m‖². L, mu: largest and least
    positive eigenvalue of H̄ = (1/n) Σ R_mᵀR_m (0 where it vanishes). w_star ``(d_u,)``: the minimiser of least norm.
    kernel ``(d_u, d_u)``: projector on ker H̄. inf_m ``(n,)``: inf F_m. gap_projection, gap_distance: G by
    (1/2n)‖(I − Π)q‖² and by (1/2n) Σ (w★−w_m)ᵀH_m(w★−w_m); overpersonalized: the first is 0 to rounding.
    zeta_sq = (1/n) Σ ‖∇F_m(w★)‖². B_sq = λ_max(H̄⁺((1/n) Σ H_m²)H̄⁺) − 1.
    """

    R: np.ndarray
    p: np.ndarray
    pinv_B: np.ndarray
    kernel_B: np.ndarray
    rank_B: np.ndarray
    rank_R: np.ndarray
    mu_v: float
    L_m: np.ndarray
    L: float
    mu: float
    w_star: np.ndarray
    kernel: np.ndarray
    inf_m: np.ndarray
    gap_projection: float
    gap_distance: float
    zeta_sq: float
    B_sq: float
    overpersonalized: bool


def project(A: np.ndarray, B: np.ndarray, c: np.ndarray) -> Projected:
    """Everything about F for A ``(n, rows, d_u)``, B ``(n, rows, d_v)``, c ``(n, rows)``.

    Ranks: of B_m relative to ‖B_m‖; of P_mA_m by an absolute tolerance, a share of ‖A_m‖ (a relative one would promote
    the rounding noise of P_mA_m ≈ 0 to full rank); of the stacked P_mA_m by a share of max ‖A_m‖. Raises InputError
    where clients differ so much in scale that the last tolerance hides one of them.
    """
    n, rows, d_u = A.shape
    d_v = B.shape[2]
    of_B = decompose(B, ROUNDING * max(rows, d_v) * norms(B))
    basis = of_B.left
    share = np.maximum(ROUNDING * max(rows, d_u), AMPLIFIED * of_B.condition)
    R, p = A, c[..., None]
    for _ in range(2):  # the second time removes what rounding left of range(B_m)
        R, p = (x - basis @ (basis.swapaxes(1, 2) @ x) for x in (R, p))
    R, p = (np.where((of_B.rank == rows)[:, None, None], 0.0, x) for x in (R, p))
    tolerance = share * norms(A)
    of_R = decompose(R, tolerance)
    lost = norms(R - (of_R.left * of_R.values[:, None, :]) @ of_R.right) > 64 * np.finfo(float).eps * norms(A)
    blank = of_R.rank == 0
    R = np.where((lost | blank)[:, None, None], (of_R.left * of_R.values[:, None, :]) @ of_R.right, R)

    stacked = decompose(R.reshape(n * rows, d_u), float(tolerance.max(initial=0.0)))
    faintest = np.where(of_R.values > 0, of_R.values, np.inf).min(initial=np.inf)
    if faintest <= float(tolerance.max(initial=0.0)):
        raise InputError(
            f"A must not differ so much in scale between clients that float64 cannot decide ranks; got a singular "
            f"value {faintest:.3g} of P_m A_m beside the largest ||A_m|| = {norms(A).max():.3g}"
        )
    q = of_R.left @ (of_R.left.swapaxes(1, 2) @ c[..., None])
    flat = q.reshape(n * rows)
    missed = flat
    for _ in range(2):
        missed = missed - stacked.left @ (stacked.left.T @ missed)
    floor = max(ROUNDING * np.sqrt(n * rows), AMPLIFIED * float((stacked.condition * of_B.condition).max()))
    overpersonalized = bool(np.linalg.norm(missed) <= floor * np.linalg.norm(c))
    if overpersonalized:
        missed = np.zeros_like(missed)

    w_star = stacked.right.T @ (stacked.inverse * (stacked.left.T @ flat))
    w_m = of_R.right.swapaxes(1, 2) @ (of_R.inverse[..., None] * (of_R.left.swapaxes(1, 2) @ c[..., None]))
    at_star = R.swapaxes(1, 2) @ missed.reshape(n, rows, 1)
    values_sq = stacked.values**2 / n
    halves = stacked.right.T * (n * stacked.inverse**2)  # H̄⁺ in the basis of range(H̄)
    pulled = (R.swapaxes(1, 2) @ (R @ halves)).reshape(n * d_u, halves.shape[1]) / np.sqrt(n)
    slope = float(np.linalg.norm(pulled, 2)) ** 2 if pulled.size else 0.0
    return Projected(
        R=R,
        p=p[..., 0],
        pinv_B=of_B.pseudoinverse(),
        kernel_B=np.eye(d_v) - of_B.right.swapaxes(1, 2) @ of_B.right,
        rank_B=of_B.rank,
        rank_R=of_R.rank,
        mu_v=_least_positive(of_B.values**2),
        L_m=of_R.values.max(-1, initial=0.0) ** 2,
        L=float(values_sq.max(initial=0.0)),
        mu=_least_positive(values_sq),
        w_star=w_star,
        kernel=np.eye(d_u) - stacked.right.T @ stacked.right,
        inf_m=0.5 * ((p - q)[..., 0] ** 2).sum(-1),
        gap_projection=0.5 * float(missed @ missed) / n,
        gap_distance=0.5 * float(((R @ (w_star[:, None] - w_m)) ** 2).sum()) / n,
        zeta_sq=float((at_star**2).sum()) / n,
        B_sq=max(0.0, slope - 1.0),
        overpersonalized=overpersonalized,
    )


def _least_positive(values: np.ndarray) -> float:
    positive = values[values > 0]
    return float(positive.min()) if positive.size else 0.0
