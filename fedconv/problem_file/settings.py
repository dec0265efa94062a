"""A problem file (TOML) as settings: the problem built, the start drawn, every algorithm checked against it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fedconv.core.files import printable, read_toml
from fedconv.core.run import Experiment, Runnable, with_eta
from fedconv.methods.registry import METHODS, SECTIONS, Entry, Request
from fedconv.methods.split import ALGORITHMS, State
from fedconv.methods.split import compiled_engine as fused
from fedconv.problem_file.schema import AlgorithmTable, File, NoiseTable, StartTable, parse, shown
from fedconv.problem_file.toml import dump_toml
from fedconv.problems.base import Problem, check_array
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.registry import build_problem

__all__ = ["AlgorithmSpec", "Settings", "VerifySpec", "built_once", "dump_toml", "load_settings", "settings_from"]

Build = Callable[[dict[str, Any]], Problem]
"""The table [problem] of a file -> the problem. Raises InputError."""


@dataclass(frozen=True)
class AlgorithmSpec:
    """One algorithm of a file. Either ``eta`` is given (a number, ``"best"`` or ``"max"``) or the two γ are."""

    name: str
    m: int
    tau_u: int
    tau_v: int
    eta: float | Literal["best", "max"] | None
    gamma_u: float | None
    gamma_v: float | None
    tau: int | None = None
    gamma: float | None = None

    @property
    def method(self) -> Entry | None:
        """The method it is, where it is not one of FedAlt's kin: it reads ``tau`` and ``gamma`` (or eta) alone."""
        return METHODS.get(self.name)


@dataclass(frozen=True)
class VerifySpec:
    """What ``fedconv verify`` checks and how surely. None: all theorems that fit; tuned free parameters."""

    theorems: tuple[str, ...] | None
    error: float
    max_replicates: int
    parameters: dict[str, float] | None
    a_posteriori: bool | Literal["auto"]


@dataclass(frozen=True)
class Settings:
    """A problem file, read and checked. ``spec`` is the file's content as plain data, for provenance."""

    name: str
    problem: Problem
    noise: Noise
    start: State
    algorithms: tuple[AlgorithmSpec, ...]
    T: int
    seed: int
    replicates: int
    level: str
    engine: str
    verify: VerifySpec
    spec: dict[str, Any]

    def runnable(self, algorithm: AlgorithmSpec, eta: float | None = None, gamma: float | None = None) -> Runnable:
        """The experiment ``NAME/ALGORITHM`` of any algorithm with that step, else with the file's own."""
        method = algorithm.method
        if method is None:
            return self.experiment(algorithm, eta)
        if eta is None and gamma is None:
            gamma = algorithm.gamma
            if gamma is None and isinstance(algorithm.eta, str):
                raise InputError(f"{self.name}/{algorithm.name} needs a number for eta; got {algorithm.eta!r}")
            eta = algorithm.eta if gamma is None and not isinstance(algorithm.eta, str) else None
        sections = {k: self.spec[k] for k in method.sections if k in self.spec}
        name = f"{self.name}/{algorithm.name}"
        return method.build(
            Request(self.problem, self.start, self.noise, self.T, self.seed, name, algorithm.m, algorithm.tau, eta,
                    gamma, sections)
        )  # fmt: skip

    def experiment(self, algorithm: AlgorithmSpec, eta: float | None) -> Experiment:
        """The experiment ``NAME/ALGORITHM`` of one of FedAlt's kin: γ_u = η/(L_u τ_u), γ_v = η/(L_v τ_v), or the
        file's γ_u and γ_v where eta is None. Raises InputError where then there is no step size."""
        steps = (algorithm.gamma_u, algorithm.gamma_v)
        if eta is None and steps == (None, None):
            raise InputError(f"{self.name}/{algorithm.name} needs a number for eta; its file says {algorithm.eta!r}")
        chosen = ALGORITHMS[algorithm.name](
            m=algorithm.m,
            gamma_u=steps[0] or 0.0,
            gamma_v=steps[1] or 0.0,
            tau_u=algorithm.tau_u,
            tau_v=algorithm.tau_v,
        )
        if eta is not None:
            chosen = with_eta(chosen, self.problem, eta)
        name = f"{self.name}/{algorithm.name}"
        return Experiment(self.problem, chosen, self.noise, self.start, self.T, self.seed, name)


def load_settings(path: Path | str) -> Settings:
    """Settings of a problem file. Raises InputError with one sentence: file, key, expected, got."""
    return settings_from(read_toml(path, "`fedconv new` writes one to start from"), printable(str(path)))


