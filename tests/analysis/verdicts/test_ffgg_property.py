"""FFGG's theorems on random problems: none is violated, whatever the problem, the step and the kind of run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedconv.analysis.verdicts.statement_verify import verify_statements
from fedconv.methods.ffgg.experiment import FFGGExperiment
from fedconv.methods.ffgg.method import FFGG, Asynchrony, Byzantine, FineTuning
from fedconv.methods.split.method import State
from fedconv.problems.envelopes.base import EnvelopeProblem
from fedconv.problems.envelopes.huber import Huber
from fedconv.problems.envelopes.least_squares import LeastSquares
from fedconv.problems.registry import build_problem

SHARES = st.sampled_from([0.05, 0.3, 0.7, 1.0, 1.3, 1.9])
"""γ in units of 1/L or 1/L_max; beyond the premises a statement must say so."""


@st.composite
def problems(draw: st.DrawFn, least: int = 1) -> EnvelopeProblem:
    """Least squares of any rank, with or without a gap, of widely differing scales; now and then Huber."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n, d_u, d_v = draw(st.integers(least, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    rows = draw(st.integers(1, 4))
    scales = 10 ** rng.uniform(-1, 1, (n, 1, 1)) if draw(st.booleans()) else np.ones((n, 1, 1))
    A = scales * rng.standard_normal((n, rows, d_u))
    consistent = draw(st.booleans())
    if draw(st.integers(0, 4)) == 0:
        w = rng.standard_normal(d_u)
        c = (A @ w) if consistent else rng.standard_normal((n, rows))
        return Huber(A=A, c=c, lam=np.full((n, rows), draw(st.sampled_from([0.1, 1.0]))))
    B = rng.standard_normal((n, rows, d_v))
    if draw(st.booleans()):
        B[:, :, -1] = B[:, :, 0]
    c = A @ rng.standard_normal(d_u) + (B @ rng.standard_normal((n, d_v, 1)))[..., 0]
    if not consistent:
        c = c + draw(st.sampled_from([1e-3, 1.0])) * rng.standard_normal((n, rows))
    return LeastSquares(A=A, B=B, c=c)


def start_of(problem: EnvelopeProblem, seed: int) -> State:
    rng = np.random.default_rng(seed)
    return State(
        torch.from_numpy(rng.standard_normal(problem.d_u)),
        torch.from_numpy(rng.standard_normal((problem.n, problem.d_v))),
    )


def check(problem: EnvelopeProblem, method: FFGG, T: int, seed: int, replicates: int = 64) -> set[str]:
    """The statements that hold; none may be violated."""
    experiment = FFGGExperiment(problem, method, start_of(problem, seed), T, seed=seed)
    found = verify_statements(experiment, max_replicates=replicates)
    for result in found:
        assert result.verdict.status != "violated", (result.theorem, result.verdict.reason, dict(result.inputs.values))
    return {x.theorem for x in found if x.verdict.status == "holds"}


def size_of(problem: EnvelopeProblem, share: float, worst: bool = False) -> float:
    constants = problem.envelope_constants
    L = constants.L_max.value if worst else constants.L.value
    return share / L if L > 0 else share


def limited(examples: int) -> Any:
    return settings(max_examples=examples, deadline=None)


SEED = st.integers(0, 1000)
HORIZON = st.sampled_from([1, 2, 6, 40])


@limited(30)
@given(problem=problems(), share=SHARES, T=HORIZON, seed=SEED)
def test_exact_fine_tuning(problem, share, T, seed):
    held = check(problem, FFGG(m=problem.n, gamma=size_of(problem, share)), T, seed)
    assert {"FFGG-1a", "FFGG-1c"} <= held
    assert "FFGG-3a" in held


@limited(30)
@given(problem=problems(least=2), share=SHARES, T=HORIZON, seed=SEED, cohort=st.floats(0, 1))
def test_partial_participation(problem, share, T, seed, cohort):
    """By exact moments on least squares, by enumeration or sampling on Huber."""
    m = 1 + round(cohort * (problem.n - 2))
    check(problem, FFGG(m=m, gamma=size_of(problem, share, worst=seed % 2 == 0)), T, seed)


