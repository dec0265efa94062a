"""Search for the inputs on which a robust aggregator errs most: max ‖Agg − x̄_S‖² / (κV + β‖x̄_S‖²).

Theorem 7A of the theory page says that the ratio is at most 1. Honest messages and attackers are searched together,
by many climbs side by side from clustered and random starts: a move that raises the ratio is kept. Expectations over
bucketing are exact, by all groupings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from fedconv.methods.ffgg.robust.aggregators import (
    CentredClipping,
    GeometricMedian,
    Krum,
    KrumWithoutItself,
    Median,
    MultiKrum,
    TrimmedMean,
)
from fedconv.methods.ffgg.robust.preaggregation import Bucketing, Defence, NearestNeighbourMixing
from fedconv.methods.ffgg.robust.robustness import Robustness, robustness_of
from fedconv.problems.errors import InputError

ROUNDING = 1e-11
"""Where V is below this share of the honest mean square, rounding may change it by 1e-9: the ratio counts as 0."""

LARGEST_BUCKETED = 10
"""Bucketing is searched up to this number of messages: the groupings are all tried."""


@dataclass(frozen=True)
class Case:
    """What is searched: a defence, n messages of which f are the attackers', in d dimensions."""

    key: str
    defence: Defence
    n: int
    f: int
    d: int


CASES = (
    Case("trimmed_mean", Defence(TrimmedMean()), 7, 2, 1),
    Case("trimmed_mean, trim 3", Defence(TrimmedMean(3)), 8, 2, 2),
    Case("median", Defence(Median()), 7, 2, 1),
    Case("median, even n", Defence(Median()), 6, 1, 2),
    Case("geometric_median", Defence(GeometricMedian()), 6, 2, 2),
    Case("geometric_median, odd n", Defence(GeometricMedian()), 7, 2, 2),
    Case("krum", Defence(Krum()), 6, 2, 1),
    Case("krum, many honest", Defence(Krum()), 9, 2, 2),
    Case("krum_without_itself", Defence(KrumWithoutItself()), 7, 2, 2),
    Case("multi_krum", Defence(MultiKrum()), 5, 2, 2),
    Case("multi_krum, keep 2", Defence(MultiKrum(2)), 7, 2, 2),
    Case("centred_clipping", Defence(CentredClipping()), 7, 2, 2),
    Case("nnm + trimmed_mean", Defence(TrimmedMean(), NearestNeighbourMixing()), 7, 3, 2),
    Case("nnm + krum", Defence(Krum(), NearestNeighbourMixing()), 7, 2, 2),
    Case("bucketing + trimmed_mean", Defence(TrimmedMean(), Bucketing(2)), 6, 1, 1),
    Case("bucketing, a short last group, + trimmed_mean", Defence(TrimmedMean(), Bucketing(2, short=True)), 7, 1, 1),
    Case("bucketing, a short last group, + krum", Defence(Krum(), Bucketing(3, short=True)), 7, 1, 2),
    Case("bucketing + geometric_median", Defence(GeometricMedian(), Bucketing(2)), 6, 1, 2),
)
"""One small case for every rule of the page's table, and a second where the rule has two regimes."""


@dataclass(frozen=True)
class Found:
    """The largest ratio found, with the messages ``(n, d)`` (the last f the attackers') that reach it."""

    case: Case
    robustness: Robustness
    ratio: float
    x: np.ndarray


def search(
    case: Case, claimed: Robustness | None = None, *, restarts: int = 64, steps: int = 400, seed: int = 0
) -> Found:
    """The largest ‖Agg − x̄_S‖²/(κV + β‖x̄_S‖²) that ``restarts`` climbs of ``steps`` moves find.

    ``claimed``: other κ and β than the page's. Raises InputError where κ is infinite, and for bucketing of too many.
    """
    bound = robustness_of(case.defence, case.n, case.f) if claimed is None else claimed
    if not np.isfinite(bound.kappa):
        raise InputError(f"a finite κ is needed to search for a ratio; {bound.reason}")
    rng = np.random.default_rng(seed)
    orders = _orders(case)
    x = _starts(rng, case, restarts)
    ratio = ratios(case, bound, x, orders)
    width = np.full(restarts, 0.5)
    for _ in range(steps):
        moved = _moved(rng, x, width, case.n - case.f)
        new = ratios(case, bound, moved, orders)
        better = new > ratio
        x[better], ratio[better] = moved[better], new[better]
        width = np.clip(np.where(better, 1.6 * width, 0.92 * width), 1e-9, 4.0)
        width = np.where(width <= 1e-8, 10 ** rng.uniform(-6, 0, restarts), width)
    k = int(ratio.argmax())
    return Found(case, bound, float(ratio[k]), x[k])


