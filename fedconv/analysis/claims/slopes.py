"""Slopes on logarithmic axes: the power of x in a measured mean, with an interval over replicates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fedconv.problems.errors import InputError


@dataclass(frozen=True)
class Slope:
    """d log E[sample] / d log x fitted over ``window`` = (least x, largest x), with two-sided limits.

    ``low`` = ``high`` = ``value`` where the samples are exact numbers (one row); ±∞ where the replicates leave it open.
    """

    value: float
    low: float
    high: float
    window: tuple[float, float]

    def encloses(self, expected: float) -> bool:
        """Whether the limits enclose that slope."""
        return self.low <= expected <= self.high


def slope(x: np.ndarray, samples: np.ndarray, error: float = 0.05) -> Slope:
    """Least squares on logs: Σ_j w_j log(mean of column j), w_j = (log x_j − ℓ̄)/Σ_j (log x_j − ℓ̄)², ℓ̄ the mean log
    x.

    x ``(k,)`` > 0, at least two different values; samples ``(replicates, k)`` finite with positive column means. The
    mean is taken before the log, as rates are about expectations. One row means exact numbers, without sampling error.
    Else the limits miss the slope with probability ``error``, both sides together: a Student interval on the paired
    jackknife (a replicate is left out of all columns at once, so columns of a row may share cohorts and noise; columns
    drawn apart are served too). It is right as the replicates grow; no random numbers enter. Source: Efron 1982,
    "The Jackknife, the Bootstrap and Other Resampling Plans", chapter 3; the fit is standard.
    Raises InputError for other shapes, values that are not finite, or a mean that is not positive.
    """
    from scipy.special import stdtrit

    x, samples = np.asarray(x, dtype=float), np.asarray(samples, dtype=float)
    _check(x, samples, error)
    logs = np.log(x) - np.log(x).mean()
    weights = logs / (logs @ logs)
    means = samples.mean(axis=0)
    value = float(weights @ np.log(means))
    window = (float(x.min()), float(x.max()))
    R = len(samples)
    if R == 1:
        return Slope(value, value, value, window)
    without = (means - samples / R) * (R / (R - 1))
    if not (without > 0).all():
        return Slope(value, -math.inf, math.inf, window)
    left_out = np.log(without) @ weights
    spread = math.sqrt((R - 1) / R * float(np.sum((left_out - left_out.mean()) ** 2)))
    reach = float(stdtrit(R - 1, 1.0 - error / 2)) * spread
    return Slope(value, value - reach, value + reach, window)


def _check(x: np.ndarray, samples: np.ndarray, error: float) -> None:
    """Raise InputError where a slope cannot be fitted."""
    if not 0 < error < 1:
        raise InputError(f"error must lie in (0, 1); got {error}")
    if x.ndim != 1 or not (np.isfinite(x) & (x > 0)).all() or len(np.unique(x)) < 2:
        raise InputError(f"x must hold at least two different positive numbers; got {x.tolist()}")
    if samples.ndim != 2 or samples.shape[1] != len(x) or not len(samples):
        raise InputError(f"samples must have the shape (replicates, {len(x)}); got {samples.shape}")
    if not np.isfinite(samples).all():
        r, j = np.argwhere(~np.isfinite(samples))[0]
        raise InputError(f"samples must be finite; got {samples[r, j]} for replicate {r} at x = {x[j]:g}")
    means = samples.mean(axis=0)
    if not (means > 0).all():
        j = int(np.argmin(means))
        raise InputError(f"samples must have positive means, for their logarithms; got {means[j]:g} at x = {x[j]:g}")
