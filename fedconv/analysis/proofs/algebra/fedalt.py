"""One FedAlt round, composed: L4, L10 with L6–L9, then L5 and L2, to the formulas of FA or FA*. Derived here.

E F(u⁺,V⁺) − F(u,V) is the change by the shared block at V⁺ plus the change by the personal block at u.
"""

from __future__ import annotations

import sympy as sp

from fedconv.analysis.proofs.algebra.composed import Proof, assemble
from fedconv.analysis.proofs.algebra.drift import coarse_factor, drift_steps, exponent, sharp_factor, total
from fedconv.analysis.proofs.algebra.inequalities import (
    INV_PEERS,
    Lemma,
    Step,
    chain,
    coefficient,
    derive,
    instance,
    showing,
    term,
)
from fedconv.analysis.proofs.algebra.shared import (
    ABSENT,
    AVERAGES,
    CLIENTS,
    DIVERSITY,
    SERVER,
    A,
    Block,
    D,
    X,
    Y,
    alpha,
    clients_u,
    cohort_square,
    displacement,
    displacement_lemma,
    displacement_steps,
    i_alpha,
    inner_u,
    inner_v,
    mean_sq,
    noise_steps,
    pair_step,
    personal_block,
    sampling_steps,
    sampling_term_steps,
    server_parts,
    server_steps,
    shared_block,
    shared_step,
    spread,
    square,
    sum_g,
    sum_h,
    weighted_square,
)  # fmt: skip
from fedconv.analysis.theorems.base import C, K_u, K_v, L_u, L_v, c, chi, eta, m, n, p, sigma_v, symbol, tau_v

drift_u, drift_v = term("L_u^2 D_u"), term("L_v^2 D_v")
change_u, change_v = term("F(u+,V+) - F(u,V+)"), term("avg F_i(u,v~_i) - F_i(u,v_i)")
gap, cohort_sq = term("|grad_u F(u,V+) - grad_u F(u,V~)|^2"), term("|mean over cohort y|^2")
x_sq, weighted_sq = term("avg |x_i|^2"), term("avg |mean y - (y_i - mean y)/(n-1)|^2")
cross_u = term("<grad_u F(u,V+) - grad_u F(u,V~), mean over cohort y>")
outer_u = term("<grad_u F(u,V+), mean over cohort (y+z)>")

SHARED, PERSONAL = shared_block(drift_u), personal_block(drift_v)
gamma_u, gamma_v = SHARED.gamma, PERSONAL.gamma


def inner_lemma(name: str, target: sp.Symbol, block: Block, start: sp.Symbol, sums: sp.Symbol) -> Lemma:
    """L8 (and its like for v): −E⟨a, Σ_k h_k⟩ ≤ ½(−τ‖a‖² − Σ‖h_k‖² + drift), a the gradient at the start."""
    right = (-block.tau * start - sums + block.drift) / 2
    return Lemma(name, "−<a, sum h_k> ≤ ½(−τ|a|² − sum|h_k|² + drift)", target, right, factor=sp.Integer(-1))


def inner_step(lemma: Lemma, block: Block, start: sp.Symbol, sums: sp.Symbol) -> Step:
    """−⟨a,h⟩ = ½(−‖a‖² − ‖h‖² + ‖h−a‖²), the identity of L8 for one k."""
    values = {lemma.target: A * D, start: A**2, sums: D**2, block.tau: 1, **block.drifting((D - A) ** 2)}
    return instance(lemma, values)


def personal_lemma() -> Lemma:
    """L4: avg E φ_i(ṽ_i) − φ_i(v_i), φ_i = F_i(u,·), in the form of the page."""
    th, inv = PERSONAL.young, PERSONAL.inv_young
    right = (
        -eta / (2 * L_v) * Y
        - gamma_v / 2 * (1 - eta) * sum_g
        + eta * (1 + eta * th) / (2 * L_v * tau_v) * drift_v
        + (1 + inv) * eta**2 * sigma_v**2 / (2 * L_v * tau_v)
    )
    return Lemma("L4", "personal descent of one client, averaged", change_v, right)


def personal_steps() -> list[Step]:
    """L4 from smoothness, ‖ṽ−v‖² (L5) and the identity of L8."""
    smooth = -gamma_v * inner_v + L_v / 2 * displacement
    inner = inner_lemma("L8 for v", inner_v, PERSONAL, Y, sum_g)
    parts = [inner, displacement_lemma(PERSONAL)]
    return [inner_step(inner, PERSONAL, Y, sum_g), *derive(personal_lemma(), smooth, parts)]


def young_lemma(sharp: bool) -> Lemma:
    """Young's inequality on the sampling term: of two vectors; where ``sharp``, client by client."""
    scale = alpha * L_u * gamma_u**2 / 2
    if sharp:
        right = i_alpha / (2 * L_u) * (1 - p) ** 2 * x_sq + scale * weighted_sq
    else:
        right = i_alpha / (2 * L_u) * gap + scale * cohort_sq
    return Lemma("L10: Young", "−γ<a,b> ≤ |a|²/(2αL) + αLγ²|b|²/2", cross_u, right, factor=-gamma_u)


def shared_lemma(sharp: bool) -> Lemma:
    """L10, as the page has it; where ``sharp``, with the sampling term client by client."""
    if sharp:
        meets = i_alpha / (2 * L_u) * (1 - p) ** 2 * x_sq + alpha * L_u * gamma_u**2 / 2 * weighted_sq
    else:
        meets = i_alpha / (2 * L_u) * gap + alpha * L_u * gamma_u**2 / 2 * cohort_sq
    right = -gamma_u * inner_u + meets + L_u * gamma_u**2 / 2 * shared_step
    return Lemma("L10", "shared descent at V+", change_u, right)


