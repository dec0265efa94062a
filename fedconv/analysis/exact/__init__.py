"""Expectations of a run without drawing anything: by moments on quadratics, by enumeration on tiny instances."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fedconv.analysis.exact.moments import moments
from fedconv.analysis.exact.tree import count_leaves, enumerate_tree
from fedconv.core.run import Experiment, single_torch_thread
from fedconv.core.trace import assemble
from fedconv.methods.split import FedAlt, FedAvg, FedSim, LocalOnly, State
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.split.full_personalization import FullPersonalization
from fedconv.problems.split.quadratic import Quadratic
from fedconv.problems.written_for import written_for

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.problems.base import Problem

LEVELS = ("stationarity", "proof")
LARGEST_STATE = 3000
"""Numbers in (u, V) up to which second moments are propagated: each round needs several square matrices of that."""

LARGEST_WORK = 3e11
"""Floating-point operations up to which the recursion counts as cheaper than replicates: about a minute."""

QUICK_TREE = 100_000
"""Leaves up to which a tree is enumerated without being asked for."""


def as_quadratic(problem: Problem) -> Quadratic | None:
    """The problem as a coupled quadratic, or None."""
    if written_for(problem, Quadratic):
        return problem
    if written_for(problem, FullPersonalization):
        return problem.as_quadratic()
    return None


def known_rounds(experiment: Experiment) -> str | None:
    """None where a round is what the exact routes compute, else a sentence why not.

    They compute the registered algorithms with uniform cohorts, ``Noise``'s laws and the state (u, V): whatever a
    subclass of one of these changes, in its step, its cohorts or a state of its own, they would not see.
    """
    for what, x, kinds in (
        ("experiment", experiment, (Experiment,)),
        ("algorithm", experiment.algorithm, (FedAlt, FedSim, FedAvg, LocalOnly)),
        ("noise", experiment.noise, (Noise,)),
        ("start", experiment.start, (State,)),
    ):
        if not written_for(x, *kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            return f"exact expectations need {what} of the class {names}; this one is of {type(x).__name__}"
    return None


def applies(experiment: Experiment) -> str | None:
    """None where :func:`expectations` can be computed, else a sentence why not."""
    refusal = known_rounds(experiment)
    if refusal is not None:
        return refusal
    problem = experiment.problem
    base = problem.base if written_for(problem, FullPersonalization) else problem
    if not written_for(base, Quadratic):
        return f"exact expectations need a quadratic problem; this one is of the family {problem.family}"
    size = problem.d_u + problem.n * problem.d_v
    if size > LARGEST_STATE:
        return f"exact expectations need at most {LARGEST_STATE} numbers in (u, V); this problem has {size}"
    work = 8.0 * experiment.T * size**2 * (problem.d_u + problem.d_v)
    if work > LARGEST_WORK:
        return f"exact expectations would take about {work:.1e} operations, more than {LARGEST_WORK:.0e}"
    return None


def expectations(experiment: Experiment, level: str = "stationarity") -> xr.Dataset:
    """A trace whose one replicate holds the exact expectation of every variable (all but the cohorts).

    Quadratic problems, additive noise of any law: only its mean 0, its variances and the correlation of the two blocks
    in a FedSim step enter. A diverging recursion gives inf or NaN. Raises InputError where :func:`applies` says no.
    """
    check_level(level)
    refusal = applies(experiment)
    quadratic = as_quadratic(experiment.problem)
    if refusal is not None or quadratic is None:
        raise InputError(refusal or "exact expectations need a quadratic problem")
    with single_torch_thread():
        found = moments(experiment, quadratic, level)
    return _trace(experiment, found, level, "moments of an affine recursion")


def tree_expectations(experiment: Experiment, budget: int = 10**6, level: str = "stationarity") -> xr.Dataset:
    """The same for any problem with two- or three-point noise or none: all cohorts and noises, one by one.

    Raises InputError for noise with a density, or where the tree has more than ``budget`` leaves.
    """
    check_level(level)
    refusal = known_rounds(experiment)
    if refusal is not None:
        raise InputError(refusal)
    leaves = count_leaves(experiment, level)
    if leaves > budget:
        raise InputError(f"a tree of all outcomes must have at most {budget} leaves; this one has {_written(leaves)}")
    with single_torch_thread():
        found = enumerate_tree(experiment, level)
    return _trace(experiment, found, level, f"enumeration of {leaves} outcomes")


def exact_trace(experiment: Experiment, level: str = "stationarity") -> xr.Dataset | None:
    """Exact expectations where they cost little: moments, else a tree of at most QUICK_TREE leaves; else None."""
    if applies(experiment) is None:
        return expectations(experiment, level)
    if known_rounds(experiment) is not None:
        return None
    finite = experiment.noise.silent or experiment.noise.law in ("rademacher", "spikes")
    if finite and count_leaves(experiment, level) <= QUICK_TREE:
        return tree_expectations(experiment, QUICK_TREE, level)
    return None


def check_level(level: str) -> None:
    """Raise InputError for a level without measures."""
    if level not in LEVELS:
        raise InputError(f"level must be one of {', '.join(LEVELS)}; got {level!r}")


def _written(count: int) -> str:
    """An integer of any size, rounded where long."""
    return str(count) if count < 10**9 else f"about 1e{math.floor(math.log10(count))}"


def _trace(experiment: Experiment, found: dict[str, np.ndarray], level: str, reason: str) -> xr.Dataset:
    finite = all(np.isfinite(values).all() for values in found.values())
    attrs = {"level": level, "engine": "exact", "engine_reason": reason, "diverged": int(not finite)}
    return assemble(experiment, [found], 0, attrs)
