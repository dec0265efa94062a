"""The verdict on a problem file, for a theorem or a weakened version of one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from analysis.check import Check, Result
from analysis.exact import applies, exact_trace
from analysis.inputs import of_experiment
from analysis.theorems import Theorem
from analysis.verdict import Verdict
from analysis.verify import planned, resolve_step, verify, wants_a_posteriori
from fedconv.config import settings_from
from fedconv.run import run
from problems.errors import InputError

if TYPE_CHECKING:
    from fedconv.config import Settings


def verify_weakened(
    settings: Settings,
    *,
    mutant: str,
    workers: int = 1,
    error: float | None = None,
    max_replicates: int | None = None,
    algorithms: Iterable[str] | None = None,
    theorems: Iterable[str] | None = None,
    checks: int | None = None,
) -> list[Result]:
    """``analysis.verify.verify_settings`` for the mutant of that name of every theorem of a file that has one.

    Raises InputError where none of the file's theorems has it.
    """
    plan = planned(settings, algorithms, theorems)
    known = {one.key: [x.key for x in one.mutants] for _, chosen in plan for one in chosen}
    weak = [
        (spec, one.mutate(one.mutant(mutant)))
        for spec, chosen in plan
        for one in chosen
        if isinstance(one, Theorem) and mutant in known[one.key]
    ]
    if not weak:
        listed = "; ".join(f"{key} has {', '.join(keys) or 'none'}" for key, keys in known.items())
        raise InputError(f"--mutant must be a mutant of a theorem of {settings.name}: {listed}; got {mutant!r}")
    results: list[Result] = []
    for spec, one in weak:
        eta = spec.eta
        if isinstance(eta, str):
            eta = resolve_step(settings.experiment(spec, 0.1), one, eta, settings.verify.a_posteriori)
        results += verify(
            settings.experiment(spec, eta),
            [one],
            error=error if error is not None else settings.verify.error,
            checks=checks or len(weak),
            max_replicates=max_replicates if max_replicates is not None else settings.verify.max_replicates,
            parameters=settings.verify.parameters,
            a_posteriori=settings.verify.a_posteriori,
            engine=settings.engine,
            workers=workers,
            spec=settings.spec,
        )
    return results


def full_verdict(file: Mapping[str, Any], theorem: Theorem) -> Verdict:
    """The verdict of ``fedconv verify`` on a file with one algorithm, for ``theorem`` (weakened or not)."""
    settings = settings_from(file, "candidate")
    spec = settings.algorithms[0]
    eta = None if spec.eta is None else float(spec.eta)
    chosen = settings.verify
    return verify(
        settings.experiment(spec, eta), [theorem], parameters=chosen.parameters, a_posteriori=chosen.a_posteriori
    )[0].verdict


def quick_verdict(file: Mapping[str, Any], theorem: Theorem) -> Verdict | None:
    """The same without a sample and without curves: None where the expectation is not known exactly.

    Raises InputError where the file or its free parameters are not admissible.
    """
    settings = settings_from(file, "candidate")
    spec = settings.algorithms[0]
    experiment = settings.experiment(spec, None if spec.eta is None else float(spec.eta))
    deterministic = experiment.deterministic and applies(experiment) is not None
    trace = run(experiment, 1) if deterministic else exact_trace(experiment)
    if trace is None:
        return None
    inputs = of_experiment(experiment)
    use = wants_a_posteriori(inputs, settings.verify.a_posteriori)
    if use:
        mean = float(trace[theorem.diversity].values.mean())
        inputs = inputs.with_diversity(max(mean, 0.0) if math.isfinite(mean) else 0.0)
    parameters = settings.verify.parameters or {}
    theorem.check_parameters(parameters, inputs.values)
    check = Check(theorem, inputs, parameters, use, experiment.deterministic, 1e-6, 1, exact=not deterministic)
    check.add(trace)
    return check.verdict()
