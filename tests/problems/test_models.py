"""The ready-made models: outputs by hand, splits, masks, vmap, seeds, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedconv.problems.errors import InputError
from fedconv.problems.modules.models import MODES, Mode, adapter, conv, mlp, split, start_of
from fedconv.problems.modules.problem import ModuleProblem

RNG = np.random.default_rng(0)
IMAGES = torch.from_numpy(RNG.standard_normal((7, 1, 8, 8)))
LABELS = torch.from_numpy(RNG.integers(0, 3, 7))
CLIENTS = [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])]

MODELS = {
    "mlp": lambda seed=0: mlp((64, 6, 5, 3), seed),
    "conv": lambda seed=0: conv((2, 3), 3, seed),
    "adapter": lambda seed=0: adapter((64, 6, 5, 3), 2, seed),
}


def moved(model: nn.Module, seed: int = 1) -> nn.Module:
    """The model in float64 with every parameter moved, so that no zero hides a term."""
    rng = np.random.default_rng(seed)
    model = model.double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.from_numpy(0.3 * rng.standard_normal(tuple(p.shape))))
    return model


def test_an_mlp_by_hand() -> None:
    model = moved(mlp((64, 6, 5, 3)))
    p = dict(model.named_parameters())
    x = IMAGES.reshape(7, 64)
    for k in range(2):
        x = torch.tanh(x @ p[f"layers.{k}.weight"].T + p[f"layers.{k}.bias"])
    torch.testing.assert_close(model(IMAGES), x @ p["layers.2.weight"].T + p["layers.2.bias"], rtol=1e-12, atol=1e-12)


def test_adapters_by_hand_and_silent_at_the_start() -> None:
    assert torch.equal(adapter((64, 6, 5, 3), 2, seed=4)(IMAGES.float()), mlp((64, 6, 5, 3), seed=4)(IMAGES.float()))
    model = moved(adapter((64, 6, 5, 3), 2))
    p = dict(model.named_parameters())
    x = IMAGES.reshape(7, 64)
    for k in range(2):
        x = torch.tanh(x @ p[f"layers.{k}.weight"].T + p[f"layers.{k}.bias"])
        inner = torch.tanh(x @ p[f"adapters.{k}.down.weight"].T + p[f"adapters.{k}.down.bias"])
        x = x + inner @ p[f"adapters.{k}.up.weight"].T + p[f"adapters.{k}.up.bias"]
    torch.testing.assert_close(model(IMAGES), x @ p["layers.2.weight"].T + p["layers.2.bias"], rtol=1e-12, atol=1e-12)


def test_convolutions_by_hand() -> None:
    """One output pixel at a time, from the 3 × 3 patch around it."""
    model = moved(conv((2,), 3, image=(1, 4, 4)))
    p = dict(model.named_parameters())
    images = IMAGES[:, :, :4, :4]
    bordered = torch.zeros(7, 6, 6, dtype=torch.float64)
    bordered[:, 1:5, 1:5] = images[:, 0]
    pixels = torch.zeros(7, 2, 4, 4, dtype=torch.float64)
    for c, i, j in np.ndindex(2, 4, 4):
        patch = bordered[:, i : i + 3, j : j + 3]
        pixels[:, c, i, j] = (patch * p["layers.0.weight"][c, 0]).sum((1, 2)) + p["layers.0.bias"][c]
    pixels = pixels * torch.sigmoid(pixels)
    means = torch.stack([pixels[:, :, a : a + 2, b : b + 2].mean((2, 3)) for a in (0, 2) for b in (0, 2)], -1)
    want = means.reshape(7, 8) @ p["layers.1.weight"].T + p["layers.1.bias"]
    torch.testing.assert_close(model(images), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_models_are_those_of_their_seed_and_touch_no_global_stream(name: str) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, again, other = (MODELS[name](s) for s in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    x = IMAGES.float()
    assert torch.equal(first(x), again(x))
    assert not torch.equal(first(x), other(x))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("mode", MODES)
def test_every_model_runs_vectorised_in_every_mode(name: str, mode: Mode) -> None:
    model = MODELS[name]()
    if mode == "adapter" and name != "adapter":
        with pytest.raises(InputError, match=r"mode 'adapter' needs a model with adapters; got (MLP|Conv)"):
            split(model, mode)
        return
    problem = ModuleProblem(model, CLIENTS, personal=split(model, mode))
    assert problem.vectorised, problem.refusal
    last = "layers.2"
    chosen = {
        "none": set(),
        "input": {"layers.0.weight", "layers.0.bias"},
        "output": {f"{last}.weight", f"{last}.bias"},
        "adapter": {n for n in problem.shapes if n.startswith("adapters.")},
        "full": set(problem.shapes),
    }[mode]
    assert set(problem.names_v) == chosen
    u, v = problem.start()
    spread, everyone = u.expand(2, -1), problem.everyone()
    slow = ModuleProblem(model, CLIENTS, personal=split(model, mode))
    slow.vectorised = False
    for method in ("value", "grad_u", "grad_v"):
        fast, plain = (getattr(q, method)(spread, v, everyone) for q in (problem, slow))
        torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-12)
    if mode == "full":
        assert problem.d_u == 0


@pytest.mark.parametrize("name", MODELS)
def test_masks_drop_hidden_units(name: str) -> None:
    model: Any = moved(MODELS[name]())
    width = model.dropout_width
    assert width == {"mlp": 5, "conv": 12, "adapter": 5}[name]
    keep = torch.from_numpy(RNG.integers(0, 2, (7, width)) / 0.5)
    last = model.layers[-1]
    want = (model.hidden(IMAGES) * keep) @ last.weight.T + last.bias
    torch.testing.assert_close(model(IMAGES, keep), want, rtol=1e-12, atol=1e-12)
    assert torch.equal(model(IMAGES, torch.ones(7, width).double()), model(IMAGES))
    torch.testing.assert_close(model(IMAGES, torch.zeros(7, width).double()), last.bias.expand(7, -1))
    with pytest.raises(InputError, match=rf"keep must have shape \(7, {width}\); got \(7, 1\)"):
        model(IMAGES, torch.ones(7, 1))


@pytest.mark.parametrize("name", MODELS)
def test_gradients_through_masks_are_vectorised_over_clients(name: str) -> None:
    """A mask of its own for every client, under vmap, against one client after another."""
    model: Any = moved(MODELS[name]())
    named = {k: p.detach() for k, p in model.named_parameters()}
    X = torch.stack([IMAGES[:3], IMAGES[3:6]])
    keep = torch.from_numpy(RNG.integers(0, 2, (2, 3, model.dropout_width)) / 0.5)

    def loss(p: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        return functional_call(model, p, (x, mask)).square().sum()

    together = vmap(grad(loss), (None, 0, 0))(named, X, keep)
    for i in range(2):
        alone = grad(loss)(named, X[i], keep[i])
        for k in named:
            torch.testing.assert_close(together[k][i], alone[k], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_the_mean_over_masks_is_the_model_without(name: str) -> None:
    """The last layer is affine: Σ over masks of probability(mask) · output = output without a mask."""
    p = 0.25
    model: Any = moved(MODELS[name]())
    width = model.dropout_width
    mean = torch.zeros(7, 3, dtype=torch.float64)
    for bits in np.ndindex(*([2] * width)):
        keep = torch.tensor(bits, dtype=torch.float64)
        share = float(torch.where(keep > 0, 1 - p, p).prod())
        mean += share * model(IMAGES, (keep / (1 - p)).expand(7, -1))
    torch.testing.assert_close(mean, model(IMAGES), rtol=1e-9, atol=1e-9)


def test_another_seed_is_another_start_of_the_same_problem() -> None:
    model = mlp((64, 6, 3), seed=0)
    problem = ModuleProblem(model, CLIENTS, personal=split(model, "output"))
    for found, own in zip(start_of(problem, model), problem.start(), strict=True):
        assert torch.equal(found, own)
    other = mlp((64, 6, 3), seed=1)
    u, v = start_of(problem, other)
    torch.testing.assert_close(problem.outputs(u, v[1], IMAGES), other.double()(IMAGES), rtol=1e-12, atol=1e-12)
    with pytest.raises(InputError, match="model must have the problem's parameters, "):
        start_of(problem, mlp((64, 5, 3)))


def test_a_model_of_one_layer_has_nothing_to_drop() -> None:
    model = mlp((64, 3))
    assert not hasattr(model, "dropout_width")
    assert split(model, "input") == split(model, "output") == ("layers.0",)
    with pytest.raises(InputError, match="keep must be None for a model without hidden units"):
        model(IMAGES.float(), torch.ones(7, 64))


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: mlp((4,)), r"sizes must be at least 2 integers >= 1; got \[4\]"),
        (lambda: mlp((4, 0)), r"sizes must be at least 2 integers >= 1; got \[4, 0\]"),
        (lambda: adapter((4, 2), 1), r"sizes must be at least 3 integers >= 1; got \[4, 2\]"),
        (lambda: adapter((4, 3, 2), 0), "bottleneck must be an integer >= 1; got 0"),
        (lambda: conv((), 3), r"channels must be at least 1 integers >= 1; got \[\]"),
        (lambda: conv((2,), 0), "classes must be an integer >= 1; got 0"),
        (lambda: conv((2, 2, 2, 2), 3), r"image must be .* with sides >= 16; got \(1, 8, 8\)"),
        (lambda: split(mlp((4, 3, 2)), "head"), "mode must be one of none, input, output, adapter, full; got 'head'"),  # pyright: ignore[reportArgumentType]
        (
            lambda: split(nn.Linear(2, 2), "output"),
            "model must be one of fedconv.problems.modules.models, .*; got Linear",
        ),
    ],
)
def test_what_is_refused(build: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{sentence}"):
        build()
