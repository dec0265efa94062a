"""Settings of what users bring: subclasses, participation, constants and bounds of their own. The engine is "auto":
what is exact or compiled for the parent must not be taken for the subclass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp

from fedconv.analysis.theorems import FA, FS, THEOREMS, Theorem
from fedconv.analysis.theorems.base import delta, gap0
from fedconv.core.run import Experiment
from fedconv.methods.split import FedAlt, FedSim
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from soundness import own
from soundness.drawing import FALSE, TRUE, built, error, eta, file, pick
from soundness.setting import Refused, Setting, about_own, at_factor, own_bound, own_left
from soundness.truth import Truth, by_paths, every_cohort, every_mask, fits


def _problem(rng: np.random.Generator, n: int, personal: tuple[int, ...] = (1, 2)) -> dict[str, Any]:
    """A small quadratic or trigonometric problem of which paths can be enumerated; δ is finite."""
    family = pick(rng, "quadratic", "trigonometric")
    d_u, d_v = pick(rng, 1, 2), pick(rng, *personal)
    if family == "quadratic":
        return {"family": family, "n": n, "d_u": d_u, "d_v": d_v, "coupling": 0.0, "seed": int(rng.integers(1000))}
    return {"family": family, "n": n, "d_u": d_u, "d_v": d_v, "chi": pick(rng, 0.0, 0.3) if d_v else 0.0, "delta": 1.0,
            "spread": 0.5 if d_v else 0.0} | ({} if d_v else {"L_v": 0.0})  # fmt: skip


def _base(rng: np.random.Generator, *personal: int) -> Experiment:
    n = pick(rng, 2, 3, 4)
    noise = pick(rng, {"law": "zero"}, {"law": "zero"}, {"law": "rademacher", "sigma_u": 0.5})
    tau = 1 if noise["law"] != "zero" else pick(rng, 1, 2, 4)
    start = {"kind": "normal", "seed": int(rng.integers(1000))}
    spec = file(rng, _problem(rng, n, personal or (1, 2)), noise=noise, start=start,
                algorithm={"name": "fedalt", "m": int(rng.integers(1, n + 1)), "tau": tau}, run={"T": 12})  # fmt: skip
    return built(spec)


def _shortened(experiment: Experiment, possible: Callable[[Experiment], bool]) -> Experiment:
    """With the longest horizon of which paths can be enumerated."""
    for T in range(experiment.T, 0, -1):
        shorter = replace(experiment, T=T)
        if possible(shorter):
            return shorter
    return replace(experiment, T=1, noise=Noise("zero"))


def _on_cohorts(experiment: Experiment) -> bool:
    return fits(experiment, every_cohort(experiment.problem.n, experiment.algorithm.m))


def _theorems(rng: np.random.Generator, experiment: Experiment, truth: Truth, base: Theorem) -> tuple[Theorem, ...]:
    chosen = base.mutate(base.mutants[int(rng.integers(len(base.mutants)))])
    near = [at_factor(experiment, truth, pick(rng, *some)) for some in (FALSE, TRUE)]
    return (about_own(base), about_own(chosen), *near)


def algorithms(rng: np.random.Generator, number: int) -> Setting:
    """Server steps, momentum, control variates, clipping, proximal terms, decay."""
    base = _base(rng)
    if rng.random() < 0.1:
        try:
            kind, options = own.unnamed(), {}
        except InputError as said:
            raise Refused(str(said)) from said
    else:
        kind, options = own.ALGORITHMS[int(rng.integers(len(own.ALGORITHMS)))]
    given = {k: pick(rng, *values) for k, values in options.items()}
    a = base.algorithm
    algorithm = kind(a.m, a.gamma_u, a.gamma_v, tau_u=a.tau_u, tau_v=a.tau_v, **given)
    experiment = _shortened(replace(base, algorithm=algorithm), _on_cohorts)
    truth = by_paths(experiment)
    theorems = _theorems(rng, experiment, truth, FS if isinstance(algorithm, FedSim) else FA)
    return Setting("own algorithms", number, experiment, theorems, truth, error(rng), true=(),
                   judged=rng.random() < 0.2, notes=f"{kind.__name__} {given}")  # fmt: skip


def participation(rng: np.random.Generator, number: int) -> Setting:
    """Every client takes part with a probability of its own draw."""
    base = replace(_base(rng), noise=Noise("zero"))
    probability, a, n = pick(rng, 0.15, 0.5, 0.9), base.algorithm, base.problem.n
    algorithm = own.Bernoulli(n, a.gamma_u, a.gamma_v, tau_u=a.tau_u, tau_v=a.tau_v, probability=probability)
    cohorts = every_mask(n, probability)
    parts = {k: getattr(base, k) for k in ("problem", "noise", "start", "seed", "name")}
    experiment = own.BernoulliExperiment(**parts, algorithm=algorithm, T=4)
    experiment = _shortened(experiment, lambda e: fits(e, cohorts))
    truth = by_paths(experiment, cohorts, lambda state, mask, noise: algorithm.masked(base.problem, state, mask, noise))
    theorems = _theorems(rng, experiment, truth, FA)
    return Setting("own participation", number, experiment, theorems, truth, error(rng), true=(),
                   judged=rng.random() < 0.2, notes=f"probability {probability}")  # fmt: skip


def problems(rng: np.random.Generator, number: int) -> Setting:
    """A term is added to a built-in problem by a subclass."""
    base = _base(rng)
    mu_u, mu_v = pick(rng, (0.0, 1.0), (1.0, 0.0), (0.5, 2.0))
    problem = own.added(base.problem, mu_u, mu_v)
    kind = pick(rng, FedAlt, FedSim)
    a = base.algorithm
    algorithm = kind(a.m, a.gamma_u, a.gamma_v, tau_u=a.tau_u, tau_v=a.tau_v)
    # Long runs would go to the compiled engine: the exact route and the eager one are met by short ones.
    experiment = _shortened(replace(base, problem=problem, algorithm=algorithm).with_eta(eta(rng)), _on_cohorts)
    if experiment.deterministic and rng.random() < 0.5:
        experiment = replace(experiment, T=600)
    truth = by_paths(experiment)
    theorem = pick(rng, *[t for t in THEOREMS.values() if algorithm.name in t.algorithms])
    near = [at_factor(experiment, truth, pick(rng, *some)) for some in (FALSE, TRUE)]
    chosen = theorem.mutate(theorem.mutants[int(rng.integers(len(theorem.mutants)))])
    return Setting("own problems", number, experiment, (theorem, chosen, *near), truth, error(rng),
                   judged=rng.random() < 0.2, notes=f"{base.problem.family} with {mu_u}, {mu_v} more")  # fmt: skip


def bounds(rng: np.random.Generator, number: int) -> Setting:
    """Formulas of one's own: not affine in δ² where δ is infinite; lower bounds and equalities."""
    n = pick(rng, 2, 4)
    problem = {"family": "quadratic", "n": n, "d_u": 2, "d_v": 1, "coupling": 0.5, "seed": int(rng.integers(1000))}
    spec = file(rng, problem, start={"kind": "normal"}, algorithm={"m": n, "tau": pick(rng, 1, 2)},
                run={"T": pick(rng, 5, 50)})  # fmt: skip
    experiment = built(spec)
    truth = by_paths(experiment)
    left, visited = own_left(experiment, truth), math.sqrt(truth.diversity)
    power = pick(rng, sp.Rational(1, 2), sp.Rational(2, 3), sp.Integer(1), sp.Integer(3), sp.Integer(4))
    factor = pick(rng, 0.5, 0.9, 1.1, 2.0)
    size = sp.Float(factor * left / visited ** float(power), 17)
    shape = size * delta**power
    if rng.random() < 0.3:
        shape = shape * (gap0 / sp.Float(Setting("", 0, experiment, (), truth).inputs.values["gap0"], 17))
    kind = pick(rng, "upper", "upper", "lower", "equality")
    theorem = own_bound(experiment, f"delta^{power} {kind}", shape, kind=kind)
    return Setting("own bounds", number, experiment, (theorem,), truth, true=(), notes=f"{factor} of the left side")


