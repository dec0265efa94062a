"""Robust residuals: nonconvex in (u, v) jointly, bounded gradients, constants as proved upper bounds."""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.base import Constant, Constants, GradientBounds, Kernel, Problem, check_array
from fedconv.problems.envelopes.base import apply
from fedconv.problems.errors import InputError
from fedconv.problems.validation import Count, Matrix, NotNegative, Positive, Size, Stack

STEEPEST = 9 / (16 * math.sqrt(3))
"""max |φ'| for φ(r) = r²/(2(1+r²)), taken at r = 1/√3; φ'' lies in [−1/4, 1]."""

ENUMERATED = 12
"""Rows up to which the largest ‖A_iᵀy‖ over sign vectors y is enumerated."""


class Residuals(Problem):
    """F_i(u,v) = Σ_j φ((A_i u + B_i v − c_i)_j) with the Geman–McClure loss φ(r) = r²/(2(1+r²)).

    A ``(n, J, d_u)``, B ``(n, J, d_v)``, c ``(n, J)``. Upper bounds (derived here): L_u ≤ max‖A_i‖², L_v ≤ max‖B_i‖²,
    L_uv ≤ max_i min(‖A_i‖‖B_i‖, ‖|A_i|ᵀ|B_i|‖); ρ = 0 and δ² ≤ (1/n) Σ_i max ‖A_iᵀy‖² over |y_j| ≤ max|φ'|, as the
    diversity is at most the mean square of the client gradients; F★ ≥ 0.
    """

    family: ClassVar[str] = "residuals"

    def __init__(self, *, A: Any, B: Any, c: Any) -> None:
        c_ = check_array("c", c, (None, None))
        self.n, rows = c_.shape
        if self.n < 1:
            raise InputError("c must have a row for each of n >= 1 clients; got none")
        A_, B_ = check_array("A", A, (self.n, rows, None)), check_array("B", B, (self.n, rows, None))
        self.d_u, self.d_v = A_.shape[2], B_.shape[2]
        self.A, self.B, self.c = torch.from_numpy(A_), torch.from_numpy(B_), torch.from_numpy(c_)

    def to(self, device: torch.device | str) -> Residuals:
        out = Residuals.__new__(Residuals)
        out.n, out.d_u, out.d_v, out.spec = self.n, self.d_u, self.d_v, self.spec
        out.A, out.B, out.c = self.A.to(device), self.B.to(device), self.c.to(device)
        return out

    @property
    def device(self) -> torch.device:
        return self.c.device

    def _residual(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        moved = apply(self.A[clients], u)
        if self.d_v:
            moved = moved + apply(self.B[clients], v)
        return moved - self.c[clients]

    def gradient_bounds(self) -> GradientBounds | None:
        """As |φ'| ≤ 9/(16√3): the means over clients of the largest ‖A_iᵀy‖² and ‖B_iᵀy‖², and the square of the mean
        largest ‖A_iᵀy‖."""
        of_u, of_v = (np.array([largest_pull(x) for x in data.cpu().numpy()]) for data in (self.A, self.B))
        return GradientBounds(float(np.sqrt(of_u).mean()) ** 2, float(of_u.mean()), float(of_v.mean()))

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        square = self._residual(u, v, clients).square()
        return (square / (2.0 * (1.0 + square))).sum(-1)

    def _slopes(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        r = self._residual(u, v, clients)
        return r / (1.0 + r.square()).square()

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return apply(self.A[clients].mT, self._slopes(u, v, clients))

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return apply(self.B[clients].mT, self._slopes(u, v, clients))

    def kernel(self) -> Kernel:
        from fedconv.problems.compiled.losses import RESIDUALS, pack

        A, B, c = (x.cpu().numpy() for x in (self.A, self.B, self.c))
        return RESIDUALS, pack(A, B, c[:, None, :])

    def _constants(self) -> Constants:
        A, B = self.A.cpu().numpy(), self.B.cpu().numpy()
        norm_A, norm_B = _norms(A), _norms(B)
        cross = np.minimum(norm_A * norm_B, _norms(np.abs(A).swapaxes(1, 2) @ np.abs(B)))
        L_uv = Constant(float(cross.max()), "upper", "max_i min(‖A_i‖‖B_i‖, ‖|A_i|ᵀ|B_i|‖)")
        delta = math.sqrt(float(np.mean([largest_pull(a) for a in A]))) if self.n > 1 else 0.0
        return Constants(
            L_u=Constant(float(norm_A.max()) ** 2, "upper", "max_i ‖A_i‖₂², as |φ''| ≤ 1"),
            L_v=Constant(float(norm_B.max()) ** 2, "upper", "max_i ‖B_i‖₂², as |φ''| ≤ 1"),
            L_uv=L_uv,
            L_vu=L_uv,
            delta=Constant(delta, "upper", "√ of the mean largest ‖∇_uF_i‖², as |φ'| ≤ 9/(16√3)"),
            rho=Constant(0.0, "exact", "the diversity is bounded"),
            F_star=Constant(0.0, "upper", "φ ≥ 0"),
        )


def _norms(matrices: np.ndarray) -> np.ndarray:
    """Spectral norms ``(n,)``; 0 for empty matrices."""
    return np.linalg.norm(matrices, 2, axis=(1, 2)) if matrices[0].size else np.zeros(len(matrices))


def largest_pull(A: np.ndarray) -> float:
    """A bound on max ‖Aᵀy‖² over |y_j| ≤ STEEPEST: enumerated (a convex function peaks at signs), or J·c²‖A‖²."""
    rows, d = A.shape
    if d == 0 or rows == 0:
        return 0.0
    if rows > ENUMERATED:
        return STEEPEST**2 * rows * float(np.linalg.norm(A, 2)) ** 2
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=rows)))
    return STEEPEST**2 * float(((signs @ A) ** 2).sum(1).max())


def build_random(
    *, n: Count, d_u: Size, d_v: Size, rows: Count = 6, scale: Positive = 1.0, spread: NotNegative = 1.0, seed: Size = 0
) -> Residuals:
    """Random residuals: A_i and B_i with normal entries of deviation scale/√rows, targets c_i of ``spread``."""
    for name, value, least in (("n", n, 1), ("d_u", d_u, 0), ("d_v", d_v, 0), ("rows", rows, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"{name} must be an integer >= {least}; got {value}")
    if d_u + d_v == 0:
        raise InputError("d_u + d_v must be at least 1; got 0")
    if not scale > 0:
        raise InputError(f"scale must exceed 0; got {scale}")
    if not spread >= 0:
        raise InputError(f"spread must be >= 0; got {spread}")
    rng = np.random.default_rng(seed)
    deviation = scale / math.sqrt(rows)
    return Residuals(
        A=deviation * rng.standard_normal((n, rows, d_u)),
        B=deviation * rng.standard_normal((n, rows, d_v)),
        c=spread * rng.standard_normal((n, rows)),
    )


def build_arrays(*, A: Stack, B: Stack, c: Matrix) -> Residuals:
    """Robust residuals with explicit arrays; shapes and errors as in :class:`Residuals`."""
    return Residuals(A=A, B=B, c=c)
