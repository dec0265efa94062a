"""The report's account of the papers, claim by claim: what its template needs, as plain data, and the page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fedconv.analysis.claims.claim import Evidence, Outcome
from fedconv.analysis.pages import mathml
from fedconv.analysis.pages.experiment_facts import slug
from fedconv.analysis.pages.report_proofs import Replay
from fedconv.analysis.theorems import THEOREMS, theorem
from fedconv.analysis.theorems.registry import statements
from fedconv.analysis.verdicts.check import Result
from fedconv.analysis.verdicts.verdict import CERTAIN

CITATIONS: dict[str, str] = {
    "pillutla2022": "Pillutla, Malik, Mohamed, Rabbat, Sanjabi, Xiao 2022: Federated Learning with Partial Model"
    " Personalization (arXiv 2204.03809)",
    "mishchenko2023": "Mishchenko, Islamov, Gorbunov, Horváth 2023: Partially Personalized Federated Learning: Breaking"
    " the Curse of Data Heterogeneity (arXiv 2305.18285)",
    "huang2022": "Huang, Liu, Shen, He, Lin, Tao 2022: Achieving Personalized Federated Learning with Sparse Local"
    " Models (arXiv 2201.11380)",
    "zhang2021": "Zhang, Sapra, Fidler, Yeung, Álvarez 2021: Personalized Federated Learning with First Order Model"
    " Optimization (arXiv 2012.08565)",
}

GROUPS: tuple[tuple[str, str, str], ...] = (
    ("holds", "holds", "●"),
    ("holds_approximate", "holds (approximate)", "▲"),
    ("violated", "violated", "✕"),
    ("violated_approximate", "violated (approximate)", "▼"),
    ("inconclusive", "undecided", "◆"),
    ("premises_unmet", "premises unmet", "■"),
    ("conjecture", "conjecture", "○"),
    ("unseen", "not seen here", "◇"),
)
"""How claims are counted: their status, the word and the shape for it. Conjectures that stand are counted apart, and so
are empirical claims that these runs contradict: that refutes no theorem."""


def standing(outcome: Outcome) -> str:
    """The key in GROUPS: the outcome's status; ``conjecture`` for a conjecture that nothing refuted, ``unseen`` for an
    empirical claim that these runs contradict."""
    kind, violated = outcome.claim.kind, outcome.status == "violated"
    if kind == "conjecture" and not violated:
        return "conjecture"
    return "unseen" if kind == "empirical" and violated else outcome.verdict_category


def results_of(outcomes: Sequence[Outcome]) -> list[Result]:
    """The theorem checks among the evidence, each once, in order."""
    found: dict[tuple[str, str, str], Result] = {}
    for outcome in outcomes:
        for e in outcome.evidence:
            if e.result is not None:
                found.setdefault(_identity(e.result), e.result)
    return list(found.values())


def account(
    outcomes: Sequence[Outcome],
    sections: Mapping[tuple[str, str, str], int],
    pictures: Mapping[str, str],
    toml: Callable[[Mapping[str, Any]], str] | None,
) -> dict[str, Any]:
    """What ``report_claims.html.jinja`` shows. ``sections``: the number of the section about a theorem's check, by
    (name, algorithm, theorem); ``pictures``: by a claim's ``figure``."""
    counted = Counter(standing(o) for o in outcomes)
    listed = {key: [o.claim for o in outcomes if standing(o) == key] for key, _, _ in GROUPS}
    papers = [
        {
            "key": paper,
            "id": f"paper-{slug(paper)}",
            "citation": CITATIONS.get(paper, paper),
            "claims": [_claim(o, sections, pictures, toml) for o in outcomes if o.claim.paper == paper],
        }
        for paper in dict.fromkeys(o.claim.paper for o in outcomes)
    ]
    return {
        "groups": [{"key": k, "word": w, "shape": s, "count": counted[k], "claims": listed[k]} for k, w, s in GROUPS],
        "papers": papers,
        "evidence": sum(len(o.evidence) for o in outcomes),
        "claims": len(outcomes),
        "closest": _closest(outcomes),
        "anchor": anchor,
        "errors": errors(outcomes),
    }


