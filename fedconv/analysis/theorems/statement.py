"""A claim about any recorded run: both sides in sympy, over a run's constants and over what was measured on it.

``Theorem`` is the shape that FedAlt's and FedSim's bounds share. A ``Statement`` is free in both sides, so it serves
methods whose theorems measure other things. Neither has a formula outside its definitions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from fedconv.analysis.theorems.base import LATEX_RELATIONS, TOLERANCE, Condition, compiled, substitute, symbol
from fedconv.analysis.verdicts.verdict import Kind, excess
from fedconv.problems.base import Grade
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

lhs, rhs, floor = symbol("lhs"), symbol("rhs"), symbol("floor")
noise = symbol("noise")
"""Rounding error of one difference F(w) − F★, an input of every statement: 2e-13 (|F(w⁰)| + |F★|)."""


@dataclass(frozen=True)
class StatementInputs:
    """Numbers and flags that statements are about, by name.

    ``values``: symbols' values (``noise`` among them); ``flags``: words and truths for premises; ``grade``: of the
    weakest constant; ``notes``: sentences for the reader.
    """

    values: dict[str, float]
    flags: dict[str, Any]
    grade: Grade
    notes: tuple[str, ...] = ()
    blocks: tuple[bool, bool] = (True, True)
    scale: float = 0.0


@dataclass(frozen=True)
class Measured:
    """A number of each replicate, taken from a trace: ``reduce(trace, values)`` gives ``(R,)``.

    ``trace`` may be cut to fewer rounds; ``values`` holds the inputs and what is defined before the first use.
    """

    name: str
    meaning: str
    latex: str
    reduce: Callable[[xr.Dataset, Mapping[str, Any]], np.ndarray]
    variables: tuple[str, ...] = ()
    """The trace variables that ``reduce`` reads."""
    label: str = ""
    """How it is written where there is no LaTeX (default: the name)."""

    @property
    def symbol(self) -> sp.Symbol:
        return symbol(self.name)


def each(trace: xr.Dataset, name: str) -> np.ndarray:
    """Variable ``(R, T)`` of a trace; NaN where the trace has none."""
    if name in trace:
        return trace[name].values.astype(float)
    return np.full((trace.sizes["replicate"], trace.sizes["round"]), np.nan)


def measured(
    name: str,
    meaning: str,
    latex: str,
    reduce: Callable[[xr.Dataset, Mapping[str, Any]], np.ndarray],
    *variables: str,
) -> Measured:
    """A measured quantity that is written as its meaning."""
    return Measured(name, meaning, latex, reduce, variables, meaning)


@dataclass(frozen=True)
class Premise:
    """What must be true of a run besides the conditions ``left ≤ 1``: ``sentence`` says what fails where it is not."""

    name: str
    sentence: str
    holds: Callable[[StatementInputs], bool]


@dataclass(frozen=True)
class Weakened:
    """A false version of a statement: redefined symbols, and premises or conditions left out by name."""

    key: str
    statement: str
    definitions: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sides:
    """Both sides for each replicate ``(R,)``, the floor for rounding, and every defined value."""

    lhs: np.ndarray
    rhs: np.ndarray
    floor: float
    values: dict[str, Any]


@dataclass(frozen=True)
class Statement:
    """``lhs ≤ rhs`` (or =, ≥ by ``kind``), for each replicate (``pathwise``) or in expectation.

    ``definitions`` are evaluated in order from the inputs, the measured numbers and those before; ``lhs`` and ``rhs``
    are among them, ``floor`` (absolute rounding allowed) may be. In expectation both sides must be affine in the
    measured numbers. ``fits``: whether the statement is about that kind of run at all.
    """

    key: str
    title: str
    source: str
    algorithms: tuple[str, ...]
    definitions: Mapping[sp.Symbol, sp.Expr]
    measured: tuple[Measured, ...]
    conditions: tuple[Condition, ...] = ()
    premises: tuple[Premise, ...] = ()
    fits: Callable[[StatementInputs], bool] = lambda _: True
    kind: Kind = "upper"
    pathwise: bool = False
    rounds: bool = False
    """Measured numbers may be ``(R, K)``, one for each round: both sides are those of the round that comes closest."""
    free: tuple[()] = ()
    """Statements have no free parameters."""
    step: str | None = None
    """The name of the step size among the inputs, where "max" and "best" make sense."""
    written: Mapping[str, str] = field(default_factory=dict)
    mutants: tuple[Weakened, ...] = ()
    mutant_of: str | None = None

    @cached_property
    def _compiled(self) -> tuple[list[tuple[str, list[str], Any]], list[tuple[Condition, list[str], Any]]]:
        return compiled(self.definitions, self.conditions)

    @cached_property
    def needs(self) -> frozenset[str]:
        """Names of the inputs that the formulas ask for."""
        own = {str(s) for s in self.definitions} | {x.name for x in self.measured}
        formulas = [*self.definitions.values(), *(k.left for k in self.conditions)]
        return frozenset(str(s) for e in formulas for s in sp.sympify(e).free_symbols) - own

    def evaluate(self, inputs: StatementInputs, trace: xr.Dataset) -> Sides:
        """Both sides on a trace. Under ``values["conditions"]`` stand the conditions' left sides by name."""
        values: dict[str, Any] = {k: np.float64(x) for k, x in inputs.values.items()}
        known = {x.name: x for x in self.measured}
        definitions, conditions = self._compiled

        def get(name: str) -> Any:
            if name not in values:
                if name not in known:
                    raise InputError(f"theorem {self.key} needs a value of {name}; this run gives none")
                found = np.asarray(known[name].reduce(trace, values), dtype=float)
                values[name] = found[:, None] if self.rounds and found.ndim == 1 else found
            return values[name]

        with np.errstate(all="ignore"):
            for name, arguments, function in definitions:
                values[name] = function(*(get(a) for a in arguments))
            values["conditions"] = {
                k.name: float(np.max(f(*(get(a) for a in arguments)))) for k, arguments, f in conditions
            }
        count = trace.sizes["replicate"]
        sides = [np.asarray(values.get(s, 0.0), dtype=float) for s in ("lhs", "rhs", "floor")]
        if self.rounds:
            _, left, right, floors = np.broadcast_arrays(np.empty((count, 1)), *sides)
            return Sides(*_closest(left, right, floors, self.kind), values)
        left, right = (np.array(np.broadcast_to(x, (count,))) for x in sides[:2])
        return Sides(left, right, float(np.max(sides[2])), values)

    def unmet(self, inputs: StatementInputs, values: Mapping[str, Any]) -> list[str]:
        """Sentences for the premises and conditions that do not hold."""
        out = [premise.sentence for premise in self.premises if not premise.holds(inputs)]
        for condition in self.conditions:
            left = float(values["conditions"][condition.name])
            met = left < 1 if condition.strict else left <= 1 + TOLERANCE
            if not met:
                out.append(f"{condition.name} {'<' if condition.strict else '≤'} 1 fails: it is {left:.6g}")
        return out

    def largest_step(self, inputs: StatementInputs) -> float:
        """The largest step size that every condition admits (∞ where none binds), by bisection to 1e-12 relative.

        A condition that does not know the step, asks for what only a run can tell, or bounds the step from below, takes
        no part.
        """
        if self.step is None:
            raise InputError(f"theorem {self.key} has no step size to choose")
        mine = [k for k in self.conditions if self._depends([str(s) for s in sp.sympify(k.left).free_symbols])]
        lefts = [substitute(sp.sympify(k.left), self._closed) for k in mine]
        arguments = [sorted(str(s) for s in left.free_symbols) for left in lefts]
        functions = [sp.lambdify(list(map(symbol, a)), e, "numpy") for a, e in zip(arguments, lefts, strict=True)]

        def at(gamma: float) -> list[float]:
            values = {k: np.float64(x) for k, x in inputs.values.items()} | {str(self.step): np.float64(gamma)}
            with np.errstate(all="ignore"):
                return [float(f(*(values[k] for k in a))) for f, a in zip(functions, arguments, strict=True)]

        above = [not a < b for a, b in zip(at(2e-6), at(1e-6), strict=True)]

        def admissible(gamma: float) -> bool:
            lefts = zip(at(gamma), mine, above, strict=True)
            return all((x < 1 if k.strict else x <= 1) for x, k, rises in lefts if rises)

        low, high = 0.0, 1.0
        while admissible(high):
            low, high = high, 2 * high
            if high > 1e12:
                return math.inf
        while high - low > 1e-13 * high:
            middle = 0.5 * (low + high)
            low, high = (middle, high) if admissible(middle) else (low, middle)
        return low

    @cached_property
    def _closed(self) -> dict[sp.Symbol, sp.Expr]:
        """Definitions in inputs alone, where they have no measured number."""
        known: dict[sp.Symbol, sp.Expr] = {}
        for s, e in self.definitions.items():
            known[s] = substitute(sp.sympify(e), known)
        return known

    def _depends(self, names: list[str]) -> bool:
        """Whether formulas in these names are about the step, and of inputs alone."""
        found = {str(s) for name in names for s in self._closed.get(symbol(name), symbol(name)).free_symbols}
        return self.step in found and not found & {x.name for x in self.measured}

    # ---- versions and words --------------------------------------------------------------------------------

    def mutate(self, mutant: Weakened) -> Statement:
        """The false version that ``mutant`` describes."""
        return replace(
            self,
            key=f"{self.key}:{mutant.key}",
            title=f"{self.title}, weakened: {mutant.statement}",
            definitions={s: mutant.definitions.get(s, e) for s, e in self.definitions.items()},
            conditions=tuple(k for k in self.conditions if k.name not in mutant.without),
            premises=tuple(k for k in self.premises if k.name not in mutant.without),
            mutants=(),
            mutant_of=self.key,
        )

    def mutant(self, key: str) -> Weakened:
        for mutant in self.mutants:
            if mutant.key == key:
                return mutant
        raise InputError(f"theorem {self.key} has the mutants {', '.join(x.key for x in self.mutants)}; got {key!r}")

    @property
    def names(self) -> dict[sp.Symbol, str]:
        """How symbols are written in LaTeX."""
        return {symbol(k): v for k, v in self.written.items()} | {x.symbol: x.latex for x in self.measured}

    def latex(self) -> dict[str, str]:
        """LaTeX of the definitions besides both sides (by symbol name), of the conditions, and of the statement."""
        names = self.names
        inner = {
            str(s): f"{sp.latex(s, symbol_names=names)} = {sp.latex(e, symbol_names=names)}"
            for s, e in self.definitions.items()
            if s not in (lhs, rhs, floor)
        }
        left, right = (sp.latex(self.definitions[s], symbol_names=names) for s in (lhs, rhs))
        if not self.pathwise:
            left = rf"E\Big[{left}\Big]"
            if sp.sympify(self.definitions[rhs]).free_symbols & {x.symbol for x in self.measured}:
                right = rf"E\Big[{right}\Big]"
        inner["conditions"] = r",\quad ".join(k.latex(names) for k in self.conditions)
        inner["statement"] = f"{left} {LATEX_RELATIONS[self.kind]} {right}"
        return inner


