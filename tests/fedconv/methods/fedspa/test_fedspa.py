"""FedSpa's runs: against a slow reference, invariants under partial participation, reductions, costs, settings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedconv.core.resume import run_to_store
from fedconv.core.run import Experiment, run
from fedconv.core.store import load
from fedconv.core.streams import Streams
from fedconv.methods.fedspa import costs, densities, reference
from fedconv.methods.fedspa import rounds as simulate
from fedconv.methods.fedspa.constants import MaskedConstants, masked_constants, masked_sigma
from fedconv.methods.fedspa.experiment import FedSpaExperiment
from fedconv.methods.fedspa.masks import Masks, Search, layer_counts, next_mask
from fedconv.methods.fedspa.measures import INVARIANTS
from fedconv.methods.fedspa.method import FedSpa
from fedconv.methods.fedspa.tables import from_tables
from fedconv.methods.fedspa.variables import VARIABLES
from fedconv.methods.split import FedAlt, FedAvg, State
from fedconv.problems.envelopes.least_squares import build_random as least_squares
from fedconv.problems.errors import InputError
from fedconv.problems.layers import Layer, Layout, layout_from
from fedconv.problems.noise import Noise
from fedconv.problems.split.quadratic import Quadratic
from fedconv.problems.split.quadratic import build_random as quadratic
from fedconv.problems.split.residuals import build_random as residuals
from fedconv.problems.split.trigonometric import Trigonometric
from fedconv.problems.whole_model import Whole

TOLERANCE = 1e-12
NOISY = Noise(sigma_u=0.3, sigma_v=0.2)


def start_of(problem: Any, seed: int = 1) -> State:
    rng = np.random.default_rng(seed)
    u, v = rng.normal(size=problem.d_u), rng.normal(size=(problem.n, problem.d_v))
    return State(torch.from_numpy(u), torch.from_numpy(v))


def spa(problem: Any, T: int = 6, noise: Noise = NOISY, *, m: int = 2, gamma: float = 0.1, tau: int = 2,
        average: Any = "cohort", seed: int = 3, **masks: Any) -> FedSpaExperiment:  # fmt: skip
    method = FedSpa(m, gamma, tau, Masks(**masks), average)
    return FedSpaExperiment(problem, method, start_of(problem), T, noise, seed)


def waves(n: int = 4, d: int = 7, seed: int = 0) -> Trigonometric:
    """F_k = Σ_j b_j (1 − cos(w_j − s_kj)): w = v alone."""
    rng = np.random.default_rng(seed)
    return Trigonometric(
        a=[], b=rng.uniform(0.5, 2, d), kappa=[], h=np.zeros((n, 0)), s=rng.uniform(-2, 2, size=(n, d))
    )


def blocks(trial: FedSpaExperiment, replicates: Any = (0, 3), level: str = "proof") -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        return trial.block(Streams(trial.seed), np.array(replicates, dtype=np.int64), level, "eager")


@st.composite
def trials(draw: st.DrawFn) -> FedSpaExperiment:
    n, seed = draw(st.integers(1, 5)), draw(st.integers(0, 1000))
    family = draw(st.sampled_from(["quadratic", "residuals", "waves"]))
    d_u, d_v = draw(st.sampled_from([(9, 0), (6, 3), (5, 7)]))
    if family == "waves":
        problem, d = waves(n, 9, seed), 9
    else:
        make = quadratic if family == "quadratic" else residuals
        problem, d = make(n=n, d_u=d_u, d_v=d_v, seed=seed), d_u + d_v
    layers = draw(st.sampled_from([None, ((d,),), ((2, 2), (d - 4,)), ((3,), (2, 1), (d - 5,))]))
    chosen: dict[str, Any] = {"mode": "frozen"}
    if draw(st.booleans()):
        chosen = {"alpha": draw(st.sampled_from([0.1, 0.5, 1.0])), "regrow_pruned": draw(st.booleans())}
        chosen["T_end"] = draw(st.sampled_from([None, 1, 2]))
    density: Any = draw(st.sampled_from([0.4, 0.7, 1.0]))
    if draw(st.booleans()):
        density = tuple(draw(st.sampled_from([0.5, 0.9])) for _ in range(n))
    noise = draw(st.sampled_from([Noise(), Noise(sigma_v=0.4) if family == "waves" else Noise(sigma_u=0.4)]))
    return spa(
        problem, draw(st.integers(2, 5)), noise, m=draw(st.integers(1, n)), tau=draw(st.integers(1, 3)),
        average=draw(st.sampled_from(["cohort", "coverage"])), seed=seed, layers=layers, density=density,
        distribution=draw(st.sampled_from(["erk", "uniform"])), common=draw(st.booleans()), **chosen,
    )  # fmt: skip


# ---- against the reference ----------------------------------------------------------------------------------


@settings(max_examples=30)
@given(trials())
def test_every_number_agrees_with_the_reference(trial: FedSpaExperiment) -> None:
    got = blocks(trial, (0, 2))
    for row, r in enumerate((0, 2)):
        want = reference.simulate(trial, reference.draw(trial, r))
        assert set(want) <= set(got)
        size = max(np.abs(want["f"]).max(), np.abs(want["f_after"]).max(), want["grad_sq"].max(), 1.0)
        for key, values in want.items():
            if values.dtype == bool:
                assert np.array_equal(got[key][row], values), key
                continue
            error = np.abs(got[key][row] - values).max(initial=0.0)
            assert error <= TOLERANCE * max(np.abs(values).max(initial=0.0), size), f"{key}: off by {error:.3g}"


def test_the_golden_value() -> None:
    """n = 2, disjoint unit masks, F_k = ½‖w − c‖²: w_{t+1} = w_t − ½(1 − (1 − η/N)^N)(w_t − c)."""
    c = np.array([1.0, -2.0])
    problem = Quadratic(
        A=np.stack([np.eye(2)] * 2), B=np.zeros((2, 0, 0)), C=np.zeros((2, 2, 0)), a=[c, c], b=np.zeros((2, 0))
    )
    start = State(torch.zeros(2, dtype=torch.float64), torch.zeros(2, 0, dtype=torch.float64))
    method = FedSpa(2, 0.25, 2, Masks(mode="frozen", initial=((1, 0), (0, 1))))
    trial = FedSpaExperiment(problem, method, start, 4)
    assert trial.eta == 0.5
    got, w = blocks(trial, (0,)), np.zeros(2)
    assert got["w"][0, 1].tolist() == [0.21875, -0.4375]
    assert got["grad_sq"][0, 0] == got["diversity"][0, 0] == 1.25
    for t in range(5):
        np.testing.assert_allclose(got["w"][0, t], w, rtol=1e-15)
        w = w - 0.5 * (1 - (1 - 0.5 / 2) ** 2) * (w - c)


# ---- invariants -----------------------------------------------------------------------------------------------


@given(trials())
def test_invariants_by_an_independent_look_at_the_masks(trial: FedSpaExperiment) -> None:
    """Density per layer, pruned = regrown, updates inside the masks, the absent keep theirs: from the recorded path."""
    got = blocks(trial, range(3))
    n, layout, chosen = trial.problem.n, trial.layout, trial.algorithm.masks
    mask, w = got["mask"], got["w"]
    assert not got["breaches"].any()
    for where in layout.slices:
        size = mask[..., where].sum(-1)
        assert (size == size[:, :1]).all()
    change = mask[:, 1:] ^ mask[:, :-1]
    assert not (change.any(-1) & ~got["cohort"]).any(), "an absent client's mask moved"
    off = (change & mask[:, :-1]).sum(-1)
    assert np.array_equal(off, (change & mask[:, 1:]).sum(-1))
    assert np.array_equal(got["hamming"], 2 * off)
    end = trial.T if chosen.T_end is None else chosen.T_end
    for t in range(trial.T):
        alpha = 0.0 if chosen.frozen or t >= end else chosen.alpha / 2 * (1 + math.cos(math.pi * t / end))
        assert got["alpha"][0, t] == pytest.approx(alpha, abs=1e-15)
        budgets = np.stack([mask[:, 0, :, where].sum(-1) for where in layout.slices], -1)
        asked = np.ceil(alpha * budgets * (1 - 1e-12)) * got["cohort"][:, t, :, None]
        if not chosen.regrow_pruned:
            asked = np.minimum(asked, np.array(layout.sizes) - budgets) * got["cohort"][:, t, :, None]
        for name in ("asked", "pruned", "regrown"):
            assert np.array_equal(got[name][:, t], asked), name
        assert np.array_equal(got["nnz"][:, t], budgets)
        held = (mask[:, t] & got["cohort"][:, t, :, None]).any(1)
        assert not ((w[:, t + 1] != w[:, t]) & ~held).any(), "the server moved a weight that nobody held"
    if chosen.frozen:
        assert not change.any()
        assert not got["jump"].any()
    if not chosen.regrow_pruned:
        assert np.array_equal(got["hamming"].sum(-1), 2 * got["asked"].sum((-1, -2)))
    assert got["mask_distance"].shape[-2:] == (n, n)
    apart = (mask[:, -1, :, None] ^ mask[:, -1, None]).sum(-1)
    assert np.array_equal(got["mask_distance"][:, -1], apart)


def grown_everywhere(mask: Any, w: Any, gradient: Any, r: Any, layout: Layout, **_: Any) -> Search:
    """The trap: regrow among all coordinates, so that the budget drifts."""
    found = next_mask(mask, w, gradient, r, layout)
    regrown = torch.zeros_like(mask)
    for layer, where in enumerate(layout.slices):
        order = torch.argsort(torch.argsort(-gradient[..., where].abs(), dim=-1, stable=True), dim=-1, stable=True)
        regrown[..., where] = order < r[..., layer, None]
    return Search(found.pruned, regrown, (mask & ~found.pruned) | regrown)


def pruned_only(mask: Any, w: Any, gradient: Any, r: Any, layout: Layout, **_: Any) -> Search:
    """The trap: dense to sparse, nothing comes back."""
    found = next_mask(mask, w, gradient, r, layout)
    return Search(found.pruned, torch.zeros_like(mask), mask & ~found.pruned)


def across_layers(mask: Any, w: Any, gradient: Any, r: Any, layout: Layout, **more: Any) -> Search:
    """A wrong turn: one ranking over all layers."""
    return next_mask(mask, w, gradient, r.sum(-1, keepdim=True), Layout((Layer("all", (layout.d,)),)), **more)


@pytest.mark.parametrize("trap", [grown_everywhere, pruned_only, across_layers])
def test_wrong_mask_searches_break_invariants(trap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = spa(quadratic(n=4, d_u=12, d_v=0), layers=((2, 3), (6,)), noise=Noise(), density=0.5)
    assert not blocks(trial)["breaches"].any()
    monkeypatch.setattr(simulate, "next_mask", trap)
    broken = blocks(trial)["breaches"].sum((0, 1))
    assert broken[INVARIANTS.index("budget")] + broken[INVARIANTS.index("exchange")] > 0


def test_steps_beyond_the_mask_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = simulate.local_steps

    def dense(whole: Any, method: Any, w: Any, mask: Any, clients: Any, noise: Any) -> Any:
        return real(whole, method, w, torch.ones_like(mask), clients, noise)

    trial = spa(quadratic(n=4, d_u=12, d_v=0), noise=Noise())
    monkeypatch.setattr(simulate, "local_steps", dense)
    broken = dict(zip(INVARIANTS, blocks(trial)["breaches"].sum((0, 1)), strict=True))
    assert broken["iterates"] > 0
    assert broken["server"] > 0
    assert not broken["budget"]


def test_regrown_zeros_train() -> None:
    """The trap of masking by "weight is tiny": here a weight regrown at the server's 0 moves in the next round."""
    problem = Quadratic(A=np.eye(2)[None], B=np.zeros((1, 0, 0)), C=np.zeros((1, 2, 0)), a=[[0.0, 1.0]], b=[[]])
    start = State(torch.tensor([1.0, 0.0], dtype=torch.float64), torch.zeros(1, 0, dtype=torch.float64))
    masks = Masks(initial=((1, 0),), alpha=1.0, T_end=1, regrow_pruned=False)
    got = blocks(FedSpaExperiment(problem, FedSpa(1, 0.5, 1, masks), start, 2), (0,))
    assert got["mask"][0, :, 0].tolist() == [[True, False], [False, True], [False, True]]
    assert got["w"][0].tolist() == [[1.0, 0.0], [0.5, 0.0], [0.5, 0.5]]


