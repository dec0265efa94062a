"""Evidence from runs: a paper's problem files with all their theorems, and the weakened versions on their instances."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fedconv.analysis.claims.claim import Budget, Evidence
from fedconv.analysis.theorems import THEOREMS, Theorem
from fedconv.analysis.theorems.fedfomo.catching import CATCHING as FEDFOMO
from fedconv.analysis.theorems.fedspa.catching import CATCHING as FEDSPA
from fedconv.analysis.theorems.ffgg.catching import CATCHING as FFGG
from fedconv.analysis.theorems.split.catching import CATCHING
from fedconv.analysis.theorems.statement import Statement
from fedconv.analysis.verdicts.check import Result
from fedconv.analysis.verdicts.statement_verify import verify_statements
from fedconv.analysis.verdicts.verify import any_theorem, planned, verify, verify_settings
from fedconv.paper_checks.shared.comparisons import none_fails
from fedconv.paper_checks.shared.units import Found, Unit
from fedconv.problem_file.settings import Settings, settings_from

MOST_REPLICATES = 8192
"""Replicates of an instance at which a weakened version has to be refuted."""


@cache
def files(paper: str, size: str) -> dict[str, dict[str, Any]]:
    """The paper's problem files of a size by name."""
    return {spec["name"]: spec for spec in importlib.import_module(f"fedconv.paper_checks.{paper}").suite(size)}


@cache
def _settings(paper: str, size: str, name: str) -> Settings:
    return settings_from(files(paper, size)[name], f"{size} suite, {name}")


@cache
def checked(paper: str, size: str, name: str) -> tuple[str, ...]:
    """Keys of the theorems that a file is about."""
    return tuple(t.key for _, chosen in planned(_settings(paper, size, name)) for t in chosen)


def runs_of(budget: Budget, paper: str, size: str, name: str) -> tuple[Result, ...]:
    """Every theorem of a file on its runs. All are checked together, whichever is asked for: replicates are drawn until
    the last is decided, so that the numbers of one would else depend on the others."""
    return tuple(verify_settings(_settings(paper, size, name), workers=budget.workers, error=budget.error, checks=1))


@dataclass(frozen=True)
class OnRuns:
    """The checks of theorems ``keys`` in the paper's suite; of FedAlt's and FedSim's, on ``algorithms`` (empty: all).

    ``names``: only these files of the suite (empty: all)."""

    paper: str
    keys: tuple[str, ...]
    algorithms: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def units(self, budget: Budget) -> list[Unit]:
        size = budget.size
        chosen = self.names or tuple(files(self.paper, size))
        fits = [name for name in chosen if set(self.keys) & set(checked(self.paper, size, name))]
        return [Unit(runs_of, (self.paper, size, name)) for name in fits]

    def read(self, found: Sequence[Found], budget: Budget) -> list[Evidence]:
        results = [
            r for one in found for r in one
            if r.theorem in self.keys and (not self.algorithms or r.algorithm in self.algorithms)
        ]  # fmt: skip
        return [
            Evidence(f"{r.name.removesuffix(f'/{r.algorithm}')}: {r.theorem}", r.verdict, r, r.spec) for r in results
        ]


# ---- weakened versions ------------------------------------------------------------------------------------------


def weakened_versions(budget: Budget, key: str) -> tuple[Evidence, ...]:
    """Each weakened version of a theorem is violated on its instance; one that is not leaves the evidence undecided."""
    one = any_theorem(key)
    missed = [m.key for m in one.mutants if refutation(key, m.key, budget.error) != "violated"]
    count = len(one.mutants)
    name = f"{key}: {count} weakened version{'s' if count != 1 else ''}, each on an instance against it"
    return (none_fails(name, missed, count, "are refuted", otherwise="inconclusive", error=budget.error),)


def refutation(key: str, mutant: str, error: float) -> str:
    """The status of a weakened version on its instance."""
    one = any_theorem(f"{key}:{mutant}")
    if isinstance(one, Theorem):
        instance = CATCHING[key, mutant]
        settings = settings_from(instance.file(key), f"{key}:{mutant}")
        spec = settings.algorithms[0]
        assert isinstance(spec.eta, float)
        found = verify(settings.experiment(spec, spec.eta), [one], parameters=instance.parameters, error=error,
                       max_replicates=MOST_REPLICATES)  # fmt: skip
        return found[0].verdict.status
    table = next(x for x in (FFGG, FEDSPA, FEDFOMO) if (key, mutant) in x)
    settings = settings_from(table[key, mutant], f"{key}:{mutant}")
    found = verify_statements(settings.runnable(settings.algorithms[0]), [one], error=error,
                              max_replicates=MOST_REPLICATES)  # fmt: skip
    return found[0].verdict.status


@dataclass(frozen=True)
class WeakenedVersions:
    """That every weakened version of these theorems is refuted."""

    keys: tuple[str, ...]

    def units(self, budget: Budget) -> list[Unit]:
        return [Unit(weakened_versions, (key,)) for key in self.keys if _mutants(key)]

    def read(self, found: Sequence[Found], budget: Budget) -> list[Evidence]:
        return [e for one in found for e in one]


@cache
def _mutants(key: str) -> int:
    one: Theorem | Statement = THEOREMS.get(key) or any_theorem(key)
    return len(one.mutants)