def errors(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """How surely the page speaks. Of claims that follow from a proof: the number of limits that may err, the largest
    error of one and the sum of all; of conjectures and empirical claims: the largest sum of one claim's; and the number
    of checks without a chance of error."""
    all_of = {o.claim.key: [e.verdict.error for e in o.evidence if e.verdict.method not in CERTAIN] for o in outcomes}
    apart = {o.claim.key for o in outcomes if o.claim.kind in ("conjecture", "empirical")}
    proved = [x for key, found in all_of.items() if key not in apart for x in found]
    return {
        "limits": len(proved),
        "each": max(proved, default=0.0),
        "together": sum(proved),
        "apart": max((sum(all_of[key]) for key in apart), default=0.0),
        "certain": sum(len(o.evidence) - len(all_of[o.claim.key]) for o in outcomes),
    }


def anchor(key: str) -> str:
    """The id of a claim's section."""
    return "claim-" + slug(key.replace("*", "-star").replace("'", "-prime").replace("/", "-"))


def write_claims(
    outcomes: Sequence[Outcome],
    out_dir: Path | str,
    *,
    title: str,
    command: str,
    versions: Mapping[str, str],
    toml: Callable[[Mapping[str, Any]], str] | None = None,
    pictures: Mapping[str, str] | None = None,
    proofs: Sequence[Replay] = (),
) -> Path:
    """Write ``index.html``: a summary, then paper by paper and claim by claim; returns its path.

    pictures: ``<svg>`` elements by a claim's ``figure``, and by ``Group.key`` for the checks of theorems on runs.
    Raises InputError where the folder cannot be one.
    """
    from fedconv.analysis.pages.report import PAGE, render, write_whole

    page = render(
        results_of(outcomes), pictures or {}, title=title, command=command, versions=versions, toml=toml,
        proofs=proofs, claims=outcomes,
    )  # fmt: skip
    return write_whole(Path(out_dir) / PAGE, page)


def _identity(result: Result) -> tuple[str, str, str]:
    return result.name, result.algorithm, result.theorem


def _claim(
    outcome: Outcome,
    sections: Mapping[tuple[str, str, str], int],
    pictures: Mapping[str, str],
    toml: Callable[[Mapping[str, Any]], str] | None,
) -> dict[str, Any]:
    claim, worst = outcome.claim, outcome.worst
    key = standing(outcome)
    word, shape = next((w, s) for k, w, s in GROUPS if k == key)
    figure = Markup(pictures[claim.figure]) if claim.figure and claim.figure in pictures else None
    return {
        "id": anchor(claim.key),
        "claim": claim,
        "standing": key,
        "word": word,
        "shape": shape,
        "statement": mathml.prose(claim.statement),
        "formulas": [_formula(k) for k in claim.theorems if _about(k)],
        "tightness": max((t for t in map(_tightness, outcome.evidence) if t == t), default=math.nan),
        "interval": worst.verdict if worst is not None else None,
        "reason": worst.verdict.reason if worst is not None else "nothing was checked",
        "evidence": [_evidence(e, sections, toml) for e in outcome.evidence],
        "figure": figure,
    }


def _about(key: str) -> bool:
    return key in THEOREMS or key in statements()


def _formula(key: str) -> dict[str, Any]:
    chosen = theorem(key) if key in THEOREMS else statements()[key]
    return {"key": key, "title": chosen.title, "statement": Markup(mathml.statement(chosen)),
            "id": theorem_anchor(key)}  # fmt: skip


def theorem_anchor(key: str) -> str:
    """The id of a theorem's section in the appendix."""
    return "theorem-" + slug(key.partition(":")[0].replace("*", "-star"))


def _evidence(
    e: Evidence,
    sections: Mapping[tuple[str, str, str], int],
    toml: Callable[[Mapping[str, Any]], str] | None,
) -> dict[str, Any]:
    own = e.result is None and e.spec is not None and toml is not None
    return {
        "evidence": e,
        "verdict": e.verdict,
        "tightness": _tightness(e),
        "section": sections.get(_identity(e.result)) if e.result is not None else None,
        "algorithm": e.result.algorithm if e.result is not None else "",
        "toml": toml(e.spec) if own and toml is not None and e.spec is not None else None,
        "file": f"{slug(e.name)}.toml",
    }


def _tightness(e: Evidence) -> float:
    return e.verdict.tightness if e.verdict.status != "premises_unmet" else math.nan


def _closest(outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """The theorem's check that comes closest to its bound."""
    seen = [(t, o.claim, e) for o in outcomes if o.claim.kind in ("theorem", "lemma") for e in o.evidence
            if e.result is not None and (t := _tightness(e)) == t]  # fmt: skip
    if not seen:
        return None
    value, claim, e = max(seen, key=lambda x: x[0])
    return {"tightness": value, "claim": claim, "name": e.name}
