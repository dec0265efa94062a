"""The gallery's theory figures: each computes, draws, describes and round-trips; what is drawn is what theory says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from fedconv.analysis.claims.slopes import slope
from fedconv.analysis.proofs.quantities import Recorder
from fedconv.analysis.proofs.replay.round_copies import draw as draw_copies
from fedconv.analysis.proofs.replay.visited_states import visit
from fedconv.analysis.proofs.replay.waterfall import Part, Waterfall
from fedconv.analysis.theorems import theorem
from fedconv.analysis.theorems.split.facts import of_experiment
from fedconv.analysis.tuning.one_run import best_step
from fedconv.core.run import run
from fedconv.figures import gallery, slopes, theorem_bounds
from fedconv.figures import tightness_over_step as tightness
from fedconv.figures.fedspa import data as fedspa_data
from fedconv.figures.style import svg
from fedconv.figures.virtual_participation import data as virtual_data
from fedconv.figures.virtual_participation import drawing as virtual_participation
from fedconv.figures.waterfall import gallery_entry as proof_waterfalls

_SHORT = replace(slopes.SWEEPS[0], values=(16, 64), window=(16, 64))
SMALL: dict[str, Callable[[], xr.Dataset]] = {
    "fedspa": lambda: fedspa_data.experiment_data(T=6, replicates=4, few=2),
    "bound-measured": lambda: theorem_bounds.data(T=40, replicates=64, horizons=6),
    "tightness": lambda: tightness.data(T=20, replicates=1, steps=3, grounds=(tightness.GROUNDS[2],)),
    "waterfall": lambda: proof_waterfalls.data(T=12, replicates=4),
    "virtual-participation": lambda: virtual_data.data(T=3, states=2, replicates=6),
    "slopes": lambda: slopes.data(replicates=3, sweeps=(_SHORT,)),
}


@cache
def made(name: str) -> xr.Dataset:
    return SMALL[name]()


@pytest.mark.parametrize("name", SMALL)
def test_each_computes_draws_describes_and_round_trips(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, data = gallery.entry(name), made(name)
    monkeypatch.setattr(f"{entry.module}.{entry.data}", lambda: data.copy())
    written = gallery.data_of(entry, tmp_path, False)
    read = gallery.data_of(entry, tmp_path, True)
    for variable in data.data_vars:
        np.testing.assert_array_equal(read[variable].values, written[variable].values)
        assert data[variable].attrs["long_name"], variable
        assert data[variable].attrs["units"], variable
    words = entry.describe(read)
    assert words == entry.describe(data)
    assert words.endswith(".")
    assert "nan" not in words.lower()
    figure = entry.figure(read)
    assert svg(figure, name, words) == svg(entry.figure(data), name, words)
    figure.canvas.draw()
    panels = [axes for axes in figure.axes if axes.axison]
    assert panels
    assert all(axes.get_xlabel() for axes in panels)
    assert any(axes.get_ylabel() or axes.get_yticklabels() for axes in panels)
    legends = [*figure.legends, *(axes.get_legend() for axes in panels)]
    for box in (x.get_window_extent() for x in legends if x is not None):
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1


def test_bands_end_at_the_limits_and_enclose_the_curve() -> None:
    data = made("bound-measured")
    assert data["theorem"].values.tolist() == ["FA", "FA*", "FS", "FS*"]
    np.testing.assert_allclose(data["band_low"][:, -1], data["low"], rtol=1e-9)
    np.testing.assert_allclose(data["band_high"][:, -1], data["high"], rtol=1e-9)
    np.testing.assert_allclose(data["measured"][:, -1], data["value"], rtol=1e-10)
    assert (data["band_low"] <= data["measured"]).all()
    assert (data["measured"] <= data["band_high"]).all()
    assert (data["measured"] <= data["bound"]).all()
    panels = theorem_bounds.draw(data).axes
    assert [axes.get_title() for axes in panels] == [f"{k}: holds (approximate)" for k in data["theorem"].values]


def test_the_sharp_instance_reaches_the_bound_at_the_largest_step() -> None:
    data = made("tightness").isel(problem=0)
    last = data["tightness"].isel(step=-1)
    assert float(data["eta"].sel(theorem="FS")[-1]) == pytest.approx(1 / 1.5, rel=1e-5)
    assert float(last.sel(theorem="FS")) == pytest.approx(1.0, abs=1e-4)
    assert (data["tightness"] <= 1 + 1e-9).all()
    assert (data["tightness"].sel(theorem="FA*") >= data["tightness"].sel(theorem="FA") - 1e-9).all()
    assert (data["low"] == data["high"]).all()


def test_waterfalls_add_up_and_survive_the_dataset() -> None:
    for fall in proof_waterfalls.falls_of(made("waterfall")).values():
        assert fall.measured + sum(p.slack for p in fall.parts) == pytest.approx(fall.bound, rel=1e-9)
        assert all(p.slack >= 0 for p in fall.parts if p.kind == "dropped")
    parts = (Part("L1", "one", "equality", -0.1, -0.2, 0.1), Part("A3", "two", "upper", 0.6, 0.6, float("inf")))
    falls = {
        "FA": Waterfall(0.5, 1.0, parts, 3, 7, 2, 4, True, 1e-6),
        "FS": Waterfall(0.2, 0.3, parts[1:], 1, 1, 1, 1, False, 0.1),
    }
    assert proof_waterfalls.falls_of(proof_waterfalls.dataset(falls, {"FA": 0.1, "FS": 0.2})) == falls


def test_virtual_participation_removes_the_error_and_it_is_none_where_theory_says_so() -> None:
    data = made("virtual-participation")
    for key in ("by_p", "by_chi"):
        assert float(np.abs(data[key].sel(kind="with")).max()) < 1e-12
    without_p, without_chi = (data[k].sel(kind="without", limit="value").values for k in ("by_p", "by_chi"))
    assert abs(without_p[-1]) < 1e-12
    assert abs(without_chi[0]) < 1e-12
    assert (np.abs(without_p[:-1]) > 1e-3).all()
    assert np.abs(without_chi).max() > 1e-2


@pytest.mark.parametrize("m", [1, 2, 5])
def test_the_error_is_the_closed_form(m: int) -> None:
    """c p E (1/n) Σ_i ⟨x̂_i − mean, y_i − ȳ⟩ (section 7 of the theory on FedAlt), computed without any cohort."""
    trial = virtual_data.experiment(m, 0.4, 3)
    problem, n = trial.problem, trial.problem.n
    total = np.zeros(2)
    for x in visit(trial, [0, 1], 2)[0]:
        noise = draw_copies(trial, [x.replicate], x.round, 1).noise
        u = torch.from_numpy(x.u).expand(1, n, -1)
        v, everyone = torch.from_numpy(x.v)[None], problem.everyone()
        recorder = Recorder(problem)
        _, end = trial.algorithm.local(recorder, u, v, everyone.expand(1, n), noise)
        y = sum(gradient for _, _, gradient in recorder.asked_u)
        moved = problem.grad_u(u, end, everyone) - problem.grad_u(u, v, everyone)
        assert isinstance(y, torch.Tensor)
        tied = ((moved - moved.mean(1, keepdim=True)) * (y - y.mean(1, keepdim=True))).sum(-1).mean()
        total[x.replicate] += (n - m) / (n * (n - 1)) * float(tied)
    np.testing.assert_allclose(virtual_data.errors(trial, 2, 2)["without"][:1], _first(trial), rtol=1e-10)
    found = virtual_data.errors(replace(trial, T=2), 2, 2)
    np.testing.assert_allclose(found["without"], total, rtol=1e-9)


def _first(trial: virtual_data.Experiment) -> np.ndarray:
    """The same replicate alone: what one replicate shows does not depend on the others."""
    return virtual_data.errors(trial, 2, 1)["without"]


def test_the_arrows_are_what_the_round_shows() -> None:
    found = made("virtual-participation")["depends"]
    for name in virtual_data.VARIABLES:
        seen = {str(c) for c in found["cause"].values if int(found.sel(variable=name, cause=c))}
        assert seen == virtual_participation.ancestors(name) & set(virtual_data.CAUSES), name


def test_the_best_bound_falls_like_one_over_the_root_of_the_cohort() -> None:
    sweep = slopes.SWEEPS[1]
    for algorithm, key in slopes.THEOREM.items():
        bounds = [
            best_step(theorem(key), of_experiment(slopes.trial(sweep, m, algorithm))).guarantee for m in (4.0, 16.0)
        ]
        assert slope(np.array([4.0, 16.0]), np.array([bounds])).value == pytest.approx(sweep.expected, abs=1e-3)


def test_slopes_are_fitted_to_what_is_drawn() -> None:
    data = made("slopes").isel(panel=0)
    for algorithm in slopes.THEOREM:
        one = data.sel(algorithm=algorithm)
        x = data["T"].values
        assert float(one["slope"].sel(limit="value")) == pytest.approx(
            np.polyfit(np.log(x), np.log(one["measured_T"].values), 1)[0], rel=1e-9
        )
        assert float(one["slope"].sel(limit="low")) < float(one["slope"].sel(limit="high"))
        assert (one["measured_T"] <= one["bound_T"]).all()
        best = slopes.trial(_SHORT, 64, algorithm).with_eta(float(one["eta_T"][-1]))
        trace = run(best, 3)
        values = of_experiment(best).values
        shared = {"fedalt": "grad_u_virtual_sq", "fedsim": "grad_u_sq"}[algorithm]
        p, X, Y = values["m"] / values["n"], float(trace[shared].mean()), float(trace["grad_v_sq"].mean())
        expected = X / values["L_u"] + p * Y / values["L_v"]
        assert float(one["measured_T"][-1]) == pytest.approx(expected, rel=1e-10)
