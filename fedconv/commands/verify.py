"""``fedconv verify``: verdicts on problem files or on a built-in suite."""

from __future__ import annotations

import json
import platform
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

from fedconv.analysis.falsify.quick_verdict import verify_weakened, weakened
from fedconv.analysis.theorems import THEOREMS, Theorem
from fedconv.analysis.theorems.statement import Statement
from fedconv.analysis.verdicts.check import Result
from fedconv.analysis.verdicts.statement_verify import fitting_statements, method_of
from fedconv.analysis.verdicts.verdict import CERTAIN, RELATIONS, Verdict, word_of
from fedconv.analysis.verdicts.verify import fitting, judge, known, planned, verify_settings
from fedconv.commands import version
from fedconv.commands.console import cores, note, number, progress, stdout
from fedconv.core.files import cut
from fedconv.core.store import is_store, load
from fedconv.core.trace import read
from fedconv.methods.registry import METHODS
from fedconv.problem_file.schema import MOST_REPLICATES, suggestion
from fedconv.problem_file.settings import Settings, dump_toml, load_settings, settings_from
from fedconv.problems.errors import InputError
from fedconv.problems.validation import listed

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.analysis.pages.report_proofs import Replay

ERROR = 1e-6
"""One-sided error of all verdicts together where neither ``--error`` nor a file says otherwise."""

_COLOURS = {
    "holds": "green", "holds_approximate": "cyan", "violated": "bold red", "violated_approximate": "magenta",
    "inconclusive": "yellow", "premises_unmet": "yellow",
}  # fmt: skip


