"""Noise laws and streams: moments and distributions by sampling, independence of the streams, cohorts.

Every sampled statement uses fixed seeds and is decided at an error of 1e-6 or less.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from fedconv.core.streams import Cause, Streams
from fedconv.methods.split import FedAlt, FedSim
from fedconv.methods.split.torch_engine import draw_noise
from fedconv.problems.compiled.xoshiro import below, open_unit
from fedconv.problems.errors import InputError
from fedconv.problems.noise import LAWS, Noise, fill, fill_row, standard
from fedconv.problems.split.trigonometric import Trigonometric

ERROR = 1e-6
Z = 5.0  # two-sided normal quantile at an error below 1e-6
EDGE = 3.6541528853610088  # right edge of the ziggurat's lowest layer

# excess over 1 of the fourth moment, E x⁴ − 1: the variance of x² for each standardised law
NOISES = {
    "gaussian": (Noise("gaussian", 1.0, 1.0), 2.0),
    "rademacher": (Noise("rademacher", 1.0, 1.0), 0.0),
    "student_t": (Noise("student_t", 1.0, 1.0, dof=20.0), 3 * 18 / 16 - 1),
    "spikes": (Noise("spikes", 1.0, 1.0, spike_probability=0.05), 1 / 0.05 - 1),
}


def draws(noise: Noise, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """``(rows, columns)`` standardised draws, one stream a row."""
    states = Streams(seed).states(Cause.NOISE_U, np.arange(rows), 3)
    out = np.empty((rows, columns))
    law, parameter = noise.code()
    fill(law, parameter, states, out)
    return out


@pytest.mark.parametrize("law", NOISES)
def test_mean_zero_and_variance_one(law: str) -> None:
    noise, spread = NOISES[law]
    x = draws(noise, 100, 10_000)
    assert abs(x.mean()) < Z / math.sqrt(x.size)
    assert abs(np.square(x).mean() - 1.0) <= Z * math.sqrt(spread / x.size) + 1e-12


@pytest.mark.parametrize("law", NOISES)
@pytest.mark.parametrize(("d_u", "d_v"), [(1, 4), (7, 3)])
def test_expected_square_is_sigma_squared(law: str, d_u: int, d_v: int) -> None:
    """E‖ξ_u‖² = σ_u² and E‖ξ_v‖² = σ_v², with the stated σ's and any dimension."""
    base, spread = NOISES[law]
    noise = Noise(base.law, 0.7, 2.5, base.dof, base.spike_probability)
    for d, scale, sigma in zip((d_u, d_v), noise.scales(d_u, d_v), (0.7, 2.5), strict=True):
        square = np.square(scale * draws(noise, 100, 2000 * d)).reshape(-1, d).sum(-1)
        deviation = sigma**2 * math.sqrt(spread / d)
        assert abs(square.mean() - sigma**2) <= Z * deviation / math.sqrt(square.size) + 1e-12


def test_gaussian_distribution() -> None:
    x = draws(Noise("gaussian", 1.0), 20, 20_000).ravel()
    assert stats.kstest(x, stats.norm.cdf).pvalue > ERROR


@pytest.mark.parametrize("dof", [2.5, 5.0, 30.0])
def test_student_t_distribution(dof: float) -> None:
    """Student's t, rescaled to variance 1: also where the fourth moment is infinite."""
    x = draws(Noise("student_t", 1.0, dof=dof), 20, 20_000).ravel()
    law = stats.t(dof, scale=math.sqrt((dof - 2) / dof))
    assert stats.kstest(x, law.cdf).pvalue > ERROR


def test_gaussian_tail_beyond_the_ziggurat() -> None:
    """Number, sign and shape of the draws beyond the lowest layer, which come from a routine of their own."""
    x = draws(Noise("gaussian", 1.0), 200, 20_000, seed=1).ravel()
    far = x[np.abs(x) > EDGE]
    chance = math.erfc(EDGE / math.sqrt(2))
    assert stats.binomtest(far.size, x.size, chance).pvalue > ERROR
    assert stats.binomtest(int((far > 0).sum()), far.size, 0.5).pvalue > ERROR
    beyond = stats.kstest(np.abs(far), lambda r: 1 - stats.norm.sf(r) / stats.norm.sf(EDGE))
    assert beyond.pvalue > ERROR


