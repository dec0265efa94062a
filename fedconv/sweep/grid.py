"""The grid of a sweep: a problem file with a table ``[sweep]``, as axes, cells and jobs."""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fedconv.core.files import read_toml
from fedconv.core.run import BLOCK
from fedconv.methods.registry import METHODS
from fedconv.methods.split import ALGORITHMS
from fedconv.problem_file.schema import parse, shown
from fedconv.problem_file.settings import Build, Settings, built_once, settings_from
from fedconv.problems.errors import InputError
from fedconv.problems.plain import check_plain
from fedconv.problems.registry import build_problem
from fedconv.sweep.job import Job
from fedconv.sweep.measures import check

MOST_JOBS = 1_000_000
TABLES = ("problem", "noise", "start", "algorithm", "run")
"""Tables whose keys may be swept."""

FIXED = ("run.replicates", "run.level")
ALGORITHM, ETA = "algorithm.name", "algorithm.eta"
WORDS = ("best", "max")


@dataclass(frozen=True)
class Axis:
    """A swept key and its values, as the file gives them."""

    key: str
    values: tuple[Any, ...]

    @property
    def labels(self) -> list[Any]:
        """The values as coordinates: numbers where all are numbers, else the texts that the file would write."""
        if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in self.values):
            return list(self.values)
        return [v if isinstance(v, str) else json.dumps(v) for v in self.values]


@dataclass(frozen=True)
class Grid:
    """All that a sweep computes. ``base``: the problem file without ``[sweep]``; ``axes``: the swept keys but for the
    algorithm's name and η, which have axes of their own.

    Jobs are numbered in C order over :attr:`sizes` = (values of each axis, algorithms, η, blocks of replicates).
    """

    base: dict[str, Any]
    axes: tuple[Axis, ...]
    algorithms: tuple[str, ...]
    etas: tuple[float | str, ...]
    replicates: int

    @property
    def cells(self) -> tuple[int, ...]:
        """The number of values of each axis."""
        return tuple(len(axis.values) for axis in self.axes)

    @property
    def blocks(self) -> int:
        return math.ceil(self.replicates / BLOCK)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return (*self.cells, len(self.algorithms), len(self.etas), self.blocks)

    @property
    def count(self) -> int:
        """How many jobs there are."""
        return math.prod(self.sizes)

    def cell_indices(self) -> Iterator[tuple[int, ...]]:
        return itertools.product(*map(range, self.cells))

    def spec(self, cell: tuple[int, ...]) -> dict[str, Any]:
        """The problem file of a cell."""
        out = copy.deepcopy(self.base)
        for axis, index in zip(self.axes, cell, strict=True):
            _set(out, axis.key, copy.deepcopy(axis.values[index]))
        return out

    def where(self, cell: tuple[int, ...]) -> str:
        """``noise.sigma_v = 0.1, algorithm.m = 5``."""
        return ", ".join(f"{a.key} = {shown(a.values[i])}" for a, i in zip(self.axes, cell, strict=True))

    def index(self, id: int) -> tuple[int, ...]:
        """The index along :attr:`sizes` of a job."""
        return tuple(int(i) for i in np.unravel_index(id, self.sizes))

    def job(self, id: int, steps: np.ndarray) -> tuple[tuple[int, ...], Job]:
        """(cell, job); ``steps``: the resolved η of :attr:`sizes` without the blocks."""
        *cell, a, e, block = self.index(id)
        first = block * BLOCK
        count = min(BLOCK, self.replicates - first)
        return tuple(cell), Job(id, self.algorithms[a], float(steps[(*cell, a, e)]), first, count)

    def describe(self, id: int) -> str:
        """A job in words: its cell, algorithm, η and replicates."""
        *cell, a, e, block = self.index(id)
        first, last = block * BLOCK, min((block + 1) * BLOCK, self.replicates) - 1
        parts = (self.where(tuple(cell)), self.algorithms[a], f"eta = {self.etas[e]}", f"replicates {first}-{last}")
        return ", ".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for the store."""
        return {
            "base": self.base,
            "axes": [[axis.key, list(axis.values)] for axis in self.axes],
            "algorithms": list(self.algorithms),
            "etas": list(self.etas),
            "replicates": self.replicates,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Grid:
        """Inverse of :meth:`to_dict`."""
        axes = tuple(Axis(key, tuple(values)) for key, values in data["axes"])
        return cls(data["base"], axes, tuple(data["algorithms"]), tuple(data["etas"]), data["replicates"])


def read_sweep_file(path: Path | str) -> dict[str, Any]:
    """The tables of a file as plain data. Raises InputError where it cannot be read or is not TOML."""
    return read_toml(path, "a sweep needs a problem file with a table [sweep]")


def grid_from(mapping: Mapping[str, Any], where: str) -> Grid:
    """The grid of a file's content; no cell is checked yet but the first (:func:`check_cells` does the others).

    Raises InputError with one sentence that names the key of ``[sweep]`` and the value.
    """
    if not isinstance(mapping.get("sweep"), Mapping) or not mapping["sweep"]:
        got = shown(mapping["sweep"]) if "sweep" in mapping else "no such table"
        raise InputError(f"{where}: sweep: must be a table of keys with arrays of values; got {got}")
    check_plain(mapping, where)
    base = copy.deepcopy({k: v for k, v in mapping.items() if k != "sweep"})
    base.setdefault("name", Path(where).stem[:100] or "sweep")
    swept = dict(_flat(mapping["sweep"]))
    if not swept:
        raise InputError(f"{where}: sweep: must be a table of keys with arrays of values; got empty tables")
    for key, values in swept.items():
        _check_axis(where, base, key, values)
    _check_base(where, base, swept)
    for key in (ALGORITHM, ETA):
        if key in swept:
            _set(base, key, swept[key] if key == ALGORITHM else swept[key][0])
    count = math.prod(len(values) for values in swept.values())
    if count > MOST_JOBS:
        raise InputError(f"{where}: sweep: must ask for at most {MOST_JOBS} jobs; its grid has {count} points")
    table = base.get("algorithm")
    named = table.get("name") if isinstance(table, Mapping) else None
    for name in named if isinstance(named, list) else [named]:
        if isinstance(name, str) and name in METHODS:
            raise InputError(f"{where}: algorithm.name: must be of {', '.join(ALGORITHMS)} in a sweep; got {name!r}")
    axes = tuple(Axis(k, tuple(v)) for k, v in swept.items() if k not in (ALGORITHM, ETA))
    draft = Grid(base, axes, (), (), 1)
    first = next(draft.cell_indices())
    build = built_once()
    settings = _checked(draft, first, where, build)
    etas = tuple(swept[ETA]) if ETA in swept else (base["algorithm"][ETA.split(".")[1]],)
    for eta in etas:
        trial = draft.spec(first)
        _set(trial, ETA, eta)
        settings_from(trial, f"{where} with {ETA} = {shown(eta)}", build)
    names = tuple(a.name for a in settings.algorithms)
    steps = tuple(eta if isinstance(eta, str) else float(eta) for eta in etas)
    if len(set(steps)) < len(steps):
        raise InputError(f"{where}: sweep.{ETA}: must have different values; got {shown(list(etas))}")
    grid = Grid(base, axes, names, steps, settings.replicates)
    if grid.count > MOST_JOBS:
        raise InputError(
            f"{where}: sweep: must ask for at most {MOST_JOBS} jobs (blocks of {BLOCK} replicates); got {grid.count}"
        )
    return grid


def check_cells(grid: Grid, where: str, progress: Callable[[], None] | None = None) -> None:
    """Check every cell as ``fedconv run`` would. Raises InputError that names the cell and what is wrong there."""
    build = built_once()
    for cell in grid.cell_indices():
        _checked(grid, cell, where, build)
        if progress is not None:
            progress()


def _checked(grid: Grid, cell: tuple[int, ...], where: str, build: Build) -> Settings:
    head = grid.where(cell)
    place = f"{where} with {head}" if head else where
    settings = settings_from(grid.spec(cell), place, build)
    for algorithm in settings.algorithms:
        if algorithm.eta is None:
            raise InputError(f"{place}: algorithm.eta: missing; a sweep takes step sizes as eta, not gamma")
    try:
        check(settings.problem)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    return settings


def _check_base(where: str, base: dict[str, Any], swept: Mapping[str, list[Any]]) -> None:
    """The file's own values of swept keys, which no cell uses, are values that the keys may have."""
    own = copy.deepcopy(base)
    given = [key for key in swept if _get(own, key) is not None]
    if not given:
        return
    for key, values in swept.items():
        if key not in given:
            _set(own, key, values if key == ALGORITHM else values[0])
    place = f"{where}, without [sweep]"
    file = parse(own, place)
    if any(key.startswith("problem.") for key in given):
        try:
            build_problem(file.problem)
        except InputError as error:
            raise InputError(f"{place}: {error}") from error


