"""Deterministic runs in fifty digits: what remains near an optimum where floats cancel.

Quadratics with F★ from the normal equations, and the trigonometric family without coupling, where F★ = 0 at u = 0,
v = s (h = 0 there). Everybody takes part and nothing is noisy.
"""

from __future__ import annotations

from dataclasses import dataclass

import mpmath as mp
import numpy as np

from fedconv.core.run import Experiment
from fedconv.methods.split import FedAlt
from fedconv.problems.split.quadratic import Quadratic
from fedconv.problems.split.trigonometric import Trigonometric

DIGITS = 50


@dataclass(frozen=True)
class Precise:
    """X, Y, D in each round; gap0 = F(u⁰, V⁰) − F★; ``terms``: the size of the terms that F is a sum of, at the start
    and at the optimum."""

    X: np.ndarray
    Y: np.ndarray
    D: np.ndarray
    gap0: float
    terms: float


class _Quadratic:
    def __init__(self, problem: Quadratic) -> None:
        self.n, self.d_u, self.d_v = problem.n, problem.d_u, problem.d_v
        self.A, self.B, self.C, self.a, self.b = ([mp.matrix(x.tolist()) for x in getattr(problem, k)] for k in "ABCab")

    def grad_u(self, i, u, v):
        return self.A[i] * u + self.C[i] * v - self.a[i]

    def grad_v(self, i, u, v):
        return self.C[i].T * u + self.B[i] * v - self.b[i]

    def F(self, u, V):
        parts = []
        for i, v in enumerate(V):
            quadratic = (u.T * self.A[i] * u)[0] / 2 + (u.T * self.C[i] * v)[0] + (v.T * self.B[i] * v)[0] / 2
            parts.append((quadratic, (self.a[i].T * u)[0] + (self.b[i].T * v)[0]))
        return sum(q - l for q, l in parts) / self.n, sum(abs(q) + abs(l) for q, l in parts) / self.n

    def optimum(self):
        d, n = self.d_u, self.n
        N = d + n * self.d_v
        M, r = mp.zeros(N, N), mp.zeros(N, 1)
        for i in range(n):
            places = [*range(d), *range(d + i * self.d_v, d + (i + 1) * self.d_v)]
            for x, row in enumerate(places):
                r[row] += self.a[i][x] if x < d else self.b[i][x - d]
                for y, column in enumerate(places):
                    M[row, column] += self._entry(i, x, y)
        z = mp.lu_solve(M, r)
        return z[:d], [z[d + i * self.d_v : d + (i + 1) * self.d_v] for i in range(n)]

    def _entry(self, i, x, y):
        d = self.d_u
        if x < d and y < d:
            return self.A[i][x, y]
        if x >= d and y >= d:
            return self.B[i][x - d, y - d]
        return self.C[i][x, y - d] if x < d else self.C[i][y, x - d]


class _Trigonometric:
    def __init__(self, problem: Trigonometric) -> None:
        assert not problem.kappa.any()
        assert not problem.h.any()
        self.n, self.d_u, self.d_v = problem.n, problem.d_u, problem.d_v
        self.a, self.b = (mp.matrix(x.tolist()) for x in (problem.a, problem.b))
        self.s = [mp.matrix(x.tolist()) for x in problem.s]

    def grad_u(self, i, u, v):
        return mp.matrix([self.a[k] * mp.sin(u[k]) for k in range(self.d_u)])

    def grad_v(self, i, u, v):
        return mp.matrix([self.b[k] * mp.sin(v[k] - self.s[i][k]) for k in range(self.d_v)])

    def F(self, u, V):
        parts = [self.a[k] * (1 - mp.cos(u[k])) for k in range(self.d_u)] * self.n
        parts += [self.b[k] * (1 - mp.cos(v[k] - self.s[i][k])) for i, v in enumerate(V) for k in range(self.d_v)]
        return sum(parts) / self.n, sum(self.a) + sum(self.b)

    def optimum(self):
        return mp.zeros(self.d_u, 1), list(self.s)


def by_digits(experiment: Experiment) -> Precise:
    """The run again, exactly but for the fiftieth digit. FedAlt and FedSim, deterministic, d_u > 0 and d_v > 0."""
    assert experiment.deterministic
    mp.mp.dps = DIGITS
    problem, algorithm = experiment.problem, experiment.algorithm
    exact = _Quadratic(problem) if isinstance(problem, Quadratic) else _Trigonometric(problem)
    n = problem.n
    u = mp.matrix(experiment.start.u.tolist())
    V = [mp.matrix(x.tolist()) for x in experiment.start.v]
    (F0, near), (F_star, best) = exact.F(u, V), exact.F(*exact.optimum())
    gamma_u, gamma_v = mp.mpf(algorithm.gamma_u), mp.mpf(algorithm.gamma_v)
    alternate = isinstance(algorithm, FedAlt)
    X, Y, D = [], [], []
    for _ in range(experiment.T):
        Y.append(sum(mp.norm(exact.grad_v(i, u, V[i])) ** 2 for i in range(n)) / n)
        ends, after = [], []
        for i in range(n):
            w, v = u, V[i]
            if alternate:
                for _ in range(algorithm.tau_v):
                    v = v - gamma_v * exact.grad_v(i, u, v)
                for _ in range(algorithm.tau_u):
                    w = w - gamma_u * exact.grad_u(i, w, v)
            else:
                for _ in range(algorithm.tau_u):
                    w, v = w - gamma_u * exact.grad_u(i, w, v), v - gamma_v * exact.grad_v(i, w, v)
            ends.append(w)
            after.append(v)
        each = [exact.grad_u(i, u, (after if alternate else V)[i]) for i in range(n)]
        mean = sum(each[1:], each[0]) / n
        X.append(mp.norm(mean) ** 2)
        D.append(sum(mp.norm(g - mean) ** 2 for g in each) / n)
        u, V = sum(ends[1:], ends[0]) / n, after
    arrays = (np.array([float(x) for x in column]) for column in (X, Y, D))
    return Precise(*arrays, gap0=float(F0 - F_star), terms=float(near + best))
