"""Best free parameters, best step size and largest admissible step size of a theorem, numerically."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedconv.analysis.theorems import Theorem
from fedconv.analysis.theorems.split.facts import Inputs
from fedconv.analysis.tuning.many_cells import FREE, least
from fedconv.problems.errors import InputError

_GRID = np.logspace(-4, 4, 9)
_STEPS = np.logspace(-4, 0, 25)
_WIDEST = 40.0  # parameters are searched in [e^−40, e^40]: neither overflows nor becomes a limit
_SMALLEST = 1e-9  # the least η that is thought of
_GAP = 1e-7  # of log η at the largest step
_DIFFERENCE = 1e-6  # of logarithms, for derivatives
_RESTARTS = 6
_LEAST = 1e-300  # what a left side of 0 counts as
Sides = Callable[[np.ndarray, float | np.ndarray], np.ndarray]
"""Left sides of premises at free parameters and η (see :func:`_sides`)."""


@dataclass(frozen=True)
class Tuned:
    """Free parameters (0 and inf mean limits), the guarantee they give, and the step size they belong to."""

    parameters: dict[str, float]
    guarantee: float
    eta: float


def tune(theorem: Theorem, inputs: Inputs) -> Tuned | None:
    """Admissible free parameters that make ``theorem.guarantee`` least at the inputs' η; None where none are.

    Limits are taken exactly where they are allowed; the rest is :func:`fedconv.analysis.tuning.many_cells.least` for
    one cell, or, for a theorem with other free parameters than FA's, a grid and Nelder and Mead's method.
    """
    return _least(theorem, inputs, inputs.values["eta"])


def best_step(theorem: Theorem, inputs: Inputs) -> Tuned:
    """η and free parameters that together make the guarantee least, step-size conditions included."""
    found = _least(theorem, inputs, None)
    if found is None:
        raise _no_step(theorem, inputs)
    return found


def _least(theorem: Theorem, inputs: Inputs, eta: float | None) -> Tuned | None:
    if {f.name for f in theorem.free} != set(FREE):
        found = [_searched(theorem, _at(inputs, float(x))) for x in (_STEPS if eta is None else [eta])]
        return min((x for x in found if x is not None), key=lambda x: x.guarantee, default=None)
    cell = {k: np.array([x], dtype=float) for k, x in inputs.values.items()}
    found = least(theorem, cell, inputs.blocks, eta=None if eta is None else np.array([eta]))
    if not math.isfinite(found.guarantee[0]):
        return None
    parameters = {k: float(x[0]) for k, x in found.parameters.items()}
    return Tuned(parameters, float(found.guarantee[0]), float(found.eta[0]))


def closest(theorem: Theorem, inputs: Inputs) -> Tuned:
    """Free parameters that make the worst premise least: those to name where no choice is admissible."""
    eta = inputs.values["eta"]
    fixed = theorem.limits(inputs.values)
    return _closest(theorem, inputs, fixed, eta)


def _closest(theorem: Theorem, inputs: Inputs, fixed: Mapping[str, float], eta: float) -> Tuned:
    """:func:`closest` at a given η, where ``fixed`` are the limits that are allowed; its guarantee: the worst premise.

    The least v such that log left ≤ v for every premise, over v and the logarithms of the free parameters.
    """
    names = [f.name for f in theorem.free if f.name not in fixed]
    sides = _sides(theorem, inputs, fixed, names)
    defaults = {f.name: f.default for f in theorem.free}
    z = np.zeros(len(names))
    worst = sides(z[None, :], eta).max(initial=0.0)
    if not math.isfinite(worst):
        return Tuned(defaults, math.inf, eta)
    if names and worst > 0:

        def constraints(y: np.ndarray) -> np.ndarray:
            """log left − v at points ``(N, len(names) + 1)``, v last."""
            return _log(sides(y[:, :-1], eta)) - y[:, -1:]

        start = np.append(z, math.log(worst) + 1.0)
        low, high = np.append(z - _WIDEST, _log(np.zeros(())) - 1.0), np.append(z + _WIDEST, start[-1] + 1.0)
        z = _least_coordinate(constraints, start, low, high, _GAP / 10)[:-1]
        worst = sides(z[None, :], eta).max()
    chosen = {**fixed, **dict(zip(names, map(float, np.exp(z)), strict=True))}
    return Tuned({f.name: chosen[f.name] for f in theorem.free}, float(worst), eta)


def _sides(theorem: Theorem, inputs: Inputs, fixed: Mapping[str, float], names: Sequence[str]) -> Sides:
    """The premises' left sides ``(N, k)`` at logarithms of the free parameters ``(N, len(names))`` and η (``(N,)``)."""

    def sides(z: np.ndarray, eta: float | np.ndarray) -> np.ndarray:
        chosen = {**fixed, **dict(zip(names, np.exp(z).T, strict=True))}
        values = theorem.evaluate(inputs.values | {"eta": np.asarray(eta, dtype=float)}, chosen)
        found = [np.broadcast_to(x, (len(z),)) for x in values["conditions"].values()]
        found = np.array(found, dtype=float).reshape(-1, len(z)).T
        return np.where(np.isnan(found), np.inf, found)

    return sides


