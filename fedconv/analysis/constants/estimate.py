"""Constants of a problem estimated at the points that runs visit, with intervals, and the regime that they imply.

Everything here is graded *estimated*: a verdict with such constants says "consistent" or "not consistent".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fedconv.analysis.constants.visited_points import Along, Visited, measure, visited
from fedconv.analysis.theorems.split.effective_variance import COMPARISONS
from fedconv.analysis.verdicts.limits import student_lower, student_upper
from fedconv.methods.split.minibatch import MiniBatch
from fedconv.problems.base import Constant, Constants, Problem
from fedconv.problems.errors import InputError
from fedconv.problems.modules.hessian_norms import STEPS
from fedconv.problems.noise import Noise

__all__ = ["Along", "Estimate", "Estimates", "Visited", "estimate", "sentences", "visited"]


@dataclass(frozen=True)
class Estimate:
    """``largest``: the largest value at a visited point, which enters the constants. ``value`` with [low, high]: what
    ``meaning`` says, at the confidence that was asked for."""

    largest: float
    value: float
    low: float
    high: float
    meaning: str


@dataclass(frozen=True)
class Estimates:
    """Estimated constants of a problem; σ's are None where no noise was given. ``F_start``: F(u⁰, V⁰).

    ``along``: what was found at each visited point.
    """

    n: int
    d_u: int
    d_v: int
    points: int
    L_u: Estimate
    L_v: Estimate
    L_uv: Estimate
    delta: Estimate
    rho: Estimate
    sigma_u: Estimate | None
    sigma_v: Estimate | None
    F_star: Constant
    F_start: float
    along: Along

    @property
    def constants(self) -> Constants:
        """The largest values seen, graded *estimated*; F★ is the problem's own."""
        at = f"largest at {self.points} visited points"
        L_u, L_v, cross, delta, rho = (
            Constant(x.largest, "estimated", at) for x in (self.L_u, self.L_v, self.L_uv, self.delta, self.rho)
        )
        return Constants(L_u, L_v, cross, cross, delta, rho, self.F_star)

    def inputs(self, m: int, tau: int = 1) -> dict[str, float]:
        """The theorems' inputs by name but η and T, for cohorts of m and τ local steps in both blocks.

        Raises InputError where m or τ does not fit, and where no finite lower bound of F is known.
        """
        if not 1 <= m <= self.n:
            raise InputError(f"m must lie between 1 and n = {self.n}; got {m}")
        if tau < 1:
            raise InputError(f"tau must be at least 1; got {tau}")
        if not math.isfinite(self.F_star.value):
            raise InputError(f"gap0 needs a finite number below F, which F_star states; got {self.F_star.value}")
        c = self.constants
        return {
            "n": float(self.n), "m": float(m), "tau_u": float(tau), "tau_v": float(tau), "L_u": c.L_u.value,
            "L_v": c.L_v.value, "chi": c.chi, "delta": c.delta.value, "rho": c.rho.value,
            "sigma_u": self.sigma_u.largest if self.sigma_u else 0.0,
            "sigma_v": self.sigma_v.largest if self.sigma_v else 0.0,
            "gap0": max(self.F_start - self.F_star.value, 0.0),
        }  # fmt: skip

    def regime(self, m: int, tau: int = 1) -> dict[str, str]:
        """Whose upper bound is the smaller, by comparison (``fedconv.analysis.theorems.split.effective_variance``):
        "fedalt", "fedsim", "no difference" (always so without a shared or without a personal part: then they are one
        algorithm), or "unknown" where L_u, L_v or χ gives no number. Bounds are compared, not runs."""
        known = self if math.isfinite(self.F_star.value) else replace(self, F_star=Constant(0.0, "estimated", "unused"))
        inputs = known.inputs(m, tau)
        if self.d_u == 0 or self.d_v == 0:
            return dict.fromkeys(COMPARISONS, "no difference")
        return {key: _named(*one.evaluate(inputs)[:2]) for key, one in COMPARISONS.items()}

    def lines(self) -> list[str]:
        """A line for each constant."""
        listed = {
            "L_u": self.L_u, "L_v": self.L_v, "L_uv": self.L_uv, "delta": self.delta, "rho": self.rho,
            "sigma_u": self.sigma_u, "sigma_v": self.sigma_v,
        }  # fmt: skip
        out = [
            f"{name} = {x.largest:.4g} (estimated; {x.meaning}: {x.value:.4g} in [{x.low:.4g}, {x.high:.4g}])"
            for name, x in listed.items()
            if x is not None
        ]
        floor = self.F_star.value
        known = f"F_star >= {floor:.4g}" if math.isfinite(floor) else "F_star: no lower bound of F is stated"
        return [*out, f"chi = {self.constants.chi:.4g} (estimated)", known]


