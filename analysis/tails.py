"""When sampled replicates cannot give an upper limit: rare events not seen, or no finite variance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

FEWEST_SPIKES = 100
"""Spikes expected in all draws of a run below which an upper limit is withheld."""

COCHRAN = 25.0
"""Student's upper limit needs at least COCHRAN·(sample skewness)² replicates (Cochran 1977, section 2.15)."""


def withheld(
    noise: Mapping[str, Any],
    algorithm: Mapping[str, Any],
    shape: Mapping[str, int],
    T: int,
    replicates: int,
    bounded_gradients: bool,
) -> str | None:
    """Why no upper limit of an expectation can be read off this many replicates, or None.

    Sparse spikes: as long as few are expected in all draws together, a sample may have missed them. Student's t with at
    most four degrees of freedom: squares of its draws have no variance, nor has a left-hand side that may grow like
    them, that is, where gradients are not bounded.
    """
    if noise["law"] == "spikes":
        draws = sum(algorithm[f"tau_{b}"] * shape[f"d_{b}"] for b in "uv" if noise[f"sigma_{b}"] > 0)
        expected = replicates * T * algorithm["m"] * draws * noise["spike_probability"]
        if draws and expected < FEWEST_SPIKES:
            return f"about {expected:.3g} spikes are expected in all draws, fewer than {FEWEST_SPIKES}"
    silent = noise["sigma_u"] == 0 and noise["sigma_v"] == 0
    if noise["law"] == "student_t" and not silent and noise["dof"] <= 4 and not bounded_gradients:
        return f"student_t noise with dof = {noise['dof']:g} <= 4 leaves squares of unbounded gradients no variance"
    return None


def replicates_for_skewness(samples: np.ndarray) -> float:
    """How many replicates Student's upper limit needs at the samples' skewness; 0 where they do not vary."""
    spread = samples.std()
    if not np.isfinite(spread) or spread <= 1e-12 * np.abs(samples).max(initial=0.0):
        return 0.0
    return COCHRAN * float((((samples - samples.mean()) / spread) ** 3).mean()) ** 2
