"""How a flat parameter vector is cut into layers, and what a forward pass through a layer costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fedconv.problems.errors import InputError


@dataclass(frozen=True)
class Layer:
    """A layer of ``size`` = product of ``shape`` consecutive coordinates.

    ``positions``: output positions P that use its weights (1 for a linear layer, height·width for a convolution).
    ``bias``: added once at every position, so that its forward cost is P·size whatever its mask.
    """

    name: str
    shape: tuple[int, ...]
    positions: int = 1
    bias: bool = False

    def __post_init__(self) -> None:
        if not self.shape or not all(isinstance(x, int) and not isinstance(x, bool) and x >= 1 for x in self.shape):
            raise InputError(f"layers must have shapes of integers >= 1; got {self.shape!r} for {self.name!r}")
        if self.positions < 1:
            raise InputError(f"positions must be an integer >= 1; got {self.positions} for layer {self.name!r}")

    @property
    def size(self) -> int:
        """d_l, the number of weights."""
        return math.prod(self.shape)

    @property
    def dimensions(self) -> int:
        """q_l, the sum of the dimensions."""
        return sum(self.shape)

    def flops(self, active: float) -> float:
        """Forward FLOPs per sample with ``active`` weights: 2·active·P, or P·size for a bias."""
        return float(self.positions * self.size if self.bias else 2 * active * self.positions)


@dataclass(frozen=True)
class Layout:
    """The layers of a vector of ``d`` coordinates, one behind the other."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise InputError("layers must name at least one layer; got none")

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return tuple(layer.size for layer in self.layers)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each layer lies in the vector."""
        ends = [0]
        for size in self.sizes:
            ends.append(ends[-1] + size)
        return tuple(slice(a, b) for a, b in itertools.pairwise(ends))

    @property
    def d(self) -> int:
        return sum(self.sizes)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.layers)

    def flops(self, active: Sequence[float]) -> float:
        """Forward FLOPs per sample with ``active`` weights in each layer."""
        return sum(layer.flops(x) for layer, x in zip(self.layers, active, strict=True))

    def check(self, d: int) -> None:
        """Raise InputError unless the layers fill a vector of d coordinates."""
        if self.d != d:
            raise InputError(f"layers must hold d = {d} weights together; got {self.d}")


def layout_from(shapes: Sequence[Any], d: int) -> Layout:
    """A layout from shapes, each an integer or a sequence of integers, that fill d coordinates.

    Raises InputError for anything else.
    """
    layers = []
    for k, shape in enumerate(shapes):
        given = (shape,) if isinstance(shape, int) else tuple(shape)
        layers.append(Layer(f"layer {k}", given))
    made = Layout(tuple(layers))
    made.check(d)
    return made
