"""Bound against measurement: for every horizon T′, the left-hand side of a theorem on a run and its bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike

from fedconv.analysis.pages.numerals import number
from fedconv.analysis.pages.report import OVERVIEW, Group, groups, theorem_of
from fedconv.analysis.theorems.statement import Statement, StatementInputs
from fedconv.analysis.verdicts.check import Result
from fedconv.figures import verdict_overview as verdicts
from fedconv.figures.style import BLUE, COLUMN, GREY, MARKS, SKY, VERMILION, blank, save, styled, svg

ABOVE, PANEL, BELOW, LEFT = 0.24, 1.45, 0.86, 0.52
"""Inches over, of and under a panel (axis label and legend), and beside the first one."""
TITLE, LINE = 0.2, 0.14
"""Inches of a title over all panels, and of a further line in their legends."""
FINE = 2.0
"""Decades up to which an axis has minor ticks: on longer ones they are narrow, and take half of the drawing's time."""


def pictures(results: Sequence[Result]) -> dict[str, str]:
    """SVG of every experiment and algorithm by ``Group.key``, and of all verdicts together by ``OVERVIEW``."""
    found = groups(results)
    drawn = {g.key: drawing for g in found if (drawing := picture(g)) is not None}
    return drawn | ({OVERVIEW: verdicts.picture(found)} if found else {})


def picture(group: Group) -> str | None:
    """SVG of one experiment and algorithm; None where nothing in it moves with the horizon."""
    chosen = telling(group.results)
    return svg(draw(chosen), group.key, words(group)) if chosen else None


MOST = 4
"""Panels for a method with many statements."""


def telling(results: Sequence[Result]) -> Sequence[Result]:
    """All results of FedAlt's kin; of a method's statements the MOST tightest whose two sides move with the horizon."""
    if not any(isinstance(r.inputs, StatementInputs) for r in results):
        return results
    moving = [r for r in results if all(np.ptp(x[np.isfinite(x)]) > 0 for x in (r.curve.measured, r.curve.bound)
                                        if np.isfinite(x).any()) and r.verdict.status != "premises_unmet"]  # fmt: skip
    return sorted(moving, key=lambda r: -r.verdict.tightness)[:MOST]


def write(results: Sequence[Result], path: Path | str) -> None:
    """Write the figure of one experiment and algorithm as pdf, svg or png (by the path's suffix)."""
    (group,) = groups(results)
    save(draw(results), path, group.key, words(group))


def words(group: Group) -> str:
    """The figure in words, for those who cannot see it."""
    ends = "; ".join(
        f"{r.theorem} {MARKS[r.verdict.category].word}: measured {number(r.verdict.measured)}, bound"
        f" {number(r.verdict.bound)} at T = {r.curve.rounds[-1]}"
        for r in group.results
    )
    return f"{group.problem}, {group.algorithm}: measured left-hand side and bound for every horizon, log-log. {ends}."


@dataclass(frozen=True)
class Panel:
    """One theorem on one run as it is drawn: both sides ``(H,)`` at horizons ``(H,)``, confidence limits of the last
    one, and of every horizon (``band``, two arrays ``(H,)``) where these are known."""

    theorem: str
    status: str
    label: str
    horizon: np.ndarray
    measured: np.ndarray
    bound: np.ndarray
    low: float
    value: float
    high: float
    band: tuple[np.ndarray, np.ndarray] | None = None


def panel_of(result: Result) -> Panel:
    """A result as it is drawn."""
    verdict, curve = result.verdict, result.curve
    return Panel(
        result.theorem, verdict.category, _measured_label(result), curve.rounds, curve.measured, curve.bound,
        verdict.low, verdict.measured, verdict.high,
    )  # fmt: skip


def draw(results: Sequence[Result], width: float = COLUMN) -> Figure:
    """One panel for each theorem (see :func:`draw_panels`)."""
    return draw_panels([panel_of(r) for r in results], width)


def draw_panels(panels: Sequence[Panel], width: float = COLUMN, columns: int = 2, title: str = "") -> Figure:
    """The panels in rows of ``columns``, with the same axes: left-hand side (solid, in its band), bound (dashed) and
    the confidence limits of the last horizon (bar), in the units of F over rounds."""
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    below = BELOW + (LINE if any(p.band is not None for p in panels) else 0.0)
    height = (ABOVE + PANEL + below) * rows + (TITLE if title else 0.0)
    with styled():
        figure = blank(width, height, layout=None)
        figure.subplots_adjust(
            left=LEFT / width, right=1 - 0.1 / width, top=1 - (ABOVE + (TITLE if title else 0.0)) / height,
            bottom=below / height, wspace=0.1, hspace=(ABOVE + below) / PANEL,
        )  # fmt: skip
        if title:
            figure.suptitle(title, fontsize=7.5, y=1 - 0.04 / height, va="top")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _panel(axes, panel)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for row in grid:
            row[0].set_ylabel("left-hand side, bound [units of F]")
        _scale(grid[0, 0], panels)
        for axes in grid.flat:
            axes.tick_params(labelbottom=True)
    return figure


