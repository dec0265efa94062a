"""The registered families of problems, by the name that a problem file uses."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedconv.problems.errors import InputError
from fedconv.problems.validation import call_with, suggest

if TYPE_CHECKING:
    from fedconv.problems.base import Problem


@dataclass(frozen=True)
class Family:
    """A way to build problems. ``target`` is ``module:function``, imported when first used; the function's keyword
    parameters are the keys of the ``[problem]`` table. ``examples`` are tables that the contract tests build."""

    name: str
    summary: str
    grades: str
    target: str
    examples: tuple[dict[str, Any], ...]

    def builder(self) -> Callable[..., Problem]:
        module, _, function = self.target.partition(":")
        return getattr(importlib.import_module(module), function)


_ARRAYS = {
    "a": [1.0, 0.5],
    "b": [0.8, 0.6, 1.2],
    "kappa": [0.4, -0.3],
    "h": [[0.5, -0.2], [-0.3, 0.1], [-0.2, 0.1]],
    "s": [[0.3, -1.0, 0.0], [2.0, 0.4, 0.1], [-0.7, 0.2, -0.1]],
}
_QUADRATIC = {
    "A": [[[1.0, 0.2], [0.2, -0.1]], [[0.5, 0.0], [0.0, 0.9]]],
    "B": [[[1.0]], [[2.0]]],
    "C": [[[0.3], [0.1]], [[-0.2], [0.0]]],
    "a": [[1.0, 0.0], [0.0, 0.5]],
    "b": [[1.0], [-1.0]],
}
_LEAST_SQUARES = {  # the second B_m has rank 1, the third none
    "A": [
        [[1.0, 0.5], [0.2, -1.0], [0.3, 0.4]],
        [[0.7, 0.0], [0.1, 1.1], [-0.6, 0.2]],
        [[0.0, 1.0], [0.4, 0.0], [1.0, 1.0]],
    ],
    "B": [
        [[1.0, 0.0], [0.5, 0.3], [0.0, 0.8]],
        [[0.5, 1.0], [0.25, 0.5], [0.0, 0.0]],
        [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]],
    ],
    "c": [[1.0, -0.5, 0.2], [0.0, 0.4, -1.0], [0.6, 0.3, -0.2]],
}
_GEMAN_MCCLURE = {
    "A": [[[1.0, 0.5]], [[0.2, -1.0]]],
    "c": [[0.5], [-0.4]],
    "D": [[[0.3, 0.1], [0.0, 0.6]], [[-0.5, 0.2], [0.4, 0.0]]],
    "B": [[[0.8], [0.3]], [[0.5], [-0.7]]],
    "e": [[1.0, -0.2], [0.3, 0.6]],
    "nu": 0.5,
}
_TARGETS = {
    "A": [[[1.0, 0.2], [0.2, 0.5]], [[0.5, 0.0], [0.0, 0.9]]],
    "b": [[1.0, 0.0], [0.0, -1.0]],
    "H": [[[1.0, 0.0], [0.0, 1.0]], [[0.3, 0.1], [0.1, -0.2]]],
    "c": [[0.5, 0.0], [0.0, -1.0]],
    "d_u": 1,
}
_REPRESENTATION = {
    "X": [[[1.0], [-0.5], [0.3]], [[0.4], [0.8], [-1.0]]],
    "y": [[0.5, -0.2, 0.4], [-0.3, -0.6, 0.5]],
    "features": 2,
    "nu": 0.8,
}
_BASE_QUADRATIC = {"family": "quadratic", "n": 4, "d_u": 0, "d_v": 3}
_BASE_WAVES = {"family": "trigonometric", "n": 5, "d_u": 0, "d_v": 3, "L_u": 0.0, "chi": 0.0, "delta": 0.0}

FAMILIES: dict[str, Family] = {
    f.name: f
    for f in (
        Family(
            "trigonometric",
            "Trigonometric coupling with L_u, L_v, chi, delta and the spread of personal optima dialled in exactly.",
            "all exact",
            "fedconv.problems.split.trigonometric_dials:trigonometric",
            (
                {"n": 6, "d_u": 3, "d_v": 2, "L_u": 1.0, "L_v": 2.0, "chi": 0.4, "delta": 1.3, "spread": 0.8},
                {
                    "n": 5,
                    "d_u": 2,
                    "d_v": 3,
                    "L_u": 2.0,
                    "L_v": 1.0,
                    "chi": 0.6,
                    "delta": 1.5,
                    "spread": 0.3,
                    "seed": 3,
                },
                {"n": 1, "d_u": 2, "d_v": 2, "delta": 0.0, "spread": 0.0},
                {"n": 4, "d_u": 3, "d_v": 0, "L_v": 0.0, "chi": 0.0, "spread": 0.0},
                {"n": 4, "d_u": 0, "d_v": 2, "L_u": 0.0, "chi": 0.0, "delta": 0.0},
            ),
        ),
        Family(
            "trigonometric_arrays",
            "Trigonometric coupling with explicit arrays a, b, kappa, h, s.",
            "all exact",
            "fedconv.problems.split.trigonometric:build_arrays",
            (_ARRAYS,),
        ),
        Family(
            "residuals",
            "Robust residuals: random Geman-McClure regression in u and v, nonconvex, bounded gradients.",
            "upper bounds",
            "fedconv.problems.split.residuals:build_random",
            (
                {"n": 4, "d_u": 3, "d_v": 2},
                {"n": 2, "d_u": 2, "d_v": 0, "rows": 14, "scale": 0.7},
                {"n": 3, "d_u": 0, "d_v": 2, "seed": 2},
            ),
        ),
        Family(
            "residuals_arrays",
            "Robust residuals with explicit arrays A, B, c.",
            "upper bounds",
            "fedconv.problems.split.residuals:build_arrays",
            ({"A": [[[1.0], [0.5]]], "B": [[[0.2], [-0.3]]], "c": [[1.0, -2.0]]},),
        ),
        Family(
            "quadratic",
            "Random coupled quadratics with given L_u and L_v, also indefinite in u alone.",
            "exact; delta infinite where clients couple differently",
            "fedconv.problems.split.quadratic:build_random",
            (
                {"n": 4, "d_u": 3, "d_v": 2, "coupling": 0.6},
                {"n": 5, "d_u": 2, "d_v": 2, "L_u": 2.0, "L_v": 0.5, "indefinite": 0.5, "seed": 1},
                {"n": 4, "d_u": 1, "d_v": 1, "indefinite": 0.7, "coupling": 0.3},
                {"n": 3, "d_u": 2, "d_v": 0, "coupling": 0.0},
                {"n": 3, "d_u": 0, "d_v": 2},
                {"n": 1, "d_u": 2, "d_v": 1},
            ),
        ),
        Family(
            "quadratic_arrays",
            "Coupled quadratics with explicit arrays A, B, C, a, b.",
            "exact; delta infinite where clients couple differently",
            "fedconv.problems.split.quadratic:build_arrays",
            (_QUADRATIC,),
        ),
        Family(
            "full_personalization",
            "f_i(v) + (lam/2)|v - u|^2 over any family built with d_u = 0 (table problem.base), as in pFedMe.",
            "exact over quadratic and trigonometric bases; delta infinite",
            "fedconv.problems.split.full_personalization:build",
            (
                {"lam": 0.5, "base": _BASE_QUADRATIC},
                {"lam": 1.5, "base": _BASE_WAVES},
                {"lam": 1.0, "base": {"family": "residuals", "n": 3, "d_u": 0, "d_v": 2}},
            ),
        ),
        Family(
            "sharp",
            "Instances where the FedAlt and FedSim bounds come closest to equality.",
            "all exact",
            "fedconv.problems.split.sharp:sharp",
            (
                {"kind": "descent"},
                {"kind": "personal", "n": 4},
                {"kind": "noise"},
                {"kind": "sampling", "n": 3, "delta": 2.0},
                {"kind": "coupled", "chi": 0.5},
            ),
        ),
        Family(
            "overpersonalized",
            "Least squares with the personalization gap, L/mu, rank of B and personal spread dialled in exactly.",
            "all exact; delta infinite",
            "fedconv.problems.envelopes.gap_dials:overpersonalized",
            (
                {"n": 4, "d_u": 3, "d_v": 2, "rows": 5},
                {"n": 4, "d_u": 2, "d_v": 3, "rows": 4, "rank": 2, "G": 0.3, "condition": 4.0, "condition_v": 3.0},
                {"n": 3, "d_u": 3, "d_v": 0, "rows": 2, "G": 0.1, "spread": 0.0, "condition": 2.0, "seed": 1},
                {"n": 3, "d_u": 3, "d_v": 2, "rows": 2, "rank": 1, "L": 2.0, "distance": 0.5, "seed": 2},
            ),
        ),
        Family(
            "least_squares",
            "Random least squares |A w + B theta - c|^2 / 2 with B of any rank.",
            "exact; delta infinite where clients couple differently",
            "fedconv.problems.envelopes.least_squares:build_random",
            (
                {"n": 4, "d_u": 3, "d_v": 2, "rows": 5},
                {"n": 3, "d_u": 2, "d_v": 3, "rows": 4, "rank": 1, "seed": 1},
                {"n": 3, "d_u": 2, "d_v": 3, "rows": 2},
                {"n": 3, "d_u": 2, "d_v": 0},
            ),
        ),
        Family(
            "least_squares_arrays",
            "Least squares with explicit arrays A, B, c.",
            "exact; delta infinite where clients couple differently",
            "fedconv.problems.envelopes.least_squares:build_arrays",
            (_LEAST_SQUARES, {"A": [[[1.0]], [[1.0]]], "B": [[[]], [[]]], "c": [[1.0], [-1.0]]}),
        ),
        Family(
            "huber",
            "Random Huber regression: least squares with personal outliers at an l1 price.",
            "exact; L_v and delta infinite (grad_v is a subgradient)",
            "fedconv.problems.envelopes.huber:build_random",
            ({"n": 3, "d_u": 2, "rows": 3, "lam": 0.5}, {"n": 2, "d_u": 2, "rows": 2, "spread": 0.3, "seed": 1}),
        ),
        Family(
            "huber_arrays",
            "Huber regression with explicit arrays A, c, lam.",
            "exact; L_v and delta infinite (grad_v is a subgradient)",
            "fedconv.problems.envelopes.huber:build_arrays",
            ({"A": [[[1.0]], [[1.0]]], "c": [[1.0], [-1.0]], "lam": [[0.5], [0.8]]},),
        ),
        Family(
            "geman_mcclure",
            "Random Geman-McClure regression in w with a personal log-cosh part, nonconvex.",
            "upper bounds; F_star exact where spread is 0",
            "fedconv.problems.envelopes.geman_mcclure:build_random",
            (
                {"n": 3, "d_u": 2, "d_v": 2, "rows": 3},
                {"n": 3, "d_u": 2, "d_v": 1, "rows": 3, "personal_rows": 2, "spread": 0.0, "seed": 1},
            ),
        ),
        Family(
            "geman_mcclure_arrays",
            "Geman-McClure regression with explicit arrays A, c, D, B, e and nu.",
            "upper bounds; F_star exact where one w fits all data",
            "fedconv.problems.envelopes.geman_mcclure:build_arrays",
            (_GEMAN_MCCLURE,),
        ),
        Family(
            "representation",
            "Random shared representation tanh(X W^T) with personal ridge heads, nonconvex.",
            "upper bounds; L_u, L_uv, L_vu and delta infinite, but not where heads are fine-tuned",
            "fedconv.problems.envelopes.representation:build_random",
            (
                {"n": 3, "features": 2, "inputs": 2, "rows": 4},
                {"n": 3, "features": 2, "inputs": 1, "rows": 3, "overpersonalized": True, "seed": 1},
            ),
        ),
        Family(
            "representation_arrays",
            "Shared representation with explicit arrays X, y.",
            "upper bounds; L_u, L_uv, L_vu and delta infinite, but not where heads are fine-tuned",
            "fedconv.problems.envelopes.representation:build_arrays",
            (_REPRESENTATION,),
        ),
        Family(
            "envelope_quadratic",
            "Coupled quadratics with positive definite B and explicit arrays A, B, C, a, b.",
            "exact; delta infinite where clients couple differently",
            "fedconv.problems.envelopes.quadratic:build_arrays",
            (_QUADRATIC,),
        ),
        Family(
            "saddle",
            "One client that couples w and theta so strongly that its envelope is concave; the others keep F convex.",
            "exact; delta infinite",
            "fedconv.problems.envelopes.quadratic:saddle",
            ({"curvature": 1.0, "cross": 0.05, "mu_v": 0.01}, {"curvature": 1.0, "cross": 1.0, "mu_v": 0.4}),
        ),
        Family(
            "clusters",
            "Quadratic clients in clusters, trained on one centre and judged by another; distances dialled in exactly.",
            "all exact",
            "fedconv.problems.targets.clusters:build",
            (
                {"n": 4, "d_u": 0, "d_v": 2, "bias": 0.5},
                {"n": 5, "groups": 3, "d_u": 2, "d_v": 1, "within": 0.3, "shift": 1, "curvature": 0.5, "seed": 1},
                {"n": 3, "d_u": 2, "d_v": 0},
            ),
        ),
        Family(
            "quadratic_targets_arrays",
            "Quadratic training losses (A, b) judged by quadratic target losses (H, c) with explicit arrays.",
            "exact; delta infinite where clients couple differently",
            "fedconv.problems.targets.base:build_arrays",
            (_TARGETS,),
        ),
        Family(
            "cluster_samples",
            "Clients in clusters with finite training and validation splits, also for differential privacy.",
            "all exact",
            "fedconv.problems.targets.clusters:build_samples",
            ({"n": 4, "d_u": 0, "d_v": 2, "samples": 5, "validation": 3}, {"n": 3, "d_u": 1, "d_v": 1, "seed": 2}),
        ),
        Family(
            "cluster_samples_arrays",
            "The same with explicit samples X, Y and the population's c and variance.",
            "all exact",
            "fedconv.problems.targets.samples:build_arrays",
            (
                {
                    "X": [[[0.0, 1.0], [1.0, 0.0]], [[2.0, 0.5], [1.0, -1.0]]],
                    "Y": [[[0.0, 0.0]], [[1.0, 0.3]]],
                    "c": [[0.1, 0.0], [1.0, 0.0]],
                    "variance": [1.0, 1.0],
                },
            ),
        ),
        Family(
            "double_well",
            "Quadratic training losses judged by tilted double wells, where mixing good models can do harm.",
            "all exact",
            "fedconv.problems.targets.double_well:build",
            ({"b": [[1.0, 0.0], [-1.0, 0.5]], "h": [[0.1, 0.0], [0.2, -0.1]], "d_u": 1},),
        ),
        Family(
            "mlp",
            "A neural network with one hidden layer on synthetic clients, its output layer personal or not.",
            "L estimated, one for all blocks; delta unknown; F_star >= 0",
            "fedconv.problems.modules.mlp_family:build_mlp",
            (
                {"n": 3, "inputs": 2, "hidden": 2, "classes": 2, "rows": 4, "personal": "head"},
                {"n": 2, "inputs": 1, "hidden": 2, "classes": 2, "rows": 3, "seed": 1},
            ),
        ),
    )
}


LARGEST = 50_000_000
"""Numbers in a problem's arrays beyond which it is refused before anything is allocated."""


