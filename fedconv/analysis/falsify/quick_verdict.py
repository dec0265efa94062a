"""The verdict on a problem file, for a theorem or a weakened version of one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fedconv.analysis.exact import applies, exact_trace
from fedconv.analysis.theorems import Theorem
from fedconv.analysis.theorems.split.facts import of_experiment
from fedconv.analysis.theorems.statement import Statement, StatementInputs
from fedconv.analysis.verdicts.check import Check, Result
from fedconv.analysis.verdicts.statement_verify import method_of, verify_statements
from fedconv.analysis.verdicts.verdict import Verdict
from fedconv.analysis.verdicts.verify import fitting, resolve_step, uses_diversity, verify
from fedconv.core.run import run
from fedconv.problem_file.settings import settings_from
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    from fedconv.problem_file.settings import AlgorithmSpec, Settings


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
    """``fedconv.analysis.verdicts.verify.verify_settings`` for the mutant of that name of every theorem of a file that
    has one.

    Raises InputError where none of the file's theorems has it.
    """
    options: dict[str, Any] = {
        "error": error if error is not None else settings.verify.error,
        "max_replicates": max_replicates if max_replicates is not None else settings.verify.max_replicates,
        "engine": settings.engine,
        "workers": workers,
        "spec": settings.spec,
    }
    weak = weakened(settings, mutant, algorithms, theorems)
    results: list[Result] = []
    for spec, one in weak:
        options["checks"] = checks or len(weak)
        if isinstance(one, Statement):
            if settings.verify.parameters is not None:
                raise InputError(
                    f"verify.parameters must be left out for {spec.name}, whose theorems have no free parameters"
                )
            gamma = None
            if spec.eta == "max":
                gamma = one.largest_step(method_of(spec.name).before(settings.runnable(spec, 0.5)))
                if not 0 < gamma < math.inf:
                    raise InputError(
                        f'algorithm.eta must be a number for {one.key}, which admits no largest step here; got "max"'
                    )
            results += verify_statements(settings.runnable(spec, gamma=gamma), [one], **options)
            continue
        eta = spec.eta
        if isinstance(eta, str):
            eta = resolve_step(settings.experiment(spec, 0.1), one, eta, settings.verify.a_posteriori)
        results += verify(
            settings.experiment(spec, eta),
            [one],
            parameters=settings.verify.parameters,
            a_posteriori=settings.verify.a_posteriori,
            **options,
        )
    return results


def weakened(
    settings: Settings,
    mutant: str,
    algorithms: Iterable[str] | None = None,
    theorems: Iterable[str] | None = None,
) -> list[tuple[AlgorithmSpec, Theorem | Statement]]:
    """(algorithm, weakened theorem) pairs of a file: the mutants of that name of the theorems that it asks for.

    A statement may be weakened by leaving out a premise, so that the weakened one is about runs that it is not about.
    Raises InputError where no theorem has the mutant.
    """
    chosen = settings.verify.theorems if theorems is None else tuple(theorems)
    only = None if algorithms is None else tuple(algorithms)
    found: list[tuple[AlgorithmSpec, Theorem | Statement]] = []
    known: dict[str, list[str]] = {}
    for spec in settings.algorithms:
        if only is not None and spec.name not in only:
            continue
        asked = [one for one in fitting(spec.name) if chosen is None or one.key in chosen]
        known |= {one.key: [x.key for x in one.mutants] for one in asked}
        weak = [_mutated(one, mutant) for one in asked if mutant in known[one.key]]
        if spec.method is not None:
            trial = settings.runnable(spec, 0.5) if isinstance(spec.eta, str) else settings.runnable(spec)
            inputs = method_of(spec.name).before(trial)
            weak = [x for x in weak if isinstance(x, Statement) and is_about(x, inputs)]
        found += [(spec, one) for one in weak]
    if not found:
        has = [f"{key} has {', '.join(keys) or 'none'}" for key, keys in known.items()]
        listed = "; ".join(has) or "none is asked for"
        raise InputError(f"--mutant must be a mutant of a theorem of {settings.name}: {listed}; got {mutant!r}")
    return found


def is_about(one: Statement, inputs: StatementInputs) -> bool:
    """Whether a statement is about that kind of run and its premises hold."""
    return one.fits(inputs) and all(premise.holds(inputs) for premise in one.premises)


def _mutated(one: Theorem | Statement, mutant: str) -> Theorem | Statement:
    if isinstance(one, Statement):
        return one.mutate(one.mutant(mutant))
    return one.mutate(one.mutant(mutant))


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
    use = uses_diversity(theorem, inputs, settings.verify.a_posteriori)
    if use:
        mean = float(trace[theorem.diversity].values.mean())
        inputs = inputs.with_diversity(max(mean, 0.0) if math.isfinite(mean) else 0.0)
    parameters = settings.verify.parameters or {}
    theorem.check_parameters(parameters, inputs.values)
    check = Check(theorem, inputs, parameters, use, experiment.deterministic, 1e-6, 1, exact=not deterministic)
    check.add(trace)
    return check.verdict()
