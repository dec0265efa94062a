"""Property: over problems, dials, noise laws, n, m, τ, and η up to the largest admissible, no theorem is violated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fedconv.analysis.theorems import FA, FA_STAR, FS, FS_STAR
from fedconv.analysis.theorems.split.facts import of_experiment
from fedconv.analysis.tuning.one_run import max_step
from fedconv.analysis.verdicts.verify import verify
from fedconv.core.run import Experiment
from fedconv.methods.split import FedAlt, FedSim, State
from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.registry import build_problem

seeds = st.integers(0, 2**20)


def number(low: float, high: float) -> st.SearchStrategy[float]:
    """A float with six decimals (dials are no place for subnormal numbers)."""
    return st.floats(low, high).map(lambda x: round(x, 6))


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    n = draw(st.integers(1, 8))
    d_u, d_v = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    assume(d_u + d_v > 0)
    family = draw(st.sampled_from(["trigonometric", "residuals", "quadratic", "full_personalization"]))
    spec: dict = {"family": family, "n": n, "d_u": d_u, "d_v": d_v, "seed": draw(seeds)}
    if family == "trigonometric":
        both = d_u > 0 and d_v > 0
        spec |= {"L_u": draw(number(0.2, 5)) if d_u else 0.0, "L_v": draw(number(0.2, 5)) if d_v else 0.0}
        spec["chi"] = (
            draw(number(0, 0.95)) * np.sqrt(min(spec["L_u"], spec["L_v"]) / max(spec["L_u"], spec["L_v"]))
            if both
            else 0.0
        )
        spec["spread"] = draw(number(0, 1)) if d_v and n > 1 else 0.0
        least = spec["chi"] * np.sqrt(spec["L_u"] * spec["L_v"])
        spec["delta"] = least + draw(number(0, 3)) if d_u and n > 1 else 0.0
    elif family == "residuals":
        spec |= {"rows": draw(st.integers(1, 6)), "spread": draw(number(0, 3))}
    elif family == "quadratic":
        spec |= {"coupling": draw(number(0, 0.99)), "spread": draw(number(0, 2))}
        spec["indefinite"] = draw(number(0, 0.9)) if n > 1 and d_u else 0.0
    else:
        assume(d_v > 0)
        base = {"family": "quadratic", "n": n, "d_u": 0, "d_v": d_v, "seed": spec["seed"]}
        spec = {"family": family, "lam": draw(number(0.1, 3)), "base": base}
    return build_problem(spec)


@st.composite
def noises(draw: st.DrawFn, problem: Problem) -> Noise:
    law = draw(st.sampled_from(["zero", "gaussian", "rademacher", "student_t", "spikes"]))
    if law == "zero":
        return Noise("zero")
    sigma_u = draw(number(0, 2)) if problem.d_u else 0.0
    sigma_v = draw(number(0, 2)) if problem.d_v else 0.0
    dependence = draw(st.sampled_from(["independent", "full"]))
    return Noise(law, sigma_u, sigma_v, dof=draw(number(2.5, 9)), spike_probability=0.1, dependence=dependence)


@pytest.mark.long
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large])
@given(st.data())
@pytest.mark.parametrize("name", ["fedalt", "fedsim"])
def test_no_theorem_is_violated(name: str, data: st.DataObject) -> None:
    problem = data.draw(problems())
    noise = data.draw(noises(problem))
    m = data.draw(st.integers(1, problem.n))
    tau_u = data.draw(st.integers(1, 5))
    tau_v = tau_u if name == "fedsim" else data.draw(st.integers(1, 5))
    T = data.draw(st.integers(1, 30))
    rng = np.random.default_rng(data.draw(seeds))
    scale = data.draw(st.sampled_from([0.0, 0.1, 1.0, 5.0]))
    start = State(
        torch.from_numpy(scale * rng.standard_normal(problem.d_u)),
        torch.from_numpy(scale * rng.standard_normal((problem.n, problem.d_v))),
    )
    cls = {"fedalt": FedAlt, "fedsim": FedSim}[name]
    unscaled = Experiment(problem, cls(m, 1.0, 1.0, tau_u=tau_u, tau_v=tau_v), noise, start, T, seed=data.draw(seeds))
    plain, star = (FA, FA_STAR) if name == "fedalt" else (FS, FS_STAR)
    inputs = of_experiment(unscaled.with_eta(0.1))
    if not np.isfinite(inputs.values["delta"]):
        inputs = inputs.with_diversity(0.0)
    try:
        largest = max_step(plain, inputs)
    except InputError as error:
        pytest.fail(str(error))
    eta = largest * data.draw(st.sampled_from([1.0, 0.999, 0.7, 0.3, 0.05]))
    for result in verify(unscaled.with_eta(eta), [plain, star], error=1e-7, max_replicates=64, engine="eager"):
        assert result.verdict.status in ("holds", "inconclusive"), (problem.spec, result.to_dict())
        if result.verdict.method == "deterministic":
            assert result.verdict.status == "holds"
