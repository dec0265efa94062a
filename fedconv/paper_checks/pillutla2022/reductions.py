"""Special cases that must come out of FedAlt, FedSim and their bounds: formulas and runs."""

from __future__ import annotations

import math
from typing import Any

import sympy as sp

from fedconv.analysis.claims.claim import Budget, Claim, Evidence
from fedconv.analysis.exact import exact_trace
from fedconv.analysis.theorems import THEOREMS, theorem
from fedconv.analysis.theorems.base import (
    S_1,
    L_u,
    T,
    chi,
    eta,
    gap0,
    m,
    n,
    rhs,
    sigma_u,
    substitute,
    symbol,
    tau_u,
    tau_v,
)
from fedconv.analysis.theorems.split.facts import of_experiment
from fedconv.core.run import Experiment, run
from fedconv.paper_checks.shared.comparisons import at_most, equal, none_fails
from fedconv.paper_checks.shared.on_runs import OnRuns
from fedconv.paper_checks.shared.units import Direct, parts
from fedconv.problem_file.settings import settings_from
from fedconv.problems.registry import build_problem

PAPER = "pillutla2022"
CASES = "theory page, section 6, derived here"
WAVES = {"family": "trigonometric", "n": 8, "d_u": 4, "d_v": 3, "L_u": 1.0, "L_v": 2.0, "chi": 0.5, "delta": 1.0}
GAUSS = {"law": "gaussian", "sigma_u": 0.5, "sigma_v": 0.5}


def experiment(problem: dict[str, Any], algorithm: dict[str, Any], rounds: int, noise: dict[str, Any] | None = None,
               start: dict[str, Any] | None = None) -> Experiment:  # fmt: skip
    """The experiment of a file of these tables."""
    file: dict[str, Any] = {"problem": problem, "algorithm": algorithm, "run": {"T": rounds}}
    file |= {"noise": noise} if noise else {}
    file |= {"start": start} if start else {"start": {"kind": "normal", "scale": 1.0}}
    settings = settings_from(file, "special case")
    step = settings.algorithms[0].eta
    assert isinstance(step, float)
    return settings.experiment(settings.algorithms[0], step)


def _same_sympy(name: str, got: Any, want: Any) -> Evidence:
    left = sp.simplify(got - want)
    return none_fails(name, [] if left == 0 else [f"the difference {left}"], 1, "formula agrees by computer algebra")


# ---- SGD --------------------------------------------------------------------------------------------------------


def sgd_formula(budget: Budget) -> tuple[Evidence, ...]:
    """n = m = τ = 1, χ = 0: the right side of every theorem at the limits of its free parameters."""
    out = []
    one = sp.Integer(1)
    case = {n: one, m: one, tau_u: one, tau_v: one, chi: sp.Integer(0), symbol("sigma_v"): sp.Integer(0)}
    want = 2 * gap0 / (eta * T) + eta * sigma_u**2 / L_u
    for key, one_theorem in THEOREMS.items():
        known: dict[Any, Any] = {}
        duals = {f.inv: sp.Integer(0) for f in one_theorem.free} | {f.x: sp.Integer(0) for f in one_theorem.free}
        for s, e in one_theorem.definitions.items():
            known[s] = substitute(substitute(substitute(e, known), case), duals)
        out.append(_same_sympy(f"{key}: right side for one client, one block, one step", known[rhs], want))
        out.append(_same_sympy(f"{key}: weight of the gradient", known[symbol("weight_u")],
                               one if "*" not in key else 2 - eta))  # fmt: skip
    return tuple(out)


def sgd_runs(budget: Budget) -> tuple[Evidence, ...]:
    """SGD on a quadratic, expectations exact: the classical bound, and its equality at η = 1 from the optimum."""
    noise, T_ = {"law": "rademacher", "sigma_u": 1.0}, 50
    point = {"kind": "point", "u": [2.0], "v": [[]]}
    out = []
    for step in (0.1, 0.5, 1.0):
        case = experiment({"family": "sharp", "kind": "noise"}, {"name": "fedavg", "m": 1, "tau": 1, "eta": step}, T_,
                          noise, point)  # fmt: skip
        trace = exact_trace(case)
        assert trace is not None
        bound = 2 * 2.0 / (step * T_) + step * 1.0
        out.append(at_most(f"mean squared gradient of SGD, eta = {step}", trace["grad_u_sq"].values.mean(), bound))
    return tuple(out)


# ---- one block missing ------------------------------------------------------------------------------------------

_ONE = {"m": 3, "tau": 3, "eta": 0.2}


def no_personal_part(budget: Budget) -> tuple[Evidence, ...]:
    """d_v = 0: FedAlt, FedSim and FedAvg give the same numbers from the same seed."""
    return _same("u", WAVES | {"d_v": 0, "L_v": 0.0, "chi": 0.0, "spread": 0.0}, "fedavg", "u_final", "grad_u_sq")


def no_shared_part(budget: Budget) -> tuple[Evidence, ...]:
    """d_u = 0: FedAlt, FedSim and local training give the same numbers from the same seed."""
    return _same("v", WAVES | {"d_u": 0, "L_u": 0.0, "chi": 0.0, "delta": 0.0}, "local", "v_final", "grad_v_sq")


