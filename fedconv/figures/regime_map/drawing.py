"""The regime map: cells coloured by how much lower one algorithm's stationarity is, with theory's frontiers over it.

Under it stands how often each predictor names the winner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, TickedStroke
from matplotlib.ticker import FuncFormatter, NullLocator

from fedconv.analysis.regimes import ALGORITHMS, CONSTANT, MISSING, Comparison, Score, scores
from fedconv.analysis.regimes.predictors import Prediction
from fedconv.figures.regime_map import data as regime_data
from fedconv.figures.regime_map.data import Map
from fedconv.figures.style import BLACK, BLUE, GREEN, GREY, SKY, VERMILION, blank, styled

if TYPE_CHECKING:
    import xarray as xr

WIDTH = 6.8
FRONTIERS: tuple[tuple[str, Any], ...] = (
    (BLACK, "-"), (BLUE, (0, (5, 1.5))), (SKY, (0, (1, 1.2))),
    (VERMILION, (0, (5, 1.2, 1, 1.2))), (GREEN, (0, (2.5, 1))),
)  # fmt: skip
"""Colour and dashes of the five predictors: told apart without colour too."""

FEDSIM_SIDE = -90.0
"""Degrees from a contour's direction (it has the higher values on its left) to the side where FedSim is named."""

UNITS = {
    "noise.sigma_u": "σ_u [units of ∇_uF]",
    "noise.sigma_v": "σ_v [units of ∇_vF]",
    "noise.dependence": "correlation of the noise on u and v [1]",
    "algorithm.m": "m [clients in a round]",
    "algorithm.tau": "τ [local steps]",
    "run.T": "T [rounds]",
    "problem.n": "n [clients]",
    "problem.chi": "χ [1]",
    "problem.delta": "δ [units of ∇_uF]",
    "problem.L_u": "L_u [F per squared unit of u]",
    "problem.L_v": "L_v [F per squared unit of v]",
}
MARKERS = {"fedalt": "^", "fedsim": "s"}
TITLES = {"best": "each at its best step", "theorem": "each at its theorem's step"}
WHERE = {"best": "at best steps", "theorem": "at theorems' steps"}
WORD = {"fedalt": "FedAlt", "fedsim": "FedSim"}


def data() -> xr.Dataset:
    """The quick map W2, computed."""
    return regime_data.computed("W2", quick=True)


def data_default() -> xr.Dataset:
    """The default map W2, computed: minutes."""
    return regime_data.computed("W2", quick=False)


def data_steps() -> xr.Dataset:
    """The quick map ``steps``, on which both algorithms win, computed."""
    return regime_data.computed("steps", quick=True)


def words(data: xr.Dataset | Map) -> str:
    """The map in words, for those who cannot see it."""
    one = data if isinstance(data, Map) else regime_data.from_dataset(data)
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


def draw(data: xr.Dataset | Map) -> Figure:
    """A panel for each comparison, side by side; further swept keys make further rows; the confusion tables below."""
    one = data if isinstance(data, Map) else regime_data.from_dataset(data)
    tables = {key: scores(found, one.predictions) for key, found in one.comparisons.items()}
    rows = list(one.rows())
    largest = max((float(np.nanmax(np.abs(c.effect))) for c in one.comparisons.values() if _any(c.effect)), default=0.0)
    norm = Normalize(-max(largest, 0.01), max(largest, 0.01))
    below = 0.98 + 0.16 * (3 + len(one.predictions) + 1)
    height = 2.6 * len(rows) + below
    with styled():
        figure = blank(WIDTH, height, layout=None)
        figure.subplots_adjust(
            left=0.075, right=0.865, top=1 - 0.32 / height, bottom=below / height, wspace=0.16, hspace=0.32
        )
        panels = figure.subplots(len(rows), len(one.comparisons), squeeze=False)
        image = None
        for line, (title, index) in zip(panels, rows, strict=True):
            for axes, (key, found) in zip(line, one.comparisons.items(), strict=True):
                image = _panel(axes, one, found, index, norm)
                axes.set_title(TITLES[key] + (f"; {title}" if title else ""), pad=4)
        bar_axes = figure.add_axes((0.885, below / height, 0.018, 1 - (below + 0.32) / height))
        if image is not None:
            bar = figure.colorbar(image, cax=bar_axes, format=FuncFormatter(lambda v, _: f"{abs(v):.0%}"))
            bar.set_label("relative difference of mean stationarity\n← FedSim lower      FedAlt lower →")
            bar.outline.set_linewidth(0.4)  # pyright: ignore[reportCallIssue]
        figure.legend(handles=_handles(one), loc="lower center", ncol=3, bbox_to_anchor=(0.48, (below - 0.96) / height),
                      fontsize=5.4, columnspacing=1.2, handlelength=2.6)  # fmt: skip
        for k, (key, table) in enumerate(tables.items()):
            left = 0.02 + 0.49 * k
            _table(figure.add_axes((left, 0.06 / height, 0.47, (below - 1.06) / height)), key, table)
    return figure


