"""From the bound on one round to the theorem: sum over the rounds, divide by ηT/2, read off every symbol."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from fedconv.analysis.proofs.algebra.inequalities import Step, all_shown, coefficient, replaced, terms
from fedconv.analysis.proofs.algebra.shared import X, Y, sum_g, sum_h
from fedconv.analysis.theorems.base import (
    S_1,
    S_2,
    SAMPLING,
    C,
    L_u,
    L_v,
    T,
    c,
    eps_u,
    eps_v,
    eta,
    gap0,
    m,
    n,
    p,
    rhs,
    weight_u,
    weight_v,
)  # fmt: skip


@dataclass(frozen=True)
class Proof:
    """What a proof establishes, with p, c and the drift factor C as symbols.

    ``lemmas``: the steps that show the lemmas; ``round``: those that compose them to the bound of one round.
    ``derived``: each symbol of the theorem as the proof gives it (C in η and χ). ``dropped_u``, ``dropped_v``: the
    multipliers of Σ_k E‖h_k‖² and avg Σ_k E‖g_k‖² in the bound of one round, which must be ≤ 0.
    """

    lemmas: tuple[Step, ...]
    round: tuple[Step, ...]
    derived: dict[sp.Symbol, sp.Expr]
    dropped_u: sp.Expr
    dropped_v: sp.Expr


def assemble(
    lemmas: list[Step], steps: list[Step], bound: sp.Expr, derived: dict[sp.Symbol, sp.Expr], kept: bool
) -> Proof:
    """The theorem's formulas from ``E[F⁺ − F] ≤ bound``.

    The bound is k_X X + k_Y Y + k_h Σ_k E‖h_k‖² + k_g avg Σ_k E‖g_k‖² + constant. Summed over t < T the left side is
    at least −ΔF₀, so that (1/T) Σ_t (−k_X X_t − k_Y Y_t) ≤ ΔF₀/T + constant once the k_h, k_g ≤ 0 are dropped; where
    ``kept``, all but the first gradients E‖h_0‖² = X and avg E‖g_0‖² = Y are. Times 2/η this is the statement:
    weight_u = −(2L_u/η)k_X, weight_v = −(2L_v/η)k_Y. S_1 is the part of the constant without the drift factor C, S_2
    that with it.
    """
    unit = 2 / eta
    k_h, k_g = coefficient(bound, sum_h), coefficient(bound, sum_g)
    plain_u, plain_v = -unit * L_u * coefficient(bound, X), -unit * L_v * coefficient(bound, Y)
    constant = replaced(bound, {X: 0, Y: 0, sum_h: 0, sum_g: 0})
    without = replaced(constant, {C: 0})
    left = sp.Integer(len(terms(constant)))
    remaining = Step("round: nothing is left", "every expectation but X, Y and the sums to drop is bounded", left,
                     sp.Integer(0), left == 0)  # fmt: skip
    formulas = {
        p: SAMPLING[p],
        c: (n - m) / (m * (n - 1)),
        **derived,
        S_1: unit * without / eta,
        S_2: unit * (constant - without) / eta**2,
        eps_u: 1 - plain_u,
        eps_v: 1 - plain_v / p,
        weight_u: plain_u - (unit * L_u * k_h if kept else 0),
        weight_v: plain_v - (unit * L_v * k_g if kept else 0),
        rhs: unit * (gap0 / T + constant),
    }
    checked = all_shown([*lemmas, *steps])
    return Proof(tuple(lemmas), (*steps, remaining, checked), formulas, k_h, k_g)