def test_regrowth_is_by_size_of_the_gradient_whatever_its_sign() -> None:
    """The trap of ranking |gradient + 1| would choose the last weight."""
    mask, w = torch.tensor([True, False, False]), torch.zeros(3, dtype=torch.float64)
    gradient = torch.tensor([0.0, -1.5, 1.0], dtype=torch.float64)
    found = next_mask(mask, w, gradient, torch.tensor([1]), layout_from([3], 3), regrow_pruned=False)
    assert found.mask.tolist() == [False, True, False]


def sorted_search(mask: Any, w: Any, g: Any, r: int, regrow_pruned: bool) -> np.ndarray:
    off, on = reference.exchange(mask, w, g, [len(mask)], [r], regrow_pruned)
    assert off.sum() == mask.sum() - r
    return on


@given(st.data())
def test_mask_search_with_ties_agrees_with_sorted_lists(data: st.DataObject) -> None:
    d = data.draw(st.integers(2, 9))
    few = st.lists(st.sampled_from([-1.0, 0.0, 1.0, 2.0]), min_size=d, max_size=d)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=d, max_size=d)))
    w, g = np.array(data.draw(few)), np.array(data.draw(few))
    again = data.draw(st.booleans())
    r = data.draw(st.integers(0, int(mask.sum() if again else min(mask.sum(), d - mask.sum()))))
    given_, at, slope = (torch.from_numpy(x) for x in (mask, w, g))
    found = next_mask(given_, at, slope, torch.tensor([r]), layout_from([d], d), regrow_pruned=again)
    assert np.array_equal(found.mask.numpy(), sorted_search(mask, w, g, r, again))
    assert int(found.pruned.sum()) == int(found.regrown.sum()) == r
    assert again or not (found.pruned & found.regrown).any()


