"""Small torch models with a split: fully connected, convolutional and with adapters, and which parts are personal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from fedconv.problems.errors import InputError
from fedconv.problems.modules.problem import ModuleProblem

Mode = Literal["none", "input", "output", "adapter", "full"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""none: everything is shared; input, output: the first or the last layer is personal; adapter: the adapters; full:
everything, so that nothing is shared and each client trains alone."""


class LayeredModel(nn.Module):
    """A model whose ``layers`` are in the order in which rows pass them, and which may have ``adapters`` between them.

    ``hidden(x)`` is what the last layer sees, ``(rows, width)``; ``forward(x, keep)`` = last layer(hidden(x)·keep).
    keep ``(rows, dropout_width)``: numbers 0 or 1/(1−p) that drop hidden units with probability p, or None for all of
    them; the mask is handed over, so that the model draws nothing itself. A model of one layer has no hidden units, so
    no ``dropout_width``, and refuses a mask.
    """

    layers: nn.ModuleList
    adapters: nn.ModuleList
    dropout_width: int

    def hidden(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        hidden = self.hidden(x)
        if keep is not None:
            width = getattr(self, "dropout_width", None)
            if width is None:
                raise InputError("keep must be None for a model without hidden units; got a mask")
            if keep.shape != hidden.shape:
                raise InputError(f"keep must have shape {tuple(hidden.shape)}; got {tuple(keep.shape)}")
            hidden = hidden * keep
        return self.layers[-1](hidden)


class MLP(LayeredModel):
    """Fully connected layers with tanh between them; weights normal with variance 1/inputs, biases 0, by ``seed``.

    sizes: inputs, hidden widths, outputs. Rows ``(rows, ...)`` are flattened. Raises InputError for fewer than two
    sizes or a size < 1.
    """

    def __init__(self, sizes: Sequence[int], seed: int = 0) -> None:
        super().__init__()
        _check("sizes", sizes, 2)
        rng = np.random.default_rng(np.random.SeedSequence(seed))
        self.layers = nn.ModuleList(_linear(a, b, rng) for a, b in itertools.pairwise(sizes))
        if len(sizes) > 2:
            self.dropout_width = int(sizes[-2])

    def hidden(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return x


class Adapter(nn.Module):
    """x + W₂ tanh(W₁x + b₁) with W₁ ``(bottleneck, width)`` normal of variance 1/width; W₂ = 0 at the start, so that
    the adapter changes nothing until it is trained."""

    def __init__(self, width: int, bottleneck: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.down = _linear(width, bottleneck, rng)
        self.up = _linear(bottleneck, width, rng)
        with torch.no_grad():
            self.up.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(torch.tanh(self.down(x)))


class AdapterMLP(MLP):
    """The MLP of the same sizes and seed with a residual bottleneck adapter behind every hidden layer (Houlsby et al.
    2019, arXiv 1902.00751); at the start both give the same outputs."""

    def __init__(self, sizes: Sequence[int], bottleneck: int, seed: int = 0) -> None:
        super().__init__(sizes, seed)
        _check("sizes", sizes, 3)
        _check("bottleneck", [bottleneck], 1)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
        self.adapters = nn.ModuleList(Adapter(width, bottleneck, rng) for width in sizes[1:-1])

    def hidden(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer, adapter in zip(self.layers[:-1], self.adapters, strict=True):
            x = adapter(torch.tanh(layer(x)))
        return x


class Conv(LayeredModel):
    """3×3 convolutions (zeros at the border), each with SiLU and the mean over 2×2 pixels, then a linear layer.

    image: (channels, height, width) of a row; channels: those of each convolution. Weights normal with variance
    1/fan-in, biases 0, by ``seed``. Raises InputError for sizes < 1 or an image that is too small to be halved so
    often.
    """

    def __init__(
        self, channels: Sequence[int], classes: int, seed: int = 0, image: tuple[int, int, int] = (1, 8, 8)
    ) -> None:
        super().__init__()
        _check("channels", channels, 1)
        _check("classes", [classes], 1)
        _check("image", image, 3)
        height, width = (side // 2 ** len(channels) for side in image[1:])
        if len(image) != 3 or min(height, width) < 1:
            least = 2 ** len(channels)
            raise InputError(f"image must be (channels, height, width) with sides >= {least}; got {tuple(image)}")
        rng = np.random.default_rng(np.random.SeedSequence(seed))
        parts: list[nn.Module] = [_convolution(a, b, rng) for a, b in itertools.pairwise((image[0], *channels))]
        self.dropout_width = int(channels[-1]) * height * width
        self.layers = nn.ModuleList([*parts, _linear(self.dropout_width, classes, rng)])

    def hidden(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = nn.functional.avg_pool2d(nn.functional.silu(layer(x)), 2)
        return x.flatten(1)


def mlp(sizes: Sequence[int], seed: int = 0) -> MLP:
    """An :class:`MLP`: inputs, hidden widths, outputs."""
    return MLP(sizes, seed)


def conv(channels: Sequence[int], classes: int, seed: int = 0, image: tuple[int, int, int] = (1, 8, 8)) -> Conv:
    """A :class:`Conv` for images ``image``."""
    return Conv(channels, classes, seed, image)


def adapter(sizes: Sequence[int], bottleneck: int, seed: int = 0) -> AdapterMLP:
    """An :class:`AdapterMLP`: the same as ``mlp(sizes, seed)`` until the adapters are trained."""
    return AdapterMLP(sizes, bottleneck, seed)


def split(model: nn.Module, mode: Mode) -> tuple[str, ...]:
    """The patterns of parameters' names that are personal in a mode, as ``ModuleProblem(personal=...)`` takes them.

    Raises InputError for an unknown mode, a model that is none of this module's, or mode "adapter" without adapters.
    """
    if mode not in MODES:
        raise InputError(f"mode must be one of {', '.join(MODES)}; got {mode!r}")
    if not isinstance(model, LayeredModel):
        raise InputError(
            f"model must be one of fedconv.problems.modules.models, whose layers are known; got {type(model).__name__},"
            " whose personal parameters are named by patterns"
        )
    if mode == "none":
        return ()
    if mode == "full":
        return ("*",)
    if mode == "adapter":
        if not hasattr(model, "adapters"):
            raise InputError(f"mode 'adapter' needs a model with adapters; got {type(model).__name__}")
        return ("adapters",)
    return ("layers.0",) if mode == "input" else (f"layers.{len(model.layers) - 1}",)


def start_of(problem: ModuleProblem, model: nn.Module) -> tuple[Tensor, Tensor]:
    """(u ``(d_u,)``, V ``(n, d_v)``): the parameters of ``model``, laid out as the problem's. With a model of the same
    sizes and another seed: another starting point of the same problem.

    Raises InputError where the model's parameters have other names or shapes than the problem's.
    """
    named = {k: p.detach() for k, p in model.named_parameters()}
    shapes = {k: tuple(p.shape) for k, p in model.named_parameters() if p.requires_grad}
    if shapes != problem.shapes:
        raise InputError(f"model must have the problem's parameters, {problem.shapes}; got {shapes}")

    def flat(names: Sequence[str]) -> Tensor:
        none = torch.zeros(0, dtype=torch.float64)
        return torch.cat([none, *(named[k].double().reshape(-1).cpu() for k in names)]).to(problem.device)

    return flat(problem.names_u), flat(problem.names_v).expand(problem.n, -1).clone()


def _check(name: str, sizes: Sequence[int], fewest: int) -> None:
    if len(sizes) < fewest or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in sizes):
        wanted = "an integer >= 1" if name in ("bottleneck", "classes") else f"at least {fewest} integers >= 1"
        got = sizes[0] if name in ("bottleneck", "classes") else list(sizes)
        raise InputError(f"{name} must be {wanted}; got {got!r}")


def _fill(layer: Any, fan_in: int, rng: np.random.Generator) -> Any:
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(rng.standard_normal(tuple(layer.weight.shape)) / np.sqrt(fan_in)))
        layer.bias.zero_()
    return layer


def _linear(inputs: int, outputs: int, rng: np.random.Generator) -> Any:
    return _fill(nn.utils.skip_init(nn.Linear, inputs, outputs), inputs, rng)


def _convolution(inputs: int, outputs: int, rng: np.random.Generator) -> Any:
    return _fill(nn.utils.skip_init(nn.Conv2d, inputs, outputs, 3, padding=1), 9 * inputs, rng)
