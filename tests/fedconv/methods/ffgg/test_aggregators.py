"""Robust aggregators: the bounds of Theorem 7A on any input, where they are attained, and slow references."""

from __future__ import annotations

import itertools
import math
from statistics import median

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedconv.analysis.claims.aggregator_search import CASES, Case, groupings, ratios, search
from fedconv.methods.ffgg.robust.aggregators import (
    AGGREGATORS,
    Aggregator,
    CentredClipping,
    GeometricMedian,
    Krum,
    KrumWithoutItself,
    Mean,
    Median,
    MultiKrum,
    TrimmedMean,
    trimmed_mean,
)
from fedconv.methods.ffgg.robust.geometric_median import geometric_median, residual
from fedconv.methods.ffgg.robust.preaggregation import PRE, Bucketing, Defence, NearestNeighbourMixing, Nothing, PreStep
from fedconv.methods.ffgg.robust.robustness import Robustness, kappa_of, least_kappa, published_kappa, robustness_of
from fedconv.problems.errors import InputError

RULES: tuple[Aggregator, ...] = (
    TrimmedMean(), TrimmedMean(3), Median(), GeometricMedian(), Krum(), KrumWithoutItself(), MultiKrum(),
    MultiKrum(1), MultiKrum(3), CentredClipping(),
)  # fmt: skip
PAIRS = [Defence(rule) for rule in RULES]
PAIRS += [Defence(rule, NearestNeighbourMixing()) for rule in RULES if not isinstance(rule, CentredClipping)]
COUNTS = [(3, 1), (4, 1), (5, 1), (5, 2), (6, 2), (7, 2), (7, 3), (8, 3), (9, 4)]


def label(defence: Defence) -> str:
    return f"{defence.pre.name}-{'-'.join(map(str, defence.aggregator.to_dict().values()))}"


def possible(defence: Defence, n: int, f: int) -> bool:
    try:
        defence.check(n, f)
    except InputError:
        return False
    return True


