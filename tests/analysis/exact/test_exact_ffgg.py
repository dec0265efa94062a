"""Exact expectations of FFGG: moments against enumeration, against Monte Carlo, and against a hand computation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedconv.analysis.exact.ffgg import affine, applies, enumeration, exact_trace, expectations, outcomes
from fedconv.core.run import run
from fedconv.methods.ffgg.experiment import FFGGExperiment
from fedconv.problem_file.settings import settings_from
from fedconv.problems.errors import InputError

VARIABLES = ("F", "F_gap", "grad_sq", "dist_sq")
GAP = {"family": "overpersonalized", "n": 4, "d_u": 3, "d_v": 2, "rows": 4, "rank": 1, "G": 0.3, "seed": 3}
SINGULAR = {"family": "least_squares", "n": 4, "d_u": 3, "d_v": 2, "rows": 2, "rank": 1, "seed": 5}
HUBER = {"family": "huber", "n": 3, "d_u": 2, "rows": 3, "lam": 0.5, "seed": 2}


def experiment(problem: dict, m: int, T: int, **more: dict) -> FFGGExperiment:
    algorithm = {"name": "ffgg", "m": m, "gamma": 0.3}
    file = {"problem": problem, "start": {"kind": "normal", "scale": 1.0}, "algorithm": algorithm, "run": {"T": T}}
    settings = settings_from(file | more, "exact")
    found = settings.runnable(settings.algorithms[0])
    assert isinstance(found, FFGGExperiment)
    return found


@pytest.mark.parametrize("problem", [GAP, SINGULAR], ids=["gap", "singular"])
@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_moments_agree_with_enumeration(problem, m):
    one = experiment(problem, m, 5)
    moments, tree = expectations(one), enumeration(one)
    assert moments.attrs["engine"] == tree.attrs["engine"] == "exact"
    for name in VARIABLES:
        scale = float(np.abs(tree[name].values).max())
        np.testing.assert_allclose(moments[name].values, tree[name].values, rtol=1e-10, atol=1e-12 * scale)
        assert moments[name].shape == (1, 6)


@pytest.mark.parametrize("problem", [GAP, HUBER], ids=["quadratic", "huber"])
def test_expectations_agree_with_monte_carlo(problem):
    one = experiment(problem, 1, 6)
    exact, sampled = exact_trace(one), run(one, 3000)
    assert exact is not None
    for name in VARIABLES:
        values = sampled[name].values
        error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
        off = np.abs(values.mean(axis=0) - exact[name].values[0])
        assert (off <= 5 * error + 1e-11 * np.abs(values).max()).all(), name
    assert (sampled["dist_sq"].values.std(axis=0)[1:] > 0).all()


def test_full_participation_is_the_run_itself():
    one = experiment(GAP, 4, 8)
    exact, sampled = expectations(one), run(one, 1)
    for name in VARIABLES:
        np.testing.assert_allclose(exact[name].values, sampled[name].values, rtol=1e-10, atol=1e-13)


def test_rounding_does_not_grow():
    """Overpersonalized: the distance vanishes and stays away, over many more rounds than that takes."""
    one = experiment(GAP | {"G": 0.0, "n": 6, "d_u": 4, "rows": 6, "rank": 2, "seed": 0}, 2, 3000)
    distance = expectations(one)["dist_sq"].values[0]
    assert distance[0] > 0.1
    assert (np.abs(distance[-1000:]) < 1e-28).all()


def test_two_opposed_clients_by_hand():
    """½(w ∓ 1)², m = 1: w⁺ = (1−γ)w ± γ, so E(w⁺)² = (1−γ)²Ew² + γ²."""
    spec = {
        "problem": {"family": "least_squares_arrays", "A": [[[1.0]]] * 2, "B": [[[0.0]]] * 2, "c": [[1.0], [-1.0]]},
        "start": {"kind": "point", "u": [0.5], "v": [[0.0]] * 2},
        "algorithm": {"name": "ffgg", "m": 1, "gamma": 0.3},
        "run": {"T": 4},
    }
    settings = settings_from(spec, "hand")
    trace = expectations(settings.runnable(settings.algorithms[0]))  # type: ignore[arg-type]
    second = [0.25]
    for _ in range(4):
        second.append(0.49 * second[-1] + 0.09)
    assert trace["dist_sq"].values[0] == pytest.approx(second, rel=1e-12)
    assert trace["F_gap"].values[0] == pytest.approx([0.5 * x for x in second], rel=1e-12)
    assert trace["grad_sq"].values[0] == pytest.approx(second, rel=1e-12)


def test_affine_parts():
    one = experiment(GAP, 2, 1)
    w = one.start.u
    r, H = affine(one.problem, w)
    step = np.array([0.3, -0.2, 0.5])
    moved = one.problem.envelope_grad((w + one.start.u.new_tensor(step)).expand(4, 3), one.problem.everyone())
    np.testing.assert_allclose(r + H @ step, moved.numpy(), rtol=1e-11, atol=1e-12)


def test_refusals():
    assert applies(experiment(HUBER, 1, 2)) is not None
    assert "family huber" in str(applies(experiment(HUBER, 1, 2)))
    with pytest.raises(InputError, match="need quadratics after fine-tuning"):
        expectations(experiment(HUBER, 1, 2))
    with pytest.raises(InputError, match="at most 5 sequences of cohorts; this run has 9"):
        enumeration(experiment(HUBER, 1, 2), 5)
    inexact = experiment(GAP, 2, 2, fine_tuning={"mode": "steps", "steps": 1})
    for refuse in (expectations, enumeration):
        with pytest.raises(InputError, match="need tau = 1 and exact fine-tuning"):
            refuse(inexact)
    assert exact_trace(inexact) is None
    delayed = experiment(GAP, 1, 2, **{"async": {"tau_max": 1}})
    assert "asynchronous" in str(applies(delayed))
    assert outcomes(experiment(GAP, 2, 3)) == 6**3
    assert exact_trace(experiment(HUBER, 1, 30)) is None
