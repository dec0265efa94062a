"""One-sided confidence limits for a mean, at errors as small as 1e-9."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Bets:
    """Fixed bets λ ∈ [0, 1] and the share of the wealth on each, ``(K,)``."""

    sizes: np.ndarray
    shares: np.ndarray


_SIZES = np.concatenate([np.logspace(-3, -1, 7), np.linspace(0.2, 1.0, 9)])

EQUAL = Bets(_SIZES, np.full(len(_SIZES), 1 / len(_SIZES)))
"""Bets for a lower limit."""

BOLD = Bets(_SIZES, np.append(np.full(len(_SIZES) - 1, 0.5 / (len(_SIZES) - 1)), 0.5))
"""Bets for an upper limit: half on the largest. Where samples are far below the end of their range it is the best
one, and no other bet may be larger without ruin."""


def plain(x: np.ndarray) -> Any:
    """A number where there is only one."""
    return float(x) if x.ndim == 0 else x


def student_upper(samples: np.ndarray, error: float) -> Any:
    """Upper limit mean + t s/√R of samples ``(..., R)``; normal ones' mean is above it with probability ``error``.

    For other laws it is right as R grows; ∞ for fewer than two samples or a sample that is not finite.
    """
    from scipy.special import stdtrit

    R = samples.shape[-1]
    if R < 2:
        return plain(np.full(samples.shape[:-1], math.inf))
    with np.errstate(all="ignore"):
        high = samples.mean(-1) + stdtrit(R - 1, 1.0 - error) * samples.std(-1, ddof=1) / math.sqrt(R)
    return plain(np.where(np.isfinite(samples).all(-1), high, math.inf))


def student_lower(samples: np.ndarray, error: float) -> Any:
    """Lower limit, the mirror image of :func:`student_upper`. For other laws than the normal both are approximate."""
    return -student_upper(-samples, error)


def betting_lower(samples: np.ndarray, error: float) -> float:
    """Lower limit for the mean of nonnegative samples, valid for every law and however often one looks.

    If the mean is at most b, Π_r (1 + λ(x_r/b − 1)) is a nonnegative supermartingale for every λ in [0, 1], and so is
    its average over a fixed set of λ. It exceeds 1/error with probability at most ``error`` (Ville), so every b
    where it does is refuted; the limit is the largest such b (it decreases in b). A sample of ∞ or NaN refutes all.
    Waudby-Smith and Ramdas 2024, with constant bets. Raises ValueError for a negative sample.
    """
    return _betting(samples, error, EQUAL)


def betting_upper(samples: np.ndarray, error: float, upper: float) -> float:
    """Upper limit for the mean of samples that never exceed ``upper``: ``upper`` less the lower limit for the mean of
    the distances from it, with half of the wealth on λ = 1. Valid for every law and however often one looks.

    ∞ where ``upper`` or a sample is not finite. Raises ValueError for a sample above ``upper``.
    """
    if not (math.isfinite(upper) and np.isfinite(samples).all()):
        return math.inf
    if (samples > upper).any():
        raise ValueError(f"betting_upper needs samples of at most {upper}; the largest is {samples.max()}")
    return upper - _betting(upper - samples, error, BOLD)


def log_wealth(samples: np.ndarray, mean: float, bets: Bets, sizes: Sequence[int]) -> np.ndarray:
    """log Σ_k share_k Π_r (1 + λ_k (x_r/mean − 1)) of samples ``(..., R)`` ≥ 0: ``(..., len(sizes))``.

    The wealth against a mean that is at most ``mean`` > 0, after each of the growing ``sizes``.
    """
    starts = np.concatenate([[0], np.asarray(sizes, dtype=int)[:-1]])
    paths = np.empty((len(bets.sizes), *samples.shape[:-1], len(sizes)))
    with np.errstate(divide="ignore", over="ignore"):
        gains = samples[..., : sizes[-1]] / mean - 1.0
        if samples.ndim == 1:
            gained = np.add.reduceat(np.log1p(np.multiply.outer(bets.sizes, gains)), starts, axis=-1)
            paths = np.cumsum(gained, axis=-1)
        else:  # bet by bet, for memory
            for path, bet in zip(paths, bets.sizes, strict=True):
                path[...] = np.cumsum(np.add.reduceat(np.log1p(bet * gains), starts, axis=-1), axis=-1)
    peak = paths.max(axis=0)
    with np.errstate(invalid="ignore"):
        sums = np.einsum("k...,k->...", np.exp(paths - peak), bets.shares)
    return np.where(np.isinf(peak), peak, peak + np.log(np.where(sums > 0, sums, 1.0)))


def _betting(samples: np.ndarray, error: float, bets: Bets) -> float:
    """The lower limit by these bets."""
    if (samples < 0).any():
        raise ValueError("betting_lower needs nonnegative samples")
    if not np.isfinite(samples).all():
        return math.inf
    top = float(samples.max(initial=0.0))
    if top == 0.0:
        return 0.0
    target = math.log(1.0 / error)

    def refuted(b: float) -> bool:
        return bool(log_wealth(samples, b, bets, [len(samples)])[0] >= target)

    low, high = 1e-12 * top, top
    if not refuted(low):
        return 0.0
    for _ in range(80):
        middle = math.sqrt(low) * math.sqrt(high)  # low·high may be too small for a float
        if refuted(middle):
            low = middle
        else:
            high = middle
    return low


def replicates_to_refute(mean: float, bound: float, upper: float, error: float) -> float:
    """About how many samples of little spread around ``mean`` bring :func:`betting_upper` down to ``bound``: the bet
    λ = 1 gains log((upper − mean)/(upper − bound)) with each, and must turn 1/2 into 1/error. ∞ where none do."""
    if not mean < bound < math.inf or not math.isfinite(upper):
        return math.inf
    if bound >= upper:
        return 1.0
    return math.log(2.0 / error) / math.log((upper - mean) / (upper - bound))
