"""Theorems 1 and 2 of the theory page on FFGG: smoothness after fine-tuning, and the personalization gap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import sympy as sp

from fedconv.analysis.theorems.base import n, symbol
from fedconv.analysis.theorems.ffgg.measured import (
    CONVEX,
    GAP_FLOOR,
    KNOWN_F,
    KNOWN_ZETA,
    L_F,
    QUADRATIC,
    G,
    L,
    L_max,
    L_u,
    L_uv,
    claim,
    ell_u,
    finite,
    mu_v,
    noise_w,
    points,
    positive,
    zeta,
)
from fedconv.analysis.theorems.statement import Statement, Weakened, each, floor, lhs, measured, noise, rhs

if TYPE_CHECKING:
    pass

# ---- Theorem 1: smoothness of the envelopes --------------------------------------------------------------------

RATIO = measured(
    "smoothness",
    "largest ‖∇F_m(w^{k+1}) − ∇F_m(w^k)‖ / ‖w^{k+1} − w^k‖",
    r"\max_{k,m}\frac{\|\nabla F_m(w^{k+1})-\nabla F_m(w^k)\|}{\|w^{k+1}-w^k\|}",
    lambda t, _: each(t, "smooth_ratio").max(axis=1),
    "smooth_ratio",
)
EXCESS = measured(
    "excess",
    "largest F_m(w^{k+1}) − F_m(w^k) − ⟨g, Δ⟩ − (L_u/2)‖Δ‖², Δ = w^{k+1} − w^k",
    r"\max_m\big(F_m(w^{k+1})-F_m(w^k)-\langle g,\Delta\rangle-\tfrac{L_u}2\|\Delta\|^2\big)",
    lambda t, _: each(t, "descent_excess"),
    "descent_excess",
)
STEP = measured(
    "step_sq",
    "‖w^{k+1} − w^k‖²",
    r"\|\Delta\|^2",
    lambda t, v: np.asarray(v["gamma"]) ** 2 * each(t, "update_sq"),
    "update_sq",
)
HEIGHT = measured(
    "height",
    "the larger of |F(w^k)| and |F(w^{k+1})|",
    r"\max\{|F(w^k)|,|F(w^{k+1})|\}",
    lambda t, _: np.maximum(np.abs(points(t, "F")[:, 1:]), np.abs(points(t, "F")[:, :-1])),
    "F",
)
_NONCONVEX = Weakened("no_convexity", "∇F_m is L_u-Lipschitz without joint convexity", without=("convex",))

FFGG_1A = claim(
    "FFGG-1a",
    "descent with the curvature L_u of f_m(·, θ)",
    {
        lhs: EXCESS.symbol + L_u / 2 * STEP.symbol,
        rhs: L_u / 2 * STEP.symbol,
        floor: n * (noise + HEIGHT.symbol * 4e-15),
    },
    EXCESS,
    STEP,
    HEIGHT,
    rounds=True,
    step=None,
    mutants=(Weakened("half", "curvature L_u/2 suffices", {rhs: L_u / 4 * STEP.symbol}),),
)
_L_U = Weakened("L_u", "∇F_m is L_u-Lipschitz, convex or not", {rhs: L_u})
FFGG_1B = claim(
    "FFGG-1b",
    "∇F_m is Lipschitz with the constants of the two blocks",
    {lhs: RATIO.symbol, rhs: sp.Max(L_u, ell_u + L_uv**2 / mu_v)},
    RATIO,
    premises=(positive("mu_v", "f_m(w, ·) is not known to grow quadratically around its minimisers"),),
    step=None,
    mutants=(_L_U,),
)
FFGG_1B_F = claim(
    "FFGG-1b-L_F",
    "∇F_m is L_F-Lipschitz with the best constant known",
    {lhs: RATIO.symbol, rhs: L_F},
    RATIO,
    premises=(finite("L_F", "no Lipschitz constant of the ∇F_m is known"),),
    step=None,
    mutants=(_L_U,),
)
FFGG_1C = claim(
    "FFGG-1c",
    "∇F_m is L_u-Lipschitz where f_m is jointly convex",
    {lhs: RATIO.symbol, rhs: L_u},
    RATIO,
    premises=(CONVEX,),
    step=None,
    mutants=(_NONCONVEX, Weakened("half", "L_u/2 suffices", {rhs: L_u / 2})),
)
FFGG_1D = claim(
    "FFGG-1d",
    "∇F_m is L_m-Lipschitz with L_m = ‖P_mA_m‖² for least squares",
    {lhs: RATIO.symbol, rhs: L_max},
    RATIO,
    premises=(QUADRATIC, CONVEX),
    step=None,
    mutants=(Weakened("L", "every ∇F_m is as smooth as ∇F", {rhs: L}),),
)

# ---- Theorem 2: the personalization gap ------------------------------------------------------------------------

F_star, inf_mean = symbol("F_star"), symbol("inf_mean")
FFGG_2B = claim(
    "FFGG-2b",
    "the gap is F★ less the mean of the clients' own minima",
    {lhs: F_star - inf_mean, rhs: G, floor: GAP_FLOOR + sp.Abs(F_star) * 1e-11},
    kind="equality",
    premises=(QUADRATIC, KNOWN_F, finite("G", "G is not known")),
    step=None,
    source="definition: derived in this project, after Mishchenko et al. 2023's overpersonalized problems",
    mutants=(Weakened("F_star", "the gap is F★ (q_m replaced by P_mc_m)", {rhs: F_star}),),
)
FFGG_2D = claim(
    "FFGG-2d",
    "gradients at the optimum: ζ★² ≤ 2 L_max G",
    {lhs: zeta**2, rhs: 2 * L_max * G, floor: 2 * L_max * noise + L_max**2 * noise_w**2},
    premises=(KNOWN_ZETA,),
    step=None,
    mutants=(
        Weakened("no_2", "the factor 2 dropped", {rhs: L_max * G}),
        Weakened("L", "L in place of L_max", {rhs: 2 * L * G}),
    ),
)

STATEMENTS: tuple[Statement, ...] = (FFGG_1A, FFGG_1B, FFGG_1B_F, FFGG_1C, FFGG_1D, FFGG_2B, FFGG_2D)
