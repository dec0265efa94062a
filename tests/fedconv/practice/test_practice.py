"""Training by every method: against plain loops, against the runs of the theory, statistics, step sizes, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedconv.core.run import Experiment, run
from fedconv.core.streams import Cause, Streams
from fedconv.methods.split import Algorithm, FedAlt, FedSim, State
from fedconv.methods.split.minibatch import BatchExperiment, MiniBatch
from fedconv.practice import METHODS, Recipe, best_step, compare, fit, paired, recipes, train
from fedconv.practice.draws import Draws
from fedconv.practice.paired import interval, sign_flips
from fedconv.practice.rules import rule_of
from fedconv.problems.compiled.xoshiro import next_word
from fedconv.problems.errors import InputError
from fedconv.problems.modules.data import synthetic, train_validation_test
from fedconv.problems.modules.models import mlp, split, start_of
from fedconv.problems.modules.problem import ModuleProblem
from fedconv.problems.noise import Noise

CLIENTS = synthetic(n=4, inputs=5, classes=3, rows=(12, 30, 9, 21), seed=1)
ROWS, VALIDATION, TEST = train_validation_test(CLIENTS, 0.2, 0.25)
SETTINGS: dict[str, Any] = {
    "m": 2, "rounds": 3, "tau_u": 2, "tau_v": 2, "gamma_u": 0.3, "gamma_v": 0.2, "lam": 0.7, "inner_steps": 3,
    "finetune_steps": 4, "batch": 3,
}  # fmt: skip
PLAIN = recipes(**SETTINGS)
LOADED = recipes(**SETTINGS, weight_decay=0.05, dropout=0.4)


def problem(personal: Any = "layers.1", **options: Any) -> ModuleProblem:
    return ModuleProblem(mlp((5, 4, 3), seed=2), ROWS, personal=personal, nu=0.01, **options)


def starts(seed: int) -> tuple[Tensor, Tensor]:
    """A start of its own for every seed."""
    return start_of(problem(), mlp((5, 4, 3), seed=10 + seed))


# ---- one client after another ---------------------------------------------------------------------------------


class Loops:
    """Every method once more for one seed: a dictionary of parameters a client, autograd, random numbers one by one."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.recipe, self.streams = recipe, Streams(seed)
        self.model: Any = mlp((5, 4, 3), seed=10 + seed).double()
        self.start = {k: p.detach().clone() for k, p in self.model.named_parameters()}
        self.v_names = [k for k in self.start if k.startswith("layers.1")]
        self.u_names = [k for k in self.start if k not in self.v_names]

    def numbers(self, cause: Cause, t: int) -> Iterator[float]:
        state = self.streams.states(cause, np.zeros(1, dtype=np.int64), t)[0]
        while True:
            yield ((int(next_word(state)) >> 11) + 0.5) / 2.0**53

    def steps(self, cause: Cause, t: int, clients: list[int], count: int, repeats: int = 1) -> list[list[Any]]:
        """[client][step]: the client's row numbers (or None) and mask (or None)."""
        recipe, unit, coin = self.recipe, self.numbers(cause, t), self.numbers(Cause.MASK, 2 * t + (cause == 2))
        rows: dict[tuple[int, int], Any] = {}
        for i in clients:
            for j in range(count):
                size = len(ROWS[i][1])
                drawn = None if recipe.batch is None else [int(next(unit) * size) for _ in range(recipe.batch)]
                rows[i, j] = drawn
        length = recipe.batch or max(len(y) for _, y in ROWS)
        out: dict[int, list[Any]] = {i: [] for i in clients}
        for j in range(count):
            for _ in range(repeats):
                for i in clients:
                    mask = None
                    if recipe.dropout > 0:
                        units = [[next(coin) > recipe.dropout for _ in range(4)] for _ in range(length)]
                        mask = torch.tensor(units).double() / (1 - recipe.dropout)
                    out[i].append((rows[i, j], mask))
        return [out[i] for i in clients]

    def descend(
        self, w: dict[str, Tensor], i: int, names: list[str], gammas: dict[str, float], step: Any, anchor: Any = None
    ) -> dict[str, Tensor]:
        """One local step of the parameters ``names``."""
        X, y = ROWS[i]
        rows, mask = step
        if rows is not None:
            X, y = X[rows], y[rows]
        at = {k: p.clone().requires_grad_(k in names) for k, p in w.items()}
        out = functional_call(self.model, at, (X,) if mask is None else (X, mask[: len(X)]))
        loss = nn.functional.cross_entropy(out, y) + 0.005 * sum(p.square().sum() for p in at.values())
        slopes = dict(zip(names, torch.autograd.grad(loss, [at[k] for k in names]), strict=True))
        moved = dict(w)
        for k in names:
            slope = slopes[k] + self.recipe.weight_decay * w[k]
            if anchor is not None:
                slope = slope + self.recipe.lam * (w[k] - anchor[k])
            moved[k] = w[k] - gammas[k] * slope
        return moved

    def run(self) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
        """(before, after): every client's whole model."""
        r, n = self.recipe, len(ROWS)
        everything = list(self.start)
        fast, slow = dict.fromkeys(everything, r.gamma_u), dict.fromkeys(everything, r.gamma_v)
        blocks = {k: r.gamma_v if k in self.v_names else r.gamma_u for k in everything}
        server = dict(self.start)
        kept = [dict(self.start) for _ in range(n)]

        def proximal(w: dict[str, Tensor], i: int, steps: list[Any]) -> tuple[Any, Any]:
            center, theta = w, w
            for j in range(r.tau_u):
                for step in steps[j * r.inner_steps : (j + 1) * r.inner_steps]:
                    theta = self.descend(theta, i, everything, slow, step, center)
                center = {k: center[k] - r.gamma_u * r.lam * (center[k] - theta[k]) for k in center}
            return center, theta

        for t in range(r.rounds):
            cohort = self.streams.cohorts(np.zeros(1, dtype=np.int64), t, n, r.m)[0, : r.m].tolist()
            repeats = r.inner_steps if r.method == "pfedme" else 1
            of_u = self.steps(Cause.NOISE_U, t, cohort, r.tau_u, repeats)
            of_v = self.steps(Cause.NOISE_V, t, cohort, r.tau_v)
            sent = []
            for i, steps_u, steps_v in zip(cohort, of_u, of_v, strict=True):
                if r.method in ("fedavg", "fedavg_finetune", "ditto"):
                    w = server
                    for step in steps_u:
                        w = self.descend(w, i, everything, fast, step)
                    sent.append(w)
                if r.method == "ditto":
                    for step in steps_v:
                        kept[i] = self.descend(kept[i], i, everything, slow, step, server)
                if r.method == "local":
                    for step in steps_v:
                        kept[i] = self.descend(kept[i], i, everything, slow, step)
                if r.method == "pfedme":
                    sent.append(proximal(server, i, steps_u)[0])
                if r.method == "fedalt":
                    w = {k: (kept[i] if k in self.v_names else server)[k] for k in everything}
                    for step in steps_v:
                        w = self.descend(w, i, self.v_names, slow, step)
                    for step in steps_u:
                        w = self.descend(w, i, self.u_names, fast, step)
                    kept[i] = w
                    sent.append(w)
                if r.method == "fedsim":
                    w = {k: (kept[i] if k in self.v_names else server)[k] for k in everything}
                    for step in steps_u:
                        w = self.descend(w, i, everything, blocks, step)
                    kept[i] = w
                    sent.append(w)
            if sent:
                server = {k: torch.stack([w[k] for w in sent]).mean(0) for k in everything}
        if r.method in ("fedalt", "fedsim"):
            before = [{k: (w if k in self.v_names else server)[k] for k in everything} for w in kept]
        else:
            before = kept if r.method in ("local", "ditto") else [server] * n
        if r.method == "fedavg":
            return before, before
        if r.method == "pfedme":
            last = self.steps(Cause.NOISE_U, r.rounds, list(range(n)), r.tau_u, r.inner_steps)
            return before, [proximal(server, i, last[i])[1] for i in range(n)]
        last = self.steps(Cause.NOISE_V, r.rounds, list(range(n)), r.last_steps)
        names = self.v_names if r.method in ("fedalt", "fedsim") else everything
        after = []
        for i, w in enumerate(before):
            for step in last[i]:
                w = self.descend(w, i, names, slow, step, server if r.method == "ditto" else None)
            after.append(w)
        return before, after


