"""``fedconv sweep``: a grid of problem files into one store, resumable."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fedconv.analysis.theorems import THEOREMS, theorem
from fedconv.analysis.verdicts.verify import bounds, resolve_step
from fedconv.commands import Interrupted
from fedconv.commands.console import chosen_workers, note, progress
from fedconv.problems.errors import InputError
from fedconv.sweep.grid import Grid, check_cells, grid_from, read_sweep_file
from fedconv.sweep.job import cell_settings
from fedconv.sweep.runner import Known, resolved, run_pending
from fedconv.sweep.store import load_sweep, opened

if TYPE_CHECKING:
    import xarray as xr


def sweep_file(
    file: Path,
    out: Path,
    *,
    workers: int | None,
    scheduler: str | None,
    cluster: Literal["local"] | None,
    retry_failed: bool,
    restart: bool = False,
    allow_other_code: bool = False,
) -> int:
    """Sweep a file into a store; see ``fedconv sweep --help``. Returns 1 where jobs have failed, else 0."""
    if scheduler is not None and cluster is not None:
        raise InputError("--cluster must be left out with --scheduler; got both")
    if scheduler is not None and workers is not None:
        raise InputError("--workers must be left out with --scheduler, whose cluster has workers of its own; got both")
    return sweep_mapping(
        read_sweep_file(file),
        str(file),
        out,
        workers=chosen_workers(workers),
        scheduler=scheduler,
        cluster=cluster,
        retry_failed=retry_failed,
        restart=restart,
        allow_other_code=allow_other_code,
    )


def theorem_step(spec: str, algorithm: str, wish: str) -> float:
    """η for "best" or "max" of the theorem in ``verify.theorems`` about the algorithm, else of FA* or FS*.

    spec: a cell's problem file as JSON. Raises InputError where no theorem is about the algorithm, or none of its
    steps is admissible.
    """
    settings = cell_settings(spec)
    fits = bounds(algorithm)
    if settings.verify.theorems is not None:
        named = [theorem(key) for key in settings.verify.theorems if key in THEOREMS]
        fits = [t for t in named if t in fits][:1]
    if not fits:
        raise InputError(f'algorithm.eta: "{wish}" needs a theorem about {algorithm} in verify.theorems')
    one = next(a for a in settings.algorithms if a.name == algorithm)
    return resolve_step(settings.experiment(one, 0.1), fits[-1], wish, settings.verify.a_posteriori)


def sweep_mapping(
    mapping: dict[str, Any],
    where: str,
    out: Path,
    *,
    workers: int,
    scheduler: str | None = None,
    cluster: Literal["local"] | None = None,
    retry_failed: bool = False,
    restart: bool = False,
    allow_other_code: bool = False,
    known: Known | None = None,
) -> int:
    """The same for a file's content; ``known``: steps for "best" and "max" that need not be searched."""
    if restart and allow_other_code:
        raise InputError("--allow-other-code must be left out with --restart, which continues nothing; got both")

    def plan() -> tuple[Grid, np.ndarray]:
        return _plan(mapping, where, workers, known)

    try:
        with opened(
            out, mapping, plan, retry_failed=retry_failed, restart=restart, allow_other_code=allow_other_code
        ) as sweep:
            for sentence in sweep.notes:
                note(sentence)
            todo = len(sweep.table.pending())
            if todo == 0 and sweep.table.counts()["failed"] == 0:
                note(f"{out} is finished already: nothing to do")
                return 0
            try:
                with progress() as bar:
                    task = bar.add_task("jobs", total=sweep.table.count, completed=sweep.table.count - todo)
                    run_pending(
                        sweep,
                        workers=workers,
                        scheduler=scheduler,
                        cluster=cluster,
                        progress=lambda count: bar.advance(task, count),
                    )
            except KeyboardInterrupt:
                done = sweep.table.counts()["done"]
                raise Interrupted(
                    f"interrupted: {done} of {sweep.table.count} jobs are kept in {out}; the same command continues"
                    " there"
                ) from None
            return _summary(out, sweep.table.counts(), sweep.grid)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted before the first job; nothing is kept in {out}") from None


def _plan(mapping: dict[str, Any], where: str, workers: int, known: Known | None) -> tuple[Grid, np.ndarray]:
    grid = grid_from(mapping, where)
    words = sum(isinstance(eta, str) for eta in grid.etas)
    with progress() as bar:
        cells = math.prod(grid.cells)
        task = bar.add_task("cells checked", total=cells)
        check_cells(grid, where, lambda: bar.advance(task))
        wanted = cells * len(grid.algorithms) * words
        if wanted:
            task = bar.add_task("theorems' steps", total=wanted)
        try:
            return grid, resolved(grid, theorem_step, workers, lambda: bar.advance(task), known)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error


def _summary(out: Path, counts: dict[str, int], grid: Grid) -> int:
    cells = math.prod(grid.cells)
    shape = f"{cells} {'cell' if cells == 1 else 'cells'}, {len(grid.algorithms)} algorithms, {len(grid.etas)} steps"
    note(f"{out}: {counts['done']} of {sum(counts.values())} jobs done ({shape}, {grid.replicates} replicates)")
    if counts["failed"]:
        note(f"{counts['failed']} jobs failed: `fedconv show {out}` tells why, --retry-failed tries them again")
        return 1
    return 0


def sweep_of(store: Path) -> xr.Dataset:
    """The numbers of a sweep, with a note where some cannot be verified."""
    data = load_sweep(store)
    if "unverified" in data.attrs:
        note(data.attrs["unverified"])
    return data
