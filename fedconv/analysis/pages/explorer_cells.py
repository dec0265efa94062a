"""The cells of a sweep for the explorer: the theorems' inputs of each, and which algorithm's runs came lower."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.analysis.regimes import ERROR, axes_of, compare
from fedconv.analysis.theorems.split.facts import of_experiment
from fedconv.problem_file.settings import settings_from
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

VARIABLES = ("value", "done", "step")
DIMENSIONS = ("algorithm", "eta", "replicate", "measure")
MEASURES = ("stationarity", "diverged")


@dataclass(frozen=True)
class Cell:
    """A cell: its swept values in words; inputs of the theorems without η; verdict and effect as in
    ``fedconv.analysis.regimes.Comparison``; the steps that were compared."""

    where: str
    inputs: dict[str, float]
    verdict: str
    effect: float
    eta: dict[str, float]


@dataclass(frozen=True)
class Measured:
    """A sweep: its name, its cells, how many replicates decided each, and the one-sided error of all together."""

    name: str
    cells: tuple[Cell, ...]
    replicates: int
    error: float = ERROR


def measured(data: xr.Dataset) -> Measured:
    """Who reaches lower stationarity in each cell of a sweep (``fedconv.sweep.store.load_sweep``), each algorithm at
    its best step, by ``fedconv.analysis.regimes.compare``.

    ``data``: VARIABLES over the swept keys and DIMENSIONS; attrs ``name`` and ``base`` (a problem file as JSON).
    Raises InputError where some of that is missing.
    """
    check(data)
    keys = axes_of(data)
    found = compare(data)["best"]
    base = json.loads(data.attrs["base"])
    cells = []
    for index in itertools.product(*(range(data.sizes[key]) for key in keys)):
        swept = {key: data[key].values[k] for key, k in zip(keys, index, strict=True)}
        spec = copy.deepcopy(base)
        for key, value in swept.items():
            put(spec, key, value)
        where = ", ".join(f"{key} = {value}" for key, value in swept.items())
        eta = {name: float(x) for name, x in zip(("fedalt", "fedsim"), found.eta[index], strict=True)}
        cells.append(Cell(where, cell_inputs(spec), str(found.verdict[index]), float(found.effect[index]), eta))
    return Measured(str(data.attrs["name"]), tuple(cells), data.sizes["replicate"] - data.sizes["replicate"] // 2)


def check(data: xr.Dataset) -> None:
    """Raise InputError where a dataset is not a sweep with cells."""
    for name in VARIABLES:
        if name not in data:
            raise InputError(f"an explorer's store must be a sweep with the variable {name!r}; got {list(data)}")
    missing = [d for d in DIMENSIONS if d not in data["value"].dims]
    if missing:
        raise InputError(f"a sweep must have the dimensions {', '.join(DIMENSIONS)}; {', '.join(missing)} is missing")
    for name in MEASURES:
        if name not in data["measure"].values:
            held = ", ".join(map(str, data["measure"].values))
            raise InputError(f"a sweep must hold the measure {name!r}; got {held}")
    if not axes_of(data):
        raise InputError("an explorer's store must sweep a key besides algorithm.name and algorithm.eta; it has none")


def cell_inputs(spec: Mapping[str, Any]) -> dict[str, float]:
    """The theorems' inputs of a problem file but for η: those of FedAlt, which a sweep shares with FedSim."""
    settings = settings_from(spec, "the store's problem")
    algorithm = next(a for a in settings.algorithms if a.name == "fedalt")
    values = of_experiment(settings.experiment(algorithm, 1.0)).values
    return {k: x for k, x in values.items() if k != "eta"}


def put(spec: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of nested tables."""
    *tables, last = key.split(".")
    inner = spec
    for table in tables:
        inner = inner.setdefault(table, {})
    inner[last] = value.item() if isinstance(value, np.generic) else value
