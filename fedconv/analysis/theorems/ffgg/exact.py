"""Theorem 3 of the theory page on FFGG: exact fine-tuning, with everybody or with a cohort."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from fedconv.analysis.theorems.base import Condition, T, m, n, symbol
from fedconv.analysis.theorems.ffgg.measured import (
    BELOW_TWO,
    CONVEX,
    D_0,
    D_NEXT,
    D_NOW,
    D_T,
    DESCENT,
    DIST,
    DIST_NEXT,
    DIST_NOW,
    GAP_FLOOR,
    GAPS,
    GRAD_NOW,
    GRADIENT_FLOOR,
    GRADIENTS,
    KNOWN_F,
    KNOWN_W,
    KNOWN_ZETA,
    OVERPERSONALIZED,
    PL,
    R_0,
    REACH,
    ROUNDED,
    STRONG,
    G,
    L,
    L_max,
    about,
    claim,
    distance_floor,
    gamma,
    mu,
    noise_w,
    points,
    zeta,
)
from fedconv.analysis.theorems.statement import Statement, Weakened, floor, lhs, measured, noise, rhs

if TYPE_CHECKING:
    import xarray as xr

# ---- Theorem 3, full participation -----------------------------------------------------------------------------

r, omega, L_S, a = symbol("r"), symbol("omega"), symbol("L_S"), symbol("a")
_FULL = about("exact")

FFGG_3A = claim(
    "FFGG-3a",
    "exact fine-tuning, nonconvex",
    {
        lhs: GRADIENTS.symbol,
        rhs: 2 * DESCENT.symbol / (gamma * (2 - gamma * L) * T),
        floor: 2 * noise / (gamma * (2 - gamma * L) * T) + GRADIENT_FLOOR,
    },
    GRADIENTS,
    DESCENT,
    conditions=(BELOW_TWO,),
    fits=_FULL,
    mutants=(
        Weakened("no_2", "the factor 2 dropped", {rhs: DESCENT.symbol / (gamma * (2 - gamma * L) * T)}),
        Weakened("no_gamma_L", "2 in place of 2 − γL", {rhs: DESCENT.symbol / (gamma * T)}),
    ),
)
FFGG_3B = claim(
    "FFGG-3b",
    "exact fine-tuning, convex",
    {lhs: GAPS.symbol, rhs: R_0.symbol**2 / (2 * gamma * (T + 1)), floor: noise + noise_w**2 / gamma},
    GAPS,
    R_0,
    conditions=(REACH,),
    premises=(CONVEX, KNOWN_F, KNOWN_W),
    fits=_FULL,
    mutants=(
        Weakened("half", "half the bound", {rhs: R_0.symbol**2 / (4 * gamma * (T + 1))}),
        Weakened("no_step", "any step up to 2/L", without=("γL",)),
    ),
)
FFGG_3B_LAST = claim(
    "FFGG-3b-last",
    "exact fine-tuning, convex: the last iterate at γ = 1/L",
    {lhs: D_T.symbol, rhs: L * R_0.symbol**2 / (4 * T + 2), floor: noise + L * noise_w**2},
    D_T,
    R_0,
    conditions=(REACH, Condition("1/(γL)", 1 / (gamma * L))),
    premises=(CONVEX, KNOWN_F, KNOWN_W),
    fits=_FULL,
    step=None,
    source="Drori and Teboulle 2014, from memory",
    mutants=(Weakened("half", "half the bound", {rhs: L * R_0.symbol**2 / (8 * T + 4)}),),
)
_RATE = {r: 1 - gamma * mu * (2 - gamma * L)}
_FASTER = {r: 1 - 2 * gamma * mu * (2 - gamma * L)}
FFGG_3C = claim(
    "FFGG-3c",
    "exact fine-tuning, PL",
    {**_RATE, lhs: D_T.symbol, rhs: r**T * D_0.symbol, floor: GAP_FLOOR},
    D_T,
    D_0,
    conditions=(BELOW_TWO,),
    premises=(PL, KNOWN_F),
    fits=_FULL,
    mutants=(
        Weakened("twice", "twice the rate", _FASTER),
        Weakened("no_gamma_L", "2 in place of 2 − γL", {r: 1 - 2 * gamma * mu}),
    ),
)
FFGG_3C_STEP = claim(
    "FFGG-3c-step",
    "exact fine-tuning, PL: every round",
    {**_RATE, lhs: D_NEXT.symbol, rhs: r * D_NOW.symbol, floor: GAP_FLOOR},
    D_NEXT,
    D_NOW,
    conditions=(BELOW_TWO,),
    premises=(PL, KNOWN_F),
    fits=_FULL,
    rounds=True,
    mutants=(Weakened("twice", "twice the rate", _FASTER),),
)
_REACH_2 = Condition("γ(L+μ)/2", gamma * (L + mu) / 2)
_SQUARE_DROPPED = Weakened("fourth", "(1 − γμ)⁴ a round in place of (1 − γμ)²", {r: (1 - gamma * mu) ** 2})
FFGG_3C_DISTANCE = claim(
    "FFGG-3c-distance",
    "exact fine-tuning, strongly convex: the distance",
    {
        r: 1 - gamma * mu,
        lhs: DIST.symbol,
        rhs: r ** (2 * T) * R_0.symbol**2,
        floor: distance_floor(r**T * R_0.symbol),
    },
    DIST,
    R_0,
    conditions=(_REACH_2,),
    premises=(STRONG, PL, KNOWN_W),
    fits=_FULL,
    mutants=(_SQUARE_DROPPED, Weakened("no_step", "any step up to 2/L", without=("γ(L+μ)/2",))),
)
FFGG_3C_DISTANCE_STEP = claim(
    "FFGG-3c-distance-step",
    "exact fine-tuning, strongly convex: the distance in every round",
    {
        r: 1 - gamma * mu,
        lhs: DIST_NEXT.symbol,
        rhs: r**2 * DIST_NOW.symbol,
        floor: distance_floor(r * sp.sqrt(DIST_NOW.symbol)),
    },
    DIST_NEXT,
    DIST_NOW,
    conditions=(_REACH_2,),
    premises=(STRONG, PL, KNOWN_W),
    fits=_FULL,
    rounds=True,
    mutants=(_SQUARE_DROPPED,),
)
FFGG_3_LOWER = claim(
    "FFGG-3-PL",
    "2μ(F − F★) ≤ ‖∇F‖² at every iterate",
    {lhs: 2 * mu * D_NOW.symbol, rhs: GRAD_NOW.symbol, floor: 4 * mu * noise + GRADIENT_FLOOR},
    D_NOW,
    GRAD_NOW,
    premises=(PL, KNOWN_F),
    rounds=True,
    step=None,
    mutants=(Weakened("twice", "4μ in place of 2μ", {lhs: 4 * mu * D_NOW.symbol}),),
)
FFGG_3_UPPER = claim(
    "FFGG-3-E2",
    "‖∇F‖² ≤ 2L(F − F★) at every iterate",
    {lhs: GRAD_NOW.symbol, rhs: 2 * L * D_NOW.symbol, floor: 4 * L * noise + GRADIENT_FLOOR},
    GRAD_NOW,
    D_NOW,
    rounds=True,
    step=None,
    mutants=(Weakened("no_2", "the factor 2 dropped", {rhs: L * D_NOW.symbol}),),
)

# ---- Theorem 3, partial participation --------------------------------------------------------------------------

_SAMPLED = about("sampled")
_SAMPLING = {omega: (n - m) / (m * sp.Max(n - 1, 1)), L_S: omega * L_max + (1 - omega) * L}
growth = symbol("growth")


def _weights(trace: xr.Dataset, values: Any) -> np.ndarray:
    """β_k = (1 + growth)^{−(k+1)} for k < T."""
    return (1.0 + float(np.max(values["growth"]))) ** -np.arange(1.0, trace.sizes["round"] + 1)


WEIGHT = measured(
    "W",
    "Σ β_k, β_k = (1+a)^{−(k+1)}",
    "W",
    lambda t, v: np.full(t.sizes["replicate"], _weights(t, v).sum()),
)
WEIGHTED = measured(
    "grad_weighted",
    "mean of ‖∇F(w^k)‖² over k < T with weights β_k = (1+a)^{−(k+1)}",
    r"\frac1W\sum_{k<T}\beta_k\|\nabla F(w^k)\|^2",
    lambda t, v: points(t, "grad_sq")[:, :-1] @ _weights(t, v) / _weights(t, v).sum(),
    "grad_sq",
)
_COMMON_D = {omega: _SAMPLING[omega], a: omega * L * L_max * gamma**2, growth: a}
_KEPT = gamma * (2 - gamma * L * (1 - omega))
FFGG_3D = claim(
    "FFGG-3d",
    "partial participation, nonconvex",
    {
        **_COMMON_D,
        lhs: WEIGHTED.symbol,
        rhs: (2 * D_0.symbol / WEIGHT.symbol + 2 * a * G) / _KEPT,
        floor: 2 * noise / (WEIGHT.symbol * _KEPT) + GRADIENT_FLOOR,
    },
    WEIGHTED,
    WEIGHT,
    D_0,
    conditions=(REACH,),
    fits=_SAMPLED,
    pathwise=False,
    written={"growth": "a"},
    mutants=(
        Weakened("no_weights", "all weights 1: no (1+a)^k", {growth: sp.Integer(0)}),
        Weakened("no_floor", "no floor though G > 0", {rhs: 2 * D_0.symbol / (WEIGHT.symbol * _KEPT)}),
    ),
)
_SHORT = Condition("γ²ωTL·L_max", gamma**2 * omega * L * L_max * T)
FFGG_3D_MIN = claim(
    "FFGG-3d-min",
    "partial participation, nonconvex: steps below (ωTL·L_max)^{−1/2}; min_k E‖∇F(w^k)‖² is at most this mean",
    {
        **_COMMON_D,
        lhs: WEIGHTED.symbol,
        rhs: 2 * sp.E * D_0.symbol / (gamma * T) + 2 * omega * L * L_max * gamma * G,
        floor: 6 * noise / (gamma * T) + GRADIENT_FLOOR,
    },
    WEIGHTED,
    D_0,
    conditions=(REACH, _SHORT),
    fits=_SAMPLED,
    pathwise=False,
    written={"growth": "a"},
    mutants=(
        Weakened("no_condition", "any step up to 1/L", without=("γ²ωTL·L_max",)),
        Weakened("no_floor", "no floor though G > 0", {rhs: 2 * sp.E * D_0.symbol / (gamma * T)}),
    ),
)
_START = R_0.symbol**2 / (2 * gamma * (T + 1))
_FLOOR = gamma * omega * zeta**2 / (2 * (1 - gamma * L_S))
FFGG_3E = claim(
    "FFGG-3e",
    "partial participation, convex",
    {**_SAMPLING, lhs: GAPS.symbol, rhs: _START + _FLOOR, floor: noise + noise_w**2 / gamma},
    GAPS,
    R_0,
    conditions=(Condition("γℒ", gamma * L_S, strict=True),),
    premises=(CONVEX, KNOWN_F, KNOWN_W, KNOWN_ZETA),
    fits=_SAMPLED,
    pathwise=False,
    mutants=(
        Weakened("no_floor", "no floor though G > 0", {rhs: _START}),
        Weakened("quarter_floor", "a quarter of the floor", {rhs: _START + _FLOOR / 4}),
    ),
)
FFGG_3E_OVER = claim(
    "FFGG-3e-over",
    "partial participation, overpersonalized and convex: no floor",
    {**_SAMPLING, lhs: GAPS.symbol, rhs: _START, floor: noise + noise_w**2 / gamma},
    GAPS,
    R_0,
    conditions=(Condition("γℒ", gamma * L_S),),
    premises=(CONVEX, OVERPERSONALIZED, KNOWN_F, KNOWN_W),
    fits=_SAMPLED,
    pathwise=False,
    mutants=(
        Weakened("step_L", "steps up to 1/L in place of 1/ℒ", without=("γℒ",)),
        Weakened("half", "half the bound", {rhs: R_0.symbol**2 / (4 * gamma * (T + 1))}),
        Weakened("not_over", "without overpersonalization", without=("overpersonalized",)),
    ),
)
_RATE_S = {**_SAMPLING, r: 1 - gamma * mu * (2 - gamma * L_S)}
_HALF_S = Condition("γℒ/2", gamma * L_S / 2, strict=True)
_MUTANTS_F = (
    Weakened("L", "L in place of ℒ", {L_S: L}),
    Weakened("twice", "twice the rate", {r: 1 - 2 * gamma * mu * (2 - gamma * L_S)}),
    Weakened("not_over", "without overpersonalization", without=("overpersonalized",)),
)
_PREMISES_F = (CONVEX, OVERPERSONALIZED, STRONG, PL, KNOWN_W)
FFGG_3F = claim(
    "FFGG-3f",
    "partial participation, overpersonalized and strongly convex: the distance",
    {
        **_RATE_S,
        lhs: DIST.symbol,
        rhs: r**T * R_0.symbol**2,
        floor: distance_floor(sp.sqrt(sp.Abs(r) ** T) * R_0.symbol) + ROUNDED * R_0.symbol**2,
    },
    DIST,
    R_0,
    conditions=(_HALF_S,),
    premises=_PREMISES_F,
    fits=_SAMPLED,
    pathwise=False,
    mutants=_MUTANTS_F,
)
DIST_BEFORE = measured(
    "dist_before", "‖w^{T−1} − w★‖²", r"\|w^{T-1}-w^*\|^2", lambda t, _: points(t, "dist_sq")[:, -2], "dist_sq"
)
FFGG_3F_STEP = claim(
    "FFGG-3f-step",
    "partial participation, overpersonalized and strongly convex: the distance in the last round",
    {**_RATE_S, lhs: DIST.symbol, rhs: r * DIST_BEFORE.symbol, floor: 8 * noise_w**2 + ROUNDED * DIST_BEFORE.symbol},
    DIST,
    DIST_BEFORE,
    conditions=(_HALF_S,),
    premises=_PREMISES_F,
    fits=_SAMPLED,
    pathwise=False,
    mutants=_MUTANTS_F[:2],
)

STATEMENTS: tuple[Statement, ...] = (
    FFGG_3A, FFGG_3B, FFGG_3B_LAST, FFGG_3C, FFGG_3C_STEP, FFGG_3C_DISTANCE, FFGG_3C_DISTANCE_STEP, FFGG_3_LOWER,
    FFGG_3_UPPER, FFGG_3D, FFGG_3D_MIN, FFGG_3E, FFGG_3E_OVER, FFGG_3F, FFGG_3F_STEP,
)  # fmt: skip
