"""Byzantine clients and the server's defence: attackers, their attack, the aggregator and its pre-step."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal, get_args

from fedconv.core.checks import integer, number, one_of
from fedconv.methods.ffgg.robust.preaggregation import defence_of
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    from fedconv.problems.envelopes.base import EnvelopeProblem

Attack = Literal["sign_flip", "own_sign_flip", "label_flip", "alie", "ipm", "mimic", "zero", "omniscient"]
Aggregator = Literal[
    "mean",
    "median",
    "trimmed_mean",
    "geometric_median",
    "krum",
    "krum_without_itself",
    "multi_krum",
    "centred_clipping",
]
PreStep = Literal["none", "bucketing", "nnm"]

STRONG = ("sign_flip", "own_sign_flip", "alie", "ipm", "omniscient")
"""Attacks that have a strength."""


@dataclass(frozen=True)
class Byzantine:
    """The last ``f`` of the n clients send what ``attack`` makes of the honest gradients; the server aggregates.

    ``strength`` > 0 scales the attack: s of the sign flips −s ḡ and −s g_i (of the attacker's own data), z of ALIE
    ḡ − z std, ε of IPM −ε ḡ, the size of the omniscient attackers' vectors (default: see
    ``fedconv.methods.ffgg.robust.attacks``). ``client``: the honest client whose message ``mimic`` sends; left out, it
    chooses one by the first ``warm_up`` rounds (default 10). ``pre``: none, ``bucketing`` (means of random groups of
    ``bucket`` clients; with ``short_bucket`` a last group of fewer where bucket does not divide n) or ``nnm`` (every
    message replaced by the mean of its n − f nearest).
    ``trim``: how many values the trimmed mean drops on each side (default f). ``keep``: how many messages multi-Krum
    averages (default n − f). ``clip``: the radius of centred clipping (default: the theory page's,
    ½√((1−δ)Q/δ) with δ = f/n and Q the honest mean square). Theorem 7 of the theory page.
    """

    f: int
    attack: Attack = field(kw_only=True)
    aggregator: Aggregator = field(kw_only=True)
    pre: PreStep = "none"
    trim: int | None = None
    keep: int | None = None
    bucket: int | None = None
    clip: float | None = None
    strength: float | None = None
    client: int | None = None
    warm_up: int | None = None
    short_bucket: bool = False

    def __post_init__(self) -> None:
        integer("byzantine.f", self.f, 0)
        one_of("byzantine.attack", self.attack, get_args(Attack))
        one_of("byzantine.aggregator", self.aggregator, get_args(Aggregator))
        one_of("byzantine.pre", self.pre, get_args(PreStep))
        for name, owner, mine in (
            ("trim", "aggregator 'trimmed_mean'", self.aggregator == "trimmed_mean"),
            ("keep", "aggregator 'multi_krum'", self.aggregator == "multi_krum"),
            ("clip", "aggregator 'centred_clipping'", self.aggregator == "centred_clipping"),
            ("bucket", "pre 'bucketing'", self.pre == "bucketing"),
            ("strength", f"attacks {', '.join(STRONG)}", self.attack in STRONG),
            ("client", "attack 'mimic'", self.attack == "mimic"),
            ("warm_up", "attack 'mimic' that chooses its client", self.attack == "mimic" and self.client is None),
        ):
            if getattr(self, name) is not None and not mine:
                raise InputError(f"byzantine.{name} must be left out except with {owner}; got {getattr(self, name)!r}")
        if self.pre == "bucketing":
            integer("byzantine.bucket", self.bucket, 1)
        if self.trim is not None:
            integer("byzantine.trim", self.trim, 0)
            if self.trim < self.f:
                raise InputError(
                    f"byzantine.trim must be at least byzantine.f = {self.f}, or attackers stay in; got {self.trim}"
                )
        if self.keep is not None:
            integer("byzantine.keep", self.keep, 1)
        if self.clip is not None:
            number("byzantine.clip", self.clip, 0.0, open_=True)
        if self.strength is not None:
            number("byzantine.strength", self.strength, 0.0, open_=True)
        if self.client is not None:
            integer("byzantine.client", self.client, 0)
        if self.warm_up is not None:
            integer("byzantine.warm_up", self.warm_up, 1)
        if not isinstance(self.short_bucket, bool):
            raise InputError(f"byzantine.short_bucket must be true or false; got {self.short_bucket!r}")
        if self.short_bucket and self.pre != "bucketing":
            raise InputError("byzantine.short_bucket must be left out except with pre 'bucketing'; got True")

    def check(self, problem: EnvelopeProblem) -> None:
        """Raise InputError where the numbers do not fit n clients."""
        n, f = problem.n, self.f
        if 2 * f >= n:
            raise InputError(
                f"byzantine.f must be less than half of problem.n = {n}, or there are as many attackers as honest"
                f" clients; got {f}"
            )
        if self.client is not None and self.client >= n - f:
            raise InputError(
                f"byzantine.client must be one of the honest, 0 to {n - f - 1}, with problem.n = {n} and byzantine.f ="
                f" {f}; got {self.client}"
            )
        if self.attack == "label_flip" and problem.flipped(range(n - f, n)) is None:
            raise InputError(
                f"byzantine.attack must not be 'label_flip' on problem family {problem.family!r}, which has no labels"
            )
        try:
            defence_of(self).check(n, f)
        except InputError as error:
            known = {x.name for x in fields(self)}
            place = "byzantine." if str(error).split()[0] in known else "byzantine.aggregator: "
            raise InputError(f"{place}{error}") from error

    @property
    def deterministic(self) -> bool:
        """Whether neither attackers nor server draw random numbers."""
        return not defence_of(self).randomised