def _same(block: str, problem: dict[str, Any], rival: str, final: str, measure: str) -> tuple[Evidence, ...]:
    out = []
    noise = {"law": "gaussian", f"sigma_{block}": 0.5}
    theirs = run(experiment(problem, {"name": rival, **_ONE}, 20, noise), 4, engine="eager")
    for name in ("fedalt", "fedsim"):
        ours = run(experiment(problem, {"name": name, **_ONE}, 20, noise), 4, engine="eager")
        for key in (final, measure):
            out.append(equal(f"{name} and {rival}: {key}, 4 replicates of 20 rounds", ours[key], theirs[key], 1e-12))
    return tuple(out)


# ---- full personalization ---------------------------------------------------------------------------------------


def personalization_constants(budget: Budget) -> tuple[Evidence, ...]:
    """L_u = λ, L_v = L_f + λ, L_uv = L_vu = λ and χ = √(λ/(L_f+λ)) over waves (L_f = b) and quadratics."""
    out = []
    bases = {
        "waves, L_f = 2": ({"family": "trigonometric", "n": 4, "d_u": 0, "d_v": 3, "L_u": 0.0, "L_v": 2.0, "chi": 0.0,
                            "delta": 0.0}, 2.0),
        "quadratics, L_f = 3": ({"family": "quadratic_arrays", "A": [[]] * 2, "C": [[]] * 2,
                                 "B": [[[3.0, 0.0], [0.0, 1.0]]] * 2, "a": [[]] * 2, "b": [[1.0, 0.0], [-1.0, 1.0]]},
                                3.0),
    }  # fmt: skip
    for name, (base, L_f) in bases.items():
        for lam in (0.1, 1.0, 10.0):
            found = build_problem({"family": "full_personalization", "lam": lam, "base": base}).constants
            relative = max(found.L_uv.value, found.L_vu.value) / math.sqrt(found.L_u.value * found.L_v.value)
            got = [found.L_u.value, found.L_v.value, found.L_uv.value, found.L_vu.value, relative]
            want = [lam, L_f + lam, lam, lam, math.sqrt(lam / (L_f + lam))]
            out.append(equal(f"{name}, lambda = {lam:g}: five constants", got, want))
    return tuple(out)


# ---- everyone takes part ----------------------------------------------------------------------------------------


def full_participation_formula(budget: Budget) -> tuple[Evidence, ...]:
    """∂S_1/∂χ = 0 at m = n for FA and FA*, and S_1's limits as α → 0."""
    out = []
    for key in ("FA", "FA*"):
        known: dict[Any, Any] = {}
        for s, e in theorem(key).definitions.items():
            known[s] = substitute(substitute(e, known), {m: n})
        slope = sp.simplify(sp.diff(known[S_1], chi))
        out.append(_same_sympy(f"{key}: derivative of $S_1$ by chi at m = n".replace("$", ""), slope, sp.Integer(0)))
    return tuple(out)


def full_participation_runs(budget: Budget) -> tuple[Evidence, ...]:
    """With m = n the real iterate is the virtual one: X at the next personal parts, no gap of L6 and L7."""
    case = experiment(WAVES | {"n": 4}, {"name": "fedalt", "m": 4, "tau": 3, "eta": 0.2}, 20, GAUSS)
    trace = run(case, 4, level="proof", engine="eager")
    return (
        equal("gap of L6 at full participation", trace["l6_gap_sq"], 0.0, 1e-24),
        equal("gap of L7 at full participation", trace["l7_real_sampled"] - trace["l7_real_full"], 0.0, 1e-12),
    )


# ---- chi = 0, one local step ------------------------------------------------------------------------------------


def uncoupled_formula(budget: Budget) -> tuple[Evidence, ...]:
    """χ = 0, α → 0, τ = 1: FA and FS are the same bound, and so are FA* and FS* up to their weights."""
    base = of_experiment(experiment(WAVES | {"chi": 0.0}, {"name": "fedalt", "m": 3, "tau": 1, "eta": 0.2}, 20, GAUSS))
    limits = {"alpha": 0.0, "theta": math.inf, "theta_v": math.inf, "omega": 0.0}
    out = []
    for a, b in (("FA", "FS"), ("FA*", "FS*")):
        left, right = (float(theorem(k).evaluate(base.values | {"chi": 0.0}, limits)["rhs"]) for k in (a, b))
        out.append(equal(f"{a} and {b}: right sides without cross-sensitivity", left, right))
    return tuple(out)


def uncoupled_runs(budget: Budget) -> tuple[Evidence, ...]:
    """χ = 0: both algorithms take the same steps from the same seed where their noise is the same."""
    plain = WAVES | {"chi": 0.0}
    traces = [run(experiment(plain, {"name": k, "m": 3, "tau": 3, "eta": 0.2}, 20), 4, engine="eager")
              for k in ("fedalt", "fedsim")]  # fmt: skip
    return tuple(equal(f"fedalt and fedsim: {k}, exact gradients", traces[0][k], traces[1][k], 1e-12)
                 for k in ("u_final", "v_final"))  # fmt: skip


