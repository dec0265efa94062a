"""Differential privacy of FedFomo, counted honestly: every local step, every round, and the validation losses too."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from fedconv.core.checks import number
from fedconv.problems.errors import InputError


@dataclass(frozen=True)
class Privacy:
    """The table [privacy]: local training by noisy gradients, and optionally noisy validation losses.

    Training: a step uses (1/N) (Σ_s clip(g_s) + N(0, (σC)²)) over all N training samples, clip(g) = g min(1, C/‖g‖),
    C = ``clip``, σ = ``noise_multiplier``. Neighbours differ by one sample, added or removed, the divisor N being
    fixed, so a step is a Gaussian mechanism with μ = 1/σ.
    Validation: FedFomo's weights, and with them every later model, read the validation split. Where ``loss_noise`` =
    σ_val is given, every validation loss is the mean of min(loss, B) with noise N(0, (σ_val B/N_val)²), B =
    ``loss_bound``: μ = 1/σ_val for each. Where it is not, the validation split has no guarantee (ε = ∞), and the
    record says so. ``delta``: the δ at which ε is told.
    """

    clip: float
    noise_multiplier: float
    delta: float = 1e-5
    loss_bound: float | None = None
    loss_noise: float | None = None

    def __post_init__(self) -> None:
        number("privacy.clip", self.clip, 0.0, open_=True)
        number("privacy.noise_multiplier", self.noise_multiplier, 0.0, open_=True)
        number("privacy.delta", self.delta, 0.0, open_=True)
        if self.delta >= 1:
            raise InputError(f"privacy.delta must be less than 1; got {self.delta!r}")
        if (self.loss_bound is None) != (self.loss_noise is None):
            raise InputError(
                "privacy.loss_bound and privacy.loss_noise must be given together or not at all; got"
                f" loss_bound = {self.loss_bound!r}, loss_noise = {self.loss_noise!r}"
            )
        for name in ("loss_bound", "loss_noise"):
            if getattr(self, name) is not None:
                number(f"privacy.{name}", getattr(self, name), 0.0, open_=True)

    def mu_train(self, steps: np.ndarray) -> np.ndarray:
        """μ of the training split after so many steps: √steps/σ, exact for composed Gaussian mechanisms."""
        return np.sqrt(steps) / self.noise_multiplier

    def mu_validation(self, evaluations: np.ndarray) -> np.ndarray:
        """μ of the validation split after so many evaluated losses; ∞ where they carry no noise."""
        if self.loss_noise is None:
            return np.where(np.asarray(evaluations) > 0, math.inf, 0.0)
        return np.sqrt(evaluations) / self.loss_noise

    def epsilon(self, mu: np.ndarray) -> np.ndarray:
        """ε at δ = ``delta`` for each μ."""
        flat = [epsilon_of(float(x), self.delta) for x in np.ravel(mu)]
        return np.array(flat).reshape(np.shape(mu))


def delta_of(mu: float, epsilon: float) -> float:
    """δ(ε) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ) of a Gaussian mechanism with sensitivity/deviation μ (Balle and Wang
    2018; composed mechanisms have μ² = Σ μ_k², Dong, Roth and Su 2022)."""
    if mu == 0:
        return 0.0
    return float(ndtr(mu / 2 - epsilon / mu) - math.exp(min(epsilon + log_ndtr(-mu / 2 - epsilon / mu), 0.0)))


def epsilon_of(mu: float, delta: float) -> float:
    """The least ε ≥ 0 with δ(ε) ≤ δ; 0 for μ = 0, ∞ for μ = ∞."""
    if mu == 0 or delta_of(mu, 0.0) <= delta:
        return 0.0
    if math.isinf(mu):
        return math.inf
    high = 1.0
    while delta_of(mu, high) > delta:
        high *= 2
    return float(brentq(lambda e: delta_of(mu, e) - delta, 0.0, high, xtol=1e-12, rtol=1e-12))  # pyright: ignore[reportArgumentType]
