"""What is open about FedAlt's and FedSim's constants, and how their bound compares with those of envelope methods."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import sympy as sp

from fedconv.analysis.claims.claim import Budget, Claim, Evidence
from fedconv.analysis.falsify import search_spaces, spaces
from fedconv.analysis.proofs.algebra.inequalities import replaced
from fedconv.analysis.theorems import Theorem, theorem
from fedconv.analysis.theorems.base import S_1, C, L_u, Mutant, alpha, c, delta, omega, symbol
from fedconv.analysis.theorems.split.facts import of_experiment
from fedconv.analysis.tuning.one_run import tune
from fedconv.analysis.verdicts.statement_verify import verify_statements
from fedconv.analysis.verdicts.verify import any_theorem
from fedconv.core.run import run
from fedconv.paper_checks.shared.comparisons import at_most, equal, none_fails, verdict
from fedconv.paper_checks.shared.units import Direct, parts
from fedconv.problem_file.settings import settings_from
from fedconv.problems.registry import build_problem
from fedconv.problems.split.full_personalization import FullPersonalization

PAPER = "pillutla2022"
CANDIDATES = {"quick": 3_000, "full": 400_000}


# ---- statements without a proof ---------------------------------------------------------------------------------


def _weak(key: str, name: str, statement: str, change: dict[sp.Symbol, sp.Expr]) -> Theorem:
    whole = theorem(key)
    return whole.mutate(Mutant(name, statement, change))


def no_virtual_term_in_s1() -> Theorem:
    """FA without χ²(1−p)²/α in S_1; the premises and the drift keep it."""
    whole = theorem("FA")
    return _weak("FA", "s1_plain", "no χ²(1−p)²/α in S_1", {S_1: replaced(whole.definitions[S_1], {symbol("R"): 0})})


def no_alpha_on_delta() -> Theorem:
    """FA with (1+α) → 1 on δ² in S_1."""
    whole = theorem("FA")
    less = (1 + omega) * alpha * c * delta**2 / L_u
    return _weak("FA", "plain_delta", "(1+α) → 1 on δ²", {S_1: whole.definitions[S_1] - less})


def half_drift(key: str) -> Theorem:
    """Half of the drift factor of FA* or FS*."""
    whole = theorem(key)
    return _weak(key, "half_drift", "half of the drift factor", {C: whole.definitions[C] / 2})


OPEN = {
    "s1_plain": no_virtual_term_in_s1,
    "plain_delta": no_alpha_on_delta,
    "half_drift_FA*": lambda: half_drift("FA*"),
    "half_drift_FS*": lambda: half_drift("FS*"),
}


def searched(budget: Budget, name: str) -> tuple[Evidence, ...]:
    """A search for a run that violates the open statement: a violation refutes it, none leaves it open."""
    target = OPEN[name]()
    found = search_spaces(target, spaces(target), CANDIDATES[budget.size], seed=0)
    title = f"{target.mutant_of}, {target.title.partition('weakened: ')[2]}: {found.tried} candidates"
    if found.file is not None and found.verdict is not None:
        return (Evidence(title, found.verdict, spec=found.file),)
    words = f"no violation among {found.tried} candidates; largest tightness {found.tightness:.6g}"
    return (Evidence(title, verdict("inconclusive", found.tightness, 1.0, words, method="search")),)


def _open(name: str, title: str, statement: str, *which: str, theorems: tuple[str, ...]) -> Claim:
    return Claim(f"{PAPER}/{name}", title, statement, "open, theory page, section 7", "conjecture",
                 parts(*(Direct(searched, (k,)) for k in which)), theorems)  # fmt: skip


# ---- full personalization: a bound of the envelope's kind ---------------------------------------------------------

_PERSONAL = {
    "family": "full_personalization",
    "lam": 1.0,
    "base": {"family": "quadratic", "n": 5, "d_u": 0, "d_v": 3, "spread": 2.0},
}
STEPS = 2
"""Personal gradient steps in a round, for both."""


def _as_envelope() -> dict[str, Any]:
    """The same problem with the personal part minimised out: F̃(u) = min_V F(u, V), the mean of Moreau envelopes."""
    whole = build_problem(_PERSONAL)
    assert isinstance(whole, FullPersonalization)
    same = whole.as_quadratic()
    assert same is not None
    return {"family": "envelope_quadratic"} | {k: getattr(same, k).tolist() for k in "ABCab"}


def _envelope_file(rounds: int, warm: bool) -> dict[str, Any]:
    start = {"kind": "point", "u": [2.0] * 3, "v": [[0.0] * 3] * 5}
    return {
        "name": f"full personalization, {STEPS} personal steps from {'the last' if warm else 'the first'} point",
        "problem": _as_envelope(),
        "start": start,
        "algorithm": {"name": "ffgg", "m": 5, "eta": 0.5},
        "fine_tuning": {"mode": "steps", "steps": STEPS, "warm": warm},
        "run": {"T": rounds},
    }


def envelope_bound(budget: Budget) -> tuple[Evidence, ...]:
    """FFGG-4a, a bound on the envelope's gradients with the bias of inexact personal parts, on the same problem."""
    out = []
    for warm in (True, False):
        file = _envelope_file(100, warm)
        settings = settings_from(file, str(file["name"]))
        trial = settings.runnable(settings.algorithms[0])
        result = verify_statements(trial, [any_theorem("FFGG-4a")], error=budget.error, spec=file)[0]  # pyright: ignore
        out.append(Evidence(f"{file['name']}: FFGG-4a", result.verdict, result, file))
    return tuple(out)


