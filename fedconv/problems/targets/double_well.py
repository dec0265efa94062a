"""Target losses with two wells: not convex, and mixing two good models can give a bad one."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.base import Constant, check_array
from fedconv.problems.errors import InputError
from fedconv.problems.targets.base import TargetConstants, TargetProblem, moved, whole
from fedconv.problems.validation import Matrix, Positive, Size


class DoubleWell(TargetProblem):
    """F_i(θ) = (a/2)‖θ − b_i‖², judged by L_i(θ) = Σ_j ((θ_j² − 1)² + h_{ij} θ_j).

    b, h ``(n, d)``. L_i'' ≥ −4, so that λ = 4 exactly; no L_i is smooth. inf L_i by the roots of its derivative.
    Raises InputError for wrong shapes or a ≤ 0.
    """

    family: ClassVar[str] = "double_well"

    def __init__(self, *, b: Any, h: Any, curvature: float = 1.0, d_u: int = 0) -> None:
        b_ = check_array("b", b, (None, None))
        if not (np.isfinite(curvature) and curvature > 0):
            raise InputError(f"curvature must be a finite number > 0; got {curvature}")
        n, d = b_.shape
        super().__init__(A=np.broadcast_to(curvature * np.eye(d), (n, d, d)), b=b_, d_u=d_u)
        self.curvature = float(curvature)
        self.h = torch.from_numpy(check_array("h", h, (n, d)))

    def to(self, device: torch.device | str) -> DoubleWell:
        return moved(self, device, ("A", "b", "offset", "h"))

    def target_value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        w = whole(u, v)
        return ((w.square() - 1).square() + self.h[clients] * w).sum(-1)

    def target_grad(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        w = whole(u, v)
        return 4 * w * (w.square() - 1) + self.h[clients]

    @property
    def target_constants(self) -> TargetConstants:
        infima = tuple(sum(_least(float(x)) for x in row) for row in self.h.cpu().numpy())
        return TargetConstants(
            Constant(float("inf"), "upper", "fourth powers are not smooth"),
            Constant(4.0, "exact", "second derivative 12x² − 4"),
            False,
            infima,
        )


def _least(h: float) -> float:
    """min (x² − 1)² + hx, at a root of 4x³ − 4x + h."""
    roots = np.roots([4.0, 0.0, -4.0, h])
    real = roots[np.abs(roots.imag) < 1e-7].real
    return float(min((x * x - 1) ** 2 + h * x for x in real))


def build(*, b: Matrix, h: Matrix, curvature: Positive = 1.0, d_u: Size = 0) -> DoubleWell:
    """Double wells with explicit arrays; shapes and errors as in :class:`DoubleWell`."""
    return DoubleWell(b=b, h=h, curvature=curvature, d_u=d_u)
