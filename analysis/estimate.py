"""Constants of a problem estimated at the points that runs visit, with intervals, and the regime that they imply.

Everything here is graded *estimated*: a verdict with such constants says "consistent" or "not consistent".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.intervals import student_lower, student_upper
from analysis.theorems.regime import COMPARISONS
from fedconv.algorithms import FedAlt, State
from fedconv.minibatch import MiniBatch
from fedconv.run import Experiment, run, step_sizes
from problems.base import Constant, Constants, Problem
from problems.curvature import STEPS, block_norms
from problems.errors import InputError
from problems.modules import ModuleProblem
from problems.noise import Noise


@dataclass(frozen=True)
class Visited:
    """Points that runs visit: u ``(R, P, d_u)`` and V ``(R, P, n, d_v)`` for R replicates and P rounds each."""

    u: Tensor
    v: Tensor


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
    """Estimated constants of a problem; σ's are None where no noise was given. ``F_start``: F(u⁰, V⁰)."""

    n: int
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

    @property
    def constants(self) -> Constants:
        """The largest values seen, graded *estimated*; F★ is the problem's own."""
        at = f"largest at {self.points} visited points"
        L_u, L_v, cross, delta, rho = (
            Constant(x.largest, "estimated", at) for x in (self.L_u, self.L_v, self.L_uv, self.delta, self.rho)
        )
        return Constants(L_u, L_v, cross, cross, delta, rho, self.F_star)

    def inputs(self, m: int, tau: int = 1) -> dict[str, float]:
        """The theorems' inputs by name but η and T, for cohorts of m and τ local steps in both blocks."""
        if not 1 <= m <= self.n:
            raise InputError(f"m must lie between 1 and n = {self.n}; got {m}")
        if tau < 1:
            raise InputError(f"tau must be at least 1; got {tau}")
        c = self.constants
        return {
            "n": float(self.n), "m": float(m), "tau_u": float(tau), "tau_v": float(tau), "L_u": c.L_u.value,
            "L_v": c.L_v.value, "chi": c.chi, "delta": c.delta.value, "rho": c.rho.value,
            "sigma_u": self.sigma_u.largest if self.sigma_u else 0.0,
            "sigma_v": self.sigma_v.largest if self.sigma_v else 0.0,
            "gap0": max(self.F_start - self.F_star.value, 0.0),
        }  # fmt: skip

    def regime(self, m: int, tau: int = 1) -> dict[str, str]:
        """Whose upper bound is the smaller, by comparison (``analysis.theorems.regime``): "fedalt", "fedsim", "no
        difference", or "unknown" where L_u, L_v or χ gives no number. Bounds are compared, not runs."""
        inputs = self.inputs(m, tau)
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
        return [*out, f"chi = {self.constants.chi:.4g} (estimated)", f"F_star >= {self.F_star.value:.4g}"]


def visited(experiment: Experiment, points: int = 5, replicates: int = 2) -> Visited:
    """The states of a run at ``points`` rounds spread evenly over 0..T, the start included.

    A single replicate where the run has nothing random. Raises InputError where the run diverges.
    """
    if points < 1 or replicates < 1:
        raise InputError(f"points and replicates must be at least 1; got {points} and {replicates}")
    R = 1 if experiment.deterministic else replicates
    us = [experiment.start.u.expand(R, -1).cpu()]
    vs = [experiment.start.v.expand(R, -1, -1).cpu()]
    for t in sorted({round(x) for x in np.linspace(0, experiment.T, points)} - {0}):
        trace = run(replace(experiment, T=t), R, level="none", engine="eager")
        us.append(torch.from_numpy(trace["u_final"].values))
        vs.append(torch.from_numpy(trace["v_final"].values))
    u, v = torch.stack(us, 1), torch.stack(vs, 1)
    if not (torch.isfinite(u).all() and torch.isfinite(v).all()):
        raise InputError(f"the run must stay finite to be a source of points; it diverged within T = {experiment.T}")
    return Visited(u, v)


