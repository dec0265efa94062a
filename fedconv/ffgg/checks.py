"""Sentences about settings that cannot be run."""

from __future__ import annotations

import math
from typing import Any

from problems.errors import InputError


def one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Raise InputError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(map(str, allowed))}; got {value!r}")


def number(name: str, value: Any, least: float, *, open_: bool = False) -> None:
    """Raise InputError unless ``value`` is a finite number at least ``least`` (``open_``: greater than it)."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < least or (open_ and value == least):
        raise InputError(f"{name} must be a finite number {'>' if open_ else '>='} {least:g}; got {value!r}")


def integer(name: str, value: Any, least: int) -> None:
    """Raise InputError unless ``value`` is an integer at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} must be an integer >= {least}; got {value!r}")
