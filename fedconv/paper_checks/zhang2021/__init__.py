"""Zhang, Sapra, Fidler, Yeung, Álvarez 2021, *Personalized Federated Learning with First Order Model Optimization*
(arXiv 2012.08565): FedFomo's weights, their first-order meaning, and clusters that find themselves.

The statements (FOMO-…) are derived in this project. A check is a problem file that
``fedconv verify`` reads.
"""

from __future__ import annotations

import itertools
from typing import Any

from fedconv.analysis.claims.claim import Claim
from fedconv.paper_checks.zhang2021 import reductions as zhang2021_reductions
from fedconv.paper_checks.zhang2021 import theorems as zhang2021_claims
from fedconv.problems.errors import InputError

SIZES = ("quick", "full")

Spec = dict[str, Any]

CLAIMS: tuple[Claim, ...] = (
    *zhang2021_claims.CLAIMS,
    *zhang2021_reductions.CLAIMS,
)
"""What the paper and the theory page on it claim, each with a check."""


def suite(size: str) -> list[Spec]:
    """The problem files of a suite: ``quick`` (every theorem at least once) or ``full`` (quick and a grid)."""
    if size not in SIZES:
        raise InputError(f"a suite is one of {', '.join(SIZES)}; got {size!r}")
    return _quick() if size == "quick" else _quick() + _grid()


def _spec(name: str, problem: dict[str, Any], algorithm: dict[str, Any], T: int, **tables: Any) -> Spec:
    return {"name": name, "problem": problem, "algorithm": {"name": "fedfomo"} | algorithm, "run": {"T": T}} | tables


def _clusters(**dials: Any) -> dict[str, Any]:
    return {"family": "clusters", "n": 6, "d_u": 0, "d_v": 2} | dials


def _quick() -> list[Spec]:
    everyone = {"m": 6, "eta": 0.3}
    samples = {"family": "cluster_samples", "n": 6, "d_u": 0, "d_v": 2, "samples": 8, "validation": 6}
    well = {"family": "double_well", "b": [[1.0, 0.0], [-1.0, 0.5]], "h": [[0.1, 0.0], [0.2, -0.1]], "d_u": 1}
    targets = {
        "family": "quadratic_targets_arrays",
        "A": [[[1.0, 0.2], [0.2, 0.5]], [[0.5, 0.0], [0.0, 0.9]]],
        "b": [[1.0, 0.0], [0.0, -1.0]],
        "H": [[[1.0, 0.0], [0.0, 1.0]], [[0.3, 0.1], [0.1, 0.2]]],
        "c": [[0.5, 0.0], [0.0, -1.0]],
        "d_u": 1,
    }
    return [
        _spec("FedFomo, clusters", _clusters(), everyone, 60),
        _spec("FedFomo, clusters, biased targets", _clusters(bias=0.3), everyone, 60),
        _spec("FedFomo, clusters, 3 of 6 clients, 2 downloads", _clusters(), {"m": 3, "eta": 0.3}, 60,
              fedfomo={"downloads": 2}),
        _spec("FedFomo, quadratic targets", targets, {"m": 2, "eta": 0.3, "tau": 2}, 40),
        _spec("FedFomo, double wells", well, {"m": 2, "eta": 0.2}, 40),
        _spec("FedFomo, finite validation splits", samples, everyone, 40),
    ]  # fmt: skip


def _grid() -> list[Spec]:
    out = []
    for seed, groups, bias, m in itertools.product((1, 2), (2, 3), (0.0, 0.2), (3, 6)):
        out.append(
            _spec(f"FedFomo grid, seed {seed}, {groups} clusters, bias {bias}, m={m}",
                  _clusters(seed=seed, groups=groups, bias=bias), {"m": m, "eta": 0.3, "tau": 2}, 40)
        )  # fmt: skip
    return out
