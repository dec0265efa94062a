"""``fedconv advise``: algorithm, step, cohort and local steps for given constants and a budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from fedconv.analysis.regimes.advise import BUDGET, CONSTANTS, NAMES, Advice, advise
from fedconv.commands import version
from fedconv.commands.console import number, stdout
from fedconv.core.files import cut, read_toml
from fedconv.problem_file.schema import suggestion
from fedconv.problems.errors import InputError
from fedconv.problems.plain import check_plain


def give_advice(file: Path | None, options: Mapping[str, Any], as_json: bool, of_model: Mapping[str, Any]) -> int:
    """Advice for the values of the file, those of the options in their place; see ``fedconv advise --help``.

    of_model: options that only have a meaning with --model; one that is set is an InputError.
    """
    for name, value in of_model.items():
        if value is not None:
            raise InputError(f"--{name.replace('_', '-')} needs --model, whose pilot run it is about")
    given = read_constants(file) if file is not None else {}
    set_here = {k: v for k, v in options.items() if v is not None}
    if "T" in set_here:
        given.pop("communication", None)
    if "communication" in set_here:
        given.pop("T", None)
    check_plain(set_here, "options")
    advice = advise(given | set_here)
    if as_json:
        data = {"fedconv": version(), "given": given | set_here, "advice": advice.to_dict()}
        print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))
        return 0
    console = stdout()
    for line in sentences(advice):
        console.print(line, markup=False, soft_wrap=True)
    console.print(table(advice))
    console.print(comparisons(advice))
    return 0


def read_constants(path: Path) -> dict[str, Any]:
    """The values of a TOML file of constants. Raises InputError where it cannot be read or has an unknown key."""
    found = read_toml(path, "a TOML file of constants is needed")
    known = (*CONSTANTS, *BUDGET)
    for key in found:
        if key not in known:
            hint = suggestion(key, known)
            raise InputError(
                f"{path}: keys must be {', '.join(known)}; got {cut(key)!r}" + (f"; {hint}" if hint else "")
            )
    return found


def sentences(advice: Advice) -> list[str]:
    """The advice in words."""
    best = advice.best
    lines = [
        f"{NAMES[best.algorithm]} with m = {best.m}, tau = {best.tau}, T = {best.T}, eta = {best.eta:.4g}"
        f" (gamma_u = {best.gamma_u:.4g}, gamma_v = {best.gamma_v:.4g})",
        f"{best.theorem} guarantees (1/T) Σ_t (X_t/L_u + Y_t/L_v) ≤ {best.guarantee:.4g}",
        f"{advice.certainty}: {advice.why}",
    ]
    if advice.longest:
        lines.append(f"tau = {best.tau} is the largest that was tried: --tau asks for another")
    return lines


def table(advice: Advice, estimated: bool = False) -> Table:
    """What each theorem chooses within the budget, and what it guarantees there (with estimated constants: nothing)."""
    out = Table("theorem" if estimated else "bound", "algorithm", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    title = "what each bound chooses with the estimated constants" if estimated else None
    out.title, out.title_justify = title or "what each bound chooses, and guarantees", "left"
    for name in ("bound" if estimated else "guarantee", "m", "tau", "T", "eta", "numbers sent"):
        out.add_column(name, justify="right", overflow="fold")
    for one in advice.choices:
        sent = "–" if one.sent is None else str(one.sent)
        numbers = (number(one.guarantee), str(one.m), str(one.tau), str(one.T), number(one.eta), sent)
        out.add_row(one.theorem, NAMES[one.algorithm], *numbers)
    return out


TITLES = {
    "paper": "constant-free condition [paper]",
    "tuned": "FA, FS as η → 0",
    "tuned*": "FA*, FS* as η → 0",
    "FA/FS": "least bound, FA or FS",
    "FA*/FS*": "least bound, FA* or FS*",
}


def comparisons(advice: Advice, estimated: bool = False) -> Table:
    """Which algorithm each comparison of bounds names at the chosen m, τ and T."""
    out = Table("comparison", "names", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    out.title = f"at m = {advice.best.m}, tau = {advice.best.tau}, T = {advice.best.T}"
    if estimated:
        out.title += ": the regime by estimated constants"
    out.title_justify = "left"
    for key, said in advice.says.items():
        out.add_row(escape(TITLES[key]), NAMES.get(said, said or "no answer"))
    return out
