"""FedSpa in three panels: stationarity against bound with mask changes marked; densities and mask changes over rounds;
communication saved against what is lost by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from fedconv.analysis.pages.numerals import number
from fedconv.analysis.verdicts.check import Result
from fedconv.figures.fedspa.data import SERIES, Outcome, experiment_data, outcome, summary
from fedconv.figures.style import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    MARKS,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    blank,
    legible,
    save,
    styled,
    svg,
)  # fmt: skip
from fedconv.problems.errors import InputError

__all__ = ["Outcome", "data", "draw", "draw_data", "masks", "outcome", "picture", "saved", "stationarity", "words",
           "words_data", "write"]  # fmt: skip

data = experiment_data
WIDTH = 2 * COLUMN + 0.3
"""Width of a figure across both columns of a paper, in inches."""

HEIGHT, BELOW, ABOVE = 2.45, 0.82, 0.26
LINES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))


def write(
    trace: xr.Dataset, result: Result, outcomes: Sequence[Outcome], path: Path | str, value_name: str = "objective"
) -> None:
    """Write the figure as pdf, svg or png (by the path's suffix)."""
    save(draw(trace, result, outcomes, value_name), path, _key(result), words(trace, result, outcomes, value_name))


def picture(trace: xr.Dataset, result: Result, outcomes: Sequence[Outcome], value_name: str = "objective") -> str:
    """The figure as one ``<svg>`` element."""
    return svg(
        draw(trace, result, outcomes, value_name), _key(result), words(trace, result, outcomes, value_name)
    )  # fmt: skip


def _key(result: Result) -> str:
    return f"{result.name}/{result.theorem}/fedspa"


def words(trace: xr.Dataset, result: Result, outcomes: Sequence[Outcome], value_name: str = "objective") -> str:
    """The figure in words, for those who cannot see it."""
    return words_data(summary(trace, result, outcomes, value_name))


def words_data(found: xr.Dataset) -> str:
    """The figure in words, from its data."""
    ends = "; ".join(
        f"{x.name}{'' if x.density is None else f' at density {x.density:.2g}'}: {number(x.bits)} bits,"
        f" {found.attrs['value_name']} {number(x.value)}"
        for x in _outcomes(found)
    )
    return (
        f"{found.attrs['name']}: theorem {found.attrs['theorem']} {MARKS[_status(found)].word}, measured"
        f" {number(float(found['at_end'][0]))}, bound {number(float(found['at_end'][1]))} after"
        f" {int(found['horizon'][-1])} rounds. Masks change by {number(float(found['changed'].sum()))} weights in all."
        f" {ends}."
    )


def draw(
    trace: xr.Dataset, result: Result, outcomes: Sequence[Outcome], value_name: str = "objective"
) -> Figure:  # fmt: skip
    """All three panels side by side; ``trace`` and ``result`` are of the same experiment."""
    return draw_data(summary(trace, result, outcomes, value_name))


def draw_data(found: xr.Dataset) -> Figure:
    """The same, from its data (see ``fedconv.figures.fedspa.data.summary``)."""
    with styled():
        figure = blank(WIDTH, HEIGHT, layout=None)
        figure.subplots_adjust(
            left=0.55 / WIDTH, right=1 - 0.08 / WIDTH, top=1 - ABOVE / HEIGHT, bottom=BELOW / HEIGHT, wspace=0.42
        )
        left, middle, right = figure.subplots(1, 3)
        stationarity(left, found)
        masks(middle, found)
        saved(right, found)
    return figure


def _legend(axes: Axes) -> None:
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.3), ncol=2, borderaxespad=0.0, labelspacing=0.3,
        columnspacing=1.0, handlelength=1.6,
    )  # fmt: skip


def _status(found: xr.Dataset) -> str:
    return str(found.attrs["status"])


def _outcomes(found: xr.Dataset) -> list[Outcome]:
    rows = zip(*(found[key].values for key in ("method", "bits", "value", "kept")), strict=True)
    return [Outcome(str(n), float(b), float(v), None if np.isnan(k) else float(k)) for n, b, v, k in rows]


