"""Constants that a run itself refutes: F below F★, a diversity beyond δ² + ρ²X, slopes that change too fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fedconv.analysis.theorems.split.facts import GRADIENT, Inputs
from fedconv.core.run import Experiment, single_torch_thread
from fedconv.core.streams import Streams
from fedconv.methods.split import State
from fedconv.methods.split.torch_engine import draw_noise

if TYPE_CHECKING:
    import xarray as xr

BELOW = 1e-9
"""Share of the terms of F by which F may lie below F★: the rounding of both, and of the system that gave F★."""

BEYOND = 1e-9
"""Relative excess of a diversity that is rounding: δ may be attained at every point."""

PATH = 32
"""Rounds along which the Lipschitz constants are checked."""

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


def refuted_slopes(experiment: Experiment, inputs: Inputs) -> list[str]:
    """Sentences for the Lipschitz constants (those that are not estimated) that the first PATH rounds of replicate 0
    refute, the worst of each block.

    For every client and consecutive points ‖Δ∇_uF_i‖ ≤ L_u‖Δu‖ + L_uv‖Δv_i‖ and ‖Δ∇_vF_i‖ ≤ L_v‖Δv_i‖ + L_vu‖Δu‖. The
    path is walked again, apart from any run, so that no recorded number depends on it. Experiments of another
    class, which draw their gradients in their own way, are not walked.
    """
    if type(experiment) is not Experiment:
        return []
    problem, algorithm, known = experiment.problem, experiment.algorithm, experiment.problem.constants
    streams, replicates = Streams(experiment.seed), np.zeros(1, dtype=int)
    clients = problem.everyone()
    state = State(experiment.start.u.to(problem.device)[None], experiment.start.v.to(problem.device)[None])
    worst: dict[str, tuple[float, str]] = {}
    before: tuple[Any, ...] | None = None
    with single_torch_thread():
        for t in range(min(experiment.T, PATH) + 1):
            u = state.u[:, None, :].expand(-1, problem.n, -1)
            slopes = [g(u, state.v, clients)[0].cpu().numpy() for g in (problem.grad_u, problem.grad_v)]
            here = (u[0].cpu().numpy(), state.v[0].cpu().numpy(), *slopes)
            if before is not None:
                sizes = [np.linalg.norm(x, axis=-1) for x in here[:2]]
                du, dv, *changes = (np.linalg.norm(x - y, axis=-1) for x, y in zip(here, before, strict=True))
                for b, changed in zip("uv", changes, strict=True):
                    other = "v" if b == "u" else "u"
                    (own, size), (cross, away) = ((du, sizes[0]), (dv, sizes[1]))[:: 1 if b == "u" else -1]
                    L, L_cross = getattr(known, f"L_{b}"), getattr(known, f"L_{b}{other}")
                    if "estimated" in (L.grade, L_cross.grade) or not np.isfinite([L.value, L_cross.value]).all():
                        continue
                    allowed = L.value * own + L_cross.value * cross
                    e = GRADIENT * (L.value * size + L_cross.value * away)
                    e = 10 * e + max(10, problem.n) * inputs.slopes["uv".index(b)]
                    over = changed - allowed * (1 + BEYOND) - e
                    i = int(np.where(np.isfinite(over), over, -np.inf).argmax())
                    if over[i] > worst.get(b, (0.0, ""))[0]:
                        mixed = f" or L_{b}{other} = {L_cross.value:.6g}" if cross[i] > 0 else ""
                        words = (
                            f"rounds {t - 1} and {t} refute L_{b} = {L.value:.6g}{mixed}: ∇_{b}F_{i} changes by"
                            f" {changed[i]:.9g} between them, more than L_{b}‖Δ{b}‖ + L_{b}{other}‖Δ{other}‖ ="
                            f" {allowed[i]:.9g}"
                        )
                        worst[b] = (float(over[i]), words)
            if t == min(experiment.T, PATH):
                break
            before = here
            order = streams.cohorts(replicates, t, problem.n, algorithm.m)
            cohort = torch.from_numpy(order[:, : algorithm.m]).to(problem.device)
            drawn = draw_noise(problem, algorithm, experiment.noise, streams, replicates, t, algorithm.m, absent=False)
            state = algorithm.step(problem, state, cohort, drawn)
    return [words for _, words in worst.values()]
