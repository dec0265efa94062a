"""For every mutant an instance that catches it: the theorem holds there, the weakened version is violated.

An instance is a problem file (the tables that ``fedconv verify`` reads) with values of the free parameters at which
the mutant fails; a mutant claims all admissible ones. 0 and inf stand for the limits that are allowed. Where the
diversity has no finite bound the a posteriori form is used, as always (δ² = mean diversity of the visited points).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

LIMITS = {"alpha": 0.0, "theta": math.inf, "theta_v": math.inf, "omega": 0.0}
"""τ = 1 and no cross term: every free parameter at its limit."""

ALT = ("FA", "FA*")
SIM = ("FS", "FS*")


@dataclass(frozen=True)
class Instance:
    """A problem file without its algorithm's name, the free parameters, and why the mutant fails there."""

    spec: dict[str, Any]
    parameters: dict[str, float]
    why: str

    def file(self, theorem: str) -> dict[str, Any]:
        """The complete problem file for a theorem's algorithm."""
        name = "fedalt" if theorem in ALT else "fedsim"
        verify = {"theorems": [theorem], "parameters": self.parameters}
        return self.spec | {"algorithm": {"name": name} | self.spec["algorithm"], "verify": verify}


def _instance(
    problem: dict[str, Any],
    start: dict[str, Any],
    algorithm: dict[str, Any],
    T: int,
    why: str,
    noise: dict[str, Any] | None = None,
    **parameters: float,
) -> Instance:
    spec: dict[str, Any] = {"problem": problem, "start": start, "algorithm": {"tau": 1} | algorithm, "run": {"T": T}}
    if noise is not None:
        spec["noise"] = noise
    return Instance(spec, LIMITS | parameters, why)


def _point(u: list[float], v: list[list[float]]) -> dict[str, Any]:
    return {"kind": "point", "u": u, "v": v}


def _sharp(kind: str, **dials: Any) -> dict[str, Any]:
    return {"family": "sharp", "kind": kind} | dials


def _scalar(A: list[float], C: list[float], a: list[float], b: list[float]) -> dict[str, Any]:
    """Scalar quadratics F_i = ½A_iu² + C_iuv + ½v² − a_iu − b_iv."""
    n = len(A)
    return {
        "family": "quadratic_arrays",
        "A": [[[x]] for x in A],
        "B": [[[1.0]]] * n,
        "C": [[[x]] for x in C],
        "a": [[x] for x in a],
        "b": [[x] for x in b],
    }


_COIN_U = {"law": "rademacher", "sigma_u": 1.0}
_COIN_V = {"law": "rademacher", "sigma_v": 1.0}
_COIN_BOTH = {"law": "rademacher", "sigma_u": 1.0, "sigma_v": 1.0, "dependence": "full"}
_FOUR = [[1.0]] * 4

_DESCENT = _instance(
    _sharp("descent"),
    _point([1.0], [[]]),
    {"m": 1, "eta": 1.0},
    1,
    "one gradient step to the minimum: the theorem is an equality",
)
_BIG_STEP = _instance(
    _sharp("descent"),
    _point([1.0], [[]]),
    {"m": 1, "eta": 1.5},
    1,
    "a step beyond 1/L gains less than the bound promises",
)
_NOISE = _instance(
    _sharp("noise"), {"kind": "optimum"}, {"m": 1, "eta": 1.0}, 100, "noise alone: tightness 1 − 1/T", _COIN_U
)
_SAMPLING = _instance(
    _sharp("sampling", n=2, delta=1.0),
    _point([0.1], [[], []]),
    {"m": 1, "eta": 1.0},
    100,
    "sampling alone, n = 2: c = 1 where (1−p)/m = 1/2, and the bound is almost attained",
)
_PERSONAL_NOISE = _instance(
    _sharp("personal", n=4),
    _point([], [[0.1]] * 4),
    {"m": 1, "eta": 1.0},
    200,
    "personal noise alone at p = 1/4: each client keeps the noise of its last round",
    _COIN_V,
)
_PERSONAL = _instance(
    _sharp("personal", n=4),
    _point([], _FOUR),
    {"m": 1, "eta": 1.0},
    12,
    "personal descent at p = 1/4: each client waits 1/p rounds",
)
_MULTIPLICATIVE = _instance(
    _scalar([1.0] * 9 + [-1.0], [0.0] * 10, [0.0] * 10, [0.0] * 10),
    _point([1.0], [[0.0]] * 10),
    {"m": 1, "eta": 1.0},
    3,
    "one client in ten has the opposite curvature: the diversity is ρ²‖∇_uF‖² with ρ = 3/4",
)
_DRIFT = _instance(
    _scalar([1.0, 0.1], [0.0, 0.0], [1.0, -0.1], [0.0, 0.0]),
    _point([0.8], [[0.0], [0.0]]),
    {"m": 2, "tau": 20, "eta": 0.15},
    200,
    "local steps on unequal curvatures drift to a point that is not stationary",
    alpha=0.0,
    theta=0.0,
    theta_v=0.0,
    omega=1.0,
)
_JOINT_DROPPED = _instance(
    _sharp("coupled", chi=0.9),
    _point([1.0], [[1.0]]),
    {"m": 1, "eta": 0.99},
    1,
    "both blocks step along the top eigenvector 1+χ of the Hessian: η may not exceed 1/(1+χ)",
    alpha=0.01,
)
_JOINT_HALVED = _instance(
    _sharp("coupled", chi=0.9),
    _point([1.0], [[1.0]]),
    {"m": 1, "eta": 0.61},
    1,
    "both blocks step along the top eigenvector 1+χ of the Hessian: η may not exceed 1/(1+χ)",
    alpha=0.9 / math.sqrt(2),
)
_JOINT_NOISE = _instance(
    _sharp("coupled", chi=0.9),
    {"kind": "optimum"},
    {"m": 1, "eta": 0.526},
    200,
    "one mini-batch serves both blocks: its noise lies along the top eigenvector of the Hessian",
    _COIN_BOTH,
    alpha=0.9,
)
_JOINT_SAMPLING = _instance(
    _scalar([1.0, 1.0], [0.98, 0.98], [1.0, -1.0], [0.8, -0.8]),
    _point([0.0], [[-1.5], [1.5]]),
    {"m": 1, "eta": 0.588},
    20,
    "the sampled client pulls both blocks along the top eigenvector of the Hessian",
    alpha=0.7,
)
_ABSENT_DROPPED = _instance(
    _sharp("coupled", n=6, chi=0.97),
    _point([1.0], [[-1.0]] * 6),
    {"m": 1, "eta": 0.995},
    40,
    "five of six clients keep an old v for which the shared step is too long",
    alpha=1e-3,
)