def settings_from(mapping: Mapping[str, Any], where: str, build: Build | None = None) -> Settings:
    """Settings from a file's content as plain data; ``where`` names it in errors, and the settings if they have no
    name of their own. ``build`` makes the problem of its table (:func:`built_once` for many files of one problem)."""
    file = parse(mapping, where)
    try:
        problem = (build or _problem)(file.problem)
        _check_sections(file)
        algorithms = tuple(_algorithm(name, file.algorithm, problem) for name in file.algorithm.name)
        settings = Settings(
            name=file.name or Path(where).stem,
            problem=problem,
            noise=_noise(file.noise),
            start=_start(file.start, problem),
            algorithms=algorithms,
            T=file.run.T,
            seed=file.run.seed,
            replicates=file.run.replicates,
            level=file.run.level,
            engine=file.run.engine,
            verify=VerifySpec(
                theorems=tuple(file.verify.theorems) if file.verify.theorems is not None else None,
                error=file.verify.error,
                max_replicates=file.verify.max_replicates,
                parameters=file.verify.parameters,
                a_posteriori=file.verify.a_posteriori,
            ),
            spec=copy.deepcopy(dict(mapping)),
        )
        for algorithm in algorithms:
            trial = 0.1 if isinstance(algorithm.eta, str) else algorithm.eta
            if algorithm.method is not None:
                settings.runnable(algorithm, trial)
                if settings.engine == "fused":
                    raise InputError(f'run.engine must not be "fused" for {algorithm.name}, which has no kernel')
                continue
            experiment = settings.experiment(algorithm, trial)
            if settings.engine == "fused" and (refusal := fused.supported(problem, experiment.algorithm)):
                raise InputError(f'run.engine must not be "fused" here: {refusal}')
    except InputError as error:
        raise InputError(f"{where}: {_KEY.sub(_COLON, str(error))}") from error
    return settings


_KEY = re.compile(
    r"^((?:problem|noise|start|algorithm|run|verify|" + "|".join(SECTIONS) + r")\.[\w.]+) (?=must|is|has)"
)
_COLON = r"\1: "
"""A sentence that begins with a key's path gets a colon behind it."""


def _problem(table: dict[str, Any]) -> Problem:
    try:
        return build_problem(table)
    except InputError:
        raise
    except (MemoryError, ValueError, ArithmeticError) as error:
        raise InputError(f"problem: cannot be built with these sizes and numbers: {error}") from error


def built_once(size: int = 32) -> Build:
    """Builds problems, and keeps the last ``size`` of them for tables that come again."""
    kept = lru_cache(maxsize=size)(lambda text: _problem(json.loads(text)))

    def build(table: dict[str, Any]) -> Problem:
        try:
            text = json.dumps(table)
        except TypeError:  # a date, which no problem takes: the sentence is the builder's
            return _problem(table)
        return kept(text)

    return build


def _noise(table: NoiseTable) -> Noise:
    given = {k: v for k, v in table.model_dump().items() if v is not None}
    for key, law in (("dof", "student_t"), ("spike_probability", "spikes")):
        if key in given and table.law != law:
            raise InputError(f"noise.{key} must be left out unless law = {shown(law)}; got {given[key]}")
    return Noise(**given)


_START_KEYS = {"zeros": (), "normal": ("scale", "seed"), "optimum": ("scale", "seed"), "point": ("u", "v")}


def _start(table: StartTable, problem: Problem) -> State:
    """The start u ``(d_u,)``, V ``(n, d_v)``; random ones from a generator of their own seed."""
    for key in ("scale", "seed", "u", "v"):
        if getattr(table, key) is not None and key not in _START_KEYS[table.kind]:
            takes = ", ".join(_START_KEYS[table.kind]) or "nothing else"
            raise InputError(f"start.{key} must be left out with kind = {shown(table.kind)}, which takes {takes}")
    shape_u, shape_v = (problem.d_u,), (problem.n, problem.d_v)
    u, v = np.zeros(shape_u), np.zeros(shape_v)
    scale = 0.0
    if table.kind == "point":
        for key, d in (("u", problem.d_u), ("v", problem.d_v)):
            if getattr(table, key) is None and d > 0:
                raise InputError(f'start.{key} is missing; kind = "point" needs it where d_{key} = {d}')
        u = u if table.u is None else check_array("start.u", table.u, shape_u)
        v = v if table.v is None else check_array("start.v", table.v, shape_v)
    elif table.kind == "optimum":
        minimiser = problem.minimiser()
        if minimiser is None:
            raise InputError(f'start.kind must not be "optimum" here: no minimiser is known for {problem.family}')
        u, v = (x.detach().cpu().numpy() for x in minimiser)
        scale = table.scale or 0.0
    elif table.kind == "normal":
        scale = 1.0 if table.scale is None else table.scale
    if scale > 0:
        rng = np.random.default_rng(np.random.SeedSequence(table.seed or 0))
        u = u + scale * rng.standard_normal(shape_u)
        v = v + scale * rng.standard_normal(shape_v)
    return State(torch.from_numpy(np.array(u)), torch.from_numpy(np.array(v)))