def _get(spec: Mapping[str, Any], key: str) -> Any:
    inner: Any = spec
    for part in key.split("."):
        inner = inner.get(part) if isinstance(inner, Mapping) else None
    return inner


def _check_axis(where: str, base: Mapping[str, Any], key: str, values: Any) -> None:
    """One key of ``[sweep]``: known table, a non-empty array of different values, a path that the file allows."""
    table, _, rest = key.partition(".")
    if table not in TABLES or not rest or key in FIXED:
        hint = f" other than {', '.join(FIXED)}" if key in FIXED else ""
        raise InputError(f"{where}: sweep: keys must be TABLE.KEY of {', '.join(TABLES)}{hint}; got {key!r}")
    if not isinstance(values, list) or not values:
        raise InputError(f"{where}: sweep.{key}: must be an array of at least one value; got {shown(values)}")
    if len({_plain(value) for value in values}) < len(values):
        raise InputError(f"{where}: sweep.{key}: must have different values; got {shown(values)}")
    inner: Any = base
    for part in key.split(".")[:-1]:
        inner = inner.get(part, {})
        if not isinstance(inner, Mapping):
            raise InputError(f"{where}: sweep.{key}: must lie in a table, but {part} is {shown(inner)} in the file")


def _plain(value: Any) -> float | str:
    """Equal for values that are the same on an axis: 1 and 1.0, but not 1 and true."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return json.dumps(value, default=str)


def _flat(table: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, values): ``"noise.sigma_v" = [...]`` and ``noise.sigma_v = [...]`` mean the same."""
    for key, value in table.items():
        path = f"{head}.{key}" if head else str(key)
        if isinstance(value, Mapping):
            yield from _flat(value, path)
        else:
            yield path, value


def _set(spec: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    inner = spec
    for table in tables:
        inner = inner.setdefault(table, {})
    inner[last] = value
