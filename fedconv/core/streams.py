"""Streams of randomness: one root seed, one stream per cause, replicate and round.

A stream's state is a hash of (root seed, cause, replicate, round), so results do not depend on which
replicates are computed together, by how many workers, in which order, or on what is measured.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from fedconv.problems.compiled.jit import njit
from fedconv.problems.compiled.xoshiro import below, seed_state
from fedconv.problems.errors import InputError


class Cause(IntEnum):
    """Why a number is drawn. Streams of different causes never touch."""

    COHORT = 0
    NOISE_U = 1
    NOISE_V = 2
    ABSENT_NOISE_U = 3
    ABSENT_NOISE_V = 4
    ARRIVALS = 5
    ATTACK = 6
    COPY_COHORT = 7
    COPY_NOISE_U = 8
    COPY_NOISE_V = 9
    MASK = 10
    EXPLORE = 11
    PRIVACY = 12
    PRIVACY_LOSS = 13
    TIES = 14


class Streams:
    """All streams of one root seed (an integer ≥ 0)."""

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise InputError(f"seed must be an integer >= 0; got {seed}")
        self.seed = seed
        self.keys = np.stack(
            [np.random.SeedSequence(seed, spawn_key=(cause,)).generate_state(2, np.uint64) for cause in Cause]
        )

    def states(self, cause: Cause, replicates: np.ndarray, t: int) -> np.ndarray:
        """Generator states ``(R, 4)`` for the given replicates in round t."""
        out = np.empty((len(replicates), 4), dtype=np.uint64)
        _states(self.keys[cause], replicates, t, out)
        return out

    def cohorts(self, replicates: np.ndarray, t: int, n: int, m: int, cause: Cause = Cause.COHORT) -> np.ndarray:
        """Cohorts and the absent of round t: ``(R, n)``, the first m columns sampled uniformly without
        replacement, the rest absent, each part in ascending order."""
        states = self.states(cause, replicates, t)
        out = np.empty((len(replicates), n), dtype=np.int64)
        _cohorts(states, m, out, np.empty(n, dtype=np.bool_))
        return out


@njit()
def _states(key, replicates, t, out):
    for r in range(replicates.size):
        seed_state(key, replicates[r], t, out[r])


@njit()
def _cohorts(states, m, out, scratch):
    for r in range(out.shape[0]):
        sample_cohort(states[r], m, out[r], scratch)


@njit()
def sample_cohort(state, m, out, sampled):
    """Fill ``out (n,)``: m clients without replacement, then the absent; both ascending.
    ``sampled (n,)`` becomes True for the cohort and False elsewhere. Partial Fisher-Yates."""
    n = out.size
    for i in range(n):
        out[i] = i
        sampled[i] = m == n
    if m == n:
        return
    for i in range(m):
        j = i + below(state, n - i)
        out[i], out[j] = out[j], out[i]
        sampled[out[i]] = True
    present, absent = 0, m
    for i in range(n):
        if sampled[i]:
            out[present] = i
            present += 1
        else:
            out[absent] = i
            absent += 1
