"""The papers' claims: complete, able to fail, the same alone and together, saved, continued, and written as LaTeX."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from fedconv import paper_checks
from fedconv.analysis.claims.claim import KINDS, SIZES, Budget, Claim, Evidence, Outcome
from fedconv.analysis.claims.saved import outcome_data, read_outcome
from fedconv.analysis.claims.slopes import Slope
from fedconv.analysis.pages.latex_table import document, escaped, number
from fedconv.analysis.pages.mathml import prose
from fedconv.analysis.proofs.lemmas import LEMMAS
from fedconv.analysis.theorems import theorem
from fedconv.analysis.theorems.split.catching import CATCHING
from fedconv.analysis.verdicts.verify import known as every_theorem
from fedconv.analysis.verdicts.verify import verify
from fedconv.cli import main
from fedconv.commands import papers
from fedconv.commands.papers import kept as papers_saved
from fedconv.figures.gallery import FIGURES
from fedconv.paper_checks import PAPERS, ROOM, budget_of, claim, claims
from fedconv.paper_checks.pillutla2022 import open_questions as pillutla2022_open
from fedconv.paper_checks.pillutla2022 import practice
from fedconv.paper_checks.shared.comparisons import at_most, equal, none_fails, slope_at_most, slope_is
from fedconv.paper_checks.shared.on_proofs import replays
from fedconv.paper_checks.shared.on_runs import OnRuns, checked, files
from fedconv.paper_checks.shared.units import (
    Parts,
    Unit,
    compute,
    evidence_of,
    forget,
    known,
    parts,
    remember,
    units_of,
)
from fedconv.problem_file.settings import settings_from
from fedconv.problems.errors import InputError

QUICK = budget_of("quick")
CLAIMS = claims()
PRACTICE = {c.key for c in CLAIMS if c.kind == "empirical"}
LEMMA_KEYS = {f"{algorithm}:{one.key}" for algorithm, found in LEMMAS.items() for one in found}


def outcome(one: Claim, budget: Budget = QUICK) -> Outcome:
    return Outcome(one, evidence_of(one, budget))


def made(status: Any = "holds", key: str = "pillutla2022/made", **more: Any) -> Claim:
    """A claim that is decided at once."""

    def check(budget: Budget) -> list[Evidence]:
        return [equal("two numbers", 1.0, 1.0 if status == "holds" else 2.0)]

    return Claim(key, "made up", "One is $1$.", "derived here", "reduction", parts(check), **more)


def same(a: Evidence, b: Evidence) -> bool:
    """The same name, verdict and curve, bit for bit (NaN equal to itself)."""
    if (a.name, a.verdict.to_dict(), a.spec) != (b.name, b.verdict.to_dict(), b.spec):
        return False
    if a.result is None or b.result is None:
        return a.result is b.result
    curves = [(r.curve.measured, r.curve.bound, r.curve.rounds) for r in (a.result, b.result)]
    equal_curves = all(np.array_equal(x, y, equal_nan=True) for x, y in zip(*curves, strict=True))
    return equal_curves and a.result.to_dict() == b.result.to_dict()


# ---- what there is ----------------------------------------------------------------------------------------------


def test_there_are_enough_claims_each_with_a_key_of_its_own() -> None:
    every = [c.key for paper in PAPERS for c in importlib.import_module(f"fedconv.paper_checks.{paper}").CLAIMS]
    assert len(set(every)) == len(every) >= 60
    assert set(every) <= {c.key for c in CLAIMS}
    assert all(c.paper in PAPERS for c in CLAIMS)
    assert [c for paper in PAPERS for c in claims(paper)] == list(CLAIMS)
    assert {c.kind for c in CLAIMS} <= set(KINDS)


def test_every_theorem_statement_and_lemma_is_in_some_claim_and_nothing_else() -> None:
    named = {key for c in CLAIMS for key in c.theorems}
    assert named == set(every_theorem()) | LEMMA_KEYS


def test_figures_are_in_the_gallery() -> None:
    assert {c.figure for c in CLAIMS if c.figure and c.key not in PRACTICE} <= set(FIGURES)


@pytest.mark.parametrize("one", CLAIMS, ids=lambda c: c.key)
def test_claims_can_be_printed(one: Claim) -> None:
    assert prose(one.statement)
    assert prose(one.source)
    assert one.title
    assert not one.title.endswith(".")
    assert one.statement.endswith((".", "$"))
    assert "theory page" in one.source or "derived here" in one.source or "paper" in one.source or one.key in PRACTICE
    assert one.command == f"fedconv papers {one.key}"


def test_errors_are_shared_among_at_least_as_many_verdicts_as_there_are() -> None:
    mutants = sum(len(t.mutants) for t in every_theorem().values())
    for size in SIZES:
        pairs = sum(len(checked(paper, size, name)) for paper in PAPERS for name in files(paper, size))
        lemmas = len(LEMMA_KEYS) * len(replays(budget_of(size)))
        assert pairs + mutants + lemmas + 200 <= ROOM[size]
        assert budget_of(size).error == 1e-6 / ROOM[size]


def test_checks_name_their_units() -> None:
    for one in CLAIMS:
        if one.key not in PRACTICE:
            assert isinstance(one.check, Parts)
            assert units_of(one, QUICK), one.key


# ---- they can hold, and fail --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "pillutla2022/lemma-L7", "pillutla2022/uncoupled", "pillutla2022/regime-constant-free",
        "pillutla2022/same-cohorts", "mishchenko2023/orthogonal", "mishchenko2023/gap", "huang2022/golden-value",
        "huang2022/dense", "zhang2021/norms", "zhang2021/one-client",
    ],
)  # fmt: skip
def test_some_claims_of_each_kind_hold(key: str) -> None:
    found = outcome(claim(key))
    assert found.status == "holds", [(e.name, e.verdict.reason) for e in found.evidence if e.verdict.status != "holds"]
    assert len(found.evidence) >= 1
    assert all(np.isfinite([e.verdict.measured, e.verdict.bound]).all() for e in found.evidence)


def weakened(budget: Budget) -> list[Evidence]:
    instance = CATCHING["FA", "gap1"]
    settings = settings_from(instance.file("FA"), "caught")
    one = theorem("FA")
    weak = one.mutate(one.mutant("gap1"))
    eta = settings.algorithms[0].eta
    assert isinstance(eta, float)
    results = verify(settings.experiment(settings.algorithms[0], eta), [weak], parameters=instance.parameters,
                     error=budget.error)  # fmt: skip
    return [Evidence("FA with half of its gap", r.verdict, r, settings.spec) for r in results]


def test_a_claim_about_a_weakened_theorem_is_violated(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    false = Claim("pillutla2022/false", "false", "$1 = 2$.", "derived here", "theorem", parts(weakened), ("FA",))
    assert outcome(false).status == "violated"
    monkeypatch.setattr(papers, "chosen", lambda names: (made(key="pillutla2022/true"), false))
    assert main(["papers"]) == 1
    printed = capsys.readouterr().out
    assert "1 holds, 1 violated" in printed
    assert "exceeds the bound" in printed


@pytest.mark.long
def test_a_theorem_refuted_on_runs_violates_its_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite's own part, with a false formula in the theorem's place: K = 0 where local steps drift."""
    from fedconv.analysis.verdicts import verify as module
    from fedconv.paper_checks.shared import on_runs

    forget()
    spec = CATCHING["FA", "k_zero"].file("FA") | {"name": "drifting"}
    true = theorem("FA")
    monkeypatch.setitem(module.THEOREMS, "FA", replace(true.mutate(true.mutant("k_zero")), key="FA"))
    monkeypatch.setattr(on_runs, "files", lambda paper, size: {"drifting": spec})
    on_runs.checked.cache_clear()
    on_runs._settings.cache_clear()  # pyright: ignore[reportPrivateUsage]
    one = Claim("pillutla2022/x", "x", "x.", "derived here", "theorem", parts(OnRuns("pillutla2022", ("FA",))), ("FA",))
    try:
        assert outcome(one).status == "violated"
    finally:
        forget()
        on_runs.checked.cache_clear()
        on_runs._settings.cache_clear()  # pyright: ignore[reportPrivateUsage]


