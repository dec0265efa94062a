"""The explorer: one self-contained page on which the bounds move with their constants.

Formulas come from ``fedconv.analysis.pages.explorer_js`` (printed by sympy from the theorems), plotly's script from its
package.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fedconv.analysis.pages import mathml
from fedconv.analysis.pages.experiment_facts import UNITS
from fedconv.analysis.pages.explorer_cells import Measured
from fedconv.analysis.pages.explorer_js import library
from fedconv.analysis.pages.numerals import typeset
from fedconv.analysis.theorems import THEOREMS
from fedconv.analysis.theorems.split.effective_variance import COMPARISONS
from fedconv.problems.errors import InputError

INSTALL = "fedconv explore needs plotly, which comes with: pip install 'fedconv[explorer]'"


@dataclass(frozen=True)
class Dial:
    """A slider. ``inputs``: what it sets. Logarithmic from ``low`` to ``high`` (``linear``: not), at its left end 0
    where ``zero``; whole numbers where ``whole``. ``label``: HTML; ``text``: for screen readers and axes."""

    key: str
    inputs: tuple[str, ...]
    text: str
    unit: str
    meaning: str
    low: float
    high: float
    start: float
    zero: bool = False
    whole: bool = False
    linear: bool = False

    @property
    def label(self) -> Markup:
        return Markup(mathml.name(self.inputs[0], THEOREMS["FS"]))


DIALS: tuple[Dial, ...] = (
    Dial("L_u", ("L_u",), "L<sub>u</sub>", UNITS["L_u"], "smoothness in the shared block", 1e-2, 1e2, 1.0),
    Dial("L_v", ("L_v",), "L<sub>v</sub>", UNITS["L_v"], "smoothness in the personal block", 1e-2, 1e2, 1.0),
    Dial("chi", ("chi",), "χ", UNITS["chi"], "how much the blocks feel each other", 0.0, 2.0, 0.5, linear=True),
    Dial("sigma_u", ("sigma_u",), "σ<sub>u</sub>", "F/u", "noise of shared gradients", 1e-2, 1e2, 1.0, zero=True),
    Dial("sigma_v", ("sigma_v",), "σ<sub>v</sub>", "F/v", "noise of personal gradients", 1e-2, 1e2, 1.0, zero=True),
    Dial("delta", ("delta",), "δ", UNITS["delta"], "diversity of the clients", 1e-2, 1e2, 1.0, zero=True),
    Dial("rho", ("rho",), "ρ", UNITS["rho"], "diversity that grows with the gradient", 1e-2, 10.0, 0.0, zero=True),
    Dial("n", ("n",), "n", "clients", "clients in all", 1, 1000, 20, whole=True),
    Dial("m", ("m",), "m", "clients", "clients in a round's cohort", 1, 1000, 5, whole=True),
    Dial("tau", ("tau_u", "tau_v"), "τ", "steps", "local steps of each block in a round", 1, 100, 5, whole=True),
    Dial("T", ("T",), "T", "rounds", "rounds", 1, 1e6, 500, whole=True),
    Dial("gap0", ("gap0",), "ΔF<sub>0</sub>", UNITS["gap0"], "first gap F(u⁰,V⁰) − F★", 1e-3, 1e3, 1.0),
)


def render(found: Measured | None, *, command: str, versions: Mapping[str, str]) -> str:
    """The page. It fetches nothing, which its content policy enforces. Raises InputError where plotly is missing.

    found: measured cells drawn over the map; the sliders then start at a middle cell's values.
    """
    dials = tuple(dial_for(d, found) for d in DIALS) if found else DIALS
    data = {"dials": [asdict(d) for d in dials], "measured": cells(found) if found else None}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typeset"] = typeset
    return environment.get_template("explorer.html.jinja").render(
        dials=dials,
        data=Markup(script_json(data)),
        formulas=Markup(library()),
        plotly=Markup(plotly_script()),
        theorems=[_appendix(key) for key in THEOREMS],
        comparisons=[_comparison(key) for key in COMPARISONS],
        found=found,
        command=command,
        versions=versions,
    )


def write(path: Path, text: str) -> None:
    """Write the page whole or not at all. Raises InputError where its folder is missing or it is a folder."""
    if path.is_dir():
        raise InputError(f"--out must name a file, say page.html; {path} is a folder")
    if not path.parent.is_dir():
        raise InputError(f"--out must name a file in a folder that exists; {path.parent} does not")
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def plotly_script() -> str:
    """plotly's JavaScript, whole. Raises InputError with the extra's name where the package is missing."""
    try:
        plotly = importlib.import_module("plotly.offline")
    except ModuleNotFoundError as error:
        raise InputError(INSTALL) from error
    script = str(plotly.get_plotlyjs())
    if "</script" in script.lower():
        raise InputError("this version of plotly cannot be written into a page: its script contains an end tag")
    return script


def script_json(data: Any) -> str:
    """JSON that cannot end the <script> it stands in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def dial_for(dial: Dial, found: Measured) -> Dial:
    """The dial with its start at the sweep's middle value, and a range that holds all of the sweep's."""
    values = sorted({x for cell in found.cells if math.isfinite(x := cell.inputs[dial.inputs[0]])})
    if not values:
        return dial
    positive = [x for x in values if x > 0]
    low = min([dial.low, *positive]) if not dial.linear else dial.low
    return replace(
        dial,
        start=values[len(values) // 2],
        low=low,
        high=max(dial.high, values[-1]),
        zero=dial.zero or (values[0] == 0 and not dial.linear),
    )


def cells(found: Measured) -> dict[str, Any]:
    """A sweep for the page: cells by dial; ``varied``: the dials that differ between cells.

    A cell where δ is infinite, or τ_u and τ_v differ, has no place on the map; they are counted in ``left_out``.
    """
    placed = []
    for cell in found.cells:
        finite = all(math.isfinite(x) for x in cell.inputs.values())
        if not finite or cell.inputs["tau_u"] != cell.inputs["tau_v"]:
            continue
        at = {d.key: cell.inputs[d.inputs[0]] for d in DIALS}
        effect = cell.effect if math.isfinite(cell.effect) else None
        words = {"where": _clean(cell.where), "verdict": cell.verdict}
        placed.append({"at": at, "effect": effect, "eta": cell.eta} | words)
    varied = [d.key for d in DIALS if len({c["at"][d.key] for c in placed}) > 1]
    return {
        "name": _clean(found.name),
        "cells": placed,
        "varied": varied,
        "replicates": found.replicates,
        "error": found.error,
        "left_out": len(found.cells) - len(placed),
    }


def _clean(text: str) -> str:
    return "".join(x if x.isprintable() else "\ufffd" for x in text)


def _appendix(key: str) -> dict[str, Any]:
    theorem = THEOREMS[key]
    return {
        "key": key,
        "title": theorem.title,
        "source": theorem.source,
        "statement": Markup(mathml.statement(theorem)),
        "conditions": [Markup(mathml.condition(theorem, k)) for k in theorem.conditions],
        "definitions": [Markup(mathml.definition(theorem, s, e)) for s, e in theorem.definitions.items()],
    }


def _comparison(key: str) -> dict[str, Any]:
    found = COMPARISONS[key]
    return {"key": key, "title": found.title, "source": found.source, "needs": found.needs}
