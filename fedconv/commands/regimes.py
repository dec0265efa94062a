"""``fedconv regimes``: a map of where FedAlt beats FedSim, measured, and what theory predicts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from fedconv.analysis.regimes import ALGORITHMS, FEWEST, NONE, Comparison, Score, compare, scores, summary
from fedconv.analysis.regimes.predictors import cells_of, guarantees, predictions
from fedconv.analysis.regimes.presets import PRESETS, Lookup, completed, preset
from fedconv.commands import version
from fedconv.commands.console import chosen_workers, note, stdout
from fedconv.commands.sweep import sweep_mapping, sweep_of
from fedconv.core.files import cut
from fedconv.core.processes import let_go, started
from fedconv.figures.regime_map.data import Map, plane
from fedconv.figures.regime_map.drawing import TITLES, draw, label, words
from fedconv.figures.style import FORMATS, save
from fedconv.problems.errors import InputError
from fedconv.sweep.grid import grid_from, read_sweep_file
from fedconv.sweep.job import run_batch
from fedconv.sweep.store import is_sweep
from fedconv.sweep.store import read as read_store

STORE = "sweep"


def regimes_file(
    source: Path | None,
    out: Path,
    *,
    name: str | None,
    quick: bool,
    dependence: str | float | None,
    error: float,
    formats: str,
    workers: int | None,
    restart: bool = False,
    allow_other_code: bool = False,
) -> int:
    """Compute (or continue) the sweep in OUT and write the map; see ``fedconv regimes --help``."""
    kinds = _kinds(formats)
    if not 0 < error < 0.5:
        raise InputError(f"--error must be a number between 0 and 0.5; got {error}")
    for option, given in (("--quick", quick), ("--preset", name is not None)):
        if given and source is not None:
            raise InputError(f"{option} is for maps with a name and must be left out with FILE; got both")
    if name is not None and name not in PRESETS:
        raise InputError(f"--preset must be one of {', '.join(PRESETS)}; got {cut(name)!r}")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out must be a folder to write; {out} is a file")
    mapping: dict[str, Any] = {}
    where, store = str(source) if source is not None else f"map {name or PRESETS[0]}", out / STORE
    made = source is not None and is_sweep(source)
    if source is not None and made:
        for option, given in (("--restart", restart), ("--allow-other-code", allow_other_code)):
            if given:
                raise InputError(f"{option} must be left out with a store, whose runs are made; got both")
        if dependence is not None:
            raise InputError("--dependence must be left out with a store, whose runs are made; got both")
        store = source
        grid = read_store(source).results.grid
    else:
        content = read_sweep_file(source) if source is not None else preset(name or PRESETS[0], quick)
        mapping = completed(content, where, dependence)
        grid = grid_from(mapping, where)
    axes = tuple((axis.key, tuple(axis.labels)) for axis in grid.axes)
    plane(axes)
    if grid.replicates < FEWEST:
        raise InputError(f"{where}: run.replicates: must be at least {FEWEST} for a map; got {grid.replicates}")
    workers = chosen_workers(workers)
    with nullcontext() if made or store.exists() else started(run_batch, min(workers, grid.count)):
        cells = cells_of(grid, where)
        best = guarantees(cells)
    status = 0
    if not made:
        status = sweep_mapping(mapping, where, store, workers=workers, known=Lookup.of(grid, best),
                               restart=restart, allow_other_code=allow_other_code)  # fmt: skip
        let_go()
    found = compare(sweep_of(store), error)
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
    """How often each predictor names the measured winner, beside the constant answer that would be right most often;
    cells without a measured difference stand apart. Balanced: the mean over both winners of the share named right."""
    title = f"predictors against runs, {TITLES[steps]}"
    out = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    out.add_column("predictor", no_wrap=True)
    by_winner = ("FedAlt: right", "FedAlt: wrong", "FedSim: right", "FedSim: wrong")
    heads = ("right", "balanced", "of", *by_winner, "says equal", "silent")
    for name in (*heads, "neither: FedAlt", "neither: FedSim", "neither: equal"):
        out.add_column(name, justify="right", overflow="fold")
    for row in rows:
        alt, sim, none = row.confusion["fedalt"], row.confusion["fedsim"], row.undecided
        won = row.right + row.wrong + row.tie + row.silent
        share, balanced = ("–" if not won else f"{x:.0%}" for x in (row.share, row.balanced))
        counts = (alt["fedalt"], alt["fedsim"], sim["fedsim"], sim["fedalt"], row.tie, row.silent)
        out.add_row(label(row.key, row.title), share, balanced, str(won), *map(str, counts),
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
            "kind": "paired t-test on the replicates that did not choose steps, one-sided in both directions; confirmed"
            " by the exact sign test",
            "error": error,
            "correction": "Bonferroni over cells and directions of a comparison",
            "level": next(iter(chart.comparisons.values())).level,
        },
        "effect": "(FedSim's mean - FedAlt's)/larger of the two; > 0: FedAlt lower",
        "axes": [{"key": key, "values": list(values)} for key, values in chart.axes],
        "confusion": {
            key: [
                {"predictor": row.key, "title": row.title, "right": row.right, "wrong": row.wrong, "tie": row.tie,
                 "share": _finite(row.share), "balanced": _finite(row.balanced),
                 "silent": row.silent, "by_winner": row.confusion, "no_difference": row.undecided}
                for row in rows
            ]
            for key, rows in tables.items()
        },
        "cells": cells,
    }  # fmt: skip


def _cell(one: Comparison, cell: tuple[int, ...]) -> dict[str, Any]:
    numbers = {key: _finite(getattr(one, key)[cell]) for key in ("effect", "p_value", "p_sign")}
    numbers["confirmed"] = bool(one.confirmed[cell])
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
