"""The registered families of problems, by the name that a problem file uses."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from problems.errors import InputError
from problems.validation import call_with, suggest

if TYPE_CHECKING:
    from problems.base import Problem


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
_BASE_QUADRATIC = {"family": "quadratic", "n": 4, "d_u": 0, "d_v": 3}
_BASE_WAVES = {"family": "trigonometric", "n": 5, "d_u": 0, "d_v": 3, "L_u": 0.0, "chi": 0.0, "delta": 0.0}

FAMILIES: dict[str, Family] = {
    f.name: f
    for f in (
        Family(
            "trigonometric",
            "Trigonometric coupling with L_u, L_v, chi, delta and the spread of personal optima dialled in exactly.",
            "all exact",
            "problems.dials:trigonometric",
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
            "problems.trigonometric:build_arrays",
            (_ARRAYS,),
        ),
        Family(
            "residuals",
            "Robust residuals: random Geman-McClure regression in u and v, nonconvex, bounded gradients.",
            "upper bounds",
            "problems.residuals:build_random",
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
            "problems.residuals:build_arrays",
            ({"A": [[[1.0], [0.5]]], "B": [[[0.2], [-0.3]]], "c": [[1.0, -2.0]]},),
        ),
        Family(
            "quadratic",
            "Random coupled quadratics with given L_u and L_v, also indefinite in u alone.",
            "exact; delta infinite where clients couple differently",
            "problems.quadratic:build_random",
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
            "problems.quadratic:build_arrays",
            (_QUADRATIC,),
        ),
        Family(
            "full_personalization",
            "f_i(v) + (lam/2)|v - u|^2 over any family built with d_u = 0 (table problem.base), as in pFedMe.",
            "exact over quadratic and trigonometric bases; delta infinite",
            "problems.personalization:build",
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
            "problems.sharp:sharp",
            (
                {"kind": "descent"},
                {"kind": "personal", "n": 4},
                {"kind": "noise"},
                {"kind": "sampling", "n": 3, "delta": 2.0},
                {"kind": "coupled", "chi": 0.5},
            ),
        ),
    )
}


LARGEST = 50_000_000
"""Numbers in a problem's arrays beyond which it is refused before anything is allocated."""


def _check_size(spec: Mapping[str, Any], where: str) -> None:
    n, d_u, d_v, rows = (x if isinstance(x := spec.get(k), int) else 0 for k in ("n", "d_u", "d_v", "rows"))
    width = max(d_u + d_v, 1)
    per_client = width**2 if spec["family"] == "quadratic" else width * max(rows, 1)
    if n * per_client > LARGEST:
        raise InputError(
            f"{where}: must hold at most {LARGEST} numbers; n={n}, d_u={d_u}, d_v={d_v} ask for about {n * per_client}"
        )


def build_problem(spec: Mapping[str, Any], where: str = "problem") -> Problem:
    """The problem that a ``[problem]`` table describes: ``family`` and the keys of its builder.

    Raises InputError with the key's path for an unknown family or key, a missing key, a wrong type or value.
    """
    if "family" not in spec:
        raise InputError(f"{where}.family: required key is missing; families are {', '.join(FAMILIES)}")
    name = spec["family"]
    if not isinstance(name, str) or name not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise InputError(f"{where}.family: unknown family {name!r}; {suggest(str(name), FAMILIES)}families are {known}")
    _check_size(spec, where)
    problem = call_with(FAMILIES[name].builder(), {k: v for k, v in spec.items() if k != "family"}, where)
    problem.spec = copy.deepcopy(dict(spec))
    return problem
