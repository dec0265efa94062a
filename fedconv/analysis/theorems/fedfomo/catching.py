"""For every false version of FedFomo's theorems a problem file that catches it: the theorem is not violated there.

The double well and the statement's numbers are those of the theory page on FedFomo; the other instances are derived
here. Where ``gamma`` is 1 and curvatures are 1, local training puts a model exactly on its training centre.
"""

from __future__ import annotations

import math
from typing import Any

Instance = dict[str, Any]


def _file(problem: dict[str, Any], start: list[list[float]], T: int, gamma: float = 1.0, **more: Any) -> Instance:
    """A problem file with everybody in each round and nothing explored; ``more``: tau, noise, and keys of [fedfomo]."""
    n = len(start)
    algorithm = {"name": "fedfomo", "m": n, "gamma": gamma} | {k: v for k, v in more.items() if k == "tau"}
    tables = {k: v for k, v in more.items() if k in ("noise", "privacy")}
    settings = {"epsilon": 0.0} | {k: v for k, v in more.items() if k not in ("tau", "noise", "privacy")}
    begin = {"kind": "point", "v": start}
    return {"problem": problem, "start": begin, "algorithm": algorithm, "run": {"T": T}, "fedfomo": settings} | tables


def targets(b: list[list[float]], c: list[list[float]] | None = None, curvature: float = 1.0) -> dict[str, Any]:
    """F_i = ½‖θ − b_i‖², L_i = (h/2)‖θ − c_i‖² (default: c = b), h = ``curvature``."""
    d = len(b[0])
    eye = [[float(j == k) for j in range(d)] for k in range(d)]
    H = [[curvature * x for x in row] for row in eye]
    return {"family": "quadratic_targets_arrays", "A": [eye] * len(b), "b": b, "H": [H] * len(b), "c": c or b}


ALONE = _file(targets([[0.0]]), [[1.0]], 2)
"""One client, one step onto its optimum."""

_s = math.sqrt(0.5)
EFFICIENT = _file(targets([[0.0, 0.0], [1 - _s, _s]]), [[1.0, 0.0], [1 - _s, _s]], 2)
"""Client 0 at distance 1 of two candidates: its optimum, with gain ½, and the model of client 1, with gain (√2 − 1)/2.
The worst case of Proposition 3."""

CLOSE = _file(targets([[0.0], [1 - 1e-6]]), [[1.0], [1 - 1e-6]], 2)
"""Client 0 has its optimum as its own trained model, and a candidate just a little nearer than where it stands."""

CLOSE_TWICE = CLOSE | {"run": {"T": 3}}
CLOSE_HALF = _file(targets([[0.0], [1 - 1e-6]]), [[1.0], [1 - 1e-6]], 2, 0.5)
CONCAVE = _file(targets([[1.0], [-1.0]], [[0.0], [0.0]], -1.0), [[0.1], [-1.0]], 2)
"""L = −θ²/2 between candidates −1 and 1: equality in Theorem 2."""

WELL = _file({"family": "double_well", "b": [[1.0], [-1.0]], "h": [[0.1], [0.1]]}, [[0.5], [-1.0]], 2)
"""The theory page's example: weights 0.6833 and 0.3167, and the loss rises from 0.6125 to 0.7859."""

WELL_LONG = WELL | {"run": {"T": 6}}
_MOVED_AWAY = _file(targets([[1.0]], [[0.0]]), [[0.0]], 2)
_KEEPS = _file(targets([[1.0]], [[0.0]]), [[0.5]], 3, rejected="trained")
_STOPS = _file(targets([[0.9]], [[0.0]]), [[1.0]], 8, 0.5)
"""Training leads from 1 to 0.9 and no further, though the target is 0."""

_LONG_STEP = _file(targets([[0.0]]), [[1.0]], 3, 2.5)
_NOISY = _file(targets([[0.0]]), [[1.0]], 40, 0.2, noise={"law": "gaussian", "sigma_v": 2.0})
_NOISY_LOSSES = _file(
    {"family": "cluster_samples_arrays", "X": [[[1.0]]], "Y": [[[0.0]]], "c": [[0.0]], "variance": [0.0]},
    [[0.0]],
    20,
    0.5,
    privacy={"clip": 10.0, "noise_multiplier": 0.01, "loss_bound": 100.0, "loss_noise": 1.0},
)
FINITE = _file(
    {"family": "cluster_samples_arrays", "X": [[[0.0]]], "Y": [[[-0.5]]], "c": [[0.0]], "variance": [0.75]},
    [[1.0]],
    2,
)
"""The validation loss is too large by ν = ¼ at 1, and too small by as much at 0, where one step leads."""

