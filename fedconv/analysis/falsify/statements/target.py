"""How close a run brings a statement to being violated: by the run itself, or by its exact expectation."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import combinations
from typing import Any

import numpy as np
import sympy as sp
import torch

from fedconv.analysis.falsify.quick_verdict import is_about
from fedconv.analysis.falsify.spaces.space import UNMET
from fedconv.analysis.falsify.statements.drawing import NOTHING as NO_NAMES
from fedconv.analysis.falsify.statements.drawing import Draft, Drawing, Record, Wishes, drawing, drawing_of
from fedconv.analysis.theorems.base import substitute, symbol
from fedconv.analysis.theorems.registry import methods
from fedconv.analysis.theorems.statement import Sides, Statement, StatementInputs
from fedconv.analysis.verdicts.statement_check import StatementCheck
from fedconv.analysis.verdicts.statement_verify import verify_statements
from fedconv.analysis.verdicts.verdict import Verdict
from fedconv.core.run import Runnable
from fedconv.core.streams import Streams
from fedconv.methods.registry import METHODS, Request
from fedconv.methods.split.method import State
from fedconv.problem_file.settings import settings_from
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.registry import build_problem

ENOUGH = 1024
"""Replicates of a run that draws, to decide; to rank candidates ``Drawing.few`` are enough."""

MOST = 4096
"""Replicates at most for the verdict of ``fedconv verify``."""

ERROR = 1e-6
"""One-sided error of a verdict on sampled replicates."""

ABOVE_FLOOR = 1e5
"""A ratio is one only where the bound is that many times the floor for rounding."""

MOST_STEP = 10.0
"""Steps tried where a weakened statement admits any, in units of the statement's own largest step."""

FAR = 50.0
"""The guide of a run that is above a bound of 0."""


SAME = 1e-9
"""Relative difference up to which two bounds are the same."""

SHAKEN = 1e-13
"""Relative rounding error of an input and of what is computed from it."""

MOVED = 1e-13
"""By how much, absolute and relative, the starts differ from which a violation must stay one."""

