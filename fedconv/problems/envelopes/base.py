"""Problems whose personal part can be minimised away: client envelopes F_m(w) = min_θ f_m(w, θ) and their constants."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.base import LOSSES, Constant, Problem
from fedconv.problems.errors import InputError
from fedconv.problems.written_for import refuse_overridden


@dataclass(frozen=True, eq=False)
class EnvelopeConstants:
    """What theorems about F = (1/n) Σ_m F_m ask for. "Upper curvature b" of h means
    h(w + Δ) ≤ h(w) + ⟨∇h(w), Δ⟩ + (b/2)‖Δ‖². Safe sides of ``upper``: from above for L…, G, zeta_sq, B_sq; from below
    for mu, mu_v, F_star and ``inf_m``.

    L, L_m ``(n,)``, L_max: upper curvatures of F and of the F_m (``L_m`` has the grade of ``L_max``).
    mu: F is mu-PL, ‖∇F‖² ≥ 2 mu (F − F★); 0 where no such constant is known.
    strongly_convex: ‖w − w★‖ contracts at the rate of a mu-strongly convex F towards the minimiser nearest to the
    start (a strongly convex F; a singular quadratic one, on an affine subspace).
    mu_v: ‖∇_θf_m(w, θ)‖ ≥ μ_v dist(θ, minimisers), and so quadratic growth of f_m(w, ·) (strong convexity; least
    squares: the least positive eigenvalue of B_mᵀB_m, for distances to the set of minimisers); 0 where none. L_theta:
    smoothness of f_m(w, ·).
    L_uv: Lipschitz constant of ∇_w f_m(w, ·), by distances as above.
    L_block, ell_block: f_m(·, θ) has curvature in [−ell_block, L_block] for every θ that fine-tuning can return.
    L_F: ∇F_m is L_F-Lipschitz for every m.
    F_star = min F; ``inf_m`` ``(n,)``: inf F_m; G = F★ − mean inf F_m, the personalization gap; zeta_sq =
    (1/n) Σ ‖∇F_m(w★)‖² at any minimiser w★ of F (∞ where unknown). Where F★ is a lower bound, G is an upper bound of
    the true gap and need not be the difference of the two stated numbers.
    B_sq: (1/n) Σ ‖a_m − ā‖² ≤ B_sq ‖∇F(w)‖² with a_m = ∇F_m(w) − ∇F_m(w★); ∞ where none is known.
    convex: every F_m is convex. overpersonalized: G = 0. vacuous: every F_m is constant. quadratic: every F_m is.
    """

    L: Constant
    L_m: np.ndarray
    L_max: Constant
    mu: Constant
    strongly_convex: bool
    mu_v: Constant
    L_theta: Constant
    L_uv: Constant
    L_block: Constant
    ell_block: Constant
    L_F: Constant
    F_star: Constant
    inf_m: np.ndarray
    G: Constant
    zeta_sq: Constant
    B_sq: Constant
    convex: bool
    overpersonalized: bool
    vacuous: bool
    quadratic: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data for provenance: constants as in ``Constants.to_dict``, arrays as lists, infinities as strings."""
        out: dict[str, Any] = {}
        for f in fields(self):
            x = getattr(self, f.name)
            if isinstance(x, Constant):
                out[f.name] = x.to_dict()
            else:
                out[f.name] = [_plain(y) for y in x.tolist()] if isinstance(x, np.ndarray) else bool(x)
        return out

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EnvelopeConstants:
        """Inverse of :meth:`to_dict`."""
        made: dict[str, Any] = {}
        for name, x in data.items():
            if isinstance(x, dict):
                made[name] = Constant.from_dict(x)
            else:
                made[name] = np.array([float(y) for y in x]) if isinstance(x, list) else x
        return cls(**made)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EnvelopeConstants) and self.to_dict() == other.to_dict()


TUNED = ("fine_tune", "envelope", "envelope_grad")
"""The methods that constants of envelopes are about."""


