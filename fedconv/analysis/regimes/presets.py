"""The maps that ``fedconv regimes`` knows by name, and what every map's file is completed with.

W2 is the default. On it FedAlt is nowhere the worse one, so that a predictor that always says FedAlt would be right
everywhere. The others hold both winners: ``steps``, where clients differ and couple strongly (with one local step
FedSim is lower, with many FedAlt), and ``correlation``, where the noise of u and v in a FedSim step goes from opposite
to equal and one client takes part in a round.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedconv.analysis.regimes import ALGORITHMS
from fedconv.analysis.regimes.predictors import PAIRS
from fedconv.analysis.tuning.many_cells import Least
from fedconv.problems.errors import InputError
from fedconv.sweep.grid import ALGORITHM, ETA, WORDS, Grid

STEPS = tuple(float(f"{x:.3g}") for x in np.geomspace(0.003, 3.0, 8))
QUICK_STEPS = tuple(float(f"{x:.3g}") for x in np.geomspace(0.02, 3.0, 5))
QUICK_M = (1, 3, 5, 8, 11, 14, 17, 20)
PRESETS = ("W2", "steps", "correlation")


def preset(name: str, quick: bool) -> dict[str, Any]:
    """The file of a map, as plain data.

    W2: 20 x 20 cells of (sigma_v, m), 8 steps and the theorem's, 32 replicates. steps: 8 x 8 cells of (tau, m) at
    chi = 0.8, delta = 4. correlation: 9 x 8 cells of (correlation, chi) at m = 1. ``quick``: fewer cells, 5 steps, 16
    replicates. Raises InputError for another name.
    """
    if name not in PRESETS:
        raise InputError(f"a map's name must be one of {', '.join(PRESETS)}; got {name!r}")
    m, dials, sweep = _DIALS[name](quick)
    replicates = 16 if quick else 32
    return {
        "name": name,
        "problem": {
            "family": "trigonometric", "n": 20, "d_u": 8, "d_v": 8, "L_u": 1.0, "L_v": 1.0, "chi": 0.5, "delta": 1.0,
            "spread": 1.0, **dials,
        },
        "noise": {"law": "gaussian", "sigma_u": 1.0, "sigma_v": 1.0},
        "start": {"kind": "normal", "scale": 1.0},
        "algorithm": {"name": list(ALGORITHMS), "m": m, "tau": 5, "eta": 0.1},
        "run": {"T": 500, "replicates": replicates},
        "sweep": {**sweep, ETA: [*(QUICK_STEPS if quick else STEPS), "best"]},
    }  # fmt: skip


def _w2(quick: bool) -> tuple[int, dict[str, Any], dict[str, Any]]:
    sigma_v = [float(f"{x:.3g}") for x in np.geomspace(0.1, 10.0, 8 if quick else 20)]
    return 5, {}, {"noise.sigma_v": sigma_v, "algorithm.m": list(QUICK_M if quick else range(1, 21))}


def _steps(quick: bool) -> tuple[int, dict[str, Any], dict[str, Any]]:
    tau = [1, 2, 4, 8] if quick else [1, 2, 3, 4, 5, 6, 8, 10]
    m = [1, 3, 8, 20] if quick else list(QUICK_M)
    return 5, {"chi": 0.8, "delta": 4.0}, {"algorithm.tau": tau, "algorithm.m": m}


def _correlation(quick: bool) -> tuple[int, dict[str, Any], dict[str, Any]]:
    values = [float(x) for x in np.linspace(-1.0, 1.0, 5 if quick else 9)]
    chi = [0.2, 0.4, 0.6, 0.8] if quick else [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    return 1, {}, {"noise.dependence": values, "problem.chi": chi}


_DIALS = {"W2": _w2, "steps": _steps, "correlation": _correlation}


def completed(mapping: Mapping[str, Any], where: str, dependence: str | float | None) -> dict[str, Any]:
    """The file's content with both algorithms, the default steps where it sweeps none, and the theorem's step.

    Raises InputError where the file sweeps what an option or the map itself fixes.
    """
    out = copy.deepcopy(dict(mapping))
    sweep = out.get("sweep")
    if not isinstance(sweep, dict) or not isinstance(out.get("algorithm"), dict):
        raise InputError(f"{where}: a map needs the tables [algorithm] and [sweep]; see `fedconv regimes --help`")
    flat = _flat(sweep)
    named = flat.get(ALGORITHM, out["algorithm"].get("name"))
    if not isinstance(named, list) or not set(ALGORITHMS) <= set(map(str, named)):
        raise InputError(f'{where}: algorithm.name: must contain "fedalt" and "fedsim" for a map; got {named!r}')
    steps = flat.get(ETA, list(STEPS))
    if isinstance(steps, list) and not any(word in steps for word in WORDS):
        steps = [*steps, "best"]
    if dependence is not None:
        if "noise.dependence" in flat:
            raise InputError(f"{where}: --dependence must be left out where the file sweeps noise.dependence; got both")
        out["noise"] = {**out.get("noise", {}), "dependence": dependence}
    out["sweep"] = flat | {ETA: steps}
    return out


def _flat(table: Mapping[str, Any], head: str = "") -> dict[str, Any]:
    """Dotted keys of ``[sweep]``."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        path = f"{head}.{key}" if head else str(key)
        out |= _flat(value, path) if isinstance(value, Mapping) else {path: value}
    return out


@dataclass(frozen=True)
class Lookup:
    """η of the least guarantee of FA* or FS*, found for all cells at once, by cell and algorithm."""

    found: Mapping[tuple[str, str], float]

    @classmethod
    def of(cls, grid: Grid, best: Mapping[str, Least]) -> Lookup:
        theorems = dict(zip(ALGORITHMS, PAIRS["FA*/FS*"], strict=True))
        out = {}
        for i, cell in enumerate(grid.cell_indices()):
            key = _digest(json.dumps(grid.spec(cell)))
            for name in grid.algorithms:
                if name in theorems and math.isfinite(best[theorems[name]].guarantee[i]):
                    out[key, name] = float(best[theorems[name]].eta[i])
        return cls(out)

    def __call__(self, spec: str, algorithm: str, wish: str) -> float | None:
        """η of "best", where the cell names no theorem of its own (see :data:`fedconv.sweep.runner.Known`)."""
        if wish != "best" or json.loads(spec).get("verify", {}).get("theorems") is not None:
            return None
        return self.found.get((_digest(spec), algorithm))


def _digest(spec: str) -> str:
    return hashlib.sha256(spec.encode()).hexdigest()[:16]
