"""What a theorem is: one set of symbolic formulas that gives numbers, vectorised functions and LaTeX alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from fedconv.analysis.verdicts.verdict import Kind
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr


LATEX_RELATIONS: dict[Kind, str] = {"equality": "=", "upper": r"\le", "lower": r"\ge"}


def symbol(name: str) -> sp.Symbol:
    """The project's symbol of that name (all are nonnegative reals)."""
    return sp.Symbol(name, nonnegative=True)


n, m, tau_u, tau_v, T = (symbol(s) for s in ("n", "m", "tau_u", "tau_v", "T"))
eta, chi, gap0 = (symbol(s) for s in ("eta", "chi", "gap0"))
L_u, L_v, sigma_u, sigma_v, delta, rho = (symbol(s) for s in ("L_u", "L_v", "sigma_u", "sigma_v", "delta", "rho"))
p, c = symbol("p"), symbol("c")
S_1, S_2, K_u, K_v, C = (symbol(s) for s in ("S_1", "S_2", "K_u", "K_v", "C"))
eps_u, eps_v, weight_u, weight_v, rhs = (symbol(s) for s in ("eps_u", "eps_v", "weight_u", "weight_v", "rhs"))

alpha, theta, theta_v, omega = (symbol(s) for s in ("alpha", "theta", "theta_v", "omega"))
i_alpha, i_theta, i_theta_v, i_omega = (symbol(f"inv_{s}") for s in ("alpha", "theta", "theta_v", "omega"))
"""The free parameters of FA, FS and their sharper forms, and the symbols of their reciprocals (see Free)."""

INPUTS: tuple[sp.Symbol, ...] = (
    n, m, tau_u, tau_v, T, eta, L_u, L_v, chi, sigma_u, sigma_v, delta, rho, gap0,
)  # fmt: skip
"""What every rate bound of this package is a function of, besides its free parameters."""

SAMPLING: dict[sp.Symbol, sp.Expr] = {p: m / n, c: (n - m) / (m * sp.Max(n - 1, 1))}
"""p = m/n and the factor of sampling without replacement c = (n−m)/(m(n−1)), 0 where n = 1."""

TOLERANCE = 1e-12
"""Rounding allowed in a premise ``left ≤ 1`` (step sizes are products and quotients of floats)."""

_LATEX = {
    "gap0": r"\Delta F_0", "eps_u": r"\varepsilon_u", "eps_v": r"\varepsilon_v", "weight_u": "w_u", "weight_v": "w_v",
}  # fmt: skip


def substitute(expression: sp.Expr, values: Mapping[Any, Any]) -> sp.Expr:
    """The expression with symbols replaced."""
    return sp.sympify(expression).subs(dict(values))  # pyright: ignore[reportCallIssue, reportArgumentType]


@dataclass(frozen=True)
class Free:
    """A free parameter x > 0 of a proof (Young's inequality), with the limits that are allowed.

    In the formulas x and 1/x are two symbols, so that a limit is exact: both are 0. x → 0 is allowed where
    ``to_zero`` vanishes (the factor of 1/x), x → ∞ where ``to_infinity`` vanishes (the factor of x).
    """

    name: str
    to_zero: sp.Expr
    to_infinity: sp.Expr
    default: float = 1.0
    candidates: tuple[sp.Expr, ...] = ()
    """Values worth trying first when tuning, in terms of INPUTS (the edges of a premise)."""

    @property
    def x(self) -> sp.Symbol:
        return symbol(self.name)

    @property
    def inv(self) -> sp.Symbol:
        return symbol(f"inv_{self.name}")


@dataclass(frozen=True)
class Condition:
    """A premise ``left ≤ 1`` (``strict``: ``left < 1``)."""

    name: str
    left: sp.Expr
    strict: bool = False

    def latex(self, names: Mapping[sp.Symbol, str]) -> str:
        relation = "<" if self.strict else r"\le"
        return f"{sp.latex(self.left, symbol_names=dict(names))} {relation} 1"


