"""Where the commands print: tables to stdout, progress and notes to stderr."""

from __future__ import annotations

import math
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PIPED_WIDTH = 180
"""Characters in a line where the output is not a terminal: a table is not folded there."""


def stdout() -> Console:
    """A console on stdout; wide where that is a file or a pipe."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)


def stderr() -> Console:
    """A console on stderr."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else PIPED_WIDTH, highlight=False)


def note(sentence: str) -> None:
    """One line on stderr."""
    print(sentence, file=sys.stderr)


def progress() -> Progress:
    """A progress bar with the remaining time on stderr; silent where that is not a terminal."""
    console = stderr()
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def number(x: float, digits: int = 4) -> str:
    """A number for a table."""
    if math.isnan(x):
        return "–"
    return f"{x:.{digits}g}"


def chosen_workers(wanted: int | None) -> int:
    """``--workers``, else all cores; a note where more are asked for than there are cores."""
    have = cores()
    if wanted is not None and wanted > have:
        note(
            f"--workers {wanted} is more than the {have} cores here: that is not faster, and each process takes"
            " hundreds of megabytes"
        )
    return wanted or have


def cores() -> int:
    """Cores that this process may use."""
    from joblib import cpu_count

    return cpu_count()
