"""Synchronous FFGG: cohorts, local steps, exact and inexact fine-tuning; all replicates and clients in one tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fedconv.core.streams import Streams
from fedconv.methods.ffgg.measures import Meter, everywhere
from fedconv.methods.ffgg.method import FFGG
from fedconv.methods.ffgg.tuning import fine_tune
from fedconv.methods.split.method import State, scatter

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
    """T rounds for the given replicates, all from ``start`` (w = u ``(d_u,)``, θ = v ``(n, d_v)``).

    Returns the arrays of ``fedconv.methods.ffgg.variables.VARIABLES`` for these replicates, with ``cohort`` where m <
    n.
    """
    R, n, m = len(replicates), problem.n, method.m
    meter = Meter(problem, start.u.to(problem.device), T, R, level)
    w = start.u.to(problem.device).expand(R, -1)
    theta = start.v.to(problem.device).expand(R, -1, -1)
    exact = method.fine_tuning.exact
    rounds = Exact(problem, method, meter) if exact else Tuned(problem, method, theta, meter)
    if meter.wanted:
        distance = problem.fine_tuning_distance(everywhere(w, n), theta, problem.everyone())
        meter.arrays["fine_tuning_start_sq"] = distance.square().mean(-1).cpu().numpy()
    sampled = np.zeros((R, T, n), dtype=bool)
    everyone = problem.everyone()
    for k in range(T):
        meter.point(k, w)
        if m == n:
            cohort = everyone
        else:
            order = streams.cohorts(replicates, k, n, m)[:, :m]
            np.put_along_axis(sampled[:, k], order, True, axis=1)
            cohort = torch.from_numpy(order).to(problem.device)
        w = rounds.step(k, w, cohort)
    meter.point(T, w)
    out = meter.finish(w)
    if meter.wanted:
        out |= rounds.measured(sampled if m < n else None, out["F_gap"])
    return out | ({"cohort": sampled} if m < n else {})


class Exact:
    """Rounds with exact fine-tuning: the cohort's clients make τ steps w ← w − γ∇F_m(w), the server averages."""

    def __init__(self, problem: EnvelopeProblem, method: FFGG, meter: Meter) -> None:
        self.problem, self.method, self.meter = problem, method, meter

    def step(self, k: int, w: Tensor, cohort: Tensor) -> Tensor:
        """w^{k+1} ``(R, d_u)`` for ``cohort (R, m)``, or ``(n,)`` where everybody takes part."""
        gamma, at = self.method.gamma, everywhere(w, cohort.shape[-1])
        gradients = self.problem.envelope_grad(at, cohort)
        if self.method.tau == 1:
            update = gradients.mean(-2)
            after = w - gamma * update
        else:
            after = self._local_steps(k, at, cohort, gradients)
            update = (w - after) / gamma
        self.meter.update(k, update)
        return after

    def _local_steps(self, k: int, at: Tensor, cohort: Tensor, gradients: Tensor) -> Tensor:
        """The cohort's mean w after τ local steps from ``at (R, m, d_u)``, the first with the given gradients."""
        problem, meter, gamma, visited = self.problem, self.meter, self.method.gamma, [at]
        for t in range(self.method.tau):
            at = at - gamma * (gradients if t == 0 else problem.envelope_grad(at, cohort))
            visited.append(at)
        if meter.wanted:
            path = torch.stack(visited[:-1])
            gaps = problem.envelope(path, cohort) - meter.inf_m[cohort]
            meter.put("local_gap", k, gaps.mean(-1).sum(0))
            meter.put("virtual_gap", k, (meter.objective(path.mean(-2)) - meter.F_star).mean(0))
        return at.mean(-2)

    def measured(self, sampled: np.ndarray | None, F_gap: np.ndarray) -> dict[str, np.ndarray]:
        """What is known of all rounds when the run has ended."""
        meter = self.meter
        none = np.zeros((meter.R, meter.T))
        out = {"bias_sq": none, "fine_tuning_sq": none.copy()}
        if self.method.tau > 1:
            return out
        local = none.copy()
        for part in meter.spans(meter.T, meter.problem.n):
            gaps = (meter.envelopes(meter.path[:, part]) - meter.inf_m).cpu().numpy()
            mine = gaps if sampled is None else gaps[sampled[:, part]].reshape(*gaps.shape[:2], -1)
            local[:, part] = mine.mean(-1)
        return out | {"local_gap": local, "virtual_gap": F_gap[:, : meter.T].copy()}


class Tuned:
    """Rounds with inexact fine-tuning: the cohort's clients make gradient steps in θ, the server one step with
    ĝ = (1/m) Σ ∇_w f_m(w, θ_m)."""

    def __init__(self, problem: EnvelopeProblem, method: FFGG, theta: Tensor, meter: Meter) -> None:
        self.problem, self.method, self.meter = problem, method, meter
        self.theta = self.theta_start = theta

    def step(self, k: int, w: Tensor, cohort: Tensor) -> Tensor:
        """w^{k+1} ``(R, d_u)``; arguments as in ``Exact.step``."""
        problem, meter = self.problem, self.meter
        if cohort.ndim == 1:
            cohort = cohort.expand(w.shape[0], -1)
        first = self.theta if self.method.fine_tuning.warm else self.theta_start
        at = everywhere(w, cohort.shape[1])
        mine = torch.take_along_dim(first, cohort[..., None], dim=1)
        theta, steps = fine_tune(problem, self.method.fine_tuning, at, mine, cohort)
        self.theta = scatter(self.theta, cohort, theta)
        update = problem.grad_u(at, theta, cohort).mean(-2)
        meter.update(k, update)
        if meter.wanted:
            exact = problem.envelope_grad(at, cohort)
            meter.put("bias_sq", k, (update - exact.mean(-2)).square().sum(-1))
            distance = problem.fine_tuning_distance(at, theta, cohort)
            meter.put("fine_tuning_sq", k, distance.square().mean(-1))
            slope = torch.linalg.vector_norm(problem.grad_v(at, theta, cohort), dim=-1)
            meter.put("fine_tuning_grad", k, slope.mean(-1))
            meter.put("fine_tuning_steps", k, steps.amax(-1))
        return w - self.method.gamma * update

    def measured(self, sampled: np.ndarray | None, F_gap: np.ndarray) -> dict[str, np.ndarray]:
        """Nothing more: all is measured round by round."""
        return {}
