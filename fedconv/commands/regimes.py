"""``fedconv regimes``: a map of where FedAlt beats FedSim, measured, and what theory predicts."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from analysis.least import Least
from analysis.predictors import PAIRS, cells_of, guarantees, predictions
from analysis.regimes import ALGORITHMS, FEWEST, NONE, Comparison, Score, compare, scores, summary
from fedconv.commands import version
from fedconv.commands.console import cores, note, stdout
from fedconv.commands.sweep import sweep_mapping, theorem_step
from fedconv.sweep.grid import ALGORITHM, ETA, WORDS, Grid, grid_from, read_sweep_file
from fedconv.sweep.store import is_sweep, load_sweep
from fedconv.sweep.store import read as read_store
from figures.regime_map import LABELS, TITLES, Map, draw, plane, words
from figures.style import FORMATS, save
from problems.errors import InputError

STORE = "sweep"
STEPS = tuple(float(f"{x:.3g}") for x in np.geomspace(0.003, 3.0, 8))
QUICK_STEPS = tuple(float(f"{x:.3g}") for x in np.geomspace(0.02, 3.0, 5))


def default_map(quick: bool) -> dict[str, Any]:
    """W2: 20 x 20 cells of (sigma_v, m), 8 steps and the theorem's, 32 replicates; ``quick``: 8 x 8, 5 steps, 16."""
    sigma_v = np.geomspace(0.1, 10.0, 8 if quick else 20)
    m = [1, 3, 5, 8, 11, 14, 17, 20] if quick else list(range(1, 21))
    return {
        "name": "W2",
        "problem": {
            "family": "trigonometric", "n": 20, "d_u": 8, "d_v": 8, "L_u": 1.0, "L_v": 1.0, "chi": 0.5, "delta": 1.0,
            "spread": 1.0,
        },
        "noise": {"law": "gaussian", "sigma_u": 1.0, "sigma_v": 1.0},
        "start": {"kind": "normal", "scale": 1.0},
        "algorithm": {"name": list(ALGORITHMS), "m": 5, "tau": 5, "eta": 0.1},
        "run": {"T": 500, "replicates": 16 if quick else 32},
        "sweep": {
            "noise.sigma_v": [float(f"{x:.3g}") for x in sigma_v],
            "algorithm.m": m,
            ETA: [*(QUICK_STEPS if quick else STEPS), "best"],
        },
    }  # fmt: skip


def completed(mapping: Mapping[str, Any], where: str, dependence: str | None) -> dict[str, Any]:
    """The file's content with both algorithms, the default steps where it sweeps none, and the theorem's step.

    Raises InputError where the file sweeps what an option or the map itself fixes.
    """
    out = copy.deepcopy(dict(mapping))
    sweep = out.get("sweep")
    if not isinstance(sweep, dict) or not isinstance(out.get("algorithm"), dict):
        raise InputError(f"{where}: a map needs the tables [algorithm] and [sweep]; see `fedconv regimes --help`")
    flat = _flat(sweep)
    named = flat.get(ALGORITHM, out["algorithm"].get("name"))
    if not isinstance(named, list) or not set(ALGORITHMS) <= set(map(str, named)):
        raise InputError(f'{where}: algorithm.name: must contain "fedalt" and "fedsim" for a map; got {named!r}')
    steps = flat.get(ETA, list(STEPS))
    if isinstance(steps, list) and not any(word in steps for word in WORDS):
        steps = [*steps, "best"]
    if dependence is not None:
        if "noise.dependence" in flat:
            raise InputError(f"{where}: --dependence must be left out where the file sweeps noise.dependence; got both")
        out["noise"] = {**out.get("noise", {}), "dependence": dependence}
    out["sweep"] = flat | {ETA: steps}
    return out


