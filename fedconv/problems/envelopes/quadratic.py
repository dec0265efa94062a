"""Coupled quadratics whose personal part is strongly convex: their envelopes are quadratics, convex or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.base import Constant
from fedconv.problems.envelopes.base import EnvelopeConstants, EnvelopeProblem, apply, chosen_clients
from fedconv.problems.errors import InputError
from fedconv.problems.split.quadratic import SINGULAR, Quadratic
from fedconv.problems.validation import Count, Matrix, Positive, Stack

FLAT = 1e-9
"""Share of the gradients' scale below which a gradient or a slope along a direction counts as zero."""


class EnvelopeQuadratic(Quadratic, EnvelopeProblem):
    """``Quadratic`` with every B_m positive definite: F_m(w) = ½wᵀS_mw − g_mᵀw − h_m with S_m = A_m − C_mB_m⁻¹C_mᵀ,
    g_m = a_m − C_mB_m⁻¹b_m, h_m = ½b_mᵀB_m⁻¹b_m.

    Exact: L, L_m = λ_max(S_m)⁺, mu = λ⁺_min(S̄) of the mean S̄ (F is bounded below, so it is convex), mu_v =
    min λ_min(B_m), L_uv = max ‖C_m‖, the block curvatures of A_m. A single S_m may have negative eigenvalues: then
    inf F_m = −∞ and G = ∞. L_F is the bound of Theorem 1(b) of the theory page on FFGG, client by client.

    Raises InputError as ``Quadratic`` does, and where a B_m is not positive definite.
    """

    family: ClassVar[str] = "envelope_quadratic"
    computes_as: ClassVar[type] = Quadratic

    def __init__(self, *, A: Any, B: Any, C: Any, a: Any, b: Any) -> None:
        super().__init__(A=A, B=B, C=C, a=a, b=b)
        if self.d_v:
            values = np.linalg.eigvalsh(self.B.numpy())
            if values[:, 0].min() <= SINGULAR * self.d_v * values.max():
                raise InputError(f"B must hold positive definite matrices; got the eigenvalue {values[:, 0].min():.3g}")
        inverse = torch.linalg.inv(self.B) if self.d_v else self.B
        self._inverse = 0.5 * (inverse + inverse.mT)
        S = self.A - self.C @ self._inverse @ self.C.mT
        self._S = 0.5 * (S + S.mT)
        back = apply(self._inverse, self.b)
        self._g = self.a - apply(self.C, back)
        self._h = 0.5 * (self.b * back).sum(-1)

    def to(self, device: torch.device | str) -> EnvelopeQuadratic:
        out = EnvelopeQuadratic.__new__(EnvelopeQuadratic)
        out.n, out.d_u, out.d_v, out.spec, out._optimum = self.n, self.d_u, self.d_v, self.spec, self._optimum
        out._set({k: getattr(self, k).to(device) for k in "ABCab"})
        out._inverse, out._S, out._g, out._h = (x.to(device) for x in (self._inverse, self._S, self._g, self._h))
        return out

    def fine_tune(self, u: Tensor, clients: Tensor, start: Tensor | None = None) -> Tensor:
        """The only minimiser, B⁻¹(b − Cᵀu)."""
        return apply(self._inverse[clients], self.b[clients] - apply(self.C[clients].mT, u))

    def envelope(self, u: Tensor, clients: Tensor) -> Tensor:
        return (u * (0.5 * apply(self._S[clients], u) - self._g[clients])).sum(-1) - self._h[clients]

    def envelope_grad(self, u: Tensor, clients: Tensor) -> Tensor:
        return apply(self._S[clients], u) - self._g[clients]

    def nearest_minimiser(self, u: Tensor) -> Tensor:
        kernel = torch.from_numpy(self._spectrum()[2]).to(u)
        return torch.from_numpy(self._optimum[0]).to(u) + kernel @ (u - torch.from_numpy(self._optimum[0]).to(u))

    def restrict(self, clients: Sequence[int]) -> EnvelopeQuadratic:
        rows = chosen_clients(clients, self.n)
        arrays = {k: getattr(self, k).cpu().numpy()[rows] for k in "ABCab"}
        made = EnvelopeQuadratic(**arrays)
        return made if self.device.type == "cpu" else made.to(self.device)

    def _scale(self) -> float:
        """The size of the terms of the S_m, against which their eigenvalues are rounding."""
        A, C, inverse = (x.cpu().numpy() for x in (self.A, self.C, self._inverse))
        return max(_norm(A), _norm(C @ inverse @ C.swapaxes(1, 2)))

    def _spectrum(self) -> tuple[float, float, np.ndarray]:
        """(λ_max, λ⁺_min, projector on the kernel) of S̄; 0, 0 where it vanishes."""
        values, vectors = np.linalg.eigh(self._S.cpu().numpy().mean(0))
        kept = values > SINGULAR * max(self.d_u, 1) * self._scale()
        flat = vectors[:, ~kept]
        positive = values[kept]
        ends = (float(positive.max()), float(positive.min())) if positive.size else (0.0, 0.0)
        return *ends, flat @ flat.T

    def _envelope_constants(self) -> EnvelopeConstants:
        A, B, C, S, g, h = (x.cpu().numpy() for x in (self.A, self.B, self.C, self._S, self._g, self._h))
        L, mu, kernel = self._spectrum()
        values_A, values_B, cross = (
            _eigenvalues(A),
            _eigenvalues(B),
            np.linalg.norm(C, 2, axis=(1, 2)) if C[0].size else 0,
        )
        up = values_A.max(1, initial=0.0)
        down = np.maximum(-values_A.min(1, initial=0.0), 0.0)
        growth = values_B.min(1) if self.d_v else np.full(self.n, np.inf)
        bound = np.maximum(up, down + cross**2 / growth)
        L_m = _eigenvalues(S).max(1, initial=0.0)
        w = self._optimum[0]
        inf_m = np.array([_infimum(S[i], g[i], h[i], self._scale()) for i in range(self.n)])
        bounded = bool(np.isfinite(inf_m).all())
        grads = S @ w - g
        steep = FLAT * max(self._scale() * float(np.abs(w).max(initial=0.0)), float(np.abs(g).max(initial=0.0)))
        alike = bounded and bool((np.linalg.norm(grads, axis=1) <= steep).all())
        F_star = float((0.5 * (w * (S @ w)).sum(1) - g @ w - h).mean())
        gap = 0.0 if alike else max(0.0, F_star - float(inf_m.mean())) if bounded else math.inf
        fixed = bool(_norm(S @ kernel) <= FLAT * self._scale()) if self.d_u else True
        zeta_sq = 0.0 if alike else float((grads**2).sum(1).mean())
        inverse = (
            np.linalg.pinv(S.mean(0), rcond=SINGULAR * max(self.d_u, 1), hermitian=True) if self.d_u else S.mean(0)
        )
        slope = _norm(((S @ inverse).reshape(1, self.n * self.d_u, self.d_u)) / math.sqrt(self.n)) ** 2 if L else 1.0
        unknown = Constant(math.inf, "exact", "depends on the minimiser")
        spread = Constant(max(0.0, slope - 1.0), "exact", "λ_max(S̄⁺ mean(S_m²) S̄⁺) − 1")
        constant = L == 0 and float(np.abs(L_m).max()) == 0
        return EnvelopeConstants(
            L=Constant(L, "exact", "λ_max(S̄)"),
            L_m=L_m,
            L_max=Constant(float(L_m.max()), "exact", "max_m λ_max(S_m)"),
            mu=Constant(mu, "exact", "least positive eigenvalue of S̄"),
            strongly_convex=mu > 0,
            mu_v=Constant(float(growth.min()) if self.d_v else 0.0, "exact", "min_m λ_min(B_m)"),
            L_theta=Constant(_norm(B), "exact", "max_m ‖B_m‖₂"),
            L_uv=Constant(float(np.max(cross)), "exact", "max_m ‖C_m‖₂"),
            L_block=Constant(float(up.max()), "exact", "max_m λ_max(A_m)"),
            ell_block=Constant(float(down.max()), "exact", "max_m −λ_min(A_m)"),
            L_F=Constant(float(bound.max()), "upper", "max_m max(L_u, ell_u + L_uv²/mu_v)"),
            F_star=Constant(F_star, "exact", "normal equations of F"),
            inf_m=inf_m,
            G=Constant(gap, "exact", "F★ − mean inf F_m"),
            zeta_sq=Constant(zeta_sq, "exact", "the same at every minimiser") if fixed else unknown,
            B_sq=spread if fixed else unknown,
            convex=bounded,
            overpersonalized=alike,
            vacuous=constant,
            quadratic=True,
        )


