"""From samples of a left-hand side and a bound to a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from analysis.intervals import betting_lower, student_lower, student_upper
from analysis.tails import replicates_for_skewness
from problems.base import Grade

Status = Literal["holds", "violated", "inconclusive", "premises_unmet"]
STATUSES: tuple[Status, ...] = get_args(Status)

RELATIVE_FLOOR = 1e-9
"""A deterministic ``lhs ≤ rhs`` is read as ``lhs ≤ rhs·(1 + RELATIVE_FLOOR) + floor``: rounding is no violation."""


CERTAIN = ("deterministic", "exact", "pathwise", "search")
"""Methods of verdicts that have no chance of error."""


@dataclass(frozen=True)
class Verdict:
    """Whether a bound holds, by how much, and how sure that is.

    measured: mean of the left-hand side over replicates; bound: the right-hand side; tightness = measured/bound;
    [low, high]: confidence limits of the measured expectation, each at one-sided error ``error`` (after correction
    for the number of checks and looks); method: how it was decided; premises: sentences for those that fail; grade:
    the weakest constant; parameters: the free parameters used; a_posteriori: δ² was replaced by the mean diversity
    of the visited points; diverged: replicates whose left-hand side is inf or NaN; consistent: where constants are
    estimated, whether the limits obey the bound (True), break it (False) or enclose it (None).
    """

    status: Status
    measured: float
    bound: float
    low: float
    high: float
    error: float
    method: str
    replicates: int
    grade: Grade
    reason: str
    premises: tuple[str, ...] = ()
    parameters: dict[str, float] = field(default_factory=dict)
    eta: float = math.nan
    a_posteriori: bool = False
    diverged: int = 0
    consistent: bool | None = None

    @property
    def word(self) -> str:
        """The status; with estimated constants "consistent" or "not consistent" where the limits say so."""
        if self.consistent is None or self.status != "inconclusive":
            return self.status
        return "consistent" if self.consistent else "not consistent"

    @property
    def settled(self) -> bool:
        """Whether more replicates would change nothing: decided, or consistent or not with estimated constants."""
        return self.status != "inconclusive" or self.consistent is not None

    @property
    def tightness(self) -> float:
        """measured / bound; NaN where the bound is 0 or not finite."""
        return self.measured / self.bound if self.bound > 0 and math.isfinite(self.bound) else math.nan

    @property
    def level(self) -> float:
        """Confidence level of each limit, 1 − error."""
        return 1.0 - self.error

    def to_dict(self) -> dict[str, Any]:
        """Plain data; numbers that are not finite become the strings "inf", "-inf" and "nan"."""

        def plain(x: Any) -> Any:
            if isinstance(x, float) and not math.isfinite(x):
                return str(x)
            if isinstance(x, dict):
                return {k: plain(v) for k, v in x.items()}
            return list(x) if isinstance(x, tuple) else x

        return {k: plain(v) for k, v in self.__dict__.items()} | {"tightness": plain(self.tightness)}


@dataclass(frozen=True)
class Limits:
    """Confidence limits of an expectation and how they were found."""

    low: float
    high: float
    method: str


def limits(samples: np.ndarray, error: float, looks: int, *, deterministic: bool, nonnegative: bool) -> Limits:
    """One-sided limits for the mean of ``samples``, each at ``error``, over ``looks`` looks at growing samples.

    deterministic: every sample is the expectation itself. nonnegative: the sampled quantity cannot be negative, so
    the lower limit is by betting, valid for every law and any number of looks. Student's limits share the error
    among the looks; the upper one is withheld (∞) while the samples are too skewed for it (``analysis.tails``).
    """
    if deterministic:
        value = float(samples[0])
        return Limits(value, value, "deterministic")
    high, by = student_upper(samples, error / looks), "Student t"
    if np.isfinite(samples).all() and (needed := replicates_for_skewness(samples)) > len(samples):
        high, by = math.inf, f"none: their skewness asks for {needed:.0f} replicates"
    if nonnegative:
        return Limits(betting_lower(samples, error), high, f"betting (low), {by} (high)")
    if by != "Student t":
        return Limits(student_lower(samples, error / looks), high, f"Student t (low), {by} (high)")
    return Limits(student_lower(samples, error / looks), high, "Student t")


def decide(found: Limits, bound: float, floor: float) -> tuple[Status, str]:
    """``holds`` where even the upper limit obeys the bound, ``violated`` where even the lower limit breaks it."""
    allowed = bound * (1 + RELATIVE_FLOOR) + floor
    if not math.isfinite(bound):
        return "inconclusive", f"the bound is {bound}"
    if found.low > allowed:
        return "violated", f"lower limit {found.low:.6g} exceeds the bound {bound:.6g}"
    if found.high <= allowed:
        return "holds", f"upper limit {found.high:.6g} is within the bound {bound:.6g}"
    return "inconclusive", f"the bound {bound:.6g} lies inside [{found.low:.6g}, {found.high:.6g}]"
