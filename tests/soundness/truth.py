"""What a run's measures are in truth: every cohort and every noise from the first round to the last, as one batch.

The batch has one row for each path and is stepped by the algorithm itself, whatever state that carries; the measures
are computed here, from the gradients alone. Large quadratics have moments instead, a closed recursion.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedconv.analysis.exact import expectations
from fedconv.core.run import Experiment
from fedconv.methods.split import FedAlt, FedSim, LocalNoise, State
from fedconv.problems.noise import Noise

MOST_PATHS = 20_000
"""Paths enumerated at most."""

MOST_NUMBERS = 6_000_000
"""Paths times clients times coordinates held at once, at most."""

Step = Callable[[State, Tensor, LocalNoise], State]


@dataclass(frozen=True)
class Truth:
    """Expectations in each round ``(T,)``: X = ‖∇_uF‖² and D = the diversity where the theorem measures them (at
    (u, Ṽ) for FedAlt, at (u, V) for FedSim), Y = the mean of ‖∇_vF_i‖². ``refuted``: what the constants claim and
    every path refutes, in words; "" where some path does not."""

    X: np.ndarray
    Y: np.ndarray
    D: np.ndarray
    refuted: str = ""

    @property
    def diversity(self) -> float:
        """The mean diversity over the rounds."""
        return float(self.D.mean())


@dataclass(frozen=True)
class Cohorts:
    """The cohorts of a round that differ, ``(K, m)``, each with its probability."""

    members: np.ndarray
    weights: np.ndarray


def every_cohort(n: int, m: int) -> Cohorts:
    """All m of n clients."""
    chosen = np.array(list(itertools.combinations(range(n), m)), dtype=np.int64).reshape(-1, m)
    return Cohorts(chosen, np.full(len(chosen), 1.0 / len(chosen)))


def with_or_without_first(n: int, m: int) -> Cohorts:
    """Where the clients 1..n−1 are alike and there is no personal part: the first client is in the cohort, or not."""
    with_it, without = np.arange(m), np.arange(1, m + 1)
    if m == n:
        return Cohorts(with_it[None], np.ones(1))
    return Cohorts(np.stack([with_it, without]), np.array([m / n, 1 - m / n]))


def every_mask(n: int, probability: float) -> Cohorts:
    """All subsets of n clients as masks ``(2ⁿ, n)``, each client in it with that probability."""
    masks = np.array(list(itertools.product((0, 1), repeat=n)), dtype=np.int64)
    return Cohorts(masks, (probability**masks * (1 - probability) ** (1 - masks)).prod(axis=1))


def support(noise: Noise) -> tuple[np.ndarray, np.ndarray]:
    """Values and probabilities of a standardised draw."""
    if noise.silent:
        return np.zeros(1), np.ones(1)
    if noise.law == "rademacher":
        return np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    assert noise.law == "spikes", noise.law
    q = noise.spike_probability
    return np.array([-1.0, 0.0, 1.0]) / math.sqrt(q), np.array([q / 2, 1 - q, q / 2])


def draws(experiment: Experiment, k: int) -> int:
    """Independent draws of noise that k clients meet in a round."""
    problem, algorithm, noise = experiment.problem, experiment.algorithm, experiment.noise
    each = algorithm.tau_u * problem.d_u * (noise.sigma_u > 0) + algorithm.tau_v * problem.d_v * (noise.sigma_v > 0)
    return k * each


def count(experiment: Experiment, cohorts: Cohorts) -> int:
    """How many paths there are."""
    values, _ = support(experiment.noise)
    size = cohorts.members.shape[1]
    return (len(cohorts.members) * len(values) ** draws(experiment, size)) ** experiment.T


def fits(experiment: Experiment, cohorts: Cohorts) -> bool:
    """Whether the paths are few enough, and whether the absent clients' noise leaves the measures alone."""
    problem, algorithm, noise = experiment.problem, experiment.algorithm, experiment.noise
    if not noise.silent and noise.law not in ("rademacher", "spikes"):
        return False
    virtual = algorithm.measured_at == "virtual" and algorithm.tau_v > 0 and problem.d_v > 0
    if virtual and noise.sigma_v > 0 and algorithm.m < problem.n:
        return False
    paths = count(experiment, cohorts)
    numbers = paths * problem.n * (problem.d_u + problem.d_v)
    return paths <= MOST_PATHS and numbers <= MOST_NUMBERS and noise.dependence == "independent"