_SPREAD_PULL = _instance(
    _scalar([1.0, 1.0], [1.07, 0.92], [0.0, 0.0], [0.0, 0.0]),
    _point([-0.55], [[1.0], [0.11]]),
    {"m": 1, "eta": 0.14},
    40,
    "the two clients' pulls differ, and the absent one's old v is worth more the larger the difference",
    alpha=2.46,
)


_ABSENT_MANY = _instance(
    {
        "family": "quadratic_arrays",
        "A": [[[0.25, 0.0], [0.0, 1.0]]] * 12,
        "B": [[[1.0]]] * 12,
        "C": [[[0.48], [0.0]]] * 12,
        "a": [[0.0, 0.0]] * 12,
        "b": [[0.0]] * 12,
    },
    _point([1.0, 0.0], [[-0.5]] * 12),
    {"m": 1, "eta": 0.68},
    400,
    "eleven of twelve equal clients keep an old v for which the shared step is too long",
    alpha=0.47,
)


def _absent(eta: float, alpha: float) -> Instance:
    return _instance(
        _sharp("coupled", n=2, chi=0.99),
        _point([1.0], [[-1.0], [-1.0]]),
        {"m": 1, "eta": eta},
        1000,
        "the absent one of two equal clients keeps an old v for which the shared step is too long",
        alpha=alpha,
    )


_COMMON: dict[str, Instance] = {
    "gap1": _DESCENT,
    "half_s1": _NOISE,
    "no_delta": _SAMPLING,
    "c_replaced": _SAMPLING,
    "sigma_v_p_sq": _PERSONAL_NOISE,
    "sigma_v_dropped": _PERSONAL_NOISE,
    "weight_one": _PERSONAL,
    "eps_zero": _MULTIPLICATIVE,
    "k_zero": _DRIFT,
}

CATCHING: dict[tuple[str, str], Instance] = {
    **{(key, mutant): found for key in (*ALT, *SIM) for mutant, found in _COMMON.items()},
    **{(key, "no_conditions"): _BIG_STEP for key in ("FA", "FS")},
    **{(key, "virtual_dropped"): _ABSENT_DROPPED for key in ALT},
    ("FA", "virtual_halved"): _absent(0.666, 0.5),
    ("FA*", "virtual_halved"): _absent(0.61, 0.639),
    **{(key, "virtual_p_1_p"): _ABSENT_MANY for key in ALT},
    **{(key, "kept_full"): _DESCENT for key in ("FA*", "FS*")},
    ("FA*", "sampling_alpha"): _SPREAD_PULL,
    **{(key, "present_dropped"): _JOINT_DROPPED for key in SIM},
    **{(key, "present_halved"): _JOINT_HALVED for key in SIM},
    **{(key, "present_s1"): _JOINT_NOISE for key in SIM},
    **{(key, "alpha_sigma_u"): _JOINT_NOISE for key in SIM},
    **{(key, "alpha_delta"): _JOINT_SAMPLING for key in SIM},
}
