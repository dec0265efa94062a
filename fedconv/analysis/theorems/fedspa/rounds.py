"""FedSpa round by round: Lemma 1 and its drift, the jumps of moving masks, mask changes, invariants, bits."""

from __future__ import annotations

import sympy as sp

from fedconv.analysis.theorems.base import symbol
from fedconv.analysis.theorems.fedspa.formulas import LINEAR, NOISELESS, STEP, L, N, T, eta, m, n, phi, q_G, q_s, sigma
from fedconv.analysis.theorems.fedspa.measured import (
    BITS,
    BOTH_MEAN,
    BREACHES,
    CEILINGS,
    COHORT,
    D_NOW,
    DESCENT,
    DRIFT,
    DRIFT_MEAN,
    F_EXPECTED,
    F_NOW,
    GRAD,
    GRADIENTS,
    HAMMING,
    HAMMING_SUM,
    JUMP_SIZE,
    KNOWN_L,
    L1,
    MASK_BITS,
    NOISELESS_GRADIENTS,
    PRODUCT_MEAN,
    PRUNE,
    PRUNE_SIZE,
    Q_MEAN,
    RATES,
    REGROW,
    REGROW_SIZE,
    ROOT_MEAN,
    SLOPE,
    SLOPE_GAP,
    STEP_AT_MOST_ONE,
    VALUE_BITS,
    WIDEST,
    Q,
    claim,
    moving,
    noise_g,
)  # fmt: skip
from fedconv.analysis.theorems.statement import Statement, StatementInputs, Weakened, floor, lhs, noise, rhs

_GRADIENT_FLOOR = noise_g**2


def _sure(inputs: StatementInputs) -> bool:
    """Whether f_expected is the conditional expectation itself."""
    return bool(inputs.flags["noiseless"] and inputs.flags["expected"])


def _noisy(inputs: StatementInputs) -> bool:
    return not _sure(inputs)


_ROOT_Q, _ROOT_D = sp.sqrt(Q.symbol), sp.sqrt(D_NOW.symbol)
_LOST = eta / L * ((1 - eta) * sp.sqrt(GRAD.symbol) * _ROOT_Q + eta / 2 * Q.symbol)
_SAMPLED = eta**2 / (2 * m * L) * phi * (_ROOT_D + _ROOT_Q) ** 2
FSPA_L1 = claim(
    "FSPA-L1",
    "one round, exact gradients, expectation over the cohort",
    {
        **STEP,
        lhs: F_EXPECTED.symbol - F_NOW.symbol + eta / L * (1 - eta / 2) * GRAD.symbol,
        rhs: _LOST + _SAMPLED,
        floor: 2 * noise + 4 * _GRADIENT_FLOOR / L,
    },
    F_NOW,
    F_EXPECTED,
    GRAD,
    D_NOW,
    Q,
    conditions=(STEP_AT_MOST_ONE,),
    premises=(COHORT, KNOWN_L, NOISELESS_GRADIENTS),
    fits=_sure,
    pathwise=True,
    rounds=True,
    mutants=(
        Weakened("no_drift", "no drift: Q = 0", {rhs: eta**2 / (2 * m * L) * phi * D_NOW.symbol}),
        Weakened("no_sampling", "as if everybody took part", {rhs: _LOST}),
        Weakened("apart", "φ(D + Q) in place of φ(√D + √Q)², and no first-order drift",
                 {rhs: eta / L * eta / 2 * Q.symbol + eta**2 / (2 * m * L) * phi * (D_NOW.symbol + Q.symbol)}),
        Weakened("more_descent", "descent (η/L)‖∇f‖²: without the (1 − η/2)",
                 {lhs: F_EXPECTED.symbol - F_NOW.symbol + eta / L * GRAD.symbol}),
        Weakened("coverage", "the server divides by the clients that hold a coordinate", without=("average",)),
    ),
)  # fmt: skip

