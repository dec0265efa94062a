"""From samples of a left-hand side and a bound to a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from fedconv.analysis.verdicts.limits import betting_lower, betting_upper, student_lower, student_upper
from fedconv.analysis.verdicts.tails import replicates_for_skewness
from fedconv.problems.base import Grade

Status = Literal["holds", "violated", "inconclusive", "premises_unmet"]
Kind = Literal["equality", "upper", "lower"]
"""What is claimed of left and right: left = right, left ≤ right, left ≥ right."""

RELATIONS: dict[Kind, str] = {"equality": "=", "upper": "≤", "lower": "≥"}
STATUSES: tuple[Status, ...] = get_args(Status)

CATEGORIES = ("holds", "holds_approximate", "violated", "violated_approximate", "inconclusive", "premises_unmet")
"""What verdicts are counted as: the status, and whether the limit that decides it is approximate."""

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
    estimated, whether the limits obey the bound (True), break it (False) or enclose it (None); approximate: the limit
    that decides is right for many replicates only, so that its error is not proved for the law at hand.
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
    approximate: bool = False

    def __post_init__(self) -> None:
        if self.approximate and self.status not in ("holds", "violated"):
            raise ValueError(f"only what is decided can be approximate; got the status {self.status}")

    @property
    def category(self) -> str:
        """The status, with ``_approximate`` behind it where the deciding limit is: one of CATEGORIES."""
        return f"{self.status}_approximate" if self.approximate else self.status

    @property
    def word(self) -> str:
        """The status, with "(approximate)" where the deciding limit is; with estimated constants "consistent" or "not
        consistent" where the limits say so."""
        if self.consistent is None or self.status != "inconclusive":
            return word_of(self.category)
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


def word_of(category: str) -> str:
    """How one of CATEGORIES is printed in a terminal: ``holds (approximate)`` for ``holds_approximate``."""
    status = category.removesuffix("_approximate")
    return category if status == category else f"{status} (approximate)"


@dataclass(frozen=True)
class Limits:
    """Confidence limits of an expectation and how they were got.

    low_proved, high_proved: whether the stated error of that limit holds for every law that the samples can have;
    else it is approximate. rough: limits that are approximate and mostly narrower, to ask where these do not decide.
    withheld: why approximate limits are not given.
    """

    low: float
    high: float
    method: str
    low_proved: bool = True
    high_proved: bool = True
    rough: Limits | None = None
    withheld: str | None = None

    def moved(self, by: float) -> Limits:
        """The limits of the same quantity plus a number."""
        rough = None if self.rough is None else self.rough.moved(by)
        return replace(self, low=self.low + by, high=self.high + by, rough=rough)

    @property
    def every(self) -> tuple[Limits, ...]:
        """These, and the rough ones where there are any."""
        return (self,) if self.rough is None else (self, self.rough)


Span = tuple[float, float]
"""An interval that every sample lies in, whatever is drawn; its ends may be infinite."""


