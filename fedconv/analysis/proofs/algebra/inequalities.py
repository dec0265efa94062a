"""Composing inequalities symbolically: lemmas are linear in abstract expectations, their coefficients are formulas.

A bound is a sympy expression that is linear in ``terms``: symbols that stand for expectations, as X or Σ_k E‖h_k‖².
A lemma replaces one term by what bounds it. That is sound for an equality always, and for an upper bound where the
term's multiplier is nonnegative: ``use`` proves this sign and records it as a step. A lemma is shown itself by
``derive`` (composed of other lemmas), by ``instance`` (a polynomial identity) or is ``given`` (an assumption);
``all_shown`` checks that nothing else is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from typing import Any

import sympy as sp
from sympy.polys.rings import PolyElement, PolyRing

from fedconv.analysis.theorems.base import SAMPLING, Condition, m, n, symbol, tau_u, tau_v


def replaced(expression: sp.Expr, values: Mapping[Any, Any]) -> sp.Expr:
    """The expression with symbols replaced, all at once."""
    table: Any = {k: sp.sympify(v) for k, v in values.items()}
    out: Any = sp.sympify(expression).xreplace(table)
    return out


def term(name: str) -> sp.Symbol:
    """An abstract expectation: any real number, told apart from parameters by its name."""
    return sp.Symbol(f"E[{name}]", real=True)


def terms(expression: sp.Expr) -> list[sp.Symbol]:
    """The abstract expectations in an expression."""
    found: Any = (s for s in expression.free_symbols if str(s).startswith("E["))
    return sorted(found, key=str)


INV_PEERS = symbol("inv_peers")
"""1/(n−1), the share of one of the other clients; 0 where there are none."""


_ONE = sp.Integer(1)


@dataclass(frozen=True)
class Lemma:
    """``left ≤ right`` (``equality``: ``left = right``), both linear in terms; ``left`` is a multiple of ``target``.

    ``given``: an assumption (A1–A3, participation of the cohort), which needs no proof.
    """

    name: str
    statement: str
    target: sp.Symbol
    right: sp.Expr
    factor: sp.Expr = _ONE
    equality: bool = False
    given: bool = False

    @property
    def left(self) -> sp.Expr:
        return self.factor * self.target


@dataclass(frozen=True)
class Step:
    """One checked step: ``left`` and ``right`` as computed, and whether they stand in the relation that is stated.

    ``uses``: the lemma that is applied in this step; ``shows``: the lemma that this step concludes.
    """

    name: str
    statement: str
    left: sp.Expr
    right: sp.Expr
    ok: bool
    uses: Lemma | None = None
    shows: Lemma | None = None


# ---- identities and signs of rational functions ----------------------------------------------------------------


def opaque(expression: sp.Expr) -> sp.Expr:
    """The expression as a rational function for n ≥ 2: p and c written in n and m, the cases of n = 1 resolved, each
    exponential a symbol named by its expanded argument."""
    expression = replaced(expression, SAMPLING)
    expression = replaced(expression, {sp.Max(n - 1, 1): n - 1, sp.Min(n - 1, 1): 1, INV_PEERS: 1 / (n - 1)})
    table = {e: symbol(f"exp[{sp.expand(e.args[0])}]") for e in expression.atoms(sp.exp)}
    return replaced(expression, table)


def _fraction(rational: sp.Expr) -> tuple[PolyElement, PolyElement] | None:
    """Numerator and denominator as expanded polynomials over the rationals; None where it is not such a fraction."""
    symbols = sorted(rational.free_symbols, key=str) or [n]
    ring = PolyRing(symbols, sp.QQ, sp.lex)
    numerator, denominator = sp.fraction(sp.together(rational))
    try:
        return ring.from_expr(numerator), ring.from_expr(denominator)
    except ValueError:
        return None


_PRIME = 2**61 - 1


def _residue(expression: Any, point: Mapping[Any, int]) -> int:
    """The value of a rational function at an integer point, modulo a prime.

    Raises ValueError where a denominator vanishes there, or the expression is no rational function.
    """
    if expression in point:
        return point[expression]
    if expression.is_Rational:
        return expression.p * pow(expression.q, -1, _PRIME) % _PRIME
    if expression.is_Add:
        return sum(_residue(x, point) for x in expression.args) % _PRIME
    if expression.is_Mul:
        return reduce(lambda x, y: x * y % _PRIME, (_residue(x, point) for x in expression.args))
    if expression.is_Pow and expression.exp.is_Integer:
        return pow(_residue(expression.base, point), int(expression.exp), _PRIME)
    raise ValueError(f"not a rational function: {expression}")


def _nonzero_somewhere(rational: sp.Expr) -> bool:
    """Whether a rational function has a value other than 0 at one point: then it is not 0 (False says nothing)."""
    point: dict[Any, Any] = {s: sp.prime(k) for k, s in enumerate(sorted(rational.free_symbols, key=str), start=100)}
    try:
        return _residue(rational, point) != 0
    except ValueError:
        return False


@lru_cache(maxsize=4096)
def zero(expression: sp.Expr) -> bool:
    """Whether the expression is 0 as a rational function (see ``opaque``): its numerator expands to 0.

    Sufficient, not necessary, where it has more than rational functions and exponentials.
    """
    rational = opaque(sp.sympify(expression))
    if _nonzero_somewhere(rational):
        return False
    found = _fraction(rational)
    return found is not None and not found[0] and bool(found[1])


_shift = [sp.Symbol(f"shift_{k}", nonnegative=True) for k in range(4)]
_RANGES = {n: 1 + _shift[0] + _shift[1], m: 1 + _shift[0], tau_u: 1 + _shift[2], tau_v: 1 + _shift[3]}


def _sign(polynomial: PolyElement, good: bool) -> int:
    """1 or −1 where the coefficients all have that sign and all symbols are nonnegative (``good``); else 0."""
    coefficients = polynomial.coeffs()
    if not good:
        return 0
    return 1 if all(x >= 0 for x in coefficients) else -1 if all(x <= 0 for x in coefficients) else 0


def _factored_sign(polynomial: PolyElement) -> int:
    """1 or −1 where the factors show that the polynomial is ≥ 0 or ≤ 0: even powers, and ``_sign``; else 0."""
    bad = {k for k, s in enumerate(polynomial.ring.symbols) if not s.is_nonnegative}
    found = _sign(polynomial, not bad & _support(polynomial))
    if found:
        return found
    constant, factors = polynomial.factor_list()
    found = 1 if constant >= 0 else -1
    for factor, power in factors:
        found *= 1 if power % 2 == 0 else _sign(factor, not bad & _support(factor))
    return found


def _support(polynomial: PolyElement) -> set[int]:
    """Indices of the symbols that are in the polynomial."""
    return {k for monomial in polynomial.monoms() for k, power in enumerate(monomial) if power}


@lru_cache(maxsize=4096)
def nonnegative(expression: sp.Expr) -> bool:
    """Whether ``expression ≥ 0`` is plain, for nonnegative symbols and n ≥ m ≥ 1, τ ≥ 1 (n > 1 where n−1 divides).

    After the substitution n = 1+s_0+s_1, m = 1+s_0, τ = 1+s, every factor must be an even power or have only
    coefficients of one sign. Sufficient, not necessary: False means "not shown".
    """
    found = _fraction(replaced(opaque(sp.sympify(expression)), _RANGES))
    if found is None or not found[1]:
        return False
    if not found[0]:
        return True
    numerator, denominator = found[0].cancel(found[1])
    return _factored_sign(numerator) * _factored_sign(denominator) == 1


# ---- steps -----------------------------------------------------------------------------------------------------


def same(name: str, statement: str, left: sp.Expr, right: sp.Expr) -> Step:
    """The step that two formulas are identical."""
    return Step(name, statement, left, right, zero(left - right))


def at_least(name: str, statement: str, left: sp.Expr, right: sp.Expr) -> Step:
    """The step that ``left ≥ right`` (see ``nonnegative``)."""
    return Step(name, statement, left, right, nonnegative(left - right))


def coefficient(bound: sp.Expr, target: sp.Symbol) -> sp.Expr:
    """The multiplier of a term in a bound that is linear in it."""
    return sp.diff(bound, target)


def use(bound: sp.Expr, lemma: Lemma, where: str) -> tuple[sp.Expr, Step]:
    """The bound after the lemma, and the step that this is allowed: the multiplier of ``lemma.left`` is ≥ 0.

    The step fails also where the term is not in the bound at all, or the bound is not linear in it.
    """
    multiplier = coefficient(bound, lemma.target) / lemma.factor
    linear = lemma.target not in multiplier.free_symbols and multiplier != 0
    ok = linear and (lemma.equality or nonnegative(multiplier))
    how = "(an equality)" if lemma.equality else ">= 0"
    statement = f"{lemma.statement}; used with a multiplier {how}"
    step = Step(f"{where}: {lemma.name}", statement, multiplier, sp.Integer(0), ok, uses=lemma)
    return replaced(bound, {lemma.target: 0}) + multiplier * lemma.right, step


def chain(bound: sp.Expr, lemmas: Iterable[Lemma], where: str) -> tuple[sp.Expr, list[Step]]:
    """The lemmas applied in turn."""
    steps = []
    for lemma in lemmas:
        bound, step = use(bound, lemma, where)
        steps.append(step)
    return bound, steps


def derive(lemma: Lemma, start: sp.Expr, parts: Iterable[Lemma]) -> list[Step]:
    """Steps that prove ``lemma`` from ``parts``: ``start`` (equal to the left side) composes to the right side."""
    bound, steps = chain(start, parts, lemma.name)
    return [*steps, showing(lemma, f"{lemma.statement}: the parts compose to it", bound)]


def showing(lemma: Lemma, statement: str, right: sp.Expr) -> Step:
    """The step that concludes ``lemma``: its right side is ``right``, which bounds its left side."""
    return replace(same(lemma.name, statement, right, lemma.right), shows=lemma)


def instance(lemma: Lemma, values: Mapping[Any, Any], slack: sp.Expr | int = 0) -> Step:
    """The step that ``lemma`` is a polynomial identity in what its terms are made of: right − left = slack ≥ 0.

    ``values``: each term (and 1/x for a dual symbol) in scalars that stand for vectors. An identity between quadratic
    forms in scalars holds for vectors, their expectations and averages too. An equality must have no slack.
    """
    left, right, slack = replaced(lemma.left, values), replaced(lemma.right, values), sp.sympify(slack)
    ok = zero(right - left - slack) and nonnegative(slack) and not (lemma.equality and slack != 0)
    ok = ok and lemma.target in values
    return Step(f"{lemma.name}: identity", f"{lemma.statement}: right - left is {slack}", right - left, slack, ok,
                shows=lemma)  # fmt: skip


def all_shown(steps: Iterable[Step]) -> Step:
    """The step that every lemma used is shown by an earlier step, or given; the statement names those that are not."""
    shown: set[Lemma | None] = {None}
    bare: set[str] = set()
    for step in steps:
        if step.uses not in shown and not (step.uses and step.uses.given):
            bare.add(str(step.uses and step.uses.name))
        shown.add(step.shows)
    statement = f"not shown before its use: {', '.join(sorted(bare))}" if bare else "every lemma used is shown or given"
    return Step("round: all lemmas are shown", statement, sp.Integer(len(bare)), sp.Integer(0), not bare)


def premise(name: str, statement: str, multiplier: sp.Expr, conditions: Mapping[str, sp.Expr]) -> Step:
    """The step that a dropped term's multiplier is ``≤ 0`` under a premise: it equals (something ≥ 0)·(left − 1).

    ``conditions``: the left sides of the premises by name. The step's right side is the product that was found.
    """
    for key, left in conditions.items():
        if zero(left - 1):
            continue
        if nonnegative(multiplier / (left - 1)):
            factor = sp.factor(opaque(multiplier / (left - 1)))
            found = f"{statement} is nonpositive where {key} <= 1"
            return Step(name, found, multiplier, factor * (left - 1), True)
    return Step(name, f"{statement} is nonpositive under a premise of the theorem", multiplier, sp.Integer(0), False)


def left_sides(conditions: Iterable[Condition], values: Mapping[sp.Symbol, sp.Expr]) -> dict[str, sp.Expr]:
    """The premises' left sides by name, with defined symbols replaced."""
    return {k.name: replaced(k.left, values) for k in conditions}
