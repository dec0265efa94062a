"""What ``fedconv papers --out`` keeps while it runs: a file for each claim, and one for each unit that takes long."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedconv import paper_checks
from fedconv.analysis.claims import saved as claim_saved
from fedconv.analysis.claims.claim import Budget, Claim, Outcome
from fedconv.analysis.claims.saved import outcome_data, read_outcome, read_results, results_data
from fedconv.commands.console import note
from fedconv.core.files import checksum
from fedconv.core.netcdf import load, save
from fedconv.core.sources import code_version
from fedconv.paper_checks.pillutla2022.practice import digits
from fedconv.paper_checks.shared.on_runs import runs_of
from fedconv.paper_checks.shared.units import Found, Unit, compute, known, remember
from fedconv.problems.errors import InputError

CLAIMS, RUNS = "claims", "runs"
"""Folders of the two kinds of files."""

KEPT = (runs_of, digits)
"""Functions whose units are saved."""

CHECKSUM = "checksum"
MARK = "made_by"
"""The attribute of a study's data that says what made them."""


def claims_code() -> str:
    """What finds the outcomes of claims: all that their checks import, and what reads a file of theirs."""
    return code_version(paper_checks.__name__, claim_saved.__name__)


def unit_code(unit: Unit) -> str:
    """The same of a unit."""
    return code_version(unit.function.__module__, claim_saved.__name__)


def claim_path(out: Path, claim: Claim) -> Path:
    """Where a claim's outcome is saved."""
    return out / CLAIMS / f"{claim.key.replace('/', '.')}.json"


def run_path(out: Path, unit: Unit) -> Path:
    """Where a unit is saved: the verdicts on a problem file's runs, or the data of a study of practice."""
    kind = "nc" if unit.function is digits else "json"
    return out / RUNS / f"{hashlib.sha256(repr(unit.arguments).encode()).hexdigest()[:16]}.{kind}"


def save_claim(outcome: Outcome, budget: Budget, out: Path) -> None:
    """Write a claim's file."""
    _write(claim_path(out, outcome.claim), outcome_data(outcome, budget, claims_code()), outcome.claim.key)


def saved_claims(claims: Sequence[Claim], budget: Budget, out: Path) -> dict[str, Outcome]:
    """What the same code saved before at the same size; a file that is not whole is ignored with a note."""
    found: dict[str, Outcome] = {}
    others = 0
    for claim in claims:
        path = claim_path(out, claim)
        if not path.exists():
            continue
        try:
            outcome = read_outcome(_read(path, claim.key), claim, budget, claims_code())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            note(f"{path} is not whole and is ignored: {claim.key} is checked again")
            continue
        if outcome is not None:
            found[claim.key] = outcome
        else:
            others += 1
    if others:
        note(f"{others} claims in {out} were found by other code, or at another size or error: they are checked again")
    return found


def save_run(unit: Unit, budget: Budget, out: Path | None) -> None:
    """Write a unit that many claims share and that takes long: verdicts on runs, or a study of practice."""
    if out is None or unit.function not in KEPT:
        return
    if unit.function is runs_of:
        _write(
            run_path(out, unit),
            results_data(compute(unit, budget), budget, unit_code(unit)),
            str(run_path(out, unit).stem),
        )
        return
    (data,) = compute(unit, budget)
    save(data.assign_attrs({MARK: _study_mark(unit, budget)}), run_path(out, unit))


def read_runs(units: Sequence[Unit], budget: Budget, out: Path) -> None:
    """Remember the units that the same code saved before at the same size."""
    for unit in units:
        path = run_path(out, unit)
        if unit.function not in KEPT or known(unit, budget) or not path.exists():
            continue
        try:
            if unit.function is runs_of:
                found = read_results(_read(path, path.stem), budget, unit_code(unit))
            else:
                found = _read_study(path, _study_mark(unit, budget))
        except (InputError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            note(f"{path} is not whole and is ignored: {unit} is run again")
            continue
        if found is not None:
            remember(unit, budget, found)
        else:
            note(f"{path} was made by other code or at another size: {unit} is run again")


def _study_mark(unit: Unit, budget: Budget) -> str:
    """What made the data of a study, and which study it is."""
    return f"{unit_code(unit)} {budget.size} {run_path(Path(), unit).stem}"


def _read_study(path: Path, mark: str) -> Found | None:
    data = load(path, "a study")
    return (data,) if data.attrs.pop(MARK) == mark else None


def _read(path: Path, identity: str) -> str:
    """A file that :func:`_write` wrote. Raises ValueError where it is not what was written, or of another identity."""
    text = path.read_text(encoding="utf-8")
    data = json.loads(text)
    known = data.pop(CHECKSUM, None)
    if known != _checksum(data, identity):
        raise ValueError("by its checksum this is not what was written")
    return text


def _checksum(data: dict[str, Any], identity: str) -> str:
    return checksum(identity.encode(), json.dumps(data, sort_keys=True).encode())


def _write(path: Path, data: dict[str, Any], identity: str) -> None:
    """A JSON file, whole or not at all, with a checksum over its content and what it is about."""
    data = data | {CHECKSUM: _checksum(json.loads(json.dumps(data, allow_nan=False)), identity)}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_text(json.dumps(data, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
