"""One client's gradient noise in one round as a linear map of independent standardised draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fedconv.methods.split import FedSim

if TYPE_CHECKING:
    from fedconv.core.run import Experiment


def noise_factors(experiment: Experiment) -> tuple[Tensor, Tensor]:
    """(to_u ``(B, τ_u, d_u)``, to_v ``(B, τ_v, d_v)``): a client's noise is Σ_b ξ_b to_u[b] on u, Σ_b ξ_b to_v[b] on v.

    ξ_1..ξ_B are independent draws of the standardised law, independent across clients and rounds; a block that is
    silent, missing or never stepped has none. In FedSim both blocks share their draws with ``dependence = "full"``,
    and with a correlation κ the noise on v is κ times u's draws and √(1−κ²) times further ones; else those of u come
    first. The same noise as ``fedconv.methods.split.torch_engine.draw_noise``.
    """
    problem, algorithm, noise = experiment.problem, experiment.algorithm, experiment.noise
    scale_u, scale_v = noise.scales(problem.d_u, problem.d_v)
    d_u, d_v = (problem.d_u if scale_u > 0 else 0), (problem.d_v if scale_v > 0 else 0)
    tau_u, tau_v = algorithm.tau_u, algorithm.tau_v
    if noise.dependence == "full" and isinstance(algorithm, FedSim):
        d = max(d_u, d_v)
        common = torch.eye(tau_u * d, dtype=torch.float64).reshape(tau_u * d, tau_u, d)
        to_u, to_v = common[..., :d_u], common[..., :d_v]
    elif noise.dependence != "independent" and isinstance(algorithm, FedSim) and d_u and d_v:
        d, own = max(d_u, d_v), tau_v * d_v if noise.remainder else 0
        eye = torch.eye(tau_u * d, dtype=torch.float64).reshape(tau_u * d, tau_u, d)
        further = torch.eye(own, dtype=torch.float64).reshape(own, tau_v, d_v)
        to_u = torch.cat([eye[..., :d_u], further.new_zeros(own, tau_u, d_u)])
        to_v = torch.cat([noise.correlation * eye[..., :d_v], noise.remainder * further])
    else:
        count_u, count_v = tau_u * d_u, tau_v * d_v
        eye = torch.eye(count_u + count_v, dtype=torch.float64)
        to_u = eye[:, :count_u].reshape(-1, tau_u, d_u) if count_u else eye.new_zeros(count_v, tau_u, d_u)
        to_v = eye[:, count_u:].reshape(-1, tau_v, d_v) if count_v else eye.new_zeros(count_u, tau_v, d_v)
    return _padded(scale_u * to_u, problem.d_u), _padded(scale_v * to_v, problem.d_v)


def _padded(factor: Tensor, d: int) -> Tensor:
    """Zeros in the coordinates of a silent block."""
    return torch.nn.functional.pad(factor, (0, d - factor.shape[-1]))
