"""The command line. Options and help live here; what a command does is imported when it is called.

Exit status: 0 done, 1 a bound is violated, 2 bad input, 3 undecided under ``--strict``, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from fedconv import commands
from problems.errors import InputError

app = typer.Typer(
    name="fedconv",
    help="Check convergence theory of partially personalized federated learning against runs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


class Kind(StrEnum):
    """What ``fedconv list`` can list."""

    problems = "problems"
    algorithms = "algorithms"
    theorems = "theorems"
    noise = "noise"


class Suite(StrEnum):
    """The built-in suites of ``fedconv verify``."""

    quick = "quick"
    full = "full"


class Level(StrEnum):
    """How much a run records."""

    none = "none"
    stationarity = "stationarity"
    proof = "proof"


class Engine(StrEnum):
    """What computes a run."""

    auto = "auto"
    eager = "eager"
    fused = "fused"


WORKERS = "Blocks of replicates computed side by side (default: all cores). The numbers do not depend on it."
Algorithms = Annotated[
    list[str] | None,
    typer.Option("--algorithm", metavar="NAME", help="Only this algorithm of the file (may be given several times)."),
]
Workers = Annotated[int | None, typer.Option(min=1, help=WORKERS)]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fedconv {commands.version()}")
        raise typer.Exit


@app.callback()
def fedconv(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Check convergence theory of partially personalized federated learning against runs."""


@app.command()
def verify(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILES", help="Problem files (TOML), or stores of `fedconv run`; none: the suite."),
    ] = None,
    suite: Annotated[Suite | None, typer.Option(help="The built-in suite to verify (default: quick).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write a report in HTML, with figures, to this folder.")
    ] = None,
    workers: Workers = None,
    error: Annotated[
        float | None, typer.Option(help="One-sided error of all verdicts together (default: the file's, else 1e-6).")
    ] = None,
    max_replicates: Annotated[
        int | None, typer.Option(help="Most replicates of a run (default: the file's, else 4096).")
    ] = None,
    algorithm: Algorithms = None,
    theorem: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Only this theorem, as in `fedconv list theorems` (several times if wanted)."),
    ] = None,
    mutant: Annotated[
        str | None, typer.Option(metavar="KEY", help="Verify this weakened version of the file's theorems instead.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 where a verdict is not 'holds'.")] = False,
) -> int:
    """Decide whether the theorems hold on runs, and by how much.

    Verdicts: *holds*, *violated*, *inconclusive* (the bound lies inside the interval when the replicates are spent, or
    constants are estimated), *premises_unmet* (the theorem says nothing about this step size or problem).

    Exit status: 0 no bound is violated, 1 a bound is violated, 2 bad input. *inconclusive* and *premises_unmet* leave
    the status 0 with a note, and make it 3 under --strict.
    """
    from fedconv.commands.verify import verify_files

    return verify_files(
        files or [],
        suite.value if suite else None,
        as_json=as_json,
        out=out,
        workers=workers,
        error=error,
        max_replicates=max_replicates,
        algorithms=algorithm,
        theorems=theorem,
        strict=strict,
        mutant=mutant,
    )


@app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A problem file (TOML).")],
    out: Annotated[Path, typer.Option(metavar="STORE", help="The store to write: a folder, say runs.zarr.")],
    replicates: Annotated[int | None, typer.Option(help="Replicates (default: the file's).")] = None,
    level: Annotated[Level | None, typer.Option(help="How much is recorded (default: the file's).")] = None,
    engine: Annotated[Engine | None, typer.Option(help="What computes it (default: the file's).")] = None,
    workers: Workers = None,
    algorithm: Algorithms = None,
) -> int:
    """Run a problem file and save the trace to one zarr store.

    One algorithm is saved to STORE. Several are saved one by one, with the algorithm's name before the suffix:
    `--out runs.zarr` writes runs-fedalt.zarr and runs-fedsim.zarr.

    Ctrl-C keeps the finished blocks of replicates in STORE.partial; the same command continues there, and gives bit
    for bit what an uninterrupted run gives. A finished store of the same run is left as it is; any other existing
    STORE is refused. With `eta = "best"` or `"max"` the step is that of the first theorem in `[verify]` that fits the
    algorithm (FA* or FS* if the file names none).
    """
    from fedconv.commands.run import run_file

    return run_file(
        file,
        out,
        replicates=replicates,
        level=level.value if level else None,
        engine=engine.value if engine else None,
        workers=workers,
        algorithms=algorithm,
    )


@app.command()
def tightness(
    setting: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this setting, by its name in the table (several times if wanted)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> int:
    """Compare bounds with worst cases found by performance estimation (needs the extra: pip install 'fedconv[pep]').

    Deterministic runs of gradient descent, local gradient descent, FedAlt and FedSim, with L_u = L_v = 1 and the first
    gap F - F* = 1. The true worst case lies between *attained*, met on a quadratic, and *worst case*, an upper value
    with the solver's error added. *exact*: both are the proved worst case. *relaxed*: the admissible functions are
    replaced by a larger class, so worst case / bound may come out too large, never too small.

    Exit status: 0 no bound is exceeded, 1 a run exceeds a bound, 2 bad input or the extra is missing.
    """
    from fedconv.commands.tightness import show_tightness

    return show_tightness(setting or [], as_json)


@app.command()
def prove(
    algorithm: Annotated[str | None, typer.Argument(metavar="fedalt|fedsim", help="Whose proof.")] = None,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A problem file (TOML).")] = None,
    theorem: Annotated[
        str | None, typer.Option(metavar="KEY", help="FA or FA* for fedalt, FS or FS* for fedsim (default: FA, FS).")
    ] = None,
    states: Annotated[int, typer.Option(min=1, help="Visited states at which every lemma is checked.")] = 12,
    copies: Annotated[
        int, typer.Option(min=32, max=1_000_000, help="Independent copies of the round drawn at each of these states.")
    ] = 4096,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the figure and all numbers to this folder.")
    ] = None,
    mutant: Annotated[
        str | None,
        typer.Option(metavar="LEMMA:KEY", help="Put a false version of a lemma in its place, say L3_u_size:one_step."),
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Check a saved failure again (no other arguments).")
    ] = None,
) -> int:
    """Replay a proof along a run: check every lemma at visited states, and show where the bound loses.

    From each state many independent copies of one round are drawn, or all outcomes where they are few. The *waterfall*
    leads from the measured left-hand side to the bound: what each step of the proof adds. A lemma that fails is named
    with its round, and the state is saved (to --out, else here) for `fedconv prove --replay`.

    Exit status: 0 no lemma is violated, 1 a lemma is violated, 2 bad input.
    """
    from fedconv.commands.prove import prove_file

    return prove_file(
        algorithm, file, theorem_key=theorem, states=states, copies=copies, out=out, mutant=mutant, replayed=replay
    )