def test_searches_refute_what_is_false_and_leave_the_open_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pillutla2022_open.CANDIDATES, "quick", 400)
    assert {e.verdict.status for e in outcome(claim("pillutla2022/open-s1")).evidence} == {"inconclusive"}
    forget()
    monkeypatch.setitem(pillutla2022_open.CANDIDATES, "quick", 3000)
    true = theorem("FA")
    monkeypatch.setitem(pillutla2022_open.OPEN, "s1_plain", lambda: true.mutate(true.mutant("gap1")))
    found = outcome(claim("pillutla2022/open-s1"))
    forget()
    assert found.status == "violated"
    assert found.evidence[0].spec is not None


def test_comparisons_decide_both_ways() -> None:
    exact = Slope(2.0, 2.0, 2.0, (1.0, 10.0))
    wide = Slope(2.0, 1.0, 3.0, (1.0, 10.0))
    cases = [
        (equal("x", [1.0, 2.0], [1.0, 2.0 + 1e-12]), "holds"),
        (equal("x", [1.0, 2.0], [1.0, 2.1]), "violated"),
        (equal("x", [1.0, np.nan], 1.0), "violated"),
        (at_most("x", [1.0, 2.0], 2.0), "holds"),
        (at_most("x", [1.0, 2.1], 2.0), "violated"),
        (at_most("x", np.nan, 2.0), "violated"),
        (none_fails("x", [], 3, "agree"), "holds"),
        (none_fails("x", ["one"], 3, "agree"), "violated"),
        (none_fails("x", [], 0, "agree"), "violated"),
        (none_fails("x", ["one"], 3, "agree", otherwise="inconclusive"), "inconclusive"),
        (slope_is("x", exact, 2.0, 0.1, 0.0), "holds"),
        (slope_is("x", exact, 1.0, 0.1, 0.0), "violated"),
        (slope_is("x", wide, 2.0, 0.1, 0.01), "inconclusive"),
        (slope_at_most("x", wide, 3.0, 0.01), "holds"),
        (slope_at_most("x", wide, 2.0, 0.01), "inconclusive"),
        (slope_at_most("x", wide, 0.5, 0.01), "violated"),
    ]
    for evidence, status in cases:
        assert evidence.verdict.status == status, evidence.verdict.reason


