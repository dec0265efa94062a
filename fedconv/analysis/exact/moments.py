"""Mean and covariance of the state of a quadratic problem, round by round: an affine random recursion.

With s_i = 1 where client i is sampled, one round is (u, V)⁺ = (0, V) + Σ_i s_i f_i, f_i = (ũ_i/m; ṽ_i − v_i in v_i's
place), and f_i = J_i (u, v_i) + j_i + ζ_i with independent noises ζ_i of mean zero. Sampling without replacement has
E s_i = p = m/n and E s_i s_j = m(m−1)/(n(n−1)), so with κ = p(1−p) n/(n−1) and deviations f°_i = f_i − (1/n) Σ_j f_j

    mean⁺ = (0, V) + p Σ_i f_i,    Cov⁺ = H Cov Hᵀ + κ E Σ_i f°_i f°_iᵀ + p Σ_i Cov ζ_i,    H = the mean's linear part.

Everything a trace records is quadratic in the state, so it follows from both. Derived here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedconv.analysis.exact.measures import Measures
from fedconv.analysis.exact.response import Responses, respond

if TYPE_CHECKING:
    from fedconv.core.run import Experiment
    from fedconv.problems.split.quadratic import Quadratic


@dataclass(frozen=True)
class Arrow:
    """A linear map of (u, V) whose u-part may see everything, and whose v_i-part sees u and v_i only.

    top ``(d_u, N)``, side ``(n d_v, d_u)``, diagonal ``(n, d_v, d_v)``; N = d_u + n d_v.
    """

    top: np.ndarray
    side: np.ndarray
    diagonal: np.ndarray

    def __matmul__(self, x: np.ndarray) -> np.ndarray:
        """This map times ``x (N, k)``, in O(N d k)."""
        n, d_v, _ = self.diagonal.shape
        d_u = len(self.top)
        own = self.diagonal @ x[d_u:].reshape(n, d_v, x.shape[1])
        return np.concatenate([self.top @ x, self.side @ x[:d_u] + own.reshape(n * d_v, x.shape[1])])

    def sandwich(self, covariance: np.ndarray) -> np.ndarray:
        """A Cov Aᵀ for a symmetric Cov."""
        return self @ np.ascontiguousarray((self @ covariance).T)


@dataclass(frozen=True)
class Blocks:
    """Where the parts of (u, v_i) lie in an ``(N, N)`` matrix over (u, V)."""

    n: int
    d_u: int
    d_v: int

    @property
    def size(self) -> int:
        return self.d_u + self.n * self.d_v

    @property
    def places(self) -> np.ndarray:
        """Index of each coordinate of (u, v_i) in (u, V), ``(n, q)``, q = d_u + d_v."""
        shared = np.broadcast_to(np.arange(self.d_u), (self.n, self.d_u))
        own = self.d_u + np.arange(self.n * self.d_v).reshape(self.n, self.d_v)
        return np.concatenate([shared, own], axis=1)

    def embed(self, parts: np.ndarray) -> np.ndarray:
        """Σ_i of matrices ``(n, q, q)`` over (u, v_i), as one matrix over (u, V)."""
        n, d_u, d_v = self.n, self.d_u, self.d_v
        out = np.zeros((self.size, self.size))
        out[:d_u, :d_u] = parts[:, :d_u, :d_u].sum(0)
        out[:d_u, d_u:] = parts[:, :d_u, d_u:].transpose(1, 0, 2).reshape(d_u, n * d_v)
        out[d_u:, :d_u] = parts[:, d_u:, :d_u].reshape(n * d_v, d_u)
        own = self.places[:, d_u:]
        out[own[:, :, None], own[:, None, :]] = parts[:, d_u:, d_u:]
        return out


class Recursion:
    """The round of an experiment on a quadratic problem, as a map of mean ``(N,)`` and covariance ``(N, N)``."""

    def __init__(self, experiment: Experiment, responses: Responses) -> None:
        problem, m = experiment.problem, experiment.algorithm.m
        n = problem.n
        self.blocks = Blocks(n, problem.d_u, problem.d_v)
        self.p = m / n
        self.kappa = self.p * (1 - self.p) * n / (n - 1) if m < n else 0.0
        d_u = problem.d_u
        shared, personal = responses.shared_end.scaled(1 / m), responses.displacement
        self.step = shared.stacked(personal)
        own = personal.linear[:, :, d_u:]
        side = personal.linear[:, :, :d_u].reshape(n * problem.d_v, d_u)
        top = np.concatenate([shared.linear[:, :, :d_u].sum(0), *shared.linear[:, :, d_u:]], axis=1)
        self.total = Arrow(top, side, own)
        self.mean_map = Arrow(self.p * top, self.p * side, np.eye(problem.d_v) + self.p * own)
        self.fresh = self.p * self.blocks.embed(self.step.noise @ self.step.noise.swapaxes(1, 2))
        self._places = self.blocks.places

    def start(self, experiment: Experiment) -> tuple[np.ndarray, np.ndarray]:
        u, v = experiment.start.u.cpu().numpy(), experiment.start.v.cpu().numpy()
        return np.concatenate([u, v.ravel()]), np.zeros((self.blocks.size, self.blocks.size))

    def per_client(self, mean: np.ndarray) -> np.ndarray:
        """The mean of every (u, v_i), ``(n, q)``."""
        return mean[self._places]

    def per_client_covariance(self, covariance: np.ndarray) -> np.ndarray:
        """The covariance of every (u, v_i), ``(n, q, q)``."""
        return covariance[self._places[:, :, None], self._places[:, None, :]]

    def advance(self, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance one round later."""
        d_u = self.blocks.d_u
        moves = self.step.at(self.per_client(mean))
        after = np.concatenate([self.p * moves[:, :d_u].sum(0), mean[d_u:] + self.p * moves[:, d_u:].ravel()])
        spread = self.mean_map.sandwich(covariance) + self.fresh
        if self.kappa:
            own = self.step.linear @ self.per_client_covariance(covariance) @ self.step.linear.swapaxes(1, 2)
            moves[:, :d_u] -= moves[:, :d_u].mean(0)
            every = self.blocks.embed(own + moves[:, :, None] * moves[:, None, :])
            every -= self.total.sandwich(covariance) / self.blocks.n
            personal = moves[:, d_u:].ravel()
            every[d_u:, d_u:] -= np.outer(personal, personal) / self.blocks.n
            spread += self.kappa * every
        return after, 0.5 * (spread + spread.T)


def moments(experiment: Experiment, quadratic: Quadratic, level: str) -> dict[str, np.ndarray]:
    """The expectations of everything a trace records at a level: arrays ``(1, T)``, and of the final state."""
    with np.errstate(all="ignore"):
        responses = respond(experiment, quadratic)
        recursion = Recursion(experiment, responses)
        measures = Measures(experiment, responses, level)
        T, n, q = experiment.T, experiment.problem.n, responses.gradient.linear.shape[2]
        means, seen = np.empty((T, n, q)), np.empty((T, measures.count))
        mean, covariance = recursion.start(experiment)
        for t in range(T):
            means[t] = recursion.per_client(mean)
            seen[t] = measures.of_covariance(covariance, recursion.per_client_covariance(covariance))
            mean, covariance = recursion.advance(mean, covariance)
        out = {key: values[None, :] for key, values in measures.assemble(means, seen).items()}
        final = measures.objective(recursion.per_client(mean), recursion.per_client_covariance(covariance))
    d_u, d_v = experiment.problem.d_u, experiment.problem.d_v
    return out | {
        "F_final": np.array([final]),
        "u_final": mean[None, :d_u],
        "v_final": mean[None, d_u:].reshape(1, n, d_v),
    }
