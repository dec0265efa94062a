"""Worst cases by performance estimation: closed forms, the class of functions, safe values, and the command.

Tests that solve a program need the extra ``pep`` and are skipped without it; what the command says without it is
tested everywhere.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedconv.analysis import worst_case as module
from fedconv.analysis.theorems import theorem
from fedconv.analysis.worst_case import (
    SETTINGS,
    Setting,
    Tightness,
    attained,
    closed_form,
    descent_mean,
    descent_min,
    magnitudes,
)
from fedconv.analysis.worst_case import program as programs
from fedconv.analysis.worst_case.program import Coupled, Evaluation, Metric, worst_case
from fedconv.analysis.worst_case.solver import INSTALL, solve
from fedconv.cli import main
from fedconv.commands import tightness as command
from fedconv.problems.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
STEPS = (0.25, 0.5, 1.0)


@pytest.fixture
def pepit() -> Any:
    """PEPit, or the test is skipped."""
    pytest.importorskip("cvxpy")
    return pytest.importorskip("PEPit")


def descent(T: int, eta: float) -> Setting:
    return Setting("gd", "gd", "FA", T, eta)


# ---- closed forms ------------------------------------------------------------------------------------------


def run_descent(derivative: Any, x: float, step: float, steps: int) -> np.ndarray:
    out = []
    for _ in range(steps):
        out.append(derivative(x))
        x -= step * out[-1]
    return np.array(out)


@pytest.mark.parametrize("tau", [1, 2])
@pytest.mark.parametrize("eta", STEPS)
@pytest.mark.parametrize("T", range(1, 6))
def test_a_parabola_attains_the_closed_form_of_the_mean(T: int, eta: float, tau: int) -> None:
    gradients = run_descent(lambda x: x, np.sqrt(2.0), eta / tau, T * tau)[::tau]
    assert np.mean(gradients**2) == pytest.approx(descent_mean(T, eta, tau), rel=1e-12)


@pytest.mark.parametrize("eta", STEPS)
@pytest.mark.parametrize("T", range(1, 6))
def test_a_zigzag_attains_the_closed_form_of_the_least_gradient(T: int, eta: float) -> None:
    G = np.sqrt(descent_min(T, eta))
    knots, values = [0.0], [G]  # the derivative is piecewise linear; from the start to the left
    for t in range(T - 1):
        knots += [-(t + 0.5) * eta * G, -(t + 1) * eta * G]
        values += [G * (1 - eta / 2), G]
    knots.append(knots[-1] - G)
    values.append(0.0)
    x, y = np.array(knots[::-1]), np.array(values[::-1])
    assert np.abs(np.diff(y) / np.diff(x)) == pytest.approx(1.0)  # 1-smooth
    assert np.all(y >= 0)  # so the infimum is where the derivative is 0
    assert np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) == pytest.approx(1.0, rel=1e-12)  # the gap
    gradients = run_descent(lambda z: np.interp(z, x, y), 0.0, eta, T)
    assert np.min(gradients**2) == pytest.approx(descent_min(T, eta), rel=1e-12)


@pytest.mark.parametrize("eta", STEPS)
@pytest.mark.parametrize("T", range(1, 6))
def test_gradient_descent_has_its_closed_forms(pepit: Any, T: int, eta: float) -> None:
    setting = descent(T, eta)
    known_values: dict[Metric, float] = {"mean": descent_mean(T, eta), "min": descent_min(T, eta)}
    for metric, known in known_values.items():
        found = worst_case(setting, (1.0, 0.0), magnitudes(setting), metric)
        assert found.value == pytest.approx(known, rel=1e-5)
        assert found.primal == pytest.approx(known, rel=1e-5)
        assert found.value >= known * (1 - 1e-12)  # safe, not only close


@pytest.mark.parametrize("N", [1, 2, 4])
def test_known_rates_with_the_classes_of_pepit(pepit: Any, N: int) -> None:
    """Convex: f(x_N) − f★ ≤ L R²/(4N+2), Drori and Teboulle 2014. Smooth: 4L/(3N)·(f(x₀) − f(x_N)), Taylor 2017."""
    from PEPit.functions import SmoothConvexFunction, SmoothFunction

    pep = pepit.PEP()
    f = pep.declare_function(SmoothConvexFunction, L=1.0)
    best = f.stationary_point()
    x = pep.set_initial_point()
    pep.set_initial_condition((x - best) ** 2 <= 1)
    for _ in range(N):
        x = x - f.gradient(x)
    pep.set_performance_metric(f(x) - f(best))
    assert solve(pep, (1.0, 1.0)).value == pytest.approx(1 / (4 * N + 2), rel=1e-5)

    pep = pepit.PEP()
    f = pep.declare_function(SmoothFunction, L=1.0)
    x = first = pep.set_initial_point()
    pep.set_performance_metric(f.gradient(x) ** 2)
    for _ in range(N):
        x = x - f.gradient(x)
        pep.set_performance_metric(f.gradient(x) ** 2)
    pep.set_initial_condition(f(first) - f(x) <= 1)
    assert solve(pep, (2.0, 1.0)).value == pytest.approx(4 / (3 * N), rel=1e-5)
    assert 1 / (1 / descent_min(N + 1, 1.0) - 0.5) == pytest.approx(4 / (3 * N))


# ---- the class of functions --------------------------------------------------------------------------------


class Vector(np.ndarray):
    """A vector with PEPit's products: ``a * b`` of two is the inner product, ``a ** 2`` the squared norm."""

    def __mul__(self, other: Any) -> Any:
        return float(np.dot(self, other)) if isinstance(other, Vector) else np.asarray(self).__mul__(other).view(Vector)

    def __pow__(self, power: int) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        assert power == 2
        return float(np.dot(self, self))


