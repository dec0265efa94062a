"""The falsifier on FFGG's statements: it breaks every false version and no theorem; its files show it without it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp

from analysis import falsify_ffgg
from analysis.falsify import falsify
from analysis.falsify_ffgg import falsify_statement
from analysis.falsify_ffgg_draw import KINDS, draw, vary
from analysis.falsify_ffgg_score import Target
from analysis.falsify_ffgg_shrink import STEPS
from analysis.falsify_shrink import shrink
from analysis.falsify_verdict import verify_weakened
from analysis.statement_verify import verify_statements
from analysis.theorems.ffgg import METHOD, STATEMENTS
from analysis.theorems.statement import Weakened, rhs
from fedconv.cli import main
from fedconv.config import settings_from
from problems.errors import InputError

PAIRS = [(key, mutant.key) for key, one in STATEMENTS.items() for mutant in one.mutants]
LIMIT = 400
"""Candidates for a mutant here; the quick budget allows five times as many."""

SEEDS: dict[tuple[str, str], int] = {}
"""Seeds of searches that take long with seed 0."""

RESIST: tuple[tuple[str, str], ...] = ()
"""Mutants that the search does not break with LIMIT candidates."""


def true(key: str) -> Target:
    return Target(STATEMENTS[key], STATEMENTS[key])


def scalar(n: int, c: float = 0.0, **more: Any) -> dict[str, Any]:
    """n clients ½(w − c_m)² with targets c and −c by turns, from w = 1."""
    problem = {"family": "least_squares_arrays", "A": [[[1.0]]] * n, "B": [[[0.0]]] * n,
               "c": [[c if m % 2 == 0 else -c] for m in range(n)]}  # fmt: skip
    file = {
        "problem": problem,
        "start": {"kind": "point", "u": [1.0], "v": [[0.0]] * n},
        "algorithm": {"name": "ffgg", "m": n, "gamma": 1.0},
        "run": {"T": 1},
    }
    return {k: {**x, **more.get(k, {})} for k, x in file.items()}


# ---- the search ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "mutant"), [pair for pair in PAIRS if pair not in RESIST])
def test_every_mutant_is_broken_and_the_file_shows_it(key, mutant):
    found = falsify_statement(STATEMENTS[key], mutant=mutant, limit=LIMIT, seed=SEEDS.get((key, mutant), 0))
    assert found.file is not None, f"largest tightness {found.tightness} at {found.where}"
    assert found.tightness > 1
    (weak,) = verify_weakened(settings_from(found.file, "found"), mutant=mutant)
    assert weak.theorem == f"{key}:{mutant}"
    assert weak.verdict.status == "violated", weak.verdict.reason
    kept = true(key).full(found.file)
    assert kept is None or kept.status in ("holds", "premises_unmet", "inconclusive"), kept.reason
    assert kept is not None or STATEMENTS[key].mutant(mutant).without


def test_those_that_resist_are_mutants():
    assert set(RESIST) <= set(PAIRS)


@pytest.mark.parametrize("key", list(STATEMENTS))
def test_no_theorem_is_broken(key):
    found = falsify_statement(STATEMENTS[key], limit=12, seed=3)
    assert found.file is None, found.verdict
    assert found.tried == 12
    assert 0 <= found.tightness <= 1 + 1e-6
    assert found.largest_excess < 1e-6
    if found.verdict is not None:
        assert found.verdict.status in ("holds", "inconclusive")


def test_the_same_seed_gives_the_same_result():
    first, again = (falsify(STATEMENTS["FFGG-3b-last"], mutant="half", seed=4) for _ in range(2))
    assert (first.file, first.tried, first.tightness) == (again.file, again.tried, again.tightness)
    other = falsify(STATEMENTS["FFGG-3b-last"], mutant="half", seed=5)
    assert other.tightness != first.tightness


def test_a_budget_in_seconds_ends_and_says_where_it_was_tightest():
    found = falsify(STATEMENTS["FFGG-3a"], budget=0.3)
    assert found.tried > 0
    assert not found.found
    assert not found.interrupted
    assert found.tightness == pytest.approx(1, abs=1e-6)
    assert "everybody" in found.where


def test_ctrl_c_keeps_the_best():
    seen = []

    def tick(tried: int, best: float) -> None:
        seen.append(best)
        if len(seen) == 5:
            raise KeyboardInterrupt

    found = falsify(STATEMENTS["FFGG-3a"], tick=tick)
    assert found.interrupted
    assert (found.tried, found.tightness) == (5, seen[-1])


ABOUT = {
    "exact": "FFGG-3a", "sampled": "FFGG-3d", "steps": "FFGG-4a", "tolerance": "FFGG-4a", "local": "FFGG-5b",
    "asynchronous": "FFGG-6", "byzantine": "FFGG-7A", "bucketing": "FFGG-7A-random", "worlds": "FFGG-7Be",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_draws_and_their_variations_are_runs_of_their_kind(kind):
    target = true(ABOUT[kind])
    assert kind in target.kinds
    rng, judged = np.random.default_rng(1), 0
    for _ in range(12):
        draft = draw(rng, target.wishes)
        for one in (draft, vary(draft, rng, target.wishes)):
            score = target.score(one)
            assert not score.violated
            judged += score.verdict is not None
    assert judged >= 8


# ---- the numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["FFGG-3c", "FFGG-3f", "FFGG-4d", "FFGG-5a", "FFGG-6", "FFGG-7Ba", "FFGG-7Be"])
def test_scores_are_the_full_verdicts(key):
    target, rng, compared = true(key), np.random.default_rng(7), 0
    while compared < 3:
        draft = draw(rng, target.wishes)
        score = target.score(draft)
        if score.verdict is None or score.verdict.status != "holds" or not math.isfinite(score.verdict.bound):
            continue
        found = target.realise(draft)
        assert found is not None
        full = target.full(found[0])
        assert full is not None
        assert full.status == "holds"
        assert score.verdict.method in (full.method, "pathwise")
        assert full.measured == pytest.approx(score.verdict.measured, rel=1e-9)
        assert full.bound == pytest.approx(score.verdict.bound, rel=1e-9)
        compared += 1


@pytest.mark.parametrize("key", [key for key, one in STATEMENTS.items() if one.step is not None and one.conditions])
def test_the_unit_of_steps_is_the_theorems_largest_step(key):
    """Where the theorem's conditions bound the step."""
    target, rng, compared = true(key), np.random.default_rng(2), 0
    for _ in range(30):
        draft = draw(rng, target.wishes)
        try:
            found = target.realise(draft)
        except InputError:
            continue
        if found is None:
            continue
        expected = STATEMENTS[key].largest_step(found[2])
        if 0 < expected < 1e6:
            assert target.largest(found[2].values) == pytest.approx(expected, rel=1e-9)
            compared += 1
        if compared == 3:
            break
    assert compared


