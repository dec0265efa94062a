"""Measuring along a run of FFGG: F, its gradient and the distance to a minimiser at every w^k, smoothness between.

A run keeps its iterates; they are measured when it has ended, many at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from fedconv.problems.envelopes.base import EnvelopeProblem

WITHIN_ROUNDING = 1e-5
"""Steps shorter than this, relative to the size of w and of ∇F_m/L_max, say nothing about curvature: a gradient's
rounding of 1e-16 would be more than 1e-11 of its change."""


AT_ONCE = 20_000
"""Iterates are measured together as long as all clients' copies of them hold at most so many numbers."""


class Meter:
    """Arrays ``(R, T + 1)`` at points and ``(R, T)`` in rounds for the (honest) clients of ``problem``.

    Level ``none`` measures nothing; ``proof`` also keeps the iterates. Nothing here feeds back into a run.
    ``path (R, T + 1, d_u)``: w^k; ``updates (R, T, d_u)``: ĝ^k, both of levels other than ``none``.
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
        self.path, self.updates = start.new_empty(R, T + 1, problem.d_u), start.new_empty(R, T, problem.d_u)

    def put(self, name: str, k: int, values: Tensor) -> None:
        """Column k of variable ``name (R, T)``."""
        self.arrays.setdefault(name, np.empty((self.R, self.T)))[:, k] = values.cpu().numpy()

    def fill(self, name: str, columns: slice, values: Tensor, points: bool = False) -> None:
        """Some columns of variable ``name``, one of T, or of T + 1 ``points``."""
        shape = (self.R, self.T + points, *values.shape[2:])
        self.arrays.setdefault(name, np.empty(shape))[:, columns] = values.cpu().numpy()

    def gradients(self, w: Tensor) -> Tensor:
        """∇F_m(w) of all clients, ``(..., n, d_u)``, for w ``(..., d_u)``."""
        return self.problem.envelope_grad(everywhere(w, self.problem.n), self.problem.everyone())

    def envelopes(self, w: Tensor) -> Tensor:
        """F_m(w) of all clients, ``(..., n)``, for w ``(..., d_u)``."""
        return self.problem.envelope(everywhere(w, self.problem.n), self.problem.everyone())

    def objective(self, w: Tensor) -> Tensor:
        """F(w) ``(...)`` for w ``(..., d_u)``."""
        return self.envelopes(w).mean(-1)

    def point(self, k: int, w: Tensor) -> None:
        """Keep w^k ``(R, d_u)``, if wanted."""
        if self.wanted:
            self.path[:, k] = w

    def update(self, k: int, update: Tensor) -> None:
        """Keep ĝ^k ``(R, d_u)``, if wanted."""
        if self.wanted:
            self.updates[:, k] = update

    def spans(self, columns: int, clients: int) -> Iterator[slice]:
        """0..columns − 1 in parts that are measured together where ``clients`` clients are asked at each."""
        each = self.R * clients * max(self.problem.d_u, self.problem.d_v, 1)
        width = max(1, AT_ONCE // each)
        return (slice(k, min(k + width, columns)) for k in range(0, columns, width))

    def finish(self, w: Tensor) -> dict[str, np.ndarray]:
        """All arrays with F_final ``(R,)`` and u_final ``(R, d_u)`` at w^T = ``w``, which is the last point."""
        if self.wanted:
            self._points()
            for part in self.spans(self.T, 1):
                self.fill("update_sq", part, self.updates[:, part].square().sum(-1))
        return self.arrays | {"F_final": self.objective(w).cpu().numpy(), "u_final": w.cpu().numpy().copy()}

    def _points(self) -> None:
        """Measure every point and the steps between."""
        size = self.path.new_zeros(self.R, 1)
        last: tuple[Tensor, ...] | None = None
        for part in self.spans(self.T + 1, self.problem.n):
            w = self.path[:, part]
            each, slopes = self.envelopes(w), self.gradients(w)
            F = each.mean(-1)
            self.fill("F", part, F, points=True)
            self.fill("F_gap", part, F - self.F_star, points=True)
            self.fill("grad_sq", part, slopes.mean(-2).square().sum(-1), points=True)
            if self.nearest is not None:
                self.fill("dist_sq", part, (w - self.nearest).square().sum(-1), points=True)
            if self.proof:
                self.fill("w", part, w, points=True)
            scale = torch.linalg.vector_norm(w, dim=-1)
            if self.L_max > 0:
                scale = torch.maximum(scale, torch.linalg.vector_norm(slopes, dim=-1).amax(-1) / self.L_max)
            sizes = torch.cat([size, scale], 1).cummax(1).values[:, 1:]
            new = (w, each, slopes, sizes)
            known = new if last is None else tuple(torch.cat(pair, 1) for pair in zip(last, new, strict=True))
            self._curvature(slice(part.stop - known[0].shape[1], part.stop - 1), *known)
            last, size = tuple(x[:, -1:] for x in new), sizes[:, -1:]

    def _curvature(self, rounds: slice, w: Tensor, each: Tensor, slopes: Tensor, size: Tensor) -> None:
        """Theorem 1 along the steps between consecutive points w ``(R, C + 1, d_u)``; ``size (R, C + 1)``: the
        largest scale met until then."""
        moved = w[:, 1:] - w[:, :-1]
        length = torch.linalg.vector_norm(moved, dim=-1)
        change = torch.linalg.vector_norm(slopes[:, 1:] - slopes[:, :-1], dim=-1).amax(-1)
        short = length <= WITHIN_ROUNDING * size[:, 1:]
        self.fill("smooth_ratio", rounds, torch.where(short, torch.zeros_like(length), change / length))
        linear = (slopes[:, :-1] * moved[:, :, None, :]).sum(-1)
        excess = each[:, 1:] - each[:, :-1] - linear - 0.5 * self.L_block * length.square()[..., None]
        self.fill("descent_excess", rounds, excess.amax(-1))


def everywhere(w: Tensor, k: int) -> Tensor:
    """w ``(..., d_u)`` as each of k clients sees it, ``(..., k, d_u)``."""
    return w[..., None, :].expand(*w.shape[:-1], k, w.shape[-1])
