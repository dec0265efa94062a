"""What a trace records, as quadratic forms of the state: their expectations from its mean and covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from fedconv.analysis.exact.response import Affine, Responses

if TYPE_CHECKING:
    from fedconv.core.run import Experiment

Kind = Literal["each", "mean", "spread"]


@dataclass(frozen=True)
class Term:
    """weight times a product of two families of vectors l_i, r_i ``(r,)``, one for each client.

    each: (1/n) Σ_i ⟨l_i, r_i⟩. mean: ⟨l̄, r̄⟩ with the means over clients. spread: (1/n) Σ_i ⟨l_i − l̄, r_i − r̄⟩, that
    is each − mean.
    """

    weight: float
    kind: Kind
    left: Affine
    right: Affine


def terms(experiment: Experiment, responses: Responses, level: str) -> dict[str, list[Term]]:
    """The expectations over cohort and noise of a round, given the state at its start, by name.

    A product of sums over the cohort needs the pair probabilities: with p = m/n,
    E‖(1/n) Σ_{i∉S} e_i‖² = (1−p)² ‖ē‖² + m(n−m)/(n²(n−1)) · (1/n) Σ_i ‖e_i − ē‖²  (L1 for the n−m absent), and
    E⟨(1/n) Σ_{j∈S} e_j, (1/m) Σ_{i∈S} y_i⟩ = (m−1)/(n−1) ⟨ē, ȳ⟩ + (n−m)/(n(n−1)) · (1/n) Σ_i ⟨e_i, y_i⟩. Derived here.
    """
    n, m, r = experiment.problem.n, experiment.algorithm.m, responses
    out = {
        "F": [Term(1.0, "each", r.point, r.slope)],
        "grad_u_sq": [Term(1.0, "mean", r.gradient, r.gradient)],
        "grad_v_sq": [Term(1.0, "each", r.personal, r.personal)],
        "diversity": [Term(1.0, "spread", r.gradient, r.gradient)],
    }
    virtual = experiment.algorithm.measured_at == "virtual"
    if virtual:
        out["grad_u_virtual_sq"] = [Term(1.0, "mean", r.at_virtual, r.at_virtual)]
        out["diversity_virtual"] = [Term(1.0, "spread", r.at_virtual, r.at_virtual)]
    if level == "stationarity":
        return out
    p, alone = m / n, 0.0 if n == 1 else (n - m) / (n * (n - 1))
    pair = 1.0 if n == 1 else (m - 1) / (n - 1)
    at = r.at_virtual if virtual else r.gradient
    return out | {
        "drift_u": [Term(1.0, "each", r.moved_u, r.moved_u)],
        "drift_v": [Term(1.0, "each", r.moved_v, r.moved_v)],
        "displacement": [Term(1.0, "each", r.displacement, r.displacement)],
        "l6_gap_sq": [
            Term((1 - p) ** 2, "mean", r.change, r.change),
            Term(m / n * alone, "spread", r.change, r.change),
        ],
        "l7_sampled": [Term(1.0, "mean", at, r.y + r.z)],
        "l7_full": [Term(1.0, "mean", at, r.y)],
        "l7_real_sampled": [
            Term(1.0, "mean", r.gradient, r.y),
            Term(pair, "mean", r.change, r.y),
            Term(alone, "each", r.change, r.y),
        ],
        "l7_real_full": [Term(1.0, "mean", r.gradient, r.y), Term(p, "mean", r.change, r.y)],
    }


class Measures:
    """The expectations of a round's measures, from mean and covariance of the state at its start.

    Each is its value at the mean, plus a linear functional of the covariance, plus the noise of the round itself.
    """

    def __init__(self, experiment: Experiment, responses: Responses, level: str) -> None:
        self._terms = terms(experiment, responses, level)
        self._n = experiment.problem.n
        self._d_u = experiment.problem.d_u
        pieces = [t for chosen in self._terms.values() for t in chosen]
        averaged: list[Affine] = []
        for t in pieces:
            if t.kind != "each":
                averaged += [x for x in (t.left, t.right) if not any(x is y for y in averaged)]
        self._rows = np.stack([self._mean_rows(x) for x in averaged]) if averaged else np.zeros((0, 0, 0))
        count, q = len(self._terms), responses.point.linear.shape[2]
        self._own = np.zeros((count, self._n, q, q))
        self._products = np.zeros((count, len(averaged), len(averaged)))
        self._noise = np.zeros(count)

        def number(x: Affine) -> int:
            return next(k for k, y in enumerate(averaged) if x is y)

        for k, chosen in enumerate(self._terms.values()):
            for t in chosen:
                noise = np.einsum("irb,irb->", t.left.noise, t.right.noise) / self._n
                share = {"each": 1.0, "mean": 1 / self._n, "spread": 1 - 1 / self._n}[t.kind]
                self._noise[k] += t.weight * share * noise
                if t.kind != "mean":
                    self._own[k] += t.weight / self._n * (t.left.linear.swapaxes(1, 2) @ t.right.linear)
                if t.kind != "each":
                    sign = 1.0 if t.kind == "mean" else -1.0
                    self._products[k, number(t.left), number(t.right)] += sign * t.weight
        self._own = self._own.reshape(count, self._n * q * q)

    @property
    def count(self) -> int:
        return len(self._terms)

    def _mean_rows(self, x: Affine) -> np.ndarray:
        """The linear part of the clients' mean as a map of (u, V), ``(r, N)``."""
        d_u = self._d_u
        return np.concatenate([x.linear[:, :, :d_u].sum(0), *x.linear[:, :, d_u:]], axis=1) / self._n

    def of_covariance(self, covariance: np.ndarray, per_client: np.ndarray) -> np.ndarray:
        """What the covariance adds to each measure, ``(count,)``."""
        k, r, size = self._rows.shape
        rows = self._rows.reshape(k * r, size)
        traces = np.einsum("krlr->kl", ((rows @ covariance) @ rows.T).reshape(k, r, k, r))
        return self._own @ per_client.ravel() + self._products.reshape(self.count, k * k) @ traces.ravel()

    def assemble(self, means: np.ndarray, of_covariance: np.ndarray) -> dict[str, np.ndarray]:
        """The measures ``(T,)`` by name, from the means ``(T, n, q)`` and what the covariances add ``(T, count)``."""
        found = {key: self._at(chosen, means) for key, chosen in self._terms.items()}
        return {key: values + of_covariance[:, k] + self._noise[k] for k, (key, values) in enumerate(found.items())}

    def objective(self, mean: np.ndarray, per_client: np.ndarray) -> float:
        """E F at a state with the given mean ``(n, q)`` and covariances ``(n, q, q)`` of the (u, v_i)."""
        k = list(self._terms).index("F")
        return float(self._at(self._terms["F"], mean[None])[0] + self._own[k] @ per_client.ravel())

    def _at(self, chosen: list[Term], means: np.ndarray) -> np.ndarray:
        total = np.zeros(len(means))
        for t in chosen:
            left = t.left.at(means)
            right = left if t.right is t.left else t.right.at(means)
            if t.kind == "each":
                total += t.weight * (left * right).sum(-1).mean(-1)
                continue
            mean_left, mean_right = left.mean(1), right.mean(1)
            if t.kind == "mean":
                total += t.weight * (mean_left * mean_right).sum(-1)
            else:
                apart = (left - mean_left[:, None]) * (right - mean_right[:, None])
                total += t.weight * apart.sum(-1).mean(-1)
        return total
