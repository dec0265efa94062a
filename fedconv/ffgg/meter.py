"""Measuring along a run of FFGG: F, its gradient and the distance to a minimiser at every w^k, smoothness between."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from problems.envelope import EnvelopeProblem

WITHIN_ROUNDING = 1e-5
"""Steps shorter than this, relative to the size of w and of ∇F_m/L_max, say nothing about curvature: a gradient's
rounding of 1e-16 would be more than 1e-11 of its change."""


class Point(NamedTuple):
    """What is known at a measured point: F_m(w) − inf f_m ``(R, n)`` and F(w) − F★ ``(R,)``."""

    gaps: Tensor
    F_gap: Tensor


class Meter:
    """Arrays ``(R, T + 1)`` at points and ``(R, T)`` in rounds for the (honest) clients of ``problem``.

    Level ``none`` measures nothing; ``proof`` also keeps the iterates. Nothing here feeds back into a run.
    """

    def __init__(self, problem: EnvelopeProblem, start: Tensor, T: int, R: int, level: str) -> None:
        self.problem, self.T, self.R = problem, T, R
        self.wanted, self.proof = level != "none", level == "proof"
        self.arrays: dict[str, np.ndarray] = {}
        if not self.wanted:
            return
        c = problem.envelope_constants
        self.F_star, self.L_block, self.L_max = c.F_star.value, c.L_block.value, c.L_max.value
        self.inf_m = torch.from_numpy(np.asarray(c.inf_m, dtype=np.float64)).to(problem.device)
        self.nearest = problem.nearest_minimiser(start)
        self.size = start.new_zeros(R)
        self.before: tuple[Tensor, Tensor, Tensor] | None = None

    def put(self, name: str, k: int, values: Tensor, columns: int | None = None) -> None:
        """Column k of variable ``name`` (one of T, or of ``columns``)."""
        shape = (self.R, self.T if columns is None else columns, *values.shape[1:])
        self.arrays.setdefault(name, np.empty(shape))[:, k] = values.cpu().numpy()

    def gradients(self, w: Tensor) -> Tensor:
        """∇F_m(w) of all clients, ``(R, n, d_u)``, for w ``(R, d_u)``."""
        return self.problem.envelope_grad(everywhere(w, self.problem.n), self.problem.everyone())

    def objective(self, w: Tensor) -> Tensor:
        """F(w) ``(R,)`` for w ``(R, d_u)``."""
        return self.problem.envelope(everywhere(w, self.problem.n), self.problem.everyone()).mean(-1)

    def point(self, k: int, w: Tensor, gradients: Tensor | None = None) -> Point | None:
        """Measure w^k ``(R, d_u)`` and the step that led there, if wanted. ``gradients``: ∇F_m(w^k), where known."""
        if not self.wanted:
            return None
        each = self.problem.envelope(everywhere(w, self.problem.n), self.problem.everyone())
        slopes = self.gradients(w) if gradients is None else gradients
        F, points = each.mean(-1), self.T + 1
        self.put("F", k, F, points)
        self.put("F_gap", k, F - self.F_star, points)
        self.put("grad_sq", k, slopes.mean(-2).square().sum(-1), points)
        if self.nearest is not None:
            self.put("dist_sq", k, (w - self.nearest).square().sum(-1), points)
        if self.proof:
            self.put("w", k, w, points)
        self._curvature(k - 1, w, each, slopes)
        self.before = (w, each, slopes)
        return Point(each - self.inf_m, F - self.F_star)

    def _curvature(self, k: int, w: Tensor, each: Tensor, slopes: Tensor) -> None:
        """Theorem 1 along the step from w^k to w^{k+1} = ``w``."""
        scale = torch.linalg.vector_norm(w, dim=-1)
        if self.L_max > 0:
            scale = torch.maximum(scale, torch.linalg.vector_norm(slopes, dim=-1).amax(-1) / self.L_max)
        self.size = torch.maximum(self.size, scale)
        if self.before is None:
            return
        w_before, each_before, slopes_before = self.before
        moved = w - w_before
        length = torch.linalg.vector_norm(moved, dim=-1)
        change = torch.linalg.vector_norm(slopes - slopes_before, dim=-1).amax(-1)
        short = length <= WITHIN_ROUNDING * self.size
        self.put("smooth_ratio", k, torch.where(short, torch.zeros_like(length), change / length))
        linear = (slopes_before * moved[:, None, :]).sum(-1)
        excess = each - each_before - linear - 0.5 * self.L_block * length.square()[:, None]
        self.put("descent_excess", k, excess.amax(-1))

    def finish(self, w: Tensor) -> dict[str, np.ndarray]:
        """All arrays with F_final ``(R,)`` and u_final ``(R, d_u)`` at w^T = ``w``, which has been measured."""
        return self.arrays | {"F_final": self.objective(w).cpu().numpy(), "u_final": w.cpu().numpy().copy()}


def everywhere(w: Tensor, k: int) -> Tensor:
    """w ``(R, d_u)`` as each of k clients sees it, ``(R, k, d_u)``."""
    return w[:, None, :].expand(-1, k, -1)