def _flat(table: Mapping[str, Any], head: str = "") -> dict[str, Any]:
    """Dotted keys of ``[sweep]``."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        path = f"{head}.{key}" if head else str(key)
        out |= _flat(value, path) if isinstance(value, Mapping) else {path: value}
    return out


@dataclass(frozen=True)
class Lookup:
    """η of the least guarantee of FA* or FS*, found for all cells at once, by cell and algorithm."""

    found: Mapping[tuple[str, str], float]

    @classmethod
    def of(cls, grid: Grid, best: Mapping[str, Least]) -> Lookup:
        theorems = dict(zip(ALGORITHMS, PAIRS["FA*/FS*"], strict=True))
        out = {}
        for i, cell in enumerate(grid.cell_indices()):
            key = _digest(json.dumps(grid.spec(cell)))
            for name in grid.algorithms:
                if name in theorems and math.isfinite(best[theorems[name]].guarantee[i]):
                    out[key, name] = float(best[theorems[name]].eta[i])
        return cls(out)

    def __call__(self, spec: str, algorithm: str, wish: str) -> float:
        """As :func:`theorem_step`, which is asked where the wish is not FA*'s or FS*'s best step."""
        named = json.loads(spec).get("verify", {}).get("theorems") is not None
        key = (_digest(spec), algorithm)
        if wish == "best" and not named and key in self.found:
            return self.found[key]
        return theorem_step(spec, algorithm, wish)


def _digest(spec: str) -> str:
    return hashlib.sha256(spec.encode()).hexdigest()[:16]


def regimes_file(
    source: Path | None,
    out: Path,
    *,
    quick: bool,
    dependence: str | None,
    error: float,
    formats: str,
    workers: int | None,
) -> int:
    """Compute (or continue) the sweep in OUT and write the map; see ``fedconv regimes --help``."""
    kinds = _kinds(formats)
    if not 0 < error < 0.5:
        raise InputError(f"--error must be a number between 0 and 0.5; got {error}")
    if quick and source is not None:
        raise InputError("--quick is for the default map and must be left out with FILE; got both")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out must be a folder to write; {out} is a file")
    mapping: dict[str, Any] = {}
    where, store = str(source) if source is not None else "default map", out / STORE
    made = source is not None and is_sweep(source)
    if source is not None and made:
        if dependence is not None:
            raise InputError("--dependence must be left out with a store, whose runs are made; got both")
        store = source
        results, table = read_store(source)
        table.close()
        grid = results.grid
    else:
        mapping = completed(read_sweep_file(source) if source is not None else default_map(quick), where, dependence)
        grid = grid_from(mapping, where)
    axes = tuple((axis.key, tuple(axis.labels)) for axis in grid.axes)
    plane(axes)
    if grid.replicates < FEWEST:
        raise InputError(f"{where}: run.replicates: must be at least {FEWEST} for a map; got {grid.replicates}")
    cells = cells_of(grid, where)
    best = guarantees(cells)
    status = 0
    if not made:
        lookup = Lookup.of(grid, best)
        status = sweep_mapping(mapping, where, store, workers=workers or cores(), resolve=lookup)
    found = compare(load_sweep(store), error)
    predicted = predictions(cells, best)
    tables = {key: scores(one, predicted) for key, one in found.items()}
    chart = Map(str(grid.base["name"]), axes, found, predicted)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "regimes.json", to_dict(chart, tables, error, store))
    for kind in kinds:
        save(draw(chart), out / f"regimes.{kind}", "regimes", words(chart))
    console = stdout()
    for line in summary(found, error):
        console.print(line, markup=False, soft_wrap=True)
    for key, table in tables.items():
        console.print(confusion(key, table))
    note(f"{out / 'regimes'}.{{{','.join([*kinds, 'json'])}}} written; the runs are in {store}")
    return status


def _kinds(formats: str) -> list[str]:
    kinds = [kind.strip() for kind in formats.split(",")]
    for kind in kinds:
        if kind not in FORMATS:
            raise InputError(f"--format must be some of {', '.join(FORMATS)}, with commas between; got {kind!r}")
    return kinds


def confusion(steps: str, rows: Sequence[Score]) -> Table:
    """How often each predictor names the measured winner; cells without a measured difference stand apart."""
    title = f"predictors against runs, {TITLES[steps]}"
    out = Table("predictor", title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    heads = ("right", "of", "FedAlt: right", "FedAlt: wrong", "FedSim: right", "FedSim: wrong", "says equal", "silent")
    for name in (*heads, "no difference: says FedAlt", "says FedSim", "says equal"):
        out.add_column(name, justify="right", overflow="fold")
    for row in rows:
        alt, sim, none = row.confusion["fedalt"], row.confusion["fedsim"], row.undecided
        won = row.right + row.wrong + row.tie + row.silent
        share = "–" if not won else f"{row.share:.0%}"
        counts = (alt["fedalt"], alt["fedsim"], sim["fedsim"], sim["fedalt"], row.tie, row.silent)
        out.add_row(LABELS.get(row.key, row.key), share, str(won), *map(str, counts),
                    *(str(none[name]) for name in (*ALGORITHMS, NONE)))  # fmt: skip
    return out


def to_dict(chart: Map, tables: Mapping[str, Sequence[Score]], error: float, store: Path) -> dict[str, Any]:
    """All numbers of the map as plain data: axes, one record per cell, one per predictor."""
    shape = tuple(len(values) for _, values in chart.axes)
    cells = []
    for cell in np.ndindex(*shape):
        at = {key: values[i] for (key, values), i in zip(chart.axes, cell, strict=True)}
        measured = {key: _cell(one, cell) for key, one in chart.comparisons.items()}
        says = {p.key: {"says": str(p.names[cell]), "log_ratio": _finite(p.advantage[cell])} for p in chart.predictions}
        cells.append({"at": at, "measured": measured, "predicted": says})
    return {
        "fedconv": version(),
        "name": chart.name,
        "store": store.name,
        "measure": "stationarity",
        "test": {
            "kind": "paired t-test on the second half of the replicates, one-sided in both directions",
            "error": error,
            "correction": "Bonferroni over cells and directions of a comparison",
            "level": next(iter(chart.comparisons.values())).level,
        },
        "effect": "(FedSim's mean - FedAlt's)/larger of the two; > 0: FedAlt lower",
        "axes": [{"key": key, "values": list(values)} for key, values in chart.axes],
        "confusion": {
            key: [
                {"predictor": row.key, "title": row.title, "right": row.right, "wrong": row.wrong, "tie": row.tie,
                 "silent": row.silent, "by_winner": row.confusion, "no_difference": row.undecided}
                for row in rows
            ]
            for key, rows in tables.items()
        },
        "cells": cells,
    }  # fmt: skip


def _cell(one: Comparison, cell: tuple[int, ...]) -> dict[str, Any]:
    numbers = {"effect": _finite(one.effect[cell]), "p_value": _finite(one.p_value[cell])}
    mean = {name: _finite(one.mean[cell][i]) for i, name in enumerate(ALGORITHMS)}
    eta = {name: _finite(one.eta[cell][i]) for i, name in enumerate(ALGORITHMS)}
    return {"verdict": str(one.verdict[cell]), **numbers, "mean": mean, "eta": eta}


def _finite(x: Any) -> float | None:
    """A number JSON can hold; None for inf and NaN."""
    return float(x) if math.isfinite(x) else None


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON; the file appears whole or not at all."""
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_text(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    os.replace(draft, path)
