"""The readable report: verdicts as one self-contained HTML page, and as JSON beside it.

Pictures come in as SVG, so that this layer draws nothing: ``render`` and ``write`` take a mapping from ``Group.key``
(and ``OVERVIEW``) to an ``<svg>`` element.
"""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fedconv.analysis.claims.claim import Outcome
from fedconv.analysis.pages import mathml
from fedconv.analysis.pages.experiment_facts import carried_options, facts, slug
from fedconv.analysis.pages.numerals import limit, number, plain, typeset
from fedconv.analysis.pages.report_claims import account, theorem_anchor
from fedconv.analysis.pages.report_proofs import Replay
from fedconv.analysis.pages.report_proofs import sections as proof_sections
from fedconv.analysis.theorems import THEOREMS, Theorem, theorem
from fedconv.analysis.theorems.base import Mutant, rhs
from fedconv.analysis.theorems.registry import statement
from fedconv.analysis.theorems.statement import Statement, floor, lhs
from fedconv.analysis.verdicts.check import Result
from fedconv.analysis.verdicts.verdict import CATEGORIES, CERTAIN
from fedconv.core.trace import VARIABLES
from fedconv.problems.errors import InputError

OVERVIEW = "overview"
"""The picture of all verdicts together."""

PAGE, DATA = "index.html", "results.json"

WORDS: dict[str, tuple[str, str]] = {
    "holds": ("holds", "●"),
    "holds_approximate": ("holds (approximate)", "▲"),
    "violated": ("violated", "✕"),
    "violated_approximate": ("violated (approximate)", "▼"),
    "inconclusive": ("inconclusive", "◆"),
    "premises_unmet": ("premises unmet", "■"),
}
"""How a verdict is written, by its kind: its word and its shape."""

GRADES = {"exact": "exact", "upper": "proved bound", "estimated": "estimated"}


@dataclass(frozen=True)
class Group:
    """The verdicts of one algorithm on one problem, one for each theorem."""

    key: str
    problem: str
    algorithm: str
    results: tuple[Result, ...]


def groups(results: Sequence[Result]) -> list[Group]:
    """Results by experiment and algorithm, in order. Keys ``"NAME|ALGORITHM"`` are unique: where a theorem comes a
    second time under a name, a further group ``"NAME|ALGORITHM|2"`` begins."""
    found: dict[str, list[Result]] = {}
    for result in results:
        base = f"{result.name}|{result.algorithm}"
        key, count = base, 1
        while any(r.theorem == result.theorem for r in found.get(key, ())):
            count += 1
            key = f"{base}|{count}"
        found.setdefault(key, []).append(result)
    return [Group(k, _problem(rs[0]), rs[0].algorithm, tuple(rs)) for k, rs in found.items()]


def theorem_of(result: Result) -> Theorem | Statement:
    """The theorem or statement (or mutant, ``"FA:gap1"``) that a result is about."""
    key, _, mutant = result.theorem.partition(":")
    if key not in THEOREMS:
        return statement(result.theorem)
    whole = theorem(key)
    return whole.mutate(whole.mutant(mutant)) if mutant else whole


def render(
    results: Sequence[Result],
    pictures: Mapping[str, str],
    *,
    title: str,
    command: str,
    versions: Mapping[str, str],
    toml: Callable[[Mapping[str, Any]], str] | None = None,
    proofs: Sequence[Replay] = (),
    claims: Sequence[Outcome] = (),
) -> str:
    """The page. It fetches nothing: styles, script and pictures are inside it.

    command: the command line that made it; versions: of the software by name; toml: writes ``Result.spec`` as a
    problem file (without it, or without a spec, a section names no file); proofs: replayed proofs, a section each;
    claims: of papers, with the results as a part of their evidence: the page then begins with them.
    """
    found = groups(results)
    sections = {(r.name, r.algorithm, r.theorem): k for k, g in enumerate(found, 1) for r in g.results}
    return _template().render(
        title=title,
        command=command,
        versions=versions,
        account=account(claims, sections, pictures, toml) if claims else None,
        account_suite=" --suite full" if "--suite full" in command else "",
        counts=_counts(results),
        summary=_summary(results, found),
        overview=Markup(pictures[OVERVIEW]) if OVERVIEW in pictures and found else None,
        rows=[_row(r, g, number_) for number_, g in enumerate(found, 1) for r in g.results],
        sections=[_section(g, k, pictures, command, toml) for k, g in enumerate(found, 1)],
        proofs=proof_sections(proofs),
        theorems=[_appendix(key) for key in THEOREMS],
        statements=[_statement(key) for key in _bases(results) if key not in THEOREMS],
    )


