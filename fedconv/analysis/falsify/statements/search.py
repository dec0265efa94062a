"""The falsifier for statements: random structured runs, then variations of the tightest of them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedconv.analysis.falsify.finding import Finding, Tick
from fedconv.analysis.falsify.shrink import shrink
from fedconv.analysis.falsify.statements.drawing import Draft
from fedconv.analysis.falsify.statements.target import ENOUGH, Score, Target
from fedconv.analysis.theorems.statement import Statement
from fedconv.analysis.verdicts.verdict import Verdict
from fedconv.problems.errors import InputError

BUDGETS = {"quick": 2_000, "full": 100_000}
"""Candidates tried at most: each is a run of its own, some milliseconds long."""

DRAWS = 60
"""Random runs of a pass."""

RUNGS = ((6, 15), (3, 30), (1, 60))
"""(runs kept, variations of each) one after another."""

TRIES = 80
"""Files tried in making a violation small."""

MARGIN = 0.05
"""A violation whose tightness exceeds 1 by that much still does when it has been made small."""

PATIENCE = 20
"""Candidates tried for a ratio after a violation whose bound is 0, negative or rounding."""


class Spent(Exception):
    """The budget is used up."""


@dataclass
class Hunt:
    """A search under way: what it has tried and seen. ``limit``: the most candidates; ``seconds``: the most time."""

    target: Target
    limit: float
    seconds: float
    tick: Tick
    tried: int = 0
    tightness: float = 0.0
    best: Draft | None = None
    within_floor: int = 0
    largest_excess: float = 0.0
    file: dict[str, Any] | None = None
    verdict: Verdict | None = None
    spare: Draft | None = None
    patience: int = PATIENCE
    about: int = 0
    unshown: int = 0
    _started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def take(self, draft: Draft) -> float:
        """The guide of a draft; a violation is put before the full verdict. Raises Spent where the budget is."""
        if self.tried >= self.limit or self.elapsed >= self.seconds:
            raise Spent
        score = self.target.score(draft)
        self.tried += 1
        self._note(draft, score)
        self.tick(self.tried, self.tightness)
        if score.violated and score.tightness > 1:
            self._confirm(draft, ratio=True)
        elif score.violated:
            self.spare = self.spare or draft
        self.patience -= self.spare is not None
        if self.spare is not None and self.patience <= 0 and self.file is None:
            self._confirm(self.spare, ratio=False)
            self.spare, self.patience = None, PATIENCE
        return score.guide

    def _note(self, draft: Draft, score: Score) -> None:
        self.about += score.verdict is not None and score.verdict.status != "premises_unmet"
        if score.tightness > self.tightness and not score.violated:
            self.tightness, self.best = score.tightness, draft
        if score.within_floor:
            self.within_floor += 1
            self.largest_excess = max(self.largest_excess, score.tightness - 1, 0.0)

    def settle(self) -> None:
        """A violation without a ratio is better than none."""
        if self.file is None and self.spare is not None:
            self._confirm(self.spare, ratio=False)

    def _confirm(self, draft: Draft, *, ratio: bool) -> None:
        """Keep the violation, made small, where the full verdict of ``fedconv verify`` says so too; one that has a
        ``ratio`` keeps one."""
        found = self.target.realise(draft)
        assert found is not None
        whole = found[0]
        verdict = self._refuted(whole)
        if verdict is None:
            self.unshown += 1
            return
        self.best, self.tightness = draft, verdict.tightness if ratio else math.inf
        self.file, self.verdict = whole, verdict

        needed = min(1 + MARGIN, verdict.tightness) if ratio else 0.0

        def violates(file: dict[str, Any]) -> bool:
            score = self.target.judge_file(file)
            return score.violated and score.tightness >= needed

        small = shrink(whole, violates, TRIES, self.target.drawing.steps)
        verdict = self._refuted(small)
        if verdict is not None:
            self.file, self.verdict = small, verdict

    def _refuted(self, file: dict[str, Any]) -> Verdict | None:
        """The full verdict where it is *violated*; for a weakened statement only where the true one is not."""
        verdict = self.target.full(file)
        if verdict is None or verdict.status != "violated":
            return None
        original = self.target.original
        kept = None if self.target.statement is original else Target(original, original).full(file)
        return None if kept is not None and kept.status == "violated" else verdict


def falsify_statement(
    statement: Statement,
    *,
    mutant: str | None = None,
    limit: float = math.inf,
    seconds: float = math.inf,
    seed: int = 0,
    tick: Tick | None = None,
) -> Finding:
    """Search for a violation of a statement, or of its mutant of that key, with at most ``limit``
    candidates or ``seconds``; the same seed and limit give the same result. Ctrl-C ends the search."""
    weak = statement if mutant is None else statement.mutate(statement.mutant(mutant))
    target = Target(weak, statement)
    if not target.wishes.kinds:
        raise InputError(f"theorem {weak.key} cannot be searched: no run that is drawn is one that it is about")
    hunt = Hunt(target, limit, seconds, tick or (lambda tried, best: None))
    rng, interrupted = np.random.default_rng(seed), False
    try:
        while hunt.file is None:
            _pass(hunt, rng)
    except Spent:
        hunt.settle()
    except KeyboardInterrupt:
        interrupted = True
        hunt.settle()
    if hunt.file is None and hunt.best is not None:
        found = hunt.target.realise(hunt.best)
        hunt.verdict = None if found is None else hunt.target.full(found[0], ENOUGH)
    return Finding(
        theorem=weak,
        file=hunt.file,
        verdict=hunt.verdict,
        tightness=hunt.tightness,
        where=hunt.best.describe() if hunt.best is not None else "",
        tried=hunt.tried,
        within_floor=hunt.within_floor,
        largest_excess=hunt.largest_excess,
        seconds=hunt.elapsed,
        interrupted=interrupted,
        about=hunt.about,
        unshown=hunt.unshown,
    )


def _pass(hunt: Hunt, rng: np.random.Generator) -> None:
    """Random runs, then variations of the tightest, fewer and longer by turns; ends with the first violation."""
    how, wishes = hunt.target.drawing, hunt.target.wishes
    pool: list[tuple[float, Draft]] = []
    for _ in range(DRAWS):
        draft = how.draw(rng, wishes)
        pool.append((hunt.take(draft), draft))
        if hunt.file is not None:
            return
    for kept, variations in RUNGS:
        pool = _tightest(pool, kept)
        for place, (guide, draft) in enumerate(pool):
            for _ in range(variations):
                other = how.vary(draft, rng, wishes)
                found = hunt.take(other)
                if hunt.file is not None:
                    return
                if found >= guide:
                    guide, draft = found, other
            pool[place] = (guide, draft)


def _tightest(pool: list[tuple[float, Draft]], count: int) -> list[tuple[float, Draft]]:
    """The tightest of those that start at the optimum and of the others, by turns."""
    ranked = sorted(pool, key=lambda item: -item[0])
    at, off = ([x for x in ranked if x[1].at_optimum is known] for known in (True, False))
    mixed = [x for both in zip(at, off, strict=False) for x in both]
    return [*mixed, *at[len(off) :], *off[len(at) :]][:count]
