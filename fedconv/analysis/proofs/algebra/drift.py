"""The drift lemmas L2 (one block) and L2' (both blocks), step by step, with the coarse and the sharp drift factor.

With N = τ−1 and x the growth per step, the recursion d_{k+1} ≤ (1+x)d_k + B, d_0 = 0, gives d_k ≤ B((1+x)^k − 1)/x.
Its right side has nonnegative coefficients in x, so x may be replaced by a/N ≥ x. Summed,
Σ_{k≤N} ((1+x)^k − 1)/x = Σ_{j≥2} binom(N+1, j) x^{j−2} ≤ N(N+1) Σ_{j≥2} a^{j−2}/j! = N(N+1)(e^a − 1 − a)/a².
For τ = 1 there is no drift: both sides are 0. Derived here.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from fedconv.analysis.proofs.algebra.inequalities import (
    Lemma,
    Step,
    at_least,
    chain,
    coefficient,
    instance,
    nonnegative,
    replaced,
    same,
    term,
)
from fedconv.analysis.theorems.base import C, chi, eta, symbol

N, x, B, P, g_sq, sigma_sq, L, tau, s = (symbol(k) for k in ("N", "x", "B", "P", "g_sq", "sigma_sq", "L", "tau", "s"))
A, D = symbol("A"), symbol("D")

CROSS_GAIN = 1 + chi**2
"""(A+χD)² ≤ (1+χ²)(A²+D²): how much more one block's gradients drift where both blocks move."""


def sharp_factor(a: sp.Expr) -> sp.Expr:
    """(e^a − 1 − a)/a²: the whole sum of the recursion."""
    return (sp.exp(a) - 1 - a) / a**2


def coarse_factor(a: sp.Expr) -> sp.Expr:
    """e^a/2: every power of the recursion replaced by the last one."""
    return sp.exp(a) / 2


def exponent(both_blocks: bool, sharp: bool) -> sp.Expr:
    """a: 1 + 2η² for one block; for both, 1 + 4η²(1+χ²), or 1 + 2η²(1+χ)² where ``sharp``."""
    if not both_blocks:
        return 1 + 2 * eta**2
    return 1 + 2 * eta**2 * (1 + chi) ** 2 if sharp else 1 + 4 * eta**2 * (1 + chi**2)


def _constant(size: sp.Expr, start_sq: sp.Expr, noise_sq: sp.Expr) -> sp.Expr:
    """B, with τ = ``size``."""
    return eta**2 / size**2 * (2 * size * start_sq + noise_sq)


def total(size: sp.Expr, start_sq: sp.Expr, noise_sq: sp.Expr) -> sp.Expr:
    """What the steps below prove of Σ_{k<τ} d_k: B·N(N+1)·C with N = τ−1, for τ = ``size``, g² = ``start_sq`` and
    σ² = ``noise_sq``."""
    return _constant(size, start_sq, noise_sq) * (size - 1) * size * C


def _young() -> list[Step]:
    """One local step: Young's inequality, for a parameter s, then s = 1/N; the noise is independent of the rest.

    d_k = L²E‖w_k − w_0‖², moved by −γ(gradient + noise), γ = η/(Lτ).
    """
    there, moved, here = term("|w_k+1 - w_0|^2"), term("|w_k - w_0|^2"), term("|gradient|^2")
    gamma = eta / (L * tau)
    right = (1 + s) * moved + (1 + 1 / s) * gamma**2 * here + gamma**2 * sigma_sq
    young = Lemma("L2: Young", "‖a+b‖² ≤ (1+s)‖a‖² + (1+1/s)‖b‖², the noise added", there, right)
    values = {there: (A - gamma * D) ** 2 + gamma**2 * sigma_sq, moved: A**2, here: D**2}
    d, d_here = term("d_k"), term("gradient at w_k")
    scaled = replaced(L**2 * right, {moved: d / L**2, here: d_here, s: 1 / N})
    return [
        instance(young, values, (s * A + gamma * D) ** 2 / s),
        same("L2: one step", "d_{k+1} ≤ (1+1/N)d_k + (η²/τ)|gradient|² + (η²/τ²)σ²", replaced(scaled, {tau: N + 1}),
             replaced(_one_step(d, d_here), {tau: N + 1})),
    ]  # fmt: skip


def _one_step(d: sp.Expr, here: sp.Expr) -> sp.Expr:
    return (1 + 1 / N) * d + eta**2 / tau * here + eta**2 / tau**2 * sigma_sq


