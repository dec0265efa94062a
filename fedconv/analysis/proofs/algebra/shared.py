"""The lemmas that FedAlt and FedSim share: sampling (L1, L6, L7), noise (L3), displacement (L5), server step (L9).

Each is derived from its parts by ``steps`` functions and offered as a ``Lemma`` in the abstract expectations below.
Expectations are given the state at the start of a round; (1/n)Σ_i over clients is written avg.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import sympy as sp

from fedconv.analysis.proofs.algebra.inequalities import (
    INV_PEERS,
    Lemma,
    Step,
    coefficient,
    derive,
    instance,
    same,
    term,
    terms,
)
from fedconv.analysis.theorems.base import (
    L_u,
    L_v,
    alpha,
    c,
    delta,
    eta,
    i_alpha,
    i_omega,
    i_theta,
    i_theta_v,
    m,
    n,
    omega,
    p,
    rho,
    sigma_u,
    sigma_v,
    symbol,
    tau_u,
    tau_v,
    theta,
    theta_v,
)  # fmt: skip

X, Y = term("X"), term("Y")
sum_h, sum_g = term("sum_k |h_k|^2"), term("avg sum_k |g_k|^2")
inner_u, inner_v = term("<grad_u F, mean y>"), term("avg <grad_v F_i, y_i>")
mean_sq, spread = term("|mean y|^2"), term("avg |y_i - mean y|^2")
shared_step, displacement = term("|mean over cohort (y+z)|^2"), term("avg |v~_i - v_i|^2")
noise_u, noise_v = term("avg (2<y_i,z_i> + |z_i|^2), u"), term("avg (2<y_i,z_i> + |z_i|^2), v")
clients_u, diversity = term("avg |grad_u F_i|^2"), term("avg |grad_u F_i - grad_u F|^2")


@dataclass(frozen=True)
class Block:
    """The shared (``u``) or the personal (``v``) block, with the drift its gradients see.

    ``drift``: bounds Σ_k E‖∇F_i(k) − ∇F_i(start)‖² averaged over clients: L²D for one block that moves alone,
    L(1+χ²)s̄ where both move.
    """

    letter: str
    L: sp.Symbol
    sigma: sp.Symbol
    tau: sp.Symbol
    young: sp.Symbol
    inv_young: sp.Symbol
    drift: sp.Expr
    noise: sp.Symbol

    @property
    def gamma(self) -> sp.Expr:
        """γ = η/(Lτ)."""
        return eta / (self.L * self.tau)

    def drifting(self, value: sp.Expr) -> dict[sp.Symbol, sp.Expr]:
        """The value of the drift's term that makes ``drift`` that value."""
        (inside,) = terms(self.drift)
        return {inside: value / coefficient(self.drift, inside)}


def shared_block(drift: sp.Expr) -> Block:
    """The u block, with Young's parameter θ."""
    return Block("u", L_u, sigma_u, tau_u, theta, i_theta, drift, noise_u)


def personal_block(drift: sp.Expr, tau: sp.Symbol = tau_v) -> Block:
    """The v block, with Young's parameter θ_v."""
    return Block("v", L_v, sigma_v, tau, theta_v, i_theta_v, drift, noise_v)


# ---- sampling without replacement: one client with probability p, an ordered pair with p(m−1)/(n−1) ---------------

one, both, apart = m / n, m * (m - 1) / (n * (n - 1)), (n - m) * m / (n * (n - 1))
square, of_mean, met, noisy = (symbol(s) for s in ("avg|y|^2", "|avg y|^2", "avg<y,z>", "avg|z|^2"))
"""Averages over clients that the terms are made of."""

AVERAGES = {mean_sq: of_mean, spread: square - of_mean, noise_u: 2 * met + noisy}
A, D, t = symbol("A"), symbol("D"), symbol("t")
"""Scalars that stand for vectors in identities, and a positive number."""


def cross(total: sp.Expr, same_client: sp.Expr) -> sp.Expr:
    """Σ_{i≠j} ⟨a_i, b_j⟩ = n²⟨ā, b̄⟩ − n avg⟨a_i, b_i⟩."""
    return n**2 * total - n * same_client


def cohort_square(noise: sp.Expr) -> sp.Expr:
    """E‖mean over S of (y+z)‖² by the probabilities; ``noise``: avg(2⟨y_i,z_i⟩ + ‖z_i‖²), those of two clients do not
    meet."""
    return (one * n * (square + noise) + both * cross(of_mean, square)) / m**2


