"""An experiment with FedFomo: everything that fixes its runs except how many replicates are drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fedconv.core.checks import integer, noise_fits, start_fits, torch_only
from fedconv.core.naming import named
from fedconv.core.streams import Streams
from fedconv.methods.fedfomo import rounds as simulate
from fedconv.methods.fedfomo import variables as record
from fedconv.methods.fedfomo.method import FedFomo
from fedconv.methods.fedfomo.target_losses import Judge
from fedconv.methods.split.method import State
from fedconv.problems.base import Constant, Problem
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.whole_model import smoothness

if TYPE_CHECKING:
    import xarray as xr


SILENT = Noise(law="zero")


@dataclass(frozen=True)
class FedFomoExperiment:
    """FedFomo on whole models θ = (u, v), one for each client, T rounds from ``start``.

    ``start``: u ``(d_u,)`` and v ``(n, d_v)``; client i begins with θ_i = (u, v_i). ``noise``: of the training
    gradients, σ_u on their u part, σ_v on their v part. A ``fedconv.core.run.Runnable``.
    """

    problem: Problem
    algorithm: FedFomo
    start: State
    T: int
    noise: Noise = SILENT
    seed: int = 0
    name: str = "experiment"

    def __post_init__(self) -> None:
        integer("run.T", self.T, 1)
        problem, start = self.problem, self.start
        self.algorithm.check(problem)
        named(problem, self.algorithm, self.noise)
        start_fits(problem, start)
        noise_fits(problem, self.noise)
        for block in "uv":
            sigma = getattr(self.noise, f"sigma_{block}")
            if sigma > 0 and self.algorithm.privacy is not None:
                raise InputError(
                    f"noise.sigma_{block} must be 0 with [privacy], which adds noise of its own; got {sigma}"
                )
        Streams(self.seed)

    @property
    def deterministic(self) -> bool:
        """True where every replicate gives the same numbers: no noise, everybody takes part, and where clients download
        some of the models, nothing is explored and no tie broken at random."""
        method, n = self.algorithm, self.problem.n
        chance = method.epsilon > method.decay or method.ties == "random"
        explores = chance and 0 < method.fetched(n) < n - 1
        return self.noise.silent and method.m == n and method.privacy is None and not explores

    @cached_property
    def judge(self) -> Judge:
        """The clients' target losses."""
        return Judge(self.problem, self.algorithm.assignment(self.problem.n))

    @cached_property
    def models(self) -> Tensor:
        """θ_i^0 of every client, ``(n, d)``."""
        return torch.cat([self.start.u.expand(self.problem.n, -1), self.start.v], dim=1)

    @cached_property
    def L(self) -> Constant:
        """Smoothness of the training losses in θ = (u, v)."""
        return smoothness(self.problem)

    def with_eta(self, eta: float) -> FedFomoExperiment:
        """The same experiment with γ = η/L. Raises InputError where L is not positive and finite."""
        L = self.L.value
        if not 0 < L < float("inf"):
            raise InputError(
                f"algorithm.eta must be left out, and gamma given, where no L with 0 < L < inf is known; got {eta:g}"
            )
        return replace(self, algorithm=replace(self.algorithm, gamma=eta / L))

    def choose(self, engine: str) -> tuple[str, str]:
        return torch_only(engine, "FedFomo")

    def block(self, streams: Streams, replicates: np.ndarray, level: str, engine: str) -> dict[str, np.ndarray]:
        """Arrays by name (``fedconv.methods.fedfomo.variables.VARIABLES``) for some replicates, the same whatever the
        block."""
        return simulate.simulate_block(
            self.problem, self.algorithm, self.noise, self.models, self.T, streams, replicates, level
        )

    def assemble(self, blocks: list[dict[str, np.ndarray]], first: int, attrs: dict[str, Any]) -> xr.Dataset:
        return record.assemble(self, blocks, first, attrs)

    def provenance(self) -> dict[str, Any]:
        return record.provenance(self)