ROUNDING = {
    "FFGG-3f": scalar(2, start={"u": [2.0]}, algorithm={"m": 1}),
    "FFGG-3f-step": scalar(2, start={"u": [2.0]}, algorithm={"m": 1}),
    "FFGG-5a-LS": scalar(2, algorithm={"tau": 2}, start={"u": [0.1]}),
}
"""Runs that end in w★, where the rate is 0 but rounds to below 0."""


INEXACT = {
    "FFGG-4-bias": ([[1.0], [0.0]], [[-1.0], [3.0]], 2),
    "FFGG-4-grad": ([[1.0], [0.1]], [[-1.0], [2.0]], 1),
}
"""A, B and K of one client whose one personal coordinate is found exactly: what is left from w = 0 is rounding."""


@pytest.mark.parametrize("key", list(INEXACT))
def test_what_is_left_of_an_exact_solution_is_rounding(key):
    A, B, K = INEXACT[key]
    file = {
        "problem": {"family": "least_squares_arrays", "A": [A], "B": [B], "c": [[0.0, 0.0]]},
        "start": {"kind": "point", "u": [0.0], "v": [[0.5]]},
        "algorithm": {"name": "ffgg", "m": 1, "gamma": 0.3},
        "run": {"T": 2},
        "fine_tuning": {"mode": "steps", "steps": K},
    }
    score = true(key).judge_file(file)
    assert not score.violated
    assert score.tightness <= 1 + 1e-9


CONCAVE = scalar(10, algorithm={"gamma": 0.1}) | {
    "problem": {"family": "envelope_quadratic", "A": [[[1.0]]] * 10, "B": [[[1.0]]] * 10,
                "C": [[[2.0]]] + [[[0.0]]] * 9, "a": [[0.0]] * 10, "b": [[0.0]] * 10}
}  # fmt: skip


def test_a_concave_client_is_none_of_theorem_1d():
    """F_1'' = 1 − 2² = −3 beside clients of curvature 1: L_max = 1, as upper curvature, and ∇F_1 is 3-Lipschitz."""
    assert not true("FFGG-1d").judge_file(CONCAVE).violated


def test_two_infinite_sides_are_no_violation():
    """A client unbounded below: G = ∞ on both sides of FFGG-2b."""
    assert not true("FFGG-2b").judge_file(CONCAVE).violated


@pytest.mark.parametrize("key", list(ROUNDING))
def test_rounding_is_no_violation_and_is_reported(key):
    file = ROUNDING[key]
    for u in np.linspace(0.1, 3.0, 30):
        moved = {**file, "start": {**file["start"], "u": [float(u)]}}
        score = true(key).judge_file(moved)
        assert not score.violated
        assert score.verdict is not None
        assert score.within_floor or score.verdict.measured <= score.verdict.bound


def test_a_small_true_violation_is_one():
    """½w² at γ = 1, T = 1: FFGG-3b is an equality; a bound smaller by 1e-7 is not rounding."""
    one = STATEMENTS["FFGG-3b"]
    weak = one.mutate(Weakened("little", "a little less", {rhs: one.definitions[rhs] * sp.Float(1 - 1e-7)}))
    assert Target(weak, one).judge_file(scalar(1)).violated
    assert not true("FFGG-3b").judge_file(scalar(1)).violated


# ---- what it leaves behind -------------------------------------------------------------------------------------


