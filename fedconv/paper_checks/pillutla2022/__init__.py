"""Pillutla, Malik, Mohamed, Rabbat, Sanjabi, Xiao 2022, *Federated Learning with Partial Model Personalization*
(arXiv 2204.03809): the convergence of FedAlt and FedSim, checked with explicit constants.

The paper states its rates ignoring absolute constants; this project derives the constants (theorems FA, FA*, FS, FS*).
A check is a problem file: the tables that ``fedconv verify`` reads. Each setting exercises another part of the bounds.
"""

from __future__ import annotations

import itertools
from typing import Any

from fedconv.analysis.claims.claim import Claim
from fedconv.paper_checks.pillutla2022 import open_questions as pillutla2022_open
from fedconv.paper_checks.pillutla2022 import rates as pillutla2022_rates
from fedconv.paper_checks.pillutla2022 import reductions as pillutla2022_reductions
from fedconv.paper_checks.pillutla2022 import regimes as pillutla2022_regimes
from fedconv.paper_checks.pillutla2022 import theorems as pillutla2022_claims
from fedconv.problems.errors import InputError

SIZES = ("quick", "full")

Spec = dict[str, Any]

CLAIMS: tuple[Claim, ...] = (
    *pillutla2022_claims.CLAIMS,
    *pillutla2022_reductions.CLAIMS,
    *pillutla2022_regimes.CLAIMS,
    *pillutla2022_rates.CLAIMS,
    *pillutla2022_open.CLAIMS,
)
"""What the paper and the theory page on it claim, each with a check."""


def suite(size: str) -> list[Spec]:
    """The problem files of a suite: ``quick`` (minutes on two cores) or ``full`` (quick and a grid around it)."""
    if size not in SIZES:
        raise InputError(f"a suite is one of {', '.join(SIZES)}; got {size!r}")
    return _quick() if size == "quick" else _quick() + _grid()


def _waves(**dials: Any) -> dict[str, Any]:
    base = {"family": "trigonometric", "n": 20, "d_u": 8, "d_v": 6, "L_u": 1.0, "L_v": 2.0, "chi": 0.4}
    return base | {"delta": 1.5, "spread": 1.0} | dials


def _spec(
    name: str,
    problem: dict[str, Any],
    algorithm: dict[str, Any],
    T: int,
    noise: dict[str, Any] | None = None,
    start: dict[str, Any] | None = None,
    **verify: Any,
) -> Spec:
    both = {"name": ["fedalt", "fedsim"]} | algorithm
    out: Spec = {"name": name, "problem": problem, "algorithm": both, "run": {"T": T}}
    if noise is not None:
        out["noise"] = noise
    if start is not None:
        out["start"] = start
    if verify:
        out["verify"] = verify
    return out


