"""The command about the papers' claims.

Options and help alone; what the command does is imported when it is called.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


class Suite(StrEnum):
    """How much is spent on the claims."""

    quick = "quick"
    full = "full"


class Cluster(StrEnum):
    """Dask clusters that the command can start."""

    local = "local"


@app.command()
def papers(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PAPER|CLAIM]...", help="Papers or claims, as --list prints them (default: all)."),
    ] = None,
    suite: Annotated[Suite, typer.Option(help="quick: minutes on two cores; full: hours.")] = Suite.quick,
    listed: Annotated[bool, typer.Option("--list", help="Only say which claims there are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the report, results.json and claims.tex there.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes side by side, here or of --cluster (default: all cores)."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on the dask cluster of this scheduler.")
    ] = None,
    cluster: Annotated[
        Cluster | None, typer.Option(help="Run on a dask cluster that is started for it on this machine.")
    ] = None,
) -> int:
    """Check every claim of the four papers: theorems, lemmas, special cases, regimes, rates, what programs do.

    A claim *holds* where all its evidence does, is *violated* where a piece is, else *undecided*; a *conjecture* has no
    proof, and nothing was found against it; an empirical claim that these runs contradict is *not seen here*. A claim
    checked alone gets the same verdict and the same numbers as among all of them.

    With --out each claim is saved as it is done (DIR/claims), and the same command continues there after Ctrl-C; what
    was saved by other code or at another size is computed again. --scheduler and --cluster need the extra:
    pip install 'fedconv[cluster]'.

    Exit status: 0 no claim is violated (an empirical claim that is not seen does not count), 1 a claim is violated, 2
    bad input, 130 interrupted.
    """
    from fedconv.commands.papers import check_papers

    return check_papers(
        names or [], size=suite.value, listed=listed, as_json=as_json, out=out, workers=workers, scheduler=scheduler,
        cluster="local" if cluster else None,
    )  # fmt: skip
