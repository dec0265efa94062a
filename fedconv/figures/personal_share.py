"""How much accuracy personalization gains on FedAvg, against the share of the parameters that are personal."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from fedconv.analysis.claims import accuracy_statistics as empirical
from fedconv.analysis.claims.digits import SKEWS, WORDS, Scale, Skew, adapters, baselines, personal, pictured
from fedconv.analysis.claims.study import Contender
from fedconv.figures.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, blank, styled

ERROR = 0.025
"""One-sided error of each limit that is drawn."""

SCALE = Scale()

LOOKS = {"adapters": (BLUE, "o", "-"), "output layer": (VERMILION, "s", ""), "input layer": (GREEN, "^", "")}
LINES = {
    "fedavg_finetune": ("FedAvg, fine-tuned", PURPLE, "--"),
    "ditto": ("Ditto", ORANGE, "-."),
    "pfedme": ("pFedMe", BLACK, ":"),
    "local": ("each client alone", GREY, (0, (1, 3))),
}
"""The baselines: names, colours and lines."""


def contenders(scale: Scale) -> dict[str, dict[str, Contender]]:
    """FedAlt's personal parts by kind, and the baselines, by the name in the figure."""
    return {
        "adapters": {f"adapters of width {k}": one for k, one in adapters(scale).items()},
        "output layer": {"output layer": personal(scale, "fedalt", "output")},
        "input layer": {"input layer": personal(scale, "fedalt", "input")},
        "": {one.name: one for one in baselines(scale)},
    }


def data(scale: Scale = SCALE, studies: Mapping[Skew, xr.Dataset] | None = None) -> xr.Dataset:
    """For both ways to deal the digits: every method's gain in mean accuracy over FedAvg (points) with limits over
    seeds, and the share of its parameters that are personal. ``studies``: data that hold all contenders at that scale,
    where they are computed already. Raises InputError where scikit-learn is not installed."""
    groups = contenders(scale)
    kinds = [kind for kind, group in groups.items() for _ in group]
    asked = {name: one for group in groups.values() for name, one in group.items()}
    found = {skew: pictured(skew, scale, asked, studies) for skew in SKEWS}
    gains = np.stack([100 * empirical.table(one, error=ERROR)["gain"].values for one in found.values()])
    first = found[SKEWS[0]]
    out = xr.Dataset(
        {
            "gain": (("skew", "method", "limit"), gains, {"long_name": "gain over FedAvg", "units": "points"}),
            "accuracy": (
                ("skew", "method"),
                np.stack([one["accuracy_after"].mean(("seed", "client")).values for one in found.values()]),
                {"long_name": "mean accuracy on test rows after the local phase", "units": "1"},
            ),
            "share": ("method", first["share"].values, first["share"].attrs),
        },
        coords={
            "skew": [WORDS[s] for s in SKEWS],
            "method": first["method"].values,
            "limit": ["value", "low", "high"],
            "kind": ("method", kinds),
        },
        attrs={
            "setting": f"digits, {scale.n} clients, {scale.m} in a round, {scale.rounds} rounds after"
            f" {scale.pretraining} of pretraining, {scale.hidden} hidden units, {scale.seeds} seeds",
            "level": f"{1 - 2 * ERROR:.0%}",
        },
    )
    return out


def draw(found: xr.Dataset, width: float = 6.6) -> Figure:
    """A panel for each way to deal the digits; marks are FedAlt with some part personal, lines the baselines."""
    with styled():
        figure = blank(width, 3.0)
        panels = figure.subplots(1, found.sizes["skew"])
        for axes, skew in zip(np.atleast_1d(panels), found["skew"].values, strict=True):
            _panel(axes, found.sel({"skew": skew}))
            axes.set_title(str(skew))
        first = np.atleast_1d(panels)[0]
        first.set_ylabel("gain over FedAvg [points of accuracy]")
        figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        figure.suptitle(str(found.attrs["setting"]), fontsize=7.5)
    return figure


def _panel(axes: Axes, found: xr.Dataset) -> None:
    axes.axhline(0.0, color=BLACK, linewidth=0.6)
    kinds = found["kind"].values
    for kind, (colour, marker, line) in LOOKS.items():
        one = found.isel({"method": np.flatnonzero(kinds == kind)})
        value, low, high = one["gain"].values.T
        axes.errorbar(
            100 * one["share"].values, value, [value - low, high - value], color=colour, marker=marker,
            linestyle=line or "none", capsize=2, elinewidth=0.8, linewidth=1.0, label=f"FedAlt, {kind} personal",
        )  # fmt: skip
    for name, (label, colour, line) in LINES.items():
        value, low, high = found["gain"].sel({"method": name}).values
        axes.axhline(value, color=colour, linestyle=line, linewidth=1.1, label=label)
        axes.axhspan(low, high, color=colour, alpha=0.08, linewidth=0)
    axes.set_xscale("log")
    axes.set_xlim(2.0, 110.0)
    axes.xaxis.set_major_locator(FixedLocator([3, 10, 30, 100]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g} %"))
    axes.set_xlabel("share of parameters that are personal (FedAlt)")


def words(found: xr.Dataset) -> str:
    """The figure in words."""
    parts = []
    for skew in found["skew"].values:
        here = found.sel({"skew": skew})
        split = here.isel({"method": np.flatnonzero(here["kind"].values != "")})
        marks = ", ".join(
            f"{m} ({float(split['share'][j]):.0%} personal) {float(split['gain'][j, 0]):+.1f}"
            for j, m in enumerate(split["method"].values)
        )
        gains = {label: float(here["gain"].sel({"method": k})[0]) for k, (label, *_) in LINES.items()}
        lines = ", ".join(f"{label} {gain:+.1f}" for label, gain in gains.items())
        parts.append(f"{skew}: FedAlt with {marks}; {lines}")
    return (
        f"{found.attrs['setting']}: gain over FedAvg in points of accuracy against the share of parameters that are"
        f" personal, with {found.attrs['level']} limits. {'. '.join(parts)}."
    )
