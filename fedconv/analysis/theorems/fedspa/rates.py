"""FedSpa: Theorem 1 and Corollary 1 (frozen masks) with rate (6), and Theorem 2 (masks that move, with measured jumps).

Each comes with (δ, ρ) known for the masks, and with δ² = the mean of the visited D_t and ρ = 0: the proof uses
assumption A3 at visited points alone, and linearly. The largest step is asked of the corollaries: (4) has free
parameters, and at the largest step that some of them admit it is infinite.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy as sp

from fedconv.analysis.theorems.base import Condition, substitute, symbol
from fedconv.analysis.theorems.fedspa.formulas import (
    FREE,
    LINEAR,
    NOISELESS,
    STEP,
    A,
    L,
    N,
    T,
    delta,
    descent,
    eta,
    five,
    four,
    gap,
    m,
    phi,
    q_G,
    rho,
    sigma,
)  # fmt: skip
from fedconv.analysis.theorems.fedspa.measured import (
    CLAIMED,
    COHORT,
    DIVERSITY,
    FROZEN,
    GRADIENTS,
    JUMPS,
    KNOWN_DELTA,
    KNOWN_F,
    KNOWN_L,
    NOISELESS_GRADIENTS,
    STEP_AT_MOST_ONE,
    claim,
    moving,
    noise_g,
    still,
)  # fmt: skip
from fedconv.analysis.theorems.statement import Premise, Statement, Weakened, floor, lhs, noise, rhs

_GRADIENT_FLOOR = noise_g**2 / L
_LHS = {lhs: GRADIENTS.symbol / L}
_FROZEN = {descent: gap}
_MOVING = {descent: gap + JUMPS.symbol}
_POSITIVE = Condition("1 − A/2", 1 - A / 2, strict=True)
_OWN = {symbol(x): symbol(f"{x}_D") for name in FREE for x in (name, f"inv_{name}")}
"""The free parameters of the versions with measured diversity."""


def _theorem(drift: Mapping[sp.Symbol, sp.Expr], measured: bool, moves: bool) -> dict[sp.Symbol, Any]:
    """Definitions of (4), or of (7) with (4)."""
    made = four(drift, DIVERSITY.symbol, sp.Integer(0)) if measured else four(drift, delta**2, rho**2)
    if measured:
        made = {s: substitute(e, _OWN) for s, e in made.items()}
    steps = len(STEP)
    items = list(made.items())
    first, rest = dict(items[:steps]), dict(items[steps:])
    jumps = 2 * noise * T if moves else 0
    return {**first, **(_MOVING if moves else _FROZEN), **rest, **_LHS,
            floor: 2 * (noise + jumps) / (A * eta * T) + _GRADIENT_FLOOR}  # fmt: skip


def _corollary(measured: bool, moves: bool) -> dict[sp.Symbol, Any]:
    """Definitions of (5), or of (7) with (5)."""
    jumps = 2 * noise * T if moves else 0
    return {
        **STEP,
        **(_MOVING if moves else _FROZEN),
        rhs: five(DIVERSITY.symbol if measured else delta**2),
        **_LHS,
        floor: 3 * (noise + jumps) / (eta * T) + _GRADIENT_FLOOR,
    }


_CAPS = (Condition("4η", 4 * eta), Condition("2η√(1+ρ²)", 2 * eta * sp.sqrt(1 + rho**2)),
         Condition("8φρ²η/m", 8 * phi * rho**2 * eta / m))  # fmt: skip
_CAPS_MEASURED = (Condition("4η", 4 * eta),)
_KNOWN = (COHORT, KNOWN_L, KNOWN_F, KNOWN_DELTA)
_VISITED = (COHORT, KNOWN_L, KNOWN_F)


def _without(definitions: Mapping[sp.Symbol, Any], changed: Mapping[sp.Symbol, Any]) -> dict[sp.Symbol, sp.Expr]:
    """``rhs`` after symbols in it are replaced: for mutants."""
    return {rhs: substitute(sp.sympify(definitions[rhs]), changed)}


_ONE = _theorem(LINEAR, measured=False, moves=False)
_NO_2 = {descent: gap / 2}
_MASKS_MOVE = Weakened("moving", "for masks that move, without their jumps", without=("frozen",))

FSPA_1 = claim(
    "FSPA-1",
    "frozen masks",
    _ONE,
    GRADIENTS,
    source=CLAIMED,
    conditions=(STEP_AT_MOST_ONE, _POSITIVE),
    premises=(FROZEN, *_KNOWN),
    mutants=(
        Weakened("half_gap", "ΔF/(ηT) in place of 2ΔF/(ηT)", _NO_2),
        Weakened("no_A", "A = 2: nothing lost", {A: sp.Integer(2)}),
        Weakened("no_sampling", "φ = 0: as if everybody took part", {phi: sp.Integer(0)}),
        Weakened("no_noise", "no σ²/N", _without(_ONE, {sigma: 0})),
        Weakened("same_losses", "equal losses have no diversity: δ = ρ = 0, masks forgotten",
                 {A: substitute(_ONE[A], {rho: 0}), **_without(_ONE, {delta: 0})}),
        Weakened("N_clients", "σ²/(mN²): noise divided by N once more", _without(_ONE, {sigma: sigma / sp.sqrt(N)})),
        Weakened("no_step", "any step: A taken as 1", {A: sp.Integer(1)}, without=("η", "1 − A/2")),
        _MASKS_MOVE,
    ),
)  # fmt: skip

_EXACT = _theorem(NOISELESS, measured=False, moves=False)
FSPA_1_EXACT = claim(
    "FSPA-1-exact",
    "frozen masks, exact gradients",
    _EXACT,
    GRADIENTS,
    source=CLAIMED,
    conditions=(STEP_AT_MOST_ONE, _POSITIVE),
    premises=(FROZEN, NOISELESS_GRADIENTS, *_KNOWN),
    fits=lambda inputs: still(inputs) and bool(inputs.flags["noiseless"]),
    mutants=(
        Weakened("half_gap", "ΔF/(ηT) in place of 2ΔF/(ηT)", _NO_2),
        Weakened("no_drift", "local steps cost nothing: q_G = 0", {q_G: sp.Integer(0)}),
    ),
)

_VISIT = _theorem(LINEAR, measured=True, moves=False)
FSPA_1_VISITED = claim(
    "FSPA-1-visited",
    "frozen masks, measured diversity",
    _VISIT,
    GRADIENTS,
    DIVERSITY,
    conditions=(STEP_AT_MOST_ONE, _POSITIVE),
    premises=(FROZEN, *_VISITED),
    fits=still,
    mutants=(
        Weakened("half_gap", "ΔF/(ηT) in place of 2ΔF/(ηT)", _NO_2),
        Weakened("no_D", "without the diversity", _without(_VISIT, {DIVERSITY.symbol: 0})),
        Weakened("coverage", "the server divides by the clients that hold a coordinate", without=("average",)),
    ),
)

_FIVE = _corollary(measured=False, moves=False)
FSPA_C1 = claim(
    "FSPA-C1",
    "frozen masks, plain constants",
    _FIVE,
    GRADIENTS,
    source=CLAIMED,
    conditions=_CAPS,
    premises=(FROZEN, *_KNOWN),
    step="gamma",
    mutants=(
        Weakened("sixteen_fifteenths", "16/15 in place of 16/7", {descent: gap * sp.Rational(7, 15)}),
        Weakened("no_noise", "no σ²", _without(_FIVE, {sigma: 0})),
        Weakened("no_delta", "no δ²", _without(_FIVE, {delta: 0})),
        Weakened("no_step", "any step", without=tuple(k.name for k in _CAPS)),
        _MASKS_MOVE,
    ),
)

_FIVE_VISITED = _corollary(measured=True, moves=False)
FSPA_C1_VISITED = claim(
    "FSPA-C1-visited",
    "frozen masks, plain constants, measured diversity",
    _FIVE_VISITED,
    GRADIENTS,
    DIVERSITY,
    conditions=_CAPS_MEASURED,
    premises=(FROZEN, *_VISITED),
    fits=still,
    step="gamma",
    mutants=(Weakened("sixteen_fifteenths", "16/15 in place of 16/7", {descent: gap * sp.Rational(7, 15)}),),
)

V, cap, eta_6 = symbol("V"), symbol("cap"), symbol("eta_6")
_SIX = {
    **STEP,
    V: phi * delta**2 + sigma**2 / N,
    cap: 1 / sp.Max(4, 2 * sp.sqrt(1 + rho**2), 8 * phi * rho**2 / m),
    eta_6: sp.Min(cap, sp.sqrt(4 * m * L * gap / (3 * T * V))),
    lhs: GRADIENTS.symbol,
    rhs: 4 * sp.sqrt(L * gap * V / (m * T))
    + 16 * L * gap / (7 * cap * T)
    + sp.Rational(16, 7) * m * L * gap / (T * V) * (1 - 1 / N) * (delta**2 + 3 * sigma**2 / (2 * N)),
    floor: noise_g**2 + 3 * L * noise / (eta * T),
}
_VARIES = Premise(
    "V",
    "V = φδ² + σ²/N is 0: the rate is faster than 1/√T",
    lambda inputs: (
        inputs.values["sigma"] > 0 or (inputs.values["m"] < inputs.values["n"] and inputs.values["delta"] > 0)
    ),
)
FSPA_6 = claim(
    "FSPA-6",
    "frozen masks: the rate at its own step",
    _SIX,
    GRADIENTS,
    source=CLAIMED,
    conditions=(Condition("η/η₆", eta / eta_6), Condition("η₆/η", eta_6 / eta)),
    premises=(FROZEN, *_KNOWN, _VARIES),
    step="gamma",
    fits=lambda inputs: still(inputs) and _VARIES.holds(inputs),
    mutants=(
        Weakened("fast", "1/T alone, without 1/√T", {rhs: _SIX[rhs] - 4 * sp.sqrt(L * gap * V / (m * T))}),
        Weakened("any_step", "at any step", without=("η/η₆", "η₆/η")),
    ),
)

_TWO = _theorem(LINEAR, measured=False, moves=True)
_TWO_VISITED = _theorem(LINEAR, measured=True, moves=True)
_NO_JUMP = Weakened("no_jump", "the masks' jumps forgotten: 1/√T though masks keep moving", {descent: gap})
_HALF_JUMP = Weakened("half_jump", "half of the jumps", {descent: gap + JUMPS.symbol / 2})
FSPA_2 = claim(
    "FSPA-2",
    "moving masks",
    _TWO,
    GRADIENTS,
    JUMPS,
    conditions=(STEP_AT_MOST_ONE, _POSITIVE),
    premises=_KNOWN,
    fits=moving,
    mutants=(_NO_JUMP, _HALF_JUMP),
)
FSPA_2_VISITED = claim(
    "FSPA-2-visited",
    "moving masks, measured diversity",
    _TWO_VISITED,
    GRADIENTS,
    DIVERSITY,
    JUMPS,
    conditions=(STEP_AT_MOST_ONE, _POSITIVE),
    premises=_VISITED,
    fits=moving,
    mutants=(
        _NO_JUMP,
        _HALF_JUMP,
        Weakened("unsigned", "a search never raises the bound: jumps counted as gains", {descent: gap - JUMPS.symbol}),
    ),
)
FSPA_C2 = claim(
    "FSPA-C2",
    "moving masks, plain constants",
    _corollary(measured=False, moves=True),
    GRADIENTS,
    JUMPS,
    conditions=_CAPS,
    premises=_KNOWN,
    fits=moving,
    step="gamma",
    mutants=(_NO_JUMP,),
)
FSPA_C2_VISITED = claim(
    "FSPA-C2-visited",
    "moving masks, plain constants, measured diversity",
    _corollary(measured=True, moves=True),
    GRADIENTS,
    DIVERSITY,
    JUMPS,
    conditions=_CAPS_MEASURED,
    premises=_VISITED,
    fits=moving,
    step="gamma",
    mutants=(_NO_JUMP,),
)

STATEMENTS: tuple[Statement, ...] = (
    FSPA_1, FSPA_1_EXACT, FSPA_1_VISITED, FSPA_C1, FSPA_C1_VISITED, FSPA_6, FSPA_2, FSPA_2_VISITED, FSPA_C2,
    FSPA_C2_VISITED,
)  # fmt: skip
