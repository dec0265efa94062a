"""What computes the numbers: a digest of the source, and the versions of what it stands on."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import fedconv

_ROOMS = ("problems", "core", "methods", "problem_file", "sweep", "practice")
"""The rooms of fedconv whose source decides what a run computes."""

LIBRARIES = ("numpy", "torch", "numba")


@cache
def code_version() -> str:
    """A digest of the source of fedconv, of a checkout and of an installed wheel alike: 16 hexadecimal digits."""
    return digest_of(_folders())


def _folders() -> list[Path]:
    return [Path(place).resolve() / room for place in fedconv.__path__ for room in _ROOMS]


def digest_of(folders: Iterable[Path]) -> str:
    """A digest of all Python files below some folders: their names and what they hold."""
    given = sorted(set(folders))
    digest = hashlib.blake2b(digest_size=8)
    for folder in given:
        if any(other in folder.parents for other in given):
            continue
        for path in sorted(folder.rglob("*.py")):
            name = (Path(folder.name) / path.relative_to(folder)).as_posix().encode()
            source = path.read_bytes()
            digest.update(b"%d %d " % (len(name), len(source)) + name + source)
    return digest.hexdigest()


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    return (("python", platform.python_version()), *((name, metadata.version(name)) for name in LIBRARIES))


def made_by() -> dict[str, str]:
    """What the numbers of this process come from: ``code`` and the versions of Python and LIBRARIES."""
    return {"code": code_version(), **dict(_versions())}


def made_by_text() -> str:
    """:func:`made_by` as JSON, for the attributes of a trace and the table of a sweep."""
    return json.dumps(made_by(), sort_keys=True)


def words(made: Mapping[str, str]) -> str:
    """``code 0123456789abcdef, numpy 2.0.1, …``"""
    return ", ".join(f"{k} {v}" for k, v in made.items()) if made else "code that did not say its version"
