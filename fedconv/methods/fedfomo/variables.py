"""What a run of FedFomo records: names, meaning and units of every variable, and the trace made of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.core.made import made_by_text
from fedconv.core.trace import FORMAT, Variable, written_bounds

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.methods.fedfomo.experiment import FedFomoExperiment

_ROUND = ("replicate", "round")
_CLIENT = ("replicate", "round", "client")
_POINT = ("replicate", "point", "client")
_PAIR = ("replicate", "round", "client", "other")
_ENDS = ("replicate", "client", "coordinate")

VARIABLES: dict[str, Variable] = {
    "loss": Variable(_POINT, "L_i(θ_i^{ℓ(t)}): target loss of the model as last mixed", "F"),
    "trained_loss": Variable(_POINT, "L_i of the model after the local training that followed", "F"),
    "local_loss": Variable(_POINT, "L_i of a model that the client trains alone, never mixing", "F"),
    "grad_sq": Variable(_POINT, "‖∇L_i(θ_i^{ℓ(t)})‖²", "F²/θ²"),
    "error": Variable(_POINT, "‖θ_i^{ℓ(t)} − c_i‖", "θ"),
    "affinity": Variable(("replicate", "point", "client", "other"), "P_ij before round t", "1"),
    "cohort": Variable(_CLIENT, "client takes part in round t", "1"),
    "mixed": Variable(_CLIENT, "client weighs candidates in round t", "1"),
    "weight": Variable(_PAIR, "w_ij of the model of client j for client i", "1"),
    "origin": Variable(_PAIR, "0 no candidate, 1 own trained model, 2 largest affinity, 3 explored", "1"),
    "gain": Variable(_PAIR, "Δ_ij = L_i(θ^0) − L_i(θ_j), as the client measured it", "F"),
    "distance": Variable(_PAIR, "D_ij = ‖θ_j − θ^0‖", "θ"),
    "score": Variable(_PAIR, "a_ij", "F/θ"),
    "total": Variable(_CLIENT, "S: sum of the positive scores; 0 where nothing is better", "F/θ"),
    "candidates": Variable(_CLIENT, "M_c: number of candidates, the own one included", "1"),
    "promised": Variable(_CLIENT, "Σ_n w_n Δ_n", "F"),
    "promised_ratio": Variable(_CLIENT, "Σ⁺ Δ_n²/c_n over Σ⁺ Δ_n/c_n, sums over Δ_n > 0", "F"),
    "decrease": Variable(_CLIENT, "L_i(θ^0) − L_i(θ^+)", "F"),
    "decrease_half": Variable(_CLIENT, "L_i(θ^0) − L_i((θ^0 + θ^+)/2)", "F"),
    "own_trained_gain": Variable(_CLIENT, "L_i(θ^0) − L_i(own trained model)", "F"),
    "spread": Variable(_CLIENT, "V = Σ_n w_n ‖θ_n − θ^+‖²", "θ²"),
    "shortfall": Variable(_CLIENT, "largest λD_n²/2 − Δ_n of a used candidate", "F"),
    "secant_error": Variable(_CLIENT, "|Δ_n − ⟨−g, d_n⟩| at the candidate where it most exceeds LD_n²/2", "F"),
    "secant_distance_sq": Variable(_CLIENT, "D_n² of that candidate", "θ²"),
    "secant_gain": Variable(_CLIENT, "Δ_n > 0 that most exceeds ⟨−g, d_n⟩", "F"),
    "secant_slope": Variable(_CLIENT, "⟨−g, d_n⟩ of that candidate", "F"),
    "efficient": Variable(_CLIENT, "largest 2Δ_r/(1 + √κ_r) of a candidate with Δ_r > 0", "F"),
    "efficient_count": Variable(_CLIENT, "2 max Δ_r/(1 + √k), k candidates having Δ > 0", "F"),
    "best_gain": Variable(_CLIENT, "largest Δ_n, or 0", "F"),
    "own_gain": Variable(_CLIENT, "Δ of the own trained model, or 0", "F"),
    "own_share": Variable(_CLIENT, "2/(1 + √κ) of the own trained model, 0 where its Δ is not positive", "1"),
    "linear_probe": Variable(_CLIENT, "largest Σ u_nΔ_n with Σ c_n u_n² = 1 among rivals of w", "F/(c)^½"),
    "linear_own": Variable(_CLIENT, "the same of w, rescaled", "F/(c)^½"),
    "linear_probe_sq": Variable(_CLIENT, "the same with c_n² for c_n, among rivals of w", "F/c"),
    "linear_own_sq": Variable(_CLIENT, "the same with c_n² for c_n, of w", "F/c"),
    "simplex_probe": Variable(_CLIENT, "largest Σ u_nΔ_n − (S/2) Σ c_n u_n² with Σ u_n = 1 among rivals of w", "F"),
    "simplex_own": Variable(_CLIENT, "the same of w", "F"),
    "nu": Variable(_CLIENT, "largest |validation loss − population loss| at θ^0 and the candidates", "F"),
    "population_decrease": Variable(_CLIENT, "decrease of the population's loss from θ^0 to θ^+", "F"),
    "nearest": Variable(_CLIENT, "least ‖θ_n − c_i‖ of a candidate", "θ"),
    "wrong_weights": Variable(
        _CLIENT, "candidates where w_n > 0 differs from ‖θ_n − c_i‖ < ‖θ^0 − c_i‖, rounding aside", "1"
    ),
    "wrong_weights_own": Variable(
        _CLIENT, "candidates of others where w_n > 0 differs from ‖θ_n − c_i‖ < ‖own trained − c_i‖", "1"
    ),
    "far_weight": Variable(_CLIENT, "weight of clients with ‖e_i‖ + (1−ρ)z + ρ‖e_n‖ ≤ ‖c_i − c_n‖", "1"),
    "far_weight_loose": Variable(_CLIENT, "weight of clients with ‖e_i‖ ≤ ‖c_i − c_n‖", "1"),
    "cross_weight": Variable(_CLIENT, "weight of clients whose target centre is another", "1"),
    "downloads": Variable(_ROUND, "models downloaded, all clients together", "1"),
    "explored": Variable(_ROUND, "those chosen by chance", "1"),
    "bits_down": Variable(_ROUND, "bits sent by the server, all clients together", "bit"),
    "bits_up": Variable(_ROUND, "bits sent by the clients (models and weights), all together", "bit"),
    "w": Variable(("replicate", "point", "client", "coordinate"), "θ_i^{ℓ(t)}", "θ"),
    "w_trained": Variable(("replicate", "point", "client", "coordinate"), "the model after local training", "θ"),
    "F_final": Variable(("replicate",), "(1/n) Σ_i L_i(θ_i^{ℓ(T)})", "F"),
    "w_final": Variable(_ENDS, "θ_i^{ℓ(T)}", "θ"),
    "w_trained_final": Variable(_ENDS, "the model last trained", "θ"),
    "affinity_final": Variable(("replicate", "client", "other"), "P after the last round", "1"),
    "u_start": Variable(("shared",), "u^0", "u"),
    "v_start": Variable(("client", "personal"), "V^0", "v"),
    "infimum": Variable(("client",), "lower bound of L_i; NaN where none is known", "F"),
    "target": Variable(("client",), "client whose target loss judges", "1"),
    "fedavg_bits": Variable((), "2bd: bits of a client and round of FedAvg", "bit"),
    "privacy_steps": Variable(("replicate", "client"), "noisy local steps over the run", "1"),
    "privacy_evaluations": Variable(("replicate", "client"), "validation losses evaluated over the run", "1"),
    "epsilon_train": Variable(("replicate", "client"), "ε of a training sample at the stated δ, over all rounds", "1"),
    "epsilon_validation": Variable(
        ("replicate", "client"), "ε of a validation sample at the stated δ; −1: none, ε is infinite", "1"
    ),
}
"""Of a client that does not weigh candidates in a round all numbers of that round are 0. Centres c_i, bias z and ρ are
those of Theorem 4 of the theory page, where clients are of that form."""


def assemble(
    experiment: FedFomoExperiment, blocks: list[dict[str, np.ndarray]], first: int, attrs: dict[str, Any]
) -> xr.Dataset:
    """One Dataset (replicate, round t < T, point t ≤ T, client, other) from blocks of consecutive replicates."""
    import xarray as xr

    method, problem, T = experiment.algorithm, experiment.problem, experiment.T
    arrays: dict[str, Any] = {key: np.concatenate([b[key] for b in blocks]) for key in blocks[0]}
    infima = np.array(experiment.judge.constants.infima)
    arrays |= {
        "u_start": experiment.start.u.cpu().numpy(),
        "v_start": experiment.start.v.cpu().numpy(),
        "infimum": np.where(np.isfinite(infima), infima, np.nan),
        "target": method.assignment(problem.n),
        "fedavg_bits": np.array(2.0 * method.value_bits * experiment.judge.d),
    }
    if method.privacy is not None and "cohort" in arrays:
        arrays |= spent(experiment, arrays)
    unknown = set(arrays) - set(VARIABLES)
    assert not unknown, f"no description of {unknown}"
    coords = {
        "replicate": np.arange(first, first + len(arrays["F_final"])),
        "round": np.arange(T),
        "client": np.arange(problem.n),
        "other": np.arange(problem.n),
        "point": np.arange(T + 1),
    }
    return xr.Dataset(
        {
            key: (v.dims, arrays[key], {"long_name": v.long_name, "units": v.units})
            for key, v in VARIABLES.items()
            if key in arrays
        },
        coords=coords,
        attrs=provenance(experiment) | attrs,
    )


def spent(experiment: FedFomoExperiment, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The privacy budget that a run has used, client by client: τ steps in every round it takes part in, and in every
    round it mixes the losses of θ^0 and of all candidates."""
    privacy, tau = experiment.algorithm.privacy, experiment.algorithm.tau
    assert privacy is not None
    steps = tau * arrays["cohort"].sum(axis=1)
    evaluations = np.where(arrays["mixed"], arrays.get("candidates", np.zeros(1)) + 1, 0.0).sum(axis=1)
    validation = privacy.epsilon(privacy.mu_validation(evaluations))
    return {
        "privacy_steps": steps,
        "privacy_evaluations": evaluations,
        "epsilon_train": privacy.epsilon(privacy.mu_train(steps)),
        "epsilon_validation": np.where(np.isfinite(validation), validation, -1.0),
    }


