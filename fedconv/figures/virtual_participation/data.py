"""What virtual full participation is for: lemma L7's error with and without it, and which variables depend on S^t.

L7: E⟨∇_uF(u, Ṽ), (1/m)Σ_{i∈S} y_i⟩ = E⟨∇_uF(u, Ṽ), ȳ⟩, as Ṽ does not depend on the cohort S (the noises z_i, of mean
zero given Ṽ, are left out on both sides). With V⁺, which the run keeps, in place of Ṽ both factors depend on S, and
E⟨∇_uF(u, V⁺), (1/m)Σ_{i∈S} y_i − ȳ⟩ is not 0 but (1−p)/(n−1)·E (1/n)Σ_i⟨x̂_i − x̂, y_i − ȳ⟩, x̂_i = ∇_uF_i(u, ṽ_i) −
∇_uF_i(u, v_i).
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from fedconv.analysis.proofs.quantities import observe
from fedconv.analysis.proofs.replay.round_copies import draw as draw_copies
from fedconv.analysis.proofs.replay.visited_states import evenly, visit
from fedconv.analysis.verdicts.limits import student_lower, student_upper
from fedconv.core.run import Experiment, single_torch_thread
from fedconv.methods.split import LocalNoise, State
from fedconv.problem_file.settings import settings_from

CLIENTS, COHORT, CHI = 6, 2, 0.4
"""Clients; the cohort where χ varies; χ where the cohort varies."""
COHORTS = tuple(range(1, CLIENTS + 1))
CHIS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.95)
ERROR = 0.05
"""Error of each pair of limits, both sides together."""

KINDS = ("without", "with")
CAUSES = ("state", "noise_v", "noise_u", "cohort")
VARIABLES = ("v_virtual", "X", "v_next", "u_virtual", "gradient_real", "u_next")
"""Ṽ^{t+1}, X_t, V^{t+1}, the shared steps of all clients, ∇_uF(u^t, V^{t+1}), u^{t+1}."""


def experiment(m: int, chi: float, T: int) -> Experiment:
    """FedAlt with m of CLIENTS clients at cross-sensitivity χ."""
    tables: dict[str, Any] = {
        "name": "waves",
        "problem": {"family": "trigonometric", "n": CLIENTS, "d_u": 4, "d_v": 4, "chi": chi, "spread": 2.0},
        "noise": {"law": "gaussian", "sigma_u": 0.3, "sigma_v": 0.3},
        "start": {"kind": "normal", "scale": 0.5, "seed": 0},
        "algorithm": {"name": ["fedalt"], "m": m, "tau": 4, "eta": 0.5},
        "run": {"T": T, "seed": 0},
    }
    settings = settings_from(tables, "virtual-participation")
    return settings.experiment(settings.algorithms[0], 0.5)


def errors(trial: Experiment, states: int, replicates: int) -> dict[str, np.ndarray]:
    """L7's error ``without`` and ``with`` the construction, and ``size`` = E⟨∇_uF(u, Ṽ), ȳ⟩, each ``(replicates,)``.

    At ``states`` rounds of every replicate: one draw of all clients' noise, and all cohorts of m clients, whose mean is
    the exact expectation over S. Summed over the states; (1/m)Σ_{i∈S} y_i meets ∇_uF(u, Ṽ) in the recorded quantities
    as ⟨∇_uF(u, V⁺), ·⟩ − ⟨∇_uF(u, V⁺) − ∇_uF(u, Ṽ), ·⟩.
    """
    problem, algorithm = trial.problem, trial.algorithm
    constants = problem.constants
    visited, _ = visit(trial, evenly(trial.T, states), replicates)
    sampled = cohorts(problem.n, algorithm.m)
    count = len(sampled)
    total = {key: np.zeros(replicates) for key in (*KINDS, "size")}
    with single_torch_thread():
        for t, of_round in itertools.groupby(visited, key=lambda x: x.round):
            same = list(of_round)
            state = State(*(torch.from_numpy(np.stack([getattr(x, b) for x in same])) for b in "uv"))
            drawn = draw_copies(trial, [x.replicate for x in same], t, 1).noise
            noise = LocalNoise(drawn.u.repeat_interleave(count, 0), drawn.v.repeat_interleave(count, 0))
            seen = observe(
                problem, algorithm, state, noise, sampled.repeat(len(same), 1),
                (constants.L_u.value, constants.L_v.value),
            ).sample  # fmt: skip
            mean = {k: x.reshape(len(same), count).mean(1) for k, x in seen.items() if x.ndim == 1}
            total["without"] += mean["real_cohort"] - mean["real_inner"]
            total["with"] += mean["real_cohort"] - mean["cross"] - mean["inner"]
            total["size"] += mean["inner"]
    return total


def cohorts(n: int, m: int) -> Tensor:
    """All cohorts as rows ``(C(n, m), n)`` of bool."""
    out = torch.zeros(len(list(itertools.combinations(range(n), m))), n, dtype=torch.bool)
    for row, S in enumerate(itertools.combinations(range(n), m)):
        out[row, list(S)] = True
    return out


def ratio(above: np.ndarray, below: np.ndarray) -> tuple[float, float, float]:
    """mean(above)/mean(below) with Student limits of its linearisation, ``above`` and ``below`` in pairs."""
    value = float(above.mean() / below.mean())
    around = (above - value * below) / below.mean() + value
    return value, student_lower(around, ERROR / 2), student_upper(around, ERROR / 2)


def data(T: int = 12, states: int = 6, replicates: int = 48) -> xr.Dataset:
    """L7's error as a share of E⟨∇_uF(u, Ṽ), ȳ⟩ along runs of FedAlt, against p = m/n and against χ; and what changes
    when one cause alone is drawn anew."""
    by_p = [_shares(experiment(m, CHI, T), states, replicates) for m in COHORTS]
    by_chi = [_shares(experiment(COHORT, chi, T), states, replicates) for chi in CHIS]
    out = xr.Dataset(
        {"by_p": (("p", "kind", "limit"), np.array(by_p)), "by_chi": (("chi", "kind", "limit"), np.array(by_chi)),
         "depends": (("variable", "cause"), depends(experiment(COHORT, CHI, T)))},
        coords={"p": np.array(COHORTS) / CLIENTS, "chi": list(CHIS), "kind": list(KINDS),
                "limit": ["value", "low", "high"], "variable": list(VARIABLES), "cause": list(CAUSES)},
        attrs={"setting": f"FedAlt on a trigonometric problem, {CLIENTS} clients, 4 local steps", "m": COHORT,
               "n": CLIENTS, "chi": CHI, "error": ERROR, "replicates": replicates},
    )  # fmt: skip
    for key in ("by_p", "by_chi"):
        out[key].attrs = {"long_name": "error of L7 over E⟨∇_uF(u,Ṽ), ȳ⟩", "units": "no unit"}
    out["depends"].attrs = {"long_name": "1 where the variable changes with the cause alone", "units": "no unit"}
    out["p"].attrs = {"long_name": "share of clients sampled, m/n", "units": "no unit"}
    out["chi"].attrs = {"long_name": "cross-sensitivity χ", "units": "no unit"}
    return out


def _shares(trial: Experiment, states: int, replicates: int) -> list[tuple[float, float, float]]:
    found = errors(trial, states, replicates)
    return [ratio(found[kind], found["size"]) for kind in KINDS]


def depends(trial: Experiment) -> np.ndarray:
    """1 where a variable of VARIABLES changes when one of CAUSES alone is drawn anew, int8 ``(6, 4)``."""
    first, second = (
        {"state": state, "noise_v": noise.v, "noise_u": noise.u, "cohort": cohort}
        for state, noise, cohort in _two_rounds(trial)
    )
    base = _variables(trial, first)
    out = np.zeros((len(VARIABLES), len(CAUSES)), dtype=np.int8)
    for j, cause in enumerate(CAUSES):
        changed = _variables(trial, first | {cause: second[cause]})
        out[:, j] = [not np.array_equal(base[name], changed[name]) for name in VARIABLES]
    return out


def _two_rounds(trial: Experiment) -> list[tuple[State, LocalNoise, Tensor]]:
    """State, noise of all clients and cohort of two independent rounds with different cohorts."""
    visited, _ = visit(trial, [trial.T - 1], 2)
    every = cohorts(trial.problem.n, trial.algorithm.m)
    found = []
    for x, row in zip(visited, (0, -1), strict=True):
        state = State(torch.from_numpy(x.u)[None], torch.from_numpy(x.v)[None])
        found.append((state, draw_copies(trial, [x.replicate], x.round, 1).noise, every[row][None]))
    return found


def _variables(trial: Experiment, causes: dict[str, Any]) -> dict[str, np.ndarray]:
    """VARIABLES of one round. The virtual steps are those of a round that samples everybody."""
    problem, algorithm = trial.problem, trial.algorithm
    noise = LocalNoise(causes["noise_u"], causes["noise_v"])
    L = (problem.constants.L_u.value, problem.constants.L_v.value)
    state, cohort = causes["state"], causes["cohort"]
    seen = observe(problem, algorithm, state, noise, cohort, L)
    whole = observe(
        problem, replace(algorithm, m=problem.n), state, noise, torch.ones_like(cohort), L
    ).after  # fmt: skip
    after = seen.after
    at = state.u[:, None, :].expand(-1, problem.n, -1)
    real = problem.grad_u(at, after.v, problem.everyone()).mean(1)
    return {
        "v_virtual": whole.v.numpy(), "X": seen.sample["X"], "v_next": after.v.numpy(), "u_virtual": whole.u.numpy(),
        "gradient_real": real.numpy(), "u_next": after.u.numpy(),
    }  # fmt: skip
