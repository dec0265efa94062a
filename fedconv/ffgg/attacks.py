"""What Byzantine clients send. Theorem 7 of the theory page, section *Attacks*.

Attackers know the honest messages ``honest (..., N, d)``, with mean ḡ, and send f vectors ``(..., f, d)``. Nothing is
drawn at random. What they send is finite where the honest messages are: entries beyond 1e150 are cut off there.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from fedconv.checks import integer, number, one_of
from fedconv.ffgg.aggregators import Median, TrimmedMean
from fedconv.ffgg.preaggregation import Defence, Nothing
from fedconv.ffgg.registered import Registered
from problems.errors import InputError
from problems.written_for import written_for

if TYPE_CHECKING:
    from fedconv.ffgg.threat import Byzantine

LARGEST = 1e150
"""No entry is larger in absolute value, so that squared norms stay finite."""


class Attack(Registered):
    """A rule by which attackers choose what to send."""

    def __call__(
        self,
        honest: Tensor,
        f: int,
        *,
        own: Tensor | None = None,
        defence: Defence | None = None,
        order: Tensor | None = None,
    ) -> Tensor:
        """What the f attackers send, ``(..., f, d)``.

        honest ``(..., N, d)``: the honest messages; own ``(..., f, d)``: the honest gradients of the attackers' own
        data, for the label flip of flipped data; defence, and order ``(..., N + f)`` if it is randomised: what the
        server will do, for the omniscient. Raises InputError where one that is needed is missing.
        """
        sent = self.vectors(honest, f, own, defence, order)
        return sent.clamp(-LARGEST, LARGEST).expand(*sent.shape[:-2], f, sent.shape[-1])

    def vectors(
        self, honest: Tensor, f: int, own: Tensor | None, defence: Defence | None, order: Tensor | None
    ) -> Tensor:
        """The vectors before they are cut off, ``(..., f, d)`` or ``(..., 1, d)`` for all attackers."""
        raise NotImplementedError


@dataclass(frozen=True)
class SignFlip(Attack):
    """−s ḡ. Default s = 2N/f, twice what reverses the plain mean."""

    strength: float | None = None
    name: ClassVar[str] = "sign_flip"

    def __post_init__(self) -> None:
        _strength(self.strength)

    def vectors(
        self, honest: Tensor, f: int, own: Tensor | None, defence: Defence | None, order: Tensor | None
    ) -> Tensor:
        strength = 2 * honest.shape[-2] / max(f, 1) if self.strength is None else self.strength
        return -strength * honest.mean(-2, keepdim=True)


@dataclass(frozen=True)
class LabelFlip(Attack):
    """The honest message of data whose labels are flipped; the problem flips them, ``own`` are its gradients."""

    name: ClassVar[str] = "label_flip"

    def vectors(
        self, honest: Tensor, f: int, own: Tensor | None, defence: Defence | None, order: Tensor | None
    ) -> Tensor:
        if own is None:
            raise InputError("attack 'label_flip' needs own, the gradients of the attackers' flipped data; got none")
        if own.shape[-2:] != (f, honest.shape[-1]):
            raise InputError(
                f"own must have the shape (..., {f}, {honest.shape[-1]}), one gradient for each attacker; got"
                f" {tuple(own.shape)}"
            )
        return own


@dataclass(frozen=True)
class ALIE(Attack):
    """ḡ − z std, std per coordinate over the honest.

    Default z = Φ⁻¹((N − s)/N), s = ⌊n/2 + 1⌋ − f, n = N + f. Baruch, Baruch, Goldberg 2019 (a little is enough).
    """

    strength: float | None = None
    name: ClassVar[str] = "alie"

    def __post_init__(self) -> None:
        _strength(self.strength)

    def vectors(
        self, honest: Tensor, f: int, own: Tensor | None, defence: Defence | None, order: Tensor | None
    ) -> Tensor:
        N = honest.shape[-2]
        z = alie_strength(N + f, f) if self.strength is None else self.strength
        std = honest.std(dim=-2, correction=0, keepdim=True)
        return honest.mean(-2, keepdim=True) - z * std


@dataclass(frozen=True)
class IPM(Attack):
    """−ε ḡ, small enough to pass for honest (inner product manipulation). Default ε = 0.1. Xie et al. 2020."""

    strength: float | None = None
    name: ClassVar[str] = "ipm"

    def __post_init__(self) -> None:
        _strength(self.strength)

    def vectors(
        self, honest: Tensor, f: int, own: Tensor | None, defence: Defence | None, order: Tensor | None
    ) -> Tensor:
        return -(0.1 if self.strength is None else self.strength) * honest.mean(-2, keepdim=True)


@dataclass(frozen=True)
class Mimic(Attack):
    """What one honest client sends. Karimireddy, He, Jaggi 2022."""

    client: int = 0
    name: ClassVar[str] = "mimic"

    def __post_init__(self) -> None:
        integer("client", self.client, 0)

    def vectors(
        self, honest: Tensor, f: int, own: Tensor | None, defence: Defence | None, order: Tensor | None
    ) -> Tensor:
        if self.client >= honest.shape[-2]:
            raise InputError(
                f"client must be one of the honest, 0 to {honest.shape[-2] - 1}, for attack 'mimic'; got {self.client}"
            )
        return honest[..., self.client : self.client + 1, :]


@dataclass(frozen=True)
class Zero(Attack):
    """Nothing but zeros."""

    name: ClassVar[str] = "zero"

    def vectors(
        self, honest: Tensor, f: int, own: Tensor | None, defence: Defence | None, order: Tensor | None
    ) -> Tensor:
        return torch.zeros_like(honest[..., :1, :])


@dataclass(frozen=True)
class Omniscient(Attack):
    """The vectors, as far as found, that maximise ‖Agg − ḡ‖ knowing the honest messages and the server's defence.

    Trimmed mean and median of the messages themselves: beyond all honest values, on the worse side in every
    coordinate (by ``strength`` times the honest range), which is optimal. Otherwise the best of a small search over
    one vector ḡ + t p for all attackers: p towards −ḡ, along the honest messages' main axis both ways, towards and
    away from the farthest; t from a fraction of their spread to ``strength`` times their root mean square,
    then refined. Default strength 100.
    """

    strength: float | None = None
    name: ClassVar[str] = "omniscient"

    def __post_init__(self) -> None:
        _strength(self.strength)

    def vectors(
        self, honest: Tensor, f: int, own: Tensor | None, defence: Defence | None, order: Tensor | None
    ) -> Tensor:
        if defence is None:
            raise InputError("attack 'omniscient' needs the server's defence; got none")
        size = 100.0 if self.strength is None else self.strength
        if written_for(defence.pre, Nothing) and written_for(defence.aggregator, Median, TrimmedMean):
            return _beyond(honest, f, size, defence)
        return _searched(honest, f, size, defence, order)


ATTACKS: dict[str, type[Attack]] = {
    kind.name: kind for kind in (SignFlip, LabelFlip, ALIE, IPM, Mimic, Zero, Omniscient)
}
"""Every attack by its name."""


def attack_of(threat: Byzantine) -> Attack:
    """The attack that the ``[byzantine]`` settings name."""
    one_of("byzantine.attack", threat.attack, tuple(ATTACKS))
    kind = ATTACKS[threat.attack]
    if kind in (SignFlip, ALIE, IPM, Omniscient):
        return kind(threat.strength)  # pyright: ignore[reportCallIssue]
    return kind()


def alie_strength(n: int, f: int) -> float:
    """Φ⁻¹((n − f − s)/(n − f)) with s = ⌊n/2 + 1⌋ − f; 0 where the formula's argument is 0."""
    s = n // 2 + 1 - f
    share = (n - f - s) / (n - f)
    return NormalDist().inv_cdf(share) if 0 < share < 1 else 0.0


