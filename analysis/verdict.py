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
Kind = Literal["equality", "upper", "lower"]
"""What is claimed of left and right: left = right, left ≤ right, left ≥ right."""

RELATIONS: dict[Kind, str] = {"equality": "=", "upper": "≤", "lower": "≥"}
STATUSES: tuple[Status, ...] = get_args(Status)

RELATIVE_FLOOR = 1e-9
"""A deterministic ``lhs ≤ rhs`` is read as ``lhs ≤ rhs + RELATIVE_FLOOR·|rhs| + floor``: rounding is no violation."""


CERTAIN = ("deterministic", "exact", "pathwise", "search")
"""Methods of verdicts that have no chance of error."""


@dataclass(frozen=True)
class Verdict:
    """Whether a bound holds, by how much, and how sure that is.

    measured: mean of the left-hand side over replicates; bound: the right-hand side; kind: what is claimed of the two;
    tightness = measured/bound, of a lower bound bound/measured: at most 1 where the claim is true;
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
    kind: Kind = "upper"

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
        """measured / bound, of a lower bound bound / measured; NaN where what divides is not positive or not finite."""
        part, whole = (self.bound, self.measured) if self.kind == "lower" else (self.measured, self.bound)
        return part / whole if whole > 0 and math.isfinite(whole) else math.nan

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

    def mirrored(self) -> Limits:
        """Limits of the quantity whose negative these are of."""
        return Limits(-self.high, -self.low, self.method)


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


def decide(found: Limits, bound: float, floor: float, kind: Kind = "upper") -> tuple[Status, str]:
    """A claim about an expectation between two limits, with the sentence that says why.

    An upper bound ``holds`` where even the upper limit obeys it and is ``violated`` where even the lower limit breaks
    it; a lower bound the other way round; an equality is ``violated`` where the right side lies outside the limits,
    and ``holds`` only where they leave no room. A bound that is not finite decides nothing.
    """
    low, high, room = found.low, found.high, RELATIVE_FLOOR * abs(bound) + floor
    if not math.isfinite(bound):
        both = ", and so is the left side: two infinite sides decide nothing" if low == high == math.inf else ""
        return "inconclusive", f"the bound is {bound}{both}"
    if kind == "equality":
        if low > bound + room or high < bound - room:
            return "violated", f"{bound:.6g} lies outside [{low:.6g}, {high:.6g}]"
        if high - low <= 2 * room:
            return "holds", f"both sides are {bound:.6g}"
        return "inconclusive", f"{bound:.6g} lies inside [{low:.6g}, {high:.6g}], as it should"
    if kind == "lower":
        if high < bound - room:
            return "violated", f"upper limit {high:.6g} is below the lower bound {bound:.6g}"
        if low >= bound - room:
            return "holds", f"lower limit {low:.6g} is not below the lower bound {bound:.6g}"
    elif low > bound + room:
        return "violated", f"lower limit {low:.6g} exceeds the bound {bound:.6g}"
    elif high <= bound + room:
        return "holds", f"upper limit {high:.6g} is within the bound {bound:.6g}"
    return "inconclusive", f"the bound {bound:.6g} lies inside [{low:.6g}, {high:.6g}]"


def excess(left: np.ndarray, right: np.ndarray, floor: np.ndarray | float, kind: Kind) -> np.ndarray:
    """By how much claims about numbers, one for each path or round, are broken: above 0 broken, at most 0 obeyed.

    NaN where nothing is decided: where the right side is NaN, or infinite with a left side that is not finite. A left
    side that is not finite breaks a finite bound (of a lower bound it decides nothing); a finite one obeys an infinite.
    """
    with np.errstate(all="ignore"):
        if kind == "equality":
            over = np.abs(left - right) - RELATIVE_FLOOR * np.maximum(np.abs(left), np.abs(right)) - floor
        else:
            over = (right - left if kind == "lower" else left - right) - RELATIVE_FLOOR * np.abs(right) - floor
    known, there = np.isfinite(left), np.isfinite(right)
    over = np.where(known & there, over, math.nan)
    if kind != "lower":
        over = np.where(~known & there, math.inf, over)
    if kind != "equality":
        over = np.where(known & (right == (-math.inf if kind == "lower" else math.inf)), -math.inf, over)
    return over