def _quick() -> list[Spec]:
    gaussian = {"law": "gaussian", "sigma_u": 0.7, "sigma_v": 0.7}
    return [
        _spec("waves, 5 of 20 clients", _waves(), {"m": 5, "tau": 5, "eta": 0.1}, 300, gaussian),
        _spec("waves at each theorem's best step", _waves(), {"m": 5, "tau": 5, "eta": "best"}, 300, gaussian),
        _spec(
            "waves, everyone takes part, coin-flip noise",
            _waves(n=6, chi=0.6, spread=0.5, L_v=1.0),
            {"m": 6, "tau": 3, "eta": 0.2},
            200,
            {"law": "rademacher", "sigma_u": 0.5, "sigma_v": 1.0},
        ),
        _spec(
            "waves, 1 of 10 clients, heavy tails, one block's mini-batch serves both",
            _waves(n=10),
            {"m": 1, "tau": 2, "eta": 0.1},
            300,
            {"law": "student_t", "dof": 3.0, "sigma_u": 0.5, "sigma_v": 0.5, "dependence": "full"},
        ),
        _spec(
            "waves at the largest admissible step, no local steps",
            _waves(n=8, d_u=3, d_v=3, chi=0.3, delta=0.8),
            {"m": 4, "tau": 1, "eta": "max"},
            200,
            {"law": "gaussian", "sigma_u": 0.2, "sigma_v": 0.2},
        ),
        _spec(
            "robust residuals, rare large noise",
            {"family": "residuals", "n": 12, "d_u": 5, "d_v": 3, "rows": 8, "spread": 2.0},
            {"m": 4, "tau": 4, "eta": 0.15},
            300,
            {"law": "spikes", "spike_probability": 0.05, "sigma_u": 0.3, "sigma_v": 0.3},
        ),
        _spec(
            "coupled quadratics, visited diversity",
            {"family": "quadratic", "n": 10, "d_u": 5, "d_v": 4, "coupling": 0.7},
            {"m": 3, "tau": 4, "eta": 0.1},
            300,
            {"law": "gaussian", "sigma_u": 0.5, "sigma_v": 0.5},
        ),
        _spec(
            "clients indefinite in u, deterministic",
            {"family": "quadratic", "n": 6, "d_u": 4, "d_v": 3, "coupling": 0.5, "indefinite": 0.6},
            {"m": 6, "tau": 5, "eta": 0.2},
            400,
        ),
        _spec(
            "full personalization over quadratics",
            {
                "family": "full_personalization",
                "lam": 0.5,
                "base": {"family": "quadratic", "n": 10, "d_u": 0, "d_v": 5, "spread": 1.0},
            },
            {"m": 4, "tau": 4, "eta": 0.1},
            300,
            {"law": "rademacher", "sigma_u": 0.1, "sigma_v": 0.5},
        ),
        _spec(
            "full personalization over waves",
            {
                "family": "full_personalization",
                "lam": 1.0,
                "base": _waves(n=10, d_u=0, d_v=5, L_u=0.0, chi=0.0, delta=0.0),
            },
            {"m": 4, "tau": 3, "eta": 0.1},
            300,
            {"law": "gaussian", "sigma_u": 0.1, "sigma_v": 0.5},
        ),
        _spec(
            "sharp: one gradient step, an equality",
            {"family": "sharp", "kind": "descent"},
            {"m": 1, "tau": 1, "eta": 1.0},
            1,
            start={"kind": "point", "u": [1.0], "v": [[]]},
        ),
        _spec(
            "sharp: noise alone",
            {"family": "sharp", "kind": "noise"},
            {"m": 1, "tau": 1, "eta": 1.0},
            400,
            {"law": "rademacher", "sigma_u": 1.0},
            {"kind": "optimum"},
        ),
        _spec(
            "sharp: sampling alone",
            {"family": "sharp", "kind": "sampling", "n": 4, "delta": 1.0},
            {"m": 2, "tau": 1, "eta": 0.9},
            400,
            start={"kind": "optimum"},
        ),
        _spec(
            "sharp: personal descent, 1 of 4 clients",
            {"family": "sharp", "kind": "personal", "n": 4},
            {"m": 1, "tau": 1, "eta": 1.0},
            60,
            start={"kind": "point", "u": [], "v": [[1.0], [1.0], [1.0], [1.0]]},
        ),
        _spec(
            "one block only: FedAvg and local training",
            _waves(n=8, d_u=4, d_v=4),
            {"name": ["fedavg", "local"], "m": 3, "tau": 4, "eta": 0.15},
            200,
            {"law": "gaussian", "sigma_u": 0.5, "sigma_v": 0.5},
        ),
    ]


def _grid() -> list[Spec]:
    """Every law, participation, number of local steps and coupling around the quick settings."""
    laws: list[dict[str, Any]] = [
        {"law": "gaussian"},
        {"law": "rademacher", "dependence": "full"},
        {"law": "student_t", "dof": 2.5},
        {"law": "spikes", "spike_probability": 0.02},
    ]
    out = []
    for law, (n, m), tau, chi in itertools.product(laws, [(12, 1), (12, 6), (12, 12)], (1, 8), (0.0, 0.6)):
        for eta in ("best", 0.1 if tau > 1 else 0.3):
            out.append(
                _spec(
                    f"waves, {law['law']}, m={m} of {n}, tau={tau}, chi={chi}, eta={eta}",
                    _waves(n=n, chi=chi, L_v=1.0, spread=0.7),
                    {"m": m, "tau": tau, "eta": eta},
                    500,
                    law | {"sigma_u": 0.6, "sigma_v": 0.9},
                )
            )
    for seed, coupling, m in itertools.product((1, 2), (0.3, 0.9), (2, 10)):
        out.append(
            _spec(
                f"quadratics, seed {seed}, coupling {coupling}, m={m} of 10",
                {
                    "family": "quadratic",
                    "n": 10,
                    "d_u": 4,
                    "d_v": 4,
                    "coupling": coupling,
                    "indefinite": 0.3,
                    "seed": seed,
                },
                {"m": m, "tau": 4, "eta": 0.15},
                500,
                {"law": "gaussian", "sigma_u": 0.4, "sigma_v": 0.4},
            )
        )
    return out
