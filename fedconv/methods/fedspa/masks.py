"""Personal masks: how they start, how α_t falls, and the search that prunes by weight and regrows by gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from fedconv.core.checks import integer, number, one_of
from fedconv.methods.fedspa.densities import counts, exchanged, layer_densities
from fedconv.problems.errors import InputError
from fedconv.problems.layers import Layout

Distribution = Literal["erk", "uniform"]
Mode = Literal["dynamic", "frozen"]


@dataclass(frozen=True)
class Masks:
    """How masks are chosen and searched.

    ``density`` s: the share of weights kept, one number or one per client; ``distribution`` over layers: ``erk`` (with
    exponent ``power``) or ``uniform``; ones are placed uniformly at random by ``seed``, the same for all clients where
    ``common``. ``initial``: the masks themselves, n rows of d zeros and ones, in place of all that.
    ``mode``: ``frozen``, or ``dynamic`` with α_t = (α/2)(1 + cos(πt/T_end)) for t < ``T_end`` (default: the number of
    rounds) and 0 afterwards; ``regrow_pruned``: a weight pruned a moment ago may be regrown at once.
    ``layers``: shapes that cut the vector (default: the problem's own layout, else a single layer).
    """

    density: float | tuple[float, ...] = 0.5
    distribution: Distribution = "erk"
    power: float = 1.0
    common: bool = False
    seed: int = 0
    mode: Mode = "dynamic"
    alpha: float = 0.5
    T_end: int | None = None
    regrow_pruned: bool = True
    layers: tuple[tuple[int, ...], ...] | None = None
    initial: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        one_of("masks.distribution", self.distribution, get_args(Distribution))
        one_of("masks.mode", self.mode, get_args(Mode))
        each = self.density if isinstance(self.density, tuple) else (self.density,)
        for x in each:
            number("masks.density", x, 0.0, open_=True)
            if x > 1:
                raise InputError(f"masks.density must lie in (0, 1]; got {x!r}")
        number("masks.power", self.power, 0.0)
        number("masks.alpha", self.alpha, 0.0, open_=True)
        if self.alpha > 1:
            raise InputError(f"masks.alpha must lie in (0, 1]; got {self.alpha!r}")
        integer("masks.seed", self.seed, 0)
        if self.T_end is not None:
            integer("masks.T_end", self.T_end, 1)
        for name in ("common", "regrow_pruned"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"masks.{name} must be true or false; got {getattr(self, name)!r}")
        if self.initial is not None and not all(x in (0, 1) for row in self.initial for x in row):
            raise InputError("masks.initial must hold zeros and ones only")

    @property
    def frozen(self) -> bool:
        return self.mode == "frozen"

    def check(self, n: int, d: int, layout: Layout) -> None:
        """Raise InputError where these masks do not fit n clients and d weights."""
        try:
            layout.check(d)
        except InputError as error:
            raise InputError(f"masks.{error}") from None
        if isinstance(self.density, tuple) and len(self.density) != n:
            raise InputError(f"masks.density must be one number or n = {n} numbers; got {len(self.density)}")
        if self.initial is not None:
            if len(self.initial) != n or any(len(row) != d for row in self.initial):
                shape = f"{len(self.initial)} rows of {', '.join(sorted({str(len(r)) for r in self.initial}))}"
                raise InputError(f"masks.initial must be n = {n} rows of d = {d} zeros and ones; got {shape}")
            if not all(any(row) for row in self.initial):
                raise InputError("masks.initial must leave every client at least one weight; got a row of zeros")

    def start(self, n: int, layout: Layout) -> np.ndarray:
        """The first masks, bool ``(n, d)``. Raises InputError where a density leaves no weight at all."""
        if self.initial is not None:
            return np.array(self.initial, dtype=bool)
        each = self.density if isinstance(self.density, tuple) else (self.density,) * n
        kept = [counts(layout, layer_densities(layout, self.distribution, s, self.power)) for s in each]
        rng = np.random.default_rng(np.random.SeedSequence(self.seed))
        out = np.zeros((n, layout.d), dtype=bool)
        shared = [rng.permutation(size) for size in layout.sizes] if self.common else None
        for i in range(n):
            for layer, (where, size) in enumerate(zip(layout.slices, layout.sizes, strict=True)):
                order = rng.permutation(size) if shared is None else shared[layer]
                out[i, where.start + order[: kept[i][layer]]] = True
        return out

    def rate(self, t: int, T: int) -> float:
        """α_t in round t of T; 0 for frozen masks. Σ_{t<T} α_t = α(T+1)/2 where T_end = T."""
        end = T if self.T_end is None else self.T_end
        if self.frozen or t >= end:
            return 0.0
        return 0.5 * self.alpha * (1.0 + math.cos(math.pi * t / end))

    def moves(self, alpha: float, budgets: np.ndarray, layout: Layout) -> np.ndarray:
        """r for budgets s ``(..., layers)``: ⌈α_t s⌉, and no more than d_l − s where pruned weights stay off."""
        wanted = exchanged(alpha, budgets)
        if self.regrow_pruned:
            return wanted
        return np.minimum(wanted, np.array(layout.sizes) - budgets)


def layer_counts(mask: np.ndarray | Tensor, layout: Layout) -> np.ndarray:
    """nnz of masks ``(..., d)`` in every layer, ``(..., layers)``."""
    values = mask.cpu().numpy() if isinstance(mask, Tensor) else mask
    return np.stack([values[..., where].sum(-1) for where in layout.slices], axis=-1).astype(np.int64)


class Search(NamedTuple):
    """What a mask search did, each bool ``(..., d)``: switched off, switched on, and the new mask."""

    pruned: Tensor
    regrown: Tensor
    mask: Tensor


def next_mask(
    mask: Tensor, w: Tensor, gradient: Tensor, r: Tensor, layout: Layout, *, regrow_pruned: bool = True
) -> Search:
    """In each layer: switch off the r active weights of smallest |w|, then on the r inactive of largest |gradient|.

    ``mask``, ``w``, ``gradient`` are ``(..., d)``, ``r (..., layers)`` integers at most the layer's active weights (and
    at most its inactive ones, unless weights pruned a moment ago may be regrown). Ties go to the lower index; NaN
    counts as the largest weight and the smallest gradient.
    """
    pruned, regrown = torch.zeros_like(mask), torch.zeros_like(mask)
    size = torch.nan_to_num(w.abs(), nan=torch.finfo(w.dtype).max)
    slope = torch.nan_to_num(gradient.abs(), nan=0.0)
    for layer, where in enumerate(layout.slices):
        count, active = r[..., layer, None], mask[..., where]
        off = active & (_rank(torch.where(active, size[..., where], torch.inf)) < count)
        free = ~active | off if regrow_pruned else ~active
        regrown[..., where] = free & (_rank(torch.where(free, -slope[..., where], torch.inf)) < count)
        pruned[..., where] = off
    return Search(pruned, regrown, (mask & ~pruned) | regrown)


def _rank(keys: Tensor) -> Tensor:
    """Place of each entry when the last axis is sorted upwards, equal ones by index."""
    order = torch.argsort(keys, dim=-1, stable=True)
    places = torch.arange(keys.shape[-1], device=keys.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places)
