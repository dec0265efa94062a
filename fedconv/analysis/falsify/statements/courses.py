"""Streams that draw every equally likely course of a short run once, so that means over replicates are expectations.

A uniform cohort of m of n clients is one of C(n, m), a Rademacher number one of two. Replicate r of T rounds is the
course whose digits r has: in every round a cohort, and a sign for every number drawn.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations

import numpy as np

from fedconv.core.streams import Cause, Streams
from fedconv.problems.noise import fill

MOST = 512
"""Courses up to which all are drawn."""

RADEMACHER = 2
"""The number of that law in ``fedconv.problems.noise``."""


class Paths(Streams):
    """Streams of a run with cohorts of m of n clients in which a round draws ``signs[cause]`` signs."""

    def __init__(self, n: int, m: int, signs: dict[Cause, int]) -> None:
        super().__init__(0)
        chosen = [list(c) for c in combinations(range(n), m)]
        self.orders = np.array([[*c, *(i for i in range(n) if i not in c)] for c in chosen], dtype=np.int64)
        self.signs = {cause: count for cause, count in signs.items() if count}

    @property
    def each(self) -> int:
        """Equally likely outcomes of a round."""
        return len(self.orders) * 2 ** sum(self.signs.values())

    def _digit(self, replicates: np.ndarray, t: int) -> np.ndarray:
        return replicates // self.each**t % self.each

    def cohorts(self, replicates: np.ndarray, t: int, n: int, m: int, cause: Cause = Cause.COHORT) -> np.ndarray:
        return self.orders[self._digit(replicates, t) % len(self.orders)]

    def states(self, cause: Cause, replicates: np.ndarray, t: int) -> np.ndarray:
        if cause not in self.signs:
            return super().states(cause, replicates, t)
        left = self._digit(replicates, t) // len(self.orders)
        for before, count in self.signs.items():
            if before == cause:
                break
            left = left // 2**count
        return states_of_signs(self.signs[cause])[left % 2 ** self.signs[cause]]


@cache
def states_of_signs(count: int) -> np.ndarray:
    """Generator states ``(2^count, 4)``: from state p the k-th Rademacher number drawn is 1 where bit k of p is set."""
    found: dict[int, np.ndarray] = {}
    first, streams, size = 0, Streams(0), 32 << count
    while len(found) < 2**count:
        states = streams.states(Cause.COHORT, np.arange(first, first + size), 0)
        drawn = np.zeros((size, count))
        fill(RADEMACHER, 0.0, states.copy(), drawn)
        patterns = ((drawn > 0) << np.arange(count)).sum(axis=1)
        for pattern, place in zip(*np.unique(patterns, return_index=True), strict=True):
            found.setdefault(int(pattern), states[place])
        first += size
    return np.stack([found[p] for p in range(2**count)])


def courses(T: int, n: int, m: int, signs: dict[Cause, int]) -> tuple[Paths, int] | None:
    """Streams over all courses of T rounds, and how many there are; None where they are more than MOST."""
    size = T * (math.log2(math.comb(n, m)) + sum(signs.values()))
    if size > math.log2(MOST) + 1e-9:
        return None
    paths = Paths(n, m, signs)
    return paths, paths.each**T