def ratios(case: Case, bound: Robustness, x: np.ndarray, orders: Tensor | None = None) -> np.ndarray:
    """‖Agg − x̄_S‖²/(κV + β‖x̄_S‖²) of inputs x ``(R, n, d)``: ``(R,)``.

    ``orders (K, n)``: the permutations over which a randomised defence is averaged.
    """
    messages = torch.from_numpy(x)
    honest = messages[:, : case.n - case.f]
    mean = honest.mean(1)
    spread = (honest - mean[:, None]).square().sum(-1).mean(1)
    if orders is None:
        error = (case.defence(messages, case.f) - mean).square().sum(-1)
    else:
        answers = case.defence(messages.unsqueeze(1), case.f, orders.unsqueeze(0))
        error = (answers - mean.unsqueeze(1)).square().sum(-1).mean(1)
    right = bound.kappa * spread + bound.beta * mean.square().sum(-1)
    resolved = spread > ROUNDING * honest.square().sum(-1).mean(1)
    return torch.where(resolved, error / torch.where(resolved, right, 1), 0.0).numpy()


def groupings(n: int, size: int) -> Iterator[list[int]]:
    """Every way to split 0..n−1 into groups of ``size``, the last of fewer where size does not divide n, once each, as
    a permutation."""

    def split(rest: tuple[int, ...]) -> Iterator[list[int]]:
        if not rest:
            yield []
            return
        for others in combinations(rest[1:], size - 1):
            group = [rest[0], *others]
            for after in split(tuple(i for i in rest if i not in group)):
                yield group + after

    if n % size == 0:
        yield from split(tuple(range(n)))
        return
    for short in combinations(range(n), n % size):
        for others in split(tuple(i for i in range(n) if i not in short)):
            yield others + list(short)


def _orders(case: Case) -> Tensor | None:
    if not isinstance(case.defence.pre, Bucketing):
        return None
    if case.n > LARGEST_BUCKETED:
        raise InputError(f"bucketing is searched for at most {LARGEST_BUCKETED} messages; got n = {case.n}")
    return torch.tensor(list(groupings(case.n, case.defence.pre.size)))


def _starts(rng: np.random.Generator, case: Case, restarts: int) -> np.ndarray:
    """Inputs ``(restarts, n, d)``: two or three clusters, clusters with far attackers, and Gaussian clouds."""
    n, d, N = case.n, case.d, case.n - case.f
    x = rng.integers(0, 2, (restarts, n, 1)) * np.eye(d)[0] + 0.0
    kind = np.arange(restarts) % 4
    x[kind == 1, N:] = rng.choice([-1.0, 1.0], (int((kind == 1).sum()), 1, 1)) * 1e3 * np.eye(d)[0]
    x[kind == 2] += rng.integers(-1, 2, (int((kind == 2).sum()), n, d))
    x[kind == 3] = rng.standard_normal((int((kind == 3).sum()), n, d))
    return x + 1e-3 * rng.standard_normal(x.shape)


def _moved(rng: np.random.Generator, x: np.ndarray, width: np.ndarray, N: int) -> np.ndarray:
    """One move of every input: some entries shifted, a message copied onto another, or all attackers together."""
    R, n, d = x.shape
    rows = np.arange(R)
    out = x + width[:, None, None] * rng.standard_normal(x.shape) * (rng.random((R, n, 1)) < rng.random((R, 1, 1)))
    kind = rng.random(R)
    copied = kind < 0.15
    source, target = rng.integers(0, n, R), rng.integers(0, n, R)
    near = 1 - np.minimum(width, 1)[:, None]  # all the way as the width shrinks
    pulled = x[rows, target] + near * (x[rows, source] - x[rows, target])
    out[copied] = x[copied]
    out[rows[copied], target[copied]] = pulled[copied]
    together = (kind >= 0.15) & (kind < 0.3) & (n > N)
    out[together, N:] = x[together, N:] + (width[:, None, None] * rng.standard_normal((R, 1, d)))[together]
    return out
