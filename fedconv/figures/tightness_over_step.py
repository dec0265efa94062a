"""How much of FA, FA*, FS and FS* a run uses up: measured/bound over η, up to the largest step each one admits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fedconv.analysis.exact import exact_trace
from fedconv.analysis.pages.numerals import number
from fedconv.analysis.theorems import THEOREMS, Theorem
from fedconv.analysis.theorems.split.facts import of_experiment
from fedconv.analysis.tuning.one_run import max_step
from fedconv.analysis.verdicts.check import Result
from fedconv.analysis.verdicts.verify import judge
from fedconv.core.run import Experiment, run
from fedconv.figures.style import BLACK, BLUE, GREEN, ORANGE, VERMILION, blank, styled
from fedconv.problem_file.settings import settings_from

LOOKS = {
    "FA": (BLUE, "-", "o"), "FA*": (GREEN, (0, (4, 1.5)), "^"), "FS": (VERMILION, (0, (1, 1.2)), "s"),
    "FS*": (ORANGE, (0, (5, 1.2, 1, 1.2)), "D"),
}  # fmt: skip
ERROR = 1e-6
"""One-sided error of each pair of limits."""
SHARES = (1 / 300, 0.9)
"""The least and the last but one step drawn, as shares of the largest admissible one."""
LEAST = 1e-3
"""Smaller ratios are drawn on the lower edge."""


@dataclass(frozen=True)
class Ground:
    """A problem file's tables and how it is called in the figure."""

    title: str
    tables: dict[str, Any]


GROUNDS = (
    Ground(
        "waves (trigonometric)",
        {
            "problem": {"family": "trigonometric", "n": 8, "d_u": 4, "d_v": 3, "chi": 0.5},
            "noise": {"law": "gaussian", "sigma_u": 1.0, "sigma_v": 1.0},
            "start": {"kind": "normal", "scale": 1.0, "seed": 0},
            "algorithm": {"m": 4, "tau": 4},
        },
    ),
    Ground(
        "residuals (nonconvex)",
        {
            "problem": {"family": "residuals", "n": 6, "d_u": 3, "d_v": 2},
            "noise": {"law": "gaussian", "sigma_u": 0.2, "sigma_v": 0.2},
            "start": {"kind": "normal", "scale": 1.0, "seed": 0},
            "algorithm": {"m": 3, "tau": 2},
        },
    ),
    Ground(
        "coupled (sharp, one client)",
        {
            "problem": {"family": "sharp", "kind": "coupled", "chi": 0.5},
            "start": {"kind": "point", "u": [1.0], "v": [[1.0]]},
            "algorithm": {"m": 1, "tau": 1},
        },
    ),
)


def data(T: int = 500, replicates: int = 32, steps: int = 8, grounds: tuple[Ground, ...] = GROUNDS) -> xr.Dataset:
    """measured/bound and its limits at ``steps`` logarithmically spaced η up to each theorem's largest admissible one.
    Expectations are exact where they can be (quadratics), else means of replicates; free parameters are tuned."""
    shape = (len(grounds), len(THEOREMS), steps)
    eta, value, low, high = (np.full(shape, np.nan) for _ in range(4))
    for g, ground in enumerate(grounds):
        for k, theorem in enumerate(THEOREMS.values()):
            unscaled = _experiment(ground, theorem, T)
            largest = max_step(theorem, of_experiment(unscaled))
            eta[g, k] = largest * np.append(np.geomspace(*SHARES, steps - 1), 1.0)
            for s in range(steps):
                found = _result(unscaled.with_eta(float(eta[g, k, s])), theorem, replicates).verdict
                value[g, k, s] = found.tightness
                low[g, k, s], high[g, k, s] = found.low / found.bound, found.high / found.bound
    dims = ("problem", "theorem", "step")
    out = xr.Dataset(
        {"eta": (dims, eta), "tightness": (dims, value), "low": (dims, low), "high": (dims, high)},
        coords={"problem": [g.title for g in grounds], "theorem": list(THEOREMS), "step": np.arange(steps)},
        attrs={"T": T, "error": ERROR},
    )
    out["eta"].attrs = {"long_name": "step size η; the last one is the largest admissible", "units": "no unit"}
    out["tightness"].attrs = {"long_name": "measured left-hand side over bound", "units": "no unit"}
    out["low"].attrs = {"long_name": "lower confidence limit of the tightness", "units": "no unit"}
    out["high"].attrs = {"long_name": "upper confidence limit of the tightness", "units": "no unit"}
    return out


