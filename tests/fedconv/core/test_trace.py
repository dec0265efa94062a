"""What a trace records, against values known without the engines: communication, both sides of L6 and L7, units."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedconv.analysis.theorems.split.facts import of_experiment, of_trace
from fedconv.core.run import Experiment, run
from fedconv.core.trace import VARIABLES
from fedconv.methods.split import FedAlt, FedAvg, FedSim, LocalOnly, State
from fedconv.problems.noise import Noise
from fedconv.problems.registry import build_problem

N, M = 5, 2


def waves(algorithm: FedAlt | FedSim, T: int = 3, noise: Noise | None = None) -> Experiment:
    problem = build_problem({"family": "trigonometric", "n": N, "d_u": 3, "d_v": 2, "L_v": 2.0, "chi": 0.6})
    rng = np.random.default_rng(0)
    start = State(torch.from_numpy(rng.standard_normal(3)), torch.from_numpy(rng.standard_normal((N, 2))))
    return Experiment(problem, algorithm, noise or Noise("gaussian", 0.3, 0.3), start, T)


@pytest.mark.parametrize(
    ("algorithm", "numbers"),
    [
        (FedAlt(M, 0.1, 0.1, tau_u=2, tau_v=3), M * 3),
        (FedSim(M, 0.1, 0.1, tau_u=2, tau_v=2), M * 3),
        (FedAvg(M, 0.1, 0.0, tau_u=2, tau_v=0), M * 3),
        (LocalOnly(M, 0.0, 0.1, tau_u=0, tau_v=3), 0),
    ],
    ids=lambda x: getattr(x, "name", None),
)
def test_the_cohort_gets_and_sends_u_and_nobody_v(algorithm, numbers: int) -> None:
    trace = run(waves(algorithm), 2)
    assert trace["numbers_down"].values.tolist() == trace["numbers_up"].values.tolist() == [numbers] * 3


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_l6_is_an_equality_for_equal_clients(engine: str) -> None:
    """F_i = ½u² + κuv + ½v² from one v: the absent all miss the same displacement."""
    problem = build_problem({"family": "sharp", "kind": "coupled", "n": N, "chi": 0.5})
    start = State(torch.tensor([1.0], dtype=torch.float64), torch.full((N, 1), -2.0, dtype=torch.float64))
    experiment = Experiment(problem, FedAlt(M, 0.1, 0.3, tau_u=1, tau_v=2), Noise("zero"), start, 1)
    trace = run(experiment, 3, level="proof", engine=engine)
    moved = -2.0 - (-2.0 - 0.3 * (-2.0 + 0.5)) * (1 - 0.3) + 0.3 * 0.5
    assert trace["displacement"].values == pytest.approx(moved**2, rel=1e-12)
    assert trace["l6_bound"].values == pytest.approx((1 - M / N) ** 2 * 0.25 * moved**2, rel=1e-12)
    assert trace["l6_gap_sq"].values == pytest.approx(trace["l6_bound"].values, rel=1e-10)


def test_l6_and_l7_in_expectation() -> None:
    """One round in 4096 replicates: L6's bound and L7's equality hold within 6 standard errors; with V⁺ in place of Ṽ
    the equality fails by far more."""
    algorithm = FedAlt(1, 0.4, 0.4, tau_u=2, tau_v=2)
    start = waves(algorithm).start
    experiment = replace(waves(algorithm, T=1), start=State(start.u, 2.0 * start.v))
    trace = run(experiment, 4096, level="proof", engine="fused")

    def distance(left: str, right: str) -> float:
        gap = (trace[left] - trace[right]).values[:, 0]
        return float(gap.mean() / (gap.std(ddof=1) / math.sqrt(gap.size)))

    assert distance("l6_gap_sq", "l6_bound") < 6
    assert abs(distance("l7_sampled", "l7_full")) < 6
    assert abs(distance("l7_real_sampled", "l7_real_full")) > 6


def test_the_theorems_inputs_are_the_problems_constants() -> None:
    algorithm = FedAlt(M, 0.1, 0.05, tau_u=2, tau_v=2)
    experiment = waves(algorithm)
    inputs = of_experiment(experiment)
    c = experiment.problem.constants
    expected = {
        "n": N, "m": M, "tau_u": 2, "tau_v": 2, "T": 3, "eta": 0.2, "L_u": 1.0, "L_v": 2.0, "chi": 0.6,
        "sigma_u": 0.3, "sigma_v": 0.3, "delta": c.delta.value, "rho": 0.0,
        "gap0": float(experiment.problem.objective(experiment.start.u, experiment.start.v)) - c.F_star.value,
    }  # fmt: skip
    assert inputs.values == pytest.approx(expected, rel=1e-12)
    assert of_trace(run(experiment, 2, engine="eager")).values == pytest.approx(expected, rel=1e-12)


def test_every_variable_has_a_meaning_and_a_unit() -> None:
    trace = run(waves(FedAlt(M, 0.1, 0.1, tau_u=2, tau_v=2)), 2, level="proof")
    assert set(map(str, trace.data_vars)) == set(VARIABLES)
    for name, values in trace.data_vars.items():
        assert values.attrs["long_name"], name
        assert values.attrs["units"], name
