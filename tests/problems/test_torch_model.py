"""Torch modules as problems: flat vectors against autograd by hand, layouts, accuracy, and FedSpa on them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedconv.analysis.theorems.fedspa import METHOD, STATEMENTS
from fedconv.analysis.verdicts.statement_check import StatementCheck
from fedconv.core.run import Experiment, run
from fedconv.methods.fedspa.experiment import FedSpaExperiment
from fedconv.methods.fedspa.masks import Masks
from fedconv.methods.fedspa.method import FedSpa
from fedconv.methods.split import FedAlt, State
from fedconv.problems.errors import InputError
from fedconv.problems.layers import Layer
from fedconv.problems.modules.mlp_family import MLP, TorchModel, clusters
from fedconv.problems.noise import Noise

X, Y = clusters(n=4, inputs=5, classes=3, rows=60, spread=0.7, seed=1)


def model(personal: Any = (), nu: float = 0.01) -> TorchModel:
    return TorchModel(MLP((5, 4, 3), seed=2), X[:, :20], Y[:, :20], personal=personal, nu=nu)


@pytest.mark.parametrize("personal", [(), ("layers.1",)])
def test_values_and_gradients_are_autograds(personal: Any) -> None:
    problem, rng = model(personal), np.random.default_rng(0)
    assert problem.d_u + problem.d_v == 5 * 4 + 4 + 4 * 3 + 3
    assert problem.d_v == (15 if personal else 0)
    u, v = (torch.from_numpy(rng.normal(size=(2, 3, d))) for d in (problem.d_u, problem.d_v))
    clients = torch.tensor([[0, 2, 3], [1, 1, 0]])
    value = problem.value(u, v, clients)
    slope = torch.cat([problem.grad_u(u, v, clients), problem.grad_v(u, v, clients)], -1)
    for r, k in np.ndindex(2, 3):
        w = torch.cat([u[r, k], v[r, k]]).requires_grad_()
        W0, b0, W1, b1 = torch.split(w, [20, 4, 12, 3])
        i = int(clients[r, k])
        scores = torch.tanh(X[i, :20] @ W0.reshape(4, 5).T + b0) @ W1.reshape(3, 4).T + b1
        loss = nn.functional.cross_entropy(scores, Y[i, :20]) + 0.005 * w.square().sum()
        assert float(value[r, k]) == pytest.approx(float(loss.detach()), rel=1e-12)
        (want,) = torch.autograd.grad(loss, w)
        torch.testing.assert_close(slope[r, k], want, rtol=1e-11, atol=1e-13)


def test_squared_loss_and_parameters_that_are_not_copied() -> None:
    module = nn.Linear(5, 2)
    before = module.weight.detach().clone()
    y = torch.ones(4, 20, 2)
    problem = TorchModel(module, X[:, :20], y, loss="squared")
    u, v = problem.start()
    want = 0.5 * (X[:, :20] @ before.double().T + module.bias.detach().double() - 1).square().sum(-1).mean(-1)
    torch.testing.assert_close(problem.value(u.expand(4, -1), v, problem.everyone()), want, rtol=1e-12, atol=0)
    assert torch.equal(module.weight.detach(), before)
    assert module.weight.dtype == torch.float32


def test_layouts_know_shapes_positions_and_biases() -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
    problem = TorchModel(module, torch.zeros(2, 5, 1, 4, 4), torch.zeros(2, 5, dtype=torch.int64))
    conv, conv_bias, linear, linear_bias = problem.layout.layers
    assert conv == Layer("0.weight", (3, 1, 3, 3), 16)
    assert conv_bias == Layer("0.bias", (3,), 16, bias=True)
    assert linear == Layer("3.weight", (2, 48))
    assert linear_bias == Layer("3.bias", (2,), bias=True)
    assert problem.layout.flops(problem.layout.sizes) == 2 * 27 * 16 + 48 + 2 * 96 + 2


def test_the_estimate_of_L_is_the_largest_curvature_seen() -> None:
    problem = model(nu=0.0)
    L = problem.constants.L_u
    assert L.grade == "estimated"
    u, _ = problem.start()

    def loss(w: torch.Tensor, i: int) -> torch.Tensor:
        W0, b0, W1, b1 = torch.split(w, [20, 4, 12, 3])
        scores = torch.tanh(X[i, :20] @ W0.reshape(4, 5).T + b0) @ W1.reshape(3, 4).T + b1
        return nn.functional.cross_entropy(scores, Y[i, :20])

    hessians: Any = [torch.autograd.functional.hessian(lambda w, i=i: loss(w, i), u) for i in range(4)]
    largest = max(float(torch.linalg.matrix_norm(h, 2)) for h in hessians)
    assert 0.98 * largest <= L.value <= 3 * largest


def test_fedspa_trains_personal_sparse_models() -> None:
    problem = model()
    method = FedSpa(2, 0.5, 3, Masks(density=0.5), batch=20)
    trial = FedSpaExperiment(problem, method, State(*problem.start()), 25)
    trace = run(trial, 2)
    assert [layer[0] for layer in json.loads(trace.attrs["layers"])] == list(problem.layout.names)
    assert not trace["breaches"].values.any()
    assert (trace["f"][:, -1] < 0.6 * trace["f"][:, 0]).all()
    w = torch.from_numpy(np.where(trace["mask_final"][0], trace["w_final"].values[0], 0.0))
    assert (w != 0).double().mean() < 0.6
    held_out = problem.accuracy(w, w[:, :0], X[:, 20:], Y[:, 20:])
    assert held_out.shape == (4,)
    assert float(held_out.mean()) > 0.5
    check = StatementCheck(STATEMENTS["FSPA-2-visited"], METHOD.inputs(trace), False, 1e-6, 1)
    check.add(trace)
    assert check.verdict().status in ("inconclusive", "premises_unmet"), "an estimated L proves nothing"


def test_threads_do_not_meet_in_one_module() -> None:
    problem = model()
    trial = FedSpaExperiment(problem, FedSpa(2, 0.5, 1, Masks(density=0.5)), State(*problem.start()), 2)
    alone = run(trial, 20, level="none")
    side_by_side = run(trial, 20, level="none", workers=2)
    assert np.array_equal(alone["w_final"].values, side_by_side["w_final"].values)
    rng = np.random.default_rng(0)
    points = [torch.from_numpy(rng.normal(size=(4, problem.d_u))) for _ in range(24)]
    none, everyone = torch.zeros(4, 0, dtype=torch.float64), problem.everyone()
    want = [problem.value(u, none, everyone) for u in points]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda u: problem.value(u, none, everyone), points))
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_a_personal_head_runs_under_fedalt_too() -> None:
    problem = model(("layers.1",))
    start = State(*problem.start())
    alt = Experiment(problem, FedAlt(2, 0.3, 0.3, tau_u=2, tau_v=2), Noise(law="zero"), start, 5)
    trace = run(alt, 1)
    assert trace["F"].values[0, -1] < trace["F"].values[0, 0]
    spa = FedSpaExperiment(problem, FedSpa(2, 0.3, 2, Masks(density=0.5)), start, 2)
    assert spa.layout.d == problem.d_u + problem.d_v
    assert problem.to("cpu").constants.L_u == problem.constants.L_u


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"y": Y[:, :19]}, r"X and y must both begin with \(n, rows\)"),
        ({"y": Y[:, :20].double()}, "y must be integers"),
        ({"loss": "hinge"}, "loss must be one of cross_entropy, squared; got 'hinge'"),
        ({"personal": ("head",)}, "personal must begin names of parameters, layers.0.weight"),
        ({"nu": -1.0}, "nu must be >= 0; got -1.0"),
    ],
)
def test_data_that_does_not_fit(change: dict[str, Any], sentence: str) -> None:
    given: dict[str, Any] = {"y": Y[:, :20]} | change
    with pytest.raises(InputError, match=f"^{sentence}"):
        TorchModel(MLP((5, 4, 3)), X[:, :20], given.pop("y"), **given)


def test_clusters_are_those_of_their_seed() -> None:
    again, labels = clusters(n=4, inputs=5, classes=3, rows=60, spread=0.7, seed=1)
    assert torch.equal(again, X)
    assert torch.equal(labels, Y)
    other, _ = clusters(n=4, inputs=5, classes=3, rows=60, spread=0.7, seed=2)
    assert not torch.equal(other, X)