@dataclass(frozen=True)
class Mutant:
    """A weakened version of a theorem that must be caught: redefined symbols, or premises left out."""

    key: str
    statement: str
    definitions: Mapping[sp.Symbol, sp.Expr]
    drop_conditions: bool = False


Formula = tuple[list[str], Any]
"""Names of the arguments, and the vectorised function of them."""


def compiled(
    definitions: Mapping[sp.Symbol, sp.Expr], conditions: Sequence[Condition]
) -> tuple[list[tuple[str, list[str], Any]], list[tuple[Condition, list[str], Any]]]:
    """Definitions and conditions as functions of arrays: (symbol or condition, names of its arguments, function)."""

    def one(expression: Any) -> Formula:
        found = sp.sympify(expression)
        symbols = sorted(found.free_symbols, key=str)
        return [str(s) for s in symbols], sp.lambdify(symbols, found, "numpy", cse=True)

    return [(str(s), *one(e)) for s, e in definitions.items()], [(k, *one(k.left)) for k in conditions]


@dataclass(frozen=True)
class Theorem:
    """An upper bound on (1/T) Σ_t (weight_u X_t/L_u + weight_v Y_t/L_v) in explicit constants, or by ``kind`` a lower
    one, or its value.

    ``definitions`` are evaluated in order, each from INPUTS, the free parameters and those before; ``weight_u``,
    ``weight_v`` and ``rhs`` are among them. ``shared``/``diversity``: the trace variables that hold X_t and the
    diversity at the same point; ``personal`` holds Y_t.
    """

    key: str
    title: str
    source: str
    algorithms: tuple[str, ...]
    definitions: Mapping[sp.Symbol, sp.Expr]
    conditions: tuple[Condition, ...]
    free: tuple[Free, ...]
    shared: str
    diversity: str
    personal: str = "grad_v_sq"
    kind: Kind = "upper"
    written: Mapping[str, str] | None = None
    """How symbols are written in LaTeX where this theorem differs from the project's habit."""
    mutants: tuple[Mutant, ...] = ()
    mutant_of: str | None = None

    # ---- numbers -------------------------------------------------------------------------------------------

    @cached_property
    def _compiled(self) -> tuple[list[tuple[str, list[str], Any]], list[tuple[Condition, list[str], Any]]]:
        return compiled(self.definitions, self.conditions)

    def evaluate(self, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Every defined symbol, as numbers or arrays broadcast over inputs and parameters.

        ``parameters`` maps a free parameter's name to a value in [0, ∞]; 0 and ∞ mean its limit (see Free).
        Under ``"conditions"`` stand the premises' left sides by name.
        """
        # np.float64 overflows to inf, where Python's own float raises
        values: dict[str, Any] = {k: np.float64(x) if isinstance(x, (int, float)) else x for k, x in inputs.items()}
        definitions, conditions = self._compiled
        with np.errstate(all="ignore"):
            for free in self.free:
                x = np.asarray(parameters[free.name], dtype=float)
                limit = (x == 0) | np.isinf(x)
                safe = np.where(limit, 1.0, x)
                values[free.name], values[f"inv_{free.name}"] = (
                    np.where(limit, 0.0, safe),
                    np.where(limit, 0.0, 1 / safe),
                )
            for name, arguments, function in definitions:
                values[name] = function(*(values[a] for a in arguments))
            values["conditions"] = {k.name: f(*(values[a] for a in arguments)) for k, arguments, f in conditions}
        return values

    @cached_property
    def _known(self) -> dict[sp.Symbol, sp.Expr]:
        """Every defined symbol as one expression in INPUTS, the free parameters and their reciprocals' symbols."""
        known: dict[sp.Symbol, sp.Expr] = {}
        for s, e in self.definitions.items():
            known[s] = substitute(e, known)
        return known

    @cached_property
    def _slope(self) -> Formula | None:
        """∂rhs/∂δ² at ρ = 0; None where rhs is not affine in δ² there, or a weight or premise asks for δ.

        Only such a bound can be taken at a mean diversity: the mean of what it says of each round's diversity.
        """
        square = symbol("delta_sq")

        def visited(expression: Any) -> sp.Expr:
            return substitute(substitute(expression, {rho: 0}), {delta: sp.sqrt(square)})

        others = [self._known[s] for s in (weight_u, weight_v) if s in self._known]
        others += [substitute(k.left, self._known) for k in self.conditions]
        right = visited(self._known[rhs])
        if any(visited(e).has(square) for e in others) or right.has(sp.zoo, sp.nan, sp.oo):
            return None
        if not right.is_polynomial(square):
            right = sp.simplify(right)
        found = sp.diff(right, square)
        if found.has(square):
            found = sp.simplify(found)
        if found.has(square) or not right.is_polynomial(square):
            return None
        _, names, function = compiled({symbol("slope"): found}, ())[0][0]
        return names, function

    @property
    def affine(self) -> bool:
        """Whether δ² can be replaced by a mean diversity: rhs is affine in it at ρ = 0, nothing else depends on δ."""
        return self._slope is not None

    def need_affine(self) -> Formula:
        """∂rhs/∂δ². Raises InputError where the bound is not ``affine``."""
        if self._slope is None:
            raise InputError(
                f"theorem {self.key} must be affine in δ² (at ρ = 0) for δ² to be replaced by the mean diversity of the"
                " visited points; its right side, a weight or a premise is not"
            )
        return self._slope

    def slope(self, values: Mapping[str, Any]) -> float:
        """∂rhs/∂δ² at evaluated ``values`` with ρ = 0. Raises InputError where the bound is not ``affine``."""
        names, function = self.need_affine()
        with np.errstate(all="ignore"):
            return float(function(*(values[k] for k in names)))

    def limits(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        """The free parameters whose limit is allowed at these (scalar) inputs, with it: 0.0 or inf.

        Where a limit is allowed it is also the best value: what is left is monotone in the parameter.
        """
        known = {k: v for k, v in inputs.items() if isinstance(v, (int, float)) and math.isfinite(v)}
        values = {symbol(k): sp.Rational(v) for k, v in known.items()}  # exact: 1 − m/n is 0 where m = n
        unbounded = not math.isfinite(float(inputs["delta"]))

        def vanishes(expression: sp.Expr) -> bool:
            if unbounded and delta in expression.free_symbols:
                return False
            return float(substitute(substitute(expression, SAMPLING), values)) == 0.0

        out: dict[str, float] = {}
        for free in self.free:
            if vanishes(free.to_infinity):
                out[free.name] = math.inf
            elif vanishes(free.to_zero):
                out[free.name] = 0.0
        return out

    def check_parameters(self, parameters: Mapping[str, float], inputs: Mapping[str, Any]) -> None:
        """Raise InputError where a parameter is unknown, missing, negative, or a limit that is not allowed."""
        names = [f.name for f in self.free]
        for name in parameters:
            if name not in names:
                raise InputError(f"theorem {self.key} has the free parameters {', '.join(names)}; got {name!r}")
        allowed = self.limits(inputs)
        for free in self.free:
            if free.name not in parameters:
                raise InputError(f"theorem {self.key} needs a value for its free parameter {free.name}")
            x = float(parameters[free.name])
            if not x >= 0:
                raise InputError(f"free parameter {free.name} must be a number >= 0 (or a limit 0, inf); got {x}")
            if (x == 0 or math.isinf(x)) and free.name not in allowed:
                raise InputError(
                    f"free parameter {free.name} must be finite and > 0 here, as its limit is not allowed for theorem"
                    f" {self.key} at these values; got {x:g}"
                )

    def unmet(self, values: Mapping[str, Any]) -> list[str]:
        """Sentences for the premises that do not hold at evaluated scalar ``values`` (≤ up to TOLERANCE)."""
        out = []
        for condition in self.conditions:
            left = float(values["conditions"][condition.name])
            met = left < 1 if condition.strict else left <= 1 + TOLERANCE
            if not met:
                out.append(f"{condition.name} {'<' if condition.strict else '≤'} 1 fails: it is {left:.6g}")
        return out

    def guarantee(self, values: Mapping[str, Any], blocks: tuple[bool, bool] = (True, True)) -> Any:
        """The bound on (1/T) Σ_t (X_t/L_u + p Y_t/L_v) that follows: rhs over the smaller of weight_u and weight_v/p.

        ∞ where a premise fails. This is what the tuner minimises. ``blocks``: which of X and Y are there.
        """
        weights = [values["weight_u"]] * blocks[0] + [values["weight_v"] / values["p"]] * blocks[1]
        with np.errstate(all="ignore"):
            smallest = np.minimum.reduce(np.broadcast_arrays(*weights)) if weights else np.asarray(1.0)
            met = smallest > 0
            for condition in self.conditions:
                left = values["conditions"][condition.name]
                met = met & (left < 1 if condition.strict else left <= 1 + TOLERANCE)
            return np.where(met, values["rhs"] / np.where(met, smallest, 1.0), np.inf)

    # ---- the left-hand side --------------------------------------------------------------------------------

    def lhs(self, trace: xr.Dataset, values: Mapping[str, Any], blocks: tuple[bool, bool] = (True, True)) -> np.ndarray:
        """(1/T) Σ_t (weight_u X_t/L_u + weight_v Y_t/L_v) for each replicate ``(R,)``.

        ``blocks``: whether the shared and the personal block exist and move.
        """
        total = np.zeros(trace.sizes["replicate"])
        with np.errstate(all="ignore"):
            if blocks[0]:
                total = total + float(values["weight_u"]) / float(values["L_u"]) * trace[self.shared].values.mean(
                    axis=1
                )
            if blocks[1]:
                personal = trace[self.personal].values.mean(axis=1)
                total = total + float(values["weight_v"]) / float(values["L_v"]) * personal
        return total

    # ---- versions and words --------------------------------------------------------------------------------

    def mutate(self, mutant: Mutant) -> Theorem:
        """The weakened version that ``mutant`` describes."""
        return replace(
            self,
            key=f"{self.key}:{mutant.key}",
            title=f"{self.title}, weakened: {mutant.statement}",
            definitions={s: mutant.definitions.get(s, e) for s, e in self.definitions.items()},
            conditions=() if mutant.drop_conditions else self.conditions,
            mutants=(),
            mutant_of=self.key,
        )

    def mutant(self, key: str) -> Mutant:
        for mutant in self.mutants:
            if mutant.key == key:
                return mutant
        raise InputError(f"theorem {self.key} has the mutants {', '.join(x.key for x in self.mutants)}; got {key!r}")

    def _printed(self) -> tuple[dict[sp.Expr, sp.Expr], dict[sp.Symbol, str]]:
        """1/x for the dual symbols, and how symbols are written."""
        duals: dict[sp.Expr, sp.Expr] = {f.inv: 1 / f.x for f in self.free}
        return duals, {symbol(k): v for k, v in {**_LATEX, **(self.written or {})}.items()}

    def latex(self) -> dict[str, str]:
        """LaTeX of every definition (by symbol name), of the conditions, and of the statement."""
        duals, names = self._printed()
        out = {
            str(s): f"{sp.latex(s, symbol_names=names)} = {sp.latex(substitute(e, duals), symbol_names=names)}"
            for s, e in self.definitions.items()
        }
        out["conditions"] = r",\quad ".join(
            replace(k, left=substitute(k.left, duals)).latex(names) for k in self.conditions
        )
        right = sp.latex(substitute(self.definitions[rhs], duals), symbol_names=names)
        left = r"\frac1T\sum_{t<T}\Big(w_u\,\frac{X_t}{L_u}+w_v\,\frac{Y_t}{L_v}\Big)"
        out["statement"] = f"{left}{LATEX_RELATIONS[self.kind]} {right}"
        return out

    def closed_form(self, target: sp.Symbol = rhs) -> sp.Expr:
        """``target`` as one expression in INPUTS and the free parameters alone."""
        duals, _ = self._printed()
        return substitute(self._known[target], duals)
