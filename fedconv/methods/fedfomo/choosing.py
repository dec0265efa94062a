"""Which models a client downloads: the largest affinities, and now and then a random one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedconv.core.streams import Cause, Streams
from fedconv.problems.compiled.jit import njit
from fedconv.problems.compiled.xoshiro import uniform

NONE, OWN, EXPLOIT, EXPLORE = range(4)
"""Where a candidate comes from: it is none, the own trained model, the largest affinity, or chance."""


class Choice(NamedTuple):
    """``clients (R, k, 1 + M)``: whose models are candidates, the own one first, −1 for an empty slot; ``origin``
    shaped alike."""

    clients: np.ndarray
    origin: np.ndarray


def choose(
    streams: Streams,
    replicates: np.ndarray,
    t: int,
    cohort: np.ndarray,
    uploaded: np.ndarray,
    affinity: np.ndarray,
    slots: int,
    rate: float,
    ties: str = "random",
) -> Choice:
    """Candidates of the clients ``cohort (R, k)``, M = ``slots``; ``uploaded (R, n)``, ``affinity (R, n, n)``.

    A client without an upload of its own gets no candidate. Slot by slot one of the uploaded models of others not yet
    chosen: with probability ``rate`` each as likely, else the largest affinity; of several that are exactly equal
    one at random (``ties = "random"``), or the smallest number (``"index"``). Two uniform numbers are drawn for every
    slot and, from a stream of their own, one for ties, used or not. Where all uploaded models are chosen anyhow nothing
    is explored and no lot cast.
    """
    R, k = cohort.shape
    clients = np.full((R, k, 1 + slots), -1, dtype=np.int64)
    origin = np.zeros((R, k, 1 + slots), dtype=np.int8)
    states = streams.states(Cause.EXPLORE, replicates, t)
    lots = np.zeros((R, k, slots))
    if ties == "random":
        _draw(streams.states(Cause.TIES, replicates, t), lots)
    taken = np.empty(uploaded.shape[1], dtype=np.bool_)
    _choose(states, cohort, uploaded, np.ascontiguousarray(affinity), rate, lots, clients, origin, taken)
    return Choice(clients, origin)


@njit()
def _draw(states, out):
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            for slot in range(out.shape[2]):
                out[r, c, slot] = uniform(states[r])


@njit()
def _choose(states, cohort, uploaded, affinity, rate, lots, clients, origin, taken):
    R, k, width = clients.shape
    n = uploaded.shape[1]
    for r in range(R):
        for c in range(k):
            i = cohort[r, c]
            left = 0
            for j in range(n):
                taken[j] = j == i or not uploaded[r, j]
                if not taken[j]:
                    left += 1
            everything = left <= width - 1
            ready = uploaded[r, i]
            if ready:
                clients[r, c, 0], origin[r, c, 0] = i, 1
            for slot in range(1, width):
                coin, pick = uniform(states[r]), uniform(states[r])
                if not ready or left == 0:
                    continue
                explore = coin < rate and not everything
                best, equal = -1, 0
                wanted = min(int(pick * left), left - 1)
                for j in range(n):
                    if taken[j]:
                        continue
                    if explore:
                        if wanted == 0:
                            best = j
                            break
                        wanted -= 1
                    elif best < 0 or affinity[r, i, j] > affinity[r, i, best]:
                        best, equal = j, 1
                    elif affinity[r, i, j] == affinity[r, i, best]:
                        equal += 1
                if equal > 1 and not explore and not everything:
                    wanted = min(int(lots[r, c, slot - 1] * equal), equal - 1)
                    for j in range(best, n):
                        if not taken[j] and affinity[r, i, j] == affinity[r, i, best]:
                            if wanted == 0:
                                best = j
                                break
                            wanted -= 1
                taken[best] = True
                left -= 1
                clients[r, c, slot] = best
                origin[r, c, slot] = 3 if explore else 2
