"""The job table of a sweep in SQLite, written by one process: the one that holds the lock."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from problems.errors import InputError

JOBS, NAME = "jobs.sqlite", "results.zarr"
"""The job table and the numbers, in the folder of a sweep."""

STATES = ("pending", "done", "failed")


class JobTable:
    """States of the jobs 0 .. count − 1, with the error of each that failed.

    What is written survives ``kill -9``: SQLite's log is replayed by whoever opens the table next. Readers need no
    lock and do not disturb the writer.
    """

    def __init__(self, path: Path, *, create: int | None = None, write: bool = True) -> None:
        """Open a table, or create one of ``create`` pending jobs. Raises InputError for a file that is none."""
        self._write = write
        mode = "rwc" if create is not None else "rw" if write else "ro"
        try:
            self._db = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=30.0
            )
            if write:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
            if create is not None:
                with self._transaction():
                    self._db.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, state TEXT NOT NULL, error TEXT)")
                    self._db.executemany("INSERT INTO jobs VALUES (?, 'pending', NULL)", ((i,) for i in range(create)))
            self.count = int(self._db.execute("SELECT COUNT(*) FROM jobs").fetchone()[0])
        except sqlite3.Error as error:
            raise InputError(f"{path} is not a job table of fedconv that can be used: {error}") from error

    def close(self) -> None:
        """Close; a writer leaves one file behind, which can be read where nothing can be written."""
        with contextlib.suppress(sqlite3.Error):  # somebody reads just now: the log stays beside the file
            if self._write:
                self._db.execute("PRAGMA journal_mode = DELETE")
        self._db.close()

    def __enter__(self) -> JobTable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def record(self, outcomes: Iterable[tuple[int, str | None]]) -> None:
        """(id, error) of jobs that ended: done where the error is None, else failed. All of them, or none."""
        rows = [("done" if error is None else "failed", error, id) for id, error in outcomes]
        with self._transaction():
            self._db.executemany("UPDATE jobs SET state = ?, error = ? WHERE id = ?", rows)

    def reopen_failed(self) -> int:
        """Make failed jobs pending again; how many they were."""
        with self._transaction():
            return self._db.execute("UPDATE jobs SET state = 'pending', error = NULL WHERE state = 'failed'").rowcount

    def pending(self) -> list[int]:
        return [int(id) for (id,) in self._db.execute("SELECT id FROM jobs WHERE state = 'pending' ORDER BY id")]

    def counts(self) -> dict[str, int]:
        """Number of jobs in each of STATES."""
        found = dict(self._db.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetchall())
        return {state: int(found.get(state, 0)) for state in STATES}

    def done(self) -> np.ndarray:
        """Which jobs are done: ``(count,)`` booleans."""
        out = np.zeros(self.count, dtype=bool)
        out[[id for (id,) in self._db.execute("SELECT id FROM jobs WHERE state = 'done'")]] = True
        return out

    def failures(self) -> list[tuple[int, str]]:
        """(id, error) of every failed job."""
        return [(int(i), str(e)) for i, e in self._db.execute("SELECT id, error FROM jobs WHERE state = 'failed'")]


def is_sweep(path: Path) -> bool:
    """Whether a folder is a sweep's."""
    return (path / JOBS).is_file() and (path / NAME / "zarr.json").is_file()


@contextlib.contextmanager
def locked(path: Path, store: Path) -> Iterator[None]:
    """Hold the lock file of a store. The system releases it when the process ends, however it ends.

    Raises InputError where another process (or another sweep of this one) holds it.
    """
    import fcntl

    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{store} is in use by another process; wait until it ends") from None
        yield
    finally:
        os.close(handle)
