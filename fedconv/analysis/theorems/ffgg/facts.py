"""From a run of FFGG, recorded or planned, to the numbers and flags that its theorems ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fedconv.analysis.theorems.statement import StatementInputs, check_measured
from fedconv.core.trace import read
from fedconv.methods.ffgg.robust.threat import Byzantine
from fedconv.problems.base import GRADES, Constant, Grade
from fedconv.problems.envelopes.base import EnvelopeConstants, EnvelopeProblem
from fedconv.problems.errors import InputError
from fedconv.problems.registry import build_problem

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.core.run import Runnable

ROUNDING = 2e-13
"""Relative rounding error of F(w)."""

SHIFT = 1e-14
"""Relative rounding error of w★ and of an iterate, on well-conditioned problems."""

SLOPE = 1e-13
"""Relative rounding error of a gradient: θ may be larger than w."""

ALIKE = 1e-12
"""Share of their size up to which gradients and curvatures count as equal."""

WORST_CONDITION = 1e4
"""Conditioning L_max/μ up to which it enlarges the rounding error of w★; also taken where no μ is known."""


def of_trace(trace: xr.Dataset) -> StatementInputs:
    """Inputs of a recorded run. Raises InputError for a trace that was recorded without measures."""
    check_measured(trace, "F", "FFGG")
    start = trace["u_start"].values
    found = statement_inputs(
        EnvelopeConstants.from_dict(read(trace, "envelope_constants")),
        read(trace, "algorithm"),
        read(trace, "shape"),
        int(trace.attrs["T"]),
        float(trace["F"].values[0, 0]),
        float(np.linalg.norm(start)),
        math.sqrt(float(trace["dist_sq"].values[0, 0])) if "dist_sq" in trace else None,
        float(np.abs(trace["v_start"].values).max(initial=0.0)) * math.sqrt(trace.sizes.get("personal", 0)),
    )
    if found.flags.get("copied") is not None:
        f = int(found.values["f"])
        problem = _rebuilt(trace)
        worlds = problem is not None and two_worlds(problem.restrict(range(problem.n - f)), f, torch.from_numpy(start))
        worlds = worlds and found.flags["copied"] < found.values["n"] - 2 * f
        found.flags["two_worlds"] = worlds
    return found


def of_experiment(experiment: Runnable) -> StatementInputs:
    """Inputs of an FFGG experiment, before any run."""
    problem: Any = experiment.problem
    honest: EnvelopeProblem = getattr(experiment, "honest", problem)
    w = experiment.start.u.to(honest.device)
    nearest = honest.nearest_minimiser(w)
    found = statement_inputs(
        honest.envelope_constants,
        experiment.algorithm.to_dict(),
        {"n": problem.n, "d_u": problem.d_u, "d_v": problem.d_v},
        experiment.T,
        float(honest.mean_envelope(w)),
        float(torch.linalg.vector_norm(w)),
        None if nearest is None else float(torch.linalg.vector_norm(w - nearest)),
        float(experiment.start.v.abs().max()) * math.sqrt(problem.d_v) if problem.d_v else 0.0,
    )
    if found.flags.get("copied") is not None:
        f = problem.n - honest.n
        found.flags["two_worlds"] = found.flags["copied"] < problem.n - 2 * f and two_worlds(honest, f, w)
    return found


def two_worlds(honest: EnvelopeProblem, f: int, w: torch.Tensor) -> bool:
    """Whether the honest clients are those of Theorem 7B(e): n − 2f times (μ/2)‖w − w^0‖², then f times
    (μ/2)‖w − x‖² with x ≠ w^0."""
    constants = honest.envelope_constants
    alike = constants.L_max.value <= constants.mu.value * (1 + ALIKE)
    if not (f >= 1 and honest.n > f and constants.quadratic and alike):
        return False
    slopes = honest.envelope_grad(w.expand(honest.n, -1), honest.everyone())
    most, rest = slopes[: honest.n - f], slopes[honest.n - f :]
    size = float(torch.linalg.vector_norm(rest[0]))
    near = max(float(most.abs().max()), float((rest - rest[0]).abs().max()))
    return size > 0 and near <= ALIKE * size


def _rebuilt(trace: xr.Dataset) -> EnvelopeProblem | None:
    """The problem of a trace, from its spec; None where that does not build one."""
    try:
        problem = build_problem(read(trace, "problem"))
    except InputError:
        return None
    return problem if isinstance(problem, EnvelopeProblem) else None


def statement_inputs(
    constants: EnvelopeConstants,
    algorithm: Mapping[str, Any],
    shape: Mapping[str, int],
    T: int,
    F_start: float,
    w_start: float,
    R_0: float | None,
    theta_start: float = 0.0,
) -> StatementInputs:
    """The theorems' inputs from plain data. ``F_start`` = F(w^0), ``w_start`` = ‖w^0‖, ``R_0`` = ‖w^0 − w★‖ or None,
    ``theta_start``: a bound of the first θ's norms, which inexact fine-tuning starts from.

    With Byzantine clients the constants are those of the honest. noise, noise_w, noise_g: rounding errors of a
    difference of F, of a distance to w★ and of ‖∇F‖.
    """
    f = 0 if algorithm.get("byzantine") is None else int(algorithm["byzantine"]["f"])
    values = _numbers(constants) | {
        "n": float(shape["n"]),
        "m": float(algorithm["m"]),
        "tau": float(algorithm["tau"]),
        "T": float(T),
        "gamma": float(algorithm["gamma"]),
        "K": float(algorithm["fine_tuning"]["steps"] or 0),
        "tau_max": float((algorithm.get("asynchrony") or {}).get("tau_max", 0)),
        "f": float(f),
    }
    inexact = algorithm["fine_tuning"]["mode"] != "exact"
    values |= _noise(constants, F_start, w_start, R_0, theta_start if inexact else 0.0)
    flags: dict[str, Any] = {
        "kind": _kind(algorithm, shape["n"]),
        "fine_tuning": algorithm["fine_tuning"]["mode"],
        "warm": bool(algorithm["fine_tuning"]["warm"]),
        "convex": constants.convex,
        "overpersonalized": constants.overpersonalized,
        "strongly_convex": constants.strongly_convex,
        "quadratic": constants.quadratic,
        "vacuous": constants.vacuous,
        "F_star_known": constants.F_star.grade == "exact",
        "minimiser_known": R_0 is not None,
        "assignment": (algorithm.get("asynchrony") or {}).get("assignment", "none"),
    }
    notes = ["every client's loss is constant after fine-tuning (vacuous)"] if constants.vacuous else []
    if algorithm.get("byzantine") is not None:
        more, words = _byzantine(algorithm["byzantine"], shape["n"], constants)
        values, flags = values | more, flags | words
    return StatementInputs(values, flags, _grade(constants), tuple(notes), scale=abs(F_start))


def _numbers(constants: EnvelopeConstants) -> dict[str, float]:
    """The constants under the names of the formulas; squares become their roots, so that they print as squares."""
    named = {
        "L": "L", "L_max": "L_max", "mu": "mu", "mu_v": "mu_v", "L_theta": "L_theta", "L_uv": "L_uv",
        "L_block": "L_u", "ell_block": "ell_u", "L_F": "L_F", "F_star": "F_star", "G": "G",
    }  # fmt: skip
    out = {name: getattr(constants, field).value for field, name in named.items()}
    out["zeta"], out["B"] = math.sqrt(constants.zeta_sq.value), math.sqrt(constants.B_sq.value)
    return out | {"inf_mean": float(np.mean(constants.inf_m))}


def _noise(
    constants: EnvelopeConstants, F_start: float, w_start: float, R_0: float | None, theta: float
) -> dict[str, float]:
    L, L_max, mu, F_star = constants.L_block.value, constants.L_max.value, constants.mu.value, constants.F_star.value
    condition = min(L_max / mu, WORST_CONDITION) if mu > 0 else WORST_CONDITION
    size = w_start + (R_0 or 0.0) + (math.sqrt(2 * (abs(F_start) + abs(F_star)) / L) if L > 0 else 0.0)
    shift = SHIFT * max(condition, 1.0) * size
    return {
        "noise": ROUNDING * (abs(F_start) + abs(F_star)) + L_max * shift**2,
        "noise_w": shift,
        "noise_g": SLOPE * (max(L, L_max) * size + (constants.L_uv.value * theta if theta > 0 else 0.0)),
    }


def _kind(algorithm: Mapping[str, Any], n: int) -> str:
    """Which of the page's theorems the run is about: exact (3, full), sampled (3, partial), inexact (4), local (5),
    asynchronous (6), byzantine (7), or mixed: none of them."""
    if algorithm.get("byzantine") is not None:
        return "byzantine"
    if algorithm.get("asynchrony") is not None:
        return "asynchronous"
    full, exact, one = algorithm["m"] == n, algorithm["fine_tuning"]["mode"] == "exact", algorithm["tau"] == 1
    if one and exact:
        return "exact" if full else "sampled"
    if full:
        return "inexact" if one else "local"
    return "mixed"


def _byzantine(
    table: Mapping[str, Any], n: int, constants: EnvelopeConstants
) -> tuple[dict[str, float], dict[str, Any]]:
    """κ and β of the aggregator, ‖Agg − ∇F‖² ≤ κV + β‖∇F‖², and what is known of the threat."""
    from fedconv.methods.ffgg.robust.robustness import robustness

    threat = Byzantine(**table)
    found = robustness(threat, n)
    flags = {
        "aggregator": threat.aggregator,
        "attack": threat.attack,
        "copied": threat.client,
        "pre": threat.pre,
        "randomised": found.randomised,
        "clipping": threat.aggregator == "centred_clipping",
        "trim": threat.trim,
    }
    B = math.sqrt(constants.B_sq.value)
    useful = math.isfinite(B) and found.kappa * B**2 + found.beta < 1
    return {"kappa": found.kappa, "beta": found.beta, "B_a": B if useful else 0.0}, flags


def _grade(constants: EnvelopeConstants) -> Grade:
    """The weakest grade among the constants that are known at all."""
    known = [getattr(constants, f.name) for f in fields(constants)]
    grades: list[Grade] = [c.grade for c in known if isinstance(c, Constant) and math.isfinite(c.value)]
    weakest: Grade = max(grades, key=GRADES.index)
    return weakest
