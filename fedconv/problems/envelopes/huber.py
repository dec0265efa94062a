"""The Huber relative of least squares: a personal vector of outliers with an ℓ1 price."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from fedconv.problems.base import Constant, Constants, check_array
from fedconv.problems.envelopes.base import EnvelopeConstants, EnvelopeProblem, apply, chosen_clients, negated, norms
from fedconv.problems.errors import InputError
from fedconv.problems.validation import Count, Matrix, NotNegative, Positive, Size, Stack

ROUNDING = 1e-12
"""Share of the size of its terms up to which a gradient counts as zero."""


class Huber(EnvelopeProblem):
    """f_m(w, θ) = ½‖A_m w − c_m − θ‖² + Σ_i λ_mi |θ_i| with θ ∈ R^rows: F_m(w) = Σ_i h_λ((A_m w − c_m)_i).

    h_λ(r) = r²/2 for |r| ≤ λ, λ|r| − λ²/2 beyond. A ``(n, rows, d_u)``, c ``(n, rows)``, lam ``(n, rows)`` > 0;
    d_v = rows. Jointly convex, and 1-strongly convex in θ, but not smooth there: ``grad_v`` is the subgradient
    θ − (A_m w − c_m) + λ sign(θ) with sign(0) = 0, and L_v = L_theta = ∞. L_m = ‖A_m‖² (exact where some w keeps every
    |r_i| < λ_i, as found by least squares; an upper bound otherwise); F★ and inf F_m by Newton's method, which ends on
    a piecewise quadratic. F grows linearly, so no mu > 0 exists (unless F is constant). Source: the theory page on
    FFGG, section 0; constants derived here. Raises InputError for wrong shapes and for lam ≤ 0.
    """

    family: ClassVar[str] = "huber"

    def __init__(self, *, A: Any, c: Any, lam: Any) -> None:
        c_ = check_array("c", c, (None, None))
        self.n, self.d_v = c_.shape
        if self.n < 1 or self.d_v < 1:
            raise InputError(f"c must have at least one client and one row; got shape ({self.n}, {self.d_v})")
        A_, lam_ = check_array("A", A, (*c_.shape, None)), check_array("lam", lam, c_.shape)
        if not (lam_ > 0).all():
            raise InputError(f"lam must exceed 0; got {lam_.min()}")
        self.d_u = A_.shape[2]
        self.A, self.c, self.lam = torch.from_numpy(A_), torch.from_numpy(c_), torch.from_numpy(lam_)

    def to(self, device: torch.device | str) -> Huber:
        out = Huber.__new__(Huber)
        out.n, out.d_u, out.d_v, out.spec = self.n, self.d_u, self.d_v, self.spec
        out.A, out.c, out.lam = self.A.to(device), self.c.to(device), self.lam.to(device)
        return out

    @property
    def device(self) -> torch.device:
        return self.c.device

    def _misfit(self, u: Tensor, clients: Tensor) -> Tensor:
        return apply(self.A[clients], u) - self.c[clients]

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        square = 0.5 * (self._misfit(u, clients) - v).square()
        return (square + self.lam[clients] * v.abs()).sum(-1)

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return apply(self.A[clients].mT, self._misfit(u, clients) - v)

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        """A subgradient in θ: that of |θ_i| at 0 is taken as 0."""
        return v - self._misfit(u, clients) + self.lam[clients] * v.sign()

    def fine_tune(self, u: Tensor, clients: Tensor, start: Tensor | None = None) -> Tensor:
        """The only minimiser: r = A_m u − c_m with every |r_i| shortened by λ_i, to 0 at most."""
        r = self._misfit(u, clients)
        return r - self._clipped(r, clients)

    def _clipped(self, r: Tensor, clients: Tensor) -> Tensor:
        lam = self.lam[clients]
        return torch.maximum(torch.minimum(r, lam), -lam)

    def envelope(self, u: Tensor, clients: Tensor) -> Tensor:
        r = self._misfit(u, clients)
        slope = self._clipped(r, clients)
        return (slope * (r - 0.5 * slope)).sum(-1)

    def envelope_grad(self, u: Tensor, clients: Tensor) -> Tensor:
        return apply(self.A[clients].mT, self._clipped(self._misfit(u, clients), clients))

    def nearest_minimiser(self, u: Tensor) -> Tensor:
        A, c, lam = self._rows
        return torch.from_numpy(nearest(A, c, lam, self._optimum, u.cpu().numpy())).to(u)

    def minimiser(self) -> tuple[Tensor, Tensor]:
        u = torch.from_numpy(self._optimum).to(self.device)
        return u, self.fine_tune(u.expand(self.n, self.d_u), self.everyone())

    def restrict(self, clients: Sequence[int]) -> Huber:
        rows = chosen_clients(clients, self.n)
        A, c, lam = (x.cpu().numpy()[rows] for x in (self.A, self.c, self.lam))
        return Huber(A=A, c=c, lam=lam).to(self.device)

    def flipped(self, clients: Sequence[int]) -> Huber:
        """c_m → −c_m for these clients."""
        A, c, lam = (x.cpu().numpy() for x in (self.A, negated(self.c, clients), self.lam))
        return Huber(A=A, c=c, lam=lam).to(self.device)

    @property
    def _rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All clients' rows in one stack."""
        A, c, lam = (x.cpu().numpy() for x in (self.A, self.c, self.lam))
        return A.reshape(self.n * self.d_v, self.d_u), c.reshape(-1), lam.reshape(-1)

    @cached_property
    def _optimum(self) -> np.ndarray:
        return minimise(*self._rows)

    def _constants(self) -> Constants:
        A = self.A.cpu().numpy()
        cross = Constant(float(norms(A).max()), "exact", "max_m ‖A_m‖₂")
        several = self.n > 1 and self.d_u > 0 and bool(A.any())
        delta = math.inf if several else 0.0
        return Constants(
            L_u=Constant(float(norms(A).max()) ** 2, "exact", "max_m ‖A_m‖₂²"),
            L_v=Constant(math.inf, "upper", "|θ_i| has a kink"),
            L_uv=cross,
            L_vu=cross,
            delta=Constant(delta, "exact", "A_mᵀθ_m is unbounded over θ" if several else "no diversity"),
            rho=Constant(0.0, "exact", "not needed"),
            F_star=self.envelope_constants.F_star,
        )

    def _envelope_constants(self) -> EnvelopeConstants:
        A, c, lam = (x.cpu().numpy() for x in (self.A, self.c, self.lam))
        stack, targets, prices = self._rows
        L_m = norms(A) ** 2
        w = np.stack([minimise(A[i], c[i], lam[i]) for i in range(self.n)])
        inf_m = np.array([value(A[i], c[i], lam[i], w[i]) for i in range(self.n)])
        slopes = np.clip(A @ self._optimum - c, -lam, lam)
        grads = (A.swapaxes(1, 2) @ slopes[..., None])[..., 0]
        alike = bool((np.linalg.norm(grads, axis=1) <= ROUNDING * self.d_v * norms(A) * _largest(c, lam)).all())
        own = all(_inside(A[i], c[i], lam[i]) for i in np.flatnonzero(L_m == L_m.max()))
        smooth = np.linalg.norm(stack, 2) ** 2 / self.n if stack.size else 0.0
        gap = 0.0 if alike else max(0.0, value(stack, targets, prices, self._optimum) / self.n - float(inf_m.mean()))
        constant = not A.any()
        L_max = Constant(float(L_m.max()), "exact" if own else "upper", "max_m ‖A_m‖₂²")
        return EnvelopeConstants(
            L=Constant(float(smooth), "exact" if _inside(*self._rows) else "upper", "λ_max((1/n) Σ A_mᵀA_m)"),
            L_m=L_m,
            L_max=L_max,
            mu=Constant(0.0, "exact", "F is constant" if constant else "none: F grows linearly"),
            strongly_convex=False,
            mu_v=Constant(1.0, "exact", "½‖r − θ‖² is 1-strongly convex in θ"),
            L_theta=Constant(math.inf, "upper", "|θ_i| has a kink"),
            L_uv=Constant(float(norms(A).max()), "exact", "max_m ‖A_m‖₂"),
            L_block=Constant(float(L_m.max()), "exact", "max_m ‖A_m‖₂²"),
            ell_block=Constant(0.0, "exact", "convex in w"),
            L_F=L_max,
            F_star=Constant(gap + float(inf_m.mean()), "exact", "Newton's method on a piecewise quadratic"),
            inf_m=inf_m,
            G=Constant(gap, "exact", "F★ − mean inf F_m"),
            zeta_sq=Constant(0.0 if alike else float((grads**2).sum(1).mean()), "exact", "at any minimiser"),
            B_sq=Constant(0.0 if self.n == 1 or constant else math.inf, "exact", "no mu > 0 exists"),
            convex=True,
            overpersonalized=alike,
            vacuous=constant,
            quadratic=constant,
        )


