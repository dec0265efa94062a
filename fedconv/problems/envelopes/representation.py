"""A shared nonlinear representation with personal linear heads: nonconvex, with proved constants."""

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
from fedconv.problems.validation import Count, Matrix, NotNegative, Positive, Size, Stack

BEND = 4 / (3 * math.sqrt(3))
"""max |tanh''|."""
ALIKE = 1e-12
"""Share of the data up to which two clients' data count as equal."""


class Representation(EnvelopeProblem):
    """f_m(W, θ) = ½‖Φ_m(W)θ − y_m‖² + (ν/2)‖θ‖², Φ_m(W) = tanh(X_m Wᵀ)/√h; u is W ``(h, inputs)`` row by row, d_v = h.

    X ``(n, rows, inputs)``, y ``(n, rows)``, h = ``features`` ≥ 1, ν > 0. Fine-tuning is a ridge regression.

    Constants, derived here. No smoothness constant holds for all θ (base constants L_u, L_uv, L_vu = ∞), but
    fine-tuning only meets bounded ones. With N = rows, ‖Φ‖ ≤ √N: ‖θ★(W)‖ ≤ T = ‖y‖ max_{s ≤ √N} s/(s²+ν), and inner
    gradient steps of size 1/L_v keep ‖θ‖ ≤ T' = √N‖y‖/ν. With λ = ‖X_m‖², on ‖θ‖ ≤ T, as |residual_i| ≤ T + ‖y‖_∞ and
    |tanh''| ≤ 4/(3√3) =: τ, the curvature in W lies in [−b, T²λ/h + b], b = τλ(T/√h)(T + ‖y‖_∞); on ‖θ‖ ≤ t,
    L_uv(t) = √(λ/h)(2√N t + ‖y‖). Theorem 1 of the theory page on FFGG then gives L_m = T²λ/h + b and
    L_F = max(L_m, b + L_uv(T)²/ν); its Theorem 4 needs L_uv(T'), the stated L_uv, and ‖start.v‖ ≤ T'.
    inf F_m ≥ ν‖y_m‖²/(2(ν + N)), from F_m = ½yᵀ(I + ΦΦᵀ/ν)⁻¹y. Clients with the same X and proportional y have
    proportional F_m: overpersonalized. Otherwise G is at most F at the lowest point found, less mean inf F_m.

    Raises InputError for wrong shapes, features < 1 and ν ≤ 0.
    """

    family: ClassVar[str] = "representation"

    def __init__(self, *, X: Any, y: Any, features: int, nu: float) -> None:
        y_ = check_array("y", y, (None, None))
        self.n, self.rows = y_.shape
        if self.n < 1 or self.rows < 1:
            raise InputError(f"y must have at least one client and one row; got shape ({self.n}, {self.rows})")
        X_ = check_array("X", X, (*y_.shape, None))
        self.inputs = X_.shape[2]
        if self.inputs < 1:
            raise InputError("X must have rows of length >= 1; got 0")
        if features < 1:
            raise InputError(f"features must be an integer >= 1; got {features}")
        if not (math.isfinite(nu) and nu > 0):
            raise InputError(f"nu must be a finite number > 0; got {nu}")
        self.features, self.nu = int(features), float(nu)
        self.d_u, self.d_v = self.features * self.inputs, self.features
        self.X, self.y = torch.from_numpy(X_), torch.from_numpy(y_)

    def to(self, device: torch.device | str) -> Representation:
        out = Representation.__new__(Representation)
        out.n, out.d_u, out.d_v, out.spec, out.nu = self.n, self.d_u, self.d_v, self.spec, self.nu
        out.rows, out.inputs, out.features = self.rows, self.inputs, self.features
        out.X, out.y = self.X.to(device), self.y.to(device)
        return out

    @property
    def device(self) -> torch.device:
        return self.y.device

    def _phi(self, u: Tensor, clients: Tensor) -> Tensor:
        """Φ_m(W), ``(..., k, rows, features)``."""
        W = u.reshape(*u.shape[:-1], self.features, self.inputs)
        return torch.tanh(self.X[clients] @ W.mT) / math.sqrt(self.features)

    def _residual(self, phi: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return apply(phi, v) - self.y[clients]

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        r = self._residual(self._phi(u, clients), v, clients)
        return 0.5 * r.square().sum(-1) + 0.5 * self.nu * v.square().sum(-1)

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        phi = self._phi(u, clients)
        bend = (1 / self.features - phi.square()) * math.sqrt(self.features)  # tanh' / √h
        pull = self._residual(phi, v, clients)[..., None] * v[..., None, :] * bend
        made = pull.mT @ self.X[clients]
        return made.reshape(*made.shape[:-2], self.d_u)

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        phi = self._phi(u, clients)
        return apply(phi.mT, self._residual(phi, v, clients)) + self.nu * v

    def fine_tune(self, u: Tensor, clients: Tensor, start: Tensor | None = None) -> Tensor:
        """The only minimiser, (ΦᵀΦ + νI)⁻¹Φᵀy."""
        phi = self._phi(u, clients)
        eye = self.nu * torch.eye(self.d_v, dtype=phi.dtype, device=phi.device)
        return torch.linalg.solve(phi.mT @ phi + eye, apply(phi.mT, self.y[clients])[..., None])[..., 0]

    def restrict(self, clients: Sequence[int]) -> Representation:
        rows = chosen_clients(clients, self.n)
        return self._with(self.X.cpu().numpy()[rows], self.y.cpu().numpy()[rows])

    def flipped(self, clients: Sequence[int]) -> Representation:
        """y_m → −y_m for these clients. Their F_m stay: a personal head changes its sign along with the labels."""
        return self._with(self.X.cpu().numpy(), negated(self.y, clients).cpu().numpy())

    def _with(self, X: np.ndarray, y: np.ndarray) -> Representation:
        return Representation(X=X, y=y, features=self.features, nu=self.nu).to(self.device)

    @cached_property
    def _proportional(self) -> bool:
        """Whether all clients have the same X, and y_m that are multiples of one vector."""
        X, y = self.X.cpu().numpy(), self.y.cpu().numpy()
        largest = y[np.linalg.norm(y, axis=1).argmax()]
        off = y - np.outer(y @ largest, largest) / max(float(largest @ largest), np.finfo(float).tiny)
        same = bool(np.abs(X - X[0]).max() <= ALIKE * np.abs(X).max())
        return same and bool(np.abs(off).max() <= ALIKE * np.abs(y).max())

    def _constants(self) -> Constants:
        e = self.envelope_constants
        alone = self.n == 1
        unbounded = Constant(math.inf, "upper", "grows with ‖θ‖; see envelope_constants for what fine-tuning meets")
        return Constants(
            L_u=unbounded,
            L_v=e.L_theta,
            L_uv=unbounded,
            L_vu=unbounded,
            delta=Constant(0.0 if alone else math.inf, "exact", "one client" if alone else "grows with ‖θ‖"),
            rho=Constant(0.0, "exact", "not needed"),
            F_star=e.F_star,
        )

    def _envelope_constants(self) -> EnvelopeConstants:
        X, y = self.X.cpu().numpy(), self.y.cpu().numpy()
        N, h, nu = self.rows, self.features, self.nu
        slope, length = norms(X) ** 2, np.linalg.norm(y, axis=1)
        s = min(math.sqrt(N), math.sqrt(nu))
        T = length * s / (s**2 + nu)
        b = BEND * slope * T / math.sqrt(h) * (T + np.abs(y).max(1))
        L_m = T**2 * slope / h + b

        def cross(t: np.ndarray) -> np.ndarray:
            return np.sqrt(slope / h) * (2 * math.sqrt(N) * t + length)

        reach = math.sqrt(N) * length / nu
        inf_m = 0.5 * nu * length**2 / (nu + N)
        proportional = self._proportional
        constant = not (X.any() and y.any())
        gap = 0.0 if proportional or constant else max(0.0, lowest(self) - float(inf_m.mean()))
        L_max = Constant(float(L_m.max()), "upper", "max_m of T²λ/h + b")
        return EnvelopeConstants(
            L=Constant(float(L_m.mean()), "upper", "mean of the L_m"),
            L_m=L_m,
            L_max=L_max,
            mu=Constant(0.0, "upper", "none known"),
            strongly_convex=False,
            mu_v=Constant(nu, "upper", "ν"),
            L_theta=Constant(N + nu, "upper", "‖Φ‖² + ν ≤ rows + ν"),
            L_uv=Constant(float(cross(reach).max()), "upper", f"for ‖θ_m‖ ≤ √rows‖y_m‖/ν (at most {reach.max():.6g})"),
            L_block=Constant(L_max.value, "upper", "for the θ that exact fine-tuning returns"),
            ell_block=Constant(float(b.max()), "upper", "for the θ that exact fine-tuning returns"),
            L_F=Constant(float(np.maximum(L_m, b + cross(T) ** 2 / nu).max()), "upper", "max(L_m, b + L_uv(T)²/ν)"),
            F_star=Constant(float(inf_m.mean()), "upper", "mean of ν‖y_m‖²/(2(ν + rows))"),
            inf_m=inf_m,
            G=Constant(
                gap,
                "exact" if gap == 0 else "upper",
                "the F_m share their minimisers" if gap == 0 else "F at the lowest point found, less mean inf F_m",
            ),
            zeta_sq=Constant(2 * L_max.value * gap, "exact" if gap == 0 else "upper", "2 L_max G"),
            B_sq=self._relative_diversity(length, proportional or constant),
            convex=constant,
            overpersonalized=proportional or constant,
            vacuous=constant,
            quadratic=constant,
        )

    @staticmethod
    def _relative_diversity(length: np.ndarray, proportional: bool) -> Constant:
        """Proportional F_m = s_m²·F_1: mean ‖∇F_m − ∇F‖² = (mean s⁴/(mean s²)² − 1)‖∇F‖²."""
        if not proportional:
            return Constant(math.inf, "upper", "no mu > 0 is known")
        mean = float((length**2).mean())
        value = max(0.0, float((length**4).mean()) / mean**2 - 1.0) if mean > 0 else 0.0
        return Constant(value, "exact", "mean s⁴/(mean s²)² − 1 for F_m proportional to s_m² = ‖y_m‖²")


def build_random(
    *,
    n: Count,
    features: Count = 2,
    inputs: Count = 2,
    rows: Count = 6,
    nu: Positive = 1.0,
    noise: NotNegative = 0.1,
    spread: NotNegative = 1.0,
    overpersonalized: bool = False,
    seed: Size = 0,
) -> Representation:
    """Random data: X_m normal, y_m = Φ_m(W°)θ_m° + ``noise``·normal with one W° and normal heads θ_m° of deviation
    ``spread`` about a common one. overpersonalized: the data of the first client for all, but y_m = s_m·y with
    s_m normal of deviation ``spread`` about 1, so that the clients' minimisers agree and their heads do not.
    """
    for name, value in (("n", n), ("features", features), ("inputs", inputs), ("rows", rows)):
        if value < 1:
            raise InputError(f"{name} must be an integer >= 1; got {value}")
    for name, value in (("noise", noise), ("spread", spread)):
        if not value >= 0:
            raise InputError(f"{name} must be >= 0; got {value}")
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((features, inputs))
    X = rng.standard_normal((n, rows, inputs))
    own = rng.standard_normal((n, features))
    head = rng.standard_normal(features) + spread * own
    y = (np.tanh(X @ W.T) @ head[..., None])[..., 0] / math.sqrt(features) + noise * rng.standard_normal((n, rows))
    if overpersonalized:
        X, y = np.broadcast_to(X[0], X.shape), np.outer(1.0 + spread * own[:, 0], y[0])
    return Representation(X=X, y=y, features=features, nu=nu)


def build_arrays(*, X: Stack, y: Matrix, features: Count, nu: Positive) -> Representation:
    """Explicit arrays; shapes and errors as in :class:`Representation`."""
    return Representation(X=X, y=y, features=features, nu=nu)
