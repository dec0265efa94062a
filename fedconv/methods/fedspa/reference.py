"""The slow, obvious FedSpa: one replicate, one client, one weight at a time, with lists and loops.

It shares with the simulator the problem's formulas and the streams of random numbers, and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fedconv.core.streams import Cause, Streams
from fedconv.methods.fedspa.experiment import FedSpaExperiment
from fedconv.methods.split.reference import Clients
from fedconv.problems.noise import standard


@dataclass(frozen=True)
class Draws:
    """What chance decides in one replicate: ``cohorts (T, m)``, the noise of every client's steps ``(T, n, τ, d)`` and
    of the dense gradients ``(T, n, d)`` (0 for the absent)."""

    cohorts: np.ndarray
    steps: np.ndarray
    growth: np.ndarray


def draw(experiment: FedSpaExperiment, replicate: int) -> Draws:
    """Cohorts and noise of one replicate, number by number in the order that the streams promise."""
    problem, method, T = experiment.problem, experiment.algorithm, experiment.T
    n, m, tau, d_u, d_v = problem.n, method.m, method.tau, problem.d_u, problem.d_v
    scale_u, scale_v = experiment.noise.scales(d_u, d_v)
    law, parameter = experiment.noise.code()
    streams, only = Streams(experiment.seed), np.array([replicate], dtype=np.int64)
    cohorts = np.empty((T, m), dtype=np.int64)
    steps, growth = np.zeros((T, n, tau, d_u + d_v)), np.zeros((T, n, d_u + d_v))
    for t in range(T):
        order = streams.cohorts(only, t, n, m)[0]
        cohorts[t] = order[:m]
        for clients, cause_u, cause_v in (
            (order[:m], Cause.NOISE_U, Cause.NOISE_V),
            (order[m:], Cause.ABSENT_NOISE_U, Cause.ABSENT_NOISE_V),
        ):
            state_u, state_v = streams.states(cause_u, only, t)[0], streams.states(cause_v, only, t)[0]
            for i in clients:
                for j in range(tau):
                    for x in range(d_u):
                        steps[t, i, j, x] = scale_u * standard(law, parameter, state_u)
                for j in range(tau):
                    for x in range(d_v):
                        steps[t, i, j, d_u + x] = scale_v * standard(law, parameter, state_v)
        state = streams.states(Cause.MASK, only, t)[0]
        for i in order[:m]:
            for x in range(d_u + d_v):
                growth[t, i, x] = (scale_u if x < d_u else scale_v) * standard(law, parameter, state)
    return Draws(cohorts, steps, growth)


class Model:
    """F_k and ∇F_k at one point, and f under masks."""

    def __init__(self, experiment: FedSpaExperiment) -> None:
        self.clients, self.d_u, self.n = Clients(experiment.problem), experiment.problem.d_u, experiment.problem.n

    def value(self, k: int, x: np.ndarray) -> float:
        return self.clients.value(k, x[: self.d_u].copy(), x[self.d_u :].copy())

    def grad(self, k: int, x: np.ndarray) -> np.ndarray:
        u, v = x[: self.d_u].copy(), x[self.d_u :].copy()
        return np.concatenate([self.clients.grad_u(k, u, v), self.clients.grad_v(k, u, v)])

    def objective(self, w: np.ndarray, masks: np.ndarray) -> float:
        return sum(self.value(k, w * masks[k]) for k in range(self.n)) / self.n


def anneal(alpha: float, t: int, end: int) -> float:
    """α_t = (α/2)(1 + cos(πt/T_end)) for t < T_end, then 0."""
    return alpha / 2 * (1 + math.cos(math.pi * t / end)) if t < end else 0.0


def exchange(
    mask: np.ndarray, w: np.ndarray, gradient: np.ndarray, sizes: list[int], moves: list[int], regrow_pruned: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The mask after switching off and the mask after switching on again: layer by layer, sorted lists."""
    off, on, begin = mask.copy(), mask.copy(), 0
    for size, r in zip(sizes, moves, strict=True):
        where = range(begin, begin + size)
        active = sorted((j for j in where if mask[j]), key=lambda j: (abs(w[j]), j))
        for j in active[:r]:
            off[j] = on[j] = False
        free = [j for j in where if not (on[j] if regrow_pruned else mask[j])]
        for j in sorted(free, key=lambda j: (-abs(gradient[j]), j))[:r]:
            on[j] = True
        begin += size
    return off, on


