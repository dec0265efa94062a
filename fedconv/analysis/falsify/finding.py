"""What a search for a violation came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fedconv.analysis.theorems import Theorem
from fedconv.analysis.theorems.statement import Statement
from fedconv.analysis.verdicts.verdict import Verdict

Tick = Callable[[int, float], None]
"""Hears the number of candidates tried and the largest tightness so far."""


@dataclass(frozen=True)
class Finding:
    """What a search came to.

    file: the smallest violating problem file, or None; verdict: the full verdict on it, or on the tightest candidate;
    tightness: the largest seen, before shrinking, with ``where``; tried: candidates; within_floor: how many exceeded
    the bound by no more than the stated floor, at most by ``largest_excess`` relative; interrupted: by Ctrl-C.
    about: candidates that the statement was about, their premises met (None: not counted); unshown: how many exceeded
    the bound in exact expectation where the replicates that ``fedconv verify`` draws do not show it.
    """

    theorem: Theorem | Statement
    file: dict[str, Any] | None
    verdict: Verdict | None
    tightness: float
    where: str
    tried: int
    within_floor: int
    largest_excess: float
    seconds: float
    interrupted: bool
    about: int | None = None
    unshown: int = 0

    @property
    def found(self) -> bool:
        return self.file is not None