def test_mask_search_survives_numbers_that_are_none() -> None:
    mask = torch.tensor([True, True, False, False])
    w = torch.tensor([math.nan, math.inf, 0.0, 0.0], dtype=torch.float64)
    gradient = torch.tensor([math.nan, 0.0, math.inf, math.nan], dtype=torch.float64)
    found = next_mask(mask, w, gradient, torch.tensor([1]), layout_from([4], 4))
    assert found.mask.sum() == 2
    assert found.pruned.tolist() == [True, False, False, False]
    assert found.regrown.tolist() == [False, False, True, False]


@settings(max_examples=25)
@given(trials())
def test_blocks_and_levels_do_not_matter(trial: FedSpaExperiment) -> None:
    """Bit for bit: replicates computed together or apart, measured or not."""
    together = blocks(trial, range(5))
    apart = [blocks(trial, part) for part in ((0,), (1, 2), (3, 4))]
    for key, values in together.items():
        assert np.array_equal(values, np.concatenate([part[key] for part in apart])), key
    for level in ("none", "stationarity"):
        less = blocks(trial, range(5), level)
        assert set(less) < set(together)
        for key, values in less.items():
            assert np.array_equal(values, together[key]), key


def test_a_run_that_overflows_keeps_its_masks() -> None:
    trial = spa(quadratic(n=4, d_u=12, d_v=0), T=80, gamma=1e9, noise=Noise())
    trace = run(trial, 2)
    assert trace.attrs["diverged"] == 2
    assert not trace["breaches"].values.any()


