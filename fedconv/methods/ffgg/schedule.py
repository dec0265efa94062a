"""Event-driven arrivals in virtual time: which gradient, asked for when, an asynchronous server applies.

A schedule does not depend on the numerics, so it is computed ahead of them, exactly and replicate by replicate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedconv.core.streams import Cause, Streams
from fedconv.methods.ffgg.arrivals import Asynchrony
from fedconv.problems.compiled.jit import njit
from fedconv.problems.compiled.xoshiro import below, uniform

_CODES = {"constant": 0, "uniform": 1, "heavy_tailed": 2, "adversarial": 3}
_ASSIGNMENTS = {"random": 0, "cyclic": 1, "per_client": 2}
_CLIENTS, _DURATIONS = 0, 1
"""Within the stream of arrivals: who works on job j, and how long. One draw a job, in the order of the jobs."""


@dataclass(frozen=True)
class Schedule:
    """Update k of replicate r applies ``job``, that of ``client`` asked for at w^{issued_at}; all ``(R, T)``.

    Jobs are numbered in the order in which they start: the first C = ``jobs`` at w^0, then one at each w^s, s ≥ 1,
    so that job j starts at s = max(0, j − C + 1). ``time``: when the update happens (0 throughout for adversarial
    arrivals, which know an order only).
    """

    client: np.ndarray
    issued_at: np.ndarray
    job: np.ndarray
    time: np.ndarray

    @property
    def delay(self) -> np.ndarray:
        """d_k = k − issued_at, between 0 and min(k, τ_max)."""
        return np.arange(self.client.shape[1]) - self.issued_at

    def covering_window(self, n: int) -> np.ndarray:
        """W ``(R,)``: the least W such that every W consecutive updates of 0..T−1 apply each of the n clients;
        T + 1 where some client is never applied."""
        R, T = self.client.shape
        last = np.full((R, n), -1)
        widest = np.zeros((R, n), dtype=np.int64)
        rows = np.arange(R)
        for k in range(T):
            now = self.client[:, k]
            widest[rows, now] = np.maximum(widest[rows, now], k - last[rows, now])
            last[rows, now] = k
        return np.maximum(widest, T - last).max(1)


def arrivals(how: Asynchrony, n: int, T: int, streams: Streams, replicates: np.ndarray) -> Schedule:
    """The schedule of T updates with n clients for the given replicates.

    While a job waits, the server goes on with others, in the order of their arrival (equal times: of their start),
    until waiting longer would take some job past its deadline issued_at + τ_max: with the outstanding jobs in the
    order of their start, once the i-th has deadline k + i − 1 the k-th update must apply one of the first i, and the
    server waits for the first of these to arrive.
    """
    R, jobs = len(replicates), how.jobs(n)
    client, issued, job = (np.empty((R, T), dtype=np.int64) for _ in range(3))
    time = np.empty((R, T))
    scale = how.slow ** (np.arange(n) / max(n - 1, 1))
    _arrivals(
        streams.states(Cause.ARRIVALS, replicates, _CLIENTS),
        streams.states(Cause.ARRIVALS, replicates, _DURATIONS),
        _CODES[how.law],
        _ASSIGNMENTS[how.assignment],
        how.tau_max,
        1.0 if how.tail is None else how.tail,
        scale,
        client,
        issued,
        job,
        time,
        np.empty((3, jobs), dtype=np.int64),
        np.empty(jobs),
    )
    return Schedule(client, issued, job, time)


@njit()
def _arrivals(who, long, law, assignment, tau_max, tail, scale, client, issued, job, time, outstanding, arrival):
    """All replicates. ``outstanding (3, C)``: number, client and start of the jobs under way, in the order of their
    start; ``arrival (C,)``: when they arrive."""
    R, T = client.shape
    jobs, n = arrival.size, scale.size
    for r in range(R):
        now = 0.0
        for j in range(jobs):
            outstanding[0, j] = j
            outstanding[1, j] = _worker(who[r], assignment, j, j, n)
            outstanding[2, j] = 0
            arrival[j] = _duration(long[r], law, tail, outstanding[1, j], scale)
        for k in range(T):
            chosen = 0
            for i in range(jobs):
                if arrival[i] < arrival[chosen]:
                    chosen = i
                if outstanding[2, i] + tau_max == k + i:
                    break
            if arrival[chosen] > now and arrival[chosen] < np.inf:
                now = arrival[chosen]
            done = outstanding[1, chosen]
            job[r, k], client[r, k], issued[r, k] = outstanding[0, chosen], done, outstanding[2, chosen]
            time[r, k] = now
            for i in range(chosen, jobs - 1):
                for row in range(3):
                    outstanding[row, i] = outstanding[row, i + 1]
                arrival[i] = arrival[i + 1]
            last = jobs - 1
            outstanding[0, last] = jobs + k
            outstanding[1, last] = _worker(who[r], assignment, jobs + k, done, n)
            outstanding[2, last] = k + 1
            arrival[last] = now + _duration(long[r], law, tail, outstanding[1, last], scale)


@njit()
def _worker(state, assignment, number, done, n):
    """The client of job ``number``; ``done``: the client whose job was applied (of the first jobs: its own)."""
    if assignment == 0:
        return below(state, n)
    if assignment == 1:
        return number % n
    return done


@njit()
def _duration(state, law, tail, worker, scale):
    """How long a job takes its worker; inf: until the server waits for it."""
    if law == 3:
        return 0.0 if worker < scale.size // 2 else np.inf
    if law == 0:
        return scale[worker]
    if law == 1:
        return scale[worker] * 2.0 * uniform(state)
    return scale[worker] * uniform(state) ** (-1.0 / tail)
