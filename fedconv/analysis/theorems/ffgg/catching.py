"""For every false version of FFGG's theorems a problem file that catches it: the theorem is not violated there.

Numbers of theorems and most of the instances are those of the theory page on FFGG; the others are derived here.
"""

from __future__ import annotations

import math
from typing import Any

Instance = dict[str, Any]


def _file(problem: dict[str, Any], start: dict[str, Any], T: int, m: int, gamma: float, **more: Any) -> Instance:
    """A problem file; ``more``: tau, and the tables [fine_tuning], [async] (``asynchrony``) and [byzantine]."""
    algorithm = {"name": "ffgg", "m": m, "gamma": gamma} | {k: v for k, v in more.items() if k == "tau"}
    tables = {"async" if k == "asynchrony" else k: v for k, v in more.items() if k != "tau"}
    return {"problem": problem, "start": start, "algorithm": algorithm, "run": {"T": T}} | tables


def _squares(A: list[list[list[float]]], B: list[list[list[float]]], c: list[list[float]]) -> dict[str, Any]:
    return {"family": "least_squares_arrays", "A": A, "B": B, "c": c}


def scalar(curvatures: list[float], targets: list[float]) -> dict[str, Any]:
    """F_m = (h_m/2)(w − x_m)², with a personal part that does nothing."""
    pairs = [(math.sqrt(h), x) for h, x in zip(curvatures, targets, strict=True)]
    return _squares([[[a]] for a, _ in pairs], [[[0.0]]] * len(pairs), [[a * x] for a, x in pairs])


def orthogonal(n: int) -> dict[str, Any]:
    """F_m = w_m²/2 for m < n = d_u."""
    A = [[[float(j == i) for j in range(n)]] for i in range(n)]
    return _squares(A, [[[0.0]]] * n, [[0.0]] * n)


def at(u: list[float], n: int, v: list[float] | None = None) -> dict[str, Any]:
    """w^0 = u, and the same first θ for all n clients."""
    return {"kind": "point", "u": u, "v": [v or [0.0]] * n}


OPTIMUM = {"kind": "optimum"}
ONE, OPPOSED = scalar([1.0], [0.0]), scalar([1.0, 1.0], [1.0, -1.0])
UNEQUAL = scalar([1.0, 0.1], [1.0, -1.0])
HUBER = {"family": "huber_arrays", "A": [[[1.0]]], "c": [[0.0]], "lam": [[0.2]]}

# ---- Theorems 1 and 2 ------------------------------------------------------------------------------------------

_DESCENT = _file(ONE, at([1.0], 1), 1, 1, 1.0)
_SLOW = _file(ONE, at([1.0], 1), 5, 1, 0.25)
_SADDLE = _file(
    {
        "family": "envelope_quadratic",
        "A": [[[0.1]]] * 101,
        "B": [[[0.1]]] + [[[1.0]]] * 100,
        "C": [[[1.0]]] + [[[0.0]]] * 100,
        "a": [[0.0]] * 101,
        "b": [[0.0]] * 101,
    },
    at([1.0], 101),
    3,
    101,
    1.0,
)
_AXES = _file(orthogonal(2), at([1.0, 0.0], 2), 2, 2, 1.0)
_IDENTICAL = _file(_squares([[[1.0], [1.0]]], [[[0.0], [0.0]]], [[1.0, -1.0]]), at([1.0], 1), 2, 1, 0.5)
_PULLED = _file(OPPOSED, at([0.5], 2), 2, 2, 0.5)
_CROSS = _file(
    _squares([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]], [[[0.0]]] * 4, [[1.0], [-1.0], [1.0], [-1.0]]),
    at([0.5, 0.5], 4),
    2,
    4,
    0.5,
)

# ---- Theorem 3 -------------------------------------------------------------------------------------------------

_LONG_STEP = _file(ONE, at([1.0], 1), 10, 1, 1.9)
_LONG_STEP_2 = _file(
    _squares([[[1.0, 0.0], [0.0, math.sqrt(0.1)]]], [[[0.0], [0.0]]], [[0.0, 0.0]]), at([1.0, 0.0], 1), 10, 1, 1.9
)
_HUBER = _file(HUBER | {"lam": [[1 / 11]]}, at([1.0], 1), 5, 1, 1.0)
_AXES_LONG = _file(orthogonal(4), at([1.0] * 4, 4), 9, 1, 4.0)
_AXES_LONGER = _file(orthogonal(4), at([1.0] * 4, 4), 50, 1, 4.0)
_AXES_ONE = _file(orthogonal(4), at([1.0] * 4, 4), 10, 1, 1.0)
_AXES_HALF = _file(orthogonal(2), at([1.0] * 2, 2), 100, 1, 1.0)
_COIN = _file(OPPOSED, OPTIMUM, 4, 1, 0.5)
_COIN_SLOW = _file(OPPOSED, OPTIMUM, 400, 1, 0.05)

