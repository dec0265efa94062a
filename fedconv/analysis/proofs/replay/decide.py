"""A lemma at one visited state: its two sides over the copies, limits of their difference, a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import sympy as sp

from fedconv.analysis.proofs.lemmas.base import Form, Lemma, Sample, evaluate, linear
from fedconv.analysis.proofs.replay.round_copies import Copies
from fedconv.analysis.verdicts.limits import student_upper
from fedconv.analysis.verdicts.tails import NO_SPREAD, replicates_for_skewness
from fedconv.analysis.verdicts.verdict import RELATIVE_FLOOR

Status = Literal["holds", "violated", "inconclusive"]

ROUNDING = 1e-13
"""Rounding of differences of objective values or gradients, as a share of those values."""

RESOLUTION = 0.2
"""An equality holds where the limits of lhs − rhs enclose 0 and lie within this share of the sides' mean size."""


FEWEST_FOR_REGRESSION = 100
"""Samples for each coefficient from which upper bounds are judged with control variates."""


@dataclass(frozen=True)
class Finding:
    """A lemma at one state. lhs, rhs: the sides' expectations, of the worst client where it is claimed for each;
    [low, high]: limits of E(lhs − rhs); tightness: 1 − (rhs − lhs)/(size of rhs), the size being the sum of the
    absolute terms: lhs/rhs where all terms of rhs are positive; lhs/rhs for an equality; approximate: it is decided by
    Student's limits from sampled copies, whose error is not proved."""

    lemma: str
    status: Status
    lhs: float
    rhs: float
    low: float
    high: float
    tightness: float
    client: int | None
    reason: str
    approximate: bool = False


