"""For every false version of FedSpa's theorems a problem file that catches it: the theorem is not violated there.

All instances are derived here; most are quadratics in one or two coordinates whose runs can be followed by hand.
"""

from __future__ import annotations

import math
from typing import Any

Instance = dict[str, Any]
ALL = {"mode": "frozen", "density": 1.0}
"""Masks of ones: FedAvg."""


def _file(
    problem: dict[str, Any],
    u: list[float],
    T: int,
    m: int,
    eta: float,
    masks: dict[str, Any],
    tau: int = 1,
    **more: Any,
) -> Instance:  # fmt: skip
    """A problem file that starts at u; ``sigma``: Rademacher noise; ``average``: of the table [fedspa]."""
    n = len(problem["c"])
    out: Instance = {
        "problem": problem,
        "start": {"kind": "point", "u": u, "v": [[]] * n},
        "algorithm": {"name": "fedspa", "m": m, "eta": eta, "tau": tau},
        "run": {"T": T},
        "masks": masks,
    }
    if "sigma" in more:
        out["noise"] = {"law": "rademacher", "sigma_u": more["sigma"]}
    if "average" in more:
        out["fedspa"] = {"average": more["average"]}
    return out


def bowls(targets: list[list[float]], root: list[list[float]] | None = None) -> dict[str, Any]:
    """F_k(w) = ½‖Rw − c_k‖² for c_k in ``targets``; R = I where no ``root`` is given."""
    n, d = len(targets), len(targets[0])
    root = [[float(i == j) for j in range(d)] for i in range(d)] if root is None else root
    return {"family": "least_squares_arrays", "A": [root] * n, "B": [[[]] * d] * n, "c": targets}


def frozen(*rows: list[int]) -> dict[str, Any]:
    return {"mode": "frozen", "initial": [list(row) for row in rows]}


def flipping(first: list[int], T_end: int, alpha: float = 1.0) -> dict[str, Any]:
    """One client whose single weight is exchanged for another in every round before T_end."""
    return {"initial": [first], "alpha": alpha, "T_end": T_end, "regrow_pruned": False}


# ---- the instances ----------------------------------------------------------------------------------------------

ONE = bowls([[0.0]])
OPPOSED = bowls([[1.0], [-1.0]])

_STEP = _file(ONE, [1.0], 1, 1, 1.0, ALL)
"""One step to the optimum: ‖∇f‖²/L = 2ΔF, an equality in (4)."""

_SLOW = _file(ONE, [1.0], 40, 1, 0.25, ALL)
"""η = ¼ for ever: half of (5)."""

_WIDE = _file(ONE, [1.0], 30, 1, 2.5, ALL)
"""w is multiplied by −1.5 in every round."""

_TWO_STEPS = _file(ONE, [1.0], 40, 1, 1.0, ALL, tau=2)
"""w is multiplied by ¼: drift makes the sum of squares 16/15, an equality in (4) with q_G = E²."""

_LOSSY = _file(ONE, [1.0], 1, 1, 0.5, ALL, tau=2)
_THREE = _file(ONE, [1.0], 3, 1, 1.0, ALL, tau=3)
_TEN = _file(ONE, [1.0], 3, 1, 0.05, ALL, tau=10)
_SAMPLED = _file(OPPOSED, [0.0], 40, 1, 0.2, ALL)
"""From the optimum, one of two opposed clients a round."""

_NOISE = _file(ONE, [0.0], 60, 1, 0.2, ALL, sigma=1.0)
"""From the optimum, with noise alone."""

_NOISE_STEPS = _file(ONE, [0.0], 150, 1, 0.1, ALL, tau=4, sigma=1.0)
_NOISE_DRIFT = _file(ONE, [1.0], 3, 1, 0.5, ALL, tau=2, sigma=1.0)
_ROOT = math.sqrt(0.19)
_SAME = _file(
    bowls([[1.0, -1.9 / _ROOT]] * 2, [[1.0, 0.9], [0.0, _ROOT]]), [0.725 / 0.2975, -0.95 / 0.2975], 40, 1, 0.1,
    frozen([1, 1], [1, 0]),
)  # fmt: skip
"""Equal losses, but one client does not see the second weight: from the optimum of f the masks alone make diversity."""

