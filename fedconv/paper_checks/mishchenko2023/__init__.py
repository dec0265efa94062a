"""Mishchenko, Islamov, Gorbunov, Horváth 2023, *Partially Personalized Federated Learning: Breaking the Curse of Data
Heterogeneity* (arXiv 2305.18285): FFGG with local steps, an asynchronous server and Byzantine clients.

The paper's claims are checked with constants derived for this project (theorems FFGG-1 to FFGG-7B). A check is a
problem file: the tables that ``fedconv verify`` reads.
"""

from __future__ import annotations

import itertools
from typing import Any

from fedconv.analysis.claims.claim import Claim
from fedconv.paper_checks.mishchenko2023 import attacks as mishchenko2023_attacks
from fedconv.paper_checks.mishchenko2023 import reductions as mishchenko2023_reductions
from fedconv.paper_checks.mishchenko2023 import theorems as mishchenko2023_claims
from fedconv.problems.errors import InputError

SIZES = ("quick", "full")

Spec = dict[str, Any]

CLAIMS: tuple[Claim, ...] = (
    *mishchenko2023_claims.CLAIMS,
    *mishchenko2023_reductions.CLAIMS,
    *mishchenko2023_attacks.CLAIMS,
)
"""What the paper and the theory page on it claim, each with a check."""


def suite(size: str) -> list[Spec]:
    """The problem files of a suite: ``quick`` (every theorem at least once) or ``full`` (quick and a grid)."""
    if size not in SIZES:
        raise InputError(f"a suite is one of {', '.join(SIZES)}; got {size!r}")
    return _quick() if size == "quick" else _quick() + _grid()


def _over(**dials: Any) -> dict[str, Any]:
    base = {"family": "overpersonalized", "n": 10, "d_u": 4, "d_v": 2, "rows": 5, "condition": 3.0, "spread": 2.0}
    return base | {"distance": 2.0, "seed": 3} | dials


def _spec(name: str, problem: dict[str, Any], algorithm: dict[str, Any], T: int, **tables: Any) -> Spec:
    return {"name": name, "problem": problem, "algorithm": {"name": "ffgg"} | algorithm, "run": {"T": T}} | tables


