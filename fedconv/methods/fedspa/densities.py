"""How many weights of each layer a mask keeps: the same share everywhere (uniform), or Erdős-Rényi-kernel (ERK)."""

from __future__ import annotations

import numpy as np

from fedconv.problems.errors import InputError
from fedconv.problems.layers import Layout

ROUNDING = 1e-9
"""Counts this close to an integer (relative) are that integer: densities are quotients of floats."""


def uniform_densities(layout: Layout, density: float) -> np.ndarray:
    """s in every layer, ``(layers,)``."""
    return np.full(len(layout.layers), float(density))


def erk_densities(layout: Layout, density: float, power: float = 1.0) -> np.ndarray:
    """min(1, ε p_l) with p_l = (sum of the layer's dimensions / their product)^power, ``(layers,)``.

    With S the saturated layers, ε = (s Σ_{l∉S} d_l − (1−s) Σ_{l∈S} d_l) / Σ_{l∉S} p_l d_l; S starts empty and takes
    every layer with ε p_l > 1 until none is left, so that Σ_l density_l d_l = s d exactly.
    """
    d = np.array(layout.sizes, dtype=float)
    p = np.array([layer.dimensions / layer.size for layer in layout.layers]) ** power
    full = np.zeros(len(d), dtype=bool)
    while not full.all():
        epsilon = (density * d[~full].sum() - (1 - density) * d[full].sum()) / (p * d)[~full].sum()
        over = ~full & (epsilon * p > 1)
        if not over.any():
            return np.where(full, 1.0, epsilon * p)
        full |= over
    return np.ones(len(d))


def layer_densities(layout: Layout, distribution: str, density: float, power: float) -> np.ndarray:
    """The target density of every layer, ``(layers,)``."""
    if distribution == "uniform":
        return uniform_densities(layout, density)
    return erk_densities(layout, density, power)


def counts(layout: Layout, densities: np.ndarray) -> np.ndarray:
    """s_l = ⌊density_l d_l⌋ ``(layers,)``. Raises InputError where no weight at all is left."""
    exact = np.minimum(densities, 1.0) * np.array(layout.sizes)
    kept = np.floor(exact * (1 + ROUNDING)).astype(np.int64)
    if not kept.any():
        raise InputError(
            f"masks.density must leave at least one weight in some layer; it leaves {exact.max():.3g} in the largest"
        )
    return kept


def exchanged(alpha: float, budgets: np.ndarray) -> np.ndarray:
    """r = ⌈α s⌉ for budgets of any shape; products within ROUNDING of an integer are that integer."""
    exact = alpha * budgets.astype(float)
    nearest = np.round(exact)
    near = (nearest >= 1) & (np.abs(exact - nearest) <= ROUNDING * nearest)
    return np.where(near, nearest, np.ceil(exact)).astype(np.int64)
