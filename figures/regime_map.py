"""The regime map: cells coloured by how much lower one algorithm's stationarity is, with theory's frontiers over it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, TickedStroke
from matplotlib.ticker import FuncFormatter, NullLocator

from analysis.predictors import Prediction
from analysis.regimes import ALGORITHMS, MISSING, Comparison
from figures.style import BLACK, BLUE, GREEN, GREY, SKY, VERMILION, blank, styled
from problems.errors import InputError

WIDTH = 6.8
MOST_ROWS = 6
"""Rows of panels, one for each combination of the values of further swept keys."""

FRONTIERS: tuple[tuple[str, Any], ...] = (
    (BLACK, "-"), (BLUE, (0, (5, 1.5))), (SKY, (0, (1, 1.2))),
    (VERMILION, (0, (5, 1.2, 1, 1.2))), (GREEN, (0, (2.5, 1))),
)  # fmt: skip
"""Colour and dashes of the five predictors: told apart without colour too."""

FEDSIM_SIDE = -90.0
"""Degrees from a contour's direction (it has the higher values on its left) to the side where FedSim is named."""

UNITS = {
    "noise.sigma_u": "σ_u [units of ∇_uF]", "noise.sigma_v": "σ_v [units of ∇_vF]",
    "algorithm.m": "m [clients in a round]",
    "algorithm.tau": "τ [local steps]", "run.T": "T [rounds]", "problem.n": "n [clients]", "problem.chi": "χ [1]",
    "problem.delta": "δ [units of ∇_uF]", "problem.L_u": "L_u [F per squared unit of u]",
    "problem.L_v": "L_v [F per squared unit of v]",
}  # fmt: skip
MARKERS = {"fedalt": "^", "fedsim": "s"}
TITLES = {"best": "each at its best step", "theorem": "each at its theorem's step"}
WORD = {"fedalt": "FedAlt", "fedsim": "FedSim"}