def stationarity(axes: Axes, found: xr.Dataset) -> None:
    """Measured left-hand side and bound for every horizon; a tick from below where masks changed, long where much."""
    horizon, at_end = found["horizon"].values, float(found["at_end"][0])
    mark = MARKS[_status(found)]
    claimed = _status(found) != "premises_unmet"
    positive = [np.where(x > 0, x, np.nan) for x in (found["measured"].values, found["bound"].values)]
    axes.set_xscale("log")
    axes.set_yscale("log")
    changed = found["changed"].values
    if changed.any():
        length = 0.16 * changed / changed.max()
        axes.vlines(
            np.arange(1, len(changed) + 1)[changed > 0], 0, length[changed > 0], color=ORANGE, linewidth=0.7,
            transform=axes.get_xaxis_transform(), label="masks change", zorder=1,
        )  # fmt: skip
    axes.plot(horizon, positive[0], color=BLUE, label="measured")
    axes.plot(
        horizon, positive[1], color=VERMILION if claimed else GREY, linestyle=(0, (4, 1.6)),
        label="bound" if claimed else "bound (not claimed)",
    )  # fmt: skip
    if at_end > 0:
        axes.plot([horizon[-1]], [at_end], color=mark.colour, marker=mark.marker, linestyle="none",
                  markeredgecolor="white", markeredgewidth=0.4, clip_on=False, zorder=4, label=mark.word)  # fmt: skip
    seen = np.concatenate(positive)
    seen = seen[np.isfinite(seen)]
    if seen.size:
        low, high = np.log10(seen.min()), np.log10(seen.max())
        room = max(high - low, 1.0)
        axes.set_ylim(10 ** (low - 0.3 * room), 10 ** (high + 0.08 * room))
    axes.set_title(legible(str(found.attrs["theorem"])), pad=4)
    axes.set_xlabel("horizon T′ [rounds]")
    axes.set_ylabel("mean of ‖∇f‖²/L, bound [units of F]")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}" if x < 9999 else number(x)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    _legend(axes)


def masks(axes: Axes, found: xr.Dataset) -> None:
    """Density of each layer, the share of a participant's active weights that a search exchanged, and how far two
    clients' masks are apart (share of the weights in which they differ)."""
    T, density = found.sizes["round"], found["density"].values
    rounds = np.arange(1, T + 1)
    names = [str(x) for x in found["layer"].values]
    shown = list(enumerate(names)) if len(names) <= 4 else []
    for k, name in shown:
        axes.plot(rounds, density[:, k], color=LINES[k], linestyle=DASHES[k % len(DASHES)],
                  label=legible(f"density, {name}"))  # fmt: skip
    if not shown:
        axes.fill_between(rounds, density.min(1), density.max(1), color=SKY, alpha=0.5, linewidth=0,
                          label=f"density of {len(names)} layers")  # fmt: skip
    axes.plot(rounds, found["exchanged"].values, color=GREY, linewidth=1.0, label="exchanged by a client")
    if np.isfinite(found["apart"].values).any():
        axes.plot(found["snapshot"].values, found["apart"].values, color="black", linestyle="none", marker="D",
                  markersize=2.6, label="two clients differ", clip_on=False, zorder=4)  # fmt: skip
    axes.set_ylim(0, 1.04)
    axes.set_xlim(0, T)
    axes.set_title("masks", pad=4)
    axes.set_xlabel("round t")
    axes.set_ylabel("share of weights")
    _legend(axes)


def saved(axes: Axes, found: xr.Dataset) -> None:
    """Values against the share of FedAvg's bits that is not sent; FedSpa's densities are written beside its points."""
    outcomes = _outcomes(found)
    whole = [x.bits for x in outcomes if x.name == "fedavg"]
    if not whole:
        raise InputError(
            f"outcomes must contain fedavg, against which bits are counted; got {', '.join(x.name for x in outcomes)}"
        )
    series: dict[str, list[Outcome]] = {}
    for x in outcomes:
        series.setdefault(x.name, []).append(x)
    markers = iter("sDv^PX*")
    colours = iter((GREY, PURPLE, GREEN, SKY, ORANGE, VERMILION))
    for name, points in series.items():
        ordered = sorted(points, key=lambda x: x.bits)
        at = [1 - x.bits / whole[0] for x in ordered], [x.value for x in ordered]
        if name in SERIES:
            dashed = name == SERIES[1]
            axes.plot(*at, color=VERMILION if dashed else BLUE, marker="o", markersize=3,
                      linestyle=(0, (3, 1.2)) if dashed else "-", label=name, zorder=3)  # fmt: skip
            for x in ordered:
                if x.density is not None and not dashed:
                    axes.annotate(f"{x.density:.2g}", (1 - x.bits / whole[0], x.value), textcoords="offset points",
                                  xytext=(3, -6), fontsize=5, color=BLUE, ha="left")  # fmt: skip
        else:
            axes.plot(*at, color=next(colours, GREY), marker=next(markers, "o"), linestyle="none", label=name,
                      zorder=4)  # fmt: skip
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_title("communication", pad=4)
    axes.set_xlabel("bits saved against FedAvg")
    axes.set_ylabel(str(found.attrs["value_name"]))
    axes.margins(0.1, 0.16)
    _legend(axes)
