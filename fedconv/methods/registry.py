"""Methods besides FedAlt and its kin: the sections of a problem file that are theirs, and how their runs are built."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedconv.core.run import Runnable
    from fedconv.methods.split import State
    from fedconv.problems.base import Problem
    from fedconv.problems.noise import Noise


@dataclass(frozen=True)
class Request:
    """What a problem file says to a method: the built parts, the step size, and its own sections as they stand.

    Exactly one of ``eta`` and ``gamma`` is a number.
    """

    problem: Problem
    start: State
    noise: Noise
    T: int
    seed: int
    name: str
    m: int
    tau: int | None
    eta: float | None
    gamma: float | None
    sections: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Entry:
    """A method. ``sections``: tables of the file that belong to it; ``target``: ``module:function``, imported when
    first used, from a Request to an experiment; ``step``: what eta means for it."""

    name: str
    summary: str
    sections: tuple[str, ...]
    target: str
    step: str

    def build(self, request: Request) -> Runnable:
        """The experiment. Raises InputError with the key's path for whatever does not fit."""
        module, _, function = self.target.partition(":")
        make: Callable[[Request], Runnable] = getattr(importlib.import_module(module), function)
        return make(request)


METHODS: dict[str, Entry] = {
    m.name: m
    for m in (
        Entry(
            "ffgg",
            "FFGG (Mishchenko et al. 2023): clients fine-tune, the server steps along the gradient of the rest.",
            ("fine_tuning", "async", "byzantine"),
            "fedconv.methods.ffgg.build:build",
            "gamma = eta/L_max, L_max the largest smoothness of a client's loss after fine-tuning",
        ),
        Entry(
            "fedspa",
            "FedSpa (Huang et al. 2022): every client trains its own sparse model inside a mask that moves.",
            ("masks", "fedspa"),
            "fedconv.methods.fedspa.build:build",
            "gamma = eta/(L tau), L the smoothness of the clients' losses on the masks (frozen), or everywhere",
        ),
        Entry(
            "fedfomo",
            "FedFomo (Zhang et al. 2021): every client mixes the models of others by how much each lowers its loss.",
            ("fedfomo", "privacy"),
            "fedconv.methods.fedfomo.build:build",
            "gamma = eta/L, L the smoothness of the training losses in (u, v)",
        ),
    )
}
SECTIONS: tuple[str, ...] = tuple(dict.fromkeys(s for m in METHODS.values() for s in m.sections))
