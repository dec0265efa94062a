"""An experiment with FFGG: everything that fixes its runs except how many replicates are drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.core.checks import integer, start_fits, torch_only
from fedconv.core.naming import named
from fedconv.core.streams import Streams
from fedconv.methods.ffgg import asynchronous_rounds as asynchronous
from fedconv.methods.ffgg import byzantine_rounds as byzantine
from fedconv.methods.ffgg import rounds as simulate
from fedconv.methods.ffgg import variables as record
from fedconv.methods.ffgg.method import FFGG
from fedconv.methods.split.method import State
from fedconv.problems.envelopes.base import EnvelopeProblem
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class FFGGExperiment:
    """FFGG on a problem that can be fine-tuned exactly, T rounds (asynchronous: updates) from ``start``.

    ``start``: w^0 = u ``(d_u,)`` and the first θ's, v ``(n, d_v)``, which exact fine-tuning does not use.
    A ``fedconv.core.run.Runnable``: ``fedconv.core.run.run`` and ``fedconv.core.resume.run_to_store`` take it.
    """

    problem: EnvelopeProblem
    algorithm: FFGG
    start: State
    T: int
    seed: int = 0
    name: str = "experiment"

    def __post_init__(self) -> None:
        integer("run.T", self.T, 1)
        problem, start = self.problem, self.start
        if not isinstance(problem, EnvelopeProblem):
            raise InputError(
                "algorithm 'ffgg' needs a problem whose clients can be fine-tuned exactly (an EnvelopeProblem);"
                f" got problem.family = {getattr(problem, 'family', type(problem).__name__)!r}"
            )
        self.algorithm.check(problem)
        named(problem, self.algorithm)
        start_fits(problem, start)
        Streams(self.seed)

    @property
    def deterministic(self) -> bool:
        """True where every replicate gives the same numbers."""
        method = self.algorithm
        if method.asynchrony is not None:
            return method.asynchrony.deterministic(self.problem.n)
        if method.byzantine is not None:
            return method.byzantine.deterministic
        return method.m == self.problem.n

    @cached_property
    def honest(self) -> EnvelopeProblem:
        """The problem of the honest clients, the first n − f: F, F★ and w★ are theirs."""
        f = self.algorithm.attackers
        return self.problem.restrict(range(self.problem.n - f)) if f else self.problem

    def with_gamma(self, gamma: float) -> FFGGExperiment:
        """The same experiment with another step size γ."""
        return replace(self, algorithm=replace(self.algorithm, gamma=gamma))

    def choose(self, engine: str) -> tuple[str, str]:
        return torch_only(engine, "FFGG")

    def block(self, streams: Streams, replicates: np.ndarray, level: str, engine: str) -> dict[str, np.ndarray]:
        """Arrays by name (``fedconv.methods.ffgg.variables.VARIABLES``) for some replicates, the same whatever the
        block."""
        common = (self.start, self.T, streams, replicates, level)
        if self.algorithm.asynchrony is not None:
            return asynchronous.simulate_block(self.problem, self.algorithm, *common)
        if self.algorithm.byzantine is not None:
            return byzantine.simulate_block(self.problem, self.honest, self.algorithm, *common)
        return simulate.simulate_block(self.problem, self.algorithm, *common)

    def assemble(self, blocks: list[dict[str, np.ndarray]], first: int, attrs: dict[str, Any]) -> xr.Dataset:
        return record.assemble(self, blocks, first, attrs)

    def provenance(self) -> dict[str, Any]:
        return record.provenance(self)