def _check_sections(file: File) -> None:
    """A method's tables and its gamma are refused where no algorithm of the file is that method."""
    named = [METHODS[name] for name in file.algorithm.name if name in METHODS]
    for section in file.sections:
        if not any(section in method.sections for method in named):
            owners = ", ".join(m.name for m in METHODS.values() if section in m.sections)
            raise InputError(f"algorithm.name must contain {owners} where there is a table [{section}]")
    if file.algorithm.gamma is not None and not named:
        raise InputError(f"algorithm.gamma must be left out for {', '.join(file.algorithm.name)}; give eta instead")


def _method(entry: Entry, table: AlgorithmTable) -> AlgorithmSpec:
    """A method of METHODS: one step size (gamma, or eta), tau local steps."""
    for key in ("tau_v", "gamma_v"):
        if getattr(table, key) is not None and all(name in METHODS for name in table.name):
            raise InputError(f"algorithm.{key} must be left out for {entry.name}; got {getattr(table, key)}")
    if table.eta is not None and table.gamma is not None:
        raise InputError("algorithm.gamma must be left out where eta is given; got both")
    gamma = table.gamma if table.gamma is not None else table.gamma_u
    if table.eta is None and gamma is None:
        raise InputError(f"algorithm.eta is missing: give eta, or gamma for {entry.name}")
    if table.eta == "best":
        raise InputError(f'algorithm.eta must be a number or "max" for {entry.name}; got "best"')
    if table.tau is not None and table.tau_u is not None:
        raise InputError("algorithm.tau_u must be left out where tau is given; got both")
    tau = table.tau if table.tau is not None else table.tau_u
    if tau == 0:
        raise InputError(f"algorithm.tau_u must be at least 1 for {entry.name}; got 0")
    return AlgorithmSpec(entry.name, table.m, tau or 1, 0, table.eta, None, None, tau, gamma)


def _algorithm(name: str, table: AlgorithmTable, problem: Problem) -> AlgorithmSpec:
    if table.m > problem.n:
        raise InputError(f"algorithm.m must be at most problem.n = {problem.n}; got {table.m}")
    if name in METHODS:
        return _method(METHODS[name], table)
    tau_u, tau_v = (_local_steps(name, table, block) for block in "uv")
    if name == "fedsim" and tau_u != tau_v:
        raise InputError(f"algorithm.tau_v must equal tau_u = {tau_u} for fedsim; got {tau_v}")
    moves = {"u": problem.d_u > 0 and tau_u > 0, "v": problem.d_v > 0 and tau_v > 0}
    if not any(moves.values()):
        raise InputError(
            f"algorithm.name must be one that moves a block of this problem ({problem.shape()}); {name} with"
            f" tau_u = {tau_u}, tau_v = {tau_v} moves none"
        )
    gammas = {"u": table.gamma_u, "v": table.gamma_v}
    given = [f"gamma_{b}" for b in "uv" if gammas[b] is not None]
    if table.eta is not None and given:
        raise InputError(f"algorithm.{given[0]} must be left out where eta is given; got both")
    if table.eta is None and not given:
        raise InputError("algorithm.eta is missing: give eta, or gamma_u and gamma_v")
    for block, needed in moves.items():
        if table.eta is None and needed and gammas[block] is None:
            raise InputError(f"algorithm.gamma_{block} is missing: {given[0]} is given and both blocks move")
    return AlgorithmSpec(name, table.m, tau_u, tau_v, table.eta, table.gamma_u, table.gamma_v)


def _local_steps(name: str, table: AlgorithmTable, block: str) -> int:
    """τ_u or τ_v of one algorithm: 0 for the block that fedavg or local does not move."""
    own = getattr(table, f"tau_{block}")
    if own is not None and table.tau is not None:
        raise InputError(f"algorithm.tau_{block} must be left out where tau is given; got both")
    idle = {"fedavg": "v", "local": "u"}
    users = [x for x in table.name if idle.get(x) != block]
    if own and not users:
        raise InputError(f"algorithm.tau_{block} must be 0 or left out for {' and '.join(table.name)}; got {own}")
    if idle.get(name) == block:
        return 0
    steps = table.tau if own is None else own
    if steps is None:
        raise InputError(f"algorithm.tau_{block} is missing: give tau, or tau_u and tau_v")
    return steps
