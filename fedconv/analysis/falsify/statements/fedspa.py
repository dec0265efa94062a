"""FedSpa's runs for the falsifier: what it reads of an experiment, and expectations over all courses of short runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fedconv.analysis.falsify.shrink.arrays import STEPS
from fedconv.analysis.falsify.statements.courses import courses
from fedconv.analysis.falsify.statements.drawing import Drawing, Wishes
from fedconv.analysis.falsify.statements.fedspa_draw import KINDS, VARIATIONS, draw
from fedconv.analysis.theorems.fedspa.facts import statement_inputs
from fedconv.analysis.theorems.fedspa.formulas import FREE
from fedconv.analysis.theorems.statement import Statement, StatementInputs
from fedconv.core.run import Runnable
from fedconv.core.streams import Cause, Streams
from fedconv.methods.fedspa.experiment import FedSpaExperiment
from fedconv.methods.fedspa.masks import layer_counts
from fedconv.problems.whole_model import Whole

VIRTUAL = frozenset({"drift_sq", "f_expected"})
"""Variables that hold virtual steps of absent clients."""

CHOSEN, CHOSEN_D = (frozenset(f"{x}{name}{end}" for name in FREE for x in ("", "inv_")) for end in ("", "_D"))
"""Free parameters of (4) for the known δ, and for the measured diversity: to choose them takes long."""


def _before(experiment: Runnable, names: frozenset[str]) -> StatementInputs:
    """The inputs of the experiment; free parameters that are not among ``names`` are not chosen."""
    assert isinstance(experiment, FedSpaExperiment)
    problem, whole, constants = experiment.problem, Whole(experiment.problem), experiment.constants
    masks, w = torch.from_numpy(experiment.first_masks), experiment.w_start
    diversity, known = math.inf, replace(constants, delta=replace(constants.delta, value=math.inf))
    if names & CHOSEN:
        known = constants
    if names & CHOSEN_D:
        each = whole.masked_grad(w.expand(problem.n, -1), masks, problem.everyone())
        diversity = float((each - each.mean(0)).square().sum(-1).mean())
    given = statement_inputs(
        known,
        experiment.algorithm.to_dict(),
        {"n": problem.n},
        experiment.T,
        experiment.sigma,
        layer_counts(experiment.first_masks, experiment.layout),
        (float(whole.objective(w, masks)), diversity, w.numpy()),
    )
    return replace(given, values=given.values | {"delta": constants.delta.value}, grade=constants.grade)


def _unit(experiment: Runnable, inputs: StatementInputs) -> float:
    """1/(LN)."""
    L = inputs.values["L"]
    return 1 / (L * inputs.values["N"]) if 0 < L < math.inf else 1.0


def _extras(experiment: Runnable) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    assert isinstance(experiment, FedSpaExperiment)
    budgets = layer_counts(experiment.first_masks, experiment.layout)
    arrays = {"budget": budgets, "layer_size": np.array(experiment.layout.sizes)}
    return arrays, {"algorithm": json.dumps(experiment.algorithm.to_dict())}


def _paths(experiment: Runnable, one: Statement) -> tuple[Streams, int] | None:
    """All courses of a run whose noise is Rademacher's, where the absent's noise and that of mask searches do not
    matter."""
    assert isinstance(experiment, FedSpaExperiment)
    method, problem, noise = experiment.algorithm, experiment.problem, experiment.noise
    signs: dict[Cause, int] = {}
    if not noise.silent:
        virtual = any(x in VIRTUAL for found in one.measured for x in found.variables)
        if noise.law != "rademacher" or not method.masks.frozen or (virtual and method.m < problem.n):
            return None
        each = method.m * method.tau
        signs = {Cause.NOISE_U: each * problem.d_u, Cause.NOISE_V: each * problem.d_v}
    return courses(experiment.T, problem.n, method.m, signs)


def _allows(kind: str, wishes: Wishes) -> bool:
    """Whether masks stay and gradients are exact where they must, and masks move where that is a premise to break."""
    frozen, noiseless = wishes.asks("frozen"), wishes.asks("noiseless")
    return frozen in (None, kind.startswith("frozen")) and not (noiseless and kind.endswith("noisy"))


DRAWING = Drawing("fedspa", KINDS, draw, VARIATIONS, STEPS, _before, _unit, _extras, _allows, _paths, few=32)