def write(
    results: Sequence[Result],
    pictures: Mapping[str, str],
    out_dir: Path | str,
    *,
    title: str,
    command: str,
    versions: Mapping[str, str],
    toml: Callable[[Mapping[str, Any]], str] | None = None,
    proofs: Sequence[Replay] = (),
) -> Path:
    """Write ``index.html`` and ``results.json`` to a folder, each whole or not at all; returns the page's path.

    Raises InputError where the folder cannot be one.
    """
    folder = Path(out_dir)
    page = render(results, pictures, title=title, command=command, versions=versions, toml=toml, proofs=proofs)
    data = json.dumps(as_data(results, title=title, command=command, versions=versions), indent=1, allow_nan=False)
    write_whole(folder / DATA, data)
    return write_whole(folder / PAGE, page)


def as_data(results: Sequence[Result], *, title: str, command: str, versions: Mapping[str, str]) -> dict[str, Any]:
    """What ``results.json`` holds: every result with the group it is drawn in, and its problem file as data."""
    keys = {id(r): g.key for g in groups(results) for r in g.results}
    listed = [plain(r.to_dict()) | {"group": keys[id(r)], "spec": plain(r.spec)} for r in results]
    return {
        "title": title,
        "command": command,
        "versions": dict(versions),
        "counts": _counts(results),
        "results": listed,
    }


def write_whole(path: Path, text: str) -> Path:
    """Write a file whole or not at all, in a folder that is made where needed; returns its path."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"a report is written to a folder; {path.parent} is, or lies below, a file") from None
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
    return path


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "limit": limit, "typeset": typeset, "prose": mathml.prose}
    environment.globals |= {"words": WORDS, "grades": GRADES, "symbol": _symbol}
    return environment.get_template("report.html.jinja")


def _problem(result: Result) -> str:
    """The problem's name without the algorithm's, with a sign for what cannot be printed."""
    name = result.name.removesuffix(f"/{result.algorithm}")
    return "".join(x if x.isprintable() else "\ufffd" for x in name)


def _counts(results: Sequence[Result]) -> dict[str, int]:
    seen = Counter(r.verdict.category for r in results)
    return {x: seen[x] for x in CATEGORIES}


def _summary(results: Sequence[Result], found: Sequence[Group]) -> dict[str, Any]:
    """What the first paragraph says."""
    sampled = [r.verdict.error for r in results if r.verdict.method not in CERTAIN]
    comparable = [(r, g) for g in found for r in g.results if _comparable(r)]
    closest = max(comparable, key=lambda pair: pair[0].verdict.tightness, default=None)
    return {
        "checks": len(results),
        "problems": len({g.problem for g in found}),
        "sampled": len(sampled),
        "each": max(sampled, default=0.0),
        "together": sum(sampled),
        "replicates": sum(max(r.verdict.replicates for r in g.results) for g in found),
        "closest": closest and {"result": closest[0], "problem": closest[1].problem},
        "approximate": sum(r.verdict.approximate for r in results),
        "a_posteriori": any(r.verdict.a_posteriori for r in results),
        "estimated": any(r.verdict.grade == "estimated" for r in results),
        "diverged": sum(r.verdict.diverged > 0 for r in results),
    }


def _comparable(result: Result) -> bool:
    """Whether measured/bound says something: a finite ratio whose premises hold."""
    return result.verdict.status != "premises_unmet" and result.verdict.tightness == result.verdict.tightness


def _row(result: Result, group: Group, section: int) -> dict[str, Any]:
    return {"result": result, "verdict": result.verdict, "group": group, "section": section,
            "tightness": result.verdict.tightness if _comparable(result) else float("nan"),
            "theorem_id": theorem_anchor(result.theorem)}  # fmt: skip


def _section(
    group: Group,
    count: int,
    pictures: Mapping[str, str],
    command: str,
    toml: Callable[[Mapping[str, Any]], str] | None,
) -> dict[str, Any]:
    first = group.results[0]
    file = f"{slug(group.problem)}.toml"
    return {
        "id": f"check-{count}",
        "group": group,
        "checks": [_row(r, group, count) | {"parameters": _parameters(r)} for r in group.results],
        "facts": facts(first),
        "picture": Markup(pictures[group.key]) if group.key in pictures else None,
        "notes": list(dict.fromkeys(note for r in group.results for note in r.inputs.notes)),
        "file": file,
        "toml": toml(first.spec) if toml is not None and first.spec is not None else None,
        "reproduce": _reproduce(group, file, command),
    }


def _reproduce(group: Group, file: str, command: str) -> str:
    """The command line that gives this group's verdicts again, with the error that each of them had."""
    checked = [r for r in group.results if ":" not in r.theorem]
    words = ["fedconv", "verify", file, "--algorithm", group.algorithm]
    for r in checked:
        words += ["--theorem", r.theorem]
    error = sum(r.verdict.error for r in checked)
    return f"{shlex.join(words)} --error {error:.9g}{carried_options(command)}"


