"""Certified minima: the enclosure against dense grids, closed forms, kinks and functions that are flat."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedconv.problems.certified_minimum import Enclosure, Function, minimise, minimise_arc, minimise_semiconcave
from fedconv.problems.split.full_personalization import envelope_minimum

EPS = float(np.finfo(float).eps)
weights = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))
angles = st.lists(
    st.one_of(st.floats(-4, 4), st.sampled_from([0.0, math.pi / 2, -math.pi / 2])), min_size=1, max_size=5
)


def personal(b: float, kappa: float, s: list[float]) -> Function:
    """(1/n) Σ_i (b − √(b²cos²s_i + (b sin s_i − κx)²)), concave in x."""
    cosine, sine = b * np.cos(s), b * np.sin(s)
    return lambda x: b - np.hypot(cosine, sine - kappa * x[:, None]).mean(1)


def arc(a: float, x: np.ndarray) -> np.ndarray:
    return a * (1.0 - np.sqrt(1.0 - x**2))


@given(a=weights, b=weights, kappa=weights, s=angles)
def test_an_arc_is_enclosed(a: float, b: float, kappa: float, s: list[float]) -> None:
    scale = a + b + kappa
    concave = personal(b, kappa, s)
    found = minimise_arc(a, concave, 1e-13 * scale)
    x = np.concatenate([np.linspace(-1, 1, 20001), np.sin(np.linspace(-1.6, 1.6, 20001))])
    grid = (arc(a, x) + concave(x)).min()
    rounding = 16 * EPS * scale
    assert found.lower <= grid + rounding
    assert found.upper <= grid + rounding
    assert 0 <= found.width <= 1.1e-13 * scale
    at = np.array([found.x])
    assert (arc(a, at) + concave(at))[0] == pytest.approx(found.upper, abs=rounding)


@given(a=weights, b=weights, kappa=st.floats(1e-3, 1e3))
def test_one_client_without_shift_has_a_closed_form(a: float, b: float, kappa: float) -> None:
    """Where s = 0: x² = (κ⁴ − a²b²)/(κ⁴ + a²κ²) if κ² > ab, else x = 0."""
    found = minimise_arc(a, personal(b, kappa, [0.0]), 1e-13 * (a + b + kappa))
    square = max(0.0, (kappa**4 - (a * b) ** 2) / (kappa**4 + (a * kappa) ** 2))
    exact = a * (1 - math.sqrt(1 - square)) + b - math.sqrt(b**2 + kappa**2 * square)
    rounding = 16 * EPS * (a + b + kappa)
    assert found.lower - rounding <= exact <= found.upper + rounding


@pytest.mark.parametrize("kappa", [0.3, 1.0, 7.0])
def test_quartic_minimum(kappa: float) -> None:
    """ab = κ²: the second derivative vanishes at the minimum x = 0."""
    found = minimise_arc(1.0, personal(kappa**2, kappa, [0.0]), 1e-13)
    rounding = EPS * 16 * (1 + kappa**2)
    assert -1e-13 - rounding <= found.lower <= rounding
    assert abs(found.upper) <= rounding


@pytest.mark.parametrize("a", [0.0, 0.5, 3.0])
def test_kinks_of_the_personal_part(a: float) -> None:
    """Where s = ±π/2 the personal part is b − (|b − κx| + |b + κx|)/2, with a kink at x = b/κ."""
    b, kappa = 0.5, 1.0
    found = minimise_arc(a, personal(b, kappa, [math.pi / 2, -math.pi / 2]), 1e-13)
    # for |x| ≥ b/κ it is b − κ|x|, so that x = κ/√(a²+κ²) or the flat part's x = 0
    x = kappa / math.hypot(a, kappa)
    outer = arc(a, np.array([x]))[0] + b - kappa * x if x >= b / kappa else 0.0
    assert found.lower - 1e-14 <= min(outer, 0.0) <= found.upper + 1e-14
    assert found.width <= 1.1e-13


@given(
    st.lists(st.tuples(st.floats(-2, 2), st.floats(-3, 3)), min_size=1, max_size=6), st.sampled_from([0.0, 0.5, 4.0])
)
def test_a_minimum_of_parabolas(parabolas: list[tuple[float, float]], extra: float) -> None:
    """min_j (½(x − c_j)² + d_j) is semiconcave with μ = 1 (or any larger μ) and least at the least d_j."""
    c, d = np.array(parabolas).T

    def f(x: np.ndarray) -> np.ndarray:
        return (0.5 * (x[:, None] - c) ** 2 + d).min(1)

    found = minimise_semiconcave(f, 1.0 + extra, -3.0, 2.5, 1e-12)
    assert found.lower <= d.min() + 1e-15
    assert found.upper >= d.min() - 1e-15
    assert found.width <= 1.1e-12
    assert f(np.array([found.x]))[0] == pytest.approx(found.upper, abs=1e-14)


def test_a_concave_function_is_least_at_an_end() -> None:
    found = minimise_semiconcave(lambda x: 1.0 - x**2 - np.abs(x), 0.0, -1.0, 2.0, 1e-13)
    assert found == Enclosure(-5.0, -5.0, 2.0)


def test_too_small_a_mu_is_no_certificate() -> None:
    """What the bound is for: with μ below the curvature the search may miss a narrow well between its points."""

    def well(x: np.ndarray) -> np.ndarray:
        return -np.exp(-(((x - 0.0101) / 1e-3) ** 2))

    honest = minimise_semiconcave(well, 2e6, -1.0, 1.0, 1e-9)
    assert honest.lower <= -1.0 <= honest.upper + 1e-8
    assert honest.width <= 1.1e-9
    assert minimise_semiconcave(well, 0.0, -1.0, 1.0, 1e-9).lower > -0.5


def test_a_flat_function_gives_a_wider_but_honest_enclosure() -> None:
    """μ = 1 for a constant: all pieces stay open, and the search stops at its cap."""
    found = minimise_semiconcave(lambda x: np.full_like(x, 2.0), 1.0, 0.0, 1.0, 1e-15)
    assert found.upper == 2.0
    assert 2.0 - 1e-9 < found.lower < 2.0
    assert found.width > 1e-15


def test_the_bound_decides_what_is_examined() -> None:
    """A bound that claims too much is believed: ``minimise`` halves only where the bound leaves room."""

    def bound(l: np.ndarray, r: np.ndarray, at_l: np.ndarray, at_r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.minimum(at_l, at_r), l

    found = minimise(np.cos, bound, 0.0, 6.0, 1e-12)
    edges = np.cos(np.linspace(0, 6, 65))
    assert found.lower == found.upper == edges.min()


@given(b=st.floats(0.01, 100), lam=st.floats(0.001, 1000), s=st.lists(st.floats(-7, 7), min_size=1, max_size=4))
def test_the_mean_envelope_is_enclosed(b: float, lam: float, s: list[float]) -> None:
    """min_u (1/n) Σ_i min_v b(1 − cos(v − s_i)) + (λ/2)(v − u)² on a grid of u and v."""
    found = envelope_minimum(b, np.array(s), lam)
    u, v = np.linspace(-np.pi, np.pi, 121), np.linspace(-3 * np.pi, 3 * np.pi, 1501)
    tie = 0.5 * lam * (v - u[:, None]) ** 2
    grid = np.mean([(b * (1 - np.cos(v - x)) + tie).min(1) for x in s], axis=0)
    assert found.lower <= grid.min() + EPS * b
    assert found.width <= 1.1e-13 * b
    assert found.upper <= grid.min() + EPS * 32 * (b + lam)
    nearest = grid[np.abs(u - found.x).argmin()]
    step = max(u[1] - u[0], v[1] - v[0])
    assert found.upper >= nearest - b * step - 0.5 * lam * step**2  # the envelope has slopes up to b


def test_the_envelope_of_one_client_and_of_opposite_ones() -> None:
    assert envelope_minimum(2.0, np.array([0.7]), 3.0).upper == pytest.approx(0.0, abs=1e-14)
    # s = ±σ: u = 0 and v = ±w with b sin(σ − w) = λw, or u = π by symmetry; a large λ ties v to u
    stiff = envelope_minimum(1.0, np.array([-0.5, 0.5]), 1e9)
    assert stiff.upper == pytest.approx(1 - math.cos(0.5), rel=1e-8)
    assert stiff.x == pytest.approx(0.0, abs=1e-5)
    soft = envelope_minimum(1.0, np.array([-0.5, 0.5]), 1e-9)
    assert soft.upper == pytest.approx(0.5e-9 * 0.25, rel=1e-6)
