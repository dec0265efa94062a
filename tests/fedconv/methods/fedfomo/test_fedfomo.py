"""FedFomo's runs: against a slow reference, the theory page's reductions and numbers, and whatever must not matter."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from fedconv.core.resume import run_to_store
from fedconv.core.run import run
from fedconv.core.store import load
from fedconv.core.streams import Streams
from fedconv.figures.fedfomo import drawing as fedfomo
from fedconv.methods.fedfomo import reference
from fedconv.methods.fedfomo.choosing import EXPLORE, choose
from fedconv.methods.fedfomo.experiment import FedFomoExperiment
from fedconv.methods.fedfomo.method import FedFomo
from fedconv.methods.fedfomo.mixing import increments, mix
from fedconv.methods.fedfomo.privacy import Privacy, delta_of, epsilon_of
from fedconv.methods.fedfomo.target_losses import Judge
from fedconv.methods.fedfomo.variables import VARIABLES
from fedconv.methods.split import State
from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.registry import FAMILIES, build_problem
from fedconv.problems.targets.base import QuadraticTargets, TargetProblem
from fedconv.problems.targets.clusters import build, build_samples, centres

TOLERANCE = 1e-12
NOISE = Noise("gaussian", sigma_u=0.0, sigma_v=0.4)


def experiment(problem: Problem, method: FedFomo, T: int = 6, seed: int = 5, **more: Any) -> FedFomoExperiment:
    rng = np.random.default_rng(seed)
    u, v = rng.normal(size=problem.d_u), 2 * rng.normal(size=(problem.n, problem.d_v))
    return FedFomoExperiment(problem, method, State(torch.from_numpy(u), torch.from_numpy(v)), T, seed=seed, **more)


def blocks(trial: FedFomoExperiment, replicates: Any = (0, 3), level: str = "proof") -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        return trial.block(Streams(trial.seed), np.array(replicates, dtype=np.int64), level, "eager")


def scalars(b: list[float], c: list[float] | None = None) -> QuadraticTargets:
    one = np.ones((len(b), 1, 1))
    return QuadraticTargets(A=one, b=np.array(b)[:, None], H=one, c=np.array(b if c is None else c)[:, None])


def at(v: list[float]) -> State:
    return State(torch.zeros(0, dtype=torch.float64), torch.tensor(v, dtype=torch.float64)[:, None])


# ---- against the reference ----------------------------------------------------------------------------------

METHODS = [
    FedFomo(5, 0.3),
    FedFomo(5, 0.3, 3, downloads=2, norm="l1"),
    FedFomo(3, 0.4, 2, downloads=2, norm="squared", epsilon=0.7, decay=0.1),
    FedFomo(2, 0.4, 2, downloads=1, norm="none", affinity="signed", epsilon=1.0, decay=0.0),
    FedFomo(4, 0.4, 2, downloads=3, rejected="trained", affinity="signed"),
    FedFomo(5, 0.4, 1, downloads=3, margin=0.5, targets=(1, 2, 3, 4, 0)),
    FedFomo(5, 0.4, 1, downloads=0),
    FedFomo(5, 0.3, 2, downloads=2, ties="index"),
    FedFomo(3, 0.3, 2, downloads=2, norm="layers", layers=(1, 2), affinity="raw", epsilon=0.0),
]


def compare(trial: FedFomoExperiment) -> None:
    got = blocks(trial)
    for r, replicate in enumerate((0, 3)):
        want = reference.simulate(trial, reference.draw(trial, replicate))
        loss = np.abs(want["loss"]).max()
        scale = {"promised": loss, "decrease": loss, "gain": loss, "efficient": loss}
        for key, values in want.items():
            size = max(np.abs(values).max(initial=0.0), scale.get(key, 0.0))
            if key in ("score", "total", "weight", "affinity", "own_share"):
                size = max(size, 1e3)  # gains are differences of losses, divided by distances
            error = np.abs(got[key][r] - values).max(initial=0.0)
            assert error <= TOLERANCE * size, f"{key}: off by {error:.3g} at size {size:.3g}"


@pytest.mark.parametrize("method", METHODS, ids=range(len(METHODS)))
def test_agreement_with_the_reference(method: FedFomo) -> None:
    problem = build(n=5, d_v=3, within=0.7, bias=0.8, separation=2.0)
    compare(experiment(problem, method, T=5))
    compare(experiment(problem, method, T=5, noise=NOISE))


@pytest.mark.parametrize("family", ["trigonometric", "quadratic", "least_squares", "residuals", "double_well"])
def test_agreement_on_other_problems(family: str) -> None:
    problem = build_problem({"family": family, **FAMILIES[family].examples[0]})
    method = FedFomo(problem.n, 0.2, 2, downloads=2, targets=(*range(1, problem.n), 0))
    compare(experiment(problem, method, T=4))


@pytest.mark.parametrize("loss_noise", [None, 0.8])
def test_agreement_with_privacy(loss_noise: float | None) -> None:
    bound = None if loss_noise is None else 3.0
    privacy = Privacy(1.5, 0.7, loss_bound=bound, loss_noise=loss_noise)
    problem = build_samples(n=4, samples=5, validation=3)
    compare(experiment(problem, FedFomo(3, 0.3, 2, downloads=2, privacy=privacy), T=5))


# ---- what must not matter -----------------------------------------------------------------------------------


@st.composite
def trials(draw: st.DrawFn) -> FedFomoExperiment:
    n = draw(st.integers(1, 6))
    problem = build(
        n=n, groups=min(n, 2), d_u=draw(st.integers(0, 1)), d_v=draw(st.integers(1, 9)),
        bias=draw(st.sampled_from([0.0, 0.7])), within=draw(st.sampled_from([0.0, 0.5])), seed=draw(st.integers(0, 99)),
    )  # fmt: skip
    method = FedFomo(
        draw(st.integers(1, n)),
        draw(st.sampled_from([0.1, 0.9, 1.9])),
        draw(st.integers(1, 3)),
        downloads=draw(st.integers(0, n)),
        norm=draw(st.sampled_from(["euclidean", "l1", "squared", "none"])),
        epsilon=draw(st.sampled_from([0.0, 0.3, 1.0])),
        affinity=draw(st.sampled_from(["clipped", "signed", "raw"])),
        ties=draw(st.sampled_from(["random", "random", "index"])),
    )
    noise = draw(st.sampled_from([Noise("zero"), NOISE]))
    return experiment(problem, method, T=draw(st.integers(1, 5)), seed=draw(st.integers(0, 100)), noise=noise)


@settings(max_examples=25)
@given(trials())
def test_blocks_and_levels_do_not_matter(trial: FedFomoExperiment) -> None:
    """Bit for bit: replicates computed together or apart, measured or not."""
    together = blocks(trial, range(5))
    apart = [blocks(trial, part) for part in ((0,), (1, 2), (3, 4))]
    for key, values in together.items():
        assert np.array_equal(values, np.concatenate([part[key] for part in apart])), key
    if trial.deterministic:
        assert all(np.array_equal(x[0], x[4]) for x in together.values())
    for level in ("none", "stationarity"):
        for key, values in blocks(trial, range(5), level).items():
            assert np.array_equal(values, together[key]), key


@settings(max_examples=25)
@given(trials())
def test_what_every_round_keeps(trial: FedFomoExperiment) -> None:
    """Section 6 of the theory page: weights, hull, affinities, bits."""
    got, method, n = blocks(trial), trial.algorithm, trial.problem.n
    d = trial.problem.d_u + trial.problem.d_v
    M = min(method.downloads, n - 1)
    seen = np.zeros((2, n), dtype=bool)
    for t in range(trial.T):
        took, mixed = got["cohort"][:, t], got["mixed"][:, t]
        assert (took.sum(-1) == method.m).all()
        assert np.array_equal(mixed, took & seen)
        weight, gain, origin = got["weight"][:, t], got["gain"][:, t], got["origin"][:, t]
        asked = origin > 0
        assert (weight >= 0).all()
        sums = weight.sum(-1)
        np.testing.assert_allclose(sums, sums.round(), atol=1e-12)
        assert np.array_equal(weight > 0, gain > 0)
        assert not (asked & ~seen[:, None, :]).any(), "only uploaded models"
        assert np.array_equal(asked[:, np.arange(n), np.arange(n)], mixed)
        available = np.minimum(seen.sum(-1) - 1, M)
        assert np.array_equal(asked.sum(-1), np.where(mixed, available[:, None] + 1, 0))
        before, after, models = got["w"][:, t], got["w"][:, t + 1], got["w_trained"][:, t]
        expected = before + np.einsum("rij,rijd->rid", weight, models[:, None] - before[:, :, None])
        np.testing.assert_allclose(after, expected, atol=1e-12 * (1 + np.abs(models).max()))
        assert np.array_equal(after[sums == 0], before[sums == 0])
        grown = got["affinity"][:, t + 1] - got["affinity"][:, t]
        assert (grown[~asked] == 0).all()
        if method.affinity == "clipped":
            np.testing.assert_allclose(grown.sum(-1), sums, atol=1e-12)
        down = asked.sum((-1, -2)) - mixed.sum(-1)
        assert np.array_equal(got["downloads"][:, t], down)
        assert np.array_equal(got["bits_down"][:, t], 32.0 * d * down)
        assert np.array_equal(got["bits_up"][:, t], 32.0 * (d * method.m + down))
        seen |= took


def test_traces_are_stored_and_continued(tmp_path: Any) -> None:
    trial = experiment(build(n=4), FedFomo(2, 0.3, downloads=2), noise=NOISE)
    whole = run_to_store(trial, 18, tmp_path / "run.zarr", level="proof")
    assert load(tmp_path / "run.zarr").identical(whole)
    assert run(trial, 18, level="proof", workers=2).identical(whole)
    for key, variable in whole.data_vars.items():
        assert variable.dims == VARIABLES[str(key)].dims
        assert variable.attrs["long_name"]
        assert variable.attrs["units"]
    assert whole.attrs["diverged"] == 0


def test_a_run_that_diverges_is_kept() -> None:
    """Hopeless candidates are never used; only where trained models are kept does a run diverge."""
    steady = run(experiment(build(n=3), FedFomo(3, 1e40), T=30), 2)
    assert np.isfinite(steady["loss"]).all()
    lost = run(experiment(build(n=3), FedFomo(3, 1e40, rejected="trained"), T=30), 2)
    assert not np.isfinite(lost["F_final"]).any()
    assert lost.attrs["diverged"] == 2


# ---- the theory page's numbers and reductions ----------------------------------------------------------------


def test_the_double_well_of_the_page() -> None:
    problem = build_problem({"family": "double_well", "b": [[1.0], [-1.0]], "h": [[0.1], [0.1]]})
    trial = FedFomoExperiment(problem, FedFomo(2, 1.0, epsilon=0.0), at([0.5, -1.0]), 2)
    got = blocks(trial, (0,))
    np.testing.assert_allclose(got["weight"][0, 1, 0], [0.6833, 0.3167], atol=5e-5)
    assert got["w"][0, 2, 0, 0] == pytest.approx(0.3667, abs=5e-5)
    assert got["loss"][0, 1, 0] == pytest.approx(0.6125, rel=1e-12)
    assert got["loss"][0, 2, 0] == pytest.approx(0.7859, abs=5e-5)
    guarded = replace(trial, algorithm=replace(trial.algorithm, margin=4.0))
    assert blocks(guarded, (0,))["decrease"].min() >= 0, "the clipped weight of Theorem 2 never lets the loss rise"


def test_one_client_accepts_or_rejects_its_training() -> None:
    better = FedFomoExperiment(scalars([0.0]), FedFomo(1, 0.5), at([1.0]), 3)
    np.testing.assert_allclose(blocks(better, (0,))["w"][0, :, 0, 0], [1, 1, 0.5, 0.25], atol=1e-15)
    worse = FedFomoExperiment(scalars([3.0], [0.0]), FedFomo(1, 0.5), at([1.0]), 3)
    assert (blocks(worse, (0,))["w"] == 1.0).all()
    kept = replace(worse, algorithm=replace(worse.algorithm, rejected="trained"))
    assert blocks(kept, (0,))["w"][0, -1, 0, 0] > 2


def test_identical_clients_train_as_if_alone() -> None:
    trial = FedFomoExperiment(scalars([0.3] * 4), FedFomo(4, 0.4, 2, downloads=3), at([2.0] * 4), 6)
    got = blocks(trial, (0,))
    np.testing.assert_allclose(got["w_trained"][0, 1:], 0.3 + 1.7 * 0.36 ** np.arange(1, 7)[:, None, None].repeat(4, 1))
    np.testing.assert_allclose(got["weight"][0, 1:], 0.25)
    np.testing.assert_allclose(got["local_loss"][0, 1:-1], got["loss"][0, 2:], rtol=1e-12)


def mixed(models: np.ndarray, gains: np.ndarray, **options: Any) -> Any:
    """Weights of one client at 0 for candidates ``(C, d)`` with the given gains."""
    base, stack = torch.zeros(1, models.shape[1], dtype=torch.float64), torch.from_numpy(models)[None]
    losses = 5.0 - torch.from_numpy(gains)[None]
    valid = torch.ones(1, len(models), dtype=torch.bool)
    return mix(FedFomo(1, 1.0, **options), base, stack, valid, torch.full((1,), 5.0, dtype=torch.float64), losses)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(["euclidean", "l1", "squared", "none"]))
def test_weights_do_not_depend_on_units_and_bad_candidates(seed: int, name: Any) -> None:
    rng = np.random.default_rng(seed)
    models, gains = rng.normal(size=(5, 3)), rng.normal(size=5)
    got = mixed(models, gains, norm=name).weight[0].numpy()
    if name == "euclidean":
        a = gains / np.linalg.norm(models, axis=1)
        want = np.maximum(a, 0) / max(np.maximum(a, 0).sum(), 1e-300)
        np.testing.assert_allclose(got, want, rtol=1e-12)
    np.testing.assert_allclose(mixed(models, 7.0 * gains, norm=name).weight[0].numpy(), got, rtol=1e-9)
    np.testing.assert_allclose(mixed(3.0 * models, gains, norm=name).weight[0].numpy(), got, rtol=1e-9)
    worse = mixed(np.vstack([models, rng.normal(size=(2, 3))]), np.append(gains, [-1.0, 0.0]), norm=name)
    np.testing.assert_allclose(worse.weight[0, :5].numpy(), got, rtol=1e-12)
    twice = mixed(np.vstack([models, models[:1]]), np.append(gains, gains[0]), norm=name).weight[0].numpy()
    np.testing.assert_allclose(twice, np.append(got, got[0]) / (1 + got[0]), rtol=1e-12)
    even = mixed(models / np.linalg.norm(models, axis=1, keepdims=True), np.full(5, 0.3)).weight
    np.testing.assert_allclose(even.numpy(), 0.2, rtol=1e-12)


def test_a_candidate_at_distance_zero_or_of_infinite_loss_has_no_weight() -> None:
    got = mixed(np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 1.0, -np.inf]))
    assert got.weight.tolist() == [[0.0, 1.0, 0.0]]
    assert got.after.tolist() == [[1.0]]
    assert mixed(np.array([[1.0], [2.0]]), np.array([np.nan, -1.0])).after.tolist() == [[0.0]]


# ---- choice of models ----------------------------------------------------------------------------------------


def test_exploration_is_as_frequent_as_it_should_be() -> None:
    """M Σ_t ε_t downloads a client: 0.75 M with the official code's 0.3 and 0.05, from t = 1 on."""
    trial = experiment(build(n=9, groups=3), FedFomo(9, 0.1, downloads=2), T=10)
    explored = run(trial, 300)["explored"].values
    assert (explored[:, [0, 6, 7, 8, 9]] == 0).all()
    expected, count = 9 * 2 * 0.75, explored.sum(1)
    assert count.mean() == pytest.approx(expected, abs=5 * count.std() / math.sqrt(300))
    assert not trial.deterministic
    assert experiment(build(n=9, groups=3), FedFomo(9, 0.1, downloads=8)).deterministic
    greedy = FedFomo(9, 0.1, downloads=2, epsilon=0.0)
    assert not experiment(build(n=9, groups=3), greedy).deterministic
    assert experiment(build(n=9, groups=3), replace(greedy, ties="index")).deterministic