def against_envelope(budget: Budget) -> tuple[Evidence, ...]:
    """Both bounds on (1/T) Σ ‖∇F̃(u^t)‖², T growing, everyone, exact gradients, STEPS personal steps a round.

    FA bounds X_t/L_u and Y_t/L_v; ∇F̃(u) = ∇_uF(u, V*(u)) and ‖ṽ_i − v_i*‖ ≤ ‖v_i − v_i*‖ ≤ ‖∇_vF_i‖/μ_v, so
    ‖∇F̃‖² ≤ 2X + 2(L_uv/μ_v)²Y ≤ 2 max(L_u, (L_uv/μ_v)²L_v)·(X/L_u + Y/L_v). The other bound is FFGG-4a's, its bias
    that of a run which starts its personal steps anew in every round.
    """
    whole = build_problem(_PERSONAL)
    assert isinstance(whole, FullPersonalization)
    constants, same = whole.constants, whole.as_quadratic()
    assert same is not None
    mu_v = float(np.linalg.eigvalsh(same.B.numpy()).min())
    factor = 2 * max(constants.L_u.value, (constants.L_uv.value / mu_v) ** 2 * constants.L_v.value)
    start = {"kind": "point", "u": [2.0] * 3, "v": [[0.0] * 3] * 5}
    ours = []
    T = [1e3, 1e5, 1e7]
    file = _envelope_file(400, False)
    settings = settings_from(file, str(file["name"]))
    trace = run(settings.runnable(settings.algorithms[0]), 1, level="proof")
    floor = float(trace["bias_sq"].values[0, 200:].mean())
    trial = {"problem": _PERSONAL, "start": start, "run": {"T": 1},
             "algorithm": {"name": "fedalt", "m": 5, "tau_u": 1, "tau_v": STEPS, "eta": 0.3}}  # fmt: skip
    read = settings_from(trial, "full personalization")
    base = of_experiment(read.experiment(read.algorithms[0], 0.3)).with_diversity(0.0)
    for rounds in T:
        at = type(base)(base.values | {"T": rounds}, base.blocks, base.grade, base.scale)
        tuned = tune(theorem("FA*"), at)
        ours.append(factor * (tuned.guarantee if tuned else math.inf))
    left = float(trace["grad_sq"].values[0, 200:].mean())
    return (
        none_fails("personal steps that start anew leave a bias", [] if floor > 1e-6 else ["a positive floor"], 1,
                   f"has a floor: mean bias squared {floor:.3g}"),
        at_most("FA*'s bound on the envelope's gradients at T = 1e7 against that floor", ours[-1], floor),
        equal("FA*'s bound at T = 1e5 is 100 times that at T = 1e7", ours[1] / ours[2], 100.0, 1e-6),
        none_fails("gradients of the run that starts anew", [] if left > 1e-6 else ["above 0"], 1,
                   f"stay above 0: {left:.3g} in the mean over rounds 200 to 400"),
    )  # fmt: skip


CLAIMS = (
    Claim(
        f"{PAPER}/envelope-comparison", "Full personalization: no inner problem has to be solved",
        "A bound of the kind that envelope methods such as pFedMe have, on $\\nabla\\tilde F$ of"
        " $\\tilde F(u) = \\min_VF(u,V)$ with the bias of inexact personal parts, keeps a floor where a few personal"
        " steps"
        " start anew in every round. FedAlt takes as few from where it stands, and its bound, carried over to"
        " $\\nabla\\tilde F$, falls below that floor as $1/T$.",
        "theory page, section 6 (the problem); comparison derived here", "reduction",
        parts(Direct(envelope_bound), Direct(against_envelope)), ("FA*", "FFGG-4a"),
    ),
    _open(
        "open-s1", "Does FA need the virtual term in $S_1$?",
        "FA without $\\chi^2(1-p)^2/\\alpha$ in $S_1$ alone: no instance is known against"
        " it.", "s1_plain", theorems=("FA",),
    ),
    _open(
        "open-delta", "Does FA need $1+\\alpha$ on $\\delta^2$ over many rounds?",
        "FA with $1+\\alpha$ replaced by 1 on $\\delta^2$: no instance over many rounds is known against it (its"
        " one-round"
        " inequality does break).", "plain_delta", theorems=("FA",),
    ),
    _open(
        "open-drift", "Are the drift constants needed?",
        "For $\\tau > 1$ FA* and FS* with half of their drift factors: no instance is known against them.",
        "half_drift_FA*", "half_drift_FS*", theorems=("FA*", "FS*"),
    ),
)  # fmt: skip
