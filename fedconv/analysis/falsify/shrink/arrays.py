"""Smaller versions of a problem file with explicit arrays: fewer clients, rows and dimensions, rounder numbers."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np

from fedconv.analysis.falsify.shrink import File, Step, changed, fewer_rounds, fewer_steps, rounded

AXES: dict[str, dict[str, str]] = {
    "least_squares_arrays": {"A": "nru", "B": "nrv", "c": "nr"},
    "huber_arrays": {"A": "nru", "c": "nr", "lam": "nr"},
    "geman_mcclure_arrays": {"A": "nru", "c": "nr", "D": "npu", "B": "npv", "e": "np"},
    "envelope_quadratic": {"A": "nuu", "B": "nvv", "C": "nuv", "a": "nu", "b": "nv"},
    "trigonometric_arrays": {"b": "v", "h": "nu", "s": "nv"},
    "quadratic_targets_arrays": {"A": "nvv", "b": "nv", "H": "nvv", "c": "nv"},
    "double_well": {"b": "nv", "h": "nv"},
    "cluster_samples_arrays": {"X": "nxv", "Y": "nyv", "c": "nv", "variance": "n"},
}
"""What the axes of a family's arrays are: n clients, r rows, p personal rows, x and y samples, u shared and v personal
coordinates."""

AIMED = ("strength", "client", "warm_up")
"""Settings of an attack that others do not have."""

ZEROED = {
    "least_squares_arrays": ("B", "c"),
    "huber_arrays": ("c",),
    "geman_mcclure_arrays": ("B", "c", "e"),
    "envelope_quadratic": ("a", "b"),
    "trigonometric_arrays": ("s",),
    "quadratic_targets_arrays": ("b", "c"),
    "double_well": ("b", "h"),
    "cluster_samples_arrays": ("X", "Y", "c", "variance"),
}
"""Arrays that may be 0."""

DEFAULTS = ("masks", "fedspa", "fedfomo")
"""Tables whose keys may be left out."""


def _places(file: File) -> Iterator[tuple[str, str, str]]:
    """(table, key, axes) of every array of a file."""
    problem = file["problem"]
    for key, axes in AXES[problem["family"]].items():
        yield "problem", key, axes
    start = {"u": "u", "v": "nr" if problem["family"] == "huber_arrays" else "nv"}
    for key, axes in start.items():
        if key in file["start"]:
            yield "start", key, axes
    if "initial" in file.get("masks", {}):
        yield "masks", "initial", "nu" if np.size(file["start"].get("u", [])) else "nv"


def _without(file: File, axis: str, gone: int | slice) -> File:
    """The file without some entries along an axis of all its arrays."""
    out = copy.deepcopy(file)
    for table, key, axes in _places(file):
        array = np.array(out[table][key])
        for k, place in enumerate(axes):
            if place == axis:
                array = np.delete(array, gone, axis=k)
        out[table][key] = array.tolist()
    return out


def _size(file: File, axis: str) -> int:
    for table, key, axes in _places(file):
        if axis in axes:
            return np.array(file[table][key]).shape[axes.index(axis)]
    return 0


def _fewer_clients(file: File) -> Iterator[File]:
    """Leave out half of the clients, or one; of Byzantine ones the last."""
    n, m = _size(file, "n"), file["algorithm"]["m"]
    f = file.get("byzantine", {}).get("f", 0)
    leaving = [slice(n // 2, n)] if n > 3 else []
    for gone in [*leaving, *(slice(i, i + 1) for i in range(n if n > 1 else 0))]:
        left = n - (gone.stop - gone.start)
        for fewer in (0, 1) if f else (0,):
            if m == n or left > 1:
                out = _without(file, "n", gone)
                out["algorithm"]["m"] = left if m == n else min(m, left - 1)
                if fewer:
                    out["byzantine"]["f"] = f - 1
                yield out


def _fewer_coordinates(file: File) -> Iterator[File]:
    """Leave out a row or a coordinate where there are several."""
    for axis in "rpxyuv":
        size = _size(file, axis)
        for j in range(size if size > 1 else 0):
            yield _without(file, axis, j)


def _plainer(file: File) -> Iterator[File]:
    """Zeros in place of an array, equal clients, no noise, a plain attack, delays as short as can be, defaults."""
    problem = file["problem"]
    if "noise" in file:
        yield {k: x for k, x in file.items() if k != "noise"}
    for key in ZEROED[problem["family"]]:
        array = np.array(problem[key])
        if array.any():
            yield changed(file, "problem", key, value=np.zeros_like(array).tolist())
    for table, key, axes in _places(file):
        array = np.array(file[table][key])
        if table == "problem" and axes[0] == "n" and (array != array[:1]).any():
            yield changed(file, "problem", key, value=np.repeat(array[:1], len(array), axis=0).tolist())
    for key in "uv":
        array = np.array(file["start"].get(key, []))
        if array.any():
            yield changed(file, "start", key, value=np.zeros_like(array).tolist())
    for table in DEFAULTS:
        for key in file.get(table, {}):
            left = {k: x for k, x in file[table].items() if k != key}
            others = {k: x for k, x in file.items() if k != table}
            yield others | ({table: left} if left else {})
    byzantine, arrivals = file.get("byzantine", {}), file.get("async", {})
    for key in ("strength", "pre"):
        if key in byzantine and "bucket" not in byzantine:
            yield {**file, "byzantine": {k: x for k, x in byzantine.items() if k != key}}
    if byzantine.get("f", 0) > 0:
        yield changed(file, "byzantine", "f", value=byzantine["f"] - 1)
    if byzantine.get("attack") not in (None, "zero"):
        yield {**file, "byzantine": {k: x for k, x in byzantine.items() if k not in AIMED} | {"attack": "zero"}}
    if arrivals.get("tau_max", 0) > 0:
        for fewer in sorted({0, 1, arrivals["tau_max"] // 2}):
            if fewer < arrivals["tau_max"]:
                yield changed(file, "async", "tau_max", value=fewer)


STEPS: tuple[Step, ...] = (fewer_rounds, _fewer_clients, fewer_steps, _fewer_coordinates, _plainer, rounded)