_ACROSS = _file(targets([[-1.0], [1.0]]), [[3.0], [1.5]], 40, 0.5)
"""Two centres 2 apart; client 0 starts beyond the centre of client 1."""

_EDGE = _file(targets([[-1.0], [1.0]]), [[0.99], [0.0]], 40, 0.5)
"""Client 0 starts beside the centre of client 1, nearly R from its own, and client 1 in between."""

_SWAPPED = _file(targets([[1.0], [0.0]], [[0.0], [1.0]]), [[0.9], [0.1]], 30, 0.5)
"""Every client trains towards the target of the other: z = R."""

_FOLLOWS = _file(targets([[3.0], [0.5]], [[0.0], [0.5]]), [[1.2], [1.5]], 12, 0.5)
"""Client 0's own training leads away from its target, and it follows client 1, whose centre is ½ away, for ever."""

BIASED = _file(targets([[0.4], [0.6]], [[0.0], [1.0]]), [[0.48], [0.38]], 40, 0.5)
"""z = 0.4, R = 1: both clients begin between the centres, nearer than R/(1 + ρ) to their own."""

CATCHING: dict[tuple[str, str], Instance] = {
    ("FOMO-P1", "half"): ALONE,
    ("FOMO-P1-convex", "no_convexity"): CONCAVE,
    ("FOMO-P1-convex", "reversed"): ALONE,
    ("FOMO-P2i", "parameter_norm"): CLOSE_HALF,
    ("FOMO-P2ii", "linear"): EFFICIENT,
    ("FOMO-1", "no_convexity"): WELL,
    ("FOMO-1", "own_trained"): EFFICIENT,
    ("FOMO-1", "best"): EFFICIENT,
    ("FOMO-1-sum", "best"): EFFICIENT,
    ("FOMO-1-monotone", "no_convexity"): WELL,
    ("FOMO-1-monotone", "trained"): _MOVED_AWAY,
    ("FOMO-1-monotone", "keeps"): _KEEPS,
    ("FOMO-1-monotone", "noisy_losses"): _NOISY_LOSSES,
    ("FOMO-2", "no_V"): CONCAVE,
    ("FOMO-2", "half"): CONCAVE,
    ("FOMO-2-safe", "any"): WELL,
    ("FOMO-2-safe", "half_step"): WELL,
    ("FOMO-P3", "best"): EFFICIENT,
    ("FOMO-P3", "count"): CLOSE,
    ("FOMO-P3-own", "no_kappa"): EFFICIENT,
    ("FOMO-P3-own", "no_convexity"): WELL,
    ("FOMO-3", "no_kappa"): CLOSE_TWICE,
    ("FOMO-3", "half"): ALONE,
    ("FOMO-3", "no_step"): _LONG_STEP,
    ("FOMO-3", "other_loss"): _STOPS,
    ("FOMO-3", "noisy"): _NOISY,
    ("FOMO-3-measured", "no_convexity"): WELL_LONG,
    ("FOMO-3-measured", "half"): ALONE,
    ("FOMO-3-finite", "no_nu"): FINITE,
    ("FOMO-3-finite", "one_nu"): FINITE,
    ("FOMO-4i", "own_trained"): EFFICIENT,
    ("FOMO-4i-far", "loose"): _EDGE,
    ("FOMO-4ii", "alone"): CLOSE,
    ("FOMO-4ii", "half"): CLOSE,
    ("FOMO-4ii-own", "alone"): CLOSE_HALF,
    ("FOMO-4ii-own", "half"): CLOSE_HALF,
    ("FOMO-4ii-own", "biased"): _STOPS,
    ("FOMO-4ii-path", "alone"): CLOSE_HALF,
    ("FOMO-4ii-path", "biased"): _STOPS,
    ("FOMO-4iii", "now"): _ACROSS,
    ("FOMO-4iii", "no_rho"): _EDGE,
    ("FOMO-4iii", "biased"): _FOLLOWS,
    ("FOMO-4iii-rate", "now"): _ACROSS,
    ("FOMO-4iii-rate", "square"): _EDGE,
    ("FOMO-4iii-rate", "biased"): _SWAPPED,
    ("FOMO-4iv", "now"): _ACROSS,
    ("FOMO-4iv", "unbiased"): BIASED,
    ("FOMO-4iv", "near"): _SWAPPED,
}