# ---- what FedSpa is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["dynamic", "frozen"])
def test_all_ones_is_fedavg(mode: str) -> None:
    problem = quadratic(n=5, d_u=6, d_v=0)
    trial = spa(problem, 8, Noise(sigma_u=0.5), density=1.0, mode=mode)
    average = Experiment(problem, FedAvg(2, 0.1, 0.0, tau_u=2, tau_v=0), trial.noise, trial.start, 8, seed=3)
    ours, theirs = run(trial, 3), run(average, 3, engine="eager")
    np.testing.assert_allclose(ours["w_final"].values, theirs["u_final"].values, rtol=1e-12)
    np.testing.assert_allclose(ours["grad_sq"].values, theirs["grad_u_sq"].values, rtol=1e-11)
    assert np.array_equal(ours["cohort"].values, theirs["cohort"].values)


def test_equal_masks_are_fedavg_on_the_sub_vector() -> None:
    problem = quadratic(n=4, d_u=6, d_v=0)
    trial = spa(problem, 8, Noise(), density=0.5, common=True, mode="frozen")
    on = np.flatnonzero(trial.first_masks[0])
    assert (trial.first_masks == trial.first_masks[0]).all()
    A, a = problem.A.numpy()[:, on][:, :, on], problem.a.numpy()[:, on]
    part = Quadratic(A=A, B=np.zeros((4, 0, 0)), C=np.zeros((4, len(on), 0)), a=a, b=np.zeros((4, 0)))
    start = State(trial.start.u[on], trial.start.v)
    theirs = run(Experiment(part, FedAvg(2, 0.1, 0.0, tau_u=2, tau_v=0), Noise(), start, 8, seed=3), 3)
    np.testing.assert_allclose(run(trial, 3)["w_final"].values[:, on], theirs["u_final"].values, rtol=1e-12)


