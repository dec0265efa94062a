"""What an algorithm is: a frozen dataclass whose ``step`` is the paper's box, one round, batched over replicates."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError


@dataclass(frozen=True)
class State:
    """Shared u ``(R, d_u)`` and the personal v of *every* client ``(R, n, d_v)``, for R replicates."""

    u: Tensor
    v: Tensor


@dataclass(frozen=True)
class LocalNoise:
    """Gradient noise of one round for k clients: ``u (R, k, tau_u, d_u)``, ``v (R, k, tau_v, d_v)``."""

    u: Tensor
    v: Tensor


@dataclass
class Tally:
    """What the proof needs from the local steps of k clients, filled by ``Algorithm.local`` when asked.

    ``y_u`` = Σ_k ∇_uF_i along the u steps and ``z_u`` = Σ_k of their noises, both ``(R, k, d_u)``;
    ``drift_u`` = Σ_k ‖u_{i,k} − u‖² and ``drift_v`` = Σ_k ‖v_{i,k} − v_i‖², both ``(R, k)``. ``steps_u`` and
    ``steps_v``: how many local steps were told.
    """

    y_u: Tensor | float = 0.0
    z_u: Tensor | float = 0.0
    drift_u: Tensor | float = 0.0
    drift_v: Tensor | float = 0.0
    steps_u: int = 0
    steps_v: int = 0

    def u_step(self, moved: Tensor, gradient: Tensor, noise: Tensor) -> None:
        self.y_u = self.y_u + gradient
        self.z_u = self.z_u + noise
        self.drift_u = self.drift_u + moved.square().sum(-1)
        self.steps_u += 1

    def v_step(self, moved: Tensor) -> None:
        self.drift_v = self.drift_v + moved.square().sum(-1)
        self.steps_v += 1


@dataclass(frozen=True)
class Algorithm(ABC):
    """m of n clients a round, uniformly without replacement; local steps; the server averages u over the cohort.

    ``gamma_u``, ``gamma_v``: local step sizes (the theorems' η is γ L τ). ``tau_u``, ``tau_v``: local steps.
    """

    name: ClassVar[str]
    measured_at: ClassVar[str]
    """Where the theorems measure ∇_uF: ``"virtual"`` at (u^t, Ṽ^{t+1}) or ``"state"`` at (u^t, V^t)."""

    m: int
    gamma_u: float
    gamma_v: float
    tau_u: int = field(kw_only=True)
    tau_v: int = field(kw_only=True)

    def __post_init__(self) -> None:
        if self.m < 1:
            raise InputError(f"algorithm.m must be at least 1; got {self.m}")
        for name in ("tau_u", "tau_v"):
            if getattr(self, name) < 0:
                raise InputError(f"algorithm.{name} must be at least 0; got {getattr(self, name)}")
        for name in ("gamma_u", "gamma_v"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise InputError(f"algorithm.{name} must be a finite number >= 0; got {value}")

    def check(self, problem: Problem) -> None:
        """Raise InputError where this algorithm cannot run on the problem."""
        if self.m > problem.n:
            raise InputError(f"algorithm.m must be at most problem.n = {problem.n}; got {self.m}")

    @abstractmethod
    def local(
        self,
        problem: Problem,
        u: Tensor,
        v: Tensor,
        clients: Tensor,
        noise: LocalNoise,
        tally: Tally | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Local steps of k clients from (u, v_i): ``u (R, k, d_u)``, ``v (R, k, d_v)``, ``clients (R, k)`` →
        the clients' final (u_i, v_i), shaped alike."""

    def step(self, problem: Problem, state: State, cohort: Tensor, noise: LocalNoise) -> State:
        """One round: the cohort ``(R, m)`` runs its local steps, the server averages their u.

        All that is random comes by ``cohort`` and ``noise``. An algorithm that replaces this is not measured at level
        "proof", whose tallies are of ``local``.
        """
        u, v = gather(state, cohort)
        u_plus, v_plus = self.local(problem, u, v, cohort, noise)
        return State(u_plus.mean(-2), scatter(state.v, cohort, v_plus))

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **dataclasses.asdict(self)}


def gather(state: State, clients: Tensor) -> tuple[Tensor, Tensor]:
    """Each client's copy of u and its own v: ``(R, k, d_u)``, ``(R, k, d_v)``."""
    u = state.u[:, None, :].expand(-1, clients.shape[1], -1)
    v = torch.take_along_dim(state.v, clients[..., None], dim=1)
    return u, v


def scatter(v_all: Tensor, clients: Tensor, v: Tensor) -> Tensor:
    """V ``(R, n, d_v)`` with the rows of the given clients replaced."""
    return v_all.scatter(1, clients[..., None].expand_as(v), v)
