"""What a regime map shows, as an object and as a labelled dataset, and the maps of the gallery computed."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.analysis.regimes import ALGORITHMS, MISSING, NONE, Comparison, compare
from fedconv.analysis.regimes.predictors import Prediction, cells_of, guarantees, predictions
from fedconv.analysis.regimes.presets import Lookup, preset
from fedconv.core.processes import let_go
from fedconv.problems.errors import InputError
from fedconv.sweep.grid import check_cells, grid_from
from fedconv.sweep.runner import resolved, run_pending
from fedconv.sweep.store import load_sweep, opened

if TYPE_CHECKING:
    import xarray as xr

MOST_ROWS = 6
"""Rows of panels, one for each combination of the values of further swept keys."""

VERDICTS = (*ALGORITHMS, NONE, MISSING)


@dataclass(frozen=True)
class Map:
    """What is drawn: swept keys with their values, comparisons and predictions with arrays of the cells' shape."""

    name: str
    axes: tuple[tuple[str, tuple[Any, ...]], ...]
    comparisons: Mapping[str, Comparison]
    predictions: Sequence[Prediction]

    def plane(self) -> tuple[int, int]:
        """The two axes of the map (see :func:`plane`)."""
        return plane(self.axes)

    def rows(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """(title, index that leaves the plane) for each combination of the other axes."""
        x, y = self.plane()
        others = [i for i in range(len(self.axes)) if i not in (x, y)]
        for chosen in itertools.product(*(range(len(self.axes[i][1])) for i in others)):
            index: list[Any] = [slice(None)] * len(self.axes)
            titles = []
            for i, j in zip(others, chosen, strict=True):
                index[i] = j
                key, values = self.axes[i]
                if len(values) > 1:
                    titles.append(f"{key} = {values[j]}")
            yield ", ".join(titles), tuple(index)

    def cut(self, array: np.ndarray, index: tuple[Any, ...]) -> np.ndarray:
        """The plane of a row, as (y, x)."""
        x, y = self.plane()
        found = array[index]
        return found.T if x < y else found


def plane(axes: Sequence[tuple[str, Sequence[Any]]]) -> tuple[int, int]:
    """Indices (x, y) of the axes that span the map: the first two of numbers with at least two values each.

    Raises InputError where there are none, and where the other axes make more than MOST_ROWS rows.
    """
    found = [i for i, (_, values) in enumerate(axes) if len(values) > 1 and all(_is_number(v) for v in values)]
    if len(found) < 2:
        listed = ", ".join(f"{key} ({len(values)})" for key, values in axes) or "none"
        raise InputError(
            f"a map needs two swept keys with at least two numbers each, beside algorithm and eta; got {listed}"
        )
    rows = int(np.prod([len(values) for i, (_, values) in enumerate(axes) if i not in found[:2]]))
    if rows > MOST_ROWS:
        raise InputError(f"a map has at most {MOST_ROWS} rows, one for each value of further swept keys; got {rows}")
    return found[0], found[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


ARRAYS = ("effect", "p_value", "p_sign", "mean", "eta", "at_edge")


def to_dataset(one: Map) -> xr.Dataset:
    """The map's numbers: dims comparison, the swept keys, algorithm (for mean and eta) and predictor (for advantage).

    ``verdict`` is a number, a place in its attribute ``flag_meanings``; swept values and titles are attributes in JSON.
    """
    import xarray as xr

    keys = [key for key, _ in one.axes]
    found = list(one.comparisons.values())
    units = {"long_name": "(FedSim's mean stationarity - FedAlt's)/larger of the two", "units": "1"}
    variables: dict[str, Any] = {
        "verdict": (
            ["comparison", *keys],
            np.stack([np.vectorize(VERDICTS.index, otypes=[float])(c.verdict) for c in found]),
            {"flag_meanings": json.dumps(VERDICTS), "long_name": "the algorithm with the lower stationarity"},
        ),
        "level": (["comparison"], np.array([c.level for c in found])),
        "advantage": (["predictor", *keys], np.stack([_filled(p.advantage, one) for p in one.predictions])),
        "tolerance": (["predictor"], np.array([p.tolerance for p in one.predictions])),
    }
    for name in ARRAYS:
        dims = ["comparison", *keys] + (["algorithm"] if name in ("mean", "eta", "at_edge") else [])
        variables[name] = (dims, np.stack([getattr(c, name) for c in found]).astype(float))
    variables["effect"] = (*variables["effect"], units)
    titles = [p.title for p in one.predictions]
    return xr.Dataset(
        variables,
        coords={
            "comparison": list(one.comparisons),
            "algorithm": list(ALGORITHMS),
            "predictor": [p.key for p in one.predictions],
        },
        attrs={"name": one.name, "axes": json.dumps([[k, list(v)] for k, v in one.axes]), "titles": json.dumps(titles)},
    )


def _filled(advantage: np.ndarray, one: Map) -> np.ndarray:
    return np.broadcast_to(advantage, tuple(len(values) for _, values in one.axes))


def from_dataset(data: xr.Dataset) -> Map:
    """Inverse of :func:`to_dataset`."""
    axes = tuple((str(key), tuple(values)) for key, values in json.loads(data.attrs["axes"]))
    meanings = np.array(json.loads(data["verdict"].attrs["flag_meanings"]))
    comparisons = {}
    for key in map(str, data["comparison"].values):
        one = data.sel(comparison=key)
        arrays: dict[str, Any] = {name: one[name].values for name in ARRAYS}
        arrays["at_edge"] = arrays["at_edge"] == 1
        verdict = meanings[one["verdict"].values.astype(int)]
        comparisons[key] = Comparison(steps=key, verdict=verdict, level=float(one["level"]), **arrays)
    titles = json.loads(data.attrs["titles"])
    known = [
        Prediction(str(key), title, data["advantage"].values[k], float(data["tolerance"].values[k]))
        for k, (key, title) in enumerate(zip(data["predictor"].values, titles, strict=True))
    ]
    return Map(str(data.attrs["name"]), axes, comparisons, known)


def computed(name: str, *, quick: bool) -> xr.Dataset:
    """A map of :data:`fedconv.analysis.regimes.presets.PRESETS`, its sweep run on all cores in a temporary folder."""
    from joblib import cpu_count

    mapping = preset(name, quick)
    grid = grid_from(mapping, name)
    check_cells(grid, name)
    cells = cells_of(grid, name)
    best = guarantees(cells)
    lookup = Lookup.of(grid, best)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "sweep"
        with opened(store, mapping, lambda: (grid, resolved(grid, _no_other, 1, known=lookup))) as sweep:
            run_pending(sweep, workers=cpu_count())
        let_go()
        found = compare(load_sweep(store))
    axes = tuple((axis.key, tuple(axis.labels)) for axis in grid.axes)
    return to_dataset(Map(str(grid.base["name"]), axes, found, predictions(cells, best)))


def _no_other(spec: str, algorithm: str, wish: str) -> float:
    """The steps of a map's theorems are all found at once; there is no other."""
    raise InputError(f"{algorithm} has no {wish} step in this cell: {spec[:60]}")
