"""Stated against seen error of every kind of confidence limit: verdicts of bounds beside a known mean, again and again.

A bound at 0.999 of the mean is false, one at 1.001 true. Each sequence of samples is looked at as in
``fedconv.analysis.verdicts.verify``, at 64, 128, … replicates until it is decided, so that looks count. Many sequences
are decided at once by the library's own formulas; some of them also one by one by its ``decide(limits(…))``, which must
agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from fedconv.analysis.verdicts.limits import BOLD, EQUAL, log_wealth, student_lower, student_upper
from fedconv.analysis.verdicts.statement_verify import FIRST_LOOK
from fedconv.analysis.verdicts.tails import replicates_for_skewness
from fedconv.analysis.verdicts.verdict import decide, limits
from soundness.laws import LAWS, Law

FALSE, TRUE = 0.999, 1.001
"""The bounds, as multiples of the mean."""

CONFIDENCE = 1 - 1e-4
"""Of the interval that is printed for a seen error: so many are read that a few of 0.95 would miss."""

CHUNK = 2_000_000
"""Samples drawn at once."""

PLAN: tuple[tuple[float, int, int], ...] = ((0.05, 4096, 2000), (1e-3, 4096, 6000), (1e-4, 256, 60000))
"""Stated error, most replicates of a sequence, sequences: short ones where many are needed."""


@dataclass(frozen=True)
class Seen:
    """``false`` of ``count`` sequences ended in a false verdict by this kind of limit."""

    kind: str
    law: str
    error: float
    false: int
    count: int
    proved: bool

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's, for the probability of a false verdict."""
        k, n, tail = self.false, self.count, (1 - CONFIDENCE) / 2
        low = 0.0 if k == 0 else float(beta.ppf(tail, k, n - k + 1))
        high = 1.0 if k == n else float(beta.ppf(1 - tail, k + 1, n - k))
        return low, high

    @property
    def exceeds(self) -> bool:
        return self.interval[0] > self.error

    @property
    def fails(self) -> bool:
        return self.proved and self.exceeds


def looks(most: int) -> np.ndarray:
    """The sizes at which a sequence is looked at."""
    sizes = [min(FIRST_LOOK, most)]
    while sizes[-1] < most:
        sizes.append(min(2 * sizes[-1], most))
    return np.array(sizes)


def crossings(samples: np.ndarray, law: Law, error: float, most: int) -> dict[str, np.ndarray]:
    """By kind of limit, at each look of each sequence ``(S, looks)``: whether it decides wrongly."""
    at = looks(most)
    out: dict[str, np.ndarray] = {}
    false, true = FALSE * law.mean, TRUE * law.mean
    target = math.log(1.0 / error)
    if law.low > -math.inf and true > law.low:
        wealth = log_wealth(samples - law.low, true - law.low, EQUAL, at)
        out["betting, lower"] = wealth >= target
    if law.high < math.inf and false < law.high:
        wealth = log_wealth(law.high - samples, law.high - false, BOLD, at)
        out["betting, upper"] = wealth >= target
    upper, lower = (np.zeros((len(samples), len(at)), dtype=bool) for _ in range(2))
    for k, size in enumerate(at):
        part = samples[:, :size]
        enough = replicates_for_skewness(part) <= size
        upper[:, k] = enough & (student_upper(part, error / len(at)) <= false)
        if not law.nonnegative:
            lower[:, k] = enough & (student_lower(part, error / len(at)) > true)
    out["Student, upper"] = upper
    if not law.nonnegative:
        out["Student, lower"] = lower
    return out


PROVED = {"betting, lower": True, "betting, upper": True, "Student, upper": False, "Student, lower": False}


def agree(samples: np.ndarray, law: Law, error: float, most: int, found: dict[str, np.ndarray]) -> None:
    """Each sequence by the library's ``decide``: its verdict of either bound is wrong where some kind of limit is."""
    at = looks(most)
    span = (law.low, law.high)
    for row, sample in enumerate(samples):
        for k, size in enumerate(at):
            options = {"deterministic": False, "nonnegative": law.nonnegative, "span": span}
            limited = limits(sample[:size], error, len(at), **options)
            for status, bound, side in (("holds", FALSE, "upper"), ("violated", TRUE, "lower")):
                decision = decide(limited, bound * law.mean, 0.0)
                by = {kind: bool(f[row, k]) for kind, f in found.items() if kind.endswith(side)}
                said = (law.name, error, size, decision, by)
                assert (decision.status == status) == any(by.values()), said
                if decision.status == status:
                    assert decision.approximate != any(hit for kind, hit in by.items() if PROVED[kind]), said


def measure(law: Law, error: float, most: int, count: int, seed: int, checked: int = 8) -> Iterator[Seen]:
    """False verdicts of ``count`` sequences by each kind of limit. ``checked``: of them also one by one."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, *law.name.encode(), round(1 / error)]))
    totals: dict[str, int] = {}
    done = 0
    while done < count:
        size = min(max(1, CHUNK // most), count - done)
        samples = law.draw(rng, (size, most))
        found = crossings(samples, law, error, most)
        if done == 0:
            few = slice(0, checked)
            agree(samples[few], law, error, most, {kind: x[few] for kind, x in found.items()})
        for kind, wrong in found.items():
            totals[kind] = totals.get(kind, 0) + int(wrong.any(axis=1).sum())
        done += size
    for kind, false in totals.items():
        yield Seen(kind, law.name, error, false, done, PROVED[kind])


def table(seen: list[Seen]) -> str:
    """One line each, a star where the seen error exceeds the stated one."""
    lines = [f"{'limit':16}{'':13}{'samples':28}{'stated':>8}{'seen':>10}{'interval':>22}"]
    for one in sorted(seen, key=lambda s: (not s.proved, s.kind, -s.error)):
        low, high = one.interval
        word = "proved" if one.proved else "approximate"
        mark = "  FAILS" if one.fails else "  *" if one.exceeds else ""
        between = f"[{low:.2g}, {high:.2g}]"
        rate = one.false / one.count
        lines.append(f"{one.kind:16}{word:13}{one.law:28}{one.error:>8g}{rate:>10.2g}{between:>22}{mark}")
    return "\n".join(lines)


def report(share: float = 1.0, seed: int = 0) -> bool:
    """Measure everything, print the table, and say whether no proved limit fails."""
    seen = [
        one
        for law in LAWS
        for error, most, count in PLAN
        for one in measure(law, error, most, max(1, round(share * count)), seed)
    ]
    print(table(seen))
    failing = [one for one in seen if one.fails]
    above = sum(one.exceeds for one in seen if not one.proved)
    print(f"\nError of a verdict of a bound at {FALSE} or {TRUE} of the mean; intervals of confidence {CONFIDENCE:g}.")
    print(f"{sum(s.proved for s in seen)} proved limits, {len(failing)} above their stated error.", end=" ")
    print(f"{sum(not s.proved for s in seen)} called approximate, {above} above it (*).")
    return not failing
