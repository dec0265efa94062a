"""Runs with real mini-batches: every local step takes the gradient over rows drawn from the client's own data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedconv.algorithms import FedAlt, FedSim, LocalNoise, State
from fedconv.algorithms.base import gather, scatter
from fedconv.eager import Virtual
from fedconv.run import Block, Experiment
from fedconv.streams import Cause, Streams
from problems.base import Constants, Problem
from problems.errors import InputError
from problems.modules import ModuleProblem
from problems.noise import Noise
from problems.xoshiro import fill_words


@dataclass(frozen=True)
class MiniBatch(Noise):
    """Noise of the gradient over ``batch`` rows, drawn uniformly with replacement in every local step: unbiased.

    Its size depends on the point: ``sigma_u`` and ``sigma_v`` are what theorems are told, estimates of the largest
    √(E‖ξ‖²) over clients and points (:func:`mini_batch`, ``analysis.estimate``). dependence, inside a FedSim step:
    ``full`` (the same rows for both blocks, as one backward pass gives) or ``independent``.
    """

    law: Any = "minibatch"
    dependence: Any = "full"
    batch: int = 1

    def __post_init__(self) -> None:
        if self.law != "minibatch":
            raise InputError(f"noise.law must be 'minibatch' for mini-batches; got {self.law!r}")
        other = {k: x for k, x in asdict(self).items() if k not in ("law", "batch")}
        Noise(law="gaussian", **other)  # the checks of the other fields
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
        super().__post_init__()
        if not isinstance(self.problem, ModuleProblem):
            raise InputError(f"mini-batches need a problem with rows; got the family {self.problem.family!r}")
        if not isinstance(self.noise, MiniBatch):
            raise InputError(f"a BatchExperiment needs noise of law 'minibatch'; got {self.noise.law!r}")

    def choose(self, engine: str) -> tuple[str, str]:
        chosen, reason = super().choose(engine)
        return ("eager", "mini-batches run in torch") if chosen == "eager" else (chosen, reason)

    def block(self, streams: Streams, replicates: np.ndarray, level: str, engine: str) -> Block:
        if level == "proof":
            raise InputError('run.level must be "none" or "stationarity" with mini-batches; got "proof"')
        problem, algorithm, m, R = self.problem, self.algorithm, self.algorithm.m, len(replicates)
        state = State(*(x.to(problem.device).expand(R, *x.shape) for x in (self.start.u, self.start.v)))
        measured: dict[str, np.ndarray] = {}
        sampled = np.zeros((R, self.T, problem.n), dtype=bool)
        for t in range(self.T):
            order = streams.cohorts(replicates, t, problem.n, m)
            np.put_along_axis(sampled[:, t], order[:, :m], True, axis=1)
            clients = torch.from_numpy(order).to(problem.device)
            silent = self._silent(R, m)
            after = algorithm.step(self._batches(streams, replicates, t, m, False), state, clients[:, :m], silent)
            if level != "none":
                seen = _Virtual(
                    problem, algorithm, self.noise, streams, replicates, t, state, after, clients[:, :m],
                    clients[:, m:], silent,
                )  # fmt: skip
                seen.experiment, seen.draws = self, (streams, replicates, t)
                for key, values in seen.measure(proof=False).items():
                    measured.setdefault(key, np.empty((R, self.T)))[:, t] = values.cpu().numpy()
            state = after
        return measured | {
            "cohort": sampled,
            "F_final": problem.objective(state.u, state.v).cpu().numpy(),
            "u_final": state.u.cpu().numpy(),
            "v_final": state.v.cpu().numpy(),
        }

    def _silent(self, R: int, k: int) -> LocalNoise:
        a, problem = self.algorithm, self.problem
        shapes = ((R, k, a.tau_u, problem.d_u), (R, k, a.tau_v, problem.d_v))
        return LocalNoise(*(torch.zeros(s, dtype=torch.float64, device=problem.device) for s in shapes))

    def _batches(self, streams: Streams, replicates: np.ndarray, t: int, k: int, absent: bool) -> Batches:
        """The problem with the rows of round t, for k clients."""
        assert isinstance(self.problem, ModuleProblem)
        assert isinstance(self.noise, MiniBatch)
        batch = self.noise.batch

        def draw(cause: Cause, tau: int) -> Tensor:
            words = np.empty((len(replicates), k * tau * batch), dtype=np.uint64)
            for state, row in zip(streams.states(cause, replicates, t), words, strict=True):
                fill_words(state, row)
            unit = ((words >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
            shaped = unit.reshape(len(replicates), k, tau, batch)
            return torch.from_numpy(shaped).to(self.problem.device)

        cause_u, cause_v = (Cause.ABSENT_NOISE_U, Cause.ABSENT_NOISE_V) if absent else (Cause.NOISE_U, Cause.NOISE_V)
        rows_u = draw(cause_u, self.algorithm.tau_u)
        same = self.noise.dependence == "full" and isinstance(self.algorithm, FedSim)
        return Batches(self.problem, rows_u, rows_u if same else draw(cause_v, self.algorithm.tau_v))


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
        silent = self.experiment._silent(R, k).v
        return scatter(self.after.v, self.absent, self.algorithm.personal_phase(batches, u, v, self.absent, silent))
