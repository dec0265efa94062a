"""Huang, Liu, Shen, He, Lin, Tao 2022, *Achieving Personalized Federated Learning with Sparse Local Models* (arXiv
2201.11380): FedSpa with frozen and moving masks.

The paper claims a rate without explicit constants; this project derives the constants (theorems FSPA-…). A check is a
problem file: the tables that ``fedconv verify`` reads.
"""

from __future__ import annotations

import itertools
from typing import Any

from fedconv.analysis.claims.claim import Claim
from fedconv.paper_checks.huang2022 import reductions as huang2022_reductions
from fedconv.paper_checks.huang2022 import theorems as huang2022_claims
from fedconv.problems.errors import InputError

SIZES = ("quick", "full")

Spec = dict[str, Any]

CLAIMS: tuple[Claim, ...] = (
    *huang2022_claims.CLAIMS,
    *huang2022_reductions.CLAIMS,
)
"""What the paper and the theory page on it claim, each with a check."""


def suite(size: str) -> list[Spec]:
    """The problem files of a suite: ``quick`` (every theorem at least once) or ``full`` (quick and a grid)."""
    if size not in SIZES:
        raise InputError(f"a suite is one of {', '.join(SIZES)}; got {size!r}")
    return _quick() if size == "quick" else _quick() + _grid()


def _spec(name: str, problem: dict[str, Any], algorithm: dict[str, Any], T: int, **tables: Any) -> Spec:
    return {"name": name, "problem": problem, "algorithm": {"name": "fedspa"} | algorithm, "run": {"T": T}} | tables


def _quick() -> list[Spec]:
    robust = {"family": "residuals", "n": 6, "d_u": 8, "d_v": 0}
    waves = {
        "family": "trigonometric",
        "n": 8,
        "d_u": 10,
        "d_v": 0,
        "L_v": 0.0,
        "chi": 0.0,
        "spread": 0.0,
        "delta": 0.8,
    }
    noise = {"law": "gaussian", "sigma_u": 0.3}
    frozen = {"density": 0.5, "mode": "frozen"}
    return [
        _spec("FedSpa, frozen masks", robust, {"m": 3, "tau": 3, "eta": 0.2}, 60, masks=frozen),
        _spec("FedSpa, frozen masks, noise", waves, {"m": 4, "tau": 3, "eta": 0.1}, 50, masks=frozen, noise=noise),
        _spec("FedSpa, frozen masks, everyone", waves, {"m": 8, "tau": 5, "eta": 0.2}, 100, masks=frozen),
        _spec("FedSpa, frozen masks at the rate's own step", robust, {"m": 3, "tau": 2, "eta": "max"}, 40,
              masks=frozen, noise=noise, verify={"theorems": ["FSPA-6"]}),
        _spec("FedSpa, moving masks", robust, {"m": 3, "tau": 3, "eta": 0.2}, 60, masks={"density": 0.5}),
        _spec("FedSpa, moving masks, layers, noise", waves, {"m": 4, "tau": 3, "eta": 0.1}, 40, noise=noise,
              masks={"density": 0.4, "layers": [[2, 3], 4], "alpha": 0.4, "T_end": 30}),
    ]  # fmt: skip


def _grid() -> list[Spec]:
    out = []
    for seed, density, mode in itertools.product((1, 2), (0.2, 0.5, 0.9), ("frozen", "dynamic")):
        for m, tau in itertools.product((2, 6), (1, 5)):
            problem = {"family": "residuals", "n": 6, "d_u": 10, "d_v": 0, "seed": seed}
            out.append(
                _spec(f"FedSpa grid, seed {seed}, density {density}, {mode}, m={m}, {tau} local steps", problem,
                      {"m": m, "tau": tau, "eta": 0.2}, 60, masks={"density": density, "mode": mode, "seed": seed})
            )  # fmt: skip
    return out
