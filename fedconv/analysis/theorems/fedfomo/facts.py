"""From a run of FedFomo, recorded or planned, to the numbers and flags that its theorems ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fedconv.analysis.theorems.statement import StatementInputs, check_measured
from fedconv.core.trace import read
from fedconv.problems.base import GRADES, Grade
from fedconv.problems.targets.base import TargetConstants

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.core.run import Runnable

ROUNDING = 2e-13
"""Relative rounding error of a loss."""

SHIFT = 1e-14
"""Relative rounding error of a model."""


def of_trace(trace: xr.Dataset) -> StatementInputs:
    """Inputs of a recorded run. Raises InputError for a trace that was recorded without measures."""
    check_measured(trace, "loss", "FedFomo")
    return statement_inputs(
        TargetConstants.from_dict(read(trace, "target_constants")),
        read(trace, "algorithm"),
        read(trace, "noise"),
        read(trace, "shape"),
        int(trace.attrs["T"]),
        read(trace, "isotropic"),
        bool(trace.attrs["own_targets"]),
        bool(trace.attrs["population"]),
        trace["loss"].values[0, 0],
        float(np.abs(trace["u_start"].values).sum() + np.abs(trace["v_start"].values).max(initial=0.0))
        + (float(trace["error"].values[0, 0].max()) if "error" in trace else 0.0),
    )


def of_experiment(experiment: Runnable) -> StatementInputs:
    """Inputs of a FedFomo experiment, before any run."""
    from fedconv.methods.fedfomo.experiment import FedFomoExperiment

    assert isinstance(experiment, FedFomoExperiment)
    problem, judge, start = experiment.problem, experiment.judge, experiment.start
    iso = judge.isotropic
    models = experiment.models.to(problem.device)
    return statement_inputs(
        judge.constants,
        experiment.algorithm.to_dict(),
        experiment.noise.to_dict(),
        {"n": problem.n, "d_u": problem.d_u, "d_v": problem.d_v},
        experiment.T,
        None if iso is None else {"a": iso.a, "z": iso.bias, "R": iso.separation},
        judge.own,
        getattr(problem, "population_value", None) is not None,
        judge.value(models, problem.everyone()).cpu().numpy(),
        float(torch.sum(start.u.abs()) + (start.v.abs().max() if start.v.numel() else 0.0))
        + (0.0 if iso is None else float(torch.linalg.vector_norm(experiment.models - iso.c.cpu(), dim=-1).max())),
    )


def statement_inputs(
    constants: TargetConstants,
    algorithm: Mapping[str, Any],
    noise: Mapping[str, Any],
    shape: Mapping[str, int],
    T: int,
    isotropic: Mapping[str, float] | None,
    own: bool,
    population: bool,
    start: np.ndarray,
    size: float,
) -> StatementInputs:
    """The theorems' inputs from plain data. ``start``: L_i at θ_i^0 ``(n,)``; ``size``: of the start's numbers
    and of its distances to the centres of Theorem 4, whose sum bounds the size of the centres.

    L and lam: smoothness and weak convexity of the L_i; a, z, R, rho: of Theorem 4's form (NaN elsewhere); M_c: most
    candidates of a client; noise, noise_w: rounding errors of a difference of losses and of a distance.
    """
    n, gamma, tau = shape["n"], float(algorithm["gamma"]), int(algorithm["tau"])
    form = isotropic or {"a": math.nan, "z": math.nan, "R": math.nan}
    infima = np.array(constants.infima)
    known = infima[np.isfinite(infima)]
    privacy = algorithm["privacy"]
    values = {
        "n": float(n),
        "m": float(algorithm["m"]),
        "T": float(T),
        "tau": float(tau),
        "gamma": gamma,
        "L": constants.L.value,
        "lam": constants.weak.value,
        "M_c": 1.0 + min(int(algorithm["downloads"]), n - 1),
        "a": form["a"],
        "z": form["z"],
        "R": form["R"],
        "rho": (1 - gamma * form["a"]) ** tau,
        "noise": ROUNDING * (float(np.abs(start).max()) + float(np.abs(known).max(initial=0.0))),
        "noise_w": SHIFT * (size + sum(abs(x) for x in (form["R"], form["z"]) if math.isfinite(x))),
    }
    silent = noise["sigma_u"] == 0 and noise["sigma_v"] == 0
    flags: dict[str, Any] = {
        "convex": constants.convex,
        "smooth": math.isfinite(constants.L.value),
        "weakly_convex": math.isfinite(constants.weak.value),
        "inf_known": len(known) == n,
        "own_targets": own,
        "exact_gradients": silent and privacy is None,
        "exact_losses": privacy is None or privacy["loss_noise"] is None,
        "base": algorithm["rejected"] == "base",
        "plain": algorithm["margin"] == 0,
        "euclidean": algorithm["norm"] == "euclidean",
        "isotropic": isotropic is not None,
        "unbiased": form["z"] == 0,
        "clusters": form["R"] > 0,
        "everybody": algorithm["m"] == n,
        "population": population,
    }
    grade: Grade = max((constants.L.grade, constants.weak.grade), key=GRADES.index)
    return StatementInputs(values, flags, grade, scale=float(np.abs(start).max()))
