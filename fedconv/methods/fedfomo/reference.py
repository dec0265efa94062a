"""The slow, obvious FedFomo: one replicate, one client, one candidate at a time, with lists and loops.

It shares with the simulator the problem's formulas and the streams of random numbers, and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from fedconv.core.streams import Cause, Streams
from fedconv.methods.fedfomo.experiment import FedFomoExperiment
from fedconv.methods.fedfomo.method import FedFomo
from fedconv.problems.compiled.xoshiro import uniform
from fedconv.problems.noise import standard
from fedconv.problems.targets.base import TargetProblem
from fedconv.problems.targets.samples import SampleTargets


@dataclass(frozen=True)
class Draws:
    """What chance decides in one replicate: ``cohorts (T, m)``; coins and picks of every slot, two numbers each
    ``(T, m, M, 2)``; ``lots`` for ties ``(T, m, M)``; what is added to gradients ``(T, m, τ, d)``; noise of losses
    ``(T, m, 2 + M)``."""

    cohorts: np.ndarray
    slots: np.ndarray
    lots: np.ndarray
    steps: np.ndarray
    losses: np.ndarray


def draw(experiment: FedFomoExperiment, replicate: int) -> Draws:
    """The random numbers of one replicate, one by one in the order that the streams promise."""
    problem, method, T = experiment.problem, experiment.algorithm, experiment.T
    n, m, tau, d_u, d_v = problem.n, method.m, method.tau, problem.d_u, problem.d_v
    M, streams, only = method.fetched(n), Streams(experiment.seed), np.array([replicate], dtype=np.int64)
    scale_u, scale_v = experiment.noise.scales(d_u, d_v)
    law, parameter = experiment.noise.code()
    cohorts = np.empty((T, m), dtype=np.int64)
    lots = np.empty((T, m, M))
    slots, steps, losses = np.empty((T, m, M, 2)), np.zeros((T, m, tau, d_u + d_v)), np.zeros((T, m, 2 + M))
    for t in range(T):
        cohorts[t] = streams.cohorts(only, t, n, m)[0, :m]
        state = streams.states(Cause.EXPLORE, only, t)[0]
        for place in np.ndindex(m, M, 2):
            slots[(t, *place)] = uniform(state)
        state = streams.states(Cause.TIES, only, t)[0]
        for place in np.ndindex(m, M):
            lots[(t, *place)] = uniform(state)
        if method.privacy is not None:
            assert isinstance(problem, SampleTargets)
            state = streams.states(Cause.PRIVACY, only, t)[0]
            size = method.privacy.noise_multiplier * method.privacy.clip / problem.samples
            for place in np.ndindex(m, tau, d_u + d_v):
                steps[(t, *place)] = size * standard(1, 0.0, state)
            if method.privacy.loss_noise is not None:
                state = streams.states(Cause.PRIVACY_LOSS, only, t)[0]
                for place in np.ndindex(m, 2 + M):
                    losses[(t, *place)] = standard(1, 0.0, state)
            continue
        state_u, state_v = (streams.states(cause, only, t)[0] for cause in (Cause.NOISE_U, Cause.NOISE_V))
        for c, j, x in np.ndindex(m, tau, d_u):
            steps[t, c, j, x] = scale_u * standard(law, parameter, state_u)
        for c, j, x in np.ndindex(m, tau, d_v):
            steps[t, c, j, d_u + x] = scale_v * standard(law, parameter, state_v)
    return Draws(cohorts, slots, lots, steps, losses)


class Model:
    """F_i, ∇F_i and L_i, ∇L_i of one client at one point θ, as NumPy."""

    def __init__(self, experiment: FedFomoExperiment) -> None:
        self.problem, self.method = experiment.problem, experiment.algorithm
        self.target = self.method.assignment(self.problem.n)

    def _call(self, name: str, i: int, x: np.ndarray) -> np.ndarray:
        d_u, w = self.problem.d_u, torch.from_numpy(x.copy())[None]
        return getattr(self.problem, name)(w[:, :d_u], w[:, d_u:], torch.tensor([i]))[0].numpy().copy()

    def slope(self, i: int, x: np.ndarray) -> np.ndarray:
        """∇F_i(θ), or with privacy the mean of the samples' clipped gradients."""
        privacy = self.method.privacy
        if privacy is None:
            return np.concatenate([self._call("grad_u", i, x), self._call("grad_v", i, x)])
        assert isinstance(self.problem, SampleTargets)
        total = np.zeros(len(x))
        for sample in self.problem.X[i].numpy():
            g = self.problem.curvature * (x - sample)
            total += g * min(1.0, privacy.clip / math.sqrt(float(g @ g)))
        return total / self.problem.samples

    def loss(self, i: int, x: np.ndarray) -> float:
        """L_i(θ)."""
        name = "target_value" if isinstance(self.problem, TargetProblem) else "value"
        return float(self._call(name, int(self.target[i]), x))

    def told(self, i: int, x: np.ndarray, noise: float) -> float:
        """L_i(θ) as the client measures it."""
        privacy = self.method.privacy
        if privacy is None or privacy.loss_noise is None or privacy.loss_bound is None:
            return self.loss(i, x)
        assert isinstance(self.problem, SampleTargets)
        samples = self.problem.Y[int(self.target[i])].numpy()
        each = [min(privacy.loss_bound, 0.5 * self.problem.curvature * float((x - y) @ (x - y))) for y in samples]
        return sum(each) / len(each) + privacy.loss_noise * privacy.loss_bound / len(each) * noise