# ---- Theorem 4 -------------------------------------------------------------------------------------------------


def _inner(a: list[float], B: list[list[float]]) -> dict[str, Any]:
    """One client, f = ½‖a w + Bθ‖²."""
    return _squares([[[x] for x in a]], [B], [[0.0] * len(a)])


def _steps(K: int, warm: bool = True) -> dict[str, Any]:
    return {"mode": "steps", "steps": K, "warm": warm}


_THIN = [[0.05, 0.0], [math.sqrt(0.0075), 0.0], [0.0, 1.0]]
_TILTED = [[0.5 * math.sqrt(0.8), 0.0], [0.5 * math.sqrt(0.2), 0.0], [0.0, 1.0]]
_ERROR = _file(_inner([1.0, 0.0, 0.0], _THIN), at([0.0], 1, [1.0, 0.0]), 3, 1, 1.0, fine_tuning=_steps(1))
_FROZEN = _file(_inner([1.0, 0.0], [[0.6], [0.8]]), at([-0.6], 1, [1.0]), 20, 1, 1.0, fine_tuning=_steps(0))
_NOTHING = _file(ONE, at([1.0], 1), 1, 1, 1.0, fine_tuning=_steps(1))
_LAGGING = _file(_inner([1.0, 0.0, 0.0], _TILTED), at([1.0], 1, [0.0, 0.0]), 20, 1, 5.0, fine_tuning=_steps(1))
_COLD = _file(_inner([1.0, 0.0, 0.0], _TILTED), at([1.0], 1, [1.0, 0.0]), 2000, 1, 0.2, fine_tuning=_steps(1, False))
_FROM_OPTIMUM = _file(_inner([1.0, 0.0, 0.0], _TILTED), at([0.0], 1, [1.0, 0.0]), 5, 1, 0.2, fine_tuning=_steps(1))
_APART = _file(_inner([1.0, 0.0], [[0.0], [1.0]]), at([1.0], 1, [0.0]), 5, 1, 0.25, fine_tuning=_steps(1))

# ---- Theorem 5 -------------------------------------------------------------------------------------------------

_LOCAL = _file(ONE, at([1.0], 1), 1, 1, 1.0, tau=5)
_LOCAL_SLOW = _file(ONE, at([1.0], 1), 2, 1, 0.25, tau=3)
_LOCAL_LONG = _file(ONE, at([1.0], 1), 3, 1, 2.5, tau=2)
_LOCAL_AXES = _file(orthogonal(10), at([1.0] * 10, 10), 3, 10, 1.0, tau=5)
_LOCAL_DRIFT = _file(UNEQUAL, OPTIMUM, 100, 2, 0.125, tau=8)
_LOCAL_HALF = _file(ONE, at([1.0], 1), 50, 1, 0.5, tau=2)

# ---- Theorem 6 -------------------------------------------------------------------------------------------------

_DELAYED = _file(ONE, at([1.0], 1), 60, 1, 1.0, asynchrony={"law": "constant", "tau_max": 3})
_PROMPT = _file(ONE, at([1.0], 1), 5, 1, 1.0, asynchrony={"law": "constant", "tau_max": 0})
_SELDOM = _file(
    orthogonal(2),
    at([0.0, 1.0], 2),
    800,
    1,
    1 / 41,
    asynchrony={"law": "adversarial", "tau_max": 20, "assignment": "per_client"},
)
_TURNS = _file(
    OPPOSED, at([0.0], 2), 1000, 1, 1 / 3, asynchrony={"law": "constant", "tau_max": 1, "assignment": "cyclic"}
)
_LOTS = _file(OPPOSED, at([0.0], 2), 400, 1, 1 / 3, asynchrony={"law": "constant", "tau_max": 1})

# ---- Theorem 7 -------------------------------------------------------------------------------------------------


def _threat(f: int, attack: str = "sign_flip", aggregator: str = "trimmed_mean", **more: Any) -> dict[str, Any]:
    return {"f": f, "attack": attack, "aggregator": aggregator} | more


