"""One FedSim round, composed: L11 with L7–L9 and L5 at (u,V), then L2', to the formulas of FS or FS*. Derived here.

Both blocks move in every local step, so the gradients of each drift with both: Σ_k E‖∇_uF_i(k) − ∇_uF_i(start)‖² is at
most L_u(1+χ²)s̄ on average over clients, for v L_v(1+χ²)s̄, s̄ = avg Σ_k (L_uE‖ũ_k−u‖² + L_vE‖ṽ_k−v‖²).
"""

from __future__ import annotations

import sympy as sp

from fedconv.analysis.proofs.algebra.composed import Proof, assemble
from fedconv.analysis.proofs.algebra.drift import CROSS_GAIN, coarse_factor, drift_steps, exponent, sharp_factor, total
from fedconv.analysis.proofs.algebra.fedalt import inner_lemma, inner_step
from fedconv.analysis.proofs.algebra.inequalities import (
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
    AVERAGES,
    CLIENTS,
    DIVERSITY,
    PRESENT,
    SERVER,
    X,
    Y,
    alpha,
    clients_u,
    displacement,
    displacement_lemma,
    displacement_steps,
    i_alpha,
    inner_u,
    inner_v,
    mean_sq,
    met,
    noise_steps,
    noise_u,
    noisy,
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
from fedconv.analysis.theorems.base import C, L_u, L_v, c, chi, eta, m, n, p, sigma_u, sigma_v, symbol, tau_u

tau = tau_u
s_bar = term("s")
change, outer_u, cross_u = term("F(u+,V+) - F(u,V)"), term("<grad_u F(u,V+), mean over cohort (y+z)>"), term("cross")
present_sq, present_gap = term("avg |v+_i - v_i|^2"), term("|grad_u F(u,V+) - grad_u F(u,V)|^2")
present_v = term("avg <grad_v F_i, v+_i - v_i>")
x_sq, weighted_sq = term("avg |x_i|^2"), term("avg |mean y + c(y_i - mean y) + z_i/m|^2")

SHARED, PERSONAL = shared_block(L_u * CROSS_GAIN * s_bar), personal_block(L_v * CROSS_GAIN * s_bar, tau)
gamma_u, gamma_v = SHARED.gamma, PERSONAL.gamma
LIPSCHITZ = chi**2 * L_u * L_v * displacement


def young_lemma(sharp: bool) -> Lemma:
    """Young's inequality on −γ_u E⟨∇_uF(u,V⁺) − ∇_uF(u,V), cohort mean of y+z⟩; where ``sharp``, client by client."""
    scale = alpha * L_u * gamma_u**2 / 2
    if sharp:
        right = i_alpha / (2 * L_u) * p**2 * x_sq + scale * weighted_sq
    else:
        right = i_alpha / (2 * L_u) * present_gap + scale * shared_step
    return Lemma("L11: Young", "−γ<a,b> ≤ |a|²/(2αL) + αLγ²|b|²/2", cross_u, right, factor=-gamma_u)


def _displaced(sharp: bool) -> tuple[list[Lemma], list[Step]]:
    """The gap of the gradients by the present clients' displacement, with its steps."""
    if sharp:
        own = Lemma("A1", "avg|x_i|² ≤ χ²L_uL_v avg|v~_i − v_i|²", x_sq, LIPSCHITZ, given=True)
        weights = Lemma("weights of the noise", "avg|ȳ + c(y_i−ȳ) + z_i/m|² = |ȳ|² + c²·spread + noise/m²", weighted_sq,
                        mean_sq + c**2 * spread + noise_u / m**2, equality=True)  # fmt: skip
        # <ȳ,z_i> keeps the 1/n of it that is <y_i,z_i>, and <y_i − ȳ, z_i> the rest
        with_noise = 2 * (1 / n + c * (1 - 1 / n)) * met / m + noisy / m**2
        return [own, weights], [instance(weights, {weighted_sq: weighted_square(PRESENT[1]) + with_noise, **AVERAGES})]
    present = Lemma("L6, present", "|∇_uF(u,V+) − ∇_uF(u,V)|² ≤ p²χ²L_uL_v avg|v~_i − v_i|²", present_gap,
                    p**2 * LIPSCHITZ)  # fmt: skip
    # |(1/n) sum over S of x_i|² ≤ (m/n²) · sum over S of |x_i|², and a client is in S m/n of the time
    values = {present_gap: m / n**2 * (m / n * n * square), displacement: square / (chi**2 * L_u * L_v)}
    return [present], [instance(present, values)]


def joint_lemma(sharp: bool) -> Lemma:
    """L11 with u⁺−u = −γ_u·(cohort mean of y+z) and v⁺−v = −γ_v(y+z) for the present clients; L7 applied."""
    inner = -gamma_u * inner_u - p * gamma_v * inner_v
    if sharp:
        spent = alpha * L_u * gamma_u**2 / 2 * (mean_sq + c**2 * spread + noise_u / m**2)
    else:
        spent = alpha * L_u * gamma_u**2 / 2 * shared_step
    moved = L_v / 2 * (p + chi**2 * p**2 * i_alpha) * displacement
    return Lemma("L11", "joint descent", change, inner + L_u * gamma_u**2 / 2 * shared_step + spent + moved)


def joint_steps(sharp: bool) -> list[Step]:
    """L11 from smoothness in u at V⁺ and in v at u, L7, Young's inequality and the present clients' displacement."""
    smooth = -gamma_u * outer_u + L_u * gamma_u**2 / 2 * shared_step + present_v + L_v / 2 * present_sq
    displaced, shown = _displaced(sharp)
    young = young_lemma(sharp)
    first, second, scale = (x_sq, weighted_sq, PRESENT[0]) if sharp else (present_gap, shared_step, sp.Integer(1))
    parts = [
        Lemma("participation", "avg|v+_i − v_i|² = p avg|v~_i − v_i|²", present_sq, p * displacement, equality=True,
              given=True),
        Lemma("participation in the inner product", "avg<∇_vF_i, v+_i − v_i> = −pγ_v avg<∇_vF_i, y_i>", present_v,
              -p * gamma_v * inner_v, equality=True, given=True),
        Lemma("L7", "<∇_uF(u,V), cohort mean of (y+z)> = <∇_uF(u,V), ȳ>, plus what V+ adds", outer_u,
              inner_u + cross_u, equality=True, given=True),
        young,
        *displaced,
    ]  # fmt: skip
    return [
        *shown,
        pair_step("L11: Young", young, cross_u, first, second, scale, gamma_u),
        *derive(joint_lemma(sharp), smooth, parts),
    ]


def drift_lemma() -> Lemma:
    """L2': s̄ ≤ C(1−1/τ)η²[2τ(avg‖∇_uF_i‖²/L_u + Y/L_v) + σ_u²/L_u + σ_v²/L_v]."""
    inside = 2 * tau * (clients_u / L_u + Y / L_v) + sigma_u**2 / L_u + sigma_v**2 / L_v
    return Lemma("L2'", "drift of both blocks", s_bar, C * (1 - 1 / tau) * eta**2 * inside)


def proof(sharp: bool) -> Proof:
    """FS's proof, or FS*'s where ``sharp``: its steps, and every symbol of the theorem as the proof gives it."""
    inner_of_u = inner_lemma("L8", inner_u, SHARED, X, sum_h)
    inner_of_v = inner_lemma("L8 for v", inner_v, PERSONAL, Y, sum_g)
    drift = drift_lemma()
    summed = total(tau, clients_u / L_u + Y / L_v, sigma_u**2 / L_u + sigma_v**2 / L_v)
    lemmas = [
        *sampling_steps(),
        *(sampling_term_steps() if sharp else []),
        *noise_steps(SHARED),
        *noise_steps(PERSONAL),
        *displacement_steps(PERSONAL),
        *server_steps(SHARED),
        inner_step(inner_of_u, SHARED, X, sum_h),
        inner_step(inner_of_v, PERSONAL, Y, sum_g),
        *joint_steps(sharp),
        *drift_steps(both_blocks=True, sharp=sharp),
        showing(drift, "B·N(N+1)·C, summed over k < τ", summed),
    ]

    bound, steps = chain(change, [joint_lemma(sharp), SERVER], "round")
    a = exponent(both_blocks=True, sharp=sharp)
    scale = L_u * gamma_u**2 / 2
    derived = {
        symbol("q"): p**2,
        symbol("R"): 2 * coefficient(bound, displacement) / L_v - p,
        symbol("N"): m * coefficient(bound, noise_u) / scale,
        symbol("Q"): coefficient(bound, spread) / scale,
        symbol("a"): a,
        C: (sharp_factor if sharp else coarse_factor)(a),
    }
    parts = [inner_of_u, inner_of_v, *server_parts(SHARED), displacement_lemma(PERSONAL)]
    bound, used = chain(bound, parts, "round")
    steps += used
    derived[symbol("K")] = C * (1 - 1 / tau) * 2 * tau / eta * coefficient(bound, s_bar)
    bound, used = chain(bound, [drift, CLIENTS, DIVERSITY], "round")
    return assemble(lemmas, [*steps, *used], bound, derived, sharp)
