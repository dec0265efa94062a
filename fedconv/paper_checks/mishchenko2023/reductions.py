"""Special cases and examples of the theory of FFGG: what must come out, on runs small enough to follow by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fedconv.analysis.claims.claim import Budget, Evidence
from fedconv.analysis.theorems.ffgg import STATEMENTS
from fedconv.analysis.theorems.registry import methods
from fedconv.core.run import Experiment, run
from fedconv.methods.ffgg.experiment import FFGGExperiment
from fedconv.methods.ffgg.method import FFGG, Asynchrony, FineTuning
from fedconv.methods.split import FedAlt, State
from fedconv.paper_checks.mishchenko2023 import robust as mishchenko2023_robust
from fedconv.paper_checks.shared.building import compared
from fedconv.paper_checks.shared.comparisons import equal, none_fails
from fedconv.problems.envelopes.gap_dials import overpersonalized
from fedconv.problems.envelopes.least_squares import LeastSquares
from fedconv.problems.noise import Noise

PAPER = "mishchenko2023"
PAGE = "theory page, {}, derived here"


def squares(A: Any, B: Any, c: Any) -> LeastSquares:
    return LeastSquares(A=np.array(A, dtype=float), B=np.array(B, dtype=float), c=np.array(c, dtype=float))


def scalars(curvatures: list[float], targets: list[float]) -> LeastSquares:
    """F_m = (h_m/2)(w − x_m)² without a personal part."""
    root = np.sqrt(curvatures)
    return LeastSquares(A=root[:, None, None], B=np.zeros((len(root), 1, 0)), c=(root * targets)[:, None])


def trial(problem: LeastSquares, method: FFGG, T: int, u: Any = None) -> FFGGExperiment:
    """FFGG from u (default: ones) and personal parts 0."""
    start = torch.ones(problem.d_u, dtype=torch.float64) if u is None else torch.tensor(u, dtype=torch.float64)
    return FFGGExperiment(problem, method, State(start, torch.zeros(problem.n, problem.d_v, dtype=torch.float64)), T, 5)


def _dials(**more: Any) -> LeastSquares:
    return overpersonalized(**({"n": 5, "d_u": 3, "d_v": 2, "rows": 4, "condition": 3.0, "seed": 2} | more))


# ---- FFGG as gradient descent -----------------------------------------------------------------------------------


def gradient_descent(budget: Budget) -> tuple[Evidence, ...]:
    """Everyone, exact fine-tuning: w^{k+1} = w^k − γ∇F(w^k)."""
    problem = _dials(G=0.3)
    trace = run(trial(problem, FFGG(5, 0.4), 30), 1, level="proof")
    w, path = torch.ones(3, dtype=torch.float64), []
    for _ in range(31):
        path.append(w.numpy().copy())
        w = w - 0.4 * problem.mean_envelope_grad(w)
    return (equal("iterates of FFGG and of gradient descent on F, 30 rounds", trace["w"][0], np.array(path), 1e-12),)


def many_inner_steps(budget: Budget) -> tuple[Evidence, ...]:
    """Many personal gradient steps are exact fine-tuning (q → 0)."""
    problem = _dials(G=0.3, condition_v=2.0)
    exact = run(trial(problem, FFGG(5, 0.4), 20), 1, level="proof")["w"]
    many = run(trial(problem, FFGG(5, 0.4, fine_tuning=FineTuning("steps", steps=2000)), 20), 1, level="proof")["w"]
    return (equal("iterates with 2000 inner steps and with exact fine-tuning", many, exact, 1e-11),)


def one_local_step(budget: Budget) -> tuple[Evidence, ...]:
    """τ = 1: s_τ = 1 and no floor, so that 5(a) and 5(b) are 3(b) without the last iterate."""
    problem = _dials(G=0.0)
    before = methods()["ffgg"].before(trial(problem, FFGG(5, 0.5, 1), 20))
    trace = run(trial(problem, FFGG(5, 0.5, 1), 20), 1, level="proof")
    sides = {k: STATEMENTS[k].evaluate(before, trace).rhs[0] for k in ("FFGG-3b", "FFGG-5a", "FFGG-5b")}
    R_sq = float(trace["dist_sq"].values[0, 0])
    gamma = 0.5
    return (
        equal("right side of 3(b) against R_0^2/(2 gamma (T+1))", sides["FFGG-3b"], R_sq / (2 * gamma * 21), 1e-9),
        equal(
            "right side of 5(a) at one local step against R_0^2/(2 gamma K)",
            sides["FFGG-5a"],
            R_sq / (2 * gamma * 20),
            1e-9,
        ),
        equal("right side of 5(b) at one local step: no floor", sides["FFGG-5b"], R_sq / (2 * gamma * 20), 1e-9),
    )


def orthogonal_equality(budget: Budget) -> tuple[Evidence, ...]:
    """F_m = w_m²/2, m = 1, γ = 1: E‖w^T − w★‖² = (1 − 1/M)^T ‖w⁰ − w★‖², expectations exact."""
    out = []
    for M in (2, 4, 8):
        problem = LeastSquares(A=np.eye(M)[:, None, :], B=np.zeros((M, 1, 0)), c=np.zeros((M, 1)))
        found = methods()["ffgg"].exact(trial(problem, FFGG(1, 1.0), 12))
        assert found is not None
        want = M * (1 - 1 / M) ** np.arange(13)
        out.append(equal(f"M = {M}: mean squared distance over 12 rounds", found["dist_sq"].values[0], want, 1e-12))
    return tuple(out)


def local_steps_bias(budget: Budget) -> tuple[Evidence, ...]:
    """(a/2)(w−1)² and (b/2)(w+1)²: the server stops at (A−B)/(A+B), A = 1 − (1−γa)^τ, not at w★ = (a−b)/(a+b)."""
    a, b, gamma, tau = 1.0, 0.1, 0.5, 8
    trace = run(trial(scalars([a, b], [1.0, -1.0]), FFGG(2, gamma, tau), 400, [0.0]), 1, level="proof")
    A, B = 1 - (1 - gamma * a) ** tau, 1 - (1 - gamma * b) ** tau
    stops, optimum = (A - B) / (A + B), (a - b) / (a + b)
    return (
        equal("fixed point of 8 local steps", trace["w"].values[0, -1, 0], stops, 1e-10),
        none_fails("distance of the fixed point from the optimum", [] if abs(stops - optimum) > 0.1 else ["above"
        " 0.1"], 1,
                   f"is {abs(stops - optimum):.3g}"),
    )  # fmt: skip


def no_delay(budget: Budget) -> tuple[Evidence, ...]:
    """One client and no delay: the asynchronous server is gradient descent, and Theorem 6 admits γ = 1/L."""
    problem = scalars([1.0], [0.5])
    plain = run(trial(problem, FFGG(1, 0.7), 25), 1, level="proof")["w"]
    late = run(trial(problem, FFGG(1, 0.7, asynchrony=Asynchrony(tau_max=0)), 25), 1, level="proof")["w"]
    before = methods()["ffgg"].before(trial(problem, FFGG(1, 0.7, asynchrony=Asynchrony(tau_max=0)), 25))
    return (
        equal("iterates of the asynchronous server without delay and of gradient descent", late, plain, 1e-12),
        equal("largest step of Theorem 6 without delay, times L", STATEMENTS["FFGG-6"].largest_step(before), 1.0, 1e-9),
    )


# ---- the gap ----------------------------------------------------------------------------------------------------


def _gap(problem: LeastSquares) -> float:
    return problem.envelope_constants.G.value


def gap_examples(budget: Budget) -> tuple[Evidence, ...]:
    """G = 0 for one client and for identical ones though F★ > 0; consistent data; the dial; a pair with a gap."""
    rng = np.random.default_rng(0)
    A, B, c = rng.normal(size=(5, 2)), rng.normal(size=(5, 1)), rng.normal(size=5)
    one, twins = squares([A], [B], [c]), squares([A] * 3, [B] * 3, [c] * 3)
    w, theta = rng.normal(size=3), rng.normal(size=(4, 2))
    As, Bs = rng.normal(size=(4, 5, 3)), rng.normal(size=(4, 5, 2))
    consistent = squares(As, Bs, np.einsum("nij,j->ni", As, w) + np.einsum("nij,nj->ni", Bs, theta))
    wanted = [_dials(G=G) for G in (1e-3, 0.1, 1.0)]
    F_star = twins.envelope_constants.F_star.value
    return (
        equal("gap of one client, of three identical ones, of consistent data",
              [_gap(one), _gap(twins), _gap(consistent)], 0.0, 1e-12),
        none_fails("identical clients do not fit their data", [] if F_star > 0.01 else ["F* above 0.01"], 1,
                   f"have F* = {F_star:.3g} and no gap"),
        equal("gap as asked: 0.001, 0.1, 1", [_gap(x) for x in wanted], [1e-3, 0.1, 1.0], 1e-8),
        equal("gap of two clients with one row and targets 1 and"
        " -1", _gap(scalars([1.0, 1.0], [1.0, -1.0])), 0.5, 1e-12),
    )  # fmt: skip


def rank_condition(budget: Budget) -> tuple[Evidence, ...]:
    """Every c is overpersonalized iff rank of the stacked P_mA_m is the sum of their ranks; Σ rank ≤ d is not"
    " enough."""
    rng = np.random.default_rng(1)
    wrong, count = [], 0
    for n, rows, d in ((2, 2, 6), (3, 2, 6), (3, 3, 6), (2, 4, 6), (4, 2, 8), (5, 2, 8)):
        A, B = rng.normal(size=(n, rows, d)), rng.normal(size=(n, rows, 1))
        enough = n * (rows - 1) <= d
        gap = _gap(squares(A, B, rng.normal(size=(n, rows))))
        count += 1
        if (gap < 1e-12) != enough:
            wrong.append(f"{n} clients of {rows} rows in {d} dimensions")
    row = [[[1.0, 0.0]], [[1.0, 0.0]]]
    shared = squares(row, np.zeros((2, 1, 1)), [[1.0], [-1.0]])
    return (
        none_fails("sum of min(n_m - rank B_m, d) at most d decides, generic data", wrong, count, "settings agree"),
        equal("two clients that share one row in two dimensions have a gap", _gap(shared), 0.5, 1e-12),
    )


