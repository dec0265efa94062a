"""The fused engine: a whole block of replicates in one compiled call, for families with a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedconv.core.streams import Streams
from fedconv.methods.split import Algorithm, FedAlt, FedAvg, FedSim, LocalOnly, State
from fedconv.methods.split.torch_engine import LEVELS, STATE
from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.written_for import written_for

if TYPE_CHECKING:
    from fedconv.methods.split.compiled_rounds import Setting


def supported(
    problem: Problem, algorithm: Algorithm, noise: Noise | None = None, start: State | None = None
) -> str | None:
    """None where this engine can run the algorithm on the problem, else the sentence why it cannot.

    Subclasses are not taken for their parents: what they change would be ignored (``fedconv.problems.written_for``).
    """
    if not written_for(algorithm, FedAlt, FedAvg, LocalOnly, FedSim):
        return f"the algorithm {algorithm.name!r} has no compiled kernel"
    if problem.device.type != "cpu":
        return f"compiled kernels run on the CPU; the problem is on {problem.device}"
    if problem.kernel() is None:
        return f"the problem family {problem.family!r} has no compiled kernel"
    if noise is not None and not written_for(noise, Noise):
        return f"noise of the law {noise.law!r} has no compiled kernel"
    if start is not None and not written_for(start, State):
        return f"the state {type(start).__name__} has no compiled kernel"
    return None


def simulate_block(
    problem: Problem,
    algorithm: Algorithm,
    noise: Noise,
    start: State,
    T: int,
    streams: Streams,
    replicates: np.ndarray,
    level: str,
) -> dict[str, np.ndarray]:
    """T rounds for the given replicates, all from ``start`` (u ``(d_u,)``, v ``(n, d_v)``).

    Returns what ``fedconv.methods.split.torch_engine.simulate_block`` returns, from the same random numbers. Releases
    the interpreter lock, so blocks run side by side in threads. Raises InputError where :func:`supported` gives a
    sentence.
    """
    from fedconv.methods.split import compiled_rounds as kernels
    from fedconv.methods.split.compiled_measures import MEASURES

    refusal = supported(problem, algorithm, noise, start)
    if refusal is not None:
        raise InputError(f"engine 'fused' cannot run this: {refusal}")
    R, n, d_u, d_v = len(replicates), problem.n, problem.d_u, problem.d_v
    cohort = np.zeros((R, T, n), dtype=np.bool_)
    depth = 1 if level == STATE else LEVELS.index(level)
    virtual = depth >= 1 and level != STATE
    out = np.full((len(MEASURES), R, T), np.nan)
    F_final, u_final, v_final = np.empty(R), np.empty((R, d_u)), np.empty((R, n, d_v))
    box = kernels.fedsim if isinstance(algorithm, FedSim) else kernels.fedalt
    setting = _setting(problem, algorithm, noise, depth, virtual)
    box(
        setting,
        kernels.scratch(setting, n, d_u, d_v),
        streams.keys,
        np.ascontiguousarray(replicates, dtype=np.int64),
        T,
        np.ascontiguousarray(start.u.cpu().numpy(), dtype=np.float64),
        np.ascontiguousarray(start.v.cpu().numpy(), dtype=np.float64),
        cohort,
        out,
        F_final,
        u_final,
        v_final,
    )
    measured = {
        key: out[row]
        for row, (key, needs) in enumerate(MEASURES)
        if needs <= depth and ((virtual and algorithm.measured_at == "virtual") or "virtual" not in key)
    }
    return measured | {"cohort": cohort, "F_final": F_final, "u_final": u_final, "v_final": v_final}


def _setting(problem: Problem, algorithm: Algorithm, noise: Noise, depth: int, virtual: bool) -> Setting:
    from fedconv.methods.split.compiled_rounds import Setting
    from fedconv.problems.compiled.lifted_losses import prepare

    kernel = problem.kernel()
    assert kernel is not None
    law, parameter = noise.code()
    scale_u, scale_v = noise.scales(problem.d_u, problem.d_v)
    paired = noise.dependence != "independent" and isinstance(algorithm, FedSim)
    common = paired and noise.dependence == "full"
    alone = scale_v > 0 and not common and not (paired and noise.remainder == 0)
    return Setting(
        code=int(kernel[0]),
        p=prepare(*kernel),
        m=int(algorithm.m),
        tau_u=int(algorithm.tau_u),
        tau_v=int(algorithm.tau_v),
        gamma_u=float(algorithm.gamma_u),
        gamma_v=float(algorithm.gamma_v),
        law_u=law if scale_u > 0 or paired else 0,
        law_v=law if alone else 0,
        parameter=float(parameter),
        scale_u=float(scale_u),
        scale_v=float(scale_v),
        common=common,
        correlation=float(noise.correlation) if paired and not common else 0.0,
        remainder=float(noise.remainder),
        level=depth,
        virtual=virtual,
    )
