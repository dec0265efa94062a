"""What the theorems on FedFomo measure along a run, the symbols they are written in, and the premises they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from fedconv.analysis.theorems.base import symbol
from fedconv.analysis.theorems.statement import Measured, Premise, Statement, StatementInputs, noise

if TYPE_CHECKING:
    import xarray as xr

ALGORITHMS = ("fedfomo",)
DERIVED = "derived in this project"

gamma, L, lam, rho, z, R, M_c = (symbol(s) for s in ("gamma", "L", "lam", "rho", "z", "R", "M_c"))
noise_w = symbol("noise_w")
"""Rounding error of a distance; ``noise`` is that of a difference of losses."""

GAIN_FLOOR: sp.Expr = 4 * noise

WRITTEN = {"lam": r"\lambda", "M_c": "M_c", "rho": r"\rho"}


def each(trace: xr.Dataset, name: str) -> np.ndarray:
    """Variable (replicate, round, client) as ``(R, T·n)``; 0 where no client ever weighed a candidate."""
    R, T, n = trace.sizes["replicate"], trace.sizes["round"], trace.sizes["client"]
    return trace[name].values.astype(float).reshape(R, T * n) if name in trace else np.zeros((R, T * n))


def sums(trace: xr.Dataset, name: str) -> np.ndarray:
    """Sum over rounds ``(R, n)``."""
    R, n = trace.sizes["replicate"], trace.sizes["client"]
    return trace[name].values.astype(float).sum(1) if name in trace else np.zeros((R, n))


def before(trace: xr.Dataset, name: str) -> np.ndarray:
    """Variable (replicate, point, client) at the beginning of every round, ``(R, T·n)``; NaN where there is none."""
    return _points(trace, name)[:, :-1].reshape(trace.sizes["replicate"], -1)


def behind(trace: xr.Dataset, name: str) -> np.ndarray:
    """The same at the end of every round."""
    return _points(trace, name)[:, 1:].reshape(trace.sizes["replicate"], -1)


def _points(trace: xr.Dataset, name: str) -> np.ndarray:
    if name in trace:
        return trace[name].values.astype(float)
    return np.full((trace.sizes["replicate"], trace.sizes["round"] + 1, trace.sizes["client"]), np.nan)


def level(trace: xr.Dataset) -> np.ndarray:
    """inf L_i ``(n,)``, 0 where it is not known: what losses are counted from."""
    found = trace["infimum"].values
    return np.where(np.isnan(found), 0.0, found)


def measured(
    name: str,
    meaning: str,
    latex: str,
    reduce: Callable[[xr.Dataset, Mapping[str, Any]], np.ndarray],
    *variables: str,
) -> Measured:
    return Measured(name, meaning, latex, reduce, variables, meaning)


def per_round(name: str, meaning: str, latex: str, variable: str | None = None) -> Measured:
    """A recorded number of every client and round as it stands."""
    key = variable or name
    return measured(name, meaning, latex, lambda t, _: each(t, key), key)


PROMISED = per_round("promised", "Σ w_n Δ_n", r"\sum_n w_n\Delta_n")
DECREASE = per_round("decrease", "L_i(θ^0) − L_i(θ^+)", r"\big(L_i(\theta^0)-L_i(\theta^+)\big)")
BEST = per_round("best_gain", "largest Δ_n", r"\max_n\Delta_n")
OWN_GAIN = per_round("own_gain", "Δ of the own trained model, or 0", r"[\Delta_{\mathrm{self}}]_+")
START_GAP = measured(
    "start_gap",
    "L_i(θ_i^0) − inf L_i",
    r"\big(L_i(\theta^{\ell(0)})-\inf L_i\big)",
    lambda t, _: _points(t, "loss")[:, 0] - level(t),
    "loss",
)


def _flag(name: str, sentence: str) -> Premise:
    return Premise(name, sentence, lambda inputs: bool(inputs.flags[name]))


CONVEX = _flag("convex", "the target losses are not known to be convex")
SMOOTH = _flag("smooth", "the target losses have no smoothness constant")
WEAKLY = _flag("weakly_convex", "no λ is known for which every L_i + (λ/2)‖·‖² is convex")
KNOWN_INF = _flag("inf_known", "no lower bound of every target loss is known")
OWN = _flag("own_targets", "clients do not train on the losses that judge them")
GRADIENTS = _flag("exact_gradients", "local gradients are noisy")
LOSSES = _flag("exact_losses", "clients weigh models by noisy losses")
BASE = _flag("base", "a client that rejects all candidates keeps its trained model")
EVERYBODY = _flag("everybody", "only a cohort takes part in a round")
UNBIASED = _flag("unbiased", "training and target centres differ: z > 0")
CLUSTERS = _flag("clusters", "all target centres agree")


def about(*flags: str) -> Callable[[StatementInputs], bool]:
    """Whether a statement is about runs of which all these flags are true."""
    return lambda inputs: all(bool(inputs.flags[name]) for name in flags)


def claim(key: str, title: str, definitions: Mapping[sp.Symbol, Any], *found: Measured, **more: Any) -> Statement:
    """A statement about FedFomo, for every replicate and at every client and round of it; the step size is γ."""
    given = {"source": DERIVED, "pathwise": True, "rounds": True, "step": None, "written": WRITTEN} | more
    exact = {s: sp.sympify(e) for s, e in definitions.items()}
    return Statement(key=key, title=title, algorithms=ALGORITHMS, definitions=exact, measured=found, **given)
