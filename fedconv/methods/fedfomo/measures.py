"""What the theorems on FedFomo measure of one round of mixing, for every client that mixes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fedconv.methods.fedfomo.meter import Round
    from fedconv.methods.fedfomo.method import FedFomo
    from fedconv.methods.fedfomo.target_losses import Judge


def measures(judge: Judge, L: float, weak: float, method: FedFomo, now: Round) -> dict[str, Tensor]:
    """Variables of ``fedconv.methods.fedfomo.variables.VARIABLES`` for the cohort, ``(R, m)`` each; see there what they
    are.

    L, weak: smoothness and weak convexity of the target losses, which decide whose numbers stand for a client's.
    """
    R, m, C, d = now.models.shape
    mixed, owners = now.mixed, now.cohort
    each = now.cohort[..., None].expand(R, m, C).reshape(R, m * C)
    loss = judge.value(now.base, owners)
    losses = judge.value(now.models.reshape(R, m * C, d), each).reshape(R, m, C)
    after = judge.value(now.after, owners)
    half = judge.value(0.5 * (now.base + now.after), owners)
    found = {
        "promised": (mixed.weight * mixed.gain).sum(-1),
        "decrease": loss - after,
        "decrease_half": loss - half,
        "own_trained_gain": loss - losses[..., 0],
        "candidates": now.valid.sum(-1).double(),
        "total": mixed.total,
    }
    away = mixed.step - (now.after - now.base)[..., None, :]
    used = mixed.weight > 0
    found["spread"] = torch.where(used, mixed.weight * away.square().sum(-1), 0.0).sum(-1)
    slack = 0.5 * _finite(weak) * mixed.distance_sq - mixed.gain
    found["shortfall"] = torch.where(used, slack, -torch.inf).amax(-1)
    found["shortfall"] = torch.where(used.any(-1), found["shortfall"], 0.0)
    found |= _secants(judge, _finite(L), now, loss, losses) | _efficiency(mixed.gain, mixed.cost)
    found |= _probes(mixed.gain, mixed.cost, mixed.weight, mixed.total, "")
    wrong = _probes(mixed.gain, mixed.cost.square(), mixed.weight, mixed.total, "_sq")
    found |= {k: wrong[k] for k in ("linear_probe_sq", "linear_own_sq")}
    population = judge.population(now.base, owners)
    if population is not None:
        others = judge.population(now.models.reshape(R, m * C, d), each)
        assert others is not None
        errors = torch.where(now.valid, (others.reshape(R, m, C) - losses).abs(), 0.0).amax(-1)
        there = judge.population(now.after, owners)
        assert there is not None
        found["nu"] = torch.maximum((population - loss).abs(), errors)
        found["population_decrease"] = population - there
    return found


def _finite(x: float) -> float:
    return x if math.isfinite(x) else 0.0


def _secants(judge: Judge, L: float, now: Round, loss: Tensor, losses: Tensor) -> dict[str, Tensor]:
    """The candidates at which secants and slopes differ most for their distance, and at which a gain most exceeds what
    the slope gives."""
    gradient = judge.grad(now.base, now.cohort)
    slope = -(gradient[..., None, :] * now.mixed.step).sum(-1)
    gain = torch.where(now.valid, loss[..., None] - losses, 0.0)
    squares = now.mixed.distance_sq
    error = (gain - slope).abs()
    worst = (error - 0.5 * L * squares).argmax(-1, keepdim=True)
    better = torch.where(gain > 0, gain - slope, -torch.inf)
    steep = better.argmax(-1, keepdim=True)
    some = (gain > 0).any(-1)
    return {
        "secant_error": error.gather(-1, worst)[..., 0],
        "secant_distance_sq": squares.gather(-1, worst)[..., 0],
        "secant_gain": torch.where(some, gain.gather(-1, steep)[..., 0], 0.0),
        "secant_slope": torch.where(some, slope.gather(-1, steep)[..., 0], 0.0),
    }


def _efficiency(gain: Tensor, cost: Tensor) -> dict[str, Tensor]:
    """Proposition 3 of the theory page: κ_r = c_r Σ_{Δ_n>0} 1/c_n."""
    positive = gain > 0
    inverse = torch.where(positive, 1 / torch.where(positive, cost, 1.0), 0.0)
    kappa = cost * inverse.sum(-1, keepdim=True)
    share = torch.where(positive, 2 / (1 + kappa.sqrt()), 0.0)
    count = positive.sum(-1).double()
    best = gain.clamp(min=0).amax(-1)
    return {
        "efficient": (share * gain).amax(-1),
        "efficient_count": 2 * best / (1 + count.clamp(min=1).sqrt()),
        "best_gain": best,
        "promised_ratio": _ratio(torch.where(positive, gain, 0.0), inverse),
        "own_gain": gain[..., 0].clamp(min=0.0),
        "own_share": share[..., 0],
    }


def _ratio(gain: Tensor, inverse: Tensor) -> Tensor:
    """Σ⁺ Δ_n²/c_n over Σ⁺ Δ_n/c_n; 0 where no Δ_n is positive."""
    total = (gain * inverse).sum(-1)
    return torch.where(total > 0, (gain.square() * inverse).sum(-1) / torch.where(total > 0, total, 1.0), 0.0)


def _probes(gain: Tensor, cost: Tensor, weight: Tensor, total: Tensor, suffix: str) -> dict[str, Tensor]:
    """Proposition 2 of the theory page: what w and rivals of it attain. Rivals: each candidate alone, and weights equal
    or proportional to Δ_n, Δ_n/c_n², √Δ_n over the candidates with Δ_n > 0."""
    positive = gain > 0
    safe, plus = torch.where(positive, cost, 1.0), torch.where(positive, gain, 0.0)
    some = positive.any(-1)

    def value(u: Tensor) -> tuple[Tensor, Tensor]:
        """Σ u_nΔ_n/√(Σ c_n u_n²), and with Σ u = 1: Σ u_nΔ_n − (S/2) Σ c_n u_n²."""
        size = (safe * u.square()).sum(-1)
        linear = (u * plus).sum(-1) / torch.where(size > 0, size, 1.0).sqrt()
        shares = u / torch.where(some, u.sum(-1), 1.0)[..., None]
        simplex = (shares * plus).sum(-1) - 0.5 * total * (safe * shares.square()).sum(-1)
        return torch.where(some, linear, 0.0), torch.where(some, simplex, 0.0)

    single_linear = torch.where(positive, plus / safe.sqrt(), 0.0).amax(-1)
    single = torch.where(positive, plus - 0.5 * total[..., None] * safe, -torch.inf).amax(-1)
    rivals = [positive.double(), plus, torch.where(positive, plus / safe.square(), 0.0), plus.sqrt()]
    found = [value(u) for u in rivals]
    linear_own, simplex_own = value(weight)
    simplex = torch.stack([torch.where(some, single, 0.0), *(s for _, s in found)]).amax(0)
    return {
        f"linear_probe{suffix}": torch.stack([single_linear, *(x for x, _ in found)]).amax(0),
        f"linear_own{suffix}": linear_own,
        f"simplex_probe{suffix}": simplex,
        f"simplex_own{suffix}": simplex_own,
    }