_SIZES = ("n", "d_u", "d_v", "rows", "personal_rows", "features", "inputs", "hidden", "classes")


def _check_size(spec: Mapping[str, Any], where: str) -> None:
    sizes = {k: x if isinstance(x := spec.get(k), int) else 0 for k in _SIZES}
    n, d_u, d_v, rows, personal_rows, features, inputs, hidden, classes = sizes.values()
    width = max(d_u + d_v, features, inputs, hidden + classes, 1)
    per_client = width**2 if spec["family"] == "quadratic" else width * max(rows + personal_rows, features, 1)
    if n * per_client > LARGEST:
        asked = ", ".join(f"{k}={x}" for k, x in sizes.items() if k in spec)
        raise InputError(f"{where}: must hold at most {LARGEST} numbers; {asked} ask for about {n * per_client}")


def _families() -> str:
    """The families' names, those with explicit arrays named together."""
    random = [name for name in FAMILIES if not name.endswith("_arrays")]
    return ", ".join(random) + ", and with explicit arrays NAME_arrays"


def build_problem(spec: Mapping[str, Any], where: str = "problem") -> Problem:
    """The problem that a ``[problem]`` table describes: ``family`` and the keys of its builder.

    Raises InputError with the key's path for an unknown family or key, a missing key, a wrong type or value.
    """
    if "family" not in spec:
        raise InputError(f"{where}.family: required key is missing; families are {_families()}")
    name = spec["family"]
    if not isinstance(name, str) or name not in FAMILIES:
        hint = suggest(str(name), FAMILIES)
        raise InputError(f"{where}.family: unknown family {name!r}; {hint}families are {_families()}")
    _check_size(spec, where)
    problem = call_with(FAMILIES[name].builder(), {k: v for k, v in spec.items() if k != "family"}, where)
    problem.spec = copy.deepcopy(dict(spec))
    return problem
