"""FFGG's runs for the falsifier: kinds, draws and variations, and what it reads of an experiment."""

from __future__ import annotations

from fedconv.analysis.falsify.shrink.arrays import STEPS
from fedconv.analysis.falsify.statements.drawing import Drawing, Wishes
from fedconv.analysis.falsify.statements.ffgg_draw import KINDS, OVER, VARIATIONS, draw
from fedconv.analysis.theorems.ffgg import METHOD
from fedconv.analysis.theorems.statement import StatementInputs
from fedconv.core.run import Runnable


def _before(experiment: Runnable, names: frozenset[str]) -> StatementInputs:
    return METHOD.before(experiment)


def _unit(experiment: Runnable, inputs: StatementInputs) -> float:
    """1/L of F."""
    L = inputs.values["L"]
    return 1 / L if L > 0 else 1.0


def _allows(kind: str, wishes: Wishes) -> bool:
    """The two worlds of Theorem 7B(e) have different minimisers."""
    return kind != "worlds" or OVER not in wishes.kept


DRAWING = Drawing("ffgg", KINDS, draw, VARIATIONS, STEPS, _before, _unit, allows=_allows, one_step=True)
