"""What training draws: cohorts, rows and masks of several root seeds side by side, the same for every method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from fedconv.core.streams import Cause, Streams
from fedconv.methods.split.minibatch import Batches, uniform
from fedconv.practice.recipe import Recipe
from fedconv.problems.modules.problem import ModuleProblem

Step = tuple[Tensor | None, Tensor | None]
"""What one local step meets: uniform numbers that choose rows ``(R, k, batch)`` (None: all rows), and the mask of the
hidden units ``(R, k, rows, width)`` (None: no dropout)."""

_FIRST = np.zeros(1, dtype=np.int64)


class Draws:
    """The streams of R root seeds, each by itself: seed s meets what replicate 0 of a run with root seed s meets.

    Cohorts depend on (seed, round, n, m); rows on (seed, round, cause, k, steps, batch), so they are common to all
    methods that take as many steps. Masks have a stream of their own.
    """

    def __init__(self, problem: ModuleProblem, recipe: Recipe, seeds: Sequence[int]) -> None:
        self.problem, self.recipe = problem, recipe
        self._streams = [Streams(seed) for seed in seeds]

    def cohorts(self, t: int) -> np.ndarray:
        """Cohorts of round t, ``(R, m)``."""
        n, m = self.problem.n, self.recipe.m
        return np.concatenate([s.cohorts(_FIRST, t, n, m)[:, :m] for s in self._streams])

    def steps(self, cause: Cause, t: int, k: int, count: int, repeats: int = 1) -> Iterator[Step]:
        """``count`` local steps of k clients in round t, each ``repeats`` times with the same rows and another mask.

        cause: NOISE_U for what the server averages, NOISE_V for what clients keep. t = rounds: after the last round.
        """
        recipe, device = self.recipe, self.problem.device
        rows = None
        if recipe.batch is not None:
            rows = uniform(self._states(cause, t), (k, count, recipe.batch), device)
        masks = self._states(Cause.MASK, 2 * t + int(cause is Cause.NOISE_V))
        length = int(self.problem.rows.sizes.max()) if recipe.batch is None else recipe.batch
        for j in range(count):
            for _ in range(repeats):
                keep = None
                if recipe.dropout > 0:
                    unit = uniform(masks, (k, length, self._width()), device)
                    keep = (unit > recipe.dropout).double() / (1.0 - recipe.dropout)
                yield None if rows is None else rows[:, :, j], keep

    def _width(self) -> int:
        return int(getattr(self.problem.module, "dropout_width"))  # noqa: B009 - modules have attributes of any type

    def _states(self, cause: Cause, t: int) -> np.ndarray:
        return np.concatenate([s.states(cause, _FIRST, t) for s in self._streams])


class Trained(Batches):
    """A problem as clients train on it in one local phase: the j-th gradient in a block is that of its j-th step.

    Each gradient is over the step's rows under the step's mask, with weight_decay·(the block) added. Made for one
    phase.
    """

    def __init__(self, problem: ModuleProblem, weight_decay: float, of_u: Iterator[Step], of_v: Iterator[Step]) -> None:
        self.problem, self.weight_decay = problem, weight_decay
        self.n, self.d_u, self.d_v = problem.n, problem.d_u, problem.d_v
        self._of_u, self._of_v = of_u, of_v

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self._slope("u", u, u, v, clients, next(self._of_u))

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self._slope("v", v, u, v, clients, next(self._of_v))

    def _slope(self, block: str, moved: Tensor, u: Tensor, v: Tensor, clients: Tensor, step: Step) -> Tensor:
        if moved.shape[-1] == 0:
            return moved
        slope = self.problem.slope(block, u, v, clients, *step)
        return slope + self.weight_decay * moved if self.weight_decay else slope
