"""Theorems FA and FA* (FedAlt): explicit-constant bounds on the stationarity measures.

Setting: A1 (block smoothness), A2 (unbiased noise of variance σ_u², σ_v²), A3 (diversity ≤ δ² + ρ²‖∇_uF‖²), cohorts of
m of n without replacement, γ_u = η/(L_u τ_u), γ_v = η/(L_v τ_v). X_t = E‖∇_uF(u^t, Ṽ^{t+1})‖² at the virtual full
participation, Y_t = (1/n) Σ_i E‖∇_vF_i(u^t, v_i^t)‖². Free parameters α, θ, θ_v, ω > 0 come from Young's inequality.
The rates up to constants are Pillutla et al. 2022; the constants are derived in this project.
"""

from __future__ import annotations

import sympy as sp

from fedconv.analysis.theorems.base import (
    S_1,
    S_2,
    SAMPLING,
    C,
    Condition,
    Free,
    K_u,
    K_v,
    L_u,
    L_v,
    Mutant,
    T,
    Theorem,
    alpha,
    c,
    chi,
    delta,
    eps_u,
    eps_v,
    eta,
    gap0,
    i_alpha,
    i_omega,
    i_theta,
    i_theta_v,
    m,
    n,
    omega,
    p,
    rho,
    rhs,
    sigma_u,
    sigma_v,
    symbol,
    tau_u,
    tau_v,
    theta,
    theta_v,
    weight_u,
    weight_v,
)  # fmt: skip

a, Q, R, q = symbol("a"), symbol("Q"), symbol("R"), symbol("q")


def _free(sharp: bool) -> tuple[Free, ...]:
    """α, θ, θ_v, ω. FA*'s sampling factor c + α/(n−1)² does not vanish with c, so its ω has fewer limits."""
    sampled = sp.Integer(1) if sharp else c
    return (
        Free("alpha", to_zero=chi * (1 - p), to_infinity=sp.Integer(1), default=0.5, candidates=(1 / eta - 1,)),
        Free("theta", to_zero=sigma_u, to_infinity=1 - 1 / tau_u),
        Free("theta_v", to_zero=sigma_v, to_infinity=1 - 1 / tau_v),
        Free("omega", to_zero=(1 - 1 / tau_u) * sampled, to_infinity=sampled * (delta + rho)),
    )


MEASURE_X = "grad_u_virtual_sq"


def _definitions(sharp: bool) -> dict[sp.Symbol, sp.Expr]:
    """The formulas of FA, or of FA* where ``sharp``.

    Q: the factor of the sampling term, (1+α)c or c + α/(n−1)² (0 for n = 1). R: what Young's inequality puts on the
    personal displacement by virtual participation, χ²(1−p)²/α. C: the drift factor.
    """
    drift = (sp.exp(a) - 1 - a) / a**2 if sharp else sp.exp(1 + 2 * eta**2) / 2
    sampling = c + alpha * sp.Min(n - 1, 1) / sp.Max(n - 1, 1) ** 2 if sharp else (1 + alpha) * c
    kept_u = (1 - (1 + alpha) * eta) / tau_u if sharp else sp.Integer(0)
    kept_v = (p - eta * (p + R)) / tau_v if sharp else sp.Integer(0)
    return {
        **SAMPLING,
        q: (1 - p) ** 2,
        R: chi**2 * q * i_alpha,
        Q: sampling,
        **({a: 1 + 2 * eta**2} if sharp else {}),
        C: drift,
        K_u: C * (1 - 1 / tau_u) * (1 + eta * (Q * (1 + i_omega) + theta / m)),
        K_v: C * (1 - 1 / tau_v) * (p * (1 + eta * theta_v) + R * eta * theta_v),
        S_1: (1 + i_theta) * sigma_u**2 / (m * tau_u * L_u)
        + (1 + omega) * Q * delta**2 / L_u
        + (1 + i_theta_v) * sigma_v**2 / (tau_v * L_v) * (p + R),
        S_2: K_u / L_u * (2 * delta**2 + sigma_u**2 / tau_u) + K_v * sigma_v**2 / (tau_v * L_v),
        eps_u: (1 + omega) * Q * eta * rho**2 + 2 * K_u * eta**2 * (1 + rho**2),
        eps_v: 2 * K_v * eta**2 / p,
        weight_u: 1 - eps_u + kept_u,
        weight_v: p * (1 - eps_v) + kept_v,
        rhs: 2 * gap0 / (eta * T) + eta * S_1 + eta**2 * S_2,
    }


