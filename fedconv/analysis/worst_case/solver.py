"""Solving a performance estimation problem, and a value that is safe although the solver rounds."""

from __future__ import annotations

import importlib
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedconv.problems.errors import InputError

TOLERANCES = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}

INSTALL = "fedconv tightness needs PEPit and its solver, which come with: pip install 'fedconv[pep]'"


@dataclass(frozen=True)
class Solved:
    """A solved program: ``primal`` value, ``dual`` value, and ``residual`` ≥ 0 so that no run exceeds dual + residual.

    The dual multipliers prove "objective ≤ dual" up to rounding. Multipliers are first made feasible (negative ones
    cut, matrices projected); what is then left of the identity, times a bound on what it multiplies (``magnitudes``),
    is the residual.
    """

    primal: float
    dual: float
    residual: float

    @property
    def value(self) -> float:
        """The safe upper value, dual + residual."""
        return self.dual + self.residual


def pepit() -> Any:
    """The package PEPit; InputError names the command that installs it where it, cvxpy or CLARABEL is missing."""
    try:
        for name in ("cvxpy", "clarabel"):
            importlib.import_module(name)
        return importlib.import_module("PEPit")
    except ModuleNotFoundError as error:
        raise InputError(INSTALL) from error


def solve(pep: Any, magnitudes: tuple[float, float]) -> Solved:
    """Solve by CLARABEL through cvxpy; InputError where the solver finds no bound.

    The solver is asked for more digits than it may reach, and a warning about that is dropped: how far the result can
    be trusted is computed here, as the residual.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Solution may be inaccurate", category=UserWarning)
        value = pep.solve(wrapper="cvxpy", solver="CLARABEL", return_primal_or_dual="primal", verbose=0, **TOLERANCES)
    if value is None or not math.isfinite(value):
        raise InputError("the solver found no finite worst case: the setting admits unbounded runs")
    dual, residual = _certificate(pep, magnitudes)
    return Solved(float(value), dual, residual)


def _certificate(pep: Any, magnitudes: tuple[float, float]) -> tuple[float, float]:
    """(dual value, residual) from the multipliers, after cutting them to their cones.

    objective = dual + Σ multiplier·(constraint ≤ 0) − ⟨matrices ⪰ 0, multipliers ⪰ 0⟩ + rest, and
    |rest| ≤ Σ |coefficient| · magnitude.
    """
    rest: dict[Any, float] = {}

    def add(factor: float, expression: Any) -> None:
        for key, value in expression.decomposition_dict.items():
            if isinstance(key, tuple):
                key = tuple(sorted(key, key=lambda point: point.counter))
            rest[key] = rest.get(key, 0.0) + factor * float(value)

    add(1.0, pep.objective)
    for constraint in pep._list_of_prepared_constraints:
        multiplier = float(constraint.eval_dual())
        equality = constraint.equality_or_inequality == "equality"
        add(-multiplier if equality else -max(multiplier, 0.0), constraint.expression)
    for matrix in pep._list_of_psd_sent_to_wrapper:
        dual = _projected(np.asarray(matrix.eval_dual(), dtype=float))
        for i, j in np.ndindex(*dual.shape):
            add(float(dual[i, j]), matrix[i, j])
    gram = _projected(np.asarray(pep.residual, dtype=float))
    points = importlib.import_module("PEPit").Point.list_of_leaf_points
    for i, j in np.ndindex(*gram.shape):
        first, second = sorted((points[i], points[j]), key=lambda point: point.counter)
        rest[(first, second)] = rest.get((first, second), 0.0) + float(gram[i, j])
    dual = rest.pop(1, 0.0)
    products, others = magnitudes
    residual = math.fsum(abs(x) * (products if isinstance(key, tuple) else others) for key, x in rest.items())
    return dual, residual


def _projected(matrix: np.ndarray) -> np.ndarray:
    """The nearest positive semidefinite matrix."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T
