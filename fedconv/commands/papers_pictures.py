"""The pictures of a report on claims, drawn in worker processes; the gallery's data are kept beside the page."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.claim import Budget, Outcome, Size
from analysis.claim_saved import made_by
from analysis.report import OVERVIEW, groups
from analysis.report_claims import results_of
from fedconv.commands.console import progress
from fedconv.sweep.processes import side_by_side

if TYPE_CHECKING:
    import xarray as xr

    from analysis.report import Group
    from analysis.report_proofs import Replay

FOLDER = "figures"
"""The folder in ``--out`` of the figures' data."""

STUDIED = ("personal-share", "per-client")
"""Figures whose data are those of the claims about practice."""

_PROOFS = {"fedalt": "pillutla2022/theorem-FA", "fedsim": "pillutla2022/theorem-FS"}

Call = tuple[Callable[..., Any], tuple[Any, ...]]


def drawn(outcomes: Sequence[Outcome], out: Path, budget: Budget) -> tuple[dict[str, str], list[Replay]]:
    """``<svg>`` elements, and FA's and FS's proofs replayed where one of the two is among the claims.

    The elements: the gallery's figures that the claims name, by name; the theorems' checks by group; and all of these
    together by ``OVERVIEW``. The figures' data are kept in the folder and read again as long as code and size are the
    same.
    """
    from figures import verdicts
    from figures.gallery import FIGURES

    found = groups(results_of(outcomes))
    named = [name for name in dict.fromkeys(o.claim.figure for o in outcomes) if name in FIGURES]
    replayed = [algorithm for algorithm, key in _PROOFS.items() if any(o.claim.key == key for o in outcomes)]
    folder = out / FOLDER
    if named:
        _forget(folder, made_by(budget))
    kept = _studied(named, folder, budget) | {name for name in named if (folder / f"{name}.nc").exists()}
    calls: list[Call] = [(_figure, (name, folder, name in kept, budget.size)) for name in named]
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


def _forget(folder: Path, now: str) -> None:
    """Remove what other code, or the same at another size, has computed into the folder."""
    from figures.gallery import FIGURES

    folder.mkdir(exist_ok=True)
    mark = folder / "code.txt"
    if mark.exists() and mark.read_text(encoding="utf-8") == now:
        return
    for name in FIGURES:
        (folder / f"{name}.nc").unlink(missing_ok=True)
    mark.write_text(now, encoding="utf-8")


def _studied(named: Sequence[str], folder: Path, budget: Budget) -> set[str]:
    """The figures whose data the claims have computed just now; they are kept in the folder."""
    from paper_checks.pillutla2022_practice import studied

    wanted = {name for name in STUDIED if name in named}
    studies = studied(budget) if wanted else None
    if studies is None:
        return set()
    for name in wanted:
        _study_data(name, folder, budget.size, studies)
    return wanted


def _study_data(name: str, folder: Path, size: Size, studies: Any = None) -> xr.Dataset:
    """The data of a figure in STUDIED at the claims' scale, computed into the folder."""
    from figures.gallery import FIGURES, keep
    from paper_checks.pillutla2022_practice import SUITES

    one = FIGURES[name]
    return keep(one, importlib.import_module(one.module).data(SUITES[size].scale, studies), folder)


def _called(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    from fedconv.run import single_torch_thread

    with single_torch_thread():
        return function(*arguments)


def _figure(name: str, folder: Path, kept: bool, size: Size) -> str:
    """A figure of the gallery; its data are computed into the folder unless they are kept there."""
    from figures.gallery import FIGURES, data_of
    from figures.style import svg

    one = FIGURES[name]
    data = _study_data(name, folder, size) if name in STUDIED and not kept else data_of(one, folder, kept)
    return svg(one.figure(data), name, one.describe(data))


def _picture(group: Group) -> str | None:
    from figures.bound_measured import picture

    return picture(group)


def _replays(algorithm: str) -> list[Replay]:
    from fedconv.commands.verify import quick_suite, replayed_proofs

    return replayed_proofs(quick_suite(), [algorithm])
