"""Where a bound loses: bars from the measured left-hand side to the bound, one for each step of the proof."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedconv.analysis.pages.numerals import number
from fedconv.analysis.proofs.replay.waterfall import Part, PartKind, Waterfall
from fedconv.figures.style import BLACK, BLUE, GREY, ORANGE, SKY, VERMILION, blank, save, styled, svg

COLOURS: dict[PartKind, str] = {"upper": ORANGE, "dropped": SKY, "equality": GREY, "sampling": GREY}

SMALLEST = 5e-4
"""Share of the total slack below which steps are gathered into one bar."""

ROW, ABOVE, BELOW = 0.185, 0.3, 0.45
"""Inches of a bar, over the first and under the last one."""


def bars(fall: Waterfall) -> list[Part]:
    """The parts to draw, in the order of the proof: those with too small a share as one at the end; equalities and
    sampling, which are 0 in expectation, among them unless they are large."""
    small = [p for p in fall.parts if abs(p.slack) < SMALLEST * abs(fall.total) or p.kind == "equality"]
    if sum(abs(p.slack) for p in small) > 0.02 * abs(fall.total):
        small = [p for p in small if abs(p.slack) < SMALLEST * abs(fall.total)]
    if len(small) < 2:
        return list(fall.parts)
    slack = sum(p.slack for p in small)
    rest = Part(f"{len(small)} other steps", "small ones and equalities", "equality", slack, slack, slack)
    return [p for p in fall.parts if p not in small] + [rest]


def words(fall: Waterfall, title: str) -> str:
    """The figure in words."""
    most = sorted(fall.parts, key=lambda p: -p.slack)[:3]
    listed = ", ".join(f"{p.label} {p.slack / fall.total:.0%}" for p in most) if fall.total else "none"
    return f"{title}: waterfall from measured {number(fall.measured)} to bound {number(fall.bound)}; largest: {listed}."


def picture(fall: Waterfall, title: str) -> str:
    """SVG of :func:`draw`."""
    return svg(draw(fall, title), f"waterfall|{title}", words(fall, title))


def write(fall: Waterfall, title: str, path: Path | str) -> None:
    """Write the figure as pdf, svg or png (by the path's suffix)."""
    save(draw(fall, title), path, f"waterfall|{title}", words(fall, title))


def draw(fall: Waterfall, title: str, width: float = 5.4) -> Figure:
    """A bar for each step on a linear axis in the units of the left-hand side, each beginning where the last one ends;
    beside it what it adds and its share of the total slack."""
    drawn = bars(fall)
    rows = len(drawn) + 2
    with styled():
        height = ABOVE + ROW * rows + BELOW
        figure = blank(width, height, layout=None)
        figure.subplots_adjust(left=1.32 / width, right=1 - 1.12 / width, top=1 - ABOVE / height, bottom=BELOW / height)
        axes = figure.subplots()
        panel(axes, fall, drawn)
        axes.set_title(title, loc="left", x=-1.22 / (width - 2.44), pad=5, parse_math=False)
    return figure


def panel(axes: Axes, fall: Waterfall, drawn: Sequence[Part]) -> None:
    """The bars on given axes; what stands beside them needs 1.12 inches to the right."""
    rows = len(drawn) + 2
    _bars(axes, fall, drawn)
    axes.set_xlabel("left-hand side and what each step of the proof adds [units of F]")
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlim(*_range(fall, drawn))
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _bars(axes: Axes, fall: Waterfall, drawn: Sequence[Part]) -> None:
    last = len(drawn) + 1
    at = fall.measured
    labels = ["measured", *(p.label for p in drawn), "bound"]
    axes.barh(0, fall.measured, height=0.66, color=BLUE, zorder=2)
    for row, part in enumerate(drawn, 1):
        end = at + part.slack
        axes.barh(row, part.slack, left=at, height=0.66, color=COLOURS[part.kind], zorder=2)
        axes.vlines(at, row - 0.72, row + 0.33, color=BLACK, linewidth=0.5, zorder=3)
        at = end
    axes.vlines(at, last - 0.72, last + 0.33, color=BLACK, linewidth=0.5, zorder=3)
    axes.barh(last, fall.bound, height=0.66, color=VERMILION, zorder=2)
    axes.set_yticks(range(last + 1), labels)
    for tick in axes.get_yticklabels():
        tick.set_parse_math(False)
    beside = [number(fall.measured, 3), *(_added(p, fall) for p in drawn), number(fall.bound, 3)]
    shares = ["", *(_share(p, fall) for p in drawn), ""]
    for row, (amount, share) in enumerate(zip(beside, shares, strict=True)):
        bold = "bold" if row in (0, last) else "normal"
        for x, text in ((0.66, amount), (1.08, share)):
            axes.annotate(text, (1.0, row), xycoords=("axes fraction", "data"), xytext=(72 * x, 0),
                          textcoords="offset points", ha="right", va="center", fontsize=6.5, fontweight=bold,
                          annotation_clip=False)  # fmt: skip


def _added(part: Part, fall: Waterfall) -> str:
    sign = "+" if part.slack >= 0 else ""
    return f"{sign}{number(part.slack, 3)}"


def _share(part: Part, fall: Waterfall) -> str:
    if not fall.total > 0:
        return ""
    share = part.slack / fall.total
    if abs(share) < 0.0005:
        return "≈ 0 %"
    return f"{100 * share:.1f} %".replace("-", "−")


def _range(fall: Waterfall, drawn: Sequence[Part]) -> tuple[float, float]:
    ends = [0.0, fall.measured, fall.bound]
    at = fall.measured
    for part in drawn:
        at += part.slack
        ends.append(at)
    low, high = min(ends), max(ends)
    room = 0.02 * (high - low) if math.isfinite(high - low) and high > low else 1.0
    return (low - room if low < 0 else 0.0), high + room
