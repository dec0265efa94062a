"""``fedconv papers``: every claim of the four papers with its verdict and its evidence."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.markup import escape
from rich.table import Table

from fedconv.analysis.claims.claim import Budget, Claim, Outcome, Size
from fedconv.analysis.claims.saved import claim_data, plain
from fedconv.analysis.pages.latex_table import document
from fedconv.analysis.pages.report_claims import GROUPS, standing, write_claims
from fedconv.analysis.verdicts.verdict import word_of
from fedconv.commands import Interrupted, version
from fedconv.commands.console import chosen_workers, note, number, progress, stdout
from fedconv.commands.papers.kept import claims_code, read_runs, save_claim, save_run, saved_claims
from fedconv.commands.papers.pictures import drawn
from fedconv.commands.papers.units_apart import on_cluster, on_processes
from fedconv.paper_checks import budget_of, chosen
from fedconv.paper_checks.shared.units import Unit, compute, evidence_of, known, units_of
from fedconv.problem_file.settings import dump_toml
from fedconv.problems.errors import InputError

TITLE = "The claims of four papers"
_COLOURS = {
    "holds": "green", "holds_approximate": "cyan", "violated": "bold red", "violated_approximate": "magenta",
    "inconclusive": "yellow", "premises_unmet": "yellow",
    "conjecture": "cyan", "unseen": "yellow",
}  # fmt: skip


def check_papers(
    names: Sequence[str],
    *,
    size: Size,
    listed: bool,
    as_json: bool,
    out: Path | None,
    workers: int | None,
    scheduler: str | None,
    cluster: Literal["local"] | None,
) -> int:
    """Check the claims of papers, or those named, and print them; see ``fedconv papers --help``."""
    if scheduler is not None and cluster is not None:
        raise InputError("--cluster must be left out with --scheduler; got both")
    if scheduler is not None and workers is not None:
        raise InputError("--workers must be left out with --scheduler, whose cluster has workers of its own; got both")
    claims = chosen(tuple(names))
    if listed:
        if as_json:
            print(json.dumps([claim_line(c) for c in claims], indent=2, ensure_ascii=False))
        else:
            stdout().print(list_table(claims))
        return 0
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"--out must be a folder to write; {out} is a file")
    side_by_side = chosen_workers(workers)
    spread = None if scheduler is None and cluster is None else Spread(side_by_side, scheduler)
    budget = budget_of(size, 1 if spread else side_by_side)
    outcomes = gather(claims, budget, out, spread)
    counts = Counter(standing(o) for o in outcomes)
    if as_json:
        print(json.dumps(as_data(outcomes, budget), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        console = stdout()
        console.print(table(outcomes))
        for line in [*notes(outcomes), summary(outcomes, counts)]:
            console.print(line, markup=False, soft_wrap=True)
    if out is not None:
        command = shlex.join(["fedconv", "papers", *names, "--suite", size])
        note(f"report written to {write(outcomes, out, budget, command)}")
    return 1 if counts["violated"] or counts["violated_approximate"] else 0


# ---- computing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Processes of a dask cluster: ``workers`` of a local one, or those of the ``scheduler``."""

    workers: int
    scheduler: str | None


def gather(claims: Sequence[Claim], budget: Budget, out: Path | None, spread: Spread | None = None) -> list[Outcome]:
    """The outcomes of the claims in order; with ``out`` each is saved as it is done, and what was saved before by the
    same code at the same size is not computed again. Raises Interrupted on Ctrl-C."""
    found: dict[str, Outcome] = {}
    if out is not None:
        found = saved_claims(claims, budget, out)
        if found:
            note(f"{len(found)} of {len(claims)} claims are taken from {out}, where the same code found them")
    todo = [c for c in claims if c.key not in found]
    try:
        with progress() as bar:
            units = list(dict.fromkeys(unit for claim in todo for unit in units_of(claim, budget)))
            if out is not None:
                read_runs(units, budget, out)
            task = bar.add_task("", total=len(units), completed=sum(known(unit, budget) for unit in units))
            if spread is not None:
                apart = on_cluster(units, budget, spread.workers, spread.scheduler)
            else:
                apart = on_processes(units, budget) if budget.workers > 1 and len(units) > 1 else ()
            open_units = {c.key: {u for u in units_of(c, budget) if not known(u, budget)} for c in todo}

            def finish(claim: Claim) -> None:
                outcome = found[claim.key] = Outcome(claim, evidence_of(claim, budget))
                if out is not None:
                    save_claim(outcome, budget, out)

            for unit in apart:
                save_run(unit, budget, out)
                bar.update(task, description=_short(unit))
                bar.advance(task)
                for claim in todo:
                    if unit in open_units[claim.key]:
                        open_units[claim.key].discard(unit)
                        if not open_units[claim.key]:
                            finish(claim)
            for claim in todo:
                if claim.key in found:
                    continue
                for unit in units_of(claim, budget):
                    if not known(unit, budget):
                        bar.update(task, description=_short(unit))
                        _computed(claim, unit, budget)
                        save_run(unit, budget, out)
                        bar.advance(task)
                finish(claim)
    except KeyboardInterrupt:
        done = len(found)
        kept = (
            f"{done} of {len(claims)} claims are kept in {out}; the same command continues there"
            if out is not None
            else f"{done} of {len(claims)} claims were done, and nothing is kept without --out"
        )
        raise Interrupted(f"interrupted: {kept}") from None
    return [found[c.key] for c in claims]


