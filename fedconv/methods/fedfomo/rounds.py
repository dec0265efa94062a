"""FedFomo's rounds: cohorts, choice of models, mixing, local training; all replicates and clients in one tensor."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedconv.core.streams import Streams
from fedconv.methods.fedfomo.choosing import choose
from fedconv.methods.fedfomo.meter import Meter, Round
from fedconv.methods.fedfomo.method import FedFomo
from fedconv.methods.fedfomo.mixing import increments, mix
from fedconv.methods.fedfomo.target_losses import Judge
from fedconv.methods.fedfomo.training import Training, judged
from fedconv.problems.base import Problem
from fedconv.problems.noise import Noise


def simulate_block(
    problem: Problem,
    method: FedFomo,
    noise: Noise,
    start: Tensor,
    T: int,
    streams: Streams,
    replicates: np.ndarray,
    level: str,
) -> dict[str, np.ndarray]:
    """T rounds for the given replicates from θ^0 = ``start (n, d)``: arrays of
    ``fedconv.methods.fedfomo.variables.VARIABLES``.

    What is measured never changes the trajectory. Beside the run every client trains alone (``alone``), with the same
    gradient noise in the same rounds.
    """
    R, n, m = len(replicates), problem.n, method.m
    slots, device = method.fetched(n), problem.device
    judge = Judge(problem, method.assignment(n))
    training = Training(problem, method, noise, streams, replicates)
    base = start.to(device).expand(R, -1, -1)
    trained, alone = base, base
    uploaded = np.zeros((R, n), dtype=bool)
    affinity = torch.eye(n, dtype=torch.float64, device=device).expand(R, -1, -1)
    meter = Meter(judge, method, start.to(device), T, R, level)
    meter.start(base, alone, affinity)
    for t in range(T):
        order = streams.cohorts(replicates, t, n, m)[:, :m]
        cohort = torch.from_numpy(order).to(device)
        theta = _rows(base, cohort)
        ready = torch.from_numpy(np.take_along_axis(uploaded, order, axis=1)).to(device)
        picked = choose(streams, replicates, t, order, uploaded, affinity.cpu().numpy(), slots, method.rate(t),
                        method.ties)  # fmt: skip
        chosen = torch.from_numpy(picked.clients).to(device)
        valid, safe = chosen >= 0, chosen.clamp(min=0)
        models = _rows(trained, safe.reshape(R, -1)).reshape(R, m, -1, judge.d)
        models = torch.where(valid[..., None], models, theta[:, :, None])
        weighed = torch.cat([theta[:, :, None], models], dim=2)
        losses = judged(judge, method, streams, replicates, t, weighed, cohort)
        mixed = mix(method, theta, models, valid, losses[..., 0], losses[..., 1:])
        after = torch.where(ready[..., None], mixed.after, theta)
        meter.round(Round(t, cohort, ready, safe, valid, picked.origin, theta, models, mixed, after, base))
        grown = torch.where(valid, increments(method, mixed), 0.0)
        rows = torch.zeros(R, m, n, dtype=torch.float64, device=device).scatter_add(2, safe, grown)
        affinity = affinity.scatter_add(1, cohort[..., None].expand(-1, -1, n), rows)
        noise_now = training.draw(t, m)
        base = _put(base, cohort, after)
        trained = _put(trained, cohort, training.steps(after, cohort, noise_now))
        if meter.wanted:
            alone = _put(alone, cohort, training.steps(_rows(alone, cohort), cohort, noise_now))
        np.put_along_axis(uploaded, order, True, axis=1)
        meter.point(t + 1, base, trained, alone, affinity, order)
    return meter.finish(base, trained, affinity)


def _rows(models: Tensor, clients: Tensor) -> Tensor:
    """Models ``(R, k, d)`` of the given clients ``(R, k)``."""
    return torch.take_along_dim(models, clients[..., None], dim=1)


def _put(models: Tensor, clients: Tensor, new: Tensor) -> Tensor:
    """Models ``(R, n, d)`` with those of the given clients replaced."""
    return models.scatter(1, clients[..., None].expand_as(new), new)
