"""Sentences about settings that cannot be run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    from fedconv.methods.split import State
    from fedconv.problems.base import Problem
    from fedconv.problems.noise import Noise

ENGINES = ("auto", "eager", "fused")


def one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Raise InputError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(map(str, allowed))}; got {value!r}")


def number(name: str, value: Any, least: float, *, open_: bool = False) -> None:
    """Raise InputError unless ``value`` is a finite number at least ``least`` (``open_``: greater than it)."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < least or (open_ and value == least):
        raise InputError(f"{name} must be a finite number {'>' if open_ else '>='} {least:g}; got {value!r}")


def integer(name: str, value: Any, least: int) -> None:
    """Raise InputError unless ``value`` is an integer at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} must be an integer >= {least}; got {value!r}")


def start_fits(problem: Problem, start: State) -> None:
    """Raise InputError unless the start has u ``(d_u,)`` and V ``(n, d_v)``, of type float64, finite."""
    if start.u.shape != (problem.d_u,) or start.v.shape != (problem.n, problem.d_v):
        raise InputError(
            f"the start must have u of shape ({problem.d_u},) and V of shape ({problem.n}, {problem.d_v});"
            f" got {tuple(start.u.shape)} and {tuple(start.v.shape)}"
        )
    if start.u.dtype != torch.float64 or start.v.dtype != torch.float64:
        raise InputError(f"the start must be of type float64; got u {start.u.dtype} and V {start.v.dtype}")
    if not (torch.isfinite(start.u).all() and torch.isfinite(start.v).all()):
        raise InputError("the start must be finite; got NaN or inf")


def noise_fits(problem: Problem, noise: Noise) -> None:
    """Raise InputError where a block without coordinates is given noise."""
    for block, d in (("u", problem.d_u), ("v", problem.d_v)):
        sigma = getattr(noise, f"sigma_{block}")
        if sigma > 0 and d == 0:
            raise InputError(f"noise.sigma_{block} must be 0 where d_{block} = 0; got {sigma}")


def torch_only(engine: str, method: str) -> tuple[str, str]:
    """(engine, reason) of a method that runs in torch alone. Raises InputError for another wish."""
    one_of("engine", engine, ENGINES)
    if engine == "fused":
        raise InputError(f"engine 'fused' cannot run this experiment: {method} has no compiled kernel")
    return "eager", "requested" if engine == "eager" else f"{method} has no compiled kernel"
