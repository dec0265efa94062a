"""The Geman-McClure relative of least squares: nonconvex in the shared part, strongly convex in the personal one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.base import Constant, Constants, check_array
from fedconv.problems.envelopes.base import EnvelopeConstants, EnvelopeProblem, apply, chosen_clients, negated, norms
from fedconv.problems.envelopes.low_value import lowest
from fedconv.problems.errors import InputError
from fedconv.problems.split.residuals import STEEPEST, largest_pull
from fedconv.problems.validation import Count, Matrix, NotNegative, Positive, Size, Stack

FITTED = 1e-12
"""Share of the targets up to which a residual of consistent data counts as zero."""
NAMES = ("A", "c", "D", "B", "e")


class GemanMcClure(EnvelopeProblem):
    """f_m(w, θ) = Σ_i φ((A_m w − c_m)_i) + Σ_i log cosh((D_m w + B_m θ − e_m)_i) + (ν/2)‖θ‖², φ(r) = r²/(2(1+r²)).

    A ``(n, rows, d_u)``, c ``(n, rows)``, D ``(n, personal_rows, d_u)``, B ``(n, personal_rows, d_v)``, e
    ``(n, personal_rows)``, ν > 0. Fine-tuning: Newton's method to rounding. Upper bounds (the theory page on FFGG,
    section 0): L_u ≤ ‖A_mᵀA_m + D_mᵀD_m‖, ell_u ≤ ¼‖A_m‖², L_uv ≤ ‖D_m‖‖B_m‖, L_v ≤ ‖B_m‖² + ν, mu_v ≥ ν; F★ ≥ 0 and
    inf F_m ≥ 0. Data that one w fits without personal part (A_m w = c_m, D_m w = e_m) have F★ = 0, exactly, and are
    overpersonalized; otherwise G is at most F at the lowest point found, and zeta_sq ≤ 2 L_max G.

    Raises InputError for wrong shapes and ν ≤ 0.
    """

    family: ClassVar[str] = "geman_mcclure"

    def __init__(self, *, A: Any, c: Any, D: Any, B: Any, e: Any, nu: float) -> None:
        c_, e_ = check_array("c", c, (None, None)), check_array("e", e, (None, None))
        self.n = c_.shape[0]
        if self.n < 1:
            raise InputError("c must have a row for each of n >= 1 clients; got none")
        if not (math.isfinite(nu) and nu > 0):
            raise InputError(f"nu must be a finite number > 0; got {nu}")
        A_ = check_array("A", A, (*c_.shape, None))
        self.d_u, self.nu = A_.shape[2], float(nu)
        e_ = check_array("e", e_, (self.n, None))
        D_, B_ = check_array("D", D, (*e_.shape, self.d_u)), check_array("B", B, (*e_.shape, None))
        self.d_v = B_.shape[2]
        if self.d_u + self.d_v == 0:
            raise InputError("A and B must not both have rows of length 0; got d_u=0, d_v=0")
        self.A, self.c, self.D, self.B, self.e = (torch.from_numpy(x) for x in (A_, c_, D_, B_, e_))

    def to(self, device: torch.device | str) -> GemanMcClure:
        out = GemanMcClure.__new__(GemanMcClure)
        out.n, out.d_u, out.d_v, out.spec, out.nu = self.n, self.d_u, self.d_v, self.spec, self.nu
        out.A, out.c, out.D, out.B, out.e = (getattr(self, name).to(device) for name in NAMES)
        return out

    @property
    def device(self) -> torch.device:
        return self.c.device

    def _shared_residual(self, u: Tensor, clients: Tensor) -> Tensor:
        return apply(self.A[clients], u) - self.c[clients]

    def _misfit(self, u: Tensor, clients: Tensor) -> Tensor:
        return apply(self.D[clients], u) - self.e[clients]

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        square = self._shared_residual(u, clients).square()
        own = log_cosh(self._misfit(u, clients) + apply(self.B[clients], v))
        return (square / (2 * (1 + square))).sum(-1) + own.sum(-1) + 0.5 * self.nu * v.square().sum(-1)

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        r = self._shared_residual(u, clients)
        own = torch.tanh(self._misfit(u, clients) + apply(self.B[clients], v))
        return apply(self.A[clients].mT, r / (1 + r.square()).square()) + apply(self.D[clients].mT, own)

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        own = torch.tanh(self._misfit(u, clients) + apply(self.B[clients], v))
        return apply(self.B[clients].mT, own) + self.nu * v

    def fine_tune(self, u: Tensor, clients: Tensor, start: Tensor | None = None) -> Tensor:
        """The only minimiser, by Newton's method from 0; a step is halved until the gradient shrinks. It ends where the
        gradient is the rounding of its terms, or where no step shrinks it any more."""
        B, misfit = self.B[clients], self._misfit(u, clients)
        theta = misfit.new_zeros((*misfit.shape[:-1], self.d_v))
        eye = self.nu * torch.eye(self.d_v, dtype=misfit.dtype, device=misfit.device)

        def gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
            slope = torch.tanh(misfit + apply(B, theta))
            return apply(B.mT, slope) + self.nu * theta, slope

        g, slope = gradient(theta)
        for _ in range(100):
            bend = (1 - slope) * (1 + slope)
            inner = slope.abs() + bend * (misfit.abs() + apply(B, theta).abs())
            terms = apply(B.mT.abs(), inner) + self.nu * theta.abs()
            size = g.norm(dim=-1)
            open_ = size > 2 * torch.finfo(size.dtype).eps * terms.norm(dim=-1)
            if not bool(open_.any()):
                break
            step = torch.linalg.solve(eye + B.mT @ (bend[..., None] * B), g[..., None])[..., 0]
            share, better = torch.ones_like(size), torch.zeros_like(open_)
            for _ in range(40):
                trial = theta - share[..., None] * step
                better = open_ & (gradient(trial)[0].norm(dim=-1) < (1 - 1e-4 * share) * size)
                if bool((better == open_).all()):
                    break
                share = torch.where(better, share, 0.5 * share)
            if not bool(better.any()):
                break
            theta = torch.where(better[..., None], theta - share[..., None] * step, theta)
            g, slope = gradient(theta)
        return theta

    def nearest_minimiser(self, u: Tensor) -> Tensor | None:
        if self._fit is None:
            return None
        w, kernel = (torch.from_numpy(x).to(u) for x in self._fit)
        return w + kernel @ u

    def minimiser(self) -> tuple[Tensor, Tensor] | None:
        if self._fit is None:
            return None
        zero = torch.zeros(self.n, self.d_v, dtype=torch.float64, device=self.device)
        return torch.from_numpy(self._fit[0]).to(self.device), zero

    @cached_property
    def _fit(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(w, projector on the directions that keep the fit): w of least norm with A_m w = c_m and D_m w = e_m for
        every m; None where there is none."""
        A, c, D, _, e = self._numpy()
        rows = np.concatenate([x.reshape(x.shape[0] * x.shape[1], self.d_u) for x in (A, D)])
        targets = np.concatenate([c.reshape(-1), e.reshape(-1)])
        inverse = np.linalg.pinv(rows, rcond=FITTED)
        w = inverse @ targets
        if np.abs(rows @ w - targets).max(initial=0.0) > FITTED * np.abs(targets).max(initial=0.0):
            return None
        return w, np.eye(self.d_u) - inverse @ rows

    def restrict(self, clients: Sequence[int]) -> GemanMcClure:
        rows = chosen_clients(clients, self.n)
        return self._with(*(x[rows] for x in self._numpy()))

    def flipped(self, clients: Sequence[int]) -> GemanMcClure:
        """c_m → −c_m and e_m → −e_m for these clients."""
        c, e = (negated(x, clients).cpu().numpy() for x in (self.c, self.e))
        A, _, D, B, _ = self._numpy()
        return self._with(A, c, D, B, e)

    def _numpy(self) -> tuple[np.ndarray, ...]:
        return tuple(getattr(self, name).cpu().numpy() for name in NAMES)

    def _with(self, *arrays: np.ndarray) -> GemanMcClure:
        return GemanMcClure(**dict(zip(NAMES, arrays, strict=True)), nu=self.nu).to(self.device)

    def _constants(self) -> Constants:
        A, _, D, _, _ = self._numpy()
        e = self.envelope_constants
        bounded = [largest_pull(np.concatenate([a, d / STEEPEST])) for a, d in zip(A, D, strict=True)]
        delta = math.sqrt(float(np.mean(bounded))) if self.n > 1 else 0.0
        return Constants(
            L_u=e.L_block,
            L_v=e.L_theta,
            L_uv=e.L_uv,
            L_vu=e.L_uv,
            delta=Constant(delta, "upper", "√ of the mean largest ‖∇_uF_i‖², as |φ'| ≤ 9/(16√3), |tanh| ≤ 1"),
            rho=Constant(0.0, "exact", "the diversity is bounded"),
            F_star=e.F_star,
        )

    def _envelope_constants(self) -> EnvelopeConstants:
        A, _, D, B, _ = self._numpy()
        rows = np.concatenate([A, D], axis=1)
        L_m, ell_m, cross_m = norms(rows) ** 2, 0.25 * norms(A) ** 2, norms(D) * norms(B)
        fitted, constant = self._fit is not None, not rows.any()
        alike = fitted or constant or self.n == 1
        gap = 0.0 if alike else lowest(self)
        L_max = float(L_m.max())
        stack = rows.reshape(rows.shape[0] * rows.shape[1], self.d_u)
        L = float(np.linalg.norm(stack, 2)) ** 2 / self.n if stack.size else 0.0
        zeta_sq = 2 * L_max * gap
        return EnvelopeConstants(
            L=Constant(L, "upper", "λ_max((1/n) Σ A_mᵀA_m + D_mᵀD_m)"),
            L_m=L_m,
            L_max=Constant(L_max, "upper", "max_m ‖A_mᵀA_m + D_mᵀD_m‖₂"),
            mu=Constant(0.0, "upper", "none known"),
            strongly_convex=False,
            mu_v=Constant(self.nu, "upper", "ν"),
            L_theta=Constant(float(norms(B).max()) ** 2 + self.nu, "upper", "max_m ‖B_m‖₂² + ν"),
            L_uv=Constant(float(cross_m.max()), "upper", "max_m ‖D_m‖₂‖B_m‖₂"),
            L_block=Constant(L_max, "upper", "max_m ‖A_mᵀA_m + D_mᵀD_m‖₂"),
            ell_block=Constant(float(ell_m.max()), "upper", "max_m ‖A_m‖₂²/4, as φ'' ≥ −1/4"),
            L_F=Constant(
                float(np.maximum(L_m, ell_m + cross_m**2 / self.nu).max()), "upper", "max_m max(L_u, ell_u + L_uv²/ν)"
            ),
            F_star=Constant(0.0, "exact" if fitted else "upper", "one w fits all data" if fitted else "all terms ≥ 0"),
            inf_m=np.zeros(self.n),
            G=Constant(gap, "exact", "0") if gap == 0 else Constant(gap, "upper", "F at the lowest point found"),
            zeta_sq=Constant(zeta_sq, "exact" if zeta_sq == 0 else "upper", "2 L_max G"),
            B_sq=Constant(0.0 if self.n == 1 else math.inf, "upper", "no mu > 0 is known"),
            convex=not A.any(),
            overpersonalized=alike,
            vacuous=constant,
            quadratic=constant,
        )


