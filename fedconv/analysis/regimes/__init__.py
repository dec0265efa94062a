"""Which algorithm reaches the lower stationarity, measured: per cell of a sweep a choice of steps and a paired test.

The measure is a sweep's ``stationarity``, (1/T) Σ_t s_t with
s_t = ‖∇_uF(u^t,V^t)‖²/L_u + (1/n) Σ_i ‖∇_vF_i(u^t,v_i^t)‖²/L_v, the same for both algorithms. Replicates are paired:
both meet the same cohorts. The first eighth of the replicates (two at least) chooses each algorithm's best numerical
step (least mean); the others compare, so that the choice does not flatter. The theorems' own steps ("best" or "max" in
the sweep) are compared on the same replicates.

How sure a winner is: Student's paired t-test decides, about the means. It is exact for normal differences and
*approximate* otherwise: at the levels of a map of many cells, skewed differences make a false winner likelier than
stated (``tests/analysis/regimes/test_regimes.py`` simulates it). So every winner is tested once more by the exact sign
test: that it is the lower one in more than half of all runs, whatever the differences' law. Its stated error holds
without assumptions other than independent replicates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedconv.analysis.regimes.predictors import Prediction
from fedconv.problems.errors import InputError
from fedconv.sweep.grid import WORDS

if TYPE_CHECKING:
    import xarray as xr

ALGORITHMS = ("fedalt", "fedsim")
NONE, MISSING = "no difference", "missing"
CONSTANT = "constant"
MEASURE = "stationarity"
ERROR = 0.01
"""Default one-sided error of all cells of one comparison together."""

FEWEST = 4
"""Replicates a comparison needs: two to choose, two for a variance."""


def choosing(replicates: int) -> int:
    """How many replicates choose steps; the others compare."""
    return max(2, replicates // 8)


@dataclass(frozen=True)
class Comparison:
    """FedAlt against FedSim in every cell (arrays of the cells' shape).

    ``verdict``: "fedalt", "fedsim" (the one with the lower mean), "no difference" or "missing" (jobs not done).
    ``effect`` = (FedSim's mean − FedAlt's)/larger of the two: > 0 where FedAlt's is lower, ±1 where one diverged, NaN
    where both did. ``p_value``, ``p_sign``: one-sided, of the t-test and of the exact sign test, in favour of the
    lower. ``level``: what they had to fall below. ``mean``, ``eta`` (cells, 2): mean of the replicates that compare,
    and the step as a number. ``at_edge``: the best step is the smallest or largest of the grid.
    """

    steps: str
    verdict: np.ndarray
    effect: np.ndarray
    p_value: np.ndarray
    p_sign: np.ndarray
    mean: np.ndarray
    eta: np.ndarray
    at_edge: np.ndarray
    level: float

    def count(self, verdict: str) -> int:
        return int((self.verdict == verdict).sum())

    @property
    def confirmed(self) -> np.ndarray:
        """Winners that the sign test names too, at the same level: bool, of the cells' shape."""
        with np.errstate(invalid="ignore"):
            return np.isin(self.verdict, ALGORITHMS) & (self.p_sign < self.level)


@dataclass(frozen=True)
class Score:
    """How often a predictor names the measured winner, and what it says where there is none.

    ``right``, ``wrong``, ``tie`` (it sees no difference), ``silent`` (it has no answer) count the cells with a measured
    winner; ``undecided`` counts, by what it says, those without a difference.
    """

    key: str
    title: str
    right: int
    wrong: int
    tie: int
    silent: int
    confusion: dict[str, dict[str, int]]
    undecided: dict[str, int]

    @property
    def share(self) -> float:
        """right / cells with a measured winner; NaN where there is none."""
        total = self.right + self.wrong + self.tie + self.silent
        return self.right / total if total else math.nan

    @property
    def balanced(self) -> float:
        """The mean, over the algorithms that win some cell, of the share named right among the cells that it wins: 1/2
        for a constant answer where both win; NaN where none does."""
        shares = [row[name] / sum(row.values()) for name, row in self.confusion.items() if sum(row.values())]
        return sum(shares) / len(shares) if shares else math.nan


def compare(data: xr.Dataset, error: float = ERROR) -> dict[str, Comparison]:
    """The comparisons of a sweep (see :func:`fedconv.sweep.results.dataset`): ``best`` over its numerical steps, and
    ``theorem`` where it has "best" (else "max").

    A paired t-test, one-sided in both directions, each at error/(2·cells) (Bonferroni): for normal differences the
    chance of any false winner in a comparison is at most ``error``, else approximately. For the winners that the exact
    sign test confirms (:attr:`Comparison.confirmed`) it is at most ``error`` whatever the law. Where a replicate
    diverged it counts as ∞ and the sign test alone decides. Raises InputError where an algorithm, enough replicates or
    steps are missing.
    """
    if not 0 < error < 0.5:
        raise InputError(f"error must be a number between 0 and 0.5; got {error}")
    for name in ALGORITHMS:
        if name not in data["algorithm"].values:
            got = ", ".join(map(str, data["algorithm"].values))
            raise InputError(f"a comparison needs both algorithms, fedalt and fedsim; the sweep has {got}")
    if data.sizes["replicate"] < FEWEST:
        raise InputError(f"a comparison needs at least {FEWEST} replicates; the sweep has {data.sizes['replicate']}")
    axes = axes_of(data)
    order = (*axes, "algorithm", "eta", "replicate")
    data = data.sel(algorithm=list(ALGORITHMS)).transpose(*axes, "algorithm", "eta", "replicate", "measure")
    diverged = data["value"].sel(measure="diverged").values == 1
    value = np.where(diverged, np.inf, data["value"].sel(measure=MEASURE).values)
    done = data["done"].transpose(*order).values
    names = [str(x) for x in data["eta"].values]
    numeric = [i for i, name in enumerate(names) if name not in WORDS]
    if not numeric:
        raise InputError("a comparison needs numbers among the steps of the sweep; it has only " + ", ".join(names))
    eta = data["step"].transpose(*axes, "algorithm", "eta").values
    level = error / (2 * math.prod(data.sizes[k] for k in axes))

    first = choosing(value.shape[-1])
    trial = np.where(done[..., numeric, :first].all(-1), value[..., numeric, :first].mean(-1), np.inf)
    best = np.array(numeric)[trial.argmin(-1)]
    ends = [min(numeric, key=lambda i: float(names[i])), max(numeric, key=lambda i: float(names[i]))]
    complete = np.asarray(done[..., numeric, :].all((-1, -2, -3)))
    out = {"best": _comparison("best", value[..., first:], eta, best, complete, level, ends)}
    own = [names.index(word) for word in WORDS if word in names]
    if own:
        complete = np.asarray(done[..., own[0], :].all((-1, -2)))
        theorem = np.full(best.shape, own[0])
        out["theorem"] = _comparison("theorem", value[..., first:], eta, theorem, complete, level, [])
    return out


def _comparison(
    steps: str,
    value: np.ndarray,
    eta: np.ndarray,
    chosen: np.ndarray,
    complete: np.ndarray,
    level: float,
    ends: Sequence[int],
) -> Comparison:
    """value (cells, 2, steps, R) that compare; ``chosen`` (cells, 2) steps of it; ``ends``: those at the edge."""
    pick = chosen[..., None]
    taken = np.take_along_axis(value, pick[..., None], axis=-2)[..., 0, :]
    shape = complete.shape
    effect, p_value, p_sign = (np.full(shape, np.nan) for _ in range(3))
    verdict = np.full(shape, MISSING, dtype=object)
    for cell in zip(*np.nonzero(complete), strict=True):
        effect[cell], p_value[cell] = paired(taken[cell][0], taken[cell][1])
        p_sign[cell] = signs(taken[cell][0], taken[cell][1], float(effect[cell]))
        winner = ALGORITHMS[0] if effect[cell] > 0 else ALGORITHMS[1]
        verdict[cell] = winner if p_value[cell] < level else NONE
    return Comparison(
        steps=steps,
        verdict=verdict.astype(str),
        effect=effect,
        p_value=p_value,
        p_sign=p_sign,
        mean=np.where(complete[..., None], taken.mean(-1), np.nan),
        eta=np.take_along_axis(eta, pick, axis=-1)[..., 0],
        at_edge=np.isin(chosen, ends),
        level=level,
    )


def paired(alt: np.ndarray, sim: np.ndarray) -> tuple[float, float]:
    """(effect, one-sided p-value in favour of the lower) of paired replicates ``(R,)``; ∞ where one diverged.

    Student's paired t-test on the differences. Where some value is infinite: the exact sign test over the pairs that
    differ. Differences that are all the same (no randomness) decide by themselves, but for rounding (1e-12 relative).
    """
    from scipy.stats import t

    a, s = float(alt.mean()), float(sim.mean())
    if not (math.isfinite(a) and math.isfinite(s)):
        effect = 0.0 if a == s else 1.0 if s > a else -1.0
        return effect if a != s else math.nan, signs(alt, sim, effect)
    larger = max(a, s)
    effect = (s - a) / larger if larger > 0 else 0.0
    difference = sim - alt
    spread = float(difference.std(ddof=1))
    if abs(effect) <= 1e-12:
        return effect, 1.0
    if spread <= 1e-14 * larger:
        return effect, 0.0
    statistic = abs(float(difference.mean())) / (spread / math.sqrt(len(difference)))
    return effect, float(t.sf(statistic, len(difference) - 1))


def signs(alt: np.ndarray, sim: np.ndarray, effect: float) -> float:
    """One-sided p-value of the exact sign test, in favour of FedAlt where ``effect`` > 0, of FedSim where < 0; else 1.

    Over the pairs ``(R,)`` that differ; its hypothesis: the favoured one is lower in at most half of those runs.
    """
    from scipy.stats import binom

    pairs = int((alt != sim).sum())
    if not pairs or not effect or math.isnan(effect):
        return 1.0
    wins = int((alt < sim).sum()) if effect > 0 else int((sim < alt).sum())
    return float(binom.sf(wins - 1, pairs, 0.5))


def scores(found: Comparison, predicted: Sequence[Prediction]) -> list[Score]:
    """The confusion table of a comparison: one score for each predictor, and last that of the constant answer "always
    the more frequent winner", chosen after the runs: what a predictor has to beat."""
    out = []
    often = max(ALGORITHMS, key=found.count)
    advantage = np.full((1,) * found.verdict.ndim, 1.0 if often == ALGORITHMS[0] else -1.0)
    predicted = [*predicted, Prediction(CONSTANT, f"always {often}, the more frequent winner", advantage, 0.0)]
    said = ("fedalt", "fedsim", NONE, "")
    for one in predicted:
        names = np.broadcast_to(one.names, found.verdict.shape)
        table = {
            true: {word: int(((found.verdict == true) & (names == word)).sum()) for word in said}
            for true in (*ALGORITHMS, NONE)
        }
        won = [table[true] for true in ALGORITHMS]
        right = table["fedalt"]["fedalt"] + table["fedsim"]["fedsim"]
        wrong = table["fedalt"]["fedsim"] + table["fedsim"]["fedalt"]
        ties, silent = (sum(row[word] for row in won) for word in (NONE, ""))
        confusion = {true: table[true] for true in ALGORITHMS}
        out.append(Score(one.key, one.title, right, wrong, ties, silent, confusion, table[NONE]))
    return out


def axes_of(data: xr.Dataset) -> list[str]:
    """The swept keys, in the sweep's order."""
    return [str(k) for k in data["value"].dims if k not in ("algorithm", "eta", "replicate", "measure")]


def summary(found: Mapping[str, Comparison], error: float) -> list[str]:
    """What was measured and how surely, in sentences."""
    names = {"best": "each at its best step of the grid", "theorem": "each at its theorem's step"}
    lines = []
    for key, one in found.items():
        decided = np.isin(one.verdict, ALGORITHMS)
        sure = int(one.confirmed.sum())
        sizes = np.abs(one.effect[decided])
        text = f"{names[key]}: FedAlt lower in {one.count('fedalt')} cells, FedSim in {one.count('fedsim')}, no"
        text += f" difference in {one.count(NONE)}"
        if missing := one.count(MISSING):
            text += f", {missing} not finished"
        if sizes.size:
            text += f"; where one is lower, by {np.median(sizes):.1%} in the median and {sizes.max():.1%} at most"
            text += f", by less than 1 % in {int((sizes < 0.01).sum())} cells"
            text += f"; the exact sign test confirms {sure} of {sizes.size}"
        if key == "best" and (edge := int(one.at_edge.any(-1).sum())):
            text += f"; in {edge} cells a best step lies at the edge of the grid"
        lines.append(text)
    cells = next(iter(found.values())).verdict.size
    level = next(iter(found.values())).level
    lines.append(
        f"paired t-tests on the replicates that did not choose steps; one-sided error {error:g} for all {cells} cells"
        f" of a comparison together, in both directions: {level:.2g} each (exact for normal differences; for what the"
        " sign test confirms, whatever their law)"
    )
    return lines
