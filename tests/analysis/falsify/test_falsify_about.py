"""The falsifier searches what a theorem is about, or says that it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

from fedconv.analysis.exact import exact_trace
from fedconv.analysis.falsify import confirm, falsify, spaces
from fedconv.analysis.falsify.spaces.quadratic import QuadraticSpace
from fedconv.analysis.falsify.spaces.search import Candidate
from fedconv.analysis.theorems import THEOREMS, Condition, Mutant, Theorem
from fedconv.analysis.theorems.base import (
    SAMPLING,
    L_u,
    L_v,
    T,
    c,
    delta,
    eta,
    gap0,
    m,
    n,
    rho,
    rhs,
    sigma_u,
    sigma_v,
    tau_u,
    tau_v,
    weight_u,
    weight_v,
)  # fmt: skip
from fedconv.problem_file.settings import settings_from
from fedconv.problems.errors import InputError

NOISE = eta * (c * delta**2 + sigma_u**2 / m) / L_u
SGD = Theorem(
    key="SGD", title="one local step, sampled clients", source="classical", algorithms=("fedavg",),
    definitions={**SAMPLING, weight_u: 2 - eta * (1 + c * rho**2), weight_v: sp.Integer(0),
                 rhs: 2 * gap0 / (eta * T) + NOISE},
    conditions=(Condition("tau_u", tau_u), Condition("eta(1+c rho^2)/2", eta * (1 + c * rho**2) / 2, strict=True)),
    free=(), shared="grad_u_sq", diversity="diversity",
    mutants=(Mutant("n_not_m", "noise/n in place of /m",
                    {rhs: 2 * gap0 / (eta * T) + eta * (c * delta**2 + sigma_u**2 / n) / L_u}),
             Mutant("half_gap", "gap0 for 2 gap0", {rhs: gap0 / (eta * T) + NOISE})),
)  # fmt: skip
p = SAMPLING[sp.Symbol("p", nonnegative=True)]
ALONE = replace(
    SGD, key="ALONE", algorithms=("local",), mutants=(), diversity="diversity",
    definitions={**SAMPLING, weight_u: sp.Integer(0), weight_v: p * (2 - eta),
                 rhs: gap0 / (eta * T) + eta * p * sigma_v**2 / L_v},
    conditions=(Condition("tau_v", tau_v), Condition("eta", eta)),
)  # fmt: skip


@pytest.mark.parametrize("mutant", ["n_not_m", "half_gap"])
def test_a_false_bound_about_fedavg_is_refuted_on_fedavg(mutant: str) -> None:
    found = falsify(SGD, mutant=mutant, budget="quick")
    assert found.file is not None
    assert found.file["algorithm"]["name"] == "fedavg"
    assert found.verdict is not None
    assert found.verdict.status == "violated"


def test_a_true_one_is_not() -> None:
    found = falsify(SGD, budget=3.0)
    assert not found.found
    assert 0.5 < found.tightness <= 1 + 1e-9
    assert found.where.startswith("fedavg on a quadratic")


def test_a_false_bound_about_local_training_is_refuted_on_it() -> None:
    found = falsify(ALONE, budget="quick")
    assert found.file is not None
    assert found.file["algorithm"]["name"] == "local"


@pytest.mark.parametrize(("name", "theorem"), [("fedavg", SGD), ("local", ALONE)])
def test_scores_are_what_verify_measures(name: str, theorem: Theorem) -> None:
    (space, _), rng, checked = spaces(theorem)[0], np.random.default_rng(5), 0
    for _ in range(60):
        layout = space.draw(rng)
        layout = replace(layout, T=min(layout.T, 5), **{"tau_u" if name == "fedavg" else "tau_v": 1})
        point = space.sample(layout, rng, 1)
        score = float(space.scores(layout, point).tightness[0])
        if not score > 1.01:
            continue
        sure, excess = confirm(Candidate(space, layout, point[0]), theorem)
        assert sure
        assert excess + 1 == pytest.approx(score, rel=1e-6)
        checked += 1
    assert checked > 0 if name == "local" else checked == 0


def test_every_algorithm_of_a_theorem_is_searched() -> None:
    both = replace(SGD, algorithms=("fedsim", "fedavg", "local"))
    kinds = [(type(s).__name__, getattr(s, "algorithm", s.theorem.algorithms[0])) for s, _ in spaces(both)]  # type: ignore[attr-defined]
    assert kinds == [
        ("QuadraticSpace", "fedsim"), ("TrigonometricSpace", "fedsim"), ("OneBlockSpace", "fedavg"),
        ("OneBlockSpace", "local"),
    ]  # fmt: skip
    assert [(type(s).__name__, s.theorem) for s, _ in spaces(THEOREMS["FS"])] == [  # type: ignore[attr-defined]
        ("QuadraticSpace", THEOREMS["FS"]), ("TrigonometricSpace", THEOREMS["FS"]),
    ]  # fmt: skip
    assert [type(s).__name__ for s, _ in spaces(THEOREMS["FA"])] == ["QuadraticSpace", "TrigonometricSpace"]


@pytest.mark.parametrize("name", ["fedavg", "local"])
def test_fedalt_with_a_resting_block_is_that_algorithm(name: str) -> None:
    """So FA, which is about all three, needs no space for them."""
    (space, _), rng = (
        spaces(replace(SGD if name == "fedavg" else ALONE, algorithms=(name,)))[0],
        np.random.default_rng(1),
    )
    for _ in range(8):
        layout = replace(space.draw(rng), T=3, measured=False, curved=False)
        point = space.sample(layout, rng, 1)[0]
        own = space.file(layout, point)
        if own["algorithm"]["eta"] <= 0:
            continue
        alt = QuadraticSpace.file(space, layout, point)  # type: ignore[arg-type]
        assert (own["algorithm"]["name"], alt["algorithm"]["name"]) == (name, "fedalt")
        seen = [exact_trace(s.experiment(s.algorithms[0], s.algorithms[0].eta)) for s in  # type: ignore[arg-type]
                (settings_from(f | {"verify": {}}, "x") for f in (own, alt))]  # fmt: skip
        if seen[0] is None or seen[1] is None:
            continue
        for key in ("F", "grad_u_virtual_sq", "grad_v_sq"):
            np.testing.assert_allclose(seen[0][key].values, seen[1][key].values, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("algorithms", [("fedalt-server",), ("fedalt", "fedalt-server")])
def test_a_theorem_about_what_no_candidate_runs_is_refused(algorithms: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="theorem SGD cannot be searched: it is about 'fedalt-server', and candidates"):
        falsify(replace(SGD, algorithms=algorithms), budget=1.0)