_NOBODY = _threat(0, "zero")
_SPLIT = scalar([1.0] * 7, [2.0, 2.0, 1.0, 1.0, 1.0, 0.0, 0.0])
_TRIMMED = _file(_SPLIT, at([0.0], 7), 1, 7, 1.0, byzantine=_threat(2, strength=50.0))
_TRIMMED_LONG = _file(_SPLIT, OPTIMUM, 20, 7, 0.5, byzantine=_threat(2, strength=50.0))
_CLIPPED = _file(
    scalar([1.0] * 4, [1.0] * 4), at([0.0], 4), 1, 4, 1.0, byzantine=_threat(1, "zero", "centred_clipping")
)
_HONEST = _file(ONE, at([1.0], 1), 1, 1, 1.0, byzantine=_NOBODY)
_HONEST_SLOW = _file(ONE, at([1.0], 1), 5, 1, 0.25, byzantine=_NOBODY)
_HONEST_CURVED = _file(scalar([1.0, 0.2], [0.0, 0.0]), at([1.0], 2), 3, 2, 0.5, byzantine=_NOBODY)
_HONEST_APART = _file(UNEQUAL, OPTIMUM, 3, 2, 0.5, byzantine=_NOBODY)
_HONEST_AXES = _file(orthogonal(4), at([1.0] * 4, 4), 3, 4, 1.0, byzantine=_NOBODY)
_HONEST_HUBER = _file(HUBER, at([2.0], 1), 1, 1, 1.0, byzantine=_NOBODY)
_STUCK = _file(
    scalar([0.0] * 4 + [1.0] * 6, [0.0] * 10),
    at([1.0], 10),
    20,
    10,
    1.0,
    byzantine=_threat(3, strength=1e3),
)
TWO_WORLDS = _file(
    scalar([1.0] * 7, [0.0] * 3 + [1.0] * 2 + [0.0] * 2),
    at([0.0], 7),
    20,
    7,
    0.5,
    byzantine=_threat(2, "mimic", client=0),
)
_BUCKETS = _file(
    scalar([1.0] * 10, [2.0] * 4 + [1.0] * 4 + [0.0] * 2),
    {"kind": "point", "u": [0.0], "v": [[0.0]] * 10},
    20,
    10,
    0.5,
    byzantine=_threat(2, strength=50.0, pre="bucketing", bucket=2),
)
_BUCKETS_EASY = _file(
    scalar([1.0] * 10, [0.0] * 10), at([1.0], 10), 5, 10, 0.25, byzantine=_threat(0, "zero", pre="bucketing", bucket=2)
)

