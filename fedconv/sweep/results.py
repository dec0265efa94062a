"""The numbers of a sweep in one zarr store: a chunk per job, read back as a labelled Dataset."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.core.files import checksum, first_line, number_bytes
from fedconv.core.run import BLOCK
from fedconv.problems.errors import InputError
from fedconv.sweep.grid import Grid
from fedconv.sweep.job_table import Ended
from fedconv.sweep.measures import MEASURES

if TYPE_CHECKING:
    import xarray as xr


class Results:
    """The zarr group of a sweep.

    ``value`` (the swept keys, algorithm, eta, replicate, measure): NaN until its job is done, then final; one chunk
    is one job. ``step`` (the swept keys, algorithm, eta): η as a number. The group's attribute ``sweep`` is JSON.
    """

    def __init__(self, path: Path, *, write: bool) -> None:
        """Open the group. Raises InputError where it is missing or not what :func:`drafted` writes."""
        import zarr

        try:
            group: Any = zarr.open_group(path, mode="r+" if write else "r", zarr_format=3)
            self.about: dict[str, Any] = dict(json.loads(str(group.attrs["sweep"])))
            self.grid = Grid.from_dict(self.about["grid"])
            self.steps = np.asarray(group["step"][...])
            self._value: Any = group["value"].with_config({"write_empty_chunks": True})
            shapes = (self.steps.shape, self._value.shape)
            if shapes != (self.grid.sizes[:-1], (*self.grid.sizes[:-1], self.grid.replicates, len(MEASURES))):
                raise ValueError(f"its arrays have the shapes {shapes}")
            self.identity = identity(path, self.steps)
            self.versions: dict[str, str] = {str(k): str(v) for k, v in dict(self.about["versions"]).items()}
            self.file: dict[str, Any] = dict(json.loads(self.about["file"]))
        except Exception as error:
            raise InputError(
                f"{path} is not a complete store of a sweep ({type(error).__name__}: {first_line(error)})"
            ) from error

    def write(self, id: int, values: np.ndarray) -> None:
        """The numbers of a job ``(replicates of its block, measures)``; the chunk is replaced as a whole."""
        self._value[self.place(id)] = values

    def read(self) -> np.ndarray:
        """All numbers, those of unfinished jobs included; NaN where a job's file cannot be read."""
        try:
            return np.asarray(self._value[...])
        except Exception:  # whatever the reader of a damaged file stumbles on
            out = np.full(self._value.shape, np.nan)
        for id in range(self.grid.count):
            with contextlib.suppress(Exception):
                out[self.place(id)] = self._value[self.place(id)]
        return out

    def place(self, id: int) -> tuple[int | slice, ...]:
        """Where the numbers of a job lie in :meth:`read`."""
        *head, block = self.grid.index(id)
        return (*head, slice(block * BLOCK, min((block + 1) * BLOCK, self.grid.replicates)))

    def checksum(self, job: Ended, values: np.ndarray | None) -> str:
        """Of all that a job wrote: its state, error, maker and numbers, and to which place of which sweep."""
        words = json.dumps([self.identity, job.id, job.state, job.error, job.made])
        return checksum(words.encode(), b"" if values is None else number_bytes(values))

    def damaged(self, ended: Iterable[Ended], values: np.ndarray) -> list[int]:
        """The jobs that are not what was written, by their checksums. ``values``: all numbers (:meth:`read`)."""
        return [
            job.id
            for job in ended
            if job.checksum != self.checksum(job, values[self.place(job.id)] if job.state == "done" else None)
        ]


def identity(path: Path, steps: np.ndarray) -> str:
    """A checksum of all that a group holds besides the jobs' numbers: the grid, the steps, shapes and types."""
    metadata = (path / name / "zarr.json" for name in (".", "value", "step"))
    return checksum(*(file.read_bytes() for file in metadata), number_bytes(steps))


@contextlib.contextmanager
def drafted(path: Path, grid: Grid, steps: np.ndarray, about: dict[str, Any]) -> Iterator[str]:
    """Write the group, empty of results, and give its :func:`identity`. It appears as a whole when the block ends,
    or not at all (a temporary folder is renamed at the end)."""
    import zarr

    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    names = dimensions(grid)
    options: dict[str, Any] = {"dtype": "float64", "fill_value": np.nan, "compressors": None}
    flat = {"name": "default", "separator": "."}
    try:
        group = zarr.create_group(
            draft, zarr_format=3, attributes={"sweep": json.dumps(about | {"grid": grid.to_dict()})}
        )
        group.create_array(
            "value",
            shape=(*grid.sizes[:-1], grid.replicates, len(MEASURES)),
            chunks=(*(1,) * (len(grid.sizes) - 1), min(BLOCK, grid.replicates), len(MEASURES)),
            dimension_names=[*names, "replicate", "measure"],
            chunk_key_encoding=flat,  # pyright: ignore[reportArgumentType]
            **options,
        )
        step = group.create_array("step", shape=steps.shape, chunks=steps.shape, dimension_names=names, **options)
        step[...] = steps
        yield identity(draft, steps)
        os.replace(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def dimensions(grid: Grid) -> list[str]:
    """The swept keys, ``algorithm`` and ``eta``."""
    return [*(axis.key for axis in grid.axes), "algorithm", "eta"]


def dataset(results: Results, done: np.ndarray, values: np.ndarray) -> xr.Dataset:
    """A sweep as a Dataset; ``done``: which jobs are; ``values``: all numbers (:meth:`Results.read`).

    ``value`` (swept keys, algorithm, eta, replicate, measure), NaN where the job is not done; ``done`` (without
    measure); ``step`` (swept keys, algorithm, eta). Coordinates: the swept values (texts where they are not numbers),
    algorithms' names, η as the file gives it ("0.1", "best"), replicate numbers, MEASURES.
    """
    import xarray as xr

    grid = results.grid
    names = dimensions(grid)
    finished = np.repeat(done.reshape(grid.sizes), BLOCK, axis=-1)[..., : grid.replicates]
    value = np.where(finished[..., None], values, np.nan)
    coords: dict[str, Any] = {axis.key: axis.labels for axis in grid.axes}
    coords |= {
        "algorithm": list(grid.algorithms),
        "eta": [str(eta) for eta in grid.etas],
        "replicate": np.arange(grid.replicates),
        "measure": list(MEASURES),
    }
    meanings = json.dumps({name: m.long_name for name, m in MEASURES.items()}, ensure_ascii=False)
    return xr.Dataset(
        {
            "value": (
                [*names, "replicate", "measure"],
                value,
                {"long_name": meanings},
            ),
            "done": ([*names, "replicate"], finished, {"long_name": "the job is done: its numbers are final"}),
            "step": (names, results.steps, {"long_name": "η as a number"}),
        },
        coords=coords,
        attrs={
            "name": grid.base["name"],
            "base": json.dumps(grid.base),
            "versions": json.dumps(results.versions),
        },
    )
