"""The same batches on dask.distributed, imported when a cluster is asked for (extra ``cluster``)."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from fedconv.core.processes import without_interrupts
from fedconv.problems.errors import InputError
from fedconv.sweep.job import Batch, Outcome, run_batch

if TYPE_CHECKING:
    from fedconv.sweep.runner import Pace

PATIENCE = "10s"
AHEAD = 3
"""Batches under way for each worker: one runs, the others wait beside it."""


def on_cluster(todo: Iterator[Batch], pace: Pace, workers: int, scheduler: str | None) -> Generator[list[Outcome]]:
    """Outcomes of batches as they end, from the cluster at the address ``scheduler``, else from a local one of
    ``workers`` processes. The cluster's machines need this version of fedconv; they need no common file system.

    Raises InputError where dask is missing, the scheduler does not answer, or a batch is lost with its worker.
    """
    try:
        distributed = importlib.import_module("distributed")
    except ImportError:
        raise InputError("--scheduler and --cluster need dask.distributed: pip install 'fedconv[cluster]'") from None
    with connected(distributed, workers, scheduler) as client:
        if scheduler is not None:
            pace.workers = _threads(client, scheduler)
        running = distributed.as_completed(
            [client.submit(run_batch, batch, pure=False) for batch in islice(todo, AHEAD * pace.workers)]
        )
        for future in running:
            try:
                outcomes = future.result()
            except Exception as error:
                raise InputError(
                    f"the cluster lost a batch of jobs ({type(error).__name__}: {error}); the jobs that are done are"
                    " kept: run again to continue"
                ) from error
            yield outcomes
            for batch in islice(todo, 1):
                running.add(client.submit(run_batch, batch, pure=False))


def connected(distributed: Any, workers: int, scheduler: str | None) -> Any:
    if scheduler is None:  # a client that starts its cluster also ends it
        with without_interrupts():
            return distributed.Client(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    try:
        return distributed.Client(scheduler, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--scheduler must be the address of a dask scheduler that answers, say tcp://10.0.0.1:8786; got"
            f" {scheduler!r} ({type(error).__name__})"
        ) from error


def _threads(client: Any, scheduler: str) -> int:
    """Threads of all workers. Raises InputError where none arrives."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise InputError(f"--scheduler {scheduler} has no worker after {PATIENCE}") from None
    return max(1, sum(client.nthreads().values()))
