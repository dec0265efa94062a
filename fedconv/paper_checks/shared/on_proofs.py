"""Evidence on proofs: lemmas replayed at visited states, their false versions caught, and the algebra by machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fedconv.analysis.claims.claim import Budget, Evidence
from fedconv.analysis.proofs.algebra import layers
from fedconv.analysis.proofs.lemmas import LEMMAS, lemma
from fedconv.analysis.proofs.lemmas.catching import INSTANCES, instance
from fedconv.analysis.proofs.replay import LemmaLine, Setup, check_lemma, prove
from fedconv.analysis.proofs.replay.round_copies import Visited, copies_of, every_outcome
from fedconv.analysis.theorems import theorem
from fedconv.analysis.theorems.split.facts import of_experiment
from fedconv.analysis.verdicts.verdict import Verdict
from fedconv.analysis.verdicts.verify import wants_a_posteriori
from fedconv.core.run import Experiment
from fedconv.paper_checks.shared.comparisons import none_fails
from fedconv.paper_checks.shared.on_runs import files
from fedconv.paper_checks.shared.units import Found, Unit
from fedconv.problem_file.settings import settings_from

PAPER = "pillutla2022"
PROOFS = {"fedalt": "FA", "fedsim": "FS"}
COPIES = {"quick": 8192, "full": 65536}
STATES = {"quick": 2, "full": 12}

_WAVES = {"family": "trigonometric", "L_u": 1.0, "L_v": 2.0, "chi": 0.6, "delta": 1.0}
_COUNTED = {
    "name": "small waves, coin-flip noise, every outcome of a round",
    "problem": _WAVES | {"n": 3, "d_u": 1, "d_v": 1},
    "noise": {"law": "rademacher", "sigma_u": 0.5, "sigma_v": 0.7},
    "algorithm": {"m": 2, "tau": 1, "eta": 0.3},
    "run": {"T": 12},
}
_DRIFTING = {
    "name": "waves with 3 local steps, no noise, every cohort",
    "problem": _WAVES | {"n": 6, "d_u": 3, "d_v": 2},
    "algorithm": {"m": 2, "tau": 3, "eta": 0.3},
    "run": {"T": 12},
}
_SAMPLED = {
    "name": "waves, Gaussian noise, 3 local steps",
    "problem": _WAVES | {"n": 6, "d_u": 3, "d_v": 2},
    "noise": {"law": "gaussian", "sigma_u": 1.0, "sigma_v": 1.0},
    "algorithm": {"m": 2, "tau": 3, "eta": 0.5},
    "run": {"T": 12},
}
SAMPLED = ("L3_u_start", "L3_v_start")
"""E⟨gradient at the start, z_i⟩ = 0 is not read off sums over outcomes, which round to 1e-18 and have no size to
compare with; copies decide it."""

REPLAYED: dict[str, dict[str, Any]] = {str(x["name"]): x for x in (_COUNTED, _DRIFTING, _SAMPLED)}


def experiment_of(spec: dict[str, Any], algorithm: str) -> Experiment:
    """A file's experiment with that algorithm."""
    settings = settings_from(spec | {"algorithm": {"name": algorithm} | spec["algorithm"]}, str(spec["name"]))
    eta = settings.algorithms[0].eta
    assert isinstance(eta, float)
    return settings.experiment(settings.algorithms[0], eta)


def replayed_proof(budget: Budget, algorithm: str, name: str) -> tuple[LemmaLine, ...]:
    """All lemmas of an algorithm's proof along a run of that file, one replay for all."""
    spec = REPLAYED.get(name) or _suited(name)
    error = budget.error * len(LEMMAS[algorithm])
    proof = prove(experiment_of(spec, algorithm), theorem(PROOFS[algorithm]), states=STATES[budget.size],
                  copies=COPIES[budget.size], replicates=8, error=error)  # fmt: skip
    return proof.lines


def _suited(name: str) -> dict[str, Any]:
    spec = files(PAPER, "full")[name]
    return spec | {"algorithm": {k: v for k, v in spec["algorithm"].items() if k != "name"}}


def replays(budget: Budget) -> list[str]:
    """Names of the files along which proofs are replayed."""
    more = ["waves, 5 of 20 clients", "robust residuals, rare large noise", "coupled quadratics, visited diversity"]
    return [*REPLAYED, *(more if budget.size == "full" else [])]


@dataclass(frozen=True)
class OnStates:
    """Lemmas, (algorithm, key), at the states of the replays."""

    lemmas: tuple[tuple[str, str], ...]

    def units(self, budget: Budget) -> list[Unit]:
        algorithms = dict.fromkeys(a for a, _ in self.lemmas)
        return [Unit(replayed_proof, (a, name)) for a in algorithms for name in replays(budget)]

    def read(self, found: Sequence[Found], budget: Budget) -> list[Evidence]:
        out = []
        for unit, lines in zip(self.units(budget), found, strict=True):
            algorithm, name = unit.arguments
            wanted = [key for a, key in self.lemmas if a == algorithm]
            spec = REPLAYED.get(name)
            for line in lines:
                if line.lemma.key in wanted and not (line.lemma.key in SAMPLED and name == _COUNTED["name"]):
                    out.append(Evidence(f"{algorithm}, {line.lemma.key}, {name}", verdict_of(line, budget),
                                        spec=spec and _file(spec, algorithm)))  # fmt: skip
        return out