SERVER = Lemma(
    "L1 with noise", "E|mean over S of (y+z)|² = |ȳ|² + c·spread + noise/m", shared_step,
    mean_sq + c * spread + noise_u / m, equality=True,
)  # fmt: skip
DIVERSITY = Lemma("A3", "avg|∇_uF_i − ∇_uF|² ≤ δ² + ρ²X", diversity, delta**2 + rho**2 * X, given=True)
CLIENTS = Lemma("mean square", "avg|∇_uF_i|² = X + diversity", clients_u, X + diversity, equality=True)


def sampling_steps() -> list[Step]:
    """The probabilities, L7's weight, L1 with the noise, and mean square = square of the mean + variance."""
    return [
        same("p", "P(i in S) + P(i not in S) = 1, P(i in S) = p", 1 - (n - m) / n, p),
        same("p of pairs", "P(i, j in S) + P(i in S, j not in S) = P(i in S)", both + apart, one),
        same("L7", "E[mean over S of (y+z)] = ȳ: each client has the weight P(i in S) n/m", one * n / m, sp.Integer(1)),
        instance(SERVER, {shared_step: cohort_square(2 * met + noisy), **AVERAGES}),
        instance(CLIENTS, {clients_u: (A**2 + D**2) / 2, X: ((A + D) / 2) ** 2, diversity: ((A - D) / 2) ** 2}),
    ]  # fmt: skip


ABSENT, PRESENT = (1 - p, -INV_PEERS), (p, c)
"""The sampling term is avg⟨x_i, q(ȳ + s(y_i − ȳ))⟩: q and s for the absent clients (FedAlt), the present (FedSim)."""


def sampling_term_steps() -> list[Step]:
    """The exact virtual-participation errors behind FA* and FS*, by the same probabilities.

    ⟨x̄,ȳ⟩ and avg⟨x_i,y_i⟩ are the terms; for FedSim x_i meets the noise of its own client only.
    """
    mean, own, noise = term("<mean x, mean y>"), term("avg <x_i,y_i>"), term("avg <x_i,z_i>")

    def weighted(form: tuple[sp.Expr, sp.Expr]) -> sp.Expr:
        return form[0] * (mean + form[1] * (own - mean))

    return [
        same("sampling term, absent", "E<(1/n) sum of absent x_i, mean over S of y> = (1−p)[<x̄,ȳ> − (1/(n−1)) "
             "avg<x_i−x̄, y_i−ȳ>]", apart * cross(mean, own) / (n * m), weighted(ABSENT)),
        same("sampling term, present", "E<(1/n) sum of present x_i, mean over S of (y+z)> = p avg<x_i, ȳ + c(y_i−ȳ) + "
             "z_i/m>", (one * n * (own + noise) + both * cross(mean, own)) / (n * m),
             weighted(PRESENT) + PRESENT[0] * noise / m),
    ]  # fmt: skip


def weighted_square(others: sp.Expr) -> sp.Expr:
    """avg‖ȳ + s(y_i − ȳ)‖² with s = ``others``, expanded."""
    return (1 - others) ** 2 * of_mean + 2 * (1 - others) * others * of_mean + others**2 * square


def pair_step(name: str, lemma: Lemma, cross_term: sp.Symbol, first: sp.Symbol, second: sp.Symbol, scale: sp.Expr,
              gamma: sp.Expr) -> Step:  # fmt: skip
    """Young's inequality −γ⟨sa,b⟩ ≤ s²‖a‖²/(2αL) + αLγ²‖b‖²/2 in one of the forms used: it leaves a square."""
    values = {cross_term: -scale * A * D, first: A**2, second: D**2, i_alpha: 1 / alpha}
    return replace(instance(lemma, values, (scale * A - alpha * L_u * gamma * D) ** 2 / (2 * alpha * L_u)), name=name)


# ---- noise, displacement, server step ------------------------------------------------------------------------------


def noise_lemma(block: Block) -> Lemma:
    """L3 with E‖z‖² ≤ τσ²: avg(2E⟨y,z⟩ + E‖z‖²) ≤ (1+1/θ)τσ² + θτ·drift."""
    right = (1 + block.inv_young) * block.tau * block.sigma**2 + block.young * block.tau * block.drift
    return Lemma(f"L3 ({block.letter})", "avg(2<y,z> + |z|²) ≤ (1+1/θ)τσ² + θτ·drift", block.noise, right)


