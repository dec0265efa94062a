"""Measuring along a run of FedFomo: every client's losses, what mixing promised and gave, whom clients listen to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedconv.methods.fedfomo.measures import measures
from fedconv.methods.fedfomo.method import FedFomo
from fedconv.methods.fedfomo.mixing import Mixed
from fedconv.methods.fedfomo.target_losses import Judge


@dataclass(frozen=True)
class Round:
    """What a round of mixing knows: ``cohort``, ``ready (R, m)``; candidates ``chosen``, ``valid (R, m, C)`` with their
    ``origin``; θ^0 ``base (R, m, d)``, ``models (R, m, C, d)``, θ^+ ``after``; all clients' ``bases``."""

    t: int
    cohort: Tensor
    ready: Tensor
    chosen: Tensor
    valid: Tensor
    origin: np.ndarray
    base: Tensor
    models: Tensor
    mixed: Mixed
    after: Tensor
    bases: Tensor


class Meter:
    """Arrays of ``fedconv.methods.fedfomo.variables.VARIABLES``. Level ``none`` measures nothing; ``proof`` also keeps
    models and every candidate's distance, gain and score. Nothing here feeds back into a run."""

    def __init__(self, judge: Judge, method: FedFomo, start: Tensor, T: int, R: int, level: str) -> None:
        self.judge, self.method, self.T, self.R = judge, method, T, R
        self.n = start.shape[0]
        self.wanted, self.proof = level != "none", level == "proof"
        self.arrays: dict[str, np.ndarray] = {}
        if self.wanted:
            self.constants, self.isotropic = judge.constants, judge.isotropic
            self.everyone = judge.problem.everyone()
            self.rho = None if self.isotropic is None else (1 - method.gamma * self.isotropic.a) ** method.tau

    def put(self, name: str, t: int, values: Tensor | np.ndarray, columns: int | None = None) -> None:
        """Entry t of variable ``name (R, T, ...)`` (or of ``columns`` entries)."""
        found = values.cpu().numpy() if isinstance(values, Tensor) else values
        shape = (self.R, self.T if columns is None else columns, *found.shape[1:])
        if name not in self.arrays:
            self.arrays[name] = np.zeros(shape, dtype=found.dtype)
        self.arrays[name][:, t] = found

    def start(self, base: Tensor, alone: Tensor, affinity: Tensor) -> None:
        """Measure the start."""
        if self.wanted:
            self._models(0, base, base, alone, affinity)

    def point(self, t: int, base: Tensor, trained: Tensor, alone: Tensor, affinity: Tensor, cohort: np.ndarray) -> None:
        """Measure what round t − 1 has left behind, after ``round``."""
        if not self.wanted:
            return
        self._models(t, base, trained, alone, affinity)
        took = np.zeros((self.R, self.n), dtype=bool)
        np.put_along_axis(took, cohort, True, axis=1)
        self.put("cohort", t - 1, took)
        self.arrays["bits_up"][:, t - 1] += cohort.shape[1] * self.judge.d * self.method.value_bits

    def _models(self, t: int, base: Tensor, trained: Tensor, alone: Tensor, affinity: Tensor) -> None:
        points = self.T + 1
        for name, models in (("loss", base), ("trained_loss", trained), ("local_loss", alone)):
            self.put(name, t, self.judge.value(models, self.everyone), points)
        self.put("grad_sq", t, self.judge.grad(base, self.everyone).square().sum(-1), points)
        self.put("affinity", t, affinity, points)
        if self.isotropic is not None:
            self.put("error", t, torch.linalg.vector_norm(base - self.isotropic.c, dim=-1), points)
        if self.proof:
            self.put("w", t, base, points)
            self.put("w_trained", t, trained, points)

    def round(self, now: Round) -> None:
        """Measure the mixing of round t; numbers of clients that do not mix are 0."""
        if not self.wanted:
            return
        t, mixed = now.t, now.mixed
        self.put("mixed", t, self._clients(now, now.ready))
        origin = torch.from_numpy(now.origin).to(now.cohort.device)
        self._matrix("weight", now, mixed.weight)
        self._matrix("origin", now, origin)
        found = measures(self.judge, self.constants.L.value, self.constants.weak.value, self.method, now)
        if self.isotropic is not None and self.rho is not None:
            found |= self._clusters(now)
        for name, values in found.items():
            self.put(name, t, self._clients(now, torch.where(now.ready, values, 0)))
        down = (now.valid.sum(-1) - 1).clamp(min=0).sum(-1).double()
        self.put("downloads", t, down)
        self.put("explored", t, (origin == 3).sum((-1, -2)).double())
        b = self.method.value_bits
        self.put("bits_down", t, down * self.judge.d * b)
        self.put("bits_up", t, down * b)
        if self.proof:
            for name, values in (("gain", mixed.gain), ("distance", mixed.distance_sq.sqrt()), ("score", mixed.score)):
                self._matrix(name, now, values)

    def _clients(self, now: Round, values: Tensor) -> Tensor:
        """Values ``(R, m)`` of the cohort as ``(R, n)``, 0 elsewhere."""
        out = torch.zeros(self.R, self.n, dtype=values.dtype, device=values.device)
        return out.scatter(1, now.cohort, values)

    def _matrix(self, name: str, now: Round, values: Tensor) -> None:
        """Values ``(R, m, C)`` of candidates as ``(R, n, n)``: row i, column of the client whose model it is."""
        held = torch.where(now.valid, values, 0)
        rows = torch.zeros(self.R, now.cohort.shape[1], self.n, dtype=held.dtype, device=held.device)
        rows = rows.scatter_add(2, now.chosen, held)
        out = torch.zeros(self.R, self.n, self.n, dtype=held.dtype, device=held.device)
        self.put(name, now.t, out.scatter(1, now.cohort[..., None].expand_as(rows), rows))

    def _clusters(self, now: Round) -> dict[str, Tensor]:
        """What Theorem 4 of the theory page speaks of, ``(R, m)`` each."""
        iso, rho = self.isotropic, self.rho
        assert iso is not None
        assert rho is not None
        c = iso.c[now.cohort]
        own = torch.linalg.vector_norm(now.base - c, dim=-1)
        far = torch.linalg.vector_norm(now.models - c[..., None, :], dim=-1)
        nearest = torch.where(now.valid, far, torch.inf).amin(-1)
        size = torch.linalg.vector_norm(c, dim=-1) + torch.linalg.vector_norm(now.base, dim=-1)
        clear = (far - own[..., None]).abs() > (1e-9 * own + 1e-14 * size)[..., None]
        wrong = now.valid & clear & ((now.mixed.weight > 0) != (far < own[..., None]))
        rivals = now.valid & ((now.mixed.weight > 0) != (far < far[..., :1]))
        errors = torch.linalg.vector_norm(now.bases - iso.c, dim=-1)
        theirs = torch.take_along_dim(errors[:, None, :], now.chosen, dim=-1)
        apart = torch.linalg.vector_norm(c[..., None, :] - iso.c[now.chosen], dim=-1)
        apart = apart * (1 - 1e-12)
        reach = own[..., None] + (1 - rho) * iso.bias + abs(rho) * theirs
        none = torch.zeros_like(now.mixed.weight)
        across = iso.across[now.cohort[..., None].expand_as(now.chosen), now.chosen]
        return {
            "nearest": torch.where(torch.isfinite(nearest), nearest, 0.0),
            "wrong_weights": wrong.sum(-1).double(),
            "wrong_weights_own": rivals[..., 1:].sum(-1).double(),
            "far_weight": torch.where(now.valid & (reach <= apart), now.mixed.weight, none).sum(-1),
            "far_weight_loose": torch.where(now.valid & (own[..., None] <= apart), now.mixed.weight, none).sum(-1),
            "cross_weight": torch.where(now.valid & across, now.mixed.weight, none).sum(-1),
        }

    def finish(self, base: Tensor, trained: Tensor, affinity: Tensor) -> dict[str, np.ndarray]:
        """All arrays with F_final ``(R,)``, w_final and the last trained models ``(R, n, d)``."""
        final = self.judge.value(base, self.judge.problem.everyone()).mean(-1)
        ends = {"F_final": final, "w_final": base, "w_trained_final": trained, "affinity_final": affinity}
        return self.arrays | {k: x.cpu().numpy().copy() for k, x in ends.items()}
