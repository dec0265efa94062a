"""Measuring FFGG's and FedSpa's runs many iterates at a time: the numbers of one at a time, at every level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fedconv.core.streams import Streams
from fedconv.figures.ffgg import data as ffgg_data
from fedconv.methods.fedspa import measures as fedspa_meter
from fedconv.methods.fedspa.experiment import FedSpaExperiment
from fedconv.methods.fedspa.masks import Masks
from fedconv.methods.fedspa.method import FedSpa
from fedconv.methods.ffgg import measures as meter
from fedconv.methods.ffgg.experiment import FFGGExperiment
from fedconv.methods.ffgg.method import FFGG, Asynchrony, Byzantine, FineTuning
from fedconv.methods.ffgg.robust import geometric_median
from fedconv.methods.split import FedAlt, FedSim, State
from fedconv.methods.split.torch_engine import shared_path
from fedconv.problems.envelopes import base as envelope
from fedconv.problems.envelopes.geman_mcclure import build_random as geman_mcclure
from fedconv.problems.envelopes.least_squares import build_random as least_squares
from fedconv.problems.noise import Noise
from fedconv.problems.split.residuals import build_random as residuals

METHODS = {
    "exact": FFGG(5, 0.3),
    "cohorts": FFGG(2, 0.3),
    "local steps": FFGG(3, 0.1, tau=3),
    "fine-tuned": FFGG(3, 0.1, fine_tuning=FineTuning("steps", steps=2)),
    "asynchronous": FFGG(1, 0.05, asynchrony=Asynchrony("uniform", tau_max=4)),
    "byzantine": FFGG(5, 0.2, byzantine=Byzantine(1, attack="sign_flip", aggregator="trimmed_mean")),
}


def experiment(method: FFGG, problem: Any = None, T: int = 11) -> FFGGExperiment:
    problem = least_squares(n=5, d_u=3, d_v=2, rows=6, seed=1) if problem is None else problem
    rng = np.random.default_rng(4)
    start = State(torch.from_numpy(rng.normal(size=problem.d_u)), torch.from_numpy(rng.normal(size=(5, problem.d_v))))
    return FFGGExperiment(problem, method, start, T, seed=2)


def block(trial: Any, level: str = "proof", replicates: int = 3) -> dict[str, np.ndarray]:
    return trial.block(Streams(trial.seed), np.arange(replicates), level, "eager")


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray], names: Any = None) -> None:
    for name in a if names is None else names:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("at_once", [1, 100])
def test_numbers_do_not_depend_on_how_many_iterates_are_measured_together(
    name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = experiment(METHODS[name])
    together = block(trial)
    monkeypatch.setattr(meter, "AT_ONCE", at_once)
    apart = block(trial)
    assert set(together) == set(apart)
    same(together, apart)


@pytest.mark.parametrize("name", METHODS)
def test_levels_record_the_same_numbers(name: str) -> None:
    trial = experiment(METHODS[name])
    proof, plain, nothing = (block(trial, level) for level in ("proof", "stationarity", "none"))
    assert set(nothing) < set(plain) < set(proof)
    assert set(proof) - set(plain) == {"w"}
    same(proof, plain, plain)
    same(plain, nothing, nothing)


@pytest.mark.parametrize("name", ["exact", "cohorts", "local steps", "asynchronous"])
@pytest.mark.parametrize("build", [None, geman_mcclure])
def test_measures_are_those_at_each_iterate(name: str, build: Any) -> None:
    problem = None if build is None else build(n=5, d_u=3, d_v=2, rows=4)
    trial = experiment(METHODS[name], problem)
    found, constants = block(trial), trial.problem.envelope_constants
    size, met = np.zeros(3), []
    for k in range(trial.T + 1):
        w = torch.from_numpy(found["w"][:, k])
        each = trial.problem.envelope(w[:, None].expand(-1, 5, -1), torch.arange(5)).numpy()
        slopes = trial.problem.envelope_grad(w[:, None].expand(-1, 5, -1), torch.arange(5)).numpy()
        np.testing.assert_allclose(found["F"][:, k], each.mean(1), rtol=1e-12)
        np.testing.assert_allclose(found["F_gap"][:, k], each.mean(1) - constants.F_star.value, atol=1e-12)
        np.testing.assert_allclose(found["grad_sq"][:, k], np.square(slopes.mean(1)).sum(1), rtol=1e-9, atol=1e-15)
        length = np.linalg.norm(w.numpy(), axis=1)
        size = np.maximum(size, np.maximum(length, np.linalg.norm(slopes, axis=2).max(1) / constants.L_max.value))
        if k > 0:
            each_before, slopes_before = met[-1]
            moved = w.numpy() - found["w"][:, k - 1]
            step = np.linalg.norm(moved, axis=1)
            assert (step > meter.WITHIN_ROUNDING * size).all()
            change = np.linalg.norm(slopes - slopes_before, axis=2).max(1)
            np.testing.assert_allclose(found["smooth_ratio"][:, k - 1], change / step, rtol=1e-9)
            excess = each - each_before - (slopes_before * moved[:, None]).sum(2)
            excess = (excess - 0.5 * constants.L_block.value * np.square(step)[:, None]).max(1)
            np.testing.assert_allclose(found["descent_excess"][:, k - 1], excess, rtol=1e-9, atol=1e-13)
        met.append((each, slopes))


@pytest.mark.parametrize("mode", ["dynamic", "frozen"])
def test_fedspas_numbers_do_not_depend_on_how_many_points_are_measured_together(
    mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = residuals(n=5, d_u=4, d_v=2, rows=4)
    start = State(torch.ones(4, dtype=torch.float64), torch.ones(5, 2, dtype=torch.float64))
    trial = FedSpaExperiment(problem, FedSpa(2, 0.1, 2, Masks(mode=mode)), start, 6, Noise("gaussian", 0.2, 0.1))
    together = block(trial)
    monkeypatch.setattr(fedspa_meter, "TOGETHER", 1)
    apart = block(trial)
    assert set(together) == set(apart)
    same(together, apart)
    assert (together["slope"] > 0).any() == (mode == "dynamic")


def test_the_geometric_median_does_not_depend_on_how_many_points_are_compared_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 7, 3)))
    x[0, 3:] = x[0, 0]  # a data point is the minimiser
    x[1, :, 1:] = 0.0  # all on a line
    together = geometric_median.geometric_median(x)
    monkeypatch.setattr(geometric_median, "TOGETHER", 1)
    assert torch.equal(geometric_median.geometric_median(x), together)


@pytest.mark.parametrize("shape", [(3, 2), (1, 4), (4, 1), (0, 3), (3, 0), (25, 30)])
def test_products_of_small_and_large_matrices_and_of_transposes(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    matrices, x, y = rng.normal(size=(2, 5, *shape)), rng.normal(size=(5, shape[1])), rng.normal(size=(5, shape[0]))
    stored, left, right = (torch.from_numpy(a) for a in (matrices, x, y))
    expected = np.einsum("rkij,kj->rki", matrices, x)
    np.testing.assert_allclose(envelope.apply(stored, left), expected, rtol=1e-12, atol=1e-13)
    expected = np.einsum("rkij,ki->rkj", matrices, y)
    np.testing.assert_allclose(envelope.apply(stored.mT, right), expected, rtol=1e-12, atol=1e-13)


def test_all_clients_in_order_are_the_same_as_everyone() -> None:
    problem = least_squares(n=5, d_u=3, d_v=2, rows=6)
    u, v = (torch.from_numpy(np.random.default_rng(2).normal(size=(4, 5, d))) for d in (3, 2))
    everyone = problem.everyone()
    assert torch.equal(everyone, torch.arange(5))
    named = torch.arange(5).expand(4, -1)
    for one in (problem.value, problem.grad_u, problem.grad_v):
        assert torch.equal(one(u, v, everyone), one(u, v, named))
    for one in (problem.envelope, problem.envelope_grad, problem.fine_tune):
        assert torch.equal(one(u, everyone), one(u, named))
    assert torch.equal(problem.restrict([4, 1]).everyone(), torch.arange(2))


@pytest.mark.parametrize("kind", [FedAlt, FedSim])
def test_the_figures_affine_rounds_are_the_algorithms(kind: Any) -> None:
    whole = ffgg_data.problem(0.1)
    algorithm = ffgg_data.local_steps_of(whole, kind)
    path = ffgg_data.shared_iterates(whole, algorithm, 40)
    start = ffgg_data.start(whole)
    expected = shared_path(whole, algorithm, Noise("zero"), start, 40, Streams(0), np.arange(1))
    np.testing.assert_allclose(path, expected[0], rtol=1e-12, atol=1e-13)
