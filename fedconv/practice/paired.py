"""Differences of two methods, seed by seed, with an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

Law = Literal["normal", "symmetric"]
ENUMERATED = 14
"""Seeds up to which all 2^R − 1 subsets are taken; beyond, some 2^14 different ones at random."""


@dataclass(frozen=True)
class Paired:
    """The mean over seeds of (method a − method b), and an interval that misses the true mean with probability at most
    ``error``, if the differences follow a ``law``: "normal" (Student's) or "symmetric" (sign flips)."""

    mean: float
    low: float
    high: float
    error: float
    n_seeds: int
    law: Law = "normal"

    @property
    def sign(self) -> int:
        """1 or −1 where the interval lies on one side of 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    def __str__(self) -> str:
        how = "Student" if self.law == "normal" else "sign flips"
        return (
            f"{self.mean:+.4g} [{self.low:+.4g}, {self.high:+.4g}] ({how}, error {self.error:g}, {self.n_seeds} seeds)"
        )


def paired(
    dataset: xr.Dataset,
    a: str,
    b: str,
    field: str = "accuracy_after",
    *,
    error: float = 0.05,
    law: Law = "normal",
) -> Paired:
    """Method a minus method b in ``field`` of :func:`~fedconv.practice.compare`'s dataset: mean over clients, then
    statistics over seeds. Both met the same cohorts and rows in a seed.

    law "normal": Student's interval; where it does not apply, as all differences are the same number (a standard
    deviation of 0 says nothing after a few seeds), sign flips are taken. law "symmetric": sign flips. Fewer than two
    seeds, or a seed that diverged, have the interval (−∞, ∞). Raises InputError for a method or field that the dataset
    lacks, a field without seeds, or an error outside (0, 1).
    """
    for name in (a, b):
        if "method" not in dataset.coords or name not in dataset["method"].values:
            known = ", ".join(map(str, dataset["method"].values)) if "method" in dataset.coords else "none"
            raise InputError(f"a method must be one of the dataset's, {known}; got {name!r}")
    if field not in dataset or not {"method", "seed"} <= set(dataset[field].dims):
        fits = [str(k) for k, x in dataset.data_vars.items() if {"method", "seed"} <= set(x.dims)]
        raise InputError(f"field must be one of {', '.join(fits)}; got {field!r}")
    values = dataset[field].astype(float)
    others = [d for d in values.dims if d not in ("method", "seed")]
    means = values.mean(others, skipna=False)
    return interval((means.sel({"method": a}) - means.sel({"method": b})).values, error, law)


def interval(differences: np.ndarray, error: float, law: Law = "normal") -> Paired:
    """Mean and two-sided interval of differences ``(R,)``, as :func:`paired` takes them."""
    if not 0 < error < 1:
        raise InputError(f"error must lie in (0, 1); got {error}")
    if law not in ("normal", "symmetric"):
        raise InputError(f"law must be 'normal' or 'symmetric'; got {law!r}")
    R = len(differences)
    mean = float(differences.mean()) if R else math.nan
    if R < 2 or not np.isfinite(differences).all():
        return Paired(mean, -math.inf, math.inf, error, R, law)
    if law == "normal" and np.ptp(differences) > 0:
        from scipy.special import stdtrit

        half = float(stdtrit(R - 1, 1.0 - error / 2) * differences.std(ddof=1) / math.sqrt(R))
        return Paired(mean, mean - half, mean + half, error, R, "normal")
    return Paired(mean, *sign_flips(differences, error), error, R, "symmetric")


def sign_flips(differences: np.ndarray, error: float) -> tuple[float, float]:
    """The means that no two-sided sign-flip test at level ``error`` rejects, for symmetric differences ``(R,)``.

    The means of the 2^R − 1 non-empty subsets, sorted, cut the line into 2^R pieces that hold the true mean with the
    same probability (Hartigan 1969), so that the k-th from each end miss it with probability 2k/2^R. Beyond ENUMERATED
    seeds, the same with fewer subsets, drawn at random. (−∞, ∞) where even k = 1 misses too often: R < log2(2/error).
    """
    R = len(differences)
    if R <= ENUMERATED:
        numbers = np.arange(1, 2**R)
        subsets = ((numbers[:, None] >> np.arange(R)) & 1).astype(bool)
    else:
        rng = np.random.default_rng(np.random.SeedSequence(R))
        subsets = np.unique(rng.random((2**ENUMERATED, R)) < 0.5, axis=0)
        subsets = subsets[subsets.any(1)]
    means = np.sort((subsets @ differences) / subsets.sum(1))
    k = math.floor(error / 2 * (len(means) + 1) * (1 + 1e-12))
    return (float(means[k - 1]), float(means[-k])) if k >= 1 else (-math.inf, math.inf)
