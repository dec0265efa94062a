"""A setting of the search: an experiment, bounds about it, and its truth; and when a verdict on it is false."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp

from fedconv.analysis.theorems import THEOREMS, Theorem
from fedconv.analysis.theorems.base import SAMPLING, delta, rhs, weight_u, weight_v
from fedconv.analysis.theorems.split.facts import Inputs, of_experiment
from fedconv.analysis.verdicts.check import Result
from fedconv.analysis.verdicts.verdict import CERTAIN
from fedconv.core.run import Experiment
from soundness.own import NAMES
from soundness.precise import Precise
from soundness.truth import Truth

BEYOND = 1e-6
"""A relative difference that counts: below it the truth itself may be rounding."""

ROUNDING = 1e-11
"""Absolute differences of the bound that count, as a share of the size of F's terms over ηT."""


class Refused(Exception):
    """What the setting brings is refused by the tool before anything can be decided."""


@dataclass(frozen=True)
class Setting:
    """``true``: these theorems are proved for this experiment, so that none may be violated. ``truth`` None: nothing
    else is known. ``spec``: the problem file, where one says all."""

    group: str
    number: int
    experiment: Experiment
    theorems: tuple[Theorem, ...]
    truth: Truth | Precise | None
    error: float = 1e-6
    engine: str = "auto"
    max_replicates: int = 1024
    a_posteriori: bool | str = "auto"
    judged: bool = False
    true: tuple[str, ...] = tuple(THEOREMS)
    spec: Mapping[str, Any] | None = None
    notes: str = ""
    decide: Callable[[], list[Case]] | None = None
    """The cases, where they do not come from :func:`fedconv.analysis.verdicts.verify.verify` or ``judge``."""

    @cached_property
    def inputs(self) -> Inputs:
        return of_experiment(self.experiment)


@dataclass(frozen=True)
class Case:
    """A verdict with its truth. ``false``: in words, or ""; ``approximate``: said to be; ``certain``: no chance."""

    theorem: str
    status: str
    false: str
    measured: float
    bound: float
    truth: float
    true_bound: float
    error: float
    approximate: bool
    certain: bool
    replicates: int
    method: str


@dataclass
class Tried:
    """What became of a setting."""

    group: str
    number: int
    cases: list[Case] = field(default_factory=list)
    refused: str = ""
    crashed: str = ""
    notes: str = ""


def sides(setting: Setting, theorem: Theorem, result: Result) -> tuple[float, float, float, bool]:
    """(left side, right side, rounding that does not count, whether the premises hold), in truth."""
    inputs, truth, verdict = setting.inputs, setting.truth, result.verdict
    assert truth is not None
    values = dict(inputs.values)
    if isinstance(truth, Precise):
        values["gap0"] = truth.gap0
    with np.errstate(all="ignore"):
        X, Y, D = (float(x.mean()) for x in (truth.X, truth.Y, truth.D))
        if verdict.a_posteriori:
            visited = math.inf if math.isnan(D) else max(D, 0.0)
            values |= {"delta": math.sqrt(visited), "rho": 0.0}
        evaluated = theorem.evaluate(values, verdict.parameters)
        left = 0.0
        for present, weight, L, measured in (
            (inputs.blocks[0], "weight_u", "L_u", X), (inputs.blocks[1], "weight_v", "L_v", Y)
        ):  # fmt: skip
            if present and float(evaluated[weight]) != 0:
                left += float(evaluated[weight]) / float(evaluated[L]) * measured
    terms = truth.terms if isinstance(truth, Precise) else inputs.scale
    rounding = ROUNDING * terms / (inputs.values["eta"] * inputs.values["T"])
    left = math.inf if math.isnan(left) else left
    return left, float(evaluated["rhs"]), rounding, not theorem.unmet(evaluated)


def examine(setting: Setting, theorem: Theorem, result: Result) -> Case:
    """Whether a verdict is false."""
    verdict = result.verdict
    left = right = math.nan
    false = ""
    if setting.truth is not None:
        left, right, rounding, met = sides(setting, theorem, result)
        false = _false(setting, theorem, verdict.status, left, right, rounding, met)
    if verdict.status == "violated" and theorem.key in setting.true and not false:
        false = "it is proved"
    return Case(
        theorem.key, verdict.status, false, verdict.measured, verdict.bound, left, right, verdict.error,
        approximate(verdict), verdict.method in CERTAIN, verdict.replicates, verdict.method,
    )  # fmt: skip


def _false(
    setting: Setting, theorem: Theorem, status: str, left: float, right: float, rounding: float, met: bool
) -> str:
    """Why a status is false for these sides, in words, or ""."""
    if status not in ("holds", "violated"):
        return ""
    words = f"its left side is {left:.6g}, its right side {right:.6g}"
    if not met:
        return "a premise fails"
    if isinstance(setting.truth, Truth) and setting.truth.refuted:
        return f"the run refutes its constants: {setting.truth.refuted}"
    if not math.isfinite(left) and not math.isfinite(right):
        return "both sides are infinite"
    room = BEYOND * abs(right) + rounding
    above, below = left > right + room, left < right - BEYOND * abs(right)
    if theorem.kind == "equality":
        return words if (status == "holds") == (abs(left - right) > room) else ""
    if theorem.kind == "lower":
        above, below = below, above
    return words if (above if status == "holds" else below) else ""


def approximate(said: Any) -> bool:
    """Whether a verdict, or what is said of a lemma, is called approximate."""
    return bool(getattr(said, "approximate", False)) or "approximate" in said.status


# ---- bounds of a user's own ------------------------------------------------------------------------------------------


def about_own(theorem: Theorem) -> Theorem:
    """The theorem's formula, said of the subclasses in ``soundness.own`` too."""
    return replace(theorem, key=f"{theorem.key}-own", algorithms=(*theorem.algorithms, *NAMES), mutants=())


def own_bound(experiment: Experiment, key: str, right: sp.Expr, **more: Any) -> Theorem:
    """X/L_u + Y/L_v ≤ right, of whatever algorithm, measured where the algorithm's theorems measure."""
    at_virtual = experiment.algorithm.measured_at == "virtual"
    return Theorem(
        key=key,
        title="a bound of one's own",
        source="",
        algorithms=("fedalt", "fedsim", "fedavg", "local", *NAMES),
        definitions={**SAMPLING, weight_u: sp.Integer(1), weight_v: sp.Integer(1), rhs: right},
        conditions=(),
        free=(),
        shared="grad_u_virtual_sq" if at_virtual else "grad_u_sq",
        diversity="diversity_virtual" if at_virtual else "diversity",
        **more,
    )


def own_left(experiment: Experiment, truth: Truth) -> float:
    """The left side of :func:`own_bound`, in truth."""
    inputs = of_experiment(experiment)
    parts = zip(inputs.blocks, ("L_u", "L_v"), (truth.X, truth.Y), strict=True)
    return sum(float(x.mean()) / inputs.values[L] for there, L, x in parts if there)


def at_factor(experiment: Experiment, truth: Truth, factor: float, share: float | None = None) -> Theorem:
    """A bound at ``factor`` times the left side's expectation; ``share`` of it is a multiple of δ²."""
    total = factor * own_left(experiment, truth)
    if not math.isfinite(total):
        total = 1.0
    right: sp.Expr = sp.Float(total, 17)
    if share is not None and truth.diversity > 0:
        right = sp.Float(total * (1 - share), 17) + sp.Float(total * share / truth.diversity, 17) * delta**2
    return own_bound(experiment, f"at {factor:g}", right)
