"""Sharp instances: their closed-form tightness against plain recursions of FedAlt and FedSim with τ = 1.

The bounds are Theorems FA and FS written out for one local step, where K_u = K_v = K = 0, so that
LHS = (1/T) Σ_t (X_t/L_u + p Y_t/L_v) ≤ 2ΔF₀/(ηT) + ηS₁.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from fedconv.problems.errors import InputError
from fedconv.problems.split.quadratic import Quadratic
from fedconv.problems.split.sharp import (
    KINDS,
    coupled,
    descent,
    descent_tightness,
    fedalt_round,
    noise,
    personal,
    personal_tightness,
    sampling,
    sharp,
    start,
    stationary_tightness,
)

ETAS = [0.1, 0.6, 1.0]
ROUNDS = [1, 2, 7, 200]


def shuffle_factor(n: int, m: int) -> float:
    """c of the theory page."""
    return 0.0 if n == m else (n - m) / (m * (n - 1))


def fa_bound(*, gap0=0.0, eta, T, n=1, m=1, L_u=1.0, L_v=1.0, sigma_u=0.0, sigma_v=0.0, delta=0.0, chi=0.0, alpha=0.0):
    """Theorem FA at τ_u = τ_v = 1 (ω → 0, θ, θ_v → ∞; α → 0 where m = n or χ = 0), its conditions asserted."""
    p, c = m / n, shuffle_factor(n, m)
    virtual = 0.0 if chi * (1 - p) == 0 else chi**2 * (1 - p) ** 2 / alpha
    assert (1 + alpha) * eta <= 1 + 1e-12
    assert eta * (1 + virtual / p) <= 1 + 1e-12
    S_1 = sigma_u**2 / (m * L_u) + (1 + alpha) * c * delta**2 / L_u + sigma_v**2 / L_v * (p + virtual)
    return 2 * gap0 / (eta * T) + eta * S_1


def fs_bound(*, gap0=0.0, eta, T, n=1, m=1, L_u=1.0, L_v=1.0, sigma_u=0.0, sigma_v=0.0, delta=0.0, chi=0.0, alpha=0.0):
    """Theorem FS at τ = 1 with the same limits."""
    p, c = m / n, shuffle_factor(n, m)
    joint = 0.0 if chi == 0 else chi**2 * p / alpha
    assert (1 + alpha) * eta <= 1 + 1e-12
    assert eta * (1 + joint) <= 1 + 1e-12
    S_1 = (1 + alpha) * (sigma_u**2 / (m * L_u) + c * delta**2 / L_u) + sigma_v**2 / L_v * p * (1 + joint)
    return 2 * gap0 / (eta * T) + eta * S_1


def arrays(problem: Quadratic) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(getattr(problem, name)) for name in ("A", "B", "C", "a", "b"))


def gap(problem: Quadratic, u: np.ndarray, v: np.ndarray) -> float:
    """F(u, V) − F★ from the arrays."""
    A, B, C, a, b = arrays(problem)
    value = np.mean(
        [
            0.5 * u @ A[i] @ u + u @ C[i] @ v[i] + 0.5 * v[i] @ B[i] @ v[i] - a[i] @ u - b[i] @ v[i]
            for i in range(problem.n)
        ]
    )
    return float(value) - problem.constants.F_star.value


def begin(kind: str, problem: Quadratic, noisy: bool = False) -> tuple[np.ndarray, np.ndarray]:
    u, v = start(kind, problem, noisy=noisy)
    return u.numpy(), v.numpy()


@pytest.mark.parametrize("L", [1.0, 7.5])
@pytest.mark.parametrize("eta", ETAS)
@pytest.mark.parametrize("T", ROUNDS)
def test_descent(L: float, eta: float, T: int) -> None:
    problem = descent(L=L)
    A = arrays(problem)[0]
    u, v = begin("descent", problem)
    bound = fa_bound(gap0=gap(problem, u, v), eta=eta, T=T, L_u=L)
    assert bound == pytest.approx(fs_bound(gap0=gap(problem, u, v), eta=eta, T=T, L_u=L), rel=1e-14)
    total = 0.0
    for _ in range(T):
        gradient = A[0] @ u
        total += float(gradient @ gradient) / L
        u = u - eta / L * gradient
    tightness = total / T / bound
    assert tightness == pytest.approx(descent_tightness(eta=eta, T=T), rel=1e-12)
    assert tightness <= 1 + 1e-12
    if eta == 1.0:
        assert tightness == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("L", [1.0, 0.2])
@pytest.mark.parametrize("eta", ETAS)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 1), (5, 3)])
@pytest.mark.parametrize("T", ROUNDS)
def test_personal(L: float, eta: float, n: int, m: int, T: int) -> None:
    problem = personal(L=L, n=n)
    assert problem.d_u == 0
    B = arrays(problem)[1][:, 0, 0]
    u, v = begin("personal", problem)
    p = m / n
    bound = fa_bound(gap0=gap(problem, u, v), eta=eta, T=T, n=n, m=m, L_v=L)
    assert bound == pytest.approx(fs_bound(gap0=gap(problem, u, v), eta=eta, T=T, n=n, m=m, L_v=L), rel=1e-14)
    square, total = np.square(v[:, 0]), 0.0  # E v_i²: sampled with probability p, else kept
    for _ in range(T):
        total += p * float((B**2 * square).mean()) / L
        square = (1 - p) * square + p * (1 - eta / L * B) ** 2 * square
    tightness = total / T / bound
    assert tightness == pytest.approx(personal_tightness(eta=eta, T=T, p=p), rel=1e-11)
    assert tightness <= 1 + 1e-12
    if eta == 1.0 and T == 200:
        assert tightness > 1 - 1e-12


def test_personal_by_simulation() -> None:
    """The same with cohorts drawn, client by client."""
    rng = np.random.default_rng(0)
    problem, eta, n, m, T, R = personal(L=2.0, n=4), 0.7, 4, 2, 6, 20_000
    _, v = begin("personal", problem)
    v = np.tile(v[:, 0], (R, 1))
    bound = fa_bound(gap0=gap(problem, np.zeros(0), v[0][:, None]), eta=eta, T=T, n=n, m=m, L_v=2.0)
    total = np.zeros(R)
    for _ in range(T):
        total += m / n * np.square(2.0 * v).mean(1) / 2.0 / T
        sampled = rng.random((R, n)).argsort(1) < m
        v = np.where(sampled, v - eta / 2.0 * 2.0 * v, v)
    ratio = total / bound
    error = 5 * ratio.std() / math.sqrt(R)
    assert abs(ratio.mean() - personal_tightness(eta=eta, T=T, p=m / n)) < error < 0.01


@pytest.mark.parametrize("L", [1.0, 3.0])
@pytest.mark.parametrize("eta", ETAS)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 2)])
@pytest.mark.parametrize("T", ROUNDS)
def test_noise(L: float, eta: float, n: int, m: int, T: int) -> None:
    sigma_u = 1.7
    problem = noise(L=L, n=n)
    assert problem.constants.delta.value == 0.0
    u, v = begin("noise", problem)
    assert gap(problem, u, v) == 0.0
    bound = fa_bound(eta=eta, T=T, n=n, m=m, L_u=L, sigma_u=sigma_u)
    assert bound == pytest.approx(fs_bound(eta=eta, T=T, n=n, m=m, L_u=L, sigma_u=sigma_u), rel=1e-14)
    square, total = float(u[0]) ** 2, 0.0
    for _ in range(T):
        total += L**2 * square / L
        square = (1 - eta) ** 2 * square + (eta / L) ** 2 * sigma_u**2 / m
    tightness = total / T / bound
    assert tightness == pytest.approx(stationary_tightness(eta=eta, T=T), rel=1e-11, abs=1e-14)
    assert tightness <= 1 + 1e-12
    if eta == 1.0:
        assert tightness == pytest.approx((T - 1) / T, abs=1e-12)


@pytest.mark.parametrize("eta", ETAS)
@pytest.mark.parametrize(("n", "m"), [(2, 1), (5, 2), (6, 5)])
@pytest.mark.parametrize("T", ROUNDS)
def test_sampling(eta: float, n: int, m: int, T: int) -> None:
    L, delta = 2.5, 0.8
    problem = sampling(L=L, n=n, delta=delta)
    assert problem.constants.delta.value == pytest.approx(delta, rel=1e-12)
    assert problem.constants.delta.grade == "exact"
    assert problem.constants.rho.value == 0.0
    u, v = begin("sampling", problem)
    assert gap(problem, u, v) == pytest.approx(0.0, abs=1e-14)
    bound = fa_bound(eta=eta, T=T, n=n, m=m, L_u=L, delta=delta)
    assert bound == pytest.approx(fs_bound(eta=eta, T=T, n=n, m=m, L_u=L, delta=delta), rel=1e-14)
    a = arrays(problem)[3][:, 0]
    pushes = [np.mean(a[list(cohort)]) for cohort in combinations(range(n), m)]  # all cohorts, equally likely
    assert np.mean(pushes) == pytest.approx(0.0, abs=1e-14)
    square, total = float(u[0]) ** 2, 0.0
    for _ in range(T):
        total += L**2 * square / L
        square = (1 - eta) ** 2 * square + (eta / L) ** 2 * float(np.mean(np.square(pushes)))
    tightness = total / T / bound
    assert tightness == pytest.approx(stationary_tightness(eta=eta, T=T), rel=1e-11, abs=1e-14)
    assert tightness <= 1 + 1e-12


@pytest.mark.parametrize(("L_u", "L_v", "chi"), [(1.0, 1.0, 0.5), (4.0, 0.3, 0.9), (1.0, 2.0, 1.0)])
@pytest.mark.parametrize("part", [0.5, 1.0])
@pytest.mark.parametrize("T", ROUNDS)
def test_coupled_under_fedsim(L_u: float, L_v: float, chi: float, part: float, T: int) -> None:
    """One client: FS is an equality at its largest step, for descent and (T → ∞) for fully dependent noise."""
    problem = coupled(L=L_u, L_v=L_v, chi=chi)
    assert problem.constants.chi == pytest.approx(chi, rel=1e-12)
    assert problem.constants.delta.value == 0.0
    A, B, C, _, _ = (x.reshape(-1)[0] for x in arrays(problem))
    H = np.array([[A, C], [C, B]])
    eta = part / (1 + chi)
    step, weight = np.diag([eta / L_u, eta / L_v]), np.diag([1 / L_u, 1 / L_v])
    u, v = begin("coupled", problem)
    bound = fs_bound(gap0=gap(problem, u, v), eta=eta, T=T, L_u=L_u, L_v=L_v, chi=chi, alpha=chi)
    w, total = np.array([u[0], v[0, 0]]), 0.0
    for _ in range(T):
        total += float(H @ w @ weight @ H @ w)
        w = w - step @ H @ w
    assert total / T / bound == pytest.approx(descent_tightness(eta=part, T=T), rel=1e-11)
    assert total / T <= bound * (1 + 1e-12)

    sigma_u, sigma_v = 1.3 * math.sqrt(L_u), 1.3 * math.sqrt(L_v)
    bound = fs_bound(eta=eta, T=T, L_u=L_u, L_v=L_v, chi=chi, alpha=chi, sigma_u=sigma_u, sigma_v=sigma_v)
    kick = step @ np.array([sigma_u, sigma_v])  # one draw moves both blocks
    moment, total = np.zeros((2, 2)), 0.0
    u, v = begin("coupled", problem, noisy=True)
    assert not u.any()
    assert not v.any()
    for _ in range(T):
        total += float(np.trace(H @ weight @ H @ moment))
        moment = (np.eye(2) - step @ H) @ moment @ (np.eye(2) - step @ H).T + np.outer(kick, kick)
    assert total / T / bound == pytest.approx(stationary_tightness(eta=part, T=T), rel=1e-11, abs=1e-14)
    assert total / T <= bound * (1 + 1e-12)


@pytest.mark.parametrize("chi", [0.1, 0.5, 0.95])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 2), (10, 1), (3, 2)])
def test_coupled_under_one_round_of_fedalt(chi: float, n: int, m: int) -> None:
    L_u, L_v = 2.0, 0.7
    p = m / n
    problem = coupled(L=L_u, L_v=L_v, chi=chi, n=n)
    A, B, C, _, _ = (x.reshape(n)[0] for x in arrays(problem))
    eta, stated, (x, y) = fedalt_round(p=p, chi=chi)
    alpha = chi * (1 - p) / math.sqrt(p)

    def tightness(x: float, y: float) -> float:
        u, v = np.array([x / math.sqrt(L_u)]), np.full((n, 1), y / math.sqrt(L_v))
        virtual = v - eta / L_v * (B * v + C * u)
        X = float(np.mean(A * u + C * virtual)) ** 2
        Y = float(np.square(B * v + C * u).mean())
        bound = fa_bound(gap0=gap(problem, u, v), eta=eta, T=1, n=n, m=m, L_u=L_u, L_v=L_v, chi=chi, alpha=alpha)
        return (X / L_u + p * Y / L_v) / bound

    assert tightness(x, y) == pytest.approx(stated, rel=1e-11)
    assert stated <= 1 + 1e-12
    if m == n:
        assert stated == pytest.approx(1.0, rel=1e-12)
    around = [tightness(math.cos(angle), math.sin(angle)) for angle in np.linspace(0, math.pi, 200)]
    assert max(around) <= stated * (1 + 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_sharp_builds_every_kind(kind: str) -> None:
    problem = sharp(kind=kind, L=3.0)
    assert max(problem.constants.L_u.value, problem.constants.L_v.value) == pytest.approx(3.0, rel=1e-14)
    assert problem.constants.L_u.grade == "exact"
    point = problem.minimiser()
    assert point is not None
    assert float(problem.objective(*point)) == pytest.approx(problem.constants.F_star.value, abs=1e-14)


def test_sharp_passes_arguments_on() -> None:
    problem = sharp(kind="coupled", L=3.0, L_v=2.0, chi=0.25, n=4)
    assert problem.n == 4
    assert problem.constants.L_v.value == pytest.approx(2.0, rel=1e-14)
    assert problem.constants.chi == pytest.approx(0.25, rel=1e-12)
    assert sharp(kind="sampling", n=6, delta=0.3).constants.delta.value == pytest.approx(0.3, rel=1e-12)
    assert sharp(kind="personal", n=7).n == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "blunt"}, ["kind", "blunt", *KINDS]),
        ({"kind": "descent", "L": 0.0}, ["L", "> 0", "0.0"]),
        ({"kind": "noise", "L": math.inf}, ["L", "inf"]),
        ({"kind": "personal", "n": 0}, ["n", "at least 1", "0"]),
        ({"kind": "sampling", "n": 1}, ["n", "at least 2", "1"]),
        ({"kind": "sampling", "delta": 0.0}, ["delta", "> 0"]),
        ({"kind": "coupled", "chi": 1.5}, ["chi", "at most 1", "1.5"]),
        ({"kind": "coupled", "chi": -0.5}, ["chi", "> 0", "-0.5"]),
        ({"kind": "coupled", "L_v": -1.0}, ["L_v", "> 0", "-1.0"]),
        ({"kind": "descent", "chi": 0.5}, ["'descent'", "takes L only", "chi=0.5"]),
        ({"kind": "noise", "delta": 0.5}, ["'noise'", "takes L, n only", "delta=0.5"]),
    ],
)
def test_bad_input_is_one_sentence(arguments: dict, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        sharp(**arguments)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_bad_round_of_fedalt() -> None:
    with pytest.raises(InputError, match="p must lie"):
        fedalt_round(p=0.0, chi=0.5)
    with pytest.raises(InputError, match="chi must lie"):
        fedalt_round(p=0.5, chi=1.0)
    with pytest.raises(InputError, match="kind must be one of"):
        start("blunt", descent())