def noise_steps(block: Block) -> list[Step]:
    """L3: the noise of the local steps meets the drift r = y − τ∇F_i(start) only."""
    name = f"L3 ({block.letter})"
    rz, gz, zz, rr = (term(f"{s}, {block.letter}") for s in ("<r,z>", "<grad at start,z>", "|z|^2", "|r|^2"))
    parts = [
        Lemma("martingale", "the start is known before the noise", gz, sp.Integer(0), equality=True, given=True),
        Lemma(f"{name}: Young", "<r,z> ≤ (θ/2)|r|² + |z|²/(2θ)", rz, block.young / 2 * rr + block.inv_young / 2 * zz),
        Lemma("A2", "|z|² ≤ τσ²", zz, block.tau * block.sigma**2, given=True),
        Lemma(f"{name}: Cauchy-Schwarz", "|r|² ≤ τ·drift", rr, block.tau * block.drift),
    ]
    values = {rz: A * D, rr: A**2, zz: D**2, block.young: t, block.inv_young: 1 / t}
    return [
        instance(parts[1], values, (t * A - D) ** 2 / (2 * t)),
        cauchy_schwarz(parts[3], block, block.drifting(A**2 + D**2)),
        *derive(noise_lemma(block), 2 * (rz + gz) + zz, parts),
    ]


def cauchy_schwarz(lemma: Lemma, block: Block, values: dict[sp.Symbol, sp.Expr]) -> Step:
    """‖Σ_k a_k‖² ≤ τ Σ_k ‖a_k‖², for the two steps a_0 = A, a_1 = D: ``values`` gives the sum of squares."""
    return instance(lemma, {lemma.target: (A + D) ** 2, block.tau: 2, **values}, (A - D) ** 2)


def displacement_lemma(block: Block) -> Lemma:
    """L5: avg E‖ṽ_i−v_i‖² ≤ γ_v²[τ Σ_k E‖g_k‖² + (1+1/θ_v)τσ_v² + θ_vτ·drift]."""
    inside = block.tau * sum_g + (1 + block.inv_young) * block.tau * block.sigma**2
    right = block.gamma**2 * (inside + block.young * block.tau * block.drift)
    return Lemma("L5", "|v~ − v|² ≤ γ²[τ sum|g_k|² + (1+1/θ_v)τσ_v² + θ_vτ·drift]", displacement, right)


def displacement_steps(block: Block) -> list[Step]:
    """L5 from ṽ − v = −γ(y+z), ‖y‖² ≤ τΣ‖g_k‖² and L3."""
    yy = term("avg |y_i|^2, v")
    own = Lemma("L5: Cauchy-Schwarz", "|y|² ≤ τ sum|g_k|²", yy, block.tau * sum_g)
    return [
        cauchy_schwarz(own, block, {sum_g: A**2 + D**2}),
        *derive(displacement_lemma(block), block.gamma**2 * (yy + block.noise), [own, noise_lemma(block)]),
    ]


def server_parts(block: Block) -> list[Lemma]:
    """What L9 is made of, finer than L9: |ȳ|², the spread over clients, and the noise."""
    tau = block.tau
    right = (1 + omega) * tau**2 * diversity + (1 + i_omega) * tau * block.drift
    return [
        Lemma("L9: mean", "|ȳ|² ≤ τ sum|h_k|²", mean_sq, tau * sum_h),
        Lemma("L9: spread", "avg|y_i − ȳ|² ≤ (1+ω)τ² diversity + (1+1/ω)τ drift", spread, right),
        noise_lemma(block),
        DIVERSITY,
    ]


def server_steps(block: Block) -> list[Step]:
    """L9 as stated, from L1 with noise, Young's inequality on the spread, L3 and A3.

    The spread is that of τ∇_uF_i(start) + r_i; that of r_i is at most avg‖r_i‖² ≤ τ·drift.
    """
    tau = block.tau
    right = (
        tau * sum_h
        + c * ((1 + omega) * tau**2 * (delta**2 + rho**2 * X) + (1 + i_omega) * tau * block.drift)
        + ((1 + i_theta) * tau * sigma_u**2 + theta * tau * block.drift) / m
    )
    stated = Lemma("L9", "E|mean over S of (y+z)|² ≤ τ sum|h_k|² + c[...] + (1/m)[...]", shared_step, right)
    parts = server_parts(block)
    values = {spread: (A + D) ** 2, diversity: A**2 / tau**2, **block.drifting(D**2 / tau), i_omega: 1 / omega}
    return [
        cauchy_schwarz(parts[0], block, {sum_h: A**2 + D**2}),
        instance(parts[1], values, (omega * A - D) ** 2 / omega),
        *derive(stated, SERVER.right, parts),
    ]
