"""The algebra from the lemmas to the theorems, checked by machine: ``check(FA)`` lists its steps, ``proved(FA)`` says
whether all hold.

The layers: *lemmas*: each lemma is shown from its parts or as a polynomial identity, the drift recursion is summed.
*round*: the lemmas compose to the bound of one round; each use has the right sign, and nothing unshown is used.
*definitions*: every symbol of the theorem, with the symbols defined before it as the proof gives them, equals what the
proof gives (so that a wrong one is named). *premises*: what the proof drops is nonpositive under the theorem's
premises. *limits*: where a limit of a free parameter is allowed, the bound stays finite. *statement*: both weights,
the right side and the premises once more, with the theorem's own definitions, in inputs and free parameters alone.

Taken as given, not checked here: A1–A3 and what they mean for one step (smoothness), that S and the noises of different
clients are independent, the participation of the cohort, the binomial theorem beyond N = 5, and that a Cauchy–Schwarz
inequality shown for two steps holds for τ.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from fedconv.analysis.proofs.algebra import fedalt as symbolic_fedalt
from fedconv.analysis.proofs.algebra import fedsim as symbolic_fedsim
from fedconv.analysis.proofs.algebra.composed import Proof
from fedconv.analysis.proofs.algebra.inequalities import (
    INV_PEERS,
    Step,
    at_least,
    left_sides,
    premise,
    replaced,
    same,
    zero,
)
from fedconv.analysis.theorems.base import (
    C,
    Theorem,
    c,
    delta,
    eps_u,
    eps_v,
    m,
    n,
    p,
    rho,
    rhs,
    symbol,
    tau_u,
    tau_v,
    weight_u,
    weight_v,
)  # fmt: skip
from fedconv.problems.errors import InputError

_PROOFS = {
    "FA": (symbolic_fedalt.proof, False),
    "FA*": (symbolic_fedalt.proof, True),
    "FS": (symbolic_fedsim.proof, False),
    "FS*": (symbolic_fedsim.proof, True),
}

PROVED = tuple(_PROOFS)
"""The keys of the theorems whose proof is known here."""


@cache
def _proof(key: str) -> Proof:
    function, sharp = _PROOFS[key]
    return function(sharp)


def _closed(definitions: dict[sp.Symbol, sp.Expr], keep: tuple[sp.Symbol, ...]) -> dict[sp.Symbol, sp.Expr]:
    """Every definition with those before it replaced, except the symbols to keep."""
    known: dict[sp.Symbol, sp.Expr] = {}
    for s, e in definitions.items():
        known[s] = replaced(e, {k: v for k, v in known.items() if k not in keep})
    return known


def definition_steps(theorem: Theorem, proof: Proof) -> list[Step]:
    """Each definition of the theorem is the proof's, the earlier ones being the proof's.

    Symbols that the proof does not have (abbreviations) are replaced by their definitions.
    """
    steps, known = [], {}
    for s, e in theorem.definitions.items():
        formula = replaced(e, known)
        if s not in proof.derived:
            known[s] = formula
            continue
        steps.append(same(str(s), f"{s} is what the proof gives", formula, proof.derived[s]))
        if s not in (p, c, C):
            known[s] = proof.derived[s]
    return steps


def premise_steps(theorem: Theorem, proof: Proof) -> list[Step]:
    """The dropped terms are ≤ 0 under the premises; ε_u, ε_v < 1, which make the weights positive, are premises."""
    known = {s: e for s, e in proof.derived.items() if s not in (p, c, C)}
    left = left_sides([k for k in theorem.conditions if not k.strict], known)
    steps = [
        premise("dropped: sum |h_k|^2", "the multiplier of sum_k |h_k|^2", proof.dropped_u, left),
        premise("dropped: sum |g_k|^2", "the multiplier of avg sum_k |g_k|^2", proof.dropped_v, left),
    ]
    strict = left_sides([k for k in theorem.conditions if k.strict], known).values()
    for name, eps in (("eps_u", eps_u), ("eps_v", eps_v)):
        found = any(zero(value - proof.derived[eps]) for value in strict)
        steps.append(
            Step(f"premise {name} < 1", f"{name} < 1 is a premise: with it the weight is positive", proof.derived[eps],
                 sp.Integer(1), found)
        )  # fmt: skip
    return steps


_ZEROS: dict[Any, dict[sp.Symbol, sp.Expr]] = {
    sp.factor(1 - p): {p: sp.Integer(1), c: sp.Integer(0)},
    sp.factor(1 - 1 / tau_u): {tau_u: sp.Integer(1)},
    sp.factor(1 - 1 / tau_v): {tau_v: sp.Integer(1)},
    delta + rho: {delta: sp.Integer(0), rho: sp.Integer(0)},
}


def _roots(expression: sp.Expr) -> list[dict[sp.Symbol, sp.Expr]] | None:
    """The ways in which a product vanishes, one for each factor; None where a factor is not understood."""
    out = []
    for product in sp.Mul.make_args(expression):
        if product.is_Symbol:
            out.append({product: sp.Integer(0)})
        elif product.is_number:
            if product == 0:
                return None
        elif (factored := sp.factor(product)) in _ZEROS:
            out.append(_ZEROS[factored])
        else:
            return None
    return out


def limit_steps(theorem: Theorem) -> list[Step]:
    """Where a limit of a free parameter is allowed, what it would drive to infinity is not in the bound.

    x → 0: the derivative by 1/x of both weights, the right side and every premise is 0 wherever ``to_zero`` is;
    x → ∞: the same of the derivative by x and ``to_infinity``.
    """
    closed = _closed(dict(theorem.definitions), keep=(keep := (p, c, C, symbol("a"))))
    known = {s: e for s, e in closed.items() if s not in keep}
    formulas = [closed[s] for s in (weight_u, weight_v, rhs)] + list(left_sides(theorem.conditions, known).values())
    steps = []
    for free in theorem.free:
        for name, moved, factor in (("0", free.inv, free.to_zero), ("infinity", free.x, free.to_infinity)):
            roots = _roots(factor)
            slopes = [replaced(sp.diff(f, moved), root) for root in roots or [] for f in formulas]
            left = sp.Add(*(abs(x) for x in slopes if not zero(x)))
            ok = roots is not None and left == 0
            steps.append(
                Step(f"limit {free.name} -> {name}", f"allowed where {factor} = 0: there the bound does not grow", left,
                     sp.Integer(0), ok)
            )  # fmt: skip
    return steps


def statement_steps(theorem: Theorem, proof: Proof) -> list[Step]:
    """The whole statement with the theorem's own definitions, once for n ≥ 2 and once for one client.

    For n ≥ 2 both weights and the right side are the proof's, and the theorem's own premises (their symbols as the
    theorem defines them) make the dropped terms nonpositive. For n = m = 1 there is no sampling (c = 0, p = 1, no other
    clients): there the theorem may only be weaker.
    """
    closed = _closed(dict(theorem.definitions), keep=())
    proven = {s: replaced(proof.derived[s], {C: proof.derived[C]}) for s in (weight_u, weight_v, rhs)}
    steps = [
        same(f"statement: {s}", f"{s} in inputs and free parameters is what the proof gives", closed[s], proven[s])
        for s in (weight_u, weight_v, rhs)
    ]
    left = left_sides([k for k in theorem.conditions if not k.strict], closed)
    for name, dropped in (("|h_k|^2", proof.dropped_u), ("|g_k|^2", proof.dropped_v)):
        steps.append(premise(f"statement: sum {name}", f"the multiplier of the {name} that are dropped", dropped, left))
    single = {n: sp.Integer(1), m: sp.Integer(1)}
    alone = {c: sp.Integer(0), p: sp.Integer(1), INV_PEERS: sp.Integer(0), **single}
    kept = _closed(dict(theorem.definitions), keep=(C,))
    for s, sign in ((weight_u, -1), (weight_v, -1), (rhs, 1)):
        own, ours = replaced(kept[s], single), replaced(proof.derived[s], alone)
        steps.append(at_least(f"one client: {s}", f"for n = m = 1, {s} is not on the unsafe side of the proof's",
                              sign * own, sign * ours))  # fmt: skip
    return steps


LAYERS = ("lemmas", "round", "definitions", "premises", "limits", "statement")


def layers(theorem: Theorem) -> dict[str, list[Step]]:
    """The steps of the theorem's proof and of its comparison with the theorem, in order, by layer (see LAYERS).

    Raises InputError where no proof of that theorem (or of the one that it is a mutant of) is known.
    """
    key = theorem.mutant_of or theorem.key
    if key not in _PROOFS:
        raise InputError(f"a symbolic proof is known of {', '.join(PROVED)}; got the theorem {theorem.key}")
    proof = _proof(key)
    return {
        "lemmas": list(proof.lemmas),
        "round": list(proof.round),
        "definitions": definition_steps(theorem, proof),
        "premises": premise_steps(theorem, proof),
        "limits": limit_steps(theorem),
        "statement": statement_steps(theorem, proof),
    }


def check(theorem: Theorem) -> list[Step]:
    """All steps of ``layers``."""
    return [step for steps in layers(theorem).values() for step in steps]


def proved(theorem: Theorem) -> bool:
    """Whether every step of ``check`` holds."""
    return all(step.ok for step in check(theorem))