def test_whole_model_of_both_blocks() -> None:
    problem = quadratic(n=3, d_u=2, d_v=3)
    trial, whole = spa(problem), Whole(problem)
    assert torch.equal(trial.w_start, torch.cat([trial.start.u, trial.start.v.mean(0)]))
    w = trial.w_start.expand(3, -1).clone().requires_grad_()
    value = whole.value(w, problem.everyone())
    assert torch.equal(value, problem.value(w[:, :2], w[:, 2:], problem.everyone()))
    (slope,) = torch.autograd.grad(value.sum(), w)
    torch.testing.assert_close(whole.grad(w.detach(), problem.everyone()), slope, rtol=1e-12, atol=1e-13)


def test_the_same_cohorts_as_fedalt() -> None:
    problem = quadratic(n=5, d_u=3, d_v=2)
    alt = Experiment(problem, FedAlt(2, 0.1, 0.1, tau_u=1, tau_v=1), Noise(), start_of(problem), 8, seed=3)
    assert np.array_equal(run(alt, 5)["cohort"], run(spa(problem, 8), 5)["cohort"])


def test_stores_keep_a_run(tmp_path: Any) -> None:
    trial = spa(quadratic(n=4, d_u=6, d_v=3), layers=((3, 2), (3,)))
    trace = run_to_store(trial, 20, tmp_path / "spa.zarr", level="proof")
    assert trace.identical(run(trial, 20, level="proof"))
    assert load(tmp_path / "spa.zarr").attrs["format"] == 1
    described = {*VARIABLES} - {"f_expected"}
    assert described <= {str(key) for key in trace.variables}
    assert all(trace[key].attrs["long_name"] and trace[key].attrs["units"] for key in trace.data_vars)
    assert not trial.deterministic
    assert spa(trial.problem, m=4, noise=Noise()).deterministic


# ---- densities, annealing, costs: formulas typed a second time ----------------------------------------------


@given(
    st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=4), min_size=1, max_size=6),
    st.floats(0.02, 1.0),
    st.sampled_from([0.5, 1.0, 2.0]),
)
def test_erk_keeps_the_whole_density(shapes: list[list[int]], s: float, power: float) -> None:
    layout = layout_from(shapes, sum(math.prod(x) for x in shapes))
    found = densities.erk_densities(layout, s, power)
    sizes = [math.prod(x) for x in shapes]
    assert sum(f * d for f, d in zip(found, sizes, strict=True)) == pytest.approx(s * sum(sizes), rel=1e-12)
    assert ((found > 0) & (found <= 1 + 1e-12)).all()
    p = [(sum(x) / math.prod(x)) ** power for x in shapes]
    epsilon = {round(f / q, 9) for f, q in zip(found, p, strict=True) if f < 1 - 1e-12}
    assert len(epsilon) <= 1 or max(epsilon) - min(epsilon) < 1e-8 * max(epsilon)
    if epsilon:
        assert all(max(epsilon) * q >= 1 - 1e-9 for f, q in zip(found, p, strict=True) if f >= 1)


def test_erk_by_hand() -> None:
    """Layers 10×10 and 2×2, s = 0.3: ε (20 + 4) = 31.2, ε = 1.3 makes the small layer dense; then ε = 27.2/20."""
    layout = layout_from([(10, 10), (2, 2)], 104)
    np.testing.assert_allclose(densities.erk_densities(layout, 0.3), [27.2 / 20 * 0.2, 1.0], rtol=1e-14)
    assert densities.counts(layout, densities.erk_densities(layout, 0.3)).tolist() == [27, 4]
    assert densities.counts(layout, densities.uniform_densities(layout, 0.3)).tolist() == [30, 1]


