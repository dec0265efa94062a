"""Robust aggregation: where the constants of the rules are attained, a search against them, and simple cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fedconv.analysis.claims.aggregator_search import CASES, Case, ratios, search
from fedconv.analysis.claims.claim import Budget, Evidence
from fedconv.methods.ffgg.robust.aggregators import GeometricMedian, Mean, Median, TrimmedMean
from fedconv.methods.ffgg.robust.attacks import SignFlip
from fedconv.methods.ffgg.robust.preaggregation import Defence
from fedconv.methods.ffgg.robust.robustness import Robustness, kappa_of, least_kappa, robustness_of
from fedconv.paper_checks.shared.building import compared
from fedconv.paper_checks.shared.comparisons import at_most, equal, none_fails

PAPER = "mishchenko2023"
PAGE = "theory page, {}, derived here"


def _line(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def robust_equalities(budget: Budget) -> tuple[Evidence, ...]:
    """κ is attained: trimmed mean and median on a line, geometric median by an end of the segment of minimisers."""
    out = []
    for rule, x, f in (
        (TrimmedMean(), _line(0, 0, 1, 1, 1, 9, 9), 2),
        (TrimmedMean(3), _line(0, 0, 0, 1, 1, 1, 9, 9), 2),
        (Median(), _line(0, 0, 0, 1, 1, 9, 9), 2),
        (Median(), _line(0, 0, 1, 1, 1, 9), 1),
    ):
        case = Case("", Defence(rule), len(x), f, 1)
        bound = robustness_of(case.defence, case.n, f)
        name = f"{rule.name}, {len(x)} messages, {f} attackers: error over kappa V"
        out.append(equal(name, ratios(case, bound, x[None])[0], 1.0, 1e-9))
    f, n = 2, 8
    mean = (4 - f) / (n - f)
    worse = (1 - mean) ** 2 / (mean * (1 - mean))
    name = "geometric median of 4 and 4 points on a line, the worse minimiser"
    out.append(equal(name, worse, kappa_of(GeometricMedian(), n, f).kappa, 1e-12))
    return tuple(out)


def robust_search(budget: Budget) -> tuple[Evidence, ...]:
    """No messages found that break κ, over every rule of the table and both regimes."""
    quick = budget.size == "quick"
    out = []
    for case in CASES:
        slow = isinstance(case.defence.aggregator, GeometricMedian)
        restarts, steps = (8, 10 if slow else 60) if quick else (64, 100 if slow else 1000)
        found = search(case, restarts=restarts, steps=steps)
        out.append(
            at_most(
                f"{case.key}, {case.n} messages, {case.f} attackers: largest error over kappa V found", found.ratio, 1.0
            )
        )
    return tuple(out)


def robust_lower_bound(budget: Budget) -> tuple[Evidence, ...]:
    """f ones and n−f zeros: a rule that answers 0 errs by κ ≥ f/(n−2f) in the other world; trimming f attains it."""
    out = []
    for n, f in ((5, 1), (5, 2), (7, 3), (9, 4)):
        case = Case("", Defence(TrimmedMean()), n, f, 1)
        other = _line(*[1.0] * f, *[0.0] * (n - f))[None]
        out.append(equal(f"n = {n}, f = {f}: error over V in the other world", ratios(case, Robustness(1.0), other)[0],
                         f / (n - 2 * f), 1e-12))  # fmt: skip
        out.append(
            equal(
                f"n = {n}, f = {f}: kappa of trimming f", kappa_of(TrimmedMean(), n, f).kappa, least_kappa(n, f), 1e-12
            )
        )
    return tuple(out)


def no_attackers(budget: Budget) -> tuple[Evidence, ...]:
    """f = 0: trimming nothing is the mean, κ = 0, and 7B(b) is 3(c) at γ ≤ 1/L."""
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(4, 6, 3)))
    return (
        equal("trimmed mean of nobody and mean", TrimmedMean()(x, 0).numpy(), x.mean(1).numpy(), 1e-14),
        equal(
            "kappa of the trimmed mean and of the mean",
            [kappa_of(TrimmedMean(), 6, 0).kappa, kappa_of(Mean(), 6, 0).kappa],
            0.0,
        ),
    )


def sign_flip_threshold(budget: Budget) -> tuple[Evidence, ...]:
    """Attackers that send −s times the honest mean reverse the plain mean once s > N/f."""
    x = torch.from_numpy(np.random.default_rng(4).normal(size=(50, 7, 3)))
    wrong = []
    for strength, sign in ((0.9, 1), (1.1, -1)):
        sent = SignFlip(strength * 7 / 3)(x, 3)
        mean = Mean()(torch.cat([x, sent], dim=1), 3)
        if not bool(((mean * x.mean(1)).sum(-1) * sign > 0).all()):
            wrong.append(f"s = {strength} N/f")
    return (none_fails("sign of the mean along the honest mean", wrong, 2, "strengths do as they should"),)


def _case(name: str, title: str, statement: str, where: str, *checks: Any, theorems: tuple[str, ...] = (),
          kind: Any = "reduction") -> Any:  # fmt: skip
    return compared(f"{PAPER}/{name}", title, statement, PAGE.format(where), *checks, theorems=theorems, kind=kind)


CLAIMS = (
    _case("kappa-attained", "The constants of trimmed mean, median and geometric median are attained",
          "$\\kappa=\\frac b{n-f-b}$ for the trimmed mean and the median and $\\frac nu$ for the geometric median on"
          " a line"
          " are reached by some messages.", "Theorem 7A", robust_equalities, theorems=("FFGG-7A",)),
    _case("kappa-search", "No messages break the constants of robust rules",
          "For every rule of the table an adversarial search over all messages stays below $\\kappa V$.", "Theorem 7A",
          robust_search, theorems=("FFGG-7A",)),
    _case("kappa-lower", "No rule is better than trimming",
          "No aggregator has $\\kappa<\\frac f{n-2f}$, and trimming $f$ on each side attains it.", "Theorem 7A",
          robust_lower_bound, theorems=("FFGG-7A",)),
    _case("no-attackers", "Without attackers: the mean",
          "With $f=0$ the trimmed mean is the mean, $\\kappa=0$, and 7B(b) is 3(c).", "Theorem 7B,"
          " sanity", no_attackers,
          theorems=("FFGG-7Bb",)),
    _case("sign-flip", "When flipped signs break the plain mean",
          "Attackers that send $-s\\bar g_S$ reverse the mean once $s>N/f$.", "Theorem 7B,"
          " attacks", sign_flip_threshold,
          kind="implementation"),
)  # fmt: skip
