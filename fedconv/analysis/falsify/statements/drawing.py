"""What the falsifier asks of a method whose theorems are statements: random small runs, and variations of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fedconv.analysis.falsify.shrink import Step
from fedconv.analysis.theorems.statement import Statement, StatementInputs
from fedconv.methods.split.method import State

if TYPE_CHECKING:
    from fedconv.core.run import Runnable
    from fedconv.core.streams import Streams

Rng = np.random.Generator
CRISP = (0.0, 1.0, 1.0, -1.0, 0.5, 0.3, 0.1, 2.0)
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Wishes:
    """What a statement asks of a run: the ``kinds`` it is about; the largest step in units of the largest admissible
    one (``one_step``: no other); names of its premises (``kept``), and of those that its weakened version leaves out
    (``dropped``)."""

    kinds: tuple[str, ...]
    most_step: float = 1.0
    one_step: bool = False
    kept: frozenset[str] = NOTHING
    dropped: frozenset[str] = NOTHING

    def asks(self, premise: str) -> bool | None:
        """True: the premise must hold; False: it is one to break; None: the statement does not ask."""
        return False if premise in self.dropped else (True if premise in self.kept else None)


class Draft(Protocol):
    """A run before its step size is known. ``kind``: of run; ``step``: in units of the largest admissible one;
    ``at_optimum``: it starts where its objective is least."""

    @property
    def kind(self) -> str: ...
    @property
    def step(self) -> float: ...
    @property
    def at_optimum(self) -> bool: ...

    def start(self, experiment: Runnable) -> State | None:
        """Where the run starts, None where there is no such point; ``experiment`` starts anywhere."""
        ...

    def file(self, start: State | None, gamma: float, key: str) -> dict[str, Any]:
        """The problem file from that start (None: from anywhere) with step size γ, about the theorem of that key."""
        ...

    def describe(self) -> str: ...


Variation = Callable[[Any, Rng, Wishes], Any]
"""A draft, and the same run with something changed."""


@dataclass(frozen=True)
class Drawing:
    """How runs of a method are drawn.

    ``name``: of the method; ``kinds`` of run; ``draw``: a random draft; ``variations``: of which :meth:`vary` takes one
    or two; ``steps``: what may be done to a file to make it small. ``before``: the inputs of an experiment, with at
    least the named numbers among those that take long; ``unit``: of steps that no condition bounds; ``extras``: arrays
    and attributes of a trace that a block of replicates has not; ``allows``: whether a kind of run agrees with the
    premises of a statement that fits it; ``paths``: streams that draw each equally likely course of a run once, and
    their number, or None; ``few``: replicates of a run that draws, to rank them; ``one_step``: whether a statement
    with conditions but no step to choose is about the largest step alone; ``loose``: steps up to this many units are
    tried where no condition bounds them.
    """

    name: str
    kinds: tuple[str, ...]
    draw: Callable[[Rng, Wishes], Any]
    variations: tuple[Variation, ...]
    steps: tuple[Step, ...]
    before: Callable[[Runnable, frozenset[str]], StatementInputs]
    unit: Callable[[Runnable, StatementInputs], float]
    extras: Callable[[Runnable], tuple[dict[str, np.ndarray], dict[str, Any]]] = lambda _: ({}, {})
    allows: Callable[[str, Wishes], bool] = lambda kind, wishes: True
    paths: Callable[[Runnable, Statement], tuple[Streams, int] | None] = lambda run, one: None
    few: int = 64
    one_step: bool = False
    loose: float = 1.0

    def vary(self, draft: Any, rng: Rng, wishes: Wishes) -> Any:
        """The same run with one thing, or two, changed a little."""
        for _ in range(1 + int(rng.random() < 0.3)):
            draft = pick(rng, self.variations)(draft, rng, wishes)
        return draft


@dataclass(frozen=True)
class Record:
    """What a run recorded, with the few of ``xarray.Dataset``'s attributes that statements read."""

    arrays: Mapping[str, np.ndarray]
    sizes: Mapping[str, int]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> Values:
        return Values(self.arrays[name])


@dataclass(frozen=True)
class Values:
    values: np.ndarray


@cache
def drawing(method: str) -> Drawing:
    """The drawing of a method, by the name of its algorithm: ``DRAWING`` of the module
    ``fedconv.analysis.falsify.statements.NAME``."""
    return importlib.import_module(f"fedconv.analysis.falsify.statements.{method}").DRAWING


def drawing_of(one: Statement) -> Drawing:
    """The drawing of the method that a statement is about."""
    return drawing(one.algorithms[0])


def pick(rng: Rng, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def crisp(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros, ones and a few other numbers, or normal ones."""
    if rng.random() < 0.3:
        return rng.standard_normal(shape)
    return rng.choice(CRISP, size=shape)


def nudged(rng: Rng, array: np.ndarray) -> np.ndarray:
    """One entry scaled or replaced."""
    if not array.size:
        return array
    out = array.copy()
    place = tuple(int(rng.integers(k)) for k in array.shape)
    if out[place] and rng.random() < 0.6:
        out[place] *= float(np.exp(0.5 * rng.standard_normal()))
    else:
        out[place] = float(pick(rng, (*CRISP, rng.standard_normal())))
    return out


def stretched(rng: Rng, array: np.ndarray, width: float = 0.5) -> np.ndarray:
    """All entries scaled alike."""
    return array * float(np.exp(width * rng.standard_normal()))


def step_of(rng: Rng, wishes: Wishes) -> float:
    """A step in units of the largest admissible one."""
    if wishes.one_step:
        return 1.0
    most = wishes.most_step
    if most > 1 and rng.random() < 0.7:
        return float(pick(rng, (1.5, 1.9, 2.0, 2.5, most, most ** rng.random())))
    return 1.0 if rng.random() < 0.5 else float(pick(rng, (0.9, 0.5, 0.5, 0.25, 0.1, rng.random())))


def other_step(draft: Any, rng: Rng, wishes: Wishes) -> Any:
    """The same run with a step near its own, or any."""
    if wishes.one_step:
        return draft
    near = rng.random() < 0.7
    moved = draft.step * float(np.exp(0.5 * rng.standard_normal())) if near else step_of(rng, wishes)
    return replace(draft, step=min(moved, max(wishes.most_step, 1.0)))