def test_random_choice_is_uniform_and_greedy_choice_takes_the_largest() -> None:
    affinity = np.tile(np.array([[1.0, 0.2, 0.9, 0.0, 0.9]]), (4000, 5, 1))
    everyone, who = np.ones((4000, 5), dtype=bool), np.zeros((4000, 1), dtype=np.int64)
    greedy = choose(Streams(0), np.arange(4000), 1, who, everyone, affinity, 3, 0.0, "index")
    assert (greedy.clients[:, 0] == [0, 2, 4, 1]).all(), "ties go to the smaller number"
    chance = choose(Streams(0), np.arange(4000), 1, who, everyone, affinity, 2, 1.0)
    counts = np.bincount(chance.clients[:, 0, 1:].ravel(), minlength=5)
    assert counts[0] == 0
    assert np.abs(counts[1:] - 2000).max() < 5 * math.sqrt(1000)
    assert (chance.origin[:, 0, 1:] == EXPLORE).all()
    few = choose(Streams(0), np.arange(9), 1, who[:9], everyone[:9] & [True, False, True, False, False], affinity[:9],
                 3, 1.0)  # fmt: skip
    assert (few.clients[:, 0] == [0, 2, -1, -1]).all()
    assert (few.origin[:, 0] == [1, 2, 0, 0]).all(), "where all are taken nothing is explored"