def shared_steps(sharp: bool) -> list[Step]:
    """L10 from smoothness at (u,V⁺), L7 and Young's inequality −γ⟨a,b⟩ ≤ ‖a‖²/(2αL) + αLγ²‖b‖²/2."""
    young = young_lemma(sharp)
    first, second, scale = (x_sq, weighted_sq, ABSENT[0]) if sharp else (gap, cohort_sq, sp.Integer(1))
    parts = [
        Lemma("L7", "the noise of the u phase has mean 0 given S and V+; <∇F(u,V~), .> is unbiased", outer_u,
              inner_u + cross_u, equality=True, given=True),
        young,
    ]  # fmt: skip
    return [
        pair_step("L10: Young", young, cross_u, first, second, scale, gamma_u),
        *derive(shared_lemma(sharp), -gamma_u * outer_u + L_u * gamma_u**2 / 2 * shared_step, parts),
    ]


def _sampling(sharp: bool) -> tuple[list[Lemma], list[Step]]:
    """What turns the sampling term into displacement, mean and spread; and the server step. With its steps."""
    lipschitz = chi**2 * L_u * L_v * displacement
    if sharp:
        own = Lemma("A1", "avg|x_i|² ≤ χ²L_uL_v avg|v~_i − v_i|²", x_sq, lipschitz, given=True)
        weights = Lemma("weights of the spread", "avg|ȳ − (y_i−ȳ)/(n−1)|² = |ȳ|² + spread/(n−1)²", weighted_sq,
                        mean_sq + spread * INV_PEERS**2, equality=True)  # fmt: skip
        return [own, weights, SERVER], [instance(weights, {weighted_sq: weighted_square(ABSENT[1]), **AVERAGES})]
    absent = Lemma("L6", "gap ≤ (1−p)²χ²L_uL_v avg|v~_i − v_i|²", gap, (1 - p) ** 2 * lipschitz)
    mean = Lemma("L1", "E|mean over S of y|² = |ȳ|² + c·spread", cohort_sq, mean_sq + c * spread, equality=True)
    # |(1/n) sum over absent of x_i|² ≤ (n−m)/n² · sum over absent of |x_i|², and a client is absent (n−m)/n of the time
    values = {gap: (n - m) / n**2 * ((n - m) / n * n * square), displacement: square / (chi**2 * L_u * L_v)}
    shown = [instance(absent, values), instance(mean, {cohort_sq: cohort_square(sp.Integer(0)), **AVERAGES})]
    return [absent, mean, SERVER], shown


def drift_lemma(block: Block, target: sp.Symbol, start: sp.Symbol) -> Lemma:
    """L2: L²D ≤ C(1−1/τ)η²[2τ avg‖∇‖² + σ²]."""
    right = C * (1 - 1 / block.tau) * eta**2 * (2 * block.tau * start + block.sigma**2)
    return Lemma(f"L2 ({block.letter})", "L²D ≤ C(1−1/τ)η²[2τ|∇φ(w_0)|² + σ²]", target, right)


def proof(sharp: bool) -> Proof:
    """FA's proof, or FA*'s where ``sharp``: its steps, and every symbol of the theorem as the proof gives it."""
    sampling, sampling_shown = _sampling(sharp)
    inner = inner_lemma("L8", inner_u, SHARED, X, sum_h)
    drifts = [drift_lemma(SHARED, drift_u, clients_u), drift_lemma(PERSONAL, drift_v, Y)]
    lemmas = [
        *sampling_steps(),
        *(sampling_term_steps() if sharp else []),
        *sampling_shown,
        *noise_steps(SHARED),
        *noise_steps(PERSONAL),
        *displacement_steps(PERSONAL),
        *server_steps(SHARED),
        inner_step(inner, SHARED, X, sum_h),
        *personal_steps(),
        *shared_steps(sharp),
        *drift_steps(both_blocks=False, sharp=sharp),
        *(showing(k, "B·N(N+1)·C, summed over k < τ", total(b.tau, start, b.sigma**2))
          for k, b, start in zip(drifts, (SHARED, PERSONAL), (clients_u, Y), strict=True)),
    ]  # fmt: skip

    bound, steps = chain(change_u, [shared_lemma(sharp), *sampling], "round")
    a = exponent(both_blocks=False, sharp=sharp)
    derived = {
        symbol("q"): (1 - p) ** 2,
        symbol("R"): 2 * coefficient(bound, displacement) / L_v,
        symbol("Q"): 2 * coefficient(bound, spread) / (L_u * gamma_u**2),
        symbol("a"): a,
        C: (sharp_factor if sharp else coarse_factor)(a),
    }
    kept = Lemma("participation", "only present clients keep their step: E F(u,V+) − F(u,V) = p·avg change", change_v,
                 p * change_v, equality=True, given=True)  # fmt: skip
    personal, used = chain(change_v, [kept], "round")
    steps += used
    parts = [inner, *server_parts(SHARED), displacement_lemma(PERSONAL), personal_lemma()]
    bound, used = chain(bound + personal, parts, "round")
    steps += used
    for name, block, drift in ((K_u, SHARED, drift_u), (K_v, PERSONAL, drift_v)):
        scale = 2 * block.L * block.tau / eta
        derived[name] = C * (1 - 1 / block.tau) * scale * coefficient(bound, drift)
    bound, used = chain(bound, [drifts[0], CLIENTS, DIVERSITY, drifts[1]], "round")
    return assemble(lemmas, [*steps, *used], bound, derived, sharp)
