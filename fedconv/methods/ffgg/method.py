"""FFGG (Fine-tuning Followed by Global Gradient): what the method is, and which settings of it can be run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from fedconv.core.checks import integer, number, one_of
from fedconv.methods.ffgg.arrivals import Asynchrony
from fedconv.methods.ffgg.robust.threat import Byzantine
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    from fedconv.problems.envelopes.base import EnvelopeProblem

Mode = Literal["exact", "steps", "tolerance"]
__all__ = ["FFGG", "Asynchrony", "Byzantine", "FineTuning"]


@dataclass(frozen=True)
class FineTuning:
    """How a client finds its personal θ_m at the shared w it was sent.

    ``exact``: a minimiser of f_m(w, ·). ``steps``: K = ``steps`` gradient steps of size 1/L_θ. ``tolerance``: such
    steps until ‖∇_θ f_m(w, θ)‖ ≤ ``tolerance`` (at most ``fedconv.methods.ffgg.tuning.MOST_STEPS``). Gradient steps
    start from the client's last θ (``warm``), or in every round from its first one (cold). Theorem 4 of the theory
    page.
    """

    mode: Mode = "exact"
    steps: int | None = None
    tolerance: float | None = None
    warm: bool = True

    def __post_init__(self) -> None:
        one_of("fine_tuning.mode", self.mode, get_args(Mode))
        for name, mode in (("steps", "steps"), ("tolerance", "tolerance")):
            if (getattr(self, name) is not None) != (self.mode == mode):
                wanted = "be given" if self.mode == mode else "be left out"
                raise InputError(
                    f"fine_tuning.{name} must {wanted} with mode {self.mode!r}; got {getattr(self, name)!r}"
                )
        if self.steps is not None:
            integer("fine_tuning.steps", self.steps, 0)
        if self.tolerance is not None:
            number("fine_tuning.tolerance", self.tolerance, 0.0, open_=True)
        if not isinstance(self.warm, bool):
            raise InputError(f"fine_tuning.warm must be true or false; got {self.warm!r}")
        if self.mode == "exact" and not self.warm:
            raise InputError("fine_tuning.warm must be left out with mode 'exact'; got False")

    @property
    def exact(self) -> bool:
        return self.mode == "exact"


@dataclass(frozen=True)
class FFGG:
    """FFGG (Mishchenko et al. 2023).

    In round k the server sends w^k to a uniform cohort S of m of the n clients. Every client i ∈ S fine-tunes,
    θ_i ∈ arg min f_i(w^k, ·), and returns ∇_w f_i(w^k, θ_i) = ∇F_i(w^k); the server steps,
        w^{k+1} = w^k − γ (1/m) Σ_{i∈S} ∇F_i(w^k).
    ``tau`` > 1: each client makes τ such steps of its own, fine-tuned at every one, and the server averages the
    results (Theorem 5). ``asynchrony``: the server applies gradients one by one as they arrive (Theorem 6).
    ``byzantine``: the last f clients send what they like, and the server aggregates robustly (Theorem 7B).
    Numbers of theorems are those of the theory page on FFGG.
    """

    name: ClassVar[str] = "ffgg"

    m: int
    gamma: float
    tau: int = 1
    fine_tuning: FineTuning = FineTuning()
    asynchrony: Asynchrony | None = None
    byzantine: Byzantine | None = None

    def __post_init__(self) -> None:
        integer("algorithm.m", self.m, 1)
        number("algorithm.gamma", self.gamma, 0.0, open_=True)
        integer("algorithm.tau", self.tau, 1)
        if self.asynchrony is not None and self.byzantine is not None:
            raise InputError("[async] and [byzantine] must not be given together; got both")
        if self.tau > 1 and not self.fine_tuning.exact:
            raise InputError(
                f"algorithm.tau must be 1 unless fine_tuning.mode is 'exact'; got {self.tau} with mode"
                f" {self.fine_tuning.mode!r}"
            )
        for section, given in (("async", self.asynchrony), ("byzantine", self.byzantine)):
            if given is None:
                continue
            if self.tau > 1:
                raise InputError(f"algorithm.tau must be 1 with [{section}]; got {self.tau}")
            if not self.fine_tuning.exact:
                raise InputError(f"fine_tuning.mode must be 'exact' with [{section}]; got {self.fine_tuning.mode!r}")
        if self.asynchrony is not None and self.m != 1:
            raise InputError(
                f"algorithm.m must be 1 with [async], where every update applies one client's gradient; got {self.m}"
            )

    def check(self, problem: EnvelopeProblem) -> None:
        """Raise InputError where this method cannot run on the problem."""
        if self.m > problem.n:
            raise InputError(f"algorithm.m must be at most problem.n = {problem.n}; got {self.m}")
        if self.asynchrony is not None:
            self.asynchrony.check(problem)
        if self.byzantine is not None:
            if self.m != problem.n:
                raise InputError(
                    f"algorithm.m must be problem.n = {problem.n} with [byzantine], where everybody takes part;"
                    f" got {self.m}"
                )
            self.byzantine.check(problem)

    @property
    def attackers(self) -> int:
        """How many of the last clients are Byzantine."""
        return 0 if self.byzantine is None else self.byzantine.f

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **dataclasses.asdict(self)}
