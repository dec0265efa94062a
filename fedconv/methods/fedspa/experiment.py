"""An experiment with FedSpa: everything that fixes its runs except how many replicates are drawn."""

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
from fedconv.methods.fedspa import rounds as simulate
from fedconv.methods.fedspa import variables as record
from fedconv.methods.fedspa.constants import MaskedConstants, masked_constants, masked_sigma
from fedconv.methods.fedspa.method import FedSpa
from fedconv.methods.split.method import State
from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError
from fedconv.problems.layers import Layout
from fedconv.problems.noise import Noise

if TYPE_CHECKING:
    import xarray as xr


SILENT = Noise(law="zero")


@dataclass(frozen=True)
class FedSpaExperiment:
    """FedSpa on a problem's whole model w = (u, v) (see ``fedconv.problems.whole_model``), T rounds from ``start``.

    ``start``: u ``(d_u,)`` and v ``(n, d_v)`` as for other algorithms; w^0 = (u, mean of the v_i). ``noise``: σ_u on
    the gradient's u part, σ_v on its v part. A ``fedconv.core.run.Runnable``.
    """

    problem: Problem
    algorithm: FedSpa
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
        end = self.algorithm.masks.T_end
        if end is not None and end > self.T:
            raise InputError(f"masks.T_end must be at most run.T = {self.T}; got {end}")
        start_fits(problem, start)
        noise_fits(problem, self.noise)
        Streams(self.seed)

    @property
    def deterministic(self) -> bool:
        """True where every replicate gives the same numbers: no noise, everybody takes part."""
        return self.noise.silent and self.algorithm.m == self.problem.n

    @cached_property
    def layout(self) -> Layout:
        return self.algorithm.layout(self.problem)

    @cached_property
    def first_masks(self) -> np.ndarray:
        """m_{k,0}, bool ``(n, d)``."""
        return self.algorithm.masks.start(self.problem.n, self.layout)

    @cached_property
    def w_start(self) -> Tensor:
        """w^0 ``(d,)``."""
        return torch.cat([self.start.u, self.start.v.mean(0)])

    @cached_property
    def constants(self) -> MaskedConstants:
        """Constants of f under the masks (frozen), or under all masks (dynamic)."""
        return masked_constants(self.problem, self.first_masks if self.algorithm.masks.frozen else None)

    @cached_property
    def sigma(self) -> float:
        """σ of assumption A2, for all masks that the run may visit."""
        layout = None if self.algorithm.masks.frozen else self.layout
        return masked_sigma(self.problem, self.noise.sigma_u, self.noise.sigma_v, self.first_masks, layout)

    @property
    def eta(self) -> float:
        """η = γLN."""
        return self.algorithm.gamma * self.constants.L.value * self.algorithm.tau

    def with_eta(self, eta: float) -> FedSpaExperiment:
        """The same experiment with γ = η/(LN). Raises InputError where L is not positive and finite."""
        L = self.constants.L.value
        if not 0 < L < float("inf"):
            raise InputError(
                f"algorithm.eta must be left out, and gamma given, where no L with 0 < L < inf is known; got {eta:g}"
            )
        gamma = eta / (L * self.algorithm.tau)
        return replace(self, algorithm=replace(self.algorithm, gamma=gamma))

    def choose(self, engine: str) -> tuple[str, str]:
        return torch_only(engine, "FedSpa")

    def block(self, streams: Streams, replicates: np.ndarray, level: str, engine: str) -> dict[str, np.ndarray]:
        """Arrays by name (``fedconv.methods.fedspa.variables.VARIABLES``) for some replicates, the same whatever the
        block."""
        return simulate.simulate_block(
            self.problem, self.algorithm, self.noise, self.w_start, self.T, streams, replicates, level
        )

    def assemble(self, blocks: list[dict[str, np.ndarray]], first: int, attrs: dict[str, Any]) -> xr.Dataset:
        return record.assemble(self, blocks, first, attrs)

    def provenance(self) -> dict[str, Any]:
        return record.provenance(self)