def estimate(
    problem: Problem,
    points: Visited,
    *,
    noise: Noise | None = None,
    rho: float = 0.0,
    error: float = 0.05,
    steps: int = STEPS,
    seed: int = 0,
) -> Estimates:
    """Constants at the visited points (all clients at each).

    L_u, L_v, L_uv = L_vu: the largest norm of a Hessian block over points and clients by Lanczos' method
    (:func:`problems.curvature.block_norms`): a lower bound of the constant over all (u, V); [low, high] holds for the
    largest at the visited points, by the method's random start, at probability 1 − error.
    δ: √max (D − ρ²G)₊ over the points, D = (1/n) Σ_i ‖∇_uF_i − ∇_uF‖², G = ‖∇_uF‖², for the given ρ, so that A3 holds
    at every visited point; its interval is Student's for √ of the mean of (D − ρ²G)₊ over replicates of the run.
    σ_u, σ_v: of additive noise as it is stated; of mini-batches √(variance of a row's gradient/b), computed over all
    rows, its interval Student's for the root mean square over points and clients.
    With one replicate these two intervals are [0, ∞).
    """
    if not (math.isfinite(rho) and rho >= 0):
        raise InputError(f"rho must be a finite number >= 0; got {rho}")
    if not 0 < error < 1:
        raise InputError(f"error must lie in (0, 1); got {error}")
    R, P = points.u.shape[:2]
    if points.u.shape != (R, P, problem.d_u) or points.v.shape != (R, P, problem.n, problem.d_v):
        raise InputError(
            f"points must have u (R, P, {problem.d_u}) and V (R, P, {problem.n}, {problem.d_v}); got"
            f" {tuple(points.u.shape)} and {tuple(points.v.shape)}"
        )
    u = points.u.to(problem.device)[:, :, None, :].expand(-1, -1, problem.n, -1)
    v = points.v.to(problem.device)
    norms = block_norms(problem, u, v, steps=steps, error=error / (3 * R * P * problem.n), seed=seed)
    by = "at visited points, by Lanczos' method" + (" on differences" if norms.differences else "")

    def curvature(values: Tensor, share: float) -> Estimate:
        top = float(values.max())
        return Estimate(top, top, top, top / share if share > 0 else (math.inf if top > 0 else 0.0), f"largest {by}")

    each = problem.grad_u(u, v, problem.everyone())
    mean = each.mean(-2)
    diversity = (each - mean[..., None, :]).square().sum(-1).mean(-1)
    excess = (diversity - rho**2 * mean.square().sum(-1)).clamp(min=0.0)
    sigma_u, sigma_v = _noise(problem, noise, u, v, error)
    start = problem.objective(points.u[0, 0].to(problem.device), points.v[0, 0].to(problem.device))
    return Estimates(
        n=problem.n,
        points=R * P,
        L_u=curvature(norms.L_u, norms.share_u),
        L_v=curvature(norms.L_v, norms.share_v),
        L_uv=curvature(norms.L_uv, norms.share_uv),
        delta=_rooted(excess, error, f"root mean over visited points at rho = {rho:g}"),
        rho=Estimate(rho, rho, rho, rho, "chosen"),
        sigma_u=sigma_u,
        sigma_v=sigma_v,
        F_star=problem.constants.F_star,
        F_start=float(start),
    )


def advise_inputs(
    problem: ModuleProblem, *, batch: int | None = None, T: int = 20, m: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """What an adviser needs to know of a model, from a short pilot run of FedAlt with cohorts of m (default n/2).

    Keys: n, d_u, d_v; L_u, L_v, L_uv, chi, delta, rho, sigma_u, sigma_v, F_star, F_start, gap0 (numbers), ``grade``
    ("estimated"), ``intervals`` {name: (low, high)}, ``estimates`` (the :class:`Estimates`) and ``vectorised`` with
    ``refusal``. The pilot takes η = 0.5 for the constants at the module's own parameters, halved until it stays finite.
    """
    m = max(1, problem.n // 2) if m is None else m
    noise = Noise(law="zero")
    start = State(*problem.start())
    gamma_u, gamma_v = step_sizes(problem, 1, 1, 0.5)
    for _ in range(20):
        algorithm = FedAlt(m, gamma_u, gamma_v, tau_u=int(gamma_u > 0), tau_v=int(gamma_v > 0))
        try:
            points = visited(Experiment(problem, algorithm, noise, start, T, seed))
            break
        except InputError as error:
            if "diverged" not in str(error):
                raise
            gamma_u, gamma_v = gamma_u / 2, gamma_v / 2
    else:
        raise InputError(f"the pilot run must stay finite at some step size; it diverged even at gamma_u = {gamma_u:g}")
    rows = MiniBatch(batch=batch) if batch is not None else None
    found = estimate(problem, points, noise=rows, seed=seed)
    listed = {k: getattr(found, k) for k in ("L_u", "L_v", "L_uv", "delta", "rho", "sigma_u", "sigma_v")}
    return {
        "n": problem.n, "d_u": problem.d_u, "d_v": problem.d_v,
        **{k: x.largest if x is not None else 0.0 for k, x in listed.items()},
        "chi": found.constants.chi, "F_star": found.F_star.value, "F_start": found.F_start,
        "gap0": max(found.F_start - found.F_star.value, 0.0), "grade": "estimated",
        "intervals": {k: (x.low, x.high) for k, x in listed.items() if x is not None},
        "estimates": found, "vectorised": problem.vectorised, "refusal": problem.refusal,
    }  # fmt: skip


def _noise(
    problem: Problem, noise: Noise | None, u: Tensor, v: Tensor, error: float
) -> tuple[Estimate | None, Estimate | None]:
    if noise is None:
        return None, None
    if not isinstance(noise, MiniBatch):
        stated = [Estimate(s, s, s, s, "stated") for s in (noise.sigma_u, noise.sigma_v)]
        return stated[0], stated[1]
    if not isinstance(problem, ModuleProblem):
        raise InputError(f"mini-batches need a problem with rows; got the family {problem.family!r}")
    of_u, of_v = problem.row_variance(u, v, problem.everyone())
    meaning = f"root mean over visited points and clients, batches of {noise.batch}"
    return _rooted(of_u / noise.batch, error, meaning), _rooted(of_v / noise.batch, error, meaning)


def _rooted(squares: Tensor, error: float, meaning: str) -> Estimate:
    """√ of squares ``(R, ...)``: the largest, and the root of the mean with its interval over replicates."""
    per_replicate = squares.reshape(len(squares), -1).mean(-1).cpu().numpy()
    largest, value = math.sqrt(float(squares.max())), math.sqrt(float(per_replicate.mean()))
    if len(per_replicate) == 1:
        return Estimate(largest, value, 0.0, math.inf, f"{meaning}, one replicate: no interval")
    low, high = student_lower(per_replicate, error / 2), student_upper(per_replicate, error / 2)
    return Estimate(largest, value, math.sqrt(max(low, 0.0)), math.sqrt(high), meaning)


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
