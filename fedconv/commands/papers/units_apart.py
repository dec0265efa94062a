"""Units of claims in processes of this machine, or on dask.distributed (extra ``cluster``), each a job of its own."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fedconv.analysis.claims.claim import Budget
from fedconv.core.processes import side_by_side
from fedconv.paper_checks.shared.units import Found, Unit, known, remember
from fedconv.problems.errors import InputError
from fedconv.sweep.cluster import connected


def run_unit(unit: Unit, budget: Budget) -> Found:
    """A unit's result, in a worker's process."""
    import torch

    torch.set_num_threads(1)
    return tuple(unit.function(budget, *unit.arguments))


def _numbered(number: int, unit: Unit, budget: Budget) -> tuple[int, Found]:
    return number, run_unit(unit, budget)


def on_processes(units: Sequence[Unit], budget: Budget) -> Iterator[Unit]:
    """Compute the units in ``budget.workers`` processes and remember their results; each is yielded as it ends.

    Raises InputError where a process dies.
    """
    alone = replace(budget, workers=1)
    calls = ((k, unit, alone) for k, unit in enumerate(units) if not known(unit, budget))
    for k, found in side_by_side(_numbered, calls, budget.workers, "generator_unordered"):
        remember(units[k], budget, found)
        yield units[k]


def on_cluster(units: Sequence[Unit], budget: Budget, workers: int, scheduler: str | None) -> Iterator[Unit]:
    """Compute the units on a cluster and remember their results; each is yielded as it ends.

    Raises InputError where dask is missing, the scheduler does not answer, or a unit is lost with its worker.
    """
    try:
        distributed = importlib.import_module("distributed")
    except ImportError:
        raise InputError("--scheduler and --cluster need dask.distributed: pip install 'fedconv[cluster]'") from None
    with connected(distributed, workers, scheduler) as client:
        jobs = {client.submit(run_unit, unit, budget, pure=False): unit for unit in units if not known(unit, budget)}
        for future in distributed.as_completed(list(jobs)):
            unit = jobs[future]
            try:
                remember(unit, budget, future.result())
            except InputError:
                raise
            except Exception as error:
                raise InputError(f"the cluster lost {unit} ({type(error).__name__}: {error}); run again") from error
            future.release()
            yield unit
