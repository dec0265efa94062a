"""What ``fedconv show`` says of a sweep: how far it is, its axes, the range of its numbers, the failures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from fedconv.commands.console import number, stdout
from fedconv.run import BLOCK
from fedconv.schema import shown
from fedconv.sweep.grid import Grid
from fedconv.sweep.measures import MEASURES
from fedconv.sweep.results import Results, dataset
from fedconv.sweep.store import read

MOST_FAILURES = 20
"""Failed jobs that are listed one by one."""


def show_sweep(path: Path) -> int:
    """Print the tables; the sweep may be under way."""
    results, table = read(path)
    with table:
        counts, failures, done = table.counts(), table.failures(), table.done()
    console = stdout()
    console.print(_head(path, results, counts))
    console.print(_axes(results.grid))
    if done.any():
        console.print(_numbers(results, done))
    if failures:
        console.print(_failures(results.grid, failures))
    return 0


def _head(path: Path, results: Results, counts: dict[str, int]) -> Table:
    grid = results.grid
    share = counts["done"] / grid.count
    rows = {
        "name": grid.base["name"],
        "jobs": f"{', '.join(f'{count} {state}' for state, count in counts.items())} ({share:.1%} done)",
        "a job": f"at most {BLOCK} replicates of a cell, an algorithm and a step",
        "versions": ", ".join(f"{k} {v}" for k, v in results.about["versions"].items()),
    }
    table = Table(title=escape(str(path)), title_justify="left", show_header=False, box=None)
    for key, value in rows.items():
        table.add_row(key, escape(value))
    return table


def _axes(grid: Grid) -> Table:
    table = Table("axis", "size", "values", title="axes", title_justify="left", box=box.SIMPLE_HEAD)
    axes = [(axis.key, list(axis.values)) for axis in grid.axes]
    axes += [("algorithm", list(grid.algorithms)), ("eta", list(grid.etas))]
    for key, values in axes:
        table.add_row(escape(key), str(len(values)), escape(shown(values)))
    table.add_row("replicate", str(grid.replicates), f"0 to {grid.replicates - 1}")
    return table


def _numbers(results: Results, done: np.ndarray) -> Table:
    """Each measure's least, median and largest mean over replicates, among the cells and steps that are finished."""
    title = "means over replicates, over the finished cells and steps"
    table = Table("measure", "algorithm", "least", "median", "largest", "unit", "meaning", box=box.SIMPLE_HEAD)
    table.title, table.title_justify = title, "left"
    data = dataset(results, done)
    whole = data["done"].all("replicate")
    for name, about in MEASURES.items():
        for algorithm in results.grid.algorithms:
            with np.errstate(all="ignore"):
                means = data["value"].sel(measure=name, algorithm=algorithm).mean("replicate", skipna=False)
            found = means.values[whole.sel(algorithm=algorithm).values]
            finite = found[np.isfinite(found)]
            low, mid, high = np.quantile(finite, [0.0, 0.5, 1.0]) if finite.size else [np.nan] * 3
            numbers = (number(float(x), 5) for x in (low, mid, high))
            table.add_row(name, algorithm, *numbers, about.units, escape(about.long_name))
    return table


def _failures(grid: Grid, failures: list[tuple[int, str]]) -> Table:
    table = Table("job", "where", "error", title_justify="left", box=box.SIMPLE_HEAD)
    table.title = f"{len(failures)} failed (`fedconv sweep FILE --out STORE --retry-failed` tries them again)"
    for id, error in failures[:MOST_FAILURES]:
        table.add_row(str(id), escape(grid.describe(id)), escape(error))
    if len(failures) > MOST_FAILURES:
        table.add_row("", f"and {len(failures) - MOST_FAILURES} more", "")
    return table
