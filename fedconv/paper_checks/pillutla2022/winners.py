"""Who wins in runs, FedAlt or FedSim, each at its best step, and which of the conditions names the winner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedconv.analysis.claims.claim import Budget, Evidence
from fedconv.analysis.regimes import paired
from fedconv.analysis.theorems.split.effective_variance import PAPER as CONSTANT_FREE
from fedconv.analysis.theorems.split.effective_variance import TUNED, TUNED_STAR, Comparison
from fedconv.core.run import run
from fedconv.paper_checks.pillutla2022.reductions import WAVES, experiment
from fedconv.paper_checks.shared.comparisons import none_fails, verdict
from fedconv.paper_checks.shared.units import Found, Unit


@dataclass(frozen=True)
class Cell:
    """One setting: FedAlt's effect (> 0 where its stationarity is lower), whether it is decided, and the constants."""

    name: str
    effect: float
    decided: bool
    values: dict[str, float]


def measured_winners(budget: Budget) -> tuple[Cell, ...]:
    """Stationarity of both algorithms in runs over a grid of (m, σ_v), each at its best step of a grid: the first half
    of the replicates chooses the step, a paired t-test on the second half decides."""
    quick = budget.size == "quick"
    grid = [
        (m, s) for m in ((2, 16) if quick else (1, 4, 10, 16)) for s in ((0.3, 3.0) if quick else (0.1, 0.5, 2.0, 8.0))
    ]
    out = []
    for m, sigma_v in grid:
        noise = {"law": "gaussian", "sigma_u": 1.0, "sigma_v": sigma_v}
        best = [_at_best_step(name, m, noise, budget) for name in ("fedalt", "fedsim")]
        effect, p_value = paired(*best)
        c = experiment(_GROUND, {"name": "fedalt", "m": m, "tau": 3, "eta": 0.1}, 1, noise).problem.constants
        values = {"n": 20.0, "m": float(m), "tau_u": 3.0, "tau_v": 3.0, "L_u": c.L_u.value, "L_v": c.L_v.value,
                  "chi": max(c.L_uv.value, c.L_vu.value) / math.sqrt(c.L_u.value * c.L_v.value),
                  "sigma_u": 1.0, "sigma_v": sigma_v, "delta": c.delta.value}  # fmt: skip
        decided = p_value < WINNER_ERROR / (2 * len(grid))
        out.append(Cell(f"m = {m}, sigma_v = {sigma_v:g}: {effect:+.1%}{'' if decided else ' (undecided)'}", effect,
                        decided, values))  # fmt: skip
    return tuple(out)


_GROUND = WAVES | {"n": 20, "L_v": 1.0, "chi": 0.8, "spread": 1.0}
WINNER_ERROR = 0.01
"""One-sided error of all cells of the grid together, in both directions."""


def _at_best_step(name: str, m: int, noise: dict[str, Any], budget: Budget) -> np.ndarray:
    count, rounds = (32, 200) if budget.size == "quick" else (128, 500)
    tried = []
    for step in (0.02, 0.06, 0.2, 0.6):
        case = experiment(_GROUND, {"name": name, "m": m, "tau": 3, "eta": step}, rounds, noise)
        trace, c = run(case, count, workers=budget.workers), case.problem.constants
        tried.append((trace["grad_u_sq"].values / c.L_u.value + trace["grad_v_sq"].values / c.L_v.value).mean(1))
    half = count // 2
    return min(tried, key=lambda s: float(np.where(np.isfinite(s[:half]), s[:half], np.inf).mean()))[half:]


@dataclass(frozen=True)
class Winners:
    """What a grid of runs shows: who wins (``predictors`` False), or how often each condition names the winner."""

    predictors: bool

    def units(self, budget: Budget) -> list[Unit]:
        return [Unit(measured_winners)]

    def read(self, found: Sequence[Found], budget: Budget) -> list[Evidence]:
        cells: Found = found[0]
        shown = "FedAlt lower by " + ", ".join(cell.name for cell in cells)
        decided = [cell for cell in cells if cell.decided]
        if not self.predictors:
            missing = [
                w for w, sign in (("FedAlt", 1), ("FedSim", -1)) if not any(c.effect * sign > 0 for c in decided)
            ]
            return [none_fails(f"runs on {len(cells)} settings; {shown}", missing, 2, "algorithms win somewhere",
                               otherwise="inconclusive", error=WINNER_ERROR)]  # fmt: skip
        return [self._score(one, cells, decided, shown) for one in (CONSTANT_FREE, TUNED, TUNED_STAR)]

    def _score(self, one: Comparison, cells: Found, decided: list[Cell], shown: str) -> Evidence:
        """No condition is claimed to be right: the share is shown, and the verdict stays open."""
        sides = [one.evaluate(cell.values)[:2] for cell in decided]
        right = sum((alt < sim) == (cell.effect > 0) for (alt, sim), cell in zip(sides, decided, strict=True))
        words = f"names the winner in {right} of {len(decided)} settings with a measured one, of {len(cells)}; {shown}"
        return Evidence(f"{one.title}, against runs", verdict("inconclusive", len(decided) - right, 0.0, words,
                                                              error=WINNER_ERROR, method="paired t"))  # fmt: skip
