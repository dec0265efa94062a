"""Steps before a robust aggregator: bucketing, nearest-neighbour mixing, and both together with an aggregator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from fedconv.core.checks import integer, one_of
from fedconv.methods.ffgg.robust.aggregators import (
    AGGREGATORS,
    Aggregator,
    CentredClipping,
    MultiKrum,
    TrimmedMean,
    centred_clipping,
    distances_sq,
)
from fedconv.methods.ffgg.robust.named import Registered, check_counts
from fedconv.problems.errors import InputError
from fedconv.problems.written_for import written_for

if TYPE_CHECKING:
    from fedconv.methods.ffgg.robust.threat import Byzantine


class PreStep(Registered):
    """A map of n messages to messages, before they are aggregated."""

    randomised: ClassVar[bool] = False

    def check(self, n: int, f: int) -> None:
        """Raise InputError where the step cannot be used with f attackers among n messages."""
        check_counts(n, f)

    def rows(self, n: int) -> int:
        """How many messages come out of n."""
        return n

    def __call__(self, x: Tensor, f: int, order: Tensor | None = None) -> Tensor:
        """x ``(..., n, d)``, for a randomised step with permutations ``order (..., n)`` → ``(..., rows, d)``."""
        raise NotImplementedError


@dataclass(frozen=True)
class Nothing(PreStep):
    """The messages as they are."""

    name: ClassVar[str] = "none"

    def __call__(self, x: Tensor, f: int, order: Tensor | None = None) -> Tensor:
        return x


@dataclass(frozen=True)
class Bucketing(PreStep):
    """Means of groups of ``size`` messages, in the order given: a uniformly random permutation.

    Karimireddy, He, Jaggi 2022. At most f of the ⌈n/size⌉ means are wrong. ``short``: where size does not divide n the
    last group has fewer messages, and its mean counts like the others (as in public code).
    """

    size: int
    short: bool = False
    name: ClassVar[str] = "bucketing"
    randomised: ClassVar[bool] = True

    def check(self, n: int, f: int) -> None:
        check_counts(n, f)
        integer("bucket", self.size, 1)
        if n % self.size and not self.short:
            raise InputError(
                f"bucket must divide the number of messages, {n}, unless short_bucket is true; got {self.size}"
            )
        if self.rows(n) <= 2 * f:
            raise InputError(
                f"bucket must leave more than 2f = {2 * f} groups of the {n} messages; got {self.size}, which leaves"
                f" {self.rows(n)}"
            )

    def rows(self, n: int) -> int:
        return -(-n // self.size)

    def last(self, n: int) -> int:
        """How many messages the last group has."""
        return n - self.size * (self.rows(n) - 1)

    def __call__(self, x: Tensor, f: int, order: Tensor | None = None) -> Tensor:
        if order is None:
            raise InputError("bucketing needs the order of the messages, a permutation for each row; got none")
        n = x.shape[-2]
        order = order.unsqueeze(-1)
        lead = torch.broadcast_shapes(x.shape[:-2], order.shape[:-2])
        shuffled = torch.take_along_dim(x.expand(*lead, *x.shape[-2:]), order.expand(*lead, n, 1), dim=-2)
        if n % self.size == 0:
            return shuffled.unflatten(-2, (self.rows(n), self.size)).mean(-2)
        full = n - self.last(n)
        groups = shuffled[..., :full, :].unflatten(-2, (full // self.size, self.size)).mean(-2)
        return torch.cat([groups, shuffled[..., full:, :].mean(-2, keepdim=True)], dim=-2)


@dataclass(frozen=True)
class NearestNeighbourMixing(PreStep):
    """Every message becomes the mean of the n − f nearest to it, itself included; ties to the first.

    Allouah et al. 2023.
    """

    name: ClassVar[str] = "nnm"

    def __call__(self, x: Tensor, f: int, order: Tensor | None = None) -> Tensor:
        n = x.shape[-2]
        nearest = distances_sq(x).argsort(dim=-1, stable=True)[..., : n - f]
        chosen = x.new_zeros(*x.shape[:-1], n).scatter_(-1, nearest, 1.0)
        return chosen @ x / (n - f)


PRE: dict[str, type[PreStep]] = {kind.name: kind for kind in (Nothing, Bucketing, NearestNeighbourMixing)}
"""Every pre-step by its name."""


@dataclass(frozen=True)
class Defence:
    """What the server does with the messages: a pre-step, then an aggregator."""

    aggregator: Aggregator
    pre: PreStep = Nothing()

    @property
    def randomised(self) -> bool:
        """Whether it needs a random order of the messages."""
        return self.pre.randomised

    def check(self, n: int, f: int) -> None:
        """Raise InputError where it cannot be used with f attackers among n messages."""
        self.pre.check(n, f)
        self.aggregator.check(self.pre.rows(n), f)

    def __call__(self, x: Tensor, f: int, order: Tensor | None = None) -> Tensor:
        """x ``(..., n, d)``, the first n − f honest; permutations ``order (..., n)`` if randomised → ``(..., d)``.

        The default radius of centred clipping is that of the messages before the pre-step.
        """
        mixed = self.pre(x, f, order)
        rule = self.aggregator
        if written_for(rule, CentredClipping):
            return centred_clipping(mixed, rule.radii(x, f), rule.origin(x))
        return rule(mixed, f)

    def to_dict(self) -> dict[str, object]:
        """Both parts as JSON data."""
        return {"aggregator": self.aggregator.to_dict(), "pre": self.pre.to_dict()}


def defence_of(threat: Byzantine) -> Defence:
    """The defence that the ``[byzantine]`` settings name."""
    one_of("byzantine.aggregator", threat.aggregator, tuple(AGGREGATORS))
    one_of("byzantine.pre", threat.pre, tuple(PRE))
    aggregator: Aggregator
    if threat.aggregator == TrimmedMean.name:
        aggregator = TrimmedMean(threat.trim)
    elif threat.aggregator == MultiKrum.name:
        aggregator = MultiKrum(threat.keep)
    elif threat.aggregator == CentredClipping.name:
        aggregator = CentredClipping(threat.clip)
    else:
        aggregator = AGGREGATORS[threat.aggregator]()
    if threat.pre == Bucketing.name:
        assert threat.bucket is not None
        return Defence(aggregator, Bucketing(threat.bucket, threat.short_bucket))
    return Defence(aggregator, PRE[threat.pre]())
