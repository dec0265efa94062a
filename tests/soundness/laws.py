"""Laws of samples with a known mean: those that left-hand sides take in runs, near enough, and worse ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Law:
    """``draw(rng, size)``; ``low``, ``high``: the interval that a verdict knows to hold every sample, ±∞ where none."""

    name: str
    mean: float
    draw: Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
    low: float = 0.0
    high: float = math.inf

    @property
    def nonnegative(self) -> bool:
        return self.low >= 0


def _rare(q: float, low: float, high: float) -> Callable[[np.random.Generator, tuple[int, int]], np.ndarray]:
    return lambda rng, size: np.where(rng.random(size) < q, high, low)


def _less(law: Law, name: str, sign: float, shift: float) -> Law:
    """sign·x + shift, of which no end is known: a difference of two sides."""
    return Law(name, sign * law.mean + shift, lambda rng, size: sign * law.draw(rng, size) + shift, -math.inf)


EXPONENTIAL = Law("exponential", 1.0, lambda rng, size: rng.standard_exponential(size))
LOGNORMAL = Law("lognormal(1)", math.exp(0.5), lambda rng, size: rng.lognormal(0.0, 1.0, size))

LAWS: tuple[Law, ...] = (
    EXPONENTIAL,
    Law("chi-squared, 1 dof", 1.0, lambda rng, size: rng.standard_normal(size) ** 2),
    LOGNORMAL,
    Law("squared t, 5 dof", 5 / 3, lambda rng, size: rng.standard_t(5.0, size) ** 2),
    Law("constant", 1.0, lambda rng, size: np.ones(size)),
    Law("1, rarely 1000", 1.0 + 999e-4, _rare(1e-4, 1.0, 1000.0)),
    Law("signs", 1.0, lambda rng, size: 2.0 * (rng.random(size) < 0.5), high=2.0),
    Law("uniform", 0.5, lambda rng, size: rng.random(size), high=1.0),
    Law("beta(0.1, 0.5)", 1 / 6, lambda rng, size: rng.beta(0.1, 0.5, size), high=1.0),
    Law("rare 1 of [0, 1]", 1e-3, _rare(1e-3, 0.0, 1.0), high=1.0),
    Law("mostly 1 of [0, 1]", 1.0 - 1e-3, _rare(1e-3, 1.0, 0.0), high=1.0),
    Law("constant in [0, 10]", 1.0, lambda rng, size: np.ones(size), high=10.0),
    Law("outlier of 1000 in [-1, 5]", (999 * 0.1 + 4.0) / 1000, _rare(1e-3, 0.1, 4.0), -1.0, 5.0),
    Law("normal", 1.0, lambda rng, size: 1.0 + rng.standard_normal(size), -math.inf),
    _less(EXPONENTIAL, "2 less exponential", -1.0, 2.0),
    _less(LOGNORMAL, "3 less lognormal(1)", -1.0, 3.0),
)