def test_a_lemma_that_is_false_violates_its_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedconv.analysis.proofs.lemmas import lemma
    from fedconv.paper_checks.shared import on_proofs as proofs

    forget()
    false = tuple(lemma("fedalt", "L1:no_spread") if x.key == "L1" else x for x in LEMMAS["fedalt"])
    false = tuple(replace(x, key="L1") if x.key == "L1:no_spread" else x for x in false)
    monkeypatch.setitem(LEMMAS, "fedalt", false)
    name = "waves with 3 local steps, no noise, every cohort"
    monkeypatch.setattr(proofs, "replays", lambda budget: [name])
    one = Claim("pillutla2022/x", "x", "x.", "derived here", "lemma", parts(proofs.OnStates((("fedalt", "L1"),))))
    found = outcome(one)
    forget()
    assert found.status == "violated"


# ---- alone and together --------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_claim_has_the_same_numbers_alone_and_among_others() -> None:
    keys = ("zhang2021/theorem-4iii", "pillutla2022/lemma-L2-both")
    others = ("zhang2021/theorem-1", "pillutla2022/lemma-L5", *keys)
    alone = []
    for key in keys:
        forget()
        alone.append(outcome(claim(key)))
    forget()
    together = {key: outcome(claim(key), replace(QUICK, workers=2)) for key in others}
    for one in alone:
        found = together[one.claim.key]
        assert one.status == found.status == "holds"
        assert len(one.evidence) == len(found.evidence) > 1
        assert all(same(a, b) for a, b in zip(one.evidence, found.evidence, strict=True))


# ---- saved and continued ---------------------------------------------------------------------------------------------


def test_outcomes_are_read_as_they_were_written() -> None:
    for key in ("zhang2021/theorem-4iii", "pillutla2022/lemma-L2-both"):
        one = outcome(claim(key))
        text = json.dumps(outcome_data(one, QUICK, "code"), allow_nan=False)
        found = read_outcome(text, one.claim, QUICK, "code")
        assert found is not None
        assert all(same(a, b) for a, b in zip(one.evidence, found.evidence, strict=True))
        assert read_outcome(text, one.claim, budget_of("full"), "code") is None
        assert read_outcome(text, one.claim, QUICK, "other code") is None
        assert read_outcome(text, claim("zhang2021/theorem-1"), QUICK, "code") is None
    result = Outcome(made(), tuple(weakened(QUICK)))
    found = read_outcome(json.dumps(outcome_data(result, QUICK, "code"), allow_nan=False), made(), QUICK, "code")
    assert found is not None
    assert same(found.evidence[0], result.evidence[0])
    assert type(found.evidence[0].result.inputs) is type(result.evidence[0].result.inputs)  # type: ignore[union-attr]


def counted(count: list[str], key: str, interrupt: bool = False) -> Claim:
    def check(budget: Budget) -> list[Evidence]:
        if interrupt:
            raise KeyboardInterrupt
        count.append(key)
        return [equal("two numbers", 1.0, 1.0)]

    return Claim(key, "counted", "One is $1$.", "derived here", "reduction", parts(check))


