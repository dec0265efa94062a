"""Virtual full participation: what L7 loses without it, and which variables of a round depend on the cohort."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from fedconv.analysis.pages.numerals import number
from fedconv.figures.style import BLACK, BLUE, GREY, VERMILION, blank, styled
from fedconv.figures.virtual_participation import data as virtual_data

data = virtual_data.data

LOOKS = {
    "without": (VERMILION, "-", "s", r"without: $\nabla_uF(u,V^{+})$"),
    "with": (BLUE, "--", "o", r"with: $\nabla_uF(u,\tilde V)$"),
}

NODES: dict[str, tuple[float, float, str]] = {
    "noise_v": (0.1, 0.93, "noise of\n$v$ steps"),
    "state": (0.42, 0.93, "$(u^t,V^t)$"),
    "cohort": (0.86, 0.93, "cohort $S^t$"),
    "v_virtual": (0.16, 0.62, r"$\tilde V^{t+1}$" "\nall clients"),
    "v_next": (0.60, 0.62, "$V^{t+1}$ kept"),
    "X": (0.07, 0.30, r"$X_t$"),
    "u_virtual": (0.31, 0.30, r"$\tilde u_i$" "\nall clients"),
    "gradient_real": (0.62, 0.33, r"$\nabla_uF(u^t,V^{t+1})$"),
    "noise_u": (0.1, 0.05, "noise of\n$u$ steps"),
    "u_next": (0.80, 0.05, "$u^{t+1}$"),
}
"""Where each cause and variable of a round stands, and how it is written."""

EDGES: tuple[tuple[str, str], ...] = (
    ("noise_v", "v_virtual"), ("state", "v_virtual"), ("v_virtual", "X"), ("state", "v_next"), ("v_virtual", "v_next"),
    ("cohort", "v_next"), ("v_virtual", "u_virtual"), ("state", "u_virtual"), ("noise_u", "u_virtual"),
    ("v_next", "gradient_real"), ("u_virtual", "u_next"), ("cohort", "u_next"),
)  # fmt: skip
"""What each variable is computed from (arrows of (u^t, V^t) that another path implies are left out)."""


NAMES = {
    "v_virtual": "Ṽ^{t+1}", "X": "X_t", "v_next": "V^{t+1}", "u_virtual": "the shared steps of all clients",
    "gradient_real": "∇_uF(u^t, V^{t+1})", "u_next": "u^{t+1}",
}  # fmt: skip


def ancestors(name: str) -> set[str]:
    """Everything from which arrows lead to a variable."""
    before = {a for a, b in EDGES if b == name}
    return before.union(*(ancestors(a) for a in before)) if before else before


def draw(data: xr.Dataset, width: float = 6.8) -> Figure:
    """L7's error against p and against χ with its limits, and the arrows of a round: what depends on S^t in vermilion
    with square corners, what does not in blue with round ones."""
    with styled():
        figure = blank(width, 2.75)
        left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.75])
        _errors(left, data["by_p"], "p", "p = m/n [no unit]")
        _errors(middle, data["by_chi"], "chi", r"cross-sensitivity $\chi$ [no unit]")
        left.set_title(rf"$\chi$ = {data.attrs['chi']:g}")
        middle.set_title(f"p = {data.attrs['m']}/{data.attrs['n']}")
        left.set_ylabel(r"error of L7 / $E\langle\nabla_uF(u,\tilde V),\bar y\rangle$")
        low, high = (f(axes.get_ylim()[k] for axes in (left, middle)) for f, k in ((min, 0), (max, 1)))
        for axes in (left, middle):
            axes.set_ylim(low, high)
        _diagram(right, data["depends"])
        handles, labels = left.get_legend_handles_labels()
        marks = [
            Line2D(
                [], [], linestyle="none", marker=shape, markersize=6, markerfacecolor="white", markeredgecolor=colour
            )
            for shape, colour in (("s", VERMILION), ("o", BLUE), ("o", GREY))
        ]
        names = ["depends on $S^t$", "does not", "other causes"]
        figure.legend([*handles, *marks], [*labels, *names], loc="outside lower center", ncols=5)
    return figure


def _errors(axes: Axes, found: xr.DataArray, key: str, label: str) -> None:
    axes.axhline(0.0, color=BLACK, linewidth=0.6)
    at = found[key].values
    for kind in found["kind"].values:
        colour, line, marker, name = LOOKS[str(kind)]
        value, low, high = (found.sel(kind=kind, limit=x).values for x in ("value", "low", "high"))
        axes.errorbar(at, value, yerr=[value - low, high - value], color=colour, linestyle=line, marker=marker,
                      markersize=3.2, linewidth=1.1, elinewidth=0.8, capsize=1.8, capthick=0.8, label=name)  # fmt: skip
    axes.set_xlabel(label)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _diagram(axes: Axes, found: xr.DataArray) -> None:
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    axes.set_title("one round: what depends on $S^t$")
    tied = {str(x) for x in found["variable"].values if int(found.sel(variable=x, cause="cohort"))} | {"cohort"}
    boxes = {}
    for name, (x, y, text) in NODES.items():
        colour = VERMILION if name in tied else BLUE if name in found["variable"].values else GREY
        shape = "square,pad=0.3" if name in tied else "round,pad=0.3"
        boxes[name] = axes.text(x, y, text, ha="center", va="center", fontsize=6.3, zorder=3, linespacing=1.05,
                                bbox={"boxstyle": shape, "fc": "white", "ec": colour, "lw": 1.1})  # fmt: skip
    for a, b in EDGES:
        both = a in tied and b in tied
        axes.annotate("", xy=NODES[b][:2], xytext=NODES[a][:2], zorder=2, arrowprops={
            "arrowstyle": "-|>", "mutation_scale": 7, "color": VERMILION if both else GREY, "lw": 1.1 if both else 0.8,
            "patchA": boxes[a].get_bbox_patch(), "patchB": boxes[b].get_bbox_patch(), "shrinkA": 1, "shrinkB": 1,
        })  # fmt: skip
    (x, y, _), (x_next, y_next, _) = NODES["gradient_real"], NODES["u_next"]
    axes.plot([x, x_next], [y, y_next], color=VERMILION, linestyle=(0, (1, 1.5)), linewidth=1.0, zorder=1)
    axes.text(0.46, y_next, "product biased:\nboth see $S^t$ (dotted)", ha="center", va="center", fontsize=5.8,
              color=VERMILION)  # fmt: skip


def words(data: xr.Dataset) -> str:
    """The figure in words."""
    sizes = data["by_p"].sel(kind="without", limit="value").values
    largest = int(np.argmax(np.abs(sizes)))
    free, tied = (
        [str(x) for x in data["variable"].values if bool(data["depends"].sel(variable=x, cause="cohort")) == there]
        for there in (False, True)
    )
    chi = data["by_chi"].sel(kind="without", limit="value").values
    exact = max(float(abs(data[x].sel(kind="with")).max()) for x in ("by_p", "by_chi"))
    top = int(np.argmax(np.abs(chi)))
    return (
        f"{data.attrs['setting']}: without virtual participation lemma L7 is off by {sizes[largest]:.1%} of its size at"
        f" p = {float(data['p'][largest]):.2g} and by {abs(sizes[-1]):.1%} at p = 1; at m = {data.attrs['m']} by"
        f" {abs(chi[0]):.1%} at χ = 0 and {chi[top]:.1%} at χ = {float(data['chi'][top]):g}. With it the error is at"
        f" most {number(exact, 1)} of that, which is rounding. In a round {', '.join(NAMES[x] for x in free)} do"
        f" not depend on the cohort; {', '.join(NAMES[x] for x in tied)} do."
    )