class Measured(Coupled):
    """A client whose unknown products of distances are the true ones."""

    def _product(self, a: Evaluation, b: Evaluation) -> float:
        return float(np.linalg.norm(a.u - b.u) * np.linalg.norm(a.v - b.v))


def random_client(rng: np.random.Generator, chi: float, scale: float) -> Measured:
    """Values of a random nonconvex function that meets A1 with constants ``scale`` and ``scale`` χ, at random points.

    A convex combination of a quadratic with all blocks of its Hessian extreme and of cosines of a·u + b·v with
    (‖a‖, ‖b‖) = (1, χ) or (χ, 1). Points lie on a grid of the two blocks, so that pairs share a block.
    """
    d = int(rng.choice([1, 3]))
    parts = rng.dirichlet(np.full(3, 0.3)) * scale

    def unit() -> np.ndarray:
        x = rng.standard_normal(d)
        return x / np.linalg.norm(x)

    P, Q, R = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(3))
    H, K, M = P @ np.diag(rng.choice([-1, 1], d)) @ P.T, Q @ np.diag(rng.choice([-1, 1], d)) @ Q.T, chi * R
    waves = [(parts[1], unit(), chi * unit(), rng.uniform(0, 6)), (parts[2], chi * unit(), unit(), rng.uniform(0, 6))]

    def at(u: np.ndarray, v: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        f = parts[0] * (u @ H @ u / 2 + v @ K @ v / 2 + u @ M @ v)
        g, h = parts[0] * (H @ u + M @ v), parts[0] * (K @ v + M.T @ u)
        for weight, a, b, phase in waves:
            f += weight * np.cos(a @ u + b @ v + phase)
            g = g - weight * a * np.sin(a @ u + b @ v + phase)
            h = h - weight * b * np.sin(a @ u + b @ v + phase)
        return float(f), g, h

    us, vs = ([(rng.uniform(0.1, 3) * unit()).view(Vector) for _ in range(3)] for _ in "uv")
    client = Measured(None, None, chi)
    for u, v in itertools.product(us, vs):
        f, g, h = at(np.asarray(u), np.asarray(v))
        client.points[id(u), id(v)] = Evaluation(u, v, g.view(Vector), h.view(Vector), f)
    return client


@pytest.mark.parametrize("chi", [0.2, 0.5, 0.9])
def test_real_functions_meet_every_inequality_of_the_class(chi: float) -> None:
    rng = np.random.default_rng(7)
    for _ in range(60):
        assert all(random_client(rng, chi, 0.999).conditions())


def test_rougher_functions_do_not_meet_them() -> None:
    rng = np.random.default_rng(7)
    assert not all(all(random_client(rng, 0.5, 1.05).conditions()) for _ in range(60))


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("chi", [0.3, 0.9])
def test_real_functions_meet_the_inequalities_with_the_infimum(chi: float, n: int) -> None:
    """Convex quadratics with minimum 0 at 0, all curvatures 1 and cross terms up to χ; one block may be at rest."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        u, rests = rng.standard_normal() * rng.choice([0, 1]), rng.choice([0, 1])
        values = []
        for _ in range(n):
            v, c = rng.standard_normal() * (1 - rests * (u != 0)), chi * rng.choice([-1, 0, 1]) * 0.999
            g, h = (np.array([x]).view(Vector) for x in (0.999 * u + c * v, 0.999 * v + c * u))
            values.append(Evaluation(u, v, g, h, 0.999 * (u * u + v * v) / 2 + c * u * v))
        assert all(programs.above_infimum(values, chi))


# ---- settings ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results() -> dict[str, Tightness]:
    """Every built-in setting, solved once."""
    pytest.importorskip("cvxpy")
    pytest.importorskip("PEPit")
    return {name: module.tightness(setting) for name, setting in SETTINGS.items()}


def test_there_are_enough_settings() -> None:
    assert len(SETTINGS) >= 12
    assert {s.theorem for s in SETTINGS.values()} == {"FA", "FA*", "FS", "FS*"}
    assert {(s.T, s.algorithm) for s in SETTINGS.values()} >= {(T, "gd") for T in range(1, 6)}
    for algorithm in ("fedalt", "fedsim"):
        ours = [s for s in SETTINGS.values() if s.algorithm == algorithm]
        assert {s.tau for s in ours} == {1, 2}
        assert {s.chi for s in ours} == {0.0, 0.5}
        assert {s.n for s in ours} == {1, 2}


@pytest.mark.long
def test_no_worst_case_exceeds_its_bound(results: dict[str, Tightness]) -> None:
    for name, result in results.items():
        assert result.tightness <= 1 + 1e-7, name  # gradient descent at η = 1 is exactly 1
        assert not result.refuted, name


def test_the_parts_of_a_result_are_in_order(results: dict[str, Tightness]) -> None:
    for name, r in results.items():
        assert r.worst_case == r.dual + r.residual, name
        assert 0 <= r.residual < 1e-4 * r.worst_case, name
        assert r.primal <= r.worst_case * (1 + 1e-8), name
        assert r.attained <= r.worst_case * (1 + 1e-12), name
        assert r.attained >= 0.98 * r.worst_case, name  # the relaxation costs little


def test_exact_settings_have_their_closed_form(results: dict[str, Tightness]) -> None:
    exact = [r for r in results.values() if r.setting.kind == "exact"]
    assert len(exact) >= 12
    for r in exact:
        assert r.closed_form is not None
        assert r.worst_case == pytest.approx(r.closed_form, rel=1e-5), r.setting.name
        assert r.attained == pytest.approx(r.closed_form, rel=1e-9), r.setting.name
    assert all(r.closed_form is None for r in results.values() if r.setting.kind == "relaxed")


@pytest.mark.parametrize(
    "name",
    ["fedalt-T2-eta0.3-tau2-chi0.5", "local-gd-T3-eta0.3-n2-tau2-delta0.5", "fedsim-T2-eta0.3-n2-chi0.5-delta0.5"],
)
def test_the_magnitudes_bound_the_solution(pepit: Any, name: str) -> None:
    from PEPit.expression import Expression

    setting = SETTINGS[name]
    products, others = magnitudes(setting)
    pep, _ = programs.program(setting, setting.bound.weights, "mean")
    solve(pep, (products, others))
    assert np.abs(pep.G_value).max() <= products
    assert max(abs(x.eval()) for x in Expression.list_of_leaf_expressions) <= others


def test_a_weakened_theorem_is_refuted(pepit: Any) -> None:
    """ΔF₀ in place of 2ΔF₀: the worst case at η = 1 is twice that bound."""
    setting = descent(1, 1.0)
    true = theorem("FA")
    values = true.mutate(true.mutant("gap1")).evaluate(setting.inputs.values, setting.bound.parameters)
    found = worst_case(setting, setting.bound.weights, magnitudes(setting))
    assert found.primal / float(values["rhs"]) == pytest.approx(2.0, rel=1e-6)
    weakened = module.Bound(float(values["rhs"]), setting.bound.weights, {})
    object.__setattr__(setting, "bound", weakened)
    assert module.tightness(setting).refuted


def test_diversity_counts(pepit: Any) -> None:
    """More diversity, a worse worst case; with any, it is no less than one client's."""
    base = replace(SETTINGS["local-gd-T3-eta0.3-n2-tau2-delta0.5"], T=2, eta=0.8)
    values = [worst_case(replace(base, delta=x), (1.0, 0.0), (50.0, 500.0)).primal for x in (0.0, 0.5, 2.0)]
    assert values[0] >= descent_mean(2, 0.8, 2) * (1 - 1e-6)
    assert values[0] < values[1] * (1 - 1e-4) < values[2] * (1 - 2e-4)


def test_the_diversity_bound_is_delta_squared(pepit: Any) -> None:
    """Where it binds, the gradients at a visited point differ by exactly that much."""
    setting = replace(SETTINGS["local-gd-T3-eta0.3-n2-tau2-delta0.5"], T=2, eta=0.8, delta=0.5)
    pep, run = programs.program(setting, (1.0, 0.0), "mean")
    solve(pep, (50.0, 500.0))
    spreads = [((a.grad_u - b.grad_u) ** 2 / 4).eval() for a, b in run.together]
    assert max(spreads) == pytest.approx(0.25, rel=1e-5)


def test_sensitivity_counts(pepit: Any) -> None:
    """FedSim with η = ½: cross terms make the worst case larger."""
    settings = [replace(SETTINGS["fedsim-T3-eta0.5-chi0.5"], T=2, chi=chi) for chi in (0.0, 0.3, 0.9)]
    found = [worst_case(s, (1.0, 1.0), (10.0, 100.0)).primal for s in settings]
    assert found[0] < found[1] - 0.05 < found[2] - 0.1


# ---- the lower value ---------------------------------------------------------------------------------------


def left_side(setting: Setting, weights: tuple[float, float], H: np.ndarray, u: float, v: float) -> float:
    """(1/T) Σ_t (w_u X_t + w_v Y_t), step by step as the algorithms are defined, over the gap at the start."""
    gap, total = (H[0, 0] * u * u + 2 * H[0, 1] * u * v + H[1, 1] * v * v) / 2, 0.0
    step = setting.eta / setting.tau
    for _ in range(setting.T):
        total += weights[1] * (H[1, 0] * u + H[1, 1] * v) ** 2
        if setting.algorithm == "fedsim":
            total += weights[0] * (H[0, 0] * u + H[0, 1] * v) ** 2
            for _ in range(setting.tau):
                u, v = u - step * (H[0, 0] * u + H[0, 1] * v), v - step * (H[1, 0] * u + H[1, 1] * v)
        else:
            for _ in range(setting.tau):
                v -= step * (H[1, 0] * u + H[1, 1] * v)
            total += weights[0] * (H[0, 0] * u + H[0, 1] * v) ** 2
            for _ in range(setting.tau):
                u -= step * (H[0, 0] * u + H[0, 1] * v)
    return total / setting.T / gap


@pytest.mark.parametrize("name", ["fedalt-T2-eta0.3-tau2-chi0.5", "fedsim-T2-eta0.2-tau2-chi0.5"])
def test_the_lower_value_is_that_of_runs(name: str) -> None:
    setting = SETTINGS[name]
    weights = setting.bound.weights
    angles = np.linspace(0, np.pi, 2000, endpoint=False)
    for H in (np.array([[1.0, 0.5], [0.5, 0.8]]), np.array([[0.5, 0.3], [0.3, 1.0]])):
        runs = [left_side(setting, weights, H, np.cos(x), np.sin(x)) for x in angles]
        assert max(runs) == pytest.approx(module._largest(setting, weights, H), rel=1e-5)
        assert max(runs) <= attained(setting, weights) * (1 + 1e-9)


# ---- bad settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"algorithm": "sgd"}, "algorithm must be gd, local_gd, fedalt or fedsim; got 'sgd'"),
        ({"theorem": "FS"}, "theorem must be FA or FA[*] for gd; got 'FS'"),
        ({"T": 6}, "T must be an integer from 1 to 5; got 6"),
        ({"T": True}, "T must be an integer from 1 to 5; got True"),
        ({"n": 2}, "gd means n = 1 and tau = 1; got n = 2, tau = 1"),
        ({"eta": 0.0}, r"eta must be in \(0, 1\]; got 0.0"),
        ({"eta": float("nan")}, r"eta must be in \(0, 1\]; got nan"),
        ({"chi": 0.5}, "chi must be 0 for gd, which has no personal block; got 0.5"),
        ({"chi": 1.0, "algorithm": "fedalt"}, r"chi must be in \[0, 1\); got 1.0"),
        ({"delta": float("inf")}, "delta must be a number >= 0; got inf"),
    ],
)
def test_a_bad_setting_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=f"^{says}$"):
        replace(descent(2, 0.5), **changes)