@limited(30)
@given(
    problem=problems().filter(lambda p: isinstance(p, LeastSquares)),
    share=st.sampled_from([0.02, 0.1, 0.3, 1.0]),
    T=HORIZON,
    seed=SEED,
    how=st.one_of(
        st.builds(FineTuning, mode=st.just("steps"), steps=st.integers(0, 6), warm=st.booleans()),
        st.builds(FineTuning, mode=st.just("tolerance"), tolerance=st.sampled_from([1e-6, 0.1])),
    ),
)
def test_inexact_fine_tuning(problem, share, T, seed, how):
    method = FFGG(m=problem.n, gamma=size_of(problem, share), fine_tuning=how)
    held = check(problem, method, T, seed)
    assert {"FFGG-4-bias", "FFGG-4a"} <= held


@limited(30)
@given(problem=problems(), share=SHARES, T=HORIZON, seed=SEED, tau=st.integers(2, 9), shorter=st.booleans())
def test_local_steps(problem, share, T, seed, tau, shorter):
    gamma = size_of(problem, share / tau if shorter else share, worst=True)
    check(problem, FFGG(m=problem.n, gamma=gamma, tau=tau), T, seed)


@limited(25)
@given(
    problem=problems(),
    share=SHARES,
    T=HORIZON,
    seed=SEED,
    law=st.sampled_from(["constant", "uniform", "adversarial"]),
    assignment=st.sampled_from(["random", "cyclic", "per_client"]),
    slack=st.integers(0, 4),
)
def test_asynchronous_server(problem, share, T, seed, law, assignment, slack):
    tau_max = slack + (problem.n - 1 if assignment == "per_client" else 0)
    method = FFGG(
        m=1,
        gamma=size_of(problem, share, worst=True) / (2 * tau_max + 1),
        asynchrony=Asynchrony(law, tau_max=tau_max, assignment=assignment),
    )
    check(problem, method, T, seed)


AGGREGATORS = ["median", "trimmed_mean", "geometric_median", "krum", "multi_krum", "centred_clipping", "mean"]
ATTACKS = ["sign_flip", "own_sign_flip", "alie", "ipm", "mimic", "zero", "omniscient", "label_flip"]


@limited(25)
@given(
    problem=problems(least=3),
    share=SHARES,
    T=st.sampled_from([1, 5, 25]),
    seed=SEED,
    aggregator=st.sampled_from(AGGREGATORS),
    attack=st.sampled_from(ATTACKS),
    pre=st.sampled_from(["none", "none", "nnm"]),
    f=st.integers(0, 2),
)
def test_byzantine_clients(problem, share, T, seed, aggregator, attack, pre, f):
    threat = Byzantine(min(f, (problem.n - 1) // 2), attack=attack, aggregator=aggregator, pre=pre)
    held = check(problem, FFGG(m=problem.n, gamma=size_of(problem, share), byzantine=threat), T, seed)
    assert "FFGG-7-E2" in held


def test_bucketing_in_expectation():
    rng = np.random.default_rng(3)
    A = rng.standard_normal((10, 2, 2))
    problem = LeastSquares(A=A, B=np.zeros((10, 2, 1)), c=A @ rng.standard_normal(2))
    threat = Byzantine(2, attack="sign_flip", aggregator="trimmed_mean", pre="bucketing", bucket=2, strength=10.0)
    method = FFGG(m=10, gamma=size_of(problem, 0.5), byzantine=threat)
    assert "FFGG-7A-random" in check(problem, method, 10, 0, replicates=512)


INEXACT = (
    FineTuning("steps", steps=2),
    FineTuning("steps", steps=1, warm=False),
    FineTuning("tolerance", tolerance=0.01),
)


@pytest.mark.parametrize("kind", ["geman_mcclure", "representation"])
def test_nonconvex_problems(kind):
    sizes = {"d_u": 2, "d_v": 2} if kind == "geman_mcclure" else {}
    for seed in range(3):
        problem = build_problem({"family": kind, "n": 3, "rows": 3, "seed": seed} | sizes)
        assert isinstance(problem, EnvelopeProblem)
        gamma = size_of(problem, 1.0)
        check(problem, FFGG(m=3, gamma=gamma), 30, seed)
        check(problem, FFGG(m=1, gamma=gamma), 3, seed)
        for how in INEXACT:
            check(problem, FFGG(m=3, gamma=0.2 * gamma, fine_tuning=how), 30, seed)