def _strength(value: float | None) -> None:
    if value is not None:
        number("strength", value, 0.0)


def _beyond(honest: Tensor, f: int, size: float, defence: Defence) -> Tensor:
    """All attackers ``size`` times the honest range beyond it, above or below, whichever is worse per coordinate."""
    mean, low, high = honest.mean(-2, keepdim=True), honest.amin(-2, keepdim=True), honest.amax(-2, keepdim=True)
    sides = [(high + size * (high - low)), (low - size * (high - low))]
    errors = [(_answer(honest, side, f, defence, None) - mean.squeeze(-2)).abs() for side in sides]
    return torch.where((errors[0] >= errors[1]).unsqueeze(-2), *sides)


def _answer(honest: Tensor, sent: Tensor, f: int, defence: Defence, order: Tensor | None) -> Tensor:
    """The aggregate when all f attackers send ``sent (..., 1, d)``: ``(..., d)``."""
    lead = torch.broadcast_shapes(honest.shape[:-2], sent.shape[:-2])
    return defence(torch.cat([honest.expand(*lead, -1, -1), sent.expand(*lead, f, sent.shape[-1])], dim=-2), f, order)


RELATIVE_SIZES = (0.3, 1.0, 1.5, 2.2, 4.0)
FARTHEST = 1
REFINEMENTS = ((0.6, 0.8, 1.0, 1.25, 1.6), (0.9, 0.95, 1.0, 1.05, 1.1))


