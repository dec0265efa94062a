"""Synchronous FFGG: cohorts, local steps, exact and inexact fine-tuning; all replicates and clients in one tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fedconv.algorithms.base import State, scatter
from fedconv.ffgg.meter import Meter, Point, everywhere
from fedconv.ffgg.method import FFGG
from fedconv.ffgg.tuning import fine_tune
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
    """T rounds for the given replicates, all from ``start`` (w = u ``(d_u,)``, θ = v ``(n, d_v)``).

    Returns the arrays of ``fedconv.ffgg.record.VARIABLES`` for these replicates, with ``cohort`` where m < n.
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
    for k in range(T):
        order = streams.cohorts(replicates, k, n, m)[:, :m]
        np.put_along_axis(sampled[:, k], order, True, axis=1)
        gradients = meter.gradients(w) if m == n and (exact or meter.wanted) else None
        point = meter.point(k, w, gradients)
        w = rounds.step(k, w, torch.from_numpy(order).to(problem.device), gradients, point)
    meter.point(T, w)
    return meter.finish(w) | ({"cohort": sampled} if m < n else {})


class Exact:
    """Rounds with exact fine-tuning: the cohort's clients make τ steps w ← w − γ∇F_m(w), the server averages."""

    def __init__(self, problem: EnvelopeProblem, method: FFGG, meter: Meter) -> None:
        self.problem, self.method, self.meter = problem, method, meter

    def step(self, k: int, w: Tensor, cohort: Tensor, gradients: Tensor | None, point: Point | None) -> Tensor:
        """w^{k+1} ``(R, d_u)``. ``gradients (R, n, d_u)``: ∇F_m(w) of all clients, where m = n and they are known;
        ``point``: what was measured at w, if anything."""
        gamma, tau, meter = self.method.gamma, self.method.tau, self.meter
        if gradients is None:
            gradients = self.problem.envelope_grad(everywhere(w, cohort.shape[1]), cohort)
        if tau == 1:
            update = gradients.mean(-2)
            after = w - gamma * update
        else:
            after = self._local_steps(k, w, cohort, gradients)
            update = (w - after) / gamma
        if point is not None:
            none = torch.zeros_like(update[:, 0])
            meter.put("update_sq", k, update.square().sum(-1))
            meter.put("bias_sq", k, none)
            meter.put("fine_tuning_sq", k, none)
            if tau == 1:
                meter.put("local_gap", k, torch.take_along_dim(point.gaps, cohort, dim=1).mean(-1))
                meter.put("virtual_gap", k, point.F_gap)
        return after

    def _local_steps(self, k: int, w: Tensor, cohort: Tensor, gradients: Tensor) -> Tensor:
        """The cohort's mean w after τ local steps, the first with the given gradients."""
        problem, meter, tau = self.problem, self.meter, self.method.tau
        at = everywhere(w, cohort.shape[1])
        local = virtual = torch.zeros_like(w[:, 0])
        for t in range(tau):
            if meter.wanted:
                local = local + (problem.envelope(at, cohort) - meter.inf_m[cohort]).mean(-1)
                virtual = virtual + meter.objective(at.mean(-2)) - meter.F_star
            at = at - self.method.gamma * (gradients if t == 0 else problem.envelope_grad(at, cohort))
        if meter.wanted:
            meter.put("local_gap", k, local)
            meter.put("virtual_gap", k, virtual / tau)
        return at.mean(-2)


class Tuned:
    """Rounds with inexact fine-tuning: the cohort's clients make gradient steps in θ, the server one step with
    ĝ = (1/m) Σ ∇_w f_m(w, θ_m)."""

    def __init__(self, problem: EnvelopeProblem, method: FFGG, theta: Tensor, meter: Meter) -> None:
        self.problem, self.method, self.meter = problem, method, meter
        self.theta = self.theta_start = theta

    def step(self, k: int, w: Tensor, cohort: Tensor, gradients: Tensor | None, point: Point | None) -> Tensor:
        """w^{k+1} ``(R, d_u)``; arguments as in ``Exact.step``."""
        problem, meter = self.problem, self.meter
        first = self.theta if self.method.fine_tuning.warm else self.theta_start
        at = everywhere(w, cohort.shape[1])
        mine = torch.take_along_dim(first, cohort[..., None], dim=1)
        theta, steps = fine_tune(problem, self.method.fine_tuning, at, mine, cohort)
        self.theta = scatter(self.theta, cohort, theta)
        update = problem.grad_u(at, theta, cohort).mean(-2)
        if point is not None:
            exact = problem.envelope_grad(at, cohort) if gradients is None else gradients
            meter.put("update_sq", k, update.square().sum(-1))
            meter.put("bias_sq", k, (update - exact.mean(-2)).square().sum(-1))
            distance = problem.fine_tuning_distance(at, theta, cohort)
            meter.put("fine_tuning_sq", k, distance.square().mean(-1))
            slope = torch.linalg.vector_norm(problem.grad_v(at, theta, cohort), dim=-1)
            meter.put("fine_tuning_grad", k, slope.mean(-1))
            meter.put("fine_tuning_steps", k, steps.amax(-1))
        return w - self.method.gamma * update
