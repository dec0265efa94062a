"""Theorem 7 of the theory page on FFGG: robust aggregates, and convergence despite Byzantine clients.

F, D_k, L, μ, G, ζ★ and 𝒱 (``spread``) are those of the honest clients. An aggregator obeys ‖Agg − ∇F‖² ≤ κ𝒱 + β‖∇F‖²
with β = 0 except for centred clipping. Statements end in ``-random`` where the server draws random numbers: there
they are about expectations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from fedconv.analysis.theorems.base import Condition, T, n, symbol
from fedconv.analysis.theorems.ffgg.measured import (
    CLAIMED,
    CONVEX,
    D_0,
    D_NEXT,
    D_NOW,
    D_T,
    GAP_FLOOR,
    GRAD_NOW,
    GRADIENT_FLOOR,
    GRADIENTS,
    KNOWN_F,
    KNOWN_W,
    KNOWN_ZETA,
    OVERPERSONALIZED,
    PL,
    REACH,
    L,
    L_max,
    claim,
    finite,
    gamma,
    mu,
    noise_g,
    points,
    zeta,
)
from fedconv.analysis.theorems.statement import (
    Premise,
    Statement,
    StatementInputs,
    Weakened,
    each,
    floor,
    lhs,
    measured,
    noise,
    rhs,
)

if TYPE_CHECKING:
    import xarray as xr

kappa, beta, B, f, epsilon, r = (symbol(s) for s in ("kappa", "beta", "B", "f", "epsilon", "r"))

SMALLEST = 1e-150
"""In place of a distance 0: a larger ρ_0 is valid too."""

ERROR_NOW = measured(
    "error_now", "‖Agg − ∇F(w^k)‖²", r"\|e_k\|^2", lambda t, _: each(t, "aggregation_error_sq"), "aggregation_error_sq"
)
SPREAD_NOW = measured("spread_now", "𝒱(w^k)", r"\mathcal V_k", lambda t, _: each(t, "spread"), "spread")
HONEST_NOW = measured(
    "honest_now",
    "mean over the honest of ‖∇F_m(w^k)‖²",
    r"\frac1N\sum_m\|\nabla F_m(w^k)\|^2",
    lambda t, _: each(t, "honest_sq"),
    "honest_sq",
)
ERROR_MEAN = measured(
    "error_mean",
    "mean of ‖Agg − ∇F(w^k)‖²",
    r"\frac1T\sum_{k<T}\|e_k\|^2",
    lambda t, _: each(t, "aggregation_error_sq").mean(axis=1),
    "aggregation_error_sq",
)
SPREAD_MEAN = measured(
    "spread_mean",
    "mean of 𝒱(w^k)",
    r"\frac1T\sum_{k<T}\mathcal V_k",
    lambda t, _: each(t, "spread").mean(axis=1),
    "spread",
)
RADIUS = measured(
    "rho_0",
    "largest ‖w^k − w★‖",
    r"\rho_0",
    lambda t, _: np.maximum(np.sqrt(points(t, "dist_sq").max(axis=1)), SMALLEST),
    "dist_sq",
)


def _beyond(trace: xr.Dataset, values: Mapping[str, Any]) -> np.ndarray:
    """The least ζ² with 𝒱 ≤ B²‖∇F‖² + ζ² at every visited point."""
    excess = each(trace, "spread") - np.max(values["B_a"]) ** 2 * points(trace, "grad_sq")[:, :-1]
    return np.maximum(excess, 0.0).max(axis=1)


B_a = symbol("B_a")
"""B where κB² + β < 1, else 0: Theorem 7B(a) leaves B and ζ free, and ζ is measured."""
BEYOND = measured(
    "zeta_a_sq",
    "ζ²: largest 𝒱(w^k) − B²‖∇F(w^k)‖² on the way",
    r"\max_k\big(\mathcal V_k-B^2\|\nabla F(w^k)\|^2\big)_+",
    _beyond,
    "spread",
    "grad_sq",
)


def fits(inputs: StatementInputs) -> bool:
    return inputs.flags["kind"] == "byzantine"


def _plainly(inputs: StatementInputs) -> bool:
    return fits(inputs) and not inputs.flags["randomised"]


def _randomly(inputs: StatementInputs) -> bool:
    return fits(inputs) and bool(inputs.flags["randomised"])


KAPPA = finite("kappa", "no κ is known for this aggregator")
NO_CLIPPING = Premise("clipping", "not claimed for centred clipping", lambda inputs: not inputs.flags["clipping"])
SHARP_TRIM = Premise(
    "trim",
    "about the trimmed mean that drops f values on each side",
    lambda inputs: (
        inputs.flags["aggregator"] == "trimmed_mean"
        and inputs.flags["pre"] == "none"
        and inputs.flags["trim"] in (None, int(inputs.values["f"]))
    ),
)

FFGG_7A = claim(
    "FFGG-7A",
    "robust aggregation: ‖Agg − ∇F‖² ≤ κ𝒱 + β‖∇F‖² in every round",
    {
        lhs: ERROR_NOW.symbol,
        rhs: kappa * SPREAD_NOW.symbol + beta * GRAD_NOW.symbol,
        floor: 100 * noise_g**2 + HONEST_NOW.symbol * 1e-24,
    },
    ERROR_NOW,
    SPREAD_NOW,
    GRAD_NOW,
    HONEST_NOW,
    premises=(KAPPA,),
    fits=_plainly,
    rounds=True,
    step=None,
    mutants=(
        Weakened("f_over_honest", "κ = f/(n−f)", {rhs: f / (n - f) * SPREAD_NOW.symbol}),
        Weakened("half", "half of κ and β", {rhs: (kappa * SPREAD_NOW.symbol + beta * GRAD_NOW.symbol) / 2}),
        Weakened("no_beta", "β = 0 also for centred clipping", {rhs: kappa * SPREAD_NOW.symbol}),
    ),
)
FFGG_7A_RANDOM = claim(
    "FFGG-7A-random",
    "randomised robust aggregation: E‖Agg − ∇F‖² ≤ κ E𝒱",
    {
        lhs: ERROR_MEAN.symbol,
        rhs: kappa * SPREAD_MEAN.symbol + beta * GRADIENTS.symbol,
        floor: 100 * noise_g**2,
    },
    ERROR_MEAN,
    SPREAD_MEAN,
    GRADIENTS,
    premises=(KAPPA,),
    fits=_randomly,
    pathwise=False,
    step=None,
    mutants=(Weakened("tenth", "a tenth of κ", {rhs: kappa * SPREAD_MEAN.symbol / 10}),),
)
FFGG_7_GROWTH = claim(
    "FFGG-7-B",
    "overpersonalized: 𝒱 ≤ B²‖∇F‖² at every iterate",
    {lhs: SPREAD_NOW.symbol, rhs: B**2 * GRAD_NOW.symbol, floor: noise_g**2 * (1 + B**2)},
    SPREAD_NOW,
    GRAD_NOW,
    premises=(CONVEX, OVERPERSONALIZED, finite("B", "no finite B is known")),
    fits=fits,
    rounds=True,
    step=None,
    mutants=(
        Weakened("half", "half of B²", {rhs: B**2 * GRAD_NOW.symbol / 2}),
        Weakened("not_over", "without overpersonalization", without=("overpersonalized",)),
    ),
)
FFGG_7_E2 = claim(
    "FFGG-7-E2",
    "mean ‖∇F_m‖² ≤ 2L_max(F − F★ + G) at every iterate",
    {
        lhs: HONEST_NOW.symbol,
        rhs: 2 * L_max * (D_NOW.symbol + symbol("G")),
        floor: 4 * L_max * noise + GRADIENT_FLOOR,
    },
    HONEST_NOW,
    D_NOW,
    fits=fits,
    rounds=True,
    step=None,
    mutants=(
        Weakened("no_gap", "without G", {rhs: 2 * L_max * D_NOW.symbol}),
        Weakened("L", "L in place of L_max", {rhs: 2 * L * (D_NOW.symbol + symbol("G"))}),
    ),
)

# ---- Theorem 7B: convergence -----------------------------------------------------------------------------------

share, share_a = kappa * B**2 + beta, kappa * B_a**2 + beta
_ROOM = Condition("κB²+β", share, strict=True)
_ROOM_A = Condition("κB²+β", share_a, strict=True)
_A_START = 2 * D_0.symbol / (gamma * (1 - share_a) * T)
_A_FLOOR = kappa * BEYOND.symbol / (1 - share_a)
FFGG_7BA = claim(
    "FFGG-7Ba",
    "Byzantine clients, nonconvex (ζ² a posteriori)",
    {
        lhs: GRADIENTS.symbol,
        rhs: _A_START + _A_FLOOR,
        floor: 2 * noise / (gamma * (1 - share_a) * T) + (1 + kappa) * GRADIENT_FLOOR / (1 - share_a),
    },
    GRADIENTS,
    D_0,
    BEYOND,
    source=CLAIMED,
    conditions=(REACH, _ROOM_A),
    premises=(KAPPA,),
    fits=_plainly,
    mutants=(
        Weakened("no_floor", "no floor though ζ > 0", {rhs: _A_START}),
        Weakened("no_2", "the factor 2 dropped", {rhs: _A_START / 2 + _A_FLOOR}),
    ),
)
_RATE = {r: 1 - gamma * mu * (1 - share)}
_OVER = (CONVEX, OVERPERSONALIZED, PL, KNOWN_F, KAPPA)
_MUTANTS_B = (
    Weakened("any_kappa", "any κ works where G = 0", {r: 1 - gamma * mu}, without=("κB²+β",)),
    Weakened("twice", "twice the rate", {r: 1 - 2 * gamma * mu * (1 - share)}),
    Weakened("not_over", "without overpersonalization", without=("overpersonalized",)),
)
FFGG_7BB = claim(
    "FFGG-7Bb",
    "Byzantine clients, overpersonalized, PL: linear convergence to the exact optimum",
    {**_RATE, lhs: D_T.symbol, rhs: r**T * D_0.symbol, floor: GAP_FLOOR},
    D_T,
    D_0,
    source=CLAIMED,
    conditions=(REACH, _ROOM),
    premises=_OVER,
    fits=_plainly,
    mutants=_MUTANTS_B,
)
FFGG_7BB_STEP = claim(
    "FFGG-7Bb-step",
    "Byzantine clients, overpersonalized, PL: every round",
    {**_RATE, lhs: D_NEXT.symbol, rhs: r * D_NOW.symbol, floor: GAP_FLOOR},
    D_NEXT,
    D_NOW,
    source=CLAIMED,
    conditions=(REACH, _ROOM),
    premises=_OVER,
    fits=_plainly,
    rounds=True,
    mutants=_MUTANTS_B[:2],
)
_C_SLOPE = gamma * (1 - share) * T * D_0.symbol / (2 * RADIUS.symbol**2)
FFGG_7BC = claim(
    "FFGG-7Bc",
    "Byzantine clients, overpersonalized, convex (ρ_0 a posteriori: the largest distance on the way)",
    {lhs: D_T.symbol, rhs: D_0.symbol / (1 + _C_SLOPE), floor: GAP_FLOOR},
    D_T,
    D_0,
    RADIUS,
    source=CLAIMED,
    conditions=(REACH, _ROOM),
    premises=(CONVEX, OVERPERSONALIZED, KNOWN_F, KNOWN_W, KAPPA),
    fits=_plainly,
    mutants=(
        Weakened("any_kappa", "any κ works where G = 0", {rhs: D_0.symbol / 2}, without=("κB²+β",)),
        Weakened("ten_times", "ten times as fast", {rhs: D_0.symbol / (1 + 10 * _C_SLOPE)}),
    ),
)
_D_RATE = {epsilon: sp.sqrt(kappa) * B, r: 1 - gamma * mu * (1 - epsilon)}
_D_FLOOR = kappa * zeta**2 / (2 * mu * (1 - epsilon) ** 2)
FFGG_7BD = claim(
    "FFGG-7Bd",
    "Byzantine clients, convex, PL: a floor for heterogeneity",
    {**_D_RATE, lhs: D_T.symbol, rhs: r**T * D_0.symbol + (1 - r**T) * _D_FLOOR, floor: GAP_FLOOR},
    D_T,
    D_0,
    conditions=(REACH, Condition("√κB", epsilon, strict=True)),
    premises=(CONVEX, PL, KNOWN_F, KNOWN_ZETA, KAPPA, NO_CLIPPING),
    fits=_plainly,
    mutants=(
        Weakened("no_floor", "no floor though G > 0", {rhs: r**T * D_0.symbol}),
        Weakened("half_floor", "half the floor", {rhs: r**T * D_0.symbol + (1 - r**T) * _D_FLOOR / 2}),
    ),
)
_SHARP_RATE = {r: 1 - gamma * mu * (1 - f / (n - 2 * f) * B**2)}
FFGG_7BF = claim(
    "FFGG-7Bf",
    "Byzantine clients, overpersonalized, PL: the trimmed mean works up to δ < 1/(2+B²)",
    {**_SHARP_RATE, lhs: D_T.symbol, rhs: r**T * D_0.symbol, floor: GAP_FLOOR},
    D_T,
    D_0,
    source=CLAIMED,
    conditions=(REACH, Condition("f(2+B²)/n", f * (2 + B**2) / n, strict=True)),
    premises=(CONVEX, OVERPERSONALIZED, PL, KNOWN_F, SHARP_TRIM),
    fits=_plainly,
    mutants=(
        Weakened("any_share", "any share of attackers", {r: 1 - gamma * mu / 2}, without=("f(2+B²)/n",)),
        Weakened("twice", "twice the rate", {r: 1 - 2 * gamma * mu * (1 - f / (n - 2 * f) * B**2)}),
    ),
)

TWO_WORLDS = Premise(
    "two_worlds",
    "about n−2f clients (μ/2)w², f honest (μ/2)(w−x)² and f attackers who copy the former, from w^0 = 0",
    lambda inputs: bool(inputs.flags.get("two_worlds", False)),
)
FFGG_7BE = claim(
    "FFGG-7Be",
    "two worlds: an aggregator that is exact for equal clients cannot leave the majority's optimum",
    {lhs: D_T.symbol, rhs: f / (n - 2 * f) * zeta**2 / (2 * mu), floor: GAP_FLOOR},
    D_T,
    kind="lower",
    premises=(TWO_WORLDS, PL, KNOWN_F, KAPPA, NO_CLIPPING),
    fits=lambda inputs: _plainly(inputs) and inputs.flags["copied"] is not None,
    step=None,
    mutants=(Weakened("twice", "twice the error", {rhs: f / (n - 2 * f) * zeta**2 / mu}),),
)


def randomised(one: Statement, keys: tuple[str, ...]) -> Statement:
    """The same in expectation, for a server that draws random numbers; with the mutants of these keys."""
    return replace(
        one,
        key=f"{one.key}-random",
        title=f"{one.title}, in expectation over the server's draws",
        pathwise=False,
        fits=_randomly,
        mutants=tuple(m for m in one.mutants if m.key in keys),
    )


FFGG_7BA_RANDOM = randomised(FFGG_7BA, ("no_floor",))
FFGG_7BB_RANDOM = randomised(FFGG_7BB, ("twice",))
FFGG_7BD_RANDOM = randomised(FFGG_7BD, ("no_floor",))

STATEMENTS: tuple[Statement, ...] = (
    FFGG_7A, FFGG_7A_RANDOM, FFGG_7_GROWTH, FFGG_7_E2, FFGG_7BA, FFGG_7BA_RANDOM, FFGG_7BB, FFGG_7BB_STEP,
    FFGG_7BB_RANDOM, FFGG_7BC, FFGG_7BD, FFGG_7BD_RANDOM, FFGG_7BE, FFGG_7BF,
)  # fmt: skip
