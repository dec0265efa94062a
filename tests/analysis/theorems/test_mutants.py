"""Every mutant is caught by its instance, where the theorem itself is not violated."""

from __future__ import annotations

import pytest

from fedconv.analysis.theorems import THEOREMS, Theorem
from fedconv.analysis.theorems.split.catching import CATCHING
from fedconv.analysis.verdicts.verify import resolve_step, verify
from fedconv.core.run import Experiment
from fedconv.problem_file.settings import settings_from

PAIRS = [(key, mutant.key) for key, theorem in THEOREMS.items() for mutant in theorem.mutants]
BUDGET = 8192


def experiment_of(key: str, mutant: str) -> Experiment:
    settings = settings_from(CATCHING[key, mutant].file(key), f"{key}:{mutant}")
    return settings.experiment(settings.algorithms[0], settings.algorithms[0].eta)  # type: ignore[arg-type]


def test_every_mutant_has_an_instance_and_every_instance_a_mutant():
    assert set(CATCHING) == set(PAIRS)
    assert len(PAIRS) == len(set(PAIRS))


@pytest.mark.parametrize(("key", "mutant"), PAIRS)
def test_mutant_is_violated(key, mutant):
    theorem = THEOREMS[key]
    weak = theorem.mutate(theorem.mutant(mutant))
    experiment = experiment_of(key, mutant)
    parameters = CATCHING[key, mutant].parameters
    verdict = verify(experiment, [weak], parameters=parameters, max_replicates=BUDGET, checks=len(PAIRS))[0].verdict
    assert verdict.status == "violated", verdict.reason
    assert verdict.low > verdict.bound


@pytest.mark.parametrize(("key", "mutant"), PAIRS)
def test_theorem_holds_there(key, mutant):
    """With the mutant's parameters where they are admissible; where the mutant's step is beyond the theorem's
    premises, at the largest step that is within."""
    theorem = THEOREMS[key]
    experiment = experiment_of(key, mutant)
    parameters: dict[str, float] | None = CATCHING[key, mutant].parameters
    if outside(theorem, experiment, parameters):
        parameters = None
        experiment = experiment.with_eta(0.999 * resolve_step(experiment, theorem, "max"))
    verdict = verify(experiment, [theorem], parameters=parameters, max_replicates=BUDGET)[0].verdict
    assert verdict.status == "holds", verdict.reason


def outside(theorem: Theorem, experiment: Experiment, parameters: dict[str, float] | None) -> bool:
    return verify(experiment, [theorem], parameters=parameters, max_replicates=2)[0].verdict.status == "premises_unmet"
