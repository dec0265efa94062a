"""Asynchronous FFGG: numerics over a schedule of arrivals, with a ring of past iterates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fedconv.algorithms.base import State
from fedconv.ffgg.meter import Meter
from fedconv.ffgg.method import FFGG
from fedconv.ffgg.schedule import arrivals
from fedconv.streams import Streams

if TYPE_CHECKING:
    from problems.envelope import EnvelopeProblem


def simulate_block(
    problem: EnvelopeProblem,
    method: FFGG,
    start: State,
    T: int,
    streams: Streams,
    replicates: np.ndarray,
    level: str,
) -> dict[str, np.ndarray]:
    """T updates w^{k+1} = w^k − γ∇F_m(w^{k−d}) for the given replicates, all from w^0 = ``start.u``.

    Returns the arrays of ``fedconv.ffgg.record.VARIABLES`` for these replicates.
    """
    how, device = method.asynchrony, problem.device
    assert how is not None
    R = len(replicates)
    schedule = arrivals(how, problem.n, T, streams, replicates)
    clients = torch.from_numpy(schedule.client).to(device)
    slots = torch.from_numpy(schedule.issued_at % (how.tau_max + 1)).to(device)
    rows = torch.arange(R, device=device)
    meter = Meter(problem, start.u.to(device), T, R, level)
    w = start.u.to(device).expand(R, -1)
    past = w.new_empty(R, how.tau_max + 1, problem.d_u)
    for k in range(T):
        past[:, k % (how.tau_max + 1)] = w
        point = meter.point(k, w)
        stale, applied = past[rows, slots[:, k]][:, None, :], clients[:, k, None]
        update = problem.envelope_grad(stale, applied)[:, 0]
        if point is not None:
            gap = problem.envelope(stale, applied) - meter.inf_m[applied]
            meter.put("stale_gap", k, gap[:, 0])
            meter.put("issued_gap", k, point.F_gap)
            meter.put("update_sq", k, update.square().sum(-1))
        w = w - method.gamma * update
    meter.point(T, w)
    out = meter.finish(w) | {
        "applied_client": schedule.client,
        "delay": schedule.delay,
        "covering_window": schedule.covering_window(problem.n),
    }
    return out if how.law == "adversarial" else out | {"virtual_time": schedule.time}
