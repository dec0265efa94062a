"""When is FedAlt's bound the smaller? The paper's constant-free answer, and those of the tuned explicit bounds.

Three comparisons of *upper bounds*; none of them is a statement about runs, and they disagree:

- constant-free (Pillutla et al. 2022): effective variances without absolute constants;
- tuned FA against FS: S₁ as η → 0 at the best α (derived in this project);
- tuned FA* against FS*: the same with the sharper sampling term (derived in this project).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp

from fedconv.analysis.theorems.base import (
    SAMPLING,
    L_u,
    L_v,
    c,
    chi,
    delta,
    m,
    n,
    p,
    sigma_u,
    sigma_v,
    substitute,
    tau_u,
)

tau = tau_u
_A_sigma = sigma_u**2 / (m * tau * L_u)
_A_delta = c * delta**2 / L_u
_B = sigma_v**2 / (tau * L_v)


@dataclass(frozen=True)
class Comparison:
    """Two effective variances, FedAlt's and FedSim's, and the condition under which FedAlt's is the smaller.

    ``condition`` is negative exactly where FedAlt's is strictly smaller (for χ > 0; ``needs`` says what else).
    ``constant_free``: absolute constants are ignored, so it compares orders of magnitude and bounds nothing.
    """

    key: str
    title: str
    source: str
    constant_free: bool
    fedalt: sp.Expr
    fedsim: sp.Expr
    condition: sp.Expr
    needs: str

    @cached_property
    def _functions(self) -> tuple[list[str], Any]:
        expressions = [substitute(e, SAMPLING) for e in (self.fedalt, self.fedsim, self.condition)]
        symbols = sorted(set().union(*(e.free_symbols for e in expressions)), key=str)
        return [str(s) for s in symbols], sp.lambdify(symbols, expressions, "numpy")

    def evaluate(self, inputs: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """(FedAlt's variance, FedSim's variance, condition) at numbers or arrays of ``INPUTS``."""
        names, function = self._functions
        with np.errstate(all="ignore"):
            alt, sim, condition = function(*(inputs[k] for k in names))
        return alt, sim, condition

    def latex(self) -> dict[str, str]:
        """LaTeX of both variances and of the condition."""
        names = {tau_u: r"\tau"}
        return {
            "fedalt": r"\sigma^2_{\mathrm{alt}} = " + sp.latex(self.fedalt, symbol_names=names),
            "fedsim": r"\sigma^2_{\mathrm{sim}} = " + sp.latex(self.fedsim, symbol_names=names),
            "condition": sp.latex(self.condition, symbol_names=names) + " < 0",
        }


PAPER = Comparison(
    key="paper",
    title="constant-free effective variances",
    source="Pillutla et al. 2022 (arXiv 2204.03809), absolute constants ignored",
    constant_free=True,
    fedalt=delta**2 / (m * L_u) * (1 - m / n) + sigma_u**2 / (m * L_u) + sigma_v**2 / L_v * (m + chi**2 * (n - m)) / n,
    fedsim=(1 + chi**2) * (delta**2 / (m * L_u) * (1 - m / n) + sigma_u**2 / (m * L_u) + m * sigma_v**2 / (n * L_v)),
    condition=sigma_v**2 / L_v * (1 - 2 * m / n) - sigma_u**2 / (m * L_u) - delta**2 / (m * L_u) * (1 - m / n),
    needs="χ > 0",
)

TUNED = Comparison(
    key="tuned",
    title="S₁ of FA against FS as η → 0, best α",
    source="derived in this project",
    constant_free=False,
    fedalt=_A_sigma + _A_delta + p * _B + 2 * chi * (1 - p) * sp.sqrt(_A_delta * _B),
    fedsim=_A_sigma + _A_delta + p * _B + 2 * chi * p * sp.sqrt((_A_sigma + _A_delta) * _B),
    condition=(1 - 2 * p) * _A_delta - p**2 * _A_sigma,
    needs="χσ_v > 0",
)

TUNED_STAR = Comparison(
    key="tuned*",
    title="S₁ of FA* against FS* as η → 0, best α",
    source="derived in this project",
    constant_free=False,
    fedalt=_A_sigma + _A_delta + p * _B + 2 * chi * p * sp.sqrt(c * _A_delta * _B),
    fedsim=_A_sigma + _A_delta + p * _B + 2 * chi * p * sp.sqrt((c * _A_delta + _A_sigma / m) * _B),
    condition=-_A_sigma,
    needs="χσ_v > 0",
)

COMPARISONS: dict[str, Comparison] = {k.key: k for k in (PAPER, TUNED, TUNED_STAR)}
