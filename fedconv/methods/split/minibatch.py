"""Runs with real mini-batches: every local step takes the gradient over rows drawn from the client's own data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedconv.core.run import Block, Experiment
from fedconv.core.streams import Cause, Streams
from fedconv.methods.split import Algorithm, FedAlt, FedSim, LocalNoise
from fedconv.methods.split.method import gather, scatter
from fedconv.methods.split.torch_engine import Virtual, play
from fedconv.problems.base import Constants, Problem
from fedconv.problems.compiled.xoshiro import fill_words
from fedconv.problems.errors import InputError
from fedconv.problems.modules.problem import ModuleProblem
from fedconv.problems.noise import Noise


@dataclass(frozen=True)
class MiniBatch(Noise):
    """Noise of the gradient over ``batch`` rows, drawn uniformly with replacement in every local step: unbiased.

    Its size depends on the point: ``sigma_u`` and ``sigma_v`` are what theorems are told, estimates of the largest
    √(E‖ξ‖²) over clients and points (:func:`mini_batch`, ``fedconv.analysis.constants.estimate``). dependence, inside a
    FedSim step: ``full`` (the same rows for both blocks, as one backward pass gives) or ``independent``.
    """

    law: Any = "minibatch"
    dependence: Any = "full"
    batch: int = 1

    def __post_init__(self) -> None:
        if self.law != "minibatch":
            raise InputError(f"noise.law must be 'minibatch' for mini-batches; got {self.law!r}")
        other = {k: x for k, x in asdict(self).items() if k not in ("law", "batch")}
        Noise(law="gaussian", **other)  # the checks of the other fields
        if self.dependence not in ("independent", "full"):
            raise InputError(
                f"noise.dependence must be 'independent' or 'full' for mini-batches; got {self.dependence!r}"
            )
        if isinstance(self.batch, bool) or not isinstance(self.batch, int) or self.batch < 1:
            raise InputError(f"noise.batch must be an integer >= 1; got {self.batch!r}")

    @property
    def silent(self) -> bool:
        """Never: rows are drawn whatever σ is believed to be."""
        return False

    def code(self) -> tuple[int, float]:
        raise InputError("noise.law 'minibatch' adds nothing to a gradient; run it as a BatchExperiment")


def mini_batch(problem: ModuleProblem, batch: int) -> MiniBatch:
    """Mini-batches of ``batch`` rows, with σ_u, σ_v estimated at the module's own parameters (the largest client's)."""
    u, v = problem.start()
    of_u, of_v = problem.row_variance(u.expand(problem.n, -1), v, problem.everyone())
    largest = [float((x.max() / max(batch, 1)).sqrt()) for x in (of_u, of_v)]
    return MiniBatch(sigma_u=largest[0], sigma_v=largest[1], batch=batch)


@dataclass(frozen=True)
class BatchExperiment(Experiment):
    """An experiment whose ``noise`` is a :class:`MiniBatch` and whose ``problem`` has rows; in torch only.

    The streams of noise draw the rows, so cohorts are those of the same experiment with additive noise, and results do
    not depend on the block. Level "proof" is refused: its tallies need the noise of each step beside the gradient.
    """

    def __post_init__(self) -> None:
        if not isinstance(self.problem, ModuleProblem):
            raise InputError(f"mini-batches need a problem with rows; got the family {self.problem.family!r}")
        if not isinstance(self.noise, MiniBatch):
            raise InputError(f"a BatchExperiment needs noise of law 'minibatch'; got {self.noise.law!r}")
        super().__post_init__()

    def choose(self, engine: str) -> tuple[str, str]:
        chosen, reason = super().choose(engine)
        return ("eager", "mini-batches run in torch") if chosen == "eager" else (chosen, reason)

    def block(self, streams: Streams, replicates: np.ndarray, level: str, engine: str) -> Block:
        if level == "proof":
            raise InputError('run.level must be "none" or "stationarity" with mini-batches; got "proof"')
        problem, algorithm, R = self.problem, self.algorithm, len(replicates)
        silent = silence(algorithm, problem, R, algorithm.m)

        def local(t: int) -> tuple[Problem, LocalNoise]:
            return self._batches(streams, replicates, t, algorithm.m, False), silent

        def virtual(t: int, *met: Any) -> Virtual:
            seen = _Virtual(problem, algorithm, self.noise, streams, replicates, t, *met)
            seen.experiment, seen.draws = self, (streams, replicates, t)
            return seen

        return play(problem, algorithm, self.start, self.T, streams, replicates, level, local, virtual)

    def _batches(self, streams: Streams, replicates: np.ndarray, t: int, k: int, absent: bool) -> Batches:
        """The problem with the rows of round t, for k clients."""
        assert isinstance(self.problem, ModuleProblem)
        assert isinstance(self.noise, MiniBatch)
        batch, device = self.noise.batch, self.problem.device

        def draw(cause: Cause, tau: int) -> Tensor:
            return uniform(streams.states(cause, replicates, t), (k, tau, batch), device)

        cause_u, cause_v = (Cause.ABSENT_NOISE_U, Cause.ABSENT_NOISE_V) if absent else (Cause.NOISE_U, Cause.NOISE_V)
        rows_u = draw(cause_u, self.algorithm.tau_u)
        same = self.noise.dependence == "full" and isinstance(self.algorithm, FedSim)
        return Batches(self.problem, rows_u, rows_u if same else draw(cause_v, self.algorithm.tau_v))


def silence(algorithm: Algorithm, problem: Problem, R: int, k: int) -> LocalNoise:
    """No noise for k clients: zeros, ``(R, k, tau, d)`` in both blocks."""
    shapes = ((R, k, algorithm.tau_u, problem.d_u), (R, k, algorithm.tau_v, problem.d_v))
    return LocalNoise(*(torch.zeros(1, dtype=torch.float64, device=problem.device).expand(s) for s in shapes))


def uniform(states: np.ndarray, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Uniform numbers in (0, 1), ``(R, *shape)``, from generator states ``(R, 4)``, which go on from there."""
    words = np.empty((len(states), math.prod(shape)), dtype=np.uint64)
    for state, row in zip(states, words, strict=True):
        fill_words(state, row)
    unit = ((words >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    return torch.from_numpy(unit.reshape(len(states), *shape)).to(device)


class Batches(Problem):
    """A problem as k clients see it in one local phase: the j-th gradient in a block is that over the rows of step j.

    rows_u ``(R, k, tau_u, b)``, rows_v ``(R, k, tau_v, b)``: uniform numbers that choose rows. Made for one phase.
    """

    family = "mini-batches"

    def __init__(self, problem: ModuleProblem, rows_u: Tensor, rows_v: Tensor) -> None:
        self.problem = problem
        self.n, self.d_u, self.d_v = problem.n, problem.d_u, problem.d_v
        self._steps_u, self._steps_v = iter(rows_u.unbind(2)), iter(rows_v.unbind(2))

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self.problem.value(u, v, clients)

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self.problem.batch_grad_u(u, v, clients, next(self._steps_u))

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self.problem.batch_grad_v(u, v, clients, next(self._steps_v))

    def _constants(self) -> Constants:
        return self.problem.constants

    def to(self, device: torch.device | str) -> Problem:
        return self.problem.to(device)

    @property
    def device(self) -> torch.device:
        return self.problem.device


class _Virtual(Virtual):
    """Virtual full participation, the absent clients drawing rows of their own."""

    experiment: BatchExperiment
    draws: tuple[Streams, np.ndarray, int]

    def _personal(self) -> Tensor:
        assert isinstance(self.algorithm, FedAlt)
        R, k = self.absent.shape
        streams, replicates, t = self.draws
        batches = self.experiment._batches(streams, replicates, t, k, True)
        u, v = gather(self.state, self.absent)
        silent = silence(self.algorithm, self.problem, R, k).v
        return scatter(self.after.v, self.absent, self.algorithm.personal_phase(batches, u, v, self.absent, silent))