def test_ties_are_broken_by_their_own_stream() -> None:
    """Uniformly among the equal, the larger first; what is explored does not depend on it, and equal tables do not
    meet where there is no tie or everything is taken."""
    affinity = np.tile(np.array([[1.0, 0.2, 0.9, 0.2, 0.2]]), (6000, 5, 1))
    everyone, who = np.ones((6000, 5), dtype=bool), np.zeros((6000, 1), dtype=np.int64)
    got = choose(Streams(0), np.arange(6000), 1, who, everyone, affinity, 2, 0.0).clients[:, 0]
    assert (got[:, :2] == [0, 2]).all()
    counts = np.bincount(got[:, 2], minlength=5)
    assert counts[[0, 2]].tolist() == [0, 0]
    assert np.abs(counts[[1, 3, 4]] - 2000).max() < 5 * math.sqrt(6000 * 2 / 9)
    rules: tuple[Any, ...] = ("random", "index")
    by_chance = [choose(Streams(0), np.arange(50), 1, who[:50], everyone[:50], affinity[:50], 2, 0.5, x) for x in rules]
    assert np.array_equal(by_chance[0].origin, by_chance[1].origin)
    apart = np.tile(np.array([[1.0, 0.1, 0.4, 0.3, 0.2]]), (50, 5, 1))
    for table, slots in ((apart, 2), (affinity[:50], 4)):
        same = [choose(Streams(0), np.arange(50), 1, who[:50], everyone[:50], table, slots, 0.5, x) for x in rules]
        assert np.array_equal(same[0].clients, same[1].clients)


