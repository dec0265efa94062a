"""FFGG with Byzantine clients: honest gradients, an attack, a pre-step and a robust aggregate, round by round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fedconv.core.streams import Cause, Streams
from fedconv.methods.ffgg.measures import Meter, everywhere
from fedconv.methods.ffgg.method import FFGG
from fedconv.methods.ffgg.robust.attacks import attack_of
from fedconv.methods.ffgg.robust.preaggregation import defence_of
from fedconv.methods.split.method import State
from fedconv.problems.compiled.jit import njit
from fedconv.problems.compiled.xoshiro import below

if TYPE_CHECKING:
    from fedconv.problems.envelopes.base import EnvelopeProblem


def simulate_block(
    problem: EnvelopeProblem,
    honest: EnvelopeProblem,
    method: FFGG,
    start: State,
    T: int,
    streams: Streams,
    replicates: np.ndarray,
    level: str,
) -> dict[str, np.ndarray]:
    """T rounds w^{k+1} = w^k − γ Agg(messages) for the given replicates, all from w^0 = ``start.u``.

    ``honest``: the problem of the first n − f clients, whose F is measured. The f others send what their attack
    makes of the honest gradients (it may know them all), or of honest gradients of their own data (``own_sign_flip``),
    its labels flipped for ``label_flip``.
    Returns the arrays of ``fedconv.methods.ffgg.variables.VARIABLES`` for these replicates.
    """
    threat = method.byzantine
    assert threat is not None
    R, n = len(replicates), problem.n
    attack, defence = attack_of(threat), defence_of(threat)
    attackers = torch.arange(honest.n, n, device=problem.device)
    theirs = problem.flipped(attackers.tolist()) if threat.attack == "label_flip" else None
    if threat.attack == "own_sign_flip":
        theirs = problem
    seen: list[torch.Tensor] = []
    target: torch.Tensor | None = None
    meter = Meter(honest, start.u.to(problem.device), T, R, level)
    w = start.u.to(problem.device).expand(R, -1)
    for k in range(T):
        slopes = meter.gradients(w)
        meter.point(k, w)
        order = torch.from_numpy(orders(streams, replicates, k, n)).to(w.device) if defence.randomised else None
        sent = slopes[:, :0]
        if threat.f:
            if k < (attack.warm_up or 0):
                seen.append(slopes)
                target = attack.target(torch.stack(seen, dim=-3))
            own = None if theirs is None else theirs.envelope_grad(everywhere(w, threat.f), attackers)
            sent = attack(slopes, threat.f, own=own, defence=defence, order=order, target=target)
        update = defence(torch.cat([slopes, sent], dim=1), threat.f, order)
        meter.update(k, update)
        w = w - method.gamma * update
    meter.point(T, w)
    out = meter.finish(w)
    return out | _errors(meter) if meter.wanted else out


def _errors(meter: Meter) -> dict[str, np.ndarray]:
    """What the server's aggregate misses, and how the honest gradients are spread, in every round."""
    names = ("aggregation_error_sq", "spread", "honest_sq")
    out = {name: np.empty((meter.R, meter.T)) for name in names}
    for part in meter.spans(meter.T, meter.problem.n):
        slopes = meter.gradients(meter.path[:, part])
        mean = slopes.mean(-2)
        found = (
            (meter.updates[:, part] - mean).square().sum(-1),
            (slopes - mean[..., None, :]).square().sum(-1).mean(-1),
            slopes.square().sum(-1).mean(-1),
        )
        for name, values in zip(names, found, strict=True):
            out[name][:, part] = values.cpu().numpy()
    return out


def orders(streams: Streams, replicates: np.ndarray, k: int, n: int) -> np.ndarray:
    """Uniformly random permutations of the n messages of round k, ``(R, n)``."""
    out = np.empty((len(replicates), n), dtype=np.int64)
    _shuffle(streams.states(Cause.ATTACK, replicates, k), out)
    return out


@njit()
def _shuffle(states, out):
    R, n = out.shape
    for r in range(R):
        for i in range(n):
            out[r, i] = i
        for i in range(n - 1):
            j = i + below(states[r], n - i)
            out[r, i], out[r, j] = out[r, j], out[r, i]
