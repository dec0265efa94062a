"""Check statements on runs of other methods: with the looks and errors of FedAlt's and FedSim's bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fedconv.analysis.theorems.registry import Method, methods
from fedconv.analysis.theorems.statement import Statement
from fedconv.analysis.verdicts.check import Result
from fedconv.analysis.verdicts.statement_check import StatementCheck
from fedconv.analysis.verdicts.tails import Randomness, recorded_randomness
from fedconv.core.run import Runnable, run
from fedconv.core.trace import read
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

FIRST_LOOK = 64
"""Replicates before the first decision; they double at each further look."""


def verify_statements(
    experiment: Runnable,
    chosen: Iterable[Statement] | None = None,
    *,
    error: float = 1e-6,
    checks: int = 1,
    max_replicates: int = 4096,
    workers: int = 1,
    engine: str = "auto",
    progress: Callable[[str, int], None] | None = None,
    spec: Mapping[str, Any] | None = None,
) -> list[Result]:
    """Verdicts of statements (default: all that fit the run) on the same run of an experiment.

    Replicates double from FIRST_LOOK until every verdict is decided or ``max_replicates`` is reached; a deterministic
    run, or one whose expectations are exact, needs one.
    """
    method = method_of(experiment.algorithm.name)
    exact = method.exact(experiment) if engine == "auto" and not experiment.deterministic else None
    inputs = method.before(experiment)
    wanted = fitting_statements(method, inputs) if chosen is None else about(chosen, experiment.algorithm.name)
    single = experiment.deterministic
    paths = [s for s in wanted if s.pathwise]
    first = 1 if single else min(FIRST_LOOK, max_replicates)
    looks = 1 if single else 1 + max(0, math.ceil(math.log2(max_replicates / first)))
    open_checks = []
    known = _randomness(experiment)
    for one in wanted:
        given = exact is not None and not one.pathwise and _records(exact, one)
        open_checks.append(StatementCheck(one, inputs, single, error / checks, looks, given, known))
    done, want = 0, first
    for check in open_checks:
        if check.exact:
            assert exact is not None
            check.add(exact)
    sampled = [c for c in open_checks if not c.exact]
    while sampled:
        trace = run(experiment, want - done, first=done, engine=engine, workers=workers)
        for check in sampled:
            check.add(trace)
        if progress is not None:
            progress(experiment.name, want - done)
        done = want
        undecided = [c for c in sampled if not c.unmet and not c.verdict().settled]
        if single or done >= max_replicates or not undecided or all(c.statement in paths for c in undecided):
            break
        want = min(2 * done, max_replicates)
    name = experiment.algorithm.name
    return [Result(experiment.name, name, c.statement.key, c.verdict(), c.curve(), inputs, spec) for c in open_checks]


def judge_statements(trace: xr.Dataset, chosen: Iterable[Any] | None = None, *, error: float = 1e-6) -> list[Result]:
    """Verdicts on a recorded run as it stands; no replicate is added."""
    name = read(trace, "algorithm")["name"]
    method = method_of(name)
    inputs = method.inputs(trace)
    wanted = fitting_statements(method, inputs) if chosen is None else about(chosen, name)
    if chosen is None and not wanted:
        raise InputError(
            f"none of the theorems about {name} has all its premises on this run; name those to judge it by"
        )
    single = bool(trace.attrs.get("deterministic", 0))
    results = []
    for one in wanted:
        check = StatementCheck(one, inputs, single, error / max(1, len(wanted)), 1, randomness=_randomness(trace))
        check.add(trace)
        results.append(Result(trace.attrs["name"], name, one.key, check.verdict(), check.curve(), inputs))
    return results


def _randomness(source: Any) -> Randomness:
    """What is random in an experiment or a recorded run of a method: its cohorts, and its noise where it has some."""
    if hasattr(source, "attrs"):
        return recorded_randomness(source)
    return Randomness.of(source.problem, getattr(source, "noise", None), source.algorithm.to_dict(), source.T)


def about(chosen: Iterable[Any], algorithm: str) -> list[Statement]:
    """The chosen statements. Raises InputError for what is not a statement about that algorithm."""
    found = list(chosen)
    for one in found:
        if not isinstance(one, Statement):
            raise InputError(
                f"a run of {algorithm} is judged by statements; {one.key} is a bound about {', '.join(one.algorithms)}"
            )
        if algorithm not in one.algorithms:
            raise InputError(f"theorem {one.key} is about {', '.join(one.algorithms)}; got {algorithm!r}")
    return found


def method_of(algorithm: str) -> Method:
    """The method of that name. Raises InputError where its theorems are no statements."""
    found = methods()
    if algorithm not in found:
        raise InputError(f"statements are known about {', '.join(found)}; got {algorithm!r}")
    return found[algorithm]


def fitting_statements(method: Method, inputs: Any, *, any_premise: bool = False) -> list[Statement]:
    """The statements about that kind of run and problem: those whose premises hold (conditions on steps may fail), or
    all about that kind of run (``any_premise``)."""
    return [
        s
        for s in method.statements.values()
        if s.fits(inputs) and (any_premise or all(p.holds(inputs) for p in s.premises))
    ]


def _records(trace: xr.Dataset, one: Statement) -> bool:
    """Whether an exact trace has what a statement measures."""
    return all(name in trace for measured in one.measured for name in measured.variables)
