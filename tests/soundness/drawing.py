"""What the groups share: problem files, experiments from them, choices of theorems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedconv.analysis.theorems import THEOREMS, Theorem
from fedconv.core.run import Experiment
from fedconv.problem_file.settings import settings_from
from soundness.setting import at_factor
from soundness.truth import Truth

FALSE, TRUE = (0.5, 0.9, 0.97, 0.999), (1.001, 1.03, 1.1, 2.0)


def built(spec: Mapping[str, Any]) -> Experiment:
    """The experiment of a problem file with one algorithm and a numerical step."""
    settings = settings_from(spec, "soundness")
    algorithm = settings.algorithms[0]
    assert not isinstance(algorithm.eta, str)
    return settings.experiment(algorithm, algorithm.eta)


def about(rng: np.random.Generator, algorithm: str, mutants: int = 2) -> list[Theorem]:
    """A theorem about the algorithm, and some of its weakened versions."""
    one = rng.choice(np.array([t.key for t in THEOREMS.values() if algorithm in t.algorithms]))
    theorem = THEOREMS[str(one)]
    chosen = rng.permutation(len(theorem.mutants))[:mutants]
    return [theorem, *(theorem.mutate(theorem.mutants[k]) for k in chosen)]


def file(rng: np.random.Generator, problem: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """A problem file; ``algorithm``, ``run`` and the others complete the defaults."""
    out: dict[str, Any] = {
        "name": "soundness",
        "problem": problem,
        "noise": {"law": "zero"},
        "start": {"kind": "zeros"},
    }
    out["algorithm"] = {"name": str(rng.choice(["fedalt", "fedsim"])), "tau": 1, "eta": eta(rng)}
    out["run"] = {"T": 2, "seed": int(rng.integers(2**31))}
    for key, value in sections.items():
        out[key] = value if key in ("noise", "start") else out[key] | value
    return out


def eta(rng: np.random.Generator) -> float:
    return float(np.round(10 ** rng.uniform(-1.3, -0.05), 3))


def pick(rng: np.random.Generator, *values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def error(rng: np.random.Generator) -> float:
    """The stated error: mostly the default, else one at which false verdicts would be seen to be too many."""
    return pick(rng, 1e-6, 1e-6, 1e-3, 1e-2)


def with_own(
    rng: np.random.Generator, experiment: Experiment, truth: Truth, theorems: list[Theorem]
) -> tuple[Theorem, ...]:
    """Also a false and a true bound near the left side's expectation."""
    return (*theorems, *(at_factor(experiment, truth, pick(rng, *some)) for some in (FALSE, TRUE)))