def mean(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """The expectation along the copies."""
    return x.mean(axis=0) if weights is None else np.tensordot(weights, x, axes=(0, 0))


def size(form: Form, sample: Sample, weights: np.ndarray | None, each_client: bool) -> np.ndarray:
    """Σ |coefficient × expectation| over the terms of a side."""
    parts = [np.abs(mean(evaluate({k: x}, sample, each_client), weights)) for k, x in form.items()]
    return np.sum(parts, axis=0) if parts else np.zeros(())


def two_limits(x: np.ndarray, error: float) -> tuple[float, float]:
    """Student limits of a mean, each at ``error``; ±∞ where the samples are not finite or too skewed for them. Copies
    that all show the same number give that number: rare events that they may have missed are asked for before."""
    if not np.isfinite(x).all():
        return -math.inf, math.inf
    if x.std() <= NO_SPREAD * np.abs(x).max():
        return float(x.mean()), float(x.mean())
    if replicates_for_skewness(x) > len(x):
        return -math.inf, math.inf
    return -student_upper(-x, error), student_upper(x, error)


def controls(sample: Sample, values: Mapping[str, float], each_client: bool) -> list[np.ndarray]:
    """Differences whose expectation over the noise is 0, ``(K,)`` or ``(K, n)``: L3's equalities for every client;
    averaged over clients, with L7 and the inner product of the v steps as well."""
    sigma = {"u": values["tau_u"] * values["sigma_u"] ** 2, "v": values["tau_v"] * values["sigma_v"] ** 2}
    own = [sample[f"gz_{b}"] for b in "uv"] + [sample[f"zz_{b}"] - sigma[b] for b in "uv"]
    if each_client:
        return own
    return [x.mean(axis=1) for x in own] + [
        sample["inner_cohort"] - sample["inner"],
        sample["present_v"] + values["p"] * values["eta"] / (values["L_v"] * values["tau_v"])
        * sample["inner_v"].mean(axis=1),
    ]  # fmt: skip


def steadied(x: np.ndarray, zeros: Sequence[np.ndarray]) -> np.ndarray:
    """Samples ``(K,)`` of the same mean and less spread: the regression on variables of mean 0 taken off, where there
    are enough samples for it."""
    useful = [z for z in zeros if np.isfinite(z).all() and np.ptp(z) > 0]
    if not useful or len(x) < FEWEST_FOR_REGRESSION * (len(useful) + 1) or not np.isfinite(x).all():
        return x
    Z = np.stack(useful, axis=1)
    scaled = Z / Z.std(axis=0)
    centred = scaled - scaled.mean(axis=0)
    slopes = np.linalg.pinv(centred.T @ centred, rcond=1e-10, hermitian=True) @ (centred.T @ (x - x.mean()))
    return x - scaled @ slopes


def judge(
    lemma: Lemma,
    values: Mapping[str, float],
    copies: Copies,
    *,
    error: float,
    scale: float,
    withheld: str | None = None,
    unseen: str | None = None,
    estimated: bool = False,
) -> Finding:
    """Decide a lemma on copies of one round.

    error: one-sided, of each limit; scale: size of the objective, for rounding of its differences; withheld: why
    no limits can be read off samples of the noise (``fedconv.analysis.verdicts.tails.withheld``), and ``unseen`` of
    cohorts; estimated: a constant of the problem is only estimated, so a lemma that uses one stays undecided.

    The expectation over cohorts is taken exactly, copy by copy, where the lemma's quantities allow it; otherwise what
    is ``steady`` in it makes a true inequality hold on every copy.

    An upper bound holds where the upper limit of lhs − rhs is at most the floor 1e-9·(size of the sides) + rounding,
    and is violated where the lower limit exceeds it; an equality is violated where 0 is outside. For upper bounds
    without anything steady the equality lemmas serve as control variates, for equalities nothing does. Expectations
    over all outcomes are compared exactly, up to the floor.
    """
    averaged = copies.over_cohorts(lemma.quantities)
    if averaged is not None:
        copies = averaged
    elif withheld is None and copies.weights is None:
        withheld = unseen
    steady = lemma.steady if averaged is None and copies.weights is None else sp.Integer(0)
    left, right = linear(lemma.lhs + steady, values), linear(lemma.rhs, values)
    sample, weights, each = copies.sample, copies.weights, lemma.each_client
    L, R = evaluate(left, sample, each), evaluate(right, sample, each)
    differences = L - R
    columns = differences if each else differences[:, None]
    left_size, right_size = size(left, sample, weights, each), size(right, sample, weights, each)
    floors = np.atleast_1d(RELATIVE_FLOOR * np.maximum(left_size, right_size)) + np.zeros(columns.shape[1])
    floors = floors + _rounding(lemma, copies, scale)
    count = columns.shape[1]
    zeros = []
    if lemma.kind == "upper" and weights is None and averaged is not None:
        zeros = controls(sample, values, each)
    limits: list[tuple[float, float]] = []
    for j in range(count):
        if weights is not None:
            value = float(weights @ columns[:, j])
            limits.append((value, value))
        elif withheld is not None:
            limits.append((-math.inf, math.inf))
        else:
            own = [z[:, j] if z.ndim == 2 else z for z in zeros]
            limits.append(two_limits(steadied(columns[:, j], own), error))
    left_mean, right_mean = (np.atleast_1d(mean(x, weights)) for x in (L, R))
    spread = np.atleast_1d(mean(np.abs(L), weights) + mean(np.abs(R), weights))
    found: list[tuple[Status, str]] = []
    for (low, high), floor, around in zip(limits, floors, spread, strict=True):
        found.append(_decide(lemma, low, high, float(floor), float(around), weights is not None, withheld))
    order = {"violated": 0, "inconclusive": 1, "holds": 2}
    with np.errstate(all="ignore"):
        sizes = np.atleast_1d(right_size) + np.zeros(count)
        tightness = np.where(sizes > 0, 1 - (right_mean - left_mean) / np.where(sizes > 0, sizes, 1.0), math.nan)
    if lemma.kind == "equality":
        with np.errstate(all="ignore"):
            tightness = np.where(right_mean != 0, left_mean / np.where(right_mean != 0, right_mean, 1.0), math.nan)
    gap = left_mean - right_mean
    worst = min(
        range(count),
        key=lambda j: (order[found[j][0]], -(gap[j] / floors[j] if floors[j] > 0 else gap[j]) if each else 0.0),
    )
    status, reason = found[worst]
    if estimated and lemma.uses_constants and status != "inconclusive":
        status, reason = "inconclusive", f"constants are estimated: {reason}"
    low, high = limits[worst]
    return Finding(
        lemma.key, status, float(left_mean[worst]), float(right_mean[worst]), low, high, float(tightness[worst]),
        worst if each else None, reason, weights is None and status != "inconclusive",
    )  # fmt: skip


def _rounding(lemma: Lemma, copies: Copies, scale: float) -> float:
    """What rounding leaves of a difference that is 0: of objective values, of gradients (squared), of drifts."""
    names = set(lemma.quantities)
    gradients = float(mean(copies.sample["grad_u_i_sq"], copies.weights).mean())
    floor = ROUNDING * scale if names & {"phi", "change", "change_u", "change_v"} else 0.0
    if "gap_sq" in names:
        floor += ROUNDING**2 * gradients
    for b, start in (("u", "grad_u_i_sq"), ("v", "Y")):
        if names & {f"rz_{b}", f"gz_{b}"}:
            sizes = (float(mean(copies.sample[k], copies.weights).mean()) for k in (start, f"zz_{b}"))
            floor += ROUNDING * math.sqrt(math.prod(sizes))
    return floor


def _decide(
    lemma: Lemma, low: float, high: float, floor: float, around: float, exact: bool, withheld: str | None
) -> tuple[Status, str]:
    if not (math.isfinite(low) and math.isfinite(high)):
        why = withheld or "the samples are not finite, or too skewed for limits"
        return "inconclusive", f"no limits: {why}"
    between = f"lhs − rhs = {low:.6g}" if low == high else f"lhs − rhs lies in [{low:.6g}, {high:.6g}]"
    if low > floor:
        return "violated", f"{between}, above 0"
    if lemma.kind == "equality":
        if high < -floor:
            return "violated", f"{between}, below 0"
        if exact or high - low <= 2 * max(RESOLUTION * around, floor):
            return "holds", between
        return "inconclusive", f"{between}, wider than {RESOLUTION:.0%} of the sides' mean size"
    if high <= floor:
        return "holds", between
    return "inconclusive", f"{between}, on both sides of 0"
