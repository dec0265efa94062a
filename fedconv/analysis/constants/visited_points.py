"""What can be measured of a problem's constants at each point that runs visit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedconv.core.run import Experiment, run
from fedconv.methods.split.minibatch import MiniBatch
from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError
from fedconv.problems.modules.hessian_norms import STEPS, block_norms
from fedconv.problems.modules.problem import ModuleProblem
from fedconv.problems.noise import Noise

AT_ONCE = 4_000_000
"""Numbers that Lanczos' method keeps at once: points are taken in groups of about this size."""


@dataclass(frozen=True)
class Visited:
    """Points that runs visit: u ``(R, P, d_u)`` and V ``(R, P, n, d_v)`` for R replicates and P rounds each.

    ``rounds (P,)``: which rounds these are (left out: 0..P−1).
    """

    u: Tensor
    v: Tensor
    rounds: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Along:
    """``values``: at each replicate and round ``(R, P)``, by name. F; G = ‖∇_uF‖²; L_u, L_v, L_uv: the largest norm of
    a Hessian block over clients; δ = √(D − ρ²G)₊; with mini-batches σ_u, σ_v: the largest over clients.

    ``means``: (D − ρ²G)₊ for δ, and the mean over clients of σ_u², σ_v². ``shares``: with probability 1 − error *all*
    norms are at most what was found over the share of their block. ``differences``, ``kinks``: see ``BlockNorms``.
    """

    rounds: tuple[int, ...]
    values: dict[str, np.ndarray]
    means: dict[str, np.ndarray]
    shares: dict[str, float]
    differences: bool
    kinks: bool


def visited(
    experiment: Experiment, points: int = 5, replicates: int = 2, progress: Callable[[int], None] | None = None
) -> Visited:
    """The states of a run at ``points`` rounds spread evenly over 0..T, the start included.

    A single replicate where the run has nothing random. ``progress`` is told of rounds that are finished; all in all
    there are as many as the sum of the points' rounds. Raises InputError where the run diverges.
    """
    if points < 1 or replicates < 1:
        raise InputError(f"points and replicates must be at least 1; got {points} and {replicates}")
    R = 1 if experiment.deterministic else replicates
    us = [experiment.start.u.expand(R, -1).cpu()]
    vs = [experiment.start.v.expand(R, -1, -1).cpu()]
    rounds = chosen_rounds(experiment.T, points)
    for t in rounds[1:]:
        trace = run(replace(experiment, T=t), R, level="none", engine="eager")
        us.append(torch.from_numpy(trace["u_final"].values))
        vs.append(torch.from_numpy(trace["v_final"].values))
        if progress is not None:
            progress(t)
    u, v = torch.stack(us, 1), torch.stack(vs, 1)
    if not (torch.isfinite(u).all() and torch.isfinite(v).all()):
        raise InputError(f"the run must stay finite to be a source of points; it diverged within T = {experiment.T}")
    return Visited(u, v, rounds)


def chosen_rounds(T: int, points: int) -> tuple[int, ...]:
    """0 and further rounds, spread evenly over 0..T."""
    return tuple(sorted({round(float(x)) for x in np.linspace(0, T, points)} | {0}))


def measure(
    problem: Problem,
    points: Visited,
    *,
    noise: Noise | None = None,
    rho: float = 0.0,
    error: float = 0.05,
    steps: int = STEPS,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Along:
    """See :class:`Along`; the arguments are those of :func:`fedconv.analysis.constants.estimate.estimate`.

    Raises InputError for points that do not fit the problem, and where something is not finite at one of them.
    """
    if points.u.ndim != 3 or points.u.shape[-1] != problem.d_u or 0 in points.u.shape[:2] or (
        points.v.shape != (*points.u.shape[:2], problem.n, problem.d_v)
    ):  # fmt: skip
        raise InputError(
            f"points must have u (R, P, {problem.d_u}) and V (R, P, {problem.n}, {problem.d_v}); got"
            f" {tuple(points.u.shape)} and {tuple(points.v.shape)}"
        )
    if isinstance(noise, MiniBatch) and not isinstance(problem, ModuleProblem):
        raise InputError(f"mini-batches need a problem with rows; got the family {problem.family!r}")
    R, P = points.u.shape[:2]
    rounds = tuple(range(P)) if points.rounds is None else points.rounds
    us, vs = points.u.reshape(R * P, -1), points.v.reshape(R * P, problem.n, problem.d_v)
    parts: dict[str, list[Tensor]] = {}
    shares, differences, kinks = {"L_u": 1.0, "L_v": 1.0, "L_uv": 1.0}, False, False
    for group in _groups(problem, R * P, steps):
        u = us[group].to(problem.device)[:, None, :].expand(-1, problem.n, -1)
        v = vs[group].to(problem.device)
        clients = problem.everyone()
        each = problem.grad_u(u, v, clients)
        mean = each.mean(-2)
        G = mean.square().sum(-1)
        diversity = (each - mean[..., None, :]).square().sum(-1).mean(-1)
        here = {"F": problem.value(u, v, clients).mean(-1), "G": G, "delta_sq": (diversity - rho**2 * G).clamp(min=0)}
        _finite(here, group, rounds)
        norms = block_norms(
            problem, u, v, steps=steps, error=error / (3 * R * P * problem.n), seed=seed + 1_000_003 * group.start
        )
        differences, kinks = differences or norms.differences, kinks or norms.kinks
        for name in shares:
            here[name] = getattr(norms, name).amax(-1)
            shares[name] = getattr(norms, f"share_{name[2:]}")
        if isinstance(noise, MiniBatch):
            assert isinstance(problem, ModuleProblem)
            for name, variance in zip(("sigma_u", "sigma_v"), problem.row_variance(u, v, clients), strict=True):
                here[f"{name}_sq"], here[name] = (
                    variance.mean(-1) / noise.batch,
                    (variance.amax(-1) / noise.batch).sqrt(),
                )
        _finite(here, group, rounds)
        for name, values in here.items():
            parts.setdefault(name, []).append(values.cpu())
        if progress is not None:
            progress(len(here["F"]))
    arrays = {name: torch.cat(found).numpy().reshape(R, P) for name, found in parts.items()}
    means = {name.removesuffix("_sq"): arrays.pop(name) for name in list(arrays) if name.endswith("_sq")}
    return Along(rounds, arrays | {"delta": np.sqrt(means["delta"])}, means, shares, differences, kinks)


def _groups(problem: Problem, count: int, steps: int) -> Iterator[slice]:
    """Points 0..count−1 in groups for which Lanczos' basis is of about AT_ONCE numbers."""
    widest = max(problem.d_u, problem.d_v, 1)
    size = max(1, AT_ONCE // (problem.n * widest * min(steps, widest)))
    return (slice(a, min(a + size, count)) for a in range(0, count, size))


def _finite(found: dict[str, Tensor], group: slice, rounds: tuple[int, ...]) -> None:
    for name, values in found.items():
        bad = (~torch.isfinite(values)).nonzero()
        if len(bad):
            t = rounds[(group.start + int(bad[0])) % len(rounds)]
            what = {"F": "F", "G": "its gradient", "delta_sq": "its gradient"}.get(name, name.removesuffix("_sq"))
            raise InputError(
                f"the loss and its derivatives must be finite at every visited point; {what} is"
                f" {float(values[int(bad[0])]):g} in round {t}"
            )
