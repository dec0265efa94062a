"""Run an experiment: blocks of replicates, one after another or side by side, into one trace."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch

from fedconv.core.checks import ENGINES, noise_fits, start_fits
from fedconv.core.naming import named
from fedconv.core.streams import Streams
from fedconv.core.trace import assemble, provenance
from fedconv.methods.split import ALGORITHMS, Algorithm, State
from fedconv.methods.split import compiled_engine as fused
from fedconv.methods.split import torch_engine as eager
from fedconv.methods.split.torch_engine import LEVELS
from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise

if TYPE_CHECKING:
    import xarray as xr

BLOCK = 16
"""Replicates in a block: the unit of scheduling. Results do not depend on it (streams belong to replicates)."""

SHORT = 1_000
"""Local steps T(τ_u + τ_v) below which the eager engine is chosen: its time grows with them (not with the clients,
which it computes at once), and loading or compiling the kernels costs more."""

Block = dict[str, np.ndarray]


@dataclass(frozen=True)
class Experiment:
    """Everything that fixes a run except how many replicates are drawn."""

    problem: Problem
    algorithm: Algorithm
    noise: Noise
    start: State
    T: int
    seed: int = 0
    name: str = "experiment"

    def __post_init__(self) -> None:
        if self.T < 1:
            raise InputError(f"run.T must be at least 1; got {self.T}")
        self.algorithm.check(self.problem)
        named(self.problem, self.algorithm, self.noise)
        if type(self).block is not Experiment.block:
            _says_what_differs(self)
        problem, start = self.problem, self.start
        start_fits(problem, start)
        noise_fits(problem, self.noise)
        for block, d, tau in (
            ("u", problem.d_u, self.algorithm.tau_u),
            ("v", problem.d_v, self.algorithm.tau_v),
        ):
            if d > 0 and tau > 0 and getattr(self.algorithm, f"gamma_{block}") == 0:
                raise InputError(
                    f"algorithm.gamma_{block} must exceed 0 where d_{block} > 0 and tau_{block} > 0; got 0"
                )
        Streams(self.seed)

    @property
    def deterministic(self) -> bool:
        """True where every replicate gives the same numbers: no noise, everybody takes part. A class with rounds of
        its own (``block``) says so itself where it is."""
        return type(self).block is Experiment.block and self.noise.silent and self.algorithm.m == self.problem.n

    def with_eta(self, eta: float) -> Experiment:
        """The same experiment with γ_u = η/(L_u τ_u), γ_v = η/(L_v τ_v)."""
        return replace(self, algorithm=with_eta(self.algorithm, self.problem, eta))

    # ---- what a run needs of an experiment (see Runnable) ---------------------------------------------------

    def choose(self, engine: str) -> tuple[str, str]:
        return choose_engine(self, engine)

    def block(self, streams: Streams, replicates: np.ndarray, level: str, engine: str) -> Block:
        simulate = fused.simulate_block if engine == "fused" else eager.simulate_block
        return simulate(self.problem, self.algorithm, self.noise, self.start, self.T, streams, replicates, level)

    def assemble(self, blocks: list[Block], first: int, attrs: dict[str, Any]) -> xr.Dataset:
        return assemble(self, blocks, first, attrs | {"deterministic": int(self.deterministic)})

    def provenance(self) -> dict[str, Any]:
        return provenance(self)


def _says_what_differs(experiment: Experiment) -> None:
    """Raise InputError where a class that runs rounds of its own would pass for a run of a registered algorithm."""
    registered = type(experiment.algorithm) is ALGORITHMS.get(experiment.algorithm.name)
    if registered and type(experiment.noise) is Noise:
        raise InputError(
            f"{type(experiment).__name__} runs rounds of its own (block): its algorithm or its noise must be a class of"
            f" its own too, with a name or law that says what differs; got {experiment.algorithm.name!r} and"
            f" {experiment.noise.law!r}"
        )


class Named(Protocol):
    """An algorithm as traces describe it."""

    name: ClassVar[str]

    def to_dict(self) -> dict[str, Any]: ...


class Runnable(Protocol):
    """What ``run`` and the store need of an experiment: FedAlt and FedSim's ``Experiment``, and those of other methods.

    ``choose``: (engine, reason) for a wish; ``block``: arrays by name for some replicates, ``F_final (R,)`` among
    them, the same numbers whatever the block; ``assemble``: blocks of consecutive replicates as one trace;
    ``provenance``: the attributes that identify the run. ``deterministic``: every replicate gives the same numbers.
    """

    @property
    def problem(self) -> Problem: ...
    @property
    def algorithm(self) -> Named: ...
    @property
    def start(self) -> State: ...
    @property
    def T(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def deterministic(self) -> bool: ...

    def choose(self, engine: str) -> tuple[str, str]: ...
    def block(self, streams: Streams, replicates: np.ndarray, level: str, engine: str) -> Block: ...
    def assemble(self, blocks: list[Block], first: int, attrs: dict[str, Any]) -> xr.Dataset: ...
    def provenance(self) -> dict[str, Any]: ...


def step_sizes(problem: Problem, tau_u: int, tau_v: int, eta: float) -> tuple[float, float]:
    """(γ_u, γ_v) = (η/(L_u τ_u), η/(L_v τ_v)); 0 for a missing block."""
    if not (math.isfinite(eta) and eta > 0):
        raise InputError(f"eta must be a finite number > 0; got {eta}")
    c = problem.constants

    def size(L: float, tau: int) -> float:
        return eta / (L * tau) if L > 0 and tau > 0 else 0.0

    return (
        size(c.L_u.value, tau_u) if problem.d_u else 0.0,
        size(c.L_v.value, tau_v) if problem.d_v else 0.0,
    )


def with_eta(algorithm: Algorithm, problem: Problem, eta: float) -> Algorithm:
    """The algorithm with the theorems' step sizes for η on this problem."""
    gamma_u, gamma_v = step_sizes(problem, algorithm.tau_u, algorithm.tau_v, eta)
    return replace(algorithm, gamma_u=gamma_u, gamma_v=gamma_v)


