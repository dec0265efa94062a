"""The falsifier on statements about FFGG, FedSpa and FedFomo: it breaks every false version and no theorem, and its
files show it without it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedconv.analysis.falsify.quick_verdict import verify_weakened
from fedconv.analysis.falsify.shrink import shrink
from fedconv.analysis.falsify.statements.courses import Paths, courses, states_of_signs
from fedconv.analysis.falsify.statements.drawing import drawing
from fedconv.analysis.falsify.statements.search import falsify_statement
from fedconv.analysis.falsify.statements.target import Target, built
from fedconv.analysis.theorems.registry import methods, statements
from fedconv.core.run import run
from fedconv.core.streams import Cause
from fedconv.problem_file.settings import settings_from
from fedconv.problems.errors import InputError
from fedconv.problems.noise import fill

STATEMENTS = statements()
ALL = [(key, mutant.key) for key, one in STATEMENTS.items() for mutant in one.mutants]
LIMIT = 1200
"""Candidates for a mutant here; the quick budget allows more."""


KINDS = [(name, kind) for name in methods() for kind in drawing(name).kinds]
SOME = ["FFGG-3c", "FFGG-3f", "FFGG-4d", "FFGG-5a", "FFGG-6", "FFGG-7Ba", "FFGG-7Be", "FSPA-1", "FSPA-1-visited",
        "FSPA-C2", "FSPA-L1", "FSPA-J", "FSPA-bits", "FOMO-P1", "FOMO-2", "FOMO-3", "FOMO-4ii"]  # fmt: skip
"""Statements of every kind."""


def true(key: str) -> Target:
    return Target(STATEMENTS[key], STATEMENTS[key])


# ---- the search ------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(("key", "mutant"), ALL)
def test_every_mutant_is_broken_and_the_file_shows_it(key, mutant):
    found = falsify_statement(STATEMENTS[key], mutant=mutant, limit=LIMIT)
    assert found.file is not None, f"largest tightness {found.tightness} at {found.where}"
    assert found.tightness > 1
    (weak,) = verify_weakened(settings_from(found.file, "found"), mutant=mutant)
    assert weak.theorem == f"{key}:{mutant}"
    assert weak.verdict.status == "violated", weak.verdict.reason
    kept = true(key).full(found.file)
    assert kept is None or kept.status in ("holds", "premises_unmet", "inconclusive"), kept.reason
    assert kept is not None or STATEMENTS[key].mutant(mutant).without


@pytest.mark.parametrize("key", list(STATEMENTS))
def test_no_theorem_is_broken(key):
    found = falsify_statement(STATEMENTS[key], limit=12, seed=3)
    assert found.file is None, found.verdict
    assert found.tried == 12
    assert found.about is not None
    assert found.about + (key == "FSPA-6") > 0
    assert 0 <= found.tightness <= 1 + 1e-6
    assert found.largest_excess < 1e-6
    if found.verdict is not None:
        assert found.verdict.status in ("holds", "inconclusive")


def test_every_statement_has_a_kind_of_run():
    assert all(true(key).wishes.kinds for key in STATEMENTS)
    assert all(Target(STATEMENTS[k].mutate(STATEMENTS[k].mutant(m)), STATEMENTS[k]).wishes.kinds for k, m in ALL)


def test_a_statement_that_no_drawn_run_is_about_is_refused(monkeypatch):
    one = STATEMENTS["FSPA-1"]
    monkeypatch.setattr(Target, "kinds", ())
    with pytest.raises(InputError, match=r"^theorem FSPA-1 cannot be searched: no run that is drawn is one that"):
        falsify_statement(one, limit=1)


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_draws_and_their_variations_are_runs_of_their_kind(name, kind):
    targets = [true(key) for key in methods()[name].statements]
    target = next(t for t in targets if kind in t.wishes.kinds)
    wishes, how = target.wishes, target.drawing
    rng, judged = np.random.default_rng(1), 0
    for _ in range(12):
        draft = how.draw(rng, wishes.__class__((kind,), kept=wishes.kept))
        assert draft.kind == kind
        for one in (draft, how.vary(draft, rng, wishes)):
            score = target.score(one)
            assert not score.violated
            judged += score.verdict is not None
    assert judged >= 8


def test_a_run_that_cannot_tell_a_mutant_from_the_theorem_is_no_guide():
    """One client is its only candidate, M_c = 1: then 2(M_c − 1) and M_c − 1 are both 0."""
    one = STATEMENTS["FOMO-4ii"]
    target, rng = Target(one.mutate(one.mutant("half")), one), np.random.default_rng(0)
    drafts = [target.drawing.draw(rng, target.wishes) for _ in range(40)]
    alone = [s for s in (target.score(d) for d in drafts if d.n == 1) if s.verdict is not None]
    together = [s for s in (target.score(d) for d in drafts if d.n > 1 and d.m == d.n) if s.verdict is not None]
    assert alone
    assert max(s.guide for s in alone) < max(s.guide for s in together)


# ---- the numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", SOME)
def test_scores_are_the_full_verdicts(key):
    target, rng, compared = true(key), np.random.default_rng(7), 0
    while compared < 3:
        draft = target.drawing.draw(rng, target.wishes)
        score = target.score(draft)
        if score.verdict is None or score.verdict.status != "holds" or not math.isfinite(score.verdict.bound):
            continue
        found = target.realise(draft)
        assert found is not None
        if not found[1].deterministic and not key.startswith("FFGG"):
            continue
        full = target.full(found[0])
        assert full is not None
        assert full.status == "holds"
        assert score.verdict.method in (full.method, "pathwise")
        assert full.measured == pytest.approx(score.verdict.measured, rel=1e-9)
        assert full.bound == pytest.approx(score.verdict.bound, rel=1e-9)
        compared += 1


@pytest.mark.parametrize("key", SOME)
def test_inputs_are_the_methods_own(key):
    """Those that the statement asks for, free parameters included."""
    target, rng, compared = true(key), np.random.default_rng(3), 0
    method = methods()[target.drawing.name]
    while compared < 4:
        try:
            found = target.realise(target.drawing.draw(rng, target.wishes))
        except InputError:
            continue
        if found is None:
            continue
        own = method.before(found[1])
        assert (found[2].flags, found[2].grade) == (own.flags, own.grade)
        for name in target.statement.needs:
            assert found[2].values[name] == pytest.approx(own.values[name], rel=1e-12, nan_ok=True), name
        compared += 1


@pytest.mark.parametrize("key", [key for key, one in STATEMENTS.items() if one.step is not None and one.conditions])
def test_the_unit_of_steps_is_the_theorems_largest_step(key):
    """Where the theorem's conditions bound the step."""
    target, rng, compared = true(key), np.random.default_rng(2), 0
    for _ in range(30):
        draft = target.drawing.draw(rng, target.wishes)
        try:
            found = target.realise(draft)
        except InputError:
            continue
        if found is None:
            continue
        expected = STATEMENTS[key].largest_step(found[2])
        if 0 < expected < 1e6:
            unit = target.drawing.unit(found[1], found[2])
            assert target.largest(found[2].values, unit) == pytest.approx(expected, rel=1e-9)
            compared += 1
        if compared == 3:
            break
    assert compared


