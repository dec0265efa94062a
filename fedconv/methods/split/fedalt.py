"""FedAlt: personal steps first, then shared steps at the new personal parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedconv.methods.split.method import Algorithm, LocalNoise, Tally
from fedconv.problems.base import Problem


@dataclass(frozen=True)
class FedAlt(Algorithm):
    """FedAlt (Pillutla et al. 2022) with uniform cohorts.

    In each round t the server draws a cohort S of m of the n clients and sends u^t. Every client i ∈ S runs
    LocalAlt:
        v_{i,0} = v_i^t;  v_{i,k+1} = v_{i,k} − γ_v ∇̃_vF_i(u^t, v_{i,k})           for k = 0..τ_v−1
        u_{i,0} = u^t;    u_{i,k+1} = u_{i,k} − γ_u ∇̃_uF_i(u_{i,k}, v_i^{t+1})     for k = 0..τ_u−1
    with v_i^{t+1} = v_{i,τ_v}. Server: u^{t+1} = (1/m) Σ_{i∈S} u_{i,τ_u}; v_i^{t+1} = v_i^t for i ∉ S.
    """

    name: ClassVar[str] = "fedalt"
    measured_at: ClassVar[str] = "virtual"

    def personal_phase(
        self,
        problem: Problem,
        u: Tensor,
        v: Tensor,
        clients: Tensor,
        noise: Tensor,
        tally: Tally | None = None,
    ) -> Tensor:
        start = v
        for k in range(self.tau_v):
            if tally is not None:
                tally.v_step(v - start)
            v = v - self.gamma_v * (problem.grad_v(u, v, clients) + noise[:, :, k])
        return v

    def shared_phase(
        self,
        problem: Problem,
        u: Tensor,
        v: Tensor,
        clients: Tensor,
        noise: Tensor,
        tally: Tally | None = None,
    ) -> Tensor:
        start = u
        for k in range(self.tau_u):
            gradient = problem.grad_u(u, v, clients)
            if tally is not None:
                tally.u_step(u - start, gradient, noise[:, :, k])
            u = u - self.gamma_u * (gradient + noise[:, :, k])
        return u

    def local(
        self,
        problem: Problem,
        u: Tensor,
        v: Tensor,
        clients: Tensor,
        noise: LocalNoise,
        tally: Tally | None = None,
    ) -> tuple[Tensor, Tensor]:
        v = self.personal_phase(problem, u, v, clients, noise.v, tally)
        u = self.shared_phase(problem, u, v, clients, noise.u, tally)
        return u, v