def _panel(axes: Axes, panel: Panel) -> None:
    mark, horizon = MARKS[panel.status], panel.horizon
    last = float(horizon[-1])
    claimed = panel.status != "premises_unmet"
    dots = "." if last <= 2 else ""
    if panel.band is not None:
        low, high = map(_drawable, panel.band)
        axes.fill_between(horizon, low, high, color=SKY, alpha=0.45, linewidth=0, zorder=1,
                          label="limits at each T′")  # fmt: skip
    axes.plot(horizon, _drawable(panel.measured), color=BLUE, marker=dots, label=panel.label)
    axes.plot(
        horizon,
        _drawable(panel.bound),
        color=VERMILION if claimed else GREY,
        linestyle=(0, (4, 1.6)),
        marker=dots,
        label=f"{panel.theorem} bound" + ("" if claimed else " (not claimed)"),
    )
    low, value, high = (float(_drawable(x)) for x in (panel.low, panel.value, panel.high))
    if math.isfinite(high) and panel.high > panel.low:
        bottom = low if math.isfinite(low) else high * 1e-30
        axes.vlines(last, bottom, high, color=mark.colour, linewidth=1.0, zorder=3)
        axes.plot([last, last], [low, high], color=mark.colour, marker="_", linestyle="none", markersize=7,
                  markeredgewidth=1.0, zorder=3, clip_on=False)  # fmt: skip
    axes.plot(
        [last], [value], color=mark.colour, marker=mark.marker, linestyle="none", markeredgecolor="white",
        markeredgewidth=0.4, zorder=4, clip_on=False, label=f"limits at T = {horizon[-1]}",
    )  # fmt: skip
    if not np.isfinite(_drawable(panel.measured)).any():
        axes.text(0.5, 0.5, "left-hand side not\npositive and finite", ha="center", va="center", color=GREY,
                  transform=axes.transAxes)  # fmt: skip
    axes.set_title(f"{panel.theorem}: {mark.word}", y=1.0, pad=4)
    axes.set_xlabel("horizon T′ [rounds]")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.42 / PANEL), borderaxespad=0.0, labelspacing=0.35)


def _measured_label(result: Result) -> str:
    """The measured curve with its weights: theorems weigh the same X and Y differently."""
    theorem = theorem_of(result)
    if isinstance(theorem, Statement) or isinstance(result.inputs, StatementInputs):
        return "measured"
    values = theorem.evaluate(result.inputs.values, result.verdict.parameters)
    weights = {b: float(values[f"weight_{b}"]) for b, there in zip("uv", result.inputs.blocks, strict=True) if there}
    if not all(w > 0 for w in weights.values()):
        return "measured, weights ≤ 0"
    return "measured, " + ", ".join(f"$w_{b}$ {w:.2g}" for b, w in weights.items())


def _drawable(x: ArrayLike) -> np.ndarray:
    """Values that a logarithmic axis can show; NaN for the others."""
    values = np.asarray(x, dtype=float)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _scale(axes: Axes, panels: Sequence[Panel]) -> None:
    """Logarithmic axes with whole decades where there are few, shared by all panels."""
    seen = [_drawable(x) for p in panels for x in (p.measured, p.bound, [p.low, p.high])]
    values = np.concatenate(seen)
    values = values[np.isfinite(values)]
    rounds = max(int(p.horizon[-1]) for p in panels)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim((1 / 1.15, rounds * 1.15) if rounds > 1 else (0.5, 2.0))
    if math.log10(rounds) > FINE:
        axes.xaxis.set_minor_locator(NullLocator())
    if values.size:
        low, high = math.log10(values.min()) - 0.08, math.log10(values.max()) + 0.08
        if math.floor(high) - math.ceil(low) < 1:
            low, high = math.floor(low), math.ceil(high)
        axes.set_ylim(10.0**low, 10.0**high)
        if high - low > FINE:
            axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(LogLocator(numticks=5))
    axes.yaxis.set_major_locator(LogLocator(numticks=7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}" if 0.1 <= x < 9999 else number(x)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