def by_paths(experiment: Experiment, cohorts: Cohorts | None = None, step: Step | None = None) -> Truth:
    """Expectations over all paths. ``step``: a round, where it is not ``algorithm.step`` (default)."""
    problem, algorithm = experiment.problem, experiment.algorithm
    cohorts = cohorts or every_cohort(problem.n, algorithm.m)
    step = step or (lambda state, cohort, noise: algorithm.step(problem, state, cohort, noise))
    values, chances = support(experiment.noise)
    k = cohorts.members.shape[1]
    drawn = draws(experiment, k)
    noises = len(values) ** drawn
    rounds = len(cohorts.members) * noises
    R, T = rounds**experiment.T, experiment.T
    numbers = np.arange(R)
    weights = np.ones(R)
    state = State(experiment.start.u.expand(R, -1), experiment.start.v.expand(R, -1, -1))
    X, Y, D, F = (np.empty((T, R)) for _ in range(4))
    slopes: list[np.ndarray] = []
    before: tuple[Tensor, Tensor] | None = None
    with np.errstate(all="ignore"):
        for t in range(T):
            outcome = numbers // rounds**t % rounds
            which, pattern = np.divmod(outcome, noises)
            digits = pattern[:, None] // len(values) ** np.arange(drawn, dtype=np.int64) % len(values)
            weights = weights * cohorts.weights[which] * chances[digits].prod(axis=1)
            noise = _noise(experiment, values[digits], k)
            cohort = torch.from_numpy(cohorts.members[which])
            after = step(state, cohort, noise)
            u = state.u[:, None, :].expand(-1, problem.n, -1)
            at = _measured_v(experiment, state, after)
            shared = problem.grad_u(u, at, problem.everyone())
            mean = shared.mean(1)
            X[t] = mean.square().sum(-1).numpy()
            D[t] = (shared - mean[:, None]).square().sum(-1).mean(-1).numpy()
            Y[t] = problem.grad_v(u, state.v, problem.everyone()).square().sum(-1).mean(-1).numpy()
            F[t] = problem.value(u, state.v, problem.everyone()).mean(-1).numpy()
            if before is not None and problem.d_v == 0:
                moved = (state.u - before[0]).norm(dim=-1)
                slopes.append(torch.where(moved > 0, (mean - before[1]).norm(dim=-1) / moved, 0.0).numpy())
            before, state = (state.u, mean), after
        total = weights.sum()
        assert abs(total - 1) < 1e-9, total
        return Truth(X @ weights, Y @ weights, D @ weights, _refuted(experiment, X, D, F, slopes))


def by_moments(experiment: Experiment) -> Truth:
    """Expectations of plain FedAlt or FedSim on quadratics."""
    assert type(experiment.algorithm) in (FedAlt, FedSim), type(experiment.algorithm)
    trace = expectations(experiment)
    virtual = "_virtual" if experiment.algorithm.measured_at == "virtual" else ""
    names = (f"grad_u{virtual}_sq", "grad_v_sq", f"diversity{virtual}")
    return Truth(*(trace[name].values[0] for name in names))


def _noise(experiment: Experiment, drawn: np.ndarray, k: int) -> LocalNoise:
    """The draws ``(R, draws)`` as noise of k clients."""
    problem, algorithm, noise = experiment.problem, experiment.algorithm, experiment.noise
    R, scales, rest, parts = len(drawn), noise.scales(problem.d_u, problem.d_v), drawn, []
    for tau, d, scale in zip((algorithm.tau_u, algorithm.tau_v), (problem.d_u, problem.d_v), scales, strict=True):
        here = k * tau * d if scale > 0 else 0
        taken, rest = rest[:, :here], rest[:, here:]
        block = scale * taken.reshape(R, k, tau, d) if here else np.zeros((R, k, tau, d))
        parts.append(torch.from_numpy(block))
    return LocalNoise(*parts)


def _measured_v(experiment: Experiment, state: State, after: State) -> Tensor:
    """Where ∇_uF is measured: V^t for FedSim; Ṽ^{t+1} for FedAlt, every client's personal steps from V^t."""
    problem, algorithm = experiment.problem, experiment.algorithm
    if algorithm.measured_at == "state" or algorithm.tau_v == 0 or problem.d_v == 0:
        return state.v
    if algorithm.m == problem.n and experiment.noise.sigma_v > 0:
        return after.v
    assert isinstance(algorithm, FedAlt)
    u = state.u[:, None, :].expand(-1, problem.n, -1)
    silent = u.new_zeros(len(u), problem.n, algorithm.tau_v, problem.d_v)
    return algorithm.personal_phase(problem, u, state.v, problem.everyone().expand(len(u), -1), silent)


def _refuted(experiment: Experiment, X: np.ndarray, D: np.ndarray, F: np.ndarray, slopes: list[np.ndarray]) -> str:
    """Which constants every path refutes by a hundredth at least."""
    k = experiment.problem.constants
    said = []
    low = k.F_star.value
    if (F.min(axis=0) < low - 0.01 * (1e-3 + abs(low))).all():
        said.append("F falls below F_star")
    if math.isfinite(k.delta.value) and (1.01 * (k.delta.value**2 + k.rho.value**2 * X) + 1e-6 < D).any(axis=0).all():
        said.append("the diversity exceeds delta^2 + rho^2 X")
    if slopes and (np.array(slopes).max(axis=0) > 1.01 * k.L_u.value).all():
        said.append("the gradient's slope exceeds L_u")
    return ", ".join(said)