SILENT = Noise(law="zero")

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
class Target:
    """A statement, true or weakened, and the true one, whose largest step is the unit of steps."""

    statement: Statement
    original: Statement

    @cached_property
    def drawing(self) -> Drawing:
        return drawing_of(self.original)

    @cached_property
    def wishes(self) -> Wishes:
        """What runs the statement is about, as its premises say; a premise left out is one to break."""
        kept, all_ = (frozenset(p.name for p in s.premises) for s in (self.statement, self.original))
        left = {k.name for k in self.statement.conditions}
        about = zip(self.original.conditions, self._lefts, strict=True)
        relaxed = any(k.name not in left and symbol("gamma") in e.free_symbols for k, e in about)
        most = MOST_STEP if relaxed else (1.0 if self._bounds else self.drawing.loose)
        single = self.drawing.one_step and self.original.step is None and bool(self.statement.conditions)
        pairs = combinations([sp.sympify(k.left) for k in self.statement.conditions], 2)
        single |= any(a * b == 1 for a, b in pairs)
        found = Wishes(self.kinds, most, single, kept, all_ - kept)
        return replace(found, kinds=tuple(k for k in self.kinds if self.drawing.allows(k, found)))

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of run that the statement fits."""
        examples = _examples(self.drawing.name)
        return tuple(kind for kind, found in examples.items() if any(map(self.statement.fits, found)))

    @cached_property
    def _bounds(self) -> list[tuple[list[str], Callable[..., Any], bool]]:
        """The original's conditions on the step alone: names of their arguments, left side, and whether it is < 1."""
        measured = {x.name for x in self.original.measured}
        found = []
        for condition, left in zip(self.original.conditions, self._lefts, strict=True):
            names = sorted(map(str, left.free_symbols))
            if "gamma" in names and not measured & set(names):
                found.append((names, sp.lambdify([symbol(x) for x in names], left, "numpy"), condition.strict))
        return found

    @cached_property
    def _lefts(self) -> list[sp.Expr]:
        """Left sides of the original's conditions in inputs and measured numbers alone."""
        closed: dict[sp.Symbol, sp.Expr] = {}
        for s, e in self.original.definitions.items():
            closed[s] = substitute(sp.sympify(e), closed)
        return [substitute(sp.sympify(k.left), closed) for k in self.original.conditions]

    def largest(self, values: Mapping[str, float], unit: float) -> float:
        """The original's largest step from the inputs' values; ``unit`` where it names none, or where nothing bounds
        it. A condition that bounds the step from below takes no part."""
        if not self._bounds or self.original.step is None:
            return unit

        def lefts(gamma: float) -> list[float]:
            known = {**values, "gamma": np.float64(gamma)}
            return [float(f(*(known[x] for x in names))) for names, f, _ in self._bounds]

        with np.errstate(all="ignore"):
            falls = [low > high for low, high in zip(lefts(1e-6 * unit), lefts(2e-6 * unit), strict=True)]

            def admissible(gamma: float) -> bool:
                each = zip(lefts(gamma), self._bounds, falls, strict=True)
                return all(fall or (left < 1 if strict else left <= 1) for left, (_, _, strict), fall in each)

            low, high = 0.0, unit
            while admissible(high):
                low, high = high, 2 * high
                if high > 1e6 * unit:
                    return unit
            while high - low > 1e-13 * high and high > 1e-9 * unit:
                middle = 0.5 * (low + high)
                low, high = (middle, high) if admissible(middle) else (low, middle)
        return low

    def realise(self, draft: Draft) -> tuple[dict[str, Any], Runnable, StatementInputs] | None:
        """The draft's problem file, experiment and inputs with its step size; None where the statement is not about it.

        Raises InputError for a draft that is no run.
        """
        key = self.original.key
        experiment: Any = built(draft.file(None, 1.0, key))
        start = draft.start(experiment)
        if start is None:
            return None
        experiment = replace(experiment, start=start)
        inputs = self.drawing.before(experiment, NO_NAMES)
        if not is_about(self.statement, inputs):
            return None
        gamma = draft.step * self.largest(inputs.values, self.drawing.unit(experiment, inputs))
        if not 0 < gamma < math.inf:
            return None
        experiment = replace(experiment, algorithm=replace(experiment.algorithm, gamma=gamma))
        return draft.file(start, gamma, key), experiment, self._inputs(experiment)

    def _inputs(self, experiment: Runnable) -> StatementInputs:
        return self.drawing.before(experiment, self.statement.needs | self.original.needs)

    def _says_more(self, inputs: StatementInputs, trace: Any, sides: Sides) -> bool:
        """Whether a weakened statement claims more of a run than the true one does. Where it does not, the run cannot
        tell them apart, however tight it is."""
        true = self.original
        if self.statement is true or not is_about(true, inputs):
            return True
        other = true.evaluate(inputs, trace)
        same = all(
            np.allclose(x, y, rtol=SAME, atol=0, equal_nan=True)
            for x, y in ((sides.lhs, other.lhs), (sides.rhs, other.rhs))
        )
        return not same or bool(true.unmet(inputs, other.values))

    def score(self, draft: Draft) -> Score:
        """Of a draft; its guide is UNMET where premises or conditions fail, twice that where it is no such run."""
        try:
            found = self.realise(draft)
        except InputError:
            return NOTHING
        return NOTHING if found is None else self.judge(*found[1:])

    def judge(self, experiment: Runnable, inputs: StatementInputs, replicates: int = 0) -> Score:
        """The score of one run; a violation is one if it stays one from starts that differ by rounding.

        ``replicates`` of a run that draws: ``Drawing.few`` where 0.
        """
        replicates = replicates or self.drawing.few
        score = self._judge(experiment, inputs, replicates)
        if not score.violated:
            return score
        assert score.verdict is not None
        excess = abs(score.verdict.measured - score.verdict.bound)
        for share in (MOVED, -MOVED):
            start = State(*(x + share * (1 + x.abs()) for x in (experiment.start.u, experiment.start.v)))
            moved: Any = experiment
            moved = replace(moved, start=start)
            other = self._judge(moved, self._inputs(moved), replicates).verdict
            assert other is not None
            if other.status != "violated" or abs(other.measured - other.bound) < 0.1 * excess < math.inf:
                return replace(score, guide=0.0, tightness=0.0, violated=False, within_floor=True)
        return score

    def _judge(self, experiment: Runnable, inputs: StatementInputs, replicates: int) -> Score:
        """By the verdict on the run, on its exact expectation where that costs little, or on some replicates."""
        single, one = experiment.deterministic, self.statement
        exact: Any = None
        whole = None
        if not single and not one.pathwise:
            exact = methods()[self.drawing.name].exact(experiment)
            whole = self.drawing.paths(experiment, one) if exact is None else None
        if exact is not None and not all(x in exact for found in one.measured for x in found.variables):
            exact = None
        check = StatementCheck(one, inputs, single, ERROR, 1, exact is not None or whole is not None)
        with np.errstate(all="ignore"):
            trace: Any = exact if exact is not None else self._recorded(experiment, 1 if single else replicates, whole)
            sides = one.evaluate(inputs, trace)
            more = self._says_more(inputs, trace, sides)
            if whole is not None:
                sides = replace(sides, lhs=sides.lhs.mean(keepdims=True), rhs=sides.rhs.mean(keepdims=True))
            check.lhs.append(sides.lhs)
            check.rhs.append(sides.rhs)
            check.floor = sides.floor if math.isfinite(sides.floor) else 0.0
            check.unmet = one.unmet(inputs, sides.values)
            verdict = check.verdict()
        if verdict.status == "premises_unmet":
            return Score(UNMET, verdict)
        violated = verdict.status == "violated" and verdict.bound < math.inf
        real = violated and not self._is_rounding(inputs, trace, sides, verdict, whole is not None)
        small, large = _ordered(verdict)
        near = verdict.method in KNOWN and verdict.status == "holds" and small > large
        guide = _guide(verdict, check.floor) if real or not violated else 0.0
        if not more:
            guide -= 2 * FAR
        return Score(guide, verdict, _ratio(verdict, check.floor), real, near or (violated and not real))

    def _is_rounding(self, inputs: StatementInputs, trace: Any, sides: Sides, verdict: Verdict, mean: bool) -> bool:
        """Whether the excess is one that a change of every input by the share SHAKEN can make: a rate 1 − γμ that
        rounds to below 0, or two sums that cancel; ``mean``: the sides are means over the trace."""
        excess = abs(verdict.measured - verdict.bound)
        if not math.isfinite(excess):
            return False
        moved = 0.0
        with np.errstate(all="ignore"):
            for name in self.statement.needs & set(inputs.values):
                shaken = replace(inputs, values=inputs.values | {name: inputs.values[name] * (1 + SHAKEN)})
                other = self.statement.evaluate(shaken, trace)
                difference = other.lhs - other.rhs
                change = np.abs((difference.mean() if mean else difference) - (sides.lhs - sides.rhs))
                moved += float(np.max(change, where=np.isfinite(change), initial=0.0))
        return excess <= moved

    def _recorded(self, experiment: Runnable, replicates: int, whole: tuple[Streams, int] | None = None) -> Record:
        """Replicates of a run, or its equally likely courses."""
        streams, count = (Streams(experiment.seed), replicates) if whole is None else whole
        engine = experiment.choose("auto")[0]
        arrays = experiment.block(streams, np.arange(count), "stationarity", engine)
        more, attrs = self.drawing.extras(experiment)
        sizes = {"replicate": count, "round": experiment.T, "client": experiment.problem.n}
        return Record(arrays | more, sizes, attrs)

    def judge_file(self, file: Mapping[str, Any]) -> Score:
        """The same on a problem file; a run that draws has ENOUGH replicates, few where each of them decides."""
        replicates = 0 if self.statement.pathwise else ENOUGH
        try:
            experiment = built(file)
            inputs = self._inputs(experiment)
            return self.judge(experiment, inputs, replicates) if is_about(self.statement, inputs) else NOTHING
        except InputError:
            return NOTHING

    def full(self, file: Mapping[str, Any], most: int = MOST) -> Verdict | None:
        """The verdict of ``fedconv verify`` on a file, with at most so many replicates; None where it refuses it."""
        try:
            settings = settings_from(file, "candidate")
            experiment = settings.runnable(settings.algorithms[0])
            if not is_about(self.statement, methods()[self.drawing.name].before(experiment)):
                return None
            return verify_statements(experiment, [self.statement], max_replicates=most)[0].verdict
        except InputError:
            return None