# ---- what a correct program does --------------------------------------------------------------------------------


def same_cohorts(budget: Budget) -> tuple[Evidence, ...]:
    """One root seed: FedAlt, FedSim and FedAvg meet the same cohorts, so that differences between them are paired."""
    cohorts = [run(experiment(WAVES, {"name": k, **_ONE}, 30, GAUSS), 8, engine="eager")["cohort"].values
               for k in ("fedalt", "fedsim", "fedavg")]  # fmt: skip
    return tuple(equal(f"cohorts of fedalt and {k}", cohorts[0], other, 0.0)
                 for k, other in zip(("fedsim", "fedavg"), cohorts[1:], strict=True))  # fmt: skip


def engines_agree(budget: Budget) -> tuple[Evidence, ...]:
    """The compiled engine and torch give the same run, recorded or not, in one block or several."""
    out = []
    for name in ("fedalt", "fedsim"):
        case = experiment(WAVES, {"name": name, **_ONE}, 30, GAUSS)
        eager, fused = (run(case, 20, engine=k) for k in ("eager", "fused"))
        for key in ("grad_u_sq", "grad_v_sq", "F"):
            out.append(equal(f"{name}: {key}, two engines", eager[key], fused[key], 1e-10))
        late = run(case, 4, first=16, engine="eager")
        out.append(equal(f"{name}: replicates 16 to 19 drawn apart", late["F"], eager["F"].values[16:], 0.0))
    return tuple(out)


def _case(name: str, title: str, statement: str, *given: Any, theorems: tuple[str, ...] = (), kind: Any = "reduction",
          source: str = CASES) -> Claim:  # fmt: skip
    wrapped = [x if isinstance(x, OnRuns) else Direct(x) for x in given]
    return Claim(f"{PAPER}/{name}", title, statement, source, kind, parts(*wrapped), theorems)


CLAIMS = (
    _case(
        "sgd", "One client, one block, one step: SGD's classical bound",
        "For $n=m=1$, no $v$ and $\\tau=1$: $\\frac1T\\sum_tE\\|\\nabla F\\|^2 \\le \\frac{2L\\Delta F_0}{\\eta T} +"
        " \\eta\\sigma^2$ for $\\eta \\le 1$.",
        sgd_formula, sgd_runs, OnRuns(PAPER, ("FA", "FS"), names=("sharp: noise alone", "sharp: one gradient step, an"
        " equality")),
        theorems=("FA", "FS"),
    ),
    _case(
        "no-personal-part", "No personal part: FedAvg with local steps",
        "With $d_v = 0$ both algorithms are FedAvg with local steps, and both theorems are about it.",
        no_personal_part, OnRuns(PAPER, ("FA", "FS", "FA*", "FS*"), ("fedavg",)), theorems=("FA", "FS"),
    ),
    _case(
        "no-shared-part", "No shared part: independent local SGD",
        "With $d_u = 0$ both algorithms are local SGD of $m$ of $n$ clients a round, independent of each other.",
        no_shared_part, OnRuns(PAPER, ("FA", "FS", "FA*", "FS*"), ("local",)), theorems=("FA", "FS"),
    ),
    _case(
        "full-personalization", "Full personalization and its constants",
        "For $F_i(u,v) = f_i(v) + \\frac\\lambda2\\|v-u\\|^2$ the constants are $L_u = L_{uv} = L_{vu} = \\lambda$ and"
        " $L_v = L_f + \\lambda$, hence $\\chi = \\sqrt{\\lambda/(L_f+\\lambda)}$.",
        personalization_constants,
        OnRuns(PAPER, ("FA", "FS"), names=("full personalization over quadratics", "full personalization over waves")),
        theorems=("FA", "FS"),
    ),
    _case(
        "full-participation", "Everyone takes part: no virtual correction",
        "With $m = n$ the virtual iterate is the real one, and $S_1$ of FedAlt's bounds has no $\\chi$.",
        full_participation_formula, full_participation_runs,
        OnRuns(PAPER, ("FA", "FA*"), names=("waves, everyone takes part, coin-flip noise",)), theorems=("FA", "FA*"),
    ),
    _case(
        "uncoupled", "No cross-sensitivity: alternating and joint steps are the same",
        "With $\\chi = 0$, $\\alpha \\to 0$ and one local step FA and FS are the same bound; with exact gradients the"
        " two"
        " algorithms take the same steps.",
        uncoupled_formula, uncoupled_runs, theorems=("FA", "FS"), source="derived here",
    ),
    _case(
        "same-cohorts", "Both algorithms meet the same cohorts",
        "From one seed FedAlt, FedSim and FedAvg sample the same clients in every round, so that what is compared"
        " between"
        " them differs by the algorithm alone.",
        same_cohorts, kind="implementation", source="derived here",
    ),
    _case(
        "engines", "A run is the same however it is computed",
        "Two engines, replicates in one block or apart: the same numbers up to rounding.",
        engines_agree, kind="implementation", source="derived here",
    ),
)  # fmt: skip
