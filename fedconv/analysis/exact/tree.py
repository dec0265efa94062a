"""Expectations of tiny runs of any problem: every cohort and every value of the noise, with its probability."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fedconv.analysis.exact.draws import noise_factors
from fedconv.methods.split import FedAlt, LocalNoise, State
from fedconv.methods.split.torch_engine import Virtual
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    from fedconv.core.run import Experiment
    from fedconv.methods.split import Algorithm
    from fedconv.problems.base import Problem
    from fedconv.problems.noise import Noise

CHUNK = 1 << 15
"""Leaves computed at a time."""


class Enumerated(Virtual):
    """Virtual full participation where the absent clients' noise is given, not drawn."""

    def __init__(
        self,
        problem: Problem,
        algorithm: Algorithm,
        state: State,
        after: State,
        cohort: Tensor,
        absent: Tensor,
        present_noise: LocalNoise,
        absent_noise: LocalNoise,
    ) -> None:
        self.problem, self.algorithm, self.state, self.after = problem, algorithm, state, after
        self.cohort, self.absent, self.drawn = cohort, absent, present_noise
        self._absent_noise = lambda: absent_noise


@dataclass(frozen=True)
class Outcomes:
    """All values of k clients' noise in a round: point numbers' ``values`` and ``weights`` per draw, B draws each."""

    values: np.ndarray
    weights: np.ndarray
    clients: int
    draws: int

    @property
    def count(self) -> int:
        return len(self.values) ** (self.clients * self.draws)

    def at(self, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draws ``(R, k, B)`` and probabilities ``(R,)`` of the outcomes with the given numbers ``(R,)``."""
        base = len(self.values)
        size = self.clients * self.draws
        digits = number[:, None] // base ** np.arange(size, dtype=np.int64) % base
        weights = self.weights[digits].prod(axis=1)
        return self.values[digits].reshape(len(number), self.clients, self.draws), weights


class Tree:
    """One round's branches: cohorts, noises of the sampled, and noises of the absent virtual clients where measured."""

    def __init__(self, experiment: Experiment, level: str) -> None:
        problem, algorithm = experiment.problem, experiment.algorithm
        self.problem, self.algorithm, self.level, self.T = problem, algorithm, level, experiment.T
        n, m = problem.n, algorithm.m
        self.to_u, self.to_v = noise_factors(experiment)
        values, weights = support(experiment.noise) if len(self.to_u) else (np.zeros(1), np.ones(1))
        self.cohorts = math.comb(n, m)
        self.present = Outcomes(values, weights, m, len(self.to_u))
        own_u, own_v = self.to_u, self.to_v
        if level != "proof":
            # Only the absent clients' personal steps are measured, and those only where they come first.
            seen = (own_v != 0).any(dim=(1, 2)) if isinstance(algorithm, FedAlt) and own_v.numel() else []
            kept = np.flatnonzero(np.asarray(seen, dtype=bool))
            own_u, own_v = own_u[kept], own_v[kept]
        self.absent_to_u, self.absent_to_v = own_u, own_v
        self.absent = Outcomes(values, weights, n - m, len(own_u))

    @property
    def branches(self) -> int:
        """Different rounds that lead to different states (with the probabilities of all of them)."""
        return self.cohorts * self.present.count

    @property
    def leaves(self) -> int:
        """Rounds evaluated in the last round, the largest number at a time."""
        return self.branches**self.T * self.absent.count

    def orders(self) -> np.ndarray:
        """Every cohort, sorted, with the absent behind it: ``(cohorts, n)``."""
        n, m = self.problem.n, self.algorithm.m
        chosen = [(*S, *(i for i in range(n) if i not in S)) for S in itertools.combinations(range(n), m)]
        return np.array(chosen, dtype=np.int64).reshape(self.cohorts, n)

    def walk(self, parents: State, weights: np.ndarray) -> Iterator[Leaves]:
        """All rounds from the given states, in chunks; the absent clients' noise changes fastest."""
        orders, m = self.orders(), self.algorithm.m
        total = len(weights) * self.branches * self.absent.count
        for first in range(0, total, CHUNK):
            number = np.arange(first, min(first + CHUNK, total), dtype=np.int64)
            path, away = np.divmod(number, self.absent.count)
            rest, near = np.divmod(path, self.present.count)
            parent, cohort = np.divmod(rest, self.cohorts)
            draws, present_weight = self.present.at(near)
            absent_draws, absent_weight = self.absent.at(away)
            reached = weights[parent] * present_weight / self.cohorts
            order = torch.from_numpy(orders[cohort]).to(self.problem.device)
            chosen = torch.from_numpy(parent)
            state = State(parents.u[chosen], parents.v[chosen])
            noise = self._noise(draws, self.to_u, self.to_v)
            absent_noise = self._noise(absent_draws, self.absent_to_u, self.absent_to_v)
            after = self.algorithm.step(self.problem, state, order[:, :m], noise)
            measure = Enumerated(
                self.problem, self.algorithm, state, after, order[:, :m], order[:, m:], noise, absent_noise
            )
            first_of_path = torch.from_numpy(np.flatnonzero(away == 0))
            yield Leaves(measure, reached * absent_weight, reached[away == 0], first_of_path)

    def _noise(self, draws: np.ndarray, to_u: Tensor, to_v: Tensor) -> LocalNoise:
        given = torch.from_numpy(draws)
        return LocalNoise(
            torch.einsum("rkb,btd->rktd", given, to_u).to(self.problem.device),
            torch.einsum("rkb,btd->rktd", given, to_v).to(self.problem.device),
        )


@dataclass(frozen=True)
class Leaves:
    """A chunk of one round: what measures it, each leaf's probability, and the leaves that start a new state."""

    measure: Enumerated
    weights: np.ndarray
    reached: np.ndarray
    firsts: Tensor


def support(noise: Noise) -> tuple[np.ndarray, np.ndarray]:
    """Values and probabilities of one standardised draw; InputError where the law has more than finitely many."""
    if noise.law == "rademacher":
        return np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    if noise.law == "spikes":
        q = noise.spike_probability
        size = 1.0 / math.sqrt(q)
        values, weights = np.array([-size, 0.0, size]), np.array([0.5 * q, 1.0 - q, 0.5 * q])
        return values[weights > 0], weights[weights > 0]
    raise InputError(f"a tree of all outcomes needs noise.law rademacher, spikes or zero; got {noise.law!r}")


def count_leaves(experiment: Experiment, level: str = "stationarity") -> int:
    """How many rounds :func:`enumerate_tree` evaluates at a time; InputError for a law with a density."""
    return Tree(experiment, level).leaves


def enumerate_tree(experiment: Experiment, level: str) -> dict[str, np.ndarray]:
    """The expectations of everything a trace records at a level: arrays ``(1, T)``, and of the final state.

    The steps are the algorithm's, the measures the eager engine's. The noise of round t and the virtual noise of the
    absent in round t are enumerated together, that of earlier absent clients not at all: no state depends on it.
    """
    tree, problem = Tree(experiment, level), experiment.problem
    state = State(experiment.start.u.to(problem.device)[None], experiment.start.v.to(problem.device)[None])
    weights = np.ones(1)
    out: dict[str, np.ndarray] = {}
    with np.errstate(all="ignore"):
        for t in range(experiment.T):
            u, v, reached = [], [], []
            for leaves in tree.walk(state, weights):
                for key, values in leaves.measure.measure(proof=level == "proof").items():
                    out.setdefault(key, np.zeros((1, experiment.T)))[0, t] += leaves.weights @ values.cpu().numpy()
                u.append(leaves.measure.after.u[leaves.firsts])
                v.append(leaves.measure.after.v[leaves.firsts])
                reached.append(leaves.reached)
            state, weights = State(torch.cat(u), torch.cat(v)), np.concatenate(reached)
        final = problem.objective(state.u, state.v).cpu().numpy()
        return out | {
            "F_final": np.array([weights @ final]),
            "u_final": (weights @ state.u.cpu().numpy())[None],
            "v_final": np.einsum("r,rij->ij", weights, state.v.cpu().numpy())[None],
        }
