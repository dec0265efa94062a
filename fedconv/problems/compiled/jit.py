"""Compilation of the kernels by numba, cached on disk under a name that changes with any kernel's source.

numba's own cache looks at the file of the compiled function only: a kernel that calls another one from a
changed file would go on using the old code. Here the cache folder carries a hash of every kernel source
(each file that imports this module), so a change anywhere compiles everything that may depend on it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from platformdirs import user_cache_path

_config: Any = importlib.import_module("numba.core.config")
_UNCOUNTED: dict[str, Any] = {"_nrt": False}  # compile without reference counting
_SAID = "FEDCONV_KERNELS_NOT_KEPT"  # set once it is said; processes that are started inherit it
_PACKAGE = Path(__file__).resolve().parents[2]
_KEPT = 4  # cache folders kept side by side: as many versions of the sources as are in use at a time


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit`` with the cache described above; ``options`` as there, ``cache`` apart.

    Kernels work in the arrays they are given and allocate nothing: numba's reference counting is switched off
    (in loops over short rows it costs several times the arithmetic), and a function that allocates does not compile.

    Compiled code goes below ``NUMBA_CACHE_DIR`` where that is set, else below the user's cache folder; where
    neither can be written nothing is cached, and each process compiles for itself.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        folder = cache_folder(Path(function.__code__.co_filename).resolve().parent)
        if folder is None:
            _say_that_nothing_is_kept()
            return numba.njit(**_UNCOUNTED, **options)(function)
        before = _config.CACHE_DIR
        _config.CACHE_DIR = str(folder)
        try:
            return numba.njit(cache=True, **_UNCOUNTED, **options)(function)
        finally:
            _config.CACHE_DIR = before

    return decorate


@cache
def cache_folder(package: Path) -> Path | None:
    """The folder for compiled code of kernels in the folder ``package``, or None where it cannot be written.

    Its name is the hash of the kernel sources in fedconv and below ``package``. Of the other versions of the
    same kernels the most recently used are kept, older ones are removed.
    """
    family = _base() / "fedconv-kernels" / package.name
    folder = family / _current(None if package.is_relative_to(_PACKAGE) else package)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        os.utime(folder)
    except OSError:
        return None
    _prune(family)
    return folder


def _say_that_nothing_is_kept() -> None:
    """One sentence, in this process and those that it starts together."""
    if os.environ.get(_SAID) != "1":
        os.environ[_SAID] = "1"
        print(
            f"no folder for compiled kernels can be written ({_base()}): every start compiles them again, which takes"
            " up to a minute; set NUMBA_CACHE_DIR to a folder that can be written",
            file=sys.stderr,
        )


def _base() -> Path:
    return Path(_config.CACHE_DIR) if _config.CACHE_DIR else user_cache_path()


@cache
def _current(other: Path | None) -> str:
    return _digest([_PACKAGE] if other is None else [_PACKAGE, other])


def _digest(packages: list[Path]) -> str:
    """A hash of numba's version and of every file below the packages that uses this module."""
    seen = hashlib.sha256(numba.__version__.encode())
    for package in packages:
        for file in sorted(package.rglob("*.py")):
            source = file.read_bytes()
            if b"fedconv.problems.compiled.jit" in source or file == Path(__file__).resolve():
                seen.update(file.name.encode() + b"\0" + source + b"\0")
    return seen.hexdigest()[:16]


def _prune(family: Path) -> None:
    with contextlib.suppress(OSError):
        by_use = sorted(family.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
        for stale in by_use[_KEPT:]:
            shutil.rmtree(stale, ignore_errors=True)