def pick(
    i: int, uploaded: list[int], affinity: np.ndarray, slots: np.ndarray, rate: float, lots: np.ndarray | None
) -> tuple[list[int], list[int]]:
    """Whose models client i downloads, and those explored; without lots ties go to the smaller number."""
    left = [j for j in uploaded if j != i]
    everything = len(left) <= len(slots)
    chosen, explored = [], []
    for k, (coin, place) in enumerate(slots):
        if not left:
            break
        if coin < rate and not everything:
            j = left[min(int(place * len(left)), len(left) - 1)]
            explored.append(j)
        else:
            most = max(affinity[i, j] for j in left)
            equal = [j for j in left if affinity[i, j] == most]
            j = equal[0 if lots is None or everything else min(int(lots[k] * len(equal)), len(equal) - 1)]
        left.remove(j)
        chosen.append(j)
    return chosen, explored


def distance(method: FedFomo, d: np.ndarray) -> float:
    """c_n of a step d_n."""
    if method.norm == "layers":
        cuts = np.cumsum(method.layers or ())[:-1]
        return sum(math.sqrt(float(part @ part)) for part in np.split(d, cuts))
    size = float(d @ d)
    return {"euclidean": math.sqrt(size), "l1": float(np.abs(d).sum()), "squared": size, "none": 1.0}[method.norm]


def weigh(method: FedFomo, steps: list[np.ndarray], gains: list[float]) -> tuple[list[float], list[float], float]:
    """(scores, weights, S) of candidates by their d_n and Δ_n."""
    scores = []
    for d, gain in zip(steps, gains, strict=True):
        size = math.sqrt(float(d @ d))
        if size == 0 or not math.isfinite(gain):
            scores.append(0.0)
            continue
        cost = distance(method, d)
        scores.append(gain / cost - method.margin * size / 2)
    total = sum(a for a in scores if a > 0)
    weights = [max(a, 0.0) / total if total > 0 else 0.0 for a in scores]
    return scores, weights, total


