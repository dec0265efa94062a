"""Theorems 3 and 4 of the theory page on FedFomo: many rounds of mixing, and clients in clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from fedconv.analysis.theorems.base import Condition, T, symbol
from fedconv.analysis.theorems.fedfomo.measured import (
    BASE,
    CLUSTERS,
    CONVEX,
    EVERYBODY,
    GAIN_FLOOR,
    GRADIENTS,
    KNOWN_INF,
    LOSSES,
    OWN,
    PROMISED,
    SMOOTH,
    START_GAP,
    UNBIASED,
    L,
    M_c,
    R,
    about,
    before,
    behind,
    claim,
    each,
    gamma,
    measured,
    noise_w,
    per_round,
    rho,
    sums,
    z,
)
from fedconv.analysis.theorems.statement import Statement, Weakened, floor, lhs, rhs

if TYPE_CHECKING:
    import xarray as xr

# ---- Theorem 3: rates ------------------------------------------------------------------------------------------

_NOT_CONVEX = Weakened("no_convexity", "without convexity", without=("convex",))
BELOW_TWO = Condition("γL/2", gamma * L / 2, strict=True)


def _gradients(shares: bool) -> Any:
    def reduce(trace: xr.Dataset, _: Any) -> np.ndarray:
        shape = (trace.sizes["replicate"], trace.sizes["round"], trace.sizes["client"])
        squares = before(trace, "grad_sq").reshape(shape)
        share = each(trace, "own_share").reshape(shape)
        return (squares * (share if shares else share > 0)).sum(1) / 2

    return reduce


GRADIENTS_SUM = measured(
    "gradients",
    "Σ_t ‖∇L_i(θ^{ℓ(t)})‖²/(1+√κ_t)",
    r"\sum_t\frac{\|\nabla L_i(\theta^{\ell(t)})\|^2}{1+\sqrt{\kappa_t}}",
    _gradients(True),
    "grad_sq",
    "own_share",
)
GRADIENTS_PLAIN = measured(
    "gradients_plain",
    "½ Σ_t ‖∇L_i(θ^{ℓ(t)})‖²",
    r"\tfrac12\sum_t\|\nabla L_i(\theta^{\ell(t)})\|^2",
    _gradients(False),
    "grad_sq",
    "own_share",
)
PROMISES = measured(
    "promises",
    "Σ_t Σ_n w_nΔ_n",
    r"\sum_t\sum_n w_n\Delta_n",
    lambda t, _: sums(t, "promised"),
    "promised",
)
_RIGHT = START_GAP.symbol / (2 * gamma * (1 - gamma * L / 2))
FOMO_3 = claim(
    "FOMO-3",
    "convex and smooth: gradients, whatever the other clients do",
    {lhs: GRADIENTS_SUM.symbol, rhs: _RIGHT, floor: GAIN_FLOOR / sp.Abs(2 * gamma * (1 - gamma * L / 2))},
    GRADIENTS_SUM,
    GRADIENTS_PLAIN,
    START_GAP,
    step="gamma",
    conditions=(BELOW_TWO,),
    premises=(CONVEX, SMOOTH, OWN, GRADIENTS, LOSSES, KNOWN_INF, BASE),
    fits=about("plain"),
    mutants=(
        Weakened("no_kappa", "κ_t = 1", {lhs: GRADIENTS_PLAIN.symbol}),
        Weakened("half", "half the bound", {rhs: _RIGHT / 2}),
        Weakened("no_step", "any step size", without=("γL/2",)),
        Weakened("other_loss", "whatever the clients train on", without=("own_targets",)),
        Weakened("noisy", "though gradients are noisy", without=("exact_gradients",)),
    ),
)
FOMO_3_MEASURED = claim(
    "FOMO-3-measured",
    "convex: all that was promised, whatever the local training",
    {lhs: PROMISES.symbol, rhs: START_GAP.symbol, floor: GAIN_FLOOR},
    PROMISES,
    START_GAP,
    premises=(CONVEX, LOSSES, KNOWN_INF, BASE),
    mutants=(_NOT_CONVEX, Weakened("half", "half the bound", {rhs: START_GAP.symbol / 2})),
)
NU = per_round("nu", "ν: largest |validation loss − population loss|", r"\nu")
POPULATION = per_round(
    "population_decrease", "decrease of the population's loss", r"\big(L_i(\theta^0)-L_i(\theta^+)\big)"
)
FOMO_3_FINITE = claim(
    "FOMO-3-finite",
    "convex, finite validation split: the population's loss",
    {lhs: PROMISED.symbol, rhs: POPULATION.symbol + 2 * NU.symbol, floor: GAIN_FLOOR},
    PROMISED,
    POPULATION,
    NU,
    premises=(CONVEX, LOSSES, BASE),
    fits=about("population"),
    mutants=(
        Weakened("no_nu", "without ν", {rhs: POPULATION.symbol}),
        Weakened("one_nu", "ν in place of 2ν", {rhs: POPULATION.symbol + NU.symbol}),
    ),
)

# ---- Theorem 4: quadratic clients ------------------------------------------------------------------------------

_FORM = about("isotropic", "plain", "euclidean", "exact_losses", "base")
_CONTRACTS = Condition("γa", gamma * symbol("a"))
WRONG = per_round("wrong_weights", "weights that differ from the rule", r"\#\{n: w_{in}>0\not\Leftrightarrow\dots\}")
WRONG_OWN = per_round(
    "wrong_weights_own", "the same by the own trained model", r"\#\{n: w_{in}>0\not\Leftrightarrow\dots\}"
)
FAR = per_round("far_weight", "weight of clients that are surely too far", r"\sum_{n\ \mathrm{far}}w_{in}")
FAR_LOOSE = per_round("far_weight_loose", "weight of clients with ‖e_i‖ ≤ ‖c_i − c_n‖", r"\sum_{n\ \mathrm{far}}w_{in}")

FOMO_4I = claim(
    "FOMO-4i",
    "quadratic clients: w_in = 0 exactly where ‖θ_n − c_i‖ ≥ ‖e_i‖",
    {lhs: WRONG.symbol, rhs: sp.Integer(0)},
    WRONG,
    WRONG_OWN,
    fits=_FORM,
    mutants=(
        Weakened("own_trained", "exactly where θ_n is no better than the own trained model", {lhs: WRONG_OWN.symbol}),
    ),
)
FOMO_4I_FAR = claim(
    "FOMO-4i-far",
    "quadratic clients: no weight where ‖e_i‖ + (1−ρ)z + ρ‖e_n‖ ≤ ‖c_i − c_n‖",
    {lhs: FAR.symbol, rhs: sp.Integer(0)},
    FAR,
    FAR_LOOSE,
    conditions=(_CONTRACTS,),
    premises=(GRADIENTS,),
    fits=_FORM,
    mutants=(Weakened("loose", "where ‖e_i‖ ≤ ‖c_i − c_n‖", {lhs: FAR_LOOSE.symbol}),),
)


def _mixes(trace: xr.Dataset) -> np.ndarray:
    """Clients and rounds of mixing whose nearest candidate is nearer than θ^0, ``(R, T·n)``."""
    return (each(trace, "mixed") > 0) & (each(trace, "nearest") < before(trace, "error"))


def _where(variable: str, when: Any, otherwise: float = 0.0) -> Any:
    return lambda t, _: np.where(_mixes(t), when(t, variable), otherwise)


def _nearest(trace: xr.Dataset, _: Any) -> np.ndarray:
    error = before(trace, "error")
    return np.where(_mixes(trace), each(trace, "nearest") / np.where(error > 0, error, 1.0), 0.0)


E_NEXT = measured("e_next", "‖e_i^+‖", r"\|e_i^+\|", _where("error", behind), "error", "mixed", "nearest")
E_NOW = measured("e_now", "‖e_i‖", r"\|e_i\|", _where("error", before), "error", "mixed", "nearest")
R_0 = measured("r_0", "r_0: least ‖θ_n − c_i‖/‖e_i‖", "r_0", _nearest, "nearest", "error", "mixed")
COUNT = measured("C", "M_c", "M_c", _where("candidates", each, 1.0), "candidates", "mixed", "nearest")
k, r, q = R_0.symbol, COUNT.symbol, symbol("q")
_D_FLOOR = 4 * noise_w

FOMO_4II = claim(
    "FOMO-4ii",
    "quadratic clients: contraction by the nearest candidate",
    {
        q: 1 - (1 - k) ** 2 / (1 - k + 2 * (r - 1)),
        lhs: E_NEXT.symbol,
        rhs: q * E_NOW.symbol,
        floor: _D_FLOOR,
    },
    E_NEXT,
    E_NOW,
    R_0,
    COUNT,
    fits=_FORM,
    mutants=(
        Weakened("alone", "r_0 as if it alone were used", {q: k}),
        Weakened("half", "M_c − 1 in place of 2(M_c − 1)", {q: 1 - (1 - k) ** 2 / (1 - k + (r - 1))}),
    ),
)
_OWN_Q = 1 - (1 - rho**2) / (2 * M_c - 1 + rho)
FOMO_4II_OWN = claim(
    "FOMO-4ii-own",
    "quadratic clients, z = 0: contraction by the own model",
    {
        q: 1 - (1 - rho**2) / (2 * r - 1 + rho),
        lhs: E_NEXT.symbol,
        rhs: q * E_NOW.symbol,
        floor: _D_FLOOR,
    },
    E_NEXT,
    E_NOW,
    COUNT,
    step="gamma",
    conditions=(_CONTRACTS,),
    premises=(UNBIASED, GRADIENTS),
    fits=_FORM,
    mutants=(
        Weakened("alone", "ρ as if it alone were used", {q: rho}),
        Weakened("half", "M_c in place of 2M_c − 1", {q: 1 - (1 - rho**2) / (r + rho)}),
        Weakened("biased", "though z > 0", without=("unbiased",)),
    ),
)


def _end(point: int) -> Any:
    def reduce(trace: xr.Dataset, _: Any) -> np.ndarray:
        if "error" in trace:
            return trace["error"].values[:, point]
        return np.full((trace.sizes["replicate"], trace.sizes["client"]), np.nan)

    return reduce


E_LAST = measured("e_last", "‖e_i^T‖", r"\|e_i^{T}\|", _end(-1), "error")
E_FIRST = measured("e_first", "‖e_i^0‖", r"\|e_i^0\|", _end(0), "error")
MIXES = measured("K", "K: rounds of mixing", "K", lambda t, _: sums(t, "mixed"), "mixed")
FOMO_4II_PATH = claim(
    "FOMO-4ii-path",
    "quadratic clients, z = 0: the distance after all rounds",
    {q: _OWN_Q, lhs: E_LAST.symbol, rhs: q**MIXES.symbol * E_FIRST.symbol, floor: _D_FLOOR},
    E_LAST,
    E_FIRST,
    MIXES,
    step="gamma",
    conditions=(_CONTRACTS,),
    premises=(UNBIASED, GRADIENTS),
    fits=_FORM,
    mutants=(
        Weakened("alone", "ρ as if it alone were used", {q: rho}),
        Weakened("biased", "though z > 0", without=("unbiased",)),
    ),
)

t_0, e_star, u = symbol("t_0"), symbol("e_star"), symbol("u")
E_0 = measured("E_0", "E_0 = max_i ‖e_i^0‖", "E_0", lambda t, v: _end(0)(t, v).max(1), "error")


def _late(trace: xr.Dataset, values: Any) -> np.ndarray:
    """Rounds of at least the t_0-th mixing (everybody mixes from round 1 on), ``(R, T)``."""
    begin = np.broadcast_to(np.asarray(values["t_0"], dtype=float), (trace.sizes["replicate"], 1))
    return np.arange(trace.sizes["round"])[None, :] >= 1 + begin


def _cross(trace: xr.Dataset, values: Any) -> np.ndarray:
    shape = (trace.sizes["replicate"], trace.sizes["round"], trace.sizes["client"])
    return np.where(_late(trace, values), each(trace, "cross_weight").reshape(shape).max(2), 0.0)


def _largest(when: Any) -> Any:
    def reduce(trace: xr.Dataset, values: Any) -> np.ndarray:
        shape = (trace.sizes["replicate"], trace.sizes["round"], trace.sizes["client"])
        return np.where(_late(trace, values), when(trace, "error").reshape(shape).max(2), 0.0)

    return reduce


CROSS = measured(
    "cross", "largest weight across clusters from t_0 on", r"\max_i\sum_{c_n\ne c_i}w_{in}", _cross, "cross_weight"
)
E_AFTER = measured("E_after", "E_{t+1} for t ≥ t_0", "E_{t+1}", _largest(behind), "error")
E_BEFORE = measured("E_before", "E_t for t ≥ t_0", "E_t", _largest(before), "error")


def _wait(distance: Any, factor: Any) -> sp.Expr:
    """t_0 = ⌈ln(distance)/ln(1/factor)⌉, at least 0."""
    return sp.Max(sp.ceiling(sp.log(distance) / sp.log(1 / factor)), 0)


_REACHED = Condition("t_0/(T−1)", t_0 / (T - 1), strict=True)
_T_0 = {q: _OWN_Q, t_0: _wait(E_0.symbol * (1 + rho) / R, q)}
_BIASED = Weakened("biased", "though z > 0", without=("unbiased",))
_NOW = Weakened("now", "from the first round on", {t_0: sp.Integer(0)})
_CLUSTERED = (GRADIENTS, CLUSTERS, EVERYBODY)
FOMO_4III = claim(
    "FOMO-4iii",
    "clusters, z = 0: no weight across clusters from t_0 on",
    {**_T_0, lhs: CROSS.symbol, rhs: sp.Integer(0)},
    E_0,
    CROSS,
    conditions=(_CONTRACTS, _REACHED),
    premises=(UNBIASED, *_CLUSTERED),
    fits=_FORM,
    mutants=(
        _NOW,
        Weakened("no_rho", "R in place of R/(1+ρ)", {t_0: _wait(E_0.symbol / R, q)}),
        _BIASED,
    ),
)
FOMO_4III_RATE = claim(
    "FOMO-4iii-rate",
    "clusters, z = 0: from t_0 on E_{t+1} ≤ ρE_t",
    {**_T_0, lhs: E_AFTER.symbol, rhs: rho * E_BEFORE.symbol, floor: _D_FLOOR},
    E_0,
    E_AFTER,
    E_BEFORE,
    conditions=(_CONTRACTS, _REACHED),
    premises=(UNBIASED, *_CLUSTERED),
    fits=_FORM,
    mutants=(_NOW, Weakened("square", "ρ² in place of ρ", {rhs: rho**2 * E_BEFORE.symbol}), _BIASED),
)
FOMO_4IV = claim(
    "FOMO-4iv",
    "clusters, z > 0, R > 2z: no weight across clusters from t_0 on",
    {
        e_star: (R - (1 - rho) * z) / (1 + rho),
        u: (1 - rho) * (1 - z / e_star),
        q: 1 - u**2 / (u + 2 * (M_c - 1)),
        t_0: _wait(E_0.symbol / e_star, q),
        lhs: CROSS.symbol,
        rhs: sp.Integer(0),
    },
    E_0,
    CROSS,
    conditions=(_CONTRACTS, Condition("2z/R", 2 * z / R, strict=True), _REACHED),
    premises=_CLUSTERED,
    fits=_FORM,
    mutants=(
        _NOW,
        Weakened("unbiased", "t_0 as if z were 0", {q: _OWN_Q, t_0: _wait(E_0.symbol * (1 + rho) / R, q)}),
        Weakened("near", "though R ≤ 2z", without=("2z/R",)),
    ),
)

STATEMENTS: tuple[Statement, ...] = (
    FOMO_3, FOMO_3_MEASURED, FOMO_3_FINITE, FOMO_4I, FOMO_4I_FAR, FOMO_4II, FOMO_4II_OWN, FOMO_4II_PATH, FOMO_4III,
    FOMO_4III_RATE, FOMO_4IV,
)  # fmt: skip