def simulate(experiment: FedSpaExperiment, draws: Draws) -> dict[str, np.ndarray]:
    """T rounds of one replicate: the simulator's numbers of level ``proof`` without the replicate axis."""
    method, settings, model = experiment.algorithm, experiment.algorithm.masks, Model(experiment)
    n, d, T = model.n, experiment.w_start.numel(), experiment.T
    sizes = [layer.size for layer in experiment.layout.layers]
    end = T if settings.T_end is None else settings.T_end
    masks, w = experiment.first_masks.copy(), experiment.w_start.numpy().copy()
    rows: list[dict[str, float]] = []
    path, kept, hamming = [w.copy()], [masks.copy()], np.zeros((T, n))
    for t in range(T):
        S = [int(k) for k in draws.cohorts[t]]
        alpha = 0.0 if settings.mode == "frozen" else anneal(settings.alpha, t, end)
        gradients = [masks[k] * model.grad(k, masks[k] * w) for k in range(n)]
        mean = sum(gradients, np.zeros(d)) / n
        row = {
            "f": model.objective(w, masks),
            "grad_sq": float(mean @ mean),
            "diversity": sum(float((g - mean) @ (g - mean)) for g in gradients) / n,
            "alpha": alpha,
        }
        updates, ends, means = {}, {}, {}
        for k in range(n):
            x, total = masks[k] * w, np.zeros(d)
            for j in range(method.tau):
                g = masks[k] * model.grad(k, x)
                total += g
                x = x - method.gamma * (g + masks[k] * draws.steps[t, k, j])
            updates[k], ends[k], means[k] = masks[k] * w - x, x, total / method.tau
        row["drift_sq"] = sum(float(np.sum((means[k] - gradients[k]) ** 2)) for k in range(n)) / n
        row["update_sq"] = sum(float(updates[k] @ updates[k]) for k in S) / len(S)
        after = w.copy()
        for j in range(d):
            holders = len(S) if method.average == "cohort" else max(1, sum(bool(masks[k][j]) for k in S))
            after[j] -= sum(updates[k][j] for k in S) / holders
        pruned, following = masks.copy(), masks.copy()
        for k in S:
            moves, begin = [], 0
            for size in sizes:
                s = int(masks[k][begin : begin + size].sum())
                r = math.ceil(round(alpha * s, 9)) if alpha * s > 1e-9 else (1 if alpha * s > 0 else 0)
                moves.append(r if settings.regrow_pruned else min(r, size - s))
                begin += size
            if any(moves):
                dense = model.grad(k, ends[k]) + draws.growth[t, k]
                pruned[k], following[k] = exchange(masks[k], ends[k], dense, sizes, moves, settings.regrow_pruned)
        row["f_after"] = model.objective(after, masks)
        row["f_next"] = model.objective(after, following)
        row["jump"] = row["f_next"] - row["f_after"]
        row["jump_prune"] = model.objective(after, pruned) - row["f_after"]
        row["jump_regrow"] = row["f_next"] - model.objective(after, pruned)
        moved = [abs(after[j]) for k in range(n) for j in range(d) if masks[k][j] != following[k][j]]
        row["changed_l1"], row["changed_max"] = sum(moved), max(moved, default=0.0)
        hamming[t] = [(masks[k] != following[k]).sum() for k in range(n)]
        rows.append(row)
        w, masks = after, following
        path.append(w.copy())
        kept.append(masks.copy())
    out = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    return out | {
        "w": np.array(path),
        "mask": np.array(kept),
        "hamming": hamming,
        "F_final": np.array(model.objective(w, masks)),
    }
