"""The report's account of claims: counts, statements as mathematics, evidence with links, files and commands."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pytest

from fedconv.analysis.claims.claim import Budget, Claim, Evidence, Outcome
from fedconv.analysis.pages.mathml import latex, prose
from fedconv.analysis.pages.report_claims import anchor, errors, results_of, standing, write_claims
from fedconv.analysis.theorems import THEOREMS
from fedconv.analysis.theorems.registry import statements
from fedconv.analysis.theorems.statement import StatementInputs
from fedconv.analysis.verdicts.check import Curve, Result
from fedconv.analysis.verdicts.verdict import Status, Verdict
from fedconv.problems.errors import InputError


def verdict(status: Status = "holds", measured: float = 0.5, **changes) -> Verdict:
    given = {"bound": 1.0, "low": 0.4, "high": 0.6, "error": 1e-9, "method": "deterministic", "replicates": 1,
             "grade": "exact", "reason": "the upper limit obeys the bound"}  # fmt: skip
    return Verdict(status=status, measured=measured, **(given | changes))


def claim(name: str, kind="theorem", **changes) -> Claim:
    given = {"statement": r"at most $\frac{1}{\sqrt{T}}$ & no more", "source": "derived here", "check": lambda _: ()}
    return Claim(f"pillutla2022/{name}", f"title of {name}", kind=kind, **(given | changes))


def checked(theorem: str, status: Status = "holds") -> Evidence:
    curve = Curve(np.array([0.5]), np.array([1.0]))
    result = Result("waves", "ffgg", theorem, verdict(status), curve, StatementInputs({"T": 1.0}, {}, "exact", ()))
    return Evidence("waves", result.verdict, result)


OUTCOMES = (
    Outcome(claim("first", theorems=("FFGG-1a",), figure="slopes"), (checked("FFGG-1a"),)),
    Outcome(claim("second"), (checked("FFGG-1b"), Evidence("alone", verdict("violated", 2.0), spec={"name": "x"}))),
    Outcome(claim("third", kind="conjecture"), (Evidence("search", verdict()),)),
    Outcome(claim("fourth"), ()),
    Outcome(claim("fifth", kind="empirical"), (Evidence("a", verdict()), Evidence("b", verdict("inconclusive")))),
)


def test_a_claim_is_as_good_as_its_worst_evidence() -> None:
    assert [standing(o) for o in OUTCOMES] == ["holds", "violated", "conjecture", "premises_unmet", "inconclusive"]
    against = (Evidence("search", verdict("violated")),)
    assert standing(Outcome(claim("third", kind="conjecture"), against)) == "violated"
    assert standing(Outcome(claim("fifth", kind="empirical"), against)) == "unseen"


def test_errors_of_proved_and_of_other_claims_are_told_apart() -> None:
    sampled = Evidence("runs", verdict(method="Student t", error=1e-9))
    guessed = Evidence("seeds", verdict(method="Student t", error=0.02))
    some = (
        Outcome(claim("a"), (sampled, sampled, checked("FFGG-1a"))),
        Outcome(claim("b", kind="lemma"), (sampled,)),
        Outcome(claim("c", kind="empirical"), (guessed, guessed)),
        Outcome(claim("d", kind="conjecture"), (guessed, Evidence("search", verdict(method="search", error=0.0)))),
    )
    assert errors(some) == {"limits": 3, "each": 1e-9, "together": pytest.approx(3e-9), "apart": 0.04, "certain": 2}
    assert errors(OUTCOMES) == {"limits": 0, "each": 0.0, "together": 0.0, "apart": 0.0, "certain": 6}


def test_evidence_is_counted_once() -> None:
    twice = (*OUTCOMES, Outcome(claim("again"), OUTCOMES[0].evidence))
    assert [r.theorem for r in results_of(twice)] == ["FFGG-1a", "FFGG-1b"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_claims(
        OUTCOMES, tmp_path_factory.mktemp("report") / "out", title="Papers", command="fedconv papers", versions={},
        toml=lambda spec: f'name = "{spec["name"]}"', pictures={"slopes": "<svg id='slopes'></svg>"},
    )  # fmt: skip
    return path.read_text(encoding="utf-8")


def test_the_summary_counts_and_names(page: str) -> None:
    assert re.findall(r"<b>(\d)</b><span class=\"verdict (\w+)\"", page) == [
        ("1", "holds"), ("0", "holds_approximate"), ("1", "violated"), ("0", "violated_approximate"),
        ("1", "inconclusive"), ("1", "premises_unmet"), ("1", "conjecture"), ("0", "unseen"),
    ]  # fmt: skip
    before = page[: page.index("<main>")]
    assert all(f"title of {name}" in before for name in ("second", "third", "fourth", "fifth"))


def test_every_claim_has_statement_command_and_evidence(page: str) -> None:
    for o in OUTCOMES:
        assert f'id="{anchor(o.claim.key)}"' in page
        assert f"<code>fedconv papers {o.claim.key}</code>" in page
    assert "&amp; no more" in page
    assert page.count("<mfrac>") >= len(OUTCOMES)
    assert 'href="#check-1"' in page
    assert "name = &#34;x&#34;" in page
    assert "<svg id='slopes'>" in page
    assert 'id="theorem-FFGG-1a"' in page
    assert "$" not in re.sub(r"<script>.*?</script>", "", page, flags=re.S)


def test_a_page_without_checks_on_runs(tmp_path: Path) -> None:
    page = write_claims(OUTCOMES[2:3], tmp_path, title="t", command="c", versions={}).read_text(encoding="utf-8")
    assert 'id="checks"' not in page


def test_prose_wants_pairs_of_dollars() -> None:
    assert str(prose("a < b")) == "a &lt; b"
    with pytest.raises(InputError, match="dollar signs must come in pairs"):
        prose("costs $5")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [({"size": "huge"}, "size must be one of quick, full"), ({"error": 0.5}, "error must lie in"),
     ({"workers": 0}, "workers must be at least 1")],
)  # fmt: skip
def test_a_budget_says_what_is_wrong(given: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Budget(**given)


@pytest.mark.parametrize("key", ["FA", "/FA", "pillutla2022/"])
def test_a_key_names_paper_and_claim(key: str) -> None:
    with pytest.raises(InputError, match='must be "PAPER/NAME"'):
        Claim(key, "t", "s", "derived here", "theorem", lambda _: ())


def test_every_formula_of_the_theorems_can_be_converted() -> None:
    formulas = [x for t in [*THEOREMS.values(), *statements().values()] for x in t.latex().values() if x]
    assert len(formulas) > 300
    assert not [f for f in formulas if "\\" in latex(f)]
    sized = latex(r"\Big\|x\Big\|^2+\big\langle a,b\big\rangle", block=True)
    assert "\\" not in sized
    assert {"‖", "⟨", "⟩"} <= set(html.unescape(sized))
