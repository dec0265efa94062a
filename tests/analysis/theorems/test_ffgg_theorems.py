"""FFGG's statements: formulas typed a second time as plain numbers, premises, steps, and every false version caught."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr

from fedconv.analysis.pages import mathml
from fedconv.analysis.theorems.ffgg import METHOD, STATEMENTS
from fedconv.analysis.theorems.ffgg.catching import CATCHING, TWO_WORLDS, Instance
from fedconv.analysis.theorems.ffgg.facts import of_experiment, of_trace
from fedconv.analysis.theorems.registry import methods, statement
from fedconv.analysis.theorems.statement import StatementInputs
from fedconv.analysis.verdicts.statement_verify import fitting_statements, judge_statements, verify_statements
from fedconv.core.run import run
from fedconv.methods.ffgg.experiment import FFGGExperiment
from fedconv.problem_file.settings import settings_from
from fedconv.problems.errors import InputError

PAIRS = [(key, mutant.key) for key, one in STATEMENTS.items() for mutant in one.mutants]


def experiment_of(file: Instance, name: str = "test") -> FFGGExperiment:
    settings = settings_from(file, name)
    found = settings.runnable(settings.algorithms[0])
    assert isinstance(found, FFGGExperiment)
    return found


# ---- every false version ---------------------------------------------------------------------------------------

RATIOS: dict[tuple[str, str], float] = {
    ("FFGG-1a", "half"): 2,
    ("FFGG-1b", "L_u"): 99,
    ("FFGG-1b-L_F", "L_u"): 99,
    ("FFGG-1c", "no_convexity"): 99,
    ("FFGG-1c", "half"): 2,
    ("FFGG-1d", "L"): 2,
    ("FFGG-2d", "no_2"): 2,
    ("FFGG-2d", "L"): 2,
    ("FFGG-3a", "no_2"): 2,
    ("FFGG-3a", "no_gamma_L"): 2,
    ("FFGG-3b", "half"): 2,
    ("FFGG-3b", "no_step"): 9.01523,
    ("FFGG-3b-last", "half"): 2,
    ("FFGG-3c", "twice"): 1845.28,
    ("FFGG-3c", "no_gamma_L"): 1.80203,
    ("FFGG-3c-step", "twice"): 4.5,
    ("FFGG-3c-distance", "fourth"): 17.7577,
    ("FFGG-3c-distance", "no_step"): 8.22526,
    ("FFGG-3c-distance-step", "fourth"): 16 / 9,
    ("FFGG-3-PL", "twice"): 2,
    ("FFGG-3-E2", "no_2"): 2,
    ("FFGG-3d", "no_weights"): 3**9 - 1,
    ("FFGG-3d-min", "no_condition"): 100 / math.e,
    ("FFGG-3e", "quarter_floor"): 1.89888,
    ("FFGG-3e-over", "step_L"): (3**11 - 1) / 2,
    ("FFGG-3e-over", "half"): 2,
    ("FFGG-3f", "L"): 17.7577,
    ("FFGG-3f", "twice"): 1.5**10,
    ("FFGG-3f-step", "L"): 4 / 3,
    ("FFGG-3f-step", "twice"): 1.5,
    ("FFGG-4-bias", "half"): 2,
    ("FFGG-4-grad", "no_mu_v"): 100,
    ("FFGG-4a", "half_bias"): 2,
    ("FFGG-4a", "no_2"): 2,
    ("FFGG-4b", "half_bias"): 2,
    ("FFGG-4b-max", "half_floor"): 2,
    ("FFGG-4b-step", "half_bias"): 1.47059,
    ("FFGG-4c", "half"): 2,
    ("FFGG-4c", "no_bias"): 13.44,
    ("FFGG-4e", "twice"): 1.60181,
    ("FFGG-4e-step", "twice"): 1.125,
    ("FFGG-5a-fejer", "no_step"): 5.0625,
    ("FFGG-5a-local", "half"): 2,
    ("FFGG-5a", "tau"): 5,
    ("FFGG-5a", "half"): 2,
    ("FFGG-5a-LS", "four_tau"): 31.5693,
    ("FFGG-5b", "tau_floor"): 1.93942,
    ("FFGG-5b", "half"): 4 / 3,
    ("FFGG-6", "any_delay"): 5.73901e8,
    ("FFGG-6", "current"): 4.50483,
    ("FFGG-6", "half"): 2,
    ("FFGG-6a", "any_delay"): 5.73901e8,
    ("FFGG-6a", "any_assignment"): 4.46579,
    ("FFGG-6b", "any_delay"): 7.22798e8,
    ("FFGG-6b", "no_window"): 4.51238,
    ("FFGG-7A", "f_over_honest"): 5 / 3,
    ("FFGG-7A", "half"): 2,
    ("FFGG-7-B", "half"): 2,
    ("FFGG-7-E2", "L"): 4,
    ("FFGG-7Ba", "no_2"): 2,
    ("FFGG-7Bb", "twice"): 0.75**10 / 0.5**5,
    ("FFGG-7Bb-step", "twice"): 1.125,
    ("FFGG-7Bd", "half_floor"): 2,
    ("FFGG-7Bf", "twice"): 0.75**10 / 0.5**5,
}
"""Left over right side of the false versions at their instances, where the right side is no rounding error."""


def test_every_mutant_has_an_instance_and_every_statement_a_mutant():
    assert set(CATCHING) == set(PAIRS)
    assert len(PAIRS) == len(set(PAIRS))
    assert all(one.mutants for one in STATEMENTS.values())
    assert set(RATIOS) <= set(PAIRS)


@pytest.mark.parametrize(("key", "mutant"), PAIRS)
def test_mutant_is_violated_and_the_theorem_is_not(key, mutant):
    experiment = experiment_of(CATCHING[key, mutant], f"{key}:{mutant}")
    true = STATEMENTS[key]
    weak = true.mutate(true.mutant(mutant))
    verdicts = verify_statements(experiment, [weak, true], max_replicates=1024, checks=len(PAIRS))
    caught, kept = (x.verdict for x in verdicts)
    assert caught.status == "violated", caught.reason
    equal = "the samples do not vary" in kept.reason  # random, and the same each time: no certainty
    assert kept.status in ("holds", "premises_unmet") or equal, kept.reason
    assert kept.status == "holds" or true.mutant(mutant).without or (equal and kept.measured < kept.bound)
    if (key, mutant) in RATIOS:
        assert caught.tightness == pytest.approx(RATIOS[key, mutant], rel=1e-5)


EQUALITIES = [
    ("FFGG-1a", "half"), ("FFGG-1c", "half"), ("FFGG-1d", "L"), ("FFGG-2d", "no_2"),
    ("FFGG-3a", "no_2"), ("FFGG-3b", "half"), ("FFGG-3b-last", "half"), ("FFGG-3c", "twice"), ("FFGG-3c-step", "twice"),
    ("FFGG-3c-distance", "fourth"), ("FFGG-3c-distance-step", "fourth"), ("FFGG-3-PL", "twice"), ("FFGG-3-E2", "no_2"),
    ("FFGG-3e-over", "half"), ("FFGG-3f", "twice"), ("FFGG-3f-step", "twice"), ("FFGG-4-bias", "half"),
    ("FFGG-4-grad", "no_mu_v"), ("FFGG-4a", "half_bias"), ("FFGG-4a", "no_2"), ("FFGG-4b", "half_bias"),
    ("FFGG-4b-step", "half_bias"), ("FFGG-4c", "half"), ("FFGG-5a", "half"), ("FFGG-5a-local", "half"),
    ("FFGG-5a-LS", "four_tau"), ("FFGG-6", "half"), ("FFGG-7A", "half"), ("FFGG-7-B", "half"), ("FFGG-7-E2", "L"),
    ("FFGG-7Ba", "no_2"), ("FFGG-7Bd", "half_floor"), ("FFGG-7Be", "twice"),
]  # fmt: skip
"""Statements with the false version at whose instance both sides are equal."""


@pytest.mark.parametrize(("key", "mutant"), EQUALITIES)
def test_sharp_instances_attain_the_bound(key, mutant):
    experiment = experiment_of(CATCHING[key, mutant])
    verdict = verify_statements(experiment, [STATEMENTS[key]])[0].verdict
    assert verdict.status == "holds", verdict.reason
    assert verdict.tightness == pytest.approx(1.0, abs=1e-9)


def test_staircase_is_slower_than_any_quadratic():
    """Theorem 3(b), last iterate: Huber with threshold R_0/(2T+1) attains LR_0²/(4T+2), a quadratic does not."""
    for T in (1, 2, 7):
        file = CATCHING["FFGG-3b-last", "half"] | {"run": {"T": T}}
        file = file | {"problem": file["problem"] | {"lam": [[1 / (2 * T + 1)]]}}
        verdict = verify_statements(experiment_of(file), [STATEMENTS["FFGG-3b-last"]])[0].verdict
        assert verdict.tightness == pytest.approx(1.0, abs=1e-9)
        assert verdict.bound == pytest.approx(1 / (4 * T + 2), rel=1e-12)


# ---- formulas typed out once more ------------------------------------------------------------------------------

R, ROUNDS = 3, 7
VALUES = {
    "n": 9.0, "m": 4.0, "tau": 3.0, "T": float(ROUNDS), "gamma": 0.05, "K": 2.0, "tau_max": 2.0, "f": 2.0,
    "L": 1.3, "L_max": 2.1, "mu": 0.4, "mu_v": 0.3, "L_theta": 1.7, "L_uv": 0.8, "L_u": 2.4, "ell_u": 0.6, "L_F": 2.3,
    "F_star": 0.7, "G": 0.2, "zeta": 0.9, "B": 0.6, "inf_mean": 0.5, "kappa": 0.45, "beta": 0.11, "B_a": 0.5,
    "noise": 1e-13, "noise_w": 1e-12, "noise_g": 1e-12,
}  # fmt: skip
AT_POINTS, IN_ROUNDS = ("F", "F_gap", "grad_sq", "dist_sq"), (
    "update_sq", "smooth_ratio", "descent_excess", "bias_sq", "fine_tuning_sq", "fine_tuning_grad", "local_gap",
    "virtual_gap", "stale_gap", "issued_gap", "aggregation_error_sq", "spread", "honest_sq",
)  # fmt: skip


def made_up(seed: int = 0) -> xr.Dataset:
    """A trace with every variable, filled with random numbers."""
    rng = np.random.default_rng(seed)
    data: dict[str, Any] = {name: (("replicate", "point"), rng.uniform(0.2, 2, (R, ROUNDS + 1))) for name in AT_POINTS}
    data |= {name: (("replicate", "round"), rng.uniform(0.2, 2, (R, ROUNDS))) for name in IN_ROUNDS}
    data["fine_tuning_start_sq"] = (("replicate",), rng.uniform(0.2, 2, R))
    data["covering_window"] = (("replicate",), np.array([2, 3, 3]))
    return xr.Dataset(data)


def plain(key: str, t: dict[str, np.ndarray], x: dict[str, float]) -> tuple[Any, Any]:
    """(lhs, rhs) for each replicate (or for each replicate and round), without sympy."""
    n, m, tau, T, g, K, d, f = (x[k] for k in ("n", "m", "tau", "T", "gamma", "K", "tau_max", "f"))
    L, Lx, mu, mv, Lt, Luv, zeta, G = (x[k] for k in ("L", "L_max", "mu", "mu_v", "L_theta", "L_uv", "zeta", "G"))
    B, kap, beta = x["B"], x["kappa"], x["beta"]
    D, g2, d2, b2, e2 = t["F_gap"], t["grad_sq"], t["dist_sq"], t["bias_sq"], t["fine_tuning_sq"]
    D0, R2, last, k = D[:, 0], d2[:, 0], int(T) - 1, np.arange(T)
    om = (n - m) / (m * (n - 1))
    LS, a = om * Lx + (1 - om) * L, om * L * Lx * g**2
    q = (1 - mv / Lt) ** K
    c, phi = g * Luv**2 / (1 - q), D[:, :-1] + g * Luv**2 / (1 - q) * e2
    s = sum((1 - g * Lx) ** (2 * j) for j in range(int(tau)))
    al, h = g * tau * Lx, [max(d, w - 1) for w in t["covering_window"]]
    P = [T // w for w in t["covering_window"]]
    share, eps = kap * B**2 + beta, math.sqrt(kap) * B
    z2 = np.maximum(t["spread"] - x["B_a"] ** 2 * g2[:, :-1], 0).max(1)
    share_a = kap * x["B_a"] ** 2 + beta
    beta_k = (1 + a) ** -(k + 1)
    w_mean, W = g2[:, :-1] @ beta_k / beta_k.sum(), beta_k.sum()
    means = D.mean(1)
    start_3 = R2 / (2 * g * (T + 1))
    r7 = 1 - g * mu * (1 - share)
    r7d, floor7 = 1 - g * mu * (1 - eps), kap * zeta**2 / (2 * mu * (1 - eps) ** 2)
    r7f = 1 - g * mu * (1 - f / (n - 2 * f) * B**2)
    r3, r3f, r4 = 1 - g * mu * (2 - g * L), 1 - g * mu * (2 - g * LS), 1 - g * mu
    weighted_bias = sum(r4 ** (last - j) * b2[:, j] for j in range(int(T)))
    grads = g2[:, :-1].mean(1)
    a_rhs = 2 * D0 / (g * (1 - share_a) * T) + kap * z2 / (1 - share_a)
    step = g**2 * t["update_sq"]
    over = {
        "FFGG-1a": (t["descent_excess"] + x["L_u"] / 2 * step, x["L_u"] / 2 * step),
        "FFGG-1b": (t["smooth_ratio"].max(1), max(x["L_u"], x["ell_u"] + Luv**2 / mv)),
        "FFGG-1b-L_F": (t["smooth_ratio"].max(1), x["L_F"]),
        "FFGG-1c": (t["smooth_ratio"].max(1), x["L_u"]),
        "FFGG-1d": (t["smooth_ratio"].max(1), Lx),
        "FFGG-2b": (x["F_star"] - x["inf_mean"], G),
        "FFGG-2d": (zeta**2, 2 * Lx * G),
        "FFGG-3a": (grads, 2 * (D0 - D[:, -1]) / (g * (2 - g * L) * T)),
        "FFGG-3b": (means, start_3),
        "FFGG-3b-last": (D[:, -1], L * R2 / (4 * T + 2)),
        "FFGG-3c": (D[:, -1], r3**T * D0),
        "FFGG-3c-step": (D[:, 1:], r3 * D[:, :-1]),
        "FFGG-3c-distance": (d2[:, -1], r4 ** (2 * T) * R2),
        "FFGG-3c-distance-step": (d2[:, 1:], r4**2 * d2[:, :-1]),
        "FFGG-3-PL": (2 * mu * D[:, :-1], g2[:, :-1]),
        "FFGG-3-E2": (g2[:, :-1], 2 * L * D[:, :-1]),
        "FFGG-3d": (w_mean, (2 * D0 / W + 2 * a * G) / (g * (2 - g * L * (1 - om)))),
        "FFGG-3d-min": (w_mean, 2 * math.e * D0 / (g * T) + 2 * om * L * Lx * g * G),
        "FFGG-3e": (means, start_3 + g * om * zeta**2 / (2 * (1 - g * LS))),
        "FFGG-3e-over": (means, start_3),
        "FFGG-3f": (d2[:, -1], r3f**T * R2),
        "FFGG-3f-step": (d2[:, -1], r3f * d2[:, -2]),
        "FFGG-4-bias": (np.sqrt(b2), Luv * np.sqrt(e2)),
        "FFGG-4-grad": (np.sqrt(b2), Luv / mv * t["fine_tuning_grad"]),
        "FFGG-4a": (grads, 2 * (D0 - D[:, -1]) / (g * T) + b2.mean(1)),
        "FFGG-4b": (D[:, -1], r4**T * D0 + g / 2 * weighted_bias),
        "FFGG-4b-max": (D[:, -1], r4**T * D0 + b2.max(1) / (2 * mu)),
        "FFGG-4b-step": (D[:, 1:], r4 * D[:, :-1] + g / 2 * b2),
        "FFGG-4c": (means, (np.sqrt(R2) + g * np.sqrt(b2).sum(1)) ** 2 / (2 * g * (T + 1))),
        "FFGG-4d": (grads, 2 * D0 / (g * T) + Luv**2 * q**2 * t["fine_tuning_start_sq"] / ((1 - q) * T)),
        "FFGG-4e": (D[:, last] + c * e2[:, last], r4**last * (D0 + c * e2[:, 0])),
        "FFGG-4e-step": (phi[:, 1:], r4 * phi[:, :-1]),
        "FFGG-5a-fejer": (d2[:, 1:], d2[:, :-1]),
        "FFGG-5a-local": (t["local_gap"].sum(1), R2 / (2 * g)),
        "FFGG-5a": (D[:, :-1].mean(1), R2 / (2 * g * s * T)),
        "FFGG-5a-rate": (d2[:, -1], (1 - g * s * mu) ** T * R2),
        "FFGG-5a-LS": (d2[:, -1], (1 - g * (2 - g * Lx) * s * mu) ** T * R2),
        "FFGG-5b": (
            t["virtual_gap"].mean(1),
            R2 / (2 * g * tau * T) + g**2 * Lx * (tau - 1) * (2 * tau - 1) / (6 * (2 - al**2)) * zeta**2,
        ),
        "FFGG-6": (t["stale_gap"].mean(1), R2 / (2 * g * T)),
        "FFGG-6a": (t["issued_gap"][:, : int(T - d)].mean(1), R2 / (2 * g * (T - d))),
        "FFGG-6b": (
            [np.mean([D[i, p * w] for p in range(int(P[i]))]) for i, w in enumerate(t["covering_window"])],
            [
                R2[i] / (g * P[i]) * (1 / n + h[i] * (1 + math.ceil(d / w)) / (2 * d + 1) ** 2)
                for i, w in enumerate(t["covering_window"])
            ],
        ),
        "FFGG-7A": (t["aggregation_error_sq"], kap * t["spread"] + beta * g2[:, :-1]),
        "FFGG-7A-random": (t["aggregation_error_sq"].mean(1), kap * t["spread"].mean(1) + beta * grads),
        "FFGG-7-B": (t["spread"], B**2 * g2[:, :-1]),
        "FFGG-7-E2": (t["honest_sq"], 2 * Lx * (D[:, :-1] + G)),
        "FFGG-7Ba": (grads, a_rhs),
        "FFGG-7Bb": (D[:, -1], r7**T * D0),
        "FFGG-7Bb-step": (D[:, 1:], r7 * D[:, :-1]),
        "FFGG-7Bc": (D[:, -1], D0 / (1 + g * (1 - share) * T * D0 / (2 * d2.max(1)))),
        "FFGG-7Bd": (D[:, -1], r7d**T * D0 + (1 - r7d**T) * floor7),
        "FFGG-7Be": (D[:, -1], f / (n - 2 * f) * zeta**2 / (2 * mu)),
        "FFGG-7Bf": (D[:, -1], r7f**T * D0),
    }
    for name in ("7Ba", "7Bb", "7Bd"):
        over[f"FFGG-{name}-random"] = over[f"FFGG-{name}"]
    left, right = over[key]
    return np.asarray(left), np.asarray(right)


@pytest.mark.parametrize("key", STATEMENTS)
def test_formulas_typed_a_second_time(key):
    """Where a statement is about every round, its sides are those of the round that breaks it most."""
    one = STATEMENTS[key]
    trace = made_up()
    sides = one.evaluate(StatementInputs(VALUES, {}, "exact"), trace)
    left, right = plain(key, {str(k): v.values for k, v in trace.items()}, VALUES)
    if one.rounds:
        left, right = (x if x.ndim == 2 else x[:, None] for x in (left, right))
        broken = (left > right).any(axis=1)
        worst = np.where(broken, (left - right).argmax(axis=1), (left / right).argmax(axis=1))
        left, right = left[np.arange(R), worst], right[np.arange(R), worst]
    np.testing.assert_allclose(sides.lhs, np.broadcast_to(left, R), rtol=1e-12)
    np.testing.assert_allclose(sides.rhs, np.broadcast_to(right, R), rtol=1e-12)
    assert sides.floor >= 0


CONDITIONS = {
    "FFGG-3a": 2 / 1.3,
    "FFGG-3b": 1 / 1.3,
    "FFGG-3c": 2 / 1.3,
    "FFGG-3c-distance": 2 / (1.3 + 0.4),
    "FFGG-3d": 1 / 1.3,
    "FFGG-3d-min": min(1 / 1.3, (5 / 32 * 1.3 * 2.1 * 7) ** -0.5),
    "FFGG-3e": 1 / (5 / 32 * 2.1 + 27 / 32 * 1.3),
    "FFGG-3e-over": 1 / (5 / 32 * 2.1 + 27 / 32 * 1.3),
    "FFGG-3f": 2 / (5 / 32 * 2.1 + 27 / 32 * 1.3),
    "FFGG-4a": 1 / 1.3,
    "FFGG-4d": 1 / (1.3 + (14 / 17) ** 2 * 0.64 / 0.3 / (1 - (14 / 17) ** 2)),
    "FFGG-4e": min(
        1 / (1.3 + math.sqrt(2) * (14 / 17) ** 2 * 0.64 / 0.3 / (1 - (14 / 17) ** 2)), (1 - (14 / 17) ** 2) / 0.8
    ),
    "FFGG-5a-fejer": 2 / 2.1,
    "FFGG-5a": 1 / 2.1,
    "FFGG-5b": 1 / (3 * 2.1),
    "FFGG-6": 1 / (5 * 2.1),
    "FFGG-7Bb": 1 / 1.3,
    "FFGG-7Bd": 1 / 1.3,
}


@pytest.mark.parametrize(("key", "step"), CONDITIONS.items())
def test_largest_step(key, step):
    found = STATEMENTS[key].largest_step(StatementInputs(VALUES, {}, "exact"))
    assert found == pytest.approx(step, rel=1e-11)


# ---- what a run is about, and words ----------------------------------------------------------------------------

LS = {"family": "overpersonalized", "n": 4, "d_u": 2, "d_v": 2, "rows": 4, "rank": 1, "seed": 1}
KINDS: list[tuple[str, dict[str, Any], set[str], set[str]]] = [
    ("exact", {"m": 4}, {"FFGG-3a", "FFGG-3c", "FFGG-1a"}, {"FFGG-3d", "FFGG-4a", "FFGG-5a", "FFGG-6", "FFGG-7A"}),
    ("sampled", {"m": 2}, {"FFGG-3d", "FFGG-3f"}, {"FFGG-3a", "FFGG-4a"}),
    ("inexact", {"m": 4, "fine_tuning": {"mode": "steps", "steps": 2}}, {"FFGG-4a", "FFGG-4d"}, {"FFGG-3a"}),
    ("local", {"m": 4, "tau": 3}, {"FFGG-5a", "FFGG-5b"}, {"FFGG-3a", "FFGG-3b"}),
    ("mixed", {"m": 2, "tau": 3}, {"FFGG-1a", "FFGG-2d"}, {"FFGG-5a", "FFGG-3d"}),
    ("asynchronous", {"m": 1, "async": {"tau_max": 1}}, {"FFGG-6", "FFGG-6a", "FFGG-6b"}, {"FFGG-3d"}),
    (
        "byzantine",
        {"m": 4, "byzantine": {"f": 1, "attack": "zero", "aggregator": "median"}},
        {"FFGG-7A", "FFGG-7Bb"},
        {"FFGG-7A-random", "FFGG-7Be"},
    ),
    (
        "byzantine",
        {"m": 4, "byzantine": {"f": 0, "attack": "zero", "aggregator": "median", "pre": "bucketing", "bucket": 2}},
        {"FFGG-7A-random", "FFGG-7Bb-random"},
        {"FFGG-7A", "FFGG-7Bc", "FFGG-7Bb"},
    ),
]


def kind_of(parts: dict[str, Any], T: int = 3) -> Instance:
    algorithm = {"name": "ffgg", "gamma": 0.1} | {k: v for k, v in parts.items() if k in ("m", "tau")}
    tables = {k: v for k, v in parts.items() if k not in ("m", "tau")}
    return {"problem": LS, "start": {"kind": "normal"}, "algorithm": algorithm, "run": {"T": T}} | tables


@pytest.mark.parametrize(("kind", "parts", "inside", "outside"), KINDS, ids=[str(i) for i in range(len(KINDS))])
def test_statements_fit_their_kind_of_run(kind, parts, inside, outside):
    experiment = experiment_of(kind_of(parts))
    before, after = of_experiment(experiment), of_trace(run(experiment, 2))
    assert before.flags["kind"] == kind
    assert before.flags == after.flags
    assert before.grade == after.grade == "exact"
    for name, value in before.values.items():
        assert after.values[name] == pytest.approx(value, rel=1e-9), name
    found = {one.key for one in fitting_statements(METHOD, before)}
    assert inside <= found
    assert not outside & found
    for result in judge_statements(run(experiment, 2)):
        assert result.verdict.status in ("holds", "premises_unmet", "inconclusive"), result


def test_a_trace_without_measures_is_refused():
    experiment = experiment_of(kind_of({"m": 4}))
    with pytest.raises(InputError, match="need a trace of level 'stationarity' or 'proof'; got 'none'"):
        of_trace(run(experiment, 1, level="none"))


def test_one_round_is_enough():
    for parts in (x[1] for x in KINDS):
        for result in verify_statements(experiment_of(kind_of(parts, T=1)), max_replicates=64):
            assert result.verdict.status != "violated", (result.theorem, result.verdict.reason)


def test_two_worlds_look_alike():
    """Theorem 7B(e): who copies the majority forces the trimmed mean to stay, at the floor of 7B(d) with B = 0."""
    experiment = experiment_of(TWO_WORLDS)
    assert of_experiment(experiment).flags["two_worlds"]
    found = verify_statements(experiment, [STATEMENTS["FFGG-7Be"], STATEMENTS["FFGG-7Bd"]])
    mu, x, n, f = 1.0, 1.0, 7, 2
    floor = 0.5 * mu * (f * x / (n - f)) ** 2
    for result in found:
        assert result.verdict.measured == pytest.approx(floor, rel=1e-9)
        assert result.verdict.bound == pytest.approx(floor, rel=1e-9)
    moved = experiment_of(TWO_WORLDS | {"start": {"kind": "point", "u": [0.3], "v": [[0.0]] * 7}})
    assert not of_experiment(moved).flags["two_worlds"]
    verdict = verify_statements(moved, [STATEMENTS["FFGG-7Be"]])[0].verdict
    assert verdict.status == "premises_unmet"


@pytest.mark.parametrize("aggregator", ["trimmed_mean", "median", "geometric_median", "krum"])
def test_no_method_serves_both_worlds(aggregator):
    """Theorem 7B(f): n−2f clients F_m = 0 and groups of f with ½w² and ½(w−x)², either of which attacks. A label flip
    turns c into −c, so both worlds send the same messages and have the same iterates."""
    n, f, x = 7, 2, 1.0
    worst = 0.0
    finals = []
    for honest, hidden in ((0.0, -x), (x, 0.0)):
        targets = [0.0] * (n - 2 * f) + [honest] * f + [hidden] * f
        curves = [0.0] * (n - 2 * f) + [1.0] * (2 * f)
        threat = {"f": f, "attack": "label_flip", "aggregator": aggregator}
        A = [[[math.sqrt(h)]] for h in curves]
        c = [[math.sqrt(h) * t] for h, t in zip(curves, targets, strict=True)]
        problem = {"family": "least_squares_arrays", "A": A, "B": [[[0.0]]] * n, "c": c}
        start = {"kind": "point", "u": [0.37], "v": [[0.0]] * n}
        file = {"problem": problem, "start": start, "algorithm": {"name": "ffgg", "m": n, "gamma": 0.5}}
        experiment = experiment_of(file | {"run": {"T": 60}, "byzantine": threat})
        assert experiment.honest.envelope_constants.overpersonalized
        assert experiment.honest.envelope_constants.B_sq.value == pytest.approx((n - 2 * f) / f)
        trace = run(experiment, 1)
        finals.append(float(trace["u_final"].values[0, 0]))
        worst = max(worst, float(trace["F_gap"].values[0, -1]))
        verdict = verify_statements(experiment, [STATEMENTS["FFGG-7Bb"]])[0].verdict
        promised = verdict.bound < float(trace["F_gap"].values[0, 0]) * (1 - 1e-12)
        assert verdict.status == "premises_unmet" or not promised, "κB² = 1 for the trimmed mean, up to rounding"
    if aggregator in ("trimmed_mean", "median", "geometric_median"):
        assert finals[0] == pytest.approx(finals[1], abs=1e-6)
    assert worst >= f * x**2 / (8 * (n - f)) - 1e-12


def test_registered():
    assert methods()["ffgg"] is METHOD
    assert statement("FFGG-3a").key == "FFGG-3a"
    assert statement("FFGG-3a:no_2").mutant_of == "FFGG-3a"
    for one in STATEMENTS.values():
        assert "Theorem" not in one.source
        assert mathml.statement(one).startswith("<math")
        assert one.latex()["statement"]
        for weak in one.mutants:
            assert one.mutate(weak).key == f"{one.key}:{weak.key}"


def test_no_step_is_admissible_where_the_inner_steps_do_not_contract():
    """Huber has no smoothness in θ: q = 1, and Theorem 4(d) admits no step."""
    problem = {"family": "huber", "n": 2, "d_u": 2, "rows": 3}
    file = kind_of({"m": 2, "fine_tuning": {"mode": "steps", "steps": 2}}) | {"problem": problem}
    assert STATEMENTS["FFGG-4d"].largest_step(of_experiment(experiment_of(file))) == pytest.approx(0.0, abs=1e-300)
