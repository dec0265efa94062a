"""How figures look and are saved: one set of settings, no state left behind, SVG that is the same every time."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from fedconv.problems.errors import InputError

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7",
)  # fmt: skip
"""Okabe and Ito's palette, told apart in every common colour blindness."""
GREY = "#6b6b6b"

COLUMN = 3.3
"""Width of a figure that fills one column of a two-column paper, in inches."""

FORMATS = ("pdf", "svg", "png")


class Mark(NamedTuple):
    """How a verdict is drawn: never by colour alone."""

    word: str
    colour: str
    marker: str


MARKS: dict[str, Mark] = {
    "holds": Mark("holds", GREEN, "o"),
    "holds_approximate": Mark("holds (approximate)", BLUE, "^"),
    "violated": Mark("violated", VERMILION, "X"),
    "violated_approximate": Mark("violated (approximate)", VERMILION, "v"),
    "inconclusive": Mark("inconclusive", ORANGE, "D"),
    "premises_unmet": Mark("premises unmet", GREY, "s"),
}

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.0,
    "axes.titlesize": 7.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 7.0,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 5.8,
    "legend.frameon": False,
    "legend.handlelength": 1.7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "figure.facecolor": "white",
    "figure.dpi": 100.0,
    "savefig.facecolor": "white",
    "savefig.dpi": 300.0,
    "svg.fonttype": "path",
    "svg.hashsalt": "fedconv",
    "pdf.fonttype": 42,
}


@contextmanager
def styled() -> Iterator[None]:
    """The project's settings, for as long as a figure is drawn and saved; matplotlib's own come back afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        with matplotlib.rc_context(RC):
            yield


def blank(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """An empty figure of that size in inches, known to no window system and to no global list."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def legible(text: str) -> str:
    """``text`` on one line, with a box for what the figures' font has no glyph for."""
    known = get_font(findfont(RC["font.family"])).get_charmap()
    return "".join(x if ord(x) in known else "□" for x in " ".join(text.split()))


def svg(figure: Figure, key: str, words: str) -> str:
    """The figure as one ``<svg>`` element that can stand beside others in a page: text as paths, ids that begin with
    a hash of ``key``, no style sheet and no metadata, lengths to 0.01 points. ``words`` is what a screen reader says.
    The same figure, key and words give the same bytes."""
    with styled():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    root = ET.fromstring(buffer.getvalue())
    prefix = f"f{hashlib.sha256(key.encode()).hexdigest()[:8]}-"
    _drop(root)
    ids: dict[str, str] = {}
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        given = {name.rpartition("}")[2]: value for name, value in node.attrib.items()}
        node.attrib.clear()
        for name, value in given.items():
            if name == "href":
                value = f"#{_id(ids, value.removeprefix('#'), prefix)}"
            node.set(name, _CLIP.sub(lambda found: f"url(#{_id(ids, found[1], prefix)})", value))
    for node in root.iter():
        for name, value in list(node.attrib.items()):
            if name == "id":
                node.attrib.pop(name)
                if value in ids:
                    node.set(name, ids[value])
            elif name in ("d", "x", "y"):
                node.set(name, " ".join(_LONG.sub(_rounded, value).split()))
            elif name == "transform":
                node.set(name, _MOVED.sub(lambda found: _LONG.sub(_rounded, found[0]), value))
    root.set("xmlns", "http://www.w3.org/2000/svg")
    root.set("style", "stroke-linejoin:round;stroke-linecap:butt")
    root.set("role", "img")
    root.set("aria-label", words)
    return ET.tostring(root, encoding="unicode")


_CLIP = re.compile(r"url\(#([^)]+)\)")
_LONG = re.compile(r"-?\d+\.\d{3,}")
_MOVED = re.compile(r"translate\([^)]*\)")


def _id(ids: dict[str, str], name: str, prefix: str) -> str:
    """The short name of an id that something refers to."""
    return ids.setdefault(name, f"{prefix}{len(ids):x}")


def _rounded(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")


def _drop(node: ET.Element) -> None:
    """Remove metadata and style sheets (inlined, a style sheet would reach the whole page)."""
    for child in list(node):
        if child.tag.rpartition("}")[2] in ("metadata", "style"):
            node.remove(child)
        else:
            _drop(child)


def save(figure: Figure, path: Path | str, key: str, words: str) -> None:
    """Write the figure as pdf, svg or png, by the path's suffix; the file appears whole or not at all."""
    path = Path(path)
    kind = path.suffix.removeprefix(".")
    if kind not in FORMATS:
        raise InputError(f"a figure's path must end in {', '.join('.' + f for f in FORMATS)}; got {path.name!r}")
    if kind == "svg":
        content = svg(figure, key, words).encode()
    else:
        metadata: Mapping[str, Any] = {"CreationDate": None} if kind == "pdf" else {"Software": None}
        buffer = io.BytesIO()
        with styled():
            figure.savefig(buffer, format=kind, metadata=dict(metadata))
        content = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, suffix=path.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