def _experiment(ground: Ground, theorem: Theorem, T: int) -> Experiment:
    name = "fedsim" if theorem.key.startswith("FS") else "fedalt"
    tables = ground.tables | {
        "name": ground.title,
        "run": {"T": T, "seed": 0},
        "algorithm": ground.tables["algorithm"] | {"name": [name], "eta": 0.1},
    }
    settings = settings_from(tables, "tightness")
    return settings.experiment(settings.algorithms[0], 0.1)


def _result(experiment: Experiment, theorem: Theorem, replicates: int) -> Result:
    if experiment.deterministic:
        trace = run(experiment, 1)
    else:
        exact = exact_trace(experiment)
        trace = run(experiment, replicates) if exact is None else exact
    return judge(trace, [theorem], error=ERROR)[0]


def draw(data: xr.Dataset, width: float = 6.8) -> Figure:
    """A panel for each problem, logarithmic axes, the bound itself at 1. A large open mark says where a theorem's steps
    end (on the lower edge where its weights vanish there, so that the bound says nothing)."""
    with styled():
        figure = blank(width, 2.5)
        panels = np.atleast_1d(figure.subplots(1, data.sizes["problem"], sharey=True))
        for axes, title in zip(panels, data["problem"].values, strict=True):
            _panel(axes, data.sel(problem=title))
            axes.set_title(str(title))
        panels[0].set_ylabel("measured / bound [no unit]")
        panels[0].set_ylim(LEAST, 1.9)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _panel(axes: Axes, one: xr.Dataset) -> None:
    axes.axhline(1.0, color=BLACK, linewidth=0.8, linestyle=(0, (4, 1.6)))
    for key in one["theorem"].values:
        colour, line, marker = LOOKS[str(key)]
        found = one.sel(theorem=key)
        eta, value, low, high = (found[x].values for x in ("eta", "tightness", "low", "high"))
        axes.fill_between(eta, low, high, color=colour, alpha=0.18, linewidth=0, zorder=1)
        axes.plot(
            eta, np.maximum(value, LEAST), color=colour, linestyle=line, marker=marker, markersize=2.6, label=str(key)
        )
        axes.plot(eta[-1:], np.maximum(value[-1:], LEAST), color=colour, marker=marker, markersize=7, clip_on=False,
                  markerfacecolor="none", markeredgewidth=1.0, linestyle="none", zorder=4)  # fmt: skip
    axes.plot([], [], color=BLACK, marker="o", markersize=7, markerfacecolor="none", linestyle="none",
              label="largest admissible η")  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("step size η [no unit]")
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def words(data: xr.Dataset) -> str:
    """The figure in words."""
    parts = []
    for title in data["problem"].values:
        each = []
        for key in data["theorem"].values:
            one = data.sel(problem=title, theorem=key)
            best = int(np.argmax(one["tightness"].values))
            ratio, at, end = (float(one[k].values[j]) for k, j in (("tightness", best), ("eta", best), ("eta", -1)))
            each.append(f"{key} {number(ratio, 2)} at η = {number(at, 2)} (largest step {number(end, 2)})")
        parts.append(f"{title}: {', '.join(each)}")
    return (
        f"Measured left-hand side over bound against η after {data.attrs['T']} rounds, on logarithmic axes. The largest"
        f" ratio: {'; '.join(parts)}."
    )
