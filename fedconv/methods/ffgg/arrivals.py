"""Asynchronous arrivals: who works on which job, how long it takes, and how late it may be applied."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from fedconv.core.checks import integer, number, one_of
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    from fedconv.problems.envelopes.base import EnvelopeProblem

Law = Literal["constant", "uniform", "heavy_tailed", "adversarial"]
Assignment = Literal["random", "cyclic", "per_client"]


@dataclass(frozen=True)
class Asynchrony:
    """Which delays an asynchronous server meets: jobs arrive in virtual time, each update applies one of them.

    ``workers`` jobs are under way at any time, so that the mean delay of a long run is workers − 1; as many start at
    w^0, and one at every later iterate. Who works on them is ``assignment``: ``random`` (a uniform client, as in
    Theorem 6(a)), ``cyclic`` (the clients in turn), ``per_client`` (every client always has one job, and gets the next
    when it is applied: then workers = n). Default of ``workers``: τ_max + 1 where all jobs take equally long (every
    delay is min(k, τ_max)), else 1 + ⌊τ_max/2⌋, which leaves room for delays to differ.

    A job's duration is its client's scale, slow^{i/(n−1)} (client 0 is the fastest, client n−1 takes ``slow`` times as
    long), times 1 (``constant``), a uniform number in (0, 2) (``uniform``), or a Pareto number U^{−1/tail}
    (``heavy_tailed``; the mean is infinite for tail ≤ 1). ``adversarial``: jobs of the clients i < ⌊n/2⌋ arrive at once
    and those of the others only when the server waits for them.

    The server waits for a job that would otherwise be applied more than τ_max updates late, so that the delay of
    the k-th update is at most min(k, τ_max); which needs workers ≤ τ_max + 1.
    """

    law: Law = "constant"
    tau_max: int = field(kw_only=True)
    workers: int | None = None
    assignment: Assignment = "random"
    slow: float = 1.0
    tail: float | None = None

    def __post_init__(self) -> None:
        one_of("async.law", self.law, get_args(Law))
        one_of("async.assignment", self.assignment, get_args(Assignment))
        integer("async.tau_max", self.tau_max, 0)
        number("async.slow", self.slow, 1.0)
        if self.law == "adversarial" and self.slow != 1.0:
            raise InputError(f"async.slow must be left out with law 'adversarial'; got {self.slow}")
        if self.law == "heavy_tailed":
            number("async.tail", self.tail, 0.0, open_=True)
        elif self.tail is not None:
            raise InputError(f"async.tail must be left out with law {self.law!r}; got {self.tail}")
        if self.workers is not None:
            integer("async.workers", self.workers, 1)
            if self.assignment == "per_client":
                raise InputError(
                    "async.workers must be left out with assignment 'per_client', where every client has one job;"
                    f" got {self.workers}"
                )
            if self.workers > self.tau_max + 1:
                raise InputError(
                    f"async.tau_max must be at least async.workers - 1 = {self.workers - 1}, as one of the jobs that"
                    f" start together is applied so late; got {self.tau_max}"
                )

    def jobs(self, n: int) -> int:
        """How many jobs are under way at any time with n clients."""
        if self.assignment == "per_client":
            return n
        if self.workers is not None:
            return self.workers
        alike = self.law == "constant" and (self.slow == 1.0 or n == 1)
        return self.tau_max + 1 if alike else 1 + self.tau_max // 2

    def deterministic(self, n: int) -> bool:
        """Whether every replicate meets the same arrivals with n clients."""
        return self.law in ("constant", "adversarial") and (self.assignment != "random" or n == 1)

    def check(self, problem: EnvelopeProblem) -> None:
        """Raise InputError where τ_max is impossible for the problem's number of clients."""
        if self.assignment == "per_client" and problem.n > self.tau_max + 1:
            raise InputError(
                f"async.tau_max must be at least problem.n - 1 = {problem.n - 1} with assignment 'per_client', as one"
                f" of the n first jobs is applied so late; got {self.tau_max}"
            )
