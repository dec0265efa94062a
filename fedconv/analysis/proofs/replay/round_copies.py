"""Independent copies of one round from given states: drawn, or all outcomes with their probabilities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fedconv.analysis.exact.draws import noise_factors
from fedconv.analysis.exact.tree import Outcomes, support
from fedconv.analysis.proofs.quantities import Observed, observe
from fedconv.core.streams import Cause, Streams
from fedconv.methods.split import FedSim, LocalNoise, State
from fedconv.problems.noise import fill

if TYPE_CHECKING:
    from fedconv.core.run import Experiment

MOST_OUTCOMES = 2000
"""Outcomes of one round (cohorts times values of the noise) up to which all are taken instead of copies."""

CHUNK = 200_000
"""Numbers in one tensor of local noise or parameters at a time."""

NONLINEAR = {"change", "change_u"}
"""Quantities that are not bilinear in who is sampled: their expectation over cohorts has no closed form."""

_STRIDE = 1 << 32


@dataclass(frozen=True)
class Outcome:
    """Rows of a round: noise of every client, who is sampled ``(Q, n)``, and each row's probability (None: drawn)."""

    noise: LocalNoise
    sampled: Tensor
    weights: np.ndarray | None


@dataclass(frozen=True)
class Visited:
    """A state at the start of a round of the run."""

    replicate: int
    round: int
    u: np.ndarray
    v: np.ndarray


def every_outcome(experiment: Experiment, most: int = MOST_OUTCOMES) -> Outcome | None:
    """All cohorts and all values of the noise, or None where there are more than ``most`` or a density."""
    problem, m, noise = experiment.problem, experiment.algorithm.m, experiment.noise
    n = problem.n
    cohorts = math.comb(n, m)
    to_u, to_v = noise_factors(experiment)
    if len(to_u) and noise.law not in ("rademacher", "spikes"):
        return None
    values, weights = support(noise) if len(to_u) else (np.zeros(1), np.ones(1))
    outcomes = Outcomes(values, weights, n, len(to_u))
    if n * len(to_u) > 16 or cohorts * outcomes.count > most:
        return None
    draws, probability = outcomes.at(np.arange(outcomes.count, dtype=np.int64))
    given = torch.from_numpy(draws).repeat_interleave(cohorts, 0)
    sampled = torch.zeros(cohorts, n, dtype=torch.bool)
    for row, S in enumerate(itertools.combinations(range(n), m)):
        sampled[row, list(S)] = True
    spread = LocalNoise(
        torch.einsum("rkb,btd->rktd", given, to_u), torch.einsum("rkb,btd->rktd", given, to_v)
    )  # fmt: skip
    return Outcome(spread, sampled.repeat(outcomes.count, 1), np.repeat(probability, cohorts) / cohorts)


def draw(experiment: Experiment, replicates: Sequence[int], t: int, copies: int) -> Outcome:
    """The first ``copies`` copies of round t of some replicates, one replicate after another: streams of their own
    causes, one for each copy."""
    problem, algorithm, noise = experiment.problem, experiment.algorithm, experiment.noise
    n, d_u, d_v = problem.n, problem.d_u, problem.d_v
    streams = Streams(experiment.seed)
    numbers = (np.array(replicates, dtype=np.int64)[:, None] * _STRIDE + np.arange(copies, dtype=np.int64)).ravel()
    law, parameter = noise.code()

    def standard(cause: Cause, tau: int, d: int) -> Tensor:
        out = np.zeros((len(numbers), n * tau * d))
        if law:
            fill(law, parameter, streams.states(cause, numbers, t), out)
        return torch.from_numpy(out.reshape(len(numbers), n, tau, d))

    scale_u, scale_v = noise.scales(d_u, d_v)
    first = standard(Cause.COPY_NOISE_U, algorithm.tau_u, d_u)
    if noise.dependence != "independent" and isinstance(algorithm, FedSim):
        first = standard(Cause.COPY_NOISE_U, algorithm.tau_u, max(d_u, d_v))
        second = noise.correlation * first[..., :d_v]
        if noise.remainder:
            second = second + noise.remainder * standard(Cause.COPY_NOISE_V, algorithm.tau_v, d_v)
    else:
        second = standard(Cause.COPY_NOISE_V, algorithm.tau_v, d_v)
    order = streams.cohorts(numbers, t, n, algorithm.m, Cause.COPY_COHORT)
    sampled = torch.zeros(len(numbers), n, dtype=torch.bool)
    sampled.scatter_(1, torch.from_numpy(order[:, : algorithm.m]), True)
    return Outcome(LocalNoise(scale_u * first[..., :d_u], scale_v * second), sampled, None)


