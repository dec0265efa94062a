"""Expectations of FFGG over cohorts, without drawing any: by moments on quadratics, by enumeration on tiny instances.

Derived here. With ∇F_i(w) = r_i + H_i e, e = w − w★ and z = (1, e), a round is z⁺ = z − γ (0, G_S z) with
G_i = [r_i, H_i] and G_S its mean over the cohort S. For a uniform m-subset without replacement
E[G_S Z G_Sᵀ] = (1−ω) Ḡ Z Ḡᵀ + ω (1/n) Σ_i G_i Z G_iᵀ, ω = (n−m)/(m(n−1)), so that Z = E zzᵀ obeys a closed recursion.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fedconv.core.run import single_torch_thread
from fedconv.methods.ffgg.experiment import FFGGExperiment
from fedconv.methods.ffgg.method import FFGG
from fedconv.methods.ffgg.variables import assemble
from fedconv.problems.errors import InputError
from fedconv.problems.written_for import written_for

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.core.run import Runnable
    from fedconv.problems.envelopes.base import EnvelopeProblem

LARGEST_WORK = 1e10
"""Floating-point operations up to which moments count as cheaper than replicates: some seconds."""

QUICK_TREE = 20_000
"""Outcomes up to which cohorts are enumerated without being asked for."""


def exact_trace(experiment: Runnable) -> xr.Dataset | None:
    """Exact expectations where they cost little, by moments or else by enumeration; else None."""
    assert isinstance(experiment, FFGGExperiment)
    if applies(experiment) is None:
        return expectations(experiment)
    if _sampled(experiment) is None and outcomes(experiment) <= QUICK_TREE:
        return enumeration(experiment, QUICK_TREE)
    return None


def applies(experiment: FFGGExperiment) -> str | None:
    """None where :func:`expectations` can be computed, else a sentence why not."""
    refusal = _sampled(experiment)
    problem = experiment.problem
    if refusal is not None:
        return refusal
    if not problem.envelope_constants.quadratic:
        return f"exact moments need quadratics after fine-tuning; this problem is of the family {problem.family}"
    work = 4.0 * experiment.T * problem.n * (problem.d_u + 1.0) ** 3
    if work > LARGEST_WORK:
        return f"exact moments would take about {work:.1e} operations, more than {LARGEST_WORK:.0e}"
    return None


def _sampled(experiment: FFGGExperiment) -> str | None:
    """None where cohorts are the only randomness and a round is one step after exact fine-tuning."""
    method = experiment.algorithm
    if not (written_for(experiment, FFGGExperiment) and written_for(method, FFGG)):
        return f"exact expectations need FFGG itself; this is {type(experiment).__name__} with {type(method).__name__}"
    if method.asynchrony is not None or method.byzantine is not None:
        return "exact expectations are about cohorts; this run is asynchronous or has Byzantine clients"
    if method.tau > 1 or not method.fine_tuning.exact:
        return "exact expectations need tau = 1 and exact fine-tuning"
    return None


def expectations(experiment: FFGGExperiment) -> xr.Dataset:
    """A trace whose one replicate holds E F, E D_k, E‖∇F(w^k)‖² and E‖w^k − w★‖².

    A diverging recursion gives inf or NaN. Raises InputError where :func:`applies` says no.
    """
    refusal = applies(experiment)
    if refusal is not None:
        raise InputError(refusal)
    with single_torch_thread(), np.errstate(all="ignore"):
        found = _moments(experiment)
    return _trace(experiment, found, "second moments of an affine recursion")


def affine(problem: EnvelopeProblem, w: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(r ``(n, d)``, H ``(n, d, d)``) with ∇F_i(w + e) = r_i + H_i e, for quadratics."""
    at = torch.cat([w[None], w + torch.eye(problem.d_u, dtype=w.dtype)])
    everywhere = at[:, None, :].expand(-1, problem.n, -1)
    slopes = problem.envelope_grad(everywhere, problem.everyone()).cpu().numpy()
    r, H = slopes[0], (slopes[1:] - slopes[0]).transpose(1, 2, 0)
    return r, 0.5 * (H + H.swapaxes(1, 2))


