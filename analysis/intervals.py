"""One-sided confidence limits for a mean, at errors as small as 1e-9."""

from __future__ import annotations

import math

import numpy as np

_BETS = np.concatenate([np.logspace(-3, -1, 7), np.linspace(0.2, 1.0, 9)])

_BOLD = np.append(np.full(len(_BETS) - 1, 0.5 / (len(_BETS) - 1)), 0.5)
"""Shares of the wealth on each bet against an upper limit: half on the largest. Where samples are far below the end of
their range it is the best one, and no other bet may be larger without ruin."""


def student_upper(samples: np.ndarray, error: float) -> float:
    """Upper limit mean + t s/√R: exceeded by the true mean with probability ``error`` for normal samples.

    For other laws it is right as R grows; ∞ for fewer than two samples or a sample that is not finite.
    """
    from scipy.special import stdtrit

    R = len(samples)
    if R < 2 or not np.isfinite(samples).all():
        return math.inf
    return float(samples.mean() + stdtrit(R - 1, 1.0 - error) * samples.std(ddof=1) / math.sqrt(R))


def student_lower(samples: np.ndarray, error: float) -> float:
    """Lower limit, the mirror image of :func:`student_upper`. For other laws than the normal both are approximate."""
    return -student_upper(-samples, error)


def betting_lower(samples: np.ndarray, error: float) -> float:
    """Lower limit for the mean of nonnegative samples, valid for every law and however often one looks.

    If the mean is at most b, Π_r (1 + λ(x_r/b − 1)) is a nonnegative supermartingale for every λ in [0, 1], and so is
    its average over a fixed set of λ. It exceeds 1/error with probability at most ``error`` (Ville), so every b
    where it does is refuted; the limit is the largest such b (it decreases in b). A sample of ∞ or NaN refutes all.
    Waudby-Smith and Ramdas 2024, with constant bets. Raises ValueError for a negative sample.
    """
    return _betting(samples, error, None)


def betting_upper(samples: np.ndarray, error: float, upper: float) -> float:
    """Upper limit for the mean of samples that never exceed ``upper``: ``upper`` less the lower limit for the mean of
    the distances from it, with half of the wealth on λ = 1. Valid for every law and however often one looks.

    ∞ where ``upper`` or a sample is not finite. Raises ValueError for a sample above ``upper``.
    """
    if not (math.isfinite(upper) and np.isfinite(samples).all()):
        return math.inf
    if (samples > upper).any():
        raise ValueError(f"betting_upper needs samples of at most {upper}; the largest is {samples.max()}")
    return upper - _betting(upper - samples, error, _BOLD)


def _betting(samples: np.ndarray, error: float, shares: np.ndarray | None) -> float:
    """The lower limit by ``_BETS``; ``shares``: of the wealth on each (None: equal)."""
    if (samples < 0).any():
        raise ValueError("betting_lower needs nonnegative samples")
    if not np.isfinite(samples).all():
        return math.inf
    top = float(samples.max(initial=0.0))
    if top == 0.0:
        return 0.0
    target = math.log(1.0 / error)

    def log_wealth(b: float) -> float:
        with np.errstate(divide="ignore"):
            paths = np.log1p(_BETS[:, None] * (samples[None, :] / b - 1.0)).sum(axis=1)
        peak = paths.max()
        if math.isinf(peak):
            return float(peak)
        wealth = np.exp(paths - peak)
        return float(peak + math.log(wealth.mean() if shares is None else wealth @ shares))

    low, high = 1e-12 * top, top
    if log_wealth(low) < target:
        return 0.0
    for _ in range(80):
        middle = math.sqrt(low * high)
        if log_wealth(middle) >= target:
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
