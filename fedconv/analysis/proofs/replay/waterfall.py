"""Where a bound loses: the slack of every step of the proof, from the measured left-hand side to the bound."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fedconv.analysis.proofs.chain import Composition
from fedconv.analysis.proofs.lemmas.base import Form, Sample, evaluate
from fedconv.analysis.proofs.replay.decide import two_limits
from fedconv.analysis.proofs.replay.round_copies import Batch

PartKind = Literal["upper", "equality", "dropped", "sampling"]
"""``upper``: a lemma's slack, ≥ 0. ``equality``: 0 in expectation, its value is the error of the copies. ``dropped``:
E F(u^T, V^T) − F★, ≥ 0. ``sampling``: how the descent expected at the visited states differs from that of the run, of
either sign: 0 in expectation where all rounds are visited, else with what the rounds left out change."""

NEGLIGIBLE = 1e-12
"""Share of the total slack below which a part is rounding and left out."""


@dataclass(frozen=True)
class Part:
    """A step's contribution to bound − measured, in the units of the left-hand side, and limits of its expectation over
    runs, from the replicates (equal where the run is deterministic; ±∞ where the replicates are too few or skewed)."""

    label: str
    words: str
    kind: PartKind
    slack: float
    low: float
    high: float


@dataclass(frozen=True)
class Waterfall:
    """measured + Σ slacks = bound. Averages over ``rounds`` of the run's T rounds and ``replicates``, each state with
    ``copies`` copies of its round (``exact``: with all outcomes)."""

    measured: float
    bound: float
    parts: tuple[Part, ...]
    rounds: int
    T: int
    replicates: int
    copies: int
    exact: bool
    error: float

    @property
    def total(self) -> float:
        """Bound minus measured left-hand side."""
        return self.bound - self.measured

    @property
    def complete(self) -> bool:
        """Whether every round of the run was visited."""
        return self.rounds == self.T

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "parts": [dict(p.__dict__) for p in self.parts], "total": self.total}


def average(every: Iterable[Batch], replicates: int) -> dict[str, np.ndarray]:
    """The mean over rounds, copies and clients of every quantity, ``(replicates,)``. The states come round by round,
    the replicates of a round one after another."""
    total: dict[str, np.ndarray] = {}
    count = 0
    for batch in every:
        means = batch.means()
        where = np.arange(count, count + len(means["X"])) % replicates
        for key, x in means.items():
            np.add.at(total.setdefault(key, np.zeros(replicates)), where, x)
        count += len(where)
    return {key: x * (replicates / count) for key, x in total.items()}


def assemble(
    composition: Composition,
    sample: Sample,
    *,
    eta: float,
    gap0: float,
    T: int,
    final_gap: np.ndarray,
) -> list[tuple[str, str, PartKind, np.ndarray]]:
    """(label, words, kind, slack in every replicate) of the parts; they add up to bound − measured, one by one.

    With R_0 the mean change of F in a round and R_j the expression after step j, bound − measured =
    2ΔF₀/(ηT) + (2/η)R_0 + Σ_j (2/η)(R_j − R_{j−1}). The first two terms are 2(E F^T − F★)/(ηT), ``final_gap`` (one for
    each replicate) being that of the run, and how the descent expected at the visited states differs from the run's.
    """
    scale = 2 / eta

    def of(form: Form) -> np.ndarray:
        return scale * evaluate(form, sample, False)

    out: list[tuple[str, str, PartKind, np.ndarray]] = [
        (s.link.label, s.link.words, s.link.kind, of(s.form)) for s in composition.steps
    ]
    change = of(composition.first)
    final = scale * final_gap / T
    out.append(("F at the end", "E F(u^T,V^T) − F★ dropped", "dropped", final))
    out.append(
        ("sampling", "descent expected at the states against the run's", "sampling", scale * gap0 / T + change - final)
    )
    return out


def summarise(
    parts: Sequence[tuple[str, str, PartKind, np.ndarray]], deterministic: bool, error: float, limited: bool = True
) -> tuple[Part, ...]:
    """Parts with their means and limits; those that are rounding alone are left out. ``limited``: whether limits can be
    read off samples at all."""
    total = sum(abs(float(x.mean())) for *_, x in parts)
    out = []
    for label, words, kind, x in parts:
        if np.abs(x).max() <= NEGLIGIBLE * total:
            continue
        value = float(x.mean())
        low, high = (value, value) if deterministic else two_limits(x, error) if limited else (-math.inf, math.inf)
        out.append(Part(label, words, kind, value, low, high))
    return tuple(out)
