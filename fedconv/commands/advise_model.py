"""``fedconv advise --model``: constants of a user's model, estimated along a pilot run, and the advice they give."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.progress import TaskID
from rich.table import Table

from fedconv.analysis.constants.pilot import Pilot, pilot
from fedconv.analysis.regimes.advise import BUDGET, NAMES, Advice, advise
from fedconv.commands import Interrupted, version
from fedconv.commands.advise import comparisons, table
from fedconv.commands.console import note, number, progress, stdout
from fedconv.core.run import single_torch_thread
from fedconv.problem_file.user_model import OwnModel, load_model, users_code
from fedconv.problems.errors import InputError

ROUNDS = 1000
"""The budget in rounds where none is given."""


def advise_model(
    target: str, file: Path | None, options: Mapping[str, Any], about_pilot: Mapping[str, Any], plot: Path | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Estimate, advise, print and draw; see ``fedconv advise --help``."""
    if file is not None:
        raise InputError(f"--model estimates the constants, so a file of constants has no place beside it; got {file}")
    stated = [k for k, x in options.items() if x is not None and (k not in BUDGET or k == "d_u")]
    if stated:
        raise InputError(f"--model estimates the constants itself; got --{stated[0].replace('_', '-')} beside it")
    if plot is not None:
        from fedconv.figures.style import FORMATS

        if plot.suffix.removeprefix(".") not in FORMATS:
            raise InputError(f"--plot must end in {', '.join('.' + x for x in FORMATS)}; got {plot.name!r}")
    budget = {k: x for k, x in options.items() if x is not None}
    if "T" not in budget and "communication" not in budget:
        budget["T"] = ROUNDS
    try:
        with single_torch_thread():
            model = load_model(target)
            found = _pilot(model, about_pilot)
            given = found.given(about_pilot["F_star"]) | budget
            advice = advise(given)
            if plot is not None:
                _draw(found, given, advice, plot, target)
    except KeyboardInterrupt:
        raise Interrupted("interrupted: a pilot run keeps nothing") from None
    if as_json:
        data = {"fedconv": version(), "model": target, "grade": "estimated", "pilot": found.to_dict(), "given": given}
        data["advice"] = _bounds(advice.to_dict())
        print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))
        return 0
    console = stdout()
    for line in model_lines(model, found):
        console.print(line, markup=False, emoji=False, soft_wrap=True)
    console.print(constants(found, given))
    for line in sentences(advice, found.estimates.along.kinks):
        console.print(line, markup=False, emoji=False, soft_wrap=True)
    console.print(table(advice, estimated=True))
    console.print(comparisons(advice, estimated=True))
    if plot is not None:
        note(f"{plot} written")
    return 0


def _pilot(model: OwnModel, about: Mapping[str, Any]) -> Pilot:
    with progress() as bar:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        asked = {"batch": about["batch"], "m": about["clients"], "T": about["rounds_pilot"], "seed": about["seed"]}
        with users_code(model.target, model.file, "in the pilot run", among_ours=True):
            return pilot(model.problem, **{k: x for k, x in asked.items() if x is not None}, progress=report)


def _draw(found: Pilot, given: Mapping[str, Any], advice: Advice, plot: Path, target: str) -> None:
    from fedconv.figures.estimated_constants import dataset, draw, words
    from fedconv.figures.style import save

    data = dataset(found, given, advice)
    save(draw(data), plot, target, words(data))


def _bounds(x: Any) -> Any:
    """``guarantee`` under the name ``bound``: with estimated constants nothing is guaranteed."""
    if isinstance(x, dict):
        return {("bound" if k == "guarantee" else k): _bounds(v) for k, v in x.items()}
    return [_bounds(v) for v in x] if isinstance(x, list) else x


def model_lines(model: OwnModel, found: Pilot) -> list[str]:
    """The model and its pilot run in words."""
    p, F = found.problem, found.estimates.along.values["F"].mean(0)
    share = p.d_v / (p.d_u + p.d_v)
    refusal = p.refusal.partition(". ")[0]
    computed = "side by side (torch.func.vmap)" if p.vectorised else f"one after another in a loop: {refusal}"
    rows = f"batches of {found.batch} rows" if found.batch else "whole gradients"
    copies = f"mean of {found.replicates} replicates" if found.replicates > 1 else "nothing random in it"
    return [
        f"{model.target}: n = {p.n} clients, d_u = {p.d_u} shared and d_v = {p.d_v} personal parameters"
        f" ({share:.1%} of a client's {p.d_u + p.d_v}), clients computed {computed}",
        f"pilot run: {found.T} rounds of FedAlt, {found.m} of {p.n} clients a round, tau = 1, {rows}: F from"
        f" {F[0]:.4g} to {F[-1]:.4g} ({copies})",
    ]


def constants(found: Pilot, given: Mapping[str, Any]) -> Table:
    """Every estimate with its interval."""
    e = found.estimates
    out = Table("constant", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    out.title = f"constants at {e.points} visited points; intervals at about 95 %"
    out.title_justify = "left"
    for name in ("largest, used", "value", "interval"):
        out.add_column(name, justify="right")
    out.add_column("of what")
    out.add_column("grade")
    for name, x in found.listed.items():
        if name == "rho":
            out.add_row(name, number(x.largest), "", "", "chosen, so that delta takes all of the diversity", "chosen")
            continue
        interval = f"[{number(x.low)}, {number(x.high)}]" if math.isfinite(x.high) else "none: nothing is random"
        out.add_row(name, number(x.largest), number(x.value), interval, x.meaning, "estimated")
    if found.batch is None:
        out.add_row("sigma_u, sigma_v", "0", "", "", "whole gradients; --batch B for mini-batches", "stated")
    out.add_row("chi", number(e.constants.chi), "", "", "L_uv/sqrt(L_u L_v)", "estimated")
    floor = e.F_start - given["gap0"]
    out.add_row("gap0", number(given["gap0"]), "", "", f"F at the start less the lower bound {floor:.4g}", "upper")
    return out


def sentences(advice: Advice, kinks: bool = False) -> list[str]:
    """The advice in words that claim no more than estimates can."""
    best = advice.best
    lines = [
        f"advice, estimated: {NAMES[best.algorithm]} with m = {best.m}, tau = {best.tau}, T = {best.T},"
        f" eta = {best.eta:.4g} (gamma_u = {best.gamma_u:.4g}, gamma_v = {best.gamma_v:.4g})",
        f"consistent with (1/T) Σ_t (X_t/L_u + Y_t/L_v) ≤ {best.guarantee:.4g}, which is {best.theorem}'s bound at the"
        " estimated constants; they may be larger where the pilot run has not been",
        f"estimated, {advice.certainty}: {advice.why}",
    ]
    if kinks:
        lines.append(
            "F has kinks (as ReLU gives): no L bounds its curvature there, so the theorems do not speak about this"
            " model; tanh, GELU or softplus have none"
        )
    if advice.longest:
        lines.append(f"tau = {best.tau} is the largest that was tried: --tau asks for another")
    return lines
