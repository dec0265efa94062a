"""Paired statistics by known answers and by coverage, the verdicts they give, and the study end to end, tiny."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import spearmanr, t

from fedconv.analysis.claims import accuracy_statistics as empirical
from fedconv.analysis.claims import digits as digits_study
from fedconv.analysis.claims.accuracy_statistics import Interval, fieller, made_worse, mean_interval, rank_correlation
from fedconv.analysis.claims.claim import Budget
from fedconv.analysis.claims.digits import Scale
from fedconv.analysis.claims.study import PRETRAINING_SEEDS, TUNING_SEEDS, Contender, Study
from fedconv.figures import per_client, personal_share
from fedconv.figures.style import svg
from fedconv.paper_checks.pillutla2022 import practice
from fedconv.practice import fit, recipes, train
from fedconv.problems.errors import InputError
from fedconv.problems.modules.data import Client, synthetic
from fedconv.problems.modules.models import Mode, adapter, mlp, start_of

N, R = 12, 8


def made(**accuracies: Any) -> xr.Dataset:
    """Data of ``compare`` with these accuracies ``(seeds, clients)`` after, and before where named NAME_before."""
    names = [k for k in accuracies if not k.endswith("_before")]
    after = np.stack([np.broadcast_to(accuracies[k], (R, N)) for k in names])
    before = np.stack([np.broadcast_to(accuracies.get(f"{k}_before", accuracies[k]), (R, N)) for k in names])
    dims = ("method", "seed", "client")
    return xr.Dataset(
        {
            "accuracy_before": (dims, before),
            "accuracy_after": (dims, after),
            "loss_after": (dims, 1 - after),
            "rows": ("client", np.arange(10, 10 + N)),
            "rows_held_out": ("client", np.full(N, 50)),
        },
        coords={"method": names, "seed": np.arange(R)},
    )


def seeds(mean: float, spread: float, seed: int = 0) -> np.ndarray:
    """``(R, 1)`` numbers with exactly this mean and about this spread."""
    x = np.random.default_rng(seed).standard_normal((R, 1))
    return mean + spread * (x - x.mean())


# ---- intervals --------------------------------------------------------------------------------------------------


def test_fieller_by_the_definition() -> None:
    """At either limit ρ, Student's statistic of numerator − ρ·denominator is the quantile."""
    rng = np.random.default_rng(1)
    b = 2 + 0.3 * rng.standard_normal(9)
    a = 0.7 * b + 0.2 * rng.standard_normal(9)
    found = fieller(a, b, 0.01)
    assert found.value == pytest.approx(a.mean() / b.mean())
    assert found.low < found.value < found.high
    for limit, sign in ((found.low, 1), (found.high, -1)):
        rest = a - limit * b
        statistic = rest.mean() / (rest.std(ddof=1) / math.sqrt(9))
        assert statistic == pytest.approx(sign * t.ppf(0.99, 8), rel=1e-9)


def test_fieller_does_not_depend_on_units_and_swaps_with_sign() -> None:
    rng = np.random.default_rng(2)
    b, a = 1 + 0.1 * rng.standard_normal(7), 0.4 + 0.1 * rng.standard_normal(7)
    found, scaled, turned = fieller(a, b, 0.02), fieller(100 * a, 100 * b, 0.02), fieller(-a, b, 0.02)
    assert (scaled.value, scaled.low, scaled.high) == pytest.approx((found.value, found.low, found.high))
    assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_fieller_knows_nothing_where_the_denominator_may_be_nothing() -> None:
    rng = np.random.default_rng(3)
    found = fieller(1 + 0.1 * rng.standard_normal(6), 0.01 * rng.standard_normal(6), 0.01)
    assert (found.low, found.high) == (-math.inf, math.inf)
    broken = fieller(np.array([1.0, math.nan]), np.ones(2), 0.01)
    assert (broken.low, broken.high) == (-math.inf, math.inf)
    with pytest.raises(InputError, match="numerator and denominator must be paired"):
        fieller(np.ones(2), np.ones(3), 0.01)