FSPA_L1_MEAN = claim(
    "FSPA-L1-mean",
    "mean over rounds, any noise",
    {
        **STEP,
        lhs: DESCENT.symbol + eta / L * (1 - eta / 2) * GRADIENTS.symbol,
        rhs: eta / L * ((1 - eta) * PRODUCT_MEAN.symbol + eta / 2 * Q_MEAN.symbol)
        + eta**2 / (2 * m * L) * (phi * BOTH_MEAN.symbol + sigma**2 / N + 2 * sigma * ROOT_MEAN.symbol / sp.sqrt(N)),
        floor: 2 * noise + 4 * _GRADIENT_FLOOR / L,
    },
    DESCENT,
    GRADIENTS,
    PRODUCT_MEAN,
    Q_MEAN,
    BOTH_MEAN,
    ROOT_MEAN,
    conditions=(STEP_AT_MOST_ONE,),
    premises=(COHORT, KNOWN_L),
    fits=_noisy,
    mutants=(
        Weakened("no_noise", "no σ",
                 {rhs: eta / L * ((1 - eta) * PRODUCT_MEAN.symbol + eta / 2 * Q_MEAN.symbol)
                  + eta**2 / (2 * m * L) * phi * BOTH_MEAN.symbol}),
        Weakened("no_sampling", "as if everybody took part", {phi: sp.Integer(0)}),
    ),
)  # fmt: skip

FSPA_B = claim(
    "FSPA-B",
    "drift of the local steps, exact gradients",
    {**STEP, lhs: DRIFT.symbol, rhs: Q.symbol, floor: 4 * noise_g * sp.sqrt(Q.symbol) + 4 * _GRADIENT_FLOOR},
    DRIFT,
    Q,
    conditions=(STEP_AT_MOST_ONE,),
    premises=(KNOWN_L, NOISELESS_GRADIENTS),
    fits=lambda inputs: bool(inputs.flags["noiseless"]),
    pathwise=True,
    rounds=True,
    mutants=(Weakened("nine_tenths", "nine tenths of Q", {rhs: sp.Rational(9, 10) * Q.symbol}),),
)
FSPA_B_MEAN = claim(
    "FSPA-B-mean",
    "drift of the local steps, mean over rounds",
    {**STEP, lhs: DRIFT_MEAN.symbol, rhs: Q_MEAN.symbol, floor: 4 * _GRADIENT_FLOOR},
    DRIFT_MEAN,
    Q_MEAN,
    conditions=(STEP_AT_MOST_ONE,),
    premises=(KNOWN_L,),
    fits=lambda inputs: not inputs.flags["noiseless"],
    mutants=(
        Weakened("half", "half of Q", {rhs: Q_MEAN.symbol / 2}),
    ),
)  # fmt: skip

_G = GRAD.symbol + D_NOW.symbol
FSPA_Q = claim(
    "FSPA-Q",
    "the drift function under its linear bound",
    {**STEP, **LINEAR, lhs: Q.symbol, rhs: q_G * _G + q_s * sigma**2},
    Q,
    GRAD,
    D_NOW,
    conditions=(STEP_AT_MOST_ONE,),
    premises=(KNOWN_L,),
    pathwise=True,
    rounds=True,
    mutants=(Weakened("half", "half the bound", {rhs: (q_G * _G + q_s * sigma**2) / 2}),),
)
FSPA_E = claim(
    "FSPA-E",
    "the drift function without noise",
    {**STEP, **NOISELESS, lhs: Q.symbol, rhs: q_G * _G, floor: _GRADIENT_FLOOR},
    Q,
    GRAD,
    D_NOW,
    premises=(KNOWN_L, NOISELESS_GRADIENTS),
    fits=lambda inputs: bool(inputs.flags["noiseless"]),
    kind="equality",
    pathwise=True,
    rounds=True,
    mutants=(
        Weakened("first_order", "E ≈ η(1 − 1/N)/2", {q_G: (eta * (1 - 1 / N) / 2) ** 2}),
    ),
)  # fmt: skip

