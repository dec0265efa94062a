"""The slow, obvious FFGG: one replicate, one client, one step at a time, in NumPy.

It shares with the fast code the problem's formulas (of these not the envelope's gradient: clients fine-tune and
differentiate), takes cohorts, arrivals and Byzantine rules as plain data, and is what the fast code is checked against.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from fedconv.methods.ffgg.method import FineTuning
from fedconv.methods.split.method import State

if TYPE_CHECKING:
    from fedconv.problems.envelopes.base import EnvelopeProblem

Row = dict[str, float]


class Clients:
    """One client at one point, as NumPy arrays."""

    def __init__(self, problem: EnvelopeProblem) -> None:
        self._problem, self.n = problem, problem.n
        self.everyone = range(problem.n)
        c = problem.envelope_constants
        self.F_star, self.inf_m, self.L_theta = c.F_star.value, np.asarray(c.inf_m), c.L_theta.value

    def _call(self, name: str, i: int, *points: np.ndarray) -> np.ndarray:
        batch = [torch.from_numpy(x)[None] for x in points]
        return getattr(self._problem, name)(*batch, torch.tensor([i]))[0].numpy().copy()

    def theta(self, i: int, w: np.ndarray) -> np.ndarray:
        """θ_i★(w)."""
        return self._call("fine_tune", i, w)

    def slope(self, i: int, w: np.ndarray) -> np.ndarray:
        """∇F_i(w) = ∇_w f_i(w, θ_i★(w))."""
        return self._call("grad_u", i, w, self.theta(i, w))

    def partial(self, i: int, w: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return self._call("grad_u", i, w, theta)

    def inner(self, i: int, w: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return self._call("grad_v", i, w, theta)

    def value(self, i: int, w: np.ndarray) -> float:
        """F_i(w) = f_i(w, θ_i★(w))."""
        return float(self._call("value", i, w, self.theta(i, w)))

    def distance(self, i: int, w: np.ndarray, theta: np.ndarray) -> float:
        return float(self._call("fine_tuning_distance", i, w, theta))

    def gap(self, i: int, w: np.ndarray) -> float:
        return self.value(i, w) - float(self.inf_m[i])

    def F(self, w: np.ndarray) -> float:
        return sum(self.value(i, w) for i in self.everyone) / self.n

    def gradient(self, w: np.ndarray) -> np.ndarray:
        return sum((self.slope(i, w) for i in self.everyone), np.zeros_like(w)) / self.n


def synchronous(
    problem: EnvelopeProblem, start: State, gamma: float, cohorts: Sequence[Sequence[int]], *, tau: int = 1
) -> dict[str, np.ndarray]:
    """Exact fine-tuning, τ local steps, the given cohorts."""
    clients, w, rows = Clients(problem), start.u.numpy().copy(), []
    points = [w]
    for cohort in cohorts:
        paths = [[w] for _ in cohort]
        for _ in range(tau):
            for path, i in zip(paths, cohort, strict=True):
                path.append(path[-1] - gamma * clients.slope(i, path[-1]))
        after = np.mean([path[-1] for path in paths], axis=0)
        gaps = [[clients.gap(i, x) for x in path[:-1]] for path, i in zip(paths, cohort, strict=True)]
        means = [np.mean([path[t] for path in paths], axis=0) for t in range(tau)]
        rows.append(
            {
                "local_gap": float(np.mean(np.sum(gaps, axis=1))),
                "virtual_gap": float(np.mean([clients.F(x) - clients.F_star for x in means])),
                "update_sq": _sq((w - after) / gamma),
            }
        )
        w = after
        points.append(w)
    return _collect(problem, clients, points, rows)


def tuned(
    problem: EnvelopeProblem, start: State, gamma: float, cohorts: Sequence[Sequence[int]], how: FineTuning
) -> dict[str, np.ndarray]:
    """Inexact fine-tuning by gradient steps, the given cohorts."""
    clients, w, rows = Clients(problem), start.u.numpy().copy(), []
    first = start.v.numpy()
    kept, points = first.copy(), [w]
    size = 1.0 / clients.L_theta if clients.L_theta > 0 else 0.0
    for cohort in cohorts:
        after, made = kept.copy(), []
        for i in cohort:
            theta, steps = (kept if how.warm else first)[i], 0
            while (
                steps < how.steps
                if how.steps is not None
                else np.linalg.norm(clients.inner(i, w, theta)) > (how.tolerance or 0.0)
            ):
                theta = theta - size * clients.inner(i, w, theta)
                steps += 1
            after[i] = theta
            made.append(steps)
        kept = after
        update = np.mean([clients.partial(i, w, kept[i]) for i in cohort], axis=0)
        exact = np.mean([clients.slope(i, w) for i in cohort], axis=0)
        rows.append(
            {
                "update_sq": _sq(update),
                "bias_sq": _sq(update - exact),
                "fine_tuning_sq": float(np.mean([clients.distance(i, w, kept[i]) ** 2 for i in cohort])),
                "fine_tuning_grad": float(np.mean([np.linalg.norm(clients.inner(i, w, kept[i])) for i in cohort])),
                "fine_tuning_steps": float(max(made)),
            }
        )
        w = w - gamma * update
        points.append(w)
    return _collect(problem, clients, points, rows)


def asynchronous(
    problem: EnvelopeProblem, start: State, gamma: float, applied: Sequence[tuple[int, int]]
) -> dict[str, np.ndarray]:
    """Update k applies the gradient of ``applied[k]`` = (client, s), computed at w^s."""
    clients, rows = Clients(problem), []
    points = [start.u.numpy().copy()]
    for i, s in applied:
        update = clients.slope(i, points[s])
        rows.append(
            {
                "stale_gap": clients.gap(i, points[s]),
                "issued_gap": clients.F(points[-1]) - clients.F_star,
                "update_sq": _sq(update),
            }
        )
        points.append(points[-1] - gamma * update)
    return _collect(problem, clients, points, rows)


def byzantine(
    honest: EnvelopeProblem, start: State, gamma: float, T: int, aggregate: Callable[[np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
    """``aggregate``: from the honest messages ``(N, d_u)`` to the server's step direction, attackers included."""
    clients, w, rows = Clients(honest), start.u.numpy().copy(), []
    points = [w]
    for _ in range(T):
        messages = np.array([clients.slope(i, w) for i in clients.everyone])
        update, mean = aggregate(messages), messages.mean(0)
        rows.append(
            {
                "update_sq": _sq(update),
                "aggregation_error_sq": _sq(update - mean),
                "spread": float(np.mean([_sq(x - mean) for x in messages])),
                "honest_sq": float(np.mean([_sq(x) for x in messages])),
            }
        )
        w = w - gamma * update
        points.append(w)
    return _collect(honest, clients, points, rows)


