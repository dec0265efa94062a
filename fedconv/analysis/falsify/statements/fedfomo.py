"""FedFomo's runs for the falsifier: which kinds a statement's premises admit, and what is read of an experiment."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fedconv.analysis.falsify.shrink.arrays import STEPS
from fedconv.analysis.falsify.statements.drawing import Drawing, Wishes
from fedconv.analysis.falsify.statements.fedfomo_draw import KINDS, VARIATIONS, draw
from fedconv.analysis.theorems.fedfomo import METHOD
from fedconv.analysis.theorems.statement import StatementInputs
from fedconv.core.run import Runnable
from fedconv.methods.fedfomo.experiment import FedFomoExperiment

HOLDS: dict[str, tuple[str, ...]] = {
    "convex": ("centres", "quadratic", "samples", "private"),
    "smooth": ("centres", "quadratic", "indefinite", "samples", "private"),
    "inf_known": ("centres", "quadratic", "wells", "samples", "private"),
    "own_targets": ("centres", "quadratic"),
    "unbiased": ("centres",),
    "exact_gradients": ("centres", "quadratic", "indefinite", "wells", "samples"),
    "exact_losses": ("centres", "quadratic", "indefinite", "wells", "samples"),
}
"""Kinds of run that can meet a premise."""

BREAKS: dict[str, tuple[str, ...]] = {
    "convex": ("indefinite", "wells"),
    "exact_losses": ("private",),
    "exact_gradients": ("centres", "quadratic"),
    "own_targets": ("centres", "quadratic"),
    "unbiased": ("centres",),
}
"""Kinds that can break it."""


def _before(experiment: Runnable, names: frozenset[str]) -> StatementInputs:
    return METHOD.before(experiment)


def _unit(experiment: Runnable, inputs: StatementInputs) -> float:
    """1/L of the training losses."""
    assert isinstance(experiment, FedFomoExperiment)
    L = experiment.L.value
    return 1 / L if 0 < L < math.inf else 1.0


def _extras(experiment: Runnable) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    assert isinstance(experiment, FedFomoExperiment)
    infima = np.array(experiment.judge.constants.infima)
    return {"infimum": np.where(np.isfinite(infima), infima, np.nan)}, {}


def _allows(kind: str, wishes: Wishes) -> bool:
    kept = all(kind in HOLDS.get(name, KINDS) for name in wishes.kept)
    return kept and all(kind in BREAKS.get(name, KINDS) for name in wishes.dropped)


DRAWING = Drawing("fedfomo", KINDS, draw, VARIATIONS, STEPS, _before, _unit, _extras, _allows, few=16, loose=2.5)