def flat(models: list[dict[str, Tensor]]) -> Tensor:
    return torch.stack([torch.cat([p.reshape(-1) for p in w.values()]) for w in models])


@pytest.mark.parametrize("batch", [3, None])
@pytest.mark.parametrize("load", ["plain", "loaded"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_its_plain_loop(method: str, load: str, batch: int | None) -> None:
    """Two seeds with starts of their own, clients of unequal size; loaded: weight decay and dropout."""
    recipe = replace({"plain": PLAIN, "loaded": LOADED}[load][method], batch=batch)
    got = fit(problem(), recipe, [0, 5], starts=starts)
    for r, seed in enumerate((0, 5)):
        for found, want in zip((got.before[r], got.after[r]), Loops(recipe, seed).run(), strict=True):
            torch.testing.assert_close(found, flat(want), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_module_that_vmap_cannot_take_trains_to_the_same_models(method: str) -> None:
    slow = problem()
    slow.vectorised = False
    for batch in (2, None):
        recipe = replace(LOADED[method], batch=batch, rounds=2)
        fast, looped = (fit(p, recipe, [1]) for p in (problem(), slow))
        torch.testing.assert_close(looped.after, fast.after, rtol=1e-10, atol=1e-12)


# ---- the theory's own runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [FedAlt(2, 0.3, 0.2, tau_u=2, tau_v=2), FedSim(2, 0.3, 0.2, tau_u=2, tau_v=2)])
def test_fedalt_and_fedsim_are_the_runs_of_the_theory(algorithm: Algorithm) -> None:
    """Without decay and dropout: mini-batches, and all rows; one seed bit for bit, several up to summation."""
    ground, recipe = problem(), PLAIN[algorithm.name]
    start = State(*ground.start())
    for batch in (3, None):
        together = fit(ground, replace(recipe, batch=batch), [3, 8])
        for j, seed in enumerate((3, 8)):
            if batch is None:
                trial = Experiment(ground, algorithm, Noise("zero"), start, 3, seed)
            else:
                trial = BatchExperiment(ground, algorithm, MiniBatch(batch=batch), start, 3, seed)
            trace = run(trial, 1, engine="eager")
            alone = fit(ground, replace(recipe, batch=batch), [seed])
            assert alone.F is not None
            assert together.F is not None
            assert alone.F_final is not None
            for name, mine in (("u_final", alone.state.u), ("v_final", alone.state.v), ("F", alone.F)):
                assert np.array_equal(np.asarray(mine), trace[name].values), name
            assert np.array_equal(alone.F_final, trace["F_final"].values)
            assert np.array_equal(together.sampled[j], trace["cohort"].values[0])
            np.testing.assert_allclose(together.F[j], trace["F"].values[0], rtol=1e-10)
            torch.testing.assert_close(together.after[j], alone.after[0], rtol=1e-10, atol=1e-13)


def test_the_ends_of_partial_personalization_are_fedavg_and_local_training() -> None:
    alt = replace(PLAIN["fedalt"], gamma_v=0.3)
    none, full = problem(()), problem("*")
    assert torch.equal(fit(none, alt, [0]).before, fit(none, PLAIN["fedavg"], [0]).before)
    assert torch.equal(fit(full, PLAIN["fedalt"], [0]).after, fit(full, PLAIN["local"], [0]).after)


def test_methods_share_cohorts_rows_and_what_they_have_in_common() -> None:
    ground, seeds = problem(), [0, 1]
    fits = {m: fit(ground, replace(r, rounds=1), seeds) for m, r in LOADED.items()}
    for other in fits.values():
        assert np.array_equal(other.sampled, fits["fedavg"].sampled)
        assert other.sampled.sum(-1).tolist() == [[2]] * 2
    assert torch.equal(fits["ditto"].state.u, fits["fedavg"].state.u)
    assert torch.equal(fits["fedavg_finetune"].before, fits["fedavg"].before)
    assert torch.equal(fits["fedavg"].after, fits["fedavg"].before)
    assert not torch.equal(fits["ditto"].before, fits["fedavg"].before)
    apart = ~fits["local"].sampled[0].any(0)
    assert apart.sum() == 2, "clients that were never sampled"
    start = ground.joined(*ground.start())
    assert torch.equal(fits["local"].before[0, apart], start[apart])
    assert torch.equal(fits["ditto"].before[0, apart], start[apart])
    assert not torch.equal(fits["local"].after[0, apart], start[apart])


def test_the_limits_of_lambda() -> None:
    """Ditto with tiny λ trains alone on FedAvg's rounds; pFedMe's model stays within its envelope's reach of w."""
    free = fit(problem(), replace(PLAIN["ditto"], lam=1e-14), [0])
    torch.testing.assert_close(free.after, fit(problem(), PLAIN["local"], [0]).after, rtol=1e-9, atol=1e-11)
    spread = []
    for lam, gamma in ((0.5, 0.05), (50.0, 0.005)):
        got = fit(problem(), replace(PLAIN["pfedme"], lam=lam, gamma_v=gamma, gamma_u=1 / lam, inner_steps=60), [0])
        spread.append(float((got.after - got.before).norm()))
    assert spread[1] < 0.1 * spread[0]


def test_a_proximal_point_is_found() -> None:
    """All rows, many inner steps, one outer step: λ(w − θ_i) = ∇F_i(θ_i)."""
    ground = problem()
    recipe = Recipe("pfedme", m=4, rounds=1, tau_u=1, gamma_u=0.5, gamma_v=0.2, lam=2.0, inner_steps=80)
    got = fit(ground, recipe, [0])
    whole = ground.with_personal(())
    theta, w = got.after, got.before
    slope = whole.grad_u(theta, theta[..., :0], ground.everyone())
    torch.testing.assert_close(recipe.lam * (w - theta), slope, rtol=1e-8, atol=1e-10)


# ---- what is drawn --------------------------------------------------------------------------------------------


def test_masks_are_kept_units_with_mean_one() -> None:
    draws = Draws(problem(), replace(LOADED["fedavg"], batch=50), [0, 1])
    seen = [keep for _, keep in draws.steps(Cause.NOISE_U, 0, 4, 5)]
    masks = torch.stack([k for k in seen if k is not None])
    assert masks.shape == (5, 2, 4, 50, 4)
    assert set(masks.unique().tolist()) == {0.0, 1 / 0.6}
    # 8000 coins with standard deviation √(0.4/0.6): five standard errors
    assert abs(float(masks.mean()) - 1.0) < 5 * (0.4 / 0.6 / masks.numel()) ** 0.5
    assert not torch.equal(masks[0, 0], masks[0, 1])
    other = next(draws.steps(Cause.NOISE_V, 0, 4, 1))[1]
    assert other is not None
    assert not torch.equal(other, masks[0])


def test_seeds_differ_and_do_not_touch_each_other() -> None:
    whole = fit(problem(), LOADED["fedsim"], [4, 2, 0])
    alone = fit(problem(), LOADED["fedsim"], [2])
    torch.testing.assert_close(whole.after[1], alone.after[0], rtol=1e-10, atol=1e-12)
    assert not torch.allclose(whole.after[0], whole.after[1], rtol=1e-3)


# ---- the record -----------------------------------------------------------------------------------------------


def test_the_record_says_what_the_models_do_on_rows_held_out() -> None:
    ground, recipe = problem(weights=[1.0, 2.0, 3.0, 4.0]), LOADED["fedalt"]
    ticks: list[int] = []
    data = train(ground, TEST, recipe, [0, 1], starts=starts, progress=ticks.append)
    got = fit(ground, recipe, [0, 1], starts=starts)
    assert ticks == [1, 1, 1]
    assert dict(data.sizes) == {"seed": 2, "client": 4, "round": 3}
    model: Any = mlp((5, 4, 3)).double()
    for r, i in np.ndindex(2, 4):
        X, y = TEST[i]
        for name, w in (("before", got.before[r, i]), ("after", got.after[r, i])):
            torch.nn.utils.vector_to_parameters(w, model.parameters())
            out = model(X).detach()
            loss = float(nn.functional.cross_entropy(out, y))
            assert float(data[f"loss_{name}"][r, i]) == pytest.approx(loss, rel=1e-10)
            assert float(data[f"accuracy_{name}"][r, i]) == float((out.argmax(-1) == y).double().mean())
    assert data["rows"].values.tolist() == [len(y) for _, y in ROWS]
    assert data["rows_held_out"].values.tolist() == [len(y) for _, y in TEST]
    first = [float(ground.objective(*starts(s))) for s in (0, 1)]
    np.testing.assert_allclose(data["F"].values[:, 0], first, rtol=1e-12)
    assert json.loads(data.attrs["recipe"]) == json.loads(recipe.to_json())
    assert set(json.loads(data.attrs["versions"])) == {"python", "numpy", "torch"}
    assert all(x.attrs["long_name"] for x in data.data_vars.values())


def test_regression_has_losses_and_no_accuracies() -> None:
    clients = synthetic(n=3, inputs=4, classes=2, rows=8, task="regression", seed=0)
    ground = ModuleProblem(mlp((4, 3, 2)), clients, personal="layers.1", loss="squared")
    data = train(ground, clients, replace(PLAIN["fedalt"], rounds=8), [0])
    assert {"accuracy_before", "accuracy_after"}.isdisjoint(data)
    assert float(data["F_final"][0]) < float(data["F"][0, 0])
    everyone = compare(ground, clients, {m: PLAIN[m] for m in ("fedalt", "pfedme")}, [0])
    assert "accuracy_after" not in everyone
    best = best_step(ground, clients, PLAIN["fedalt"], [1e-3, 0.1])
    assert best.gamma_u == best.gamma_v == 0.1


def test_a_seed_that_diverges_is_kept_and_harms_no_other() -> None:
    def wild(seed: int) -> tuple[Tensor, Tensor]:
        u, v = problem().start()
        return (u * 1e200, v * 1e200) if seed == 1 else (u, v)

    for method in METHODS:
        recipe = replace(PLAIN[method], gamma_v=0.2 if PLAIN[method].gamma_v else 0.0, weight_decay=1e150)
        broken = train(problem(), TEST, recipe, [1], starts=wild)
        assert np.isnan(broken["accuracy_after"].values).all(), method
        assert np.isnan(broken["loss_after"].values).all(), method
    data = compare(problem(), TEST, {m: PLAIN[m] for m in ("fedalt", "fedavg")}, [0, 1, 2], starts=wild)
    calm = train(problem(), TEST, PLAIN["fedalt"], [0, 2])
    assert not np.isfinite(data["F"].sel(seed=1).values).any()
    same = data["loss_after"].sel({"method": "fedalt", "seed": [0, 2]})
    np.testing.assert_allclose(same, calm["loss_after"], rtol=1e-10)
    found = paired(data, "fedalt", "fedavg", "loss_after")
    assert (found.low, found.high, found.sign) == (-np.inf, np.inf, 0)
    one = data.sel(seed=[0, 2]).copy(deep=True)
    assert np.isfinite(paired(one, "fedalt", "fedavg", "loss_after").high)
    one["loss_after"][0, 0, 3] = np.nan
    assert paired(one, "fedalt", "fedavg", "loss_after").high == np.inf, "one client that diverged"


def test_methods_side_by_side() -> None:
    chosen = {m: PLAIN[m] for m in METHODS} | {"longer": replace(PLAIN["fedavg"], rounds=5)}
    data = compare(problem(), TEST, chosen, [0, 1], starts=starts)
    assert data["method"].values.tolist() == [*METHODS, "longer"]
    for name in ("accuracy_before", "accuracy_after", "loss_before", "loss_after", "rounds_sampled"):
        assert data[name].dims == ("method", "seed", "client")
        assert np.isfinite(data[name].values).all()
    assert data["F"].dims == ("method", "seed", "round")
    assert data["rows"].dims == ("client",)
    known = np.isfinite(data["F"].values).all(1)
    want = [[m not in ("pfedme", "ditto")] * 3 + [False] * 2 for m in METHODS] + [[True] * 5]
    assert known.tolist() == want
    single = train(problem(), TEST, PLAIN["ditto"], [0, 1], starts=starts)
    assert np.array_equal(data["loss_after"].sel({"method": "ditto"}).values, single["loss_after"].values)
    assert json.loads(data.attrs["recipes"])["longer"]["rounds"] == 5
    with pytest.raises(InputError, match="recipes must hold at least one recipe; got none"):
        compare(problem(), TEST, {}, [0])


# ---- statistics -----------------------------------------------------------------------------------------------


def test_paired_is_students_interval_of_the_differences_of_means_over_clients() -> None:
    from scipy.stats import ttest_rel

    data = compare(problem(), TEST, {m: PLAIN[m] for m in ("fedalt", "fedavg")}, range(6), starts=starts)
    a, b = (data["loss_after"].sel({"method": m}).mean("client").values for m in ("fedalt", "fedavg"))
    found, want = paired(data, "fedalt", "fedavg", "loss_after", error=0.1), ttest_rel(a, b).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((want.low, want.high), rel=1e-10)
    assert (found.mean, found.error, found.n_seeds, found.law) == (pytest.approx((a - b).mean()), 0.1, 6, "normal")
    other = paired(data, "fedavg", "fedalt", "loss_after", error=0.1)
    assert (other.low, other.high, other.sign) == (-found.high, -found.low, -found.sign)
    assert "Student, error 0.1, 6 seeds" in str(found)
    final = paired(data, "fedalt", "fedavg", "F_final")
    assert final.mean == pytest.approx(float((data["F_final"][0] - data["F_final"][1]).mean()))
    for arguments, sentence in (
        (("fedalt", "ditto"), "a method must be one of the dataset's, fedalt, fedavg; got 'ditto'"),
        (("fedalt", "fedavg", "rows"), "field must be one of accuracy_before, .*; got 'rows'"),
    ):
        with pytest.raises(InputError, match=sentence):
            paired(data, *arguments)


def test_sign_flips_are_the_inverted_test() -> None:
    """Against the test itself: a mean is inside where more than error·2^R flips are at least as far out."""
    x = np.array([0.3, -0.1, 0.7, 0.2, 0.55, 0.05])
    flips = 1 - 2 * ((np.arange(64)[:, None] >> np.arange(6)) & 1)
    low, high = sign_flips(x, 4 / 64)
    for mean, inside in ((low - 1e-6, False), (low + 1e-6, True), (high - 1e-6, True), (high + 1e-6, False)):
        sums = flips @ (x - mean)
        tail = min((sums >= sums[0] - 1e-9).sum(), (sums <= sums[0] + 1e-9).sum())
        assert (tail > 2) == inside
    rng = np.random.default_rng(0)
    samples = rng.laplace(size=(2000, 7)) ** 3  # symmetric, with heavy tails
    hit = [low <= 0 <= high for low, high in (sign_flips(row, 0.125) for row in samples)]
    # coverage is exactly 1 − 2·8/128 = 0.875: five standard errors of 2000 trials
    assert abs(np.mean(hit) - 0.875) < 5 * (0.875 * 0.125 / 2000) ** 0.5
    many = rng.normal(0.5, 1.0, 40)
    low, high = sign_flips(many, 0.05)
    student = interval(many, 0.05)
    assert (low, high) == pytest.approx((student.low, student.high), abs=0.08)


def test_where_student_does_not_apply() -> None:
    same = interval(np.full(8, 0.25), 0.05)
    assert (same.law, same.low, same.high, same.sign) == ("symmetric", 0.25, 0.25, 1)
    few = interval(np.full(4, 0.25), 0.05)
    assert (few.law, few.low, few.high, few.sign) == ("symmetric", -np.inf, np.inf, 0)
    for given in (np.array([1.0]), np.array([1.0, np.nan, 2.0]), np.array([1.0, np.inf])):
        found = interval(given, 0.05)
        assert (found.low, found.high, found.n_seeds) == (-np.inf, np.inf, len(given))
    with pytest.raises(InputError, match=r"error must lie in \(0, 1\); got 0"):
        interval(np.ones(3), 0)
    with pytest.raises(InputError, match="law must be 'normal' or 'symmetric'; got 'any'"):
        interval(np.ones(3), 0.1, "any")  # pyright: ignore[reportArgumentType]


# ---- step sizes -----------------------------------------------------------------------------------------------


def test_the_best_step_is_the_best_on_the_rows_it_is_given() -> None:
    recipe, steps = replace(PLAIN["fedalt"], rounds=6), [1e-4, 0.1, (0.5, 0.2), 1e200]
    best = best_step(problem(), VALIDATION, recipe, steps, seeds=[0, 1])
    scores = {}
    for u, v in ((1e-4, 1e-4), (0.1, 0.1), (0.5, 0.2)):
        seen = train(problem(), VALIDATION, replace(recipe, gamma_u=u, gamma_v=v), [0, 1])
        scores[u, v] = (-float(seen["accuracy_after"].mean()), float(seen["loss_after"].mean()))
    assert (best.gamma_u, best.gamma_v) == min(scores, key=lambda k: scores[k])
    assert replace(best, gamma_u=recipe.gamma_u, gamma_v=recipe.gamma_v) == recipe
    assert len(set(scores.values())) == 3
    flipped = [(X, (y + 1) % 3) for X, y in VALIDATION]
    assert best_step(problem(), flipped, recipe, steps, seeds=[0, 1]) != best, "another split, another choice"
    average = best_step(problem(), VALIDATION, PLAIN["fedavg"], [0.1])
    assert (average.gamma_u, average.gamma_v) == (0.1, 0.0)
    for wrong, sentence in (
        ([], "steps must hold at least one step size; got none"),
        ([0.0], "each of steps must be a finite number > 0; got 0.0"),
        ([(0.1, 0.1, 0.1)], "each of steps must be a number or a pair"),
        ([1e200], "steps must hold a step size with which fedalt does not diverge"),
    ):
        with pytest.raises(InputError, match=sentence):
            best_step(problem(), VALIDATION, recipe, wrong)  # pyright: ignore[reportArgumentType]


# ---- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "change", "sentence"),
    [
        ("fedavg", {"method": "adam"}, "method must be one of local, fedavg, .*; got 'adam'"),
        ("fedavg", {"m": 0}, "m must be an integer >= 1; got 0"),
        ("fedavg", {"rounds": 1.5}, "rounds must be an integer >= 1; got 1.5"),
        ("fedavg", {"batch": 0}, "batch must be an integer >= 1; got 0"),
        ("fedavg", {"tau_u": 0}, "tau_u must be an integer >= 1; got 0"),
        ("fedavg", {"gamma_u": 0.0}, "gamma_u must be a finite number > 0; got 0.0"),
        ("fedavg", {"tau_v": 2}, "tau_v must be 0 for fedavg, which does not use it; got 2"),
        ("local", {"gamma_u": 0.1}, "gamma_u must be 0 for local, which does not use it; got 0.1"),
        ("fedalt", {"lam": 1.0}, "lam must be 0 for fedalt, which does not use it; got 1.0"),
        ("ditto", {"lam": 0.0}, "lam must be a finite number > 0; got 0.0"),
        ("pfedme", {"inner_steps": 0}, "inner_steps must be an integer >= 1; got 0"),
        ("pfedme", {"finetune_steps": 2}, "finetune_steps must be None for pfedme"),
        ("fedavg_finetune", {"finetune_steps": None}, "finetune_steps must be an integer >= 1 for fedavg_finetune"),
        ("fedavg_finetune", {"finetune_steps": 0}, "finetune_steps must be an integer >= 1; got 0"),
        ("fedsim", {"tau_v": 3}, "fedsim has one tau: tau_u must equal tau_v; got 2 and 3"),
        ("fedavg", {"dropout": 1.0}, "dropout must be below 1; got 1.0"),
        ("fedavg", {"weight_decay": -1.0}, "weight_decay must be a finite number >= 0; got -1.0"),
    ],
)
def test_recipes_that_are_refused(method: str, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{sentence}"):
        replace(PLAIN[method], **change)


def test_recipes_for_all_methods_take_what_each_uses() -> None:
    assert list(PLAIN) == list(METHODS)
    assert PLAIN["fedavg"] == Recipe("fedavg", m=2, rounds=3, tau_u=2, gamma_u=0.3, batch=3)
    assert {m: r.last_steps for m, r in PLAIN.items()} == dict.fromkeys(METHODS, 4) | {"fedavg": 0, "pfedme": 0}
    assert Recipe("local", m=1, rounds=1, tau_v=3, gamma_v=0.1).last_steps == 3
    for arguments, sentence in (
        ({"methods": ["adam"]}, "method must be one of"),
        ({"speed": 1}, "a setting must be one of .*; got 'speed'"),
        ({"methods": ["fedavg"], "lam": 1.0}, "setting lam must be used by one of fedavg; none of them does"),
        ({"m": 1}, "settings must give rounds; got m"),
    ):
        with pytest.raises(InputError, match=sentence):
            recipes(**arguments)


def test_problems_starts_and_seeds_that_are_refused() -> None:
    bare = ModuleProblem(nn.Linear(5, 3), ROWS)
    u, v = problem().start()
    uneven = v + torch.arange(4, dtype=torch.float64)[:, None]
    for make, sentence in (
        (lambda: fit(bare, LOADED["fedavg"], [0]), "dropout needs a module with an integer dropout_width .* Linear"),
        (lambda: fit(problem(), replace(PLAIN["fedavg"], m=5), [0]), "m must be at most problem.n = 4; got 5"),
        (lambda: fit(problem(), PLAIN["fedavg"], []), r"seeds must be different integers, at least one; got \[\]"),
        (lambda: fit(problem(), PLAIN["fedavg"], [1, 1]), r"seeds must be different integers, .* \[1, 1\]"),
        (lambda: fit(problem(), PLAIN["fedavg"], [-1]), "each of seeds must be an integer >= 0; got -1"),
        (lambda: fit(problem(), PLAIN["fedavg"], [0], starts=lambda s: (v, u)), "the start must have u of shape"),
        (lambda: fit(problem(), PLAIN["ditto"], [0], starts=lambda s: (u, uneven)), "starts must give every client"),
        (lambda: train(problem(), TEST[:2], PLAIN["fedavg"], [0]), "clients must hold an entry for each of the n = 4"),
    ):
        with pytest.raises(InputError, match=f"^{sentence}"):
            make()
    fit(problem(), PLAIN["fedalt"], [0], starts=lambda s: (u, uneven))


# ---- devices --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))],
)
@pytest.mark.parametrize("method", METHODS)
def test_training_on_a_device(method: str, device: str) -> None:
    moved = problem().to(device)
    got = fit(moved, LOADED[method], [0, 1])
    assert got.after.device.type == device
    here = fit(problem(), LOADED[method], [0, 1])
    torch.testing.assert_close(got.after.cpu(), here.after, rtol=1e-8, atol=1e-10)
    data = got.dataset(TEST)
    np.testing.assert_allclose(data["loss_after"], here.dataset(TEST)["loss_after"], rtol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_everything_is_computed_on_the_problems_device(method: str) -> None:
    """On torch's device "meta", which has shapes and no numbers, and refuses to mix with tensors of the CPU."""
    there, recipe = problem().to("meta"), LOADED[method]
    u, v = (x.expand(2, *x.shape) for x in there.start())
    draws = Draws(there, recipe, [0, 1])
    rule = rule_of(there, recipe, draws)
    state = rule.begin(u, v)
    for t in range(2):
        state = rule.round(state, t, torch.from_numpy(draws.cohorts(t)).to("meta"))
    found = [state.u, state.v, rule.before(state), rule.after(state)]
    found += [rule.objective(state)] if rule.has_objective else []
    assert {x.device.type for x in found} == {"meta"}
    assert found[3].shape == (2, 4, there.d_u + there.d_v)
    here = State(*(torch.zeros_like(x, device="cpu") for x in (state.u, state.v)))
    with pytest.raises(RuntimeError, match=r"(?i)device"):
        rule.round(here, 2, torch.from_numpy(draws.cohorts(2)).to("meta"))


def test_hidden_units_that_are_dropped_come_from_the_module() -> None:
    """Dropout changes training and neither F nor what is measured."""
    ground = problem(split(mlp((5, 4, 3)), "output"))
    dry, wet = PLAIN["fedavg"], replace(PLAIN["fedavg"], dropout=0.4)
    one, other = (train(ground, TEST, r, [0]) for r in (dry, wet))
    assert float(one["F"][0, 0]) == float(other["F"][0, 0])
    assert float(one["F"][0, 1]) != float(other["F"][0, 1])
