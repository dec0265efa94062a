"""Rates as slopes: measured stationarity and bound against T, m, σ and δ, each at the best step of its theorem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from fedconv.analysis.claims.slopes import Slope, slope
from fedconv.analysis.theorems import theorem
from fedconv.analysis.theorems.split.facts import of_experiment
from fedconv.analysis.tuning.one_run import best_step
from fedconv.core.run import Experiment, run
from fedconv.figures.style import BLACK, BLUE, GREY, VERMILION, blank, styled
from fedconv.problem_file.settings import settings_from

ERROR = 0.05
"""Error of each slope's limits, both sides together."""

THEOREM = {"fedalt": "FA", "fedsim": "FS"}
LOOKS = {"fedalt": ("FedAlt", BLUE, "o", 4.6), "fedsim": ("FedSim", VERMILION, "s", 2.6)}
"""Name, colour, marker and its size, of which the larger stays visible where both agree."""


@dataclass(frozen=True)
class Sweep:
    """One panel: ``values`` of what varies, the theory's power of it, and the values that are fitted (``window``).

    ``fixed``: what the panel changes in BASE, by (table, key); ``varied``: the keys that take the value.
    """

    key: str
    label: str
    values: tuple[float, ...]
    expected: float
    window: tuple[float, float]
    fixed: Mapping[tuple[str, str], Any]
    varied: tuple[tuple[str, str], ...]


BASE: dict[str, Any] = {
    "name": "waves",
    "problem": {"family": "trigonometric", "n": 8, "d_u": 4, "d_v": 3, "chi": 0.2, "delta": 0.5, "spread": 1.0},
    "noise": {"law": "gaussian", "sigma_u": 1.0, "sigma_v": 1.0},
    "start": {"kind": "normal", "scale": 1.0, "seed": 0},
    "algorithm": {"m": 4, "tau": 2, "eta": 0.1},
    "run": {"T": 4096, "seed": 0},
}
_QUIET = {("problem", "chi"): 0.0, ("problem", "delta"): 0.0}
SWEEPS = (
    Sweep("T", "rounds T [rounds]", (64, 256, 1024, 4096, 16384), -0.5, (1024, 16384), {}, (("run", "T"),)),
    Sweep(
        "m", "clients a round m [clients]", (1, 2, 4, 8, 16), -0.5, (2, 16),
        {("problem", "n"): 64, ("noise", "sigma_u"): 2.0, ("noise", "sigma_v"): 0.0, ("algorithm", "tau"): 1, **_QUIET},
        (("algorithm", "m"),),
    ),
    Sweep(
        "sigma", r"noise $\sigma_u = \sigma_v$ [$\sqrt{LF}$]", (0.5, 1, 2, 4, 8), 1.0, (0.5, 8),
        _QUIET, (("noise", "sigma_u"), ("noise", "sigma_v")),
    ),
    Sweep(
        "delta", r"diversity $\delta$ [$\sqrt{LF}$]", (0.5, 1, 2, 4, 8), 1.0, (0.5, 8),
        {("problem", "chi"): 0.0, ("noise", "sigma_u"): 0.0, ("noise", "sigma_v"): 0.0, ("algorithm", "m"): 2},
        (("problem", "delta"),),
    ),
)  # fmt: skip
"""The panels. At the best step the bound is O(√(ΔF₀S₁/T) + (ΔF₀²S₂)^{1/3}T^{−2/3} + 1/T) (section 5 of the theory), so
where S₁ rules its powers are those of √(S₁/T): −1/2 in T; −1/2 in m where S₁ = σ_u²/(mτL_u) (and S₂ = 0, as τ = 1
there); 1 in σ where δ = 0; 1 in δ where σ = 0."""


def trial(sweep: Sweep, x: float, algorithm: str) -> Experiment:
    """The experiment of a panel at x, with any step."""
    tables = {k: dict(v) if isinstance(v, dict) else v for k, v in BASE.items()}
    for (table, key), value in sweep.fixed.items():
        tables[table][key] = value
    for table, key in sweep.varied:
        tables[table][key] = int(x) if key in ("T", "m") else float(x)
    tables["algorithm"]["name"] = [algorithm]
    settings = settings_from(tables, "slopes")
    return settings.experiment(settings.algorithms[0], 0.1)


