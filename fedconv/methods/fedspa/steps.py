"""What the clients and the server of FedSpa do in a round, for given masks and given noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedconv.core.streams import Cause, Streams
from fedconv.methods.fedspa.method import FedSpa
from fedconv.problems.base import Problem
from fedconv.problems.noise import Noise, fill
from fedconv.problems.whole_model import Whole, masked


@dataclass(frozen=True)
class Draws:
    """Gradient noise ξ of R replicates: ``steps(t, k)`` for the first k sampled clients ``(R, k, τ, d)``, ``absent``
    for the others' virtual steps, ``growth (R, k, d)`` for the dense gradient of a mask search."""

    problem: Problem
    noise: Noise
    streams: Streams
    replicates: np.ndarray
    tau: int

    def steps(self, t: int, k: int) -> Tensor:
        return self._pair(Cause.NOISE_U, Cause.NOISE_V, t, k)

    def absent(self, t: int, k: int) -> Tensor:
        return self._pair(Cause.ABSENT_NOISE_U, Cause.ABSENT_NOISE_V, t, k)

    def growth(self, t: int, k: int) -> Tensor:
        problem = self.problem
        scale_u, scale_v = self.noise.scales(problem.d_u, problem.d_v)
        drawn = self._draw(Cause.MASK, t, (k, problem.d_u + problem.d_v))
        return torch.cat([scale_u * drawn[..., : problem.d_u], scale_v * drawn[..., problem.d_u :]], -1)

    def _pair(self, cause_u: Cause, cause_v: Cause, t: int, k: int) -> Tensor:
        problem = self.problem
        scale_u, scale_v = self.noise.scales(problem.d_u, problem.d_v)
        u = scale_u * self._draw(cause_u, t, (k, self.tau, problem.d_u))
        v = scale_v * self._draw(cause_v, t, (k, self.tau, problem.d_v))
        return torch.cat([u, v], -1)

    def _draw(self, cause: Cause, t: int, shape: tuple[int, ...]) -> Tensor:
        law, parameter = self.noise.code()
        out = np.zeros((len(self.replicates), int(np.prod(shape))))
        if law and out.size:
            fill(law, parameter, self.streams.states(cause, self.replicates, t), out)
        return torch.from_numpy(out.reshape(len(self.replicates), *shape)).to(self.problem.device)


@dataclass(frozen=True)
class Local:
    """Local steps of k clients: the update U = w_{k,0} − w_{k,τ}, the last iterate (both ``(R, k, d)``), the mean
    gradient ḡ without noise, the mean of ‖m ⊙ ξ‖² ``(R, k)``, and how many weights off the mask were not 0."""

    update: Tensor
    end: Tensor
    gradient: Tensor
    noise_sq: Tensor
    stray: Tensor


def local_steps(whole: Whole, method: FedSpa, w: Tensor, mask: Tensor, clients: Tensor, noise: Tensor) -> Local:
    """τ masked steps of the given clients from m ⊙ w: ``w (R, d)``, ``mask (R, k, d)``, ``clients (R, k)``,
    ``noise (R, k, τ, d)``."""
    first = at = masked(w[:, None, :].expand(-1, clients.shape[1], -1), mask)
    total, noise_sq = torch.zeros_like(at), at.new_zeros(at.shape[:-1])
    stray = torch.zeros(at.shape[0], dtype=torch.int64, device=at.device)
    for j in range(method.tau):
        gradient, xi = masked(whole.grad(at, clients), mask), masked(noise[:, :, j], mask)
        at = at - method.gamma * (gradient + xi)
        total = total + gradient
        noise_sq = noise_sq + xi.square().sum(-1)
        stray = stray + ((at != 0) & ~mask).sum((-1, -2))
    return Local(first - at, at, total / method.tau, noise_sq / method.tau, stray)


def server_step(method: FedSpa, w: Tensor, update: Tensor, mask: Tensor) -> Tensor:
    """w − (1/m) Σ U_k, or divided by the clients whose masks hold a coordinate."""
    if method.average == "cohort":
        return w - update.mean(-2)
    return w - update.sum(-2) / mask.sum(-2).clamp(min=1)
