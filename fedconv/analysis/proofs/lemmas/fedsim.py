"""The lemmas of FedSim's proof as the theory states them: L1, L2', L3, L5, L7–L9 at V, L11."""

from __future__ import annotations

from fedconv.analysis.proofs.lemmas.base import Lemma, LemmaMutant, term
from fedconv.analysis.proofs.lemmas.common import (  # fmt: skip
    SIM,
    displacement,
    gap,
    inner,
    noise,
    sampling,
    server,
    unbiased,
)
from fedconv.analysis.theorems.base import C, L_u, L_v, alpha, chi, eta, i_alpha, p, sigma_u, sigma_v, tau_u

ONLY = ("fedsim",)


def drift() -> Lemma:
    """L2'; C is the theorem's drift factor C' (the sharper one in FS*)."""
    scale = C * (1 - 1 / tau_u) * eta**2
    gradients = 2 * tau_u * (term("grad_u_i_sq") / L_u + term("Y") / L_v)
    inside = gradients + sigma_u**2 / L_u + sigma_v**2 / L_v
    return Lemma(
        "L2'", "drift of both blocks: Σs_k ≤ C'(1−1/τ)η²[2τ(‖∇_uF_i‖²/L_u + ‖∇_vF_i‖²/L_v) + σ_u²/L_u + σ_v²/L_v]",
        "upper", ONLY, term("s"), scale * inside, each_client=True,
        mutants=(
            LemmaMutant("no_sigma", "the noise left out", rhs=scale * gradients),
            LemmaMutant("third", "1/3 in place of C' (noise alone drifts by 1/2)", rhs=scale * inside / C / 3),
        ),
    )  # fmt: skip


def joint() -> Lemma:
    """L11, with u⁺ − u = −γ_u·(cohort mean of y_i + z_i)."""
    square = SIM.gamma_u**2 * term("step_sq")
    personal = L_v / 2 * (p + chi**2 * p**2 * i_alpha) * term("displacement")
    right = -SIM.gamma_u * term("inner_cohort") + term("present_v") + L_u * (1 + alpha) / 2 * square + personal
    return Lemma(
        "L11", "joint descent: E[F(u⁺,V⁺) − F(u,V)] ≤ E⟨∇_uF, u⁺−u⟩ + avg E⟨∇_vF_i, v_i⁺−v_i⟩ + L_u(1+α)/2 E‖u⁺−u‖² "
        "+ (L_v/2)(p + χ²p²/α)·displacement", "upper", ONLY, term("change"), right,
        mutants=(
            LemmaMutant("half_step", "half of the price of the u step", rhs=right - L_u * (1 + alpha) / 4 * square),
            LemmaMutant("no_displacement", "the personal displacement left out", rhs=right - personal),
        ),
        steady=L_v / 2 * (1 + chi**2 * p * i_alpha) * (p * term("displacement") - term("present_sq")),
    )  # fmt: skip


LEMMAS: tuple[Lemma, ...] = (
    sampling(SIM),
    drift(),
    *noise(SIM, "u"),
    *noise(SIM, "v"),
    displacement(SIM),
    gap(SIM, p),
    unbiased(SIM),
    inner(SIM, "u"),
    inner(SIM, "v"),
    server(SIM),
    joint(),
)
