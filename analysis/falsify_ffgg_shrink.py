"""Smaller versions of an FFGG problem file: fewer clients, rows and dimensions, equal clients, rounder numbers."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np

from analysis.falsify_shrink import File, Step, changed, fewer_rounds, fewer_steps, rounded

AXES: dict[str, dict[str, str]] = {
    "least_squares_arrays": {"A": "nru", "B": "nrv", "c": "nr"},
    "huber_arrays": {"A": "nru", "c": "nr", "lam": "nr"},
    "geman_mcclure_arrays": {"A": "nru", "c": "nr", "D": "npu", "B": "npv", "e": "np"},
    "envelope_quadratic": {"A": "nuu", "B": "nvv", "C": "nuv", "a": "nu", "b": "nv"},
}
"""What the axes of a family's arrays are: n clients, r rows, p personal rows, u shared and v personal coordinates."""


def _without(file: File, axis: str, gone: int | slice) -> File:
    """The file without some entries along an axis of its problem's arrays, and of its start's."""
    out = copy.deepcopy(file)
    axes = AXES[file["problem"]["family"]]
    for table, names in ((out["problem"], axes), (out["start"], {"u": "u", "v": _start_axes(file)})):
        for name, places in names.items():
            array = np.array(table[name], dtype=float)
            for k, place in enumerate(places):
                if place == axis:
                    array = np.delete(array, gone, axis=k)
            table[name] = array.tolist()
    return out


def _start_axes(file: File) -> str:
    """Of the start's v: Huber regression has a personal coordinate for each row."""
    return "nr" if file["problem"]["family"] == "huber_arrays" else "nv"


def _size(file: File, axis: str) -> int:
    for name, places in AXES[file["problem"]["family"]].items():
        if axis in places:
            return np.array(file["problem"][name]).shape[places.index(axis)]
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
    for axis in "rpuv":
        size = _size(file, axis)
        for j in range(size if size > 1 else 0):
            yield _without(file, axis, j)


def _plainer(file: File) -> Iterator[File]:
    """Zeros in place of an array, equal clients, a plain attack, delays as short as can be."""
    problem = file["problem"]
    for key in ("B", "c", "e", "a", "b"):
        array = np.array(problem.get(key, []))
        if array.any() and key in AXES[problem["family"]] and (key != "B" or problem["family"] != "envelope_quadratic"):
            yield changed(file, "problem", key, value=np.zeros_like(array).tolist())
    for key in AXES[problem["family"]]:
        array = np.array(problem[key])
        if (array != array[:1]).any():
            yield changed(file, "problem", key, value=np.repeat(array[:1], len(array), axis=0).tolist())
    for key in "uv":
        array = np.array(file["start"][key])
        if array.any():
            yield changed(file, "start", key, value=np.zeros_like(array).tolist())
    byzantine, arrivals = file.get("byzantine", {}), file.get("async", {})
    for key in ("strength", "pre"):
        if key in byzantine and "bucket" not in byzantine:
            yield {**file, "byzantine": {k: x for k, x in byzantine.items() if k != key}}
    if byzantine.get("f", 0) > 0:
        yield changed(file, "byzantine", "f", value=byzantine["f"] - 1)
    if byzantine.get("attack") not in (None, "zero"):
        yield {**file, "byzantine": {k: x for k, x in byzantine.items() if k != "strength"} | {"attack": "zero"}}
    if arrivals.get("tau_max", 0) > 0:
        for fewer in sorted({0, 1, arrivals["tau_max"] // 2}):
            if fewer < arrivals["tau_max"]:
                yield changed(file, "async", "tau_max", value=fewer)


STEPS: tuple[Step, ...] = (fewer_rounds, _fewer_clients, fewer_steps, _fewer_coordinates, _plainer, rounded)
