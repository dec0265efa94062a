"""What a run of FedSpa records: names, meaning and units of every variable, and the trace made of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.core.made import made_by_text
from fedconv.core.trace import FORMAT, Variable, written_bounds
from fedconv.methods.fedspa import costs
from fedconv.methods.fedspa.masks import layer_counts
from fedconv.methods.fedspa.measures import INVARIANTS, snapshots

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.methods.fedspa.experiment import FedSpaExperiment

_ROUND = ("replicate", "round")
_CLIENT = ("replicate", "round", "client")
_LAYER = ("replicate", "round", "client", "layer")
_ONCE = ("replicate",)

VARIABLES: dict[str, Variable] = {
    "f": Variable(_ROUND, "f_t(w^t)", "F"),
    "f_after": Variable(_ROUND, "f_t(w^{t+1})", "F"),
    "f_next": Variable(_ROUND, "f_{t+1}(w^{t+1})", "F"),
    "f_expected": Variable(_ROUND, "mean of f_t(w^{t+1}) over all cohorts of m clients, with the drawn noise", "F"),
    "grad_sq": Variable(_ROUND, "‖∇f_t(w^t)‖²", "F²/w²"),
    "diversity": Variable(_ROUND, "D_t: (1/n) Σ_k ‖∇f_k − ∇f_t‖² at w^t", "F²/w²"),
    "drift_sq": Variable(_ROUND, "(1/n) Σ_k ‖ḡ_k − ∇f_k(w^t)‖², ḡ_k the mean gradient of virtual local steps", "F²/w²"),
    "noise_sq": Variable(_ROUND, "mean of ‖m_k ⊙ ξ‖² over the cohort's local steps", "F²/w²"),
    "update_sq": Variable(_ROUND, "cohort's mean of ‖U_k‖²", "w²"),
    "alpha": Variable(_ROUND, "α_t, share of a layer's weights exchanged by a mask search", "1"),
    "jump": Variable(_ROUND, "J_t = f_{t+1}(w^{t+1}) − f_t(w^{t+1})", "F"),
    "jump_prune": Variable(_ROUND, "J_t, part of switching weights off", "F"),
    "jump_regrow": Variable(_ROUND, "J_t, part of switching weights on", "F"),
    "changed_l1": Variable(_ROUND, "Σ_k ‖(m_{k,t+1} − m_{k,t}) ⊙ w^{t+1}‖₁", "w"),
    "changed_max": Variable(_ROUND, "W_t: largest |w^{t+1}_j| over changed coordinates", "w"),
    "slope": Variable(_ROUND, "largest |∂_jF_k| over changed coordinates at points between the masked models", "F/w"),
    "slope_gap": Variable(_ROUND, "largest distance between such a segment and the nearest of its points", "w"),
    "hamming": Variable(_CLIENT, "Ham(m_{k,t}, m_{k,t+1})", "1"),
    "nnz": Variable(_LAYER, "active weights after the round", "1"),
    "asked": Variable(_LAYER, "r: weights to exchange", "1"),
    "pruned": Variable(_LAYER, "weights switched off", "1"),
    "regrown": Variable(_LAYER, "weights switched on", "1"),
    "mask_hash": Variable(_CLIENT, "sum of the active coordinates' marks (fixed 62-bit integers), modulo 2^64", "1"),
    "pruned_hash": Variable(_CLIENT, "the same of the coordinates switched off", "1"),
    "regrown_hash": Variable(_CLIENT, "the same of the coordinates switched on", "1"),
    "mask_distance": Variable(("replicate", "snapshot", "client", "other"), "Ham(m_k, m_l)", "1"),
    "bits_down": Variable(_ROUND, "bits sent by the server, all clients together", "bit"),
    "bits_up": Variable(_ROUND, "bits sent by the clients, all together", "bit"),
    "flops_train": Variable(_ROUND, "FLOPs of local steps, all clients together", "1"),
    "flops_search": Variable(_ROUND, "FLOPs of mask searches, all clients together", "1"),
    "breaches": Variable(("replicate", "round", "invariant"), "how often each invariant is broken", "1"),
    "cohort": Variable(_CLIENT, "client takes part in round t", "1"),
    "w": Variable(("replicate", "point", "coordinate"), "w^t", "w"),
    "mask": Variable(("replicate", "point", "client", "coordinate"), "m_{k,t}", "1"),
    "F_final": Variable(_ONCE, "f_T(w^T)", "F"),
    "w_final": Variable(("replicate", "coordinate"), "w^T", "w"),
    "mask_final": Variable(("replicate", "client", "coordinate"), "m_{k,T}", "1"),
    "w_start": Variable(("coordinate",), "w^0 = (u^0, mean v_i^0)", "w"),
    "u_start": Variable(("shared",), "u^0", "u"),
    "v_start": Variable(("client", "personal"), "V^0", "v"),
    "mask_start": Variable(("client", "coordinate"), "m_{k,0}", "1"),
    "budget": Variable(("client", "layer"), "s_{k,l}: weights that masks keep", "1"),
    "layer_size": Variable(("layer",), "d_l", "1"),
    "first_mask_bits": Variable(("client",), "bits of the first mask, sent once", "bit"),
    "fedavg_bits": Variable((), "2bd: bits of a client and round of FedAvg", "bit"),
    "fedavg_flops": Variable((), "3NBF: FLOPs of a client and round of FedAvg", "1"),
}
"""f_t(w) = (1/n) Σ_k F_k(m_{k,t} ⊙ w), ∇f_k = m_k ⊙ ∇F_k(m_k ⊙ w)."""


def assemble(
    experiment: FedSpaExperiment, blocks: list[dict[str, np.ndarray]], first: int, attrs: dict[str, Any]
) -> xr.Dataset:
    """One Dataset (replicate, round t < T, point t ≤ T, client, layer, coordinate) from consecutive blocks."""
    import xarray as xr

    method, layout, T = experiment.algorithm, experiment.layout, experiment.T
    arrays: dict[str, Any] = {key: np.concatenate([b[key] for b in blocks]) for key in blocks[0]}
    budgets = layer_counts(experiment.first_masks, layout)
    dense = costs.dense_flops(layout)
    arrays |= {
        "u_start": experiment.start.u.cpu().numpy(),
        "v_start": experiment.start.v.cpu().numpy(),
        "w_start": experiment.w_start.cpu().numpy(),
        "mask_start": experiment.first_masks,
        "budget": budgets,
        "layer_size": np.array(layout.sizes),
        "first_mask_bits": costs.first_mask_bits(budgets, layout),
        "fedavg_bits": np.array(costs.fedavg_bits(layout.d, method.value_bits)),
        "fedavg_flops": np.array(3.0 * method.tau * method.batch * dense),
    }
    unknown = set(arrays) - set(VARIABLES)
    assert not unknown, f"no description of {unknown}"
    coords: dict[str, Any] = {
        "replicate": np.arange(first, first + len(arrays["F_final"])),
        "round": np.arange(T),
        "client": np.arange(experiment.problem.n),
        "layer": np.arange(len(layout.layers)),
    }
    if "f" in arrays:
        coords |= {"invariant": np.arange(len(INVARIANTS)), "snapshot": snapshots(T)}
    if "w" in arrays:
        coords["point"] = np.arange(T + 1)
    return xr.Dataset(
        {
            key: (v.dims, arrays[key], {"long_name": v.long_name, "units": v.units})
            for key, v in VARIABLES.items()
            if key in arrays
        },
        coords=coords,
        attrs=provenance(experiment) | attrs,
    )


def provenance(experiment: FedSpaExperiment) -> dict[str, Any]:
    """What is needed to know where a trace comes from; every value is a string, a number or a JSON text.

    ``masked_constants``: of f under the masks (frozen) or under all masks (dynamic); ``sigma``: of assumption A2.
    """
    problem = experiment.problem
    return {
        "format": FORMAT,
        "name": experiment.name,
        "problem": json.dumps(problem.spec if problem.spec is not None else {"family": problem.family}),
        "shape": json.dumps({"n": problem.n, "d_u": problem.d_u, "d_v": problem.d_v}),
        "masked_constants": json.dumps(experiment.constants.to_dict()),
        "sigma": experiment.sigma,
        "algorithm": json.dumps(experiment.algorithm.to_dict()),
        "noise": json.dumps(experiment.noise.to_dict()),
        "gradient_bounds": json.dumps(written_bounds(problem)),
        "layers": json.dumps([[x.name, list(x.shape), x.positions, x.bias] for x in experiment.layout.layers]),
        "invariants": json.dumps(INVARIANTS),
        "deterministic": int(experiment.deterministic),
        "T": experiment.T,
        "seed": experiment.seed,
        "versions": made_by_text(),
    }