@st.composite
def messages(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Messages (n, d) and f: small integers (ties and lines), real numbers, far attackers, an offset."""
    n, f = draw(st.sampled_from(COUNTS))
    d = draw(st.integers(1, 3))
    whole = npst.arrays(np.float64, (n, d), elements=st.integers(-2, 2).map(float))
    real = npst.arrays(np.float64, (n, d), elements=st.floats(-3, 3).map(lambda v: round(v, 3)))
    x = draw(st.one_of(whole, real))
    x[n - f :] *= draw(st.sampled_from([1.0, 10.0, 1e6]))
    return x + draw(st.sampled_from([0.0, 5.0])), f


def both_sides(defence: Defence, x: np.ndarray, f: int, orders: Tensor | None = None) -> tuple[float, float, float]:
    """‖Agg − x̄_S‖² (its mean over orders), κV + β‖x̄_S‖² and the rounding of the former."""
    n = len(x)
    bound = robustness_of(defence, n, f)
    honest = x[: n - f]
    mean = honest.mean(0)
    given_ = torch.from_numpy(x)
    out = defence(given_, f) if orders is None else defence(given_.expand(len(orders), -1, -1), f, orders)
    error = float((out - torch.from_numpy(mean)).square().sum(-1).mean())
    spread = float(((honest - mean) ** 2).sum(1).mean())
    return error, bound.kappa * spread + bound.beta * float(mean @ mean), 1e-24 * (1 + float((honest**2).sum(1).max()))


# ---- Theorem 7A ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("defence", PAIRS, ids=label)
@given(drawn=messages())
def test_the_bound_holds_on_any_input(defence: Defence, drawn: tuple[np.ndarray, int]) -> None:
    x, f = drawn
    if not possible(defence, len(x), f):
        return
    error, right, rounding = both_sides(defence, x, f)
    assert error <= right * (1 + 1e-9) + rounding


@pytest.mark.parametrize(
    "rule", [TrimmedMean(), Median(), GeometricMedian(), Krum(), MultiKrum(2)], ids=lambda r: r.name
)
@given(x=npst.arrays(np.float64, (6, 2), elements=st.integers(-3, 3).map(float)), far=st.sampled_from([1.0, 1e4]))
def test_the_bound_of_bucketing_holds_in_expectation(rule: Aggregator, x: np.ndarray, far: float) -> None:
    x[5:] *= far
    orders = torch.tensor(list(groupings(6, 2)))
    error, right, rounding = both_sides(Defence(rule, Bucketing(2)), x, 1, orders)
    assert error <= right * (1 + 1e-9) + rounding


def test_groupings_are_all_and_once() -> None:
    found = {frozenset(frozenset(p[i : i + 2]) for i in (0, 2, 4)) for p in groupings(6, 2)}
    assert len(found) == 15 == len(list(groupings(6, 2)))
    every = {
        frozenset(frozenset(p[i : i + 2]) for i in (0, 2, 4)) for p in itertools.permutations(range(6))
    }  # fmt: skip
    assert found == every
    short = list(groupings(7, 3))
    assert len({frozenset([frozenset(p[:3]), frozenset(p[3:6]), frozenset(p[6:])]) for p in short}) == 70 == len(short)


def test_a_short_last_group_counts_like_the_others() -> None:
    """Seven messages in threes: means of three, three and one, in the order given; κ by a plain sum over the groups."""
    x, order = cloud(4)[0, :7], torch.tensor([6, 2, 0, 1, 5, 3, 4])
    pre = Bucketing(3, short=True)
    got = Defence(Mean(), pre)(x, 0, order)
    want = (x[[6, 2, 0]].mean(0) + x[[1, 5, 3]].mean(0) + x[4]) / 3
    torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-14)
    N, f, sizes = 6, 1, [3, 1]
    sigma = sum((N - k) / (k * (N - 1)) for k in sizes) / 2
    eta = (sum((N - k) / (k * (N - 1)) for k in sizes) - 2 / (N - 1)) / 4
    inner = kappa_of(Median(), 3, f).kappa
    found = robustness_of(Defence(Median(), pre), 7, f).kappa
    assert found == pytest.approx((math.sqrt(inner * (sigma - eta)) + math.sqrt(eta)) ** 2, rel=1e-12)
    even = robustness_of(Defence(Median(), Bucketing(3, short=True)), 9, f)
    assert even == robustness_of(Defence(Median(), Bucketing(3)), 9, f)


def line(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


@pytest.mark.parametrize(
    ("rule", "x", "f"),
    [
        (TrimmedMean(), line(0, 0, 1, 1, 1, 9, 9), 2),
        (TrimmedMean(3), line(0, 0, 0, 1, 1, 1, 9, 9), 2),
        (Median(), line(0, 0, 0, 1, 1, 9, 9), 2),
        (Median(), line(0, 0, 1, 1, 1, 9), 1),
        # 2 + 2 honest, nearly on a line; the attackers make 1 the minimiser instead of 0
        (
            GeometricMedian(),
            np.array([[0, 1e-5], [0, -1e-5], [0, 1e-5], [0, -1e-5], [1, 0], [1, 0], [1, 0], [1, 0]]),
            2,
        ),
    ],
    ids=["trimmed mean", "trimmed mean, trim 3", "median, odd", "median, even", "geometric median"],
)
def test_the_bound_is_attained(rule: Aggregator, x: np.ndarray, f: int) -> None:
    error, right, _ = both_sides(Defence(rule), x, f)
    assert 1 - 1e-9 <= error / right <= 1 + 1e-12


@pytest.mark.parametrize("f", [1, 2, 3])
def test_the_geometric_median_bound_is_attained_by_an_end_of_the_segment(f: int) -> None:
    """n = 8 on a line, half at 0 and half at 1: every point between is a minimiser, and 1 is the worst."""
    x = torch.tensor([0.0] * 4 + [1.0] * 4, dtype=torch.float64)[:, None]
    for y in (0.0, 0.3, 1.0):
        assert residual(x, torch.tensor([y], dtype=torch.float64)) == 0
    assert geometric_median(x) == 0.5
    mean = (4 - f) / (8 - f)
    assert (1 - mean) ** 2 / (mean * (1 - mean)) == pytest.approx(kappa_of(GeometricMedian(), 8, f).kappa, rel=1e-12)


@pytest.mark.parametrize(("n", "f"), COUNTS)
@pytest.mark.parametrize("rule", RULES, ids=lambda r: label(Defence(r)))
def test_no_rule_beats_the_lower_bound(rule: Aggregator, n: int, f: int) -> None:
    """f messages 1 and n − f messages 0: either the ones or f of the zeros may be the attackers."""
    if not possible(Defence(rule), n, f) or isinstance(rule, CentredClipping):
        return
    ones_wrong = line(*[0.0] * (n - f), *[1.0] * f)
    zeros_wrong = line(*[1.0] * f, *[0.0] * (n - f))
    case = Case("", Defence(rule), n, f, 1)
    error, _, _ = both_sides(Defence(rule), ones_wrong, f)
    assert error == 0
    assert ratios(case, Robustness(1.0), zeros_wrong[None])[0] == pytest.approx(least_kappa(n, f), rel=1e-12)
    assert kappa_of(rule, n, f).kappa >= least_kappa(n, f) * (1 - 1e-12)


def test_only_the_trimmed_mean_of_f_attains_the_lower_bound() -> None:
    for n, f in COUNTS:
        assert kappa_of(TrimmedMean(), n, f).kappa == pytest.approx(least_kappa(n, f), rel=1e-14)
        for rule in (GeometricMedian(), Krum(), MultiKrum()):
            assert kappa_of(rule, n, f).kappa > least_kappa(n, f)


def test_published_values_are_weaker() -> None:
    seen = 0
    for defence, (n, f) in itertools.product(PAIRS, COUNTS):
        if possible(defence, n, f) and (published := published_kappa(defence, n, f)) is not None:
            seen += 1
            assert robustness_of(defence, n, f).kappa < published
    assert seen > 50


# ---- the search -------------------------------------------------------------------------------------------------

FOUND = {
    "trimmed_mean": 0.999, "trimmed_mean, trim 3": 0.999, "median": 0.999, "median, even n": 0.999,
    "geometric_median": 0.99, "geometric_median, odd n": 0.6, "krum": 0.97, "krum, many honest": 0.5,
    "krum_without_itself": 0.6, "multi_krum": 0.4, "multi_krum, keep 2": 0.35, "centred_clipping": 0.99,
    "nnm + trimmed_mean": 0.3, "nnm + krum": 0.1, "bucketing + trimmed_mean": 0.4, "bucketing + geometric_median": 0.25,
    "bucketing, a short last group, + trimmed_mean": 0.3, "bucketing, a short last group, + krum": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.key)
def test_the_search_comes_near_the_bound_and_never_above(case: Case) -> None:
    slow = isinstance(case.defence.aggregator, GeometricMedian)
    found = search(case, restarts=32 if slow else 64, steps=100 if slow else 400)
    assert FOUND[case.key] <= found.ratio <= 1 + 1e-9
    assert ratios(case, found.robustness, found.x[None], _every(case))[0] == pytest.approx(found.ratio, rel=1e-6)


def _every(case: Case) -> Tensor | None:
    pre = case.defence.pre
    return torch.tensor(list(groupings(case.n, pre.size))) if isinstance(pre, Bucketing) else None


def test_the_search_needs_a_finite_kappa_and_few_groupings() -> None:
    with pytest.raises(InputError, match=r"finite κ .* one attacker"):
        search(Case("", Defence(Mean()), 5, 1, 1))
    with pytest.raises(InputError, match=r"at most 10 messages; got n = 12"):
        search(Case("", Defence(Median(), Bucketing(2)), 12, 1, 1))


# ---- false versions ----------------------------------------------------------------------------------------------

TWO_AT_FIFTY = line(0, 0, 1, 1, 1, 50, 50)


def test_kappa_of_f_over_honest_is_caught() -> None:
    case = Case("", Defence(TrimmedMean()), 7, 2, 1)
    found = ratios(case, Robustness(2 / 5), TWO_AT_FIFTY[None])[0]
    assert found == pytest.approx(5 / 3, rel=1e-12)
    assert search(case, Robustness(2 / 5), restarts=16, steps=50).ratio > 1.6


def test_trimming_fewer_than_f_is_caught() -> None:
    honest = TWO_AT_FIFTY[:5]
    out = float(trimmed_mean(torch.from_numpy(TWO_AT_FIFTY), 1))
    assert (out - honest.mean()) ** 2 / (kappa_of(TrimmedMean(), 7, 2).kappa * honest.var()) > 3e2
    # against κ = b/(n−f−b) with b = 1
    assert (out - honest.mean()) ** 2 / (1 / 4 * honest.var()) > 1e3
    with pytest.raises(InputError, match=r"trim must be at least f = 2, or attackers stay in; got 1"):
        robustness_of(Defence(TrimmedMean(1)), 7, 2)


def test_the_mean_is_caught() -> None:
    for claimed in (1.0, 1e3):
        far = TWO_AT_FIFTY * np.array([1, 1, 1, 1, 1, 1e3, 1e3])[:, None]
        assert ratios(Case("", Defence(Mean()), 7, 2, 1), Robustness(claimed), far[None])[0] > 1e3
    found = kappa_of(Mean(), 7, 2)
    assert found.kappa == math.inf
    assert "one attacker" in found.reason
    assert kappa_of(Mean(), 7, 0) == Robustness(0.0)


@pytest.mark.parametrize("case", [c for c in CASES if FOUND[c.key] >= 0.5], ids=lambda c: c.key)
def test_half_of_kappa_is_caught(case: Case) -> None:
    """Where the search comes within a factor two, it refutes half of κ."""
    bound = robustness_of(case.defence, case.n, case.f)
    half = Robustness(bound.kappa / 2, bound.beta / 2)
    steps = 100 if isinstance(case.defence.aggregator, GeometricMedian) else 300
    assert search(case, half, restarts=32, steps=steps).ratio > 1


# ---- numbers of the table ------------------------------------------------------------------------------------------


def test_the_table_once_more() -> None:
    """The page's formulas, typed a second time, at n = 12, f = 3 (N = 9, u = 6)."""
    n, f, N, u = 12, 3, 9, 6
    root = math.sqrt
    rho = {r: root(N / u * (1 + N / (N - r + 1))) + root(f / u) for r in (2, 9)}
    multi = {
        2: max(2 / 2 * root(7 / 2), 1 / 2 * rho[2] + 1 / 2 * root(8), rho[2]),
        9: max(j / 9 * rho[9] + (9 - j) / 9 * root(j / (9 - j)) for j in range(4)),
    }
    trimmed = f / u
    sigma, eta = (N - 2) / (2 * (N - 1)), f / ((n - 2 * f) * (N - 1))
    for defence, kappa in {
        Defence(TrimmedMean()): trimmed,
        Defence(TrimmedMean(4)): 4 / 5,
        Defence(Median()): 5 / 4,
        Defence(GeometricMedian()): 2.0,
        Defence(Krum()): (1.5 + root(0.5)) ** 2,
        Defence(KrumWithoutItself()): (root(2 * 9 * 7 / (8 * 5)) + root(4 / 5)) ** 2,
        Defence(MultiKrum(2)): multi[2] ** 2,
        Defence(MultiKrum()): multi[9] ** 2,
        Defence(MultiKrum(9)): multi[9] ** 2,
        Defence(CentredClipping()): 1 / 4,
        Defence(TrimmedMean(), NearestNeighbourMixing()): 8 * 3 / 9 * (1 + trimmed),
    }.items():
        assert robustness_of(defence, n, f).kappa == pytest.approx(kappa, rel=1e-13), defence
    assert robustness_of(Defence(CentredClipping()), n, f).beta == pytest.approx(1 / 2)
    bucketed = robustness_of(Defence(TrimmedMean(), Bucketing(2)), 12, 2)
    N, f = 10, 2
    sigma, eta = (N - 2) / (2 * (N - 1)), f / ((n - 2 * f) * (N - 1))
    assert bucketed.kappa == pytest.approx((root(2 / 2 * (sigma - eta)) + root(eta)) ** 2, rel=1e-13)
    assert bucketed.randomised
    assert not robustness_of(Defence(TrimmedMean()), 12, 2).randomised


def test_buckets_of_one_change_no_kappa() -> None:
    for rule in RULES:
        if not isinstance(rule, CentredClipping):
            one = robustness_of(Defence(rule, Bucketing(1)), 9, 2).kappa
            assert one == pytest.approx(kappa_of(rule, 9, 2).kappa, rel=1e-12)


def test_without_attackers_averages_are_exact() -> None:
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((4, 6, 3)))
    order = torch.stack([torch.from_numpy(np.random.default_rng(k).permutation(6)) for k in range(4)])
    for rule, pre in itertools.product((Mean(), TrimmedMean(), MultiKrum(), CentredClipping()), _pre_steps()):
        defence = Defence(rule, pre)
        assert robustness_of(defence, 6, 0).kappa == 0
        torch.testing.assert_close(defence(x, 0, order), x.mean(1), rtol=1e-14, atol=1e-14)