@given(st.integers(1, 60), st.sampled_from([0.2, 0.5, 1.0]))
def test_annealing_sums_to_its_closed_form(T: int, alpha: float) -> None:
    assert sum(Masks(alpha=alpha).rate(t, T) for t in range(T)) == pytest.approx(alpha * (T + 1) / 2, rel=1e-12)
    assert Masks(alpha=alpha, T_end=3).rate(3, T) == 0.0
    assert Masks(mode="frozen").rate(0, T) == 0.0


def test_exchanges_are_ceilings_without_rounding_errors() -> None:
    budgets = np.array([0, 1, 3, 10, 10, 7])
    got = [int(densities.exchanged(a, budgets[i])) for i, a in enumerate([0.5, 1e-12, 1 / 3, 0.1, 0.3, 0.5])]
    assert got == [0, 1, 1, 1, 3, 4]


def test_costs_by_hand() -> None:
    layout = Layout(
        (Layer("conv", (4, 3, 3, 3), positions=16), Layer("bias", (4,), 16, bias=True), Layer("fc", (5, 64)))
    )
    budgets, r = np.array([[50, 4, 100], [20, 4, 30]]), np.array([[5, 1, 10], [0, 0, 0]])
    assert costs.bits_down(budgets, 32).tolist() == [32 * 154, 32 * 54]
    flips = min(432, 2 * 5 * 7 + 2 * 1 * 2 + 2 * 10 * 9)
    assert costs.bits_up(budgets, r, layout, 32).tolist() == [32 * 154 + flips, 32 * 54]
    assert costs.mask_bits(np.array([[30, 0, 0]]), layout).tolist() == [420]
    assert costs.mask_bits(np.array([[40, 4, 100]]), layout).tolist() == [432]
    assert costs.fedavg_bits(432, 32) == 2 * 32 * 432
    forward = 2 * 50 * 16 + 16 * 4 + 2 * 100
    dense = 2 * 108 * 16 + 16 * 4 + 2 * 320
    assert costs.forward_flops(budgets, layout)[0] == forward
    assert costs.dense_flops(layout) == dense
    assert costs.training_flops(np.array([forward]), 5, 8)[0] == 5 * 8 * 3 * forward
    assert costs.search_flops(np.array([forward]), dense, 8)[0] == 8 * (2 * forward + dense)
    bits = [sum(math.ceil(math.log2(math.comb(d, s))) for d, s in ((108, a), (4, 4), (320, b))) for a, b in
            ((50, 100), (20, 30))]  # fmt: skip
    assert costs.first_mask_bits(budgets, layout).tolist() == [min(432, x) for x in bits]


def test_recorded_costs() -> None:
    trial = spa(quadratic(n=4, d_u=12, d_v=0), T=4, layers=((3, 2), (6,)), T_end=2, noise=Noise())
    got, sizes = blocks(trial), (6, 6)
    s = got["nnz"][0, 0, 0]
    for t in range(4):
        r = np.ceil(got["alpha"][0, t] * s - 1e-12)
        flips = min(12, sum(2 * x * math.ceil(math.log2(d)) for x, d in zip(r, sizes, strict=True)))
        assert (got["bits_down"][:, t] == 2 * 32 * s.sum()).all()
        assert (got["bits_up"][:, t] == 2 * (32 * s.sum() + flips)).all()
        assert (got["flops_train"][:, t] == 2 * (2 * 1 * 3 * 2 * s.sum())).all()
        assert (got["flops_search"][:, t] == (2 * (2 * 2 * s.sum() + 24) if t < 2 else 0)).all()


# ---- constants --------------------------------------------------------------------------------------------------


