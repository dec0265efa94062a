"""FedSpa's rounds: cohorts, masked local steps, mask search, server; all replicates and clients in one tensor."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedconv.core.streams import Streams
from fedconv.methods.fedspa.masks import Search, layer_counts, next_mask
from fedconv.methods.fedspa.measures import Meter, Step
from fedconv.methods.fedspa.method import FedSpa
from fedconv.methods.fedspa.steps import Draws, local_steps, server_step
from fedconv.problems.base import Problem
from fedconv.problems.noise import Noise
from fedconv.problems.whole_model import Whole


def simulate_block(
    problem: Problem,
    method: FedSpa,
    noise: Noise,
    w_start: Tensor,
    T: int,
    streams: Streams,
    replicates: np.ndarray,
    level: str,
) -> dict[str, np.ndarray]:
    """T rounds for the given replicates from ``w_start (d,)``: arrays of
    ``fedconv.methods.fedspa.variables.VARIABLES``.

    What is measured never changes the trajectory.
    """
    R, n, m = len(replicates), problem.n, method.m
    whole, layout, device = Whole(problem), method.layout(problem), problem.device
    first = method.masks.start(n, layout)
    budgets = layer_counts(first, layout)
    masks = torch.from_numpy(first).to(device).expand(R, -1, -1)
    w = w_start.to(device).expand(R, -1)
    draws = Draws(problem, noise, streams, replicates, method.tau)
    meter = Meter(whole, method, layout, budgets, draws, T, R, level)
    meter.start(w, masks)
    for t in range(T):
        order = streams.cohorts(replicates, t, n, m)
        clients = torch.from_numpy(order).to(device)
        cohort = clients[:, :m]
        mine = torch.take_along_dim(masks, cohort[..., None], dim=1)
        local = local_steps(whole, method, w, mine, cohort, draws.steps(t, m))
        after = server_step(method, w, local.update, mine)
        alpha = method.masks.rate(t, T)
        r = method.masks.moves(alpha, budgets[order[:, :m]], layout)
        found: Search | None = None
        following = masks
        if r.any():
            slope = whole.grad(local.end, cohort) + draws.growth(t, m)
            moves = torch.from_numpy(r).to(device)
            found = next_mask(mine, local.end, slope, moves, layout, regrow_pruned=method.masks.regrow_pruned)
            following = masks.scatter(1, cohort[..., None].expand_as(found.mask), found.mask)
        meter.round(Step(t, w, after, masks, following, clients, local, found, r, alpha))
        w, masks = after, following
    return meter.finish(w, masks)
