"""From an experiment or a trace to the numbers that a theorem asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fedconv.core.trace import magnitudes, read
from fedconv.problems.base import Constants, Grade
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.core.run import Experiment


OBJECTIVE = 1e-13
"""Rounding of a value of F, as a share of the terms that it is a sum of."""

GRADIENT = 1e-14
"""Rounding of a gradient, as a share of the terms that it is a sum of."""

STEP = 1e-15
"""Rounding of an iterate in a step, as a share of its size."""


@dataclass(frozen=True)
class Inputs:
    """Values of ``fedconv.analysis.theorems.base.INPUTS`` by name; which blocks exist and move; how the constants are
    known.

    ``scale``: the size of the terms that F(u⁰,V⁰) is a sum of, + |F★|, for the rounding of ΔF₀; ``slopes``: the same of
    ∇_uF and ∇_vF, with what a step's rounding is worth; ``constants``: the problem's own, which runs may refute.
    """

    values: dict[str, float]
    blocks: tuple[bool, bool]
    grade: Grade
    scale: float
    notes: tuple[str, ...] = ()
    slopes: tuple[float, float] = (0.0, 0.0)
    constants: Constants | None = field(default=None, compare=False, repr=False)

    def with_diversity(self, mean_diversity: float) -> Inputs:
        """The a posteriori form: δ² replaced by a mean diversity of the visited points, ρ by 0."""
        return replace(self, values=self.values | {"delta": math.sqrt(mean_diversity), "rho": 0.0})


def of_experiment(experiment: Experiment) -> Inputs:
    """Inputs of an experiment, before any run."""
    problem, algorithm, noise = experiment.problem, experiment.algorithm, experiment.noise
    return theorem_inputs(
        problem.constants,
        algorithm.to_dict(),
        noise.to_dict(),
        {"n": problem.n, "d_u": problem.d_u, "d_v": problem.d_v},
        experiment.T,
        float(problem.objective(experiment.start.u.to(problem.device), experiment.start.v.to(problem.device))),
        magnitudes(experiment),
    )


def of_trace(trace: xr.Dataset) -> Inputs:
    """Inputs of a recorded run, from its provenance and F(u⁰, V⁰)."""
    return theorem_inputs(
        Constants.from_dict(read(trace, "constants")),
        read(trace, "algorithm"),
        read(trace, "noise"),
        read(trace, "shape"),
        int(trace.attrs["T"]),
        float(trace["F"].values[0, 0]),
        read(trace, "magnitudes") if "magnitudes" in trace.attrs else None,
    )


def theorem_inputs(
    constants: Constants,
    algorithm: Mapping[str, Any],
    noise: Mapping[str, Any],
    shape: Mapping[str, int],
    T: int,
    F_start: float,
    sizes: Mapping[str, float] | None = None,
) -> Inputs:
    """The theorems' inputs from plain data; ``sizes``: ``fedconv.core.trace.magnitudes`` where they are known.

    η: the theorems take γ_u = η/(L_u τ_u) and γ_v = η/(L_v τ_v) with one η. Where the two step sizes imply different
    η, the larger is taken and the other block's L is raised to match: a larger Lipschitz constant is valid too.
    A block that is missing (d = 0) or never moves (τ = 0) leaves the theorem: its measure, noise and cross terms drop.
    """
    shared = shape["d_u"] > 0 and algorithm["tau_u"] > 0
    personal = shape["d_v"] > 0 and algorithm["tau_v"] > 0
    if not (shared or personal):
        raise InputError("a theorem needs a block that exists and moves; here neither u nor v does")
    L = {"u": constants.L_u.value, "v": constants.L_v.value}
    present = {"u": shared, "v": personal}
    joint = algorithm["name"] == "fedsim"
    tau = {b: algorithm[f"tau_{b}"] if present[b] or joint else 1 for b in "uv"}
    implied = {b: algorithm[f"gamma_{b}"] * L[b] * tau[b] for b in "uv" if present[b]}
    notes: list[str] = []
    for b, value in implied.items():
        if not value > 0:
            raise InputError(f"a theorem needs gamma_{b} > 0 and L_{b} > 0; got eta = {value} from their product")
    eta = max(implied.values())
    chi = 0.0
    for b in "uv":
        if not present[b]:
            L[b] = 1.0
        elif implied[b] < eta * (1 - 1e-12):
            L[b] = eta / (algorithm[f"gamma_{b}"] * tau[b])
            notes.append(f"L_{b} raised to {L[b]:.6g} so that both step sizes belong to η = {eta:.6g}")
    if shared and personal:
        chi = max(constants.L_uv.value, constants.L_vu.value) / math.sqrt(L["u"] * L["v"])
    gap = F_start - constants.F_star.value
    sizes = sizes or {"F": abs(F_start), "grad_u": 0.0, "grad_v": 0.0, "u": 0.0, "v": 0.0}
    scale = max(abs(F_start), sizes["F"]) + abs(constants.F_star.value)
    slopes = {b: _slope(sizes, b, algorithm[f"gamma_{b}"]) if present[b] else 0.0 for b in "uv"}
    if gap < -1e-9 * max(scale, 1.0):
        raise InputError(
            f"F(u⁰, V⁰) = {F_start:.9g} lies below F_star = {constants.F_star.value:.9g}: F_star is wrong, or the start"
            " is so far away that rounding decides"
        )
    values = {
        "n": float(shape["n"]), "m": float(algorithm["m"]), "tau_u": float(tau["u"]), "tau_v": float(tau["v"]),
        "T": float(T), "eta": eta, "L_u": L["u"], "L_v": L["v"], "chi": chi,
        "sigma_u": noise["sigma_u"] if shared else 0.0, "sigma_v": noise["sigma_v"] if personal else 0.0,
        "delta": constants.delta.value if shared else 0.0, "rho": constants.rho.value if shared else 0.0,
        "gap0": max(gap, 0.0),
    }  # fmt: skip
    return Inputs(
        values, (shared, personal), constants.grade, scale, tuple(notes), (slopes["u"], slopes["v"]), constants
    )


def _slope(sizes: Mapping[str, float], b: str, gamma: float) -> float:
    """The rounding of a gradient: of the terms that it is a sum of, and of x − γg, as if the gradient were wrong."""
    return GRADIENT * sizes[f"grad_{b}"] + STEP * sizes[b] / gamma
