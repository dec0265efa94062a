"""Gradient noise: a law with mean zero and E‖ξ‖² = σ² exactly, for each block."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from fedconv.problems.compiled.jit import njit
from fedconv.problems.compiled.xoshiro import fill_normal, fill_words, next_word, normal, open_unit
from fedconv.problems.errors import InputError

Law = Literal["zero", "gaussian", "rademacher", "student_t", "spikes"]
LAWS: tuple[Law, ...] = get_args(Law)
Dependence = Literal["independent", "full"]


@dataclass(frozen=True)
class Noise:
    """Additive noise ξ_u ∈ R^{d_u}, ξ_v ∈ R^{d_v} on the partial gradients (assumption A2).

    Each coordinate is an independent draw of a standardised law (mean 0, variance 1) times σ/√d, so that
    E‖ξ_u‖² = σ_u² and E‖ξ_v‖² = σ_v² exactly. ``sigma_u`` and ``sigma_v`` are standard deviations.

    law: ``zero``, ``gaussian``, ``rademacher`` (±1), ``student_t`` (``dof`` > 2 degrees of freedom, rescaled
    to variance 1), ``spikes`` (±1/√q with probability ``q = spike_probability``, else 0).
    dependence: of the u and v noise inside one FedSim step. ``independent``; ``full``: both blocks use the same
    standardised draws, coordinate by coordinate; or their correlation κ ∈ [−1, 1], a number: with a the draws of u and
    g further ones, v's are

        κ a_j + √(1−κ²) g_j,   so that E ξ_{u,j} ξ_{v,j} = κ σ_u σ_v/√(d_u d_v) on the min(d_u, d_v) common coordinates,

    and 0 elsewhere, with σ_v kept exactly. 0 and 1 are turned into ``independent`` and ``full``. For other κ > −1, v's
    noise has the law itself where that is gaussian, else it is a sum of two such draws. FedAlt draws the blocks in
    different steps, always independently.

    A subclass is a law of its own: it says ``law = "..."`` in its body, a word that is none of LAWS, and gives by
    ``code`` and ``scales`` what is drawn, with variances σ² as above.
    """

    law: Law = "gaussian"
    sigma_u: float = 0.0
    sigma_v: float = 0.0
    dof: float = 5.0
    spike_probability: float = 0.01
    dependence: Dependence | float = "independent"

    def __post_init__(self) -> None:
        if self.law not in LAWS and (type(self) is Noise or self.law != vars(type(self)).get("law")):
            raise InputError(f"noise.law must be one of {', '.join(LAWS)}; got {self.law!r}")
        object.__setattr__(self, "dependence", _dependence(self.dependence))
        for name in ("sigma_u", "sigma_v"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"noise.{name} must be a finite number >= 0; got {value}")
        if self.law == "zero" and (self.sigma_u > 0 or self.sigma_v > 0):
            raise InputError(
                f"noise.law 'zero' has sigma_u = sigma_v = 0; got sigma_u={self.sigma_u}, sigma_v={self.sigma_v}"
            )
        if self.law == "student_t" and not (math.isfinite(self.dof) and self.dof > 2):
            raise InputError(f"noise.dof must exceed 2 for a finite variance; got {self.dof}")
        if self.law == "spikes" and not 0 < self.spike_probability <= 1:
            raise InputError(f"noise.spike_probability must lie in (0, 1]; got {self.spike_probability}")

    @property
    def silent(self) -> bool:
        """True where no noise is added at all."""
        return self.sigma_u == 0 and self.sigma_v == 0

    @property
    def correlation(self) -> float:
        """κ: 0 where independent, 1 where full."""
        if isinstance(self.dependence, str):
            return float(self.dependence == "full")
        return self.dependence

    @property
    def remainder(self) -> float:
        """√(1−κ²), the weight of v's own draws."""
        return math.sqrt((1.0 - self.correlation) * (1.0 + self.correlation))

    def code(self) -> tuple[int, float]:
        """The law's number and parameter for :func:`standard` (law ``zero`` where both σ vanish)."""
        if self.silent:
            return 0, 0.0
        if self.law not in LAWS:
            raise InputError(f"noise.law {self.law!r} is drawn by code() of its class; {type(self).__name__} has none")
        parameter = {"student_t": self.dof, "spikes": self.spike_probability}.get(self.law, 0.0)
        return LAWS.index(self.law), parameter

    def scales(self, d_u: int, d_v: int) -> tuple[float, float]:
        """(σ_u/√d_u, σ_v/√d_v); 0 for a missing block."""
        return (
            self.sigma_u / math.sqrt(d_u) if d_u else 0.0,
            self.sigma_v / math.sqrt(d_v) if d_v else 0.0,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _dependence(value: Any) -> Dependence | float:
    """The word, or the correlation as a float; 0 and 1 as words."""
    for word in get_args(Dependence):
        if isinstance(value, str) and value == word:
            return word
    if isinstance(value, (int, float)) and not isinstance(value, bool) and -1 <= value <= 1:
        return "independent" if value == 0 else "full" if value == 1 else float(value)
    raise InputError(f"noise.dependence must be 'independent', 'full' or a number from -1 to 1; got {value!r}")


@njit(forceinline=True)
def _rademacher(word):
    return 1.0 if word >> np.uint64(63) else -1.0


@njit(forceinline=True)
def _student_t(nu, first, second):
    """Bailey's (1994) formula √(ν(U^{−2/ν} − 1)) cos(2πV), divided by its deviation √(ν/(ν−2))."""
    radius = math.sqrt((nu - 2.0) * (open_unit(first) ** (-2.0 / nu) - 1.0))
    return radius * math.cos(2.0 * math.pi * open_unit(second))


@njit(forceinline=True)
def _spike(q, word):
    x = open_unit(word)
    if x >= q:
        return 0.0
    return 1.0 / math.sqrt(q) if x < 0.5 * q else -1.0 / math.sqrt(q)


@njit()
def standard(law, parameter, s):
    """One standardised draw (mean 0, variance 1) of the law numbered ``law``; advances state ``s (4,)``."""
    if law == 1:
        return normal(s)
    if law == 2:
        return _rademacher(next_word(s))
    if law == 3:
        first = next_word(s)
        return _student_t(parameter, first, next_word(s))
    if law == 4:
        return _spike(parameter, next_word(s))
    return 0.0


@njit(nogil=True)
def fill_row(law, parameter, s, out):
    """Fill ``out (N,)`` with standardised draws, in order: N calls of :func:`standard`, but faster."""
    words = out.view(np.uint64)
    if law == 1:
        fill_normal(s, out)
    elif law == 2:
        fill_words(s, words)
        for j in range(out.size):
            out[j] = _rademacher(words[j])
    elif law == 3:
        for j in range(out.size):
            out[j] = standard(law, parameter, s)
    elif law == 4:
        fill_words(s, words)
        for j in range(out.size):
            out[j] = _spike(parameter, words[j])
    else:
        out[:] = 0.0


@njit(nogil=True)
def fill(law, parameter, states, out):
    """Fill ``out (R, N)`` row by row with standardised draws from ``states (R, 4)``, in order."""
    for r in range(out.shape[0]):
        fill_row(law, parameter, states[r], out[r])
