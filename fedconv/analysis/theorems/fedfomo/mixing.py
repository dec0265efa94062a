"""Propositions 1 to 3 and Theorems 1 and 2 of the theory page on FedFomo: one round of mixing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from fedconv.analysis.theorems.fedfomo.facts import ROUNDING
from fedconv.analysis.theorems.fedfomo.measured import (
    BASE,
    BEST,
    CONVEX,
    DECREASE,
    GAIN_FLOOR,
    LOSSES,
    OWN_GAIN,
    PROMISED,
    SMOOTH,
    WEAKLY,
    L,
    about,
    before,
    behind,
    claim,
    each,
    lam,
    level,
    measured,
    per_round,
)
from fedconv.analysis.theorems.statement import Statement, Weakened, floor, lhs, noise, rhs

if TYPE_CHECKING:
    import xarray as xr

PLAIN = about("plain")
_NOT_CONVEX = Weakened("no_convexity", "without convexity", without=("convex",))

# ---- rounding -------------------------------------------------------------------------------------------------


def _size(trace: xr.Dataset, values: Any) -> np.ndarray:
    L = float(np.max(values["L"]))
    slope = before(trace, "grad_sq") / L if 0 < L < np.inf else 0.0
    losses = [before(trace, "loss"), behind(trace, "loss"), before(trace, "trained_loss")]
    return np.nan_to_num(sum(map(np.abs, losses)) + slope, nan=0.0)


SIZE = measured(
    "loss_size",
    "size of the losses that are subtracted, and of ‖∇L_i‖²/L",
    r"|L_i|",
    _size,
    "loss",
    "trained_loss",
    "grad_sq",
)
VISITED_FLOOR = GAIN_FLOOR + sp.Float(ROUNDING) * SIZE.symbol
"""Of a difference of losses that may grow along the run, where they are not convex: ``noise`` knows the start alone."""

# ---- Proposition 1: secants ------------------------------------------------------------------------------------

ERROR = per_round("secant_error", "|Δ_n − ⟨−g, d_n⟩|", r"|\Delta_n+\langle g,d_n\rangle|")
REACH = per_round("secant_distance_sq", "D_n²", "D_n^2")
GAIN = per_round("secant_gain", "Δ_n > 0", r"\Delta_n")
SLOPE = per_round("secant_slope", "⟨−g, d_n⟩", r"\langle-g,d_n\rangle")

FOMO_P1 = claim(
    "FOMO-P1",
    "secants against slopes: |a_n − q_n| ≤ L D_n/2, times D_n",
    {lhs: ERROR.symbol, rhs: L * REACH.symbol / 2, floor: VISITED_FLOOR},
    ERROR,
    REACH,
    SIZE,
    premises=(SMOOTH,),
    mutants=(Weakened("half", "half the bound", {rhs: L * REACH.symbol / 4}),),
)
FOMO_P1_CONVEX = claim(
    "FOMO-P1-convex",
    "convex: a gain certifies a direction of descent, a_n ≤ q_n, times D_n",
    {lhs: GAIN.symbol, rhs: SLOPE.symbol, floor: GAIN_FLOOR},
    GAIN,
    SLOPE,
    premises=(CONVEX,),
    mutants=(_NOT_CONVEX, Weakened("reversed", "a_n ≥ q_n", {lhs: SLOPE.symbol, rhs: GAIN.symbol})),
)

# ---- Proposition 2: what the weights optimise ------------------------------------------------------------------

PROBE = per_round("linear_probe", "largest Σ u_nΔ_n of a rival of w", r"\max_u\textstyle\sum_n u_n\Delta_n")
LINEAR = per_round("linear_own", "Σ u_nΔ_n of w, rescaled to Σ c_n u_n² = 1", r"\textstyle\sum_n \bar w_n\Delta_n")
PROBE_SQ = per_round("linear_probe_sq", "the same where Σ c_n² u_n² = 1", r"\max_u\textstyle\sum_n u_n\Delta_n")
LINEAR_SQ = per_round("linear_own_sq", "the same of w where Σ c_n² u_n² = 1", r"\textstyle\sum_n \bar w_n\Delta_n")
SIMPLEX = per_round(
    "simplex_probe",
    "largest Σ u_nΔ_n − (S/2) Σ c_n u_n² of a rival on the simplex",
    r"\max_u\big(\textstyle\sum_n u_n\Delta_n-\frac S2\sum_n c_nu_n^2\big)",
)
SIMPLEX_OWN = per_round(
    "simplex_own", "the same of w", r"\big(\textstyle\sum_n w_n\Delta_n-\frac S2\sum_n c_nw_n^2\big)"
)

FOMO_P2I = claim(
    "FOMO-P2i",
    "w maximises Σ u_nΔ_n over u ≥ 0 with Σ c_n u_n² ≤ 1, up to scale",
    {lhs: PROBE.symbol, rhs: LINEAR.symbol},
    PROBE,
    LINEAR,
    PROBE_SQ,
    LINEAR_SQ,
    fits=PLAIN,
    mutants=(
        Weakened(
            "parameter_norm",
            "with Σ c_n² u_n² ≤ 1, a step of bounded norm along orthogonal d_n",
            {lhs: PROBE_SQ.symbol, rhs: LINEAR_SQ.symbol},
        ),
    ),
)
FOMO_P2II = claim(
    "FOMO-P2ii",
    "w maximises Σ u_nΔ_n − (S/2) Σ c_n u_n² over the simplex",
    {lhs: SIMPLEX.symbol, rhs: SIMPLEX_OWN.symbol, floor: noise},
    SIMPLEX,
    SIMPLEX_OWN,
    BEST,
    PROMISED,
    fits=PLAIN,
    mutants=(Weakened("linear", "w maximises Σ u_nΔ_n over the simplex", {lhs: BEST.symbol, rhs: PROMISED.symbol}),),
)

# ---- Theorem 1: convex -----------------------------------------------------------------------------------------

RATIO = per_round(
    "promised_ratio",
    "Σ⁺ Δ_n²/c_n over Σ⁺ Δ_n/c_n",
    r"\frac{\sum^+\Delta_n^2/c_n}{\sum^+\Delta_n/c_n}",
)
OWN_RESULT = per_round(
    "own_trained_gain", "L_i(θ^0) − L_i(own trained)", r"\big(L_i(\theta^0)-L_i(\theta_{\mathrm{self}})\big)"
)
EFFICIENT = per_round("efficient", "largest 2Δ_r/(1+√κ_r)", r"\max_r\frac{2\Delta_r}{1+\sqrt{\kappa_r}}")
COUNTED = per_round("efficient_count", "2 max Δ_r/(1+√k)", r"\frac{2\max_r\Delta_r}{1+\sqrt{k}}")
OWN_SHARE = per_round("own_share", "2/(1+√κ_self)", r"\frac{2}{1+\sqrt{\kappa_{\mathrm{self}}}}")


def _above(trace: xr.Dataset, values: np.ndarray) -> np.ndarray:
    return values - np.tile(level(trace), trace.sizes["round"])


def _loss(name: str, latex: str, variable: str, when: Any, meaning: str) -> Any:
    return measured(name, meaning, latex, lambda t, _: _above(t, when(t, variable)), variable)


NEXT = _loss("loss_next", r"L_i(\theta^{\ell(t+1)})", "loss", behind, "L_i(θ^{ℓ(t+1)}) − inf L_i")
NOW = _loss("loss_now", r"L_i(\theta^{\ell(t)})", "loss", before, "L_i(θ^{ℓ(t)}) − inf L_i")
TRAINED_NEXT = _loss("trained_next", r"L_i(\theta_i^{t+1})", "trained_loss", behind, "L_i(trained, t+1) − inf L_i")
TRAINED_NOW = _loss("trained_now", r"L_i(\theta_i^t)", "trained_loss", before, "L_i(trained, t) − inf L_i")

FOMO_1 = claim(
    "FOMO-1",
    "convex: the mixed model is as good as the weights promise",
    {lhs: PROMISED.symbol, rhs: DECREASE.symbol, floor: GAIN_FLOOR},
    PROMISED,
    DECREASE,
    OWN_RESULT,
    BEST,
    premises=(CONVEX, LOSSES, BASE),
    mutants=(
        _NOT_CONVEX,
        Weakened("own_trained", "never worse than the own trained model", {lhs: OWN_RESULT.symbol}),
        Weakened("best", "as good as the best candidate", {lhs: BEST.symbol}),
    ),
)
FOMO_1_SUM = claim(
    "FOMO-1-sum",
    "Σ w_nΔ_n = Σ⁺(Δ_n²/c_n)/Σ⁺(Δ_n/c_n)",
    {lhs: PROMISED.symbol, rhs: RATIO.symbol, floor: noise},
    PROMISED,
    RATIO,
    BEST,
    fits=PLAIN,
    kind="equality",
    mutants=(Weakened("best", "it is the largest Δ_n", {rhs: BEST.symbol}),),
)
FOMO_1_MONOTONE = claim(
    "FOMO-1-monotone",
    "convex: no client's loss L_i(θ^{ℓ(t)}) ever increases",
    {lhs: NEXT.symbol, rhs: NOW.symbol, floor: GAIN_FLOOR},
    NEXT,
    NOW,
    TRAINED_NEXT,
    TRAINED_NOW,
    premises=(CONVEX, LOSSES, BASE),
    mutants=(
        _NOT_CONVEX,
        Weakened("trained", "nor does that of its trained model", {lhs: TRAINED_NEXT.symbol, rhs: TRAINED_NOW.symbol}),
        Weakened("keeps", "though it keeps a trained model that is worse", without=("base",)),
        Weakened("noisy_losses", "though losses are noisy", without=("exact_losses",)),
    ),
)

# ---- Theorem 2: weakly convex ----------------------------------------------------------------------------------

SPREAD = per_round("spread", "V", "V")


def _rise(variable: str, gated: bool) -> Any:
    """Increase of L_i where every used candidate has Δ_n ≥ λD_n²/2 (``gated``), or anywhere."""

    def reduce(trace: xr.Dataset, _: Any) -> np.ndarray:
        rise = np.maximum(-each(trace, variable), 0.0)
        return np.where(each(trace, "shortfall") <= 0, rise, 0.0) if gated else rise

    return reduce


RISE = measured(
    "rise",
    "[L_i(θ^+) − L_i(θ^0)]_+ where all used candidates have Δ_n ≥ λD_n²/2",
    r"\big[L_i(\theta^+)-L_i(\theta^0)\big]_+",
    _rise("decrease", True),
    "decrease",
    "shortfall",
)
RISE_ANY = measured(
    "rise_any",
    "[L_i(θ^+) − L_i(θ^0)]_+",
    r"\big[L_i(\theta^+)-L_i(\theta^0)\big]_+",
    _rise("decrease", False),
    "decrease",
)
RISE_HALF = measured(
    "rise_half",
    "[L_i(θ^0 + ½Σ w_nd_n) − L_i(θ^0)]_+",
    r"\big[L_i(\tfrac12(\theta^0+\theta^+))-L_i(\theta^0)\big]_+",
    _rise("decrease_half", False),
    "decrease_half",
)

FOMO_2 = claim(
    "FOMO-2",
    "weakly convex: the mixed model loses at most (λ/2)V of what the weights promise",
    {lhs: PROMISED.symbol, rhs: DECREASE.symbol + lam * SPREAD.symbol / 2, floor: VISITED_FLOOR},
    PROMISED,
    DECREASE,
    SPREAD,
    SIZE,
    premises=(WEAKLY, LOSSES, BASE),
    mutants=(
        Weakened("no_V", "without V", {rhs: DECREASE.symbol}),
        Weakened("half", "λ/4 in place of λ/2", {rhs: DECREASE.symbol + lam * SPREAD.symbol / 4}),
    ),
)
FOMO_2_SAFE = claim(
    "FOMO-2-safe",
    "weakly convex: no increase where every used candidate has Δ_n ≥ λD_n²/2",
    {lhs: RISE.symbol, rhs: sp.Integer(0), floor: VISITED_FLOOR},
    RISE,
    RISE_ANY,
    RISE_HALF,
    SIZE,
    premises=(WEAKLY, LOSSES, BASE),
    mutants=(
        Weakened("any", "whatever the candidates", {lhs: RISE_ANY.symbol}),
        Weakened("half_step", "whatever the candidates, for half the step", {lhs: RISE_HALF.symbol}),
    ),
)

# ---- Proposition 3: efficiency ---------------------------------------------------------------------------------

FOMO_P3 = claim(
    "FOMO-P3",
    "Σ w_nΔ_n ≥ 2Δ_r/(1+√κ_r) for every candidate with Δ_r > 0",
    {lhs: EFFICIENT.symbol, rhs: PROMISED.symbol, floor: noise},
    EFFICIENT,
    PROMISED,
    BEST,
    COUNTED,
    fits=PLAIN,
    mutants=(
        Weakened("best", "κ_r = 1: the best candidate's gain", {lhs: BEST.symbol}),
        Weakened("count", "√ of the number of candidates though distances differ", {lhs: COUNTED.symbol}),
    ),
)
FOMO_P3_OWN = claim(
    "FOMO-P3-own",
    "convex: what is lost against the own trained model",
    {lhs: OWN_SHARE.symbol * OWN_GAIN.symbol, rhs: DECREASE.symbol, floor: GAIN_FLOOR},
    OWN_SHARE,
    OWN_GAIN,
    DECREASE,
    premises=(CONVEX, LOSSES, BASE),
    fits=PLAIN,
    mutants=(Weakened("no_kappa", "κ_self = 1", {lhs: OWN_GAIN.symbol}), _NOT_CONVEX),
)

STATEMENTS: tuple[Statement, ...] = (
    FOMO_P1, FOMO_P1_CONVEX, FOMO_P2I, FOMO_P2II, FOMO_1, FOMO_1_SUM, FOMO_1_MONOTONE, FOMO_2, FOMO_2_SAFE, FOMO_P3,
    FOMO_P3_OWN,
)  # fmt: skip
