"""What a file of settings may hold: texts, truths, numbers that 64 bits hold, arrays and tables of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedconv.problems.errors import InputError

LARGEST_INTEGER = 2**63 - 1
"""TOML's own bound; beyond it neither NumPy nor a float64 holds every integer."""

DEEPEST = 32
"""Tables and arrays inside one another; no table of fedconv needs more than six."""

LONGEST_KEY = 200


def check_plain(values: Any, where: str) -> None:
    """Raise InputError ``WHERE: KEY: ...`` for the first value that no settings can hold: an integer beyond 64 bits, a
    date or a time, nesting deeper than DEEPEST, a key of more than LONGEST_KEY characters."""
    open_: list[tuple[str, Any, int]] = [("", values, 0)]
    while open_:
        path, value, depth = open_.pop()
        head = f"{where}: {_cut(path)}: " if path else f"{where}: "
        if isinstance(value, (Mapping, list, tuple)) and depth >= DEEPEST:
            raise InputError(f"{head}must not be nested more than {DEEPEST} deep")
        if isinstance(value, Mapping):
            for key in value:
                if len(str(key)) > LONGEST_KEY:
                    raise InputError(f"{head}keys must have at most {LONGEST_KEY} characters; got {_cut(str(key))}")
            open_ += [(f"{path}.{key}" if path else str(key), x, depth + 1) for key, x in reversed(list(value.items()))]
        elif isinstance(value, (list, tuple)):
            open_ += [(path, x, depth + 1) for x in reversed(value)]
        elif isinstance(value, int) and not isinstance(value, bool):
            if abs(value) > LARGEST_INTEGER:
                raise InputError(
                    f"{head}must be a number within {LARGEST_INTEGER} in size; got an integer of"
                    f" {value.bit_length()} bits"
                )
        elif value is not None and not isinstance(value, (str, float, bool)):
            raise InputError(f"{head}must be a text, a number, true or false; got the {_kind(value)} {value}")


def _kind(value: Any) -> str:
    return {"datetime": "date and time"}.get(type(value).__name__, type(value).__name__)


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
