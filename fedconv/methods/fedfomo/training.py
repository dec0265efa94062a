"""Local training of FedFomo's clients, and their losses where privacy has them noisy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedconv.core.streams import Cause, Streams
from fedconv.methods.fedfomo.method import FedFomo
from fedconv.methods.fedfomo.target_losses import Judge
from fedconv.methods.fedspa.steps import Draws
from fedconv.problems.base import Problem
from fedconv.problems.noise import Noise, fill
from fedconv.problems.targets.samples import SampleTargets
from fedconv.problems.whole_model import Whole

GAUSSIAN = 1
"""The number of the Gaussian law in ``fedconv.problems.noise``."""


@dataclass(frozen=True)
class Training:
    """Local steps of R replicates: θ ← θ − γ (∇F_i(θ) + ξ), or with privacy θ ← θ − γ (mean clipped gradient + noise).

    ``noise``: ξ, of silent σ with privacy.
    """

    problem: Problem
    method: FedFomo
    noise: Noise
    streams: Streams
    replicates: np.ndarray

    def draw(self, t: int, k: int) -> Tensor:
        """What is added to the gradients of round t's k clients, ``(R, k, τ, d)``."""
        privacy, d = self.method.privacy, self.problem.d_u + self.problem.d_v
        if privacy is None:
            draws = Draws(self.problem, self.noise, self.streams, self.replicates, self.method.tau)
            return draws.steps(t, k)
        assert isinstance(self.problem, SampleTargets)
        out = normal(self.streams, Cause.PRIVACY, self.replicates, t, (k, self.method.tau, d))
        scale = privacy.noise_multiplier * privacy.clip / self.problem.samples
        return scale * out.to(self.problem.device)

    def steps(self, w: Tensor, clients: Tensor, noise: Tensor) -> Tensor:
        """τ steps of the given clients from w ``(R, k, d)``."""
        whole = Whole(self.problem)
        for j in range(self.method.tau):
            gradient = whole.grad(w, clients) if self.method.privacy is None else self._clipped(w, clients)
            w = w - self.method.gamma * (gradient + noise[:, :, j])
        return w

    def _clipped(self, w: Tensor, clients: Tensor) -> Tensor:
        assert isinstance(self.problem, SampleTargets)
        assert self.method.privacy is not None
        each = self.problem.sample_grads(w, clients)
        size = torch.linalg.vector_norm(each, dim=-1, keepdim=True)
        return (each * (self.method.privacy.clip / size).clamp(max=1.0)).mean(-2)


def judged(
    judge: Judge, method: FedFomo, streams: Streams, replicates: np.ndarray, t: int, w: Tensor, clients: Tensor
) -> Tensor:
    """The losses by which clients ``(R, k)`` weigh models w ``(R, k, C, d)``: ``(R, k, C)``.

    L_i, or with ``privacy.loss_noise`` the mean of min(loss, B) over the validation samples with Gaussian noise.
    """
    R, k, C, d = w.shape
    flat, owners = w.reshape(R, k * C, d), clients[..., None].expand(R, k, C).reshape(R, k * C)
    privacy = method.privacy
    if privacy is None or privacy.loss_noise is None or privacy.loss_bound is None:
        return judge.value(flat, owners).reshape(R, k, C)
    assert isinstance(judge.problem, SampleTargets)
    bounded = judge.problem.sample_losses(flat, judge.assignment[owners]).clamp(max=privacy.loss_bound).mean(-1)
    scale = privacy.loss_noise * privacy.loss_bound / judge.problem.validation
    drawn = normal(streams, Cause.PRIVACY_LOSS, replicates, t, (k, C)).to(w.device)
    return bounded.reshape(R, k, C) + scale * drawn


def normal(streams: Streams, cause: Cause, replicates: np.ndarray, t: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers ``(R, *shape)`` of a cause and round."""
    out = np.empty((len(replicates), int(np.prod(shape))))
    if out.size:
        fill(GAUSSIAN, 0.0, streams.states(cause, replicates, t), out)
    return torch.from_numpy(out.reshape(len(replicates), *shape))