def verify_files(
    files: Sequence[Path],
    suite: str | None,
    *,
    as_json: bool,
    out: Path | None,
    workers: int | None,
    error: float | None,
    max_replicates: int | None,
    algorithms: Sequence[str] | None,
    theorems: Sequence[str] | None,
    strict: bool,
    mutant: str | None = None,
) -> int:
    """Verify and print; the exit status is explained in ``fedconv verify --help``."""
    if error is not None and not 0 < error < 0.5:
        raise InputError(f"--error must be a number in (0, 0.5); got {error}")
    if max_replicates is not None and not 2 <= max_replicates <= MOST_REPLICATES:
        raise InputError(f"--max-replicates must be an integer from 2 to {MOST_REPLICATES}; got {max_replicates}")
    for key in theorems or ():
        _known("--theorem", key)
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"--out must be a folder to write; {out} is a file")
    stores = [file for file in files if is_store(file)]
    if stores and max_replicates is not None:
        raise InputError(
            f"--max-replicates must be left out for a store, which is judged as it stands; got {stores[0]}"
        )
    runs = [(str(file), load(file)) for file in stores]
    others = [file for file in files if file not in stores]
    if mutant is not None and (stores or out is not None):
        raise InputError("--mutant must be left out for a store and with --out; give problem files")
    jobs = load_jobs(others, suite) if others or not files else []
    if mutant is None:
        jobs, checks = restrict(jobs, runs, algorithms, theorems)
    else:
        checks = _weakened(jobs, mutant, algorithms, theorems)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    with progress() as bar:
        task = bar.add_task("", total=len(jobs) + len(runs))
        for where, settings in jobs:
            bar.update(task, description=settings.name)
            try:
                results += (verify_settings if mutant is None else partial(verify_weakened, mutant=mutant))(
                    settings,
                    workers=workers or cores(),
                    error=error,
                    max_replicates=max_replicates,
                    algorithms=algorithms,
                    theorems=theorems,
                    checks=checks,
                )
            except InputError as problem:
                raise InputError(f"{where}: {problem}") from problem
            bar.advance(task)
        for where, trace in runs:
            bar.update(task, description=where)
            chosen = fits(trace, algorithms, theorems)
            level = (error or ERROR) * len(chosen) / checks
            try:
                results += judge(trace, chosen, error=level) if chosen else []
            except InputError as problem:
                raise InputError(f"{where}: {problem}") from problem
            bar.advance(task)
    counts = Counter(r.verdict.category for r in results)
    if as_json:
        print(json.dumps(as_data(results, counts), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        console = stdout()
        for part in tables(results, console.width):
            console.print(part)
        for line in [*notes(results), summary(results)]:
            console.print(line, markup=False, soft_wrap=True)
    if out is not None:
        proofs = [] if files else replayed_proofs([settings for _, settings in jobs], algorithms)
        note(f"report written to {write_report(results, out, named(files, suite), proofs)}")
    if counts["violated"] or counts["violated_approximate"]:
        return 1
    return 3 if strict and counts["holds"] < len(results) else 0


def named(files: Sequence[Path], suite: str | None) -> str:
    """The command that a report repeats, without options that do not change its verdicts."""
    return shlex.join(["fedconv", "verify", *(map(str, files) if files else ["--suite", suite or "quick"])])


def quick_suite() -> Iterator[Settings]:
    """The problem files of the quick suite, each built when it is asked for."""
    from fedconv.paper_checks import suite

    return (settings_from(spec, spec["name"]) for spec in suite("quick"))


def replayed_proofs(jobs: Iterable[Settings], algorithms: Sequence[str] | None = None) -> list[Replay]:
    """FA's and FS's proofs replayed on the first problem with partial participation, for a suite's report."""
    from fedconv.analysis.pages.experiment_facts import slug
    from fedconv.analysis.pages.report_proofs import Replay
    from fedconv.commands.prove import experiment_of, run_proof, title_of
    from fedconv.figures.waterfall import one as waterfall

    states, copies = 6, 4096
    out: list[Replay] = []
    for algorithm, key in (("fedalt", "FA"), ("fedsim", "FS")):
        for settings in jobs if algorithms is None or algorithm in algorithms else ():
            if any(x.name == algorithm and x.m < settings.problem.n for x in settings.algorithms):
                experiment = experiment_of(settings, algorithm, key)
                proof = run_proof(settings, experiment, key, states=states, copies=copies)
                picture = waterfall.picture(proof.waterfall, title_of(proof))
                command = f"fedconv prove {algorithm} {slug(settings.name)}.toml --states {states} --copies {copies}"
                out.append(Replay(proof, picture, command))
                break
    return out


def write_report(results: Sequence[Result], out: Path, command: str, proofs: Sequence[Replay] = ()) -> Path:
    """The HTML report with its pictures, and ``results.json`` beside it; returns the page's path."""
    import numpy
    import scipy
    import torch

    from fedconv.analysis.pages.report import write
    from fedconv.figures.bound_measured import pictures

    versions = {
        "fedconv": version(),
        "Python": platform.python_version(),
        "NumPy": numpy.__version__,
        "SciPy": scipy.__version__,
        "torch": torch.__version__,
    }
    title = "Explicit bounds against runs"
    return write(results, pictures(results), out, title=title, command=command, versions=versions, toml=dump_toml,
                 proofs=proofs)  # fmt: skip


def load_jobs(files: Sequence[Path], suite: str | None) -> list[tuple[str, Settings]]:
    """(where, settings) of the files, or of a suite."""
    if files and suite is not None:
        raise InputError("give problem files or --suite, not both")
    if files:
        jobs = [(str(file), load_settings(file)) for file in files]
    else:
        from fedconv.paper_checks import suite as specs

        named = [(f"{suite or 'quick'} suite, {spec['name']}", spec) for spec in specs(suite or "quick")]
        jobs = [(where, settings_from(spec, where)) for where, spec in named]
    for where, settings in jobs:
        for key in settings.verify.theorems or ():
            _known(f"{where}: verify.theorems", key)
        _check_parameters(settings, where)
    return jobs


def fits(
    trace: xr.Dataset, algorithms: Sequence[str] | None, theorems: Sequence[str] | None
) -> list[Theorem | Statement]:
    """The theorems that a recorded run is judged by."""
    name = read(trace, "algorithm")["name"]
    if algorithms is not None and name not in algorithms:
        return []
    about = fitting(name)
    if name in METHODS:
        method = method_of(name)
        about = [*fitting_statements(method, method.inputs(trace))]
    return [t for t in about if theorems is None or t.key in theorems]


def restrict(
    jobs: list[tuple[str, Settings]],
    runs: list[tuple[str, xr.Dataset]],
    algorithms: Sequence[str] | None,
    theorems: Sequence[str] | None,
) -> tuple[list[tuple[str, Settings]], int]:
    """The jobs in which the named algorithms and theorems leave something to verify, and how many verdicts that is,
    those on recorded runs included."""
    kept: list[tuple[str, Settings]] = []
    checks = sum(len(fits(trace, algorithms, theorems)) for _, trace in runs)
    for where, settings in jobs:
        try:
            plan = planned(settings, algorithms, theorems)
        except InputError as error:
            if algorithms is None and theorems is None:
                raise InputError(f"{where}: {error}") from error
            continue
        kept.append((where, settings))
        checks += sum(len(chosen) for _, chosen in plan)
    if not checks:
        wanted = [f"--algorithm {a}" for a in algorithms or ()] + [f"--theorem {t}" for t in theorems or ()]
        have = {spec.name for _, settings in jobs for spec in settings.algorithms}
        have = sorted(have | {read(trace, "algorithm")["name"] for _, trace in runs})
        raise InputError(f"nothing to verify with {' '.join(wanted)}; the algorithms here are {', '.join(have)}")
    return kept, checks


def _weakened(
    jobs: list[tuple[str, Settings]], mutant: str, algorithms: Sequence[str] | None, theorems: Sequence[str] | None
) -> int:
    """How many verdicts on weakened theorems the jobs ask for."""
    count = 0
    for where, settings in jobs:
        try:
            count += len(weakened(settings, mutant, algorithms, theorems))
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    return count


def _known(where: str, key: str) -> None:
    found = known()
    if key not in found:
        hint = f"; {said}" if (said := suggestion(key, tuple(found))) else ""
        raise InputError(f"{where}: must be one of {listed(found)}; got {cut(key)!r}{hint}")


def _check_parameters(settings: Settings, where: str) -> None:
    given = settings.verify.parameters
    if given is None:
        return
    names = sorted({f.name for t in THEOREMS.values() for f in t.free})
    for name in given:
        if name not in names:
            hint = suggestion(name, tuple(names)) or f"known: {', '.join(names)}"
            raise InputError(f"{where}: verify.parameters.{name}: unknown key; {hint}")
    missing = [name for name in names if name not in given]
    if missing:
        raise InputError(f"{where}: verify.parameters.{missing[0]}: missing; give all of {', '.join(names)}, or none")


def problem_name(result: Result) -> str:
    """The problem's name, without the algorithm's."""
    return result.name.removesuffix(f"/{result.algorithm}")


NARROW = 110
"""Characters in a line below which every problem gets a table of its own, with its name above."""


def tables(results: Sequence[Result], width: int) -> list[Table]:
    """One line for each verdict: one table, or one for each problem where lines are short."""
    if width >= NARROW:
        return [table(results, None)]
    names = dict.fromkeys(problem_name(r) for r in results)
    return [table([r for r in results if problem_name(r) == name], name) for name in names]


def table(results: Sequence[Result], title: str | None) -> Table:
    """Verdicts as lines, with the problem's name in the first column or, where given, as the title."""
    out = Table(title=title and escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in (() if title else ("problem",)) + ("algorithm", "theorem"):
        out.add_column(name, overflow="fold")
    for name in ("measured", "bound", "tightness", "interval"):
        out.add_column(name, justify="right", overflow="fold")
    out.add_column("verdict", overflow="fold")
    for r in results:
        v = r.verdict
        cells = [r.algorithm, r.theorem + ("†" if v.a_posteriori else ""), number(v.measured), bounded(v)]
        if v.status == "premises_unmet":
            cells += ["–", "–"]
        else:
            cells += [number(v.tightness, 3), f"[{number(v.low)}, {number(v.high)}]"]
        names = [] if title else [problem_name(r)]
        out.add_row(*map(escape, names + cells), f"[{_COLOURS[v.category]}]{v.word}[/]")
    return out


def bounded(verdict: Verdict) -> str:
    """The right side, with the relation that is claimed where it is not ≤."""
    return number(verdict.bound) if verdict.kind == "upper" else f"{RELATIONS[verdict.kind]} {number(verdict.bound)}"


def notes(results: Sequence[Result]) -> list[str]:
    """A sentence for every verdict that is not plainly ``holds``, for diverged runs and for adjusted inputs; and what
    "a posteriori" means where it occurs."""
    lines = []
    for r in results:
        v = r.verdict
        said = v.reason if v.consistent is not None else f"{v.word}: {v.reason}"
        about = [said] if v.category != "holds" else []
        about += r.inputs.notes
        lines += [f"{problem_name(r)}, {r.algorithm}, {r.theorem}: {sentence}" for sentence in about]
    if any(r.verdict.a_posteriori for r in results):
        lines.append("† a posteriori: δ² is the mean diversity measured at the visited points, not a constant")
    return lines


def summary(results: Sequence[Result]) -> str:
    """How many verdicts of each kind, and how sure they are."""
    words = Counter(r.verdict.word for r in results)
    known = (*map(word_of, _COLOURS), "consistent", "not consistent")
    kinds = ", ".join(f"{words[k]} {k}" for k in known if words[k])
    limits = sorted({r.verdict.error for r in results if r.verdict.method not in CERTAIN})
    sure = f"; one-sided error of each limit at most {limits[-1]:.3g}" if limits else "; no sampling error"
    rough = sum(r.verdict.approximate for r in results)
    sure += f", but for {rough} approximate one{'s' if rough != 1 else ''}, whose error is not proved" if rough else ""
    return f"{len(results)} verdict{'s' if len(results) != 1 else ''}: {kinds}{sure}"


def as_data(results: Sequence[Result], counts: Counter[str]) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "fedconv": version(),
        "counts": {k: counts[k] for k in _COLOURS},
        "results": [r.to_dict() | {"problem": problem_name(r)} for r in results],
    }