def choose_engine(experiment: Experiment, engine: str = "auto") -> tuple[str, str]:
    """(engine, reason). ``auto`` takes the fused engine where it can run the problem and the run is long enough.

    The choice depends on the experiment alone, never on the number of replicates, so adding replicates does not
    change those already drawn.
    """
    if engine not in ENGINES:
        raise InputError(f"engine must be one of {', '.join(ENGINES)}; got {engine!r}")
    refusal = fused.supported(experiment.problem, experiment.algorithm, experiment.noise, experiment.start)
    if refusal is None and type(experiment).block is not Experiment.block:
        refusal = f"{type(experiment).__name__} runs rounds of its own"
    if engine == "fused":
        if refusal is not None:
            raise InputError(f"engine 'fused' cannot run this experiment: {refusal}")
        return "fused", "requested"
    if engine == "eager":
        return "eager", "requested"
    if refusal is not None:
        return "eager", refusal
    algorithm = experiment.algorithm
    steps = experiment.T * (algorithm.tau_u + algorithm.tau_v)
    if steps < SHORT:
        return "eager", f"short run: {steps} local steps, fewer than {SHORT}"
    return "fused", "compiled kernel available"


def run(
    experiment: Runnable,
    replicates: int,
    *,
    first: int = 0,
    level: str = "stationarity",
    engine: str = "auto",
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> xr.Dataset:
    """Replicates ``first .. first + replicates − 1`` of an experiment as a trace.

    level: ``none`` (final state), ``stationarity`` (what the theorems measure), ``proof`` (also drifts,
    displacement and both sides of L6 and L7). workers: blocks computed side by side (threads). progress is called
    with the number of replicates done after each block. A run that diverges is kept: its numbers are inf or NaN.
    """
    if replicates < 1:
        raise InputError(f"replicates must be at least 1; got {replicates}")
    chosen, reason = experiment.choose(engine)
    done: list[Block] = []
    for block in iterate_blocks(experiment, spans(first, replicates), level, chosen, workers):
        done.append(block)
        if progress is not None:
            progress(len(block["F_final"]))
    return experiment.assemble(done, first, describe(done, level, chosen, reason))


def describe(blocks: list[Block], level: str, engine: str, reason: str) -> dict[str, Any]:
    """Attributes of a trace that tell how it was computed. ``diverged``: replicates with an inf or NaN."""
    diverged = sum(int((~np.isfinite(_summary(b))).sum()) for b in blocks)
    return {"level": level, "engine": engine, "engine_reason": reason, "diverged": diverged}


def _summary(block: Block) -> np.ndarray:
    """A number per replicate that is finite only where all that was measured is."""
    with np.errstate(all="ignore"):
        total = 0.0 * block["F_final"]
        for values in block.values():
            if values.dtype.kind == "f":
                total = total + 0.0 * values.reshape(len(values), -1).sum(axis=1)
    return total


def spans(first: int, replicates: int) -> list[np.ndarray]:
    """Consecutive replicate numbers cut into blocks of BLOCK."""
    last = first + replicates
    return [np.arange(a, min(a + BLOCK, last)) for a in range(first, last, BLOCK)]


def iterate_blocks(
    experiment: Runnable, blocks: list[np.ndarray], level: str, engine: str, workers: int
) -> Iterator[Block]:
    """The given blocks in order, computed one after another or by ``workers`` threads."""
    if level not in LEVELS:
        raise InputError(f"level must be one of {', '.join(LEVELS)}; got {level!r}")
    if workers < 1:
        raise InputError(f"workers must be at least 1; got {workers}")
    streams = Streams(experiment.seed)

    def one(replicates: np.ndarray) -> Block:
        with np.errstate(all="ignore"):
            return experiment.block(streams, replicates, level, engine)

    with single_torch_thread():
        if workers == 1 or len(blocks) <= 1:
            yield from map(one, blocks)
        else:
            yield from _side_by_side(one, blocks, workers)


def _side_by_side(one: Callable[[np.ndarray], Block], blocks: list[np.ndarray], workers: int) -> Iterator[Block]:
    """``one`` of each block in order, by threads: both engines leave Python's lock while they compute.

    The standard library's pool and not joblib's: on Ctrl-C it waits for the blocks under way, where joblib's daemon
    threads are still inside torch when the process ends, which aborts it.
    """
    pool = ThreadPoolExecutor(min(workers, len(blocks)))
    left = iter(blocks)
    waiting = deque(pool.submit(one, block) for block in islice(left, 2 * workers))
    try:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(one, block) for block in islice(left, 1))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def single_torch_thread() -> Iterator[None]:
    """torch's own threads set to 1 (parallelism is over blocks), restored afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