def measure(sweep: Sweep, algorithm: str, replicates: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(samples of (1/T) Σ_t (X_t/L_u + p Y_t/L_v) ``(replicates, k)``, what the theorem guarantees for it, best η)."""
    one = theorem(THEOREM[algorithm])
    samples, bounds, steps = [], [], []
    for x in sweep.values:
        unscaled = trial(sweep, x, algorithm)
        inputs = of_experiment(unscaled)
        best = best_step(one, inputs)
        values = inputs.values
        weights = {"weight_u": 1.0, "weight_v": values["m"] / values["n"], "L_u": values["L_u"], "L_v": values["L_v"]}
        samples.append(one.lhs(run(unscaled.with_eta(best.eta), replicates), weights, inputs.blocks))
        bounds.append(best.guarantee)
        steps.append(best.eta)
    return np.array(samples).T, np.array(bounds), np.array(steps)


def data(replicates: int = 16, sweeps: Sequence[Sweep] = SWEEPS) -> xr.Dataset:
    """Means, bounds and slopes of every panel; the noise and cohorts of a replicate are the same at all x."""
    out: dict[str, Any] = {}
    coords: dict[str, Any] = {"algorithm": list(THEOREM), "panel": [s.key for s in sweeps],
                              "limit": ["value", "low", "high"], "end": ["from", "to"]}  # fmt: skip
    fitted = np.empty((2, len(sweeps), len(THEOREM), 3))
    for j, sweep in enumerate(sweeps):
        x = np.array(sweep.values, dtype=float)
        inside = (x >= sweep.window[0]) & (x <= sweep.window[1])
        coords[sweep.key] = x
        found = [measure(sweep, algorithm, replicates) for algorithm in THEOREM]
        for a, (samples, bound, _) in enumerate(found):
            fitted[0, j, a] = _numbers(slope(x[inside], samples[:, inside], ERROR))
            fitted[1, j, a] = _numbers(slope(x[inside], bound[None, inside], ERROR))
        dims = ("algorithm", sweep.key)
        words = ("(1/T) Σ_t (X_t/L_u + p Y_t/L_v), mean over replicates", "what the theorem guarantees for it")
        out[f"measured_{sweep.key}"] = (dims, np.array([s.mean(0) for s, _, _ in found]), _attrs(words[0], "F"))
        out[f"bound_{sweep.key}"] = (dims, np.array([b for _, b, _ in found]), _attrs(words[1], "F"))
        out[f"eta_{sweep.key}"] = (dims, np.array([e for _, _, e in found]), _attrs("best step η", "no unit"))
    kinds = ("panel", "algorithm", "limit")
    out["slope"] = (kinds, fitted[0], _attrs("slope of the measured curve on logarithmic axes", "no unit"))
    out["slope_bound"] = (kinds, fitted[1], _attrs("slope of the bound on logarithmic axes", "no unit"))
    out["window"] = (("panel", "end"), np.array([s.window for s in sweeps]), _attrs("values fitted", "as the axis"))
    out["expected"] = (("panel",), np.array([s.expected for s in sweeps]), _attrs("the theory's slope", "no unit"))
    out["label"] = (("panel",), np.array([s.label for s in sweeps]), _attrs("name of the axis", "no unit"))
    return xr.Dataset(out, coords, {"error": ERROR, "replicates": replicates})


def _attrs(words: str, unit: str) -> dict[str, str]:
    return {"long_name": words, "units": unit}


def _numbers(found: Slope) -> tuple[float, float, float]:
    return found.value, found.low, found.high


def draw(data: xr.Dataset, width: float = 6.8) -> Figure:
    """A panel for each sweep: measured (solid), bound (dashed), the theory's slope (dotted, black); the slopes fitted
    over the shaded values stand under it."""
    with styled():
        height = 2.75
        figure = blank(width, height, layout=None)
        figure.subplots_adjust(left=0.5 / width, right=1 - 0.08 / width, top=1 - 0.12 / height, bottom=1.12 / height,
                               wspace=0.32)  # fmt: skip
        panels = np.atleast_1d(figure.subplots(1, data.sizes["panel"]))
        for axes, key in zip(panels, data["panel"].values, strict=True):
            _panel(axes, data, str(key))
        panels[0].set_ylabel("stationarity, bound [units of F]")
    return figure


def _panel(axes: Axes, data: xr.Dataset, key: str) -> None:
    x, one = data[key].values, data.sel(panel=key)
    axes.set_xscale("log")
    axes.set_yscale("log")
    first, last = one["window"].values
    axes.axvspan(first / 1.12, last * 1.12, color=GREY, alpha=0.12, linewidth=0, zorder=0,
                 label=f"fitted: {first:g} to {last:g}")  # fmt: skip
    for algorithm in data["algorithm"].values:
        name, colour, marker, size = LOOKS[str(algorithm)]
        measured, bound = (one[f"{k}_{key}"].sel(algorithm=algorithm).values for k in ("measured", "bound"))
        axes.plot(x, measured, color=colour, marker=marker, markersize=size,
                  label=f"{name}: {_written(one['slope'].sel(algorithm=algorithm).values)}")  # fmt: skip
        fitted = _written(one["slope_bound"].sel(algorithm=algorithm).values)
        axes.plot(x, bound, color=colour, linestyle=(0, (4, 1.6)), marker=marker, markersize=size,
                  markerfacecolor="white", label=f"{THEOREM[str(algorithm)]}: {fitted}")  # fmt: skip
    bounds, expected = one[f"bound_{key}"].values, float(one["expected"])
    inside = (x >= first) & (x <= last)
    middle = np.exp(np.log(x[inside]).mean())
    top = np.exp(np.log(bounds[:, inside].max(0)).mean())
    axes.plot(x[inside], 1.7 * top * (x[inside] / middle) ** expected, color=BLACK, linestyle=(0, (1, 1.2)),
              label=f"theory: {expected:+g}".replace("-", "−"))  # fmt: skip
    axes.set_xlabel(str(one["label"].values))
    axes.xaxis.set_major_locator(LogLocator(base=4 if key == "T" else 2, numticks=7))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.set_xlim(x[0] / 1.3, x[-1] * 1.3)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), borderaxespad=0.0, labelspacing=0.3)


def _written(limits: np.ndarray) -> str:
    """value [low, high], the limits left out where they are the value."""
    value, low, high = (f"{z:.2f}".replace("-", "−") for z in limits)
    return value if limits[1] == limits[2] else f"{value} [{low}, {high}]"


def words(data: xr.Dataset) -> str:
    """The figure in words."""
    parts = []
    for key in data["panel"].values:
        one = data.sel(panel=key)
        first, last = one["window"].values
        each = ", ".join(
            f"{LOOKS[str(a)][0]} {_written(one['slope'].sel(algorithm=a).values)} (bound"
            f" {_written(one['slope_bound'].sel(algorithm=a).values)})"
            for a in data["algorithm"].values
        )
        parts.append(f"in {key} from {first:g} to {last:g}: {each}, theory {float(one['expected']):g}")
    return (
        "Stationarity and bound at the best step of FA and FS, slopes on logarithmic axes with"
        f" {1 - data.attrs['error']:.0%} limits from {data.attrs['replicates']} replicates: {'; '.join(parts)}."
    )