@pytest.mark.parametrize(
    ("ties", "low", "strangers"), [("index", (0.75, 0.9), (0.3, 0.5)), ("random", (0.15, 0.25), (0, 0))]
)
def test_low_client_numbers_are_not_favoured(
    ties: Any, low: tuple[float, float], strangers: tuple[float, float]
) -> None:
    """20 clients in 4 contiguous clusters, M = 4, a common start: the share of downloads from clients 0 to 3 (a fifth
    is fair), and of clients that never weigh a model of their own cluster."""
    group = np.repeat(np.arange(4), 5)
    centre = 4.0 * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])[group]
    one = np.tile(np.eye(2), (20, 1, 1))
    problem = QuadraticTargets(A=one, b=centre, H=one, c=centre)
    begin = State(torch.zeros(0, dtype=torch.float64), torch.zeros(20, 2, dtype=torch.float64))
    method = FedFomo(20, 0.2, 2, downloads=4, ties=ties)
    got = run(FedFomoExperiment(problem, method, begin, 20, seed=3), 8, level="proof")
    asked = got["origin"].values >= 2
    share = asked[..., :4].sum() / asked.sum()
    kin = (group[:, None] == group) & ~np.eye(20, dtype=bool)
    never = 1 - (asked.any(1) & kin).any(-1).mean()
    assert low[0] <= share <= low[1]
    assert strangers[0] <= never <= strangers[1]


