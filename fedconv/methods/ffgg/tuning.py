"""Inexact fine-tuning: gradient steps in a client's personal θ at a fixed shared w."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fedconv.methods.ffgg.method import FineTuning

if TYPE_CHECKING:
    from fedconv.problems.envelopes.base import EnvelopeProblem

MOST_STEPS = 10_000
"""Gradient steps after which mode ``tolerance`` gives up; the trace shows it (fine_tuning_steps, fine_tuning_grad)."""

ROUNDING = 1e-14
"""A gradient this much smaller than at the start of a round's fine-tuning is rounding, and steps along it are in vain:
without this a run that diverges would make MOST_STEPS of them in every round."""


def fine_tune(
    problem: EnvelopeProblem, how: FineTuning, w: Tensor, theta: Tensor, clients: Tensor
) -> tuple[Tensor, Tensor]:
    """θ ← θ − (1/L_θ) ∇_θ f_m(w, θ), K times or until ‖∇_θ f_m(w, θ)‖ ≤ tolerance.

    ``w (R, k, d_u)``, ``theta (R, k, d_v)`` and ``clients (R, k)`` → θ ``(R, k, d_v)`` and the steps made ``(R, k)``.
    A client that has reached the tolerance (or ROUNDING, or whose gradient has overflowed) stops; the others go on.
    """
    L_theta = problem.envelope_constants.L_theta.value
    size = 1.0 / L_theta if L_theta > 0 else 0.0
    steps = torch.zeros(clients.shape, dtype=torch.int64, device=theta.device)
    if how.steps is not None:
        for _ in range(how.steps):
            theta = theta - size * problem.grad_v(w, theta, clients)
        return theta, steps + how.steps
    assert how.tolerance is not None
    enough: Tensor | None = None
    for _ in range(MOST_STEPS):
        gradient = problem.grad_v(w, theta, clients)
        norm = torch.linalg.vector_norm(gradient, dim=-1)
        enough = (ROUNDING * norm).clamp(min=how.tolerance) if enough is None else enough
        going = norm > enough
        if not going.any():
            break
        theta = torch.where(going[..., None], theta - size * gradient, theta)
        steps += going
    return theta, steps