class EnvelopeProblem(Problem):
    """A problem that can fine-tune exactly: F_m(w) = min_θ f_m(w, θ), attained, with ∇F_m(w) = ∇_w f_m(w, θ★_m(w)).

    Batched as in ``Problem``: ``u (..., k, d_u)``, ``v (..., k, d_v)``, ``clients (..., k)`` or ``(k,)``.
    """

    @abstractmethod
    def fine_tune(self, u: Tensor, clients: Tensor, start: Tensor | None = None) -> Tensor:
        """An exact minimiser of f_m(u, ·), ``(..., k, d_v)``. Where it is not unique: the one nearest to ``start``
        ``(..., k, d_v)``, or the one of least norm."""

    @abstractmethod
    def _envelope_constants(self) -> EnvelopeConstants: ...

    @cached_property
    def envelope_constants(self) -> EnvelopeConstants:
        """The constants of the envelopes, each with its grade. Never taken from a run.

        Raises InputError where a subclass replaces a loss and keeps its parent's fine-tuning or its constants.
        """
        kind = type(self)
        refuse_overridden(kind, "_envelope_constants", (*LOSSES, *TUNED))
        for claim in TUNED:
            if getattr(kind, claim) is not getattr(EnvelopeProblem, claim):  # that one asks the losses themselves
                refuse_overridden(kind, claim, LOSSES)
        return self._envelope_constants()

    @abstractmethod
    def restrict(self, clients: Sequence[int]) -> EnvelopeProblem:
        """The problem of these clients alone, in this order. Raises InputError for none or for unknown ones."""

    def flipped(self, clients: Sequence[int]) -> EnvelopeProblem | None:
        """The same problem with the labels of these clients negated; None where the losses have no labels."""
        return None

    def nearest_minimiser(self, u: Tensor) -> Tensor | None:
        """The minimiser of F nearest to ``u (d_u,)``, or None where it is not known."""
        return None

    def envelope(self, u: Tensor, clients: Tensor) -> Tensor:
        """F_m(u), ``(..., k)``."""
        return self.value(u, self.fine_tune(u, clients), clients)

    def envelope_grad(self, u: Tensor, clients: Tensor) -> Tensor:
        """∇F_m(u), ``(..., k, d_u)``."""
        return self.grad_u(u, self.fine_tune(u, clients), clients)

    def fine_tuning_distance(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        """Distance of v to the minimisers of f_m(u, ·), ``(..., k)``."""
        return (v - self.fine_tune(u, clients, v)).norm(dim=-1)

    @cached_property
    def _everyone(self) -> Tensor:
        return super().everyone()

    def everyone(self) -> Tensor:
        """Indices of all clients, ``(n,)``: always the same tensor, not to be written to."""
        return self._everyone

    def _of(self, arrays: Tensor, clients: Tensor) -> Tensor:
        """Rows ``(..., k, ...)`` of ``arrays (n, ...)``; those of ``everyone()`` are not copied."""
        return arrays if clients is self._everyone else arrays[clients]

    def mean_envelope(self, u: Tensor) -> Tensor:
        """F(u) = (1/n) Σ_m F_m(u) for u ``(..., d_u)``: ``(...)``."""
        return self.envelope(self._copies(u), self.everyone()).mean(-1)

    def mean_envelope_grad(self, u: Tensor) -> Tensor:
        """∇F(u) for u ``(..., d_u)``: ``(..., d_u)``."""
        return self.envelope_grad(self._copies(u), self.everyone()).mean(-2)

    def _copies(self, u: Tensor) -> Tensor:
        return u[..., None, :].expand(*u.shape[:-1], self.n, self.d_u)


def chosen_clients(clients: Sequence[int], n: int, *, empty: bool = False) -> np.ndarray:
    """``clients`` as an index array of distinct clients of 0..n−1, or an InputError; ``empty``: none at all is fine."""
    chosen = [int(i) for i in clients]
    if not (chosen or empty):
        raise InputError("clients must name at least one client; got none")
    if len(set(chosen)) < len(chosen) or any(not 0 <= i < n for i in chosen):
        raise InputError(f"clients must be distinct integers in 0..{n - 1}; got {chosen}")
    return np.array(chosen, dtype=np.int64)


SMALL = 512
"""Entries of a matrix up to which products and sums are faster than torch's batched matrix product."""


def apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Matrices ``(..., i, j)`` times vectors ``(..., j)``: ``(..., i)``."""
    i, j = matrices.shape[-2:]
    if not 0 < i * j <= SMALL:
        return (matrices @ vectors[..., None])[..., 0]
    if i > 1 and matrices.stride(-1) > 1:  # the transpose of a stored matrix
        return (matrices.mT * vectors[..., None]).sum(-2)
    return (matrices * vectors[..., None, :]).sum(-1)


def norms(matrices: np.ndarray) -> np.ndarray:
    """Spectral norms ``(n,)`` of matrices ``(n, i, j)``; 0 for empty ones."""
    return np.linalg.norm(matrices, 2, axis=(1, 2)) if matrices[0].size else np.zeros(len(matrices))


def _plain(value: float) -> float | str:
    return float(value) if math.isfinite(value) else str(float(value))


def negated(labels: Tensor, clients: Sequence[int]) -> Tensor:
    """A copy of labels ``(n, ...)`` with those of the given clients negated (InputError for unknown clients)."""
    out = labels.clone()
    rows = torch.from_numpy(chosen_clients(clients, len(labels), empty=True)).to(labels.device)
    out[rows] = -out[rows]
    return out