def _computed(claim: Claim, unit: Unit, budget: Budget) -> None:
    try:
        compute(unit, budget)
    except InputError as error:
        raise InputError(f"{claim.key}: {error}") from error


def _short(unit: Unit) -> str:
    text = str(unit)
    return text if len(text) <= 60 else f"{text[:59]}…"


# ---- saying ---------------------------------------------------------------------------------------------------------


def claim_line(claim: Claim) -> dict[str, Any]:
    """What ``--list --json`` prints of a claim."""
    return {"key": claim.key, "kind": claim.kind, "title": claim.title, "theorems": list(claim.theorems)}


def list_table(claims: Sequence[Claim]) -> Table:
    """A line for each claim, nothing computed."""
    out = Table("claim", "kind", "what it says", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for claim in claims:
        out.add_row(claim.key, claim.kind, escape(claim.title))
    return out


def tightness_of(outcome: Outcome) -> float:
    """The largest measured/bound among the evidence that decides; NaN where there is none."""
    worst = outcome.worst
    return float("nan") if worst is None or worst.verdict.status == "premises_unmet" else worst.verdict.tightness


def table(outcomes: Sequence[Outcome]) -> Table:
    """A line for each claim with its verdict."""
    out = Table("claim", "kind", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    out.add_column("verdict")
    out.add_column("tightness", justify="right")
    out.add_column("evidence", justify="right")
    words = {key: word for key, word, _ in GROUPS}
    for o in outcomes:
        key = standing(o)
        out.add_row(escape(o.claim.key), o.claim.kind, f"[{_COLOURS[key]}]{words[key]}[/]", number(tightness_of(o), 3),
                    str(len(o.evidence)))  # fmt: skip
    return out


def word(key: str) -> str:
    """A standing as a sentence has it."""
    return word_of(key).replace("_", " ")


def notes(outcomes: Sequence[Outcome]) -> list[str]:
    """A sentence for each claim that does not plainly hold: the evidence that decides, with its reason."""
    out = []
    for o in outcomes:
        if o.verdict_category == "holds":
            continue
        worst = o.worst
        words = "nothing was checked" if worst is None else f"{worst.name}: {worst.verdict.reason}"
        out.append(f"{o.claim.key}: {word(standing(o))}: {words}")
    return out


def summary(outcomes: Sequence[Outcome], counts: Mapping[str, int]) -> str:
    """How many claims of each standing, and on how much evidence."""
    words = [f"{counts[key]} {word}" for key, word, _ in GROUPS if counts[key]]
    pieces = sum(len(o.evidence) for o in outcomes)
    one = "claim" if len(outcomes) == 1 else "claims"
    return f"{len(outcomes)} {one}: {', '.join(words)}; {pieces} pieces of evidence"


def as_data(outcomes: Sequence[Outcome], budget: Budget) -> dict[str, Any]:
    """What ``--json`` prints and ``results.json`` holds: every claim with its evidence."""
    counts = Counter(standing(o) for o in outcomes)
    return {
        "fedconv": version(),
        "code": claims_code(),
        "size": budget.size,
        "error": budget.error,
        "counts": {key: counts[key] for key, _, _ in GROUPS},
        "claims": [short_data(o) for o in outcomes],
    }


def short_data(outcome: Outcome) -> dict[str, Any]:
    """An outcome's data with its standing, without curves and inputs."""
    evidence = [
        {"name": e.name, "verdict": e.verdict.to_dict(), "spec": plain(e.spec),
         "theorem": e.result and e.result.theorem, "algorithm": e.result and e.result.algorithm}
        for e in outcome.evidence
    ]  # fmt: skip
    worst = outcome.worst
    return {
        **claim_data(outcome.claim),
        "standing": standing(outcome),
        "status": outcome.status,
        "approximate": outcome.approximate,
        "tightness": None if worst is None else worst.verdict.to_dict()["tightness"],
        "evidence": evidence,
    }


# ---- writing --------------------------------------------------------------------------------------------------------


def write(outcomes: Sequence[Outcome], out: Path, budget: Budget, command: str) -> Path:
    """``results.json``, ``claims.tex`` and ``index.html`` in a folder; returns the page's path."""
    import platform

    import numpy
    import scipy
    import torch

    text = json.dumps(as_data(outcomes, budget), indent=1, ensure_ascii=False, allow_nan=False)
    (out / "results.json").write_text(text, encoding="utf-8")
    (out / "claims.tex").write_text(document(outcomes, command), encoding="utf-8")
    versions = {
        "fedconv": version(), "Python": platform.python_version(), "NumPy": numpy.__version__,
        "SciPy": scipy.__version__, "torch": torch.__version__,
    }  # fmt: skip
    pictures, replays = drawn(outcomes, out, budget)
    return write_claims(outcomes, out, title=TITLE, command=command, versions=versions, toml=dump_toml,
                        pictures=pictures, proofs=replays)  # fmt: skip