@dataclass(frozen=True)
class Map:
    """What is drawn: swept keys with their values, comparisons and predictions with arrays of the cells' shape."""

    name: str
    axes: tuple[tuple[str, tuple[Any, ...]], ...]
    comparisons: Mapping[str, Comparison]
    predictions: Sequence[Prediction]

    def plane(self) -> tuple[int, int]:
        """The two axes of the map (see :func:`plane`)."""
        return plane(self.axes)

    def rows(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """(title, index that leaves the plane) for each combination of the other axes."""
        x, y = self.plane()
        others = [i for i in range(len(self.axes)) if i not in (x, y)]
        for chosen in itertools.product(*(range(len(self.axes[i][1])) for i in others)):
            index: list[Any] = [slice(None)] * len(self.axes)
            titles = []
            for i, j in zip(others, chosen, strict=True):
                index[i] = j
                key, values = self.axes[i]
                if len(values) > 1:
                    titles.append(f"{key} = {values[j]}")
            yield ", ".join(titles), tuple(index)

    def cut(self, array: np.ndarray, index: tuple[Any, ...]) -> np.ndarray:
        """The plane of a row, as (y, x)."""
        x, y = self.plane()
        found = array[index]
        return found.T if x < y else found


def plane(axes: Sequence[tuple[str, Sequence[Any]]]) -> tuple[int, int]:
    """Indices (x, y) of the axes that span the map: the first two of numbers with at least two values each.

    Raises InputError where there are none, and where the other axes make more than MOST_ROWS rows.
    """
    found = [i for i, (_, values) in enumerate(axes) if len(values) > 1 and all(_is_number(v) for v in values)]
    if len(found) < 2:
        listed = ", ".join(f"{key} ({len(values)})" for key, values in axes) or "none"
        raise InputError(
            f"a map needs two swept keys with at least two numbers each, beside algorithm and eta; got {listed}"
        )
    rows = int(np.prod([len(values) for i, (_, values) in enumerate(axes) if i not in found[:2]]))
    if rows > MOST_ROWS:
        raise InputError(f"a map has at most {MOST_ROWS} rows, one for each value of further swept keys; got {rows}")
    return found[0], found[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def words(one: Map) -> str:
    """The map in words, for those who cannot see it."""
    x, y = one.plane()
    parts = [
        f"{TITLES[key]}: FedAlt lower in {c.count('fedalt')} cells, FedSim in {c.count('fedsim')}, no difference in"
        f" {c.count('no difference')}"
        for key, c in one.comparisons.items()
    ]
    frontiers = ", ".join(_legend(p) for p in one.predictions)
    return (
        f"Regime map of {one.name} over {one.axes[x][0]} and {one.axes[y][0]}. {'; '.join(parts)}. Lines: {frontiers}."
    )


def draw(one: Map) -> Figure:
    """A panel for each comparison, side by side; further swept keys make further rows."""
    rows = list(one.rows())
    largest = max((float(np.nanmax(np.abs(c.effect))) for c in one.comparisons.values() if _any(c.effect)), default=0.0)
    norm = Normalize(-max(largest, 0.01), max(largest, 0.01))
    height = 2.6 * len(rows) + 0.95
    with styled():
        figure = blank(WIDTH, height, layout=None)
        figure.subplots_adjust(
            left=0.075, right=0.865, top=1 - 0.32 / height, bottom=0.98 / height, wspace=0.16, hspace=0.32
        )
        panels = figure.subplots(len(rows), len(one.comparisons), squeeze=False)
        image = None
        for line, (title, index) in zip(panels, rows, strict=True):
            for axes, (key, found) in zip(line, one.comparisons.items(), strict=True):
                image = _panel(axes, one, found, index, norm)
                axes.set_title(TITLES[key] + (f"; {title}" if title else ""), pad=4)
        bar_axes = figure.add_axes((0.885, 0.98 / height, 0.018, 1 - 1.30 / height))
        if image is not None:
            bar = figure.colorbar(image, cax=bar_axes, format=FuncFormatter(lambda v, _: f"{abs(v):.0%}"))
            bar.set_label("relative difference of mean stationarity\n← FedSim lower      FedAlt lower →")
            bar.outline.set_linewidth(0.4)  # pyright: ignore[reportCallIssue]
        figure.legend(handles=_handles(one), loc="lower center", ncol=3, bbox_to_anchor=(0.48, 0.02 / height),
                      fontsize=6.0, columnspacing=1.6, handlelength=2.8)  # fmt: skip
    return figure


def _any(x: np.ndarray) -> bool:
    return bool(np.isfinite(x).any())


def _panel(axes: Axes, one: Map, found: Comparison, index: tuple[Any, ...], norm: Normalize) -> Any:
    """One map on the cells' numbers; ticks tell the values."""
    x, y = one.plane()
    effect, verdict = one.cut(found.effect, index), one.cut(found.verdict, index)
    axes.grid(False)
    axes.set_facecolor("#dddddd")
    image = axes.pcolormesh(np.ma.masked_invalid(effect), cmap="PuOr", norm=norm, edgecolors="white", linewidth=0.15)
    size = max(1.2, min(5.0, 42.0 / max(effect.shape)))
    for name in ALGORITHMS:
        rows, columns = np.nonzero(verdict == name)
        axes.plot(columns + 0.5, rows + 0.5, linestyle="none", marker=MARKERS[name], markersize=size, zorder=3,
                  markerfacecolor="white", markeredgecolor=BLACK, markeredgewidth=0.45)  # fmt: skip
    rows, columns = np.nonzero(verdict == MISSING)
    axes.plot(columns + 0.5, rows + 0.5, linestyle="none", marker="x", color=GREY, markersize=size, zorder=3)
    for prediction, (colour, dashes) in zip(one.predictions, FRONTIERS, strict=True):
        advantage = one.cut(np.clip(prediction.advantage, -1.0, 1.0), index)
        if _everywhere(advantage, prediction.tolerance) is None:
            centres = (np.arange(n) + 0.5 for n in advantage.shape[::-1])
            lines = axes.contour(
                *centres, np.ma.masked_invalid(advantage), levels=[0.0], colors=[colour], linestyles=[dashes],
                linewidths=1.5, zorder=4,
            )  # fmt: skip
            lines.set_path_effects([Normal(), TickedStroke(spacing=9.0, angle=FEDSIM_SIDE, length=0.45, linewidth=0.7)])
    for axis, i in ((axes.xaxis, x), (axes.yaxis, y)):
        key, values = one.axes[i]
        kept = np.arange(0, len(values), -(-len(values) // 7))
        axis.set_ticks(kept + 0.5, [f"{values[j]:.3g}" for j in kept])
        axis.set_minor_locator(NullLocator())
        axis.set_label_text(UNITS.get(key, key))
    return image


def _everywhere(advantage: np.ndarray, tolerance: float) -> str | None:
    """What a predictor says where it has no frontier; None where it has one."""
    known = advantage[np.isfinite(advantage)]
    if not known.size:
        return "no answer"
    if (np.abs(known) <= tolerance).all():
        return "no difference"
    if (known >= -tolerance).all():
        return "FedAlt"
    return "FedSim" if (known <= tolerance).all() else None


LABELS = {
    "paper": "constant-free condition [paper]",
    "tuned": "FA, FS as η → 0",
    "tuned*": "FA*, FS* as η → 0",
    "FA/FS": "least bound at T, FA or FS",
    "FA*/FS*": "least bound at T, FA* or FS*",
}


def _legend(prediction: Prediction) -> str:
    """A predictor's name and, where it has no frontier, what it says everywhere."""
    constant = _everywhere(prediction.advantage, prediction.tolerance)
    return LABELS.get(prediction.key, prediction.key) + (f": {constant} everywhere" if constant else "")


def _handles(one: Map) -> list[Line2D]:
    marks = [
        Line2D([], [], linestyle="none", marker=MARKERS[name], markerfacecolor="white", markeredgecolor=BLACK,
               markeredgewidth=0.5, label=f"{WORD[name]} lower (paired test)")
        for name in ALGORITHMS
    ]  # fmt: skip
    marks.append(Line2D([], [], linestyle="none", marker="", label="no mark: no difference; ticks: FedSim's side"))
    lines = [
        Line2D([], [], color=colour, linestyle=dashes, linewidth=1.5, label=_legend(p))
        for p, (colour, dashes) in zip(one.predictions, FRONTIERS, strict=True)
    ]
    return marks + lines
