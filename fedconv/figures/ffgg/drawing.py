"""FFGG's three pictures: local steps, an asynchronous server, Byzantine clients; with and without a gap."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from fedconv.figures.ffgg import data as ffgg_data
from fedconv.figures.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILION, blank, styled

LOOKS = ((BLUE, "-", "o"), (VERMILION, "--", "s"), (GREEN, "-.", "^"), (PURPLE, ":", "D"), (ORANGE, "-", "v"))
"""Colour, line and marker of each method, in order: told apart without colour."""

LEAST = 1e-17
"""Smaller excesses are rounding and are not drawn."""

local_steps, asynchrony, byzantine = ffgg_data.local_steps, ffgg_data.asynchrony, ffgg_data.byzantine


def draw(data: xr.Dataset, width: float = 6.8) -> Figure:
    """F(w^k) − F★ against rounds for each gap shown, and the level where it stays against the gap (with the theorem's
    own level, dashed black, where there is one)."""
    with styled():
        figure = blank(width, 2.75)
        panels = figure.subplots(1, data.sizes["gap_shown"] + 1)
        for axes, G in zip(panels[:-1], data["gap_shown"].values, strict=True):
            _paths(axes, data, float(G))
        top = float(data["excess"].max()) * 3
        for axes in panels[:-1]:
            axes.set_ylim(max(LEAST, float(data["excess"].where(data["excess"] > LEAST).min()) / 3), top)
        _floors(panels[-1], data)
        panels[0].set_ylabel(r"$F(w^k) - F^\star$ [units of $F$]")
        handles, labels = panels[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)))
        figure.suptitle(str(data.attrs["setting"]), fontsize=7.5)
    return figure


def words(data: xr.Dataset) -> str:
    """The figure in words."""
    ends = ", ".join(f"{m} {float(data['floor'].sel(algorithm=m)[-1]):.2g}" for m in data["algorithm"].values)
    return f"{data.attrs['setting']}: excess over the optimum; where it stays at the largest gap: {ends}."


def _paths(axes: Axes, data: xr.Dataset, G: float) -> None:
    rounds = data["k"].values
    for (colour, line, marker), method in zip(LOOKS, data["algorithm"].values, strict=False):
        values = data["excess"].sel(gap_shown=G, algorithm=method).values
        axes.plot(rounds, np.where(values > LEAST, values, np.nan), color=colour, linestyle=line, marker=marker,
                  markevery=max(1, len(rounds) // 6), markersize=3, label=method)  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlabel("round k" if len(rounds) < 500 else "update k")
    axes.set_title("overpersonalized, G = 0" if G == 0 else f"gap G = {G:g}")
    axes.yaxis.set_major_locator(LogLocator(numticks=7))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _floors(axes: Axes, data: xr.Dataset) -> None:
    gaps = data["gap"].values
    for (colour, line, marker), method in zip(LOOKS, data["algorithm"].values, strict=False):
        values = data["floor"].sel(algorithm=method).values
        axes.plot(gaps, np.where(values > LEAST, values, np.nan), color=colour, linestyle=line, marker=marker,
                  markersize=3.5, label=str(method))  # fmt: skip
    if "bound" in data:
        axes.plot(gaps, data["bound"].values, color=BLACK, linestyle=(0, (1, 1.2)), marker="_",
                  label=f"bound on FFGG ({data.attrs['theorem']})")  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("personalization gap G [units of $F$]")
    axes.set_title(r"where it stays, against G")
    axes.yaxis.set_major_locator(LogLocator(numticks=7))
    axes.yaxis.set_minor_formatter(NullFormatter())
