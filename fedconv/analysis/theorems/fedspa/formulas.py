"""The formulas that FedSpa's theorems share: symbols, the drift function, and bound (4) with its free parameters."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import sympy as sp
from scipy.optimize import minimize

from fedconv.analysis.theorems.base import substitute, symbol
from fedconv.analysis.theorems.statement import rhs

n, m, N, T, gamma, L, sigma, delta, rho, gap = (
    symbol(s) for s in ("n", "m", "N", "T", "gamma", "L", "sigma", "delta", "rho", "gap")
)
eta, phi, C, E, q_G, q_s, kappa, A = (symbol(s) for s in ("eta", "phi", "C", "E", "q_G", "q_s", "kappa", "A"))
beta, c, c_s = (symbol(s) for s in ("beta", "c", "c_s"))
inv_beta, inv_c, inv_c_s = (symbol(s) for s in ("inv_beta", "inv_c", "inv_c_s"))
descent, spread_sq = symbol("descent"), symbol("spread_sq")

FREE = ("beta", "c", "c_s")
"""β, c and c′ of Theorem 1; each enters with its inverse as a symbol of its own, so that a limit is exact (both 0)."""

STEP: dict[sp.Symbol, sp.Expr] = {eta: gamma * L * N, phi: (n - m) / sp.Max(n - 1, 1)}
"""η = γLN and φ = (n − m)/(n − 1), 0 where n = 1."""

LINEAR: dict[sp.Symbol, sp.Expr] = {
    C: 1 / (1 - eta * sp.sqrt((N - 1) / (2 * N))) ** 2,
    q_G: C * eta**2 * (N - 1) * (2 * N - 1) / (6 * N**2),
    q_s: C * eta**2 * (N - 1) / (2 * N**2),
}
"""Q(G, s) ≤ q_G G + q_σ s."""

NOISELESS: dict[sp.Symbol, sp.Expr] = {
    E: ((1 + eta / N) ** N - 1) / eta - 1,
    q_G: E**2,
    q_s: sp.Integer(0),
}
"""Q(G, 0) = E²G."""


def four(drift: Mapping[sp.Symbol, sp.Expr], diversity_sq: Any, slope_sq: Any) -> dict[sp.Symbol, sp.Expr]:
    """Bound (4) with δ² = ``diversity_sq`` and ρ² = ``slope_sq``; ``descent`` (ΔF, with ΣJ_t) is defined before."""
    defined = {
        **STEP,
        **drift,
        kappa: (1 - eta) * inv_beta + eta + eta / m * (phi * (1 + inv_c) + inv_c_s),
        A: 2 - eta - (1 - eta) * beta - (1 + c) * eta * phi * slope_sq / m - kappa * q_G * (1 + slope_sq),
        rhs: (
            2 * descent / (eta * T)
            + eta / (m * L) * ((1 + c) * phi * diversity_sq + (1 + c_s) * sigma**2 / N)
            + kappa / L * (q_G * diversity_sq + q_s * sigma**2)
        )
        / A,
    }
    return {s: sp.sympify(e) for s, e in defined.items()}


def five(diversity_sq: Any) -> sp.Expr:
    """Bound (5) of Corollary 1."""
    return sp.sympify(
        sp.Rational(16, 7) * descent / (eta * T)
        + sp.Rational(12, 7) * eta / (m * L) * (phi * diversity_sq + sigma**2 / N)
        + sp.Rational(12, 7) * eta**2 / L * (1 - 1 / N) * (diversity_sq + 3 * sigma**2 / (2 * N))
    )


_GIVEN = (n, m, N, T, gamma, L, sigma, rho, descent, spread_sq, beta, inv_beta, c, inv_c, c_s, inv_c_s)
_NAMES = tuple(map(str, _GIVEN))


@cache
def _compiled(noiseless: bool) -> Any:
    known: dict[sp.Symbol, sp.Expr] = {}
    for s, e in four(NOISELESS if noiseless else LINEAR, spread_sq, rho**2).items():
        known[s] = substitute(e, known)
    return sp.lambdify(_GIVEN, (known[rhs], known[A]), "numpy", cse=True)


def best_parameters(values: Mapping[str, float], diversity_sq: float, slope: float) -> dict[str, float]:
    """β, c, c′ and their inverses that minimise (4) at δ² = ``diversity_sq`` and ρ = ``slope``, before any run.

    Where the drift vanishes (N = 1), at η = 1, φ = 0 or σ = 0 they are the limits that the theorem allows. Where (4)
    has no finite value they are ½.
    """
    tau, noise = values["N"], values["sigma"]
    at_one = abs(values["gamma"] * values["L"] * tau - 1.0) < 1e-12
    free = {
        "beta": tau > 1 and not at_one,
        "c": tau > 1 and values["m"] < values["n"],
        "c_s": tau > 1 and noise > 0,
    }
    names = [name for name in FREE if free[name]]

    def filled(logs: np.ndarray) -> dict[str, float]:
        out = dict.fromkeys([*FREE, *(f"inv_{name}" for name in FREE)], 0.0)
        for name, x in zip(names, logs, strict=True):
            size = min(float(np.exp(x)), 1.0) if name == "beta" else float(np.exp(x))
            out[name], out[f"inv_{name}"] = size, 1.0 / size
        return out

    known = {k: values[k] for k in ("n", "m", "N", "T", "gamma", "L", "sigma")}
    known |= {"rho": slope, "descent": values["gap"], "spread_sq": diversity_sq}
    compiled = _compiled(noise == 0)

    def bound(logs: np.ndarray) -> float:
        numbers = known | filled(np.clip(logs, -40.0, 40.0))
        with np.errstate(all="ignore"):
            right, left_over = compiled(*[numbers[name] for name in _NAMES])
        if left_over > 0 and np.isfinite(right):
            return float(right)
        return 1e100 * (1.0 - float(left_over)) if np.isfinite(left_over) else 1e300

    start = np.log(np.full(len(names), 0.5))
    if not names or known["L"] <= 0 or not all(np.isfinite(x) for x in known.values()):
        return filled(start)
    best = start
    for first in (start, start - 2.0, start - 4.0):
        found = minimize(bound, first, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-14, "maxiter": 2000})
        if bound(found.x) < bound(best):
            best = found.x
    return filled(np.clip(best, -40.0, 40.0))


def drift(G: np.ndarray, s: float, eta_: float, steps: int) -> np.ndarray:
    """Q(G, s) = ((1/N) Σ ē_τ)² by its recursion: ē_0 = 0, ē_τ = (η/N)√(τ²G + τs) + (η/N) Σ_{r<τ} ē_r."""
    e, total = np.zeros_like(G), np.zeros_like(G)
    for k in range(1, steps):
        total = total + e
        e = eta_ / steps * (np.sqrt(k**2 * G + k * s) + total)
    return ((total + e) / steps) ** 2 if steps > 1 else total