def _searched(honest: Tensor, f: int, size: float, defence: Defence, order: Tensor | None) -> Tensor:
    mean = honest.mean(-2, keepdim=True)
    away = honest - mean
    spread = away.square().sum(-1).mean(-1).sqrt()[..., None, None]
    whole = honest.square().sum(-1).mean(-1).sqrt()[..., None, None]
    order = None if order is None else order.unsqueeze(-2)
    directions = _directions(away, mean)
    sizes = torch.cat([*(c * spread for c in RELATIVE_SIZES), size * whole], dim=-2).clamp(max=LARGEST)
    best, t, p = _worst(honest, f, defence, order, mean, sizes, directions)
    for factors in REFINEMENTS:
        scales = (t * honest.new_tensor(factors).unsqueeze(-1)).clamp(max=LARGEST)
        best, t, p = _worst(honest, f, defence, order, mean, scales, p)
    return best


def _directions(away: Tensor, mean: Tensor) -> Tensor:
    """Unit vectors (or 0) worth trying, ``(..., P, d)``."""
    gram = away @ away.mT
    axis = torch.linalg.eigh(torch.where(gram.isfinite(), gram, 0.0))[1][..., -1:]
    main = torch.where(axis[..., :1, :] < 0, -1.0, 1.0) * (axis * away).sum(-2, keepdim=True)
    far = away.square().sum(-1).argsort(dim=-1, descending=True, stable=True)[..., :FARTHEST]
    farthest = torch.take_along_dim(away, far.unsqueeze(-1), dim=-2)
    rays = torch.cat([-mean, main, -main, farthest, -farthest], dim=-2)
    length = torch.linalg.vector_norm(rays, dim=-1, keepdim=True)
    return rays / torch.where(length == 0, 1, length)


def _worst(
    honest: Tensor, f: int, defence: Defence, order: Tensor | None, mean: Tensor, sizes: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of all ḡ + t p, t in sizes ``(..., A, 1)``, p in directions ``(..., P, d)``: the worst, its t and its p."""
    offers = sizes.unsqueeze(-2) * directions.unsqueeze(-3)
    sent = (mean.unsqueeze(-3) + offers).flatten(-3, -2)
    answers = _answer(honest.unsqueeze(-3), sent.unsqueeze(-2), f, defence, order)
    error = (answers - mean).square().sum(-1)
    error = error.nan_to_num(nan=-1.0)
    # of equally bad ones the first, whatever the rounding
    k = (error >= error.amax(-1, keepdim=True) * (1 - 1e-9)).int().argmax(-1, keepdim=True).unsqueeze(-1)
    P = directions.shape[-2]
    return (
        torch.take_along_dim(sent, k, dim=-2),
        torch.take_along_dim(sizes, k // P, dim=-2),
        torch.take_along_dim(directions, k % P, dim=-2),
    )