@app.command()
def algebra(
    theorem: Annotated[
        list[str] | None, typer.Argument(metavar="[THEOREM]...", help="Theorems (default: all).")
    ] = None,
    steps: Annotated[bool, typer.Option("--steps", help="Print every step, not only those that fail.")] = False,
    mutant: Annotated[
        str | None, typer.Option(metavar="KEY", help="Check this weakened version instead: some step must fail.")
    ] = None,
) -> int:
    """Check by computer algebra that the lemmas give FA, FA*, FS and FS* with their constants and conditions.

    Each lemma is derived from its parts, composed with the sign of its multiplier shown, and every symbol of the
    theorem compared with what comes out, as rational functions (no step holds because it holds at some numbers).

    Exit status: 0 every step holds, 1 a step fails, 2 bad input.
    """
    from fedconv.commands.algebra import show_algebra

    return show_algebra(theorem or [], steps, mutant)


@app.command()
def figures(
    name: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Figures (default: all).")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write.")] = Path("gallery"),
    formats: Annotated[str, typer.Option("--format", metavar="F,F", help="Some of pdf, svg, png.")] = "svg",
    reuse: Annotated[
        bool, typer.Option("--reuse-data", help="Draw again from DIR/NAME.nc without computing anything.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="Only say which figures there are.")] = False,
) -> int:
    """Draw theory figures, with the data of each beside it as a labelled netCDF file."""
    from fedconv.commands.figures import draw_figures

    return draw_figures(name or [], out, formats, reuse=reuse, listed=listed)


@app.command()
def falsify(
    theorem: Annotated[str, typer.Argument(metavar="THEOREM", help="FA, FA*, FS or FS*.")],
    mutant: Annotated[
        str | None, typer.Option(metavar="KEY", help="Search for a violation of this weakened version instead.")
    ] = None,
    budget: Annotated[
        str,
        typer.Option(metavar="quick|full|SECONDS", help="Candidates to try (quick: 40 000, full: 2 000 000) or time."),
    ] = "quick",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search; with quick or full it decides the result.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the violating problem file here, not to the terminal.")
    ] = None,
) -> int:
    """Search for a run that violates a theorem: random draws, then ascents on the tightness, with exact expectations.

    What it finds is made small and written as a problem file that `fedconv verify` (with the same --mutant) refutes.
    An excess over the bound within the floor for rounding is reported as numerical noise, and is no violation. Ctrl-C
    ends the search and prints the best so far.

    Exit status, for a theorem: 0 nothing found, 1 violated. For a mutant: 0 violated as it must be, 1 nothing found.
    2 bad input, 130 interrupted before anything was found.
    """
    from fedconv.commands.falsify import falsify_theorem

    return falsify_theorem(theorem, mutant=mutant, budget=budget, seed=seed, out=out)


@app.command()
def show(store: Annotated[Path, typer.Argument(metavar="STORE", help="A store written by `fedconv run`.")]) -> int:
    """Show what a store holds: where it comes from, its constants, and the first and last round of each measure."""
    from fedconv.commands.show import show_store

    return show_store(store)


@app.command("list")
def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> int:
    """List the problem families, algorithms, theorems or noise laws there are."""
    from fedconv.commands.listing import show_list

    return show_list(kind.value, as_json)


@app.command()
def new(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to write.")] = Path("problem.toml"),
    family: Annotated[str, typer.Option(help="Problem family, as in `fedconv list problems`.")] = "trigonometric",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> int:
    """Write a commented problem file to start from; `fedconv verify` accepts it as it is."""
    from fedconv.commands.new import new_file

    return new_file(path, family, force)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status. Bad input is one sentence on stderr, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal without ∇ shows a question mark, not a traceback
            stream.reconfigure(errors="replace")
    try:
        status = app(list(arguments) if arguments is not None else None, standalone_mode=False)
    except InputError as error:
        return _say(str(error), 2)
    except commands.Interrupted as error:
        return _say(str(error), 130)
    except typer.Abort:
        return _say("interrupted", 130)
    except MemoryError:
        return _say("not enough memory for a problem or a run of this size", 2)
    except OSError as error:
        return _say(f"{error.filename or 'file system'}: {error.strerror or error}", 2)
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is None:
            raise
        return _say(usage() or "a command is needed; see fedconv --help", 2)
    if status == 130:
        return _say("interrupted", 130)
    return int(status or 0)


def _say(sentence: str, status: int) -> int:
    print(" ".join(sentence.split()), file=sys.stderr)
    return status
