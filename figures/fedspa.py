"""FedSpa in three panels: stationarity against bound with mask changes marked; densities and mask changes over rounds;
communication saved against what is lost by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from analysis.check import Result
from analysis.numerals import number
from fedconv.trace import read
from figures.style import (
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
from problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

WIDTH = 2 * COLUMN + 0.3
"""Width of a figure across both columns of a paper, in inches."""

HEIGHT, BELOW, ABOVE = 2.45, 0.82, 0.26
LINES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
SERIES = ("fedspa", "fedspa, frozen")


@dataclass(frozen=True)
class Outcome:
    """Where one run ended: bits of all rounds and clients together, and a value (lower is better).

    ``density``: share of weights kept, for FedSpa. ``name`` says the algorithm.
    """

    name: str
    bits: float
    value: float
    density: float | None = None


def outcome(trace: xr.Dataset, value: float | None = None, value_bits: int = 32) -> Outcome:
    """The outcome of a recorded run; ``value`` in place of its mean F_final. FedSpa's first masks are counted once.

    ``value_bits`` of runs that count numbers (FedAvg, local-only, FedAlt, FedSim).
    """
    algorithm = read(trace, "algorithm")
    reached = float(trace["F_final"].mean()) if value is None else value
    if algorithm["name"] != "fedspa":
        numbers = float(trace["numbers_down"].sum() + trace["numbers_up"].sum())
        return Outcome(algorithm["name"], numbers * value_bits, reached)
    if "bits_up" not in trace:
        raise InputError(
            f"a FedSpa trace must be of level 'stationarity' or 'proof'; got {trace.attrs.get('level', 'unknown')!r}"
        )
    sent = float((trace["bits_up"] + trace["bits_down"]).sum("round").mean()) + float(trace["first_mask_bits"].sum())
    frozen = algorithm["masks"]["mode"] == "frozen"
    kept = float(trace["budget"].values.sum() / (trace["layer_size"].values.sum() * trace.sizes["client"]))
    return Outcome(SERIES[frozen], sent, reached, kept)


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
    changed = trace["hamming"].values.sum((-1, -2))
    ends = "; ".join(
        f"{x.name}{'' if x.density is None else f' at density {x.density:.2g}'}: {number(x.bits)} bits,"
        f" {value_name} {number(x.value)}"
        for x in outcomes
    )
    verdict = result.verdict
    return (
        f"{result.name}: theorem {result.theorem} {MARKS[verdict.status].word}, measured"
        f" {number(verdict.measured)}, bound {number(verdict.bound)} after {result.curve.rounds[-1]} rounds."
        f" Masks change by {number(float(changed.mean()))} weights in all. {ends}."
    )


def draw(
    trace: xr.Dataset, result: Result, outcomes: Sequence[Outcome], value_name: str = "objective"
) -> Figure:  # fmt: skip
    """All three panels side by side; ``trace`` and ``result`` are of the same experiment."""
    with styled():
        figure = blank(WIDTH, HEIGHT, layout=None)
        figure.subplots_adjust(
            left=0.55 / WIDTH, right=1 - 0.08 / WIDTH, top=1 - ABOVE / HEIGHT, bottom=BELOW / HEIGHT, wspace=0.42
        )
        left, middle, right = figure.subplots(1, 3)
        stationarity(left, trace, result)
        masks(middle, trace)
        saved(right, outcomes, value_name)
    return figure


def _legend(axes: Axes) -> None:
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.3), ncol=2, borderaxespad=0.0, labelspacing=0.3,
        columnspacing=1.0, handlelength=1.6,
    )  # fmt: skip


def stationarity(axes: Axes, trace: xr.Dataset, result: Result) -> None:
    """Measured left-hand side and bound for every horizon; a tick from below where masks changed, long where much."""
    horizon, verdict = result.curve.rounds, result.verdict
    mark = MARKS[verdict.status]
    claimed = verdict.status != "premises_unmet"
    positive = [np.where(x > 0, x, np.nan) for x in map(np.asarray, (result.curve.measured, result.curve.bound))]
    axes.set_xscale("log")
    axes.set_yscale("log")
    changed = trace["hamming"].values.sum(-1).mean(0)
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
    if verdict.measured > 0:
        axes.plot([horizon[-1]], [verdict.measured], color=mark.colour, marker=mark.marker, linestyle="none",
                  markeredgecolor="white", markeredgewidth=0.4, clip_on=False, zorder=4, label=mark.word)  # fmt: skip
    seen = np.concatenate(positive)
    seen = seen[np.isfinite(seen)]
    if seen.size:
        low, high = np.log10(seen.min()), np.log10(seen.max())
        room = max(high - low, 1.0)
        axes.set_ylim(10 ** (low - 0.3 * room), 10 ** (high + 0.08 * room))
    axes.set_title(legible(result.theorem), pad=4)
    axes.set_xlabel("horizon T′ [rounds]")
    axes.set_ylabel("mean of ‖∇f‖²/L, bound [units of F]")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}" if x < 9999 else number(x)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    _legend(axes)


def masks(axes: Axes, trace: xr.Dataset) -> None:
    """Density of each layer, the share of a participant's active weights that a search exchanged, and how far two
    clients' masks are apart (share of the weights in which they differ)."""
    T, d = trace.sizes["round"], trace["layer_size"].values.sum()
    rounds = np.arange(1, T + 1)
    density = trace["nnz"].values.mean((0, 2)) / trace["layer_size"].values
    names = [layer[0] for layer in read(trace, "layers")]
    shown = list(enumerate(names)) if len(names) <= 4 else []
    for k, name in shown:
        axes.plot(rounds, density[:, k], color=LINES[k], linestyle=DASHES[k % len(DASHES)],
                  label=legible(f"density, {name}"))  # fmt: skip
    if not shown:
        axes.fill_between(rounds, density.min(1), density.max(1), color=SKY, alpha=0.5, linewidth=0,
                          label=f"density of {len(names)} layers")  # fmt: skip
    active = trace["budget"].values.sum(1)
    took_part = trace["cohort"].values
    share = (trace["hamming"].values / (2 * active)).sum(-1) / np.maximum(took_part.sum(-1), 1)
    axes.plot(rounds, share.mean(0), color=GREY, linewidth=1.0, label="exchanged by a client")
    distance = trace["mask_distance"].values
    n = distance.shape[-1]
    if n > 1:
        apart = distance.sum((-1, -2)).mean(0) / (n * (n - 1)) / d
        axes.plot(trace["snapshot"].values, apart, color="black", linestyle="none", marker="D", markersize=2.6,
                  label="two clients differ", clip_on=False, zorder=4)  # fmt: skip
    axes.set_ylim(0, 1.04)
    axes.set_xlim(0, T)
    axes.set_title("masks", pad=4)
    axes.set_xlabel("round t")
    axes.set_ylabel("share of weights")
    _legend(axes)


def saved(axes: Axes, outcomes: Sequence[Outcome], value_name: str) -> None:
    """Values against the share of FedAvg's bits that is not sent; FedSpa's densities are written beside its points."""
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
    axes.set_ylabel(value_name)
    axes.margins(0.1, 0.16)
    _legend(axes)
