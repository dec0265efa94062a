"""Dials: a request is met exactly or refused with a sentence that names the dial and its attainable range."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from fedconv.problems.errors import InputError
from fedconv.problems.split.trigonometric import Trigonometric
from fedconv.problems.split.trigonometric_dials import (
    chi_range,
    delta_range,
    personal_spread,
    sign_variance,
    spread_range,
    trigonometric,
)

sizes = st.fixed_dictionaries({"n": st.integers(1, 9), "d_u": st.integers(0, 4), "d_v": st.integers(0, 4)})
positive = st.floats(-3, 3).map(lambda x: 10.0**x)
share = st.one_of(st.just(0.0), st.just(1.0), st.floats(1e-6, 1))
seeds = st.integers(0, 2**31)


def built_values(problem: Trigonometric) -> dict[str, float]:
    """The constants as the problem states them, and the spread from the arrays by pairs of clients."""
    constants = problem.constants
    s = problem.s.numpy()
    pairs = np.square(s[:, None] - s[None]).sum(-1)  # mean over pairs of ‖s_i − s_j‖² is twice the variance
    return {
        "L_u": constants.L_u.value,
        "L_v": constants.L_v.value,
        "chi": constants.chi,
        "delta": constants.delta.value,
        "spread": math.sqrt(0.5 * pairs.mean()),
    }


def assert_met(problem: Trigonometric, request: dict[str, float]) -> None:
    for name, got in built_values(problem).items():
        assert got == pytest.approx(request[name], rel=1e-10, abs=0.0), name
    for name in ("L_u", "L_v", "L_uv", "delta", "rho", "F_star"):
        assert getattr(problem.constants, name).grade == "exact"
    assert problem.constants.rho.value == 0.0
    assert float(problem.s.abs().max() if problem.s.numel() else 0.0) <= math.pi / 2 * (1 + 1e-12)


def verdict(n, d_u, d_v, L_u, L_v, chi, delta, spread) -> set[str]:
    """The dials that make a request impossible: the attainable set written out once more."""
    w = 1.0 if n % 2 == 0 else (n * n - 1) / (n * n)
    wrong = set()
    if d_u + d_v == 0:
        return {"d_u"}
    if (d_u == 0) != (L_u == 0):
        wrong.add("L_u")
    if (d_v == 0) != (L_v == 0):
        wrong.add("L_v")
    kappa = chi * math.sqrt(L_u * L_v)
    if chi > 0 and (d_u == 0 or d_v == 0 or kappa > min(L_u, L_v) or (spread > 0 and kappa >= L_v)):
        wrong.add("chi")
    if delta > 0 and (n == 1 or d_u == 0):
        wrong.add("delta")
    if n > 1 and delta < kappa * math.sqrt(w):
        wrong.add("delta")
    if spread > math.pi / 2 * math.sqrt(d_v * w):
        wrong.add("spread")
    return wrong


@given(
    size=sizes,
    L_u=st.one_of(st.just(0.0), positive),
    L_v=st.one_of(st.just(0.0), positive),
    chi=st.one_of(st.just(0.0), st.floats(0.01, 1.5)),
    delta=st.one_of(st.just(0.0), positive),
    spread=st.one_of(st.just(0.0), st.floats(0.01, 4.0)),
    seed=seeds,
)
def test_a_request_is_met_or_refused_with_a_reason(size, L_u, L_v, chi, delta, spread, seed) -> None:
    request = {"L_u": L_u, "L_v": L_v, "chi": chi, "delta": delta, "spread": spread}
    wrong = verdict(**size, **request)
    if not wrong:
        assert_met(trigonometric(**size, **request, seed=seed), request)
        return
    with pytest.raises(InputError) as caught:
        trigonometric(**size, **request, seed=seed)
    sentence = str(caught.value)
    assert sentence.split(" ")[0] in wrong, sentence
    assert "; got " in sentence
    assert "\n" not in sentence


@st.composite
def attainable(draw):
    """A request inside the attainable set, its boundary included."""
    size = draw(sizes.filter(lambda s: s["d_u"] + s["d_v"] > 0))
    n, d_u, d_v = size["n"], size["d_u"], size["d_v"]
    L_u = draw(positive) if d_u else 0.0
    L_v = draw(positive) if d_v else 0.0
    spread = draw(share) * spread_range(n=n, d_v=d_v)[1]
    chi = delta = 0.0
    if d_u and d_v:
        chi = draw(share) * chi_range(L_u=L_u, L_v=L_v)[1]
        if spread > 0 and chi * math.sqrt(L_u * L_v) >= L_v * (1 - 1e-9):
            chi *= 0.999
    if d_u and n > 1:
        least = delta_range(n=n, L_u=L_u, L_v=L_v, chi=chi)[0]
        delta = draw(
            st.one_of(st.just(least), st.floats(1, 3).map(lambda x: x * least), positive.map(lambda x: least + x))
        )
    request = {"L_u": L_u, "L_v": L_v, "chi": chi, "delta": delta, "spread": spread}
    return size | request | {"seed": draw(seeds)}


@given(request_=attainable())
@example(
    request_={"n": 4, "d_u": 3, "d_v": 2, "L_u": 2.0, "L_v": 2.0, "chi": 0.5, "delta": 1.0, "spread": 0.5, "seed": 0}
)
@example(
    request_={"n": 3, "d_u": 1, "d_v": 1, "L_u": 2.0, "L_v": 8.0, "chi": 0.5, "delta": 5.0, "spread": 1.0, "seed": 1}
)
def test_every_attainable_request_is_met(request_) -> None:
    assert_met(trigonometric(**request_), request_)


@pytest.mark.parametrize(("n", "least"), [(2, 1.0), (3, 8 / 9), (4, 1.0), (7, 48 / 49)])
@pytest.mark.parametrize("d", [1, 3])
def test_the_smallest_diversity_is_attained_and_no_less(n: int, d: int, least: float) -> None:
    assert sign_variance(n) == pytest.approx(least, rel=1e-15)
    edge = 0.6 * math.sqrt(least)
    problem = trigonometric(n=n, d_u=d, d_v=d, chi=0.6, delta=edge, spread=0.3)
    assert problem.constants.delta.value == pytest.approx(edge, rel=1e-12)
    assert not problem.h.any()
    assert problem.kappa.numpy().tolist() == [0.6] + [0.0] * (d - 1)
    with pytest.raises(InputError, match=r"^delta must lie in \[0\.[0-9]+, inf\)"):
        trigonometric(n=n, d_u=d, d_v=d, chi=0.6, delta=edge * (1 - 1e-9), spread=0.3)


def test_brute_force_diversity() -> None:
    """δ² of a dialled problem against all sign patterns."""
    problem = trigonometric(n=6, d_u=3, d_v=2, chi=0.3, delta=1.3, spread=0.7, seed=5)
    h, kappa = problem.h.numpy(), np.append(problem.kappa.numpy(), 0.0)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T
    pulled = h[None] + kappa * signs[:, :, None]
    assert pulled.var(axis=1).max(axis=0).sum() == pytest.approx(1.3**2, rel=1e-12)


def test_couplings_grow_with_the_room_that_delta_leaves() -> None:
    """One coupled coordinate at the least δ, all of them equal from √d times it on, h from there."""
    least = 0.5
    for factor, second, pull in ((1.0, 0.0, False), (math.sqrt(1.5), 0.5 * math.sqrt(0.5), False), (2.0, 0.5, True)):
        problem = trigonometric(n=4, d_u=2, d_v=2, chi=0.5, delta=factor * least, spread=0.0)
        assert problem.kappa.numpy() == pytest.approx([0.5, second], abs=1e-7)
        assert bool(problem.h.abs().max() > 1e-6) is pull


def test_every_coordinate_has_the_requested_smoothness() -> None:
    problem = trigonometric(n=5, d_u=4, d_v=3, L_u=2.0, L_v=0.5, chi=0.4, delta=3.0, spread=1.1)
    kappa, s = problem.kappa.numpy(), problem.s.numpy()
    assert np.hypot(problem.a.numpy(), np.append(kappa, 0.0)) == pytest.approx(np.full(4, 2.0), rel=1e-13)
    b = problem.b.numpy()
    assert np.sqrt(b**2 + kappa**2 + 2 * b * kappa * np.abs(np.sin(s)).max(0)) == pytest.approx(
        np.full(3, 0.5), rel=1e-13
    )


def test_personal_optima_and_their_spread() -> None:
    """s_i minimises F_i(0, ·), and the spread is the root mean square distance from the mean."""
    problem = trigonometric(n=5, d_u=2, d_v=3, spread=1.4, delta=2.0)
    u, s = torch.zeros(5, 2, dtype=torch.float64), problem.s
    assert float(problem.grad_v(u, s, problem.everyone()).abs().max()) == 0.0
    best = problem.value(u, s, problem.everyone())
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = problem.value(u, s + torch.from_numpy(rng.standard_normal((5, 3))), problem.everyone())
        assert (other > best).all()
    assert personal_spread(problem) == pytest.approx(1.4, rel=1e-12)
    assert built_values(problem)["spread"] == pytest.approx(1.4, rel=1e-12)


def test_the_seed_decides_the_directions_alone() -> None:
    first, again, other = (trigonometric(n=4, d_u=2, d_v=2, delta=2.0, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.h, again.h)
    assert torch.equal(first.s, again.s)
    assert not torch.equal(first.h, other.h)
    assert not torch.equal(first.s, other.s)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 0}, ["n", ">= 1", "got 0"]),
        ({"d_u": -1}, ["d_u", ">= 0", "got -1"]),
        ({"d_u": 0, "d_v": 0}, ["d_u and d_v"]),
        ({"seed": -1}, ["seed", "got -1"]),
        ({"L_u": 0.0}, ["L_u", "exceed 0 where d_u = 2"]),
        ({"L_v": math.inf}, ["L_v", "1e+100", "inf"]),
        ({"L_u": math.nan}, ["L_u", "nan"]),
        ({"L_u": -1.0}, ["L_u", "1e-100", "-1.0"]),
        ({"L_u": 1e200, "L_v": 1e200}, ["L_u", "1e+100", "1e+200"]),
        ({"chi": -0.1}, ["chi", "-0.1"]),
        ({"chi": math.nan}, ["chi", "nan"]),
        ({"chi": 0.6, "L_u": 4.0}, ["chi", "[0, 0.5]", "got 0.6"]),
        ({"chi": 0.6, "L_v": 4.0}, ["chi", "[0, 0.5]", "got 0.6"]),
        ({"chi": 0.5, "L_u": 4.0, "delta": 2.0}, ["chi", "[0, 0.5)", "spread > 0"]),
        ({"chi": 0.1, "d_v": 0, "L_v": 0.0}, ["chi", "must be 0", "d_v=0"]),
        ({"L_v": 1.0, "d_v": 0, "chi": 0.0}, ["L_v", "must be 0 where d_v = 0"]),
        ({"delta": 0.2}, ["delta", "[0.5, inf)", "got 0.2"]),
        ({"delta": math.inf}, ["delta", "1e+100"]),
        ({"n": 1, "spread": 0.0}, ["delta", "must be 0", "n=1"]),
        ({"n": 1, "delta": 0.0}, ["spread", "[0, 0.0]", "n=1"]),
        ({"d_u": 0, "L_u": 0.0, "chi": 0.0}, ["delta", "must be 0", "d_u=0"]),
        ({"spread": 3.0}, ["spread", f"[0, {math.pi / 2 * math.sqrt(2)}", "got 3.0"]),
        ({"spread": math.nan}, ["spread", "nan"]),
    ],
)
def test_impossible_requests_are_one_sentence(change: dict, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        trigonometric(**({"n": 4, "d_u": 2, "d_v": 2} | change))
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize("unit", [1e-60, 1e-6, 1e6, 1e60])
def test_any_unit_of_F(unit: float) -> None:
    """Multiplying F by a number multiplies L_u, L_v and δ by it, exactly."""
    problem = trigonometric(n=5, d_u=3, d_v=2, L_u=2.0 * unit, L_v=0.7 * unit, chi=0.4, delta=1.5 * unit, spread=1.0)
    request = {"L_u": 2.0 * unit, "L_v": 0.7 * unit, "chi": 0.4, "delta": 1.5 * unit, "spread": 1.0}
    assert_met(problem, request)
    ordinary = trigonometric(n=5, d_u=3, d_v=2, L_u=2.0, L_v=0.7, chi=0.4, delta=1.5, spread=1.0)
    assert problem.constants.F_star.value == pytest.approx(unit * ordinary.constants.F_star.value, rel=1e-9)
