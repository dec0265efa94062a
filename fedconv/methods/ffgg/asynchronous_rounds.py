"""Asynchronous FFGG: numerics over a schedule of arrivals, with a ring of past iterates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fedconv.core.streams import Streams
from fedconv.methods.ffgg.measures import Meter
from fedconv.methods.ffgg.method import FFGG
from fedconv.methods.ffgg.schedule import arrivals
from fedconv.methods.split.method import State

if TYPE_CHECKING:
    from fedconv.problems.envelopes.base import EnvelopeProblem


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

    Returns the arrays of ``fedconv.methods.ffgg.variables.VARIABLES`` for these replicates.
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
        meter.point(k, w)
        update = problem.envelope_grad(past[rows, slots[:, k]][:, None, :], clients[:, k, None])[:, 0]
        meter.update(k, update)
        w = w - method.gamma * update
    meter.point(T, w)
    out = meter.finish(w) | {
        "applied_client": schedule.client,
        "delay": schedule.delay,
        "covering_window": schedule.covering_window(problem.n),
    }
    if meter.wanted:
        issued = torch.from_numpy(schedule.issued_at).to(device)
        out |= {"issued_gap": out["F_gap"][:, :T].copy(), "stale_gap": _stale_gaps(meter, issued, clients)}
    return out if how.law == "adversarial" else out | {"virtual_time": schedule.time}


def _stale_gaps(meter: Meter, issued: Tensor, clients: Tensor) -> np.ndarray:
    """F_m(w^s) − inf f_m of ``clients (R, T)`` at the iterates ``issued (R, T)``."""
    out = np.empty(tuple(issued.shape))
    rows = torch.arange(len(issued), device=issued.device)[:, None]
    for part in meter.spans(issued.shape[1], 1):
        stale, applied = meter.path[rows, issued[:, part]][:, :, None, :], clients[:, part, None]
        out[:, part] = (meter.problem.envelope(stale, applied) - meter.inf_m[applied])[..., 0].cpu().numpy()
    return out
