"""The work of a sweep: a job in, numbers out. Pure: it reads and writes nothing, here or on another machine."""

from __future__ import annotations

import json
import time
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fedconv.core.made import made_by_text
from fedconv.core.run import single_torch_thread
from fedconv.core.streams import Streams
from fedconv.methods.split.torch_engine import STATE
from fedconv.problem_file.settings import Settings, built_once, settings_from
from fedconv.sweep.measures import measure


class Job(NamedTuple):
    """Replicates ``first .. first + replicates − 1`` of one algorithm at the step η, in the cell of its batch."""

    id: int
    algorithm: str
    eta: float
    first: int
    replicates: int


class Batch(NamedTuple):
    """Jobs of one cell: its problem file as JSON."""

    spec: str
    jobs: tuple[Job, ...]


class Outcome(NamedTuple):
    """What a job gave: MEASURES of its replicates ``(R, 4)``, or the error it ended with; ``made``: what computed it,
    as JSON."""

    id: int
    values: np.ndarray | None
    error: str | None
    seconds: float
    made: str


_BUILD = built_once()


@lru_cache(maxsize=32)
def cell_settings(spec: str) -> Settings:
    """The settings of a cell; a problem that cells share is built once in a process."""
    return settings_from(json.loads(spec), "cell", _BUILD)


def compute(spec: str, job: Job) -> np.ndarray:
    """MEASURES of a job's replicates ``(R, 4)``. The engine and the streams are those of
    :func:`fedconv.core.run.run`."""
    settings = cell_settings(spec)
    algorithm = next(a for a in settings.algorithms if a.name == job.algorithm)
    experiment = settings.experiment(algorithm, job.eta)
    engine, _ = experiment.choose(settings.engine)
    replicates = np.arange(job.first, job.first + job.replicates)
    with single_torch_thread(), np.errstate(all="ignore"):
        block = experiment.block(Streams(experiment.seed), replicates, STATE, engine)
    return measure(experiment, block)


def run_batch(batch: Batch) -> list[Outcome]:
    """All jobs of a batch. An error ends the job it happens in, and no other."""
    return [_outcome(batch.spec, job) for job in batch.jobs]


def _outcome(spec: str, job: Job) -> Outcome:
    begun = time.perf_counter()
    try:
        values, error = compute(spec, job), None
    except Exception as problem:
        values, error = None, " ".join(f"{type(problem).__name__}: {problem}".split())[:2000]
    return Outcome(job.id, values, error, time.perf_counter() - begun, made_by_text())
