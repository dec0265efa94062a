"""The search for a violation: random candidates, then ascents from the best of each kind, fewer and longer by turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedconv.analysis.falsify.spaces.ascent import Ascent
from fedconv.analysis.falsify.spaces.space import UNMET, Scores, Space

LAYOUTS, POINTS = 400, 8
"""Layouts drawn in a pass, and random points of each."""

POPULATION = 16
RUNGS = ((40, 6), (20, 8), (10, 16), (5, 40))
"""(ascents kept, generations of each) one after another."""

FAR = 1.0
"""By how much a guide may lie below the best one for its kind to be followed."""

MARGIN, REFINEMENT = 0.1, 40
"""A violation found is made larger until its tightness exceeds 1 + MARGIN, for at most REFINEMENT generations."""


class Spent(Exception):
    """The budget is used up."""


@dataclass(frozen=True)
class Candidate:
    """A point of a layout of a space."""

    space: Space
    layout: Any
    point: np.ndarray

    def file(self) -> dict[str, Any]:
        return self.space.file(self.layout, self.point)

    def describe(self) -> str:
        return self.space.describe(self.layout)


Confirm = Callable[[Candidate], tuple[bool, float]]
"""Whether the full verdict on a candidate is *violated*, and its measured value over the bound, less 1."""


@dataclass
class Record:
    """What a search has seen: candidates tried, the tightest one, what stays within rounding, the ascent under way.

    ``limit``: the most candidates; ``seconds``: the most time (∞: none). ``tick`` hears of every batch.
    """

    confirm: Confirm
    limit: float
    seconds: float = math.inf
    tick: Callable[[int, float], None] = lambda tried, best: None
    tried: int = 0
    tightness: float = 0.0
    best: Candidate | None = None
    within_floor: int = 0
    largest_excess: float = 0.0
    violation: Candidate | None = None
    ascent: Ascent | None = None
    _started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def take(self, space: Space, layout: Any, points: np.ndarray) -> Scores:
        """Score candidates; a tightness above 1 by more than the floor is put before the full verdict, which decides
        until one is found.

        Raises Spent where the budget was used up before.
        """
        if self.tried >= self.limit or self.elapsed >= self.seconds:
            raise Spent
        scores = space.scores(layout, points)
        self.tried += len(points)
        excess = scores.tightness - 1
        near = (excess > 0) & (excess <= scores.floor)
        self.within_floor += int(near.sum())
        if near.any():
            self.largest_excess = max(self.largest_excess, float(excess[near].max()))
        above = excess > scores.floor
        if above.any() and self.violation is None:
            k = int(np.argmax(np.where(above, scores.tightness, -np.inf)))
            found = Candidate(space, layout, points[k].copy())
            sure, true_excess = self.confirm(found)
            if sure:
                self._better(found, float(scores.tightness[k]))
                self.violation = found
                self.tick(self.tried, self.tightness)
                return scores
            if true_excess > 0:
                self.within_floor += 1
                self.largest_excess = max(self.largest_excess, true_excess)
            kept = ~above
            scores = Scores(
                np.where(kept, scores.tightness, -np.inf), np.where(kept, scores.guide, 2 * UNMET), scores.floor
            )
        k = int(np.argmax(scores.tightness))
        self._better(Candidate(space, layout, points[k].copy()), float(scores.tightness[k]))
        self.tick(self.tried, self.tightness)
        return scores

    def _better(self, candidate: Candidate, tightness: float) -> None:
        if tightness > self.tightness:
            self.best, self.tightness = candidate, tightness


@dataclass
class _Island:
    layout: Any
    ascent: Ascent


def search(space: Space, record: Record, rng: np.random.Generator, share: float = 1.0) -> bool:
    """One pass over a space: whether a violation was found. ``share``: of the usual effort. Raises Spent."""
    pool: list[tuple[float, Any, np.ndarray]] = []
    for _ in range(max(1, round(share * LAYOUTS))):
        layout = space.draw(rng)
        points = space.sample(layout, rng, POINTS)
        scores = record.take(space, layout, points)
        if record.violation is not None:
            return True
        k = int(np.argmax(scores.guide))
        pool.append((float(scores.guide[k]), layout, points[k]))
    ranked = [pool[k] for k in _by_kind([(guide, space.stratum(layout)) for guide, layout, _ in pool])]
    first = max(1, round(share * RUNGS[0][0]))
    islands = []
    for guide, layout, point in ranked[:first]:
        ascent = Ascent(point, 0.5, rng, POPULATION)
        ascent.best = guide
        islands.append(_Island(layout, ascent))
    for kept, generations in RUNGS:
        order = _by_kind([(i.ascent.best, space.stratum(i.layout)) for i in islands])
        islands = [islands[k] for k in order[: max(1, round(share * kept))]]
        for island in islands:
            if _climb(space, record, island.layout, island.ascent, generations):
                return True
            if _step_aside(space, record, island, rng):
                return True
    return False


def refine(record: Record, rng: np.random.Generator) -> None:
    """Climb from the violation found, so that it stays one when its numbers are rounded."""
    found = record.violation
    if found is None or record.tightness > 1 + MARGIN:
        return
    ascent = record.ascent or Ascent(found.point, 0.2, rng, POPULATION)
    for _ in range(REFINEMENT):
        if ascent.stalled(12, 1e-4):
            return
        try:
            ascent.tell(record.take(found.space, found.layout, ascent.ask()).guide)
        except Spent:
            return
        if record.tightness > 1 + MARGIN:
            return


def _climb(space: Space, record: Record, layout: Any, ascent: Ascent, generations: int) -> bool:
    record.ascent = ascent
    for _ in range(generations):
        ascent.tell(record.take(space, layout, ascent.ask()).guide)
        if record.violation is not None:
            return True
        if ascent.stalled(12, 1e-3):
            break
    return False


def _step_aside(space: Space, record: Record, island: _Island, rng: np.random.Generator) -> bool:
    """Try two neighbouring layouts from the island's best point, and move there where they are better."""
    for _ in range(2):
        layout = space.neighbour(island.layout, rng)
        if layout == island.layout:
            continue
        known = dict(zip(space.names(island.layout), island.ascent.best_point, strict=True))
        start = np.array([known.get(name, 0.0) for name in space.names(layout)])
        ascent = Ascent(start, 0.2, rng, POPULATION)
        if _climb(space, record, layout, ascent, 4):
            return True
        if ascent.best > island.ascent.best:
            island.layout, island.ascent = layout, ascent
    return False


def _by_kind(items: list[tuple[float, Any]]) -> list[int]:
    """Numbers of (score, stratum) items: the best of every stratum first, then the second best, and so on; those that
    are far behind the best come last."""
    order = sorted(range(len(items)), key=lambda k: -items[k][0])
    near = [k for k in order if items[k][0] > items[order[0]][0] - FAR]
    queues: dict[Any, list[int]] = {}
    for k in near:
        queues.setdefault(items[k][1], []).append(k)

    def rank(depth: int) -> Iterator[int]:
        yield from sorted((q[depth] for q in queues.values() if len(q) > depth), key=lambda k: -items[k][0])

    return [k for depth in range(max(map(len, queues.values()))) for k in rank(depth)] + order[len(near) :]
