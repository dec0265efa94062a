"""What a run of FFGG records: names, meaning and units of every variable, and the trace made of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.core.made import made_by_text
from fedconv.core.trace import FORMAT, Variable

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.methods.ffgg.experiment import FFGGExperiment

_POINT = ("replicate", "point")
_ROUND = ("replicate", "round")
_ONCE = ("replicate",)

VARIABLES: dict[str, Variable] = {
    "F": Variable(_POINT, "F(w^k), every client fine-tuned", "F"),
    "F_gap": Variable(_POINT, "D_k = F(w^k) − F★", "F"),
    "grad_sq": Variable(_POINT, "‖∇F(w^k)‖²", "F²/w²"),
    "dist_sq": Variable(_POINT, "‖w^k − w★‖², w★ the minimiser nearest to w^0", "w²"),
    "w": Variable(("replicate", "point", "shared"), "w^k", "w"),
    "update_sq": Variable(_ROUND, "‖ĝ^k‖² with w^{k+1} = w^k − γ ĝ^k", "F²/w²"),
    "smooth_ratio": Variable(
        _ROUND, "max_m ‖∇F_m(w^{k+1}) − ∇F_m(w^k)‖/‖w^{k+1} − w^k‖; 0 where the step is within rounding", "F/w²"
    ),
    "descent_excess": Variable(
        _ROUND, "max_m F_m(w^{k+1}) − F_m(w^k) − ⟨∇F_m(w^k), Δ⟩ − (L_u/2)‖Δ‖² with Δ = w^{k+1} − w^k", "F"
    ),
    "bias_sq": Variable(_ROUND, "‖b_k‖²: ĝ^k minus the cohort's mean gradient after exact fine-tuning", "F²/w²"),
    "fine_tuning_sq": Variable(_ROUND, "E_k²: the cohort's mean ‖θ_m − θ★_m(w^k)‖² after fine-tuning", "θ²"),
    "fine_tuning_grad": Variable(_ROUND, "the cohort's mean ‖∇_θ f_m(w^k, θ_m)‖ after fine-tuning", "F/θ"),
    "fine_tuning_steps": Variable(_ROUND, "largest number of gradient steps in θ by a client of the cohort", "1"),
    "fine_tuning_start_sq": Variable(_ONCE, "E_in²: mean ‖θ_m^0 − θ★_m(w^0)‖² of the first θ's, all clients", "θ²"),
    "local_gap": Variable(_ROUND, "cohort's mean of Σ_{t<τ} (F_m(w_{m,t}) − inf f_m)", "F"),
    "virtual_gap": Variable(_ROUND, "(1/τ) Σ_{t<τ} (F(w̄_t) − F★), w̄_t the cohort's mean", "F"),
    "applied_client": Variable(_ROUND, "client m whose gradient the k-th update applies", "1"),
    "delay": Variable(_ROUND, "d: the k-th update's gradient was asked for at w^{k−d}", "1"),
    "virtual_time": Variable(_ROUND, "virtual time of the k-th update", "time of the fastest client's job"),
    "stale_gap": Variable(_ROUND, "F_m(w^{k−d}) − inf f_m of the applied client m", "F"),
    "issued_gap": Variable(_ROUND, "F(w^s) − F★ at the iterate with which job s is issued", "F"),
    "covering_window": Variable(
        _ONCE, "W: every W consecutive updates apply each client (T + 1: some client is never applied)", "1"
    ),
    "aggregation_error_sq": Variable(_ROUND, "‖Agg − ∇F(w^k)‖²", "F²/w²"),
    "spread": Variable(_ROUND, "V(w^k): mean over the honest of ‖∇F_m − ∇F‖²", "F²/w²"),
    "honest_sq": Variable(_ROUND, "Q: mean over the honest of ‖∇F_m(w^k)‖²", "F²/w²"),
    "cohort": Variable(("replicate", "round", "client"), "client takes part in round k", "1"),
    "F_final": Variable(_ONCE, "F(w^T)", "F"),
    "u_final": Variable(("replicate", "shared"), "w^T", "w"),
    "u_start": Variable(("shared",), "w^0", "w"),
    "v_start": Variable(("client", "personal"), "the first θ's", "θ"),
}
"""With Byzantine clients F, F★, w★ and all means are those of the honest clients."""


def assemble(
    experiment: FFGGExperiment, blocks: list[dict[str, np.ndarray]], first: int, attrs: dict[str, Any]
) -> xr.Dataset:
    """One Dataset (replicate, point k = 0..T, round k = 0..T−1, client) from blocks of consecutive replicates."""
    import xarray as xr

    arrays = {key: np.concatenate([b[key] for b in blocks]) for key in blocks[0]}
    arrays["u_start"] = experiment.start.u.cpu().numpy()
    arrays["v_start"] = experiment.start.v.cpu().numpy()
    unknown = set(arrays) - set(VARIABLES)
    assert not unknown, f"no description of {unknown}"
    count = len(arrays["F_final"])
    return xr.Dataset(
        {
            key: (variable.dims, arrays[key], {"long_name": variable.long_name, "units": variable.units})
            for key, variable in VARIABLES.items()
            if key in arrays
        },
        coords={
            "replicate": np.arange(first, first + count),
            "point": np.arange(experiment.T + 1),
            "round": np.arange(experiment.T),
            "client": np.arange(experiment.problem.n),
        },
        attrs=provenance(experiment) | attrs,
    )


def provenance(experiment: FFGGExperiment) -> dict[str, Any]:
    """What is needed to know where a trace comes from; every value is a string, a number or a JSON text.

    ``envelope_constants`` are the honest clients'.
    """
    problem = experiment.problem
    return {
        "format": FORMAT,
        "name": experiment.name,
        "problem": json.dumps(problem.spec if problem.spec is not None else {"family": problem.family}),
        "shape": json.dumps({"n": problem.n, "d_u": problem.d_u, "d_v": problem.d_v}),
        "envelope_constants": json.dumps(experiment.honest.envelope_constants.to_dict()),
        "algorithm": json.dumps(experiment.algorithm.to_dict()),
        "T": experiment.T,
        "seed": experiment.seed,
        "versions": made_by_text(),
    }
