"""Check theorems on runs: choose free parameters, draw replicates until every verdict is decided or a budget ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.analysis.exact import exact_trace
from fedconv.analysis.theorems import THEOREMS, Theorem
from fedconv.analysis.theorems.registry import methods, statements
from fedconv.analysis.theorems.split.facts import Inputs, of_experiment, of_trace
from fedconv.analysis.theorems.statement import Statement
from fedconv.analysis.tuning.one_run import best_step, closest, max_step, tune
from fedconv.analysis.verdicts.check import Check, Result
from fedconv.analysis.verdicts.refuted import refuted_slopes
from fedconv.analysis.verdicts.statement_verify import (
    FIRST_LOOK,
    fitting_statements,
    judge_statements,
    method_of,
    verify_statements,
)
from fedconv.analysis.verdicts.tails import Randomness, recorded_randomness
from fedconv.core.run import Experiment, run
from fedconv.core.trace import need, read
from fedconv.methods.registry import METHODS
from fedconv.methods.split import ALGORITHMS
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.problem_file.settings import AlgorithmSpec, Settings

PILOT = 1_000_000
"""Number of the first pilot replicate: pilots tune, and never enter a verdict."""

Progress = Callable[[str, int], None]


def verify(
    experiment: Experiment,
    theorems: Iterable[Theorem],
    *,
    error: float = 1e-6,
    checks: int = 1,
    max_replicates: int = 4096,
    parameters: Mapping[str, float] | None = None,
    a_posteriori: bool | str = "auto",
    engine: str = "auto",
    workers: int = 1,
    progress: Progress | None = None,
    spec: Mapping[str, Any] | None = None,
) -> list[Result]:
    """Verdicts of several theorems on the same run of an experiment.

    error: one-sided error of each verdict, divided by ``checks``, the number of verdicts read together. Replicates
    double from FIRST_LOOK until all are decided or ``max_replicates`` is reached; a deterministic experiment needs
    one. parameters: the free parameters (default: tuned). a_posteriori: replace δ² by the mean diversity of the
    visited points ("auto": where δ is infinite); parameters are then tuned on pilot replicates of their own.
    """
    if not 0 < error < 0.5:
        raise InputError(f"error must lie in (0, 0.5); got {error}")
    if max_replicates < 2:
        raise InputError(f"max_replicates must be at least 2; got {max_replicates}")
    exact = exact_trace(experiment) if engine == "auto" and not experiment.deterministic else None
    single = experiment.deterministic or exact is not None
    first = 1 if single else min(FIRST_LOOK, max_replicates)
    looks = 1 if single else 1 + max(0, math.ceil(math.log2(max_replicates / first)))
    inputs = of_experiment(experiment)
    open_checks = [
        _prepare(t, experiment, inputs, parameters, a_posteriori, error / checks, looks, engine, exact)
        for t in theorems
    ]
    wrong = refuted_slopes(experiment, inputs) if open_checks else []
    for check in open_checks:
        check.unmet += wrong
    done, want = 0, first
    while True:
        trace = exact
        if trace is None:
            trace = run(experiment, want - done, first=done, engine=engine, workers=workers)
        for check in open_checks:
            check.add(trace)
        if progress is not None:
            progress(experiment.name, want - done)
        done = want
        undecided = [c for c in open_checks if not c.settled(max_replicates)]
        if single or done >= max_replicates or not undecided:
            break
        want = min(2 * done, max_replicates)
    return [
        Result(experiment.name, experiment.algorithm.name, c.theorem.key, c.verdict(), c.curve(), c.inputs, spec)
        for c in open_checks
    ]


def judge(
    trace: xr.Dataset,
    theorems: Iterable[Theorem | Statement] | None = None,
    *,
    error: float = 1e-6,
    parameters: Mapping[str, float] | None = None,
    a_posteriori: bool | str = "auto",
) -> list[Result]:
    """Verdicts on a recorded run as it stands (default: all theorems that fit its algorithm); no replicate is added.

    Everything comes from the trace: its provenance gives the constants and step sizes. Where δ² is replaced by the
    visited diversity and the free parameters are to be tuned, the first quarter of the replicates tunes and only the
    others are judged.
    """
    algorithm = read(trace, "algorithm")
    asked = None if theorems is None else list(theorems)
    if algorithm["name"] in methods():
        return judge_statements(trace, asked, error=error)
    for one in asked or ():
        _fits(one, algorithm["name"])
    need(trace, "F", "grad_u_sq", "grad_v_sq")
    noise, shape = read(trace, "noise"), read(trace, "shape")
    chosen = [t for t in asked if isinstance(t, Theorem)] if asked is not None else bounds(algorithm["name"])
    if asked is None and not chosen:
        raise InputError(f"no theorem is known about {algorithm['name']!r}; name the theorems to judge this run by")
    silent = noise["sigma_u"] == 0 and noise["sigma_v"] == 0
    plain = silent and algorithm["m"] == shape["n"] and algorithm["name"] in ALGORITHMS  # what older traces leave out
    deterministic = bool(trace.attrs.get("deterministic", plain))
    exact = trace.attrs.get("engine") == "exact"
    count = trace.sizes["replicate"]
    if not (deterministic or exact) and count < 2:
        raise InputError("a verdict on a random run needs at least 2 replicates; the trace has 1")
    results = []
    for one in chosen:
        need(trace, one.shared, one.personal, one.diversity)
        inputs, judged = of_trace(trace), trace
        use = uses_diversity(one, inputs, a_posteriori)
        if use:
            pilot = trace
            if parameters is None and not (deterministic or exact):
                cut = max(1, count // 4)
                pilot, judged = trace.isel(replicate=slice(0, cut)), trace.isel(replicate=slice(cut, None))
            inputs = inputs.with_diversity(_mean(pilot[one.diversity].values))
        found = _parameters(one, inputs, parameters)
        check = Check(one, inputs, found, use, deterministic, error / len(chosen), 1, _randomness(trace), exact)
        check.add(judged)
        results.append(Result(trace.attrs["name"], algorithm["name"], one.key, check.verdict(), check.curve(), inputs))
    return results


def _prepare(
    theorem: Theorem,
    experiment: Experiment,
    inputs: Inputs,
    parameters: Mapping[str, float] | None,
    a_posteriori: bool | str,
    error: float,
    looks: int,
    engine: str,
    exact: xr.Dataset | None,
) -> Check:
    _fits(theorem, experiment.algorithm.name)
    use = uses_diversity(theorem, inputs, a_posteriori)
    if use:
        seen = None if exact is None else _mean(exact[theorem.diversity].values)
        visited = pilot_diversity(experiment, theorem, engine) if seen is None else seen
        inputs = inputs.with_diversity(visited)
    chosen = _parameters(theorem, inputs, parameters)
    known = _randomness(experiment)
    return Check(theorem, inputs, chosen, use, experiment.deterministic, error, looks, known, exact is not None)


def _randomness(source: Experiment | xr.Dataset) -> Randomness:
    """What is random in an experiment, or in a recorded run."""
    if isinstance(source, Experiment):
        return Randomness.of(source.problem, source.noise, source.algorithm.to_dict(), source.T)
    return recorded_randomness(source)


def _fits(theorem: Theorem | Statement, algorithm: str) -> None:
    """Raise InputError for what is not a bound about that algorithm."""
    if not isinstance(theorem, Theorem):
        raise InputError(
            f"a run of {algorithm!r} is judged by bounds of the shape Theorem; {theorem.key} is a Statement,"
            f" which needs a run of {', '.join(methods())}"
        )
    if algorithm not in theorem.algorithms:
        raise InputError(f"theorem {theorem.key} is about {', '.join(theorem.algorithms)}; got {algorithm!r}")


def _parameters(theorem: Theorem, inputs: Inputs, given: Mapping[str, float] | None) -> dict[str, float]:
    """The given free parameters, checked, or tuned ones (those that miss the premises least where none meets them)."""
    if given is None and theorem.kind != "upper":
        if theorem.free:
            raise InputError(
                f"theorem {theorem.key} is no upper bound, so nothing tunes its free parameters: verify.parameters must"
                f" give {', '.join(f.name for f in theorem.free)}"
            )
        given = {}
    if given is None:
        return (tune(theorem, inputs) or closest(theorem, inputs)).parameters
    chosen = {k: float(v) for k, v in given.items()}
    try:
        theorem.check_parameters(chosen, inputs.values)
    except InputError as error:
        raise InputError(f"verify.parameters: {error}") from error
    return chosen


def uses_diversity(theorem: Theorem, inputs: Inputs, a_posteriori: bool | str) -> bool:
    """Whether δ² is replaced by a measured mean diversity. Raises InputError where that is asked for of a bound that is
    not affine in δ²; "auto" leaves such a bound its infinite δ."""
    use = wants_a_posteriori(inputs, a_posteriori)
    if use and not theorem.affine and a_posteriori == "auto":
        return False
    if use:
        theorem.need_affine()
    return use


def wants_a_posteriori(inputs: Inputs, a_posteriori: bool | str) -> bool:
    """Whether δ² is replaced by a measured mean diversity: as asked, or ("auto") where δ is infinite."""
    if a_posteriori == "auto":
        return not math.isfinite(inputs.values["delta"])
    return bool(a_posteriori)


def pilot_diversity(experiment: Experiment, theorem: Theorem, engine: str = "auto") -> float:
    """Mean diversity over rounds and pilot replicates, at the points where the theorem measures ∇_uF."""
    count = 1 if experiment.deterministic else 16
    return _mean(run(experiment, count, first=PILOT, engine=engine)[theorem.diversity].values)


def _mean(values: np.ndarray) -> float:
    """The mean of squares, or 0 where a run diverged (parameters tuned for that are as good as any) or where exact
    expectations round to just below 0."""
    with np.errstate(all="ignore"):
        mean = float(values.mean())
    return max(mean, 0.0) if math.isfinite(mean) else 0.0


def bounds(algorithm: str) -> list[Theorem]:
    """The bounds about FedAlt, FedSim or one of their kin."""
    return [t for t in THEOREMS.values() if algorithm in t.algorithms]


def fitting(algorithm: str) -> list[Theorem | Statement]:
    """The theorems about an algorithm."""
    if algorithm in METHODS:
        return list(methods()[algorithm].statements.values())
    return [*bounds(algorithm)]


def known() -> dict[str, Theorem | Statement]:
    """All theorems by key."""
    return {**THEOREMS, **statements()}


def any_theorem(key: str) -> Theorem | Statement:
    """The theorem of that key, or its weakened version ``KEY:MUTANT``."""
    base, _, mutant = key.partition(":")
    found = known()
    if base not in found:
        raise InputError(f"theorems are {', '.join(found)}; got {base!r}")
    whole = found[base]
    if not mutant:
        return whole
    if isinstance(whole, Statement):
        return whole.mutate(whole.mutant(mutant))
    return whole.mutate(whole.mutant(mutant))


def resolve_step(experiment: Experiment, theorem: Theorem, wish: str, a_posteriori: bool | str = "auto") -> float:
    """η for ``wish`` = "best" (least guarantee) or "max" (largest admissible) of a theorem on an experiment.

    Where δ is infinite, the best step is taken for the mean diversity that is visited at half the largest admissible
    step: exactly where expectations are, else by pilot replicates.
    """
    if theorem.kind != "upper" and wish == "best":
        raise InputError(f'algorithm.eta must be a number or "max" for theorem {theorem.key}, which is no upper bound')
    inputs = of_experiment(experiment)
    if uses_diversity(theorem, inputs, a_posteriori):
        inputs = inputs.with_diversity(0.0)
        largest = max_step(theorem, inputs)
        if wish == "max":
            return largest
        trial = experiment.with_eta(largest / 2)
        exact = None if trial.deterministic else exact_trace(trial)
        seen = pilot_diversity(trial, theorem) if exact is None else _mean(exact[theorem.diversity].values)
        inputs = inputs.with_diversity(seen)
    return max_step(theorem, inputs) if wish == "max" else best_step(theorem, inputs).eta


def verify_settings(
    settings: Settings,
    *,
    workers: int = 1,
    error: float | None = None,
    max_replicates: int | None = None,
    algorithms: Iterable[str] | None = None,
    theorems: Iterable[str] | None = None,
    checks: int | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """Every theorem that a problem file asks for, on every algorithm in it.

    With a numerical step all theorems of an algorithm share one run; with ``eta = "best"`` or ``"max"`` each has the
    step of its own. ``checks``: how many verdicts are read together (default: those of this file).
    """
    plan = planned(settings, algorithms, theorems)
    total = checks or sum(len(chosen) for _, chosen in plan)
    options = {
        "error": error if error is not None else settings.verify.error,
        "max_replicates": max_replicates if max_replicates is not None else settings.verify.max_replicates,
        "parameters": settings.verify.parameters,
        "a_posteriori": settings.verify.a_posteriori,
        "engine": settings.engine,
        "workers": workers,
        "progress": progress,
        "checks": total,
        "spec": settings.spec,
    }
    results: list[Result] = []
    for spec, chosen in plan:
        if spec.method is not None:
            results += _verify_method(settings, spec, [t for t in chosen if isinstance(t, Statement)], options)
            continue
        chosen = [t for t in chosen if isinstance(t, Theorem)]
        if isinstance(spec.eta, str):
            for one in chosen:
                unscaled = settings.experiment(spec, 0.1)
                eta = resolve_step(unscaled, one, spec.eta, settings.verify.a_posteriori)
                results += verify(unscaled.with_eta(eta), [one], **options)
        else:
            results += verify(settings.experiment(spec, spec.eta), chosen, **options)
    return results


def about(settings: Settings, spec: AlgorithmSpec, *, named: bool = False) -> list[Theorem | Statement]:
    """The theorems about an algorithm of a file; of a method's, those about that kind of run, and unless they are
    ``named`` only those whose premises hold."""
    if spec.method is None:
        return fitting(spec.name)
    trial = settings.runnable(spec, 0.5) if isinstance(spec.eta, str) else settings.runnable(spec)
    method = method_of(spec.name)
    return [*fitting_statements(method, method.before(trial), any_premise=named)]


def _verify_method(
    settings: Settings, spec: AlgorithmSpec, chosen: list[Statement], options: Mapping[str, Any]
) -> list[Result]:
    """Verdicts of statements; with ``eta = "max"`` each has the largest step of its own."""
    if settings.verify.parameters is not None:
        raise InputError(f"verify.parameters must be left out for {spec.name}, whose theorems have no free parameters")
    kept = {k: options[k] for k in ("error", "max_replicates", "engine", "workers", "progress", "checks", "spec")}
    if spec.eta != "max":
        return verify_statements(settings.runnable(spec), chosen, **kept)
    before = method_of(spec.name).before(settings.runnable(spec, 0.5))
    results: list[Result] = []
    named = settings.verify.theorems is not None
    for one in chosen:
        gamma = one.largest_step(before) if named or one.step is not None else math.inf
        if not (0 < gamma < math.inf) and not named:
            continue
        if not (0 < gamma < math.inf):
            raise InputError(
                f'algorithm.eta must be a number for theorem {one.key}, which admits no largest step here; got "max"'
            )
        results += verify_statements(settings.runnable(spec, gamma=gamma), [one], **kept)
    if not results:
        listed = ", ".join(one.key for one in chosen)
        raise InputError(
            f"algorithm.eta must be a number for {spec.name} on this problem, where none of its theorems ({listed})"
            ' names a largest step; got "max"'
        )
    return results


def planned(
    settings: Settings, algorithms: Iterable[str] | None = None, theorems: Iterable[str] | None = None
) -> list[tuple[AlgorithmSpec, list[Theorem | Statement]]]:
    """(algorithm, theorems) pairs of a problem file, restricted to the given names."""
    names = list(theorems) if theorems is not None else settings.verify.theorems
    wanted = [any_theorem(key) for key in names] if names is not None else None
    only = list(algorithms) if algorithms is not None else None
    plan = []
    for spec in settings.algorithms:
        if only is not None and spec.name not in only:
            continue
        fits = [t for t in about(settings, spec, named=names is not None) if wanted is None or t in wanted]
        if fits:
            plan.append((spec, fits))
    if not plan:
        raise InputError(
            f"{settings.name}: nothing to verify: verify.theorems {', '.join(names) if names is not None else '(all)'}"
            f" are not about algorithm.name {', '.join(s.name for s in settings.algorithms)}"
        )
    return plan