def _quick() -> list[Spec]:
    everyone = {"m": 10, "eta": 1.0}
    orthogonal = {
        "family": "least_squares_arrays",
        "A": [[[1.0 if i == j else 0.0 for j in range(4)]] for i in range(4)],
        "B": [[[]]] * 4,
        "c": [[1.0], [-1.0], [0.5], [2.0]],
    }
    worlds = {
        "family": "least_squares_arrays",
        "A": [[[1.0]]] * 7,
        "B": [[[]]] * 7,
        "c": [[0.0], [0.0], [0.0], [1.0], [1.0], [0.0], [0.0]],
    }
    huber = {"family": "huber", "n": 5, "d_u": 3, "rows": 4}
    buckets = {"f": 1, "attack": "label_flip", "aggregator": "trimmed_mean", "pre": "bucketing", "bucket": 2}
    robust = {"f": 2, "attack": "alie", "aggregator": "trimmed_mean"}
    return [
        _spec("FFGG, overpersonalized", _over(), everyone, 100),
        _spec("FFGG, gap 0.1", _over(G=0.1), everyone, 100),
        _spec("FFGG, Huber", huber, {"m": 5, "eta": 1.0}, 60),
        _spec("FFGG, Geman-McClure (nonconvex)",
              {"family": "geman_mcclure", "n": 5, "d_u": 3, "d_v": 2, "rows": 4}, {"m": 5, "eta": 1.0}, 60),
        _spec("FFGG, shared representation (nonconvex)",
              {"family": "representation", "n": 4, "features": 2, "inputs": 2, "rows": 4}, {"m": 4, "eta": 1.0}, 60),
        _spec("FFGG, 3 of 10 clients, overpersonalized", _over(), {"m": 3, "eta": 0.5}, 60),
        _spec("FFGG, 3 of 10 clients, gap 0.1", _over(G=0.1), {"m": 3, "eta": 0.2}, 20),
        _spec("FFGG, orthogonal clients, one a round", orthogonal, {"m": 1, "eta": 1.0}, 10),
        _spec("FFGG, 3 warm steps of fine-tuning", _over(condition_v=2.0), {"m": 10, "eta": 0.3}, 100,
              fine_tuning={"mode": "steps", "steps": 3}),
        _spec("FFGG, fine-tuning to a tolerance", _over(condition_v=2.0), {"m": 10, "eta": 1.0}, 60,
              fine_tuning={"mode": "tolerance", "tolerance": 1e-3}),
        _spec("FFGG, 5 local steps, overpersonalized", _over(), {"m": 10, "tau": 5, "eta": 1.0}, 60),
        _spec("FFGG, 5 local steps, gap 0.1", _over(G=0.1), {"m": 10, "tau": 5, "eta": 0.2}, 60),
        _spec("FFGG, asynchronous, slowest client 8 times as slow", _over(), {"m": 1, "eta": 0.05}, 400,
              **{"async": {"law": "uniform", "tau_max": 9, "assignment": "per_client", "slow": 8.0}}),
        _spec("FFGG, asynchronous, heavy-tailed delays", _over(), {"m": 1, "eta": 0.1}, 300,
              **{"async": {"law": "heavy_tailed", "tail": 1.5, "tau_max": 4}}),
        _spec("FFGG, 2 of 10 clients attack, overpersonalized", _over(rows=12), everyone, 60, byzantine=robust),
        _spec("FFGG, 2 of 10 clients attack, gap 0.1", _over(rows=12, G=0.1), everyone, 60, byzantine=robust),
        _spec("FFGG, labels flipped, bucketing", _over(rows=12), everyone, 40, byzantine=buckets),
        _spec("FFGG, labels flipped, bucketing, gap 0.1", _over(rows=12, G=0.1), everyone, 40, byzantine=buckets),
        _spec("FFGG, last iterate at 1/L", _over(L=1.0), {"m": 10, "gamma": 1.0}, 60),
        _spec("FFGG, two worlds that no server tells apart", worlds, {"m": 7, "gamma": 0.5}, 20,
              start={"kind": "point", "u": [0.0], "v": [[]] * 7},
              byzantine={"f": 2, "attack": "mimic", "client": 0, "aggregator": "trimmed_mean"}),
    ]  # fmt: skip


def _grid() -> list[Spec]:
    out = []
    for seed, G, m in itertools.product((1, 2), (0.0, 0.01, 1.0), (1, 5, 10)):
        out.append(_spec(f"FFGG grid, seed {seed}, gap {G}, m={m}", _over(seed=seed, G=G), {"m": m, "eta": 0.2}, 60))
    for seed, G, tau in itertools.product((1, 2), (0.0, 0.1), (2, 10)):
        out.append(
            _spec(f"FFGG grid, seed {seed}, gap {G}, {tau} local steps", _over(seed=seed, G=G),
                  {"m": 10, "tau": tau, "eta": 1.0 / tau}, 60)
        )  # fmt: skip
    for law, tau_max in itertools.product(("constant", "uniform", "adversarial"), (2, 12)):
        out.append(
            _spec(f"FFGG grid, {law} delays up to {tau_max}", _over(), {"m": 1, "eta": 1.0 / (2 * tau_max + 1)}, 200,
                  **{"async": {"law": law, "tau_max": tau_max}})
        )  # fmt: skip
    attacks = ("sign_flip", "own_sign_flip", "label_flip", "alie", "ipm", "mimic", "zero", "omniscient")
    rules = ("median", "trimmed_mean", "geometric_median", "krum", "multi_krum", "centred_clipping")
    for attack, rule in itertools.product(attacks, rules):
        out.append(
            _spec(f"FFGG grid, {attack} against {rule.replace('_', ' ')}", _over(rows=12), {"m": 10, "eta": 1.0}, 40,
                  byzantine={"f": 2, "attack": attack, "aggregator": rule})
        )  # fmt: skip
    return out
