"""What a lemma is: two sides, linear in the measured quantities of one round, with coefficients as formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import sympy as sp

from fedconv.analysis.proofs.quantities import QUANTITIES
from fedconv.analysis.theorems.base import Theorem, substitute, symbol
from fedconv.problems.errors import InputError

Kind = Literal["equality", "upper"]
Sample = Mapping[str, np.ndarray]
"""Quantities of copies of one round by name: ``(K,)``, or ``(K, n)`` where a quantity belongs to one client."""

INV_PEERS = symbol("inv_peers")
"""1/(n−1), the share of one of the other clients; 0 where there are none."""

_PREFIX = "E["


def term(name: str) -> sp.Symbol:
    """The expectation, given the state at the start of the round, of the measured quantity of that name."""
    if name not in QUANTITIES:
        raise KeyError(name)
    return sp.Symbol(f"{_PREFIX}{name}]", real=True)


def terms_of(expression: sp.Expr) -> list[str]:
    """Names of the measured quantities in a formula."""
    found = (str(s) for s in sp.sympify(expression).free_symbols)
    return sorted(name.removeprefix(_PREFIX).removesuffix("]") for name in found if name.startswith(_PREFIX))


@dataclass(frozen=True)
class LemmaMutant:
    """A false version of a lemma: another side or another kind, and why it is false."""

    key: str
    statement: str
    lhs: sp.Expr | None = None
    rhs: sp.Expr | None = None
    kind: Kind | None = None


@dataclass(frozen=True)
class Lemma:
    """``lhs = rhs`` or ``lhs ≤ rhs`` between expectations given the state (u, V) at the start of a round.

    Both sides are linear in ``term`` symbols; coefficients are formulas in the theorems' inputs and free parameters.
    ``each_client``: it is claimed for every client by itself. ``algorithms``: where it is used. ``statement``: in
    words; ``source``: where the statement comes from. ``steady``: of expectation 0 by the other lemmas; with it added
    to the left side a true inequality holds on every copy, so that no cohort or noise that is rare can refute it.
    """

    key: str
    statement: str
    kind: Kind
    algorithms: tuple[str, ...]
    lhs: sp.Expr
    rhs: sp.Expr
    each_client: bool = False
    mutants: tuple[LemmaMutant, ...] = ()
    source: str = "derived here"
    steady: sp.Expr = field(default_factory=lambda: sp.Integer(0))
    mutant_of: str | None = None

    @property
    def quantities(self) -> list[str]:
        """Where the terms come from: the measured quantities on both sides."""
        return sorted({*terms_of(self.lhs), *terms_of(self.rhs)})

    @property
    def uses_constants(self) -> bool:
        """Whether a constant of the problem enters, so that its grade matters."""
        names = {str(s) for side in (self.lhs, self.rhs) for s in sp.sympify(side).free_symbols}
        return bool(names & {"L_u", "L_v", "chi", "delta", "rho", "C", f"{_PREFIX}s]"})

    def mutate(self, key: str) -> Lemma:
        """The false version of that key; InputError where there is none."""
        for mutant in self.mutants:
            if mutant.key == key:
                return replace(
                    self,
                    key=f"{self.key}:{key}",
                    statement=f"false version, {mutant.statement}",
                    lhs=self.lhs if mutant.lhs is None else mutant.lhs,
                    rhs=self.rhs if mutant.rhs is None else mutant.rhs,
                    kind=mutant.kind or self.kind,
                    mutants=(),
                    mutant_of=self.key,
                )
        raise InputError(f"lemma {self.key} has the mutants {', '.join(x.key for x in self.mutants)}; got {key!r}")

    def latex(self) -> str:
        """The formula, with 1/x for the dual symbols of the free parameters."""
        duals = {symbol(f"inv_{x}"): 1 / symbol(x) for x in ("alpha", "theta", "theta_v", "omega")}
        names = {term(q): f"E\\,{QUANTITIES[q].latex}" for q in self.quantities} | {INV_PEERS: r"\tfrac1{n-1}"}
        names |= {symbol("chi"): r"\chi", symbol("C"): "C"}
        left, right = (sp.latex(substitute(x, duals), symbol_names=names) for x in (self.lhs, self.rhs))
        relation = "=" if self.kind == "equality" else r"\le"
        return f"{left} {relation} {right}"


def lemma_values(theorem: Theorem, inputs: Mapping[str, float], parameters: Mapping[str, float]) -> dict[str, float]:
    """What the coefficients are formulas of, as numbers: the theorem's inputs, free parameters (0 and their inverses 0
    at a limit), p, c, C and the other definitions, and 1/(n−1)."""
    found = theorem.evaluate(inputs, parameters)
    numbers = {k: float(x) for k, x in found.items() if k != "conditions"}
    n = inputs["n"]
    return numbers | {str(INV_PEERS): 1 / (n - 1) if n > 1 else 0.0}


@lru_cache(maxsize=1024)
def _coefficients(expression: sp.Expr) -> tuple[tuple[str | None, tuple[str, ...], Any], ...]:
    """(quantity, names of its coefficient's arguments, coefficient as a function); None for what stands alone."""
    names = terms_of(expression)
    out = []
    for name in (*names, None):
        if name is None:
            part = substitute(expression, {term(x): 0 for x in names})
        else:
            part = sp.diff(expression, term(name))
        if terms_of(part):
            raise ValueError(f"not linear in the measured quantities: {expression}")
        symbols = sorted(part.free_symbols, key=str)
        out.append((name, tuple(str(s) for s in symbols), sp.lambdify(symbols, part, "math")))
    return tuple(out)


Form = dict[str | None, float]
"""Coefficients by quantity; under None what stands alone."""


def linear(expression: sp.Expr, values: Mapping[str, float]) -> Form:
    """A formula that is linear in the measured quantities, as numbers."""
    out: Form = {}
    for name, arguments, function in _coefficients(sp.sympify(expression)):
        coefficient = float(function(*(values[a] for a in arguments)))
        if coefficient != 0:
            out[name] = coefficient
    return out


def evaluate(form: Form, sample: Sample, each_client: bool) -> np.ndarray:
    """The form on every copy: ``(K, n)`` where ``each_client``, else ``(K,)`` with quantities averaged over clients."""
    first = next(iter(sample.values()))
    count = len(first)
    width = next((x.shape[1] for x in sample.values() if x.ndim == 2), 1)
    total = np.zeros((count, width) if each_client else count)
    for name, coefficient in form.items():
        if name is None:
            total += coefficient
            continue
        x = sample[name]
        if each_client:
            total += coefficient * (x if x.ndim == 2 else x[:, None])
        else:
            total += coefficient * (x.mean(axis=1) if x.ndim == 2 else x)
    return total


def a_posteriori(expression: sp.Expr) -> sp.Expr:
    """δ² + ρ²X replaced by the diversity measured at the point: what the lemma says where δ is infinite."""
    return substitute(expression, {symbol("delta"): sp.sqrt(term("diversity")), symbol("rho"): 0})
