"""The slow, obvious implementation: one replicate, one client, one step at a time, in NumPy.

It shares nothing with the engines but the problem's formulas and the streams of random numbers, takes its
cohorts and its noise as plain arrays, and is what the engines are checked against.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fedconv.core.streams import Cause, Streams
from fedconv.methods.split import Algorithm, FedAlt, FedAvg, FedSim, LocalOnly, State
from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise, standard
from fedconv.problems.written_for import written_for


@dataclass(frozen=True)
class Draws:
    """What chance decides in one replicate: ``cohorts (T, m)`` (client indices) and the scaled gradient
    noise of every client, sampled or absent, ``u (T, n, tau_u, d_u)`` and ``v (T, n, tau_v, d_v)``."""

    cohorts: np.ndarray
    u: np.ndarray
    v: np.ndarray


@dataclass(frozen=True)
class Path:
    """Local steps of one client: the points before each step, the gradients there, the noise, the end."""

    u: list[np.ndarray]
    v: list[np.ndarray]
    grad_u: list[np.ndarray]
    noise_u: list[np.ndarray]
    end_u: np.ndarray
    end_v: np.ndarray


class Clients:
    """F_i, ∇_uF_i and ∇_vF_i of one client at one point, as NumPy arrays."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def value(self, i: int, u: np.ndarray, v: np.ndarray) -> float:
        return float(self._problem.value(*self._batch(i, u, v))[0])

    def grad_u(self, i: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return self._problem.grad_u(*self._batch(i, u, v))[0].numpy().copy()

    def grad_v(self, i: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return self._problem.grad_v(*self._batch(i, u, v))[0].numpy().copy()

    @staticmethod
    def _batch(i: int, u: np.ndarray, v: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return torch.from_numpy(u)[None], torch.from_numpy(v)[None], torch.tensor([i])


def draw(problem: Problem, algorithm: Algorithm, noise: Noise, T: int, streams: Streams, replicate: int) -> Draws:
    """Cohorts and noise of one replicate, number by number in the order that the streams promise."""
    n, m = problem.n, algorithm.m
    scale_u, scale_v = noise.scales(problem.d_u, problem.d_v)
    law, parameter = noise.code()

    def draw_rows(state: np.ndarray, tau: int, d: int) -> np.ndarray:
        return np.array([standard(law, parameter, state) for _ in range(tau * d)]).reshape(tau, d)

    cohorts = np.empty((T, m), dtype=np.int64)
    u = np.empty((T, n, algorithm.tau_u, problem.d_u))
    v = np.empty((T, n, algorithm.tau_v, problem.d_v))
    only = np.array([replicate], dtype=np.int64)
    for t in range(T):
        order = streams.cohorts(only, t, n, m)[0]
        cohorts[t] = order[:m]
        for clients, cause_u, cause_v in (
            (order[:m], Cause.NOISE_U, Cause.NOISE_V),
            (order[m:], Cause.ABSENT_NOISE_U, Cause.ABSENT_NOISE_V),
        ):
            state_u = streams.states(cause_u, only, t)[0]
            state_v = streams.states(cause_v, only, t)[0]
            for i in clients:
                if noise.dependence != "independent" and isinstance(algorithm, FedSim):
                    both = draw_rows(state_u, algorithm.tau_u, max(problem.d_u, problem.d_v))
                    other = draw_rows(state_v, algorithm.tau_v, problem.d_v)
                    u[t, i] = scale_u * both[:, : problem.d_u]
                    v[t, i] = scale_v * (noise.correlation * both[:, : problem.d_v] + noise.remainder * other)
                else:
                    u[t, i] = scale_u * draw_rows(state_u, algorithm.tau_u, problem.d_u)
                    v[t, i] = scale_v * draw_rows(state_v, algorithm.tau_v, problem.d_v)
    return Draws(cohorts, u, v)


def local_alt(
    clients: Clients,
    a: Algorithm,
    i: int,
    u: np.ndarray,
    v: np.ndarray,
    noise_u: np.ndarray,
    noise_v: np.ndarray,
) -> Path:
    """LocalAlt of client i from (u, v): τ_v personal steps at u, then τ_u shared steps at the new v."""
    at_v, at_u, grads = [], [], []
    x, w = u, v
    for k in range(a.tau_v):
        at_v.append(w)
        w = w - a.gamma_v * (clients.grad_v(i, u, w) + noise_v[k])
    for k in range(a.tau_u):
        at_u.append(x)
        grads.append(clients.grad_u(i, x, w))
        x = x - a.gamma_u * (grads[-1] + noise_u[k])
    return Path(at_u, at_v, grads, list(noise_u), x, w)


def local_sim(
    clients: Clients,
    a: Algorithm,
    i: int,
    u: np.ndarray,
    v: np.ndarray,
    noise_u: np.ndarray,
    noise_v: np.ndarray,
) -> Path:
    """LocalSim of client i from (u, v): τ steps of both blocks at once."""
    at_v, at_u, grads = [], [], []
    x, w = u, v
    for k in range(a.tau_u):
        at_u.append(x)
        at_v.append(w)
        grads.append(clients.grad_u(i, x, w))
        step_v = clients.grad_v(i, x, w) + noise_v[k]
        x = x - a.gamma_u * (grads[-1] + noise_u[k])
        w = w - a.gamma_v * step_v
    return Path(at_u, at_v, grads, list(noise_u), x, w)


def simulate_replicate(
    problem: Problem, algorithm: Algorithm, start: State, draws: Draws, level: str
) -> dict[str, np.ndarray]:
    """T rounds of one replicate under given draws; the engines' keys without the replicate axis."""
    clients = Clients(problem)
    n, T = problem.n, len(draws.cohorts)
    local = local_sim if isinstance(algorithm, FedSim) else local_alt
    u, V = start.u.numpy().copy(), start.v.numpy().copy()
    rows: list[dict[str, float]] = []
    cohort = np.zeros((T, n), dtype=bool)
    for t in range(T):
        S = draws.cohorts[t]
        cohort[t, S] = True
        wanted = S if level == "none" else range(n)
        paths = {int(i): local(clients, algorithm, int(i), u, V[i], draws.u[t, i], draws.v[t, i]) for i in wanted}
        after = V.copy()
        for i in S:
            after[i] = paths[int(i)].end_v
        if level != "none":
            rows.append(_measure(clients, algorithm, u, V, after, paths, S, proof=level == "proof"))
        u = sum((paths[int(i)].end_u for i in S), np.zeros_like(u)) / len(S)
        V = after
    final = np.mean([clients.value(i, u, V[i]) for i in range(n)])
    measured = {key: np.array([row[key] for row in rows]) for key in (rows[0] if rows else {})}
    return measured | {"F_final": np.array(final), "u_final": u, "v_final": V, "cohort": cohort}


def _measure(
    clients: Clients,
    algorithm: Algorithm,
    u: np.ndarray,
    V: np.ndarray,
    after: np.ndarray,
    paths: dict[int, Path],
    S: np.ndarray,
    *,
    proof: bool,
) -> dict[str, float]:
    n = len(V)
    virtual = np.array([paths[i].end_v for i in range(n)])

    def shared_gradient(at: np.ndarray) -> tuple[np.ndarray, float]:
        each = [clients.grad_u(i, u, at[i]) for i in range(n)]
        mean = sum(each, np.zeros_like(u)) / n
        return mean, sum(_sq(g - mean) for g in each) / n

    gradient, diversity = shared_gradient(V)
    out = {
        "F": sum(clients.value(i, u, V[i]) for i in range(n)) / n,
        "grad_u_sq": _sq(gradient),
        "grad_v_sq": sum(_sq(clients.grad_v(i, u, V[i])) for i in range(n)) / n,
        "diversity": diversity,
    }
    at_virtual, diversity_virtual = shared_gradient(virtual)
    measured_at = gradient
    if isinstance(algorithm, FedAlt):
        measured_at = at_virtual
        out |= {"grad_u_virtual_sq": _sq(at_virtual), "diversity_virtual": diversity_virtual}
    if not proof:
        return out
    at_after, _ = shared_gradient(after)
    zero = np.zeros_like(u)
    y = [sum(paths[i].grad_u, zero) for i in range(n)]
    z = [sum(paths[i].noise_u, zero) for i in range(n)]
    y_mean = sum(y, zero) / n
    return out | {
        "drift_u": sum(_sq(x - u) for i in range(n) for x in paths[i].u) / n,
        "drift_v": sum(_sq(w - V[i]) for i in range(n) for w in paths[i].v) / n,
        "displacement": sum(_sq(virtual[i] - V[i]) for i in range(n)) / n,
        "l6_gap_sq": _sq(at_after - at_virtual),
        "l7_sampled": float(measured_at @ (sum((y[i] + z[i] for i in S), zero) / len(S))),
        "l7_full": float(measured_at @ y_mean),
        "l7_real_sampled": float(at_after @ (sum((y[i] for i in S), zero) / len(S))),
        "l7_real_full": float(at_after @ y_mean),
    }


def _sq(x: np.ndarray) -> float:
    return float(x @ x)


def simulate_block(
    problem: Problem,
    algorithm: Algorithm,
    noise: Noise,
    start: State,
    T: int,
    streams: Streams,
    replicates: np.ndarray,
    level: str,
) -> dict[str, np.ndarray]:
    """What the engines' ``simulate_block`` gives, by :func:`draw` and :func:`simulate_replicate`."""
    if not written_for(algorithm, FedAlt, FedAvg, LocalOnly, FedSim):
        raise InputError(
            f"the reference knows FedAlt and FedSim and their special cases; got algorithm {algorithm.name!r}"
        )
    blocks = [
        simulate_replicate(problem, algorithm, start, draw(problem, algorithm, noise, T, streams, int(r)), level)
        for r in replicates
    ]
    return {key: np.stack([block[key] for block in blocks]) for key in blocks[0]}
