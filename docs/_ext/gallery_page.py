"""The gallery: every figure of ``fedconv figures`` with its words and its command.

As a program, ``python gallery_page.py FOLDER [--long]`` draws the figures that the folder lacks or that other code has
drawn, those that take minutes only with ``--long``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fedconv.figures.gallery import FIGURES, data_of, kept, made_by

FOLDER = "_gallery"


def lacks(folder: Path, name: str) -> bool:
    """Whether a figure's picture or data is not there, or not of the code as it is now."""
    return not ((folder / f"{name}.svg").exists() and kept(FIGURES[name], folder, made_by(FIGURES[name])))


def missing(folder: Path, long: bool = False) -> list[str]:
    """Figures that are not there, of those that ``fedconv figures`` draws unasked, or of all."""
    return [name for name, one in FIGURES.items() if (long or not one.long) and lacks(folder, name)]


def page(folder: Path) -> str:
    """A section for each figure, in Markdown. Raises FileNotFoundError where a picture is missing."""
    pictures = folder / FOLDER
    absent = missing(pictures)
    if absent:
        raise FileNotFoundError(f"docs/{FOLDER} lacks {', '.join(absent)}: `make docs` draws them")
    parts = []
    for name, one in FIGURES.items():
        parts += [f"## {name}", one.summary]
        if lacks(pictures, name):
            parts.append("Takes minutes, and is drawn only where it is named; `make gallery` draws it here.")
        else:
            words = " ".join(one.describe(data_of(one, pictures, reuse=True)).split())
            parts.append(f"```{{image}} {FOLDER}/{name}.svg\n:alt: {words}\n:class: picture\n```")
        parts.append(f"```text\n$ fedconv figures {name}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    from fedconv.cli import main

    target = Path(sys.argv[1])
    lacking = missing(target, long="--long" in sys.argv[2:])
    sys.exit(main(["figures", *lacking, "--out", str(target)]) if lacking else 0)