def _norm(matrices: np.ndarray) -> float:
    return float(np.linalg.norm(matrices, 2, axis=(1, 2)).max()) if matrices[0].size else 0.0


def _eigenvalues(matrices: np.ndarray) -> np.ndarray:
    return np.linalg.eigvalsh(matrices) if matrices[0].size else np.zeros((len(matrices), 0))


def _infimum(S: np.ndarray, g: np.ndarray, h: float, scale: float) -> float:
    """inf of ½wᵀSw − gᵀw − h; −∞ where S has a negative eigenvalue or g a part along its kernel."""
    values, vectors = np.linalg.eigh(S)
    cut = SINGULAR * max(len(g), 1) * scale
    along = vectors.T @ g
    flat = values <= cut
    if values.min(initial=0.0) < -cut or np.abs(along[flat]).max(initial=0.0) > FLAT * np.abs(g).max(initial=0.0):
        return -math.inf
    return -0.5 * float((along[~flat] ** 2 / values[~flat]).sum()) - float(h)


def build_arrays(*, A: Stack, B: Stack, C: Stack, a: Matrix, b: Matrix) -> EnvelopeQuadratic:
    """Explicit arrays; shapes and errors as in :class:`EnvelopeQuadratic`."""
    return EnvelopeQuadratic(A=A, B=B, C=C, a=a, b=b)


def saddle(
    *, curvature: Positive = 0.1, cross: Positive = 1.0, mu_v: Positive = 0.1, n: Count | None = None
) -> EnvelopeQuadratic:
    """f_1 = (curvature/2)w² + cross·wθ + (mu_v/2)θ² in one dimension each, so F_1'' = curvature − cross²/mu_v; the
    other n − 1 clients are (curvature/2)w² + (mu_v/2)θ².

    The default instance violates "∇F_m is L_u-Lipschitz" by a factor 99. n: by default the fewest clients that keep F
    bounded below (1 where F_1 is convex); fewer raise InputError.
    """
    own = curvature - cross**2 / mu_v
    fewest = 1 if own > 0 else math.floor(-own / curvature) + 2
    if n is None:
        n = fewest
    if n < fewest:
        raise InputError(f"n must be at least {fewest}, for F to be bounded below with these curvatures; got {n}")
    C = np.zeros((n, 1, 1))
    C[0] = cross
    zero = np.zeros((n, 1))
    return EnvelopeQuadratic(A=np.full((n, 1, 1), curvature), B=np.full((n, 1, 1), mu_v), C=C, a=zero, b=zero)
