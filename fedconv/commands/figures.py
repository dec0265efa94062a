"""``fedconv figures``: draw the gallery's figures, each with its data beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from fedconv.commands.console import note, progress, stdout
from fedconv.figures.gallery import FIGURES, MARK, data_of, entry, made_by
from fedconv.figures.style import FORMATS, save
from fedconv.problems.errors import InputError


def draw_figures(names: Sequence[str], out: Path, formats: str, *, reuse: bool, listed: bool) -> int:
    """Draw the named figures (default: all that are not long), as ``OUT/NAME.FORMAT`` with ``OUT/NAME.nc``."""
    if listed:
        table = Table("figure", "what it shows", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for one in FIGURES.values():
            table.add_row(one.name, one.summary + (" Long." if one.long else ""))
        stdout().print(table)
        return 0
    kinds = [kind.strip() for kind in formats.split(",")]
    for kind in kinds:
        if kind not in FORMATS:
            raise InputError(f"--format must be some of {', '.join(FORMATS)}, with commas between; got {kind!r}")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out must be a folder to write; {out} is a file")
    chosen = [entry(name) for name in names] or [one for one in FIGURES.values() if not one.long]
    old: list[str] = []
    with progress() as bar:
        task = bar.add_task("", total=len(chosen))
        for one in chosen:
            bar.update(task, description=one.name)
            data = data_of(one, out, reuse)
            if reuse and data.attrs.get(MARK) != made_by(one):
                old.append(one.name)
            for kind in kinds:
                save(one.figure(data), out / f"{one.name}.{kind}", one.name, one.describe(data))
            bar.advance(task)
    for name in old:
        note(f"{out / name}.nc was computed by other code or at another size; without --reuse-data it is computed anew")
    for one in chosen:
        note(f"{out / one.name}.{{{','.join([*kinds, 'nc'])}}} written")
    return 0
