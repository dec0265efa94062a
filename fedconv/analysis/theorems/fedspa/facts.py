"""From a run of FedSpa, recorded or planned, to the numbers and flags that its theorems ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fedconv.analysis.theorems.fedspa.formulas import best_parameters
from fedconv.analysis.theorems.statement import StatementInputs, check_measured
from fedconv.core.trace import read
from fedconv.methods.fedspa.constants import MaskedConstants
from fedconv.methods.fedspa.measures import SUBSETS
from fedconv.problems.errors import InputError
from fedconv.problems.whole_model import Whole

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.core.run import Runnable

ROUNDING = 2e-13
"""Relative rounding error of f(w)."""

SHIFT = 1e-14
"""Relative rounding error of an iterate and of a gradient."""


def of_trace(trace: xr.Dataset) -> StatementInputs:
    """Inputs of a recorded run. Raises InputError for a trace that was recorded without measures."""
    check_measured(trace, "f", "FedSpa")
    return statement_inputs(
        MaskedConstants.from_dict(read(trace, "masked_constants")),
        read(trace, "algorithm"),
        read(trace, "shape"),
        int(trace.attrs["T"]),
        float(trace.attrs["sigma"]),
        trace["budget"].values,
        (float(trace["f"].values[0, 0]), float(trace["diversity"].values[0, 0]), trace["w_start"].values),
    )


def of_experiment(experiment: Runnable) -> StatementInputs:
    """Inputs of a FedSpa experiment, before any run."""
    from fedconv.methods.fedspa.experiment import FedSpaExperiment
    from fedconv.methods.fedspa.masks import layer_counts

    if not isinstance(experiment, FedSpaExperiment):
        raise InputError(f"theorems about FedSpa need a FedSpa experiment; got {type(experiment).__name__}")
    problem, whole = experiment.problem, Whole(experiment.problem)
    masks = torch.from_numpy(experiment.first_masks).to(problem.device)
    w = experiment.w_start.to(problem.device)
    each = whole.masked_grad(w.expand(problem.n, -1), masks, problem.everyone())
    diversity = float((each - each.mean(0)).square().sum(-1).mean())
    return statement_inputs(
        experiment.constants,
        experiment.algorithm.to_dict(),
        {"n": problem.n},
        experiment.T,
        experiment.sigma,
        layer_counts(experiment.first_masks, experiment.layout),
        (float(whole.objective(w, masks)), diversity, w.cpu().numpy()),
    )


def statement_inputs(
    constants: MaskedConstants,
    algorithm: Mapping[str, Any],
    shape: Mapping[str, int],
    T: int,
    sigma: float,
    budgets: np.ndarray,
    start: tuple[float, float, np.ndarray],
) -> StatementInputs:
    """The theorems' inputs from plain data. ``start`` = (f_0(w^0), D_0, w^0); ``budgets`` s_{k,l} ``(n, layers)``.

    ``gap`` = f_0(w^0) − f_★. The free parameters of (4) are chosen here, for the known (δ, ρ) and, with the names'
    ending _D, for δ² = D_0 and ρ = 0; any fixed choice gives a valid bound.
    """
    f_start, diversity, w = start
    L, F_star = constants.L.value, constants.F_star.value
    values: dict[str, float] = {
        "n": float(shape["n"]),
        "m": float(algorithm["m"]),
        "N": float(algorithm["tau"]),
        "T": float(T),
        "gamma": float(algorithm["gamma"]),
        "L": L,
        "sigma": float(sigma),
        "delta": constants.delta.value,
        "rho": constants.rho.value,
        "gap": f_start - F_star,
        "layers": float(budgets.shape[1]),
        "s": float(budgets.sum(1).max()),
    }
    values |= best_parameters(values, values["delta"] ** 2, values["rho"])
    values |= {f"{k}_D": x for k, x in best_parameters(values, diversity, 0.0).items()}
    known = abs(F_star) if math.isfinite(F_star) else 0.0
    size = float(np.linalg.norm(w)) + (math.sqrt(2 * (abs(f_start) + known) / L) if 0 < L < math.inf else 0.0)
    slope = SHIFT * size * (L if math.isfinite(L) else 0.0)
    inner = L * float(w @ w) if math.inf > L else 0.0  # f(0) ≤ 2f(w^0) − f_★ + L‖w^0‖²: what cancels in f_★
    values |= {"noise": ROUNDING * (abs(f_start) + known + inner), "noise_g": slope}
    cohorts = math.comb(int(values["n"]), int(values["m"]))
    flags: dict[str, Any] = {
        "frozen": algorithm["masks"]["mode"] == "frozen",
        "noiseless": sigma == 0,
        "expected": cohorts == 1 or cohorts <= SUBSETS,
        "average": algorithm["average"],
    }
    return StatementInputs(values, flags, constants.grade, (), scale=abs(f_start))
