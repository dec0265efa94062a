"""Theorems FS and FS* (FedSim): explicit-constant bounds on the stationarity measures.

Setting as for FedAlt (``fedconv.analysis.theorems.split.fedalt``), with τ_u = τ_v = τ; both measures are taken at the
start of the round: X_t = E‖∇_uF(u^t, V^t)‖², Y_t = (1/n) Σ_i E‖∇_vF_i(u^t, v_i^t)‖². Inside one FedSim step the noise
of the two blocks may depend on each other. The rates up to constants are Pillutla et al. 2022; the constants are
derived in this project.
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
    omega,
    p,
    rho,
    rhs,
    sigma_u,
    sigma_v,
    symbol,
    tau_u,
    theta,
    theta_v,
    weight_u,
    weight_v,
)  # fmt: skip

a, K, N, Q, R, q = symbol("a"), symbol("K"), symbol("N"), symbol("Q"), symbol("R"), symbol("q")
tau = tau_u

FREE = (
    Free("alpha", to_zero=chi, to_infinity=sp.Integer(1), default=0.5, candidates=(1 / eta - 1,)),
    Free("theta", to_zero=sigma_u, to_infinity=1 - 1 / tau),
    Free("theta_v", to_zero=sigma_v, to_infinity=1 - 1 / tau),
    Free("omega", to_zero=(1 - 1 / tau) * c, to_infinity=c * (delta + rho)),
)


def _definitions(sharp: bool) -> dict[sp.Symbol, sp.Expr]:
    """The formulas of FS, or of FS* where ``sharp``.

    N: factor of the shared noise, 1+α or 1+α/m. Q: factor of the sampling term, (1+α)c or (1+αc)c. R: χ²p²/α, what
    Young's inequality puts on the personal displacement. C: the drift factor.
    """
    drift = (sp.exp(a) - 1 - a) / a**2 if sharp else sp.exp(1 + 4 * eta**2 * (1 + chi**2)) / 2
    noise = 1 + alpha / m if sharp else 1 + alpha
    sampling = (1 + alpha * c) * c if sharp else (1 + alpha) * c
    kept_u = (1 - (1 + alpha) * eta) / tau if sharp else sp.Integer(0)
    kept_v = (p - eta * (p + R)) / tau if sharp else sp.Integer(0)
    return {
        **SAMPLING,
        q: p**2,
        R: chi**2 * q * i_alpha,
        N: noise,
        Q: sampling,
        **({a: 1 + 2 * eta**2 * (1 + chi) ** 2} if sharp else {}),
        C: drift,
        K: (1 + chi**2) * C * (1 - 1 / tau) * (1 + p + eta * (Q * (1 + i_omega) + N * theta / m + (p + R) * theta_v)),
        S_1: N * (1 + i_theta) * sigma_u**2 / (m * tau * L_u)
        + (1 + omega) * Q * delta**2 / L_u
        + (1 + i_theta_v) * sigma_v**2 / (tau * L_v) * (p + R),
        S_2: K * (2 * delta**2 / L_u + (sigma_u**2 / L_u + sigma_v**2 / L_v) / tau),
        eps_u: (1 + omega) * Q * eta * rho**2 + 2 * K * eta**2 * (1 + rho**2),
        eps_v: 2 * K * eta**2 / p,
        weight_u: 1 - eps_u + kept_u,
        weight_v: p * (1 - eps_v) + kept_v,
        rhs: 2 * gap0 / (eta * T) + eta * S_1 + eta**2 * S_2,
    }


CONDITIONS = (
    Condition("(1+α)η", (1 + alpha) * eta),
    Condition("η(1+χ²p/α)", eta * (1 + R / p)),
    Condition("ε_u", eps_u, strict=True),
    Condition("ε_v", eps_v, strict=True),
)


def _mutants(d: dict[sp.Symbol, sp.Expr], sharp: bool) -> tuple[Mutant, ...]:
    """The weakened versions that some instance refutes."""
    personal = (1 + i_theta_v) * sigma_v**2 / (tau * L_v)
    shared = (1 + i_theta) * sigma_u**2 / (m * tau * L_u)
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
        Mutant("k_zero", "K = 0", {K: sp.Integer(0)}),
        Mutant("present_dropped", "p² dropped: no joint-step error", {q: sp.Integer(0)}),
        Mutant("present_halved", "p² halved", {q: p**2 / 2}),
        Mutant("present_s1", "χ²p²/α dropped from S₁", {S_1: d[S_1] - personal * R}),
        Mutant("alpha_sigma_u", f"{'1+α/m' if sharp else '1+α'} → 1 on σ_u²", {S_1: d[S_1] - (N - 1) * shared}),
        Mutant(
            "alpha_delta",
            f"{'1+αc' if sharp else '1+α'} → 1 on δ²",
            {S_1: d[S_1] - (1 + omega) * (Q - c) * delta**2 / L_u},
        ),
    ]
    if sharp:
        out.append(Mutant("kept_full", "first gradients kept in full", {weight_u: 1 - eps_u + 1 / tau}))
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
        algorithms=("fedsim",),
        definitions=definitions,
        conditions=CONDITIONS,
        free=FREE,
        shared="grad_u_sq",
        diversity="diversity",
        written={"tau_u": r"\tau"},
        mutants=_mutants(definitions, sharp),
    )


FS = _theorem(
    "FS",
    "FedSim, explicit constants",
    "rate: Pillutla et al. 2022 (arXiv 2204.03809), up to constants; constants: derived in this project",
    sharp=False,
)
FS_STAR = _theorem(
    "FS*",
    "FedSim, sharper sampling and drift terms, first gradients kept",
    "derived in this project",
    sharp=True,
)