def test_the_sum_of_the_layers_norms_and_raw_affinities() -> None:
    models, gains = np.array([[3.0, 4.0, 2.0], [1.0, 0.0, -1.0]]), np.array([1.0, -0.5])
    found = mixed(models, gains, norm="layers", layers=(2, 1), affinity="raw")
    np.testing.assert_allclose(found.cost[0].numpy(), [5 + 2, 1 + 1], rtol=1e-15)
    raw = increments(FedFomo(1, 1.0, norm="layers", layers=(2, 1), affinity="raw"), found)
    np.testing.assert_allclose(raw[0].numpy(), [1 / 7, -0.25], rtol=1e-15)
    whole = mixed(models, gains, norm="layers", layers=(3,))
    assert torch.equal(whole.weight, mixed(models, gains).weight), "one layer: the Euclidean norm"


def test_choices_lock_in_once_exploration_has_ended() -> None:
    """Clipped affinities only grow: with ε = 0 and M = 1 client 1 downloads client 0 for ever."""
    trial = experiment(build(n=6), FedFomo(6, 0.2, downloads=1, epsilon=0.0, ties="index"), T=12)
    origin = blocks(trial, (0,))["origin"][0, 1:]
    chosen = (origin == 2).argmax(-1)
    assert (chosen == chosen[0]).all()


