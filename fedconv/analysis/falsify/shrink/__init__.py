"""Make a violating problem file small and readable: fewer rounds, clients and dimensions, rounder numbers.

Every step proposes files; the first one that still violates replaces the file, until no step helps.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

File = dict[str, Any]
Step = Callable[[File], Iterator[File]]
"""Proposes smaller files."""

PER_CLIENT = {"quadratic_arrays": ("A", "B", "C", "a", "b"), "trigonometric_arrays": ("h", "s")}
DIGITS = (1, 2, 3, 5)
"""Significant digits tried, in this order."""


def shrink(
    file: File,
    violates: Callable[[File], bool],
    budget: int = 150,
    steps: Sequence[Step] | None = None,
) -> File:
    """The smallest file found with at most ``budget`` tries; ``file`` itself where nothing smaller violates.

    ``steps``: what may be done to a file (default: to those of FedAlt and FedSim). Ctrl-C ends it with what it has.
    """
    best = file
    try:
        for smaller in _smaller(file, violates, budget, STEPS if steps is None else steps):
            best = smaller
    except KeyboardInterrupt:
        pass
    return best


def _smaller(file: File, violates: Callable[[File], bool], budget: int, steps: Sequence[Step]) -> Iterator[File]:
    """Ever smaller files that violate."""
    best, tries = file, 0
    improved = True
    while improved:
        improved = False
        for step in steps:
            again = True
            while again:
                again = False
                for proposal in step(best):
                    if proposal == best:
                        continue
                    if tries == budget:
                        return
                    tries += 1
                    if violates(proposal):
                        best, improved, again = proposal, True, step is not rounded
                        yield best
                        break


def changed(file: File, *path: str, value: Any) -> File:
    out = copy.deepcopy(file)
    table = out
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value
    return out


def fewer_rounds(file: File) -> Iterator[File]:
    T = file["run"]["T"]
    for fewer in sorted({1, 2, 3, T // 10, T // 4, T // 2} - {0}):
        if fewer < T:
            yield changed(file, "run", "T", value=fewer)


def fewer_steps(file: File) -> Iterator[File]:
    for key in ("tau", "tau_u", "tau_v"):
        steps = file["algorithm"].get(key, 1)
        for fewer in sorted({1, steps // 2}):
            if 0 < fewer < steps:
                yield changed(file, "algorithm", key, value=fewer)
    algorithm = file["algorithm"]
    if "tau_u" in algorithm and algorithm["tau_u"] == algorithm.get("tau_v"):
        kept = {k: v for k, v in algorithm.items() if k not in ("tau_u", "tau_v")}
        yield {**file, "algorithm": kept | {"tau": algorithm["tau_u"]}}


def _fewer_clients(file: File) -> Iterator[File]:
    """Leave out half of the clients, or one; a mean that must vanish is restored by the shift of all."""
    family = file["problem"]["family"]
    if family not in PER_CLIENT:
        return
    keys = PER_CLIENT[family]
    n, m = len(file["problem"][keys[0]]), file["algorithm"]["m"]
    leaving = [slice(n // 2, n)] if n > 3 else []
    for gone in [*leaving, *(slice(i, i + 1) for i in range(n if n > 1 else 0))]:
        left = n - (gone.stop - gone.start)
        for cohort in dict.fromkeys((min(m, left), max(1, m * left // n))):
            out = copy.deepcopy(file)
            for key in keys:
                del out["problem"][key][gone]
            if "v" in out["start"]:
                del out["start"]["v"][gone]
            for key in ("h",) if family == "trigonometric_arrays" else ():
                rows = np.array(out["problem"][key])
                out["problem"][key] = (rows - rows.mean(axis=0)).tolist()
            out["algorithm"]["m"] = cohort
            yield out


def _fewer_dimensions(file: File) -> Iterator[File]:
    """Leave out a coordinate of a block of several."""
    problem, start = file["problem"], file["start"]
    if problem["family"] != "quadratic_arrays" or start["kind"] != "point":
        return
    axes = {"u": {"A": (1, 2), "C": (1,), "a": (1,)}, "v": {"B": (1, 2), "C": (2,), "b": (1,)}}
    for block, places in axes.items():
        d = np.array(start[block]).shape[-1]
        for j in range(d if d > 1 else 0):
            out = copy.deepcopy(file)
            for key, which in places.items():
                array = np.array(problem[key])
                for axis in which:
                    array = np.delete(array, j, axis=axis)
                out["problem"][key] = array.tolist()
            out["start"][block] = np.delete(np.array(start[block]), j, axis=-1).tolist()
            yield out


def _plainer(file: File) -> Iterator[File]:
    """Leave out what is not needed: noise, a posteriori, parts of the problem, the start; clients made alike."""
    if "noise" in file:
        yield {k: v for k, v in file.items() if k != "noise"}
        for key in ("sigma_u", "sigma_v"):
            if file["noise"].get(key):
                yield changed(file, "noise", key, value=0.0)
        if "dependence" in file["noise"]:
            out = copy.deepcopy(file)
            del out["noise"]["dependence"]
            yield out
    if "a_posteriori" in file["verify"]:
        out = copy.deepcopy(file)
        del out["verify"]["a_posteriori"]
        yield out
    problem = file["problem"]
    if problem["family"] == "quadratic_arrays":
        for key in ("C", "a"):
            array = np.array(problem[key])
            if array.any():
                yield changed(file, "problem", key, value=np.zeros_like(array).tolist())
        for key in ("A", "B"):
            array = np.array(problem[key])
            plain = np.broadcast_to(np.eye(array.shape[1]), array.shape)
            if (array != plain).any():
                yield changed(file, "problem", key, value=plain.tolist())
        for key in ("A", "B", "C"):
            array = np.array(problem[key])
            if (array != array[:1]).any():
                yield changed(file, "problem", key, value=np.repeat(array[:1], len(array), axis=0).tolist())
    for key in ("u", "v"):
        array = np.array(file["start"].get(key, []))
        if array.size and array.any():
            yield changed(file, "start", key, value=np.zeros_like(array).tolist())
            if key == "v" and (array != array[:1]).any():
                yield changed(file, "start", key, value=np.repeat(array[:1], len(array), axis=0).tolist())


def _one_step_size(file: File) -> Iterator[File]:
    """One η in place of two step sizes."""
    algorithm = file["algorithm"]
    if "gamma_u" not in algorithm or file["problem"]["family"] != "quadratic_arrays":
        return
    for block, key in (("u", "A"), ("v", "B")):
        L = float(np.linalg.norm(np.array(file["problem"][key]), 2, axis=(1, 2)).max())
        tau = algorithm.get("tau", algorithm.get(f"tau_{block}"))
        kept = {k: v for k, v in algorithm.items() if k not in ("gamma_u", "gamma_v")}
        yield {**file, "algorithm": kept | {"eta": algorithm[f"gamma_{block}"] * L * tau}}


def rounded(file: File) -> Iterator[File]:
    """Rounder numbers: all of them, else of one table, else one kind of number."""
    places = [("algorithm", k) for k in ("eta", "gamma", "gamma_u", "gamma_v")]
    places += [("noise", k) for k in ("sigma_u", "sigma_v")] + [("start", k) for k in "uv"]
    places += [("verify", "parameters"), *(("problem", k) for k in file["problem"] if k != "family")]
    there = [(t, k) for t, k in places if k in file.get(t, {})]
    for digits in DIGITS:
        for toward in (0, -1):
            yield _with_rounded(file, there, digits, toward)
    for place in there:
        for digits in DIGITS:
            proposal = _with_rounded(file, [place], digits, 0)
            if proposal != file:
                yield proposal
                if place[0] == "algorithm":
                    yield _with_rounded(file, [place], digits, -1)


def _with_rounded(file: File, places: list[tuple[str, str]], digits: int, toward: int) -> File:
    """``toward`` −1: step sizes are rounded down, so that they stay within a theorem's premises."""
    out = copy.deepcopy(file)
    for table, key in places:
        down = toward if table == "algorithm" else 0
        out[table][key] = _round(out[table][key], digits, down)
    return out