def test_a_step_without_premises_is_refused() -> None:
    setting = replace(SETTINGS["fedsim-T3-eta0.5-chi0.5"], eta=0.9)
    with pytest.raises(InputError, match=r"^theorem FS admits no free parameters at eta = 0\.9, chi = 0\.5$"):
        _ = setting.bound


# ---- the command -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["PEPit", "cvxpy", "clarabel"])
def test_without_the_extra_the_command_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["tightness"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{INSTALL}\n"
    assert "pip install 'fedconv[pep]'" in err


def test_an_unknown_setting_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tightness", "--setting", "gd-T9-eta1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("--setting must be one of gd-T1-eta0.5, ")
    assert "got 'gd-T9-eta1'; did you mean 'gd-T" in err
    assert err.count("\n") == 1


def test_the_table_names_each_setting_and_its_ratio(pepit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["fedsim-T1-eta0.5-chi0.5", "gd-T2-eta0.5"]
    assert main(["tightness", *(x for name in names for x in ("--setting", name))]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = [line.split() for line in out.splitlines() if line.split() and line.split()[0] in names]
    assert rows == [
        ["fedsim-T1-eta0.5-chi0.5", "FS", "relaxed", "4", "3", "3", "0.75", "1.333"],
        ["gd-T2-eta0.5", "FA", "exact", "2", "1.25", "1.25", "0.625", "1.6"],
    ]


def test_json_has_everything(pepit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tightness", "--setting", "gd-T2-eta0.5", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["results"]
    assert (row["name"], row["kind"], row["theorem"], row["T"], row["bound"]) == ("gd-T2-eta0.5", "exact", "FA", 2, 2.0)
    assert row["worst_case"] == row["dual"] + row["residual"]
    assert row["closed_form"] == closed_form(SETTINGS["gd-T2-eta0.5"], (1.0, 0.0)) == 1.25
    assert row["tightness"] == row["worst_case"] / row["bound"]


def test_a_run_above_the_bound_is_said_and_gives_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(setting: Setting) -> Tightness:
        return Tightness(setting, 1.0, 2.0, 2.0, 2.0, 0.0, 2.0, 2.0)

    monkeypatch.setattr(command, "tightness", wrong)
    monkeypatch.setattr(command, "pepit", lambda: None)
    assert main(["tightness", "--setting", "gd-T1-eta1"]) == 1
    assert "gd-T1-eta1: a quadratic attains 2, above the bound" in capsys.readouterr().out


def test_help_needs_nothing_heavy_and_settings_no_solver() -> None:
    code = """
import sys
from fedconv.cli import main
assert main(["tightness", "--help"]) == 0
print("loaded:", [name for name in ("numpy", "torch", "sympy", "PEPit", "cvxpy") if name in sys.modules])
import fedconv.analysis.worst_case, fedconv.analysis.worst_case.program, fedconv.commands.tightness
print("loaded:", [name for name in ("PEPit", "cvxpy", "clarabel") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if line.startswith("loaded")] == ["loaded: []"] * 2