# ---- privacy -------------------------------------------------------------------------------------------------


def test_the_accountant_against_an_integral() -> None:
    for mu, epsilon in ((0.5, 0.3), (1.0, 2.0), (3.0, 5.0)):
        excess = quad(lambda x: max(norm.pdf(x - mu) - math.exp(epsilon) * norm.pdf(x), 0.0), -12, 15, limit=400)[0]  # noqa: B023
        assert delta_of(mu, epsilon) == pytest.approx(excess, rel=1e-5)
        assert epsilon_of(mu, delta_of(mu, epsilon)) == pytest.approx(epsilon, rel=1e-9)
    assert epsilon_of(0.0, 1e-5) == 0.0
    assert epsilon_of(math.inf, 1e-5) == math.inf
    grid = [epsilon_of(x, 1e-5) for x in (0.1, 0.5, 1.0, 2.0, 8.0, 40.0)]
    assert grid == sorted(grid)
    assert all(np.isfinite(grid))


def test_the_budget_counts_every_step_of_every_round_and_the_validation_losses() -> None:
    problem = build_samples(n=4, samples=5, validation=3)
    open_ = run(experiment(problem, FedFomo(2, 0.3, 3, downloads=2, privacy=Privacy(1.0, 2.0)), T=9), 2)
    steps = 3 * open_["cohort"].values.sum(1)
    assert np.array_equal(open_["privacy_steps"], steps)
    np.testing.assert_allclose(
        open_["epsilon_train"], [[epsilon_of(math.sqrt(k) / 2.0, 1e-5) for k in row] for row in steps], rtol=1e-12
    )
    mixing = open_["mixed"].values.any(1)
    assert (open_["epsilon_validation"].values[mixing] == -1).all(), "weights read the validation split: no guarantee"
    told = Privacy(1.0, 2.0, loss_bound=4.0, loss_noise=3.0)
    closed = run(experiment(problem, FedFomo(4, 0.3, 3, downloads=2, privacy=told, epsilon=0.0), T=9), 2)
    assert (closed["privacy_evaluations"] == 8 * 4).all()
    np.testing.assert_allclose(closed["epsilon_validation"], epsilon_of(math.sqrt(32) / 3.0, 1e-5), rtol=1e-12)


def test_one_sample_moves_a_private_step_by_at_most_its_clip() -> None:
    """Sensitivity: Σ clip(g_s) changes by at most C when a sample is dropped."""
    problem = build_samples(n=1, groups=1, samples=6, deviation=30.0)
    trial = experiment(problem, FedFomo(1, 1.0, privacy=Privacy(0.7, 1.0)))
    x = np.array([0.4, -2.0])
    full = reference.Model(trial).slope(0, x) * 6
    for s in range(6):
        g = problem.curvature * (x - problem.X[0, s].numpy())
        part = g * min(1.0, 0.7 / np.linalg.norm(g))
        assert np.linalg.norm(part) <= 0.7 + 1e-12
        assert np.linalg.norm(full - (full - part)) <= 0.7 + 1e-12


# ---- problems ------------------------------------------------------------------------------------------------

TARGETS = [(name, k) for name, f in FAMILIES.items() for k in range(len(f.examples))
           if name in ("clusters", "quadratic_targets_arrays", "cluster_samples", "cluster_samples_arrays",
                       "double_well")]  # fmt: skip