def _pre_steps() -> list[PreStep]:
    return [Nothing(), Bucketing(2), NearestNeighbourMixing()]


# ---- symmetries -------------------------------------------------------------------------------------------------


def cloud(seed: int, R: int = 5, n: int = 8, d: int = 3) -> Tensor:
    x = np.random.default_rng(seed).standard_normal((R, n, d))
    x[:, n - 2 :] += 1.5
    return torch.from_numpy(x)


@pytest.mark.parametrize("defence", PAIRS, ids=label)
def test_order_place_and_scale_do_not_matter(defence: Defence) -> None:
    x = cloud(3)
    out = defence(x, 2)
    scaled = defence(-1e3 * x, 2)
    torch.testing.assert_close(scaled, -1e3 * out, rtol=1e-11, atol=1e-11)
    order = torch.tensor([3, 1, 0, 5, 2, 4])  # centred clipping knows who is honest
    shuffled = torch.cat([x[:, order], x[:, [7, 6]]], dim=1)
    torch.testing.assert_close(defence(shuffled, 2), out, rtol=1e-11, atol=1e-11)
    shift = torch.tensor([0.5, -2.0, 7.0], dtype=torch.float64)
    moved = defence
    if isinstance(defence.aggregator, CentredClipping):
        moved = Defence(CentredClipping(centre=tuple(shift.tolist())))
    else:
        everyone = torch.tensor([7, 3, 1, 6, 0, 5, 2, 4])
        torch.testing.assert_close(defence(x[:, everyone], 2), out, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(moved(x + shift, 2), out + shift, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("rule", [GeometricMedian(), Krum(), KrumWithoutItself(), MultiKrum()], ids=lambda r: r.name)
def test_rules_that_use_distances_turn_with_their_input(rule: Aggregator) -> None:
    x = cloud(4)
    turn = torch.from_numpy(np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0])
    torch.testing.assert_close(rule(x @ turn, 2), rule(x, 2) @ turn, rtol=1e-11, atol=1e-11)


# ---- slow references ------------------------------------------------------------------------------------------------


def slow(rule: Aggregator, x: list[list[float]], f: int) -> list[float]:
    """Every rule but the geometric median by loops."""
    n, d = len(x), len(x[0])

    def average(rows: list[list[float]]) -> list[float]:
        return [math.fsum(row[c] for row in rows) / len(rows) for c in range(d)]

    def krum_order(neighbours: int, itself: bool) -> list[int]:
        scores = []
        for i in range(n):
            others = sorted(math.dist(x[i], x[j]) ** 2 for j in range(n) if itself or j != i)
            scores.append(sum(others[:neighbours]))
        return sorted(range(n), key=scores.__getitem__)

    match rule:
        case Mean():
            return average(x)
        case Median():
            return [median(row[c] for row in x) for c in range(d)]
        case TrimmedMean():
            b = f if rule.trim is None else rule.trim
            columns = [sorted(row[c] for row in x)[b : n - b] for c in range(d)]
            return [math.fsum(column) / len(column) for column in columns]
        case Krum():
            return x[krum_order(n - f, True)[0]]
        case KrumWithoutItself():
            return x[krum_order(n - f - 2, False)[0]]
        case MultiKrum():
            return average([x[i] for i in krum_order(n - f, True)[: rule.keep or n - f]])
        case CentredClipping():
            Q = sum(math.hypot(*row) ** 2 for row in x[: n - f]) / (n - f)
            radius = rule.radius or math.sqrt((1 - f / n) * Q / (f / n)) / 2
            return average([[v * min(1.0, radius / math.hypot(*row)) for v in row] for row in x])
    raise AssertionError(rule)


REFERENCES = [r for r in RULES if not isinstance(r, GeometricMedian)] + [Mean(), CentredClipping(1.3)]


@pytest.mark.parametrize("rule", REFERENCES, ids=lambda r: label(Defence(r)))
@pytest.mark.parametrize("pre", ["none", "nnm", "bucketing"])
def test_agrees_with_loops(rule: Aggregator, pre: str) -> None:
    x = cloud(5, R=6, n=12)
    f = 3 if pre == "none" else 2
    step = {"none": Nothing(), "nnm": NearestNeighbourMixing(), "bucketing": Bucketing(2)}[pre]
    if pre == "bucketing" and (isinstance(rule, TrimmedMean) and rule.trim == 3):
        return
    rng = np.random.default_rng(9)
    order = torch.from_numpy(np.stack([rng.permutation(12) for _ in range(6)]))
    out = Defence(rule, step)(x.view(2, 3, 12, 3), f, order.view(2, 3, 12)).view(6, 3)
    for r in range(6):
        rows = x[r].tolist()
        if isinstance(rule, CentredClipping) and pre != "none" and rule.radius is None:
            Q = sum(math.hypot(*row) ** 2 for row in rows[: 12 - f]) / (12 - f)
            chosen: Aggregator = CentredClipping(math.sqrt((12 - f) * Q / f) / 2)
        else:
            chosen = rule
        expected = torch.tensor(slow(chosen, slow_step(pre, rows, f, order[r].tolist()), f), dtype=torch.float64)
        torch.testing.assert_close(out[r], expected, rtol=1e-12, atol=1e-13)


def slow_step(pre: str, x: list[list[float]], f: int, order: list[int]) -> list[list[float]]:
    groups = [[i] for i in range(len(x))]
    if pre == "nnm":
        groups = [sorted(range(len(x)), key=lambda j: math.dist(x[i], x[j]))[: len(x) - f] for i in range(len(x))]
    if pre == "bucketing":
        groups = [order[k : k + 2] for k in range(0, len(x), 2)]
    return [[sum(x[i][c] for i in group) / len(group) for c in range(len(x[0]))] for group in groups]


# ---- the geometric median -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d"), [(3, 2), (4, 2), (5, 1), (6, 3), (11, 5), (5, 20), (30, 4)])
@pytest.mark.parametrize("far", [1.0, 1e3, 1e12])
def test_the_geometric_median_satisfies_its_optimality_condition(n: int, d: int, far: float) -> None:
    x = np.random.default_rng(n * d).standard_normal((200, n, d))
    x[:, -((n - 1) // 2) :] *= far
    y = geometric_median(torch.from_numpy(x))
    assert float(residual(torch.from_numpy(x), y).max()) <= 1e-13 * n


@pytest.mark.parametrize("excess", [1e-3, 1e-6, 1e-9, 1e-12])
def test_a_minimiser_very_near_a_data_point_is_found(excess: float) -> None:
    """Three unit vectors with a sum of norm 1 + ε pull at one data point: the minimiser is about 1.2 ε from it."""
    angle = math.acos(excess / 2)
    ends = [[0, 0], [1, 0], [2 * math.cos(angle), 2 * math.sin(angle)], [3 * math.cos(angle), -3 * math.sin(angle)]]
    x = torch.tensor(ends, dtype=torch.float64)
    y = geometric_median(x)
    assert float(residual(x, y)) <= 1e-13
    assert float(y[0]) == pytest.approx(1.2 * excess, rel=1e-2)


def test_data_points_lines_and_copies() -> None:
    def of(*rows: tuple[float, ...]) -> list[float]:
        return geometric_median(torch.tensor(rows, dtype=torch.float64)).tolist()

    assert of((3, 4)) == [3, 4]
    assert of((1, 1), (1, 1), (1, 1), (5, 9), (7, 8)) == [1, 1]
    assert of((0, 0), (1, 1), (5, 5)) == pytest.approx([1, 1], abs=1e-14)
    assert of((0, 0), (1, 1), (3, 3), (9, 9)) == pytest.approx([2, 2], abs=1e-14)
    assert of((0, 0), (1, 1), (1, 1), (9, 9)) == [1, 1]
    assert of((0, 0), (4, 0), (1, 3), (1, -1)) == pytest.approx([1, 0], abs=1e-14)  # where the diagonals cross
    third = math.sqrt(3) / 2
    assert of((1, 0), (-0.5, third), (-0.5, -third)) == pytest.approx([0, 0], abs=1e-15)
    broken = torch.tensor([[[0.0, 1], [2, math.nan], [1, 1]], [[0, 0], [0, 0], [0, 1]]], dtype=torch.float64)
    out = geometric_median(broken)
    assert out[0].isnan().all()
    assert out[1].tolist() == [0, 0]


# ---- impossible settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("defence", "n", "f", "sentence"),
    [
        (Defence(Median()), 4, 2, r"f, the number of attackers, must be less than half of the 4 messages; got 2"),
        (Defence(Median()), 4, -1, r"f must be an integer >= 0; got -1"),
        (Defence(TrimmedMean(1)), 7, 2, r"trim must be at least f = 2"),
        (Defence(TrimmedMean(4)), 8, 2, r"trim must be less than half of the 8 messages"),
        (Defence(KrumWithoutItself()), 5, 2, r"needs n >= 2f \+ 2"),
        (Defence(MultiKrum(6)), 7, 2, r"keep must be at most 5, the number of honest messages; got 6"),
        (Defence(MultiKrum(0)), 7, 2, r"keep must be an integer >= 1; got 0"),
        (Defence(CentredClipping(0.0)), 7, 2, r"radius must be a finite number > 0; got 0"),
        (
            Defence(Median(), Bucketing(2)),
            7,
            2,
            r"bucket must divide the number of messages, 7, unless short_bucket is true; got 2",
        ),
        (Defence(Median(), Bucketing(2)), 8, 2, r"bucket must leave more than 2f = 4 groups of the 8 messages; got 2"),
        (Defence(TrimmedMean(3), Bucketing(2)), 12, 2, r"trim must be less than half of the 6 messages"),
        (Defence(Krum(), NearestNeighbourMixing()), 6, 3, r"less than half of the 6 messages"),
    ],
)
def test_impossible_settings_are_answered_in_one_sentence(defence: Defence, n: int, f: int, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        robustness_of(defence, n, f)


def test_where_no_kappa_is_known_a_sentence_says_why() -> None:
    for defence in (
        Defence(Mean()),
        Defence(Mean(), NearestNeighbourMixing()),
        Defence(CentredClipping(1.0)),
        Defence(CentredClipping(), NearestNeighbourMixing()),
        Defence(CentredClipping(), Bucketing(2)),
    ):
        found = robustness_of(defence, 8, 1)
        assert found.kappa == math.inf
        assert "no κ" in found.reason
    assert all(not kappa_of(rule, 9, 2).reason for rule in RULES)


def test_registries_and_tables() -> None:
    assert {rule.name for rule in RULES} | {"mean"} == set(AGGREGATORS)
    assert set(PRE) == {"none", "bucketing", "nnm"}
    assert TrimmedMean(2).to_dict() == {"name": "trimmed_mean", "trim": 2}
    table = Defence(CentredClipping(2.0, (0.0, 1.0)), Bucketing(3)).to_dict()
    assert table == {
        "aggregator": {"name": "centred_clipping", "radius": 2.0, "centre": (0.0, 1.0)},
        "pre": {"name": "bucketing", "size": 3, "short": False},
    }
    with pytest.raises(InputError, match=r"bucketing needs the order"):
        Defence(Median(), Bucketing(2))(cloud(1), 1)
    with pytest.raises(InputError, match=r"centre must have 3 entries; got 1"):
        CentredClipping(centre=(0.0,))(cloud(1), 1)