def vacuous(budget: Budget) -> tuple[Evidence, ...]:
    """A personal part of full row rank fits everything: F_m ≡ 0, and no gradient is left for the server."""
    rng = np.random.default_rng(2)
    problem = squares(rng.normal(size=(3, 2, 4)), rng.normal(size=(3, 2, 2)), rng.normal(size=(3, 2)))
    w = torch.from_numpy(rng.normal(size=4))
    return (
        equal(
            "F at a random point, and at its optimum",
            [float(problem.mean_envelope(w)), problem.envelope_constants.F_star.value],
            0.0,
            1e-12,
        ),
        equal("gradient of F at a random point", problem.mean_envelope_grad(w).numpy(), 0.0, 1e-10),
    )


# ---- implementation ---------------------------------------------------------------------------------------------


def same_cohorts(budget: Budget) -> tuple[Evidence, ...]:
    """From one seed FFGG meets FedAlt's cohorts."""
    problem = _dials()
    ours = replace(trial(problem, FFGG(2, 0.1), 20), seed=3)
    alt = Experiment(problem, FedAlt(2, 0.1, 0.1, tau_u=1, tau_v=1), Noise(), ours.start, 20, seed=3)
    return (equal("cohorts of 20 rounds, 5 replicates", run(ours, 5)["cohort"], run(alt, 5)["cohort"], 0.0),)