def test_heavy_tail_frequency() -> None:
    noise = Noise("student_t", 1.0, dof=3.0)
    x = draws(noise, 100, 10_000, seed=2).ravel()
    edge = 10.0
    chance = 2 * stats.t(3.0, scale=math.sqrt(1 / 3)).sf(edge)
    assert stats.binomtest(int((np.abs(x) > edge).sum()), x.size, chance).pvalue > ERROR


@pytest.mark.parametrize("q", [1e-3, 0.3, 1.0])
def test_spikes(q: float) -> None:
    x = draws(Noise("spikes", 1.0, spike_probability=q), 50, 20_000).ravel()
    height = 1 / math.sqrt(q)
    assert set(np.unique(x)) <= {-height, 0.0, height}
    hits = int(np.count_nonzero(x))
    assert stats.binomtest(hits, x.size, q).pvalue > ERROR
    assert stats.binomtest(int((x > 0).sum()), hits, 0.5).pvalue > ERROR


def test_rademacher_takes_two_values() -> None:
    x = draws(Noise("rademacher", 1.0), 50, 2000).ravel()
    assert set(np.unique(x)) == {-1.0, 1.0}
    assert stats.binomtest(int((x > 0).sum()), x.size, 0.5).pvalue > ERROR


@pytest.mark.parametrize("law", NOISES)
def test_draws_are_uncorrelated(law: str) -> None:
    """Neighbours in a stream, and the same place of neighbouring streams."""
    x = draws(NOISES[law][0], 300, 1000)
    for left, right in ((x[:, :-1], x[:, 1:]), (x[:-1], x[1:])):
        assert abs((left * right).mean()) < Z / math.sqrt(left.size)


@pytest.mark.parametrize("law", NOISES)
def test_filling_is_drawing_one_by_one(law: str) -> None:
    """A block, its two halves one after the other, and single draws give the same numbers in the same order."""
    number, parameter = NOISES[law][0].code()
    size = 5000  # long enough for the gaussian's rare branches
    start = Streams(5).states(Cause.NOISE_V, np.array([4]), 0)[0]
    whole, halves, single = (np.empty(size) for _ in range(3))
    a, b, c = (start.copy() for _ in range(3))
    fill_row(number, parameter, a, whole)
    fill_row(number, parameter, b, halves[:1234])
    fill_row(number, parameter, b, halves[1234:])
    for j in range(size):
        single[j] = standard(number, parameter, c)
    np.testing.assert_array_equal(whole, halves)
    np.testing.assert_array_equal(whole, single)
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, c)
    assert not np.array_equal(a, start)


def test_no_noise_is_zero() -> None:
    for noise in (Noise("zero"), Noise("gaussian"), Noise("student_t")):
        assert noise.silent
        assert noise.code() == (0, 0.0)
        assert not draws(noise, 3, 10).any()
    assert not Noise("gaussian", sigma_v=1.0).silent
    assert Noise("gaussian", 1.0, 2.0).scales(0, 4) == (0.0, 1.0)