CONDITIONS = (
    Condition("(1+α)η", (1 + alpha) * eta),
    Condition("η(1+χ²(1−p)²/(αp))", eta * (1 + R / p)),
    Condition("ε_u", eps_u, strict=True),
    Condition("ε_v", eps_v, strict=True),
)


def _mutants(d: dict[sp.Symbol, sp.Expr], sharp: bool) -> tuple[Mutant, ...]:
    """The weakened versions that some instance refutes."""
    personal = (1 + i_theta_v) * sigma_v**2 / (tau_v * L_v)
    sampling = (1 + omega) * Q * delta**2 / L_u
    kept_v = d[weight_v] - p * (1 - eps_v)
    out = [
        Mutant("gap1", "ΔF₀ in place of 2ΔF₀", {rhs: d[rhs] - gap0 / (eta * T)}),
        Mutant("half_s1", "S₁/2 in place of S₁", {S_1: d[S_1] / 2}),
        Mutant("no_delta", "no cδ² in S₁", {S_1: d[S_1] - sampling}),
        Mutant("c_replaced", "c replaced by (1−p)/m", {c: (1 - p) / m}),
        Mutant("sigma_v_p_sq", "pσ_v² in S₁ replaced by p²σ_v²", {S_1: d[S_1] + personal * (p**2 - p)}),
        Mutant("sigma_v_dropped", "pσ_v² in S₁ dropped", {S_1: d[S_1] - personal * p}),
        Mutant("weight_one", "weight p of Y replaced by 1", {weight_v: 1 - eps_v + kept_v}),
        Mutant("eps_zero", "ε_u = ε_v = 0", {eps_u: sp.Integer(0), eps_v: sp.Integer(0)}),
        Mutant("k_zero", "K_u = K_v = 0", {K_u: sp.Integer(0), K_v: sp.Integer(0)}),
        Mutant("virtual_dropped", "(1−p)² dropped: no virtual participation error", {q: sp.Integer(0)}),
        Mutant("virtual_halved", "(1−p)² halved", {q: (1 - p) ** 2 / 2}),
        Mutant("virtual_p_1_p", "(1−p)² replaced by p(1−p)", {q: p * (1 - p)}),
    ]
    if sharp:
        out.append(Mutant("kept_full", "first gradients kept in full", {weight_u: 1 - eps_u + 1 / tau_u}))
        out.append(Mutant("sampling_alpha", "α/(n−1)² dropped from the sampling term", {Q: c}))
    else:
        # FA* and FS* keep the first gradients: beyond the conditions their weights turn negative; no instance is known.
        out.append(Mutant("no_conditions", "the step-size conditions dropped", {}, drop_conditions=True))
    return tuple(out)


def _theorem(key: str, title: str, source: str, sharp: bool) -> Theorem:
    definitions = _definitions(sharp)
    return Theorem(
        key=key,
        title=title,
        source=source,
        algorithms=("fedalt", "fedavg", "local"),
        definitions=definitions,
        conditions=CONDITIONS,
        free=_free(sharp),
        shared=MEASURE_X,
        diversity="diversity_virtual",
        mutants=_mutants(definitions, sharp),
    )


FA = _theorem(
    "FA",
    "FedAlt, explicit constants",
    "rate: Pillutla et al. 2022 (arXiv 2204.03809), up to constants; constants: derived in this project",
    sharp=False,
)
FA_STAR = _theorem(
    "FA*",
    "FedAlt, sharper sampling and drift terms, first gradients kept",
    "derived in this project",
    sharp=True,
)
