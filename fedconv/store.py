"""One zarr store per trace: saved atomically, checked on loading, resumed block by block."""

from __future__ import annotations

import json
import os
import shutil
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedconv.trace import FORMAT
from problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.run import Runnable


def save(trace: xr.Dataset, path: Path | str, *, overwrite: bool = False) -> None:
    """Write a trace to one zarr store: complete or not at all (a temporary folder is renamed at the end)."""
    target = Path(path)
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already; choose another path or allow it to be overwritten")
    if target.exists() and not is_store(target):
        raise InputError(f"{target} exists and is not a fedconv store; it will not be overwritten")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    marked = trace.assign_attrs(checksums=json.dumps(_checksums(trace)))
    try:
        marked.to_zarr(temporary, mode="w", consolidated=False, zarr_format=3)
        if target.exists():
            old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
            os.replace(target, old)
            try:
                os.replace(temporary, target)
            except BaseException:
                os.replace(old, target)
                raise
            shutil.rmtree(old)
        else:
            os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load(path: Path | str) -> xr.Dataset:
    """Read a trace and check it is whole. Raises InputError where it is missing, half-written or altered."""
    import xarray as xr

    target = Path(path)
    if not target.exists():
        raise InputError(f"{target} does not exist; expected a fedconv store")
    try:
        trace = xr.open_zarr(target, consolidated=False).load()
        sums: dict[str, int] = dict(json.loads(trace.attrs.pop("checksums")))
        version = trace.attrs["format"]
    except Exception as error:
        raise InputError(f"{target} is not a complete fedconv store ({_first_line(error)})") from error
    if version != FORMAT:
        raise InputError(f"{target} has store format {version}; this version reads format {FORMAT}")
    found = _checksums(trace)
    broken = sorted(set(sums) ^ set(found) | {k for k in sums if found.get(k) != sums[k]})
    if broken:
        raise InputError(f"{target} is incomplete or altered, by its checksums: {', '.join(broken)}")
    return trace


def is_store(path: Path) -> bool:
    """Whether a folder looks like a store written by :func:`save`."""
    meta = path / "zarr.json"
    try:
        return "checksums" in json.loads(meta.read_text())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _checksums(trace: xr.Dataset) -> dict[str, int]:
    """A checksum of each variable (numbers, type, dimensions, attributes) and one of the attributes of the trace.

    All NaN count as the same NaN: zarr does not keep their bits.
    """

    def of(key: str) -> int:
        variable = trace[key]
        words = json.dumps([variable.dims, str(variable.dtype), variable.attrs], sort_keys=True)
        numbers = np.ascontiguousarray(variable.values)
        if numbers.dtype.kind == "f":
            numbers = np.where(np.isnan(numbers), np.nan, numbers)
        return zlib.crc32(numbers.tobytes(), zlib.crc32(words.encode()))

    attributes = json.dumps(trace.attrs, sort_keys=True)
    return {k: of(k) for k in sorted(map(str, trace.variables))} | {"attributes": zlib.crc32(attributes.encode())}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no detail'}"


def run_to_store(
    experiment: Runnable,
    replicates: int,
    path: Path | str,
    *,
    level: str = "stationarity",
    engine: str = "auto",
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> xr.Dataset:
    """Run and save, resumable: finished blocks wait in ``PATH.partial`` and are not computed again.

    An interrupted run leaves only whole blocks behind; calling again with the same experiment continues and gives
    bit for bit what an uninterrupted run gives. A partial folder of another experiment is refused.
    """
    import xarray as xr

    from fedconv.run import describe, iterate_blocks, spans

    target = Path(path)
    if replicates < 1:
        raise InputError(f"replicates must be at least 1; got {replicates}")
    if target.exists():
        raise InputError(f"{target} exists already; choose another path or remove it")
    chosen, reason = experiment.choose(engine)
    partial = target.with_name(target.name + ".partial")
    identity = json.dumps(
        experiment.provenance()
        | {"level": level, "engine": chosen, "replicates": replicates, "start": _start_checksum(experiment)},
        sort_keys=True,
    )
    marker = partial / "experiment.json"
    if partial.exists() and not marker.exists() and (not partial.is_dir() or any(partial.iterdir())):
        raise InputError(f"{partial} is not a folder of finished blocks; remove it or choose another path")
    partial.mkdir(parents=True, exist_ok=True)
    if marker.exists():
        if marker.read_text() != identity:
            raise InputError(f"{partial} holds blocks of another experiment; remove it or choose another path")
    else:
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        draft.write_text(identity)
        os.replace(draft, marker)
    todo: list[np.ndarray] = []
    parts: list[tuple[int, Path]] = []
    for span in spans(0, replicates):
        part = partial / f"block-{span[0]:08d}.zarr"
        parts.append((int(span[0]), part))
        if part.exists():
            if progress is not None:
                progress(len(span))
        else:
            todo.append(span)
    for span, block in zip(todo, iterate_blocks(experiment, todo, level, chosen, workers), strict=True):
        trace = experiment.assemble([block], int(span[0]), describe([block], level, chosen, reason))
        save(trace, partial / f"block-{span[0]:08d}.zarr")
        if progress is not None:
            progress(len(span))
    traces = [load(part) for _, part in parts]
    whole = xr.concat(traces, dim="replicate", data_vars="minimal", coords="minimal", compat="override", join="exact")
    whole.attrs = traces[0].attrs | {"diverged": sum(t.attrs["diverged"] for t in traces)}
    save(whole, target)
    shutil.rmtree(partial)
    return load(target)


def _start_checksum(experiment: Runnable) -> int:
    start = experiment.start
    return zlib.crc32(start.u.cpu().numpy().tobytes() + start.v.cpu().numpy().tobytes())
