"""For every false version of a lemma an instance that catches it at its start: the lemma holds there, that one fails.

All are tiny: every cohort and every value of a coin-flip noise is taken, so both are decided exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fedconv.problems.errors import InputError

LIMITS = {"alpha": 0.0, "theta": math.inf, "theta_v": math.inf, "omega": 0.0}
"""Every free parameter at its limit: one local step."""

HALVES = {"alpha": 0.5, "theta": 0.5, "theta_v": 0.5, "omega": 0.5}


@dataclass(frozen=True)
class Instance:
    """A problem file without its algorithm's name, free parameters, and why lemmas are caught there."""

    spec: dict[str, Any]
    parameters: dict[str, float]
    why: str

    def file(self, algorithm: str) -> dict[str, Any]:
        """The complete problem file."""
        return self.spec | {"algorithm": {"name": algorithm} | self.spec["algorithm"], "run": {"T": 1}}


def _scalar(A: list[float], C: list[float], a: list[float], b: list[float]) -> dict[str, Any]:
    """Scalar quadratics F_i = ½A_iu² + C_iuv + ½v² − a_iu − b_iv."""
    return {
        "family": "quadratic_arrays",
        "A": [[[x]] for x in A],
        "B": [[[1.0]]] * len(A),
        "C": [[[x]] for x in C],
        "a": [[x] for x in a],
        "b": [[x] for x in b],
    }


def _instance(
    problem: dict[str, Any], u: list[float], v: list[list[float]], m: int, tau: int, eta: float, why: str,
    parameters: dict[str, float], noisy: bool = False,
) -> Instance:  # fmt: skip
    spec = {
        "problem": problem,
        "start": {"kind": "point", "u": u, "v": v},
        "algorithm": {"m": m, "tau": tau, "eta": eta},
    }
    if noisy:
        spec["noise"] = {"law": "rademacher", "sigma_u": 1.0, "sigma_v": 1.0}
    return Instance(spec, parameters, why)


_ONE = _scalar([1.0], [0.0], [0.0], [0.0])

STEEP = _instance(_ONE, [1.0], [[1.0]], 1, 1, 1.0, "the longest step that curvature L allows", LIMITS)
TWO = _instance(_ONE, [1.0], [[1.0]], 1, 2, 0.1, "two short steps along nearly the same gradients", HALVES)
NOISE = _instance(_ONE, [0.0], [[0.0]], 1, 2, 0.1, "from the optimum noise alone moves",
                  HALVES | {"theta": 1.0, "theta_v": 1.0}, noisy=True)  # fmt: skip
TOP = _instance(
    {"family": "trigonometric_arrays", "a": [1.0], "b": [1.0], "kappa": [0.0], "h": [[0.0]], "s": [[0.0]]},
    [math.pi], [[math.pi]], 1, 2, 0.5, "on a hilltop gradients follow the noise",
    HALVES | {"theta": 0.01, "theta_v": 0.01}, noisy=True,
)  # fmt: skip
DIFFERENT = _instance(
    _scalar([1.0, 1.0, 1.0], [0.5, -0.3, 0.1], [1.0, -2.0, 0.5], [1.0, 0.5, -1.0]), [0.5], [[1.0], [-1.0], [0.3]], 1, 2,
    0.3, "clients differ and only one takes part", HALVES,
)  # fmt: skip
ALIKE = _instance(
    _scalar([1.0] * 3, [0.5] * 3, [0.0] * 3, [0.0] * 3), [-1.0], [[1.0]] * 3, 1, 1, 0.5,
    "equal coupled clients: the absent ones' part is as large as it can be", LIMITS | {"alpha": 0.5},
)  # fmt: skip
SAMPLING = _instance({"family": "sharp", "kind": "sampling", "n": 3}, [0.0], [[], [], []], 1, 1, 0.5,
                     "from the optimum the choice of the cohort alone moves u", LIMITS)  # fmt: skip
STILL = _instance(_scalar([1.0], [0.5], [0.0], [0.0]), [-0.5], [[1.0]], 1, 2, 0.5,
                  "u stands still while v moves, and its gradient drifts with v", HALVES)  # fmt: skip

_SHARED: dict[str, Instance] = {
    "L1:c_replaced": DIFFERENT, "L1:no_spread": DIFFERENT,
    "L3_u:nothing": NOISE, "L3_u:no_sigma": TOP, "L3_u_start:along": NOISE, "L3_u_size:one_step": NOISE,
    "L3_v:nothing": NOISE, "L3_v:no_sigma": TOP, "L3_v_start:along": NOISE, "L3_v_size:one_step": NOISE,
    "L5:no_sigma": NOISE, "L5:one_step": TWO,
    "L7:real": DIFFERENT, "L8:no_drift": TWO,
    "L9:no_delta": SAMPLING, "L9:c_replaced": SAMPLING, "L9:no_sigma": NOISE,
}  # fmt: skip

INSTANCES: dict[str, dict[str, Instance]] = {
    "fedalt": _SHARED | {
        "L2_u:no_sigma": NOISE, "L2_u:third": NOISE, "L2_v:no_sigma": NOISE, "L2_v:third": NOISE,
        "L4:no_sigma": NOISE, "L4:no_eta": STEEP, "L6:halved": ALIKE, "L6:p_1_p": ALIKE,
        "L10:half_step": STEEP, "L10:no_young": ALIKE,
    },
    "fedsim": _SHARED | {
        "L2':no_sigma": NOISE, "L2':third": NOISE, "L6_present:halved": ALIKE, "L8:u_alone": STILL,
        "L8_v:no_drift": TWO, "L11:half_step": STEEP, "L11:no_displacement": STEEP,
    },
}  # fmt: skip
"""By algorithm and ``LEMMA:KEY``."""


def instance(algorithm: str, mutant: str) -> Instance:
    """The instance that catches a false version; InputError where none is known."""
    if mutant not in INSTANCES.get(algorithm, {}):
        raise InputError(f"no instance is known against {mutant} of {algorithm}")
    return INSTANCES[algorithm][mutant]
