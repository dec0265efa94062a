"""The states that a run visits: the same cohorts, noise and steps as any run of the experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from fedconv.analysis.proofs.replay.round_copies import Visited
from fedconv.core.run import single_torch_thread
from fedconv.core.streams import Streams
from fedconv.methods.split import State
from fedconv.methods.split.torch_engine import draw_noise
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    from fedconv.core.run import Experiment


def evenly(T: int, count: int) -> np.ndarray:
    """``count`` different rounds of 0..T−1, evenly spaced from 0; all of them where count ≥ T."""
    return np.arange(min(count, T)) * T // min(count, T)


def visit(
    experiment: Experiment,
    rounds: Sequence[int] | np.ndarray,
    replicates: int,
    tick: Callable[[], None] | None = None,
) -> tuple[list[Visited], np.ndarray]:
    """States at the start of the given rounds, round by round, and F(u^T, V^T) ``(replicates,)``.

    ``tick`` is called after each round. Raises InputError where the run diverges: there is no proof to replay.
    """
    problem, algorithm = experiment.problem, experiment.algorithm
    streams, numbers = Streams(experiment.seed), np.arange(replicates)
    wanted = {int(t) for t in rounds}
    start = experiment.start
    state = State(start.u.expand(replicates, -1), start.v.expand(replicates, -1, -1))
    found: list[Visited] = []
    with single_torch_thread(), np.errstate(all="ignore"):
        for t in range(experiment.T):
            if t in wanted:
                u, v = state.u.numpy(), state.v.numpy()
                if not (np.isfinite(u).all() and np.isfinite(v).all()):
                    raise InputError(
                        f"{experiment.name}: the run diverges before round {t}; there is no proof to replay"
                    )
                found += [Visited(r, t, u[r].copy(), v[r].copy()) for r in range(replicates)]
            order = streams.cohorts(numbers, t, problem.n, algorithm.m)
            cohort = torch.from_numpy(order[:, : algorithm.m])
            drawn = draw_noise(problem, algorithm, experiment.noise, streams, numbers, t, algorithm.m, absent=False)
            state = algorithm.step(problem, state, cohort, drawn)
            if tick is not None:
                tick()
        final = problem.objective(state.u, state.v).numpy()
    if not np.isfinite(final).all():
        raise InputError(f"{experiment.name}: the run diverges: no proof to replay")
    return found, final
