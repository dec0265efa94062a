"""The figures that ``fedconv figures`` makes: for each its data as a labelled dataset, and the drawing of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedconv.core.netcdf import load, save
from fedconv.core.sources import code_version
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Entry:
    """``module`` has the function ``data`` () → Dataset, ``draw`` (Dataset) → Figure and ``words`` (Dataset) → str.
    ``long``: the data take minutes, so the figure is made only when it is named."""

    name: str
    summary: str
    module: str
    data: str
    draw: str = "draw"
    words: str = "words"
    long: bool = False

    def _function(self, name: str) -> Callable[..., Any]:
        return getattr(importlib.import_module(self.module), name)

    def compute(self) -> xr.Dataset:
        return self._function(self.data)()

    def figure(self, data: xr.Dataset) -> Figure:
        return self._function(self.draw)(data)

    def describe(self, data: xr.Dataset) -> str:
        return self._function(self.words)(data)


FIGURES: dict[str, Entry] = {
    f.name: f
    for f in (
        Entry(
            "ffgg-local-steps",
            "FFGG, FedAlt, FedSim and FedAvg with local steps: exact where overpersonalized, else a floor.",
            "fedconv.figures.ffgg.drawing",
            "local_steps",
        ),
        Entry(
            "ffgg-asynchrony",
            "The same with a server that applies late gradients.",
            "fedconv.figures.ffgg.drawing",
            "asynchrony",
        ),
        Entry(
            "ffgg-byzantine",
            "The same with clients that send what they like.",
            "fedconv.figures.ffgg.drawing",
            "byzantine",
        ),
        Entry(
            "communication",
            "FedSpa and FedFomo beside FedAvg, FedAlt, FedSim and training alone: loss against bits sent.",
            "fedconv.figures.communication",
            "data",
        ),
        Entry(
            "fedfomo-weights",
            "FedFomo's weights over rounds: whom clients listen to.",
            "fedconv.figures.fedfomo.drawing",
            "weights",
            "draw_weights",
            "words_weights",
        ),
        Entry(
            "fedfomo-clusters",
            "When FedFomo's clients stop listening to another cluster, against the bound.",
            "fedconv.figures.fedfomo.drawing",
            "recovery",
            "draw_recovery",
            "words_recovery",
        ),
        Entry(
            "fedfomo-losses",
            "FedFomo's personalized losses against training alone and FedAvg.",
            "fedconv.figures.fedfomo.drawing",
            "losses",
            "draw_losses",
            "words_losses",
        ),
        Entry(
            "fedspa",
            "FedSpa: stationarity against bound, masks over rounds, bits saved against loss over densities.",
            "fedconv.figures.fedspa.drawing",
            "data",
            "draw_data",
            "words_data",
        ),
        Entry(
            "bound-measured",
            "FA, FA*, FS and FS*: measured left-hand side and bound over rounds, with limits.",
            "fedconv.figures.theorem_bounds",
            "data",
        ),
        Entry(
            "tightness",
            "Measured over bound against the step size, for three problems.",
            "fedconv.figures.tightness_over_step",
            "data",
        ),
        Entry(
            "waterfall",
            "The proofs of FA and FS: what each step adds to the bound.",
            "fedconv.figures.waterfall.gallery_entry",
            "data",
        ),
        Entry(
            "virtual-participation",
            "What lemma L7 loses without virtual full participation, and which variables depend on the cohort.",
            "fedconv.figures.virtual_participation.drawing",
            "data",
        ),
        Entry("slopes", "Slopes of stationarity and bound in T, m, sigma and delta.", "fedconv.figures.slopes", "data"),
        Entry(
            "constants",
            "Constants of a torch model estimated along training, and the bounds over the step that follow.",
            "fedconv.figures.estimated_constants",
            "data",
        ),
        Entry(
            "personal-share",
            "Gain over FedAvg against the share of personal parameters, beside the baselines.",
            "fedconv.figures.personal_share",
            "data",
        ),
        Entry(
            "per-client",
            "Each client's change in accuracy after personalization, sorted and against its rows.",
            "fedconv.figures.per_client",
            "data",
        ),
        Entry(
            "regime-map",
            "Where FedAlt beats FedSim (map W2, 8 x 8 cells), with its confusion table.",
            "fedconv.figures.regime_map.drawing",
            "data",
        ),
        Entry(
            "regime-map-default",
            "The same with 20 x 20 cells: minutes.",
            "fedconv.figures.regime_map.drawing",
            "data_default",
            long=True,
        ),
        Entry(
            "regime-map-steps",
            "Local steps and m: a map on which both win.",
            "fedconv.figures.regime_map.drawing",
            "data_steps",
        ),
    )
}


def entry(name: str) -> Entry:
    """The figure of that name."""
    if name not in FIGURES:
        raise InputError(f"figures are {', '.join(FIGURES)}; got {name!r}")
    return FIGURES[name]


MARK = "made_by"
"""The attribute of a figure's data that says what computed them."""


def made_by(one: Entry) -> str:
    """What computes a figure's data: its function, and the code of all that this function's module imports."""
    return f"{one.data} {code_version(one.module)}"


def kept(one: Entry, folder: Path, mark: str) -> bool:
    """Whether ``NAME.nc`` is there, whole, and computed by what ``mark`` says."""
    try:
        return (folder / f"{one.name}.nc").exists() and _read(folder / f"{one.name}.nc", one).attrs.get(MARK) == mark
    except InputError:
        return False


def data_of(one: Entry, folder: Path, reuse: bool) -> xr.Dataset:
    """The figure's data: computed and saved as ``NAME.nc`` (netCDF), or read from there where ``reuse``, whatever code
    has computed them.

    Raises InputError where there is no such file to reuse, or it is not one of this figure's.
    """
    path = folder / f"{one.name}.nc"
    return _read(path, one) if reuse else keep(one, one.compute(), folder, made_by(one))


def keep(one: Entry, data: xr.Dataset, folder: Path, mark: str) -> xr.Dataset:
    """The figure's data, saved as ``NAME.nc`` with what computed them: whole or not at all."""
    data.attrs |= {"figure": one.name, MARK: mark}
    save(data, folder / f"{one.name}.nc")
    return data


def _read(path: Path, one: Entry) -> xr.Dataset:
    if not path.exists():
        raise InputError(f"{path} does not exist; run without --reuse-data once, which writes it")
    data = load(path, f"the figure {one.name}")
    if data.attrs.get("figure") != one.name:
        raise InputError(f"{path} holds data of {data.attrs.get('figure', 'something else')!r}, not of {one.name}")
    return data