@cache
def _symbol(key: str) -> Markup:
    return Markup(mathml.name(key))


def _parameters(result: Result) -> list[tuple[Markup, float]]:
    return [(_symbol(k), x) for k, x in result.verdict.parameters.items()]


@cache
def _appendix(key: str) -> dict[str, Any]:
    """A theorem's statement, from its own definitions."""
    chosen = theorem(key)
    definitions = [Markup(mathml.definition(chosen, s, e)) for s, e in chosen.definitions.items() if s != rhs]
    return {
        "id": theorem_anchor(chosen.key),
        "theorem": chosen,
        "statement": Markup(mathml.statement(chosen)),
        "measures": [(Markup(mathml.name(s, chosen)), VARIABLES[v].long_name.removeprefix("Y: "), VARIABLES[v].units)
                     for s, v in (("X_t", chosen.shared), ("Y_t", chosen.personal))],
        "conditions": [Markup(mathml.condition(chosen, k)) for k in chosen.conditions],
        "definitions": definitions,
        "free": [
            {
                "name": Markup(mathml.name(f.name, chosen)),
                "zero": _markup(mathml.vanishes(chosen, f.to_zero)),
                "infinity": _markup(mathml.vanishes(chosen, f.to_infinity)),
            }
            for f in chosen.free
        ],
        "mutants": [_mutant(chosen, x) for x in chosen.mutants],
    }  # fmt: skip


def _bases(results: Sequence[Result]) -> list[str]:
    """Keys of the theorems that the results are about, mutants by what they are mutants of."""
    return list(dict.fromkeys(r.theorem.partition(":")[0] for r in results))


@cache
def _statement(key: str) -> dict[str, Any]:
    """A statement's formulas, from its own definitions."""
    chosen = statement(key)
    shown = [(s, e) for s, e in chosen.definitions.items() if s not in (lhs, rhs, floor)]
    return {
        "id": theorem_anchor(chosen.key),
        "theorem": chosen,
        "statement": Markup(mathml.statement(chosen)),
        "measures": [(x.label or x.name.replace("_", " "), x.meaning) for x in chosen.measured],
        "conditions": [Markup(mathml.condition(chosen, k)) for k in chosen.conditions],
        "premises": [p.name for p in chosen.premises],
        "definitions": [Markup(mathml.definition(chosen, s, e)) for s, e in shown],
        "mutants": [
            {"mutant": x, "changed": [Markup(mathml.definition(chosen, s, e)) for s, e in x.definitions.items()]}
            for x in chosen.mutants
        ],
    }


def _markup(text: str | None) -> Markup | None:
    return None if text is None else Markup(text)


def _mutant(chosen: Theorem, mutant: Mutant) -> dict[str, Any]:
    changed = [Markup(mathml.definition(chosen, s, e)) for s, e in mutant.definitions.items()]
    return {"mutant": mutant, "changed": changed}