def _round(value: Any, digits: int, toward: int) -> Any:
    if isinstance(value, dict):
        return {k: _round(x, digits, toward) for k, x in value.items()}
    if isinstance(value, list):
        return [_round(x, digits, toward) for x in value]
    if not isinstance(value, float) or value == 0 or not math.isfinite(value):
        return value
    power = digits - 1 - math.floor(math.log10(abs(value)))
    if toward < 0:
        return round(math.floor(value * 10.0**power) / 10.0**power, max(power, 0))
    return round(value, power)


def _sharp(file: File) -> Iterator[File]:
    """The same problem as a named sharp instance, where it is one: equal clients of curvature 1 with no linear part."""
    problem = file["problem"]
    if problem["family"] != "quadratic_arrays":
        return
    A, B, C, a, b = (np.array(problem[k]) for k in "ABCab")
    n, d_u, d_v = C.shape
    plain = (d_u, d_v) == (1, 1) and (A == 1).all() and (B == 1).all() and not (a.any() or b.any())
    if not plain or (C[0] != C).any():
        return
    u, v = file["start"]["u"], np.array(file["start"]["v"])
    chi = float(C[0, 0, 0])
    if chi < 0:
        u, chi = [0.0 - x for x in u], -chi
    noise = file.get("noise", {})
    if chi > 0:
        kind, keys = "coupled", "uv"
    elif not v.any() and not noise.get("sigma_v"):
        kind, keys = "noise", "u"
    elif not np.any(u) and not noise.get("sigma_u"):
        kind, keys = "personal", "v"
    else:
        return
    table = {"family": "sharp", "kind": kind} | ({"n": n} if n > 1 else {}) | ({"chi": chi} if chi > 0 else {})
    start: dict[str, Any] = {"kind": "point"} | {k: x for k, x in (("u", u), ("v", v.tolist())) if k in keys}
    if not np.any(u) and not v.any():
        start = {"kind": "optimum"}
    yield {**file, "problem": table, "start": start}


STEPS: tuple[Step, ...] = (
    fewer_rounds,
    fewer_steps,
    _fewer_clients,
    _fewer_dimensions,
    _plainer,
    _one_step_size,
    rounded,
    _sharp,
)