def simulate(experiment: FedFomoExperiment, draws: Draws) -> dict[str, np.ndarray]:
    """T rounds of one replicate: the simulator's numbers of level ``proof`` without the replicate axis."""
    method, model, T = experiment.algorithm, Model(experiment), experiment.T
    n, start = experiment.problem.n, experiment.models.numpy()
    base, trained, alone = start.copy(), start.copy(), start.copy()
    uploaded: list[int] = []
    P = np.eye(n)
    points: dict[str, list[np.ndarray]] = {
        k: [] for k in ("w", "w_trained", "affinity", "loss", "trained_loss", "local_loss")
    }
    rounds = {
        k: np.zeros((T, n)) for k in ("promised", "decrease", "spread", "total", "candidates", "own_share", "efficient")
    }
    pairs = {k: np.zeros((T, n, n)) for k in ("weight", "origin", "gain", "distance", "score")}
    bits = {"bits_down": np.zeros(T), "bits_up": np.zeros(T)}

    def keep() -> None:
        points["w"].append(base.copy())
        points["w_trained"].append(trained.copy())
        points["affinity"].append(P.copy())
        for name, models in (("loss", base), ("trained_loss", trained), ("local_loss", alone)):
            points[name].append(np.array([model.loss(i, models[i]) for i in range(n)]))

    keep()
    for t in range(T):
        before, had, old = base.copy(), trained.copy(), P.copy()
        ready = [int(j) for j in sorted(uploaded)]
        for c, i in enumerate(draws.cohorts[t]):
            after = before[i].copy()
            if int(i) in ready:
                others, explored = pick(int(i), ready, old, draws.slots[t, c], method.rate(t),
                                        draws.lots[t, c] if method.ties == "random" else None)  # fmt: skip
                who = [int(i), *others]
                zero = model.told(i, before[i], draws.losses[t, c, 0])
                steps = [had[j] - before[i] for j in who]
                gains = [zero - model.told(i, had[j], draws.losses[t, c, 1 + k]) for k, j in enumerate(who)]
                sizes = [max(math.sqrt(float(x @ x)) for x in (before[i], had[j])) for j in who]
                gains = [
                    g if math.sqrt(float(d @ d)) > 4e-15 * s else 0.0
                    for g, d, s in zip(gains, steps, sizes, strict=True)
                ]
                scores, weights, total = weigh(method, steps, gains)
                for w, d in zip(weights, steps, strict=True):
                    after = after + w * d
                if total == 0 and method.rejected == "trained":
                    after = had[i].copy()
                signed = abs(sum(scores))
                for k, j in enumerate(who):
                    pairs["weight"][t, i, j], pairs["gain"][t, i, j] = weights[k], gains[k]
                    pairs["score"][t, i, j], pairs["distance"][t, i, j] = scores[k], np.linalg.norm(steps[k])
                    pairs["origin"][t, i, j] = 1 if j == i else 3 if j in explored else 2
                    signed_share = scores[k] / signed if signed > 0 else 0.0
                    P[i, j] += {"clipped": weights[k], "signed": signed_share, "raw": scores[k]}[method.affinity]
                mean = after - before[i]
                rounds["promised"][t, i] = sum(w * g for w, g in zip(weights, gains, strict=True))
                rounds["decrease"][t, i] = model.loss(i, before[i]) - model.loss(i, after)
                rounds["spread"][t, i] = sum(
                    w * float((d - mean) @ (d - mean)) for w, d in zip(weights, steps, strict=True)
                )
                rounds["total"][t, i], rounds["candidates"][t, i] = total, len(who)
                shares = _shares(method, steps, gains)
                rounds["own_share"][t, i] = shares[0]
                rounds["efficient"][t, i] = max(s * g for s, g in zip(shares, gains, strict=True))
                bits["bits_down"][t] += len(others) * len(after) * method.value_bits
                bits["bits_up"][t] += len(others) * method.value_bits
            base[i] = after
            path, lone = after, alone[i]
            for j in range(method.tau):
                path = path - method.gamma * (model.slope(i, path) + draws.steps[t, c, j])
                lone = lone - method.gamma * (model.slope(i, lone) + draws.steps[t, c, j])
            trained[i], alone[i] = path, lone
            bits["bits_up"][t] += len(after) * method.value_bits
        uploaded = sorted({*uploaded, *(int(i) for i in draws.cohorts[t])})
        keep()
    return {k: np.array(x) for k, x in points.items()} | rounds | pairs | bits


def _shares(method: FedFomo, steps: list[np.ndarray], gains: list[float]) -> list[float]:
    """2/(1 + √κ_r) for every candidate, 0 where Δ_r ≤ 0."""
    cost = [distance(method, d) for d in steps]
    inverse = sum(1 / c for c, g in zip(cost, gains, strict=True) if g > 0)
    return [2 / (1 + math.sqrt(c * inverse)) if g > 0 else 0.0 for c, g in zip(cost, gains, strict=True)]
