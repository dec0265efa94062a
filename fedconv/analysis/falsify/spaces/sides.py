"""Both sides of a theorem at many candidates: largest admissible steps, tightness, and what an ascent should climb."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedconv.analysis.falsify.spaces.space import UNMET, Scores
from fedconv.analysis.theorems import Theorem
from fedconv.analysis.theorems.base import TOLERANCE
from fedconv.analysis.verdicts.verdict import RELATIVE_FLOOR

LARGEST_STEP = 2.0
"""The largest η tried where no premise bounds it."""

LOST = 1e-9
"""Share of the bound that rounding in the measured means may reach; beyond it a candidate scores nothing."""


def strength(
    theorem: Theorem,
    original: Theorem | None,
    inputs: Mapping[str, Any],
    parameters: Mapping[str, Any],
    means: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    a_posteriori: bool,
    gap_scale: np.ndarray,
    apart: float,
) -> Scores:
    """Scores of candidates with measured means (X, Y, diversity), each ``(N,)``.

    A posteriori δ² is the diversity. The guide is log(lhs/rhs); where ``theorem`` is a weakened version of
    ``original`` it is lowered, by at most 2, at candidates where the two differ by less than ``apart``: as the original
    holds there, the weakened version can hardly fail. gap_scale: |F(start)| + |F★|, for the floor of ΔF₀.
    """
    X, Y, diversity = means
    with np.errstate(all="ignore"):
        slope = np.zeros(X.shape)
        if a_posteriori:
            inputs = {**inputs, "delta": np.sqrt(diversity), "rho": 0.0}
            slope = 1e-9 * diversity
        ratio, worst, right = sides(theorem, inputs, parameters, X, Y)
        floor = RELATIVE_FLOOR + (2e-13 * gap_scale / (inputs["eta"] * inputs["T"]) + slope) / right
        good = (1e-15 * (X + diversity) / inputs["L_u"] < LOST * right) & np.isfinite(ratio) & (right > 0)
        good &= worst <= 1 + TOLERANCE
        beyond = UNMET - np.nan_to_num(worst, nan=1e3, posinf=1e3)
        guide = np.where(good, np.log(np.maximum(ratio, 1e-300)), beyond)
        if original is not None:
            other, excess, _ = sides(original, inputs, parameters, X, Y)
            difference = np.where(excess > 1 + TOLERANCE, excess - 1, np.log(ratio / other))
            difference = np.minimum(np.nan_to_num(difference, nan=1.0), apart)
            guide = np.where(good, guide - 2 * (1 - difference / apart), guide)
        return Scores(np.where(good, ratio, -np.inf), guide, floor)


def largest_step(theorem: Theorem, inputs: Mapping[str, Any], parameters: Mapping[str, Any], count: int) -> np.ndarray:
    """The largest η ≤ LARGEST_STEP that every premise admits at given parameters ``(count,)``: nested grids.

    The premises' left sides grow with η. Where none is admissible the result is 0.
    """
    if not theorem.conditions:
        return np.full(count, LARGEST_STEP)

    def column(x: Any) -> Any:
        return x[:, None] if isinstance(x, np.ndarray) and x.ndim else x

    given = {k: column(v) for k, v in inputs.items()}
    free = {k: column(v) for k, v in parameters.items()}
    low, high = np.zeros(count), np.full(count, LARGEST_STEP)
    shares = np.linspace(0.0, 1.0, 33)
    for _ in range(6):
        eta = low[:, None] + (high - low)[:, None] * shares
        left = theorem.evaluate(given | {"eta": eta}, free)["conditions"]
        met = np.ones(eta.shape, dtype=bool)
        for condition in theorem.conditions:
            value = np.broadcast_to(left[condition.name], eta.shape)
            met &= value < 1 if condition.strict else value <= 1
        met[:, 0] = True
        last = np.logical_and.accumulate(met, axis=1).sum(axis=1) - 1
        rows = np.arange(count)
        low, high = eta[rows, last], eta[rows, np.minimum(last + 1, len(shares) - 1)]
    return low


def sides(
    theorem: Theorem, inputs: Mapping[str, Any], parameters: Mapping[str, Any], X: np.ndarray, Y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lhs/rhs, the worst premise's left side, rhs), each ``(N,)``. A strict premise counts as unmet at 1."""
    values = theorem.evaluate(inputs, parameters)
    left = values["weight_u"] * X / values["L_u"] + values["weight_v"] * Y / values["L_v"]
    right = np.broadcast_to(values["rhs"], X.shape)
    worst = np.zeros(X.shape)
    for condition in theorem.conditions:
        value = np.broadcast_to(values["conditions"][condition.name], X.shape)
        if condition.strict:
            value = np.where(value >= 1, np.maximum(value, 1 + 2 * TOLERANCE), value)
        worst = np.maximum(worst, np.where(np.isnan(value), math.inf, value))
    return left / right, worst, right