def test_what_is_done_is_kept_and_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    forget()
    count: list[str] = []
    three = [counted(count, f"pillutla2022/c{k}") for k in range(3)]
    stopped = [three[0], counted(count, "pillutla2022/c1", interrupt=True), three[2]]
    monkeypatch.setattr(papers, "chosen", lambda names: tuple(stopped))
    assert main(["papers", "--workers", "1", "--out", str(tmp_path)]) == 130
    said = capsys.readouterr().err
    assert f"interrupted: 1 of 3 claims are kept in {tmp_path}; the same command continues there" in said
    assert [p.name for p in (tmp_path / "claims").iterdir()] == ["pillutla2022.c0.json"]

    forget()
    monkeypatch.setattr(papers, "chosen", lambda names: tuple(three))
    assert main(["papers", "--workers", "1", "--out", str(tmp_path)]) == 0
    assert count == ["pillutla2022/c0", "pillutla2022/c1", "pillutla2022/c2"]
    assert "1 of 3 claims are taken from" in capsys.readouterr().err

    forget()
    half = tmp_path / "claims" / "pillutla2022.c2.json"
    half.write_text(half.read_text()[:100])
    assert main(["papers", "--workers", "1", "--out", str(tmp_path)]) == 0
    assert count[3:] == ["pillutla2022/c2"]
    assert "is not whole and is ignored: pillutla2022/c2 is checked again" in capsys.readouterr().err

    forget()
    monkeypatch.setattr(papers_saved, "claims_code", lambda: "other")
    assert main(["papers", "--workers", "1", "--out", str(tmp_path)]) == 0
    assert len(count) == 7, "other code: nothing is taken over"
    capsys.readouterr()
    assert json.loads((tmp_path / "results.json").read_text())["counts"]["holds"] == 3
    assert (tmp_path / "index.html").stat().st_size > 1000
    assert "\\begin{longtable}" in (tmp_path / "claims.tex").read_text()


def test_runs_of_problem_files_are_kept_too(tmp_path: Path, capsys: Any) -> None:
    forget()
    one = claim("zhang2021/theorem-4iii")
    unit = next(u for u in units_of(one, QUICK) if u.function.__name__ == "runs_of")
    results = compute(unit, QUICK)
    papers_saved.save_run(unit, QUICK, tmp_path)
    forget()
    papers_saved.read_runs([unit], QUICK, tmp_path)
    read = compute(unit, QUICK)
    assert read is not results
    pairs = [[Evidence(r.name, r.verdict, r, r.spec) for r in x] for x in (results, read)]
    assert all(same(a, b) for a, b in zip(*pairs, strict=True))
    forget()
    papers_saved.run_path(tmp_path, unit).write_text("{")
    papers_saved.read_runs([unit], QUICK, tmp_path)
    assert "is not whole and is ignored" in capsys.readouterr().err


