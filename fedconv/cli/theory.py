"""The commands about theorems and proofs: tightness, prove, algebra, falsify, figures.

Options and help alone; what a command does is imported when it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


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
    name: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Figures (default: all but the long ones).")
    ] = None,
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
    theorem: Annotated[
        str, typer.Argument(metavar="THEOREM", help="A theorem's key: FA, FS*, FFGG-3a, FSPA-L1, FOMO-4ii, ...")
    ],
    mutant: Annotated[
        str | None, typer.Option(metavar="KEY", help="Search for a violation of this weakened version instead.")
    ] = None,
    budget: Annotated[
        str,
        typer.Option(
            metavar="quick|full|SECONDS",
            help="Candidates to try (quick: 2 000, full: 100 000; FA, FA*, FS, FS*: 40 000, 2 000 000) or time.",
        ),
    ] = "quick",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search; with quick or full it decides the result.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the violating problem file here, not to the terminal.")
    ] = None,
) -> int:
    """Search for a run that violates a theorem: random draws, then ascents on the tightness.

    It covers every theorem of `fedconv list theorems`. Of FA, FA*, FS and FS* candidates are quadratic and
    trigonometric problems with exact expectations. Of the others every candidate is a run, random at first, then a
    variation of the tightest:

    - ffgg: cohorts, local steps, inexact fine-tuning, delays, attacks and aggregators;
    - fedspa: masks frozen or moving, cohorts, local steps, Rademacher noise, averages;
    - fedfomo: centres in clusters, general, concave and double-well target losses, samples, privacy.

    Where a run draws, a claim about every path is checked on some of them; an expectation is exact where that costs
    little (ffgg by recursion, fedspa over all courses of a short run), else sampled.

    What it finds is made small and written as a problem file that `fedconv verify` (with the same --mutant) refutes.
    An excess over the bound within the floor for rounding is reported as numerical noise, and is no violation. Ctrl-C
    ends the search and prints the best so far.

    Exit status, for a theorem: 0 nothing found, 1 violated. For a mutant: 0 violated as it must be, 1 nothing found.
    2 bad input, 130 interrupted before anything was found.
    """
    from fedconv.commands.falsify import falsify_theorem

    return falsify_theorem(theorem, mutant=mutant, budget=budget, seed=seed, out=out)
