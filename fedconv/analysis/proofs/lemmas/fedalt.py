"""The lemmas of FedAlt's proof as the theory states them: L1, L2 of both blocks, L3–L10."""

from __future__ import annotations

from fedconv.analysis.proofs.lemmas.base import Lemma, LemmaMutant, term
from fedconv.analysis.proofs.lemmas.common import (  # fmt: skip
    ALT,
    displacement,
    gap,
    inner,
    noise,
    sampling,
    server,
    unbiased,
)
from fedconv.analysis.theorems.base import (
    C,
    L_u,
    L_v,
    alpha,
    eta,
    i_alpha,
    i_theta_v,
    p,
    sigma_u,
    sigma_v,
    tau_u,
    tau_v,
    theta_v,
)

ONLY = ("fedalt",)


def drift(b: str) -> Lemma:
    """L2 of one block; C is the theorem's drift factor (the sharper one in FA*)."""
    L, tau, sigma, start = {
        "u": (L_u, tau_u, sigma_u, term("grad_u_i_sq")),
        "v": (L_v, tau_v, sigma_v, term("Y")),
    }[b]
    scale = C * (1 - 1 / tau) * eta**2
    inside = 2 * tau * start + sigma**2
    return Lemma(
        f"L2_{b}", f"drift of the {b} steps: L²ΣE‖w_k − w_0‖² ≤ C(1−1/τ)η²[2τ‖∇φ(w_0)‖² + σ²]", "upper", ONLY,
        L**2 * term(f"D_{b}"), scale * inside, each_client=True,
        mutants=(
            LemmaMutant("no_sigma", "the noise left out", rhs=scale * 2 * tau * start),
            LemmaMutant("third", "1/3 in place of C (noise alone drifts by 1/2)", rhs=scale * inside / C / 3),
        ),
    )  # fmt: skip


def personal() -> Lemma:
    """L4."""
    noise_part = (1 + i_theta_v) * eta**2 * sigma_v**2 / (2 * L_v * tau_v)
    gradients = ALT.gamma_v / 2 * term("sum_g")
    right = (
        -eta / (2 * L_v) * term("Y")
        - (1 - eta) * gradients
        + eta * (1 + eta * theta_v) / (2 * L_v * tau_v) * ALT.drift_v
        + noise_part
    )
    return Lemma(
        "L4", "personal descent of one client: Eφ(ṽ) − φ(v) ≤ −(η/2L_v)‖g_0‖² − (γ_v/2)(1−η)ΣE‖g_k‖² + drift + noise",
        "upper", ONLY, term("phi"), right, each_client=True,
        mutants=(
            LemmaMutant("no_sigma", "the noise left out", rhs=right - noise_part),
            LemmaMutant("no_eta", "1 in place of 1−η: no price of a long step", rhs=right - eta * gradients),
        ),
    )  # fmt: skip


def shared() -> Lemma:
    """L10."""
    step = L_u * ALT.gamma_u**2 / 2 * term("step_sq")
    young = i_alpha / (2 * L_u) * term("gap_sq") + alpha * L_u * ALT.gamma_u**2 / 2 * term("cohort_sq")
    right = -ALT.gamma_u * term("inner") + young + step
    return Lemma(
        "L10", "shared descent: E[F(u⁺,V⁺) − F(u,V⁺)] ≤ −γ_uE⟨∇_uF(u,Ṽ), ȳ⟩ + Young's terms + (L_uγ_u²/2)E‖step‖²",
        "upper", ONLY, term("change_u"), right,
        mutants=(
            LemmaMutant("half_step", "half of the last term", rhs=right - step / 2),
            LemmaMutant("no_young", "no price of the cohort's part in V⁺: α's terms left out", rhs=right - young),
        ),
        steady=ALT.gamma_u * (term("inner_cohort") - term("inner") + term("cross_noise")),
    )  # fmt: skip


LEMMAS: tuple[Lemma, ...] = (
    sampling(ALT),
    drift("u"),
    drift("v"),
    *noise(ALT, "u"),
    *noise(ALT, "v"),
    personal(),
    displacement(ALT),
    gap(ALT, 1 - p),
    unbiased(ALT),
    inner(ALT, "u"),
    server(ALT),
    shared(),
)
