"""The pictures of a report on claims, drawn in worker processes; the gallery's data are kept beside the page."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedconv.analysis.claims.claim import Budget, Outcome, Size
from fedconv.analysis.pages.report import OVERVIEW, groups
from fedconv.analysis.pages.report_claims import results_of
from fedconv.commands.console import progress
from fedconv.core.processes import side_by_side
from fedconv.core.sources import code_version

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.analysis.pages.report import Group
    from fedconv.analysis.pages.report_proofs import Replay

FOLDER = "figures"
"""The folder in ``--out`` of the figures' data."""

STUDIED = ("personal-share", "per-client")
"""Figures whose data are those of the claims about practice."""

_PROOFS = {"fedalt": "pillutla2022/theorem-FA", "fedsim": "pillutla2022/theorem-FS"}

Call = tuple[Callable[..., Any], tuple[Any, ...]]


def drawn(outcomes: Sequence[Outcome], out: Path, budget: Budget) -> tuple[dict[str, str], list[Replay]]:
    """``<svg>`` elements, and FA's and FS's proofs replayed where one of the two is among the claims.

    The elements: the gallery's figures that the claims name, by name; the theorems' checks by group; and all of these
    together by ``OVERVIEW``. The figures' data are kept in the folder and read again as long as the code that computes
    them, and of the claims about practice the size, are the same.
    """
    from fedconv.figures import verdict_overview as verdicts
    from fedconv.figures.gallery import FIGURES, kept

    found = groups(results_of(outcomes))
    named = [name for name in dict.fromkeys(o.claim.figure for o in outcomes) if name in FIGURES]
    replayed = [algorithm for algorithm, key in _PROOFS.items() if any(o.claim.key == key for o in outcomes)]
    folder = out / FOLDER
    marks = {name: _mark(name, budget.size) for name in named}
    ready = _studied(named, folder, budget) | {name for name in named if kept(FIGURES[name], folder, marks[name])}
    calls: list[Call] = [(_figure, (name, folder, name in ready, budget.size)) for name in named]
    calls += [*((_replays, (algorithm,)) for algorithm in replayed), *((_picture, (group,)) for group in found)]
    with progress() as bar:
        task = bar.add_task("pictures", total=len(calls))
        made: list[Any] = []
        for one in side_by_side(_called, calls, min(budget.workers, max(1, len(calls)))):
            made.append(one)
            bar.advance(task)
    pictures = dict(zip(named, made, strict=False))
    proofs = made[len(named) : len(named) + len(replayed)]
    checks = zip(found, made[len(named) + len(replayed) :], strict=True)
    pictures |= {group.key: picture for group, picture in checks if picture is not None}
    if found:
        pictures[OVERVIEW] = verdicts.picture(found)
    return pictures, [replay for replays in proofs for replay in replays]


def _mark(name: str, size: Size) -> str:
    """What the data of a figure must say to be taken."""
    from fedconv.figures.gallery import FIGURES, made_by
    from fedconv.paper_checks.pillutla2022 import practice as pillutla2022_practice

    one = FIGURES[name]
    if name not in STUDIED:
        return made_by(one)
    return f"{one.data} {code_version(one.module, pillutla2022_practice.__name__)} {size}"


def _studied(named: Sequence[str], folder: Path, budget: Budget) -> set[str]:
    """The figures whose data the claims have computed just now; they are kept in the folder."""
    from fedconv.paper_checks.pillutla2022.practice import studied

    wanted = {name for name in STUDIED if name in named}
    studies = studied(budget) if wanted else None
    if studies is None:
        return set()
    for name in wanted:
        _study_data(name, folder, budget.size, studies)
    return wanted


def _study_data(name: str, folder: Path, size: Size, studies: Any = None) -> xr.Dataset:
    """The data of a figure in STUDIED at the claims' scale, computed into the folder."""
    from fedconv.figures.gallery import FIGURES, keep
    from fedconv.paper_checks.pillutla2022.practice import SUITES

    one = FIGURES[name]
    return keep(one, importlib.import_module(one.module).data(SUITES[size].scale, studies), folder, _mark(name, size))


def _called(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    from fedconv.core.run import single_torch_thread

    with single_torch_thread():
        return function(*arguments)


def _figure(name: str, folder: Path, kept: bool, size: Size) -> str:
    """A figure of the gallery; its data are computed into the folder unless they are kept there."""
    from fedconv.figures.gallery import FIGURES, data_of
    from fedconv.figures.style import svg

    one = FIGURES[name]
    data = _study_data(name, folder, size) if name in STUDIED and not kept else data_of(one, folder, kept)
    return svg(one.figure(data), name, one.describe(data))


def _picture(group: Group) -> str | None:
    from fedconv.figures.bound_measured import picture

    return picture(group)


def _replays(algorithm: str) -> list[Replay]:
    from fedconv.commands.verify import quick_suite, replayed_proofs

    return replayed_proofs(quick_suite(), [algorithm])