_HELD = _file(
    bowls([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), [0.0, 0.0], 100, 3, 0.2,
    frozen([1, 0], [1, 0], [0, 1], [0, 1]), average="coverage",
)  # fmt: skip
"""Two opposed clients hold each weight and three of four take part: dividing by the holders lets one of them push with
its whole step, dividing by the cohort with a third of it."""

_FAST = _file(ONE, [0.1], 200, 1, math.sqrt(4 * 0.005 / (3 * 200)), ALL, sigma=1.0)
"""At η₆, where noise makes the 1/√T term."""

_LOUD = _file(ONE, [0.1], 200, 1, 1.0, ALL, sigma=1.0)

_RISE = _file(bowls([[0.0, 0.0]]), [0.0, 1.0], 2, 1, 1.0, flipping([1, 0], 2))
"""F = ½‖w‖² starts with f_0(w^0) = f★, as the mask shows the first weight, 0; then the second, 1, is switched on:
J_0 = ½, and with J_1 an equality in (4) with (7)."""

_RISE_SLOW = _file(bowls([[0.0, 0.0]]), [0.0, 1.0], 2, 1, 0.25, flipping([1, 0], 2))
_STEEP = _file(bowls([[0.1, 10.0]]), [0.1, 0.1], 1, 1, 0.5, flipping([1, 0], 1))
"""Two equal weights change places, and the loss is nearly linear between them."""

_STEEP_ONE = _file(bowls([[0.0, 10.0]]), [0.0, 0.1], 1, 1, 0.5, flipping([1, 0], 1))
_OFTEN = _file(bowls([[0.1, 10.0]]), [0.1, 0.1], 4, 1, 0.5, flipping([1, 0], 4, 0.1))

CATCHING: dict[tuple[str, str], Instance] = {
    ("FSPA-1", "half_gap"): _STEP,
    ("FSPA-1", "no_A"): _STEP,
    ("FSPA-1", "no_sampling"): _SAMPLED,
    ("FSPA-1", "no_noise"): _NOISE,
    ("FSPA-1", "same_losses"): _SAME,
    ("FSPA-1", "N_clients"): _NOISE_STEPS,
    ("FSPA-1", "no_step"): _WIDE,
    ("FSPA-1", "moving"): _RISE,
    ("FSPA-1-exact", "half_gap"): _STEP,
    ("FSPA-1-exact", "no_drift"): _TWO_STEPS,
    ("FSPA-1-visited", "half_gap"): _STEP,
    ("FSPA-1-visited", "no_D"): _SAMPLED,
    ("FSPA-1-visited", "coverage"): _HELD,
    ("FSPA-C1", "sixteen_fifteenths"): _SLOW,
    ("FSPA-C1", "no_noise"): _NOISE,
    ("FSPA-C1", "no_delta"): _SAMPLED,
    ("FSPA-C1", "no_step"): _WIDE,
    ("FSPA-C1", "moving"): _RISE_SLOW,
    ("FSPA-C1-visited", "sixteen_fifteenths"): _SLOW,
    ("FSPA-6", "fast"): _FAST,
    ("FSPA-6", "any_step"): _LOUD,
    ("FSPA-2", "no_jump"): _RISE,
    ("FSPA-2", "half_jump"): _RISE,
    ("FSPA-2-visited", "no_jump"): _RISE,
    ("FSPA-2-visited", "half_jump"): _RISE,
    ("FSPA-2-visited", "unsigned"): _RISE,
    ("FSPA-C2", "no_jump"): _RISE_SLOW,
    ("FSPA-C2-visited", "no_jump"): _RISE_SLOW,
    ("FSPA-L1", "no_drift"): _TWO_STEPS,
    ("FSPA-L1", "no_sampling"): _SAMPLED,
    ("FSPA-L1", "apart"): _LOSSY,
    ("FSPA-L1", "more_descent"): _STEP,
    ("FSPA-L1", "coverage"): _HELD,
    ("FSPA-L1-mean", "no_noise"): _NOISE,
    ("FSPA-L1-mean", "no_sampling"): _SAMPLED,
    ("FSPA-B", "nine_tenths"): _TWO_STEPS,
    ("FSPA-B-mean", "half"): _NOISE_DRIFT,
    ("FSPA-Q", "half"): _TEN,
    ("FSPA-E", "first_order"): _THREE,
    ("FSPA-J", "half"): _STEEP_ONE,
    ("FSPA-J", "none"): _RISE,
    ("FSPA-J-parts", "pruning"): _RISE,
    ("FSPA-J-parts", "regrowth"): _RISE,
    ("FSPA-J-Ham", "half"): _STEEP,
    ("FSPA-Ham", "once"): _RISE,
    ("FSPA-Ham-sum", "floors"): _OFTEN,
    ("FSPA-Ham-sum", "finite"): _OFTEN,
    ("FSPA-inv", "still"): _RISE,
    ("FSPA-bits", "values"): _RISE,
}
