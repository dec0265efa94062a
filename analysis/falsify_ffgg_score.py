"""How close a run of FFGG brings a statement to being violated: by the run itself, or by its exact expectation."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import sympy as sp
import torch

from analysis.falsify_ffgg_draw import KINDS, Draft, Wishes, draw
from analysis.falsify_space import UNMET
from analysis.falsify_verdict import is_about
from analysis.methods import methods
from analysis.statement_check import StatementCheck
from analysis.statement_verify import verify_statements
from analysis.theorems.base import substitute, symbol
from analysis.theorems.statement import Sides, Statement, StatementInputs
from analysis.verdict import Verdict
from fedconv.algorithms.base import State
from fedconv.config import settings_from
from fedconv.ffgg.build import build
from fedconv.ffgg.experiment import FFGGExperiment
from fedconv.methods import Request
from fedconv.streams import Streams
from problems.errors import InputError
from problems.noise import Noise
from problems.registry import build_problem

REPLICATES, ENOUGH = 64, 1024
"""Replicates of a run that draws: to rank candidates, and to decide."""

ERROR = 1e-6
"""One-sided error of a verdict on sampled replicates."""

ABOVE_FLOOR = 1e5
"""A ratio is one only where the bound is that many times the floor for rounding."""

MOST_STEP = 10.0
"""Steps tried where a weakened statement admits any, in units of the statement's own largest step."""

FAR = 50.0
"""The guide of a run that is above a bound of 0."""


SHAKEN = 1e-13
"""Relative rounding error of an input and of what is computed from it."""

MOVED = 1e-13
"""By how much, absolute and relative, the starts differ from which a violation must stay one."""

KNOWN = ("exact", "deterministic", "pathwise")
"""Methods of verdicts on what was measured without sampling error."""


@dataclass(frozen=True)
class Score:
    """``guide``: what the search climbs; ``verdict``: on the run, None where the statement says nothing about it;
    ``tightness``: measured value over bound, 0 where the bound is rounding; ``violated``: above the bound by more than
    rounding; ``within_floor``: above it, but by no more than that."""

    guide: float
    verdict: Verdict | None
    tightness: float = 0.0
    violated: bool = False
    within_floor: bool = False


NOTHING = Score(2 * UNMET, None)


@dataclass(frozen=True)
class Record:
    """What a run recorded, with the few of ``xarray.Dataset``'s attributes that statements read."""

    arrays: Mapping[str, np.ndarray]
    sizes: Mapping[str, int]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> Values:
        return Values(self.arrays[name])


@dataclass(frozen=True)
class Values:
    values: np.ndarray


