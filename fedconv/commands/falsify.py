"""``fedconv falsify``: search for a violation of a theorem, or of a weakened version of one."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

from fedconv.analysis.falsify import BUDGETS, Finding, falsify, most_candidates
from fedconv.analysis.theorems import THEOREMS, Theorem
from fedconv.analysis.theorems.registry import statements
from fedconv.analysis.theorems.statement import Statement
from fedconv.commands.console import note, number, progress
from fedconv.methods.registry import METHODS, SECTIONS
from fedconv.problem_file.schema import suggestion
from fedconv.problem_file.settings import dump_toml
from fedconv.problems.errors import InputError

ORDER = ("problem", "noise", "start", "algorithm", *SECTIONS, "run", "verify")
"""Tables of a problem file in the order in which they are written."""


def falsify_theorem(key: str, *, mutant: str | None, budget: str, seed: int, out: Path | None) -> int:
    """Search, print and write what was found; the exit status is explained in ``fedconv falsify --help``."""
    theorem = _theorem(key)
    _check_mutant(theorem, mutant)
    effort = _budget(budget)
    if out is not None and out.exists():
        raise InputError(f"--out must be a new file; {out} exists")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out must lie in an existing folder; {out.parent} is none")
    label = key if mutant is None else f"{key}:{mutant}"
    started = time.monotonic()
    with progress() as bar:
        task = bar.add_task(label, total=most_candidates(theorem, effort) if isinstance(effort, str) else effort)

        def tick(tried: int, best: float) -> None:
            done = tried if isinstance(effort, str) else min(time.monotonic() - started, effort)
            bar.update(task, completed=int(done), description=f"{label}, largest tightness {best:.6g}")

        found = falsify(theorem, mutant=mutant, budget=effort, seed=seed, tick=tick)
    for line in sentences(found, label):
        print(line)
    if found.file is not None:
        search = ["fedconv", "falsify", key, *(["--mutant", mutant] if mutant else [])]
        search += ["--budget", budget, "--seed", str(seed)]
        text = document(found, label, shlex.join(search), mutant, out)
        if out is None:
            print(f"\n{text}", end="")
        else:
            out.write_text(text, encoding="utf-8")
            note(f"written to {out}")
    if found.interrupted and not found.found:
        return 130
    return int(found.found == (mutant is None))


def sentences(found: Finding, label: str) -> list[str]:
    """What the search came to, in lines."""
    effort = f"{found.tried} candidates in {found.seconds:.1f} s"
    verdict = found.verdict
    if found.file is not None and verdict is not None:
        words = {"upper": "exceeds the bound", "lower": "is below the lower bound", "equality": "is not"}[verdict.kind]
        lines = [f"{label} is violated: measured {number(verdict.measured, 6)} {words}"
                 f" {number(verdict.bound, 6)}, tightness {number(verdict.tightness, 6)} ({effort})"]  # fmt: skip
    else:
        stopped = "interrupted: " if found.interrupted else ""
        lines = [f"{stopped}no violation of {label} found among {effort}"]
    if found.about == 0 and not found.found:
        lines.append(f"none of them was a run that {label} is about, its premises met")
    if found.unshown and not found.found:
        lines.append(
            f"sampling: {found.unshown} candidates exceeded the bound, but `fedconv verify` would not show it with its"
            " most replicates"
        )
    if found.where:
        lines.append(f"largest tightness {number(found.tightness, 6)}: {found.where}")
    if found.within_floor:
        lines.append(
            f"numerical noise: {found.within_floor} candidates within the floor, largest relative excess"
            f" {found.largest_excess:.1e}"
        )
    return lines


def document(found: Finding, label: str, search: str, mutant: str | None, out: Path | None) -> str:
    """The violating problem file with a header that says what it is and what reproduces it."""
    assert found.file is not None
    assert found.verdict is not None
    again = shlex.join(["fedconv", "verify", str(out or "FILE"), *(["--mutant", mutant] if mutant else [])])
    header = [
        f"# Violates {label} ({found.theorem.title}).",
        f"# Measured {number(found.verdict.measured, 6)}, bound {number(found.verdict.bound, 6)}.",
        f"# Found by: {search}",
        f"# Reproduce: {again}",
    ]
    file: dict[str, Any] = {key: found.file[key] for key in ORDER if key in found.file}
    return "\n".join(header) + "\n\n" + dump_toml(file)


def _theorem(key: str) -> Theorem | Statement:
    known: dict[str, Theorem | Statement] = {**THEOREMS, **statements()}
    if key not in known:
        hint = suggestion(key, tuple(known))
        raise InputError(
            f"THEOREM must be one of {', '.join(THEOREMS)}, or one about {', '.join(METHODS)} as in"
            f" `fedconv list theorems`; got {key!r}" + (f"; {hint}" if hint else "")
        )
    return known[key]


def _check_mutant(theorem: Theorem | Statement, mutant: str | None) -> None:
    known = tuple(x.key for x in theorem.mutants)
    if mutant is not None and mutant not in known:
        hint = suggestion(mutant, known)
        raise InputError(
            f"--mutant must be one of {', '.join(known)} for theorem {theorem.key}; got {mutant!r}"
            + (f"; {hint}" if hint else "")
        )


def _budget(text: str) -> str | float:
    if text in BUDGETS:
        return text
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InputError(f"--budget must be {', '.join(BUDGETS)} or a number of seconds > 0; got {text!r}")
    return seconds
