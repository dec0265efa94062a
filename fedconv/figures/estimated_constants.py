"""Constants of a torch module estimated along training, and the bounds over the step that they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from fedconv.analysis.constants.pilot import Pilot, pilot
from fedconv.analysis.regimes.advise import NAMES, Advice, advise, bounds_over_step
from fedconv.analysis.verdicts.limits import student_lower, student_upper
from fedconv.figures.style import BLUE, GREEN, VERMILION, blank, styled

CONSTANTS = ("L_u", "L_v", "L_uv", "delta", "sigma_u", "sigma_v")
ERROR = 0.05
"""Two-sided error of the interval over replicates at each round."""

LABELS = {"L_u": "$L_u$", "L_v": "$L_v$", "L_uv": "$L_{uv}$", "delta": r"$\delta$", "sigma_u": r"$\sigma_u$",
          "sigma_v": r"$\sigma_v$"}  # fmt: skip
LOOKS = ((BLUE, "-", "o"), (VERMILION, (0, (4, 1.6)), "s"), (GREEN, "-.", "^"))


def dataset(found: Pilot, given: Mapping[str, Any], advice: Advice, steps: int = 61) -> xr.Dataset:
    """``value`` (constant, replicate, round) with the mean's interval over replicates, ``low`` and ``high`` (constant,
    round; NaN for one replicate), and ``bound`` (theorem, eta): FedAlt's and FedSim's at the advised m, τ and T, least
    over the free parameters. A constant that was not estimated (σ without mini-batches) is left out."""
    along, best = found.estimates.along, advice.best
    names = [k for k in CONSTANTS if k in along.values]
    values = np.array([along.values[k] for k in names])
    low, high = (np.full((len(names), len(along.rounds)), np.nan) for _ in range(2))
    if values.shape[1] > 1:
        for i, t in np.ndindex(low.shape):
            low[i, t] = max(0.0, student_lower(values[i, :, t], ERROR / 2))
            high[i, t] = student_upper(values[i, :, t], ERROR / 2)
    star = "*" if best.theorem.endswith("*") else ""
    theorems = [f"FA{star}", f"FS{star}"]
    eta = np.union1d(np.geomspace(best.eta / 30, 0.999, steps), [best.eta])
    bound = np.array([bounds_over_step(given, key, best, eta) for key in theorems])
    p = found.problem
    rows = f"batches of {found.batch}" if found.batch else "whole gradients"
    out = xr.Dataset(
        {
            "value": (("constant", "replicate", "round"), values),
            "low": (("constant", "round"), low),
            "high": (("constant", "round"), high),
            "bound": (("theorem", "eta"), np.where(np.isfinite(bound), bound, np.nan)),
        },
        coords={
            "constant": names, "round": list(along.rounds), "theorem": theorems, "eta": eta,
            "replicate": np.arange(values.shape[1]),
        },
        attrs={
            "setting": f"{p.n} clients, d_u = {p.d_u}, d_v = {p.d_v}; FedAlt with {found.m} clients a round, {rows}",
            "algorithm": best.algorithm, "chosen": best.theorem, "chosen_eta": best.eta,
            "chosen_bound": best.guarantee, "m": best.m, "tau": best.tau, "T": best.T,
        },
    )  # fmt: skip
    out["value"].attrs = {"long_name": "estimated constant at the visited point, largest over clients", "units": "own"}
    out["bound"].attrs = {"long_name": "bound on (1/T) Σ (X/L_u + Y/L_v) at the estimated constants", "units": "F"}
    return out


def data(T: int = 60, replicates: int = 4) -> xr.Dataset:
    """A perceptron with one hidden layer and a personal head on synthetic data with shared features, 8 clients."""
    from fedconv.problems.modules.data import synthetic
    from fedconv.problems.modules.mlp_family import MLP
    from fedconv.problems.modules.problem import ModuleProblem

    clients = synthetic(n=8, inputs=5, rows=(20, 40), seed=1)
    problem = ModuleProblem(MLP((5, 8, 3), seed=2), clients, personal="layers.1")
    found = pilot(problem, batch=8, T=T, points=7, replicates=replicates)
    given = found.given() | {"T": 1000}
    return dataset(found, given, advise(given))


def draw(found: xr.Dataset, width: float = 7.0) -> Figure:
    """Curvature and noise along the run with intervals over replicates, and both bounds over the step."""
    names = [str(k) for k in found["constant"].values]
    with styled():
        figure = blank(width, 2.75)
        left, middle, right = figure.subplots(1, 3)
        _along(left, found, [k for k in names if k.startswith("L")], "curvature, largest over clients")
        _along(middle, found, [k for k in names if not k.startswith("L")], "diversity and noise")
        _bounds(right, found)
        left.set_ylabel("estimated at the visited points")
        bands = f"; means of {R} replicates with 95 % bands" if (R := found.sizes["replicate"]) > 1 else ""
        figure.suptitle(f"estimated constants: {found.attrs['setting']}{bands}", fontsize=7.0)
    return figure


def _along(axes: Axes, found: xr.Dataset, names: Sequence[str], title: str) -> None:
    rounds = found["round"].values
    for (colour, line, marker), name in zip(LOOKS, names, strict=False):
        one = found.sel(constant=name)
        axes.fill_between(rounds, one["low"].values, one["high"].values, color=colour, alpha=0.22, linewidth=0)
        axes.plot(rounds, one["value"].mean("replicate").values, color=colour, linestyle=line, marker=marker,
                  markersize=3.2, label=LABELS[name])  # fmt: skip
    axes.set_title(title)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("round of the pilot run")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.legend(loc="best", ncols=len(names), columnspacing=1.0)


def _bounds(axes: Axes, found: xr.Dataset) -> None:
    attrs = found.attrs
    names = [str(k) for k in found["theorem"].values]
    for (colour, line, _), name, algorithm in zip(LOOKS, names, ("fedalt", "fedsim"), strict=False):
        axes.plot(found["eta"].values, found["bound"].sel(theorem=name).values, color=colour, linestyle=line,
                  label=f"{name} ({NAMES[algorithm]})")  # fmt: skip
    chosen = names.index(str(attrs["chosen"]))
    axes.plot([attrs["chosen_eta"]], [attrs["chosen_bound"]], color=LOOKS[chosen][0], marker="*", markersize=9,
              linestyle="none", markeredgecolor="black", markeredgewidth=0.5, zorder=4,
              label=rf"advised: $\eta$ = {attrs['chosen_eta']:.2g}")  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    finite = found["bound"].values[np.isfinite(found["bound"].values)]
    axes.set_ylim(0.7 * finite.min(), min(finite.max(), 60 * finite.min()) * 1.3)
    axes.yaxis.set_major_locator(LogLocator(numticks=5))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title("bounds over the step")
    axes.set_xlabel(rf"$\eta$ (at $m$ = {attrs['m']}, $\tau$ = {attrs['tau']}, $T$ = {attrs['T']})")
    axes.set_ylabel("bound [units of F]")
    axes.legend(loc="best")


def words(found: xr.Dataset) -> str:
    """The figure in words."""
    first, last = found["value"].isel(round=0).mean("replicate"), found["value"].isel(round=-1).mean("replicate")
    ends = ", ".join(f"{k} {float(first.sel(constant=k)):.2g} to {float(last.sel(constant=k)):.2g}"
                     for k in found["constant"].values)  # fmt: skip
    attrs = found.attrs
    return (
        f"{attrs['setting']}: constants estimated from round 0 to round {int(found['round'][-1])}: {ends}. At m ="
        f" {attrs['m']}, tau = {attrs['tau']}, T = {attrs['T']} the bound {attrs['chosen']} of"
        f" {NAMES[attrs['algorithm']]} is least at eta = {attrs['chosen_eta']:.2g}."
    )