def log_cosh(x: Tensor) -> Tensor:
    """log cosh x without overflow, and to full relative accuracy near 0, where it is ½ log(1 + sinh² x). (torch.sinh
    rounds the same number differently at different places of an array.)"""
    grown = torch.expm1(x.clamp(-1.0, 1.0))
    sinh = 0.5 * (grown + grown / (1 + grown))
    far = x.abs() + torch.log1p(torch.exp(-2 * x.abs())) - math.log(2)
    return torch.where(x.abs() < 1.0, 0.5 * torch.log1p(sinh.square()), far)


def build_random(
    *,
    n: Count,
    d_u: Size,
    d_v: Size,
    rows: Count = 6,
    personal_rows: Count = 4,
    nu: Positive = 0.5,
    scale: Positive = 1.0,
    spread: NotNegative = 1.0,
    seed: Size = 0,
) -> GemanMcClure:
    """Random matrices with normal entries of deviation scale/√rows (A_m) and scale/√personal_rows (D_m, B_m).

    One w° fits all data at θ = 0 up to normal errors of deviation ``spread`` in c_m and e_m: spread = 0 is
    overpersonalized with F★ = 0.
    """
    for name, value, least in (("n", n, 1), ("d_u", d_u, 0), ("d_v", d_v, 0), ("rows", rows, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"{name} must be an integer >= {least}; got {value}")
    if personal_rows < 1:
        raise InputError(f"personal_rows must be an integer >= 1; got {personal_rows}")
    if not scale > 0:
        raise InputError(f"scale must exceed 0; got {scale}")
    if not spread >= 0:
        raise InputError(f"spread must be >= 0; got {spread}")
    rng = np.random.default_rng(seed)
    A = scale / math.sqrt(rows) * rng.standard_normal((n, rows, d_u))
    D = scale / math.sqrt(personal_rows) * rng.standard_normal((n, personal_rows, d_u))
    B = scale / math.sqrt(personal_rows) * rng.standard_normal((n, personal_rows, d_v))
    w = rng.standard_normal(d_u)
    c = A @ w + spread * rng.standard_normal((n, rows))
    e = D @ w + spread * rng.standard_normal((n, personal_rows))
    return GemanMcClure(A=A, c=c, D=D, B=B, e=e, nu=nu)


def build_arrays(*, A: Stack, c: Matrix, D: Stack, B: Stack, e: Matrix, nu: Positive) -> GemanMcClure:
    """Explicit arrays; shapes and errors as in :class:`GemanMcClure`."""
    return GemanMcClure(A=A, c=c, D=D, B=B, e=e, nu=nu)
