"""Theorems 5 and 6 of the theory page on FFGG: local steps, and an asynchronous server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from fedconv.analysis.theorems.base import Condition, T, n, symbol
from fedconv.analysis.theorems.ffgg.measured import (
    CLAIMED,
    CONVEX,
    CURVED,
    DIST,
    DIST_NEXT,
    DIST_NOW,
    GAPS_BEFORE,
    KNOWN_F,
    KNOWN_W,
    KNOWN_ZETA,
    OVERPERSONALIZED,
    PL,
    QUADRATIC,
    R_0,
    STRONG,
    L_max,
    about,
    claim,
    contracted_floor,
    distance_floor,
    gamma,
    mu,
    noise_w,
    points,
    zeta,
)
from fedconv.analysis.theorems.statement import Premise, Statement, Weakened, each, floor, lhs, measured, noise, rhs

if TYPE_CHECKING:
    import xarray as xr

# ---- Theorem 5: local steps; L is L_max throughout -------------------------------------------------------------

tau, s_tau, r, alpha = (symbol(s) for s in ("tau", "s_tau", "r", "alpha"))
_X = gamma * L_max
_KEPT = {s_tau: (1 - (1 - _X) ** (2 * tau)) / (_X * (2 - _X))}
_LOCAL = about("local")
_REACH = Condition("γL_max", _X)
_REACH_2 = Condition("γL_max/2", _X / 2)
_OVER = (CONVEX, OVERPERSONALIZED, CURVED, KNOWN_W)
_NOT_OVER = Weakened("not_over", "without overpersonalization", without=("overpersonalized",))

LOCAL_SUM = measured(
    "local_sum",
    "Σ over rounds, steps and clients' mean of F_m(w_{m,t}) − inf f_m",
    r"\sum_{k<T}\sum_{t<\tau}\frac1M\sum_m(F_m(w_{m,t}^k)-F_m^*)",
    lambda t, _: each(t, "local_gap").sum(axis=1),
    "local_gap",
)
VIRTUAL = measured(
    "virtual_mean",
    "mean over rounds and steps of F(w̄_t) − F★",
    r"\frac1{\tau T}\sum_{k<T}\sum_{t<\tau}(F(\bar w_t^k)-F^*)",
    lambda t, _: each(t, "virtual_gap").mean(axis=1),
    "virtual_gap",
)

FFGG_5A_FEJER = claim(
    "FFGG-5a-fejer",
    "local steps, overpersonalized: no round leads away from the common minimiser",
    {lhs: DIST_NEXT.symbol, rhs: DIST_NOW.symbol, floor: distance_floor(sp.sqrt(DIST_NOW.symbol))},
    DIST_NEXT,
    DIST_NOW,
    source=CLAIMED,
    conditions=(_REACH_2,),
    premises=_OVER,
    fits=_LOCAL,
    rounds=True,
    mutants=(_NOT_OVER, Weakened("no_step", "any step size", without=("γL_max/2",))),
)
FFGG_5A_LOCAL = claim(
    "FFGG-5a-local",
    "local steps, overpersonalized: all local gaps together",
    {lhs: LOCAL_SUM.symbol, rhs: R_0.symbol**2 / (2 * gamma), floor: tau * T * noise + noise_w**2 / gamma},
    LOCAL_SUM,
    R_0,
    source=CLAIMED,
    conditions=(_REACH,),
    premises=_OVER,
    fits=_LOCAL,
    mutants=(_NOT_OVER, Weakened("half", "half the bound", {rhs: R_0.symbol**2 / (4 * gamma)})),
)
FFGG_5A = claim(
    "FFGG-5a",
    "local steps, overpersonalized: server iterates",
    {
        **_KEPT,
        lhs: GAPS_BEFORE.symbol,
        rhs: R_0.symbol**2 / (2 * gamma * s_tau * T),
        floor: noise + noise_w**2 / gamma,
    },
    GAPS_BEFORE,
    R_0,
    source=CLAIMED,
    conditions=(_REACH,),
    premises=_OVER,
    fits=_LOCAL,
    mutants=(
        Weakened("tau", "τ in place of s_τ", {s_tau: tau}),
        Weakened("half", "half the bound", {rhs: R_0.symbol**2 / (4 * gamma * s_tau * T)}),
        _NOT_OVER,
    ),
)
_D = {
    lhs: DIST.symbol,
    rhs: r**T * R_0.symbol**2,
    floor: contracted_floor(r, R_0.symbol),
}
FFGG_5A_RATE = claim(
    "FFGG-5a-rate",
    "local steps, overpersonalized and strongly convex: the distance",
    {**_KEPT, r: 1 - gamma * s_tau * mu, **_D},
    DIST,
    R_0,
    source=CLAIMED,
    conditions=(_REACH,),
    premises=(*_OVER, STRONG, PL),
    fits=_LOCAL,
    mutants=(
        Weakened("tau", "τ in place of s_τ", {s_tau: tau}),
        Weakened("four_times", "four times the rate", {r: 1 - 4 * gamma * s_tau * mu}),
        _NOT_OVER,
    ),
)
FFGG_5A_LS = claim(
    "FFGG-5a-LS",
    "local steps, overpersonalized least squares: the distance",
    {r: 1 - mu / L_max * (1 - (1 - _X) ** (2 * tau)), **_D},
    DIST,
    R_0,
    source=CLAIMED,
    conditions=(_REACH,),
    premises=(*_OVER, QUADRATIC, PL),
    fits=_LOCAL,
    mutants=(
        Weakened(
            "four_tau", "(1 − γL)^{4τ} in place of (1 − γL)^{2τ}", {r: 1 - mu / L_max * (1 - (1 - _X) ** (4 * tau))}
        ),
        _NOT_OVER,
    ),
)
_START = R_0.symbol**2 / (2 * gamma * tau * T)
_DRIFT = gamma**2 * L_max * (tau - 1) * zeta**2 / (6 * (2 - alpha**2))
FFGG_5B = claim(
    "FFGG-5b",
    "local steps, convex: with a floor for heterogeneity",
    {
        alpha: gamma * tau * L_max,
        lhs: VIRTUAL.symbol,
        rhs: _START + _DRIFT * (2 * tau - 1),
        floor: noise + noise_w**2 / gamma,
    },
    VIRTUAL,
    R_0,
    conditions=(Condition("γτL_max", gamma * tau * L_max),),
    premises=(CONVEX, KNOWN_F, KNOWN_W, KNOWN_ZETA),
    fits=_LOCAL,
    mutants=(
        Weakened("no_floor", "no floor though G > 0", {rhs: _START}),
        Weakened("tau_floor", "(τ−1) in place of (τ−1)(2τ−1)", {rhs: _START + _DRIFT}),
        Weakened("half", "half of R_0²", {rhs: _START / 2 + _DRIFT * (2 * tau - 1)}),
    ),
)

# ---- Theorem 6: asynchronous arrivals --------------------------------------------------------------------------

tau_max, h, P, W = symbol("tau_max"), symbol("h"), symbol("P"), symbol("W")
_ASYNC = about("asynchronous")
_DELAY = Condition("γ(2τ_max+1)L_max", gamma * (2 * tau_max + 1) * L_max)
_ANY_STEP = Weakened("any_delay", "γ = 1/L_max for every delay", without=("γ(2τ_max+1)L_max",))
_OVER_6 = (CONVEX, OVERPERSONALIZED, KNOWN_W)

STALE = measured(
    "stale_mean",
    "mean over updates of the applied client's F_m(w^{k−d}) − inf f_m",
    r"\frac1T\sum_{k<T}\hat D_k",
    lambda t, _: each(t, "stale_gap").mean(axis=1),
    "stale_gap",
)
FFGG_6 = claim(
    "FFGG-6",
    "asynchronous, overpersonalized: gaps at the stale points, arbitrary arrivals",
    {lhs: STALE.symbol, rhs: R_0.symbol**2 / (2 * gamma * T), floor: n * noise + noise_w**2 / gamma},
    STALE,
    R_0,
    GAPS_BEFORE,
    source=CLAIMED,
    conditions=(_DELAY,),
    premises=_OVER_6,
    fits=_ASYNC,
    mutants=(
        _ANY_STEP,
        Weakened("current", "F(w^k) − F★ on the left", {lhs: GAPS_BEFORE.symbol}),
        _NOT_OVER,
        Weakened("half", "half the bound", {rhs: R_0.symbol**2 / (4 * gamma * T)}),
    ),
)


def _issued(trace: xr.Dataset, values: Any) -> np.ndarray:
    """Mean of D_s over s < T − τ_max; 0 where there is none."""
    gaps = each(trace, "issued_gap")
    last = gaps.shape[1] - int(values["tau_max"])
    return gaps[:, :last].mean(axis=1) if last > 0 else np.zeros(len(gaps))


ISSUED = measured(
    "issued_mean",
    "mean of F(w^s) − F★ over the jobs s < T − τ_max",
    r"\frac1{T-\tau_{\max}}\sum_{s<T-\tau_{\max}}D_s",
    _issued,
    "issued_gap",
)
RANDOM = Premise(
    "random", "jobs do not go to uniformly random clients", lambda inputs: inputs.flags["assignment"] == "random"
)
FFGG_6A = claim(
    "FFGG-6a",
    "asynchronous, overpersonalized: random assignment",
    {
        lhs: ISSUED.symbol,
        rhs: R_0.symbol**2 / (2 * gamma * sp.Max(T - tau_max, 0)),
        floor: noise + noise_w**2 / gamma,
    },
    ISSUED,
    R_0,
    source=CLAIMED,
    conditions=(_DELAY, Condition("τ_max/T", tau_max / T, strict=True)),
    premises=(*_OVER_6, KNOWN_F, RANDOM),
    fits=_ASYNC,
    pathwise=False,
    mutants=(
        _ANY_STEP,
        _NOT_OVER,
        Weakened("any_assignment", "whoever gets the jobs", without=("random",)),
    ),
)


def _window(trace: xr.Dataset, _: Any) -> np.ndarray:
    if "covering_window" in trace:
        return trace["covering_window"].values.astype(float)
    return np.full(trace.sizes["replicate"], np.nan)


def _windows(trace: xr.Dataset, values: Any) -> np.ndarray:
    return np.floor(trace.sizes["round"] / _window(trace, values))


def _at_windows(trace: xr.Dataset, values: Any) -> np.ndarray:
    """Mean of D_{pW} over p < P; 0 where P = 0."""
    gaps, width, count = points(trace, "F_gap"), _window(trace, values), _windows(trace, values)
    out = np.zeros(len(gaps))
    for i, row in enumerate(gaps):
        if count[i] >= 1:
            out[i] = row[: int(count[i]) * int(width[i]) : int(width[i])].mean()
    return out


WIDTH = measured("W", "W: every W updates in a row apply every client", "W", _window, "covering_window")
COUNT = measured("P", "P = ⌊T/W⌋", "P", _windows, "covering_window")
AT_WINDOWS = measured(
    "window_mean",
    "mean of F(w^{pW}) − F★ over p < P",
    r"\frac1P\sum_{p<P}D_{pW}",
    _at_windows,
    "F_gap",
    "covering_window",
)
_START_6 = R_0.symbol**2 / (gamma * P)
_SPREAD = h * (1 + sp.ceiling(tau_max / W)) / (2 * tau_max + 1) ** 2
FFGG_6B = claim(
    "FFGG-6b",
    "asynchronous, overpersonalized: every client arrives in every window",
    {
        h: sp.Max(tau_max, W - 1),
        lhs: AT_WINDOWS.symbol,
        rhs: _START_6 * (1 / n + _SPREAD),
        floor: noise + noise_w**2 / gamma,
    },
    AT_WINDOWS,
    WIDTH,
    COUNT,
    R_0,
    source=CLAIMED,
    conditions=(_DELAY, Condition("W/T", W / T)),
    premises=(*_OVER_6, KNOWN_F),
    fits=_ASYNC,
    mutants=(
        _ANY_STEP,
        _NOT_OVER,
        Weakened("no_window", "W = 1 whatever the arrivals", {h: tau_max, rhs: R_0.symbol**2 / (2 * gamma * T)}),
    ),
)

STATEMENTS: tuple[Statement, ...] = (
    FFGG_5A_FEJER, FFGG_5A_LOCAL, FFGG_5A, FFGG_5A_RATE, FFGG_5A_LS, FFGG_5B, FFGG_6, FFGG_6A, FFGG_6B,
)  # fmt: skip