def _ordered(verdict: Verdict, sampled: bool = False) -> tuple[float, float]:
    """What should be at most the other, and the other. ``sampled``: the measured value is replaced by the limit that
    speaks for the claim."""
    lower = verdict.kind == "lower"
    measured = (verdict.high if lower else verdict.low) if sampled else verdict.measured
    return (verdict.bound, measured) if lower else (measured, verdict.bound)


def _ratio(verdict: Verdict, floor: float) -> float:
    """Measured value over bound (of a lower bound, bound over measured value); a sampled one counts with its limit; 0
    where what divides is rounding."""
    measured, bound = _ordered(verdict, verdict.method not in KNOWN)
    if not (bound > ABOVE_FLOOR * floor and math.isfinite(bound) and math.isfinite(measured)):
        return 0.0
    return max(0.0, measured / bound)


def _guide(verdict: Verdict, floor: float) -> float:
    """log of measured value over bound (of a lower bound, the other way round), the floor for rounding added to what
    divides; of an equality: of the difference."""
    measured, bound = _ordered(verdict)
    if not (math.isfinite(measured) and math.isfinite(bound)):
        return -FAR if verdict.status != "violated" else FAR
    if verdict.kind == "equality":
        measured, bound = abs(measured - bound), 1e-6 * max(abs(measured), abs(bound))
    if bound <= 0:
        return FAR if measured > bound + 10 * floor else -FAR
    return min(FAR, math.log(max(measured, 1e-30) / (bound + 10 * floor)))


