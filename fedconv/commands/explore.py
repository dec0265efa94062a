"""``fedconv explore``: the bounds, and measured cells, as one interactive page."""

from __future__ import annotations

import platform
import shlex
from importlib import metadata
from pathlib import Path

from fedconv.analysis.pages.explorer import plotly_script, render, write
from fedconv.analysis.pages.explorer_cells import Measured, measured
from fedconv.commands import version
from fedconv.commands.sweep import sweep_of


def write_page(store: Path | None, out: Path) -> int:
    """Write the page and say where it is."""
    plotly_script()
    found: Measured | None = measured(sweep_of(store)) if store else None
    words = ["fedconv", "explore", *([str(store)] if store else []), "--out", str(out)]
    versions = {"fedconv": version(), "python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in ("sympy", "plotly")}
    write(out, render(found, command=shlex.join(words), versions=versions))
    print(f"{out}: open it in a browser; it works offline")
    return 0