COLUMNS = (0.0, 0.58, 0.74, 0.87, 1.0)
"""Left end of the first column of the table, right ends of the others."""


def _table(axes: Axes, steps: str, rows: Sequence[Score]) -> None:
    """The confusion table: right answers among the cells that each algorithm wins, and their shares."""
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(rows) + 2.4, 0)
    won = [sum(rows[0].confusion[name].values()) for name in ALGORITHMS]
    heads = (f"right {WHERE[steps]}", f"FedAlt ({won[0]})", f"FedSim ({won[1]})", "all", "balanced")
    lines: list[tuple[str, ...]] = [heads]
    for row in rows:
        right = (str(row.confusion[name][name]) for name in ALGORITHMS)
        lines.append((label(row.key, row.title), *right, _share(row.share), _share(row.balanced)))
    for y, line in enumerate(lines):
        for x, text in zip(COLUMNS, line, strict=True):
            axes.text(x, y + 0.5 + 0.2 * (y > 0), text, fontsize=5.6, ha="left" if x == 0 else "right", va="center",
                      fontweight="bold" if y == 0 else "normal")  # fmt: skip
    axes.plot([0, 1], [1.1, 1.1], color=BLACK, linewidth=0.5)
    axes.plot([0, 1], [len(rows) + 0.2] * 2, color=GREY, linewidth=0.3)
    note = "in brackets: cells won; balanced: mean share over both winners"
    axes.text(0, len(rows) + 1.8, note, fontsize=5.2, color=GREY, va="center")


def _share(x: float) -> str:
    return "–" if np.isnan(x) else f"{x:.0%}"


def label(key: str, title: str) -> str:
    """A predictor's short name."""
    if key == CONSTANT:
        return "always FedAlt (won more often)" if ALGORITHMS[0] in title else "always FedSim (won more often)"
    return LABELS.get(key, title)


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
    confirmed = one.cut(found.confirmed, index)
    for name in ALGORITHMS:
        for sure, face in ((True, BLACK), (False, "white")):
            rows, columns = np.nonzero((verdict == name) & (confirmed == sure))
            axes.plot(columns + 0.5, rows + 0.5, linestyle="none", marker=MARKERS[name], markersize=size, zorder=3,
                      markerfacecolor=face, markeredgecolor=BLACK if face != BLACK else "white",
                      markeredgewidth=0.45)  # fmt: skip
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
        Line2D([], [], linestyle="none", marker=MARKERS[name], markerfacecolor=BLACK, markeredgecolor="white",
               markeredgewidth=0.5, label=f"{WORD[name]} lower; white: t-test only")
        for name in ALGORITHMS
    ]  # fmt: skip
    marks.append(Line2D([], [], linestyle="none", marker="", label="no mark: neither; ticks: FedSim's side"))
    lines = [
        Line2D([], [], color=colour, linestyle=dashes, linewidth=1.5, label=_legend(p))
        for p, (colour, dashes) in zip(one.predictions, FRONTIERS, strict=True)
    ]
    return marks + lines
