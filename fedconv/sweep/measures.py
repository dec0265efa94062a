"""What a sweep keeps of a run: a few numbers per replicate, the same for every algorithm."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fedconv.core.run import Block, Experiment
from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError


class Measure(NamedTuple):
    """Meaning and units of a number."""

    long_name: str
    units: str


MEASURES: dict[str, Measure] = {
    "stationarity": Measure("(1/T) Σ_t s_t, s_t = ‖∇_uF(u^t,V^t)‖²/L_u + (1/n) Σ_i ‖∇_vF_i(u^t,v_i^t)‖²/L_v", "F"),
    "late": Measure("mean of s_t over the last ⌈T/10⌉ rounds", "F"),
    "F_gap": Measure("F(u^T,V^T) − F★ (an upper bound of it where F★ is only bounded below)", "F"),
    "diverged": Measure("1 where a number of the run is inf or NaN, else 0", "1"),
}


def check(problem: Problem) -> None:
    """Raise InputError where ``stationarity`` is not defined: a block that exists has L = 0 or ∞."""
    for block, d in (("u", problem.d_u), ("v", problem.d_v)):
        L = getattr(problem.constants, f"L_{block}").value
        if d > 0 and not 0 < L < math.inf:
            raise InputError(
                f"problem must have 0 < L_{block} < inf, by which a sweep divides; {problem.family!r} has {L}"
            )


def measure(experiment: Experiment, block: Block) -> np.ndarray:
    """MEASURES of the replicates in a block ``(R, 4)``, from the level "state" or a higher one.

    A block of variables that does not exist (d = 0) is left out of s_t. Numbers of a diverged replicate are inf or NaN.
    """
    problem = experiment.problem
    constants, T = problem.constants, experiment.T
    with np.errstate(all="ignore"):
        s = np.zeros_like(block["grad_u_sq"])
        if problem.d_u:
            s = s + block["grad_u_sq"] / constants.L_u.value
        if problem.d_v:
            s = s + block["grad_v_sq"] / constants.L_v.value
        gap = block["F_final"] - constants.F_star.value
        total = 0.0 * block["F_final"] + 0.0 * s.sum(axis=1)
        for key in ("u_final", "v_final"):
            total = total + 0.0 * block[key].reshape(len(total), -1).sum(axis=1)
    late = s[:, T - math.ceil(T / 10) :]
    with np.errstate(all="ignore"):
        columns = (s.mean(axis=1), late.mean(axis=1), gap, ~np.isfinite(total))
    return np.stack(columns, axis=1).astype(np.float64)
