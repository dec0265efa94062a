"""FA, FA*, FS and FS* against runs: measured left-hand side and bound for every horizon, with intervals."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from fedconv.analysis.pages.numerals import number
from fedconv.analysis.theorems import THEOREMS, theorem
from fedconv.analysis.verdicts.check import Result
from fedconv.analysis.verdicts.verdict import limits
from fedconv.analysis.verdicts.verify import judge, resolve_step
from fedconv.core.run import run
from fedconv.figures.bound_measured import Panel, draw_panels, panel_of
from fedconv.figures.style import MARKS
from fedconv.problem_file.settings import settings_from

ERROR = 1e-6
"""One-sided error of the verdicts of an algorithm together."""

NAMES = {"fedalt": "FedAlt", "fedsim": "FedSim"}

SPEC: dict[str, Any] = {
    "name": "waves",
    "problem": {"family": "trigonometric", "n": 8, "d_u": 4, "d_v": 3, "chi": 0.5, "delta": 1.0, "spread": 1.0},
    "noise": {"law": "gaussian", "sigma_u": 1.0, "sigma_v": 1.0},
    "start": {"kind": "normal", "scale": 1.0, "seed": 0},
    "algorithm": {"name": ["fedalt", "fedsim"], "m": 4, "tau": 4, "eta": "best"},
    "run": {"T": 1000, "seed": 0},
}
"""The problem file that is drawn."""


def data(T: int = 1000, replicates: int = 64, horizons: int = 36) -> xr.Dataset:
    """Both sides of the four theorems at logarithmically spaced horizons T′ ≤ T; FedAlt runs at the best step of FA,
    FedSim at that of FS. F★ is the problem's own."""
    settings = settings_from(SPEC | {"run": SPEC["run"] | {"T": T}}, "bound-measured")
    at = np.unique(np.geomspace(1, T, horizons).round().astype(int))
    panels: list[Panel] = []
    steps: dict[str, float] = {}
    for spec, plain in zip(settings.algorithms, ("FA", "FS"), strict=True):
        unscaled = settings.experiment(spec, 0.1)
        steps[spec.name] = resolve_step(unscaled, theorem(plain), "best")
        trace = run(unscaled.with_eta(steps[spec.name]), replicates)
        fitting = [t for t in THEOREMS.values() if spec.name in t.algorithms]
        panels += [_panel(result, trace, at) for result in judge(trace, fitting, error=ERROR)]
    return _dataset(panels, at, steps, replicates)


def _panel(result: Result, trace: xr.Dataset, at: np.ndarray) -> Panel:
    """The result at the chosen horizons, with limits at each of them."""
    one, whole = theorem(result.theorem), panel_of(result)
    values = one.evaluate(result.inputs.values, result.verdict.parameters)
    blocks = cast(tuple[bool, bool], result.inputs.blocks)
    band = np.empty((2, len(at)))
    for k, t in enumerate(at):
        samples = one.lhs(trace.isel(round=slice(0, int(t))), values, blocks)
        found = limits(samples, result.verdict.error, 1, deterministic=False, nonnegative=True)
        band[:, k] = found.low, found.high
    return Panel(
        whole.theorem, whole.status, whole.label, at, whole.measured[at - 1], whole.bound[at - 1],
        whole.low, whole.value, whole.high, (band[0], band[1]),
    )  # fmt: skip


def _dataset(panels: list[Panel], at: np.ndarray, steps: dict[str, float], replicates: int) -> xr.Dataset:
    curves = {"measured": [p.measured for p in panels], "bound": [p.bound for p in panels]}
    curves |= {f"band_{s}": [p.band[k] for p in panels if p.band] for k, s in enumerate(("low", "high"))}
    ends = {key: [getattr(p, key) for p in panels] for key in ("low", "value", "high")}
    texts = {key: [getattr(p, key) for p in panels] for key in ("status", "label")}
    out = xr.Dataset(
        {key: (("theorem", "horizon"), np.array(x)) for key, x in curves.items()}
        | {key: (("theorem",), np.array(x)) for key, x in (ends | texts).items()},
        coords={"theorem": [p.theorem for p in panels], "horizon": at},
        attrs={
            "setting": "trigonometric problem, 4 of 8 clients a round, 4 local steps",
            "steps": ", ".join(f"{NAMES[name]} η = {eta:.3g}" for name, eta in steps.items()),
            "replicates": replicates,
        },
    )
    words = {
        "measured": "left-hand side over the first T′ rounds, mean over replicates", "bound": "bound at T′",
        "band_low": "lower confidence limit of the left-hand side", "band_high": "upper confidence limit",
        "low": "lower limit at the last horizon, as in the verdict", "high": "upper limit, as in the verdict",
        "value": "left-hand side at the last horizon",
    }  # fmt: skip
    for key, sentence in words.items():
        out[key].attrs = {"long_name": sentence, "units": "F"}
    out["status"].attrs = {"long_name": "verdict at the last horizon", "units": "no unit"}
    out["label"].attrs = {"long_name": "the measured curve with its weights", "units": "no unit"}
    out["horizon"].attrs = {"long_name": "horizon T′", "units": "rounds"}
    return out


def _panels(data: xr.Dataset) -> list[Panel]:
    horizon = data["horizon"].values
    found = []
    for key in data["theorem"].values:
        one = data.sel(theorem=key)
        low, value, high = (float(one[x]) for x in ("low", "value", "high"))
        found.append(
            Panel(str(key), str(one["status"].values), str(one["label"].values), horizon,
                  one["measured"].values, one["bound"].values, low, value, high,
                  (one["band_low"].values, one["band_high"].values))
        )  # fmt: skip
    return found


def draw(data: xr.Dataset, width: float = 6.8) -> Figure:
    """A panel for each theorem, all four beside one another with the same axes."""
    return draw_panels(_panels(data), width, columns=4, title=f"{data.attrs['setting']}; {data.attrs['steps']}")


def words(data: xr.Dataset) -> str:
    """The figure in words."""
    ends = "; ".join(
        f"{p.theorem} {MARKS[p.status].word}: measured {number(p.value, 3)} between {number(p.low, 3)} and"
        f" {number(p.high, 3)}, bound {number(float(p.bound[-1]), 3)}"
        for p in _panels(data)
    )
    last = int(data["horizon"].values[-1])
    return (
        f"{data.attrs['setting']}, {data.attrs['steps']}: measured left-hand side and bound for every horizon on"
        f" logarithmic axes, mean of {data.attrs['replicates']} replicates. At T = {last}: {ends}."
    )