B = symbol("B")
_BOUNDED = {B: SLOPE.symbol + L * SLOPE_GAP.symbol}
_JUMP_FLOOR = 4 * noise
FSPA_J = claim(
    "FSPA-J",
    "size of a jump by the changed weights",
    {**_BOUNDED, lhs: JUMP_SIZE.symbol, rhs: B / n * L1.symbol, floor: _JUMP_FLOOR},
    SLOPE,
    SLOPE_GAP,
    JUMP_SIZE,
    L1,
    premises=(KNOWN_L,),
    fits=moving,
    pathwise=True,
    rounds=True,
    mutants=(
        Weakened("half", "half the bound", {rhs: B / (2 * n) * L1.symbol}),
        Weakened("none", "masks change nothing: J_t = 0", {rhs: sp.Integer(0)}),
    ),
)
FSPA_J_PARTS = claim(
    "FSPA-J-parts",
    "a jump is no larger than the sizes of its parts",
    {
        lhs: JUMP_SIZE.symbol,
        rhs: PRUNE_SIZE.symbol + REGROW_SIZE.symbol,
        floor: _JUMP_FLOOR,
    },
    JUMP_SIZE,
    PRUNE_SIZE,
    REGROW_SIZE,
    PRUNE,
    REGROW,
    fits=moving,
    pathwise=True,
    rounds=True,
    mutants=(
        Weakened("pruning", "pruned weights are small, so pruning alone bounds the jump",
                 {rhs: PRUNE_SIZE.symbol}),
        Weakened("regrowth", "regrowth by |gradient| never raises f: only pruning does",
                 {lhs: PRUNE.symbol + REGROW.symbol, rhs: PRUNE.symbol}),
    ),
)  # fmt: skip
FSPA_J_HAM = claim(
    "FSPA-J-Ham",
    "size of a jump by the Hamming distance",
    {
        **_BOUNDED,
        lhs: B / n * L1.symbol,
        rhs: B / n * WIDEST.symbol * HAMMING.symbol,
    },
    SLOPE,
    SLOPE_GAP,
    L1,
    WIDEST,
    HAMMING,
    premises=(KNOWN_L,),
    fits=moving,
    pathwise=True,
    rounds=True,
    mutants=(Weakened("half", "half the bound", {rhs: B / (2 * n) * WIDEST.symbol * HAMMING.symbol}),),
)
FSPA_HAM = claim(
    "FSPA-Ham",
    "masks change by at most twice the exchanged weights",
    {lhs: HAMMING.symbol, rhs: 2 * CEILINGS.symbol},
    HAMMING,
    CEILINGS,
    pathwise=True,
    rounds=True,
    mutants=(Weakened("once", "without the 2", {rhs: CEILINGS.symbol}),),
)
s, layers = symbol("s"), symbol("layers")
FSPA_HAM_SUM = claim(
    "FSPA-Ham-sum",
    "all changes of masks together: of order T under annealing",
    {lhs: HAMMING_SUM.symbol, rhs: 2 * m * (s * RATES.symbol + layers * T)},
    HAMMING_SUM,
    RATES,
    fits=moving,
    pathwise=True,
    mutants=(
        Weakened("floors", "⌊·⌋ in place of ⌈·⌉: no ΛT", {rhs: 2 * m * s * RATES.symbol}),
        Weakened("finite", "Σ Ham bounded for every T", {rhs: 2 * m * s * layers}),
    ),
)
FSPA_INVARIANTS = claim(
    "FSPA-inv",
    "invariants of every round",
    {lhs: BREACHES.symbol, rhs: sp.Integer(0)},
    BREACHES,
    HAMMING,
    kind="equality",
    pathwise=True,
    rounds=True,
    mutants=(Weakened("still", "masks never change", {lhs: BREACHES.symbol + HAMMING.symbol}),),
)
FSPA_BITS = claim(
    "FSPA-bits",
    "bits down and up",
    {lhs: BITS.symbol, rhs: VALUE_BITS.symbol + MASK_BITS.symbol},
    BITS,
    VALUE_BITS,
    MASK_BITS,
    kind="equality",
    pathwise=True,
    rounds=True,
    mutants=(Weakened("values", "values alone, no bits for masks", {rhs: VALUE_BITS.symbol}),),
)
STATEMENTS: tuple[Statement, ...] = (
    FSPA_L1, FSPA_L1_MEAN, FSPA_B, FSPA_B_MEAN, FSPA_Q, FSPA_E, FSPA_J, FSPA_J_PARTS, FSPA_J_HAM, FSPA_HAM,
    FSPA_HAM_SUM, FSPA_INVARIANTS, FSPA_BITS,
)  # fmt: skip