@pytest.mark.parametrize("law", NOISES)
@pytest.mark.parametrize("kappa", [-1.0, -0.6, 0.3])
@pytest.mark.parametrize(("d_u", "d_v"), [(2, 2), (3, 1), (1, 3)])
def test_correlated_noise_keeps_its_variances(law: str, kappa: float, d_u: int, d_v: int) -> None:
    """E‖ξ_u‖² = σ_u², E‖ξ_v‖² = σ_v², E ξ_uj ξ_vj = κ σ_u σ_v/√(d_u d_v) on the common coordinates, 0 across them."""
    base, spread = NOISES[law]
    noise = Noise(base.law, 0.7, 2.5, base.dof, base.spike_probability, dependence=kappa)
    problem = Trigonometric(
        a=np.ones(d_u), b=np.ones(d_v), kappa=np.zeros(min(d_u, d_v)), h=np.zeros((1, d_u)), s=np.zeros((1, d_v))
    )
    simultaneous = FedSim(1, 0.1, 0.1, tau_u=2, tau_v=2)
    replicates = np.arange(60_000)
    drawn = draw_noise(problem, simultaneous, noise, Streams(6), replicates, 0, 1, absent=False)
    u, v = drawn.u.numpy().reshape(-1, d_u), drawn.v.numpy().reshape(-1, d_v)
    scale_u, scale_v = noise.scales(d_u, d_v)
    rows = len(u)
    for x, scale in ((u, scale_u), (v, scale_v)):
        error = Z * math.sqrt((spread + 2) / rows)
        assert np.abs((x / scale).mean(0)).max() <= Z / math.sqrt(rows)
        assert np.abs(np.square(x / scale).mean(0) - 1).max() <= error + 1e-12
    found = (u / scale_u).T @ (v / scale_v) / rows
    assert np.abs(found - kappa * np.eye(d_u, d_v)).max() <= Z * math.sqrt((spread + 2) / rows) + 1e-12
    alone = draw_noise(
        problem, FedAlt(1, 0.1, 0.1, tau_u=2, tau_v=2), noise, Streams(6), replicates, 0, 1, absent=False
    )
    theirs = alone.v.numpy().reshape(-1, d_v)
    assert np.abs((u / scale_u).T @ (theirs / scale_v) / rows).max() <= Z / math.sqrt(rows)


def test_dependence_is_a_word_or_a_correlation() -> None:
    assert Noise(dependence=0).dependence == Noise(dependence=0.0).dependence == "independent"
    assert Noise(dependence=1).dependence == "full"
    assert [Noise(dependence=x).correlation for x in ("independent", "full", -1, 0.25)] == [0.0, 1.0, -1.0, 0.25]
    assert Noise(dependence=-1).remainder == 0.0
    assert Noise(dependence=0.6).remainder == pytest.approx(0.8, rel=1e-15)
    assert Noise(**Noise("gaussian", 1.0, dependence=-0.5).to_dict()) == Noise("gaussian", 1.0, dependence=-0.5)


def test_streams_do_not_depend_on_the_company() -> None:
    """A replicate's stream is the same alone, in any order and in any block."""
    streams = Streams(11)
    together = streams.states(Cause.NOISE_U, np.arange(10), 6)
    np.testing.assert_array_equal(streams.states(Cause.NOISE_U, np.array([7, 2]), 6), together[[7, 2]])
    np.testing.assert_array_equal(Streams(11).states(Cause.NOISE_U, np.arange(5, 10), 6), together[5:], strict=True)
    cohorts = streams.cohorts(np.arange(10), 6, 9, 4)
    np.testing.assert_array_equal(streams.cohorts(np.array([7, 2]), 6, 9, 4), cohorts[[7, 2]])


def test_streams_of_different_causes_rounds_replicates_and_seeds_differ() -> None:
    states = np.concatenate(
        [Streams(seed).states(cause, np.arange(100), t) for seed in (0, 1, 2) for cause in Cause for t in range(40)]
    )
    assert np.unique(states, axis=0).shape == states.shape
    for column in states.T:  # not even one word of two states is shared
        assert np.unique(column).size == column.size


def test_streams_of_different_causes_and_rounds_are_uncorrelated() -> None:
    def normals(cause: Cause, t: int) -> np.ndarray:
        out = np.empty((200, 200))
        fill(1, 0.0, Streams(3).states(cause, np.arange(200), t), out)
        return out

    rows = [normals(cause, t) for cause in Cause for t in range(4)]
    for x, y in combinations(rows, 2):
        assert abs((x * y).mean()) < 6.0 / math.sqrt(x.size)  # 190 pairs share the error