@pytest.mark.parametrize("side", [0, 1])
def test_limits_miss_as_often_as_they_say(side: int) -> None:
    """2000 draws at error 0.05: the misses are binomial; 0.05 ± 0.02 is four standard deviations."""
    rng = np.random.default_rng(4)
    missed = {"mean": 0, "fieller": 0, "rank": 0}
    truth = 6 / math.pi * math.asin(0.5 / 2)  # Spearman's correlation of normal pairs with correlation 0.5
    for _ in range(2000):
        b = 1 + 0.2 * rng.standard_normal(8)
        a = 0.5 * b + 0.2 * rng.standard_normal(8)
        x = rng.standard_normal(24)
        y = 0.5 * x + math.sqrt(0.75) * rng.standard_normal(24)
        for name, found, value in (
            ("mean", mean_interval(a, 0.05), 0.5),
            ("fieller", fieller(a, b, 0.05), 0.5),
            ("rank", rank_correlation(x, y, 0.05), truth),
        ):
            missed[name] += (found.low > value) if side == 0 else (found.high < value)
    for name, count in missed.items():
        assert abs(count / 2000 - 0.05) < 0.02, (name, count)


def test_rank_correlation_is_scipys_and_does_not_claim_certainty() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 6, 20).astype(float), rng.standard_normal(20)
    y += 0.3 * x
    found: Any = spearmanr(x, y)
    assert rank_correlation(x, y, 0.05).value == pytest.approx(float(found.statistic))
    assert rank_correlation(np.exp(x), y**3, 0.05) == rank_correlation(x, y, 0.05)
    perfect = rank_correlation(np.arange(8.0), np.arange(8.0) ** 2, 0.01)
    assert perfect.value == perfect.high == 1.0
    assert 0 < perfect.low < 0.95
    assert rank_correlation(np.ones(8), y[:8], 0.05).low == -1.0
    assert math.isnan(rank_correlation(np.ones(8), y[:8], 0.05).value)
    assert math.isnan(rank_correlation(np.array([1, 2, math.nan, 4]), y[:4], 0.05).value)
    assert rank_correlation(np.arange(3.0), np.arange(3.0), 0.05) == Interval(1.0, -1.0, 1.0)


def test_no_limits_without_spread() -> None:
    for samples in (np.full(5, 0.3), np.array([0.1, math.nan, 0.2]), np.array([0.1, math.inf])):
        found = mean_interval(samples, 0.1)
        assert (found.low, found.high) == (-math.inf, math.inf)


def test_clients_made_worse_are_counted_between_limits() -> None:
    """Three fall far, two rise far, the others do not move beyond what a few rows may be chance for."""
    changes = np.random.default_rng(6).standard_normal((R, N)) * 0.01
    changes[:, :3] -= 0.4
    changes[:, 3:5] += 0.4
    found = made_worse(changes, np.full(N, 30), 0.01)
    assert found.share.low == 3 / N
    assert found.share.high == (N - 2) / N
    assert 3 / N <= found.share.value <= (N - 2) / N
    # one held-out row: a change by 0.4 in every seed can be no more than one row's chance
    coarse = made_worse(changes, np.ones(N, dtype=int), 0.01)
    assert coarse.share.low == 0.0


def test_equal_changes_in_all_seeds_are_not_certain() -> None:
    steady = np.full((3, 2), -0.05)
    found = made_worse(steady, np.array([20, 2000]), 0.01)
    assert found.high[0] > 0
    assert found.high[1] < 0
    assert found.change == pytest.approx([-0.05, -0.05])
    lost = made_worse(np.array([[math.nan, 0.1], [0.1, 0.1]]), np.array([100, 100]), 0.01)
    assert (lost.low[0], lost.high[0]) == (-math.inf, math.inf)


def test_simultaneous_limits_rarely_call_an_unchanged_client_worse() -> None:
    rng = np.random.default_rng(7)
    called = 0
    for _ in range(1000):
        right = rng.binomial(20, 0.8, (2, R, N)) / 20
        called += made_worse(right[0] - right[1], np.full(N, 20), 0.05).share.low > 0
    assert called <= 0.05 * 1000 + 4 * math.sqrt(0.05 * 0.95 * 1000)
    assert called > 5  # nor are they so wide that nothing is ever seen