def test_studies_of_practice_are_kept_too(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forget()
    unit = Unit(practice.digits, ("labels", 0, practice.SUITES["quick"]))
    data = xr.Dataset({"loss": ("method", np.array([1.0, np.nan]))}, coords={"method": ["a", "b c"]}, attrs={"x": "y"})
    remember(unit, QUICK, (data,))
    papers_saved.save_run(unit, QUICK, tmp_path)
    forget()
    papers_saved.read_runs([unit], Budget("full"), tmp_path)
    assert not known(unit, QUICK)
    papers_saved.read_runs([unit], QUICK, tmp_path)
    xr.testing.assert_identical(compute(unit, QUICK)[0], data)
    forget()
    with monkeypatch.context() as other:
        other.setattr(papers_saved, "unit_code", lambda unit: "other")
        papers_saved.read_runs([unit], QUICK, tmp_path)
    assert not known(unit, QUICK)
    papers_saved.run_path(tmp_path, unit).write_bytes(b"CDF")
    papers_saved.read_runs([unit], QUICK, tmp_path)
    assert not known(unit, QUICK)
    assert "is not whole and is ignored" in capsys.readouterr().err


def test_interrupted_without_a_folder_says_so(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    forget()
    monkeypatch.setattr(papers, "chosen", lambda names: (counted([], "pillutla2022/c0", interrupt=True),))
    assert main(["papers"]) == 130
    assert "0 of 1 claims were done, and nothing is kept without --out" in capsys.readouterr().err


# ---- the command -------------------------------------------------------------------------------------------------


def test_the_list_computes_nothing(capsys: Any) -> None:
    assert main(["papers", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [x["key"] for x in listed] == [c.key for c in CLAIMS]
    assert main(["papers", "zhang2021", "huang2022/golden-value", "--list"]) == 0
    printed = capsys.readouterr().out
    assert all(c.key in printed for c in claims("zhang2021"))
    assert "golden-value" in printed
    assert "pillutla2022" not in printed


def test_one_claim_by_its_command(capsys: Any) -> None:
    assert main(["papers", "huang2022/golden-value", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["counts"] == {
        "holds": 1,
        "holds_approximate": 0,
        "violated": 0,
        "violated_approximate": 0,
        "inconclusive": 0,
        "premises_unmet": 0,
        "conjecture": 0,
        "unseen": 0,
    }
    (one,) = data["claims"]
    assert one["key"] == "huang2022/golden-value"
    assert len(one["evidence"]) == 3
    assert all(e["verdict"]["status"] == "holds" for e in one["evidence"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["pilutla2022"], r"PAPER is one of pillutla2022, .*; got 'pilutla2022'; did you mean 'pillutla2022'\?"),
        (["pillutla2022/theorem-FAA"], r"there is no claim 'pillutla2022/theorem-FAA'; did you mean 'pillutla2022/the"),
        (["--suite", "huge"], "huge"),
        (["--scheduler", "tcp://x:1", "--cluster", "local"], "--cluster must be left out with --scheduler"),
        (["--scheduler", "tcp://x:1", "--workers", "2"], "--workers must be left out with --scheduler"),
        (["--workers", "0"], "--workers.*greater than or equal to 1"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str, capsys: Any) -> None:
    assert main(["papers", *arguments]) == 2
    said = capsys.readouterr().err
    assert re.search(sentence, said)
    assert len(said.strip().splitlines()) == 1


def test_a_file_is_no_folder(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "x"
    file.write_text("")
    assert main(["papers", "zhang2021/norms", "--out", str(file)]) == 2
    assert "--out must be a folder to write" in capsys.readouterr().err


def test_unknown_keys_are_refused_with_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"did you mean 'zhang2021/norms'\?"):
        claim("zhang2021/norm")
    with pytest.raises(InputError, match=r"papers are pillutla2022, .*; got 'nobody'"):
        claims("nobody")
    assert paper_checks.chosen(("zhang2021/norms", "zhang2021/norms")) == (claim("zhang2021/norms"),)


# ---- LaTeX ---------------------------------------------------------------------------------------------------------


def test_the_latex_export_escapes() -> None:
    assert escaped("50 % of a_b & c#{$~^\\}") == (
        r"50 \% of a\_b \& c\#\{\$\textasciitilde{}\textasciicircum{}\textbackslash{}\}"
    )
    assert escaped("σ² ≤ χ, Horváth, 漢") == r"$\sigma$$^2$ $\le$ $\chi$, Horváth, ?"
    assert number(1.5e-12) == r"$1.5\cdot10^{-12}$"
    assert [number(x) for x in (float("nan"), float("inf"), -float("inf"))] == ["--", r"$\infty$", r"$-\infty$"]
    bad = replace(made(), title="100 % of $\\chi$ & more_or_less", source="a_b # c")
    row = next(x for x in document([outcome(bad)], "x & y").splitlines() if "100" in x)
    assert row.startswith(r"100 \% of $\chi$ \& more\_or\_less & a\_b \# c & holds & ")
    assert row.endswith(r" \\")


def test_every_row_has_its_cells_and_every_brace_its_partner() -> None:
    found = [Outcome(c, tuple(made().check(QUICK))) for c in CLAIMS]
    text = document(found, "fedconv papers")
    body = text[text.index(r"\midrule\endhead") : text.index(r"\end{longtable}")]
    rows = [x for x in body.splitlines() if x.endswith(r"\\") and not x.startswith(r"\multicolumn")]
    assert len(rows) == len(CLAIMS)
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == 4, row
        assert len(re.findall(r"(?<!\\)\$", row)) % 2 == 0, row
    bare = text.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"(?<!\\)[#_^&%](?![^\n]*\\\\)", re.sub(r"\$[^$]*\$", "", body.split("\n", 3)[-1]))


def test_processes_find_what_one_finds(tmp_path: Path, capsys: Any) -> None:
    names = ["huang2022/golden-value", "zhang2021/double-well", "pillutla2022/lemma-L1"]
    found = []
    for workers in ("1", "2"):
        forget()
        out = tmp_path / workers
        assert main(["papers", *names, "--workers", workers, "--out", str(out)]) == 0
        assert len(list((out / "claims").iterdir())) == 3
        found.append((out / "results.json").read_text())
    capsys.readouterr()
    assert found[0] == found[1]
