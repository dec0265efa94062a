"""FedFomo's three pictures: weights over rounds, clusters told apart, and what mixing is worth to each client."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from fedconv.figures.fedfomo import data as fedfomo_data
from fedconv.figures.style import BLACK, BLUE, GREEN, GREY, PURPLE, VERMILION, blank, styled

LOOKS = ((BLUE, "-", "o"), (VERMILION, "--", "s"), (GREEN, "-.", "^"), (PURPLE, ":", "D"))
"""Colour, line and marker in order: told apart without colour."""

weights, recovery, losses = fedfomo_data.weights, fedfomo_data.recovery, fedfomo_data.losses


def draw_weights(data: xr.Dataset, width: float = 6.8) -> Figure:
    """Weight matrices of a few rounds, clients in order of their clusters (thin lines between), and how many clients
    mix at all."""
    with styled():
        figure = blank(width, 1.95)
        rounds = data["round_shown"].values
        panels = figure.subplots(1, len(rounds) + 1, gridspec_kw={"width_ratios": [1] * len(rounds) + [1.25]})
        n, groups = data.sizes["client"], int(data.attrs["groups"])
        top = float(data["weight"].max())
        image = None
        for axes, t in zip(panels[:-1], rounds, strict=True):
            image = axes.imshow(data["weight"].sel(round_shown=t).values, cmap="Greys", vmin=0, vmax=top)
            for cut in range(1, groups):
                at = cut * n // groups - 0.5
                axes.axhline(at, color=BLUE, linewidth=0.6)
                axes.axvline(at, color=BLUE, linewidth=0.6)
            axes.set_title(f"round {t}")
            axes.grid(False)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_xlabel("model of client j")
        panels[0].set_ylabel("client i")
        assert image is not None
        bar = figure.colorbar(image, ax=panels[:-1].tolist(), shrink=0.7, pad=0.01)
        bar.set_label(r"mean $w_{ij}$")
        _shares(panels[-1], data)
        figure.suptitle(str(data.attrs["setting"]), fontsize=7.5)
    return figure


def _shares(axes: Axes, data: xr.Dataset) -> None:
    t = data["round"].values[1:]
    axes.plot(t, data["mixing"].values[1:], color=BLUE, marker="o", markersize=3, label="find a better model")
    axes.plot(t, data["cross"].values[1:], color=VERMILION, linestyle="--", marker="s", markersize=3,
              label="weight across clusters")  # fmt: skip
    axes.set_ylim(-0.03, 1.5)
    axes.set_yticks([0.0, 0.5, 1.0])
    axes.set_xlabel("round")
    axes.set_ylabel("share of clients / weight")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.legend(loc="upper right")


def words_weights(data: xr.Dataset) -> str:
    """The figure in words."""
    cross = data["cross"].values
    gone = int(np.flatnonzero(cross > 0)[-1]) + 1 if (cross > 0).any() else 1
    return (
        f"{data.attrs['setting']}: mean weights in rounds {', '.join(map(str, data['round_shown'].values))}; from round"
        f" {gone} on no weight goes across clusters; in the last round {float(data['mixing'][-1]):.0%} of the clients"
        " find a better model than their own."
    )


def draw_recovery(data: xr.Dataset, width: float = 6.0) -> Figure:
    """The largest weight across clusters against mixings, and the mixings needed against the theorem's t_0 (on the
    dashed line they are equal; none may lie above)."""
    with styled():
        figure = blank(width, 2.5)
        left, right = figure.subplots(1, 2)
        top = float(data["bound"].max())
        shift = np.linspace(-0.18, 0.18, data.sizes["separation"])
        for (colour, line, marker), R, aside in zip(LOOKS, data["separation"].values, shift, strict=False):
            one = data.sel(separation=R)
            values = one["cross"].values
            end = int(np.flatnonzero(values > 0)[-1]) + 2 if (values > 0).any() else 1
            left.plot(one["mixing"].values[:end], values[:end], color=colour, linestyle=line, marker=marker,
                      markersize=3, label=f"R = {R:g}")  # fmt: skip
            right.plot(one["bound"].values + aside, one["needed"].values + aside, color=colour, linestyle="none",
                       marker=marker, markersize=3, alpha=0.7, label=f"R = {R:g}")  # fmt: skip
        left.set_xlabel("mixing")
        left.set_ylabel("largest weight across clusters")
        left.xaxis.set_major_locator(MaxNLocator(integer=True))
        left.legend(loc="upper right")
        right.plot([0, top], [0, top], color=BLACK, linestyle=(0, (4, 2)), linewidth=0.9)
        right.set_xlabel(rf"bound $t_0$ ({data.attrs['theorem']})")
        right.set_ylabel("mixings until clusters are apart")
        right.set_title("each mark a start")
        figure.suptitle(str(data.attrs["setting"]), fontsize=7.5)
    return figure


def words_recovery(data: xr.Dataset) -> str:
    """The figure in words."""
    parts = [
        f"R = {R:g}: at most {int(data['needed'].sel(separation=R).max())} mixings, t_0 at most"
        f" {int(data['bound'].sel(separation=R).max())}"
        for R in data["separation"].values
    ]
    return f"{data.attrs['setting']}: weights across clusters vanish before the bound t_0; {'; '.join(parts)}."


def draw_losses(data: xr.Dataset, width: float = 6.0) -> Figure:
    """The clients' mean excess against bits sent, and each client's excess in the end with mixing against alone."""
    with styled():
        figure = blank(width, 2.6)
        left, right = figure.subplots(1, 2)
        mean = {k: data[k].mean("client").values for k in ("personal", "local", "averaged")}
        left.plot(data["bits"].values / 1e3, mean["personal"], color=BLUE, marker="o", markevery=4, markersize=3,
                  label="FedFomo")  # fmt: skip
        left.plot(data["bits_averaged"].values / 1e3, mean["averaged"], color=VERMILION, linestyle="--", marker="s",
                  markevery=4, markersize=3, label="FedAvg")  # fmt: skip
        left.axhline(mean["local"][-1], color=GREY, linestyle=":", label="alone, after as many rounds")
        left.set_yscale("log")
        left.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        left.yaxis.set_minor_formatter(NullFormatter())
        left.set_xlabel("sent for a client, both ways [kbit]")
        left.set_ylabel(r"mean of $L_i - \inf L_i$ [units of $F$]")
        left.legend(loc="upper right", bbox_to_anchor=(1.0, 0.8))
        alone, mine = data["local"].values[-1], data["personal"].values[-1]
        groups = int(data.attrs["groups"])
        for g, (colour, _, marker) in zip(range(groups), LOOKS, strict=False):
            right.plot(alone[g::groups], mine[g::groups], color=colour, marker=marker, linestyle="none",
                       label=f"cluster {g + 1}")  # fmt: skip
        ends = [0.5 * min(alone.min(), mine.min()), 1.6 * max(alone.max(), mine.max())]
        right.plot(ends, ends, color=BLACK, linestyle=(0, (4, 2)), linewidth=0.9)
        right.set_xscale("log")
        right.set_yscale("log")
        right.set_xlabel(r"trained alone: $L_i - \inf L_i$")
        right.set_ylabel(r"personalized: $L_i - \inf L_i$")
        right.legend(loc="upper left")
        figure.suptitle(str(data.attrs["setting"]), fontsize=7.5)
    return figure


def words_losses(data: xr.Dataset) -> str:
    """The figure in words."""
    mine, alone, one = (float(data[k][-1].mean()) for k in ("personal", "local", "averaged"))
    better = int((data["personal"].values[-1] < data["local"].values[-1]).sum())
    return (
        f"{data.attrs['setting']}: mean excess of the target loss {mine:.2g} with FedFomo, {alone:.2g} alone, {one:.2g}"
        f" with FedAvg; mixing is better than training alone for {better} of {data.sizes['client']} clients."
    )
