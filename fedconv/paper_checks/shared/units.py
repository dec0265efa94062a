"""Work that several claims share, done once: a claim's check names its units, and each unit is computed at most once.

A unit's result depends on its arguments and the budget alone, never on what else is asked for. So a claim gets the same
verdict and the same numbers alone, among all others, or with its units computed by other processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fedconv.analysis.claims.claim import Budget, Claim, Evidence

Found = tuple[Any, ...]


@dataclass(frozen=True)
class Unit:
    """``function(budget, *arguments)`` → tuple; a function of a module and plain data, so that a process can be told of
    it."""

    function: Callable[..., Found]
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        words = self.function.__name__.replace("_", " ")
        return f"{words}: {', '.join(map(str, self.arguments))}" if self.arguments else words


class Part(Protocol):
    """A kind of evidence: the units it needs, and what it reads from their results."""

    def units(self, budget: Budget) -> Sequence[Unit]: ...
    def read(self, found: Sequence[Found], budget: Budget) -> Sequence[Evidence]: ...


@dataclass(frozen=True)
class Parts:
    """A claim's check made of parts."""

    parts: tuple[Part, ...]

    def units(self, budget: Budget) -> list[Unit]:
        """What has to be computed, each once, in order."""
        return list(dict.fromkeys(unit for part in self.parts for unit in part.units(budget)))

    def __call__(self, budget: Budget) -> list[Evidence]:
        out: list[Evidence] = []
        for part in self.parts:
            out += part.read([compute(unit, budget) for unit in part.units(budget)], budget)
        return out


@dataclass(frozen=True)
class Direct:
    """A part whose one unit gives the evidence itself: ``function(budget)`` → evidence."""

    function: Callable[..., Sequence[Evidence]]
    arguments: tuple[Any, ...] = ()

    def units(self, budget: Budget) -> list[Unit]:
        return [Unit(self.function, self.arguments)]  # pyright: ignore[reportArgumentType]

    def read(self, found: Sequence[Found], budget: Budget) -> list[Evidence]:
        return [e for one in found for e in one]


def parts(*given: Part | Callable[[Budget], Sequence[Evidence]]) -> Parts:
    """A check of parts; a plain function is a part by itself."""
    return Parts(tuple(x if hasattr(x, "read") else Direct(x) for x in given))  # pyright: ignore[reportArgumentType]


def units_of(claim: Claim, budget: Budget) -> list[Unit]:
    """The units of a claim; a check that is not made of parts is one."""
    check = claim.check
    return check.units(budget) if isinstance(check, Parts) else [Unit(whole, (claim.key,))]


def whole(budget: Budget, key: str) -> Found:
    """The evidence of a claim whose check is a plain function."""
    from fedconv.paper_checks import claim

    return tuple(claim(key).check(budget))


def evidence_of(claim: Claim, budget: Budget) -> tuple[Evidence, ...]:
    """The claim's evidence from its units."""
    if isinstance(claim.check, Parts):
        return tuple(claim.check(budget))
    (unit,) = units_of(claim, budget)
    return compute(unit, budget)


_KEPT: dict[tuple[Unit, str, float], Found] = {}


def compute(unit: Unit, budget: Budget) -> Found:
    """The unit's result, computed at its first use."""
    if not known(unit, budget):
        remember(unit, budget, tuple(unit.function(budget, *unit.arguments)))
    return _KEPT[unit, budget.size, budget.error]


def known(unit: Unit, budget: Budget) -> bool:
    """Whether the result is there already."""
    return (unit, budget.size, budget.error) in _KEPT


def remember(unit: Unit, budget: Budget, found: Found) -> None:
    """Keep a result, say one that another process computed."""
    _KEPT[unit, budget.size, budget.error] = found


def forget() -> None:
    """Drop all results."""
    _KEPT.clear()
