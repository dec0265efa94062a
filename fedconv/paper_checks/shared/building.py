"""Claims about statements: checked in the paper's suite, with every weakened version refuted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fedconv.analysis.claims.claim import Budget, Claim, Evidence, Kind
from fedconv.paper_checks.shared.on_runs import OnRuns, WeakenedVersions
from fedconv.paper_checks.shared.units import Direct, parts


def on_statements(
    key: str,
    title: str,
    statement: str,
    source: str,
    theorems: tuple[str, ...],
    *more: Callable[[Budget], Sequence[Evidence]],
    kind: Kind = "theorem",
    figure: str = "",
) -> Claim:
    """A claim whose formulas are those of ``theorems``; ``more``: further comparisons."""
    own = key.partition("/")[0]
    return Claim(
        key, title, statement, source, kind,
        parts(OnRuns(own, theorems), WeakenedVersions(theorems), *(Direct(x) for x in more)), theorems, figure,
    )  # fmt: skip


def compared(
    key: str,
    title: str,
    statement: str,
    source: str,
    *checks: Callable[[Budget], Sequence[Evidence]],
    theorems: tuple[str, ...] = (),
    kind: Kind = "reduction",
    figure: str = "",
) -> Claim:
    """A claim that comparisons alone decide."""
    return Claim(key, title, statement, source, kind, parts(*(Direct(x) for x in checks)), theorems, figure)