def _moments(experiment: FFGGExperiment) -> dict[str, np.ndarray]:
    problem, T, gamma = experiment.problem, experiment.T, experiment.algorithm.gamma
    n, m, d = problem.n, experiment.algorithm.m, problem.d_u
    start = experiment.start.u.cpu()
    nearest = problem.nearest_minimiser(experiment.start.u.to(problem.device))
    known = nearest is not None
    center = nearest.cpu() if nearest is not None else start
    r, H = affine(problem.to("cpu") if problem.device.type != "cpu" else problem, center)  # type: ignore[arg-type]
    omega = (n - m) / (m * max(n - 1, 1))
    G = np.concatenate([r[:, :, None], H], axis=2)
    if known:
        G[:, :, 0] -= r.mean(0)  # the computed w★ is stationary to rounding: Σ r_i = 0
    mean = G.mean(0)
    F_center = float(problem.mean_envelope(center.to(problem.device)))
    z = np.concatenate([[1.0], (start - center).numpy()])
    Z = np.outer(z, z)
    out: dict[str, list[float]] = {"F": [], "F_gap": [], "grad_sq": []} | ({"dist_sq": []} if known else {})
    F_star = problem.envelope_constants.F_star.value
    value = np.zeros((d + 1, d + 1))
    value[1:, 1:], value[0, 1:] = mean[:, 1:] / 2, mean[:, 0]
    for k in range(T + 1):
        above = float((value * Z).sum())
        out["F"].append(F_center + above)
        out["F_gap"].append(above if known else F_center - F_star + above)
        out["grad_sq"].append(float(((mean @ Z) * mean).sum()))
        if known:
            out["dist_sq"].append(float(np.trace(Z[1:, 1:])))
        if k < T:
            pulled = mean @ Z
            step = np.zeros_like(Z)
            step[1:] = gamma * pulled
            spread = (1 - omega) * pulled @ mean.T + omega * np.einsum("nij,nkj->ik", G @ Z, G, optimize=True) / n
            Z = Z - step - step.T
            Z[1:, 1:] += gamma**2 * spread
            Z = 0.5 * (Z + Z.T)  # an antisymmetric rounding error would not contract
    return {name: np.array([row]) for name, row in out.items()}


def outcomes(experiment: FFGGExperiment) -> int:
    """How many sequences of cohorts there are."""
    return math.comb(experiment.problem.n, experiment.algorithm.m) ** experiment.T


def enumeration(experiment: FFGGExperiment, budget: int = 10**6) -> xr.Dataset:
    """The same means for any problem, over all sequences of cohorts.

    Raises InputError where there are more than ``budget`` of them, or other randomness.
    """
    refusal = _sampled(experiment)
    if refusal is not None:
        raise InputError(refusal)
    if outcomes(experiment) > budget:
        raise InputError(
            f"enumeration needs at most {budget} sequences of cohorts; this run has {outcomes(experiment)}"
        )
    problem, gamma = experiment.problem, experiment.algorithm.gamma
    cohorts = torch.tensor(list(combinations(range(problem.n), experiment.algorithm.m)), device=problem.device)
    w = experiment.start.u.to(problem.device)[None]
    nearest = problem.nearest_minimiser(w[0])
    F_star = problem.envelope_constants.F_star.value
    out: dict[str, list[float]] = {"F": [], "F_gap": [], "grad_sq": []} | (
        {"dist_sq": []} if nearest is not None else {}
    )
    with single_torch_thread():
        for k in range(experiment.T + 1):
            F = float(problem.mean_envelope(w).mean())
            out["F"].append(F)
            out["F_gap"].append(F - F_star)
            slopes = problem.envelope_grad(w[:, None].expand(-1, problem.n, -1), problem.everyone())
            out["grad_sq"].append(float(slopes.mean(1).square().sum(-1).mean()))
            if nearest is not None:
                out["dist_sq"].append(float((w - nearest).square().sum(-1).mean()))
            if k < experiment.T:
                w = (w[:, None] - gamma * slopes[:, cohorts].mean(2)).reshape(-1, problem.d_u)
    found = {name: np.array([row]) for name, row in out.items()}
    return _trace(experiment, found, f"enumeration of {outcomes(experiment)} sequences of cohorts")


def _trace(experiment: FFGGExperiment, found: dict[str, np.ndarray], reason: str) -> xr.Dataset:
    finite = all(np.isfinite(values).all() for values in found.values())
    attrs: dict[str, Any] = {"level": "stationarity", "engine": "exact", "engine_reason": reason}
    final = {"F_final": found["F"][:, -1]}
    return assemble(experiment, [found | final], 0, attrs | {"diverged": int(not finite)})
