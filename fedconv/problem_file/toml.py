"""Write plain data as TOML: what ``tomllib.loads`` reads back is equal to what was given."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fedconv.problems.errors import InputError

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_WIDE = 100


def dump_toml(spec: Mapping[str, Any]) -> str:
    """A TOML document: plain values first, then one ``[table]`` per mapping, to any depth.

    Values: strings, booleans, integers, floats (inf and nan included), sequences (tables inside one are written
    inline), mappings, and NumPy scalars and arrays (by their ``tolist``). Raises InputError for anything else, for
    keys that are not strings and for strings that are not Unicode text.
    """
    return "\n".join(_table(spec, ())).strip("\n") + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines: list[str] = []
    below: list[str] = []
    for key, value in table.items():
        here = (*path, key)
        if isinstance(value, Mapping):
            below += ["", f"[{'.'.join(map(_key, here))}]", *_table(value, here)]
        else:
            lines.append(f"{_key(key)} = {_value(value, here, broken=True)}")
    return lines + below


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise InputError(f"a TOML key must be a string; got {key!r}")
    return key if _BARE.fullmatch(key) else _string(key, (key,))


def _value(value: Any, path: tuple[str, ...], *, broken: bool = False) -> str:
    """One value. ``broken``: a long array may be broken over lines (not inside an inline table)."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _string(value, path)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(x, (*path, k))}" for k, x in value.items()) + "}"
    if isinstance(value, Sequence):
        items = [_value(x, path) for x in value]
        line = "[" + ", ".join(items) + "]"
        if not broken or len(line) <= _WIDE:
            return line
        rows = items if len(line) > len(items) * 24 else _filled(items)
        return "[\n" + "".join(f"  {row},\n" for row in rows) + "]"
    raise InputError(f"{'.'.join(path)} cannot be written as TOML: {type(value).__name__} {value!r}")


def _filled(items: list[str]) -> list[str]:
    """Short items gathered into lines of at most _WIDE characters."""
    rows: list[str] = []
    for item in items:
        if rows and len(rows[-1]) + len(item) + 2 <= _WIDE:
            rows[-1] += f", {item}"
        else:
            rows.append(item)
    return rows


def _string(text: str, path: tuple[str, ...]) -> str:
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise InputError(f"{'.'.join(path)!a} holds a lone surrogate and cannot be written as TOML")
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
