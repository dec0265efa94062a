"""The commands about many runs and regimes: sweep, regimes, advise, explore.

Options and help alone; what a command does is imported when it is called.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fedconv.cli.options import OtherCode, Restart

app = typer.Typer()


def _dependence(text: str) -> str | float:
    """``--dependence``: a number, or a word for the problem file to judge."""
    try:
        return float(text)
    except ValueError:
        return text


class Cluster(StrEnum):
    """Dask clusters that ``fedconv sweep`` can start."""

    local = "local"


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A problem file (TOML) with a table [sweep].")],
    out: Annotated[Path, typer.Option(metavar="STORE", help="The store to write: a folder, say sweep.")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes (default: all cores). The numbers do not depend on it.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on the dask cluster of this scheduler.")
    ] = None,
    cluster: Annotated[
        Cluster | None, typer.Option(help="Run on a dask cluster that is started for it on this machine.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try jobs that failed again.")] = False,
    restart: Restart = False,
    allow_other_code: OtherCode = False,
) -> int:
    """Run a grid of problem files: every cell, algorithm and step over the same random numbers, into one store.

    The table `[sweep]` gives arrays for keys of the file, `"noise.sigma_v" = [0.1, 0.5]`; the grid is their product.
    `"algorithm.eta" = [0.01, 0.1, "best"]` compares steps: numbers, or the *best* or largest (*max*) step of the first
    theorem in `[verify]` about the algorithm (FA* or FS* if the file names none).

    Whatever stops it (Ctrl-C, kill -9), the same command continues in STORE and gives bit for bit what an uninterrupted
    sweep gives. Each job has a checksum: what is damaged in the store is said, and computed again. What other code has
    begun is not continued unasked: --restart or --allow-other-code.

    Jobs that fail keep their error, which `fedconv show STORE` prints. --scheduler and --cluster need the extra: pip
    install 'fedconv[cluster]'. The scheduler of --cluster listens on this machine only, but asks nobody for a password:
    whoever can log in here can use it while it runs.

    Exit status: 0 all jobs are done, 1 some failed, 2 bad input.
    """
    from fedconv.commands.sweep import sweep_file

    return sweep_file(
        file,
        out,
        workers=workers,
        scheduler=scheduler,
        cluster="local" if cluster else None,
        retry_failed=retry_failed,
        restart=restart,
        allow_other_code=allow_other_code,
    )


@app.command()
def regimes(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A file with [sweep], or a store of `fedconv sweep` (default: map W2)."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--preset", metavar="NAME", help="The map W2 (default), steps or correlation.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The map with fewer cells, steps and replicates.")] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write.")] = Path("regimes"),
    dependence: Annotated[
        str | None,
        typer.Option(
            metavar="WORD|NUMBER",
            help="Of the u and v noise in one FedSim step: independent, full, or a number from -1 to 1, the correlation"
            " (default: the file's, else independent).",
        ),
    ] = None,
    error: Annotated[float, typer.Option(help="One-sided error of all cells of a comparison together.")] = 0.01,
    formats: Annotated[str, typer.Option("--format", metavar="F,F", help="Some of pdf, svg, png.")] = "svg,png",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes (default: all cores). The numbers do not depend on it.")
    ] = None,
    restart: Restart = False,
    allow_other_code: OtherCode = False,
) -> int:
    """Map where FedAlt beats FedSim, and how often theory names the winner.

    In each cell of a sweep the stationarity of both algorithms is compared by a paired test, each at its best step (the
    first eighth of the replicates chooses it, the others compare) and each at the best step of FA* or FS*. The map
    shows the winner and the effect size, and over them the frontiers of five predictors: the constant-free condition,
    the tuned conditions of FA/FS and of FA*/FS*, and their least bounds at T. A table says how often each is right,
    beside the answer that is always the same. The t-test is exact for normal differences; black marks are winners that
    the exact sign test confirms, whatever the law.

    The default map W2 has 20 x 20 cells of (sigma_v, m), 8 steps and the theorem's, 32 replicates, T = 500: FedSim is
    lower in none of its cells. Both win on the maps *steps* (8 x 8 cells of local steps and m, clients that differ and
    couple strongly) and *correlation* (9 x 8 cells of the correlation of u's and v's noise in a FedSim step, and chi).
    The sweep is kept in DIR/sweep, where the same command continues whatever stopped it. A FILE sweeps two or more keys
    with numbers, `"noise.dependence" = [-1, 0, 1]` among them; any further key makes further rows.

    Exit status: 0 the map is complete, 1 some jobs failed, 2 bad input.
    """
    from fedconv.commands.regimes import regimes_file

    return regimes_file(
        file,
        out,
        name=name,
        quick=quick,
        dependence=None if dependence is None else _dependence(dependence),
        error=error,
        formats=formats,
        workers=workers,
        restart=restart,
        allow_other_code=allow_other_code,
    )


@app.command()
def advise(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A TOML file of constants, `L_u = 1.0` and so on; options go before it."),
    ] = None,
    L_u: Annotated[float | None, typer.Option("--L-u", help="Smoothness of F_i in u.")] = None,
    L_v: Annotated[float | None, typer.Option("--L-v", help="Smoothness of F_i in v_i.")] = None,
    chi: Annotated[float | None, typer.Option("--chi", help="Cross-sensitivity max(L_uv, L_vu)/sqrt(L_u L_v).")] = None,
    sigma_u: Annotated[float | None, typer.Option("--sigma-u", help="Deviation of the noise on grad_u F_i.")] = None,
    sigma_v: Annotated[float | None, typer.Option("--sigma-v", help="Deviation of the noise on grad_v F_i.")] = None,
    delta: Annotated[
        float | None,
        typer.Option("--delta", help="Diversity: mean |grad_u F_i - grad_u F|^2 <= delta^2 + rho^2 |grad_u F|^2."),
    ] = None,
    rho: Annotated[float | None, typer.Option("--rho", help="See --delta.")] = None,
    n: Annotated[int | None, typer.Option("--n", help="Clients.")] = None,
    gap0: Annotated[float | None, typer.Option("--gap0", help="F(u^0,V^0) - F*, or an upper bound of it.")] = None,
    T: Annotated[int | None, typer.Option("--T", help="The budget in rounds.")] = None,
    communication: Annotated[
        int | None, typer.Option("--communication", help="The budget in numbers sent in all (needs --d-u).")
    ] = None,
    d_u: Annotated[int | None, typer.Option("--d-u", help="Size of u: a round sends 2 m d_u numbers.")] = None,
    m: Annotated[int | None, typer.Option("--m", help="Clients in a round, where fixed.")] = None,
    tau: Annotated[int | None, typer.Option("--tau", help="Local steps, where fixed.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the tables.")] = False,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODULE:MAKE", help="Estimate the constants of the model that MAKE() gives; see above."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Of --model: rows a local step draws (default: whole gradients).")
    ] = None,
    rounds_pilot: Annotated[
        int | None, typer.Option("--rounds-pilot", min=1, help="Of --model: rounds of the pilot run (default: 20).")
    ] = None,
    clients: Annotated[
        int | None, typer.Option(min=1, help="Of --model: clients in a round of the pilot run (default: half).")
    ] = None,
    F_star: Annotated[
        float | None, typer.Option("--F-star", metavar="LOWER", help="Of --model: a number below F (default: its own).")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of --model: of the pilot run (default: 0).")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of --model: draw constants and bounds to FILE.png, .svg or .pdf."),
    ] = None,
) -> int:
    """Choose algorithm, step size, cohort and local steps for given constants and a budget.

    FA, FA*, FS and FS* each choose m, tau (of 1 to 50) and eta with the least guarantee, of those within 1 % the one
    with the least local work. Advised is the least guarantee of all; *agreed*, *disputed* or *tied* says how sure the
    choice of the algorithm is, from five comparisons of bounds. Bounds are upper bounds: `fedconv regimes` measures.

    --model takes the place of the constants: `my_model:make` (a module of the current folder, or an installed one) or
    `path/my_model.py:make`. make() returns a `fedconv.problems.modules.problem.ModuleProblem`, or a dict of what that
    takes: {"module": net, "clients": [(X, y), ...], "personal": ["head"], "loss": "cross_entropy"}. **This executes the
    code of that file**, as importing it does. A pilot run of FedAlt from the model's own parameters (whose random start
    is yours to seed) visits the points at which the constants are *estimated*: the advice is then consistent with what
    was seen and proves nothing. The budget is T = 1000 where none is given. n and d_u are the model's own.
    """
    from fedconv.commands.advise import give_advice

    options = {
        "L_u": L_u, "L_v": L_v, "chi": chi, "sigma_u": sigma_u, "sigma_v": sigma_v, "delta": delta, "rho": rho, "n": n,
        "gap0": gap0, "T": T, "communication": communication, "d_u": d_u, "m": m, "tau": tau,
    }  # fmt: skip
    pilot = {"batch": batch, "rounds_pilot": rounds_pilot, "clients": clients, "F_star": F_star, "seed": seed}
    if model is not None:
        from fedconv.commands.advise_model import advise_model

        return advise_model(model, file, options, pilot, plot, as_json)
    return give_advice(file, options, as_json, pilot | {"plot": plot})


@app.command()
def explore(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write, say page.html.")],
    store: Annotated[
        Path | None, typer.Argument(metavar="[STORE]", help="A sweep of `fedconv sweep`, to be drawn over the map.")
    ] = None,
) -> int:
    """Write the bounds as one interactive page (needs the extra: pip install 'fedconv[explorer]').

    Sliders for the constants move the bounds over the step and over T, and the frontiers between FedAlt and FedSim:
    the paper's, those of the tuned constants, and those of the least bounds at T. The page works offline, and its
    address holds its state.
    """
    from fedconv.commands.explore import write_page

    return write_page(store, out)