@dataclass(frozen=True)
class Copies:
    """What the copies of one round from one state show: ``sample`` by name ``(K,)`` or ``(K, n)``, ``weights (K,)``
    where these are all outcomes; ``averaged``: of what depends on the cohort, the expectation over it given the copy's
    noise; ``silent``: there is no noise."""

    sample: dict[str, np.ndarray]
    weights: np.ndarray | None
    averaged: dict[str, np.ndarray] = field(default_factory=dict)
    silent: bool = False

    def over_cohorts(self, names: Collection[str]) -> Copies | None:
        """The same with the exact expectation over cohorts in place of what they show; None where one of the named
        quantities has no closed form of it. Without noise one row is then all."""
        if self.weights is not None or set(names) & NONLINEAR:
            return None
        whole = self.sample | self.averaged
        if not self.silent:
            return Copies(whole, None, {}, False)
        return Copies({k: x[:1] for k, x in whole.items()}, np.ones(1), {}, True)

    @property
    def exact(self) -> bool:
        return self.weights is not None


@dataclass(frozen=True)
class Batch:
    """The copies of B states: ``sample`` by name ``(B, K)`` or ``(B, K, n)``, the others as in Copies."""

    sample: dict[str, np.ndarray]
    weights: np.ndarray | None
    averaged: dict[str, np.ndarray] = field(default_factory=dict)
    silent: bool = False

    def means(self) -> dict[str, np.ndarray]:
        """The expectation of every quantity at each state, averaged over clients, ``(B,)``."""
        flat = {key: x.mean(axis=2) if x.ndim == 3 else x for key, x in self.sample.items()}
        return {key: x.mean(axis=1) if self.weights is None else x @ self.weights for key, x in flat.items()}


def copies_of(
    experiment: Experiment,
    states: Sequence[Visited],
    copies: int,
    L: tuple[float, float],
    outcomes: Outcome | None = None,
) -> Iterator[Copies]:
    """Copies of the round from each visited state: all ``outcomes`` where given, else ``copies`` drawn ones."""
    for batch in batches(experiment, states, copies, L, outcomes):
        for row in range(len(batch.sample["X"])):
            sample, averaged = ({k: x[row] for k, x in found.items()} for found in (batch.sample, batch.averaged))
            yield Copies(sample, batch.weights, averaged, batch.silent)


def batches(
    experiment: Experiment,
    states: Sequence[Visited],
    copies: int,
    L: tuple[float, float],
    outcomes: Outcome | None = None,
) -> Iterator[Batch]:
    """The same, states of a round computed together, or one in parts, as CHUNK asks; what a copy shows does not depend
    on it."""
    problem, algorithm = experiment.problem, experiment.algorithm
    count = copies if outcomes is None else len(outcomes.sampled)
    size = problem.n * max(algorithm.tau_u * problem.d_u, algorithm.tau_v * problem.d_v, problem.d_u + problem.d_v, 1)
    together, step = max(1, CHUNK // (count * size)), max(1, min(count, CHUNK // size))
    for t, of_round in itertools.groupby(states, key=lambda x: x.round):
        same_round = list(of_round)
        for first in range(0, len(same_round), together):
            batch = same_round[first : first + together]
            rows = _repeated(outcomes, len(batch)) or draw(experiment, [x.replicate for x in batch], t, copies)
            state = State(*(torch.from_numpy(np.stack([getattr(x, b) for x in batch])) for b in "uv"))
            parts: list[Observed] = []
            for a in range(0, len(rows.sampled), step * len(batch)):
                b = min(a + step * len(batch), len(rows.sampled))
                noise = LocalNoise(rows.noise.u[a:b], rows.noise.v[a:b])
                with np.errstate(all="ignore"):
                    parts.append(observe(problem, algorithm, state, noise, rows.sampled[a:b], L))
            sample, averaged = (
                _joined([getattr(x, name) for x in parts], len(batch), count) for name in ("sample", "averaged")
            )
            yield Batch(sample, rows.weights, averaged, experiment.noise.silent)


def _joined(parts: Sequence[dict[str, np.ndarray]], states: int, count: int) -> dict[str, np.ndarray]:
    """Chunks of rows as arrays ``(B, K)`` or ``(B, K, n)``."""
    whole = {k: np.concatenate([x[k] for x in parts]) for k in parts[0]}
    return {k: x.reshape(states, count, *x.shape[1:]) for k, x in whole.items()}


def _repeated(outcomes: Outcome | None, times: int) -> Outcome | None:
    """The same outcomes for several states, one state after another."""
    if outcomes is None or times == 1:
        return outcomes
    noise = LocalNoise(outcomes.noise.u.repeat(times, 1, 1, 1), outcomes.noise.v.repeat(times, 1, 1, 1))
    return Outcome(noise, outcomes.sampled.repeat(times, 1), outcomes.weights)