def provenance(experiment: FedFomoExperiment) -> dict[str, Any]:
    """What is needed to know where a trace comes from; every value is a string, a number or a JSON text.

    ``target_constants``: of the L_i; ``isotropic``: a, z, R and the number of clusters where clients are of Theorem 4's
    form.
    """
    problem, judge = experiment.problem, experiment.judge
    iso = judge.isotropic
    form = None if iso is None else {"a": iso.a, "z": iso.bias, "R": iso.separation}
    return {
        "format": FORMAT,
        "name": experiment.name,
        "problem": json.dumps(problem.spec if problem.spec is not None else {"family": problem.family}),
        "shape": json.dumps({"n": problem.n, "d_u": problem.d_u, "d_v": problem.d_v}),
        "target_constants": json.dumps(judge.constants.to_dict()),
        "own_targets": int(judge.own),
        "population": int(getattr(problem, "population_value", None) is not None),
        "isotropic": json.dumps(form),
        "algorithm": json.dumps(experiment.algorithm.to_dict()),
        "noise": json.dumps(experiment.noise.to_dict()),
        "gradient_bounds": json.dumps(written_bounds(problem)),
        "deterministic": int(experiment.deterministic),
        "T": experiment.T,
        "seed": experiment.seed,
        "versions": made_by_text(),
    }
