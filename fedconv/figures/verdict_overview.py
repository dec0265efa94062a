"""All verdicts of a report in one picture: how much of each bound the run uses up."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fedconv.analysis.pages.report import OVERVIEW, Group
from fedconv.analysis.verdicts.check import Result
from fedconv.figures.style import GREY, MARKS, blank, legible, styled, svg

LEAST = 1e-4
"""Smaller tightnesses are drawn at the edge."""


def picture(groups: Sequence[Group]) -> str:
    """SVG of :func:`draw`."""
    checks = sum(len(g.results) for g in groups)
    words = f"Tightness, measured over bound, of {checks} checks on a logarithmic axis; the table holds the numbers."
    return svg(draw(groups), OVERVIEW, words)


def draw(groups: Sequence[Group], width: float = 5.0) -> Figure:
    """A row for each experiment and algorithm, a mark for each theorem: measured/bound on a logarithmic axis, shape
    and colour by verdict, filled for the sharper theorem (FA*, FS*). 1 is the bound itself."""
    with styled():
        figure = blank(width, 0.95 + 0.17 * len(groups))
        axes = figure.subplots()
        for row, group in enumerate(groups):
            _marks(axes, row, group)
        drawn = [at for g in groups for r in g.results if (at := _position(r)) is not None]
        axes.axvline(1.0, color="black", linewidth=0.8, linestyle=(0, (4, 1.6)))
        axes.set_xscale("log")
        axes.set_xlim(10 ** math.floor(math.log10(min([0.1, *drawn]))) / 1.5, 1.6 * max([1.0, *drawn]))
        axes.set_ylim(len(groups) - 0.4, -0.6)
        axes.set_yticks(range(len(groups)), [legible(f"{_short(g.problem)} · {g.algorithm}") for g in groups])
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.xaxis.set_major_locator(LogLocator(numticks=9))
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("tightness: measured / bound [1]; dashed: the bound itself")
        figure.legend(handles=_handles(groups), loc="outside upper center", ncols=6, columnspacing=1.2)
    return figure


def _tick(x: float, _: object) -> str:
    return f"≤{x:g}" if x <= LEAST * 1.01 else f"{x:g}"


def _position(result: Result) -> float | None:
    """Tightness to draw, or None where a comparison says nothing (premises unmet, no finite ratio)."""
    tightness = result.verdict.tightness
    if result.verdict.status == "premises_unmet" or not math.isfinite(tightness):
        return None
    return max(tightness, LEAST)


def _marks(axes: Axes, row: int, group: Group) -> None:
    silent: dict[str, list[str]] = {}
    for result in group.results:
        mark, at = MARKS[result.verdict.category], _position(result)
        if at is None:
            silent.setdefault(mark.word, []).append(result.theorem)
            continue
        filled = _sharp(result) or mark.marker == "X"
        axes.plot(
            [at], [row], marker=mark.marker, linestyle="none", markersize=4.5, clip_on=False, zorder=3,
            markerfacecolor=mark.colour if filled else "white", markeredgecolor=mark.colour, markeredgewidth=1.0,
        )  # fmt: skip
    if silent:
        text = "; ".join(f"{', '.join(keys)}: {word}" for word, keys in silent.items())
        axes.text(0.04, row, text, va="center", fontsize=5.5, color=GREY, transform=axes.get_yaxis_transform(),
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0})  # fmt: skip


def _sharp(result: Result) -> bool:
    return "*" in result.theorem


def _short(text: str, most: int = 34) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _handles(groups: Sequence[Group]) -> list[Line2D]:
    there = {r.verdict.category for g in groups for r in g.results if _position(r) is not None}

    def handle(colour: str, marker: str, face: str, label: str) -> Line2D:
        return Line2D([], [], color=colour, marker=marker, linestyle="none", markerfacecolor=face, label=label)

    out = [handle(m.colour, m.marker, m.colour, m.word) for s, m in MARKS.items() if s in there]
    sharp = {_sharp(r) for g in groups for r in g.results}
    names = {False: "open: FA, FS", True: "filled: FA*, FS*"}
    return out + [handle("black", "o", "black" if s else "white", names[s]) for s in sorted(sharp)]