@pytest.mark.parametrize(("name", "k"), TARGETS)
def test_target_losses_and_their_constants(name: str, k: int) -> None:
    problem = build_problem({"family": name, **FAMILIES[name].examples[k]})
    assert isinstance(problem, TargetProblem)
    rng, n, d = np.random.default_rng(1), problem.n, problem.d_u + problem.d_v
    judge, known = Judge(problem, np.arange(n)), problem.target_constants
    x, y = (torch.from_numpy(3 * rng.normal(size=(200, n, d))).requires_grad_() for _ in range(2))
    values = judge.value(x, problem.everyone())
    values.sum().backward()
    g = judge.grad(x.detach(), problem.everyone())
    assert x.grad is not None
    torch.testing.assert_close(g, x.grad, rtol=1e-12, atol=1e-11)
    assert (values.detach().amin(0) >= torch.tensor(known.infima) - 1e-12).all()
    z = y.detach()
    change, moved = judge.grad(z, problem.everyone()) - g, z - x.detach()
    if math.isfinite(known.L.value):
        ratio = (change.norm(dim=-1) / moved.norm(dim=-1)).max()
        assert 0.9 * known.L.value <= ratio <= known.L.value * (1 + 1e-9)
    curvature = ((change * moved).sum(-1) / moved.square().sum(-1)).min()
    assert curvature >= -known.weak.value - 1e-9
    assert known.convex == (known.weak.value == 0)
    there = problem.to("cpu")
    torch.testing.assert_close(
        judge.value(z, problem.everyone()), Judge(there, np.arange(n)).value(z, there.everyone()), rtol=0, atol=0
    )


def test_clusters_are_as_far_and_as_biased_as_asked() -> None:
    for groups in (1, 2, 3, 5):
        middle = centres(groups, 4, 3.0)
        apart = np.linalg.norm(middle[:, None] - middle[None], axis=-1)
        np.testing.assert_allclose(apart[~np.eye(groups, dtype=bool)], 3.0, rtol=1e-12)
    problem = build(n=6, groups=2, bias=0.4, separation=3.0, shift=1)
    form = Judge(problem, np.arange(6)).isotropic
    assert form is not None
    assert form.separation == pytest.approx(3.0, rel=1e-12)
    assert form.bias == pytest.approx(math.hypot(3.0, 0.0), abs=0.41), "targets lie in the other cluster"
    assert Judge(build(n=6, bias=0.4), np.arange(6)).isotropic.bias == pytest.approx(0.4, rel=1e-12)  # pyright: ignore[reportOptionalMemberAccess]
    samples = build_samples(n=4, samples=2000, validation=2000, deviation=0.5, separation=2.0)
    np.testing.assert_allclose(samples.X.mean(1), samples.c, atol=0.06)
    w = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 2)))
    empty = w[:, :0]
    np.testing.assert_allclose(
        samples.target_value(empty, w, samples.everyone()),
        samples.population_value(empty, w, samples.everyone()), rtol=0.1,
    )  # fmt: skip


# ---- pictures ------------------------------------------------------------------------------------------------


def test_pictures_say_what_their_data_say() -> None:
    weights = fedfomo.weights(replicates=1)
    assert len(fedfomo.draw_weights(weights).axes) == 6
    assert np.allclose(weights["weight"].values.sum(-1).max(), 1.0)
    assert "no weight goes across clusters" in fedfomo.words_weights(weights)
    recovery = fedfomo.recovery(36, starts=1)
    assert len(fedfomo.draw_recovery(recovery).axes) == 2
    assert (recovery["needed"] <= recovery["bound"]).all()
    assert (recovery["needed"] > 0).any()
    assert "R = 8: at most" in fedfomo.words_recovery(recovery)
    losses = fedfomo.losses(8)
    assert len(fedfomo.draw_losses(losses).axes) == 2
    assert float(losses["personal"][-1].mean()) < float(losses["local"][-1].mean())
    np.testing.assert_allclose(losses["bits"][-1] / losses["bits_averaged"][-1], 2.5, rtol=0.15)
    assert "FedAvg" in fedfomo.words_losses(losses)


# ---- settings that make no sense -----------------------------------------------------------------------------