# ---- expectations over all courses of a run --------------------------------------------------------------------

OPPOSED = {
    "problem": {"family": "least_squares_arrays", "A": [[[1.0]]] * 2, "B": [[[]]] * 2, "c": [[1.0], [-1.0]]},
    "noise": {"law": "rademacher", "sigma_u": 0.5},
    "start": {"kind": "point", "u": [0.5], "v": [[]] * 2},
    "algorithm": {"name": "fedspa", "m": 1, "gamma": 0.25},
    "run": {"T": 3},
    "masks": {"mode": "frozen", "density": 1.0},
}
"""½(w ∓ 1)², one of the two in a round: w ← ¾w ± ¼ + ⅛ζ with fair signs."""


def test_the_mean_over_all_courses_is_the_expectation():
    """E w² ← (9/16) E w² + 1/16 + 1/64 from ¼; ∇f = w."""
    experiment: Any = built(OPPOSED)
    found = courses(3, 2, 1, {Cause.NOISE_U: 1})
    assert found is not None
    assert found[1] == 4**3
    arrays = experiment.block(found[0], np.arange(found[1]), "stationarity", "eager")
    expected = [0.25]
    for _ in range(2):
        expected.append(9 / 16 * expected[-1] + 1 / 16 + 1 / 64)
    assert arrays["grad_sq"].mean(axis=0) == pytest.approx(expected, rel=1e-12)
    sampled = run(experiment, 4000)["grad_sq"].values.mean(axis=0)
    assert sampled == pytest.approx(expected, rel=0.05)
    verdict = true("FSPA-1").judge_file(OPPOSED).verdict
    assert verdict is not None
    assert verdict.method == "exact"
    assert verdict.measured == pytest.approx(np.mean(expected), rel=1e-12)


