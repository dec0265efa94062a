"""One theorem on one experiment: take in runs, say the verdict, keep both sides for drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.analysis.theorems import Theorem
from fedconv.analysis.theorems.split.facts import OBJECTIVE, Inputs
from fedconv.analysis.theorems.statement import StatementInputs
from fedconv.analysis.verdicts.limits import replicates_to_refute
from fedconv.analysis.verdicts.refuted import refuted
from fedconv.analysis.verdicts.tails import Randomness
from fedconv.analysis.verdicts.verdict import Limits, Span, Verdict, decide, limits

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Curve:
    """The two sides for horizons t (default: every t = 1..T): mean left-hand side of the first t rounds, the bound."""

    measured: np.ndarray
    bound: np.ndarray
    horizon: np.ndarray | None = None

    @property
    def rounds(self) -> np.ndarray:
        """The horizons."""
        return np.arange(1, len(self.measured) + 1) if self.horizon is None else self.horizon


@dataclass(frozen=True)
class Result:
    """One line of a verification: what was checked, the verdict, and what is needed to draw or reproduce it."""

    name: str
    algorithm: str
    theorem: str
    verdict: Verdict
    curve: Curve
    inputs: Inputs | StatementInputs
    spec: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        inputs = {k: v if math.isfinite(v) else str(v) for k, v in self.inputs.values.items()}
        return {
            "name": self.name,
            "algorithm": self.algorithm,
            "theorem": self.theorem,
            **self.verdict.to_dict(),
            "inputs": inputs,
            "notes": list(self.inputs.notes),
        }


ROOM = 1e-9
"""Share by which bounds of what is sampled are widened, for rounding."""


def outside(samples: np.ndarray, span: Span | None) -> list[str]:
    """A sentence where a sample lies outside an interval that no sample can leave."""
    if span is None or not len(seen := samples[np.isfinite(samples)]):
        return []
    excess = max(span[0] - seen.min(), seen.max() - span[1])
    if excess <= 0:
        return []
    return [
        f"a sample lies outside [{span[0]:.6g}, {span[1]:.6g}], by {excess:.3g}: gradients exceed their stated bounds"
    ]


def in_reach(verdict: Verdict, offset: float, span: Span | None, most: int) -> bool:
    """Whether at most ``most`` replicates are likely to turn what is approximate into a proved verdict: about as many
    samples as one bet needs, and a quarter more. ``span``: of the samples, the sides of the verdict less ``offset``."""
    if span is None:
        return False
    low, high = span
    mean, bound = verdict.measured - offset, verdict.bound - offset
    if verdict.status == "holds":
        needed = replicates_to_refute(mean, bound, high, verdict.error)
    else:
        needed = replicates_to_refute(-mean, -bound, -low, verdict.error)
    return 1.25 * needed <= most and verdict.replicates < most


@dataclass
class Check:
    """One theorem on one experiment, fed with traces until decided.

    ``randomness``: what is random in the run, for the limits (None: nothing is known of it).
    """

    theorem: Theorem
    inputs: Inputs
    parameters: dict[str, float]
    a_posteriori: bool
    deterministic: bool
    error: float
    looks: int
    randomness: Randomness | None = None
    exact: bool = False
    unmet: list[str] = field(default_factory=list)
    lhs: list[np.ndarray] = field(default_factory=list)
    diversity: list[np.ndarray] = field(default_factory=list)
    per_round: np.ndarray | None = None
    diversity_per_round: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.values = self.theorem.evaluate(self.inputs.values, self.parameters)
        self.unmet = self.theorem.unmet(self.values)
        if not math.isfinite(self.inputs.values["delta"]):
            affine = "" if self.theorem.affine else ", and the bound is not affine in δ², so no mean can replace it"
            self.unmet.append(f"δ is infinite: the diversity of this problem has no finite bound{affine}")

    def add(self, trace: xr.Dataset) -> None:
        """Take in further replicates."""
        self.unmet = list(dict.fromkeys([*self.unmet, *refuted(trace, self.inputs)]))
        self.lhs.append(self.theorem.lhs(trace, self.values, self.inputs.blocks))
        with np.errstate(all="ignore"):
            rounds = np.zeros(trace.sizes["round"])
            for moves, weight, L, key in (
                (self.inputs.blocks[0], "weight_u", "L_u", self.theorem.shared),
                (self.inputs.blocks[1], "weight_v", "L_v", self.theorem.personal),
            ):
                if moves:
                    rounds += float(self.values[weight]) / float(self.values[L]) * trace[key].values.sum(axis=0)
            self.per_round = rounds if self.per_round is None else self.per_round + rounds
            if self.a_posteriori:
                seen = trace[self.theorem.diversity].values
                self.diversity.append(seen.mean(axis=1))
                total = seen.sum(axis=0)
                previous = self.diversity_per_round
                self.diversity_per_round = total if previous is None else previous + total

    def verdict(self) -> Verdict:
        """The verdict on all replicates so far."""
        lhs = np.concatenate(self.lhs)
        diverged = int((~np.isfinite(lhs)).sum())
        samples = np.where(np.isfinite(lhs), lhs, np.inf)
        bound, slope = self._bound()
        kind = self.theorem.kind
        visited = np.zeros_like(samples)
        if self.a_posteriori and slope != 0:
            visited = np.concatenate(self.diversity)
        whole = np.isfinite(samples) & np.isfinite(visited)
        with np.errstate(all="ignore"):
            offset = slope * float(np.where(np.isfinite(visited), visited, np.inf).mean())
        adjusted = np.full_like(samples, np.inf)
        adjusted[whole] = samples[whole] - slope * visited[whole]
        weights = [w for w, there in zip(("weight_u", "weight_v"), self.inputs.blocks, strict=True) if there]
        nonnegative = not self.a_posteriori and all(float(self.values[w]) >= 0 for w in weights)
        known = self.deterministic or self.exact
        span = self._span(slope)
        unmet = [*self.unmet, *([] if known else outside(adjusted, span))]
        if whole.all():
            why = None if self.randomness is None else self.randomness.withheld(len(lhs), self.error / self.looks)
            found = limits(
                adjusted, self.error, self.looks, deterministic=known, nonnegative=nonnegative,
                span=None if unmet else span, withheld=why,
            )  # fmt: skip
        else:
            found = Limits(-math.inf if kind == "lower" else math.inf, math.inf, "divergence")
        inputs = self.inputs.values
        floor = self._floor(float(samples.mean()))
        if math.isfinite(offset):
            decision = decide(found, bound, floor + 1e-9 * abs(offset), kind)
            shifted = decision.limits.moved(offset)
        else:
            decision = decide(found.moved(offset), bound + offset, floor, kind)
            shifted = decision.limits
        status, reason = decision.status, decision.reason
        if diverged:
            reason = f"{diverged} of {len(lhs)} replicates diverged (inf or NaN); {reason}"
        consistent = None
        if unmet:
            status, reason = "premises_unmet", "; ".join(unmet)
        elif self.inputs.grade == "estimated" and status in ("holds", "violated"):
            reason = f"{'consistent' if status == 'holds' else 'not consistent'} (constants are estimated): {reason}"
            consistent, status = status == "holds", "inconclusive"
        return Verdict(
            status=status,
            measured=float(samples.mean()),
            bound=bound + offset,
            low=shifted.low,
            high=shifted.high,
            error=self.error,
            method="exact" if self.exact else found.method,
            replicates=len(lhs),
            grade=self.inputs.grade,
            reason=reason,
            premises=tuple(unmet),
            parameters=self.parameters,
            eta=inputs["eta"],
            a_posteriori=self.a_posteriori,
            diverged=diverged,
            consistent=consistent,
            kind=kind,
            approximate=decision.approximate and status in ("holds", "violated"),
        )

    def settled(self, most: int) -> bool:
        """Whether more replicates, up to ``most``, are unlikely to change the verdict: premises fail, or it is decided,
        and where that is approximate no proved limit is in reach."""
        verdict = self.verdict()
        if self.unmet or verdict.premises or not verdict.settled:
            return bool(self.unmet or verdict.premises)
        bound, slope = self._bound()
        return not (verdict.approximate and in_reach(verdict, verdict.bound - bound, self._span(slope), most))

    def _span(self, slope: float) -> Span | None:
        """An interval that no sample can leave, from what gradients never exceed; None where nothing is known.
        ``slope``: of the right-hand side in δ², whose measured part is taken off the samples."""
        if self.randomness is None or self.randomness.gradients is None:
            return None
        most = self.randomness.gradients
        low = high = 0.0
        for moves, weight, L, size in zip(
            self.inputs.blocks, ("weight_u", "weight_v"), ("L_u", "L_v"), (most.u_sq, most.v_sq), strict=True
        ):
            if moves:
                part = (1 + ROOM) * float(self.values[weight]) / float(self.values[L]) * size
                low, high = low + min(part, 0.0), high + max(part, 0.0)
        visited = (1 + ROOM) * slope * most.u_i_sq
        return low - max(visited, 0.0), high - min(visited, 0.0)

    def _bound(self) -> tuple[float, float]:
        """(right-hand side, its slope in δ²); a posteriori the right-hand side is taken at δ = 0."""
        if not self.a_posteriori:
            return float(self.values["rhs"]), 0.0
        values = self.theorem.evaluate(self.inputs.values | {"delta": 0.0}, self.parameters)
        return float(values["rhs"]), self.theorem.slope(values)

    def _floor(self, measured: float) -> float:
        """What rounding may make of a true claim: rhs(ΔF₀ + ε) − rhs(ΔF₀) for the rounding ε of ΔF₀, and, of gradients
        each wrong by e, (w/L)(2‖g‖e + 4e²) on the left; w‖g‖²/L is at most the left side."""
        silent = {"delta": 0.0} if self.a_posteriori else {}
        gap = self.inputs.values["gap0"]
        sides = [
            float(self.theorem.evaluate(self.inputs.values | silent | {"gap0": x}, self.parameters)["rhs"])
            for x in (gap, gap + OBJECTIVE * self.inputs.scale)
        ]
        total = abs(sides[1] - sides[0]) if all(map(math.isfinite, sides)) else 0.0
        for there, e, weight, L in zip(
            self.inputs.blocks, self.inputs.slopes, ("weight_u", "weight_v"), ("L_u", "L_v"), strict=True
        ):
            share = abs(float(self.values[weight])) / float(self.values[L]) if there else 0.0
            left = measured if math.isfinite(measured) else 0.0
            total += 2 * e * math.sqrt(share * max(left, 0.0)) + 4 * share * e**2
        return total

    def curve(self) -> Curve:
        """Both sides for every horizon up to T, for drawing (means over replicates)."""
        assert self.per_round is not None
        count = sum(len(x) for x in self.lhs)
        horizon = np.arange(1, len(self.per_round) + 1)
        with np.errstate(all="ignore"):
            measured = np.cumsum(self.per_round) / count / horizon
            inputs: dict[str, Any] = self.inputs.values | {"T": horizon}
            if self.diversity_per_round is not None:
                inputs["delta"] = np.sqrt(np.cumsum(self.diversity_per_round) / count / horizon)
            bound = np.broadcast_to(self.theorem.evaluate(inputs, self.parameters)["rhs"], horizon.shape)
        return Curve(measured, np.asarray(bound, dtype=float))
