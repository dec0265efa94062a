"""What personalization does to each client: the change in accuracy against FedAvg, sorted, and against its rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from fedconv.analysis.claims import accuracy_statistics as empirical
from fedconv.analysis.claims.digits import SKEWS, WORDS, Scale, Skew, baselines, cure, personal, pictured
from fedconv.analysis.claims.study import Contender
from fedconv.figures.style import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION, blank, styled

ERROR = 0.025
"""One-sided error of all clients' limits at once."""

SCALE = Scale()

NAME = "output layer personal"
CURES = {"with weight decay 0.01": ("weight_decay", 0.01), "with dropout 0.5": ("dropout", 0.5)}
LOOKS = {"with weight decay 0.01": (GREEN, "^", -0.2), "with dropout 0.5": (ORANGE, "D", 0.2)}


def contenders(scale: Scale) -> dict[str, Contender]:
    """FedAvg, FedAlt, and FedAlt with each cure, by the name in the figure."""
    (fedavg,) = baselines(scale, ("fedavg",))
    cured = {name: cure(scale, what, value) for name, (what, value) in CURES.items()}
    return {fedavg.name: fedavg, NAME: personal(scale, "fedalt", "output")} | cured


def data(scale: Scale = SCALE, studies: Mapping[Skew, xr.Dataset] | None = None) -> xr.Dataset:
    """For both ways to deal the digits: each client's change in accuracy (points) from FedAvg's model to FedAlt's with
    a personal output layer, plain and with each cure; mean over seeds, the plain one with limits that hold for all
    clients of a panel at once. ``studies``: data that hold all contenders at that scale, where they are computed
    already. Raises InputError where scikit-learn is not installed."""
    asked = contenders(scale)
    change = np.empty((len(SKEWS), 1 + len(CURES), scale.n))
    low, high, rows = (np.empty((len(SKEWS), scale.n)) for _ in range(3))
    rank = np.empty((len(SKEWS), 3))
    for s, skew in enumerate(SKEWS):
        found = pictured(skew, scale, asked, studies)
        fedavg = empirical.accuracy(found, "fedavg", "accuracy_before")
        for j, name in enumerate((NAME, *CURES)):
            change[s, j] = 100 * (empirical.accuracy(found, name) - fedavg).mean(0)
        worse = empirical.made_worse(empirical.accuracy(found, NAME) - fedavg, found["rows_held_out"].values, ERROR)
        low[s], high[s], rows[s] = 100 * worse.low, 100 * worse.high, found["rows"].values
        r = empirical.rank_correlation(rows[s], change[s, 0], ERROR)
        rank[s] = r.value, r.low, r.high
    each = ("skew", "client")
    about = {"units": "points"}
    return xr.Dataset(
        {
            "change": (("skew", "method", "client"), change, {"long_name": "mean change in accuracy"} | about),
            "low": (each, low, {"long_name": "lower limit of the first method's change"} | about),
            "high": (each, high, {"long_name": "upper limit of the first method's change"} | about),
            "rows": (each, rows, {"long_name": "training rows", "units": "1"}),
            "rank": (("skew", "limit"), rank, {"long_name": "rank correlation of rows and change", "units": "1"}),
        },
        coords={
            "skew": [WORDS[s] for s in SKEWS],
            "method": [NAME, *CURES],
            "client": np.arange(scale.n),
            "limit": ["value", "low", "high"],
        },
        attrs={
            "setting": f"digits, {scale.n} clients, {scale.m} in a round, {scale.rounds} rounds after"
            f" {scale.pretraining} of pretraining, {scale.seeds} seeds",
            "level": f"{1 - 2 * ERROR:.0%}",
        },
    )


def draw(found: xr.Dataset, width: float = 6.6) -> Figure:
    """A row for each way to deal the digits: clients from the largest loss to the largest gain, and against rows."""
    with styled():
        count = found.sizes["skew"]
        figure = blank(width, 0.5 + 2.0 * count)
        panels = figure.subplots(count, 2, squeeze=False, width_ratios=[1.35, 1.0], sharey="row")
        for (left, right), skew in zip(panels, found["skew"].values, strict=True):
            one = found.sel({"skew": skew})
            _sorted(left, one)
            _against_rows(right, one)
            left.set_title(str(skew))
            left.set_ylabel("change against FedAvg\n[points of accuracy]")
            value, low, high = one["rank"].values
            right.set_title(f"rank correlation {value:.2f} [{low:.2f}, {high:.2f}]")
        panels[-1][0].set_xlabel("clients, by their change with a personal output layer (FedAlt)")
        panels[-1][1].set_xlabel("training rows of the client")
        figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        figure.suptitle(str(found.attrs["setting"]), fontsize=7.5)
    return figure


def _colours(change: np.ndarray) -> list[str]:
    return [VERMILION if x < 0 else BLUE for x in change]


def _sorted(axes: Axes, one: xr.Dataset) -> None:
    plain = one["change"].values[0]
    order = np.argsort(plain, kind="stable")
    place = np.arange(len(order))
    axes.axhline(0.0, color=BLACK, linewidth=0.6)
    for sign, colour, hatch, label in ((-1, VERMILION, "////", "worse"), (1, BLUE, "", "better or equal")):
        here = (plain[order] < 0) if sign < 0 else (plain[order] >= 0)
        axes.bar(place[here], plain[order][here], color=colour, alpha=0.75, hatch=hatch, edgecolor="white",
                 linewidth=0.0, label=label)  # fmt: skip
    axes.errorbar(
        place, plain[order], [(plain - one["low"].values)[order], (one["high"].values - plain)[order]], color=GREY,
        linestyle="none", capsize=1.5, elinewidth=0.7, label="limits for all clients at once",
    )  # fmt: skip
    for name, (colour, marker, aside) in LOOKS.items():
        change = one["change"].sel({"method": name}).values[order]
        axes.plot(place + aside, change, color=colour, marker=marker, markersize=3, linestyle="none", label=name)
    axes.set_xticks([])
    axes.grid(False, axis="x")


def _against_rows(axes: Axes, one: xr.Dataset) -> None:
    plain, rows = one["change"].values[0], one["rows"].values
    axes.axhline(0.0, color=BLACK, linewidth=0.6)
    for worse, marker in ((True, "X"), (False, "o")):
        here = (plain < 0) == worse
        axes.scatter(rows[here], plain[here], c=_colours(plain[here]), marker=marker, s=16, linewidths=0)
    axes.set_xscale("log")
    ticks = [x for x in (5, 10, 20, 50, 100, 200, 500) if rows.min() <= x <= rows.max()]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())


def words(found: xr.Dataset) -> str:
    """The figure in words."""
    parts = []
    for skew in found["skew"].values:
        one = found.sel({"skew": skew})
        n, change = one.sizes["client"], one["change"].values
        cured = ", ".join(f"{int((change[1 + j] < 0).sum())} {name}" for j, name in enumerate(CURES))
        value, low, high = one["rank"].values
        parts.append(
            f"{skew}: {int((change[0] < 0).sum())} of {n} clients lose accuracy (for {int((one['high'] < 0).sum())} the"
            f" upper limit is below 0, too), {cured}; the rank correlation of rows and change is {value:.2f}"
            f" [{low:.2f}, {high:.2f}]"
        )
    return (
        f"{found.attrs['setting']}: change in accuracy of each client from FedAvg to FedAlt with a personal output"
        f" layer, with {found.attrs['level']} limits. {'. '.join(parts)}."
    )