# ---- verdicts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("partial", "full", "status"),
    [(0.09, 0.10, "holds"), (0.02, 0.10, "violated"), (0.05, 0.10, "inconclusive"), (0.05, -0.1, "premises_unmet"),
     (0.05, 0.0, "inconclusive")],
)  # fmt: skip
def test_recovered(partial: float, full: float, status: str) -> None:
    data = made(fedavg=0.9, fedavg_before=seeds(0.5, 0.01, 1), part=0.5 + seeds(partial, 0.01, 2),
                full=0.5 + seeds(full, 0.01, 3))  # fmt: skip
    found = empirical.recovered(data, "x", "part", "full", error=0.01).verdict
    assert found.status == status
    assert found.bound == 0.5
    assert (found.premises != ()) == (status == "premises_unmet")
    if full:
        assert found.measured == pytest.approx(1 - partial / full)
        assert f"recovers {partial / full:.2f} [" in found.reason


def test_gains_are_over_the_shared_model_of_fedavg() -> None:
    data = made(fedavg=0.9, fedavg_before=0.5, part=0.6)
    assert empirical.gain(data, "part") == pytest.approx(np.full(R, 0.1))
    with pytest.raises(InputError, match="method must be one of fedavg, part; got 'parts'"):
        empirical.gain(data, "parts")
    with pytest.raises(InputError, match="the data must have the field 'accuracy'"):
        empirical.accuracy(data, "part", "accuracy")


@pytest.mark.parametrize(("ahead", "status"), [(0.02, "holds"), (-0.02, "violated"), (0.0, "inconclusive")])
@pytest.mark.parametrize("field", ["accuracy_after", "loss_after"])
def test_better(ahead: float, status: str, field: str) -> None:
    common = seeds(0.5, 0.2, 1)  # differences are paired: what seeds have in common does not matter
    data = made(a=common + seeds(ahead, 0.005, 2), b=common)
    found = empirical.better(data, "x", "a", "b", field, error=0.01).verdict
    assert found.status == status
    assert found.measured == pytest.approx(-ahead, abs=1e-12)
    if status == "holds":
        assert f"ahead in {R} of {R} seeds" in found.reason


@pytest.mark.parametrize(("apart", "status"), [(0.001, "holds"), (-0.001, "holds"), (0.05, "violated"),
                                               (-0.05, "violated"), (0.02, "inconclusive")])  # fmt: skip
def test_small(apart: float, status: str) -> None:
    data = made(a=0.5 + seeds(apart, 0.002), b=0.5)
    found = empirical.small(data, "x", "a", "b", most=0.02, error=0.01).verdict
    assert found.status == status
    assert found.low <= found.measured <= found.high


def test_some_worse_and_its_cure() -> None:
    noise = 0.01 * np.random.default_rng(8).standard_normal((R, N))
    fall = np.where(np.arange(N) < 4, -0.3, 0.3)
    data = made(fedavg=0.5, part=0.5 + fall + noise, cured=0.8 + noise, same=0.5 + noise)
    worse = empirical.some_worse(data, "x", "part", error=0.01).verdict
    assert worse.status == "holds"
    assert (worse.low, worse.measured, worse.high) == (4 / N, 4 / N, 4 / N)
    assert "4 of 12 clients lose accuracy" in worse.reason
    cured = empirical.some_worse(data, "x", "cured", beside="part", error=0.01).verdict
    assert cured.status == "violated"
    assert "without the cure 4" in cured.reason
    assert empirical.some_worse(data, "x", "same", error=0.01).verdict.status == "inconclusive"


def test_little_data_first() -> None:
    rise = np.linspace(-0.2, 0.2, N)
    noise = 0.01 * np.random.default_rng(9).standard_normal((R, N))
    data = made(fedavg=0.5, up=0.5 + rise + noise, down=0.5 - rise + noise, flat=0.5)
    found = {k: empirical.little_data_first(data, "x", k, error=0.01).verdict for k in ("up", "down", "flat")}
    assert {k: f.status for k, f in found.items()} == {"up": "holds", "down": "violated", "flat": "inconclusive"}


def test_table_of_methods() -> None:
    data = made(fedavg=0.9, fedavg_before=seeds(0.5, 0.01), part=0.7)
    shown = empirical.table(data, error=0.01)
    assert float(shown["gain"].sel({"method": "part", "limit": "value"})) == pytest.approx(0.2)
    assert float(shown["before"].sel({"method": "fedavg", "limit": "low"})) < 0.5
    assert shown["after"].attrs["long_name"]


