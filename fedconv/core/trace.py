"""A run's record: an ``xarray.Dataset`` with named dimensions, units and provenance."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedconv.core.made import made_by_text
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.core.run import Experiment
    from fedconv.problems.base import Problem

FORMAT = 1


class Variable(NamedTuple):
    """Dimensions, meaning and units of a recorded variable. Units are products of [F], [u] and [v]."""

    dims: tuple[str, ...]
    long_name: str
    units: str


_ROUND = ("replicate", "round")
VARIABLES: dict[str, Variable] = {
    "F": Variable(_ROUND, "F(u^t, V^t)", "F"),
    "grad_u_sq": Variable(_ROUND, "‖∇_uF(u^t, V^t)‖² (X of FedSim)", "F²/u²"),
    "grad_v_sq": Variable(_ROUND, "Y: (1/n) Σ_i ‖∇_vF_i(u^t, v_i^t)‖²", "F²/v²"),
    "diversity": Variable(_ROUND, "(1/n) Σ_i ‖∇_uF_i − ∇_uF‖² at (u^t, V^t)", "F²/u²"),
    "grad_u_virtual_sq": Variable(
        _ROUND, "‖∇_uF(u^t, Ṽ^{t+1})‖², Ṽ: virtual full participation (X of FedAlt)", "F²/u²"
    ),
    "diversity_virtual": Variable(_ROUND, "(1/n) Σ_i ‖∇_uF_i − ∇_uF‖² at (u^t, Ṽ^{t+1})", "F²/u²"),
    "drift_u": Variable(_ROUND, "D_u: (1/n) Σ_i Σ_k ‖ũ_{i,k} − u^t‖² over virtual local steps", "u²"),
    "drift_v": Variable(_ROUND, "D_v: (1/n) Σ_i Σ_k ‖ṽ_{i,k} − v_i^t‖² over virtual local steps", "v²"),
    "displacement": Variable(_ROUND, "(1/n) Σ_i ‖ṽ_i − v_i^t‖²", "v²"),
    "l6_gap_sq": Variable(_ROUND, "L6, left side: ‖∇_uF(u^t, V⁺) − ∇_uF(u^t, Ṽ)‖²", "F²/u²"),
    "l6_bound": Variable(_ROUND, "L6, right side: (1−p)² χ² L_u L_v (1/n) Σ_i ‖ṽ_i − v_i^t‖²", "F²/u²"),
    "l7_sampled": Variable(_ROUND, "L7, left side: ⟨g, (1/m) Σ_{i∈S} (y_i + z_i)⟩ at the measured gradient g", "F²/u²"),
    "l7_full": Variable(_ROUND, "L7, right side: ⟨g, (1/n) Σ_i y_i⟩ at the measured gradient g", "F²/u²"),
    "l7_real_sampled": Variable(_ROUND, "L7 with V⁺: ⟨∇_uF(u^t, V⁺), (1/m) Σ_{i∈S} y_i⟩", "F²/u²"),
    "l7_real_full": Variable(_ROUND, "L7 with V⁺: ⟨∇_uF(u^t, V⁺), (1/n) Σ_i y_i⟩", "F²/u²"),
    "cohort": Variable(("replicate", "round", "client"), "client takes part in round t", "1"),
    "F_final": Variable(("replicate",), "F(u^T, V^T)", "F"),
    "u_final": Variable(("replicate", "shared"), "u^T", "u"),
    "v_final": Variable(("replicate", "client", "personal"), "V^T", "v"),
    "u_start": Variable(("shared",), "u^0", "u"),
    "v_start": Variable(("client", "personal"), "V^0", "v"),
    "numbers_down": Variable(("round",), "float64 numbers sent by the server in round t (all clients together)", "1"),
    "numbers_up": Variable(("round",), "float64 numbers sent by the clients in round t (all clients together)", "1"),
}


def assemble(
    experiment: Experiment, blocks: list[dict[str, np.ndarray]], first: int, attrs: dict[str, Any]
) -> xr.Dataset:
    """One Dataset (replicate, round, client, ...) from the engines' blocks of consecutive replicates."""
    import xarray as xr

    arrays = {key: np.concatenate([b[key] for b in blocks]) for key in blocks[0]}
    problem, algorithm = experiment.problem, experiment.algorithm
    if "displacement" in arrays:
        arrays["l6_bound"] = l6_factor(experiment) * arrays["displacement"]
    arrays["u_start"] = experiment.start.u.cpu().numpy()
    arrays["v_start"] = experiment.start.v.cpu().numpy()
    moved = algorithm.m * problem.d_u if algorithm.tau_u else 0
    arrays["numbers_down"] = arrays["numbers_up"] = np.full(experiment.T, float(moved))
    count = len(arrays["F_final"])
    return xr.Dataset(
        {
            key: (
                VARIABLES[key].dims,
                arrays[key],
                {"long_name": VARIABLES[key].long_name, "units": VARIABLES[key].units},
            )
            for key in VARIABLES
            if key in arrays
        },
        coords={
            "replicate": np.arange(first, first + count),
            "round": np.arange(experiment.T),
            "client": np.arange(problem.n),
        },
        attrs=provenance(experiment) | attrs,
    )


