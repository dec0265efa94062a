"""Theorem 4 of the theory page on FFGG: inexact fine-tuning, with and without warm start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from fedconv.analysis.theorems.base import Condition, T, symbol
from fedconv.analysis.theorems.ffgg.measured import (
    CONVEX,
    D_0,
    D_NEXT,
    D_NOW,
    D_T,
    DESCENT,
    GAP_FLOOR,
    GAPS,
    GRADIENT_FLOOR,
    GRADIENTS,
    KNOWN_F,
    KNOWN_W,
    PL,
    R_0,
    REACH,
    ROUNDED,
    L,
    L_theta,
    L_uv,
    about,
    claim,
    gamma,
    mu,
    mu_v,
    noise_g,
    noise_w,
    points,
    positive,
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

K, q, Lambda, r = symbol("K"), symbol("q"), symbol("Lambda"), symbol("r")

BIAS_NOW = measured("bias_now", "‖b_k‖²", r"\|b_k\|^2", lambda t, _: each(t, "bias_sq"), "bias_sq")
ERROR_NOW = measured("error_now", "E_k²", "E_k^2", lambda t, _: each(t, "fine_tuning_sq"), "fine_tuning_sq")
SLOPE_NOW = measured(
    "slope_now",
    "mean of ‖∇_θf_m(w^k, θ_m)‖",
    r"\Big(\frac1M\sum_m\|\nabla_\theta f_m(w^k,\hat\theta_m^k)\|\Big)",
    lambda t, _: each(t, "fine_tuning_grad"),
    "fine_tuning_grad",
)
BIAS_MEAN = measured(
    "bias_mean",
    "mean of ‖b_k‖² over k < T",
    r"\frac1T\sum_{k<T}\|b_k\|^2",
    lambda t, _: each(t, "bias_sq").mean(axis=1),
    "bias_sq",
)
BIAS_SUM = measured(
    "bias_sum",
    "Σ ‖b_k‖ over k < T",
    r"\Big(\sum_{k<T}\|b_k\|\Big)",
    lambda t, _: np.sqrt(each(t, "bias_sq")).sum(axis=1),
    "bias_sq",
)
BIAS_MOST = measured(
    "bias_most", "largest ‖b_k‖²", r"\max_k\|b_k\|^2", lambda t, _: each(t, "bias_sq").max(axis=1), "bias_sq"
)
START_ERROR = measured(
    "start_error_sq",
    "E_in²",
    r"E_{\mathrm{in}}^2",
    lambda t, _: t["fine_tuning_start_sq"].values,
    "fine_tuning_start_sq",
)


def _discounted(trace: xr.Dataset, values: Any) -> np.ndarray:
    """Σ_{k<T} r^{T−1−k} ‖b_k‖²."""
    bias = each(trace, "bias_sq")
    return bias @ float(np.max(values["r"])) ** np.arange(bias.shape[1] - 1.0, -1.0, -1.0)


DISCOUNTED = measured(
    "bias_discounted",
    "Σ r^{T−1−k} ‖b_k‖² over k < T",
    r"\Big(\sum_{k<T}r^{T-1-k}\|b_k\|^2\Big)",
    _discounted,
    "bias_sq",
)

_INEXACT = about("inexact")
_GROWTH = positive("mu_v", "f_m(w, ·) is not known to grow quadratically around its minimisers")
_STEEP = positive("mu_v", "‖∇_θf_m(w, θ)‖ ≥ μ_v dist(θ, minimisers of f_m(w, ·)) is not known")
_A = {lhs: GRADIENTS.symbol, floor: 2 * noise / (gamma * T) + GRADIENT_FLOOR}

BIAS = claim(
    "FFGG-4-bias",
    "inexact fine-tuning: ‖b_k‖ ≤ L_uv E_k",
    {lhs: sp.sqrt(BIAS_NOW.symbol), rhs: L_uv * sp.sqrt(ERROR_NOW.symbol), floor: noise_g},
    BIAS_NOW,
    ERROR_NOW,
    fits=_INEXACT,
    rounds=True,
    step=None,
    mutants=(Weakened("half", "half the bound", {rhs: L_uv * sp.sqrt(ERROR_NOW.symbol) / 2}),),
)
SLOPE = claim(
    "FFGG-4-grad",
    "inexact fine-tuning: ‖b_k‖ ≤ (L_uv/μ_v) times the mean ‖∇_θf_m‖",
    {lhs: sp.sqrt(BIAS_NOW.symbol), rhs: L_uv / mu_v * SLOPE_NOW.symbol, floor: noise_g},
    BIAS_NOW,
    SLOPE_NOW,
    fits=_INEXACT,
    premises=(_STEEP,),
    rounds=True,
    step=None,
    mutants=(Weakened("no_mu_v", "1/μ_v dropped", {rhs: L_uv * SLOPE_NOW.symbol}),),
)
FFGG_4A = claim(
    "FFGG-4a",
    "inexact fine-tuning, nonconvex",
    {**_A, rhs: 2 * DESCENT.symbol / (gamma * T) + BIAS_MEAN.symbol, floor: _A[floor] + ROUNDED * BIAS_MEAN.symbol},
    GRADIENTS,
    DESCENT,
    BIAS_MEAN,
    conditions=(REACH,),
    fits=_INEXACT,
    mutants=(
        Weakened("no_bias", "without the bias", {rhs: 2 * DESCENT.symbol / (gamma * T)}),
        Weakened("half_bias", "half the bias", {rhs: 2 * DESCENT.symbol / (gamma * T) + BIAS_MEAN.symbol / 2}),
        Weakened("no_2", "the factor 2 dropped", {rhs: DESCENT.symbol / (gamma * T) + BIAS_MEAN.symbol}),
    ),
)
_B = {r: 1 - gamma * mu, lhs: D_T.symbol, floor: GAP_FLOOR + noise_g**2 / mu}
FFGG_4B = claim(
    "FFGG-4b",
    "inexact fine-tuning, PL",
    {**_B, rhs: r**T * D_0.symbol + gamma / 2 * DISCOUNTED.symbol},
    D_T,
    D_0,
    DISCOUNTED,
    conditions=(REACH,),
    premises=(PL, KNOWN_F),
    fits=_INEXACT,
    mutants=(
        Weakened("no_bias", "without the bias", {rhs: r**T * D_0.symbol}),
        Weakened("half_bias", "half the bias", {rhs: r**T * D_0.symbol + gamma / 4 * DISCOUNTED.symbol}),
    ),
)
FFGG_4B_MAX = claim(
    "FFGG-4b-max",
    "inexact fine-tuning, PL: the floor",
    {**_B, rhs: r**T * D_0.symbol + BIAS_MOST.symbol / (2 * mu)},
    D_T,
    D_0,
    BIAS_MOST,
    conditions=(REACH,),
    premises=(PL, KNOWN_F),
    fits=_INEXACT,
    mutants=(
        Weakened("half_floor", "half the floor", {rhs: r**T * D_0.symbol + BIAS_MOST.symbol / (4 * mu)}),
        Weakened("no_floor", "no floor", {rhs: r**T * D_0.symbol}),
    ),
)
FFGG_4B_STEP = claim(
    "FFGG-4b-step",
    "inexact fine-tuning, PL: every round",
    {
        r: 1 - gamma * mu,
        lhs: D_NEXT.symbol,
        rhs: r * D_NOW.symbol + gamma / 2 * BIAS_NOW.symbol,
        floor: GAP_FLOOR + gamma * noise_g**2,
    },
    D_NEXT,
    D_NOW,
    BIAS_NOW,
    conditions=(REACH,),
    premises=(PL, KNOWN_F),
    fits=_INEXACT,
    rounds=True,
    mutants=(Weakened("half_bias", "half the bias", {rhs: r * D_NOW.symbol + gamma / 4 * BIAS_NOW.symbol}),),
)
_TRAVEL = R_0.symbol + gamma * BIAS_SUM.symbol
FFGG_4C = claim(
    "FFGG-4c",
    "inexact fine-tuning, F convex",
    {lhs: GAPS.symbol, rhs: _TRAVEL**2 / (2 * gamma * (T + 1)), floor: noise + noise_w**2 / gamma + T * noise_g**2},
    GAPS,
    R_0,
    BIAS_SUM,
    conditions=(REACH,),
    premises=(CONVEX, KNOWN_F, KNOWN_W),
    fits=_INEXACT,
    mutants=(
        Weakened("half", "half the bound", {rhs: _TRAVEL**2 / (4 * gamma * (T + 1))}),
        Weakened("no_bias", "without the biases", {rhs: R_0.symbol**2 / (2 * gamma * (T + 1))}),
    ),
)
WARM = Premise("warm", "fine-tuning starts cold in every round", lambda inputs: bool(inputs.flags["warm"]))
_STEPS = Premise("inner_steps", "no number K ≥ 1 of inner steps is fixed", lambda inputs: inputs.values["K"] >= 1)


def _counted(inputs: StatementInputs) -> bool:
    return _INEXACT(inputs) and inputs.flags["fine_tuning"] == "steps"


_CONTRACTION = {q: (1 - mu_v / L_theta) ** K, Lambda: L_uv**2 / mu_v}
_KEEPS = L_uv**2 * q**2 * START_ERROR.symbol / ((1 - q) * T)
FFGG_4D = claim(
    "FFGG-4d",
    "K warm-started inner steps, nonconvex: no floor",
    {**_CONTRACTION, **_A, rhs: 2 * D_0.symbol / (gamma * T) + _KEEPS},
    GRADIENTS,
    D_0,
    START_ERROR,
    conditions=(Condition("γ(L+qΛ/(1−q))", gamma * (L + q * Lambda / (1 - q))),),
    premises=(_GROWTH, _STEPS, WARM),
    fits=_counted,
    mutants=(
        Weakened("any_q", "γ = 1/L whatever q", without=("γ(L+qΛ/(1−q))",)),
        Weakened("cold", "also for a cold start in every round", without=("warm",)),
        Weakened("no_start", "without the initial error", {rhs: 2 * D_0.symbol / (gamma * T)}),
    ),
)
_WEIGHT = gamma * L_uv**2 / (1 - q)
_AFTER, _BEFORE, _END, _BEGIN = slice(1, None), slice(None, -1), slice(-1, None), slice(None, 1)


def _later(name: str, variable: str, meaning: str, latex: str, first: slice) -> Any:
    """Some of the rounds 0..T−1. A single round has no later one: 0 stands there."""

    def reduce(trace: xr.Dataset, _: Any) -> np.ndarray:
        found = points(trace, variable)[:, :-1] if variable == "F_gap" else each(trace, variable)
        chosen = found[:, first]
        return chosen if chosen.shape[1] else (np.zeros_like(found) if first == _AFTER else found)

    return measured(name, meaning, latex, reduce, variable)


D_AFTER = _later("D_after", "F_gap", "F(w^{k+1}) − F★", "D_{k+1}", _AFTER)
E_AFTER = _later("E_after_sq", "fine_tuning_sq", "E_{k+1}²", "E_{k+1}^2", _AFTER)
D_BEFORE = _later("D_before", "F_gap", "F(w^k) − F★", "D_k", _BEFORE)
E_BEFORE = _later("E_before_sq", "fine_tuning_sq", "E_k²", "E_k^2", _BEFORE)
D_END = _later("D_end", "F_gap", "F(w^{T−1}) − F★", "D_{T-1}", _END)
E_END = _later("E_end_sq", "fine_tuning_sq", "E_{T−1}²", "E_{T-1}^2", _END)
E_0 = _later("E_0_sq", "fine_tuning_sq", "E_0²", "E_0^2", _BEGIN)
_E_CONDITIONS = (
    Condition("γ(L+√2qΛ/(1−q))", gamma * (L + sp.sqrt(2) * q * Lambda / (1 - q))),
    Condition("2γμ/(1−q)", 2 * gamma * mu / (1 - q)),
)
_E_PREMISES = (PL, KNOWN_F, _GROWTH, _STEPS, WARM)
_E_COMMON = {**_CONTRACTION, r: 1 - gamma * mu, floor: GAP_FLOOR + noise_g**2 / mu}
FFGG_4E = claim(
    "FFGG-4e",
    "K warm-started inner steps, PL: linear rate, no floor",
    {
        **_E_COMMON,
        lhs: D_END.symbol + _WEIGHT * E_END.symbol,
        rhs: r ** (T - 1) * (D_0.symbol + _WEIGHT * E_0.symbol),
    },
    D_END,
    E_END,
    D_0,
    E_0,
    conditions=_E_CONDITIONS,
    premises=_E_PREMISES,
    fits=_counted,
    rounds=True,
    mutants=(
        Weakened("twice", "twice the rate", {r: 1 - 2 * gamma * mu}),
        Weakened("cold", "also for a cold start in every round", without=("warm",)),
    ),
)
FFGG_4E_STEP = claim(
    "FFGG-4e-step",
    "K warm-started inner steps, PL: Φ_k = D_k + γL_uv²E_k²/(1−q) in every round",
    {
        **_E_COMMON,
        lhs: D_AFTER.symbol + _WEIGHT * E_AFTER.symbol,
        rhs: r * (D_BEFORE.symbol + _WEIGHT * E_BEFORE.symbol),
    },
    D_AFTER,
    E_AFTER,
    D_BEFORE,
    E_BEFORE,
    conditions=_E_CONDITIONS,
    premises=_E_PREMISES,
    fits=_counted,
    rounds=True,
    mutants=(Weakened("twice", "twice the rate", {r: 1 - 2 * gamma * mu}),),
)

STATEMENTS: tuple[Statement, ...] = (
    BIAS, SLOPE, FFGG_4A, FFGG_4B, FFGG_4B_MAX, FFGG_4B_STEP, FFGG_4C, FFGG_4D, FFGG_4E, FFGG_4E_STEP,
)  # fmt: skip
