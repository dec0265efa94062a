"""The least guarantee of FA, FA*, FS or FS* over η and the free parameters, for many cells at once.

:mod:`fedconv.analysis.tuning.one_run` asks it for one cell at a time. The premises that bound η and α are solved
instead of searched (derived here from them): with R₀ = χ²(1−p)²/p for FedAlt and χ²p for FedSim,

    (1+α)η ≤ 1 and η(1 + R₀/α) ≤ 1   ⇔   ηR₀/(1−η) ≤ α ≤ 1/η − 1,   which some α meets iff   η ≤ 1/(1+√R₀).

The other premises, ε_u, ε_v < 1, need no wall of their own: the guarantee grows to ∞ where a weight falls to 0. Beyond
that wall the worst premise is made less first. A weakened theorem without premises leaves α free.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from fedconv.analysis.theorems.base import SAMPLING, Theorem, substitute

ITERATIONS = 500
"""Most steps of Nelder and Mead's method in a run."""

SIZES = (1.0, 0.3)
"""Edges of the first simplex in runs one after another."""

FLAT = 1e-12
"""Relative difference of the values at a simplex's corners below which its run is over."""

BEYOND = 1e200
"""More than any guarantee."""

WIDEST = 36.0
"""Coordinates are logarithms or logits, searched in [−WIDEST, WIDEST]."""

_LOWEST = 1e-12
"""The least α that is searched, over the largest, where no premise bounds it from below."""

_STEPS = np.concatenate([np.linspace(-9.0, 3.0, 13), [8.0]])  # logit of η over its largest value
_COARSE = (
    np.array([-2.0, 0.0, 2.0]),  # logit of log α between its bounds
    np.array([0.0, 2.3]),  # log θ
    np.array([0.0, 2.3]),  # log θ_v
    np.array([0.0, 2.3]),  # log ω
)
_FINE = (np.linspace(-6.0, 6.0, 7), *[np.array([-5.0, -2.0, 0.0, 1.0, 2.3, 5.0])] * 3)  # the same where η is given
FREE: tuple[str, ...] = ("alpha", "theta", "theta_v", "omega")
Goal = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Least:
    """Per cell ``(N,)``: the least guarantee (∞ where no step is admissible), its η and its free parameters."""

    guarantee: np.ndarray
    eta: np.ndarray
    parameters: dict[str, np.ndarray]


