"""FedSpa's figure: what is drawn is what was recorded, in every format, with words for those who cannot see it."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from fedconv.analysis.theorems.fedspa import METHOD, STATEMENTS
from fedconv.analysis.verdicts.check import Result
from fedconv.analysis.verdicts.statement_check import StatementCheck
from fedconv.core.run import Experiment, run
from fedconv.figures.fedspa import drawing as fedspa
from fedconv.methods.fedspa.experiment import FedSpaExperiment
from fedconv.methods.fedspa.masks import Masks
from fedconv.methods.fedspa.method import FedSpa
from fedconv.methods.split import FedAvg, LocalOnly, State
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.split.quadratic import build_random as quadratic

SILENT = Noise(law="zero")


@cache
def made(layers: int = 3, T: int = 12) -> tuple[Any, Result]:
    problem = quadratic(n=4, d_u=12, d_v=0)
    shapes = {1: ((12,),), 3: ((2, 2), (4,), (2, 2)), 6: ((2,),) * 6}[layers]
    start = State(torch.ones(12, dtype=torch.float64), torch.zeros(4, 0, dtype=torch.float64))
    method = FedSpa(2, 0.1, 2, Masks(density=0.5, layers=shapes))
    trial = FedSpaExperiment(problem, method, start, T, SILENT, name="bowls/fedspa")
    trace = run(trial, 4)
    check = StatementCheck(STATEMENTS["FSPA-2-visited"], METHOD.before(trial), False, 1e-6, 1)
    check.add(trace)
    return trace, Result(trial.name, "fedspa", "FSPA-2-visited", check.verdict(), check.curve(), check.inputs)


@cache
def outcomes() -> tuple[fedspa.Outcome, ...]:
    problem = quadratic(n=4, d_u=12, d_v=0)
    start = State(torch.ones(12, dtype=torch.float64), torch.zeros(4, 0, dtype=torch.float64))
    found = []
    for density, mode in itertools.product((0.3, 0.6), ("dynamic", "frozen")):
        method = FedSpa(2, 0.1, 2, Masks(density=density, mode=mode))  # type: ignore[arg-type]
        found.append(fedspa.outcome(run(FedSpaExperiment(problem, method, start, 5, SILENT), 2)))
    average = Experiment(problem, FedAvg(2, 0.1, 0.0, tau_u=2, tau_v=0), SILENT, start, 5)
    found.append(fedspa.outcome(run(average, 2), 0.25))
    found.append(fedspa.Outcome("local", 0.0, 0.5))
    return tuple(found)


def test_outcomes_count_bits() -> None:
    spa, frozen, *_, average, _ = outcomes()
    assert average == fedspa.Outcome("fedavg", 5 * 2 * 2 * 12 * 32.0, 0.25)
    assert (frozen.name, frozen.density) == ("fedspa, frozen", 0.25)
    first = 4 * min(12, 8)  # ⌈log₂ C(12, 3)⌉ = 8 bits for each of 4 clients
    assert frozen.bits == 5 * 2 * 2 * 3 * 32 + first
    rates = [0.25 * (1 + np.cos(np.pi * t / 5)) for t in range(5)]
    assert spa.bits == frozen.bits + sum(2 * min(12, 2 * np.ceil(3 * a - 1e-9) * 4) for a in rates)
    none = run(FedSpaExperiment(*_spa()), 1, level="none")
    with pytest.raises(InputError, match="must be of level 'stationarity' or 'proof'; got 'none'"):
        fedspa.outcome(none)
    assert LocalOnly.name == "local"


def _spa() -> tuple[Any, ...]:
    problem = quadratic(n=4, d_u=12, d_v=0)
    start = State(torch.ones(12, dtype=torch.float64), torch.zeros(4, 0, dtype=torch.float64))
    return problem, FedSpa(2, 0.1), start, 2


def test_three_panels_show_the_record() -> None:
    trace, result = made()
    figure = fedspa.draw(trace, result, outcomes(), "f at the end")
    left, middle, right = figure.axes
    assert left.get_title() == "FSPA-2-visited"
    measured, bound = left.get_lines()[:2]
    np.testing.assert_array_equal(measured.get_ydata(), result.curve.measured)
    np.testing.assert_array_equal(bound.get_ydata(), result.curve.bound)
    changed = trace["hamming"].values.sum(-1).mean(0)
    marks = left.collections[0].get_segments()  # type: ignore[attr-defined]
    assert [s[0][0] for s in marks] == [t + 1 for t in range(12) if changed[t] > 0]
    heights = np.array([s[1][1] for s in marks])
    np.testing.assert_allclose(heights, 0.16 * changed[changed > 0] / changed.max())
    lines = {str(line.get_label()): np.asarray(line.get_ydata()) for line in middle.get_lines()}
    assert [x for x in lines if x.startswith("density")] == [f"density, layer {k}" for k in range(3)]
    np.testing.assert_allclose(lines["density, layer 1"], trace["budget"].values[0, 1] / 4)
    exchanged = trace["hamming"].values.sum(-1) / 2 / (2 * trace["budget"].values[0].sum())
    np.testing.assert_allclose(lines["exchanged by a client"], exchanged.mean(0))
    last = trace["mask_distance"].values[:, -1].sum((1, 2)).mean() / 12 / 12
    assert lines["two clients differ"][-1] == pytest.approx(last)
    points = {str(line.get_label()): line for line in right.get_lines()}
    assert set(points) == {"fedspa", "fedspa, frozen", "fedavg", "local"}
    assert np.asarray(points["fedavg"].get_xdata()).tolist() == [0.0]
    assert np.asarray(points["local"].get_xdata()).tolist() == [1.0]
    assert len(np.asarray(points["fedspa"].get_xdata())) == 2
    assert right.get_ylabel() == "f at the end"
    for axes in figure.axes:
        assert axes.get_legend() is not None
        assert axes.get_xlabel()


def test_legends_stay_inside_the_figure() -> None:
    figure = fedspa.draw(*made(), outcomes())
    figure.canvas.draw()
    whole = figure.bbox
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None
        box = legend.get_window_extent()
        assert whole.x0 <= box.x0
        assert box.x1 <= whole.x1
        assert whole.y0 <= box.y0


@pytest.mark.parametrize("layers", [1, 6])
def test_one_layer_and_many(layers: int) -> None:
    figure = fedspa.draw(*made(layers), outcomes())
    labels = [t.get_text() for t in figure.axes[1].get_legend().get_texts()]  # type: ignore[union-attr]
    assert labels[0] == ("density, layer 0" if layers == 1 else "density of 6 layers")


def test_files_and_words(tmp_path: Any) -> None:
    trace, result = made()
    for suffix in ("pdf", "svg", "png"):
        path = tmp_path / f"spa.{suffix}"
        fedspa.write(trace, result, outcomes(), path)
        assert path.stat().st_size > 5000
    assert fedspa.picture(trace, result, outcomes()) == fedspa.picture(trace, result, outcomes())
    words = fedspa.words(trace, result, outcomes())
    assert words.startswith("bowls/fedspa: theorem FSPA-2-visited ")
    assert "fedspa at density 0.25" in words
    with pytest.raises(InputError, match="outcomes must contain fedavg"):
        fedspa.draw(trace, result, outcomes()[:2])
