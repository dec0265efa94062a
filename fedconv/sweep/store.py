"""The folder of a sweep: results, job table and lock; created whole, owned by one process, read by any."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedconv.core.files import locked
from fedconv.core.made import made_by, made_by_text, words
from fedconv.problems.errors import InputError
from fedconv.sweep.grid import Grid
from fedconv.sweep.job import Outcome
from fedconv.sweep.job_table import JOBS, NAME, Ended, JobTable, is_sweep
from fedconv.sweep.results import Results, dataset, drafted

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 2
FORMATS = (1, FORMAT)
"""Formats that can be read; 1 has no checksums."""

LOCK = "lock"
Plan = Callable[[], tuple[Grid, np.ndarray]]
"""The checked grid with its resolved steps: called only where there is no store yet."""


@dataclass(frozen=True)
class Sweep:
    """An open sweep: the only writer of its folder. ``notes``: sentences about what was kept there."""

    path: Path
    results: Results
    table: JobTable
    notes: tuple[str, ...] = ()
    other_code: bool = False

    @property
    def grid(self) -> Grid:
        return self.results.grid

    def record(self, outcomes: list[Outcome]) -> None:
        """Keep what some jobs gave: first the numbers, then the states. Killed in between, a job is computed again and
        its chunk replaced by the same numbers.

        Raises InputError where a machine of the cluster has computed with other code and that is not allowed.
        """
        here = made_by_text()
        ended: list[Ended] = []
        for outcome in outcomes:
            if outcome.made != here and not self.other_code:
                raise InputError(
                    f"a worker of the cluster computes with {words(json.loads(outcome.made))}; here is"
                    f" {words(made_by())}: install the same there, or allow it by --allow-other-code"
                )
            if outcome.values is not None:
                self.results.write(outcome.id, outcome.values)
            state = "done" if outcome.error is None else "failed"
            one = Ended(outcome.id, state, outcome.error, outcome.made, None)
            ended.append(one._replace(checksum=self.results.checksum(one, outcome.values)))
        self.table.record(ended)


class Stored(NamedTuple):
    """What a sweep holds, each job compared with its checksum. ``values``: all numbers; ``makers``: (what made them,
    how many) of the jobs that ended; ``unverified``: a sentence where some have no checksum, else None."""

    results: Results
    counts: dict[str, int]
    failures: list[tuple[int, str]]
    done: np.ndarray
    values: np.ndarray
    makers: list[tuple[str | None, int]]
    unverified: str | None


@contextlib.contextmanager
def opened(
    path: Path,
    mapping: Mapping[str, Any],
    plan: Plan,
    *,
    retry_failed: bool = False,
    restart: bool = False,
    allow_other_code: bool = False,
) -> Iterator[Sweep]:
    """The sweep of a file's content in the folder ``path``, created from ``plan()`` where there is none.

    Jobs that are not what was written, by their checksums, are pending again; with ``retry_failed`` also those that
    failed; with ``restart`` all. Raises InputError where the folder is in use by another process, holds the sweep of
    another file or anything else, has a damaged grid, or where something is to be computed and what is there was made
    by other code, unless that is allowed.
    """
    made: tuple[Grid, np.ndarray] | None = None
    if restart or not is_sweep(path):
        _check_free(path, restart)
        made = plan()
        path.mkdir(parents=True, exist_ok=True)
    with locked(path / LOCK, path):
        if made is not None and (restart or not is_sweep(path)):
            _create(path, mapping, *made)
        results = Results(path / NAME, write=True)
        _check_same(path, results, mapping)
        with JobTable(path / JOBS) as table:
            _check_whole(path, results, table)
            ended = table.ended()
            damaged = results.damaged(_sealed(table, ended), results.read())
            again = {*damaged, *(job.id for job in ended if retry_failed and job.state == "failed")}
            notes: list[str] = []
            if table.before_checksums:
                notes.append(_unverified(path))
            others = _others(results, ended)
            if others and (again or len(ended) < table.count):
                if not allow_other_code:
                    raise InputError(
                        f"{path} was begun by {others[0]}; here is {words(made_by())}: --restart computes all anew,"
                        " --allow-other-code continues and keeps which job is of which"
                    )
                table.upgrade(results.identity)
            elif others and len(ended) == table.count:
                notes.append(f"{path} was computed by {others[0]}; here is {words(made_by())}; --restart computes anew")
            if damaged:
                notes.append(f"{_damaged(path, results.grid, damaged)}; computed again")
            table.reopen(again)
            for scrap in (path / NAME / "value").glob("*.partial"):  # of a process killed while it wrote a chunk
                scrap.unlink()
            for scrap in path.glob(f".{NAME}.*.tmp"):  # of a process killed while it began anew
                shutil.rmtree(scrap, ignore_errors=True)
            yield Sweep(path, results, table, tuple(notes), allow_other_code)


def load_sweep(path: Path | str) -> xr.Dataset:
    """A sweep, finished or under way, as a Dataset (see :func:`fedconv.sweep.results.dataset`).

    Its attribute ``made_by`` says what made how many jobs; ``unverified`` is a sentence where some have no checksum.
    Raises InputError as :func:`read` does.
    """
    stored = read(Path(path))
    data = dataset(stored.results, stored.done, stored.values)
    data.attrs["made_by"] = json.dumps(stored.makers)
    return data if stored.unverified is None else data.assign_attrs(unverified=stored.unverified)


def read(path: Path) -> Stored:
    """A sweep, finished or under way. Raises InputError where there is none, or where it is damaged."""
    if not is_sweep(path):
        raise InputError(f"{path} is not a store of `fedconv sweep`")
    results = Results(path / NAME, write=False)
    with JobTable(path / JOBS, write=False) as table:
        _check_whole(path, results, table)
        ended = table.ended()  # before the numbers: those of the jobs that have ended are final
        sealed = _sealed(table, ended)
        count, before = table.count, table.before_checksums
    values = results.read()
    damaged = results.damaged(sealed, values)
    if damaged:
        raise InputError(f"{_damaged(path, results.grid, damaged)}; the same `fedconv sweep` computes them again")
    done = np.zeros(count, dtype=bool)
    done[[job.id for job in ended if job.state == "done"]] = True
    failures = [(job.id, str(job.error)) for job in ended if job.state == "failed"]
    counts = {"pending": count - len(ended), "done": int(done.sum()), "failed": len(failures)}
    makers = list(Counter(job.made for job in ended).items())
    return Stored(results, counts, failures, done, values, makers, _unverified(path) if before else None)


def _check_whole(path: Path, results: Results, table: JobTable) -> None:
    if table.count != results.grid.count:
        raise InputError(f"{path} is damaged: its table has {table.count} jobs, its grid {results.grid.count}")
    if table.identity not in (None, results.identity):
        raise InputError(
            f"{path} is damaged: its grid, steps or types are not those that were written; `fedconv sweep` with"
            " --restart computes it anew"
        )


def _sealed(table: JobTable, ended: list[Ended]) -> list[Ended]:
    """The jobs that must have a checksum."""
    return [job for job in ended if not (table.before_checksums and job.checksum is None)]


def _unverified(path: Path) -> str:
    return f"{path} was begun before sweeps kept checksums: it cannot be verified that its numbers are those written"


def _damaged(path: Path, grid: Grid, ids: list[int]) -> str:
    several = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
    return (
        f"{path}: {len(ids)} of {grid.count} jobs are damaged, by their checksums: job {ids[0]}"
        f" ({grid.describe(ids[0])}){several}"
    )


def _others(results: Results, ended: list[Ended]) -> list[str]:
    """What made the grid or a job and is not what computes here, in words."""
    here = made_by()
    known = [results.versions, *(json.loads(made) for made in dict.fromkeys(job.made for job in ended) if made)]
    return [words(made) for made in known if made != here]


def _check_free(path: Path, restart: bool) -> None:
    """Only an empty folder, what is left of a creation that was interrupted, or a sweep that is to be begun anew may
    be written to."""
    if not path.exists():
        return
    taken = f"{path} exists and is not a store of `fedconv sweep`; choose another --out or remove it"
    if not path.is_dir():
        raise InputError(taken)
    names = (LOCK, *(JOBS + end for end in ("", "-wal", "-shm", "-journal")))
    for entry in path.iterdir():
        old = restart and entry.name == NAME and (path / JOBS).is_file()
        if not (old or entry.name in names or entry.name.startswith(f".{NAME}.")):
            raise InputError(taken)


def _create(path: Path, mapping: Mapping[str, Any], grid: Grid, steps: np.ndarray) -> None:
    if (path / NAME).exists():  # a rename first: what is half removed is no sweep
        os.replace(path / NAME, path / f".{NAME}.{uuid.uuid4().hex[:8]}.tmp")
    for entry in path.iterdir():
        if entry.name.startswith(JOBS):
            entry.unlink()
        elif entry.is_dir():
            shutil.rmtree(entry)
    about = {"format": FORMAT, "file": _identity(mapping), "versions": made_by()}
    with drafted(path / NAME, grid, steps, about) as identity:
        JobTable(path / JOBS, create=grid.count, identity=identity).close()


def _identity(mapping: Mapping[str, Any]) -> str:
    return json.dumps(mapping, sort_keys=True)


def _check_same(path: Path, results: Results, mapping: Mapping[str, Any]) -> None:
    if results.about.get("format") not in FORMATS:
        raise InputError(f"{path} has sweep format {results.about.get('format')}; this version writes format {FORMAT}")
    if results.about["file"] == _identity(mapping):
        return
    old, new = results.file, json.loads(_identity(mapping))
    differ = ", ".join(k for k in sorted({*old, *new}) if old.get(k) != new.get(k))
    raise InputError(f"{path} holds the sweep of another file (its {differ} differ); choose another --out or remove it")