def value(A: np.ndarray, c: np.ndarray, lam: np.ndarray, w: np.ndarray) -> float:
    """Σ_i h_{λ_i}((A w − c)_i) for A ``(rows, d)``."""
    r = A @ w - c
    slope = np.clip(r, -lam, lam)
    return float((slope * (r - 0.5 * slope)).sum())


def _largest(c: np.ndarray, lam: np.ndarray) -> float:
    return max(float(np.abs(c).max()), float(lam.max()))


def _inside(A: np.ndarray, c: np.ndarray, lam: np.ndarray) -> bool:
    """Whether the least-squares fit keeps every residual within (−λ_i, λ_i): there the Hessian is AᵀA."""
    w = np.linalg.lstsq(A, c, rcond=None)[0] if A.size else np.zeros(A.shape[1])
    return bool((np.abs(A @ w - c) < lam).all())


def minimise(A: np.ndarray, c: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """A minimiser of Σ_i h_{λ_i}((A w − c)_i): regularised Newton steps, then one on the final pieces.

    Raises InputError where rounding keeps the gradient from vanishing (clients of very different scales).
    """
    d = A.shape[1]
    w = np.linalg.lstsq(A, c, rcond=None)[0] if A.size else np.zeros(d)
    floor = ROUNDING * np.sqrt(A.shape[0]) * (np.linalg.norm(A, 2) if A.size else 0.0) * _largest(c, lam)

    def gradient(w: np.ndarray) -> np.ndarray:
        return A.T @ np.clip(A @ w - c, -lam, lam)

    first = max(float(np.linalg.norm(gradient(w))), np.finfo(float).tiny)
    for _ in range(400):
        g = gradient(w)
        size = float(np.linalg.norm(g))
        if size <= floor * 1e-3:
            break
        middle = A[np.abs(A @ w - c) <= lam]
        exact = np.linalg.lstsq(middle.T @ middle, g, rcond=1e-13)[0] if middle.size else g
        if np.linalg.norm(gradient(w - exact)) <= 1e-3 * size:
            w = w - exact
            continue
        damping = (1e-3 * size / first + 1e-10) * float((A**2).sum()) / d
        damped = np.linalg.solve(middle.T @ middle + damping * np.eye(d), g)
        step, here = 1.0, value(A, c, lam, w)
        while step > 1e-12 and value(A, c, lam, w - step * damped) > here - 0.25 * step * float(g @ damped):
            step *= 0.5
        if step <= 1e-12:
            break
        w = w - step * damped
    left = float(np.linalg.norm(gradient(w)))
    if not left <= floor:
        raise InputError(
            f"A must allow the minimum of F to be computed in float64; got a gradient of {left:.3g} at the end, where "
            f"{floor:.3g} is rounding"
        )
    return w


def nearest(A: np.ndarray, c: np.ndarray, lam: np.ndarray, w: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The minimiser nearest to u ``(d,)``, w being one.

    All minimisers share the slopes y = clip(Aw − c) (the dual optimum is unique), so they form a polyhedron: rows with
    |y_i| < λ_i keep their residual, the others stay beyond ±λ_i. Least-distance programming by non-negative least
    squares (Lawson and Hanson 1974, chapter 23).
    """
    if A.size == 0:
        return u.copy()
    r = A @ w - c
    outer = np.abs(r) >= lam * (1 - ROUNDING)
    fixed = A[~outer]
    _, values, right = np.linalg.svd(fixed) if fixed.size else (None, np.zeros(0), np.eye(A.shape[1]))
    free = right[int((values > ROUNDING * np.linalg.norm(A, 2)).sum()) :].T  # directions in which F can stay least
    goal = free.T @ (u - w)
    sign = np.sign(r[outer])[:, None]
    G = sign * (A[outer] @ free)
    G[np.abs(G) <= ROUNDING * np.linalg.norm(A, 2)] = 0.0
    h = -np.maximum(np.abs(r) - lam, 0.0)[outer] - G @ goal  # G z ≥ h for z = (step in free coordinates) − goal
    if not G.size or (h <= 0).all():
        return w + free @ goal
    system = np.vstack([G.T, h[None]])
    weights, _ = nnls(system, np.append(np.zeros(G.shape[1]), 1.0))
    rest = system @ weights - np.append(np.zeros(G.shape[1]), 1.0)
    return w + free @ (goal - rest[:-1] / rest[-1])


def build_random(
    *,
    n: Count,
    d_u: Size,
    rows: Count = 6,
    lam: Positive = 1.0,
    scale: Positive = 1.0,
    spread: NotNegative = 1.0,
    seed: Size = 0,
) -> Huber:
    """Random Huber regression: A_m normal of deviation scale/√rows, c_m of deviation ``spread``, one λ for all rows."""
    for name, number, least in (("n", n, 1), ("d_u", d_u, 0), ("rows", rows, 1), ("seed", seed, 0)):
        if number < least:
            raise InputError(f"{name} must be an integer >= {least}; got {number}")
    if not scale > 0:
        raise InputError(f"scale must exceed 0; got {scale}")
    if not spread >= 0:
        raise InputError(f"spread must be >= 0; got {spread}")
    rng = np.random.default_rng(seed)
    A = scale / math.sqrt(rows) * rng.standard_normal((n, rows, d_u))
    return Huber(A=A, c=spread * rng.standard_normal((n, rows)), lam=np.full((n, rows), lam))


def build_arrays(*, A: Stack, c: Matrix, lam: Matrix) -> Huber:
    """Huber regression with explicit arrays; shapes and errors as in :class:`Huber`."""
    return Huber(A=A, c=c, lam=lam)
