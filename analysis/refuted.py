"""Constants that a run itself refutes: F below F★, a diversity beyond δ² + ρ²X."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.inputs import GRADIENT, Inputs

if TYPE_CHECKING:
    import xarray as xr

BELOW = 1e-9
"""Share of the terms of F by which F may lie below F★: the rounding of both, and of the system that gave F★."""

BEYOND = 1e-9
"""Relative excess of a diversity that is rounding: δ may be attained at every point."""

SHARE = 1e-12
"""Share of ‖∇_uF‖² that is rounding in a diversity: an exact expectation of it is a difference of two such sums."""

PLACES = (("grad_u_sq", "diversity", "V^t"), ("grad_u_virtual_sq", "diversity_virtual", "Ṽ^{t+1}"))


def refuted(trace: xr.Dataset, inputs: Inputs) -> list[str]:
    """Sentences for the constants (those that are not estimated) that a recorded round refutes: the worst round.

    Every visited point has F ≥ F★ and (1/n) Σ ‖∇_uF_i − ∇_uF‖² ≤ δ² + ρ²‖∇_uF‖²; so have expectations. Rounds that are
    not finite refute nothing.
    """
    known = inputs.constants
    if known is None:
        return []
    out = []
    star, delta, rho = known.F_star.value, known.delta.value, known.rho.value
    with np.errstate(all="ignore"):
        if known.F_star.grade != "estimated" and "F" in trace:
            F = trace["F"].values
            if "F_final" in trace:
                F = np.concatenate([F, trace["F_final"].values[:, None]], axis=1)
            below = np.where(np.isfinite(F), star - F - BELOW * (inputs.scale + np.abs(F)), -np.inf)
            r, t = np.unravel_index(below.argmax(), below.shape)
            if below[r, t] > 0:
                out.append(f"round {t} refutes F_star = {star:.9g}: F(u^t, V^t) = {F[r, t]:.9g} lies below it")
        if "estimated" in (known.delta.grade, known.rho.grade) or not inputs.blocks[0]:
            return out
        for gradient, diversity, where in PLACES:
            if gradient not in trace or diversity not in trace:
                continue
            seen, allowed = trace[diversity].values, delta**2 + rho**2 * trace[gradient].values
            e = 10 * max(inputs.slopes[0], GRADIENT * np.sqrt(delta**2 if np.isfinite(delta) else 0.0))
            room = BEYOND * allowed + 2 * e * np.sqrt(np.abs(allowed)) + e**2 + SHARE * trace[gradient].values
            over = np.where(np.isfinite(seen) & np.isfinite(allowed), seen - allowed - room, -np.inf)
            r, t = np.unravel_index(over.argmax(), over.shape)
            if over[r, t] > 0:
                out.append(
                    f"round {t} refutes δ = {delta:.9g} with ρ = {rho:.9g}: at (u^t, {where}) the diversity is"
                    f" {seen[r, t]:.9g}, more than δ² + ρ²‖∇_uF‖² = {allowed[r, t]:.9g}"
                )
    return out
