"""The papers' claims, and the problem files that they are checked on, one module per paper.

``suite`` gives the problem files of all of them, ``claims`` the claims, ``claim`` one of them.
"""

from __future__ import annotations

import importlib
import importlib.util
from difflib import get_close_matches
from functools import cache
from typing import Any

from fedconv.analysis.claims.claim import SIZES, Budget, Claim, Size
from fedconv.problems.errors import InputError

PAPERS = ("pillutla2022", "mishchenko2023", "huang2022", "zhang2021")
"""Modules of this package, in the order of the report."""

ERROR = 1e-6
"""One-sided error of all verdicts on theorems and lemmas of a size together."""

ROOM: dict[Size, int] = {"quick": 2_000, "full": 10_000}
"""Verdicts among which ERROR is shared: at least as many as there are, and fixed, so that a verdict does not change
with what else is checked, nor with a further claim."""

PRACTICE = "pillutla2022_practice"
"""The module of empirical claims."""


def suite(size: str) -> list[dict[str, Any]]:
    """The problem files of every paper: ``quick`` (minutes on two cores) or ``full``."""
    if size not in SIZES:
        raise InputError(f"a suite is one of {', '.join(SIZES)}; got {size!r}")
    return [spec for paper in PAPERS for spec in importlib.import_module(f"fedconv.paper_checks.{paper}").suite(size)]


def budget_of(size: Size = "quick", workers: int = 1) -> Budget:
    """What every claim of a size may spend."""
    return Budget(size, ERROR / ROOM[size], workers)


@cache
def _all() -> dict[str, Claim]:
    found: list[Claim] = []
    for paper in PAPERS:
        found += importlib.import_module(f"fedconv.paper_checks.{paper}").CLAIMS
        practice = f"fedconv.paper_checks.{paper}.practice"
        if importlib.util.find_spec(practice) is not None:
            found += importlib.import_module(practice).CLAIMS
    return {claim.key: claim for claim in found}


def claims(paper: str | None = None) -> tuple[Claim, ...]:
    """The claims of a paper, or of all of them, in the order of the report."""
    if paper is not None and paper not in PAPERS:
        raise InputError(f"papers are {', '.join(PAPERS)}; got {paper!r}{_suggested(paper, PAPERS)}")
    return tuple(claim for claim in _all().values() if paper in (None, claim.paper))


def claim(key: str) -> Claim:
    """The claim of that key, "PAPER/NAME"."""
    known = _all()
    if key not in known:
        hint = _suggested(key, tuple(known))
        raise InputError(f"there is no claim {key!r}{hint}; `fedconv papers --list` prints the {len(known)} there are")
    return known[key]


def chosen(names: tuple[str, ...]) -> tuple[Claim, ...]:
    """The claims of papers and claims by name, each once, in the order of the report; all where none is named."""
    wanted: set[str] = set()
    for name in names:
        known = _all()
        if name in PAPERS:
            wanted |= {c.key for c in claims(name)}
        elif name in known:
            wanted.add(name)
        elif "/" in name:
            claim(name)
        else:
            hint = _suggested(name, (*PAPERS, *(key.partition("/")[2] for key in known)))
            raise InputError(f'PAPER is one of {", ".join(PAPERS)}, or a claim "PAPER/NAME"; got {name!r}{hint}')
    return tuple(c for c in _all().values() if not names or c.key in wanted)


def _suggested(word: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
