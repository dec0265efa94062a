"""What every file and folder of fedconv has in common: a lock, a checksum of numbers, leftovers that are cleared."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from problems.errors import InputError


@contextlib.contextmanager
def locked(path: Path, store: Path) -> Iterator[None]:
    """Hold the lock file of a store. The system releases it when the process ends, however it ends.

    Raises InputError where another process (or another run of this one) holds it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, blocking=False, is_singleton=False)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"{store} is in use by another process; wait until it ends") from None
    try:
        yield
    finally:
        lock.release()


def number_bytes(numbers: np.ndarray) -> bytes:
    """The bytes of an array in C order, the same on every machine. All NaN count as the same NaN: zarr does not keep
    their bits."""
    out = np.ascontiguousarray(numbers)
    if out.dtype.kind == "f":
        out = np.where(np.isnan(out), np.array(np.nan, out.dtype), out)
    return out.astype(out.dtype.newbyteorder("<"), copy=False).tobytes()


def checksum(*parts: bytes) -> str:
    """BLAKE2b of some parts, each with its length: 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(b"%d " % len(part))
        digest.update(part)
    return digest.hexdigest()


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    said = str(error).strip().splitlines()
    return said[0] if said else "no detail"