@given(st.data())
def test_masked_constants_hold_everywhere(data: st.DataObject) -> None:
    """L, (δ, ρ) and F★ against random points, under the given masks and under all masks."""
    seed, n = data.draw(st.integers(0, 10_000)), data.draw(st.integers(1, 4))
    rng = np.random.default_rng(seed)
    kind = data.draw(st.sampled_from(["quadratic", "residuals", "waves", "least_squares", "coupled"]))
    if kind == "waves":
        problem: Any = waves(n, 5, seed)
    elif kind == "coupled":
        h = rng.normal(size=(n, 2))
        problem = Trigonometric(
            a=[1.0, 0.5], b=[0.7, 0.2, 1.0], kappa=[0.4, -0.3], h=h - h.mean(0), s=rng.normal(size=(n, 3))
        )
    else:
        make = {"quadratic": quadratic, "residuals": residuals, "least_squares": least_squares}[kind]
        problem = make(n=n, d_u=3, d_v=2, seed=seed)
    masks = rng.random((n, 5)) < 0.6
    found = masked_constants(problem, masks if data.draw(st.booleans()) else None)
    whole, on = Whole(problem), torch.from_numpy(masks)
    w = torch.from_numpy(rng.normal(size=(300, 5)) * rng.choice([0.3, 1.0, 5.0], (300, 1)))
    spread = w[:, None].expand(-1, n, -1)
    each = whole.masked_grad(spread, on, problem.everyone())
    mean = each.mean(1)
    diversity = (each - mean[:, None]).square().sum(-1).mean(-1)
    allowed = found.delta.value**2 + found.rho.value**2 * mean.square().sum(-1)
    assert (diversity <= allowed * (1 + 1e-9) + 1e-12).all()
    assert (whole.objective(w, on) >= found.F_star.value - 1e-10).all()
    gap = (each[1:] - each[:-1]).norm(dim=-1) / (w[1:] - w[:-1]).norm(dim=-1)[:, None]
    assert (gap <= found.L.value * (1 + 1e-9)).all()
    assert MaskedConstants.from_dict(found.to_dict()) == found


def test_constants_of_waves_are_attained() -> None:
    problem = waves(3, 2)
    masks = np.array([[True, True], [True, False], [False, True]])
    found, whole = masked_constants(problem, masks), Whole(problem)
    grid = torch.from_numpy(np.linspace(-math.pi, math.pi, 20_001))
    w = torch.stack([grid, grid], -1)[:, None].expand(-1, 3, -1)
    each = whole.masked_grad(w, torch.from_numpy(masks), problem.everyone())
    widest = each.var(1, unbiased=False).amax(0).sum()
    assert found.delta.value**2 == pytest.approx(float(widest), rel=1e-6)
    values = problem.b * (1 - torch.cos(torch.where(torch.from_numpy(masks), w, torch.zeros(())) - problem.s))
    assert found.F_star.value == pytest.approx(float(values.mean(1).amin(0).sum()), rel=1e-6)
    assert masked_constants(problem, None).F_star.value == 0.0


def test_constants_of_disjoint_masks() -> None:
    """D(w) = (n − 1)‖∇f(w)‖² for disjoint masks: δ = 0, ρ² = n − 1."""
    A = np.stack([np.diag([1.0, 2.0, 0.5])] * 3)
    problem = Quadratic(A=A, B=np.zeros((3, 0, 0)), C=np.zeros((3, 3, 0)), a=np.ones((3, 3)), b=np.zeros((3, 0)))
    found = masked_constants(problem, np.eye(3, dtype=bool))
    assert found.delta.value == pytest.approx(0.0, abs=1e-12)
    assert found.rho.value == pytest.approx(math.sqrt(2), rel=1e-12)
    assert found.L.value == 2.0


def test_masked_noise() -> None:
    problem = quadratic(n=2, d_u=4, d_v=2)
    masks = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], dtype=bool)
    assert masked_sigma(problem, 2.0, 1.0, masks) == pytest.approx(math.sqrt(3.0))
    assert masked_sigma(problem, 0.0, 1.0, masks) == pytest.approx(1.0)
    assert masked_sigma(problem, 2.0, 1.0, masks, layout_from([6], 6)) == pytest.approx(math.sqrt(3.0))
    assert masked_sigma(problem, 2.0, 1.0, masks, layout_from([4, 2], 6)) == pytest.approx(math.sqrt(3.0))
    trial = spa(problem, 200, Noise(sigma_u=2.0, sigma_v=1.0), tau=1, mode="frozen", common=True)
    assert float(run(trial, 8)["noise_sq"].mean()) == pytest.approx(trial.sigma**2, rel=0.1)


