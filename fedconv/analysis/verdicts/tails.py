"""When sampled replicates cannot give an approximate limit: rare events not seen, no spread, or no finite variance."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.analysis.verdicts.limits import plain
from fedconv.core.trace import read
from fedconv.problems.base import GradientBounds
from fedconv.problems.noise import Noise

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.problems.base import Problem

COCHRAN = 25.0
"""Student's limits need at least COCHRAN·(sample skewness)² replicates (Cochran 1977, section 2.15)."""

NO_SPREAD = 1e-12
"""Share of the samples' size up to which a standard deviation counts as none."""


@dataclass(frozen=True)
class Randomness:
    """What is random in a run, as verdicts need it: ``noise`` (None: gradients have none) and ``algorithm`` as plain
    data, ``shape`` with n, d_u and d_v, T rounds, and what gradients never exceed (None: unknown)."""

    noise: Mapping[str, Any] | None
    algorithm: Mapping[str, Any]
    shape: Mapping[str, int]
    T: int
    gradients: GradientBounds | None = None

    @classmethod
    def of(cls, problem: Problem, noise: Any, algorithm: Mapping[str, Any], T: int) -> Randomness:
        """That of a run of an algorithm, as plain data, on a problem with a noise."""
        shape = {"n": problem.n, "d_u": problem.d_u, "d_v": problem.d_v}
        plain = noise.to_dict() if isinstance(noise, Noise) else None
        return cls(plain, algorithm, shape, T, problem.gradient_bounds())

    def withheld(self, replicates: int, error: float) -> str | None:
        """See :func:`withheld`."""
        return withheld(self.noise, self.algorithm, self.shape, self.T, replicates, self.gradients is not None, error)


def recorded_randomness(trace: xr.Dataset) -> Randomness:
    """What is random in a recorded run."""
    noise = read(trace, "noise") if "noise" in trace.attrs else None
    bounds = json.loads(trace.attrs.get("gradient_bounds", "null"))
    gradients = None if bounds is None else GradientBounds(**bounds)
    return Randomness(noise, read(trace, "algorithm"), read(trace, "shape"), int(trace.attrs["T"]), gradients)


def withheld(
    noise: Mapping[str, Any] | None,
    algorithm: Mapping[str, Any],
    shape: Mapping[str, int],
    T: int,
    replicates: int,
    bounded_gradients: bool,
    error: float = 1e-6,
) -> str | None:
    """Why no approximate limit of an expectation can be read off this many replicates, or None.

    Rare events that a sample must have seen, each in a cell of its own, as any of them alone may decide the mean: for
    every client and round, that the client takes part, and that it does not; for every client, round, block with noise
    and coordinate, that a spike of that noise is used. The probability that some cell of R replicates stays empty,
    at most Σ (1 − P(cell))^R, must be at most ``error``. (How often what was seen must have been seen is asked by
    :func:`replicates_for_skewness`.)

    Student's t noise with at most four degrees of freedom: squares of its draws have no variance, nor has a left-hand
    side that may grow like them, that is, where gradients are not bounded.
    """
    n = int(shape["n"])
    m = int(algorithm.get("m", n))
    p = m / n
    if m < n:
        unseen = n * T * ((1 - p) ** replicates + p**replicates)
        if unseen > error:
            return (
                f"a client takes part in a round, or stays away, in only {replicates * min(p, 1 - p):.3g} of "
                f"{replicates} replicates on average: some client may not have been seen to (probability up to "
                f"{min(unseen, 1.0):.2g})"
            )
    if noise is None:
        return None
    if noise["law"] == "spikes":
        q = float(noise["spike_probability"])
        for b in "uv":
            tau, d = int(algorithm.get(f"tau_{b}", algorithm.get("tau", 0))), int(shape[f"d_{b}"])
            if noise[f"sigma_{b}"] <= 0 or tau * d == 0:
                continue
            at_least_one = p * -math.expm1(tau * math.log1p(-q)) if q < 1 else p
            unseen = n * T * d * (1 - at_least_one) ** replicates
            if unseen > error:
                return (
                    f"a spike of one coordinate of {b} at a client and round is expected "
                    f"{replicates * at_least_one:.3g} times in {replicates} replicates: some may not have been seen"
                )
    silent = noise["sigma_u"] == 0 and noise["sigma_v"] == 0
    if noise["law"] == "student_t" and not silent and noise["dof"] <= 4 and not bounded_gradients:
        return f"student_t noise with dof = {noise['dof']:g} <= 4 leaves squares of unbounded gradients no variance"
    return None


def replicates_for_skewness(samples: np.ndarray) -> Any:
    """How many replicates Student's limits need at the skewness of samples ``(..., R)``; ∞ where they do not vary: no
    spread in a random sample is no certainty, as a rare event may not have been seen."""
    spread = samples.std(-1)
    varies = np.isfinite(spread) & (spread > NO_SPREAD * np.abs(samples).max(-1, initial=0.0))
    with np.errstate(all="ignore"):
        scaled = (samples - samples.mean(-1)[..., None]) / spread[..., None]
        return plain(np.where(varies, COCHRAN * (scaled**3).mean(-1) ** 2, math.inf))
