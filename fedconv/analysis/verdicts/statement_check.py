"""One statement on one experiment: take in runs, say the verdict, keep both sides for drawing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from fedconv.analysis.theorems.statement import Statement, StatementInputs
from fedconv.analysis.verdicts.check import Curve
from fedconv.analysis.verdicts.tails import Randomness
from fedconv.analysis.verdicts.verdict import RELATIONS, Limits, Verdict, decide, excess, limits

if TYPE_CHECKING:
    import xarray as xr

POINTS = 48
"""Horizons at which both sides are kept for drawing."""


@dataclass
class StatementCheck:
    """Fed with traces until decided. ``exact``: the trace holds expectations, so that one replicate says all;
    ``randomness``: what is random in the run, for the limits (None: nothing is known of it)."""

    statement: Statement
    inputs: StatementInputs
    deterministic: bool
    error: float
    looks: int
    exact: bool = False
    randomness: Randomness | None = None
    lhs: list[np.ndarray] = field(default_factory=list)
    rhs: list[np.ndarray] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)
    floor: float = 0.0
    sums: np.ndarray | None = None
    horizon: np.ndarray | None = None

    def add(self, trace: xr.Dataset) -> None:
        """Take in further replicates."""
        sides = self.statement.evaluate(self.inputs, trace)
        self.lhs.append(sides.lhs)
        self.rhs.append(sides.rhs)
        self.floor = max(self.floor, sides.floor if math.isfinite(sides.floor) else 0.0)
        self.unmet = list(dict.fromkeys([*self.unmet, *self.statement.unmet(self.inputs, sides.values)]))
        T = trace.sizes["round"]
        self.horizon = np.unique(np.geomspace(1, T, min(T, POINTS)).round().astype(int))
        both = np.zeros((2, len(self.horizon)))
        with np.errstate(all="ignore"):
            for k, t in enumerate(self.horizon):
                cut = trace.isel(_first(trace, int(t)))
                here = StatementInputs(
                    self.inputs.values | {"T": float(t)}, self.inputs.flags, self.inputs.grade, self.inputs.notes
                )
                found = self.statement.evaluate(here, cut) if t < T else sides
                both[:, k] = found.lhs.sum(), found.rhs.sum()
            self.sums = both if self.sums is None else self.sums + both

    def verdict(self) -> Verdict:
        """The verdict on all replicates so far."""
        left, right = np.concatenate(self.lhs), np.concatenate(self.rhs)
        count = len(left)
        finite = np.isfinite(left) & np.isfinite(right)
        diverged = int((~np.isfinite(left)).sum())
        kind = self.statement.kind
        single = self.deterministic or self.exact
        approximate = False
        if self.statement.pathwise and not self.exact:
            status, reason, measured, bound, low, high, method = self._pathwise(left, right)
        else:
            measured, bound = (float(x.mean()) for x in (np.where(np.isfinite(left), left, np.inf), right))
            decision = decide(self._limits(left, right, finite, single), bound, self.floor, kind)
            status, reason, approximate = decision.status, decision.reason, decision.approximate
            low, high, method = decision.limits.low, decision.limits.high, decision.limits.method
        if diverged:
            reason = f"{diverged} of {count} replicates diverged (inf or NaN); {reason}"
        consistent = None
        if self.unmet:
            status, reason = "premises_unmet", "; ".join(self.unmet)
        elif self.inputs.grade == "estimated" and status in ("holds", "violated"):
            reason = f"{'consistent' if status == 'holds' else 'not consistent'} (constants are estimated): {reason}"
            consistent, status = status == "holds", "inconclusive"
        step = self.statement.step
        return Verdict(
            status=status,
            measured=measured,
            bound=bound,
            low=low,
            high=high,
            error=self.error,
            method="exact" if self.exact else method,
            replicates=count,
            grade=self.inputs.grade,
            reason=reason,
            premises=tuple(self.unmet),
            eta=self.inputs.values.get(step, math.nan) if step else math.nan,
            diverged=diverged,
            consistent=consistent,
            kind=kind,
            approximate=approximate and status in ("holds", "violated"),
        )

    def _pathwise(self, left: np.ndarray, right: np.ndarray) -> tuple:
        """Every replicate must obey its own bound; the one that comes closest is shown."""
        kind = self.statement.kind
        over = excess(left, right, self.floor, kind)
        part, whole = (right, left) if kind == "lower" else (left, right)
        with np.errstate(all="ignore"):
            ratio = np.where(whole > 0, part / whole, np.where(over > 0, np.inf, 0.0))
        undecided, broken = np.isnan(over), np.nan_to_num(over, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        if (broken > 0).any():
            worst = int(np.argmax(broken))
        elif undecided.any():
            worst = int(np.argmax(undecided))
        else:
            worst = int(np.nanargmax(np.nan_to_num(ratio, nan=0.0)))
        measured, bound = float(left[worst]), float(right[worst])
        shown = measured, bound, measured, measured, "deterministic" if self.deterministic else "pathwise"
        of = f" of {len(left)} replicates"
        if (broken > 0).any():
            on = "" if len(left) == 1 else f" on {int((broken > 0).sum())}{of}"
            against = "against" if kind == "upper" else f"is not {RELATIONS[kind]}"
            return "violated", f"{measured:.9g} {against} {bound:.9g}{on}", *shown
        if undecided.any():
            on = "" if len(left) == 1 else f" on {int(undecided.sum())}{of}"
            reason = f"the sides are {measured} and {bound}{on}: sides that are not finite decide nothing"
            return "inconclusive", reason, *shown
        if not math.isfinite(bound):
            return "inconclusive", f"the bound is {bound}", *shown
        many = "" if len(left) == 1 else f" on each{of}"
        words = {"upper": "is within", "lower": "is not below the lower bound", "equality": "equals"}[kind]
        return "holds", f"{measured:.6g} {words} {bound:.6g}{many}", *shown

    def _limits(self, left: np.ndarray, right: np.ndarray, finite: np.ndarray, single: bool) -> Limits:
        """Limits of E[left] (where the right side is one number) or of E[left − right] + mean of the right."""
        lower = self.statement.kind == "lower"
        if not finite.all():
            return Limits(-math.inf if lower else math.inf, math.inf, "divergence")
        constant = bool(np.ptp(right) == 0)
        offset = 0.0 if constant else float(right.mean())
        samples = left if constant else left - right
        why = None if self.randomness is None else self.randomness.withheld(len(left), self.error / self.looks)
        nonnegative = constant and bool((left >= 0).all())
        found = limits(samples, self.error, self.looks, deterministic=single, nonnegative=nonnegative, withheld=why)
        if nonnegative and not single:  # the sign is read off the samples: nothing proves it for those not drawn
            rough = found.rough if found.rough is None else replace(found.rough, low_proved=False)
            found = replace(found, low_proved=False, rough=rough)
        return found.moved(offset)

    def curve(self) -> Curve:
        """Both sides at some horizons (means over replicates)."""
        assert self.sums is not None
        assert self.horizon is not None
        count = sum(len(x) for x in self.lhs)
        return Curve(self.sums[0] / count, self.sums[1] / count, self.horizon)


def _first(trace: xr.Dataset, t: int) -> dict[str, slice]:
    """The first t rounds, and the t + 1 points around them where a trace has such."""
    return {"round": slice(0, t)} | ({"point": slice(0, t + 1)} if "point" in trace.dims else {})