def estimate(
    problem: Problem,
    points: Visited,
    *,
    noise: Noise | None = None,
    rho: float = 0.0,
    error: float = 0.05,
    steps: int = STEPS,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Estimates:
    """Constants at the visited points (all clients at each); ``progress`` is told how many points were finished.

    L_u, L_v, L_uv = L_vu: the largest norm of a Hessian block over points and clients by Lanczos' method
    (:func:`fedconv.problems.modules.hessian_norms.block_norms`): a lower bound of the constant over all (u, V); [low,
    high] holds for the largest at the visited points, by the method's random start, at probability 1 − error.
    δ: √max (D − ρ²G)₊ over the points, D = (1/n) Σ_i ‖∇_uF_i − ∇_uF‖², G = ‖∇_uF‖², for the given ρ, so that A3 holds
    at every visited point; its interval is Student's for √ of the mean of (D − ρ²G)₊ over replicates of the run.
    σ_u, σ_v: of additive noise as it is stated; of mini-batches √(variance of a row's gradient/b), computed over all
    rows, its interval Student's for the root mean square over points and clients.
    Student's interval is right for normal samples: for few and skewed replicates it covers a little less than it says
    (92 to 94 times in 100 at 95 %, for 8 runs of a linear model with mini-batches). With one replicate these two
    intervals are [0, ∞); zeros have the interval [0, 0] where they must be zeros (δ of one
    client, σ of a missing block). Raises InputError where a derivative is not finite at a visited point.
    """
    if not (math.isfinite(rho) and rho >= 0):
        raise InputError(f"rho must be a finite number >= 0; got {rho}")
    if not 0 < error < 1:
        raise InputError(f"error must lie in (0, 1); got {error}")
    found = measure(problem, points, noise=noise, rho=rho, error=error, steps=steps, seed=seed, progress=progress)
    by = "at visited points, by Lanczos' method" + (" on differences" if found.differences else "")
    by += ", between the kinks of F" if found.kinks else ""

    def curvature(name: str) -> Estimate:
        top = float(found.values[name].max())
        return Estimate(top, top, top, top / found.shares[name], f"largest {by}")

    def noisy(name: str, there: int) -> Estimate | None:
        if noise is None:
            return None
        if not isinstance(noise, MiniBatch):
            stated = getattr(noise, name)
            return Estimate(stated, stated, stated, stated, "stated")
        meaning = f"root mean over visited points and clients, batches of {noise.batch}"
        return _rooted(found.values[name], found.means[name], error, meaning, never=there == 0)

    meaning = f"root mean over visited points at rho = {rho:g}"
    return Estimates(
        n=problem.n,
        d_u=problem.d_u,
        d_v=problem.d_v,
        points=found.values["L_u"].size,
        L_u=curvature("L_u"),
        L_v=curvature("L_v"),
        L_uv=curvature("L_uv"),
        delta=_rooted(found.values["delta"], found.means["delta"], error, meaning, never=problem.n == 1),
        rho=Estimate(rho, rho, rho, rho, "chosen"),
        sigma_u=noisy("sigma_u", problem.d_u),
        sigma_v=noisy("sigma_v", problem.d_v),
        F_star=problem.constants.F_star,
        F_start=float(found.values["F"][0, 0]),
        along=found,
    )


def _rooted(largest: np.ndarray, squares: np.ndarray, error: float, meaning: str, *, never: bool) -> Estimate:
    """The largest of ``(R, P)``, and the root of the mean of ``squares (R, P)`` with its interval over replicates."""
    per_replicate = squares.mean(1)
    top, value = float(largest.max()), math.sqrt(float(per_replicate.mean()))
    if never:
        return Estimate(top, value, 0.0, 0.0, f"{meaning}; it cannot be anything else")
    if len(per_replicate) == 1:
        return Estimate(top, value, 0.0, math.inf, f"{meaning}, one replicate: no interval")
    low, high = student_lower(per_replicate, error / 2), student_upper(per_replicate, error / 2)
    return Estimate(top, value, math.sqrt(max(low, 0.0)), math.sqrt(max(high, 0.0)), meaning)


def _named(fedalt: Any, fedsim: Any) -> str:
    """The algorithm with the smaller effective variance."""
    alt, sim = float(fedalt), float(fedsim)
    if not (math.isfinite(alt) and math.isfinite(sim)):
        return "unknown"
    if abs(alt - sim) <= 1e-9 * max(abs(alt), abs(sim)):
        return "no difference"
    return "fedalt" if alt < sim else "fedsim"


def sentences(regime: Mapping[str, str]) -> list[str]:
    """What :meth:`Estimates.regime` found, in a sentence each."""
    said = {
        "fedalt": "FedAlt's bound is the smaller",
        "fedsim": "FedSim's bound is the smaller",
        "no difference": "the bounds do not differ",
        "unknown": "no answer, as a constant is missing",
    }
    return [f"{COMPARISONS[key].title}: {said[name]} (estimated constants)" for key, name in regime.items()]