BAD: list[tuple[Any, str]] = [
    (lambda: FedFomo(0, 0.1), "algorithm.m must be an integer >= 1; got 0"),
    (lambda: FedFomo(1, 0.0), "algorithm.gamma must be a finite number > 0; got 0.0"),
    (lambda: FedFomo(1, 0.1, 0), "algorithm.tau must be an integer >= 1; got 0"),
    (lambda: FedFomo(1, 0.1, downloads=-1), "fedfomo.downloads must be an integer >= 0; got -1"),
    (lambda: FedFomo(1, 0.1, norm="l2"), "fedfomo.norm must be one of euclidean, l1, squared, layers, none; got 'l2'"),  # pyright: ignore
    (lambda: FedFomo(1, 0.1, epsilon=1.5), "fedfomo.epsilon must be at most 1; got 1.5"),
    (lambda: FedFomo(1, 0.1, ties="first"), "fedfomo.ties must be one of random, index; got 'first'"),  # pyright: ignore
    (
        lambda: FedFomo(1, 0.1, norm="layers"),
        "fedfomo.layers must be given with norm 'layers', and with no other; got None with norm 'layers'",
    ),
    (
        lambda: FedFomo(1, 0.1, layers=(1, 2)),
        "fedfomo.layers must be given with norm 'layers', and with no other; got [1, 2] with norm 'euclidean'",
    ),
    (
        lambda: FedFomo(1, 0.1, norm="layers", layers=(1, 2)).check(build(n=2)),
        "fedfomo.layers must add up to d_u + d_v = 2, the size of a model; got [1, 2]",
    ),
    (lambda: FedFomo(1, 0.1, margin=1.0, norm="l1"), "fedfomo.margin must be 0 unless norm is 'euclidean'; got 1"),
    (lambda: Privacy(0.0, 1.0), "privacy.clip must be a finite number > 0; got 0.0"),
    (lambda: Privacy(1.0, 1.0, 1.0), "privacy.delta must be less than 1; got 1.0"),
    (
        lambda: Privacy(1.0, 1.0, loss_noise=1.0),
        "privacy.loss_bound and privacy.loss_noise must be given together or not at all; got loss_bound = None,"
        " loss_noise = 1.0",
    ),
    (lambda: experiment(build(n=4), FedFomo(5, 0.1)), "algorithm.m must be at most problem.n = 4; got 5"),
    (
        lambda: experiment(build(n=4), FedFomo(4, 0.1, targets=(0, 1))),
        "fedfomo.targets must hold a client's number, 0 to 3, for each of 4 clients; got [0, 1]",
    ),
    (
        lambda: experiment(build(n=4), FedFomo(4, 0.1, privacy=Privacy(1.0, 1.0))),
        "[privacy] must be left out unless problem.family is cluster_samples or cluster_samples_arrays, whose losses"
        " are sums over samples; got 'quadratic_targets'",
    ),
    (
        lambda: experiment(build_samples(n=4), FedFomo(4, 0.1, privacy=Privacy(1.0, 1.0)), noise=NOISE),
        "noise.sigma_v must be 0 with [privacy], which adds noise of its own; got 0.4",
    ),
    (lambda: experiment(build(n=4), FedFomo(4, 0.1), T=0), "run.T must be an integer >= 1; got 0"),
    (lambda: build(n=2, groups=3), "groups must be at most n = 2; got 3"),
    (lambda: build(n=5, groups=4, d_v=2),
     "groups must be at most d_u + d_v + 1 = 3, so that centres can be equally far; got 4"),
    (lambda: scalars([1.0]).__class__(A=[[[-1.0]]], b=[[0.0]], H=[[[1.0]]], c=[[0.0]]),
     "A must hold positive semidefinite matrices; got the eigenvalue -1"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "sentence"), BAD, ids=range(len(BAD)))
def test_settings_that_make_no_sense(make: Any, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == sentence


def test_other_engines_and_missing_constants_are_refused() -> None:
    trial = experiment(build(n=4), FedFomo(4, 0.1))
    with pytest.raises(InputError, match="engine 'fused' cannot run this experiment: FedFomo has no compiled kernel"):
        run(trial, 1, engine="fused")
    huber = build_problem({"family": "huber", "n": 2, "d_u": 2, "rows": 2})
    with pytest.raises(InputError, match=r"algorithm\.eta must be left out, and gamma given"):
        experiment(huber, FedFomo(2, 0.1)).with_eta(0.5)
    assert experiment(build(n=4, curvature=2.0), FedFomo(4, 1.0)).with_eta(0.5).algorithm.gamma == 0.25
