"""What the theorems on FedSpa measure along a run, and the premises they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from fedconv.analysis.theorems.base import Condition, symbol
from fedconv.analysis.theorems.fedspa.formulas import drift, eta
from fedconv.analysis.theorems.statement import Measured, Premise, Statement, StatementInputs, each, measured
from fedconv.core.trace import read

if TYPE_CHECKING:
    import xarray as xr

ALGORITHMS = ("fedspa",)
DERIVED = "derived in this project"
CLAIMED = "rate O(1/√T) claimed by Huang et al. 2022 (arXiv 2201.11380); constants: derived in this project"

noise_g = symbol("noise_g")
"""Rounding error of ‖∇f‖."""

STEP_AT_MOST_ONE = Condition("η", eta)


def column(name: str, meaning: str, latex: str, variable: str) -> Measured:
    """A variable in every round, ``(R, T)``."""
    return measured(name, meaning, latex, lambda t, _: each(t, variable), variable)


def mean(name: str, meaning: str, latex: str, variable: str) -> Measured:
    """The mean over rounds, ``(R,)``."""
    return measured(name, meaning, latex, lambda t, _: each(t, variable).mean(axis=1), variable)


# ---- along the run --------------------------------------------------------------------------------------------

GRADIENTS = mean("grad_mean", "mean of ‖∇f_t(w^t)‖²", r"\overline{\|\nabla f_t(w^t)\|^2}", "grad_sq")
DIVERSITY = mean("D_mean", "mean of D_t", r"\overline{D_t}", "diversity")
JUMPS = measured("J_sum", "ΣJ_t", r"\sum_{t<T}J_t", lambda t, _: each(t, "jump").sum(axis=1), "jump")

# ---- in every round -------------------------------------------------------------------------------------------

F_NOW = column("f_now", "f_t(w^t)", "f_t(w^t)", "f")
F_EXPECTED = column("f_expected", "mean of f_t(w^{t+1}) over cohorts", r"E_S f_t(w^{t+1})", "f_expected")
GRAD = column("grad_sq", "‖∇f_t(w^t)‖²", r"\|\nabla f_t\|^2", "grad_sq")
D_NOW = column("D_t", "D_t", "D_t", "diversity")
DRIFT = column("drift_sq", "mean ‖ḡ_k − ∇f_k‖²", r"\overline{\|B_k\|^2}", "drift_sq")
L1 = column("changed_l1", "Σ‖Δm ⊙ w^{t+1}‖₁", r"\sum_k\|\Delta m_k\odot w^{t+1}\|_1", "changed_l1")
WIDEST = column("W_t", "W_t", "W_t", "changed_max")
SLOPE = column("slope", "largest |∂_jF_k| seen", r"\hat B", "slope")
SLOPE_GAP = column("slope_gap", "distance between the points looked at", "h", "slope_gap")
PRUNE = column("J_prune", "J_t of pruning", r"J_t^{\mathrm{prune}}", "jump_prune")
REGROW = column("J_regrow", "J_t of regrowing", r"J_t^{\mathrm{regrow}}", "jump_regrow")
PRUNE_SIZE = measured(
    "J_prune_abs", "|J_t of pruning|", r"|J_t^{\mathrm{prune}}|", lambda t, _: np.abs(each(t, "jump_prune")),
    "jump_prune",
)  # fmt: skip
REGROW_SIZE = measured(
    "J_regrow_abs", "|J_t of regrowing|", r"|J_t^{\mathrm{regrow}}|", lambda t, _: np.abs(each(t, "jump_regrow")),
    "jump_regrow",
)  # fmt: skip
JUMP_SIZE = measured("J_abs", "|J_t|", "|J_t|", lambda t, _: np.abs(each(t, "jump")), "jump")
HAMMING = measured(
    "Ham",
    "Σ Ham(m_{k,t}, m_{k,t+1})",
    r"\sum_k\mathrm{Ham}_{k,t}",
    lambda t, _: t["hamming"].values.sum(-1).astype(float),
    "hamming",
)
HAMMING_SUM = measured(
    "Ham_sum",
    "ΣΣ Ham(m_{k,t}, m_{k,t+1})",
    r"\sum_{t<T}\sum_k\mathrm{Ham}_{k,t}",
    lambda t, _: t["hamming"].values.sum((-1, -2)).astype(float),
    "hamming",
)
RATES = measured("alpha_sum", "Σα_t", r"\sum_{t<T}\alpha_t", lambda t, _: each(t, "alpha").sum(axis=1), "alpha")


def _ceilings(t: xr.Dataset, _: Any) -> np.ndarray:
    """Σ_{k∈S_t} Σ_l ⌈α_t s_{k,l}⌉, products within 1e-9 of an integer being that integer."""
    exact = each(t, "alpha")[:, :, None, None] * t["budget"].values
    kept = np.where((exact > 0.5) & (np.abs(exact - np.round(exact)) < 1e-9 * exact), np.round(exact), np.ceil(exact))
    return (kept.sum(-1) * t["cohort"].values).sum(-1)


CEILINGS = measured(
    "r_sum", "Σ_k Σ_l ⌈α_t s_kl⌉", r"\sum_{k\in S_t}\sum_l\lceil\alpha_ts_{k,l}\rceil", _ceilings, "alpha", "cohort"
)
BREACHES = measured(
    "breaches",
    "broken invariants: nnz, exchanges, iterates, server, absent masks, frozen masks, ∇f",
    r"\#\mathrm{breaches}",
    lambda t, _: t["breaches"].values.sum(-1).astype(float),
    "breaches",
)
BITS = measured(
    "bits", "bits sent", r"\mathrm{bits}", lambda t, _: each(t, "bits_up") + each(t, "bits_down"), "bits_up",
    "bits_down",
)  # fmt: skip


def _value_bits(t: xr.Dataset, _: Any) -> np.ndarray:
    """2b Σ_{k∈S} nnz(m_k), from the weights that were active."""
    active = t["nnz"].values.sum(-1) * t["cohort"].values
    return 2.0 * read(t, "algorithm")["value_bits"] * active.sum(-1)


def _mask_bits(t: xr.Dataset, _: Any) -> np.ndarray:
    """Σ_{k∈S} min(d, Σ_l (pruned + regrown)_l ⌈log₂ d_l⌉), from the changes that were made."""
    sizes = t["layer_size"].values
    words = np.array([math.ceil(math.log2(x)) for x in sizes])
    flips = ((t["pruned"].values + t["regrown"].values) * words).sum(-1)
    return np.minimum(flips, sizes.sum()).sum(-1).astype(float)


VALUE_BITS = measured("value_bits", "2b Σ nnz(m_k)", r"2b\sum_ks_k", _value_bits, "nnz", "cohort")
MASK_BITS = measured("mask_bits", "Σ min(d, Σ 2r⌈log₂ d_l⌉)", r"\sum_k\mu_{k,t}", _mask_bits, "pruned", "regrown")


def drift_of(t: xr.Dataset, values: Mapping[str, Any]) -> np.ndarray:
    """Q(‖∇f_t‖² + D_t, σ²) in every round, ``(R, T)``."""
    G = each(t, "grad_sq") + each(t, "diversity")
    size = float(np.max(values["gamma"]) * np.max(values["L"]) * np.max(values["N"]))
    return drift(G, float(np.max(values["sigma"])) ** 2, size, round(float(np.max(values["N"]))))


Q = measured("Q", "Q(‖∇f_t‖² + D_t, σ²)", "Q_t", drift_of, "grad_sq", "diversity")


def _mean_of(combine: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> Any:
    """Mean over rounds of a function of ‖∇f_t‖, √D_t and √Q_t."""

    def reduce(t: xr.Dataset, values: Mapping[str, Any]) -> np.ndarray:
        roots = (np.sqrt(each(t, "grad_sq")), np.sqrt(each(t, "diversity")), np.sqrt(drift_of(t, values)))
        return combine(*roots).mean(axis=1)

    return reduce


_NEEDS = ("grad_sq", "diversity")
Q_MEAN = measured("Q_mean", "mean of Q_t", r"\overline{Q_t}", _mean_of(lambda g, d, q: q**2), *_NEEDS)
ROOT_MEAN = measured("Q_root", "mean of √Q_t", r"\overline{\sqrt{Q_t}}", _mean_of(lambda g, d, q: q), *_NEEDS)
PRODUCT_MEAN = measured(
    "grad_Q", "mean of ‖∇f_t‖√Q_t", r"\overline{\|\nabla f_t\|\sqrt{Q_t}}", _mean_of(lambda g, d, q: g * q), *_NEEDS
)
BOTH_MEAN = measured(
    "D_Q", "mean of (√D_t + √Q_t)²", r"\overline{(\sqrt{D_t}+\sqrt{Q_t})^2}", _mean_of(lambda g, d, q: (d + q) ** 2),
    *_NEEDS,
)  # fmt: skip
DESCENT = measured(
    "f_change",
    "mean of f_t(w^{t+1}) − f_t(w^t)",
    r"\overline{f_t(w^{t+1})-f_t(w^t)}",
    lambda t, _: (each(t, "f_after") - each(t, "f")).mean(axis=1),
    "f_after",
    "f",
)
DRIFT_MEAN = mean("drift_mean", "mean ‖ḡ_k − ∇f_k‖² over clients and rounds", r"\overline{\|B_k\|^2}", "drift_sq")

# ---- premises ---------------------------------------------------------------------------------------------------


def _flag(name: str, sentence: str) -> Premise:
    return Premise(name, sentence, lambda inputs: bool(inputs.flags[name]))


def finite(name: str, sentence: str) -> Premise:
    """The input ``name`` must be finite."""
    return Premise(name, sentence, lambda inputs: bool(np.isfinite(inputs.values[name])))


FROZEN = _flag("frozen", "the masks move: Theorem 2 is about that")
COHORT = Premise(
    "average",
    "the server divides by the clients that hold a coordinate: its step is not an unbiased one of f",
    lambda inputs: inputs.flags["average"] == "cohort",
)
KNOWN_L = Premise(
    "smooth", "no L with 0 < L < ∞ is known", lambda inputs: bool(0 < inputs.values["L"] < np.inf)
)  # fmt: skip
KNOWN_F = finite("gap", "no lower bound of f is known")
KNOWN_DELTA = finite("delta", "no finite δ is known under these masks: see the version with measured diversity")
NOISELESS_GRADIENTS = _flag("noiseless", "the gradients are noisy")


def moving(inputs: StatementInputs) -> bool:
    return not inputs.flags["frozen"]


def still(inputs: StatementInputs) -> bool:
    return bool(inputs.flags["frozen"])


WRITTEN = {"gap": "ΔF", "descent": "Δ", "q_s": "q_σ", "phi": "φ", "kappa": "κ", "eta_6": "η_6", "layers": "Λ"} | {
    f"{inverse}{name}{end}": f"(1/{word})" if inverse else word
    for name, word in {"beta": "β", "c": "c", "c_s": "c′"}.items()
    for inverse in ("", "inv_")
    for end in ("", "_D")
}
"""How symbols are written, in LaTeX and in MathML."""


def claim(key: str, title: str, definitions: Mapping[sp.Symbol, Any], *found: Measured, **more: Any) -> Statement:
    """A statement about FedSpa; ``source`` is DERIVED unless given."""
    given = {"source": DERIVED, "written": WRITTEN} | more
    exact = {s: sp.sympify(e) for s, e in definitions.items()}
    return Statement(key=key, title=title, algorithms=ALGORITHMS, definitions=exact, measured=found, **given)
