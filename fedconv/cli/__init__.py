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
from fedconv.cli import maps as cli_maps
from fedconv.cli import papers as cli_papers
from fedconv.cli import theory as cli_theory
from fedconv.cli.options import Algorithms, OtherCode, Restart, Workers
from fedconv.problems.errors import InputError

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
    restart: Restart = False,
    allow_other_code: OtherCode = False,
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
        restart=restart,
        allow_other_code=allow_other_code,
    )


@app.command()
def show(store: Annotated[Path, typer.Argument(metavar="STORE", help="A store of `fedconv run` or `sweep`.")]) -> int:
    """Show what a store holds: where it comes from, its constants, and the first and last round of each measure.

    Of a sweep: how far it is, its axes, the range of each measure, and the jobs that failed.
    """
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


app.add_typer(cli_theory.app)
app.add_typer(cli_maps.app)
app.add_typer(cli_papers.app)


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
