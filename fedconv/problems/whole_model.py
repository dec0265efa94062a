"""A problem's whole model as one vector: w = (u, v), which every client has in full."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fedconv.problems.base import GRADES, Constant, Problem


class Whole:
    """F_k(w) := F_k(u, v) at w = (u, v) ∈ R^d, d = d_u + d_v. Where d_v = 0 (or d_u = 0) w is u (or v) alone.

    ``w (..., k, d)`` and ``clients (..., k)`` → ``value (..., k)``, ``grad (..., k, d)``; a mask ``(..., k, d)`` gives
    f_k(w) = F_k(m_k ⊙ w) and ∇f_k(w) = m_k ⊙ ∇F_k(m_k ⊙ w).
    """

    def __init__(self, problem: Problem) -> None:
        self.problem, self.n, self.d = problem, problem.n, problem.d_u + problem.d_v

    def value(self, w: Tensor, clients: Tensor) -> Tensor:
        d_u = self.problem.d_u
        return self.problem.value(w[..., :d_u], w[..., d_u:], clients)

    def grad(self, w: Tensor, clients: Tensor) -> Tensor:
        d_u, d_v = self.problem.d_u, self.problem.d_v
        u, v = w[..., :d_u], w[..., d_u:]
        parts = [self.problem.grad_u(u, v, clients)] if d_u else []
        parts += [self.problem.grad_v(u, v, clients)] if d_v else []
        return torch.cat([p.expand(*w.shape[:-1], p.shape[-1]) for p in parts], dim=-1)

    def masked_value(self, w: Tensor, mask: Tensor, clients: Tensor) -> Tensor:
        return self.value(masked(w, mask), clients)

    def masked_grad(self, w: Tensor, mask: Tensor, clients: Tensor) -> Tensor:
        return masked(self.grad(masked(w, mask), clients), mask)

    def objective(self, w: Tensor, masks: Tensor) -> Tensor:
        """f(w) = (1/n) Σ_k F_k(m_k ⊙ w) for w ``(..., d)`` and masks ``(..., n, d)``: ``(...)``."""
        spread = w[..., None, :].expand(*w.shape[:-1], self.n, self.d)
        return self.masked_value(spread, masks, self.problem.everyone()).mean(-1)


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """m ⊙ x; exactly 0 off the mask even where x is inf or NaN."""
    return torch.where(mask, x, x.new_zeros(()))


def smoothness(problem: Problem) -> Constant:
    """L of every F_k in w = (u, v): L_u (L_v) where there is one block, else the norm of [[L_u, L_uv], [L_vu, L_v]],
    unless the problem states its own ``joint_smoothness``."""
    own = getattr(problem, "joint_smoothness", None)
    if isinstance(own, Constant):
        return own
    c = problem.constants
    if problem.d_v == 0:
        return c.L_u
    if problem.d_u == 0:
        return c.L_v
    parts = (c.L_u, c.L_uv, c.L_vu, c.L_v)
    if not all(math.isfinite(p.value) for p in parts):
        return Constant(math.inf, "upper", "a block of the problem has no smoothness constant")
    matrix = torch.tensor([[c.L_u.value, c.L_uv.value], [c.L_vu.value, c.L_v.value]], dtype=torch.float64)
    weakest = max((p.grade for p in parts), key=GRADES.index)
    grade = "estimated" if weakest == "estimated" else "upper"
    return Constant(float(torch.linalg.matrix_norm(matrix, 2)), grade, "‖[[L_u, L_uv], [L_vu, L_v]]‖₂")
