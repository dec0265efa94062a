"""What ``fedconv show`` says of a sweep: how far it is, its axes, the range of its numbers, the failures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from fedconv.commands.console import note, number, stdout
from fedconv.core.made import words
from fedconv.core.run import BLOCK
from fedconv.problem_file.schema import shown
from fedconv.sweep.grid import Grid
from fedconv.sweep.measures import MEASURES
from fedconv.sweep.results import dataset
from fedconv.sweep.store import Stored, read

MOST_FAILURES = 20
"""Failed jobs that are listed one by one."""


def show_sweep(path: Path) -> int:
    """Print the tables; the sweep may be under way."""
    stored = read(path)
    grid = stored.results.grid
    console = stdout()
    console.print(_head(path, stored))
    console.print(_axes(grid))
    if stored.done.any():
        console.print(_numbers(stored))
    if stored.failures:
        console.print(_failures(grid, stored.failures))
    if stored.unverified is not None:
        note(stored.unverified)
    return 0


def _head(path: Path, stored: Stored) -> Table:
    grid, counts = stored.results.grid, stored.counts
    share = counts["done"] / grid.count
    rows = {
        "name": str(grid.base["name"]),
        "jobs": f"{', '.join(f'{count} {state}' for state, count in counts.items())} ({share:.1%} done)",
        "a job": f"at most {BLOCK} replicates of a cell, an algorithm and a step",
        "made by": words(stored.results.versions),
    }
    made = [(words(json.loads(made)) if made else "unknown code", count) for made, count in stored.makers]
    if [who for who, _ in made] not in ([], [rows["made by"]]):
        rows["made by"] = "; ".join(f"{count} jobs by {who}" for who, count in made)
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


def _numbers(stored: Stored) -> Table:
    """Each measure's least, median and largest mean over replicates, among the cells and steps that are finished."""
    title = "means over replicates, over the finished cells and steps"
    table = Table("measure", "algorithm", "least", "median", "largest", "unit", "meaning", box=box.SIMPLE_HEAD)
    table.title, table.title_justify = title, "left"
    data = dataset(stored.results, stored.done, stored.values)
    whole = data["done"].all("replicate")
    for name, about in MEASURES.items():
        for algorithm in stored.results.grid.algorithms:
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