def _least_coordinate(
    constraints: Callable[[np.ndarray], np.ndarray], start: np.ndarray, low: np.ndarray, high: np.ndarray, gap: float
) -> np.ndarray:
    """The point with the least last coordinate where ``constraints`` (points ``(N, d)`` → ``(N, k)``) are ≤ 0.

    Premises' left sides are built from η, the free parameters and nonnegative constants by sums, products, powers and
    exp, so their logarithms are convex in those of η and the parameters (log-sum-exp): a convex problem. Sequential
    quadratic programming from ``start``, begun again until it gains less than ``gap``.
    """
    from scipy.optimize import minimize

    d = len(start)
    shifts, last = _DIFFERENCE * np.eye(d), np.eye(d)[-1]

    def slack(y: np.ndarray) -> np.ndarray:
        return np.maximum(np.append(-constraints(y[None, :])[0], 1.0), -1e3)  # finite; 1: there may be no premise

    def slopes(y: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            values = constraints(np.concatenate([y + shifts, y - shifts]))
            found = (values[d:] - values[:d]).T / (2 * _DIFFERENCE)
        return np.concatenate([np.nan_to_num(found), np.zeros((1, d))])

    y = np.array(start, dtype=float)
    for _ in range(_RESTARTS):
        found = minimize(
            lambda y: y[-1],
            y,
            jac=lambda _: last,
            method="SLSQP",
            bounds=list(zip(low, high, strict=True)),
            constraints=[{"type": "ineq", "fun": slack, "jac": slopes}],
            options={"ftol": 1e-15, "maxiter": 200},
        )
        gained = y[-1] - found.x[-1]
        if slack(found.x).min() < -gap or gained <= 0:
            break
        y = found.x
        if gained < gap:
            break
    return y


def _log(sides: np.ndarray) -> np.ndarray:
    """log of left sides; one that is 0, whatever the parameters, counts as the least positive number."""
    return np.log(np.maximum(sides, _LEAST))


def _searched(theorem: Theorem, inputs: Inputs) -> Tuned | None:
    """Free parameters that make the guarantee least at the inputs' η; None where it is finite nowhere.

    Limits are taken exactly where they are allowed; the others are searched on a logarithmic grid, then by Nelder and
    Mead's method.
    """
    fixed = theorem.limits(inputs.values)
    names = [f.name for f in theorem.free if f.name not in fixed]

    def at(points: np.ndarray) -> np.ndarray:
        """The guarantee at points ``(N, len(names))``."""
        values = theorem.evaluate(inputs.values, fixed | dict(zip(names, points.T, strict=True)))
        result = np.broadcast_to(theorem.guarantee(values, inputs.blocks), (len(points),))
        return np.where(np.isnan(result), np.inf, result)

    grid = np.array(list(itertools.product(*(_axis(theorem, inputs, name) for name in names))))
    scores = at(grid)
    best, value = grid[scores.argmin()], float(scores.min())
    if not math.isfinite(value):
        return None
    if names:
        best, value = _refined(at, best, value)
    chosen = fixed | dict(zip(names, map(float, best), strict=True))
    return Tuned({f.name: chosen[f.name] for f in theorem.free}, value, inputs.values["eta"])


def _refined(goal: Callable[[np.ndarray], np.ndarray], best: np.ndarray, value: float) -> tuple[np.ndarray, float]:
    """Nelder and Mead's method from a point, twice."""
    from scipy.optimize import minimize

    for _ in range(2):
        found = minimize(
            lambda z: float(goal(np.exp(np.clip(z, -_WIDEST, _WIDEST))[None, :])[0]),
            np.log(best),
            method="Nelder-Mead",
            options={"xatol": 1e-6, "fatol": 1e-11 * max(value, 1e-300), "maxiter": 300, "maxfev": 300},
        )
        if found.fun < value:
            best, value = np.exp(np.clip(found.x, -_WIDEST, _WIDEST)), float(found.fun)
    return best, value


def max_step(theorem: Theorem, inputs: Inputs) -> float:
    """The largest η in [1e-9, 1] at which some free parameters meet every premise (to 1e-6 relative, from below).

    Every theorem here has a premise that keeps η ≤ 1, and for given free parameters the worst premise grows with η. The
    least −log η is sought over −log η and the logarithms of the free parameters together, under log left < 0 for every
    premise; the limits that are allowed do not depend on η.
    """
    fixed = theorem.limits(inputs.values)
    names = [f.name for f in theorem.free if f.name not in fixed]
    sides = _sides(theorem, inputs, fixed, names)

    def admissible(eta: float) -> bool:
        values = inputs.values | {"eta": eta}
        return not theorem.unmet(theorem.evaluate(values, _closest(theorem, inputs, fixed, eta).parameters))

    def constraints(y: np.ndarray) -> np.ndarray:
        """log left at points ``(N, len(names) + 1)``, −log η last."""
        return _log(sides(y[:, :-1], np.exp(-y[:, -1])))

    z = np.zeros(len(names))
    if sides(z[None, :], _SMALLEST).max(initial=0.0) >= 1:
        found = _closest(theorem, inputs, fixed, _SMALLEST)
        if found.guarantee >= 1:
            raise _no_step(theorem, inputs)
        z = np.log([found.parameters[k] for k in names])
    start = np.append(z, -math.log(_SMALLEST))
    low, high = np.full(len(start), -_WIDEST), np.full(len(start), _WIDEST)
    low[-1], high[-1] = 0.0, start[-1] + 1.0
    eta = math.exp(-float(_least_coordinate(constraints, start, low, high, _GAP)[-1]))
    if eta > 1 - 1e-6 and admissible(1.0):
        return 1.0
    back = 2e-7
    while not admissible(eta):
        eta *= 1 - back
        back *= 2
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


def _axis(theorem: Theorem, inputs: Inputs, name: str) -> np.ndarray:
    free = next(f for f in theorem.free if f.name == name)
    extra = [float(e.subs({s: inputs.values[str(s)] for s in e.free_symbols})) for e in free.candidates]
    return np.concatenate([_GRID, [x for x in extra if x > 0 and math.isfinite(x)]])
