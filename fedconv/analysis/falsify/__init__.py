"""The falsifier: search for an instance that violates a theorem or a weakened version of one, and make it readable.

Statements about other methods: ``fedconv.analysis.falsify.statements.search``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from fedconv.analysis.falsify.finding import Finding, Tick
from fedconv.analysis.falsify.quick_verdict import full_verdict, quick_verdict
from fedconv.analysis.falsify.shrink import shrink
from fedconv.analysis.falsify.spaces.one_block import BLOCK, OneBlockSpace
from fedconv.analysis.falsify.spaces.quadratic import QuadraticSpace
from fedconv.analysis.falsify.spaces.search import Candidate, Record, Spent, refine, search
from fedconv.analysis.falsify.spaces.space import Space
from fedconv.analysis.falsify.spaces.trigonometric import TrigonometricSpace
from fedconv.analysis.falsify.statements.search import BUDGETS as RUNS
from fedconv.analysis.falsify.statements.search import falsify_statement
from fedconv.analysis.theorems import Theorem
from fedconv.analysis.theorems.statement import Statement
from fedconv.analysis.verdicts.verdict import Verdict
from fedconv.problems.errors import InputError

BUDGETS = {"quick": 40_000, "full": 2_000_000}
"""Candidates tried at most; those of other methods' statements, whose candidates are runs, are in
``falsify_statement``."""


def spaces(theorem: Theorem, original: Theorem | None = None) -> tuple[tuple[Space, float], ...]:
    """What is searched for a theorem, for every algorithm that it is about, with each space's share of the usual effort
    in a pass. Raises InputError where it is about one that no candidate runs: "no violation" would say nothing of it.

    FedAvg and local-only training have no space of their own where FedAlt is searched: among its candidates are those
    whose other block rests, with the same numbers.
    """
    chosen: list[tuple[Space, float]] = []
    for name in theorem.algorithms:
        if name in BLOCK and "fedalt" in theorem.algorithms:
            continue
        if name in BLOCK:
            chosen.append((OneBlockSpace(theorem, original, algorithm=name), 1.0))
        elif name in ("fedalt", "fedsim"):
            one = theorem if theorem.algorithms == (name,) else replace(theorem, algorithms=(name,))
            chosen += [(QuadraticSpace(one, original), 1.0), (TrigonometricSpace(one, original), 0.15)]
        else:
            raise InputError(
                f"theorem {theorem.key} cannot be searched: it is about {name!r}, and candidates run fedalt, fedsim,"
                f" {' and '.join(BLOCK)} alone; `fedconv.core.run` and `fedconv.analysis.verdicts.verify.verify`"
                " take any algorithm"
            )
    return tuple(chosen)


def most_candidates(theorem: Theorem | Statement, budget: str) -> int:
    """How many candidates a budget of that name allows."""
    return (RUNS if isinstance(theorem, Statement) else BUDGETS)[budget]


def falsify(
    theorem: Theorem | Statement,
    *,
    mutant: str | None = None,
    budget: str | float = "quick",
    seed: int = 0,
    tick: Tick | None = None,
) -> Finding:
    """Search for a violation of ``theorem``, or of its mutant of that key.

    budget: a key of BUDGETS (candidates: the same seed gives the same result), or a time in seconds. A violation is one
    only if the full verdict of ``fedconv verify`` says so, above its floor for rounding. Ctrl-C ends the search.
    """
    if isinstance(budget, str) and budget not in BUDGETS:
        raise InputError(f"budget must be one of {', '.join(BUDGETS)} or a number of seconds > 0; got {budget!r}")
    if not isinstance(budget, str) and not 0 < budget < math.inf:
        raise InputError(f"budget must be one of {', '.join(BUDGETS)} or a number of seconds > 0; got {budget}")
    if seed < 0:
        raise InputError(f"seed must be an integer >= 0; got {seed}")
    if isinstance(theorem, Theorem) and theorem.kind != "upper":
        what = {"lower": "a lower bound", "equality": "an equality"}[theorem.kind]
        raise InputError(f"what is searched for is a run that breaks an upper bound; theorem {theorem.key} is {what}")
    limit, seconds = math.inf, math.inf
    if isinstance(budget, str):
        limit = float(most_candidates(theorem, budget))
    else:
        seconds = float(budget)
    if isinstance(theorem, Statement):
        return falsify_statement(theorem, mutant=mutant, limit=limit, seconds=seconds, seed=seed, tick=tick)
    original = None if mutant is None else theorem
    target = theorem if mutant is None else theorem.mutate(theorem.mutant(mutant))
    return search_spaces(target, spaces(target, original), limit, seconds, seed, tick)


def search_spaces(
    target: Theorem,
    chosen: tuple[tuple[Space, float], ...],
    limit: float,
    seconds: float = math.inf,
    seed: int = 0,
    tick: Tick | None = None,
) -> Finding:
    """Search spaces by turns for a violation of ``target`` with at most ``limit`` candidates or ``seconds``."""
    rng = np.random.default_rng(seed)
    record = Record(lambda candidate: confirm(candidate, target), limit, seconds, tick or (lambda tried, best: None))
    interrupted = False
    file, verdict = None, None
    try:
        while file is None:
            while not any(search(space, record, rng, share) for space, share in chosen):
                pass
            refine(record, rng)
            file, verdict = _readable(record, target)
            if file is None:  # the full verdict rejects what the exact one found: go on without it
                record.violation, record.best, record.tightness = None, None, 0.0
    except Spent:
        pass
    except KeyboardInterrupt:
        interrupted = True
        if record.violation is not None:
            file, verdict = _readable(record, target)
    if file is None and record.best is not None:
        verdict = _verdict(record.best.file(), target)
    return Finding(
        theorem=target,
        file=file,
        verdict=verdict,
        tightness=record.tightness,
        where=record.best.describe() if record.best is not None else "",
        tried=record.tried,
        within_floor=record.within_floor,
        largest_excess=record.largest_excess,
        seconds=record.elapsed,
        interrupted=interrupted,
    )


def confirm(candidate: Candidate, target: Theorem) -> tuple[bool, float]:
    """Whether the exact verdict on a candidate's file is *violated*, and by how much it exceeds the bound."""
    verdict = _quick(candidate.file(), target)
    if verdict is None or verdict.status == "premises_unmet":
        return False, 0.0
    excess = verdict.tightness - 1 if math.isfinite(verdict.tightness) else 0.0
    return verdict.status == "violated", excess


def _quick(file: dict[str, Any], target: Theorem) -> Verdict | None:
    try:
        return quick_verdict(file, target)
    except InputError:
        return None


def _verdict(file: dict[str, Any], target: Theorem) -> Verdict | None:
    try:
        return full_verdict(file, target)
    except (InputError, ValueError):  # ValueError: a measured diversity of 0 that rounding made negative has no root
        return None


def _readable(record: Record, target: Theorem) -> tuple[dict[str, Any] | None, Verdict | None]:
    """The smallest file that the full verdict refutes: from the tightest candidate, else from the one confirmed first;
    (None, None) where it refutes none."""

    def violates(file: dict[str, Any]) -> bool:
        verdict = _quick(file, target)
        return verdict is not None and verdict.status == "violated" and math.isfinite(verdict.tightness)

    for candidate in (record.best, record.violation):
        if candidate is None:
            continue
        whole = candidate.file()
        for file in (shrink(whole, violates), whole):
            verdict = _verdict(file, target)
            if verdict is not None and verdict.status == "violated":
                return file, verdict
    return None, None
