"""What Byzantine clients send. Theorem 7 of the theory page, section *Attacks*.

Attackers know the honest messages ``honest (..., N, d)``, with mean ḡ, and send f vectors ``(..., f, d)``. Nothing is
drawn at random. What they send is finite where the honest messages are: entries beyond 1e150 are cut off there. What
differs from the papers that the attacks are named after is listed on the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from fedconv.core.checks import integer, number, one_of
from fedconv.methods.ffgg.robust.named import Registered
from fedconv.methods.ffgg.robust.omniscient import LARGEST, main_axis, worst_vector
from fedconv.methods.ffgg.robust.preaggregation import Defence
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    from fedconv.methods.ffgg.robust.threat import Byzantine


@dataclass(frozen=True)
class Known:
    """What attackers may know beside the honest messages.

    own ``(..., f, d)``: the honest gradients of the attackers' own data (of flipped data for the label flip); defence,
    and order ``(..., N + f)`` if it is randomised: what the server will do; target ``(...,)``: the honest client that
    ``Attack.target`` chose.
    """

    own: Tensor | None = None
    defence: Defence | None = None
    order: Tensor | None = None
    target: Tensor | None = None

    def gradients(self, name: str, data: str, f: int, d: int) -> Tensor:
        """``own``. Raises InputError where it is missing or of another shape."""
        if self.own is None:
            raise InputError(f"attack {name!r} needs own, the gradients of the attackers' {data}; got none")
        if self.own.shape[-2:] != (f, d):
            raise InputError(
                f"own must have the shape (..., {f}, {d}), one gradient for each attacker; got {tuple(self.own.shape)}"
            )
        return self.own


class Attack(Registered):
    """A rule by which attackers choose what to send."""

    warm_up: int | None = 0
    """Rounds, from the first, whose honest messages ``target`` sees."""

    def target(self, seen: Tensor) -> Tensor | None:
        """Which honest client is copied, ``(...,)``, by the honest messages ``seen (..., K, N, d)`` of K rounds."""
        return None

    def __call__(
        self,
        honest: Tensor,
        f: int,
        *,
        own: Tensor | None = None,
        defence: Defence | None = None,
        order: Tensor | None = None,
        target: Tensor | None = None,
    ) -> Tensor:
        """What the f attackers send, ``(..., f, d)``, by the honest messages ``(..., N, d)``.

        The others: see ``Known``. Raises InputError where one that is needed is missing.
        """
        sent = self.vectors(honest, f, Known(own, defence, order, target))
        return sent.clamp(-LARGEST, LARGEST).expand(*sent.shape[:-2], f, sent.shape[-1])

    def vectors(self, honest: Tensor, f: int, known: Known) -> Tensor:
        """The vectors before they are cut off, ``(..., f, d)`` or ``(..., 1, d)`` for all attackers."""
        raise NotImplementedError


@dataclass(frozen=True)
class SignFlip(Attack):
    """−s ḡ. Default s = 2N/f, twice what reverses the plain mean."""

    strength: float | None = None
    name: ClassVar[str] = "sign_flip"

    def __post_init__(self) -> None:
        _strength(self.strength)

    def vectors(self, honest: Tensor, f: int, known: Known) -> Tensor:
        strength = 2 * honest.shape[-2] / max(f, 1) if self.strength is None else self.strength
        return -strength * honest.mean(-2, keepdim=True)


@dataclass(frozen=True)
class LabelFlip(Attack):
    """The honest message of data whose labels are flipped; the problem flips them, ``own`` are its gradients."""

    name: ClassVar[str] = "label_flip"

    def vectors(self, honest: Tensor, f: int, known: Known) -> Tensor:
        return known.gradients(self.name, "flipped data", f, honest.shape[-1])


@dataclass(frozen=True)
class OwnSignFlip(Attack):
    """−s g_i, g_i the honest gradient of attacker i's own data at the present point. Default s = 1.

    What public code calls bit flipping; it needs no knowledge of the others.
    """

    strength: float | None = None
    name: ClassVar[str] = "own_sign_flip"

    def __post_init__(self) -> None:
        _strength(self.strength)

    def vectors(self, honest: Tensor, f: int, known: Known) -> Tensor:
        own = known.gradients(self.name, "own data", f, honest.shape[-1])
        return -(1.0 if self.strength is None else self.strength) * own


@dataclass(frozen=True)
class ALIE(Attack):
    """ḡ − z std, std per coordinate over the honest (divided by N).

    Default z: ``alie_strength``. Baruch, Baruch, Goldberg 2019 (a little is enough). Where all honest agree std is 0
    and nothing can hide: the honest mean is sent.
    """

    strength: float | None = None
    name: ClassVar[str] = "alie"

    def __post_init__(self) -> None:
        _strength(self.strength)

    def vectors(self, honest: Tensor, f: int, known: Known) -> Tensor:
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

    def vectors(self, honest: Tensor, f: int, known: Known) -> Tensor:
        return -(0.1 if self.strength is None else self.strength) * honest.mean(-2, keepdim=True)


@dataclass(frozen=True)
class Mimic(Attack):
    """What one honest client sends, always the same. Karimireddy, He, Jaggi 2022.

    Which one: ``client``, or by the honest messages x_i^k of the first ``warm_up`` rounds k (until then of those so
    far): argmax_i |Σ_k ⟨z, x_i^k⟩|, z the unit vector along which Σ_{k,i} ⟨z, x_i^k − μ⟩² is largest, μ the mean of all
    these messages. Ties go to the first.
    """

    client: int | None = None
    warm_up: int | None = None
    name: ClassVar[str] = "mimic"

    def __post_init__(self) -> None:
        if self.client is not None:
            integer("client", self.client, 0)
        if self.warm_up is None:
            object.__setattr__(self, "warm_up", WARM_UP if self.client is None else 0)
        integer("warm_up", self.warm_up, 0 if self.client is not None else 1)

    def target(self, seen: Tensor) -> Tensor | None:
        if self.client is not None:
            return None
        N = seen.shape[-2]
        away = (seen - seen.mean((-3, -2), keepdim=True)).flatten(-3, -2)
        sums = seen.sum(-3)
        along = (main_axis(away) * sums).sum(-1).abs()
        # of equally far ones the first, whatever the rounding
        return (along >= along.amax(-1, keepdim=True) * (1 - 1e-9)).int().argmax(-1).clamp(max=N - 1)

    def vectors(self, honest: Tensor, f: int, known: Known) -> Tensor:
        if self.client is None:
            target = self.target(honest.unsqueeze(-3)) if known.target is None else known.target
            assert target is not None
            return torch.take_along_dim(honest, target[..., None, None], dim=-2)
        if self.client >= honest.shape[-2]:
            raise InputError(
                f"client must be one of the honest, 0 to {honest.shape[-2] - 1}, for attack 'mimic'; got {self.client}"
            )
        return honest[..., self.client : self.client + 1, :]


@dataclass(frozen=True)
class Zero(Attack):
    """Nothing but zeros."""

    name: ClassVar[str] = "zero"

    def vectors(self, honest: Tensor, f: int, known: Known) -> Tensor:
        return torch.zeros_like(honest[..., :1, :])


@dataclass(frozen=True)
class Omniscient(Attack):
    """The vectors, as far as found, that maximise ‖Agg − ḡ‖ knowing the honest messages and the server's defence.

    ``fedconv.methods.ffgg.robust.omniscient``: optimal against trimmed mean and median of the messages themselves, else
    a search along rays up to ``strength`` times the honest root mean square. Default strength 100.
    """

    strength: float | None = None
    name: ClassVar[str] = "omniscient"

    def __post_init__(self) -> None:
        _strength(self.strength)

    def vectors(self, honest: Tensor, f: int, known: Known) -> Tensor:
        if known.defence is None:
            raise InputError("attack 'omniscient' needs the server's defence; got none")
        size = 100.0 if self.strength is None else self.strength
        return worst_vector(honest, f, size, known.defence, known.order)


ATTACKS: dict[str, type[Attack]] = {
    kind.name: kind for kind in (SignFlip, OwnSignFlip, LabelFlip, ALIE, IPM, Mimic, Zero, Omniscient)
}
"""Every attack by its name."""

WARM_UP = 10
"""Rounds that ``mimic`` looks at before it settles on a client."""

LEAST_ALIE = 1.0
"""The least default strength of ALIE: one standard deviation."""


def attack_of(threat: Byzantine) -> Attack:
    """The attack that the ``[byzantine]`` settings name."""
    one_of("byzantine.attack", threat.attack, tuple(ATTACKS))
    kind = ATTACKS[threat.attack]
    if kind is Mimic:
        return Mimic(threat.client, threat.warm_up)
    if kind in (SignFlip, OwnSignFlip, ALIE, IPM, Omniscient):
        return kind(threat.strength)  # pyright: ignore[reportCallIssue]
    return kind()


def alie_strength(n: int, f: int) -> float:
    """max(z_max, 1): the published strength where that is more than one standard deviation, else one.

    z_max = Φ⁻¹((N − s)/N), N = n − f, s = ⌊n/2 + 1⌋ − f: so many honest clients are expected farther out than the
    attackers that both together are a majority. It is 0 or negative once s ≥ N/2, that is for f up to about n/4: then
    attackers would send the honest mean, or move away from where they want to go. A standard deviation still hides
    among the honest (of normal messages 16 % are farther out on that side) and always attacks.
    """
    share = (n - n // 2 - 1) / (n - f)
    return max(NormalDist().inv_cdf(share) if 0 < share < 1 else 0.0, LEAST_ALIE)


def _strength(value: float | None) -> None:
    if value is not None:
        number("strength", value, 0.0, open_=True)
