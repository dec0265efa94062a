"""First-order weights: what each candidate model is worth to a client, and the model that it mixes of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedconv.methods.fedfomo.method import FedFomo

SAME = 4e-15
"""Share of a model's norm up to which a candidate counts as θ^0 itself: θ^0 + (θ_n − θ^0) is θ_n up to rounding, and
rounding errors of losses divided by such distances would be weights."""


@dataclass(frozen=True)
class Mixed:
    """Mixing of k clients with C candidates each, formulas as in ``fedconv.methods.fedfomo.method.FedFomo``.

    ``step`` d_n ``(..., k, C, d)``; ``distance_sq`` ‖d_n‖², ``cost`` c_n, ``gain`` Δ_n, ``score`` a_n and ``weight``
    w_n, all ``(..., k, C)`` and 0 for what is no candidate; ``total`` S ``(..., k)``; ``after`` θ^+ ``(..., k, d)``.
    """

    step: Tensor
    distance_sq: Tensor
    cost: Tensor
    gain: Tensor
    score: Tensor
    weight: Tensor
    total: Tensor
    after: Tensor


def mix(method: FedFomo, base: Tensor, models: Tensor, valid: Tensor, loss_base: Tensor, loss_models: Tensor) -> Mixed:
    """θ^+ from θ^0 ``(..., k, d)``, candidates ``(..., k, C, d)``, the first of them the own trained model, and L_i at
    all of them; ``valid (..., k, C)``: which are candidates at all."""
    step = torch.where(valid[..., None], models - base[..., None, :], 0.0)
    squares = step.square().sum(-1)
    cost = costs(method, step, squares)
    gain = loss_base[..., None] - loss_models
    size = torch.maximum(base.square().sum(-1)[..., None], models.square().sum(-1))
    fine = valid & (squares > SAME**2 * size) & torch.isfinite(gain) & torch.isfinite(cost) & (cost > 0)
    gain = torch.where(fine, gain, 0.0)
    score = torch.where(fine, gain / torch.where(fine, cost, 1.0), 0.0)
    if method.margin > 0:
        score = torch.where(fine, score - 0.5 * method.margin * squares.sqrt(), 0.0)
    positive = score.clamp(min=0.0)
    total = positive.sum(-1)
    some = total > 0
    weight = positive / torch.where(some, total, 1.0)[..., None]
    used = torch.where(weight[..., None] > 0, step, 0.0)
    after = base + (weight[..., None] * used).sum(-2)
    if method.rejected == "trained":
        after = torch.where(some[..., None], after, models[..., 0, :])
    return Mixed(step, squares, cost, gain, score, weight, total, after)


def costs(method: FedFomo, step: Tensor, squares: Tensor) -> Tensor:
    """c_n: what a candidate's gain is divided by."""
    norm = method.norm
    if norm == "layers":
        assert method.layers is not None
        parts = [torch.linalg.vector_norm(x, dim=-1) for x in step.split(list(method.layers), dim=-1)]
        return torch.stack(parts).sum(0)
    if norm == "euclidean":
        return squares.sqrt()
    if norm == "l1":
        return step.abs().sum(-1)
    return squares if norm == "squared" else torch.ones_like(squares)


def increments(method: FedFomo, mixed: Mixed) -> Tensor:
    """What the affinities of the candidates grow by, ``(..., k, C)``."""
    if method.affinity == "clipped":
        return mixed.weight
    if method.affinity == "raw":
        return mixed.score
    total = mixed.score.sum(-1, keepdim=True).abs()
    return torch.where(total > 0, mixed.score / torch.where(total > 0, total, 1.0), 0.0)
