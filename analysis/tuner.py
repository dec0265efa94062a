"""Best free parameters, best step size and largest admissible step size of a theorem, numerically."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.inputs import Inputs
from analysis.theorems import Theorem
from problems.errors import InputError

_GRID = np.logspace(-4, 4, 9)
_WIDEST = 40.0  # parameters are searched in [e^−40, e^40]: neither overflows nor becomes a limit
_STEPS = np.logspace(-4, 0, 25)


@dataclass(frozen=True)
class Tuned:
    """Free parameters (0 and inf mean limits), the guarantee they give, and the step size they belong to."""

    parameters: dict[str, float]
    guarantee: float
    eta: float


def tune(theorem: Theorem, inputs: Inputs) -> Tuned | None:
    """Admissible free parameters that make ``theorem.guarantee`` least at the inputs' η; None where none are.

    Limits are taken exactly where they are allowed; the others are searched on a logarithmic grid, then by
    Nelder and Mead's method.
    """
    found = _search(theorem, inputs, free_step=False, goal=_guarantee)
    if found is not None:
        return found
    edge = closest(theorem, inputs).parameters  # near the largest step the admissible set slips through the grid
    return _search(theorem, inputs, free_step=False, goal=_guarantee, extra=edge)


def closest(theorem: Theorem, inputs: Inputs) -> Tuned:
    """Free parameters that make the worst premise least: those to name where no choice is admissible."""
    found = _search(theorem, inputs, free_step=False, goal=_worst_premise, effort=300)
    return found or Tuned({f.name: f.default for f in theorem.free}, math.inf, inputs.values["eta"])


def best_step(theorem: Theorem, inputs: Inputs) -> Tuned:
    """η and free parameters that together make the guarantee least, step-size conditions included."""
    found = _search(theorem, inputs, free_step=True, goal=_guarantee)
    if found is None:
        raise _no_step(theorem, inputs)
    return found


def max_step(theorem: Theorem, inputs: Inputs) -> float:
    """The largest η at which some free parameters meet every premise (to 1e-6 relative, from below).

    Every theorem here has a premise that keeps η ≤ 1, and the worst premise grows with η: its crossing of 1 is found
    by Brent's method.
    """
    from scipy.optimize import brentq

    def excess(log_eta: float) -> float:
        return closest(theorem, _at(inputs, math.exp(log_eta))).guarantee - 1.0

    if _admissible(theorem, inputs, 1.0):
        return 1.0
    smallest = math.log(1e-9)
    if excess(smallest) > 0:
        raise _no_step(theorem, inputs)
    eta = math.exp(float(brentq(excess, smallest, 0.0, xtol=1e-8)))  # pyright: ignore[reportArgumentType]
    while not _admissible(theorem, inputs, eta):
        eta *= 1 - 2e-7
    return eta


def _no_step(theorem: Theorem, inputs: Inputs) -> InputError:
    """The sentence where no step size gives a finite guarantee."""
    if not math.isfinite(inputs.values["delta"]):
        return InputError(
            f"theorem {theorem.key} has no best step here, as δ is infinite; give eta as a number, or let"
            ' verify.a_posteriori be "auto"'
        )
    listed = ", ".join(f"{k} = {x:.6g}" for k, x in inputs.values.items() if k != "eta")
    return InputError(f"theorem {theorem.key} admits no step size for these constants: {listed}")


def _at(inputs: Inputs, eta: float) -> Inputs:
    return replace(inputs, values=inputs.values | {"eta": eta})


def _admissible(theorem: Theorem, inputs: Inputs, eta: float) -> bool:
    at = _at(inputs, eta)
    return not theorem.unmet(theorem.evaluate(at.values, closest(theorem, at).parameters))


def _guarantee(theorem: Theorem, values: Mapping[str, Any], blocks: tuple[bool, bool]) -> Any:
    return theorem.guarantee(values, blocks)


def _worst_premise(theorem: Theorem, values: Mapping[str, Any], blocks: tuple[bool, bool]) -> Any:
    """The largest left side of a premise (each must stay below 1)."""
    return np.maximum.reduce(np.broadcast_arrays(np.zeros_like(values["rhs"]), *values["conditions"].values()))


Goal = Callable[[Theorem, Mapping[str, Any], tuple[bool, bool]], Any]


def _search(
    theorem: Theorem,
    inputs: Inputs,
    *,
    free_step: bool,
    goal: Goal,
    extra: Mapping[str, float] | None = None,
    effort: int = 2000,
) -> Tuned | None:
    """The best point of a grid (with ``extra``, if given), then of Nelder and Mead's method from there.

    The method runs twice, with at most ``effort`` evaluations each. None where no point has a finite goal.
    """
    from scipy.optimize import minimize

    fixed = theorem.limits(inputs.values)
    names = [f.name for f in theorem.free if f.name not in fixed]
    axes = [_axis(theorem, inputs, name) for name in names] + ([_STEPS] if free_step else [])
    keys = names + (["eta"] if free_step else [])

    def score(points: np.ndarray) -> np.ndarray:
        """The goal at points ``(N, len(keys))``."""
        chosen = dict(zip(keys, points.T, strict=True))
        eta = chosen.pop("eta", inputs.values["eta"])
        values = theorem.evaluate(inputs.values | {"eta": eta}, fixed | chosen)
        result = np.asarray(goal(theorem, values, inputs.blocks), dtype=float)
        return np.where(np.isnan(result), np.inf, np.broadcast_to(result, (len(points),)))

    def result(point: np.ndarray, value: float) -> Tuned:
        chosen = dict(zip(keys, (float(x) for x in point), strict=True))
        eta = chosen.pop("eta", inputs.values["eta"])
        return Tuned({f.name: (fixed | chosen)[f.name] for f in theorem.free}, value, eta)

    if not keys:
        value = float(score(np.empty((1, 0)))[0])
        return result(np.empty(0), value) if math.isfinite(value) else None
    grid = np.array(list(itertools.product(*axes)))
    if free_step and "alpha" in names:
        edge = grid.copy()
        edge[:, keys.index("alpha")] = 1 / edge[:, -1] - 1
        grid = np.concatenate([grid, edge[edge[:, keys.index("alpha")] > 0]])
    if extra is not None:
        grid = np.concatenate([grid, [[extra[name] for name in names]]])
    scores = score(grid)
    if not np.isfinite(scores.min()):
        return None
    best, value = grid[scores.argmin()], float(scores.min())
    for _ in range(2):
        found = minimize(
            lambda z: float(score(np.exp(np.clip(z, -_WIDEST, _WIDEST))[None, :])[0]),
            np.log(best),
            method="Nelder-Mead",
            options={"xatol": 1e-6, "fatol": 1e-11 * max(value, 1e-300), "maxiter": effort, "maxfev": effort},
        )
        if found.fun < value:
            best, value = np.exp(np.clip(found.x, -_WIDEST, _WIDEST)), float(found.fun)
    return result(best, value)


def _axis(theorem: Theorem, inputs: Inputs, name: str) -> np.ndarray:
    free = next(f for f in theorem.free if f.name == name)
    extra = [float(e.subs({s: inputs.values[str(s)] for s in e.free_symbols})) for e in free.candidates]
    return np.concatenate([_GRID, [x for x in extra if x > 0 and math.isfinite(x)]])