def warm_starts(budget: Budget) -> tuple[Evidence, ...]:
    """One inner step a round: from the last personal part the gradient vanishes, started anew it does not."""
    problem = _dials(G=0.0, condition_v=2.0)
    left = []
    for warm in (True, False):
        how = FineTuning("steps", steps=1, warm=warm)
        left.append(float(run(trial(problem, FFGG(5, 0.1, fine_tuning=how), 1500), 1)["grad_sq"].values[0, -1]))
    failed = [] if left[0] < 1e-12 < 1e-4 < left[1] else [f"{left[0]:.2g} and {left[1]:.2g}"]
    words = f"squared gradients after 1500 rounds: {left[0]:.2g} warm, {left[1]:.2g} cold"
    return (none_fails("one inner step a round, warm and cold", failed, 1, words),)


def _case(name: str, title: str, statement: str, where: str, *checks: Any, theorems: tuple[str, ...] = (),
          kind: Any = "reduction") -> Any:  # fmt: skip
    return compared(f"{PAPER}/{name}", title, statement, PAGE.format(where), *checks, theorems=theorems, kind=kind)


CLAIMS = (
    *mishchenko2023_robust.CLAIMS,
    _case("gradient-descent", "Everyone and exact fine-tuning: gradient descent on the envelope",
          "With $m=M$ and exact personal parts FFGG is gradient descent on $F(w) = \\frac1M\\sum_m\\min_\\theta"
          " f_m(w,\\theta)$.", "section 0", gradient_descent, theorems=("FFGG-3a",)),
    _case("many-inner-steps", "Many inner steps are exact fine-tuning",
          "As $q = (1-\\mu_v/L_v)^K \\to 0$ inexact fine-tuning becomes exact, and Theorem 4 becomes Theorem 3 at"
          " $\\gamma\\le1/L$.", "Theorem 4, sanity", many_inner_steps, theorems=("FFGG-4d",)),
    _case("one-local-step", "One local step: Theorem 3(b)",
          "At $\\tau=1$ is $s_\\tau=1$, and the floor of 5(b) vanishes.", "Theorem 5, sanity", one_local_step,
          theorems=("FFGG-3b", "FFGG-5a", "FFGG-5b")),
    _case("orthogonal", "Orthogonal clients attain 3(f)",
          "For $F_m=\\frac12w_m^2$, $m=1$ and $\\gamma=1$: $E\\|w^T-w^*\\|^2 = (1-\\frac1M)^TR_0^2$ exactly.",
          "Theorem 3, sanity", orthogonal_equality, theorems=("FFGG-3f",)),
    _case("local-steps-bias", "The floor of local steps is real",
          "Two quadratics of unequal curvature keep the server of $\\tau$ local steps at $\\frac{A-B}{A+B}$ with"
          " $A=1-(1-\\gamma a)^\\tau$, away from the optimum.", "Theorem 5,"
          " sanity", local_steps_bias, theorems=("FFGG-5b",)),
    _case("no-delay", "No delay: gradient descent",
          "With $\\tau_{\\max}=0$ the asynchronous server of one client is gradient descent, and Theorem 6 admits"
          " $\\gamma=1/L$.", "Theorem 6, sanity", no_delay, theorems=("FFGG-6",)),
    _case("gap", "When the gap vanishes",
          "$G=0$ for one client, for identical ones although $F^*>0$, and for consistent data; unequal targets on one"
          " row"
          " have a gap.", "Theorem 2(a), (c)", gap_examples, theorems=("FFGG-2b",)),
    _case("rank-condition", "Which least squares are overpersonalized for every target",
          "For generic rows: iff $\\sum_m\\min(n_m-\\mathrm{rank}B_m,d)\\le d$; clients that share a row need more than"
          " $\\sum_m\\mathrm{rank}(P_mA_m)\\le d$.", "Theorem 2(c)", rank_condition, theorems=("FFGG-2b",)),
    _case("vacuous", "A personal part that fits everything leaves nothing to share",
          "If $\\mathrm{rank}B_m = n_m$ then $F_m\\equiv0$: overpersonalized, but vacuous.", "Theorem 2(c)", vacuous),
    _case("warm-start", "Warm starts remove the floor, cold ones keep it",
          "With one inner step a round the gradient vanishes where the step starts from the last personal part, and"
          " stays"
          " where it starts anew.", "Theorem 4(d), false"
          " versions", warm_starts, theorems=("FFGG-4d",), kind="implementation"),
    _case("same-cohorts", "FFGG meets FedAlt's cohorts",
          "From one seed FFGG and FedAlt sample the same clients in every round.", "implementation", same_cohorts,
          kind="implementation"),
)  # fmt: skip