CATCHING: dict[tuple[str, str], Instance] = {
    ("FFGG-1a", "half"): _DESCENT,
    ("FFGG-1b", "L_u"): _SADDLE,
    ("FFGG-1b-L_F", "L_u"): _SADDLE,
    ("FFGG-1c", "no_convexity"): _SADDLE,
    ("FFGG-1c", "half"): _DESCENT,
    ("FFGG-1d", "L"): _AXES,
    ("FFGG-2b", "F_star"): _IDENTICAL,
    ("FFGG-2d", "no_2"): _PULLED,
    ("FFGG-2d", "L"): _CROSS,
    ("FFGG-3a", "no_2"): _DESCENT,
    ("FFGG-3a", "no_gamma_L"): _DESCENT,
    ("FFGG-3b", "half"): _DESCENT,
    ("FFGG-3b", "no_step"): _LONG_STEP,
    ("FFGG-3b-last", "half"): _HUBER,
    ("FFGG-3c", "twice"): _SLOW,
    ("FFGG-3c", "no_gamma_L"): _SLOW,
    ("FFGG-3c-step", "twice"): _SLOW,
    ("FFGG-3c-distance", "fourth"): _SLOW,
    ("FFGG-3c-distance", "no_step"): _LONG_STEP_2,
    ("FFGG-3c-distance-step", "fourth"): _SLOW,
    ("FFGG-3-PL", "twice"): _SLOW,
    ("FFGG-3-E2", "no_2"): _SLOW,
    ("FFGG-3d", "no_weights"): _AXES_LONG,
    ("FFGG-3d", "no_floor"): _COIN,
    ("FFGG-3d-min", "no_condition"): _AXES_LONGER,
    ("FFGG-3d-min", "no_floor"): _COIN,
    ("FFGG-3e", "no_floor"): _COIN_SLOW,
    ("FFGG-3e", "quarter_floor"): _COIN_SLOW,
    ("FFGG-3e-over", "step_L"): _AXES_LONG | {"run": {"T": 10}},
    ("FFGG-3e-over", "half"): _AXES_HALF,
    ("FFGG-3e-over", "not_over"): _COIN,
    ("FFGG-3f", "L"): _AXES_ONE,
    ("FFGG-3f", "twice"): _AXES_ONE,
    ("FFGG-3f", "not_over"): _COIN,
    ("FFGG-3f-step", "L"): _AXES_ONE,
    ("FFGG-3f-step", "twice"): _AXES_ONE,
    ("FFGG-4-bias", "half"): _ERROR,
    ("FFGG-4-grad", "no_mu_v"): _ERROR,
    ("FFGG-4a", "no_bias"): _FROZEN,
    ("FFGG-4a", "half_bias"): _FROZEN,
    ("FFGG-4a", "no_2"): _NOTHING,
    ("FFGG-4b", "no_bias"): _FROZEN,
    ("FFGG-4b", "half_bias"): _FROZEN,
    ("FFGG-4b-max", "half_floor"): _FROZEN,
    ("FFGG-4b-max", "no_floor"): _FROZEN,
    ("FFGG-4b-step", "half_bias"): _FROZEN,
    ("FFGG-4c", "half"): _NOTHING,
    ("FFGG-4c", "no_bias"): _FROZEN,
    ("FFGG-4d", "any_q"): _LAGGING,
    ("FFGG-4d", "cold"): _COLD,
    ("FFGG-4d", "no_start"): _FROM_OPTIMUM,
    ("FFGG-4e", "twice"): _APART,
    ("FFGG-4e", "cold"): _COLD,
    ("FFGG-4e-step", "twice"): _APART,
    ("FFGG-5a-fejer", "not_over"): _LOCAL_DRIFT,
    ("FFGG-5a-fejer", "no_step"): _LOCAL_LONG,
    ("FFGG-5a-local", "not_over"): _LOCAL_DRIFT,
    ("FFGG-5a-local", "half"): _LOCAL,
    ("FFGG-5a", "tau"): _LOCAL,
    ("FFGG-5a", "half"): _LOCAL,
    ("FFGG-5a", "not_over"): _LOCAL_DRIFT,
    ("FFGG-5a-rate", "tau"): _LOCAL_AXES,
    ("FFGG-5a-rate", "four_times"): _LOCAL_AXES,
    ("FFGG-5a-rate", "not_over"): _LOCAL_DRIFT,
    ("FFGG-5a-LS", "four_tau"): _LOCAL_SLOW,
    ("FFGG-5a-LS", "not_over"): _LOCAL_DRIFT,
    ("FFGG-5b", "no_floor"): _LOCAL_DRIFT,
    ("FFGG-5b", "tau_floor"): _LOCAL_DRIFT,
    ("FFGG-5b", "half"): _LOCAL_HALF,
    ("FFGG-6", "any_delay"): _DELAYED,
    ("FFGG-6", "current"): _SELDOM,
    ("FFGG-6", "not_over"): _TURNS,
    ("FFGG-6", "half"): _PROMPT,
    ("FFGG-6a", "any_delay"): _DELAYED,
    ("FFGG-6a", "not_over"): _LOTS,
    ("FFGG-6a", "any_assignment"): _SELDOM,
    ("FFGG-6b", "any_delay"): _DELAYED,
    ("FFGG-6b", "not_over"): _TURNS,
    ("FFGG-6b", "no_window"): _SELDOM,
    ("FFGG-7A", "f_over_honest"): _TRIMMED,
    ("FFGG-7A", "half"): _TRIMMED,
    ("FFGG-7A", "no_beta"): _CLIPPED,
    ("FFGG-7A-random", "tenth"): _BUCKETS,
    ("FFGG-7-B", "half"): _HONEST_CURVED,
    ("FFGG-7-B", "not_over"): _HONEST_APART,
    ("FFGG-7-E2", "no_gap"): _HONEST_APART,
    ("FFGG-7-E2", "L"): _HONEST_AXES,
    ("FFGG-7Ba", "no_floor"): _TRIMMED_LONG,
    ("FFGG-7Ba", "no_2"): _HONEST,
    ("FFGG-7Ba-random", "no_floor"): _BUCKETS,
    ("FFGG-7Bb", "any_kappa"): _STUCK,
    ("FFGG-7Bb", "twice"): _HONEST_SLOW,
    ("FFGG-7Bb", "not_over"): _TRIMMED_LONG,
    ("FFGG-7Bb-step", "any_kappa"): _STUCK,
    ("FFGG-7Bb-step", "twice"): _HONEST_SLOW,
    ("FFGG-7Bb-random", "twice"): _BUCKETS_EASY,
    ("FFGG-7Bc", "any_kappa"): _STUCK,
    ("FFGG-7Bc", "ten_times"): _HONEST_HUBER,
    ("FFGG-7Bd", "no_floor"): TWO_WORLDS,
    ("FFGG-7Bd", "half_floor"): TWO_WORLDS,
    ("FFGG-7Bd-random", "no_floor"): _BUCKETS,
    ("FFGG-7Be", "twice"): TWO_WORLDS,
    ("FFGG-7Bf", "any_share"): _STUCK,
    ("FFGG-7Bf", "twice"): _HONEST_SLOW,
}