@dataclass(frozen=True)
class Target:
    """A statement, true or weakened, and the true one, whose largest step is the unit of steps."""

    statement: Statement
    original: Statement

    @cached_property
    def wishes(self) -> Wishes:
        """What runs the statement is about, as its premises say; a premise left out is one to break."""
        kept, all_ = ({p.name for p in s.premises} for s in (self.statement, self.original))
        dropped = all_ - kept
        relaxed = len(self.statement.conditions) < len(self.original.conditions)
        return Wishes(
            kinds=tuple(k for k in self.kinds if k != "worlds" or "overpersonalized" not in kept),
            most_step=MOST_STEP if relaxed else 1.0,
            one_step=self.original.step is None and bool(self.statement.conditions),
            over=False if "overpersonalized" in dropped else (True if "overpersonalized" in kept else None),
            convex=False if "convex" in dropped else (True if "convex" in kept else None),
            cold="warm" in dropped,
            aggregator="trimmed_mean" if "trim" in kept else None,
        )

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of run that the statement fits."""
        return tuple(kind for kind, found in _examples().items() if any(map(self.statement.fits, found)))

    @cached_property
    def largest(self) -> Callable[[Mapping[str, float]], float]:
        """The original's largest step from the inputs' values, 1/L where it names none (∞ where nothing bounds it)."""
        closed: dict[sp.Symbol, sp.Expr] = {}
        for s, e in self.original.definitions.items():
            closed[s] = substitute(sp.sympify(e), closed)
        measured = {x.name for x in self.original.measured}
        compiled = []
        for condition in self.original.conditions:
            left = substitute(sp.sympify(condition.left), closed)
            names = sorted(map(str, left.free_symbols))
            if "gamma" in names and not measured & set(names):
                compiled.append((names, sp.lambdify([symbol(x) for x in names], left, "numpy"), condition.strict))

        def admissible(values: Mapping[str, float], gamma: float) -> bool:
            known = {**values, "gamma": np.float64(gamma)}
            found = [(float(f(*(known[x] for x in names))), strict) for names, f, strict in compiled]
            return all(left < 1 if strict else left <= 1 for left, strict in found)

        def largest(values: Mapping[str, float]) -> float:
            first = 1 / values["L"] if values["L"] > 0 else 1.0
            if not compiled or self.original.step is None:
                return first
            low, high = 0.0, first
            with np.errstate(all="ignore"):
                while admissible(values, high):
                    low, high = high, 2 * high
                    if high > 1e6 * first:
                        return first
                while high - low > 1e-13 * high and high > 1e-9 * first:
                    middle = 0.5 * (low + high)
                    low, high = (middle, high) if admissible(values, middle) else (low, middle)
            return low

        return largest

    def realise(self, draft: Draft) -> tuple[dict[str, Any], FFGGExperiment, StatementInputs] | None:
        """The draft's problem file, experiment and inputs with its step size; None where the statement is not about it.

        Raises InputError for a draft that is no run.
        """
        u = np.zeros(draft.d_u) if draft.u is None else draft.u
        file = draft.file(u, 1.0, self.original.key)
        experiment = _built(file)
        if draft.u is None:
            nearest = experiment.honest.nearest_minimiser(experiment.start.u)
            if nearest is None:
                return None
            u = nearest.numpy()
            experiment = replace(experiment, start=State(nearest, experiment.start.v))
        inputs = _before(experiment)
        if not is_about(self.statement, inputs):
            return None
        gamma = draft.step * self.largest(inputs.values)
        if not 0 < gamma < math.inf:
            return None
        inputs = replace(inputs, values=inputs.values | {"gamma": gamma})
        return draft.file(u, gamma, self.original.key), experiment.with_gamma(gamma), inputs

    def score(self, draft: Draft) -> Score:
        """Of a draft; its guide is UNMET where premises or conditions fail, twice that where it is no such run."""
        try:
            found = self.realise(draft)
        except InputError:
            return NOTHING
        return NOTHING if found is None else self.judge(*found[1:])

    def judge(self, experiment: FFGGExperiment, inputs: StatementInputs, replicates: int = REPLICATES) -> Score:
        """The score of one run; a violation is one if it stays one from starts that differ by rounding."""
        score = self._judge(experiment, inputs, replicates)
        if not score.violated:
            return score
        assert score.verdict is not None
        excess = abs(score.verdict.measured - score.verdict.bound)
        for share in (MOVED, -MOVED):
            start = State(*(x + share * (1 + x.abs()) for x in (experiment.start.u, experiment.start.v)))
            moved = replace(experiment, start=start)
            other = self._judge(moved, replace(inputs, values=_before(moved).values), replicates).verdict
            assert other is not None
            if other.status != "violated" or abs(other.measured - other.bound) < 0.1 * excess < math.inf:
                return replace(score, guide=0.0, tightness=0.0, violated=False, within_floor=True)
        return score

    def _judge(self, experiment: FFGGExperiment, inputs: StatementInputs, replicates: int) -> Score:
        """By the verdict on the run, on its exact expectation where that costs little, or on some replicates."""
        single = experiment.deterministic
        exact = None
        if not single and not self.statement.pathwise:
            exact = methods()["ffgg"].exact(experiment)
        if exact is not None and not all(x in exact for one in self.statement.measured for x in one.variables):
            exact = None
        check = StatementCheck(self.statement, inputs, single, ERROR, 1, exact is not None)
        with np.errstate(all="ignore"):
            trace: Any = exact if exact is not None else _recorded(experiment, 1 if single else replicates)
            sides = self.statement.evaluate(inputs, trace)
            check.lhs.append(sides.lhs)
            check.rhs.append(sides.rhs)
            check.floor = sides.floor if math.isfinite(sides.floor) else 0.0
            check.unmet = self.statement.unmet(inputs, sides.values)
            verdict = check.verdict()
        if verdict.status == "premises_unmet":
            return Score(UNMET, verdict)
        violated = verdict.status == "violated" and verdict.bound < math.inf
        real = violated and not self._is_rounding(inputs, trace, sides, verdict)
        near = verdict.method in KNOWN and verdict.status == "holds" and verdict.measured > verdict.bound
        guide = _guide(verdict, check.floor, self.statement.kind) if real or not violated else 0.0
        return Score(guide, verdict, _ratio(verdict, check.floor), real, near or (violated and not real))

    def _is_rounding(self, inputs: StatementInputs, trace: Any, sides: Sides, verdict: Verdict) -> bool:
        """Whether the excess is one that a change of every input by the share SHAKEN can make: a rate 1 − γμ that
        rounds to below 0, or two sums that cancel."""
        excess = abs(verdict.measured - verdict.bound)
        if not math.isfinite(excess):
            return False
        moved = 0.0
        with np.errstate(all="ignore"):
            for name in self.statement.needs & set(inputs.values):
                shaken = replace(inputs, values=inputs.values | {name: inputs.values[name] * (1 + SHAKEN)})
                other = self.statement.evaluate(shaken, trace)
                change = np.abs((other.lhs - other.rhs) - (sides.lhs - sides.rhs))
                moved += float(np.max(change, where=np.isfinite(change), initial=0.0))
        return excess <= moved

    def judge_file(self, file: Mapping[str, Any], replicates: int = ENOUGH) -> Score:
        """The same on a problem file."""
        try:
            experiment = _built(file)
            inputs = _before(experiment)
            return self.judge(experiment, inputs, replicates) if is_about(self.statement, inputs) else NOTHING
        except InputError:
            return NOTHING

    def full(self, file: Mapping[str, Any]) -> Verdict | None:
        """The verdict of ``fedconv verify`` on a file; None where it refuses the file."""
        try:
            settings = settings_from(file, "candidate")
            experiment = settings.runnable(settings.algorithms[0])
            assert isinstance(experiment, FFGGExperiment)
            if not is_about(self.statement, _before(experiment)):
                return None
            return verify_statements(experiment, [self.statement])[0].verdict
        except InputError:
            return None


def _ratio(verdict: Verdict, floor: float) -> float:
    """Measured value over bound; a sampled one counts with its lower limit; 0 where the bound is rounding."""
    measured = verdict.measured if verdict.method in KNOWN else verdict.low
    if not (verdict.bound > ABOVE_FLOOR * floor and math.isfinite(verdict.bound) and math.isfinite(measured)):
        return 0.0
    return max(0.0, measured / verdict.bound)


def _guide(verdict: Verdict, floor: float, kind: str) -> float:
    """log of measured value over bound, the floor for rounding added to it; of an equality: of the difference."""
    measured, bound = verdict.measured, verdict.bound
    if not (math.isfinite(measured) and math.isfinite(bound)):
        return -FAR if verdict.status != "violated" else FAR
    if kind == "equality":
        measured, bound = abs(measured - bound), 1e-6 * max(abs(measured), abs(bound))
    if bound <= 0:
        return FAR if measured > bound + 10 * floor else -FAR
    return min(FAR, math.log(max(measured, 1e-30) / (bound + 10 * floor)))


def _built(file: Mapping[str, Any]) -> FFGGExperiment:
    """The experiment of a problem file whose start is a point. Raises InputError."""
    problem = build_problem(file["problem"])
    start = State(*(torch.from_numpy(np.array(file["start"][k], dtype=float)) for k in "uv"))
    algorithm = file["algorithm"]
    sections = {k: file[k] for k in ("fine_tuning", "async", "byzantine") if k in file}
    request = Request(
        problem, start, Noise(law="zero"), file["run"]["T"], 0, "candidate", algorithm["m"], algorithm.get("tau"), None,
        algorithm["gamma"], sections,
    )  # fmt: skip
    return build(request)


def _before(experiment: FFGGExperiment) -> StatementInputs:
    return methods()["ffgg"].before(experiment)


@cache
def _examples() -> dict[str, list[StatementInputs]]:
    """Inputs of some runs of every kind."""
    rng, found = np.random.default_rng(0), {}
    for kind in KINDS:
        found[kind] = []
        while len(found[kind]) < 3:
            draft = draw(rng, Wishes((kind,)))
            with contextlib.suppress(InputError):
                found[kind].append(_before(_built(draft.file(np.zeros(draft.d_u), 1.0, ""))))
    return found


def _recorded(experiment: FFGGExperiment, replicates: int) -> Record:
    arrays = experiment.block(Streams(experiment.seed), np.arange(replicates), "stationarity", "eager")
    return Record(arrays, {"replicate": replicates, "round": experiment.T})
