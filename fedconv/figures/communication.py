"""FedSpa and FedFomo beside FedAvg, FedAlt, FedSim and training alone on one problem: loss against bits sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from fedconv.core.run import run
from fedconv.figures.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILION, blank, styled
from fedconv.problem_file.settings import settings_from

BITS = 32
"""Bits of a number sent."""

NAMES = {
    "fedavg": "FedAvg (personal part fixed)", "local": "alone (shared part fixed)", "fedalt": "FedAlt",
    "fedsim": "FedSim", "fedspa": "FedSpa, half of the weights", "fedfomo": "FedFomo, 3 downloads",
}  # fmt: skip
LOOKS = ((BLACK, ":", "v"), (ORANGE, "--", "s"), (GREEN, "-.", "^"), (PURPLE, (0, (5, 1)), "D"), (VERMILION, "-", "o"),
         (BLUE, "-", "P"))  # fmt: skip


def data(T: int = 60, replicates: int = 8) -> xr.Dataset:
    """Clients in three clusters, half of them a round: F at every client's own model, and all bits sent until then."""
    spec: dict[str, Any] = {
        "name": "clusters",
        "problem": {"family": "clusters", "n": 12, "groups": 3, "d_u": 4, "d_v": 4, "within": 0.3, "seed": 1},
        "algorithm": {"name": list(NAMES), "m": 6, "tau": 2, "eta": 0.1},
        "noise": {"law": "gaussian", "sigma_u": 1.0, "sigma_v": 1.0},
        "run": {"T": T, "seed": 0},
        "masks": {"density": 0.5},
        "fedspa": {"value_bits": BITS},
        "fedfomo": {"downloads": 3, "value_bits": BITS},
    }
    settings = settings_from(spec, "communication")
    loss, bits = [], []
    for algorithm in settings.algorithms:
        trace = run(settings.runnable(algorithm, None if algorithm.method else 0.1), replicates)
        found, sent = _curve(trace)
        loss.append(found)
        bits.append(sent)
    out = xr.Dataset(
        {"loss": (("algorithm", "k"), np.array(loss)), "bits": (("algorithm", "k"), np.array(bits))},
        coords={"algorithm": list(NAMES.values()), "k": np.arange(T)},
        attrs={"setting": "12 clients in 3 clusters, 6 a round, 2 local steps"},
    )
    out["loss"].attrs = {"long_name": "mean loss of the clients at their own models before round k", "units": "F"}
    out["bits"].attrs = {"long_name": "bits sent by server and clients before round k", "units": "bit"}
    return out


def _curve(trace: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """(mean loss, bits sent before) of every round."""
    if "bits_down" in trace:
        each = (trace["bits_down"] + trace["bits_up"]).mean("replicate").values
        first = float(trace["first_mask_bits"].sum()) if "first_mask_bits" in trace else 0.0
        if "f" in trace:
            loss = trace["f"].mean("replicate").values
        else:
            loss = trace["loss"].mean("client").mean("replicate").values[: len(each)]
    else:
        each, first = BITS * (trace["numbers_down"] + trace["numbers_up"]).values, 0.0
        loss = trace["F"].mean("replicate").values
    return loss, first + np.concatenate([[0.0], np.cumsum(each)[:-1]])


def draw(found: xr.Dataset, width: float = 6.4) -> Figure:
    """The loss over rounds, and over bits."""
    with styled():
        figure = blank(width, 2.8)
        left, right = figure.subplots(1, 2, sharey=True)
        for (colour, line, marker), name in zip(LOOKS, found["algorithm"].values, strict=False):
            one = found.sel(algorithm=name)
            loss, bits = one["loss"].values, one["bits"].values
            look = {"color": colour, "linestyle": line, "marker": marker, "markersize": 3.2}
            left.plot(found["k"].values, loss, markevery=max(1, len(loss) // 6), label=str(name), **look)
            if bits[-1] > 0:
                right.plot(bits[1:] / 1e3, loss[1:], markevery=max(1, len(loss) // 6), **look)
            else:
                right.plot([0.5, bits_end(found)], [loss[-1]] * 2, **look)
        left.set_ylim(0.0, 1.05 * float(found["loss"].max()))
        right.set_xscale("log")
        left.set_xlabel("round k")
        right.set_xlabel("sent so far [kbit]; training alone: its last loss")
        left.set_ylabel(r"mean loss of the clients [units of $F$]")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        figure.suptitle(str(found.attrs["setting"]), fontsize=7.5)
    return figure


def bits_end(found: xr.Dataset) -> float:
    """The most that any method sends, in kbit."""
    return float(found["bits"].max()) / 1e3


def words(found: xr.Dataset) -> str:
    """The figure in words."""
    ends = ", ".join(f"{a} {float(found['loss'].sel(algorithm=a)[-1]):.2g}" for a in found["algorithm"].values)
    return f"{found.attrs['setting']}: mean loss against rounds and bits; in the end {ends}."
