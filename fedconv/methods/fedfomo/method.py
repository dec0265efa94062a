"""FedFomo: what the method is, and which settings of it can be run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from fedconv.core.checks import integer, number, one_of
from fedconv.methods.fedfomo.privacy import Privacy
from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError
from fedconv.problems.targets.samples import SampleTargets

Norm = Literal["euclidean", "l1", "squared", "layers", "none"]
Affinity = Literal["clipped", "signed", "raw"]
Ties = Literal["random", "index"]
Rejected = Literal["base", "trained"]
MOST_CLIENTS = 4096
"""Clients beyond which the affinity matrix and the record of weights are refused."""


@dataclass(frozen=True)
class FedFomo:
    """FedFomo (Zhang et al. 2021): every client mixes the models of others by how much each lowers its own loss.

    Client i has training losses F_i and a target (validation) loss L_i. θ_i^0: its model just after it last mixed;
    candidates θ_n: its own model after local training, and ``downloads`` = M uploaded ones of others.
        d_n = θ_n − θ^0,  Δ_n = L_i(θ^0) − L_i(θ_n),  a_n = Δ_n/c_n,  w_n = max(a_n, 0)/Σ_j max(a_j, 0)
        θ^+ = θ^0 + Σ_n w_n d_n
    with c_n = ‖d_n‖. Round t, S a uniform cohort of m of the n clients; every i ∈ S at once: choose M uploaded models
    (each slot: with probability ε_t = max(ε_0 − t·decay, 0) a random one, else the largest affinity P_ij, ties at
    random), mix, P_ij ← P_ij + w_ij for the candidates j, then τ local steps of size γ from θ^+, upload. A client
    that has not trained yet only trains. P is the identity at first. The personal model is the mixed one.

    ``norm``: c_n = ‖d_n‖ (``euclidean``, the paper's), ‖d_n‖₁ (``l1``, the official code's default), ‖d_n‖²
    (``squared``, the official code's for any other name), Σ_l ‖d_n^l‖ over the layers l (``layers``; their sizes in
    θ = (u, v), in order, are ``layers``), 1 (``none``). ‖d_n‖ = 0 (within rounding), or a loss that is not finite:
    a_n = 0.
    ``rejected``: where no candidate is better, θ^+ is θ^0 (``base``) or the own trained model (``trained``).
    ``affinity``: what is added to P, w (``clipped``), a_n/|Σ_j a_j| (``signed``, the official code's) or a_n (``raw``).
    ``ties``: of uploaded models with exactly equal affinities a random one (``random``) or the smallest number
    (``index``, which locks in on low numbers: clipped affinities are 0 for all that have not helped yet).
    ``margin`` λ: a_n − λ‖d_n‖/2 in place of a_n, which keeps losses from rising where L_i + (λ/2)‖·‖² is convex.
    ``targets``: client i is judged by the target loss of client ``targets[i]``. ``value_bits``: bits of a number.
    ``privacy``: local training by noisy clipped gradients.
    """

    name: ClassVar[str] = "fedfomo"

    m: int
    gamma: float
    tau: int = 1
    downloads: int = 4
    norm: Norm = "euclidean"
    epsilon: float = 0.3
    decay: float = 0.05
    affinity: Affinity = "clipped"
    rejected: Rejected = "base"
    margin: float = 0.0
    targets: tuple[int, ...] | None = None
    value_bits: int = 32
    privacy: Privacy | None = None
    ties: Ties = "random"
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        integer("algorithm.m", self.m, 1)
        number("algorithm.gamma", self.gamma, 0.0, open_=True)
        integer("algorithm.tau", self.tau, 1)
        integer("fedfomo.downloads", self.downloads, 0)
        one_of("fedfomo.norm", self.norm, get_args(Norm))
        one_of("fedfomo.affinity", self.affinity, get_args(Affinity))
        one_of("fedfomo.rejected", self.rejected, get_args(Rejected))
        number("fedfomo.epsilon", self.epsilon, 0.0)
        if self.epsilon > 1:
            raise InputError(f"fedfomo.epsilon must be at most 1; got {self.epsilon!r}")
        number("fedfomo.decay", self.decay, 0.0)
        number("fedfomo.margin", self.margin, 0.0)
        if self.margin > 0 and self.norm != "euclidean":
            raise InputError(f"fedfomo.margin must be 0 unless norm is 'euclidean'; got {self.margin:g}")
        one_of("fedfomo.ties", self.ties, get_args(Ties))
        if (self.layers is not None) != (self.norm == "layers"):
            raise InputError(
                "fedfomo.layers must be given with norm 'layers', and with no other; got"
                f" {None if self.layers is None else list(self.layers)} with norm {self.norm!r}"
            )
        for size in self.layers or ():
            integer("fedfomo.layers", size, 1)
        integer("fedfomo.value_bits", self.value_bits, 1)
        for j in self.targets or ():
            integer("fedfomo.targets", j, 0)

    def check(self, problem: Problem) -> None:
        """Raise InputError where this method cannot run on the problem."""
        n = problem.n
        if self.m > n:
            raise InputError(f"algorithm.m must be at most problem.n = {n}; got {self.m}")
        if n > MOST_CLIENTS:
            raise InputError(f"problem.n must be at most {MOST_CLIENTS} for fedfomo; got {n}")
        if self.targets is not None and (len(self.targets) != n or max(self.targets) >= n):
            raise InputError(
                f"fedfomo.targets must hold a client's number, 0 to {n - 1}, for each of {n} clients; got"
                f" {list(self.targets)}"
            )
        d = problem.d_u + problem.d_v
        if self.layers is not None and sum(self.layers) != d:
            raise InputError(
                f"fedfomo.layers must add up to d_u + d_v = {d}, the size of a model; got {list(self.layers)}"
            )
        if self.privacy is not None and not isinstance(problem, SampleTargets):
            raise InputError(
                "[privacy] must be left out unless problem.family is cluster_samples or cluster_samples_arrays, whose"
                f" losses are sums over samples; got {problem.family!r}"
            )

    def assignment(self, n: int) -> np.ndarray:
        """Whose target loss judges each client, ``(n,)``."""
        return np.arange(n) if self.targets is None else np.array(self.targets, dtype=np.int64)

    def fetched(self, n: int) -> int:
        """Most models that a client of n downloads in a round."""
        return min(self.downloads, n - 1)

    def rate(self, t: int) -> float:
        """ε_t = max(ε_0 − t·decay, 0)."""
        return max(self.epsilon - t * self.decay, 0.0)

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **dataclasses.asdict(self)}
