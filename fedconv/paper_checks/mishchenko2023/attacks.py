"""Whether the attacks of the suite attack: the answer to them, compared with the one to senders of the honest mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fedconv.analysis.claims.claim import Budget, Evidence
from fedconv.core.run import run
from fedconv.core.streams import Streams
from fedconv.methods.ffgg.byzantine_rounds import orders
from fedconv.methods.ffgg.experiment import FFGGExperiment
from fedconv.methods.ffgg.robust.preaggregation import defence_of
from fedconv.paper_checks.shared.building import compared
from fedconv.paper_checks.shared.comparisons import at_most
from fedconv.problem_file.settings import settings_from

LEAST_EFFECT = 0.01
"""An attack whose effect is smaller attacks nothing."""


def effect(spec: dict[str, Any]) -> float:
    """Σ_k ‖Agg_k − Agg°_k‖² / Σ_k V_k along one run of the problem file.

    Agg_k: the server's answer in round k; Agg°_k: to the same honest messages where the attackers send their mean;
    V_k: the mean squared distance of the honest messages to their mean.
    """
    settings = settings_from(spec, spec["name"])
    algorithm = settings.algorithms[0]
    trial = settings.runnable(algorithm, algorithm.eta if isinstance(algorithm.eta, float) else None)
    assert isinstance(trial, FFGGExperiment)
    method, honest = trial.algorithm, trial.honest
    assert method.byzantine is not None
    defence, f = defence_of(method.byzantine), method.byzantine.f
    w = torch.from_numpy(run(trial, 1, level="proof")["w"].values[0])
    moved, spread = 0.0, 0.0
    for k in range(trial.T):
        slopes = honest.envelope_grad(w[k].expand(honest.n, -1), honest.everyone())
        mean = slopes.mean(0)
        order = None
        if defence.randomised:
            order = torch.from_numpy(orders(Streams(trial.seed), np.array([0]), k, trial.problem.n)[0])
        harmless = defence(torch.cat([slopes, mean.expand(f, -1)]), f, order)
        answer = (w[k] - w[k + 1]) / method.gamma
        moved += float((answer - harmless).square().sum())
        spread += float((slopes - mean).square().sum(-1).mean())
    return max(moved / spread, np.finfo(float).tiny)


def attacks_attack(specs: Sequence[dict[str, Any]]) -> tuple[Evidence, ...]:
    """For every problem file with attackers its effect, which must be at least ``LEAST_EFFECT``."""
    return tuple(
        at_most(
            f"{spec['name']}: {LEAST_EFFECT:g} over the effect of the attack", LEAST_EFFECT / effect(spec), 1.0, spec
        )
        for spec in specs
        if "byzantine" in spec
    )


def _suite(budget: Budget) -> tuple[Evidence, ...]:
    from fedconv.paper_checks import mishchenko2023

    return attacks_attack(mishchenko2023.suite(budget.size))


CLAIMS = (
    compared(
        "mishchenko2023/attacks-attack",
        "Every attack of the suite attacks",
        "In every run with attackers the server's answer differs from the one to attackers who send the honest mean by"
        " at least a hundredth of the honest spread.",
        "theory page, Attacks, derived here",
        _suite,
        kind="implementation",
    ),
)