def _collect(
    problem: EnvelopeProblem, clients: Clients, points: list[np.ndarray], rows: list[Row]
) -> dict[str, np.ndarray]:
    """What is measured at w^0..w^T and along the steps between, with the rows of the rounds."""
    nearest = problem.nearest_minimiser(torch.from_numpy(points[0]))
    F = np.array([clients.F(w) for w in points])
    out = {
        "F": F,
        "F_gap": F - clients.F_star,
        "grad_sq": np.array([_sq(clients.gradient(w)) for w in points]),
        "w": np.array(points),
        "F_final": F[-1],
        "u_final": points[-1],
    } | {key: np.array([row[key] for row in rows]) for key in rows[0]}
    if nearest is not None:
        out["dist_sq"] = np.array([_sq(w - nearest.numpy()) for w in points])
    L_u, ratios, excesses = problem.envelope_constants.L_block.value, [], []
    for w, after in itertools.pairwise(points):
        moved = after - w
        slopes = [(clients.slope(i, w), clients.slope(i, after)) for i in clients.everyone]
        ratios.append(max(np.linalg.norm(b - a) for a, b in slopes) / np.linalg.norm(moved))
        excesses.append(
            max(
                clients.value(i, after) - clients.value(i, w) - a @ moved - 0.5 * L_u * (moved @ moved)
                for i, (a, _) in enumerate(slopes)
            )
        )
    return out | {"smooth_ratio": np.array(ratios), "descent_excess": np.array(excesses)}


def _sq(x: np.ndarray) -> float:
    return float(x @ x)