def test_courses_are_all_different_and_as_many_as_said():
    paths = Paths(3, 2, {Cause.NOISE_U: 2})
    assert paths.each == 12
    replicates = np.arange(12**2)
    seen = []
    for t in range(2):
        drawn = np.zeros((len(replicates), 2))
        fill(2, 0.0, paths.states(Cause.NOISE_U, replicates, t).copy(), drawn)
        seen += [paths.cohorts(replicates, t, 3, 2), drawn]
    assert len(np.unique(np.concatenate(seen, axis=1), axis=0)) == 12**2
    assert courses(10, 3, 2, {Cause.NOISE_U: 2}) is None
    assert courses(9, 2, 1, {}) is not None


@pytest.mark.parametrize("count", [1, 3, 6])
def test_states_draw_the_signs_that_they_are_for(count):
    drawn = np.zeros((2**count, count))
    fill(2, 0.0, states_of_signs(count).copy(), drawn)
    assert np.array_equal(((drawn > 0) << np.arange(count)).sum(axis=1), np.arange(2**count))


# ---- what it leaves behind -------------------------------------------------------------------------------------

MASKED = OPPOSED | {
    "problem": {"family": "least_squares_arrays", "A": [[[1.0, 0.5], [0.2, 1.0]]] * 4, "B": [[[], []]] * 4,
                "c": [[0.123, 1.0]] * 4},
    "start": {"kind": "point", "u": [0.3456, 0.1], "v": [[]] * 4},
    "algorithm": {"name": "fedspa", "m": 4, "gamma": 0.98765, "tau": 3},
    "run": {"T": 20},
    "masks": {"initial": [[1, 0], [1, 1], [1, 1], [1, 0]], "alpha": 0.5, "regrow_pruned": False},
}  # fmt: skip
TARGETS = {
    "problem": {"family": "quadratic_targets_arrays", "A": [[[1.0, 0.0], [0.0, 1.0]]] * 3, "b": [[0.7, 0.1]] * 3,
                "H": [[[2.0, 0.0], [0.0, 1.0]]] * 3, "c": [[0.3, 0.2]] * 3},
    "start": {"kind": "point", "v": [[0.34567, 0.2]] * 3},
    "algorithm": {"name": "fedfomo", "m": 3, "gamma": 0.4321, "tau": 2},
    "run": {"T": 9},
    "fedfomo": {"epsilon": 0.0, "rejected": "trained"},
}  # fmt: skip


def _two_clients(file: dict[str, Any]) -> bool:
    start = file["start"]
    return len(start["v"]) >= 2 and file["run"]["T"] >= 2 and abs(np.ravel(start.get("u") or start["v"])[0]) >= 0.3


@pytest.mark.parametrize(
    ("file", "kept"),
    [
        (MASKED, lambda x: x.get("masks", {}).get("alpha") == 0.5),
        (TARGETS, lambda x: "rejected" in x.get("fedfomo", {})),
    ],
)
def test_shrinking_leaves_what_the_violation_needs(file, kept: Callable[[dict[str, Any]], bool]):
    def violates(one: dict[str, Any]) -> bool:
        with contextlib.suppress(InputError):
            return built(one) is not None and _two_clients(one) and kept(one)
        return False

    name = file["algorithm"]["name"]
    small = shrink(file, violates, 300, drawing(name).steps)
    assert len(small["start"]["v"]) == 2
    assert small["algorithm"] == {"name": name, "m": 2, "gamma": round(small["algorithm"]["gamma"], 1), "tau": 1}
    assert small["run"] == {"T": 2}
    assert "noise" not in small
    if name == "fedspa":
        assert small["start"] == {"kind": "point", "u": [0.3], "v": [[], []]}
        assert small["masks"] == {"initial": small["masks"]["initial"], "alpha": 0.5}
        assert np.shape(small["masks"]["initial"]) == (2, 1)
        assert small["problem"]["B"] == [[[]], [[]]]
    else:
        assert small["fedfomo"] == {"rejected": "trained"}
        assert small["problem"]["b"] == [[0.0], [0.0]]
        assert np.shape(small["problem"]["H"]) == (2, 1, 1)