def least(
    theorem: Theorem,
    cells: Mapping[str, np.ndarray],
    blocks: tuple[bool, bool] = (True, True),
    *,
    every_client: bool = False,
    eta: np.ndarray | None = None,
) -> Least:
    """Least guarantee over η and the free parameters, or at the given ``eta (N,)``, step-size conditions included.

    cells: INPUTS but η by name, arrays ``(N,)``. What is bounded is (1/T) Σ_t (X_t/L_u + p Y_t/L_v); with
    ``every_client`` it is (1/T) Σ_t (X_t/L_u + Y_t/L_v), which can be compared between different m. Cells whose
    constants are not finite get ∞.
    """
    cells = {k: np.asarray(x, dtype=float) for k, x in cells.items() if k != "eta"}
    count = len(next(iter(cells.values())))
    fixed = limits(theorem, cells)
    cells = {k: x[:, None] for k, x in cells.items()}
    R_0 = _young(theorem, cells)
    bound = bool(theorem.conditions)
    largest = 1 / (1 + np.sqrt(R_0)) if bound else np.ones((count, 1))
    given = None if eta is None else np.asarray(eta, dtype=float)[:, None]

    def point(z: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(η, free parameters), arrays ``(N, k)``, at coordinates ``(N, k, 5)``; ``(N, k, 4)`` where η is given."""
        z = np.clip(z, -WIDEST, WIDEST)
        with np.errstate(all="ignore"):
            if given is None:
                eta, z = largest / (1 + np.exp(-z[..., 0])), z[..., 1:]
            else:
                eta = np.broadcast_to(given, z.shape[:-1])
            high = np.where(eta < 1, 1 / eta - 1, np.nan)  # no α at η ≥ 1
            low = np.maximum(eta * R_0 / (1 - eta), _LOWEST * high)
            # a step within rounding of the largest leaves one α, and the order of its bounds to chance
            share = 1 / (1 + np.exp(-z[..., 0]))
            alpha = np.minimum(low * (np.maximum(high, low) / low) ** share, np.maximum(high, 0.0))
            chosen = {"alpha": alpha if bound else np.exp(z[..., 0])}
            chosen |= {name: np.exp(z[..., i]) for i, name in enumerate(FREE[1:], start=1)}
        return eta, {k: np.where(np.isnan(fixed[k])[:, None], x, fixed[k][:, None]) for k, x in chosen.items()}

    def goal(z: np.ndarray) -> np.ndarray:
        """The guarantee at such coordinates, ``(N, k)``; where it is ∞, more than any, as the worst premise says."""
        eta, parameters = point(z)
        values = theorem.evaluate(cells | {"eta": eta}, parameters)
        result: Any = theorem.guarantee(values | ({"p": 1.0} if every_client else {}), blocks)
        result = np.broadcast_to(np.asarray(result, dtype=float), eta.shape)
        if np.isfinite(result).all():
            return result
        sides = np.broadcast_arrays(np.zeros(eta.shape), *values["conditions"].values())
        beyond = BEYOND * (1 + np.maximum.reduce(sides))
        return np.where(np.isfinite(result), result, np.where(np.isnan(beyond), np.inf, beyond))

    coarse = np.array(list(itertools.product(*((_STEPS, *_COARSE) if given is None else _FINE))))
    scores = goal(np.broadcast_to(coarse, (count, *coarse.shape)))
    best = coarse[scores.argmin(axis=1)]
    value = scores.min(axis=1)
    for size in SIZES:
        best, value = nelder_mead(goal, best, size)
    found, parameters = point(best[:, None, :])
    return Least(np.where(value < BEYOND, value, np.inf), found[:, 0], {k: x[:, 0] for k, x in parameters.items()})


def limits(theorem: Theorem, cells: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Per free parameter ``(N,)``: its limit, 0 or ∞, in the cells where one is allowed; NaN in the others.

    :meth:`Theorem.limits` for many cells. The factors that vanish do so exactly in float64 (1 − m/n, c, 1 − 1/τ).
    """

    def vanishes(expression: sp.Expr) -> np.ndarray:
        whole = substitute(expression, SAMPLING)
        names = sorted(str(s) for s in whole.free_symbols)
        with np.errstate(all="ignore"):
            value = sp.lambdify([sp.Symbol(k, nonnegative=True) for k in names], whole, "numpy")(
                *(cells[k] for k in names)
            )
        return np.broadcast_to(np.asarray(value) == 0.0, shape)

    shape = next(iter(cells.values())).shape
    return {
        free.name: np.where(
            vanishes(free.to_infinity), np.inf, np.where(vanishes(free.to_zero), 0.0, np.full(shape, np.nan))
        )
        for free in theorem.free
    }


def _young(theorem: Theorem, cells: Mapping[str, np.ndarray]) -> np.ndarray:
    """R₀: the premise on α is η(1 + R₀/α) ≤ 1."""
    ones = dict.fromkeys(FREE, 1.0)
    values = theorem.evaluate({**cells, "eta": 0.1}, ones)
    return np.broadcast_to(np.asarray(values["R"] / values["p"]), next(iter(cells.values())).shape)


def nelder_mead(goal: Goal, start: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Nelder and Mead's method from ``start (N, d)``, N problems side by side: (points ``(N, d)``, values ``(N,)``).

    Adaptive coefficients of Gao and Han (2012) for d dimensions. ``size``: length of the first simplex's edges.
    """
    count, d = start.shape
    expand, contract, shrink = 1 + 2 / d, 0.75 - 1 / (2 * d), 1 - 1 / d
    simplex = np.repeat(start[:, None, :], d + 1, axis=1)
    for i in range(d):
        simplex[:, i + 1, i] += size
    f = goal(simplex)
    rows = np.arange(count)
    for step in range(ITERATIONS):
        if step % 10 == 0 and _flat(f).all():
            break
        order = np.argsort(f, axis=1, kind="stable")
        simplex, f = np.take_along_axis(simplex, order[..., None], axis=1), np.take_along_axis(f, order, axis=1)
        worst = simplex[:, -1]
        centre = simplex[:, :-1].mean(axis=1)
        out = centre - worst
        trial = centre[:, None, :] + out[:, None, :] * np.array([1.0, expand, contract, -contract])[None, :, None]
        g = goal(trial)
        reflected = g[:, 0]
        # which of the four replaces the worst vertex; −1: none, the simplex shrinks
        outside, inside = np.where(g[:, 2] <= reflected, 2, -1), np.where(g[:, 3] < f[:, -1], 3, -1)
        chosen = np.where(reflected < f[:, -1], outside, inside)
        chosen = np.where(reflected < f[:, -2], 0, chosen)
        chosen = np.where((reflected < f[:, 0]) & (g[:, 1] < reflected), 1, chosen)
        taken = chosen >= 0
        simplex[taken, -1], f[taken, -1] = trial[rows, chosen][taken], g[rows, chosen][taken]
        if not taken.all():
            shrunk = simplex[:, :1] + shrink * (simplex[:, 1:] - simplex[:, :1])
            again = goal(shrunk)
            simplex[~taken, 1:], f[~taken, 1:] = shrunk[~taken], again[~taken]
    best = f.argmin(axis=1)
    return simplex[rows, best], f[rows, best]


def _flat(f: np.ndarray) -> np.ndarray:
    """Which simplices have values ``(N, d + 1)`` that are the same for the purpose: nothing is left to gain."""
    high, low = f.max(axis=1), f.min(axis=1)
    with np.errstate(all="ignore"):
        return (high == low) | (high - low <= FLAT * np.abs(low))