# ---- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("masks", "more", "sentence"),
    [
        ({"density": 0.0}, {}, "masks.density must be a finite number > 0; got 0.0"),
        ({"density": 1.5}, {}, r"masks.density must lie in \(0, 1\]; got 1.5"),
        ({"density": (0.5, 0.5)}, {}, "masks.density must be one number or n = 4 numbers; got 2"),
        ({"density": 0.01}, {}, "masks.density must leave at least one weight"),
        ({"distribution": "er"}, {}, "masks.distribution must be one of erk, uniform; got 'er'"),
        ({"mode": "static"}, {}, "masks.mode must be one of dynamic, frozen; got 'static'"),
        ({"alpha": 2.0}, {}, r"masks.alpha must lie in \(0, 1\]; got 2.0"),
        ({"T_end": 9}, {}, "masks.T_end must be at most run.T = 6; got 9"),
        ({"layers": ((3, 3),)}, {}, "masks.layers must hold d = 6 weights together; got 9"),
        ({"layers": ((3, 0), (6,))}, {}, "masks.layers must have shapes of integers >= 1"),
        ({"initial": ((1,) * 6,) * 3}, {}, "masks.initial must be n = 4 rows of d = 6 zeros and ones"),
        ({"initial": ((0,) * 6,) * 4}, {}, "masks.initial must leave every client at least one weight"),
        ({"initial": ((2,) * 6,) * 4}, {}, "masks.initial must hold zeros and ones only"),
        ({}, {"m": 7}, "algorithm.m must be at most problem.n = 4; got 7"),
        ({}, {"tau": 0}, "algorithm.tau must be an integer >= 1; got 0"),
        ({}, {"gamma": 0.0}, "algorithm.gamma must be a finite number > 0; got 0.0"),
        ({}, {"average": "mean"}, "fedspa.average must be one of cohort, coverage; got 'mean'"),
        ({}, {"noise": Noise(sigma_v=1.0)}, "noise.sigma_v must be 0 where d_v = 0; got 1.0"),
    ],
)  # fmt: skip
def test_chosenthat_cannot_be_run(masks: dict[str, Any], more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{sentence}"):
        spa(quadratic(n=4, d_u=6, d_v=0), **({"noise": Noise()} | more), **masks)


def test_tables_make_the_method() -> None:
    table = {"density": 0.3, "distribution": "uniform", "layers": [6, [2, 3]], "T_end": 5, "seed": 4}
    made = from_tables(3, 0.1, 2, table, {"batch": 16})
    masks = Masks(density=0.3, distribution="uniform", layers=((6,), (2, 3)), T_end=5, seed=4)
    assert made == FedSpa(3, 0.1, 2, masks, batch=16)
    assert from_tables(3, 0.1, 2) == FedSpa(3, 0.1, 2)
    initial = [[1, 0], [0, 1]]
    assert from_tables(2, 0.1, 1, {"mode": "frozen", "initial": initial}).masks.initial == ((1, 0), (0, 1))


@pytest.mark.parametrize(
    ("masks", "fedspa", "sentence"),
    [
        ({"densty": 0.3}, {}, "masks.densty is an unknown key; did you mean 'density'?"),
        ({"density": "all"}, {}, r"masks.density must be a number in \(0, 1\], or one for each client; got 'all'"),
        ({"density": math.nan}, {}, r"masks.density must be a number in \(0, 1\]"),
        ({"distribution": "er"}, {}, 'masks.distribution must be "erk" or "uniform"; got \'er\''),
        ({"initial": [[1, 0], [1]]}, {}, "masks.initial must be an array of n arrays of d zeros and ones"),
        ({"initial": [[1, 0]], "density": 0.4}, {}, "masks.density must be left out where initial is given"),
        ({"mode": "frozen", "alpha": 0.4}, {}, 'masks.alpha must be left out with mode = "frozen"'),
        ({"distribution": "uniform", "power": 2.0}, {}, 'masks.power must be left out with distribution = "uniform"'),
        ({"layers": [[2, 0]]}, {}, "masks.layers must be an array of layer shapes"),
        ({}, {"value_bits": 0}, r"fedspa.value_bits must be an integer >= 1 \(bits of a number sent\); got 0"),
    ],
)
def test_tables_say_what_is_wrong(masks: dict[str, Any], fedspa: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{sentence}") as error:
        from_tables(2, 0.1, 1, masks, fedspa)
    assert "\n" not in str(error.value)


def test_engines_and_steps() -> None:
    trial = spa(quadratic(n=4, d_u=6, d_v=0), noise=Noise())
    assert trial.choose("auto") == ("eager", "FedSpa has no compiled kernel")
    with pytest.raises(InputError, match="engine 'fused' cannot run"):
        trial.choose("fused")
    assert trial.with_eta(0.2).eta == pytest.approx(0.2)
    assert layer_counts(trial.first_masks, trial.layout).tolist() == [[3]] * 4
