"""Run the pending jobs of a sweep: worker processes here, or a dask cluster; what comes back is kept at once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedconv.core.processes import side_by_side
from fedconv.sweep.grid import Grid
from fedconv.sweep.job import Batch, Job, run_batch
from fedconv.sweep.store import Sweep

SECONDS = 0.5
"""How long a batch should take: long beside the milliseconds that it costs to send one, short beside a patience."""

LARGEST = 32
Resolve = Callable[[str, str, str], float]
"""(cell's problem file as JSON, algorithm, "best" or "max") → η. It is called in worker processes."""

Known = Callable[[str, str, str], float | None]
"""The same where it is known already, else None. It is asked in this process."""

Progress = Callable[[int], None]


@dataclass
class Pace:
    """How many jobs make a batch: as many as took SECONDS last, less towards the end."""

    workers: int
    left: int
    seconds: float = SECONDS

    def size(self) -> int:
        fair = -(-self.left // (3 * self.workers))
        return max(1, min(LARGEST, fair, int(SECONDS / max(self.seconds, 1e-6))))


def resolved(
    grid: Grid,
    resolve: Resolve,
    workers: int,
    progress: Callable[[], None] | None = None,
    known: Known | None = None,
) -> np.ndarray:
    """η as numbers (cells, algorithms, η): "best" and "max" as ``known``, else by ``resolve``, side by side in worker
    processes."""
    steps = np.full(grid.sizes[:-1], np.nan)
    words = {e: eta for e, eta in enumerate(grid.etas) if isinstance(eta, str)}
    for e, eta in enumerate(grid.etas):
        if not isinstance(eta, str):
            steps[..., e] = eta
    if not words:
        return steps
    wanted: list[tuple[tuple[int, ...], tuple[str, str, str]]] = []
    for cell in grid.cell_indices():
        spec = json.dumps(grid.spec(cell))
        for (a, name), (e, word) in itertools.product(enumerate(grid.algorithms), words.items()):
            call = (spec, name, word)
            eta = None if known is None else known(*call)
            if eta is None:
                wanted.append(((*cell, a, e), call))
                continue
            steps[(*cell, a, e)] = eta
            if progress is not None:
                progress()
    with closing(side_by_side(resolve, (call for _, call in wanted), max(1, min(workers, len(wanted))))) as found:
        for (place, _), eta in zip(wanted, found, strict=True):
            steps[place] = eta
            if progress is not None:
                progress()
    return steps


def run_pending(
    sweep: Sweep,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    cluster: Literal["local"] | None = None,
    progress: Progress | None = None,
) -> None:
    """Run every pending job. ``progress`` is called with the number of jobs that ended.

    Jobs run in ``workers`` processes of this machine, or on the dask cluster of ``scheduler`` (an address) or
    ``cluster`` = "local" (one of ``workers`` processes, started for this). The numbers do not depend on it. Raises
    InputError where a worker process dies or the cluster cannot be reached: what is done is kept.
    """
    pending = sweep.table.pending()
    if not pending:
        return
    workers = min(workers, len(pending))
    pace = Pace(workers, len(pending))
    todo = batches(sweep, pending, pace)
    if scheduler is not None or cluster is not None:
        from fedconv.sweep.cluster import on_cluster

        ended = on_cluster(todo, pace, workers, scheduler)
    else:
        ended = side_by_side(run_batch, ((batch,) for batch in todo), workers, "generator_unordered")
    with closing(ended):
        for outcomes in ended:
            sweep.record(outcomes)
            pace.seconds = sum(o.seconds for o in outcomes) / len(outcomes)
            if progress is not None:
                progress(len(outcomes))


def batches(sweep: Sweep, pending: Iterable[int], pace: Pace) -> Iterator[Batch]:
    """Pending jobs in order, consecutive ones of a cell together, as many as the pace asks for when a batch begins."""
    grid, steps = sweep.grid, sweep.results.steps
    cell: tuple[int, ...] | None = None
    spec, jobs, size = "", list[Job](), 0
    for id in pending:
        place, job = grid.job(id, steps)
        if jobs and (place != cell or len(jobs) >= size):
            pace.left -= len(jobs)
            yield Batch(spec, tuple(jobs))
            jobs = []
        if place != cell:
            cell, spec = place, json.dumps(grid.spec(place))
        if not jobs:
            size = pace.size()
        jobs.append(job)
    if jobs:
        yield Batch(spec, tuple(jobs))
