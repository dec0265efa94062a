"""FedSim: personal and shared parameters move together in every local step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedconv.methods.split.method import Algorithm, LocalNoise, Tally
from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError


@dataclass(frozen=True)
class FedSim(Algorithm):
    """FedSim (Pillutla et al. 2022) with uniform cohorts; τ_u = τ_v = τ.

    In each round t the server draws a cohort S of m of the n clients and sends u^t. Every client i ∈ S runs
    LocalSim: for k = 0..τ−1, from (u^t, v_i^t),
        (u_{i,k+1}, v_{i,k+1}) = (u_{i,k} − γ_u ∇̃_uF_i(u_{i,k}, v_{i,k}),  v_{i,k} − γ_v ∇̃_vF_i(u_{i,k}, v_{i,k})).
    Server: u^{t+1} = (1/m) Σ_{i∈S} u_{i,τ}; v_i^{t+1} = v_{i,τ} for i ∈ S and v_i^t otherwise.
    """

    name: ClassVar[str] = "fedsim"
    measured_at: ClassVar[str] = "state"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau_u != self.tau_v:
            raise InputError(f"fedsim has one tau: tau_u must equal tau_v; got {self.tau_u} and {self.tau_v}")

    def local(
        self,
        problem: Problem,
        u: Tensor,
        v: Tensor,
        clients: Tensor,
        noise: LocalNoise,
        tally: Tally | None = None,
    ) -> tuple[Tensor, Tensor]:
        u_start, v_start = u, v
        for k in range(self.tau_u):
            grad_u = problem.grad_u(u, v, clients)
            grad_v = problem.grad_v(u, v, clients)
            if tally is not None:
                tally.u_step(u - u_start, grad_u, noise.u[:, :, k])
                tally.v_step(v - v_start)
            u = u - self.gamma_u * (grad_u + noise.u[:, :, k])
            v = v - self.gamma_v * (grad_v + noise.v[:, :, k])
        return u, v
