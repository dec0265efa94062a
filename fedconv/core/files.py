"""What every file and folder of fedconv has in common: a lock, a checksum of numbers, leftovers that are cleared."""

from __future__ import annotations

import contextlib
import hashlib
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fedconv.problems.errors import InputError
from fedconv.problems.plain import check_plain


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


LARGEST_FILE = 8 << 20
"""Bytes (8 MiB) of a file of settings; arrays that are larger belong into a problem of one's own."""


def read_toml(path: Path | str, needs: str) -> dict[str, Any]:
    """The tables of a file of settings, as plain data.

    ``needs``: the rest of the sentence where there is no such file. Raises InputError with one sentence where it
    cannot be read, is a device, a pipe or a folder, is larger than LARGEST_FILE, is not TOML, or holds what no settings
    can hold (:func:`fedconv.problems.plain.check_plain`).
    """
    where = str(path)
    try:
        about = Path(path).stat()
        if not stat.S_ISREG(about.st_mode):
            if (Path(path) / "zarr.json").exists():
                raise InputError(f"{where}: is a store, not a problem file; `fedconv show` and `verify` take it")
            kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a device or a pipe"
            raise InputError(f"{where}: is {kind}, not a file; {needs}")
        if about.st_size > LARGEST_FILE:
            raise InputError(f"{where}: must have at most {LARGEST_FILE} bytes; got {about.st_size}")
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: must be UTF-8 text; byte {error.start} is not") from None
    except InputError:
        raise
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise InputError(f"{where}: no such file; {needs}") from None
    except OSError as error:
        raise InputError(f"{where}: cannot be read as a file: {error.strerror}") from None
    try:
        mapping = tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{where}: not TOML that can be read: nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{where}: not TOML: {cut(first_line(error), 200)}") from None
    check_plain(mapping, where)
    return mapping


def cut(text: str, length: int = 60) -> str:
    """A text, or its beginning with three dots."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def printable(text: str) -> str:
    """A text without the lone surrogates by which Python writes the bytes of a path that are not UTF-8."""
    return text.encode("utf-8", "replace").decode()
