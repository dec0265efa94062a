"""What theorems about masked models ask of a problem: L, (δ, ρ) and a lower bound of every f_t, each with a grade."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fedconv.problems.base import GRADES, Constant, Grade, Problem
from fedconv.problems.envelopes.base import EnvelopeProblem
from fedconv.problems.envelopes.least_squares import LeastSquares
from fedconv.problems.errors import InputError
from fedconv.problems.layers import Layout
from fedconv.problems.split.quadratic import Quadratic, diversity
from fedconv.problems.split.residuals import Residuals
from fedconv.problems.split.trigonometric import Trigonometric
from fedconv.problems.whole_model import smoothness
from fedconv.problems.written_for import written_for

NONE = Constant(0.0, "exact", "not needed")
UNKNOWN = Constant(math.inf, "upper", "none known: use the mean diversity of the visited points (measured)")
ROUNDING = 1e-12
"""δ at most this share of the largest gradient at 0 is 0; then ρ² need not be doubled for Young's inequality."""
UNBOUNDED = Constant(-math.inf, "upper", "no lower bound of the clients' losses is known")


@dataclass(frozen=True)
class MaskedConstants:
    """Constants of f(w) = (1/n) Σ_k F_k(m_k ⊙ w).

    L: every f_k is L-smooth. delta, rho: (1/n) Σ ‖∇f_k − ∇f‖² ≤ δ² + ρ²‖∇f‖² for all w (δ = ∞ where none is known).
    F_star ≤ f everywhere. For frozen masks they are those of the masks; otherwise they hold for all masks.
    """

    L: Constant
    delta: Constant
    rho: Constant
    F_star: Constant

    @property
    def grade(self) -> Grade:
        """The weakest grade among the finite constants."""
        known = [c for f in fields(self) if math.isfinite((c := getattr(self, f.name)).value)]
        return max((c.grade for c in known), key=GRADES.index, default="exact")

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain data; infinity is written as a string."""
        return {f.name: getattr(self, f.name).to_dict() for f in fields(self)}

    @classmethod
    def from_dict(cls, data: dict[str, dict[str, Any]]) -> MaskedConstants:
        """Inverse of :meth:`to_dict`."""
        return cls(**{k: Constant.from_dict(c) for k, c in data.items()})


def masked_constants(problem: Problem, masks: np.ndarray | None) -> MaskedConstants:
    """Constants under these masks ``(n, d)``, or under all masks (None).

    A problem with a method ``masked_constants(masks)`` states its own. Quadratics, least squares, residuals and
    trigonometric problems, but no subclasses of theirs, have forms of their own; elsewhere L and F★ come from the
    problem's constants and δ is unknown.
    """
    own = getattr(problem, "masked_constants", None)
    if own is not None:
        return own(masks)
    for kind, of_kind in _CLOSED_FORMS.items():
        if written_for(problem, kind):
            return of_kind(problem, masks)
    return MaskedConstants(smoothness(problem), UNKNOWN, NONE, lower_bound(problem))


def lower_bound(problem: Problem) -> Constant:
    """A lower bound of (1/n) Σ_k inf F_k, and so of f under any masks."""
    if problem.n == 1 or problem.d_u == 0:
        return problem.constants.F_star
    if isinstance(problem, EnvelopeProblem):
        grade = problem.envelope_constants.F_star.grade
        return Constant(float(np.mean(problem.envelope_constants.inf_m)), grade, "mean of inf F_k")
    if getattr(problem, "nonnegative", False):
        return Constant(0.0, "upper", "losses are nonnegative")
    return UNBOUNDED


def _blocks(problem: Quadratic) -> tuple[np.ndarray, np.ndarray, float]:
    """H ``(n, d, d)``, g ``(n, d)`` and the mean constant of F_k = ½wᵀH_kw − g_kᵀw + const."""
    A, B, C, a, b = (x.cpu().numpy() for x in (problem.A, problem.B, problem.C, problem.a, problem.b))
    H = np.concatenate([np.concatenate([A, C], 2), np.concatenate([C.swapaxes(1, 2), B], 2)], 1)
    return H, np.concatenate([a, b], 1), 0.0


def _squares(problem: LeastSquares) -> tuple[np.ndarray, np.ndarray, float]:
    """The same of F_k = ½‖J_kw − c_k‖², J = [A, B]."""
    A, B, c = (x.cpu().numpy() for x in (problem.A, problem.B, problem.c))
    J = np.concatenate([A, B], 2)
    return J.swapaxes(1, 2) @ J, np.einsum("kij,ki->kj", J, c), float(0.5 * np.square(c).sum(1).mean())


def _quadratic(H: np.ndarray, g: np.ndarray, offset: float, masks: np.ndarray | None) -> MaskedConstants:
    """f_k of ½wᵀH_kw − g_kᵀw is the same with M_kH_kM_k and M_kg_k: the constants of another quadratic."""
    n, d = g.shape
    if masks is None:
        infima = [_quadratic_infimum(H[k : k + 1], g[k : k + 1]) for k in range(n)]
        delta, rho = (Constant(0.0, "exact", "one client") if n == 1 else UNKNOWN), NONE
        infimum, words = float(np.mean(infima)), ("max_k ‖H_k‖₂", "mean of inf F_k")
    else:
        H, g = np.where(masks[:, :, None] & masks[:, None, :], H, 0.0), np.where(masks, g, 0.0)
        delta, rho = diversity(H, np.zeros((n, d, 0)), g)
        if 0 < delta.value <= ROUNDING * np.abs(g).max(initial=0.0):
            delta, rho = (
                Constant(0.0, "exact", "0"),
                Constant(rho.value / math.sqrt(2), "upper", "δ = 0"),
            )
        infimum, words = _quadratic_infimum(H, g), ("max_k ‖M_kH_kM_k‖₂", "inf f")
    L = Constant(float(np.linalg.norm(H, 2, axis=(1, 2)).max()), "exact", words[0])
    F_star = Constant(infimum + offset, "exact", words[1]) if math.isfinite(infimum) else UNBOUNDED
    return MaskedConstants(L, delta, rho, F_star)


def _quadratic_infimum(H: np.ndarray, g: np.ndarray) -> float:
    """inf over w of (1/n) Σ_k (½wᵀH_kw − g_kᵀw); −∞ where it is unbounded below."""
    n, d = g.shape
    try:
        made = Quadratic(A=H, B=np.zeros((n, 0, 0)), C=np.zeros((n, d, 0)), a=g, b=np.zeros((n, 0)))
    except InputError:
        return -math.inf
    return made.constants.F_star.value


def _residuals(problem: Residuals, masks: np.ndarray | None) -> MaskedConstants:
    """f_k has the same form with the columns of [A_k, B_k] off the mask set to 0."""
    A, B, c = (x.cpu().numpy() for x in (problem.A, problem.B, problem.c))
    J = np.concatenate([A, B], 2)
    if masks is not None:
        J = np.where(masks[:, None, :], J, 0.0)
    found = Residuals(A=J, B=np.zeros((*c.shape, 0)), c=c).constants
    return MaskedConstants(found.L_u, found.delta, found.rho, found.F_star)


def _trigonometric(problem: Trigonometric, masks: np.ndarray | None) -> MaskedConstants:
    """∂_jF_k = A_j sin(w_j − s_kj) + h_kj without coupling: every coordinate by itself.

    Var_k of m_kj(A_j sin(w_j − s_kj) + h_kj) = p_kᵀ(sin w_j, cos w_j) + m_kj h_kj is at most the square of
    √λ_max(Cov p) + √Var(m h), attained where h = 0; inf f_j = mean(mA + (1−m)A(1−cos s)) − |mean(mAe^{is})| where the
    mean of m h is 0.
    """
    a, b, kappa, h, s = (x.cpu().numpy() for x in (problem.a, problem.b, problem.kappa, problem.h, problem.s))
    n = problem.n
    amplitude = np.concatenate([a, b])
    shift = np.concatenate([np.zeros((n, problem.d_u)), s], 1)
    slope = np.concatenate([h, np.zeros((n, problem.d_v))], 1)
    if kappa.any() or masks is None:
        bound = amplitude + np.abs(slope).max(0)
        common = np.zeros_like(bound)
        common[: len(kappa)] = common[problem.d_u : problem.d_u + len(kappa)] = np.abs(kappa)
        spread = 1.0 if n % 2 == 0 else 1.0 - 1.0 / n**2  # largest variance of n numbers in [−1, 1]
        delta = float(np.sqrt((spread * (bound + common) ** 2).sum()))
        F_star = UNBOUNDED if slope.any() else Constant(-float(np.abs(kappa).sum()), "upper", "a, b ≥ 0 and −Σ|κ|")
        if masks is None and not kappa.any() and not slope.any():
            F_star = Constant(0.0, "exact", "mean of inf F_k = 0")
        note = "largest variance of gradients within ±(A_j + |κ_j| + max_k |h_kj|)"
        return MaskedConstants(smoothness(problem), Constant(0.0 if n == 1 else delta, "upper", note), NONE, F_star)
    p = np.where(masks, amplitude, 0.0)[..., None] * np.stack([np.cos(shift), -np.sin(shift)], -1)
    p = p - p.mean(0)
    covariance = np.einsum("kjx,kjy->jxy", p, p) / n
    drawn = np.where(masks, slope, 0.0)
    widest = np.sqrt(np.maximum(np.linalg.eigvalsh(covariance)[:, -1], 0.0)) + drawn.std(0)
    delta = Constant(float(np.sqrt((widest**2).sum())), "upper" if slope.any() else "exact", "√Σ_j max_w Var_k ∂_jf_k")
    return MaskedConstants(
        Constant(float(np.where(masks, amplitude, 0.0).max()), "exact", "largest A_j on a mask"),
        delta,
        NONE,
        _waves_infimum(amplitude, shift, drawn, masks),
    )


def _waves_infimum(amplitude: np.ndarray, shift: np.ndarray, drawn: np.ndarray, masks: np.ndarray) -> Constant:
    if (np.abs(drawn.mean(0)) > 1e-15 * np.abs(drawn).max(initial=0.0)).any():
        return UNBOUNDED
    still = np.where(masks, amplitude, amplitude * (1 - np.cos(shift))).mean(0)
    turned = np.abs(np.where(masks, amplitude * np.exp(1j * shift), 0.0).mean(0))
    return Constant(float((still - turned).sum()), "exact", "inf f, coordinate by coordinate")


_CLOSED_FORMS: dict[type[Problem], Callable[[Any, np.ndarray | None], MaskedConstants]] = {
    Quadratic: lambda problem, masks: _quadratic(*_blocks(problem), masks),
    LeastSquares: lambda problem, masks: _quadratic(*_squares(problem), masks),
    Residuals: _residuals,
    Trigonometric: _trigonometric,
}


def masked_sigma(
    problem: Problem, sigma_u: float, sigma_v: float, masks: np.ndarray, layout: Layout | None = None
) -> float:
    """σ of assumption A2: the largest E‖m_k ⊙ ξ‖² over clients, masks ``(n, d)``, is σ².

    A coordinate's variance is σ_u²/d_u or σ_v²/d_v. With a ``layout`` for all masks that have as many weights in every
    layer, each of the layer's largest variance.
    """
    scales = [np.full(d, sigma**2 / d) for sigma, d in ((sigma_u, problem.d_u), (sigma_v, problem.d_v)) if d]
    variance = np.concatenate(scales)
    if layout is None:
        return float(np.sqrt((masks * variance).sum(1).max()))
    each = [masks[:, where].sum(1) * variance[where].max() for where in layout.slices]
    return float(np.sqrt(np.sum(each, axis=0).max()))
