"""The job table of a sweep in SQLite, written by one process: the one that holds the lock."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedconv.problems.errors import InputError

JOBS, NAME = "jobs.sqlite", "results.zarr"
"""The job table and the numbers, in the folder of a sweep."""

STATES = ("pending", "done", "failed")

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS makers (id INTEGER PRIMARY KEY, made TEXT NOT NULL UNIQUE)",
)
_IDENTITY, _BEFORE = "identity", "before checksums"


class Ended(NamedTuple):
    """A job that ended: what made it (JSON), and the checksum over all that it wrote. Both are None in a table that
    was written before there were checksums."""

    id: int
    state: str
    error: str | None
    made: str | None
    checksum: str | None


class JobTable:
    """States of the jobs 0 .. count − 1, with the error of each that failed, what made each, and its checksum.

    What is written survives ``kill -9``: SQLite's log is replayed by whoever opens the table next. Readers need no
    lock and do not disturb the writer. Every method raises InputError, with the file's name, where SQLite cannot read
    or write it.
    """

    def __init__(self, path: Path, *, create: int | None = None, identity: str = "", write: bool = True) -> None:
        """Open a table, or create one of ``create`` pending jobs of a store with this ``identity``.

        Raises InputError for a file that is none.
        """
        self._write = write
        self._path = path
        mode = "rwc" if create is not None else "rw" if write else "ro"
        try:
            self._db = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=30.0
            )
        except sqlite3.Error as error:
            raise InputError(f"{path} is not a job table of fedconv that can be used: {error}") from error
        try:
            if write:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
            if create is not None:
                with self._transaction():
                    self._db.execute(
                        "CREATE TABLE jobs (id INTEGER PRIMARY KEY, state TEXT NOT NULL, error TEXT, maker INTEGER,"
                        " checksum TEXT)"
                    )
                    self._db.executemany(
                        "INSERT INTO jobs (id, state) VALUES (?, 'pending')", ((i,) for i in range(create))
                    )
                    for sentence in _SCHEMA:
                        self._db.execute(sentence)
                    self._db.execute("INSERT INTO about VALUES (?, ?)", (_IDENTITY, identity))
            self.count = self._checked()
        except (sqlite3.Error, InputError) as error:
            self._db.close()
            raise InputError(f"{path} is not a job table of fedconv that can be used: {error}") from error

    def _checked(self) -> int:
        """How many jobs there are. Raises InputError where they are not numbered 0 .. count − 1, or one has no state
        of STATES."""
        count, low, high = self._db.execute("SELECT COUNT(*), MIN(id), MAX(id) FROM jobs").fetchone()
        strange = self._db.execute(
            "SELECT COUNT(*) FROM jobs WHERE state NOT IN (?, ?, ?) OR typeof(id) != 'integer'", STATES
        ).fetchone()[0]
        if strange or (count and (low, high) != (0, count - 1)):
            raise InputError("its jobs are not those that were written")
        names = {row[1] for row in self._db.execute("PRAGMA table_info(jobs)")}
        self._sealed = {"maker", "checksum"} <= names
        about = dict(self._db.execute("SELECT key, value FROM about")) if self._sealed else {}
        self.identity: str | None = about.get(_IDENTITY)
        self.before_checksums: bool = not self._sealed or _BEFORE in about
        """Whether some jobs may be from a time when there were no checksums: they cannot be verified."""
        if self._sealed and self.identity is None:
            raise InputError("it does not say to which numbers it belongs")
        return int(count)

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
    def _said(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InputError(f"{self._path}: {error}; the jobs that were kept before are kept") from error
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            raise InputError(f"{self._path} is damaged: its table holds what fedconv does not write") from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # SQLite has rolled it back itself where the disk is full
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def upgrade(self, identity: str) -> None:
        """Add what a table from before checksums lacks; its old jobs stay without."""
        if self._sealed:
            return
        with self._said(), self._transaction():
            for column in ("maker INTEGER", "checksum TEXT"):
                self._db.execute(f"ALTER TABLE jobs ADD COLUMN {column}")
            for sentence in _SCHEMA:
                self._db.execute(sentence)
            self._db.executemany("INSERT INTO about VALUES (?, ?)", [(_IDENTITY, identity), (_BEFORE, "")])
        self._sealed, self.identity = True, identity

    def record(self, ended: Iterable[Ended]) -> None:
        """Keep how jobs ended. All of them, or none."""
        rows = list(ended)
        with self._said(), self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO makers (made) VALUES (?)", [(made,) for made in {row.made for row in rows}]
            )
            self._db.executemany(
                "UPDATE jobs SET state = ?, error = ?, maker = (SELECT id FROM makers WHERE made = ?), checksum = ?"
                " WHERE id = ?",
                [(row.state, row.error, row.made, row.checksum, row.id) for row in rows],
            )

    def reopen(self, ids: Iterable[int]) -> None:
        """Make jobs pending again."""
        clear = ", maker = NULL, checksum = NULL" if self._sealed else ""
        with self._said(), self._transaction():
            self._db.executemany(
                f"UPDATE jobs SET state = 'pending', error = NULL{clear} WHERE id = ?", [(int(id),) for id in ids]
            )

    def reopen_failed(self) -> int:
        """Make failed jobs pending again; how many they were."""
        failed = [id for id, _ in self.failures()]
        self.reopen(failed)
        return len(failed)

    def _rows(self, query: str, read: Callable[..., Any]) -> list[Any]:
        with self._said():
            return [read(*row) for row in self._db.execute(query)]

    def pending(self) -> list[int]:
        return self._rows("SELECT id FROM jobs WHERE state = 'pending' ORDER BY id", int)

    def counts(self) -> dict[str, int]:
        """Number of jobs in each of STATES."""
        found = dict(self._rows("SELECT state, COUNT(*) FROM jobs GROUP BY state", lambda s, n: (str(s), int(n))))
        return {state: found.get(state, 0) for state in STATES}

    def done(self) -> np.ndarray:
        """Which jobs are done: ``(count,)`` booleans."""
        out = np.zeros(self.count, dtype=bool)
        out[self._rows("SELECT id FROM jobs WHERE state = 'done'", int)] = True
        return out

    def failures(self) -> list[tuple[int, str]]:
        """(id, error) of every failed job."""
        return self._rows("SELECT id, error FROM jobs WHERE state = 'failed'", lambda i, e: (int(i), str(e)))

    def ended(self) -> list[Ended]:
        """Every job that is done or failed."""
        if not self._sealed:
            query = "SELECT id, state, error, NULL, NULL FROM jobs WHERE state != 'pending' ORDER BY id"
        else:
            query = (
                "SELECT jobs.id, state, error, made, checksum FROM jobs LEFT JOIN makers ON makers.id = jobs.maker"
                " WHERE state != 'pending' ORDER BY jobs.id"
            )
        return self._rows(query, lambda id, *rest: Ended(int(id), *rest))

    def makers(self) -> list[tuple[str | None, int]]:
        """(what made them as JSON, how many) of the jobs that ended; None where that is not known."""
        if not self._sealed:
            return [(None, sum(n for state, n in self.counts().items() if state != "pending"))]
        query = (
            "SELECT made, COUNT(*) FROM jobs LEFT JOIN makers ON makers.id = jobs.maker WHERE state != 'pending'"
            " GROUP BY made ORDER BY MIN(jobs.id)"
        )
        return self._rows(query, lambda made, n: (None if made is None else str(made), int(n)))


def is_sweep(path: Path) -> bool:
    """Whether a folder is a sweep's."""
    return (path / JOBS).is_file() and (path / NAME / "zarr.json").is_file()