def limits(
    samples: np.ndarray,
    error: float,
    looks: int,
    *,
    deterministic: bool,
    nonnegative: bool,
    span: Span | None = None,
    withheld: str | None = None,
) -> Limits:
    """One-sided limits for the mean of ``samples``, each at ``error``, over ``looks`` looks at growing samples.

    deterministic: every sample is the expectation itself. nonnegative: the sampled quantity cannot be negative.
    span: an interval that no sample can leave. Where an end of it is known (0 where nonnegative), the limit on that
    side of the mean is by betting: proved for every law and any number of looks. Student's limits share the error
    among the looks and are approximate: they stand where no proved limit is known, and as the rough ones beside it.
    They are withheld (±∞) for the reason ``withheld`` (``fedconv.analysis.verdicts.tails``), and while the samples are
    too skewed for them or do not vary. Nonnegative samples are never refuted by Student's lower limit: betting loses
    little there.
    """
    if deterministic:
        value = float(samples[0])
        return Limits(value, value, "deterministic")
    bottom, top = span or (-math.inf, math.inf)
    bottom = max(bottom, 0.0) if nonnegative else bottom
    by, low, high = "Student t", -math.inf, math.inf
    if withheld is None and np.isfinite(samples).all() and (needed := replicates_for_skewness(samples)) > len(samples):
        withheld = (
            "the samples do not vary" if needed == math.inf else f"their skewness asks for {needed:.0f} replicates"
        )
    if withheld is None:
        low, high = student_lower(samples, error / looks), student_upper(samples, error / looks)
    else:
        by = "none"
    known_low, known_high = bottom > -math.inf, top < math.inf
    if not (known_low or known_high):
        return Limits(low, high, by, False, False, withheld=withheld)
    best_low = bottom + betting_lower(samples - bottom, error) if known_low else low
    best_high = betting_upper(samples, error, top) if known_high else high
    words = (("betting" if known else by) + f" ({side})" for known, side in ((known_low, "low"), (known_high, "high")))
    method = "betting" if known_low and known_high else ", ".join(words)
    rough = None
    if withheld is None and (known_high or not nonnegative):
        by = "betting (low), Student t (high)" if nonnegative else by
        rough = Limits(best_low if nonnegative else low, high, by, nonnegative, False)
    return Limits(best_low, best_high, method, known_low, known_high, rough, withheld)


class Decision(NamedTuple):
    """A status, its reason, the limits that decide, and whether the one of them that does is approximate."""

    status: Status
    reason: str
    limits: Limits
    approximate: bool = False


def decide(limits: Limits, bound: float, floor: float, kind: Kind = "upper") -> Decision:
    """A claim about an expectation between two limits, with the sentence that says why.

    An upper bound ``holds`` where even the upper limit obeys it and is ``violated`` where even the lower limit breaks
    it; a lower bound the other way round; an equality is ``violated`` where the right side lies outside the limits,
    and ``holds`` only where they leave no room. A bound that is not finite decides nothing. The rough limits are asked
    where the proved ones decide nothing.
    """
    room = RELATIVE_FLOOR * abs(bound) + floor
    if not math.isfinite(bound):
        infinite = limits.low == limits.high == math.inf
        both = ", and so is the left side: two infinite sides decide nothing" if infinite else ""
        return Decision("inconclusive", f"the bound is {bound}{both}", limits)
    for each in limits.every:
        low, high = (f"{x:.6g}" for x in (each.low, each.high))
        by_low, by_high = ("" if proved else " (approximate)" for proved in (each.low_proved, each.high_proved))
        if kind == "equality":
            if each.low > bound + room or each.high < bound - room:
                by = by_low if each.low > bound + room else by_high
                return Decision("violated", f"{bound:.6g} lies outside [{low}, {high}]{by}", each, bool(by))
            if each.high - each.low <= 2 * room:
                return Decision("holds", f"both sides are {bound:.6g}", each, bool(by_low or by_high))
        elif kind == "lower":
            if each.high < bound - room:
                reason = f"upper limit {high}{by_high} is below the lower bound {bound:.6g}"
                return Decision("violated", reason, each, bool(by_high))
            if each.low >= bound - room:
                reason = f"lower limit {low}{by_low} is not below the lower bound {bound:.6g}"
                return Decision("holds", reason, each, bool(by_low))
        elif each.low > bound + room:
            reason = f"lower limit {low}{by_low} exceeds the bound {bound:.6g}"
            return Decision("violated", reason, each, bool(by_low))
        elif each.high <= bound + room:
            reason = f"upper limit {high}{by_high} is within the bound {bound:.6g}"
            return Decision("holds", reason, each, bool(by_high))
    as_claimed = ", as it should" if kind == "equality" else ""
    why = f" ({limits.withheld})" if limits.withheld else ""
    subject = f"{bound:.6g}" if kind == "equality" else f"the bound {bound:.6g}"
    reason = f"{subject} lies inside [{limits.low:.6g}, {limits.high:.6g}]{as_claimed}{why}"
    return Decision("inconclusive", reason, limits)


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