def _file(spec: dict[str, Any], algorithm: str) -> dict[str, Any]:
    return spec | {"algorithm": {"name": algorithm} | spec["algorithm"]}


def verdict_of(line: LemmaLine, budget: Budget) -> Verdict:
    """The finding that decides a lemma's line; limits are those of lhs − rhs, moved to the left side.

    Of an upper bound the negative terms of the right side are moved to the left, so that measured/bound is the lemma's
    tightness 1 − (rhs − lhs)/(size of rhs)."""
    _, f = line.worst
    exact = f.low == f.high
    moved = 0.0
    if line.lemma.kind == "upper" and math.isfinite(f.tightness) and f.tightness < 1:
        moved = max((f.rhs - f.lhs) / (1 - f.tightness) - f.rhs, 0.0)
    bound = f.rhs + moved
    where = f", client {f.client}" if f.client is not None else ""
    words = "; negative terms moved to the left" if moved > 1e-9 * abs(bound) else ""
    return Verdict(
        status=line.status,
        measured=f.lhs + moved,
        bound=bound,
        low=bound + f.low,
        high=bound + f.high,
        error=budget.error,
        method="exact" if exact else "Student t",
        replicates=1 if exact else COPIES[budget.size],
        grade="exact",
        reason=f"{f.reason}; {len(line.findings)} states{where}{words}",
        approximate=line.approximate,
    )


# ---- false versions and algebra ---------------------------------------------------------------------------------


def false_lemmas(budget: Budget, algorithm: str, key: str) -> tuple[Evidence, ...]:
    """Every false version of a lemma fails on its instance, where the lemma holds; all outcomes are taken."""
    mutants = [m.key for m in lemma(algorithm, key).mutants]
    missed = []
    for mutant in mutants:
        name = f"{key}:{mutant}"
        case = instance(algorithm, name)
        settings = settings_from(case.file(algorithm), name)
        eta = settings.algorithms[0].eta
        assert isinstance(eta, float)
        experiment = settings.experiment(settings.algorithms[0], eta)
        outcomes = every_outcome(experiment)
        assert outcomes is not None
        inputs = of_experiment(experiment)
        use = wants_a_posteriori(inputs, "auto")
        setup = Setup(theorem(PROOFS[algorithm]), inputs.with_diversity(0.0) if use else inputs, case.parameters, use,
                      32, budget.error)  # fmt: skip
        here = Visited(0, 0, experiment.start.u.numpy(), experiment.start.v.numpy())
        (copies,) = copies_of(experiment, [here], 32, setup.L, outcomes)
        statuses = [check_lemma(experiment, setup, lemma(algorithm, x), here, copies).status for x in (key, name)]
        if statuses != ["holds", "violated"]:
            missed.append(mutant)
    name = f"{algorithm}, {key}: {len(mutants)} false version{'s' if len(mutants) != 1 else ''}, each on an instance"
    return (none_fails(name, missed, len(mutants), "are refuted where the lemma holds", otherwise="inconclusive"),)


@dataclass(frozen=True)
class FalseLemmas:
    """That the false versions of these lemmas, (algorithm, key), are refuted."""

    lemmas: tuple[tuple[str, str], ...]

    def units(self, budget: Budget) -> list[Unit]:
        return [
            Unit(false_lemmas, (a, key)) for a, key in self.lemmas if any(x.startswith(f"{key}:") for x in INSTANCES[a])
        ]

    def read(self, found: Sequence[Found], budget: Budget) -> list[Evidence]:
        return [e for one in found for e in one]


@cache
def _steps(key: str) -> tuple[tuple[str, str, bool], ...]:
    found = layers(theorem(key))
    return tuple((layer, step.name, step.ok) for layer, steps in found.items() for step in steps)


def algebra_steps(budget: Budget, key: str) -> tuple[tuple[str, str, bool], ...]:
    """(layer, step, whether it holds) of the algebra from the lemmas to a theorem."""
    return _steps(key)


@dataclass(frozen=True)
class Algebra:
    """The steps of theorems' proofs by computer algebra: all, those of ``layers``, or those about ``about`` (beginnings
    of step names)."""

    keys: tuple[str, ...]
    about: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()

    def units(self, budget: Budget) -> list[Unit]:
        return [Unit(algebra_steps, (key,)) for key in self.keys]

    def read(self, found: Sequence[Found], budget: Budget) -> list[Evidence]:
        out = []
        for key, steps in zip(self.keys, found, strict=True):
            mine = [(name, ok) for layer, name, ok in steps if self._wanted(layer, name)]
            about = f" about {', '.join(self.about)}" if self.about else ""
            failed = [name for name, ok in mine if not ok]
            out.append(none_fails(f"computer algebra: the steps of {key}'s proof{about}", failed, len(mine),
                                  "steps hold as identities of rational functions"))  # fmt: skip
        return out

    def _wanted(self, layer: str, name: str) -> bool:
        if self.layers and layer not in self.layers:
            return False
        bare = name.removeprefix("round: ")
        return not self.about or any(bare == x or bare.startswith((f"{x}:", f"{x} ")) for x in self.about)
