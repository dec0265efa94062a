"""The trigonometric problem in NumPy, vectorised over replicates and clients: what the engines are timed against.

Written as one would write it without an engine: whole-array operations, what is constant in a phase computed once,
NumPy's own generator, and the measures of level "stationarity". Its random numbers are its own, so its trajectories
agree with the engines' in distribution only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Arrays:
    """F_i(u,v) = Σ a(1−cos u) + ⟨h_i,u⟩ + Σ b(1−cos(v−s_i)) + Σ κ sin u sin v, the last sum over the common
    coordinates: ``a (d_u,)``, ``h (n, d_u)``, ``b (d_v,)``, ``s (n, d_v)``, ``kappa (min(d_u, d_v),)``."""

    a: np.ndarray
    h: np.ndarray
    b: np.ndarray
    s: np.ndarray
    kappa: np.ndarray

    @property
    def common(self) -> int:
        return len(self.kappa)

    def value(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """F(u, V) for u ``(R, d_u)``, V ``(R, n, d_v)``: ``(R,)``."""
        c = self.common
        alone = (self.a * (1 - np.cos(u))).sum(-1) + u @ self.h.mean(0)
        personal = (1 - np.cos(v - self.s)) @ self.b
        coupling = (self.kappa * np.sin(u[:, None, :c]) * np.sin(v[..., :c])).sum(-1)
        return alone + (personal + coupling).mean(-1)

    def grad_v(self, sin_u: np.ndarray, v: np.ndarray, s: np.ndarray) -> np.ndarray:
        """∇_v for given sin u ``(R, 1 or k, common)``, v ``(R, k, d_v)`` and the clients' s."""
        c = self.common
        out = self.b * np.sin(v - s)
        out[..., :c] += self.kappa * sin_u * np.cos(v[..., :c])
        return out

    def grad_u(self, u: np.ndarray, sin_v: np.ndarray, h: np.ndarray) -> np.ndarray:
        """∇_u for u ``(R, 1 or k, d_u)``, given sin v ``(R, k, common)`` and the clients' h."""
        c = self.common
        out = self.a * np.sin(u) + h
        out[..., :c] += self.kappa * np.cos(u[..., :c]) * sin_v
        return out


@dataclass(frozen=True)
class Plan:
    """m, steps, step sizes and noise scales (per coordinate) of a run."""

    m: int
    tau_u: int
    tau_v: int
    gamma_u: float
    gamma_v: float
    scale_u: float
    scale_v: float


def run(
    algorithm: str,
    arrays: Arrays,
    plan: Plan,
    u: np.ndarray,
    v: np.ndarray,
    T: int,
    replicates: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """T rounds of FedAlt (``"fedalt"``) or FedSim (``"fedsim"``) from u ``(d_u,)``, V ``(n, d_v)``.

    Returns ``(replicates, T)`` arrays: F, grad_u_sq, grad_v_sq, diversity and, for FedAlt, grad_u_virtual_sq and
    diversity_virtual; and ``F_final (replicates,)``.
    """
    rng = np.random.Generator(np.random.SFC64(seed))
    u, v = np.tile(u, (replicates, 1)), np.tile(v, (replicates, 1, 1))
    rows = np.arange(replicates)[:, None]
    one_round = fedalt_round if algorithm == "fedalt" else fedsim_round
    measured: dict[str, list[np.ndarray]] = {}
    for _ in range(T):
        scores = rng.random((replicates, v.shape[1]))
        cohort = np.argpartition(scores, plan.m - 1, axis=1)[:, : plan.m]
        out = measure_state(arrays, u, v)
        u, v = one_round(arrays, plan, u, v, rows, cohort, rng, out)
        for key, values in out.items():
            measured.setdefault(key, []).append(values)
    stacked = {key: np.stack(values, axis=1) for key, values in measured.items()}
    return stacked | {"F_final": arrays.value(u, v)}


def fedalt_round(
    arrays: Arrays,
    plan: Plan,
    u: np.ndarray,
    v: np.ndarray,
    rows: np.ndarray,
    cohort: np.ndarray,
    rng: np.random.Generator,
    out: dict[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """One round of FedAlt; every client's personal phase is computed (virtual full participation) and the sampled
    ones' is kept."""
    replicates, n, d_v = v.shape
    c = arrays.common
    sin_u = np.sin(u[:, None, :c])
    virtual = v
    for _ in range(plan.tau_v):
        noise = rng.standard_normal((replicates, n, d_v))
        noise *= plan.scale_v
        noise += arrays.grad_v(sin_u, virtual, arrays.s)
        noise *= plan.gamma_v
        virtual = virtual - noise
    gradient = arrays.grad_u(u[:, None, :], np.sin(virtual[..., :c]), arrays.h)
    out["grad_u_virtual_sq"], out["diversity_virtual"] = spread(gradient)
    v = v.copy()
    v[rows, cohort] = virtual[rows, cohort]
    sin_v, h = np.sin(v[rows, cohort, :c]), arrays.h[cohort]
    x = np.repeat(u[:, None, :], plan.m, axis=1)
    for _ in range(plan.tau_u):
        noise = rng.standard_normal(x.shape)
        noise *= plan.scale_u
        noise += arrays.grad_u(x, sin_v, h)
        noise *= plan.gamma_u
        x -= noise
    return x.mean(1), v


def fedsim_round(
    arrays: Arrays,
    plan: Plan,
    u: np.ndarray,
    v: np.ndarray,
    rows: np.ndarray,
    cohort: np.ndarray,
    rng: np.random.Generator,
    out: dict[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """One round of FedSim (its stationarity needs no virtual steps)."""
    c = arrays.common
    x, w = np.repeat(u[:, None, :], plan.m, axis=1), v[rows, cohort]
    h, s = arrays.h[cohort], arrays.s[cohort]
    for _ in range(plan.tau_u):
        noise_u, noise_v = rng.standard_normal(x.shape), rng.standard_normal(w.shape)
        noise_u *= plan.scale_u
        noise_v *= plan.scale_v
        noise_u += arrays.grad_u(x, np.sin(w[..., :c]), h)
        noise_v += arrays.grad_v(np.sin(x[..., :c]), w, s)
        x = x - plan.gamma_u * noise_u
        w = w - plan.gamma_v * noise_v
    v = v.copy()
    v[rows, cohort] = w
    return x.mean(1), v


def measure_state(arrays: Arrays, u: np.ndarray, v: np.ndarray) -> dict[str, np.ndarray]:
    """F, ‖∇_uF‖², (1/n) Σ ‖∇_vF_i‖² and the diversity at (u, V)."""
    c = arrays.common
    gradient = arrays.grad_u(u[:, None, :], np.sin(v[..., :c]), arrays.h)
    grad_u_sq, diversity = spread(gradient)
    grad_v = arrays.grad_v(np.sin(u[:, None, :c]), v, arrays.s)
    return {
        "F": arrays.value(u, v),
        "grad_u_sq": grad_u_sq,
        "grad_v_sq": (grad_v**2).sum(-1).mean(-1),
        "diversity": diversity,
    }


def spread(each: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """‖mean‖² and the mean squared distance to it, over clients ``(R, n, d)``."""
    mean = each.mean(1)
    return (mean**2).sum(-1), ((each - mean[:, None, :]) ** 2).sum(-1).mean(-1)