def _recursion(both_blocks: bool, sharp: bool) -> list[Step]:
    """The growth and the constant of the recursion, in units of the drift d_k = L²E‖w_k − w_0‖² (L2) or s_k (L2').

    In both cases L²γ² = η²/τ² (for s_k: L_uγ_u² = η²/(τ²L_u), the same for v; σ²/L and g²/L add up). d' is the mean
    squared gradient at the step, d' ≤ 2g² + 2λd_k, where λ says how far gradients move with the drift: 1 for one
    block; 2(1+χ²) or (1+χ)² for both.
    """
    lam = (exponent(both_blocks, sharp) - 1) / (2 * eta**2)
    d, here = term("d_k"), term("gradient at w_k")
    steps = _young()
    if both_blocks:
        square = (chi * A - D) ** 2
        steps.append(
            same("L2': one gradient", "(A+χD)² ≤ (1+χ²)(A²+D²), with A = √L_u‖u'−u‖, D = √L_v‖v'−v‖",
                 CROSS_GAIN * (A**2 + D**2) - (A + chi * D) ** 2, square)
        )  # fmt: skip
        slack = 2 * chi * (A - D) ** 2 if sharp else square + (chi * D - A) ** 2
        steps.append(
            same("L2': both gradients", "(A+χD)² + (D+χA)² ≤ λ(A²+D²): the difference is a sum of squares",
                 lam * (A**2 + D**2) - (A + chi * D) ** 2 - (D + chi * A) ** 2, slack)
        )  # fmt: skip
    moved = Lemma("L2: gradient", "‖∇φ(w_k)‖² ≤ 2‖∇φ(w_0)‖² + 2λ d_k", here, 2 * g_sq + 2 * lam * d)
    steps.append(instance(moved, {here: (A + D) ** 2, g_sq: A**2, d: D**2 / lam}, (A - D) ** 2))
    bound, used = chain(_one_step(d, here), [moved], "L2")
    room = exponent(both_blocks, sharp) / N - (coefficient(bound, d) - 1)
    steps += [
        *used,
        same("L2: constant of the recursion", "B = (η²/τ²)(2τ g² + σ²)", replaced(bound, {d: 0}),
             _constant(tau, g_sq, sigma_sq)),
        at_least("L2: growth", "x = 1/N + 2λη²/τ ≤ a/N", replaced(room, {tau: N + 1}), sp.Integer(0)),
    ]  # fmt: skip
    return steps


@cache
def _sum(sharp: bool) -> tuple[Step, ...]:
    """Σ_{k≤N} d_k ≤ B·N(N+1)·C, C the drift factor. P stands for (1+x)^{N+1} (or (1+x)^k)."""
    j, k, a = sp.Symbol("j", integer=True, positive=True), sp.Symbol("k", integer=True, positive=True), symbol("a")

    def summed(power: sp.Expr, size: sp.Expr) -> sp.Expr:
        return (power - 1 - (size + 1) * x) / x**2

    solution = B * (P - 1) / x
    scaled = sp.factorial(j) * sp.binomial(k + 1, j) / k ** (j - 2)
    ratio: Any = sp.combsimp(replaced(scaled, {j: j + 1}) / scaled)
    start = sp.expand_func(replaced(scaled, {j: 2}))
    series: Any = sp.summation(a**j / sp.factorial(j), (j, 2, sp.oo))
    steps = [
        same("L2: recursion starts", "d_k = B((1+x)^k − 1)/x is 0 for k = 0", replaced(solution, {P: 1}),
             sp.Integer(0)),
        same("L2: recursion solved", "d_k = B((1+x)^k − 1)/x solves d_{k+1} = (1+x)d_k + B",
             (1 + x) * solution + B, B * (P * (1 + x) - 1) / x),
        same("L2: sum, start", "the closed form of Σ_{k≤N} ((1+x)^k − 1)/x is 0 for N = 0",
             summed(1 + x, sp.Integer(0)), sp.Integer(0)),
        same("L2: sum, step", "the closed form grows by ((1+x)^{N+1} − 1)/x from N to N+1",
             summed(P * (1 + x), N + 1) - summed(P, N), (P - 1) / x),
        *(same(f"L2: expansion for N={size}", "the closed form is Σ_{j≥2} binom(N+1, j) x^{j−2}",
               summed((1 + x) ** (size + 1), sp.Integer(size)),
               sum((sp.binomial(size + 1, i) * x ** (i - 2) for i in range(2, size + 2)), sp.Integer(0)))
          for size in range(1, 6)),
        same("L2: first term", "t_j = j! binom(N+1, j)/N^{j−2} starts at t_2 = N(N+1)", start, k * (k + 1)),
        Step("L2: terms fall", "1 − t_{j+1}/t_j = (j−1)/N ≥ 0, so t_j ≤ N(N+1) for all j ≥ 2", 1 - ratio, (j - 1) / k,
             sp.simplify(1 - ratio - (j - 1) / k) == 0),
        same("L2: exponential series", "Σ_{j≥2} a^{j−2}/j! = (e^a − 1 − a)/a²", series / a**2, sharp_factor(a)),
    ]  # fmt: skip
    if not sharp:
        whole: Any = sp.summation(a ** (j - 1) / sp.factorial(j - 1) / 2, (j, 1, sp.oo))
        coarse = sp.expand((j + 1) * (j + 2) - 2)
        steps += [
            same("L2: coarse series", "Σ_{j≥0} a^j/(2 j!) = e^a/2", whole, coarse_factor(a)),
            Step("L2: coarse factor", "(e^a−1−a)/a² ≤ e^a/2: term by term (j+2)! ≥ 2 j!, as (j+1)(j+2) ≥ 2", coarse,
                 sp.Integer(0), nonnegative(coarse)),
        ]  # fmt: skip
    return tuple(steps)


def drift_steps(both_blocks: bool, sharp: bool) -> list[Step]:
    """All steps of L2 (or L2' where ``both_blocks``) with the coarse or the sharp drift factor, but the lemma's own."""
    return [*_recursion(both_blocks, sharp), *_sum(sharp)]
