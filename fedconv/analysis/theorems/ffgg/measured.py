"""What the theorems on FFGG measure along a run, the symbols they are written in, and the premises they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from fedconv.analysis.theorems.base import Condition, symbol
from fedconv.analysis.theorems.statement import Measured, Premise, Statement, StatementInputs, measured, noise

if TYPE_CHECKING:
    import xarray as xr

ALGORITHMS = ("ffgg",)
DERIVED = "derived in this project"
CLAIMED = "qualitative claim: Mishchenko et al. 2023 (arXiv 2305.18285); constants: derived in this project"

gamma, L, L_max, mu, G, zeta = (symbol(s) for s in ("gamma", "L", "L_max", "mu", "G", "zeta"))
mu_v, L_uv, L_theta, L_u, ell_u, L_F = (symbol(s) for s in ("mu_v", "L_uv", "L_theta", "L_u", "ell_u", "L_F"))
noise_w, noise_g = symbol("noise_w"), symbol("noise_g")
"""Rounding errors of a distance to w★ and of ‖∇F‖; ``noise`` is that of a difference of F."""

GRADIENT_FLOOR: sp.Expr = noise_g**2

ROUNDED = sp.Rational(1, 10**13)
"""Share of what a bound cancels or contracts up to which a difference is rounding."""
GAP_FLOOR: sp.Expr = 2 * noise

REACH = Condition("γL", gamma * L)
BELOW_TWO = Condition("γL/2", gamma * L / 2, strict=True)


def points(trace: xr.Dataset, name: str) -> np.ndarray:
    """Variable ``(R, T + 1)`` of a trace; NaN where the trace has none (a premise then says why)."""
    if name in trace:
        return trace[name].values
    return np.full((trace.sizes["replicate"], trace.sizes["round"] + 1), np.nan)


D_0 = measured("D_0", "F(w^0) − F★", "D_0", lambda t, _: points(t, "F_gap")[:, 0], "F_gap")
D_T = measured("D_T", "F(w^T) − F★", "D_T", lambda t, _: points(t, "F_gap")[:, -1], "F_gap")
R_0 = measured("R_0", "‖w^0 − w★‖", "R_0", lambda t, _: np.sqrt(points(t, "dist_sq")[:, 0]), "dist_sq")
DIST = measured("dist_sq", "‖w^T − w★‖²", r"\|w^T-w^*\|^2", lambda t, _: points(t, "dist_sq")[:, -1], "dist_sq")
DESCENT = measured(
    "descent",
    "F(w^0) − F(w^T)",
    r"\big(F(w^0)-F(w^T)\big)",
    lambda t, _: points(t, "F_gap")[:, 0] - points(t, "F_gap")[:, -1],
    "F_gap",
)
GRADIENTS = measured(
    "grad_mean",
    "mean of ‖∇F(w^k)‖² over k < T",
    r"\frac1T\sum_{k<T}\|\nabla F(w^k)\|^2",
    lambda t, _: points(t, "grad_sq")[:, :-1].mean(axis=1),
    "grad_sq",
)
GAPS = measured(
    "gap_mean",
    "mean of F(w^k) − F★ over k ≤ T",
    r"\frac1{T+1}\sum_{k\le T}D_k",
    lambda t, _: points(t, "F_gap").mean(axis=1),
    "F_gap",
)
GAPS_BEFORE = measured(
    "gap_before",
    "mean of F(w^k) − F★ over k < T",
    r"\frac1T\sum_{k<T}D_k",
    lambda t, _: points(t, "F_gap")[:, :-1].mean(axis=1),
    "F_gap",
)
D_NEXT = measured("D_next", "F(w^{k+1}) − F★", "D_{k+1}", lambda t, _: points(t, "F_gap")[:, 1:], "F_gap")
D_NOW = measured("D_now", "F(w^k) − F★", "D_k", lambda t, _: points(t, "F_gap")[:, :-1], "F_gap")
GRAD_NOW = measured(
    "grad_now", "‖∇F(w^k)‖²", r"\|\nabla F(w^k)\|^2", lambda t, _: points(t, "grad_sq")[:, :-1], "grad_sq"
)
DIST_NEXT = measured(
    "dist_next", "‖w^{k+1} − w★‖²", r"\|w^{k+1}-w^*\|^2", lambda t, _: points(t, "dist_sq")[:, 1:], "dist_sq"
)
DIST_NOW = measured("dist_now", "‖w^k − w★‖²", r"\|w^k-w^*\|^2", lambda t, _: points(t, "dist_sq")[:, :-1], "dist_sq")


def distance_floor(contracted: sp.Expr) -> sp.Expr:
    """Rounding of a squared distance whose bound is ``contracted``²: the computed w★ is off by noise_w."""
    return 4 * noise_w * contracted + 4 * noise_w**2


def about(*kinds: str) -> Callable[[StatementInputs], bool]:
    """Whether a statement is about runs of these kinds (see ``ffgg_inputs``)."""
    return lambda inputs: inputs.flags["kind"] in kinds


def _flag(name: str, sentence: str) -> Premise:
    return Premise(name, sentence, lambda inputs: bool(inputs.flags[name]))


def positive(name: str, sentence: str) -> Premise:
    """The input ``name`` must be positive."""
    return Premise(name, sentence, lambda inputs: inputs.values[name] > 0)


def contracted_floor(rate: sp.Expr, start: sp.Expr) -> sp.Expr:
    """Rounding of rate^T ‖start‖², where the rate itself may be 0 up to rounding."""
    return distance_floor(sp.sqrt(sp.Abs(rate) ** symbol("T")) * start) + ROUNDED * start**2


def finite(name: str, sentence: str) -> Premise:
    """The input ``name`` must be finite."""
    return Premise(name, sentence, lambda inputs: bool(np.isfinite(inputs.values[name])))


CONVEX = _flag("convex", "not every client's loss is convex after fine-tuning")
OVERPERSONALIZED = _flag("overpersonalized", "the problem is not overpersonalized: G > 0")
STRONG = _flag("strongly_convex", "F is not known to be strongly convex")
QUADRATIC = _flag("quadratic", "the clients' losses after fine-tuning are not quadratics")
KNOWN_F = _flag("F_star_known", "F★ is only known from below")
KNOWN_W = _flag("minimiser_known", "the minimiser of F nearest to the start is not known")
CURVED = positive("L_max", "every client's loss is constant after fine-tuning")
PL = positive("mu", "no μ > 0 is known with ‖∇F‖² ≥ 2μ(F − F★)")
KNOWN_ZETA = finite("zeta", "ζ★ is not known")


WRITTEN = {"zeta": "ζ_*", "F_star": "F_*", "inf_mean": "⟨inf f⟩"}
"""How symbols are written, in LaTeX and in MathML; ⟨inf f⟩ = (1/M) Σ_m inf f_m."""


def claim(key: str, title: str, definitions: Mapping[sp.Symbol, Any], *found: Measured, **more: Any) -> Statement:
    """A statement about FFGG; ``source`` is DERIVED unless given, the step size is γ."""
    given = {"source": DERIVED, "pathwise": True, "step": "gamma"} | more
    given["written"] = WRITTEN | given.get("written", {})
    exact = {s: sp.sympify(e) for s, e in definitions.items()}
    return Statement(key=key, title=title, algorithms=ALGORITHMS, definitions=exact, measured=found, **given)
