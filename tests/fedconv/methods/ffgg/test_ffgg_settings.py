"""Settings of FFGG that cannot be run are answered in one sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedconv.core.run import run
from fedconv.methods.ffgg.experiment import FFGGExperiment
from fedconv.methods.ffgg.method import FFGG, Asynchrony, Byzantine, FineTuning
from fedconv.methods.split import State
from fedconv.problems.envelopes.least_squares import build_random
from fedconv.problems.errors import InputError
from fedconv.problems.split.residuals import Residuals

LAWFUL = {"law": "uniform", "tau_max": 3}
GUARD = {"attack": "zero", "aggregator": "trimmed_mean"}


def experiment(method: FFGG) -> FFGGExperiment:
    problem = build_random(n=4, d_u=2, d_v=2, rows=5)
    u, v = torch.ones(2, dtype=torch.float64), torch.zeros(4, 2, dtype=torch.float64)
    return FFGGExperiment(problem, method, State(u, v), 3)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: FFGG(0, 0.1), "algorithm.m must be an integer >= 1; got 0"),
        (lambda: FFGG(1, 0.0), "algorithm.gamma must be a finite number > 0; got 0.0"),
        (lambda: FFGG(1, float("nan")), "algorithm.gamma must be a finite number > 0; got nan"),
        (lambda: FFGG(1, 0.1, 0), "algorithm.tau must be an integer >= 1; got 0"),
        (lambda: FineTuning("some"), "fine_tuning.mode must be one of exact, steps, tolerance; got 'some'"),
        (lambda: FineTuning("steps"), "fine_tuning.steps must be given with mode 'steps'; got None"),
        (lambda: FineTuning("steps", steps=-1), "fine_tuning.steps must be an integer >= 0; got -1"),
        (lambda: FineTuning(steps=3), "fine_tuning.steps must be left out with mode 'exact'; got 3"),
        (
            lambda: FineTuning("tolerance", tolerance=0.0),
            "fine_tuning.tolerance must be a finite number > 0; got 0.0",
        ),
        (lambda: FineTuning(warm=False), "fine_tuning.warm must be left out with mode 'exact'; got False"),
        (
            lambda: FFGG(1, 0.1, 2, FineTuning("steps", steps=1)),
            "algorithm.tau must be 1 unless fine_tuning.mode is 'exact'; got 2 with mode 'steps'",
        ),
        (
            lambda: FFGG(1, 0.1, 2, asynchrony=Asynchrony(tau_max=2)),
            "algorithm.tau must be 1 with [async]; got 2",
        ),
        (
            lambda: FFGG(4, 0.1, 2, byzantine=Byzantine(1, **GUARD)),
            "algorithm.tau must be 1 with [byzantine]; got 2",
        ),
        (
            lambda: FFGG(4, 0.1, fine_tuning=FineTuning("steps", steps=1), byzantine=Byzantine(1, **GUARD)),
            "fine_tuning.mode must be 'exact' with [byzantine]; got 'steps'",
        ),
        (
            lambda: FFGG(1, 0.1, asynchrony=Asynchrony(tau_max=2), byzantine=Byzantine(1, **GUARD)),
            "[async] and [byzantine] must not be given together; got both",
        ),
        (
            lambda: FFGG(2, 0.1, asynchrony=Asynchrony(tau_max=2)),
            "algorithm.m must be 1 with [async], where every update applies one client's gradient; got 2",
        ),
        (lambda: Asynchrony(tau_max=-1), "async.tau_max must be an integer >= 0; got -1"),
        (
            lambda: Asynchrony(tau_max=2, workers=4),
            "async.tau_max must be at least async.workers - 1 = 3, as one of the jobs that start together is applied"
            " so late; got 2",
        ),
        (
            lambda: Asynchrony(tau_max=2, workers=2, assignment="per_client"),
            "async.workers must be left out with assignment 'per_client', where every client has one job; got 2",
        ),
        (lambda: Asynchrony(tau_max=2, slow=0.5), "async.slow must be a finite number >= 1; got 0.5"),
        (
            lambda: Asynchrony("adversarial", tau_max=2, slow=2.0),
            "async.slow must be left out with law 'adversarial'; got 2.0",
        ),
        (lambda: Asynchrony("heavy_tailed", tau_max=2), "async.tail must be a finite number > 0; got None"),
        (lambda: Asynchrony(tail=1.5, **LAWFUL), "async.tail must be left out with law 'uniform'; got 1.5"),
        (
            lambda: Byzantine(2, trim=1, **GUARD),
            "byzantine.trim must be at least byzantine.f = 2, or attackers stay in; got 1",
        ),
        (
            lambda: Byzantine(1, attack="zero", aggregator="mean", trim=1),
            "byzantine.trim must be left out except with aggregator 'trimmed_mean'; got 1",
        ),
        (lambda: Byzantine(1, pre="bucketing", **GUARD), "byzantine.bucket must be an integer >= 1; got None"),
    ],
)
def test_settings_that_make_no_sense(make: Any, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (FFGG(5, 0.1), "algorithm.m must be at most problem.n = 4; got 5"),
        (
            FFGG(1, 0.1, asynchrony=Asynchrony(tau_max=2, assignment="per_client")),
            "async.tau_max must be at least problem.n - 1 = 3 with assignment 'per_client', as one of the n first jobs"
            " is applied so late; got 2",
        ),
        (
            FFGG(2, 0.1, byzantine=Byzantine(1, **GUARD)),
            "algorithm.m must be problem.n = 4 with [byzantine], where everybody takes part; got 2",
        ),
        (
            FFGG(4, 0.1, byzantine=Byzantine(2, **GUARD)),
            "byzantine.f must be less than half of problem.n = 4, or there are as many attackers as honest clients;"
            " got 2",
        ),
        (
            FFGG(4, 0.1, byzantine=Byzantine(1, trim=2, **GUARD)),
            "byzantine.trim must be less than half of the 4 messages, or nothing is left; got 2",
        ),
        (
            FFGG(4, 0.1, byzantine=Byzantine(1, pre="bucketing", bucket=3, **GUARD)),
            "byzantine.bucket must divide the number of messages, 4, unless short_bucket is true; got 3",
        ),
        (
            FFGG(4, 0.1, byzantine=Byzantine(1, pre="bucketing", bucket=2, **GUARD)),
            "byzantine.bucket must leave more than 2f = 2 groups of the 4 messages; got 2, which leaves 2",
        ),
        (
            FFGG(4, 0.1, byzantine=Byzantine(1, attack="zero", aggregator="multi_krum", keep=4)),
            "byzantine.keep must be at most 3, the number of honest messages; got 4",
        ),
    ],
)
def test_settings_that_do_not_fit_the_problem(method: FFGG, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        experiment(method)
    assert str(caught.value) == sentence


def test_problems_without_an_envelope_and_other_engines_are_refused() -> None:
    rng = np.random.default_rng(0)
    start = experiment(FFGG(4, 0.1)).start
    plain = Residuals(A=rng.normal(size=(4, 3, 2)), B=rng.normal(size=(4, 3, 2)), c=rng.normal(size=(4, 3)))
    with pytest.raises(InputError, match="needs a problem whose clients can be fine-tuned exactly"):
        FFGGExperiment(plain, FFGG(4, 0.1), start, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="engine 'fused' cannot run this experiment: FFGG has no compiled kernel"):
        run(experiment(FFGG(4, 0.1)), 1, engine="fused")
    with pytest.raises(InputError, match="the start must have u of shape"):
        replace(experiment(FFGG(4, 0.1)), start=State(start.u[:1], start.v))
    with pytest.raises(InputError, match="the start must be finite; got NaN or inf"):
        replace(experiment(FFGG(4, 0.1)), start=State(start.u * float("nan"), start.v))
    with pytest.raises(InputError, match=r"run\.T must be an integer >= 1; got 0"):
        replace(experiment(FFGG(4, 0.1)), T=0)
