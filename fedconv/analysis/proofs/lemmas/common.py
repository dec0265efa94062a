"""The lemmas that both algorithms share, in the reading of each: L1, L3, L5, L7, L8, L9.

Where one block moves alone its gradients drift by L²D; in a FedSim step both blocks move, and the drift of either
block's gradients is read as L(1+χ²)s̄, s_i = L_uD_{u,i} + L_vD_{v,i}.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from fedconv.analysis.proofs.lemmas.base import Lemma, LemmaMutant, term
from fedconv.analysis.theorems.base import (
    L_u,
    L_v,
    c,
    chi,
    delta,
    eta,
    i_omega,
    i_theta,
    i_theta_v,
    m,
    omega,
    p,
    rho,
    sigma_u,
    sigma_v,
    tau_u,
    tau_v,
    theta,
    theta_v,
)  # fmt: skip

ZERO = sp.Integer(0)


@dataclass(frozen=True)
class Reading:
    """How one algorithm reads the shared lemmas.

    ``drift_u``, ``drift_v``: what bounds Σ_k ‖∇F_i(k) − ∇F_i(start)‖² of the blocks; ``tau_v``: local v steps.
    """

    algorithm: str
    drift_u: sp.Expr
    drift_v: sp.Expr
    tau_v: sp.Symbol

    @property
    def gamma_u(self) -> sp.Expr:
        """γ_u = η/(L_uτ_u)."""
        return eta / (L_u * tau_u)

    @property
    def gamma_v(self) -> sp.Expr:
        """γ_v = η/(L_vτ_v)."""
        return eta / (L_v * self.tau_v)


ALT = Reading("fedalt", L_u**2 * term("D_u"), L_v**2 * term("D_v"), tau_v)
SIM = Reading("fedsim", L_u * (1 + chi**2) * term("s"), L_v * (1 + chi**2) * term("s"), tau_u)


def sampling(reading: Reading) -> Lemma:
    """L1 at x_i = y_i."""
    right = term("mean_sq") + c * term("spread")
    replaced = term("mean_sq") + (1 - p) / m * term("spread")
    return Lemma(
        "L1", "sampling without replacement: E‖cohort mean of y_i‖² = ‖ȳ‖² + c·(1/n)Σ‖y_i − ȳ‖²", "equality",
        (reading.algorithm,), term("cohort_sq"), right,
        mutants=(
            LemmaMutant("c_replaced", "c replaced by (1−p)/m, the factor of sampling with replacement", rhs=replaced),
            LemmaMutant("no_spread", "the spread over clients left out", rhs=term("mean_sq")),
        ),
    )  # fmt: skip


def noise(reading: Reading, b: str) -> list[Lemma]:
    """L3 of block b in its three claims: noise and drift, noise and start, size of the noise."""
    sigma, tau, young, inverse = {
        "u": (sigma_u, tau_u, theta, i_theta),
        "v": (sigma_v, reading.tau_v, theta_v, i_theta_v),
    }[b]
    algorithms = (reading.algorithm,)
    rz, rr, zz, gz, yz = (term(f"{x}_{b}") for x in ("rz", "rr", "zz", "gz", "yz"))
    right = young / 2 * rr + inverse / 2 * tau * sigma**2
    return [
        Lemma(
            f"L3_{b}", f"noise and drift of the {b} steps: E⟨r_i, z_i⟩ ≤ (θ/2)E‖r_i‖² + τσ²/(2θ)", "upper", algorithms,
            rz, right, each_client=True,
            mutants=(
                LemmaMutant("nothing", "the noise never meets the drift: E⟨r_i, z_i⟩ = 0", rhs=ZERO, kind="equality"),
                LemmaMutant("no_sigma", "τσ²/(2θ) left out", rhs=young / 2 * rr),
            ),
        ),
        Lemma(
            f"L3_{b}_start", f"the noise of the {b} steps does not meet the gradient at their start", "equality",
            algorithms, gz, ZERO, each_client=True,
            mutants=(LemmaMutant("along", "nor the gradients along the steps: E⟨y_i, z_i⟩ = 0", lhs=yz),),
        ),
        Lemma(
            f"L3_{b}_size", f"size of the noise of the {b} steps: E‖z_i‖² = τσ² (here noise attains A2)", "equality",
            algorithms, zz, tau * sigma**2, each_client=True,
            mutants=(LemmaMutant("one_step", "σ² in place of τσ²", rhs=sigma**2),),
        ),
    ]  # fmt: skip


def displacement(reading: Reading) -> Lemma:
    """L5."""
    tau, size = reading.tau_v, (1 + i_theta_v) * reading.tau_v * sigma_v**2
    inside = tau * term("sum_g") + size + theta_v * tau * reading.drift_v
    square = reading.gamma_v**2
    return Lemma(
        "L5", "personal displacement: E‖ṽ−v‖² ≤ γ_v²[τΣE‖g_k‖² + (1+1/θ_v)τσ_v² + θ_vτ·drift]", "upper",
        (reading.algorithm,), term("displacement"), square * inside, each_client=True,
        mutants=(
            LemmaMutant("no_sigma", "the noise left out", rhs=square * (inside - size)),
            LemmaMutant("one_step", "Σ‖g_k‖² in place of τΣ‖g_k‖²",
                        rhs=square * (inside - (tau - 1) * term("sum_g"))),
        ),
    )  # fmt: skip


def unbiased(reading: Reading) -> Lemma:
    """L7."""
    where = "(u, Ṽ)" if reading.algorithm == "fedalt" else "(u, V)"
    return Lemma(
        "L7", f"the cohort's mean step is unbiased against ∇_uF{where}", "equality", (reading.algorithm,),
        term("inner_cohort"), term("inner"),
        mutants=(
            LemmaMutant("real", "∇_uF(u, V⁺) in place of the measured gradient: both depend on the cohort",
                        lhs=term("real_cohort"), rhs=term("real_inner")),
        ),
    )  # fmt: skip


def inner(reading: Reading, b: str) -> Lemma:
    """L8, or its like for the v block of FedSim (client by client)."""
    if b == "u":
        gamma, tau, start, sums, drift, left = (
            reading.gamma_u, tau_u, term("X"), term("sum_h"), reading.drift_u, term("inner"),
        )  # fmt: skip
    else:
        gamma, tau, start, sums, drift, left = (
            reading.gamma_v, reading.tau_v, term("Y"), term("sum_g"), reading.drift_v, term("inner_v"),
        )  # fmt: skip
    right = gamma / 2 * (-tau * start - sums + drift)
    mutants = [LemmaMutant("no_drift", "the drift left out", rhs=right - gamma / 2 * drift)]
    if reading.algorithm == "fedsim" and b == "u":
        alone = right + gamma / 2 * (L_u**2 * term("D_u") - drift)
        mutants.append(LemmaMutant("u_alone", "the drift of u alone, L_u²D_u", rhs=alone))
    words = "⟨∇_uF, ȳ⟩" if b == "u" else "⟨∇_vF_i, y_i⟩ of the v steps"
    return Lemma(
        "L8" if b == "u" else "L8_v",
        f"inner product along the {b} steps: −γE{words} ≤ (γ/2)(−τ‖start‖² − ΣE‖h_k‖² + drift)", "upper",
        (reading.algorithm,), -gamma * left, right, each_client=b == "v", mutants=tuple(mutants),
    )  # fmt: skip


def server(reading: Reading) -> Lemma:
    """L9."""
    tau = tau_u
    spread = (1 + omega) * tau**2 * (delta**2 + rho**2 * term("X")) + (1 + i_omega) * tau * reading.drift_u
    noise_part = ((1 + i_theta) * tau * sigma_u**2 + theta * tau * reading.drift_u) / m
    right = tau * term("sum_h") + c * spread + noise_part
    return Lemma(
        "L9", "server step: E‖cohort mean of y_i+z_i‖² ≤ τΣE‖h_k‖² + c[(1+ω)τ²(δ²+ρ²X) + (1+1/ω)τ·drift] + noise/m",
        "upper", (reading.algorithm,), term("step_sq"), right,
        mutants=(
            LemmaMutant("no_delta", "the sampling term c[...] left out", rhs=right - c * spread),
            LemmaMutant("c_replaced", "c replaced by (1−p)/m", rhs=right + ((1 - p) / m - c) * spread),
            LemmaMutant("no_sigma", "the noise left out", rhs=right - noise_part),
        ),
    )  # fmt: skip


def gap(reading: Reading, share: sp.Expr) -> Lemma:
    """L6 (FedAlt: share 1−p of absent clients), or the same with the present ones, share p, as L11 needs it."""
    factor = chi**2 * L_u * L_v * term("displacement")
    absent = reading.algorithm == "fedalt"
    who, written = ("absent", "1−p") if absent else ("present", "p")
    mutants = [LemmaMutant("halved", f"half of ({written})²", rhs=share**2 / 2 * factor)]
    if absent:
        mutants.append(LemmaMutant("p_1_p", "p(1−p) in place of (1−p)²", rhs=p * (1 - p) * factor))
    return Lemma(
        "L6" if absent else "L6_present",
        f"the {who} clients' part of the gradient: E‖∇_uF(u,V⁺) − ∇_uF‖² ≤ ({written})²χ²L_uL_v·displacement", "upper",
        (reading.algorithm,), term("gap_sq"), share**2 * factor, mutants=tuple(mutants),
    )  # fmt: skip