def test_shrinking_leaves_what_the_violation_needs():
    file = scalar(6, 0.7, run={"T": 40}, algorithm={"gamma": 0.98765})
    file |= {"byzantine": {"f": 2, "attack": "sign_flip", "aggregator": "median", "strength": 3.0}}

    def violates(one: dict[str, Any]) -> bool:
        return len(one["problem"]["A"]) >= 3 and one["byzantine"]["f"] >= 1 and one["run"]["T"] >= 2

    small = shrink(file, violates, 200, STEPS)
    assert small["problem"] == {
        "family": "least_squares_arrays", "A": [[[1.0]]] * 3, "B": [[[0.0]]] * 3, "c": [[0.0]] * 3
    }  # fmt: skip
    assert small["start"] == {"kind": "point", "u": [0.0], "v": [[0.0]] * 3}
    assert small["algorithm"] == {"name": "ffgg", "m": 3, "gamma": 1.0}
    assert small["run"] == {"T": 2}
    assert small["byzantine"] == {"f": 1, "attack": "zero", "aggregator": "median"}


@pytest.mark.parametrize(
    ("eta", "status", "tightness"), [("max", "violated", 2), (1.0, "violated", 2), (0.1, "holds", 0.362)]
)
def test_verify_weakened_takes_statements(eta, status, tightness):
    """½w², one step: mean gap (1 + (1−γ)²)/4 against half of 1/(4γ)."""
    file = scalar(1) | {"algorithm": {"name": "ffgg", "m": 1, "eta": eta}, "verify": {"theorems": ["FFGG-3b"]}}
    (weak,) = verify_weakened(settings_from(file, "one"), mutant="half")
    assert weak.theorem == "FFGG-3b:half"
    assert weak.verdict.status == status
    assert weak.verdict.tightness == pytest.approx(tightness)


def test_a_mutant_without_a_premise_is_about_runs_that_the_theorem_is_not_about():
    file = scalar(2, 1.0, start={"u": [0.0]}, algorithm={"m": 1, "gamma": 0.5}) | {"verify": {"theorems": ["FFGG-3f"]}}
    settings = settings_from(file, "conflict")
    (weak,) = verify_weakened(settings, mutant="not_over")
    assert weak.verdict.status == "violated"
    with pytest.raises(InputError, match=r"--mutant must be a mutant of a theorem of conflict: FFGG-3f has L, twice"):
        verify_weakened(settings, mutant="half")
    assert [r.verdict.status for r in verify_statements(settings.runnable(settings.algorithms[0]))].count(
        "violated"
    ) == 0


def test_the_command_writes_a_file_that_verify_refutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "found.toml"
    assert main(["falsify", "FFGG-7Be", "--mutant", "twice", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("FFGG-7Be:twice is violated: measured ")
    assert "\nlargest tightness 2: least_squares_arrays, n=" in printed.out
    text = out.read_text(encoding="utf-8")
    assert f"# Reproduce: fedconv verify {out} --mutant twice" in text
    assert "[byzantine]" in text
    assert len(text.splitlines()) < 40
    assert main(["verify", str(out), "--mutant", "twice"]) == 1
    assert "FFGG-7Be:twice" in capsys.readouterr().out
    assert main(["verify", str(out)]) == 0


def test_a_mutant_without_a_premise_is_refuted_by_the_command_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "found.toml"
    assert main(["falsify", "FFGG-3e-over", "--mutant", "not_over", "--out", str(out)]) == 0
    assert main(["verify", str(out), "--mutant", "not_over"]) == 1
    assert "FFGG-3e-over:not_over" in capsys.readouterr().out
    assert main(["verify", str(out), "--mutant", "none"]) == 2
    sentence = f"{out}: --mutant must be a mutant of a theorem of found: FFGG-3e-over has step_L, half, not_over"
    assert capsys.readouterr().err == f"{sentence}; got 'none'\n"


def test_nothing_found(monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setitem(falsify_ffgg.BUDGETS, "quick", 6)
    assert main(["falsify", "FFGG-3c"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("no violation of FFGG-3c found among 6 candidates in ")
    assert "\nlargest tightness " in printed
    assert main(["falsify", "FFGG-3d-min", "--mutant", "no_condition"]) == 1
    assert capsys.readouterr().out.startswith("no violation of FFGG-3d-min:no_condition found among 6 candidates")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["FFGG-3x"], "or one about ffgg as in `fedconv list theorems`; got 'FFGG-3x'; did you mean 'FFGG-3"),
        (["FFGG-3a", "--mutant", "no2"], "for theorem FFGG-3a; got 'no2'; did you mean 'no_2'?"),
        (["FFGG-3a", "--budget", "0"], "--budget must be quick, full or a number of seconds > 0; got '0'"),
    ],
)
def test_the_command_refuses_in_one_sentence(arguments, sentence, capsys: pytest.CaptureFixture[str]):
    assert main(["falsify", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert sentence in printed.err


def test_every_statement_has_a_kind_of_run():
    assert all(true(key).wishes.kinds for key in STATEMENTS)
    assert METHOD.statements is STATEMENTS
