"""Ascent without gradients: covariance matrix adaptation (Hansen, arXiv 1604.00772, with its default constants)."""

from __future__ import annotations

import math

import numpy as np


class Ascent:
    """One run of CMA-ES that makes a score large: ``ask`` for points, ``tell`` their scores, until ``stalled``."""

    def __init__(self, mean: np.ndarray, sigma: float, rng: np.random.Generator, count: int) -> None:
        self.mean, self.sigma, self.rng, self.count = np.array(mean, dtype=float), sigma, rng, count
        D = len(self.mean)
        half = count // 2
        weights = math.log(half + 0.5) - np.log(np.arange(1, half + 1))
        self._weights = weights / weights.sum()
        self._mass = 1.0 / float((self._weights**2).sum())
        self._c_sigma = (self._mass + 2) / (D + self._mass + 5)
        self._damping = 1 + 2 * max(0.0, math.sqrt((self._mass - 1) / (D + 1)) - 1) + self._c_sigma
        self._c_path = (4 + self._mass / D) / (D + 4 + 2 * self._mass / D)
        self._c_one = 2 / ((D + 1.3) ** 2 + self._mass)
        self._c_many = min(1 - self._c_one, 2 * (self._mass - 2 + 1 / self._mass) / ((D + 2) ** 2 + self._mass))
        self._expected = math.sqrt(D) * (1 - 1 / (4 * D) + 1 / (21 * D**2))
        self._path_sigma, self._path = np.zeros(D), np.zeros(D)
        self._covariance = np.eye(D)
        self._axes, self._lengths = np.eye(D), np.ones(D)
        self.best, self.best_point = -math.inf, self.mean
        self._history: list[float] = []

    def ask(self) -> np.ndarray:
        """Points ``(count, D)``."""
        self._steps = self.rng.standard_normal((self.count, len(self.mean))) * self._lengths @ self._axes.T
        return self.mean + self.sigma * self._steps

    def tell(self, scores: np.ndarray) -> None:
        """The scores of the points asked last."""
        order = np.argsort(-scores, kind="stable")
        if scores[order[0]] > self.best:
            self.best = float(scores[order[0]])
            self.best_point = self.mean + self.sigma * self._steps[order[0]]
        self._history.append(self.best)
        chosen = self._steps[order[: len(self._weights)]]
        move = self._weights @ chosen
        self.mean = self.mean + self.sigma * move
        whitened = self._axes @ ((self._axes.T @ move) / self._lengths)
        c = self._c_sigma
        self._path_sigma = (1 - c) * self._path_sigma + math.sqrt(c * (2 - c) * self._mass) * whitened
        norm = float(np.linalg.norm(self._path_sigma))
        D, rounds = len(self.mean), len(self._history)
        calm = norm / math.sqrt(1 - (1 - c) ** (2 * rounds)) < (1.4 + 2 / (D + 1)) * self._expected
        c = self._c_path
        self._path = (1 - c) * self._path + calm * math.sqrt(c * (2 - c) * self._mass) * move
        lost = (1 - calm) * self._c_one * c * (2 - c)
        self._covariance = (
            (1 - self._c_one - self._c_many + lost) * self._covariance
            + self._c_one * np.outer(self._path, self._path)
            + self._c_many * (chosen.T * self._weights) @ chosen
        )
        self.sigma *= math.exp(min(1.0, self._c_sigma / self._damping * (norm / self._expected - 1)))
        values, self._axes = np.linalg.eigh(0.5 * (self._covariance + self._covariance.T))
        self._lengths = np.sqrt(np.maximum(values, 1e-20))

    def stalled(self, rounds: int, gain: float) -> bool:
        """Whether the last ``rounds`` rounds gained less than ``gain``, or the steps have become tiny or huge."""
        reach = self.sigma * float(self._lengths.max())
        if not 1e-9 < reach < 1e4:
            return True
        return len(self._history) > rounds and self._history[-1] - self._history[-1 - rounds] < gain