def built(file: Mapping[str, Any]) -> Runnable:
    """The experiment of a problem file whose start is a point. Raises InputError."""
    problem = build_problem(file["problem"])
    zero = {"u": (problem.d_u,), "v": (problem.n, problem.d_v)}
    given = {k: np.array(file["start"].get(k, np.zeros(shape)), dtype=float) for k, shape in zero.items()}
    start = State(*(torch.from_numpy(given[k].reshape(zero[k])) for k in "uv"))
    algorithm = file["algorithm"]
    method = METHODS[algorithm["name"]]
    sections = {k: file[k] for k in method.sections if k in file}
    noise = Noise(**file["noise"]) if "noise" in file else SILENT
    request = Request(
        problem, start, noise, file["run"]["T"], 0, "candidate", algorithm["m"], algorithm.get("tau"), None,
        algorithm["gamma"], sections,
    )  # fmt: skip
    return method.build(request)


@cache
def _examples(method: str) -> dict[str, list[StatementInputs]]:
    """Inputs of some runs of every kind."""
    how = drawing(method)
    rng, found = np.random.default_rng(0), {}
    for kind in how.kinds:
        found[kind] = []
        while len(found[kind]) < 3:
            draft = how.draw(rng, Wishes((kind,)))
            with contextlib.suppress(InputError):
                found[kind].append(how.before(built(draft.file(None, 1.0, "")), NO_NAMES))
    return found