def constants(rng: np.random.Generator, number: int) -> Setting:
    """Constants that are called exact and that every path of the run refutes."""
    for attempt in range(50):
        base = _base(rng, 0, 1)
        experiment = _shortened(base, _on_cohorts)
        k = base.problem.constants
        which = pick(rng, "F_star", "delta")
        if which == "F_star":
            at = float(base.problem.objective(base.start.u, base.start.v))
            value = k.F_star.value + pick(rng, 0.5, 0.9, 0.99) * (at - k.F_star.value)
        elif which == "delta":
            value = pick(rng, 0.0, 0.3) * k.delta.value
        else:
            value = k.L_u.value / pick(rng, 5.0, 20.0)
        problem = own.claiming(base.problem, **{which: value})
        kind = pick(rng, FedAlt, FedSim)
        a = base.algorithm
        algorithm = kind(a.m, a.gamma_u, a.gamma_v, tau_u=a.tau_u, tau_v=a.tau_v)
        experiment = replace(experiment, problem=problem, algorithm=algorithm).with_eta(eta(rng))
        truth = by_paths(experiment)
        if truth.refuted or attempt == 49:
            break
    theorems = tuple(t for t in THEOREMS.values() if algorithm.name in t.algorithms)
    return Setting("wrong constants", number, experiment, theorems, truth, true=(), judged=rng.random() < 0.3,
                   notes=f"{which} = {value:.4g}: {truth.refuted}")  # fmt: skip
