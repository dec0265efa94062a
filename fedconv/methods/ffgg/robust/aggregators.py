"""Robust aggregators: n messages, of which f are wrong, to one vector. Theorem 7A of the theory page.

All take x ``(..., n, d)`` and the number f of attackers and give ``(..., d)``. None of them looks at which messages
are wrong, except centred clipping in choosing its radius: there the first n − f are the honest ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedconv.core.checks import integer, number
from fedconv.methods.ffgg.robust.geometric_median import geometric_median
from fedconv.methods.ffgg.robust.named import Registered, check_counts
from fedconv.problems.errors import InputError


class Aggregator(Registered):
    """A rule (n, d) → (d,) that is meant to stand f wrong messages."""

    def check(self, n: int, f: int) -> None:
        """Raise InputError where the rule cannot be used with f attackers among n messages."""
        check_counts(n, f)

    def __call__(self, x: Tensor, f: int) -> Tensor:
        """x ``(..., n, d)`` → ``(..., d)``."""
        raise NotImplementedError


@dataclass(frozen=True)
class Mean(Aggregator):
    """(1/n) Σ x_i: not robust at all."""

    name: ClassVar[str] = "mean"

    def __call__(self, x: Tensor, f: int) -> Tensor:
        return x.mean(-2)


@dataclass(frozen=True)
class Median(Aggregator):
    """The median of every coordinate, the two middle values averaged."""

    name: ClassVar[str] = "median"

    def __call__(self, x: Tensor, f: int) -> Tensor:
        return trimmed_mean(x, (x.shape[-2] - 1) // 2)


@dataclass(frozen=True)
class TrimmedMean(Aggregator):
    """In every coordinate the mean of what is left without the ``trim`` largest and smallest values (default f)."""

    trim: int | None = None
    name: ClassVar[str] = "trimmed_mean"

    def trimmed(self, f: int) -> int:
        """How many values are dropped on each side."""
        return f if self.trim is None else self.trim

    def check(self, n: int, f: int) -> None:
        check_counts(n, f)
        if self.trim is None:
            return
        integer("trim", self.trim, 0)
        if self.trim < f:
            raise InputError(f"trim must be at least f = {f}, or attackers stay in; got {self.trim}")
        if 2 * self.trim >= n:
            raise InputError(f"trim must be less than half of the {n} messages, or nothing is left; got {self.trim}")

    def __call__(self, x: Tensor, f: int) -> Tensor:
        return trimmed_mean(x, self.trimmed(f))


@dataclass(frozen=True)
class GeometricMedian(Aggregator):
    """argmin_y Σ ‖x_i − y‖, exact; where not unique, the midpoint of the minimisers."""

    name: ClassVar[str] = "geometric_median"

    def __call__(self, x: Tensor, f: int) -> Tensor:
        return geometric_median(x)


@dataclass(frozen=True)
class Krum(Aggregator):
    """The message with the least sum of squared distances to its n − f nearest messages, itself included.

    Ties go to the first.
    """

    name: ClassVar[str] = "krum"

    def __call__(self, x: Tensor, f: int) -> Tensor:
        return best_mean(x, nearest_sum(x, x.shape[-2] - f), 1)


@dataclass(frozen=True)
class KrumWithoutItself(Aggregator):
    """Krum as it was published: the score is over the n − f − 2 nearest other messages."""

    name: ClassVar[str] = "krum_without_itself"

    def check(self, n: int, f: int) -> None:
        check_counts(n, f)
        if n - 2 * f - 1 < 1:
            raise InputError(
                f"krum_without_itself needs n >= 2f + 2, or its n - f - 2 neighbours can all be attackers; got n = {n},"
                f" f = {f}"
            )

    def __call__(self, x: Tensor, f: int) -> Tensor:
        # the nearest message to each is itself, at distance 0
        return best_mean(x, nearest_sum(x, x.shape[-2] - f - 1), 1)


@dataclass(frozen=True)
class MultiKrum(Aggregator):
    """The mean of the ``keep`` messages with the best Krum scores (default n − f)."""

    keep: int | None = None
    name: ClassVar[str] = "multi_krum"

    def kept(self, n: int, f: int) -> int:
        """How many messages are averaged."""
        return n - f if self.keep is None else self.keep

    def check(self, n: int, f: int) -> None:
        check_counts(n, f)
        if self.keep is None:
            return
        integer("keep", self.keep, 1)
        if self.keep > n - f:
            raise InputError(f"keep must be at most {n - f}, the number of honest messages; got {self.keep}")

    def __call__(self, x: Tensor, f: int) -> Tensor:
        return best_mean(x, nearest_sum(x, x.shape[-2] - f), self.kept(x.shape[-2], f))


@dataclass(frozen=True)
class CentredClipping(Aggregator):
    """c + (1/n) Σ (x_i − c) min(1, ρ/‖x_i − c‖) with centre c (default 0) and radius ρ.

    Default radius ½√((1−δ)Q/δ), δ = f/n, Q the mean of ‖x_i − c‖² over the first n − f messages: the theory page's
    best (∞ where f = 0).
    """

    radius: float | None = None
    centre: tuple[float, ...] | None = None
    name: ClassVar[str] = "centred_clipping"

    def check(self, n: int, f: int) -> None:
        check_counts(n, f)
        if self.radius is not None:
            number("radius", self.radius, 0.0, open_=True)

    def radii(self, x: Tensor, f: int) -> Tensor:
        """ρ ``(...,)`` for the messages x ``(..., n, d)``."""
        if self.radius is not None:
            return x.new_full(x.shape[:-2], self.radius)
        if f == 0:
            return x.new_full(x.shape[:-2], torch.inf)
        n = x.shape[-2]
        honest = x[..., : n - f, :] - self.origin(x)
        return ((honest.square().sum(-1).mean(-1) * (n - f) / f).sqrt()) / 2

    def origin(self, x: Tensor) -> Tensor:
        """c ``(d,)``. Raises InputError where the centre has another dimension."""
        d = x.shape[-1]
        if self.centre is None:
            return x.new_zeros(d)
        if len(self.centre) != d:
            raise InputError(f"centre must have {d} entries; got {len(self.centre)}")
        return x.new_tensor(self.centre)

    def __call__(self, x: Tensor, f: int) -> Tensor:
        return centred_clipping(x, self.radii(x, f), self.origin(x))


AGGREGATORS: dict[str, type[Aggregator]] = {
    kind.name: kind
    for kind in (
        Mean,
        Median,
        TrimmedMean,
        GeometricMedian,
        Krum,
        KrumWithoutItself,
        MultiKrum,
        CentredClipping,
    )
}
"""Every aggregator by its name."""


def trimmed_mean(x: Tensor, b: int) -> Tensor:
    """Mean per coordinate without the b smallest and the b largest values: ``(..., n, d)`` → ``(..., d)``."""
    n = x.shape[-2]
    return x.sort(dim=-2).values[..., b : n - b, :].mean(-2)


def distances_sq(x: Tensor) -> Tensor:
    """‖x_i − x_j‖² ``(..., n, n)``, from differences: 0 on the diagonal and no cancellation."""
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square()


def nearest_sum(x: Tensor, count: int) -> Tensor:
    """Σ of the ``count`` least ‖x_i − x_j‖² over j, j = i included: ``(..., n, d)`` → ``(..., n)``."""
    return distances_sq(x).sort(dim=-1).values[..., :count].sum(-1)


def best_mean(x: Tensor, scores: Tensor, count: int) -> Tensor:
    """Mean of the ``count`` messages with the least scores ``(..., n)``, ties to the first: → ``(..., d)``."""
    best = scores.argsort(dim=-1, stable=True)[..., :count]
    chosen = torch.take_along_dim(x, best.unsqueeze(-1), dim=-2)
    return chosen.squeeze(-2) if count == 1 else chosen.mean(-2)


def centred_clipping(x: Tensor, radius: Tensor, centre: Tensor) -> Tensor:
    """c + (1/n) Σ (x_i − c) min(1, ρ/‖x_i − c‖): x ``(..., n, d)``, ρ ``(...,)``, c ``(..., d)`` → ``(..., d)``."""
    away = x - centre.unsqueeze(-2)
    length = torch.linalg.vector_norm(away, dim=-1)
    short = length <= radius.unsqueeze(-1)
    factor = torch.where(short, 1, radius.unsqueeze(-1) / torch.where(short, 1, length))
    return centre + (factor.unsqueeze(-1) * away).mean(-2)
