"""A hand-written problem file, verified and computed once more by a plain NumPy script that shares nothing with it.

The script reads the problem's arrays, and has its own loops, gradients, random numbers and averages.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from fedconv.analysis.verdicts.verify import verify_settings
from fedconv.problem_file.settings import load_settings
from fedconv.problems.split.trigonometric import Trigonometric

FILE = Path(__file__).parents[2] / "data" / "hand_written.toml"
REPLICATES = 24
ROUNDS = 40


def left_hand_sides(problem: Trigonometric, u0, V0, name, m, tau, gammas, noise, T, weights, L, seed) -> float:
    """(1/T) Σ_t (w_u X_t/L_u + w_v Y_t/L_v) of one replicate, client by client."""
    rng = np.random.default_rng(seed)
    a, b, kappa, h, s = (np.asarray(x) for x in (problem.a, problem.b, problem.kappa, problem.h, problem.s))
    n, c = len(h), len(kappa)
    d_u, d_v = h.shape[1], s.shape[1]
    dof, sigma_u, sigma_v = noise

    def grad_u(i, u, v):
        g = a * np.sin(u) + h[i]
        g[:c] += kappa * np.cos(u[:c]) * np.sin(v[:c])
        return g

    def grad_v(i, u, v):
        g = b * np.sin(v - s[i])
        g[:c] += kappa * np.sin(u[:c]) * np.cos(v[:c])
        return g

    def draw(sigma, d):
        return sigma * math.sqrt((dof - 2) / dof / d) * rng.standard_t(dof, d)

    u, V, total = u0.copy(), V0.copy(), 0.0
    for _ in range(T):
        cohort = set(rng.permutation(n)[:m].tolist())
        new_u, virtual = [], V.copy()
        for i in range(n):
            ui, vi = u.copy(), V[i].copy()
            if name == "fedalt":
                for _ in range(tau):
                    vi = vi - gammas[1] * (grad_v(i, u, vi) + draw(sigma_v, d_v))
                for _ in range(tau if i in cohort else 0):
                    ui = ui - gammas[0] * (grad_u(i, ui, vi) + draw(sigma_u, d_u))
            elif i in cohort:
                for _ in range(tau):
                    gu = grad_u(i, ui, vi) + draw(sigma_u, d_u)
                    gv = grad_v(i, ui, vi) + draw(sigma_v, d_v)
                    ui, vi = ui - gammas[0] * gu, vi - gammas[1] * gv
            virtual[i] = vi
            if i in cohort:
                new_u.append(ui)
        at = virtual if name == "fedalt" else V
        X = np.mean([grad_u(i, u, at[i]) for i in range(n)], axis=0)
        Y = np.mean([np.sum(grad_v(i, u, V[i]) ** 2) for i in range(n)])
        total += weights[0] * X @ X / L[0] + weights[1] * Y / L[1]
        u = np.mean(new_u, axis=0)
        V = np.array([virtual[i] if i in cohort else V[i] for i in range(n)])
    return total / T


@pytest.mark.slow
def test_verdicts_agree_with_a_plain_script():
    settings = load_settings(FILE)
    for result in verify_settings(settings, max_replicates=256):
        if result.theorem.endswith("*"):
            continue  # the same run with other weights
        verdict, x = result.verdict, result.inputs.values
        assert verdict.status == "holds"
        experiment = settings.experiment(settings.algorithms[0], 0.1)
        values = theorem_values(result)
        samples = np.array(
            [
                left_hand_sides(
                    settings.problem,
                    experiment.start.u.numpy(),
                    experiment.start.v.numpy(),
                    result.algorithm,
                    int(x["m"]),
                    int(x["tau_u"]),
                    (x["eta"] / (x["L_u"] * x["tau_u"]), x["eta"] / (x["L_v"] * x["tau_v"])),
                    (settings.noise.dof, x["sigma_u"], x["sigma_v"]),
                    ROUNDS,
                    (values["weight_u"], values["weight_v"]),
                    (x["L_u"], x["L_v"]),
                    1000 + r,
                )
                for r in range(REPLICATES)
            ]
        )
        measured = float(result.curve.measured[ROUNDS - 1])
        width = 5 * samples.std(ddof=1) * math.sqrt(1 / REPLICATES + 1 / verdict.replicates)
        assert abs(samples.mean() - measured) <= width
        assert width < 0.1 * measured  # the comparison is sharp enough to fail


def theorem_values(result) -> dict[str, float]:
    from fedconv.analysis.theorems import theorem

    values = theorem(result.theorem).evaluate(result.inputs.values, result.verdict.parameters)
    return {k: float(values[k]) for k in ("weight_u", "weight_v")}
