"""The proofs of FA and FS replayed on one problem: what every step adds between the measured side and the bound."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from fedconv.analysis.proofs.replay import prove
from fedconv.analysis.proofs.replay.waterfall import Part, PartKind, Waterfall
from fedconv.analysis.theorems import theorem
from fedconv.analysis.verdicts.verify import resolve_step
from fedconv.figures.style import blank, styled
from fedconv.figures.waterfall import one as waterfall
from fedconv.problem_file.settings import settings_from

SPEC: dict[str, Any] = {
    "name": "waves",
    "problem": {"family": "trigonometric", "n": 8, "d_u": 3, "d_v": 2, "chi": 0.5, "delta": 1.0, "spread": 1.0},
    "noise": {"law": "gaussian", "sigma_u": 0.7, "sigma_v": 0.7},
    "start": {"kind": "normal", "scale": 1.0, "seed": 0},
    "algorithm": {"name": ["fedalt", "fedsim"], "m": 3, "tau": 4, "eta": "best"},
    "run": {"T": 200, "seed": 0},
}
"""The problem file whose proofs are replayed."""

COUNTS = ("rounds", "T", "replicates", "copies")
LIMITS = ("slack", "low", "high")
TEXTS = ("label", "words", "kind")


def data(T: int = 200, replicates: int = 32) -> xr.Dataset:
    """Both waterfalls, FedAlt at the best step of FA and FedSim at that of FS; of the lemmas only one state is judged,
    as the averages over all rounds are what is drawn."""
    settings = settings_from(SPEC | {"run": SPEC["run"] | {"T": T}}, "waterfall")
    falls: dict[str, Waterfall] = {}
    steps: dict[str, float] = {}
    for spec, key in zip(settings.algorithms, ("FA", "FS"), strict=True):
        unscaled = settings.experiment(spec, 0.1)
        steps[key] = resolve_step(unscaled, theorem(key), "best")
        proof = prove(unscaled.with_eta(steps[key]), theorem(key), states=1, copies=32, replicates=replicates)
        falls[key] = proof.waterfall
    return dataset(falls, steps)


def dataset(falls: dict[str, Waterfall], steps: dict[str, float]) -> xr.Dataset:
    """Waterfalls by theorem as one dataset: a row for each part of each of them, in the proofs' order."""
    rows = [(key, part) for key, fall in falls.items() for part in fall.parts]
    out = xr.Dataset(
        {name: (("part",), np.array([getattr(p, name) for _, p in rows])) for name in (*LIMITS, *TEXTS)}
        | {"of": (("part",), np.array([key for key, _ in rows]))}
        | {name: (("theorem",), np.array([getattr(f, name) for f in falls.values()]))
           for name in ("measured", "bound", "error", *COUNTS)}
        | {"exact": (("theorem",), np.array([int(f.exact) for f in falls.values()]))}
        | {"eta": (("theorem",), np.array([steps[key] for key in falls]))},
        coords={"theorem": list(falls), "part": np.arange(len(rows))},
        attrs={"setting": "trigonometric problem, 3 of 8 clients a round, 4 local steps"},
    )  # fmt: skip
    words = {
        "slack": ("what the step adds to the left-hand side", "F"), "low": ("lower confidence limit of it", "F"),
        "high": ("upper confidence limit of it", "F"), "label": ("the step", "no unit"),
        "words": ("what the step does", "no unit"), "kind": ("upper, equality, dropped or sampling", "no unit"),
        "of": ("the theorem it belongs to", "no unit"), "measured": ("measured left-hand side", "F"),
        "bound": ("the theorem's bound", "F"), "error": ("error of all limits together", "no unit"),
        "rounds": ("rounds averaged over", "rounds"), "T": ("rounds of the run", "rounds"),
        "replicates": ("replicates averaged over", "replicates"), "copies": ("copies of each round", "copies"),
        "exact": ("1 where all outcomes of a round are taken in place of copies", "no unit"),
        "eta": ("step size η", "no unit"),
    }  # fmt: skip
    for name, (sentence, unit) in words.items():
        out[name].attrs = {"long_name": sentence, "units": unit}
    return out


def falls_of(data: xr.Dataset) -> dict[str, Waterfall]:
    """The waterfalls of such a dataset."""
    found = {}
    for key in data["theorem"].values:
        rows = data.isel(part=np.flatnonzero(data["of"].values == key))
        one = data.sel(theorem=key)
        parts = tuple(
            Part(str(label), str(words), cast(PartKind, str(kind)), *(float(x) for x in numbers))
            for label, words, kind, *numbers in zip(*(rows[name].values for name in (*TEXTS, *LIMITS)), strict=True)
        )
        rounds, T, replicates, copies = (int(one[name]) for name in COUNTS)
        measured, bound, error = (float(one[name]) for name in ("measured", "bound", "error"))
        found[str(key)] = Waterfall(measured, bound, parts, rounds, T, replicates, copies, bool(one["exact"]), error)
    return found


def draw(data: xr.Dataset, width: float = 5.4) -> Figure:
    """The two waterfalls one above the other, each on its own axis."""
    falls = falls_of(data)
    drawn = {key: waterfall.bars(fall) for key, fall in falls.items()}
    rows = [waterfall.ROW * (len(x) + 2) for x in drawn.values()]
    between = waterfall.ABOVE + waterfall.BELOW
    height = sum(rows) + between * len(rows)
    with styled():
        figure = blank(width, height, layout=None)
        top = height
        for (key, fall), size in zip(falls.items(), rows, strict=True):
            top -= waterfall.ABOVE + size
            axes = figure.add_axes((1.32 / width, top / height, 1 - 2.44 / width, size / height))
            waterfall.panel(axes, fall, drawn[key])
            axes.set_title(_title(key, data), loc="left", x=-1.22 / (width - 2.44), pad=5)
            top -= waterfall.BELOW
    return figure


def _title(key: str, data: xr.Dataset) -> str:
    name = {"FA": "FedAlt", "FS": "FedSim"}[key]
    return f"{name}: where {key} loses, η = {float(data['eta'].sel(theorem=key)):.3g}"


def words(data: xr.Dataset) -> str:
    """The figure in words."""
    return f"{data.attrs['setting']}. " + " ".join(
        waterfall.words(fall, _title(key, data)) for key, fall in falls_of(data).items()
    )
