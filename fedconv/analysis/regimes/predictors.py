"""Five answers of theory to "FedAlt or FedSim?", for every cell of a grid at once.

The constant-free condition, the tuned conditions of FA/FS and of FA*/FS* (η → 0, best α), and the least guarantee of
FA against FS and of FA* against FS* at the finite T, over η and the free parameters, step-size conditions included.
All five compare *upper bounds*: none of them is a statement about runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.analysis.theorems import THEOREMS
from fedconv.analysis.theorems.split.effective_variance import COMPARISONS
from fedconv.analysis.theorems.split.facts import Inputs, of_experiment
from fedconv.analysis.tuning.many_cells import Least, least
from fedconv.problem_file.settings import built_once, settings_from
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    from fedconv.sweep.grid import Grid

PAIRS = {"FA/FS": ("FA", "FS"), "FA*/FS*": ("FA*", "FS*")}
EXACT, SEARCHED = 1e-9, 1e-6
"""Relative difference below which two closed forms, or two minima found by search, count as equal."""


@dataclass(frozen=True)
class Prediction:
    """``advantage`` (cells): log(FedSim's value / FedAlt's); > 0 names FedAlt, NaN: no answer (infinite constants)."""

    key: str
    title: str
    advantage: np.ndarray
    tolerance: float

    @property
    def names(self) -> np.ndarray:
        """ "fedalt", "fedsim", "no difference" or "" (no answer), per cell."""
        x = self.advantage
        out = np.where(x > self.tolerance, "fedalt", np.where(x < -self.tolerance, "fedsim", "no difference"))
        return np.where(np.isnan(x), "", out)


@dataclass(frozen=True)
class Cells:
    """INPUTS of every cell of a grid: flat arrays by name, the grid's shape, and which blocks exist."""

    values: dict[str, np.ndarray]
    shape: tuple[int, ...]
    blocks: tuple[bool, bool]


def cells_of(grid: Grid, where: str) -> Cells:
    """INPUTS of every cell of a sweep; ``where`` names its file in errors.

    Raises InputError for a cell that cannot be built, and where blocks come and go between cells.
    """
    found: list[Inputs] = []
    build = built_once()
    for cell in grid.cell_indices():
        settings = settings_from(grid.spec(cell), f"{where} with {grid.where(cell)}", build)
        one = next((a for a in settings.algorithms if a.name == "fedsim"), settings.algorithms[0])
        found.append(of_experiment(settings.experiment(one, 0.1)))
    blocks = {one.blocks for one in found}
    if len(blocks) > 1:
        raise InputError(f"{where}: a regime map needs blocks u and v that are there in all cells or in none")
    values = {k: np.array([one.values[k] for one in found]) for k in found[0].values if k != "eta"}
    return Cells(values, grid.cells, blocks.pop())


def guarantees(cells: Cells) -> dict[str, Least]:
    """The least guarantee of each theorem in PAIRS over η and its free parameters, per (flat) cell."""
    return {key: least(THEOREMS[key], cells.values, cells.blocks) for pair in PAIRS.values() for key in pair}


def predictions(cells: Cells, best: Mapping[str, Least]) -> list[Prediction]:
    """The five predictors in the order of the module's docstring. ``best``: what :func:`guarantees` gives."""
    out = []
    for one in COMPARISONS.values():
        alt, sim, _ = one.evaluate(cells.values)
        out.append(Prediction(one.key, one.title, _advantage(alt, sim, cells.shape), EXACT))
    for key, (alt, sim) in PAIRS.items():
        title = f"least guarantee of {alt} against {sim} at T"
        advantage = _advantage(best[alt].guarantee, best[sim].guarantee, cells.shape)
        out.append(Prediction(key, title, advantage, SEARCHED))
    return out


def _advantage(alt: Any, sim: Any, shape: tuple[int, ...]) -> np.ndarray:
    """log(sim/alt), 0 where both are 0, NaN where neither is finite."""
    count = int(np.prod(shape))
    alt, sim = (np.broadcast_to(np.asarray(x, dtype=float), (count,)) for x in (alt, sim))
    with np.errstate(all="ignore"):
        ratio = np.where(alt == sim, np.where(np.isfinite(alt), 0.0, np.nan), np.log(sim) - np.log(alt))
    return ratio.reshape(shape)
