"""What the falsifier searches: a space of candidates, each a discrete layout with a point of continuous coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

UNMET = -1000.0
"""The guide of a candidate that the theorem says nothing about, less by how far its premises are from met."""


@dataclass(frozen=True)
class Scores:
    """Of candidates ``(N,)``: tightness lhs/rhs (−∞ where the theorem says nothing), the guide that the ascent climbs,
    and the floor: how far above 1 a tightness must lie to be more than rounding."""

    tightness: np.ndarray
    guide: np.ndarray
    floor: np.ndarray


class Space(Protocol):
    """Candidates for one theorem. A layout is any hashable plain data; its points are rows of standard size.

    ``draw`` gives a random layout, ``neighbour`` one that differs in an integer, ``names`` the coordinates of its
    points (shared names carry a point from one layout to another), ``sample`` random points ``(count, D)``,
    ``scores`` their exact tightness, ``file`` the problem file of a candidate and ``describe`` a short line. Layouts of
    one ``stratum`` are alike: the search follows the best of every stratum.
    """

    def draw(self, rng: np.random.Generator) -> Any: ...

    def neighbour(self, layout: Any, rng: np.random.Generator) -> Any: ...

    def names(self, layout: Any) -> tuple[str, ...]: ...

    def sample(self, layout: Any, rng: np.random.Generator, count: int) -> np.ndarray: ...

    def scores(self, layout: Any, points: np.ndarray) -> Scores: ...

    def file(self, layout: Any, point: np.ndarray) -> dict[str, Any]: ...

    def describe(self, layout: Any) -> str: ...

    def stratum(self, layout: Any) -> Any: ...
