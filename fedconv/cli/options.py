"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

WORKERS = "Blocks of replicates computed side by side (default: all cores). The numbers do not depend on it."
Algorithms = Annotated[
    list[str] | None,
    typer.Option("--algorithm", metavar="NAME", help="Only this algorithm of the file (may be given several times)."),
]
Workers = Annotated[int | None, typer.Option(min=1, help=WORKERS)]
Restart = Annotated[bool, typer.Option("--restart", help="Remove what the store holds and compute all anew.")]
OtherCode = Annotated[
    bool,
    typer.Option(
        "--allow-other-code",
        help="Continue what other code, or other versions of numpy, torch and numba, began; `show` says what is whose.",
    ),
]
