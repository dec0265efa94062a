"""Methods whose theorems are statements: how a run becomes their inputs, and which statements there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from fedconv.analysis.theorems.statement import Statement, StatementInputs
from fedconv.problems.errors import InputError
from fedconv.problems.validation import listed, suggest

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.core.run import Runnable


@dataclass(frozen=True)
class Method:
    """``name``: of the algorithm; ``statements`` by key; ``inputs``: a recorded run's numbers and flags;
    ``before``: the same of an experiment before any run; ``exact``: a trace of exact expectations, or None."""

    name: str
    statements: Mapping[str, Statement]
    inputs: Callable[[xr.Dataset], StatementInputs]
    before: Callable[[Runnable], StatementInputs]
    exact: Callable[[Runnable], xr.Dataset | None] = lambda _: None


@cache
def methods() -> dict[str, Method]:
    """All registered methods, by the name of their algorithm."""
    from fedconv.analysis.theorems.fedfomo import METHOD as FEDFOMO
    from fedconv.analysis.theorems.fedspa import METHOD as FEDSPA
    from fedconv.analysis.theorems.ffgg import METHOD as FFGG

    return {m.name: m for m in (FFGG, FEDSPA, FEDFOMO)}


def statements() -> dict[str, Statement]:
    """All statements by key."""
    return {key: s for method in methods().values() for key, s in method.statements.items()}


def statement(key: str) -> Statement:
    """The statement, or its weakened version ``KEY:MUTANT``."""
    name, _, mutant = key.partition(":")
    found = statements()
    if name not in found:
        raise InputError(
            f"there is no theorem {name[:60]!r}; known: {listed(found)}; {suggest(name, found)}".rstrip("; ")
        )
    return found[name].mutate(found[name].mutant(mutant)) if mutant else found[name]
