"""``fedconv tightness``: bounds against worst cases by performance estimation."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from fedconv.analysis.worst_case import SETTINGS, Setting, Tightness, tightness
from fedconv.analysis.worst_case.solver import pepit
from fedconv.commands import version
from fedconv.commands.console import number, progress, stdout
from fedconv.problem_file.schema import suggestion
from fedconv.problems.errors import InputError


def show_tightness(names: Sequence[str], as_json: bool) -> int:
    """Compute the settings of those names (all where none is given) and print them; 1 where a run exceeds a bound."""
    settings = chosen(names)
    pepit()
    results = []
    with progress() as bar:
        task = bar.add_task("tightness", total=len(settings))
        for setting in settings:
            bar.update(task, description=setting.name)
            results.append(tightness(setting))
            bar.advance(task)
    if as_json:
        data = {"fedconv": version(), "results": [r.to_dict() for r in results]}
        print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        console = stdout()
        console.print(table(results))
        for line in summary(results):
            console.print(line, markup=False, soft_wrap=True)
    return 1 if any(r.refuted for r in results) else 0


def chosen(names: Sequence[str]) -> list[Setting]:
    """The settings of those names in the order given, all where none is; InputError for an unknown name."""
    for name in names:
        if name not in SETTINGS:
            hint = suggestion(name, tuple(SETTINGS))
            raise InputError(
                f"--setting must be one of {', '.join(SETTINGS)}; got {name!r}" + (f"; {hint}" if hint else "")
            )
    return [SETTINGS[name] for name in dict.fromkeys(names)] if names else list(SETTINGS.values())


def table(results: Sequence[Tightness]) -> Table:
    """One row for each setting."""
    out = Table("setting", "theorem", "kind", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("bound", "worst case", "attained", "worst case/bound", "bound/worst case"):
        out.add_column(name, justify="right", overflow="fold")
    for r in results:
        numbers = (number(r.bound, 6), number(r.worst_case, 6), number(r.attained, 6))
        ratios = (number(r.tightness), number(1 / r.tightness))
        out.add_row(escape(r.setting.name), r.setting.theorem, r.setting.kind, *numbers, *ratios)
    return out


def summary(results: Sequence[Tightness]) -> list[str]:
    """What the columns are worth: the solver's error, how wide the relaxation leaves the answer, and any violation."""
    lines = [f"{r.setting.name}: a quadratic attains {r.attained:.6g}, above the bound" for r in results if r.refuted]
    residual = max(r.residual / r.worst_case for r in results)
    lines.append(f"worst cases include the solver's error, at most {residual:.1e} of the value")
    relaxed = [r for r in results if r.setting.kind == "relaxed"]
    if relaxed:
        widest = max(r.worst_case / r.attained - 1 for r in relaxed)
        lines.append(f"relaxed: the worst case is at most {widest:.1e} above what a quadratic attains")
    return lines
