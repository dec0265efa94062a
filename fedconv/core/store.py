"""One zarr store per trace: saved atomically, checked on loading."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
import uuid
import warnings
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.core.files import first_line, number_bytes
from fedconv.core.trace import FORMAT
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

STREAM = 1 << 28
"""Bytes (256 MiB): a trace that is larger is written and checked in pieces, not held in memory as a whole."""


def save(trace: xr.Dataset, path: Path | str, *, overwrite: bool = False) -> None:
    """Write a trace to one zarr store: complete or not at all (a temporary folder is renamed at the end)."""
    target = Path(path)
    _check_free(target, overwrite)
    with _replaced(target) as temporary:
        marked = trace.assign_attrs(checksums=json.dumps(_checksums(trace)))
        marked.to_zarr(temporary, mode="w", consolidated=False, zarr_format=3)


def join(parts: Sequence[Path], path: Path, attrs: dict[str, Any], *, overwrite: bool = False) -> None:
    """Write the traces of some stores as one, consecutive along ``replicate``, one at a time: complete or not at all.

    ``attrs``: attributes of the whole. The result is what :func:`save` of the concatenated traces writes.
    """
    import zarr

    target = Path(path)
    _check_free(target, overwrite)
    sums: dict[str, Any] = {}
    with _replaced(target) as temporary:
        for number, part in enumerate(parts):
            trace = load(part).drop_attrs(deep=False)
            for key in map(str, trace.variables):
                variable = trace[key]
                if key not in sums:
                    sums[key] = hashlib.blake2b(_words(variable).encode(), digest_size=16)
                elif "replicate" not in variable.dims:
                    continue
                for numbers in _pieces(variable):
                    sums[key].update(number_bytes(numbers))
            options: dict[str, Any] = {"mode": "w"} if number == 0 else {"append_dim": "replicate"}
            trace.to_zarr(temporary, consolidated=False, zarr_format=3, **options)
        total = hashlib.blake2b(json.dumps(attrs, sort_keys=True).encode(), digest_size=16)
        found = {k: sums[k].hexdigest() for k in sorted(sums)} | {"attributes": total.hexdigest()}
        zarr.open_group(temporary, mode="r+", zarr_format=3).attrs.update(attrs | {"checksums": json.dumps(found)})


def _check_free(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already; choose another path or allow it to be overwritten")
    if target.exists() and not is_store(target):
        raise InputError(f"{target} exists and is not a fedconv store; it will not be overwritten")


@contextlib.contextmanager
def _replaced(target: Path) -> Iterator[Path]:
    """A temporary folder that takes the target's place when the block ends, and is removed where it fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
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
    except OSError as error:
        if error.filename is None and error.errno is not None:  # a full disk does not say which file
            error.filename = str(target)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def clear_leftovers(target: Path) -> None:
    """Remove what killed processes left beside a store: drafts of it, and the old one where the new one is there.

    Killed between the two renames of an overwriting, the old one is all there is: it is put back. The caller makes
    sure that nobody else writes the store just now.
    """
    for entry in target.parent.glob(f".{glob.escape(target.name)}.*"):
        if re.fullmatch(r"\.[0-9a-f]{8}\.(tmp|old)", entry.name[len(target.name) + 1 :]) is None:
            continue
        if entry.suffix == ".old" and not target.exists():
            os.replace(entry, target)
        elif entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def load(path: Path | str) -> xr.Dataset:
    """Read a trace and check it is whole. Raises InputError where it is missing, half-written or altered.

    A trace of more than STREAM bytes is checked piece by piece and stays on the disk until its numbers are asked for.
    """
    import xarray as xr

    target = Path(path)
    if not target.exists():
        raise InputError(f"{target} does not exist; expected a fedconv store")
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is in the folder besides: the checksums say it better
            trace = xr.open_zarr(target, consolidated=False, zarr_format=3, chunks=None)
            if trace.nbytes <= STREAM:
                trace = trace.load()
            sums = dict(json.loads(trace.attrs.pop("checksums")))
            version = trace.attrs["format"]
            found = _checksums(trace, old=any(isinstance(x, int) for x in sums.values()))
    except Exception as error:
        raise InputError(f"{target} is not a complete fedconv store ({_named(error)})") from error
    if version != FORMAT:
        raise InputError(f"{target} has store format {version}; this version reads format {FORMAT}")
    broken = sorted(set(sums) ^ set(found) | {k for k in sums if found.get(k) != sums[k]})
    if broken:
        raise InputError(f"{target} is incomplete or altered, by its checksums: {shown_names(broken)}")
    return trace


def is_store(path: Path) -> bool:
    """Whether a folder looks like a store written by :func:`save`."""
    meta = path / "zarr.json"
    try:
        return "checksums" in json.loads(meta.read_text())["attributes"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _checksums(trace: xr.Dataset, *, old: bool = False) -> dict[str, Any]:
    """A checksum of each variable (numbers, type, dimensions, attributes) and one of the attributes of the trace.

    ``old``: CRC-32, which stores had at first. All NaN count as the same NaN: zarr does not keep their bits.
    """
    begin = _Crc if old else partial(hashlib.blake2b, digest_size=16)

    def of(key: str) -> Any:
        sum = begin(_words(trace[key]).encode())
        for numbers in _pieces(trace[key]):
            sum.update(number_bytes(numbers))
        return sum.hexdigest()

    attributes = begin(json.dumps(trace.attrs, sort_keys=True).encode()).hexdigest()
    return {k: of(k) for k in sorted(map(str, trace.variables))} | {"attributes": attributes}


def _words(variable: xr.DataArray) -> str:
    return json.dumps([variable.dims, str(variable.dtype), variable.attrs], sort_keys=True)


def _pieces(variable: xr.DataArray) -> Iterator[np.ndarray]:
    """The numbers of a variable, in pieces along its first dimension of some STREAM/8 bytes: together the whole."""
    if variable.nbytes <= STREAM // 8 or not variable.dims:
        yield variable.values
        return
    length = len(variable)
    step = max(1, length * (STREAM // 8) // variable.nbytes)
    for first in range(0, length, step):
        yield variable[first : first + step].values


class _Crc:
    """CRC-32 with the interface of hashlib; its digest is a number."""

    def __init__(self, data: bytes) -> None:
        self._sum = zlib.crc32(data)

    def update(self, data: bytes) -> None:
        self._sum = zlib.crc32(data, self._sum)

    def hexdigest(self) -> int:
        return self._sum


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def shown_names(names: list[str]) -> str:
    """At most ten names, and how many more there are."""
    return ", ".join(name[:60] for name in names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
