"""The proof as a chain of expressions: from the change of F in a round to the bound, one lemma after another.

A form is linear in measured quantities. A link replaces one quantity by what bounds it, so that every expression of the
chain can be measured on the same copies of rounds, and what a link adds is its slack: multiplier × (right − left).
Consecutive slacks telescope. For the symbolic proof that the chain ends in the theorem see
``fedconv.analysis.proofs.algebra``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sympy as sp

from fedconv.analysis.proofs.lemmas import common
from fedconv.analysis.proofs.lemmas.base import INV_PEERS, Form, Kind, linear, term
from fedconv.analysis.proofs.lemmas.common import ALT, SIM, ZERO, Reading  # fmt: skip
from fedconv.analysis.theorems.base import (
    C,
    L_u,
    L_v,
    alpha,
    c,
    chi,
    delta,
    eta,
    i_alpha,
    i_omega,
    i_theta,
    i_theta_v,
    m,
    omega,
    p,
    rho,
    sigma_u,
    sigma_v,
    substitute,
    tau_u,
    tau_v,  # fmt: skip
    theta,
)
from fedconv.problems.errors import InputError

ONE = sp.Integer(1)


@dataclass(frozen=True)
class Link:
    """``factor·target ≤ right`` (or ``=``) in expectation; ``label`` says which step of the proof it is, ``words``
    what it does."""

    label: str
    words: str
    target: str
    right: sp.Expr
    kind: Kind
    factor: sp.Expr = ONE


def _upper(label: str, words: str, target: str, right: sp.Expr, factor: sp.Expr | int = 1) -> Link:
    return Link(label, words, target, right, "upper", sp.sympify(factor))


def _equal(label: str, words: str, target: str, right: sp.Expr) -> Link:
    return Link(label, words, target, right, "equality")


def _lipschitz(share: sp.Expr) -> sp.Expr:
    return share**2 * chi**2 * L_u * L_v * term("displacement")


def _server(reading: Reading, sharp: bool, sampled: sp.Expr) -> list[Link]:
    """L1, L8, L9 in its parts, L3: the mean step of the cohort. ``sampled``: the sum over the cohort that L1 is for."""
    tau, drift = tau_u, reading.drift_u
    links = []
    if sampled != ZERO:
        links.append(_equal("L1: gradients", "sampling without replacement, gradients", "cohort_sq",
                            term("mean_sq") + c * term("spread")))  # fmt: skip
    return [
        *links,
        _equal("L1: with noise", "sampling without replacement, gradients and noise", "step_sq",
               term("mean_sq") + c * term("spread") + term("noise_u") / m),
        _upper("L8: inner product", "inner product along the steps", "inner",
               (-tau * term("X") - term("sum_h") + drift) / 2, -1),
    ]  # fmt: skip


def _parts(reading: Reading) -> list[Link]:
    tau, drift = tau_u, reading.drift_u
    return [
        _upper("L9: mean", "‖ȳ‖² by Σ‖h_k‖² (Cauchy and Schwarz)", "mean_sq", tau * term("sum_h")),
        _upper("L9: spread", "clients' spread by diversity and drift (Young, ω)", "spread",
               (1 + omega) * tau**2 * term("diversity") + (1 + i_omega) * tau * drift),
        _upper("L3: u noise", "noise and drift of the u steps (Young, θ)", "noise_u",
               (1 + i_theta) * tau * sigma_u**2 + theta * tau * drift),
    ]  # fmt: skip


def _end(sharp: bool) -> list[Link]:
    """A3, and the terms that the proof throws away (FA*, FS* keep the first gradients X and Y of them)."""
    kept_h, kept_g = (-term("X"), -term("Y")) if sharp else (ZERO, ZERO)
    later = "but the first " if sharp else ""
    return [
        _equal("mean square", "avg‖∇_uF_i‖² = X + diversity", "grad_u_i_sq", term("X") + term("diversity")),
        _upper("A3: diversity", "diversity by δ² + ρ²X", "diversity", delta**2 + rho**2 * term("X")),
        _upper("drop Σ‖h_k‖²", f"negative terms dropped {later}".strip(), "sum_h", kept_h, -1),
        _upper("drop Σ‖g_k‖²", f"negative terms dropped {later}".strip(), "sum_g", kept_g, -1),
    ]


def fedalt(sharp: bool) -> tuple[sp.Expr, list[Link]]:
    """FA's chain, or FA*'s: the first expression and its links."""
    gamma = ALT.gamma_u
    half = L_u * gamma**2 / 2
    outer = term("inner_cohort") + term("cross") + term("cross_noise")
    links = [
        _equal("participation", "only present clients keep their step", "change_v", p * term("phi")),
        _upper("L10: smoothness", "F smooth in u at V⁺", "change_u", -gamma * outer + half * term("step_sq")),
        _equal("L7", "∇_uF(u,Ṽ) does not see the cohort", "inner_cohort", term("inner")),
        _equal("L10: noise", "u noise has mean 0 given S and V⁺", "cross_noise", ZERO),
    ]
    if sharp:
        young = i_alpha / (2 * L_u) * (1 - p) ** 2 * term("x_sq") + alpha * half * term("weighted_sq")
        links += [
            _equal("sampling term", "the absent clients' error, exactly", "cross", term("own_cross")),
            _upper("L10: Young", "sampling term by squares (α)", "own_cross", young, -gamma),
            _upper("A1: cross-sensitivity", "absent clients' gradients by displacement", "x_sq", _lipschitz(ONE)),
            _equal("weights", "Σ of the weighted squares", "weighted_sq",
                   term("mean_sq") + INV_PEERS**2 * term("spread")),
        ]  # fmt: skip
    else:
        young = i_alpha / (2 * L_u) * term("gap_sq") + alpha * half * term("cohort_sq")
        links += [
            _upper("L10: Young", "virtual-participation error by squares (α)", "cross", young, -gamma),
            _upper(
                "L6: absent clients", "virtual participation: what absent clients miss", "gap_sq", _lipschitz(1 - p)
            ),
        ]
    C_u = C * (1 - 1 / tau_u) * eta**2 / L_u**2
    C_v = C * (1 - 1 / tau_v) * eta**2 / L_v**2
    links += [
        *_server(ALT, sharp, ZERO if sharp else ONE),
        *_parts(ALT),
        _displacement(ALT),
        _upper("L4: personal descent", "personal descent", "phi",
               -eta / (2 * L_v) * term("Y") - ALT.gamma_v / 2 * (1 - eta) * term("sum_g")
               + eta * (1 + eta * common.theta_v) / (2 * L_v * tau_v) * ALT.drift_v
               + (1 + i_theta_v) * eta**2 * sigma_v**2 / (2 * L_v * tau_v)),
        _upper("L2: u drift", "drift of the u steps", "D_u", C_u * (2 * tau_u * term("grad_u_i_sq") + sigma_u**2)),
        _upper("L2: v drift", "drift of the v steps", "D_v", C_v * (2 * tau_v * term("Y") + sigma_v**2)),
        *_end(sharp),
    ]  # fmt: skip
    return term("change_u") + term("change_v"), links


def _displacement(reading: Reading) -> Link:
    return _upper("L5: displacement", "personal displacement by gradients, noise, drift", "displacement",
                  common.displacement(reading).rhs)  # fmt: skip


def fedsim(sharp: bool) -> tuple[sp.Expr, list[Link]]:
    """FS's chain, or FS*'s: the first expression and its links."""
    gamma = SIM.gamma_u
    half = L_u * gamma**2 / 2
    smooth = -gamma * (term("inner_cohort") + term("cross")) + half * term("step_sq")
    smooth = smooth + term("present_v") + L_v / 2 * term("present_sq")
    links = [
        _upper("L11: smoothness", "F smooth in v at u, in u at V⁺", "change", smooth),
        _equal("participation", "displacement of the present clients", "present_sq", p * term("displacement")),
        _equal("participation, inner", "steps of the present clients; v noise has mean 0", "present_v",
               -p * SIM.gamma_v * term("inner_v")),
        _equal("L7", "∇_uF(u,V) does not see the cohort", "inner_cohort", term("inner")),
    ]  # fmt: skip
    if sharp:
        young = i_alpha / (2 * L_u) * p**2 * term("x_sq") + alpha * half * term("weighted_sq")
        links += [
            _equal("sampling term", "the present clients' joint step, exactly", "cross", term("own_cross")),
            _upper("L11: Young", "sampling term by squares (α)", "own_cross", young, -gamma),
            _upper("A1: cross-sensitivity", "present clients' gradients by displacement", "x_sq", _lipschitz(ONE)),
            _equal("weights", "Σ of the weighted squares", "weighted_sq",
                   term("mean_sq") + c**2 * term("spread") + term("noise_u") / m**2),
        ]  # fmt: skip
    else:
        young = i_alpha / (2 * L_u) * term("gap_sq") + alpha * half * term("step_sq")
        links += [
            _upper("L11: Young", "joint-step error by squares (α)", "cross", young, -gamma),
            _upper("L6: present clients", "joint step: present clients' gradients", "gap_sq", _lipschitz(p)),
        ]
    inside = 2 * tau_u * (term("grad_u_i_sq") / L_u + term("Y") / L_v) + sigma_u**2 / L_u + sigma_v**2 / L_v
    links += [
        *_server(SIM, sharp, ZERO),
        *_parts(SIM),
        _upper("L8: v inner product", "inner product along the v steps", "inner_v",
               (-tau_u * term("Y") - term("sum_g") + SIM.drift_v) / 2, -1),
        _displacement(SIM),
        _upper("L2': drift", "drift of both blocks", "s", C * (1 - 1 / tau_u) * eta**2 * inside),
        *_end(sharp),
    ]  # fmt: skip
    return term("change"), links


CHAINS = {"FA": (fedalt, False), "FA*": (fedalt, True), "FS": (fedsim, False), "FS*": (fedsim, True)}


@dataclass(frozen=True)
class Step:
    """A link with numbers: ``form`` is what it adds to the bound of one round, multiplier × (right − factor·target)."""

    link: Link
    multiplier: float
    form: Form


@dataclass(frozen=True)
class Composition:
    """A chain with numbers: its first form, its steps, and the last form, in X, Y and a constant alone."""

    first: Form
    steps: tuple[Step, ...]
    last: Form


def compose(theorem: str, values: Mapping[str, float], visited_diversity: bool = False) -> Composition:
    """The chain of a theorem at the values of its coefficients (``fedconv.analysis.proofs.lemmas.base.lemma_values``).

    ``visited_diversity``: A3 is taken a posteriori, δ² being the mean diversity of the visited points and ρ = 0.
    Raises InputError for a theorem without a chain.
    """
    if theorem not in CHAINS:
        raise InputError(f"a proof can be replayed of {', '.join(CHAINS)}; got the theorem {theorem!r}")
    function, sharp = CHAINS[theorem]
    start, links = function(sharp)
    first = linear(start, values)
    current = dict(first)
    steps = []
    for link in links:
        right = substitute(link.right, {rho: 0}) if visited_diversity and link.label == "A3: diversity" else link.right
        before = current.pop(link.target, 0.0)
        factor = linear(link.factor, values).get(None, 0.0)
        multiplier = before / factor if factor else 0.0
        added = {k: multiplier * x for k, x in linear(right, values).items()}
        for k, x in added.items():
            current[k] = current.get(k, 0.0) + x
        form = dict(added)
        form[link.target] = form.get(link.target, 0.0) - before
        steps.append(Step(link, multiplier, form))
    return Composition(first, tuple(steps), current)
