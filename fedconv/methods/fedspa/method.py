"""FedSpa: what the method is, and which settings of it can be run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from fedconv.core.checks import integer, number, one_of
from fedconv.methods.fedspa.masks import Masks
from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError
from fedconv.problems.layers import Layer, Layout, layout_from

DEFAULT = Masks()
Average = Literal["cohort", "coverage"]


@dataclass(frozen=True)
class FedSpa:
    """FedSpa (Huang et al. 2022): one dense w on the server, a personal mask m_k for every client.

    Round t, with S a uniform cohort of m of the n clients; every k ∈ S:
        w_{k,0} = m_k ⊙ w;  w_{k,j+1} = w_{k,j} − γ m_k ⊙ ∇̃F_k(w_{k,j})  for j = 0..τ−1;   U_k = w_{k,0} − w_{k,τ}
        m_k ← NextMask(m_k, w_{k,τ}, α_t) where masks are dynamic (``fedconv.methods.fedspa.masks.next_mask``)
    Server: w ← w − (1/m) Σ_{k∈S} U_k. Clients outside S keep their masks. The personal model is m_k ⊙ w.

    ``average = "coverage"`` divides each coordinate by the clients of S whose masks hold it instead; no theorem covers
    that. ``value_bits`` b and ``batch`` B (samples of a stochastic gradient) enter the costs alone.
    """

    name: ClassVar[str] = "fedspa"

    m: int
    gamma: float
    tau: int = 1
    masks: Masks = DEFAULT
    average: Average = "cohort"
    value_bits: int = 32
    batch: int = 1

    def __post_init__(self) -> None:
        integer("algorithm.m", self.m, 1)
        number("algorithm.gamma", self.gamma, 0.0, open_=True)
        integer("algorithm.tau", self.tau, 1)
        one_of("fedspa.average", self.average, get_args(Average))
        integer("fedspa.value_bits", self.value_bits, 1)
        integer("fedspa.batch", self.batch, 1)

    def check(self, problem: Problem) -> None:
        """Raise InputError where this method cannot run on the problem."""
        if self.m > problem.n:
            raise InputError(f"algorithm.m must be at most problem.n = {problem.n}; got {self.m}")
        d = problem.d_u + problem.d_v
        layout = self.layout(problem)
        self.masks.check(problem.n, d, layout)
        self.masks.start(problem.n, layout)

    def layout(self, problem: Problem) -> Layout:
        """The layers: those of the settings, else the problem's own ``layout``, else a single one."""
        d = problem.d_u + problem.d_v
        if self.masks.layers is not None:
            try:
                return layout_from(self.masks.layers, d)
            except InputError as error:
                raise InputError(f"masks.{error}") from None
        own = getattr(problem, "layout", None)
        return own if isinstance(own, Layout) else Layout((Layer("all", (d,)),))

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **dataclasses.asdict(self)}
