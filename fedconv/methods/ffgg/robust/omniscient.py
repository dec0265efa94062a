"""What attackers send who know the honest messages and the server's defence: the worst vector that a search finds.

Trimmed mean and median of the messages themselves: beyond all honest values, on the worse side in every coordinate,
which is optimal. Otherwise all attackers send the same ḡ + t p, and the best of a search over rays p and sizes t is
taken: both ways along ḡ (inner product manipulation, sign flips), the deviations per coordinate (ALIE), the honest
messages' main axis, and the honest message farthest from ḡ.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedconv.methods.ffgg.robust.aggregators import CentredClipping, GeometricMedian, Mean, Median, TrimmedMean
from fedconv.methods.ffgg.robust.preaggregation import Bucketing, Defence, Nothing
from fedconv.problems.written_for import written_for

LARGEST = 1e150
"""No entry is larger in absolute value, so that squared norms stay finite."""

STRENGTHS = tuple(k / 12 for k in range(1, 49))
"""Strengths that are tried first along ±std (z of ALIE) and ±ḡ (1 + ε of IPM)."""

SIZES = tuple(0.02 * 1.17**k for k in range(48))
"""Sizes t that are tried first along all other rays, and ±ḡ again, in units of the honest root mean square distance to
ḡ."""

ZOOM, KEPT = 6, 3
"""The surroundings of the best size of a ray are cut into ZOOM parts, again and again, for the KEPT best rays."""

SMOOTH = (Mean, Median, TrimmedMean, GeometricMedian, CentredClipping)
"""Aggregators that a small change of a message changes little."""

ZOOMS, SMOOTH_ZOOMS = 12, 4
"""How often: where the error jumps in t (Krum, nearest neighbours) the edge is found to 1e-6, else a smooth maximum."""


def worst_vector(honest: Tensor, f: int, size: float, defence: Defence, order: Tensor | None) -> Tensor:
    """The vectors ``(..., 1, d)`` for all f attackers that maximise ‖Agg − ḡ‖, as far as found.

    honest ``(..., N, d)``; order ``(..., N + f)`` if the defence is randomised. Against trimming ``size`` is how many
    honest ranges the vectors lie beyond the honest; in a search the largest t is that times the honest root mean
    square.
    """
    if written_for(defence.pre, Nothing) and written_for(defence.aggregator, Median, TrimmedMean):
        return _beyond(honest, f, size, defence)
    return _searched(honest, f, size, defence, order)


def _beyond(honest: Tensor, f: int, size: float, defence: Defence) -> Tensor:
    """All attackers ``size`` times the honest range beyond it, above or below, whichever is worse per coordinate."""
    mean, low, high = honest.mean(-2, keepdim=True), honest.amin(-2, keepdim=True), honest.amax(-2, keepdim=True)
    sides = [(high + size * (high - low)), (low - size * (high - low))]
    errors = [(_answer(honest, side, f, defence, None) - mean.squeeze(-2)).abs() for side in sides]
    return torch.where((errors[0] >= errors[1]).unsqueeze(-2), *sides)


def _answer(honest: Tensor, sent: Tensor, f: int, defence: Defence, order: Tensor | None) -> Tensor:
    """The aggregate when all f attackers send ``sent (..., 1, d)``: ``(..., d)``."""
    lead = torch.broadcast_shapes(honest.shape[:-2], sent.shape[:-2])
    return defence(torch.cat([honest.expand(*lead, -1, -1), sent.expand(*lead, f, sent.shape[-1])], dim=-2), f, order)


def jumps(defence: Defence) -> bool:
    """Whether a small change of a message may change the aggregate by much (as far as known)."""
    return not (written_for(defence.aggregator, *SMOOTH) and written_for(defence.pre, Nothing, Bucketing))


def _searched(honest: Tensor, f: int, size: float, defence: Defence, order: Tensor | None) -> Tensor:
    mean = honest.mean(-2, keepdim=True)
    away = honest - mean
    spread = away.square().sum(-1).mean(-1).sqrt()[..., None, None]
    top = (size * honest.square().sum(-1).mean(-1).sqrt()[..., None, None]).clamp(max=LARGEST)
    order = None if order is None else order.unsqueeze(-2)
    p = _directions(away, mean)
    t = torch.cat([torch.minimum(_sizes(mean, spread), top), top.expand(*top.shape[:-2], p.shape[-2], 1)], dim=-1)
    best, most = _largest(honest, f, defence, order, mean, t, p)
    for zoom in range(ZOOMS if jumps(defence) else SMOOTH_ZOOMS):
        if zoom == 1:
            rays = most.argsort(dim=-1, descending=True, stable=True)[..., :KEPT, None]
            t, p, best = (torch.take_along_dim(x, rays, dim=-2) for x in (t, p, best))
        low = torch.take_along_dim(t, (best - 1).clamp(min=0), dim=-1)
        high = torch.take_along_dim(t, (best + 1).clamp(max=t.shape[-1] - 1), dim=-1)
        middle = torch.take_along_dim(t, best, dim=-1)
        steps = torch.arange(1, ZOOM // 2 + 1, dtype=t.dtype, device=t.device) / (ZOOM // 2)
        below, above = low + (middle - low) * steps, middle + (high - middle) * steps
        t = torch.cat([low, below, above], dim=-1)
        best, most = _largest(honest, f, defence, order, mean, t, p)
    ray = _first(most)[..., None]
    chosen = torch.take_along_dim(torch.take_along_dim(t, best, dim=-1), ray, dim=-2)
    return mean + chosen * torch.take_along_dim(p, ray, dim=-2)


def main_axis(away: Tensor) -> Tensor:
    """The direction along which vectors ``away (..., N, d)`` are longest, ``(..., 1, d)``: Σ ⟨z, x_i⟩² is largest."""
    gram = away @ away.mT
    axis = torch.linalg.eigh(torch.where(gram.isfinite(), gram, 0.0))[1][..., -1:]
    return torch.where(axis[..., :1, :] < 0, -1.0, 1.0) * (axis * away).sum(-2, keepdim=True)


def _directions(away: Tensor, mean: Tensor) -> Tensor:
    """Unit vectors (or 0) worth trying, ``(..., P, d)``; ±ḡ twice, for two ranges of sizes."""
    main, std = main_axis(away), away.square().mean(-2, keepdim=True).sqrt()
    far = away.square().sum(-1).argsort(dim=-1, descending=True, stable=True)[..., :1]
    farthest = torch.take_along_dim(away, far.unsqueeze(-1), dim=-2)
    rays = torch.cat([-std, std, -mean, mean, -mean, mean, main, -main, farthest, -farthest], dim=-2)
    length = torch.linalg.vector_norm(rays, dim=-1, keepdim=True)
    return rays / torch.where(length == 0, 1, length)


def _sizes(mean: Tensor, spread: Tensor) -> Tensor:
    """What is tried first along the rays of ``_directions``, ``(..., P, A)``, ascending."""
    strengths, sizes = mean.new_tensor(STRENGTHS), mean.new_tensor(SIZES)
    length = torch.linalg.vector_norm(mean, dim=-1, keepdim=True)
    return torch.cat([strengths * spread] * 2 + [strengths * length] * 2 + [sizes * spread] * 6, dim=-2)


def _largest(
    honest: Tensor, f: int, defence: Defence, order: Tensor | None, mean: Tensor, t: Tensor, p: Tensor
) -> tuple[Tensor, Tensor]:
    """For every ray p ``(..., P, d)`` which of its sizes t ``(..., P, A)`` is worst, ``(..., P, 1)``, and the squared
    error there, ``(..., P)``."""
    sent = (mean.unsqueeze(-2) + t.unsqueeze(-1) * p.unsqueeze(-2)).flatten(-3, -2)
    answers = _answer(honest.unsqueeze(-3), sent.unsqueeze(-2), f, defence, order)
    error = (answers - mean).square().sum(-1).nan_to_num(nan=-1.0).unflatten(-1, t.shape[-2:])
    k = _first(error)
    return k, torch.take_along_dim(error, k, dim=-1).squeeze(-1)


def _first(error: Tensor) -> Tensor:
    """The first of equally bad ones, whatever the rounding: ``(..., A)`` → ``(..., 1)``."""
    return (error >= error.amax(-1, keepdim=True) * (1 - 1e-9)).int().argmax(-1, keepdim=True)