# ---- the study --------------------------------------------------------------------------------------------------

SMALL = Scale(
    n=5, m=3, pretraining=1, rounds=2, tau=2, batch=4, hidden=5, bottleneck=2, seeds=3, steps=(0.3,), lams=(0.5, 2.0)
)


def rows_of(n: int = 4) -> list[Client]:
    return synthetic(n=n, inputs=4, classes=3, rows=(20, 40), spread=1.5, seed=1)


def contender(name: str = "part", method: str = "fedalt", mode: Any = "output", **change: Any) -> Contender:
    given = recipes(m=2, rounds=6, tau_u=2, tau_v=2, gamma_u=1.0, gamma_v=1.0, batch=5, lam=1.0, finetune_steps=2,
                    inner_steps=2)[method]  # fmt: skip
    return Contender(name, replace(given, **change), lambda seed: mlp((4, 6, 3), seed), mode)


def test_a_study_chooses_on_validation_rows_and_judges_on_test_rows() -> None:
    """A step that is far too small loses against one that trains; what is reported is a run of practice.train."""
    study = Study("synthetic", rows_of(), steps=(1e-6, 0.5), seeds=3, tuning_seeds=2)
    one = contender()
    data = study.run([contender("fedavg", "fedavg", "none"), one])
    assert float(data["step"].sel({"method": "part"})) == 0.5
    problem = study.problem(one)
    recipe = replace(one.recipe, gamma_u=0.5, gamma_v=0.5)

    def start(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        return start_of(problem, one.model(seed))

    again = train(problem, study.parts[2], recipe, [0, 1, 2], starts=start)
    assert np.array_equal(empirical.accuracy(data, "part"), again["accuracy_after"].values)
    chosen = train(problem, study.parts[1], recipe, [TUNING_SEEDS, TUNING_SEEDS + 1], starts=start)
    assert float(data["validation"].sel({"method": "part"})) == float(chosen["accuracy_after"].mean())
    assert float(data["share"].sel({"method": "part"})) == pytest.approx(21 / (21 + 30))
    assert float(data["share"].sel({"method": "fedavg"})) == 0.0
    assert data["rows"].dims == ("client",)
    assert all(values.attrs["long_name"] for values in data.data_vars.values())
    assert data["rows_held_out"].values.tolist() == [len(y) for _, y in study.parts[2]]
    assert not np.array_equal(again["accuracy_after"].values[0], again["accuracy_after"].values[1])


def test_runs_begin_at_the_pretrained_model_and_adapters_at_their_own() -> None:
    """With steps so small that nothing moves later, every method is FedAvg's pretrained model."""
    pretraining = contender("first", "fedavg", "none", rounds=15)
    study = Study("synthetic", rows_of(), steps=(0.5,), seeds=3, tuning_seeds=1, pretraining=pretraining)
    models: Any = {"output": lambda s: mlp((4, 6, 3), s), "adapter": lambda s: adapter((4, 6, 3), 2, s)}
    still = {"gamma_u": 1e-12, "gamma_v": 1e-12}
    problem = study.problem(pretraining)
    recipe = replace(pretraining.recipe, gamma_u=0.5)
    begun = study._pretrained()

    def own(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        return start_of(problem, mlp((4, 6, 3), seed - PRETRAINING_SEEDS))

    done = fit(problem, recipe, [PRETRAINING_SEEDS + s for s in (0, 1, 2)], starts=own)
    held = done.dataset(study.parts[2])
    modes: tuple[Mode, ...] = ("output", "adapter")
    for mode in modes:
        one = Contender("part", replace(contender().recipe, **still), models[mode], mode)
        part = study.problem(one)

        def start(seed: int, part: Any = part, one: Any = one) -> tuple[torch.Tensor, torch.Tensor]:
            return study._start(part, one, seed, begun)

        seen = train(part, study.parts[2], one.recipe, [0, 1, 2], starts=start)
        np.testing.assert_allclose(seen["loss_before"].values, held["loss_before"].values, rtol=1e-6)
    fresh = Study("synthetic", rows_of(), steps=(0.5,), seeds=3, tuning_seeds=1)
    shared = contender("go on", "fedavg", "none")
    for one, same in ((shared, False), (replace(shared, scratch=True), True)):
        begins, own_start = (each.run([one])["loss_after"].values for each in (study, fresh))
        assert np.array_equal(begins, own_start) == same
    with pytest.raises(InputError, match="pretraining must be FedAvg with everything shared"):
        Study("synthetic", rows_of(), pretraining=contender())


def test_a_grid_has_every_lambda_and_only_the_steps_that_a_method_uses() -> None:
    grid = replace(contender(method="ditto", mode="none"), lams=(0.1, 1.0)).candidates((0.2, 0.4))
    assert [(r.gamma_u, r.gamma_v, r.lam) for r in grid] == [
        (0.2, 0.2, 0.1), (0.2, 0.2, 1.0), (0.4, 0.4, 0.1), (0.4, 0.4, 1.0),
    ]  # fmt: skip
    assert [(r.gamma_u, r.gamma_v) for r in contender(method="local", mode="none").candidates((0.2,))] == [(0.0, 0.2)]


def test_a_step_that_diverges_is_not_chosen() -> None:
    study = Study("synthetic", rows_of(), steps=(1e200, 0.3), seeds=2, tuning_seeds=1)
    data = study.run([contender(batch=None)])
    assert float(data["step"][0]) == 0.3
    with pytest.raises(InputError, match="contenders must have names of their own; got part, part"):
        study.run([contender(), contender()])
    with pytest.raises(InputError, match="seeds must be at least 2 and tuning_seeds at least 1; got 1, 1"):
        Study("x", rows_of(), seeds=1, tuning_seeds=1)
    with pytest.raises(InputError, match="steps must hold at least one step size"):
        Study("x", rows_of(), steps=())


@pytest.fixture(scope="module")
def suite() -> practice.Suite:
    pytest.importorskip("sklearn")
    return practice.Suite(SMALL)


def test_the_claims_run_end_to_end(suite: practice.Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(practice.SUITES, "quick", suite)
    found = practice.findings("quick", workers=2)
    assert [len(f.evidence) for f in found] == [4, 12, 8]
    for finding, claim in zip(found, practice.CLAIMS, strict=True):
        assert finding.claim == claim.title
        assert len({e.name for e in finding.evidence}) == len(finding.evidence)
        for e in finding.evidence:
            assert e.verdict.error == pytest.approx(practice.ERROR / len(finding.evidence))
            assert e.verdict.reason
            assert e.verdict.replicates == SMALL.seeds
        again = claim.check(Budget(size="quick"))
        assert [e.verdict.measured for e in again] == pytest.approx([e.verdict.measured for e in finding.evidence])
    shown = practice.tables(suite)
    assert set(shown) == {("labels", 0), ("rotations", 0)}
    for one in shown.values():
        assert set(digits_study.BASELINES) <= set(one["method"].values.tolist())
        assert np.isfinite(one["after"].sel({"limit": "value"})).all()


def test_without_scikit_learn_the_claims_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(practice, "available", lambda: False)
    for claim in practice.CLAIMS:
        (only,) = claim.check(Budget())
        assert only.verdict.status == "premises_unmet"
        assert only.verdict.premises == ("scikit-learn, which brings the digits, is installed",)


@pytest.mark.parametrize("module", [personal_share, per_client])
def test_the_figures(module: Any) -> None:
    pytest.importorskip("sklearn")
    data = module.data(SMALL)
    for name, values in data.data_vars.items():
        assert values.attrs["long_name"], name
        assert values.attrs["units"], name
    said = module.words(data)
    assert "label skew: " in said
    assert "quarter turns: " in said
    assert svg(module.draw(data), "k", said).startswith("<svg")
    asked = practice.contenders(practice.Suite(SMALL))
    studies = {skew: digits_study.digits_study(skew, SMALL).run(asked) for skew in digits_study.SKEWS}
    xr.testing.assert_identical(module.data(SMALL, studies), data)
    if module is per_client:
        lost = (data["change"].values[0, 0] < 0).sum()
        assert f"label skew: {lost} of 5 clients lose accuracy" in said