def l6_factor(experiment: Experiment) -> float:
    """(1−p)² χ² L_u L_v = (1−p)² max(L_uv, L_vu)²."""
    constants = experiment.problem.constants
    absent = 1.0 - experiment.algorithm.m / experiment.problem.n
    return absent**2 * max(constants.L_uv.value, constants.L_vu.value) ** 2


def provenance(experiment: Experiment) -> dict[str, Any]:
    """What is needed to know where a trace comes from; every value is a string, a number or a JSON text."""
    problem = experiment.problem
    return {
        "format": FORMAT,
        "name": experiment.name,
        "problem": json.dumps(problem.spec if problem.spec is not None else {"family": problem.family}),
        "shape": json.dumps({"n": problem.n, "d_u": problem.d_u, "d_v": problem.d_v}),
        "constants": json.dumps(problem.constants.to_dict()),
        "algorithm": json.dumps(experiment.algorithm.to_dict()),
        "noise": json.dumps(experiment.noise.to_dict()),
        "gradient_bounds": json.dumps(written_bounds(problem)),
        "magnitudes": json.dumps(magnitudes(experiment)),
        "T": experiment.T,
        "seed": experiment.seed,
        "versions": made_by_text(),
    }


def magnitudes(experiment: Experiment) -> dict[str, float]:
    """``Problem.magnitudes`` at the start, and the norms of u^0 and (mean over clients) of v_i^0."""
    start, problem = experiment.start, experiment.problem
    u, v = start.u.to(problem.device), start.v.to(problem.device)
    F, grad_u, grad_v = problem.magnitudes(u, v)
    norms = float(u.norm()), float(v.norm(dim=-1).mean())
    return {"F": F, "grad_u": grad_u, "grad_v": grad_v, "u": norms[0], "v": norms[1]}


def written_bounds(problem: Problem) -> dict[str, float] | None:
    """What gradients never exceed, as plain data for provenance; None where no bound is known."""
    bounds = problem.gradient_bounds()
    return None if bounds is None else asdict(bounds)


def read(trace: xr.Dataset, key: str) -> dict[str, Any]:
    """A JSON attribute of a trace as a dict."""
    try:
        return json.loads(trace.attrs[key])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(
            f"a fedconv trace has a JSON attribute {key!r}; this dataset has none that can be read"
        ) from error


def need(trace: xr.Dataset, *names: str) -> None:
    """Raise InputError where a trace lacks a variable."""
    missing = [name for name in names if name not in trace]
    if missing:
        raise InputError(
            f"the trace must contain {', '.join(names)}; {', '.join(missing)} missing"
            f" (recorded at level {trace.attrs.get('level', 'unknown')!r})"
        )
