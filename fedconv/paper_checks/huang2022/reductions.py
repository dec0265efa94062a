"""Special cases and numbers of the theory of FedSpa: FedAvg, a golden value, disjoint masks, densities, costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from fedconv.analysis.claims.claim import Budget, Evidence
from fedconv.core.run import Experiment, run
from fedconv.methods.fedspa import costs, densities
from fedconv.methods.fedspa.constants import masked_constants
from fedconv.methods.fedspa.experiment import FedSpaExperiment
from fedconv.methods.fedspa.masks import Masks, next_mask
from fedconv.methods.fedspa.method import FedSpa
from fedconv.methods.split import FedAvg, State
from fedconv.paper_checks.shared.building import compared
from fedconv.paper_checks.shared.comparisons import at_most, equal, none_fails
from fedconv.problems.layers import layout_from
from fedconv.problems.noise import Noise
from fedconv.problems.split.quadratic import Quadratic
from fedconv.problems.split.quadratic import build_random as quadratic

PAPER = "huang2022"
PAGE = "theory page, {}"


def _start(problem: Any) -> State:
    rng = np.random.default_rng(1)
    return State(torch.from_numpy(rng.normal(size=problem.d_u)), torch.zeros(problem.n, 0, dtype=torch.float64))


def _spa(problem: Any, T: int, noise: Noise, **masks: Any) -> FedSpaExperiment:
    return FedSpaExperiment(problem, FedSpa(2, 0.1, 2, Masks(**masks)), _start(problem), T, noise, 3)


def _bowls(targets: Any) -> Quadratic:
    """F_k = ½‖w − c_k‖² up to a constant."""
    a = np.array(targets, dtype=float)
    n, d = a.shape
    return Quadratic(A=np.stack([np.eye(d)] * n), B=np.zeros((n, 0, 0)), C=np.zeros((n, d, 0)), a=a, b=np.zeros((n, 0)))


def dense_is_fedavg(budget: Budget) -> tuple[Evidence, ...]:
    """Masks of ones: FedAvg, number for number, frozen or dynamic."""
    problem, out = quadratic(n=5, d_u=6, d_v=0), []
    average = Experiment(
        problem, FedAvg(2, 0.1, 0.0, tau_u=2, tau_v=0), Noise(sigma_u=0.5), _start(problem), 15, seed=3
    )
    theirs = run(average, 4, engine="eager")
    for mode in ("frozen", "dynamic"):
        ours = run(_spa(problem, 15, Noise(sigma_u=0.5), density=1.0, mode=mode), 4)
        out.append(equal(f"{mode} masks of ones: final models", ours["w_final"], theirs["u_final"], 1e-12))
        out.append(equal(f"{mode} masks of ones: squared gradients", ours["grad_sq"], theirs["grad_u_sq"], 1e-11))
        out.append(equal(f"{mode} masks of ones: cohorts", ours["cohort"], theirs["cohort"], 0.0))
    return tuple(out)


def equal_masks(budget: Budget) -> tuple[Evidence, ...]:
    """All masks equal: FedAvg on the sub-vector; what no mask covers stays."""
    problem = quadratic(n=4, d_u=6, d_v=0)
    trial = _spa(problem, 15, Noise("zero"), density=0.5, common=True, mode="frozen")
    on, off = np.flatnonzero(trial.first_masks[0]), np.flatnonzero(~trial.first_masks[0])
    A, a = problem.A.numpy()[:, on][:, :, on], problem.a.numpy()[:, on]
    part = Quadratic(A=A, B=np.zeros((4, 0, 0)), C=np.zeros((4, len(on), 0)), a=a, b=np.zeros((4, 0)))
    start = State(trial.start.u[on], trial.start.v)
    theirs = run(Experiment(part, FedAvg(2, 0.1, 0.0, tau_u=2, tau_v=0), Noise("zero"), start, 15, seed=3), 4)
    ours = run(trial, 4)["w_final"].values
    return (
        equal("covered coordinates and FedAvg on the sub-vector", ours[:, on], theirs["u_final"], 1e-12),
        equal("uncovered coordinates and the start", ours[:, off], trial.start.u.numpy()[off], 0.0),
    )


def golden_value(budget: Budget) -> tuple[Evidence, ...]:
    """n = 2, masks e_1 and e_2, F_k = ½‖w−c‖², c = (1, −2), w = 0, η = ½, N = 2: w_1 = (0.21875, −0.4375)."""
    c = np.array([1.0, -2.0])
    start = State(torch.zeros(2, dtype=torch.float64), torch.zeros(2, 0, dtype=torch.float64))
    method = FedSpa(2, 0.25, 2, Masks(mode="frozen", initial=((1, 0), (0, 1))))
    trace = run(FedSpaExperiment(_bowls([c, c]), method, start, 4), 1, level="proof")
    w, path = np.zeros(2), []
    for _ in range(5):
        path.append(w)
        w = w - 0.5 * (1 - (1 - 0.5 / 2) ** 2) * (w - c)
    return (
        equal("the model after one round", trace["w"].values[0, 1], [0.21875, -0.4375], 1e-14),
        equal(
            "squared gradient and diversity at the start",
            [trace["grad_sq"].values[0, 0], trace["diversity"].values[0, 0]],
            1.25,
            1e-14,
        ),
        equal("four rounds against the recursion", trace["w"].values[0], np.array(path), 1e-14),
    )


def disjoint_masks(budget: Budget) -> tuple[Evidence, ...]:
    """Pairwise disjoint masks: D(w) = (n−1)‖∇f(w)‖² on runs, δ = 0 and ρ² = n−1 as constants."""
    problem = _bowls(np.random.default_rng(0).normal(size=(3, 3)))
    masks = np.eye(3, dtype=bool)
    found = masked_constants(problem, masks)
    trial = _spa(problem, 10, Noise("zero"), mode="frozen", initial=tuple(tuple(map(int, row)) for row in masks))
    trace = run(trial, 2, level="proof")
    return (
        equal("diversity over squared gradient along the run", trace["diversity"] / trace["grad_sq"], 2.0, 1e-10),
        equal("delta and rho^2 of three disjoint masks", [found.delta.value, found.rho.value**2], [0.0, 2.0], 1e-12),
    )


def erk(budget: Budget) -> tuple[Evidence, ...]:
    """Σ_l density_l d_l = s d, no density above 1, and unsaturated layers share one ε."""
    rng = np.random.default_rng(2)
    total, worst, spread = [], [], []
    for _ in range(300):
        shapes = [tuple(int(x) for x in rng.integers(1, 13, rng.integers(1, 5))) for _ in range(rng.integers(1, 7))]
        s = float(rng.uniform(0.02, 1.0))
        sizes = np.array([math.prod(x) for x in shapes], dtype=float)
        got = densities.erk_densities(layout_from(shapes, int(sizes.sum())), s)
        p = np.array([sum(x) / math.prod(x) for x in shapes])
        total.append(float(got @ sizes) / (s * sizes.sum()))
        worst.append(float(got.max()))
        free = got < 1 - 1e-12
        spread.append(float(np.ptp(got[free] / p[free]) / (got[free] / p[free]).max()) if free.any() else 0.0)
    return (
        equal("total density over s d, 300 random layouts", total, 1.0, 1e-12),
        at_most("largest density of a layer", worst, 1.0),
        equal("spread of epsilon over unsaturated layers", spread, 0.0, 1e-9),
    )


def annealing(budget: Budget) -> tuple[Evidence, ...]:
    """Σ_{t<T} α_t = α_0(T+1)/2 where T_end = T; α_t = 0 from T_end on and for frozen masks."""
    got = [sum(Masks(alpha=a).rate(t, T) for t in range(T)) for T in (1, 7, 100) for a in (0.2, 0.5, 1.0)]
    want = [a * (T + 1) / 2 for T in (1, 7, 100) for a in (0.2, 0.5, 1.0)]
    after = [Masks(T_end=3).rate(t, 20) for t in range(3, 20)] + [Masks(mode="frozen").rate(0, 20)]
    return (equal("sum of the rates", got, want, 1e-12), equal("rates after the end, and of frozen masks", after, 0.0))


def corollary_constants(budget: Budget) -> tuple[Evidence, ...]:
    """With β = c = c′ = ½ and the corollary's steps: A ≥ 7/8 and κ ≤ 3 on a grid of n, m, N, ρ, η."""
    A, kappa = [], []
    for n in (1, 2, 3, 5, 20, 1000):
        for m in sorted({1, max(1, n // 2), n}):
            phi = (n - m) / max(n - 1, 1)
            for N in (1, 2, 3, 10, 1000):
                for rho in (0.0, 0.3, 1.0, 3.0, 30.0):
                    cap = min(0.25, 0.5 / math.sqrt(1 + rho**2), m / (8 * phi * rho**2) if phi * rho > 0 else math.inf)
                    for eta in (cap, 0.7 * cap, 0.2 * cap):
                        C = (1 - eta * math.sqrt((N - 1) / (2 * N))) ** -2
                        q_G = C * eta**2 * (N - 1) * (2 * N - 1) / (6 * N**2)
                        k = 2 * (1 - eta) + eta + eta / m * (3 * phi + 2)
                        kappa.append(k)
                        A.append(2 - eta - (1 - eta) / 2 - 1.5 * eta * phi * rho**2 / m - k * q_G * (1 + rho**2))
    return (at_most("7/8 against A", 7 / 8, A), at_most("kappa against 3", kappa, 3.0))


def cost_of_dense(budget: Budget) -> tuple[Evidence, ...]:
    """Density 1, frozen: FedAvg's 2bd bits; half of it at density ½; masks cost d bits at most."""
    layout = layout_from([(10, 10), (20,)], 120)
    full, half = np.array([[100, 20]]), np.array([[50, 10]])
    none = np.zeros_like(full)

    def both(budgets: np.ndarray) -> float:
        return float(costs.bits_down(budgets, 32)[0] + costs.bits_up(budgets, none, layout, 32)[0])

    return (
        equal("bits at density 1 and FedAvg's", both(full), costs.fedavg_bits(120, 32), 0.0),
        equal("bits at density 1/2 and half of FedAvg's", both(half), costs.fedavg_bits(120, 32) / 2, 0.0),
        at_most("bits of a mask's changes, and d", costs.mask_bits(np.array([[50, 10]]), layout), 120),
    )


def search_by_size(budget: Budget) -> tuple[Evidence, ...]:
    """NextMask regrows by |gradient|, whatever its sign, among inactive weights only, and keeps every layer's"
    " budget."""
    rng, wrong = np.random.default_rng(5), []
    layout = layout_from([(6,), (4,)], 10)
    trials = 200
    for k in range(trials):
        mask = torch.zeros(10, dtype=torch.bool)
        mask[torch.from_numpy(rng.permutation(6)[:3])] = True
        mask[6 + torch.from_numpy(rng.permutation(4)[:2])] = True
        w, g = torch.from_numpy(rng.normal(size=10)), torch.from_numpy(rng.normal(size=10))
        r = torch.tensor([2, 1])
        new = next_mask(mask, w, g, r, layout).mask
        flipped = next_mask(mask, w, -g, r, layout).mask
        kept = (int(new[:6].sum()), int(new[6:].sum())) == (3, 2)
        slow = _sorted_search(mask.numpy(), w.numpy(), g.numpy())
        if not (kept and torch.equal(new, flipped) and np.array_equal(new.numpy(), slow)):
            wrong.append(f"draw {k}")
    return (
        none_fails("mask searches against sorted lists, and with the gradient's sign turned", wrong, trials, "agree"),
    )


def _sorted_search(mask: np.ndarray, w: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The same by sorting: layers [0, 6) with r = 2 and [6, 10) with r = 1."""
    new = mask.copy()
    for start, stop, r in ((0, 6, 2), (6, 10, 1)):
        active = sorted((i for i in range(start, stop) if mask[i]), key=lambda i: (abs(w[i]), i))
        new[active[:r]] = False
        idle = sorted((i for i in range(start, stop) if not new[i]), key=lambda i: (-abs(g[i]), i))
        new[idle[:r]] = True
    return new


def _case(name: str, title: str, statement: str, where: str, *checks: Any, theorems: tuple[str, ...] = (),
          kind: Any = "reduction") -> Any:  # fmt: skip
    return compared(f"{PAPER}/{name}", title, statement, PAGE.format(where), *checks, theorems=theorems, kind=kind)


CLAIMS = (
    _case("dense", "Density 1: FedAvg", "With all masks one FedSpa is FedAvg, number for number.",
          "section 1, reductions, derived here", dense_is_fedavg, theorems=("FSPA-1",)),
    _case("equal-masks", "Equal masks: FedAvg on the sub-vector",
          "With equal frozen masks FedSpa is FedAvg on the covered coordinates; uncovered ones stay.",
          "section 1, reductions, derived here", equal_masks, theorems=("FSPA-1", "FSPA-inv")),
    _case("golden-value", "A run by hand",
          "Two clients with masks $e_1$, $e_2$ and one bowl: $w_{t+1} = w_t - \\frac12(1-(1-\\eta/N)^N)(w_t-c)$.",
          "section 3, golden value, derived here", golden_value),
    _case("disjoint-masks", "Masks alone create diversity",
          "For pairwise disjoint masks $D(w) = (n-1)\\|\\nabla f(w)\\|^2$, so that $\\delta=0$ and $\\rho^2=n-1$.",
          "section 2, assumptions, derived here", disjoint_masks, theorems=("FSPA-1",)),
    _case("erk", "ERK keeps the whole density",
          "Layers get $\\min(1,\\epsilon p_l)$ of their weights with one $\\epsilon$, and"
          " $\\sum_l\\mathrm{density}_ld_l = sd$.",
          "section 1, initial density: the paper and related code", erk, kind="implementation"),
    _case("annealing", "How much is exchanged in all",
          "$\\sum_{t<T}\\alpha_t = \\alpha_0(T+1)/2$ where the annealing ends with the run.",
          "section 1, derived here", annealing, theorems=("FSPA-Ham-sum",)),
    _case("corollary-constants", "The constants of Corollary 1",
          "With $\\beta=c=c'=\\frac12$ and the corollary's cap on $\\eta$: $A\\ge\\frac78$ and $\\kappa\\le3$.",
          "Corollary 1, derived here", corollary_constants, theorems=("FSPA-C1",)),
    _case("dense-cost", "What density saves",
          "At density 1 and frozen masks a round costs FedAvg's $2bd$ bits a client, at density $s$ the share $s$ of"
          " it.",
          "section 1, cost, derived here", cost_of_dense, theorems=("FSPA-bits",)),
    _case("mask-search", "Regrowth is by size of the gradient among inactive weights",
          "Re-implementations that regrow among all weights or rank gradients with their sign differ: here budgets"
          " stay and"
          " the sign does not matter.", "section 1, traps seen in re-implementations", search_by_size,
          theorems=("FSPA-inv",), kind="implementation"),
)  # fmt: skip