@pytest.mark.parametrize(("n", "m"), [(6, 3), (5, 1), (5, 4), (7, 2)])
def test_cohorts_are_uniform(n: int, m: int) -> None:
    """All subsets are equally likely, over replicates and over rounds."""
    streams = Streams(4)
    rounds = np.stack([streams.cohorts(np.arange(500), t, n, m) for t in range(40)])
    order = {subset: j for j, subset in enumerate(combinations(range(n), m))}
    for part, cut in ((rounds[:, :, :m], m), (rounds[:, :, m:], n - m)):
        assert (np.diff(part, axis=-1) > 0).all()
        assert part.shape[-1] == cut
    assert (np.sort(rounds, axis=-1) == np.arange(n)).all()
    counts = np.zeros(len(order))
    for cohort in rounds[:, :, :m].reshape(-1, m).tolist():
        counts[order[tuple(cohort)]] += 1
    assert stats.chisquare(counts).pvalue > ERROR


def test_cohorts_of_neighbouring_rounds_are_independent() -> None:
    """Pairs of neighbouring rounds (each round in one pair) take all pairs of values equally often."""
    streams = Streams(8)
    rounds = np.stack([streams.cohorts(np.arange(400), t, 4, 1)[:, 0] for t in range(60)])
    counts = np.bincount((4 * rounds[0::2] + rounds[1::2]).ravel(), minlength=16)
    assert stats.chisquare(counts).pvalue > ERROR


def test_everyone_takes_part_when_m_is_n() -> None:
    cohorts = Streams(0).cohorts(np.arange(3), 0, 5, 5)
    np.testing.assert_array_equal(cohorts, np.tile(np.arange(5), (3, 1)))


def test_integers_below_a_bound_are_uniform() -> None:
    state = Streams(9).states(Cause.COHORT, np.array([0]), 0)[0]
    counts = np.bincount([below(state, 13) for _ in range(20_000)], minlength=13)
    assert counts.size == 13
    assert stats.chisquare(counts).pvalue > ERROR


def test_uniform_numbers_are_never_zero() -> None:
    top, bottom = open_unit(np.uint64(2**64 - 1)), open_unit(np.uint64(0))
    assert 0.0 < bottom < 1e-15
    assert 1.0 - 1e-15 < top <= 1.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"law": "cauchy"}, ["noise.law", "cauchy", *LAWS]),
        ({"dependence": "half"}, ["noise.dependence", "half", "independent"]),
        ({"dependence": 1.5}, ["noise.dependence", "1.5", "from -1 to 1"]),
        ({"dependence": math.nan}, ["noise.dependence", "nan"]),
        ({"dependence": True}, ["noise.dependence", "True"]),
        ({"sigma_u": -1.0}, ["noise.sigma_u", ">= 0", "-1"]),
        ({"sigma_v": math.nan}, ["noise.sigma_v", "nan"]),
        ({"sigma_u": math.inf}, ["noise.sigma_u", "inf"]),
        ({"law": "zero", "sigma_u": 1.0}, ["noise.law", "zero", "sigma_u=1.0"]),
        ({"law": "zero", "sigma_v": 1.0}, ["noise.law", "zero", "sigma_v=1.0"]),
        ({"law": "student_t", "dof": 2.0}, ["noise.dof", "exceed 2", "2.0"]),
        ({"law": "student_t", "dof": math.inf}, ["noise.dof", "inf"]),
        ({"law": "spikes", "spike_probability": 0.0}, ["noise.spike_probability", "0.0"]),
        ({"law": "spikes", "spike_probability": 1.5}, ["noise.spike_probability", "1.5"]),
        ({"law": "spikes", "spike_probability": math.nan}, ["noise.spike_probability", "nan"]),
    ],
)
def test_bad_noise_is_one_sentence(arguments: dict, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        Noise(**arguments)
    message = str(caught.value)
    assert all(word in message for word in words)
    assert "\n" not in message


def test_bad_seed() -> None:
    with pytest.raises(InputError, match=r"seed must be an integer >= 0; got -1"):
        Streams(-1)
