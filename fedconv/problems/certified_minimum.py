"""Certified minima on an interval, by bisection and lower bounds that hold whatever the function's kinks.

No derivative and no Lipschitz constant is used. A function c with c − (μ/2)x² concave (*semiconcave*) lies above its
chord lowered by (μ/2)(x − l)(r − x); a concave one lies above its chords. Either gives the least value on an interval
[l, r] a lower bound in closed form, O((r − l)²) below the truth, and kinks of a concave function point upwards,
so that no minimum hides in one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]
"""A function of one variable at many points: ``(N,)`` to ``(N,)``."""

Bound = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(l, r, f(l), f(r)) to a lower bound of f on each interval [l, r] and a point of it worth trying."""

PIECES = 64
ROUNDS = 44
MOST_OPEN = 1 << 17


@dataclass(frozen=True)
class Enclosure:
    """``lower ≤ min f ≤ upper`` up to the rounding of f, and the point ``x`` where f takes the value ``upper``."""

    lower: float
    upper: float
    x: float

    @property
    def width(self) -> float:
        return self.upper - self.lower


def minimise(f: Function, bound: Bound, low: float, high: float, tolerance: float) -> Enclosure:
    """Enclose the minimum of f on [low, high] to ``tolerance``.

    Branch and bound: pieces whose lower bound comes within ``tolerance`` of the best value found are settled, the
    others are halved. It ends when all are settled, or after 44 halvings or with more than 131072 open pieces (a
    function that is flat beyond rounding): then the enclosure is as honest, but wider than the tolerance.
    """
    edges = np.linspace(low, high, PIECES + 1)
    left, right = edges[:-1], edges[1:]
    values = f(edges)
    at_left, at_right = values[:-1], values[1:]
    best, x = float(values.min()), float(edges[values.argmin()])
    settled = best
    for step in range(ROUNDS + 1):
        least, point = bound(left, right, at_left, at_right)
        values = f(point)
        if values.min() < best:
            best, x = float(values.min()), float(point[values.argmin()])
        keep = least < best - tolerance
        settled = min(settled, float(least[~keep].min(initial=np.inf)))
        if not keep.any():
            break
        if step == ROUNDS or 2 * keep.sum() > MOST_OPEN:
            settled = min(settled, float(least.min()))
            break
        left, right, at_left, at_right = (z[keep] for z in (left, right, at_left, at_right))
        middle = 0.5 * (left + right)
        values = f(middle)
        if values.min() < best:
            best, x = float(values.min()), float(middle[values.argmin()])
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
        at_left, at_right = np.concatenate([at_left, values]), np.concatenate([values, at_right])
    return Enclosure(min(settled, best), best, x)


def minimise_semiconcave(f: Function, mu: float, low: float, high: float, tolerance: float) -> Enclosure:
    """Enclose the minimum on [low, high] of f where f − (μ/2)x² is concave, μ ≥ 0.

    On [l, r] with the chord's slope m: f(x) ≥ f(l) + m(x − l) − (μ/2)(x − l)(r − x), least at (l + r)/2 − m/μ.
    """

    def bound(l: np.ndarray, r: np.ndarray, at_l: np.ndarray, at_r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slope = (at_r - at_l) / (r - l)
        x = np.clip(0.5 * (l + r) - slope / mu, l, r) if mu > 0 else np.where(slope > 0, l, r)
        return at_l + slope * (x - l) - 0.5 * mu * (x - l) * (r - x), x

    return minimise(f, bound, low, high, tolerance)


def minimise_arc(a: float, concave: Function, tolerance: float) -> Enclosure:
    """Enclose the minimum over x ∈ [−1, 1] of a(1 − √(1−x²)) + concave(x), a ≥ 0: with x = sin u, that of
    a(1 − cos u) plus a concave function of sin u.

    On [l, r] with the slope m of the concave part's chord the sum is at least a(1 − √(1−x²)) plus the chord, a
    convex function that is least at −m/√(a²+m²).
    """

    def arc(x: np.ndarray) -> np.ndarray:
        return a * x * x / (1.0 + np.sqrt((1.0 - x) * (1.0 + x)))

    def bound(l: np.ndarray, r: np.ndarray, at_l: np.ndarray, at_r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        start = at_l - arc(l)
        slope = (at_r - arc(r) - start) / (r - l)
        size = np.hypot(a, slope)
        x = np.clip(np.divide(-slope, size, out=np.zeros_like(slope), where=size > 0), l, r)
        return arc(x) + start + slope * (x - l), x

    return minimise(lambda x: arc(x) + concave(x), bound, -1.0, 1.0, tolerance)
