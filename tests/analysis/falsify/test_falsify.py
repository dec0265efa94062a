"""The falsifier: it breaks every weakened theorem and no theorem, and what it says can be checked without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedconv.analysis import falsify as falsifier
from fedconv.analysis.exact import exact_trace
from fedconv.analysis.falsify import falsify, search_spaces, spaces
from fedconv.analysis.falsify.quick_verdict import full_verdict, quick_verdict, verify_weakened
from fedconv.analysis.falsify.shrink import shrink
from fedconv.analysis.falsify.spaces.ascent import Ascent
from fedconv.analysis.falsify.spaces.quadratic import QuadraticSpace
from fedconv.analysis.falsify.spaces.quadratic.layout import Layout
from fedconv.analysis.falsify.spaces.quadratic.moments import Batch, Shape, gap, means
from fedconv.analysis.falsify.spaces.search import Record
from fedconv.analysis.falsify.spaces.sides import largest_step
from fedconv.analysis.falsify.spaces.space import Scores
from fedconv.analysis.falsify.spaces.trigonometric import TrigonometricSpace
from fedconv.analysis.theorems import THEOREMS
from fedconv.analysis.verdicts.verify import verify_settings
from fedconv.cli import main
from fedconv.problem_file.settings import settings_from

PAIRS = [(key, mutant.key) for key, theorem in THEOREMS.items() for mutant in theorem.mutants]
SEEDS = {("FA", "virtual_p_1_p"): 2, ("FA*", "sampling_alpha"): 1}
"""Seeds of searches that take long with seed 0."""

DESCENT = Layout(
    sizes=(1,), d_u=1, d_v=1, m=1, tau_u=1, tau_v=1, T=5, joint=False, blocks="u", coupled=False, coupled_apart=False,
    curved=False, shifted=False, noise="none", start="point", slack="none", measured=False,
)  # fmt: skip
"""One client, F = ½u²: at η = 1 Theorem FA is an equality."""


# ---- the numbers -------------------------------------------------------------------------------------------


def random_batch(rng: np.random.Generator) -> tuple[Shape, Batch]:
    """Two random quadratics of a random shape whose optimum is 0."""
    sizes = tuple(int(x) for x in rng.integers(1, 4, rng.integers(1, 4)))
    n, G, d_u, d_v = sum(sizes), len(sizes), int(rng.integers(1, 3)), int(rng.integers(1, 3))
    joint = bool(rng.integers(2))
    tau = int(rng.integers(1, 4))
    tau_v = tau if joint else int(rng.integers(1, 4))
    full = joint and bool(rng.integers(2))
    shape = Shape(sizes, d_u, d_v, int(rng.integers(1, n + 1)), tau, tau_v, int(rng.integers(1, 20)), joint, full)

    def positive(d: int) -> np.ndarray:
        root = rng.standard_normal((2, G, d, d))
        return root @ root.swapaxes(2, 3) / d + 0.5 * np.eye(d)

    a = rng.standard_normal((2, G, d_u))
    a -= np.einsum("g,bgi->bi", np.array(sizes) / n, a)[:, None]
    C = 0.2 * rng.standard_normal((2, G, d_u, d_v))
    steps = [rng.uniform(0.05, 0.2, 2) for _ in range(2)]
    noise = [rng.uniform(0.1, 1, 2) for _ in range(2)]
    start = rng.standard_normal((2, d_u)), rng.standard_normal((2, G, d_v))
    return shape, Batch(positive(d_u), positive(d_v), C, a, *steps, *noise, *start)


def file_of(shape: Shape, batch: Batch, k: int) -> dict:
    def every(stack: np.ndarray) -> list:
        return np.repeat(stack[k], shape.sizes, axis=0).tolist()

    return {
        "problem": {"family": "quadratic_arrays", "A": every(batch.A), "B": every(batch.B), "C": every(batch.C),
                    "a": every(batch.a), "b": np.zeros((shape.n, shape.d_v)).tolist()},
        "noise": {"law": "rademacher", "sigma_u": float(batch.sigma_u[k]), "sigma_v": float(batch.sigma_v[k]),
                  "dependence": "full" if shape.full else "independent"},
        "start": {"kind": "point", "u": batch.u[k].tolist(), "v": every(batch.v)},
        "algorithm": {"name": "fedsim" if shape.joint else "fedalt", "m": shape.m, "tau_u": shape.tau_u,
                      "tau_v": shape.tau_v, "gamma_u": float(batch.gamma_u[k]), "gamma_v": float(batch.gamma_v[k])},
        "run": {"T": shape.T},
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_moments_of_groups_are_the_exact_expectations(seed):
    shape, batch = random_batch(np.random.default_rng(seed))
    found, (gaps, scale) = means(shape, batch), gap(shape, batch)
    for k in range(2):
        settings = settings_from(file_of(shape, batch, k), "random")
        experiment = settings.experiment(settings.algorithms[0], None)
        trace = exact_trace(experiment)
        assert trace is not None
        virtual = "" if shape.joint else "_virtual"
        assert found.X[k] == pytest.approx(float(trace[f"grad_u{virtual}_sq"].mean()), rel=1e-9)
        assert found.Y[k] == pytest.approx(float(trace["grad_v_sq"].mean()), rel=1e-9)
        assert found.diversity[k] == pytest.approx(float(trace[f"diversity{virtual}"].mean()), rel=1e-9, abs=1e-12)
        F = float(trace["F"][0, 0])
        assert gaps[k] == pytest.approx(F - experiment.problem.constants.F_star.value, rel=1e-9)
        assert scale[k] == pytest.approx(abs(F), rel=1e-9)


@pytest.mark.parametrize("space_of", [QuadraticSpace, TrigonometricSpace])
@pytest.mark.parametrize("key", list(THEOREMS))
def test_scores_are_the_full_verdicts_tightness(key, space_of):
    space, rng = space_of(THEOREMS[key]), np.random.default_rng(7)
    compared = 0
    while compared < 8:
        layout = space.draw(rng)
        points = space.sample(layout, rng, 4)
        scores = space.scores(layout, points)
        k = int(np.argmax(scores.tightness))
        if not scores.tightness[k] > 1e-4:
            continue
        verdict = quick_verdict(space.file(layout, points[k]), THEOREMS[key])
        assert verdict is not None
        assert verdict.status == "holds", verdict.reason
        assert verdict.tightness == pytest.approx(scores.tightness[k], rel=1e-6)
        compared += 1


def test_quick_verdict_is_the_full_one():
    space, rng = QuadraticSpace(THEOREMS["FS"]), np.random.default_rng(3)
    layout = replace(space.draw(rng), T=4)
    file = space.file(layout, space.sample(layout, rng, 1)[0])
    quick, full = quick_verdict(file, THEOREMS["FS"]), full_verdict(file, THEOREMS["FS"])
    assert quick is not None
    assert (quick.status, quick.parameters) == (full.status, full.parameters)
    assert quick.tightness == pytest.approx(full.tightness, rel=1e-9)


def test_largest_step_is_the_premises_own():
    """τ = 1 and ρ = 0: η ≤ 1/(1+α) and η ≤ 1/(1 + χ²(1−p)²/(αp))."""
    alpha = np.array([0.2, 0.5, 3.0])
    inputs = {"n": 4.0, "m": 1.0, "tau_u": 1.0, "tau_v": 1.0, "T": 1.0, "L_u": 1.0, "L_v": 1.0, "chi": np.full(3, 0.8),
              "sigma_u": 0.0, "sigma_v": 0.0, "delta": 0.0, "rho": 0.0, "gap0": 1.0}  # fmt: skip
    parameters = {"alpha": alpha, "theta": np.inf, "theta_v": np.inf, "omega": 0.0}
    expected = np.minimum(1 / (1 + alpha), 1 / (1 + 0.8**2 * 0.75**2 / (alpha * 0.25)))
    found = largest_step(THEOREMS["FA"], inputs, parameters, 3)
    assert found == pytest.approx(expected, rel=1e-8)
    assert (found <= expected).all()


def test_ascent_finds_a_maximum_and_then_stalls():
    rng = np.random.default_rng(0)
    ascent, rounds = Ascent(np.full(5, 3.0), 0.5, rng, 16), 0
    scale = np.array([1.0, 3.0, 10.0, 30.0, 100.0])
    while not ascent.stalled(12, 1e-10):
        ascent.tell(-((scale * (ascent.ask() - 1.0)) ** 2).sum(axis=1))
        rounds += 1
        assert rounds < 1000
    assert ascent.best > -1e-8
    assert ascent.best_point == pytest.approx(np.ones(5), abs=1e-3)


# ---- the search --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "mutant"), PAIRS)
def test_every_mutant_is_broken_and_the_file_shows_it(key, mutant):
    found = falsify(THEOREMS[key], mutant=mutant, seed=SEEDS.get((key, mutant), 0))
    assert found.file is not None, f"largest tightness {found.tightness} at {found.where}"
    assert found.tried < falsifier.BUDGETS["quick"]
    settings = settings_from(found.file, "found")
    (weak,) = verify_weakened(settings, mutant=mutant)
    assert weak.theorem == f"{key}:{mutant}"
    assert weak.verdict.status == "violated", weak.verdict.reason
    assert weak.verdict.measured > weak.verdict.bound * (1 + 1e-9)
    assert all(r.verdict.status in ("holds", "premises_unmet") for r in verify_settings(settings))


@pytest.mark.parametrize("key", list(THEOREMS))
def test_no_theorem_is_broken(key):
    theorem = THEOREMS[key]
    found = search_spaces(theorem, spaces(theorem), limit=5000, seed=1)
    assert found.file is None
    assert found.tried >= 5000
    assert 0.9 < found.tightness <= 1 + 1e-9
    assert found.verdict is not None
    assert found.verdict.status == "holds"
    assert found.verdict.tightness == pytest.approx(found.tightness, rel=1e-6)


def test_an_excess_within_the_floor_is_noise_and_no_violation():
    """At η = 1 the left-hand side of FA is its right-hand side, up to rounding."""
    theorem = THEOREMS["FA"]
    space, sizes = QuadraticSpace(theorem), (1, 2)
    points = space.sample(DESCENT, np.random.default_rng(0), 20)
    points[:, space.names(DESCENT).index("eta")] = 1.0
    record = Record(lambda candidate: falsifier.confirm(candidate, theorem), limit=10_000)
    scores = [record.take(space, replace(DESCENT, sizes=sizes, m=3, T=T), points) for T in range(1, 60)]
    tightness = np.array([s.tightness for s in scores])
    assert (tightness > 1).any()
    assert record.violation is None
    assert record.within_floor == int((tightness > 1).sum())
    assert record.largest_excess == tightness.max() - 1 < 1e-9
    assert all((s.floor >= 1e-9).all() for s in scores)


class Boasting(QuadraticSpace):
    """Says twice the tightness."""

    def scores(self, layout: Layout, points: np.ndarray) -> Scores:
        honest = super().scores(layout, points)
        return replace(honest, tightness=2 * honest.tightness)


def test_a_violation_needs_the_verdict():
    theorem = THEOREMS["FA"]
    found = search_spaces(theorem, ((Boasting(theorem), 0.02),), limit=400)
    assert found.file is None
    assert found.tried >= 400


# ---- shrinking ---------------------------------------------------------------------------------------------


def test_shrinking_leaves_what_the_violation_needs():
    """Three rounds, a cohort of one and u ≥ 0.3 are needed; all else goes, and the problem gets its name."""
    n, one = 6, [[1.0]]
    file = {
        "problem": {"family": "quadratic_arrays", "A": [one] * n, "B": [one] * n, "C": [[[0.0]]] * n,
                    "a": [[0.1234], [-0.1234]] * 3, "b": [[0.0]] * n},
        "noise": {"law": "rademacher", "sigma_u": 0.31, "sigma_v": 0.0},
        "start": {"kind": "point", "u": [0.345678], "v": [[0.2]] * n},
        "algorithm": {"name": "fedalt", "m": 3, "tau_u": 7, "tau_v": 2, "eta": 0.98765},
        "run": {"T": 200},
        "verify": {"theorems": ["FA"], "parameters": {"alpha": 0.123456}, "a_posteriori": True},
    }  # fmt: skip

    def violates(candidate: dict) -> bool:
        return candidate["run"]["T"] >= 3 and candidate["start"].get("u", [0])[0] >= 0.3

    assert shrink(file, violates) == {
        "problem": {"family": "sharp", "kind": "noise"},
        "start": {"kind": "point", "u": [0.3]},
        "algorithm": {"name": "fedalt", "m": 1, "eta": 1.0, "tau": 1},
        "run": {"T": 3},
        "verify": {"theorems": ["FA"], "parameters": {"alpha": 0.1}},
    }


def test_shrinking_keeps_a_file_that_nothing_smaller_replaces():
    file = QuadraticSpace(THEOREMS["FA"]).file(DESCENT, np.zeros(2))
    assert shrink(file, lambda _: False) == file


# ---- the command -------------------------------------------------------------------------------------------


def test_interrupted(monkeypatch, capsys: pytest.CaptureFixture[str]):
    calls = []

    def interrupt(space, record, rng, share):
        calls.append(record.take(space, DESCENT, space.sample(DESCENT, rng, 4)))
        raise KeyboardInterrupt

    monkeypatch.setattr(falsifier, "search", interrupt)
    assert main(["falsify", "FA"]) == 130
    printed = capsys.readouterr().out
    assert printed.startswith("interrupted: no violation of FA found among 4 candidates in ")
    assert "\nlargest tightness " in printed


def test_verify_refuses_a_mutant_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "a.toml"
    path.write_text(
        '[problem]\nfamily = "sharp"\nkind = "descent"\n[algorithm]\nname = "fedalt"\nm = 1\ntau = 1\neta = 0.5\n'
        "[run]\nT = 2\n",
        encoding="utf-8",
    )
    assert main(["verify", str(path), "--mutant", "gap2"]) == 2
    assert "--mutant must be a mutant of a theorem of a: FA has gap1, " in capsys.readouterr().err
    assert main(["verify", str(path), "--mutant", "gap1", "--out", str(tmp_path / "report")]) == 2
    assert capsys.readouterr().err == "--mutant must be left out for a store and with --out; give problem files\n"
    assert not (tmp_path / "report").exists()
