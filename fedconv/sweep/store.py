"""The folder of a sweep: results, job table and lock; created whole, owned by one process, read by any."""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.sweep.grid import Grid
from fedconv.sweep.jobs import JOBS, NAME, JobTable, is_sweep, locked
from fedconv.sweep.results import Results, create, dataset
from fedconv.sweep.work import Outcome
from problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1
LOCK = "lock"
Plan = Callable[[], tuple[Grid, np.ndarray]]
"""The checked grid with its resolved steps: called only where there is no store yet."""


@dataclass(frozen=True)
class Sweep:
    """An open sweep: the only writer of its folder."""

    path: Path
    results: Results
    table: JobTable

    @property
    def grid(self) -> Grid:
        return self.results.grid

    def record(self, outcomes: list[Outcome]) -> None:
        """Keep what some jobs gave: first the numbers, then the states. Killed in between, a job is computed again and
        its chunk replaced by the same numbers."""
        for outcome in outcomes:
            if outcome.values is not None:
                self.results.write(outcome.id, outcome.values)
        self.table.record((outcome.id, outcome.error) for outcome in outcomes)


def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in ("numpy", "torch", "numba")
    }


@contextlib.contextmanager
def opened(path: Path, mapping: Mapping[str, Any], plan: Plan) -> Iterator[Sweep]:
    """The sweep of a file's content in the folder ``path``, created from ``plan()`` where there is none.

    Raises InputError where the folder is in use by another process, holds the sweep of another file or anything
    else, or was begun with other versions of what computes the numbers and is not finished.
    """
    made: tuple[Grid, np.ndarray] | None = None
    if not is_sweep(path):
        _check_free(path)
        made = plan()
        path.mkdir(parents=True, exist_ok=True)
    with locked(path / LOCK, path):
        if made is not None and not is_sweep(path):
            _create(path, mapping, *made)
        results = Results(path / NAME, write=True)
        _check_same(path, results.about, mapping)
        with JobTable(path / JOBS) as table:
            if table.count != results.grid.count:
                raise InputError(f"{path} is damaged: its table has {table.count} jobs, its grid {results.grid.count}")
            if results.about["versions"] != versions() and table.counts()["done"] < table.count:
                raise InputError(
                    f"{path} was begun with {_pairs(results.about['versions'])} and continues with these only, to stay"
                    f" bit for bit the same; here are {_pairs(versions())}"
                )
            for scrap in (path / NAME / "value").glob("*.partial"):  # of a process killed while it wrote a chunk
                scrap.unlink()
            yield Sweep(path, results, table)


def load_sweep(path: Path | str) -> xr.Dataset:
    """A sweep, finished or under way, as a Dataset (see :func:`fedconv.sweep.results.dataset`)."""
    target = Path(path)
    results, table = read(target)
    with table:
        return dataset(results, table.done())


def read(path: Path) -> tuple[Results, JobTable]:
    """Results and table of a sweep for reading. Raises InputError where there is none."""
    if not is_sweep(path):
        raise InputError(f"{path} is not a store of `fedconv sweep`")
    return Results(path / NAME, write=False), JobTable(path / JOBS, write=False)


def _check_free(path: Path) -> None:
    """Only an empty folder, or what is left of a creation that was interrupted, may be written to."""
    if not path.exists():
        return
    if not path.is_dir():
        raise InputError(f"{path} exists and is not a store of `fedconv sweep`; choose another --out or remove it")
    for entry in path.iterdir():
        ours = entry.name in (LOCK, JOBS, f"{JOBS}-wal", f"{JOBS}-shm") or entry.name.startswith(f".{NAME}.")
        if not ours:
            raise InputError(f"{path} exists and is not a store of `fedconv sweep`; choose another --out or remove it")


def _create(path: Path, mapping: Mapping[str, Any], grid: Grid, steps: np.ndarray) -> None:
    for entry in path.iterdir():
        if entry.name.startswith(JOBS):
            entry.unlink()
        elif entry.is_dir():
            shutil.rmtree(entry)
    JobTable(path / JOBS, create=grid.count).close()
    create(path / NAME, grid, steps, {"format": FORMAT, "file": _identity(mapping), "versions": versions()})


def _identity(mapping: Mapping[str, Any]) -> str:
    return json.dumps(mapping, sort_keys=True)


def _check_same(path: Path, about: Mapping[str, Any], mapping: Mapping[str, Any]) -> None:
    if about.get("format") != FORMAT:
        raise InputError(f"{path} has sweep format {about.get('format')}; this version writes format {FORMAT}")
    if about["file"] == _identity(mapping):
        return
    old, new = json.loads(about["file"]), json.loads(_identity(mapping))
    differ = ", ".join(k for k in sorted({*old, *new}) if old.get(k) != new.get(k))
    raise InputError(f"{path} holds the sweep of another file (its {differ} differ); choose another --out or remove it")


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{k} {v}" for k, v in values.items())