def _closest(
    left: np.ndarray, right: np.ndarray, floors: np.ndarray, kind: Kind
) -> tuple[np.ndarray, np.ndarray, float]:
    """Of ``(R, K)``, for each replicate: the round that breaks the claim most, else one where nothing is decided, else
    the one nearest to it."""
    over = excess(left, right, floors, kind)
    small, large = (right, left) if kind == "lower" else (left, right)
    with np.errstate(all="ignore"):
        above = np.where(large > 1e3 * floors, small / large, 0.0)
    nearest = np.nan_to_num(above, nan=0.0, posinf=0.0).argmax(axis=1)
    open_ = np.isnan(over)
    worst = np.where(open_.any(axis=1), open_.argmax(axis=1), nearest)
    over = np.where(open_, -np.inf, over)
    worst = np.where((over > 0).any(axis=1), over.argmax(axis=1), worst)[:, None]
    chosen = [np.take_along_axis(x, worst, axis=1)[:, 0] for x in (left, right, floors)]
    return chosen[0], chosen[1], float(np.max(chosen[2]))


def check_measured(trace: xr.Dataset, variable: str, method: str) -> None:
    """Raise InputError for a trace of the method that was recorded without measures, so without that variable."""
    if variable not in trace:
        raise InputError(
            f"theorems about {method} need a trace of level 'stationarity' or 'proof'; got"
            f" {trace.attrs.get('level', 'unknown')!r}"
        )
